"""The options of the commands. Nothing here imports torch."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from ..core.config import PRESETS
from ..store.find import bundled
from ..train.settings import ABLATIONS, SETTINGS, TrainSettings

DTYPES = ("float32", "bfloat16", "float16")  # the names of machine.DTYPES
PARTS = ("tokenizer", "decoder", "ar")
SCENES_OR_FOLDER = "scenes, or a folder with a subfolder of pictures per class"
AT_ONCE = 64  # pictures drawn together
MANY = 100  # classes


def model_option(parser: argparse.ArgumentParser) -> None:
    names, default = ", ".join(bundled()) or "none", next(iter(bundled()), "scenes")
    text = f"folder, bundled name ({names}) or the Hub's owner/name"
    parser.add_argument("--model", default=default, help=text)


def model_options(parser: argparse.ArgumentParser) -> None:
    model_option(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def app_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on, 0.0.0.0 for all; default 127.0.0.1, this machine alone")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--share", action="store_true", help="also a public address, through Gradio's server")
    parser.add_argument("--browser", action="store_true", help="open the page in a browser too")


def sample_options(parser: argparse.ArgumentParser) -> None:
    model_options(parser)
    parser.add_argument("--out", default="samples.png", help="PNG file to write or replace")
    parser.add_argument("--num", type=int, help="how many pictures; classes take turns")
    drawing_options(parser)


def drawing_options(parser: argparse.ArgumentParser) -> None:
    text = (
        "names or numbers, comma-separated, a name with commas in double quotes"
        f" (default: every class; `sample` takes 8 of more than {MANY})"
    )
    parser.add_argument("--classes", help=text)
    parser.add_argument("--seed", type=int, default=0, help="picture i uses seed + i")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights")
    for name in ("guidance", "power", "temperature", "top-p"):
        parser.add_argument(f"--{name}", type=float, help="default: the checkpoint's own")
    parser.add_argument("--top-k", type=int, help="keep the k likeliest codes")


def reconstruct_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", help="PNG, JPEG or WEBP file")
    model_options(parser)
    parser.add_argument("--out", default="pair.png", help="PNG file to write or replace")


def train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", choices=PARTS)
    preset_option(parser, PRESETS, "sizes and settings")
    parser.add_argument("--data", default="scenes", help=SCENES_OR_FOLDER)
    parser.add_argument("--out", required=True, help="RUN folder; decoder and ar continue the tokenizer's")
    text = "continue where the RUN stopped, or beyond its end with more --steps"
    parser.add_argument("--resume", action="store_true", help=text)
    text = "train anew what the RUN holds already, or a tokenizer that its other parts were trained on; says what goes"
    parser.add_argument("--replace", action="store_true", help=text)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    text = "begin with this checkpoint's weights: a bundled name, a folder, or the Hub's owner/name"
    parser.add_argument("--from", dest="start", metavar="CHECKPOINT", help=text)
    text = "send the numbers of log.csv to a tracker too"
    parser.add_argument("--log", choices=("tensorboard", "wandb"), help=text)
    text = "processes that read the pictures of a folder; 0: none but this one (default: one for each CPU, at most 16)"
    parser.add_argument("--workers", type=int, help=text)
    for name, kind, text in (
        ("steps", int, "training steps; default: see below"),
        ("batch", int, "pictures a step; default: see below"),
        ("lr", float, "highest learning rate; default: see below"),
        ("save-every", int, "steps between two saves; default: see below"),
        ("seed", int, f"of the random numbers; default {TrainSettings.seed}"),
        ("accumulate", int, f"parts that a step's batch is computed in; default {TrainSettings.accumulate}"),
        ("pictures", int, "different scenes to train on, on a GPU and for ar; default: see below"),
    ):
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument("--keep-best", action="store_true", help="ar: keep the weights that predict unseen tokens best")
    text = "tokenizer: begin with the mean colour and the contrast of the pictures; for pictures of low contrast"
    parser.add_argument("--standardise", action="store_true", help=text)
    parser.epilog = f"{defaults()}\n\n{parser.epilog}"


def defaults() -> str:
    """The presets' own settings of each part, as text; presets with the same settings stand together."""
    shared: list[list[str]] = []
    for preset, parts in SETTINGS.items():
        same = next((names for names in shared if SETTINGS[names[0]] == parts), None)
        if same is None:
            shared.append([preset])
        else:
            same.append(preset)
    names = ("steps", "batch", "lr", "save_every", "pictures")
    lines = [f"  {'defaults of the presets':26}" + "".join(f"{name.replace('_', '-'):>11}" for name in names)]
    for presets in shared:
        lines.append(f"  {', '.join(presets)}")
        for part in PARTS:
            numbers = (getattr(SETTINGS[presets[0]][part], name) for name in names)
            lines.append(f"    {part:24}" + "".join(f"{number:>11,}" for number in numbers))
    alone = [preset for preset, parts in SETTINGS.items() if parts["decoder"].further]
    lines += [
        "  decoder trains a second decoder, and with these presets the only one further:",
        f"  {', '.join(alone)}",
    ]
    return "\n".join(lines)


def evaluate_options(parser: argparse.ArgumentParser) -> None:
    model_options(parser)
    parser.add_argument("--data", default="scenes", help="scenes, or the folder of pictures that it was trained on")
    parser.add_argument("--pictures", type=int, default=5000, help="unseen pictures at most, and samples")
    parser.add_argument("--judge-steps", type=int, default=1500, help="training steps of the judge")
    text = "file that keeps the judge: trained once, then taken from there, so that models are compared by one judge"
    parser.add_argument("--judge", help=text)
    parser.add_argument("--seed", type=int, default=12345, help="which unseen scenes, and which samples")
    parser.add_argument("--inception", action="store_true", help="Inception FID too; needs torch-fidelity and weights")
    parser.add_argument("--lite0", action="store_true", help="Lite0 distance and probe too; needs timm and weights")
    parser.add_argument("--json", help="file for all the numbers, written or replaced")


def convert_options(parser: argparse.ArgumentParser) -> None:
    text = "AliTok.pth, or a folder beside --out that the tokenizer was converted to before, to share it"
    parser.add_argument("--tokenizer", required=True, help=text)
    parser.add_argument("--ar", help="alitok_b.bin, alitok_l.bin or alitok_xl.bin (default: the tokenizer alone)")
    parser.add_argument("--out", required=True, help="checkpoint folder to write")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights")
    parser.add_argument("--force", action="store_true", help="replace the checkpoint in --out")


def fidsamples_options(parser: argparse.ArgumentParser) -> None:
    model_options(parser)
    parser.add_argument("--out", required=True, help="the .npz file to write: arr_0, uint8 (pictures, S, S, 3)")
    parser.add_argument("--pictures", type=int, default=50_000, help="how many; classes take turns")
    parser.add_argument("--batch", type=int, default=AT_ONCE, help="pictures drawn together")
    drawing_options(parser)


def cost_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", choices=PARTS)
    preset_option(parser, PRESETS, "sizes and settings")
    parser.add_argument("--batch", type=int, help="pictures a step; default: as `train --help` lists")
    parser.add_argument("--steps", type=int, default=10, help="steps that are timed")
    set_option(parser)


def bench_options(parser: argparse.ArgumentParser) -> None:
    preset_option(parser, PRESETS, "sizes, with random weights")
    text = "pictures at once, comma-separated (default: 1,8,64; with --growth 1,64)"
    parser.add_argument("--batch", help=text)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each")
    also = parser.add_mutually_exclusive_group()
    also.add_argument("--data", help="a folder of pictures, to time reading and encoding them too")
    also.add_argument("--techniques", action="store_true", help="instead, what each technique of the fast path brings")
    text = (
        "instead, how sampling time grows with tokens and model size at the pictures of --batch, and with pictures from"
        " the fewest to four times the most of --batch; only with the fast path, where it applies"
    )
    also.add_argument("--growth", action="store_true", help=text)
    text = "a checkout of the official code, which is run and timed too, in float32"
    parser.add_argument("--official", metavar="FOLDER", help=text)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU, float32 elsewhere")
    parser.add_argument("--json", help="file for all the numbers, written or replaced")
    parser.add_argument("--out", help="PNG file for a chart of --growth, written or replaced")


def preset_option(parser: argparse.ArgumentParser, names: Collection[str], text: str) -> None:
    parser.add_argument(
        "--preset", choices=names, default="scenes", metavar="PRESET", help=f"{text}: {', '.join(names)}"
    )


def set_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="SIZE=NUMBER", help="another size of the tokenizer: patch_size=8"
    )


def ablate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, help="folder of the study; a finished row is not trained again")
    preset_option(parser, ABLATIONS, "sizes and settings; tiny is for two CPU cores")
    parser.add_argument("--data", default="scenes", help=SCENES_OR_FOLDER)
    text = "also C, F, causal-encoder, and A or B with -column, -serpentine or -hilbert"
    parser.add_argument("--rows", default="A,B,D", help=text)
    parser.add_argument("--seeds", default="0", help="whole numbers, comma-separated")
    set_option(parser)


def match_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, help="folder of the study; what it holds is not trained again")
    text = (
        "tiny: a quarter of an hour of two CPU cores; scenes: the published study, for a GPU;"
        " or a folder of natural pictures with train/ and test/, for a GPU"
    )
    parser.add_argument("--study", default="tiny", metavar="STUDY", help=text)
    text = "of A256, A1024, A, B, B1024, causal-encoder, C and D (default: two or three of A and one of B)"
    parser.add_argument("--rows", help=text)
    parser.add_argument(
        "--seeds", default="0,1,2", help="whole numbers, comma-separated; an interval needs two or more"
    )


def verdict_options(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--study", choices=("scenes", "natural"), default="scenes", help="a published study")
    which.add_argument("--from", dest="folder", metavar="FOLDER", help="a study of your own, made by `alitok match`")
    parser.add_argument("--out", help="PNG file for a chart of rate and distortion, written or replaced")


def export_options(parser: argparse.ArgumentParser) -> None:
    model_option(parser)
    parser.add_argument("--out", required=True, help="checkpoint folder to write, a new one")
    text = "of the weights; int8: 8 bits with a scale a row, where a matrix loses little by it"
    parser.add_argument("--dtype", choices=("int8", *DTYPES), default="int8", help=text)


def space_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="OWNER/NAME", help="the Space on the Hub, made where there is none")
    parser.add_argument("--upload", action="store_true", help="upload; without it the files are only listed")
    parser.add_argument("--private", action="store_true", help="a new Space is visible to its owner alone")


def publish_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="OWNER/NAME", help="the repository's name on GitHub")
