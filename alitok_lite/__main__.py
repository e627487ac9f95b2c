"""Command line: python -m alitok_lite sample | reconstruct | train | evaluate."""

import argparse
import sys
from collections.abc import Sequence

from .config import PRESETS
from .model import AliTok, bundled


def _sample(args: argparse.Namespace) -> None:
    from . import images

    model = AliTok.from_pretrained(args.model, args.device)
    names = model.classes if args.classes is None else [name.strip() for name in args.classes.split(",")]
    names = [int(name) if name.isdecimal() and name not in model.classes else name for name in names]
    count = len(names) if args.num is None else args.num
    if count < 1:
        raise ValueError(f"--num is {count}; it must be 1 or more")
    classes = [names[i % len(names)] for i in range(count)]
    settings = {key: getattr(args, key) for key in ("guidance", "power", "temperature", "top_k", "top_p")}
    pictures = AliTok.to_pil(model.sample(classes, args.seed, **settings))
    text = {"model": args.model, "classes": ",".join(map(str, names)), "seed": str(args.seed)}
    text |= {key: str(value) for key, value in settings.items() if value is not None}
    columns = min(count, len(names) if 1 < len(names) <= 16 else 8)  # a column for each class where they fit
    images.save_png(images.sheet(pictures, columns), args.out, text)
    print(f"{count} pictures in {args.out}")


def _reconstruct(args: argparse.Namespace) -> None:
    from . import images
    from .metrics import psnr

    model = AliTok.from_pretrained(args.model, args.device)
    pixels = images.load_picture(args.picture, model.tokenizer.config.image_size).to(model.device)
    ids = model.tokenizer.encode(pixels)
    decoded = {stage: model.tokenizer.decode(ids, stage) for stage in model.tokenizer.stages}
    pictures = [AliTok.to_pil(picture)[0] for picture in (pixels, *decoded.values())]
    images.save_png(images.sheet(pictures, len(pictures)), args.out, {"model": args.model})
    print(f"ids: {' '.join(map(str, ids[0].tolist()))}")
    for stage, picture in decoded.items():
        print(f"stage {stage} ({'causal' if stage == 1 else 'bidirectional'}): {psnr(picture, pixels).item():.1f} dB")
    print(f"original and reconstructions in {args.out}")


def _train(args: argparse.Namespace) -> None:
    from .train import train

    overrides = {key: getattr(args, key) for key in ("steps", "batch", "accumulate", "lr", "seed", "pictures", "save_every")}
    for key, value in overrides.items():
        if value is not None and not (value > 0 or (key == "seed" and value == 0)):
            raise ValueError(f"--{key.replace('_', '-')} is {value}; it must be above 0")
    chosen = [(key, value) for key, value in overrides.items() if value is not None]
    train(args.part, args.preset, args.out, args.resume, chosen, args.data)


def _evaluate(args: argparse.Namespace) -> None:
    import json
    from pathlib import Path

    from . import metrics, scenes
    from .model import write_atomically
    from .sources import SceneSource, random_scenes
    from .train import TrainSettings

    for name in ("pictures", "judge_steps"):
        if getattr(args, name) < 2:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be 2 or more")
    model = AliTok.from_pretrained(args.model, args.device)
    if model.classes != list(scenes.CLASSES):
        raise ValueError(f"{args.model} was not trained on scenes, which is what evaluate measures on")
    size, device = model.tokenizer.config.image_size, model.device
    batch = 256 if device.type == "cuda" else 64
    source = SceneSource(size, TrainSettings(args.judge_steps, batch, pictures=60_000, seed=77), device)
    judge = metrics.train_judge(source.batch, len(scenes.CLASSES), args.judge_steps, device)
    pixels, labels = random_scenes(args.pictures, scenes.TEST_SEED + args.seed, size, device)
    results = metrics.evaluate(model, judge, pixels, labels)
    results |= {"model": args.model, "pictures": args.pictures, "judge_steps": args.judge_steps, "seed": args.seed}
    for key, value in results.items():
        print(f"{key:16} {value:.4g}" if isinstance(value, float) else f"{key:16} {value}")
    if args.json:
        write_atomically(Path(args.json), (json.dumps(results, indent=1) + "\n").encode())


def _model_options(parser: argparse.ArgumentParser) -> None:
    names, default = ", ".join(bundled()) or "none", next(iter(bundled()), "scenes")
    parser.add_argument("--model", default=default, help=f"folder or bundled name ({names}); default {default}")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def _sample_options(parser: argparse.ArgumentParser) -> None:
    _model_options(parser)
    parser.add_argument("--out", default="samples.png", help="PNG file to write (default samples.png)")
    parser.add_argument("--classes", help="names or numbers, comma-separated (default: every class)")
    parser.add_argument("--num", type=int, help="how many pictures; classes take turns")
    parser.add_argument("--seed", type=int, default=0, help="picture i uses seed + i")
    for name in ("guidance", "power", "temperature", "top-p"):
        parser.add_argument(f"--{name}", type=float, help="default: the checkpoint's own")
    parser.add_argument("--top-k", type=int, help="keep the k likeliest codes")


def _reconstruct_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", help="PNG, JPEG or WEBP file")
    _model_options(parser)
    parser.add_argument("--out", default="pair.png", help="PNG file to write (default pair.png)")


def _train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", choices=("tokenizer", "decoder", "ar"))
    parser.add_argument("--preset", choices=_trainable(), default="scenes", help="sizes and settings")
    parser.add_argument("--data", default="scenes", help="scenes, or a folder with a subfolder of pictures per class")
    parser.add_argument("--out", required=True, help="RUN folder; decoder and ar continue the tokenizer's")
    parser.add_argument("--resume", action="store_true", help="continue where the RUN stopped")
    for name, kind in (("steps", int), ("batch", int), ("lr", float), ("seed", int), ("save-every", int)):
        parser.add_argument(f"--{name}", type=kind, help="default: the preset's own")
    parser.add_argument("--accumulate", type=int, help="parts that a step's batch is computed in, to save memory")
    parser.add_argument("--pictures", type=int, help="different training pictures, on a GPU and for ar")


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    _model_options(parser)
    parser.add_argument("--pictures", type=int, default=5000, help="unseen scenes, and samples (default 5000)")
    parser.add_argument("--judge-steps", type=int, default=1500, help="training steps of the judge (default 1500)")
    parser.add_argument("--seed", type=int, default=12345, help="which unseen scenes")
    parser.add_argument("--json", help="file for the numbers")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m alitok_lite", description="Image tokens that an AR model can predict.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, action, options, text in (
        ("sample", _sample, _sample_options, "Draw pictures of classes."),
        ("reconstruct", _reconstruct, _reconstruct_options, "Encode a picture and decode its tokens."),
        ("train", _train, _train_options, "Train a tokenizer (stage 1), its second decoder (stage 2), or an AR model."),
        ("evaluate", _evaluate, _evaluate_options, "Measure a scenes checkpoint on unseen scenes, with a fresh judge."),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(action=action)
        options(command)
    return parser


def _trainable() -> list[str]:
    """Presets with training settings: all of them; kept here so that --help does not import the training code."""
    return list(PRESETS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 2 with one sentence on stderr for a user's mistake."""
    args = _parser().parse_args(argv)
    try:
        args.action(args)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"alitok_lite: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
