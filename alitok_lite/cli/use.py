"""Commands that use a checkpoint: sample and reconstruct."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data import images
from ..files import check_output
from ..machine import DTYPES
from ..measure.metrics import psnr
from ..model import AliTok
from ..store.class_names import read_list, write_list
from .options import AT_ONCE, MANY
from .values import check_seed, given_settings

MOST = 10_000  # pictures in a sheet
GAP = 8  # of `images.sheet`


def _names(text: str | None, model: AliTok) -> list[str | int]:
    """Classes as they were written, see `class_names.read_list`; without any text all of them, or eight of many."""
    if text is None:
        return model.classes if len(model.classes) <= MANY else model.classes[:: len(model.classes) // 8]
    return read_list(text, model.classes)


def _encodable(text: dict[str, str]) -> dict[str, str]:
    """Without the halves of characters that Python makes of a folder's name that is not UTF-8."""
    return {key: value.encode("utf-8", "backslashreplace").decode() for key, value in text.items()}


def sample(args: argparse.Namespace) -> None:
    check_output("--out", args.out, ".png")
    model = AliTok.from_pretrained(args.model, args.device, DTYPES[args.dtype])
    names = _names(args.classes, model)
    count = len(names) if args.num is None else args.num
    if not 1 <= count <= MOST:
        raise ValueError(f"--num is {count}; it must be 1 or more, and at most {MOST} (`fidsamples` draws more)")
    check_seed(args.seed, count)
    classes = [names[i % len(names)] for i in range(count)]
    settings, pictures = given_settings(args), []
    for start in range(0, count, AT_ONCE):
        drawn = model.sample(classes[start : start + AT_ONCE], args.seed + start, **settings)
        pictures += AliTok.to_pil(drawn)
    text = {"model": args.model, "classes": write_list(names), "seed": str(args.seed)}
    text |= {key: str(value) for key, value in settings.items()}
    columns = min(count, len(names) if 1 < len(names) <= 16 else 8)  # a column for each class where they fit
    images.save_png(images.sheet(pictures, columns), args.out, _encodable(text))
    print(f"{count} picture{'s' * (count > 1)} in {args.out}")


def _is_sheet(picture: str) -> bool:
    """Whether a picture has the margin that `images.sheet` leaves around several pictures."""
    with images.open_picture(picture) as opened:
        image = opened.image.convert("RGB")
    width, height = image.size
    if min(image.size) <= 2 * GAP:
        return False
    image.paste(images.PAPER, (GAP, GAP, width - GAP, height - GAP))
    return image.getcolors(1) == [(width * height, images.PAPER)]


def reconstruct(args: argparse.Namespace) -> None:
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
    if _is_sheet(args.picture):
        print(
            f"Note: {args.picture} is a sheet of pictures, and its middle was taken for one; give a single picture,"
            " for instance one of `alitok sample --num 1`."
        )
