"""Figures that explain an idea: next-token prediction, temperature, guidance, positions, orders, stages."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from ..core.sampling import guidance_ramp
from ..measure.board import geometry
from .colours import INK, OTHERS, PALE, PLAIN, SKY, TOKENS
from .panels import Board, as_array, colorbar, frame, heat, new_figure, no_ticks, panels, rgb, styled, under

# ---------------------------------------------------------------- the AR model


@styled
def next_token_shift(
    ids: Tensor, count: int = 6, title: str = "What does the AR model read, and what must it predict?"
) -> Figure:
    """The first ids of a picture as inputs, behind the class token, and as targets one place to the left."""
    texts = [str(id_) for id_ in as_array(ids).astype(int)[:count]]
    figure = new_figure(9, 2.3, title)
    ax = figure.subplots()
    no_ticks(ax)
    for i in range(count):
        for y, text in ((0, ["class", *texts][i]), (1.5, texts[i])):
            face = SKY if (y, i) == (0, 0) else TOKENS
            ax.add_patch(FancyBboxPatch((i - 0.36, y - 0.28), 0.72, 0.56, "round,pad=0.04", facecolor=face, alpha=0.6))
            ax.text(i, y, text, ha="center", va="center", fontsize=14)
        ax.add_patch(FancyArrowPatch((i, 0.36), (i, 1.14), arrowstyle="-|>", mutation_scale=16, color=INK))
        if i < count - 1:
            ax.add_patch(
                FancyArrowPatch(
                    (i + 0.2, 1.14), (i + 0.8, 0.36), ls=":", color="#777777", arrowstyle="->", mutation_scale=12
                )
            )
    ax.set(xlim=(-0.6, count - 0.3), ylim=(-0.5, 2))
    ax.set_yticks([0, 1.5], ["input", "target"], fontsize=14)
    ax.tick_params(length=0)
    return figure


@styled
def temperatures(
    logits: Tensor, values: Sequence[float] = (0.5, 1.0, 2.0), top: int = 10, title: str = "What does temperature do?"
) -> Figure:
    """The probabilities of the likeliest codes from logits (V,) at some temperatures, and their entropy."""
    figure = new_figure(9, 3.4, title)
    order = np.argsort(-as_array(logits))
    for value, ax in zip(values, figure.subplots(1, len(values), sharey=True), strict=True):
        scaled = as_array(logits)[order] / value
        p = np.exp(scaled - scaled.max())
        p /= p.sum()
        entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
        ax.bar(np.arange(min(top, len(p))), p[:top], color=PLAIN)
        ax.set(title=f"temperature {value:g}\n{entropy:.1f} nats", xlabel="codes, likeliest first", xticks=())
    figure.axes[0].set_ylabel("probability")
    return figure


@styled
def guidance_ramps(
    named: dict[str, tuple[float, float]],
    tokens: int,
    prefix_tokens: int = 0,
    title: str = "How strong is the guidance at each token?",
) -> Figure:
    """The guidance scale over the tokens of a picture: name -> (guidance g, power p)."""
    figure = new_figure(8.5, 4, title)
    ax = figure.subplots()
    for color, (name, (guidance, power)) in zip(OTHERS, named.items(), strict=False):
        label = f"{name}: g = {guidance:g}, p = {power:g}"
        ax.plot(as_array(guidance_ramp(tokens, guidance, power)), color=color, label=label)
    if prefix_tokens:
        ax.axvspan(-0.5, prefix_tokens - 0.5, color=PALE, zorder=0, label="prefix tokens")
    ax.axhline(1, color="#777777", linewidth=1.5, linestyle="--", label="1: no guidance")
    ax.set(xlabel="token", ylabel="guidance scale", xlim=(-0.5, tokens - 0.5))
    figure.legend(loc="outside right upper")
    return figure


@styled
def rope_phases(
    table: Tensor, prefix_tokens: int, grid: int, title: str = "How does RoPE tell the AR model where a token stands?"
) -> Figure:
    """Phases of a RoPE table (1 + T, d/2, 2): the class token's row is zero, the prefix counts in one dimension, of
    the image one half of the pairs counts rows and the other columns."""
    cos, sin = np.moveaxis(as_array(table), -1, 0)  # (1 + T, d/2)
    phase = np.where(cos**2 + sin**2 > 0, np.arctan2(sin, cos), np.nan)
    pieces = {"class": phase[:1], "prefix": phase[1 : 1 + prefix_tokens], "image": phase[1 + prefix_tokens :]}
    pieces = {name: piece for name, piece in pieces.items() if len(piece)}
    figure = new_figure(8.5, 5.2, title)
    axes = figure.subplots(
        len(pieces), 1, height_ratios=[{"class": 1, "prefix": 3, "image": 8}[name] for name in pieces]
    )
    cmap, middle = matplotlib.colormaps["twilight"].with_extremes(bad=PALE), phase.shape[1] / 2 - 0.5
    for ax, (name, piece) in zip(axes, pieces.items(), strict=True):
        shown = ax.imshow(piece, cmap=cmap, vmin=-np.pi, vmax=np.pi, aspect="auto")
        starts = np.arange(0, len(piece), grid * math.ceil(grid / 5) if name == "image" else math.ceil(len(piece) / 5))
        names = [f"({start // grid}, 0)" if name == "image" else str(start) for start in starts]
        ax.set(ylabel=name, yticks=starts if name != "class" else (), xticks=())
        ax.set_yticklabels(names if name != "class" else [])
        ax.spines[:].set_visible(False)
    axes[0].set_ylabel("class", rotation=0, ha="right", va="center")
    axes[0].text(middle, 0, "all zero: its score is 0 for every later query", ha="center", va="center", fontsize=12)
    axes[-1].axvline(middle, color="white", linewidth=5)
    halves = ["first half of the pairs turns with the row", "second half with the column"]
    axes[-1].set_xticks([middle / 2 - 0.25, middle * 1.5 + 0.25], halves)
    axes[-1].tick_params(axis="x", length=0)
    bar = figure.colorbar(shown, ax=axes, label="angle that query and key are turned by", aspect=28)
    bar.set_ticks([-np.pi, 0, np.pi], labels=["-π", "0", "π"])
    return figure


@styled
def drawing(
    moments: Sequence[tuple[Tensor, Tensor]], tokens: int, title: str = "Where does the model hesitate?"
) -> Figure:
    """Sampling under way: for each moment the picture so far and, below, the entropy (t,) in nats of the predictions
    of its t tokens, out of `tokens` in all."""
    board = Board(*geometry(tokens))
    norm = Normalize(0, max(float(entropy.max()) for _, entropy in moments))
    form = "{:.1f}" if len(moments) < 4 else "{:.0f}"  # many boards have narrow cells
    room = {"left": 0.15, "top": 0.4, "bottom": 0.12, "across": 0.2}
    figure, axes = panels(title, [board.width] * len(moments), [board.grid, board.height], 0.5, **room)
    for (upper, lower), (pixels, entropy) in zip(axes.T, moments, strict=True):
        values = np.full(tokens, np.nan)
        values[: len(entropy)] = as_array(entropy)
        heat(lower, values, norm, form if board.grid < 5 else "")
        frame(lower, board, labels=False)
        under(upper, rgb(pixels), board.grid)
        frame(upper, Board(0, board.grid), f"{len(entropy)} of {tokens} tokens", labels=False)
        upper.set_xlim(lower.get_xlim())  # patches stand above their tokens
    colorbar(figure, axes[1], norm, "entropy (nats)")
    return figure


# ---------------------------------------------------------------- ideas


@styled
def scan_orders(named: dict[str, Sequence[int]], title: str = "In which order are the patches told?") -> Figure:
    """Scan orders of a grid: name -> patch numbers (in raster counting) in the order of the sequence."""
    figure = new_figure(min(9, 3.1 * len(named)), 3.2, title)
    for ax, (name, order) in zip(figure.subplots(1, len(named), squeeze=False)[0], named.items(), strict=True):
        grid = math.isqrt(len(order))
        y, x = np.divmod(np.asarray(order), grid)
        ax.plot(x, y, color="#999999", linewidth=2, zorder=1)
        ax.scatter(x, y, c=np.arange(len(order)), s=330 if grid < 6 else 60, cmap="cividis", zorder=2)
        if grid < 6:
            for step, place in enumerate(zip(x, y, strict=True)):
                color = "white" if step < 0.6 * len(order) else INK
                ax.text(*place, str(step), ha="center", va="center", fontsize=12, color=color)
        ax.set(title=name, aspect="equal", xlim=(-0.6, grid - 0.4), ylim=(grid - 0.4, -0.6))
        no_ticks(ax)
    return figure


@styled
def two_stages(title: str = "Who learns in which stage?") -> Figure:
    """A diagram of the two stages: what is trained, what is frozen, which decoder is used."""
    figure = new_figure(9, 3.2, title)
    ax = figure.subplots()
    no_ticks(ax)
    stages = {
        "stage 1": ("causal decoder", (True, True, True)),
        "stage 2": ("bidirectional\ndecoder", (False, False, True)),
    }
    for row, (name, (decoder, trained)) in enumerate(stages.items()):
        ax.text(-0.15, -1.6 * row, name, fontsize=15, weight="bold", va="center", ha="right")
        for column, (name_of_part, learns) in enumerate(
            zip(("encoder\nand queries", "codebook", decoder), trained, strict=True)
        ):
            x, y, color, hatch = 2.1 * column, -1.6 * row, *((SKY, "") if learns else (PALE, "//"))
            box = FancyBboxPatch((x + 0.1, y - 0.42), 1.5, 0.84, "round,pad=0.06", fc=color, ec="#999999", hatch=hatch)
            ax.add_patch(box)
            text = ax.text(x + 0.85, y, name_of_part, ha="center", va="center", fontsize=14)
            text.set_path_effects([withStroke(linewidth=4, foreground=color)])
            if column:
                ax.add_patch(FancyArrowPatch((x - 0.42, y), (x + 0.02, y), arrowstyle="-|>", mutation_scale=18, fc=INK))
    ax.add_patch(FancyArrowPatch((2.95, -0.5), (2.95, -1.1), arrowstyle="-|>", mutation_scale=18, fc=INK))
    ax.text(3.1, -0.8, "the same ids", va="center", fontsize=13)
    for label, color, hatch in (("trained", SKY, ""), ("frozen", PALE, "//")):
        ax.add_patch(Rectangle((0, 0), 0, 0, facecolor=color, hatch=hatch, edgecolor="#999999", label=label))
    ax.set(xlim=(-1.25, 6), ylim=(-2.12, 0.55))
    figure.legend(loc="outside lower right", ncols=2)
    return figure
