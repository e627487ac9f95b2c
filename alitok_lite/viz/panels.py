"""The parts of all figures: one style, panels of a known size, cells of tokens over a picture.

A board is a grid of patches with the prefix tokens in a strip above it, each column's over it and the corner's at the
left. Functions here draw into axes; the figures are in the other files. Colours: those of colours.py for series,
viridis and cividis for maps, so that colour-blind people see the same.
"""

import io
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from threading import RLock
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..measure.board import geometry, overlay_opacity, token_cell
from .colours import INK, PALE, RED, SERIES

HOUSE_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 13,
    "figure.titlesize": 16,
    "figure.titleweight": "bold",
    "axes.titlesize": 14,
    "axes.labelsize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "legend.frameon": False,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.prop_cycle": matplotlib.cycler(color=SERIES),
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "image.interpolation": "nearest",
    "image.cmap": "viridis",
    "lines.linewidth": 2.5,
    "lines.markersize": 7,
    "hatch.linewidth": 0.8,
}
VIRIDIS = matplotlib.colormaps["viridis"].with_extremes(bad=PALE)
STRIP_GAP = 0.3  # between prefix strip and image, in patches

_drawing = RLock()  # matplotlib's settings belong to the whole process, and the app draws from several threads


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's own defaults and HOUSE_STYLE, whatever style is in use outside."""
    with _drawing, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(HOUSE_STYLE)
        yield


class Chart(Figure):
    """A Figure that a notebook shows even where pyplot was never imported, and that is saved as it was drawn."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Twice the pixels, shown at the size it was made for."""
        width, height = (int(100 * inches) for inches in self.get_size_inches())
        return to_png(self, 200), {"width": width, "height": height}

    def savefig(self, *arguments: object, **named: object) -> None:
        """As of any Figure, in the house style."""
        with house_style():
            super().savefig(*arguments, **named)


def to_png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as a PNG file, with so many pixels an inch."""
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    @wraps(draw)
    def styled(*arguments: object, **named: object) -> Figure:
        with house_style():
            return draw(*arguments, **named)

    return styled


def as_array(values: Tensor | np.ndarray | Sequence) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().float().cpu().numpy()
    return np.array(values, dtype=float)  # always a copy


def rgb(pixels: Tensor) -> np.ndarray:
    """(3, S, S) or (1, 3, S, S) in [0, 1] -> (S, S, 3)"""
    return np.clip(as_array(pixels).reshape(pixels.shape[-3:]).transpose(1, 2, 0), 0, 1)


def faded(pixels: Tensor) -> np.ndarray:
    """The picture in dark grey, on which bright colours shine: (S, S, 3)"""
    return np.repeat((0.12 + 0.4 * rgb(pixels) @ [0.3, 0.59, 0.11])[..., None], 3, 2)


def new_figure(width: float, height: float, title: str, layout: str = "constrained") -> Chart:
    """A figure of that many inches plus the lines of its title, which is wrapped."""
    lines = textwrap.wrap(title, int(width * 7.4))
    figure = Chart(figsize=(width, height + 0.28 * len(lines)), layout=layout)
    if lines:
        place = {"y": 1 - 0.08 / figure.get_figheight()} if layout == "none" else {}
        figure.suptitle("\n".join(lines), x=0.1 / width, ha="left", va="top", **place)
    return figure


def panels(
    title: str, columns: Sequence[float], rows: Sequence[float], largest: float = 0.62, **inches: float
) -> tuple[Chart, np.ndarray]:
    """A figure and its axes (rows, columns) for pictures and cells, which keep their shape.

    columns and rows are their sizes in cells; a cell is as large as a width of 9 inches allows, and at most `largest`.
    inches: room for labels at the left, right, top and bottom, and across and down between panels.
    """
    room = {"left": 0.7, "right": 1.05, "top": 0.42, "bottom": 0.6, "across": 0.8, "down": 0.1} | inches
    sides = room["left"] + room["right"] + room["across"] * (len(columns) - 1)
    cell = min(largest, (9 - sides) / sum(columns))
    heights = room["top"] + room["bottom"] + room["down"] * (len(rows) - 1) + cell * sum(rows)
    figure = new_figure(sides + cell * sum(columns), heights, title, layout="none")
    width, height = figure.get_size_inches()
    axes = np.empty((len(rows), len(columns)), object)
    bottom = room["bottom"] + cell * sum(rows) + room["down"] * len(rows)
    for r, down in enumerate(rows):
        bottom -= cell * down + room["down"]
        left = room["left"]
        for c, across in enumerate(columns):
            axes[r, c] = figure.add_axes((left / width, bottom / height, cell * across / width, cell * down / height))
            left += cell * across + room["across"]
    return figure, axes


def colorbar(figure: Figure, axes: Axes | np.ndarray, norm: Normalize, label: str) -> None:
    """A colour bar beside axes: those of `panels` have their places, others make room."""
    place = {"ax": axes, "shrink": 0.8, "pad": 0.02, "aspect": 25}
    if figure.get_layout_engine() is None:
        boxes = [ax.get_position() for ax in np.ravel(axes)]
        low, high = min(box.y0 for box in boxes), max(box.y1 for box in boxes)
        left, width = max(box.x1 for box in boxes), figure.get_figwidth()
        place = {"cax": figure.add_axes((left + 0.12 / width, low, 0.14 / width, high - low))}
    bar = figure.colorbar(ScalarMappable(norm, VIRIDIS), label=label, **place)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()


def legend(figure: Figure) -> None:
    """A legend below, in as few lines as the width allows, read line by line."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    widths = [0.85 + 0.105 * len(label) for label in labels]  # inches
    count, columns = len(labels), len(labels)
    while columns > 1 and sum(max(widths[c::columns]) for c in range(columns)) > figure.get_figwidth():
        columns -= 1
    order = [i for c in range(columns) for i in range(c, count, columns)]  # matplotlib fills column after column
    handles, labels = [handles[i] for i in order], [labels[i] for i in order]
    figure.legend(handles, labels, loc="outside lower left", ncols=max(1, columns))


class Board(NamedTuple):
    """Where cells stand: a grid of patches, image cell (r, c) at x = c, y = r; above it a strip of prefix cells; in
    front of that a cell for the class or start token, with its name."""

    prefix: int
    grid: int
    front: str = ""
    room: bool = False  # for a strip that is not there

    def place(self, token: int) -> tuple[float, float]:
        """(x, y) of the middle of a token's cell; -1 is the cell in front."""
        if token < 0:
            return (-1 - STRIP_GAP) * (2 if self.prefix else 1), -1 - STRIP_GAP
        row, column = token_cell(token, self.prefix, self.grid)
        return (column if column >= 0 else -1 - STRIP_GAP), (row if row >= 0 else -1 - STRIP_GAP)

    @property
    def left(self) -> float:
        """Where the cells begin."""
        return self.place(-1 if self.front else 0)[0] - 0.5

    @property
    def top(self) -> float:
        """Where the cells begin, or the room for them."""
        return -1.5 - STRIP_GAP if self.prefix or self.front or self.room else -0.5

    @property
    def width(self) -> float:
        """In cells."""
        return self.grid - 0.5 - self.left

    @property
    def height(self) -> float:
        """In cells."""
        return self.grid - 0.5 - self.top


def frame(ax: Axes, board: Board, caption: str = "", labels: bool = True) -> None:
    """Limits, ticks, thin lines and a caption for a board of cells."""
    prefix, grid = board.prefix, board.grid
    ax.set(xlim=(board.left, grid - 0.5), ylim=(grid - 0.5, board.top), aspect="equal")
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(length=0, pad=2)
    ax.spines["left"].set_position(("data", -0.5))  # row numbers stand at the image, not at the strip
    edges, line = np.arange(grid + 1) - 0.5, 1 if grid <= 8 else 0.5
    ax.hlines(edges, -0.5, grid - 0.5, "white", linewidth=line, alpha=0.8)
    ax.vlines(edges, -0.5, grid - 0.5, "white", linewidth=line, alpha=0.8)
    for token in range(-1 if board.front else 0, prefix):
        cell_frame(ax, board.place(token), edgecolor="#888888", linewidth=0.8)
    ticks = range(0, grid, 1 if grid <= 8 else math.ceil(grid / 5)) if labels else ()
    ax.set(xticks=ticks, yticks=ticks)
    if labels:  # in the middle of the image, not of image and strip
        ax.set_xlabel("column", x=(grid / 2 - 0.5 - board.left) / board.width)
        ax.set_ylabel("row", y=grid / 2 / board.height)
    if board.front and grid <= 8:
        ax.text(board.left + 0.5, board.top + 1.1, board.front, fontsize=12, va="top", ha="center")
    elif board.front and labels:
        ax.text(board.left - 0.3, board.top + 0.5, board.front, fontsize=12, va="center", ha="right")
    if prefix and labels:
        ax.text(-0.5, board.top - 0.08, "prefix tokens", fontsize=12, va="bottom")
    content = Board(prefix, grid, board.front).height / board.height
    ax.set_title(caption, y=content, pad=24 if prefix and labels else 6)


def cell_frame(ax: Axes, place: tuple[float, float], **look: Any) -> None:
    """A frame around the cell whose middle is at (x, y)."""
    ax.add_patch(Rectangle((place[0] - 0.5, place[1] - 0.5), 1, 1, fill=False, clip_on=False, **look))


def outline(ax: Axes, board: Board, token: int, style: str = "-", width: float = 3.5) -> None:
    """A red frame around the cell of a token."""
    width = min(width, 3.5 if board.grid <= 8 else 2)
    cell_frame(ax, board.place(token), color="white", linewidth=width + 2.5, zorder=5)
    cell_frame(ax, board.place(token), color=RED, linewidth=width, linestyle=style, zorder=5)


def under(ax: Axes, picture: np.ndarray, grid: int) -> None:
    """A picture (S, S, 3) beneath the grid of patches."""
    ax.imshow(picture, extent=(-0.5, grid - 0.5, grid - 0.5, -0.5))


def heat(ax: Axes, values: np.ndarray, norm: Normalize, form: str = "", picture: Tensor | None = None) -> None:
    """Values of tokens (T,) as colours; NaN is pale. `form` writes the numbers into the cells. Over a picture, low
    values let it shine through, and numbers that are exactly 0 are left out."""
    board, over = Board(*geometry(len(values))), picture is not None
    if over:
        under(ax, faded(picture), board.grid)
    prefix, image = values[: board.prefix], values[board.prefix :]
    cells(ax, image.reshape(board.grid, board.grid), (0, 0), norm, over)
    if board.prefix:
        cells(ax, prefix[None, :1], board.place(0), norm, over)
        cells(ax, prefix[None, 1:], board.place(1), norm, over)
    for token, value in enumerate(values):
        if form and np.isfinite(value) and (value > 0 or not over):
            cell_text(ax, board.place(token), value, norm, form)


def cells(ax: Axes, values: np.ndarray, first: tuple[float, float], norm: Normalize, over: bool = False) -> None:
    """A block of coloured cells, of which the upper left one has its middle at `first`."""
    x, y = first[0] - 0.5, first[1] - 0.5
    extent = (x, x + values.shape[1], y + values.shape[0], y)
    alpha = overlay_opacity(norm(values)) if over else None
    if over:  # dark where there is no picture
        ax.imshow(np.zeros((1, 1)), cmap="gray", vmin=-0.5, vmax=1, extent=extent, zorder=-1)
    ax.imshow(values, cmap=VIRIDIS, norm=norm, extent=extent, alpha=alpha)


def cell_text(ax: Axes, place: tuple[float, float], value: float, norm: Normalize, form: str) -> None:
    color = "white" if sum(VIRIDIS(norm(value))[:3]) < 1.5 else INK
    ax.text(*place, form.format(value), ha="center", va="center", size=12, color=color)


def no_ticks(ax: Axes) -> None:
    ax.set(xticks=(), yticks=())
    for side in ax.spines.values():
        side.set_visible(False)
