"""Figures of pictures and tokens: grids, codes, codebook usage, targets, changes."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from ..core.losses import prefix_target
from ..measure.board import geometry
from .colours import INK, RED, SKY, TOKENS, WITH_PREFIX, colour_of, colours
from .panels import Board, as_array, colorbar, frame, heat, legend, new_figure, no_ticks, panels, rgb, styled, under

# ---------------------------------------------------------------- pictures and tokens


@styled
def pictures(
    pixels: Tensor | Sequence[Tensor],
    captions: Sequence[str] = (),
    columns: int = 4,
    title: str = "",
    rows: Sequence[str] = (),
) -> Figure:
    """Pictures (N, 3, S, S) side by side, with a caption above each and a name for each row."""
    count = len(pixels)
    columns = min(columns, count)
    lines = math.ceil(count / columns)
    side = min(2.3, 8.5 / columns)
    high = 0.21 * max((len(_wrap(text, side)) for text in captions), default=0)
    room = {"left": 0.45 if rows else 0.1, "right": 0.1, "bottom": 0.1, "across": 0.08}
    room |= {"top": high + 0.12, "down": high + 0.08}
    figure, axes = panels(title, [1] * columns, [1] * lines, 2.3, **room)
    for index, ax in enumerate(axes.flat):
        no_ticks(ax)
        if index >= count:
            ax.remove()
            continue
        ax.imshow(rgb(pixels[index]))
        if captions:
            ax.set_title("\n".join(_wrap(captions[index], side)), fontsize=12)
        if rows and index % columns == 0:
            ax.set_ylabel(rows[index // columns])
    return figure


def _wrap(text: str, inches: float) -> list[str]:
    """Lines of 12 point text that fit the width."""
    return [line for part in text.split("\n") for line in textwrap.wrap(part, max(6, int(inches * 9.5)))]


@styled
def token_grid(pixels: Tensor, ids: Tensor, title: str = "Which tokens does this picture become?") -> Figure:
    """The ids (T,) of a picture written over it, patch by patch, the prefix above."""
    ids = as_array(ids).astype(int)
    board = Board(*geometry(len(ids)))
    cell = max(0.48, min(0.8, 5 / board.grid))
    figure, axes = panels(title, [board.width], [board.height], cell, right=0.15, left=0.15 if board.prefix else 0.7)
    ax = axes[0, 0]
    under(ax, 0.75 * rgb(pixels) + 0.25, board.grid)
    frame(ax, board)
    for token, id_ in enumerate(ids):
        text = ax.text(*board.place(token), str(id_), ha="center", va="center", size=12)
        text.set_path_effects([withStroke(linewidth=3.5, foreground="white")])
    return figure


@styled
def nearest_codes(latents: Tensor, codes: Tensor, title: str = "Which code does each latent become?") -> Figure:
    """Vector quantisation in the plane: latents (N, 2), codes (V, 2), the region of every code, arrows to it."""
    z, e = as_array(latents), as_array(codes)
    both = np.concatenate([z, e])
    low, high = both.min(0) - 0.4, both.max(0) + 0.4
    x, y = (np.linspace(low[i], high[i], 400) for i in (0, 1))
    places = np.stack(np.meshgrid(x, y), -1)  # (400, 400, 2)
    figure = new_figure(7, 5, title)
    ax = figure.subplots()
    regions = np.square(places[:, :, None] - e).sum(-1).argmin(-1)
    ax.contour(x, y, regions, levels=np.arange(len(e)) + 0.5, colors="#BBBBBB", linewidths=1)
    ids = np.square(z[:, None] - e).sum(-1).argmin(1)
    for start, end in zip(z, e[ids], strict=True):
        ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, color="#777777", shrinkB=5))
    ax.scatter(*z.T, s=45, color=SKY, label="latent", zorder=3)
    ax.scatter(*e.T, s=110, marker="s", color=TOKENS, edgecolor=INK, label="code", zorder=4)
    ax.set(xlabel="first number", ylabel="second number", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    figure.legend(loc="outside right upper")
    return figure


@styled
def codebook_usage(counts: dict[str, Tensor], title: str = "Are all codes of the codebook in use?") -> Figure:
    """How often each code was chosen, most used first: name -> counts (V,)."""
    figure = new_figure(8.5, 4, title)
    ax = figure.subplots()
    for color, (name, values) in zip(colours([*counts]), counts.items(), strict=True):
        shares = np.sort(as_array(values))[::-1] / as_array(values).sum()
        some = shares[shares > 0]
        perplexity = np.exp(-(some * np.log(some)).sum())
        label = f"{name}: {len(some):,} of {len(shares):,} codes, perplexity {perplexity:,.0f}"
        ax.plot(np.arange(1, len(some) + 1), 100 * some, color=color, label=label, drawstyle="steps-mid")
    ax.axhline(100 / len(shares), color="#777777", linewidth=1.5, linestyle="--", label="all equally often")
    ax.set(xlabel="codes, most used first", ylabel="share of the tokens (%)", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "25" else "")
    figure.legend(loc="outside lower left")
    return figure


@styled
def auxiliary_target(
    pixels: Tensor, outputs: Tensor | None = None, grid: int = 4, title: str = "What must the prefix tokens show?"
) -> Figure:
    """The first row of a picture, the K patches that the prefix outputs are compared with, and the outputs
    (K, 3, p, p) if given."""
    patch = pixels.shape[-1] // grid
    target = prefix_target(pixels.reshape(1, *pixels.shape[-3:]), patch)[0]  # (K, 3, p, p)
    strips = {"target": target} | ({"output": outputs.reshape(target.shape)} if outputs is not None else {})
    figure = new_figure(9, 2.9 + 0.15 * len(strips), title)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2.1))
    ax = left.subplots()
    under(ax, rgb(pixels), grid)
    frame(ax, Board(0, grid))
    row = {"fill": False, "edgecolor": WITH_PREFIX, "linewidth": 4}
    ax.add_patch(Rectangle((-0.5, -0.5), grid, 1, zorder=5, clip_on=False, **row))
    ax.add_patch(Rectangle((-0.42, -0.42), 0.84, 0.84, fill=False, edgecolor=RED, linewidth=4, zorder=5))
    axes = right.subplots(len(strips), grid + 1, squeeze=False)
    for line, (name, patches) in zip(axes, strips.items(), strict=True):
        line[0].set_ylabel(name)
        for token, ax in enumerate(line):
            no_ticks(ax)
            ax.imshow(rgb(patches[token]))
            for side in ax.spines.values():
                side.set(visible=name == "target", color=WITH_PREFIX if token else RED, linewidth=4)
            if name == "target":
                ax.set_title(str(token) if grid > 6 else f"token {token}", fontsize=12)
    return figure


@styled
def change_map(
    before: Tensor, after: Tensor, change: Tensor, names: Sequence[str] = ("before", "after"), title: str = ""
) -> Figure:
    """Two pictures and the change of each patch (G, G) from one to the other."""
    values = as_array(change)
    grid, norm = len(values), Normalize(0, max(float(values.max()), 1e-6))
    figure, axes = panels(title or "Which patches moved?", [grid] * 3, [grid], top=0.5, across=0.7)
    for ax, picture, name in zip(axes[0], (before, after), names, strict=False):
        under(ax, rgb(picture), grid)
        frame(ax, Board(0, grid), name)
    heat(axes[0, 2], values.flatten(), norm, "{:.2f}" if grid < 5 else "")
    frame(axes[0, 2], Board(0, grid), "change")
    colorbar(figure, axes[0, 2], norm, "mean change")
    return figure


# ---------------------------------------------------------------- rate and distortion


@styled
def rate_charts(
    charts: dict[str, dict[str, Sequence[tuple[float, float]]]],
    joined: Sequence[str] = (),
    title: str = "What do a picture's bits buy?",
) -> Figure:
    """Numbers over bits per image: title of a chart -> row -> a point (bits, value) for each tokenizer.

    `joined` names rows whose means a line joins, in order: one tokenizer with smaller and larger codebooks.
    """
    figure = new_figure(4.4 * len(charts), 3.8, title)
    axes = figure.subplots(1, len(charts), squeeze=False)[0]
    for ax, (label, rows) in zip(axes, charts.items(), strict=True):
        looks = [colour_of(name) or colour for name, colour in zip(rows, colours([*rows]), strict=True)]
        for number, ((name, points), color) in enumerate(zip(rows.items(), looks, strict=True)):
            x, y = zip(*points, strict=True)
            shape = "os^Dv"[looks[:number].count(color) % 5]  # rows of one kind have one colour
            ax.plot(x, y, shape, color=color, markersize=5, alpha=0.8, label=name)
        line = [np.mean(rows[name], axis=0) for name in joined if name in rows]
        if line:
            ax.plot(*zip(*line, strict=True), color=INK, linewidth=0.8, alpha=0.5, zorder=0)
        ax.set_xlabel("bits per image")
        ax.set_title(label, loc="left", fontsize="medium")
    legend(figure)
    return figure
