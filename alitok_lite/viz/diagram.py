"""The diagram that opens every notebook: from a picture to tokens and back, with the part in question lit."""

import io
from collections.abc import Collection
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

from .colours import INK, PALE, SKY, WITH_PREFIX
from .colours import TOKENS as TOKEN_COLOUR
from .panels import new_figure, no_ticks, styled, to_png

BOXES = {  # part -> text, middle and size, on a canvas of 100 x 39
    "patches": ("patches and\nlatent queries", 19.5, 27, 16.6, 9),
    "encoder": ("encoder", 34.8, 27, 10.5, 9),
    "codebook": ("codebook", 47.5, 27, 11.5, 9),
    "causal decoder": ("causal\ndecoder\nstage 1", 77.5, 33, 15.5, 10.5),
    "bidirectional decoder": ("bidirectional\ndecoder\nstage 2", 77.5, 20.5, 15.5, 10.5),
    "AR model": ("AR model", 61.9, 5.5, 13, 8.5),
}
ARROWS = (
    ((9, 27), (11, 27)),
    ((27.9, 27), (29.3, 27)),
    ((40.2, 27), (41.5, 27)),
    ((53.4, 27), (56.6, 27)),
    ((67.2, 28.5), (69.5, 31.5)),
    ((67.2, 25), (69.5, 22)),
    ((85.5, 32), (87.8, 29)),
    ((85.5, 21.5), (87.8, 24.5)),
)
PREFIX, TOKENS = "prefix tokens", "tokens"
PARTS = (*BOXES, TOKENS, PREFIX)
NOTEBOOKS = {  # what each notebook is about
    "01": ("patches", "encoder", "codebook", TOKENS),
    "02": ("encoder", "causal decoder", "bidirectional decoder", "AR model"),
    "03": (PREFIX, "causal decoder"),
    "04": ("causal decoder", "bidirectional decoder"),
    "05": ("AR model",),
    "06": (TOKENS, "AR model"),
    "07": PARTS,
    "08": PARTS,
    "09": ("encoder", "codebook", "causal decoder", "bidirectional decoder", "AR model"),
    "10": (TOKENS, PREFIX, "AR model"),
    "11": (TOKENS, "AR model"),
}


@styled
def pipeline(lit: Collection[str] = PARTS, title: str = "") -> Figure:
    """The way of a picture through tokenizer and AR model; `lit` names the parts in colour, from `PARTS`.

    Raises ValueError for an unknown part.
    """
    unknown = [part for part in lit if part not in PARTS]
    if unknown:
        raise ValueError(f"there is no part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    figure = new_figure(9, 3.5, title, layout="none")
    top = 1 - 0.3 / figure.get_figheight() if title else 1
    ax = figure.add_axes((0, 0, 1, top))
    no_ticks(ax)
    ax.set(xlim=(0, 100), ylim=(0, 39))
    for part, (text, x, y, width, height) in BOXES.items():
        _box(ax, text, (x, y), (width, height), part in lit)
    for start, end in ARROWS:
        _arrow(ax, start, end)
    _box(ax, "picture", (4.9, 27), (8.2, 9), False)
    _box(ax, "recon-\nstruction", (93.5, 27), (10.6, 9), False)
    _tokens(ax, lit)
    return figure


def _tokens(ax: Axes, lit: Collection[str]) -> None:
    """The sequence of tokens, prefix first, and the AR model's two arrows."""
    left, size = 57.5, 1.75
    for index in range(5):
        color = WITH_PREFIX if PREFIX in lit else PALE
        ax.add_patch(Rectangle((left + index * size, 31), size, 2.6, fc=color, ec="#777777", linewidth=0.8))
    for index in range(16):
        row, column = divmod(index, 4)
        place = (left + 0.9 + column * size, 27.6 - row * 2.6)
        color = TOKEN_COLOUR if TOKENS in lit else PALE
        ax.add_patch(Rectangle(place, size, 2.6, fc=color, ec="#777777", linewidth=0.8))
    ax.text(left + 4.4, 34.2, "prefix tokens", ha="center", va="bottom", fontsize=12, color=INK)
    ax.text(left + 4.4, 17.4, "tokens (ids)", ha="center", va="center", fontsize=12, color=INK)
    _arrow(ax, (60.2, 15.6), (60.2, 10.8))
    _arrow(ax, (63.6, 10.8), (63.6, 15.6))
    ax.text(59.2, 13.4, "earlier tokens", ha="right", va="center", fontsize=12)
    ax.text(64.6, 13.4, "the next token", ha="left", va="center", fontsize=12)


def _box(ax: Axes, text: str, middle: tuple[float, float], size: tuple[float, float], lit: bool) -> None:
    x, y = middle[0] - size[0] / 2, middle[1] - size[1] / 2
    look = {"fc": SKY if lit else PALE, "ec": INK if lit else "#999999", "linewidth": 2 if lit else 1}
    ax.add_patch(FancyBboxPatch((x + 0.4, y + 0.4), size[0] - 0.8, size[1] - 0.8, "round,pad=0.4", **look))
    ax.text(*middle, text, ha="center", va="center", fontsize=12, color=INK, weight="bold" if lit else "normal")


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, shrinkA=0, shrinkB=0, fc=INK, ec=INK))


def save_diagrams(folder: str | Path) -> list[Path]:
    """Write the diagram of every notebook into a folder, as where-01.png and so on; returns their paths."""
    paths = []
    for number, lit in NOTEBOOKS.items():
        paths.append(Path(folder) / f"where-{number}.png")
        picture = Image.open(io.BytesIO(to_png(pipeline(lit)))).convert("RGB")
        picture.quantize(64, dither=Image.Dither.NONE).save(paths[-1], optimize=True)
    return paths
