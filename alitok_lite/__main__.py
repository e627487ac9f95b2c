"""Command line: `python -m alitok_lite COMMAND`; `--help` lists the commands."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .class_names import read_list, write_list
from .config import PRESETS
from .console import lenient_console
from .files import check_folder, check_output, write_atomically
from .interrupt import imported
from .machine import main_process, say
from .model import DTYPES, AliTok, bundled

if TYPE_CHECKING:
    from .metrics import Judge
    from .sources import FolderSource, SceneSource


AT_ONCE = 64  # pictures drawn together
MOST = 10_000  # pictures in a sheet
MANY = 100  # classes


def _names(text: str | None, model: AliTok) -> list[str | int]:
    """Classes as they were written, see `class_names.read_list`; without any text all of them, or eight of many."""
    if text is None:
        return model.classes if len(model.classes) <= MANY else model.classes[:: len(model.classes) // 8]
    return read_list(text, model.classes)


def _settings(args: argparse.Namespace) -> dict[str, float | int]:
    """The settings of sampling that were given."""
    given = {key: getattr(args, key) for key in ("guidance", "power", "temperature", "top_k", "top_p")}
    return {key: value for key, value in given.items() if value is not None}


def _check_seed(seed: int, pictures: int = 1, option: str = "--seed") -> None:
    """Raise a ValueError unless each of the pictures, which have seed + i, has a seed that torch takes."""
    most = 2**32 - pictures
    if not 0 <= seed <= most:
        raise ValueError(f"{option} is {seed}; it must be a whole number from 0 to {most}")


def _encodable(text: dict[str, str]) -> dict[str, str]:
    """Without the halves of characters that Python makes of a folder's name that is not UTF-8."""
    return {key: value.encode("utf-8", "backslashreplace").decode() for key, value in text.items()}


def _sample(args: argparse.Namespace) -> None:
    from . import images

    check_output("--out", args.out, ".png")
    model = AliTok.from_pretrained(args.model, args.device, DTYPES[args.dtype])
    names = _names(args.classes, model)
    count = len(names) if args.num is None else args.num
    if not 1 <= count <= MOST:
        raise ValueError(f"--num is {count}; it must be 1 or more, and at most {MOST} (`fidsamples` draws more)")
    _check_seed(args.seed, count)
    classes = [names[i % len(names)] for i in range(count)]
    settings, pictures = _settings(args), []
    for start in range(0, count, AT_ONCE):
        drawn = model.sample(classes[start : start + AT_ONCE], args.seed + start, **settings)
        pictures += AliTok.to_pil(drawn)
    text = {"model": args.model, "classes": write_list(names), "seed": str(args.seed)}
    text |= {key: str(value) for key, value in settings.items()}
    columns = min(count, len(names) if 1 < len(names) <= 16 else 8)  # a column for each class where they fit
    images.save_png(images.sheet(pictures, columns), args.out, _encodable(text))
    print(f"{count} pictures in {args.out}")


def _reconstruct(args: argparse.Namespace) -> None:
    from . import images
    from .metrics import psnr

    check_output("--out", args.out, ".png")
    if Path(args.out).exists() and Path(args.picture).exists() and Path(args.out).samefile(args.picture):
        raise ValueError(f"--out is {args.out!r}, the picture itself: give another file")
    model = AliTok.from_pretrained(args.model, args.device)
    pixels = images.load_picture(args.picture, model.tokenizer.config.image_size).to(model.device)
    ids = model.tokenizer.encode(pixels)
    decoded = {stage: model.tokenizer.decode(ids, stage) for stage in model.tokenizer.stages}
    pictures = [AliTok.to_pil(picture)[0] for picture in (pixels, *decoded.values())]
    images.save_png(images.sheet(pictures, len(pictures)), args.out, _encodable({"model": args.model}))
    print(f"ids: {' '.join(map(str, ids[0].tolist()))}")
    for stage, picture in decoded.items():
        print(f"stage {stage} ({'causal' if stage == 1 else 'bidirectional'}): {psnr(picture, pixels).item():.1f} dB")
    print(f"original and reconstructions in {args.out}")


def _train(args: argparse.Namespace) -> None:
    from .train import train

    names = ("steps", "batch", "accumulate", "lr", "seed", "pictures", "save_every")
    overrides = {key: getattr(args, key) for key in names}
    for key, value in overrides.items():
        if value is not None and not (value > 0 or (key == "seed" and value == 0)):
            raise ValueError(f"--{key.replace('_', '-')} is {value}; it must be above 0")
    chosen = [(key, value) for key, value in overrides.items() if value is not None]
    chosen += [("keep_best", True)] if args.keep_best else []
    if args.pictures is not None and args.data != "scenes":
        say("--pictures is for scenes: of a folder all pictures are used")
    further = args.replace, args.device, args.workers
    try:
        train(args.part, args.preset, args.out, args.resume, chosen, args.data, *further)
    except KeyboardInterrupt as stop:
        saved, steps = getattr(stop, "saved", 0), getattr(stop, "steps", 1)
        how = "the same command" if args.resume or not saved else "the same command with --resume"
        more = "" if saved == steps else f"; {how} goes on from there" if saved else f"; {how} starts again"
        raise KeyboardInterrupt(f"{stop or 'stopped before anything was saved'}{more}") from None


def _check_data(data: str | None) -> None:
    """Raise a ValueError for an empty name, which would be the folder that one happens to be in."""
    if data is not None and not data.strip():
        raise ValueError(f"--data is {data!r}; it must be the name of a folder of pictures")


def _check_evaluate(args: argparse.Namespace) -> None:
    """Raise a ValueError for an option that would fail late."""
    _check_data(args.data)
    for name in ("pictures", "judge_steps"):
        if getattr(args, name) < 2:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be 2 or more")
    _check_seed(args.seed)
    for option, given in (("--json", args.json), ("--judge", args.judge)):
        if given is not None:
            check_output(option, given)
    if args.judge is None:
        return
    kept = Path(args.judge)
    if kept.exists() and not kept.is_file():
        raise ValueError(f"--judge is {args.judge!r}; it must be a file, which can be read again")
    if args.json is not None and Path(args.json).resolve() == kept.resolve():
        raise ValueError(f"--json and --judge are both {args.json!r}; they must be two files")


def _source(args: argparse.Namespace, model: AliTok) -> SceneSource | FolderSource:
    """The judge's training pictures. ValueError unless they have the classes of the model."""
    from .settings import TrainSettings
    from .sources import open_source

    batch = 256 if model.device.type == "cuda" else 64
    settings = TrainSettings(args.judge_steps, batch, pictures=60_000, seed=77)
    source = open_source(args.data, model.tokenizer.config.image_size, settings, model.device)
    if source.classes != model.classes:  # their order counts too
        name = "scenes" if args.data == "scenes" else f"the folder {Path(args.data).resolve().name!r}"
        different = sorted(set(source.classes) ^ set(model.classes))
        why = f"only one of them has the class {different[0]!r}" if different else "their classes differ in order"
        raise ValueError(f"{args.model} was not trained on {name} ({why}): give --data the pictures that it was")
    return source


def _judge(args: argparse.Namespace, source: SceneSource | FolderSource, device: torch.device) -> Judge:
    from . import metrics

    if args.judge is not None:
        return metrics.stored_judge(Path(args.judge), source.batch, source.classes, args.judge_steps, device)
    return metrics.train_judge(source.batch, len(source.classes), args.judge_steps, device)


def _evaluate(args: argparse.Namespace) -> None:
    from . import __version__, metrics, report

    _check_evaluate(args)
    model = AliTok.from_pretrained(args.model, args.device)
    inception = metrics.inception_features(model.device) if args.inception else None
    source = _source(args, model)
    count = args.pictures if args.data == "scenes" else min(args.pictures, len(source.test))
    if count < 2:
        raise ValueError(f"the folder {Path(args.data).resolve().name!r} has {count} test picture; two are needed")
    judge = _judge(args, source, model.device)
    if args.data == "scenes":
        size, seeds = model.tokenizer.config.image_size, (args.seed, (args.seed + 1) % 2**32)
        unseen, others = (metrics.unseen_scenes(count, seed, size, model.device) for seed in seeds)
        training = None
    else:
        unseen, training = (metrics.whole_pictures(split, count) for split in (source.test, source.train))
        others = None
    data = Path(args.data).resolve().name
    results = {"model": args.model, "data": data, "seed": args.seed, "judge_steps": args.judge_steps}
    results["frechet_features"] = "those of the judge; not Inception FID, except under names with inception"
    results |= metrics.evaluate(model, judge, unseen, training, inception, args.seed, others)
    results["warnings"] = report.warnings(results, model.tokenizer.config)
    results["device"] = model.device.type
    results["versions"] = {"alitok_lite": __version__, "torch": torch.__version__}
    _store(results, args.json)
    print(report.table(results))


def _store(results: dict, path: str | None) -> None:
    """Write results as JSON where a file was given; called before they are printed, so that they are safe then."""
    if path is not None:
        write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())


def _convert(args: argparse.Namespace) -> None:
    from .convert import convert

    print(convert(args.tokenizer, args.ar, args.out, DTYPES[args.dtype], args.force))


def _fidsamples(args: argparse.Namespace) -> None:
    from .fid_samples import Order, draw

    classes = () if args.classes is None else args.classes
    order = Order(args.pictures, args.batch, args.seed, classes, args.dtype, _settings(args))
    if draw(args.model, args.out, order, args.device):
        print(f"{args.pictures:,} pictures in {args.out}")


def _ablate(args: argparse.Namespace) -> None:
    from . import ablation

    rows = args.rows.split(",")
    for row in rows:
        if row not in ablation.ROWS:
            raise ValueError(f"there is no row {row!r}; choose from {', '.join(ablation.ROWS)}")
    seeds = [_whole("--seeds", text) for text in args.seeds.split(",")]
    for seed in seeds:
        _check_seed(seed, option="--seeds")
    check_folder("--out", args.out)
    _check_data(args.data)
    study = ablation.open_study(args.out, args.preset, args.data, _sizes(args.set))
    for seed in seeds:
        for row in rows:
            ablation.run_row(study, row, seed)
    results = ablation.write_summary(args.out)
    print(ablation.table(results["rows"]))
    for entry in results["claims"]:
        verdict = {True: "holds", False: "does not hold", None: "has no spread to compare with"}[entry["holds"]]
        print(f"{entry['claim']}: {entry['difference']:.3f}, {verdict}")


def _sizes(entries: Sequence[str]) -> dict[str, int]:
    """SIZE=NUMBER entries of --set."""
    sizes = {}
    for name, _, value in (entry.partition("=") for entry in entries):
        if name in sizes:
            raise ValueError(f"--set has {name} twice")
        sizes[name] = _whole("--set", value)
    return sizes


def _cost(args: argparse.Namespace) -> None:
    from .config import resized
    from .costs import training_cost
    from .settings import SETTINGS

    settings = SETTINGS[args.preset][args.part]
    for option, value in (("--batch", args.batch), ("--steps", args.steps)):
        if value is not None and value < 1:
            raise ValueError(f"{option} is {value}; it must be 1 or more")
    if args.batch is not None:
        settings = replace(settings, batch=args.batch)
    cost = training_cost(args.part, resized(PRESETS[args.preset], **_sizes(args.set)), settings, args.steps)
    print(", ".join(f"{key.replace('_', ' ')} {value:,.4g}" for key, value in cost.items()))


def _bench(args: argparse.Namespace) -> None:
    from . import techniques
    from .bench import bench, caching, table
    from .model import choose_device

    batches = [_whole("--batch", text) for text in args.batch.split(",")]
    if 0 in batches or args.repeats < 1:
        raise ValueError("--batch and --repeats must be 1 or more")
    if args.json is not None:
        check_output("--json", args.json)
    _check_data(args.data)
    device = choose_device(args.device)
    dtype = DTYPES[args.dtype or ("bfloat16" if device.type == "cuda" else "float32")]
    work = PRESETS[args.preset], batches, device, dtype, args.repeats
    if args.techniques:
        results = techniques.compare(*work)
    else:
        cached = {} if args.data is None else {"cached_per_second": caching(work[0], args.data, device, dtype)}
        results = bench(*work) | cached
    _store({"preset": args.preset} | results, args.json)
    print(techniques.table(results) if args.techniques else table(results))


def _whole(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{option} has {text!r}; it takes whole numbers")
    return int(text)


def _model_options(parser: argparse.ArgumentParser) -> None:
    names, default = ", ".join(bundled()) or "none", next(iter(bundled()), "scenes")
    text = f"folder, bundled name ({names}) or the Hub's owner/name; default {default}"
    parser.add_argument("--model", default=default, help=text)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def _sample_options(parser: argparse.ArgumentParser) -> None:
    _model_options(parser)
    parser.add_argument("--out", default="samples.png", help="PNG file to write or replace (default samples.png)")
    parser.add_argument("--num", type=int, help="how many pictures; classes take turns")
    _drawing_options(parser)


def _drawing_options(parser: argparse.ArgumentParser) -> None:
    text = (
        "names or numbers, comma-separated, a name with commas in double quotes"
        f" (default: every class; `sample` takes 8 of more than {MANY})"
    )
    parser.add_argument("--classes", help=text)
    parser.add_argument("--seed", type=int, default=0, help="picture i uses seed + i")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights; default float32")
    for name in ("guidance", "power", "temperature", "top-p"):
        parser.add_argument(f"--{name}", type=float, help="default: the checkpoint's own")
    parser.add_argument("--top-k", type=int, help="keep the k likeliest codes")


def _reconstruct_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", help="PNG, JPEG or WEBP file")
    _model_options(parser)
    parser.add_argument("--out", default="pair.png", help="PNG file to write or replace (default pair.png)")


def _train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", choices=("tokenizer", "decoder", "ar"))
    parser.add_argument("--preset", choices=_trainable(), default="scenes", help="sizes and settings")
    parser.add_argument("--data", default="scenes", help="scenes, or a folder with a subfolder of pictures per class")
    parser.add_argument("--out", required=True, help="RUN folder; decoder and ar continue the tokenizer's")
    text = "continue where the RUN stopped, or beyond its end with more --steps"
    parser.add_argument("--resume", action="store_true", help=text)
    text = "train anew what the RUN holds already, or a tokenizer that its other parts were trained on; says what goes"
    parser.add_argument("--replace", action="store_true", help=text)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    text = "processes that read the pictures of a folder; 0: none but this one (default: one for each CPU, at most 16)"
    parser.add_argument("--workers", type=int, help=text)
    for name, kind in (("steps", int), ("batch", int), ("lr", float), ("seed", int), ("save-every", int)):
        parser.add_argument(f"--{name}", type=kind, help="default: the preset's own")
    parser.add_argument("--accumulate", type=int, help="parts that a step's batch is computed in, to save memory")
    parser.add_argument("--pictures", type=int, help="different training pictures, on a GPU and for ar")
    parser.add_argument("--keep-best", action="store_true", help="ar: keep the weights that predict unseen tokens best")


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    _model_options(parser)
    parser.add_argument("--data", default="scenes", help="scenes, or the folder of pictures that it was trained on")
    parser.add_argument(
        "--pictures", type=int, default=5000, help="unseen pictures at most, and samples (default 5000)"
    )
    parser.add_argument("--judge-steps", type=int, default=1500, help="training steps of the judge (default 1500)")
    text = "file that keeps the judge: trained once, then taken from there, so that models are compared by one judge"
    parser.add_argument("--judge", help=text)
    parser.add_argument("--seed", type=int, default=12345, help="which unseen scenes, and which samples")
    parser.add_argument("--inception", action="store_true", help="Inception FID too; needs torch-fidelity and weights")
    parser.add_argument("--json", help="file for all the numbers, written or replaced")


def _convert_options(parser: argparse.ArgumentParser) -> None:
    text = "AliTok.pth, or a folder beside --out that the tokenizer was converted to before, to share it"
    parser.add_argument("--tokenizer", required=True, help=text)
    parser.add_argument("--ar", help="alitok_b.bin, alitok_l.bin or alitok_xl.bin (default: the tokenizer alone)")
    parser.add_argument("--out", required=True, help="checkpoint folder to write")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights; default float32")
    parser.add_argument("--force", action="store_true", help="replace the checkpoint in --out")


def _fidsamples_options(parser: argparse.ArgumentParser) -> None:
    _model_options(parser)
    parser.add_argument("--out", required=True, help="the .npz file to write: arr_0, uint8 (pictures, S, S, 3)")
    parser.add_argument("--pictures", type=int, default=50_000, help="how many; classes take turns (default 50000)")
    parser.add_argument("--batch", type=int, default=AT_ONCE, help=f"pictures drawn together (default {AT_ONCE})")
    _drawing_options(parser)


def _cost_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", choices=("tokenizer", "decoder", "ar"))
    parser.add_argument("--preset", choices=_trainable(), default="scenes")
    parser.add_argument("--batch", type=int, help="pictures a step; default: the preset's own")
    parser.add_argument("--steps", type=int, default=10, help="steps that are timed (default 10)")
    _set_option(parser)


def _bench_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", choices=_trainable(), default="scenes", help="sizes; the weights are random")
    parser.add_argument("--batch", default="1,8,64", help="pictures at once, comma-separated (default 1,8,64)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each (default 3)")
    also = parser.add_mutually_exclusive_group()
    also.add_argument("--data", help="a folder of pictures, to time reading and encoding them too")
    also.add_argument("--techniques", action="store_true", help="instead, what each technique of the fast path brings")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU, float32 elsewhere")
    parser.add_argument("--json", help="file for all the numbers, written or replaced")


def _set_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="SIZE=NUMBER", help="another size of the tokenizer: patch_size=8"
    )


def _ablate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, help="folder of the study; a finished row is not trained again")
    parser.add_argument("--preset", default="scenes", help="sizes and settings; tiny is for two CPU cores")
    parser.add_argument("--data", default="scenes", help="scenes, or a folder with a subfolder of pictures per class")
    text = "default A,B,D; also C, F, causal-encoder, and A or B with -column, -serpentine or -hilbert"
    parser.add_argument("--rows", default="A,B,D", help=text)
    parser.add_argument("--seeds", default="0", help="whole numbers, comma-separated (default 0)")
    _set_option(parser)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m alitok_lite", description="Image tokens that an AR model can predict.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, action, options, text in (
        ("sample", _sample, _sample_options, "Draw pictures of classes."),
        ("reconstruct", _reconstruct, _reconstruct_options, "Encode a picture and decode its tokens."),
        ("train", _train, _train_options, "Train a tokenizer (stage 1), its second decoder (stage 2), or an AR model."),
        ("evaluate", _evaluate, _evaluate_options, "Measure a checkpoint on unseen pictures, with a fresh judge."),
        ("ablate", _ablate, _ablate_options, "Train tokenizers that differ in one thing, and compare them."),
        ("cost", _cost, _cost_options, "Time and memory of a training step, with random pictures."),
        ("bench", _bench, _bench_options, "Time drawing, plain and fast, beside what the hardware allows."),
        ("convert", _convert, _convert_options, "Turn downloaded official weights into a checkpoint folder."),
        ("fidsamples", _fidsamples, _fidsamples_options, "Draw an .npz of 50,000 pictures for an FID."),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(action=action)
        options(command)
    return parser


def _trainable() -> list[str]:
    """Presets with training settings: all of them; kept here so that --help does not import the training code."""
    return list(PRESETS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 with one sentence on stderr for a user's mistake, 130 at Ctrl-C."""
    with lenient_console():
        args = _parser().parse_args(argv)
        try:
            imported()
            args.action(args)
            return 0
        except KeyboardInterrupt as stop:
            status, text = 130, str(stop) or f"{args.command} was stopped"
        except OSError as error:
            named = error.filename and error.strerror
            status, text = 2, f"{error.filename}: {error.strerror}" if named else str(error)
        except (ValueError, RuntimeError, OverflowError) as error:
            status, text = 2, str(error)
        # Outside the clauses, which hold on to the progress bar: only now has it ended its line.
        if status == 2 or main_process():
            print(f"alitok_lite: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
