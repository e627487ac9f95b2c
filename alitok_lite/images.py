"""Reading pictures that users supply, writing PNGs that say where they came from, and contact sheets."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor

from .model import write_atomically

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 24_000_000
MIN_SIDE = 8
PAPER = (246, 246, 243)  # background of contact sheets
_ALLOWED = f"give a PNG, JPEG or WEBP picture of at least {MIN_SIDE} x {MIN_SIDE} and at most 24 million pixels"


def load_picture(path: str | Path, size: int) -> Tensor:
    """A user's picture as a model wants it: upright, RGB, its centre square, resized.

    Grey, palette, CMYK and 16-bit pictures are converted, transparency is laid on white, and of an animation the
    first frame is taken. Raises ValueError, in one sentence that names the file without its folder, for whatever
    cannot be read. Returns (1, 3, size, size) in [0, 1].
    """
    path = Path(path)
    name = repr(path.name if len(path.name) <= 80 else path.name[:40] + "..." + path.name[-20:])
    if path.is_dir():
        raise ValueError(f"{name} is a folder; {_ALLOWED}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit, below, is lower
            image = Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise ValueError(f"there is no file {name}; {_ALLOWED}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has too many pixels; {_ALLOWED}") from None
    except Exception:  # Pillow's plugins raise many kinds for damaged headers
        raise ValueError(f"{name} is not a picture that can be read; {_ALLOWED}") from None
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{name} has {width} x {height} pixels, too many; {_ALLOWED}")
        if min(width, height) < MIN_SIDE:
            raise ValueError(f"{name} has {width} x {height} pixels, too few; {_ALLOWED}")
        try:
            image.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded at a fraction of its size, others ignore it
            square = ImageOps.fit(_to_rgb(ImageOps.exif_transpose(image)), (size, size), Image.Resampling.LANCZOS)
        except Exception:  # as above; truncated data, a broken checksum, no memory
            raise ValueError(f"{name} is damaged or cut short; {_ALLOWED}") from None
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB; transparency on white, 16-bit grey scaled (Pillow would clip it)."""
    if image.mode.startswith("I"):
        return Image.fromarray(((np.asarray(image).astype(np.int32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def save_png(image: Image.Image, path: str | Path, text: dict[str, str]) -> None:
    """Write a PNG whose text chunks hold `text` (keyword -> value); the file appears whole or not at all."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=chunks)
    write_atomically(Path(path), buffer.getvalue())


def sheet(images: Sequence[Image.Image], columns: int, gap: int = 8, scale: int = 1) -> Image.Image:
    """Contact sheet of equal-size RGB pictures, each enlarged by a whole number, `gap` pixels apart on light paper.

    A single picture has no margin. Raises ValueError for no pictures or for different sizes.
    """
    if not images or len({image.size for image in images}) > 1:
        raise ValueError("a contact sheet needs at least one picture, all of one size")
    width, height = (side * scale for side in images[0].size)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    gap = gap if len(images) > 1 else 0
    paper = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), PAPER)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        large = image if scale == 1 else image.resize((width, height), Image.Resampling.LANCZOS)
        paper.paste(large, (gap + column * (width + gap), gap + row * (height + gap)))
    return paper
