"""Figures of the toy worlds of `study.toy`: two-patch pictures with their tokens, and rows of eight patches."""

import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .colours import INK, PALE, RED, SERIES
from .panels import new_figure, no_ticks, panels, styled

Patches = tuple[int, int]  # the looks of the upper and of the lower patch


@styled
def toy_buckets(
    pictures: Sequence[Patches],
    tokens: dict[str, Sequence[tuple[int, ...]]],
    decoded: dict[str, Sequence[Patches]],
    title: str = "Which pictures come back from their tokens?",
) -> Figure:
    """Two-patch pictures in a row; below, for each code, their tokens and the decoded pictures, mistakes outlined.

    pictures: (upper, lower) each; tokens and decoded: name -> the tokens and the decoded patches of each picture.
    """
    rows = 2.2 + sum(len(tokens[name][0]) + 2.9 for name in tokens)
    left, cell = 1.75, 5.8 / len(pictures)  # inches; cells are a little wider than high
    figure = new_figure(9, rows * cell + 0.1, title, layout="none")
    width, height = figure.get_size_inches()
    ax = figure.add_axes((left / width, 0, 1 - (left + 0.1) / width, rows * cell / height))
    no_ticks(ax)
    ax.set(xlim=(0, len(pictures)), ylim=(rows, 0))
    y = _pictures(ax, 0.1, "picture", pictures, pictures) + 0.6
    for name, sequences in tokens.items():
        ax.axhline(y - 0.25, color=PALE, linewidth=1.2, xmin=-0.3, clip_on=False)
        count = len(sequences[0])
        _label(ax, y + count / 2, "\n".join([*textwrap.wrap(name, 17), "tokens"]))
        for column, sequence in enumerate(sequences):
            for place, code in enumerate(sequence):
                ax.add_patch(Rectangle((column + 0.16, y + place + 0.06), 0.68, 0.88, fc=SERIES[code], alpha=0.45))
                _number(ax, column, y + place, code)
        y = _pictures(ax, y + count + 0.15, "decoded", decoded[name], pictures) + 0.6
    return figure


def _pictures(ax: Axes, y: float, label: str, shown: Sequence[Patches], true: Sequence[Patches]) -> float:
    """Pictures from y on, wrong patches outlined; returns where they end."""
    looks = matplotlib.colormaps["viridis"](np.linspace(0.25, 1, 8)), ("#FFFFFF", "#B9B9B4")
    _label(ax, y + 1, label)
    for column, (picture, right) in enumerate(zip(shown, true, strict=True)):
        for patch in (0, 1):
            ax.add_patch(Rectangle((column + 0.08, y + patch), 0.84, 1, fc=looks[patch][picture[patch]], ec="#888888"))
            _number(ax, column, y + patch, picture[patch], patch == 0 and picture[patch] < 3)
            if picture[patch] != right[patch]:
                box = Rectangle((column + 0.08, y + patch), 0.84, 1, fill=False, ec=RED, linewidth=3.2, zorder=5)
                ax.add_patch(box)
    return y + 2


def _number(ax: Axes, column: float, y: float, number: int, light: bool = False) -> None:
    color = "white" if light else INK
    ax.text(column + 0.5, y + 0.54, str(number), ha="center", va="center", fontsize=12, color=color)


def _label(ax: Axes, y: float, text: str) -> None:
    ax.text(-0.25, y, text, ha="right", va="center", fontsize=13)


@styled
def toy_strips(
    named: dict[str, np.ndarray], title: str = "How does each code write a picture?", columns: int = 5
) -> Figure:
    """Rows of black (1) and white (0) cells, name -> (n, 8): pictures, or their tokens, a line for each picture."""
    count = len(named)
    columns = min(columns, count)
    lines = -(-count // columns)
    rows, cells = next(iter(named.values())).shape
    room = {"left": 0.15, "right": 0.15, "bottom": 0.1, "top": 0.5, "across": 0.3, "down": 0.5}
    figure, axes = panels(title, [cells] * columns, [rows] * lines, 0.26, **room)
    for ax in axes.flat[count:]:
        ax.remove()
    for ax, (name, values) in zip(axes.flat, named.items(), strict=False):
        ax.imshow(values, cmap="gray_r", vmin=0, vmax=1.15, extent=(0, cells, rows, 0), aspect="auto")
        ax.hlines(np.arange(rows + 1), 0, cells, "#888888", linewidth=1)
        ax.vlines(np.arange(cells + 1), 0, rows, "#888888", linewidth=0.5)
        ax.set(xlim=(0, cells), ylim=(rows, 0))
        no_ticks(ax)
        ax.set_title("\n".join(name.split(", ")), fontsize=12, pad=4)
    return figure
