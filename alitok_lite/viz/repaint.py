"""Pictures of `measure.repaint`: a scene told token by token, and what was repainted, as a strip and as an animation.

They are PIL pictures, for pages, notebooks and the app alike.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .. import scenes
from ..measure.repaint import VISIBLE, changes, told
from ..model import AliTok
from .colours import INK, RED

PAPER, SOFT = "#ffffff", "#6b6b66"
UNTOLD = 0.72  # how far a patch that is not told yet fades into the paper
SHIPPED = {  # the two bundled tokenizers that differ in the decoder alone
    "scenes-baseline": ("Conventional tokenizer", "its decoder reads all tokens"),
    "scenes-noprefix": ("Causal tokenizer", "its decoder reads earlier tokens"),
}
WAIT, REST = 420, 3000  # milliseconds: a step, and the finished picture


class Telling(NamedTuple):
    """One scene as one tokenizer tells it."""

    name: str
    note: str  # one line about its decoder
    frames: Tensor  # (T + 1, 3, S, S) in [0, 1], as `told` gives them
    patch: int  # pixels

    @property
    def changes(self) -> Tensor:
        """(T + 1, G*G), as `measure.repaint.changes` gives them."""
        return changes(self.frames[None], self.patch)[0]

    @property
    def patches(self) -> int:
        """G*G."""
        return (self.frames.shape[-1] // self.patch) ** 2

    def step(self, patches: int) -> int:
        """The frame in which so many patches have been told; prefix tokens come before the first."""
        return len(self.frames) - 1 - self.patches + patches


def tell(kind: str = "lighthouse", seed: int = scenes.TEST_SEED + 3) -> tuple[Tensor, list[Telling]]:
    """A painted scene (3, 64, 64), and how the two tokenizers of SHIPPED tell it."""
    picture = scenes.render([scenes.CLASSES.index(kind)], seed=seed, size=64)
    tellings = []
    for name, (title, note) in SHIPPED.items():
        tokenizer = AliTok.from_pretrained(name, "cpu").tokenizer
        tellings.append(
            Telling(title, note, told(tokenizer, tokenizer.encode(picture))[0], tokenizer.config.patch_size)
        )
    return picture[0], tellings


@lru_cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"  # come with matplotlib
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def cell(telling: Telling, patches: int, scale: int) -> tuple[Image.Image, int]:
    """The picture after so many patches were told, enlarged, and the number of patches repainted so far.

    Patches not told yet are faded; an outline is drawn around those that differ from what they were when told.
    """
    step = telling.step(patches)
    picture = AliTok.to_pil(telling.frames[step][None])[0]
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    draw, side, line = ImageDraw.Draw(picture), telling.patch * scale, max(2, scale - 2)
    moved = (telling.changes[step] > VISIBLE).tolist()
    for index in range(telling.patches):
        row, column = divmod(index, picture.width // side)
        box = (column * side, row * side, (column + 1) * side, (row + 1) * side)
        if index >= patches:
            part = picture.crop(box)
            picture.paste(Image.blend(part, Image.new("RGB", part.size, PAPER), UNTOLD), box)
        elif moved[index]:
            draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=RED, width=line)
    return picture, sum(moved)


def _count(number: int, patches: int) -> str:
    return f"{number} of {patches} patches repainted"


def animation(tellings: Sequence[Telling], scale: int = 5) -> list[Image.Image]:
    """A frame after each patch: the tellings side by side, with names, notes and counts."""
    side, gap = tellings[0].frames.shape[-1] * scale, 4 * scale
    width, top = len(tellings) * (side + gap) + gap, 66
    frames = []
    for patches in range(1, tellings[0].patches + 1):
        paper = Image.new("RGB", (width, top + side + 44), PAPER)
        draw = ImageDraw.Draw(paper)
        for number, telling in enumerate(tellings):
            left = gap + number * (side + gap)
            picture, count = cell(telling, patches, scale)
            paper.paste(picture, (left, top))
            draw.text((left, 8), telling.name, INK, font(21, bold=True))
            draw.text((left, 36), telling.note, SOFT, font(17))
            draw.text((left, top + side + 10), _count(count, patches), RED if count else INK, font(19, bold=count > 0))
        frames.append(paper)
    return frames


def save_animation(frames: Sequence[Image.Image], path: str | Path | BinaryIO) -> None:
    """Write an animated WebP without loss that repeats for ever.

    The last frame comes first and is shown for longer: it is all that a still picture of the file shows.
    """
    *others, first = frames
    waits = [REST] + [WAIT] * len(others)
    first.save(path, "WEBP", save_all=True, append_images=others, duration=waits, loop=0, lossless=True, method=6)


def strip(
    original: Tensor, tellings: Sequence[Telling], patches: Sequence[int] = (2, 4, 6, 8, 10, 12, 14, 16), scale: int = 2
) -> Image.Image:
    """A row for each telling of the picture (3, S, S), a column for each number of patches told; counts below."""
    side, gap, left, top, foot = original.shape[-1] * scale, 8, 170, 34, 26
    width = left + (len(patches) + 1) * (side + gap)
    paper = Image.new("RGB", (width, top + len(tellings) * (side + foot) + 4), PAPER)
    draw = ImageDraw.Draw(paper)
    heads = ["picture", *(f"{number} told" for number in patches)]
    for column, head in enumerate(heads):
        draw.text((left + column * (side + gap), 8), head, INK, font(15))
    whole = AliTok.to_pil(original[None])[0].resize((side, side), Image.Resampling.NEAREST)
    for row, telling in enumerate(tellings):
        y = top + row * (side + foot)
        paper.paste(whole, (left, y))
        draw.multiline_text((8, y + 8), telling.name.replace(" ", "\n"), INK, font(17, bold=True))
        for column, number in enumerate(patches, 1):
            x = left + column * (side + gap)
            picture, count = cell(telling, number, scale)
            paper.paste(picture, (x, y))
            draw.text((x, y + side + 3), f"{count} repainted", RED if count else SOFT, font(14))
    return paper
