"""A drawing that grows token by token, as an animation for a page: PIL pictures, without matplotlib."""

import base64
import io
from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from ..measure.board import token_cell
from .colours import INK, PALE, TOKENS, WITH_PREFIX
from .panels import rgb
from .repaint import PAPER, font, save_animation

COLOURS = 128  # of a frame: a third fewer bytes


class Animation:
    """An animated WebP that a notebook shows, also as a page without a kernel."""

    def __init__(self, frames: Sequence[Image.Image], alt: str) -> None:
        file = io.BytesIO()
        save_animation(frames, file)
        self.data, self.alt, self.width = file.getvalue(), alt, frames[0].width

    def __repr__(self) -> str:
        return self.alt

    def _repr_html_(self) -> str:
        source = f"data:image/webp;base64,{base64.b64encode(self.data).decode()}"
        return f'<img src="{source}" alt="{self.alt}" width="{self.width}">'


def growing(pictures: Sequence[Tensor], prefix: int, grid: int, scale: int = 4) -> Animation:
    """A picture (3, S, S) after each of its tokens, prefix tokens first, beside a board of the tokens so far."""
    frames = [_frame(pixels, number + 1, prefix, grid, scale) for number, pixels in enumerate(pictures)]
    alt = f"A picture that grows token by token: {prefix} prefix tokens, then {grid * grid} image tokens by rows."
    return Animation(frames, alt)


def _frame(pixels: Tensor, count: int, prefix: int, grid: int, scale: int) -> Image.Image:
    """One moment: the picture, and a board whose cells are filled where the token has been sampled."""
    picture = Image.fromarray((255 * rgb(pixels)).round().astype("uint8"))
    side, cell, gap = scale * picture.width, scale * picture.width // (grid + 2), 24
    paper = Image.new("RGB", (2 * side + 3 * gap, side + 2 * gap + 30), PAPER)
    paper.paste(picture.resize((side, side), Image.Resampling.NEAREST), (gap, gap))
    draw, left = ImageDraw.Draw(paper), side + 2 * gap + (cell if prefix else 0)
    for token in range(prefix + grid * grid):
        row, column = token_cell(token, prefix, grid)
        x = left + (column if column >= 0 else -1.2) * cell
        y = gap + (row + 1.3 if row >= 0 else 0) * cell
        fill = PALE if token >= count else WITH_PREFIX if token < prefix else TOKENS
        draw.rectangle((x, y, x + cell - 3, y + cell - 3), fill=fill)
    what = f"{min(count, prefix)} of {prefix} prefix tokens, " if prefix else ""
    draw.text((gap, side + gap + 10), f"{what}{max(0, count - prefix)} of {grid * grid} image tokens", INK, font(19))
    return paper.quantize(COLOURS, dither=Image.Dither.NONE).convert("RGB")
