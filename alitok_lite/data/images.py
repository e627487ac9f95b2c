"""Reading pictures that users supply, writing PNGs that say where they came from, and contact sheets."""

import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor

from ..files import write_atomically
from . import containers

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 24_000_000
MIN_SIDE = 8
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # the names of one system or another
PAPER = (246, 246, 243)  # background of contact sheets
_TURNS = {  # what makes a picture upright, by its orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ALLOWED = f"give a PNG, JPEG or WEBP picture of at least {MIN_SIDE} x {MIN_SIDE} and at most 24 million pixels"


def load_picture(source: str | Path | BinaryIO, size: int) -> Tensor:
    """A user's picture as a model wants it: upright, RGB, its centre square, resized.

    Grey, palette, CMYK and 16-bit pictures are converted, transparency is laid on white, and of an animation the
    first frame is taken. Exif alone says what is upright, as in browsers; other metadata is ignored.
    Raises ValueError as `open_picture` does, and for pixels that cannot be decoded. Returns (1, 3, size, size) in
    [0, 1].
    """
    with open_picture(source) as picture:
        image = picture.image
        try:
            image.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded at a fraction of its size, others ignore it
            upright = image if picture.turn is None else image.transpose(picture.turn)
            square = ImageOps.fit(_to_rgb(upright), (size, size), Image.Resampling.LANCZOS)
        except Exception as error:  # Pillow raises many kinds for damaged data
            raise ValueError(_damage(picture.name, error, picture.whole)) from None
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255


class Picture(NamedTuple):
    """A picture file that is open, and of which only the header has been read."""

    name: str  # as a message gives it
    image: Image.Image
    turn: Image.Transpose | None  # what makes it upright
    whole: bool  # False: the file ends too early


@contextmanager
def open_picture(source: str | Path | BinaryIO) -> Iterator[Picture]:
    """A picture file, or an open file with a name: its header is read, no pixels.

    Raises ValueError, in one sentence that names the file without its folder, for whatever is no regular file, no
    PNG, JPEG or WEBP, damaged at its beginning, or of a size that is not allowed.
    """
    path = Path(source if isinstance(source, str | Path) else getattr(source, "name", "picture"))
    name = path.name or str(path)
    name = repr(name if len(name) <= 80 else name[:40] + "..." + name[-20:])
    with ExitStack() as stack:
        file = stack.enter_context(_open(path, name)) if isinstance(source, str | Path) else source
        try:
            bare = containers.bare(file)
        except ValueError as error:
            raise ValueError(f"{name} is not a picture that can be read: {error}; {ALLOWED}") from None
        except OSError as error:
            raise ValueError(f"{name} cannot be read: {error.strerror}; {ALLOWED}") from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", Image.DecompressionBombWarning
                )  # where it only warns, our limit refuses
                image = stack.enter_context(Image.open(bare.file, formats=FORMATS))
        except Image.DecompressionBombError:
            raise ValueError(f"{name} has too many pixels; {ALLOWED}") from None
        except Exception as error:  # Pillow's plugins raise many kinds for damaged headers
            raise ValueError(_damage(name, error, bare.whole)) from None
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{name} has {width} x {height} pixels, too many; {ALLOWED}")
        if min(width, height) < MIN_SIDE:
            raise ValueError(f"{name} has {width} x {height} pixels, too few; {ALLOWED}")
        yield Picture(name, image, _TURNS.get(containers.orientation(bare.exif)), bare.whole)


def _open(path: Path, name: str) -> BinaryIO:
    """A regular file, opened. Anything else is refused unopened: a pipe would wait for a writer, a device may act."""
    file = None
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            file = os.fdopen(os.open(path, _READ), "rb")
            mode = os.fstat(file.fileno()).st_mode  # it may have changed in between
    except FileNotFoundError:
        raise ValueError(f"there is no file {name}; {ALLOWED}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} cannot be opened: {getattr(error, 'strerror', None) or error}; {ALLOWED}") from None
    if file is None or not stat.S_ISREG(mode):
        if file is not None:
            file.close()
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file but a device, a pipe or a socket"
        raise ValueError(f"{name} is {kind}; {ALLOWED}")
    return file


def _damage(name: str, error: Exception, whole: bool) -> str:
    """What is wrong with a picture of a right format."""
    if isinstance(error, MemoryError):
        return f"{name} needs more memory than there is; {ALLOWED}"
    short = not whole or "truncated" in str(error)
    return f"{name} is damaged{': the file is cut short' if short else ' and cannot be decoded'}; {ALLOWED}"


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB; transparency on white, 16-bit grey scaled (Pillow would clip it)."""
    if image.mode.startswith("I"):
        return Image.fromarray(((np.asarray(image).astype(np.int32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def save_png(image: Image.Image, path: str | Path, text: dict[str, str], level: int = 6) -> None:
    """Write a PNG whose text chunks hold `text` (keyword -> value); the file appears whole or not at all. `level`: of
    compression, 1 (quick) to 9."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=chunks, compress_level=level)
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
