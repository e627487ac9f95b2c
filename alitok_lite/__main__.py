"""Command line: python -m alitok_lite sample | reconstruct | train."""

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
    images.save_png(images.sheet(pictures, min(count, 8)), args.out, text)
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

    overrides = {key: getattr(args, key) for key in ("steps", "batch", "lr", "seed", "pictures", "save_every")}
    for key, value in overrides.items():
        if value is not None and not (value > 0 or (key == "seed" and value == 0)):
            raise ValueError(f"--{key.replace('_', '-')} is {value}; it must be above 0")
    train(args.part, args.preset, args.out, args.resume, [(k, v) for k, v in overrides.items() if v is not None])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m alitok_lite", description="Image tokens that an AR model can predict.")
    commands = parser.add_subparsers(dest="command", required=True)
    names = ", ".join(bundled()) or "none"
    default = next(iter(bundled()), "scenes")

    def command(name: str, action, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        return sub

    def add_model(sub: argparse.ArgumentParser, out: str) -> None:
        sub.add_argument("--model", default=default, help=f"folder or bundled name ({names}); default {default}")
        sub.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
        sub.add_argument("--out", default=out, help=f"PNG file to write (default {out})")

    sample = command("sample", _sample, "Draw pictures of classes.")
    add_model(sample, "samples.png")
    sample.add_argument("--classes", help="names or numbers, comma-separated (default: every class)")
    sample.add_argument("--num", type=int, help="how many pictures; classes take turns")
    sample.add_argument("--seed", type=int, default=0, help="picture i uses seed + i")
    for name in ("guidance", "power", "temperature", "top-p"):
        sample.add_argument(f"--{name}", type=float, help="default: the checkpoint's own")
    sample.add_argument("--top-k", type=int, help="keep the k likeliest codes")

    reconstruct = command("reconstruct", _reconstruct, "Encode a picture and decode its tokens.")
    reconstruct.add_argument("picture", help="PNG, JPEG or WEBP file")
    add_model(reconstruct, "pair.png")

    train = command("train", _train, "Train a tokenizer (stage 1), its second decoder (stage 2), or an AR model.")
    train.add_argument("part", choices=("tokenizer", "decoder", "ar"))
    train.add_argument("--preset", choices=_trainable(), default="scenes", help="sizes and settings")
    train.add_argument("--data", choices=("scenes",), default="scenes", help="procedural pictures, painted on the fly")
    train.add_argument("--out", required=True, help="RUN folder; decoder and ar continue the tokenizer's")
    train.add_argument("--resume", action="store_true", help="continue where the RUN stopped")
    for name, kind in (("steps", int), ("batch", int), ("lr", float), ("seed", int), ("save-every", int)):
        train.add_argument(f"--{name}", type=kind, help="default: the preset's own")
    train.add_argument("--pictures", type=int, help="different training pictures, on a GPU and for ar")
    return parser


def _trainable() -> list[str]:
    """Presets with training settings; kept here so that --help does not import the training code."""
    return [name for name in PRESETS if not name.startswith("alitok-")]


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
