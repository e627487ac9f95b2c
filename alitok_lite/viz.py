"""Every figure of notebooks and app: functions of tensors that return a matplotlib Figure, in one style.

Nothing here touches pyplot, a display or a model. Pictures are (3, S, S) or (1, 3, S, S) in [0, 1]. Values "of tokens"
are (T,), prefix first; whether there is a prefix follows from T, which is G*G without one and 1 + G + G*G with one.
Style, cells and panels are in panels.py.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from . import probe
from .config import TokenizerConfig
from .losses import prefix_target
from .model import AliTok
from .panels import (
    BLUE,
    INK,
    ORANGE,
    PALE,
    RED,
    SERIES,
    SKY,
    VIRIDIS,
    YELLOW,
    Board,
    as_array,
    cell_text,
    cells,
    colorbar,
    frame,
    geometry,
    heat,
    legend,
    new_figure,
    no_ticks,
    outline,
    panels,
    rgb,
    styled,
    to_png,
    token_name,
    under,
)
from .panels import to_picture as to_picture  # for the app
from .sampling import guidance_ramp

if TYPE_CHECKING:
    import ipywidgets

# Reported for ImageNet at 256 px with AliTok-B (paper.md, ablation): AR top-1 accuracy in %, gFID, rFID.
REPORTED = {
    "A": {"top-1": 5.4, "gFID": 2.96, "rFID": 0.98, "gFID - rFID": 1.98},
    "B": {"top-1": 10.7, "gFID": 1.88, "rFID": 1.07, "gFID - rFID": 0.81},
    "C": {"top-1": 9.7, "gFID": 1.86, "rFID": 1.01, "gFID - rFID": 0.85},
    "D": {"top-1": 10.2, "gFID": 1.82, "rFID": 1.02, "gFID - rFID": 0.80},
    "E": {"top-1": 10.5, "gFID": 1.47, "rFID": 0.91, "gFID - rFID": 0.56},
    "F": {"top-1": 10.5, "gFID": 1.44, "rFID": 0.86, "gFID - rFID": 0.58},
}
PART_NAMES = dict(zip(probe.PARTS, ("encoder", "causal decoder", "bidirectional decoder", "AR model"), strict=True))


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
        ax.imshow(rgb(pixels[index]), interpolation="bicubic")
        if captions:
            ax.set_title("\n".join(_wrap(captions[index], side)), fontsize=12)
        if rows and index % columns == 0:
            ax.set_ylabel(rows[index // columns])
    return figure


def _wrap(text: str, inches: float) -> list[str]:
    """Lines of 12 point text that fit the width."""
    return [line for part in text.split("\n") for line in textwrap.wrap(part, max(6, int(inches * 9.5)))]


@styled
def token_grid(pixels: Tensor, ids: Tensor, title: str = "Which words does this picture become?") -> Figure:
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
    ax.scatter(*z.T, s=45, color=BLUE, label="latent", zorder=3)
    ax.scatter(*e.T, s=110, marker="s", color=ORANGE, edgecolor=INK, label="code", zorder=4)
    ax.set(xlabel="first number", ylabel="second number", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    figure.legend(loc="outside right upper")
    return figure


@styled
def codebook_usage(counts: dict[str, Tensor], title: str = "Are all words of the codebook in use?") -> Figure:
    """How often each code was chosen, most used first: name -> counts (V,)."""
    figure = new_figure(8.5, 4, title)
    ax = figure.subplots()
    for color, (name, values) in zip(SERIES, counts.items(), strict=False):
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
    ax.add_patch(Rectangle((-0.5, -0.5), grid, 1, fill=False, edgecolor=ORANGE, linewidth=4, zorder=5, clip_on=False))
    ax.add_patch(Rectangle((-0.42, -0.42), 0.84, 0.84, fill=False, edgecolor=RED, linewidth=4, zorder=5))
    axes = right.subplots(len(strips), grid + 1, squeeze=False)
    for line, (name, patches) in zip(axes, strips.items(), strict=True):
        line[0].set_ylabel(name)
        for token, ax in enumerate(line):
            no_ticks(ax)
            ax.imshow(rgb(patches[token]), interpolation="bicubic")
            for side in ax.spines.values():
                side.set(visible=name == "target", color=ORANGE if token else RED, linewidth=4)
            if name == "target":
                ax.set_title(str(token) if grid > 6 else f"token {token}", fontsize=12)
    return figure


@styled
def change_map(
    before: Tensor, after: Tensor, change: Tensor, names: Sequence[str] = ("before", "after"), title: str = ""
) -> Figure:
    """Two pictures and how much each patch (G, G) moved from one to the other."""
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


# ---------------------------------------------------------------- masks, attention, dependency


def _groups(ax: Axes, lengths: dict[str, int]) -> None:
    """Lines between the groups of a sequence, and their names, at both sides of a square matrix."""
    edges = np.cumsum([0, *lengths.values()])
    for edge in edges[1:-1]:
        ax.axhline(edge - 0.5, color=INK, linewidth=1.2)
        ax.axvline(edge - 0.5, color=INK, linewidth=1.2)
    middles = (edges[1:] + edges[:-1] - 1) / 2
    for i in range(1, len(middles)):  # names of short groups keep their distance
        middles[i] = max(middles[i], middles[i - 1] + 0.07 * edges[-1])
    ax.set_xticks(middles, list(lengths), rotation=90)
    ax.set_yticks(middles, list(lengths))
    ax.tick_params(length=0)


@styled
def masks(
    named: dict[str, Tensor],
    groups: dict[str, dict[str, int]] | None = None,
    leaks: dict[str, Sequence[tuple[int, int]]] | None = None,
    title: str = "Who may look at whom?",
) -> Figure:
    """Attention masks: name -> bool (queries, keys), coloured where the query may see the key.

    groups: name -> what stands in its sequence (`probe.sequence`), for lines and names; leaks: name -> the (query,
    key) pairs to paint red (`probe.find_leaks`).
    """
    columns = min(len(named), 2)
    lines = math.ceil(len(named) / columns)
    room = {"left": 1.15, "right": 0.1, "across": 1.0, "bottom": 1.05, "down": 1.15} if groups else {"right": 0.1}
    figure, axes = panels(title, [1] * columns, [1] * lines, 3.3 if lines == 1 else 2.6, **room)
    for ax in axes.flat[len(named) :]:
        ax.remove()
    for ax, (name, mask) in zip(axes.flat, named.items(), strict=False):
        seen = as_array(mask)
        for query, key in (leaks or {}).get(name, ()):
            seen[query, key] = 2
        ax.imshow(seen, cmap=ListedColormap([PALE, BLUE, RED]), vmin=0, vmax=2)
        ax.set(title=name, xlabel="looks at (key)" if ax in axes[-1] else "")
        ax.set_ylabel("who looks (query)" if ax in axes[:, 0] else "")
        ax.spines[:].set_visible(False)
        if groups and name in groups:
            _groups(ax, groups[name])
        else:
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


class _Shares(NamedTuple):
    """What one token's attention goes to, in %; empty where a part has no such thing."""

    part: str
    token: int
    front: np.ndarray  # (1,), all that stands in front of the tokens: start, class, buffers
    tokens: np.ndarray  # (T,)
    patches: np.ndarray  # (G*G,)


def _shares(weights: Tensor, config: TokenizerConfig, part: str, token: int) -> _Shares:
    """The row of a token in the weights (t, keys) of one head."""
    row = 100 * weights[probe.position(config, part, token)].float()
    pieces = {name: as_array(piece) for name, piece in probe.split(row, config, part).items()}
    front = [pieces[_front(part)].sum()] if _front(part) else []
    tokens = np.concatenate([pieces[name] for name in ("prefix", "image") if name in pieces])
    return _Shares(part, token, np.array(front), tokens, pieces.get("patch", np.zeros(0)))


def _front(part: str) -> str:
    """What stands in front of the tokens in the sequence of a part."""
    return {"causal": "start", "bidirectional": "buffer", "ar": "class"}.get(part, "")


def _scale(shown: list[_Shares]) -> Normalize:
    return Normalize(0, max(np.concatenate([one.front, one.tokens, one.patches]).max() for one in shown))


def _over_tokens(ax: Axes, pixels: Tensor, shares: _Shares, norm: Normalize, caption: str, labels: bool = True) -> None:
    """Attention of one token over the other tokens."""
    board = Board(*geometry(len(shares.tokens)), _front(shares.part))
    form = "{:.0f}" if labels and board.grid < 5 else ""
    heat(ax, shares.tokens, norm, form, pixels)
    if board.front:
        cells(ax, shares.front[None], board.place(-1), norm, over=True)
        cell_text(ax, board.place(-1), shares.front[0], norm, form)
    frame(ax, board, caption, labels)
    outline(ax, board, shares.token, ":" if shares.part == "ar" else "-", 3.5 if labels else 2)


def _over_patches(
    ax: Axes, pixels: Tensor, shares: _Shares, norm: Normalize, caption: str, labels: bool = True
) -> None:
    """The encoder's attention of one latent query over the patches; of other parts, the picture itself."""
    prefix, grid = geometry(len(shares.tokens))
    if len(shares.patches):
        heat(ax, shares.patches, norm, "{:.0f}" if labels and grid < 5 else "", pixels)
    else:
        under(ax, rgb(pixels), grid)
    board, token = Board(0, grid, room=labels), shares.token
    frame(ax, board, caption, labels)
    outline(ax, board, token - prefix if token >= prefix else max(token - 1, 0), ":", 3.5 if labels else 2)


@styled
def attention(
    pixels: Tensor, weights: Tensor, config: TokenizerConfig, part: str, token: int, head: int | None = None
) -> Figure:
    """Where one token looks: weights (H, t, keys) of one layer of a part, painted over the picture.

    head None is the mean of all heads. The red frame is the token that looks, dotted where it only belongs. Of the
    encoder, the left panel shows the patches and the right one the latent queries.
    """
    grid, prefix = config.grid, config.prefix_tokens
    shares = _shares(weights.float().mean(0) if head is None else weights[head], config, part, token)
    norm = _scale([shares])
    board = Board(prefix, grid, _front(part), room=True)
    title = f"What does {token_name(token, prefix, grid)} look at?"
    figure, axes = panels(title, [grid, board.width], [board.height], top=0.68, across=0.45)
    left, right = axes[0]
    whose = "mean of the heads" if head is None else f"head {head}"
    _over_patches(left, pixels, shares, norm, f"{PART_NAMES[part]},\n{whose}")
    sums = {board.front: shares.front.sum(), "patches": shares.patches.sum()}
    sums |= {"prefix": shares.tokens[:prefix].sum(), "image": shares.tokens[prefix:].sum()}
    there = ", ".join(f"{name} {share:.0f} %" for name, share in sums.items() if share)
    _over_tokens(right, pixels, shares, norm, there)
    colorbar(figure, right, norm, "share of the attention (%)")
    return figure


@styled
def attention_heads(pixels: Tensor, weights: Tensor, config: TokenizerConfig, part: str, token: int) -> Figure:
    """As `attention`, one small panel for each head; of the encoder, the patches.

    The scale ends at 40 %, so that one steep head does not darken the others.
    """
    grid, prefix, heads = config.grid, config.prefix_tokens, len(weights)
    columns, encoder = min(4, heads), part == "encoder"
    shown = [_shares(head, config, part, token) for head in weights]
    most = _scale(shown).vmax
    norm = Normalize(0, min(most, 40))
    board = Board(0 if encoder else prefix, grid, _front(part))
    room = {"left": 0.2, "top": 0.6, "bottom": 0.15, "across": 0.25, "down": 0.58}
    title = f"What does each head look at for {token_name(token, prefix, grid)}? ({PART_NAMES[part]})"
    figure, axes = panels(title, [board.width] * columns, [board.height] * math.ceil(heads / columns), 2, **room)
    for ax in axes.flat[heads:]:
        ax.remove()
    for index, (ax, shares) in enumerate(zip(axes.flat, shown, strict=False)):
        share = (shares.patches if encoder else shares.tokens[prefix:]).sum()
        caption = f"head {index}\n{'patches' if encoder else 'image'} {share:.0f} %"
        (_over_patches if encoder else _over_tokens)(ax, pixels, shares, norm, caption, labels=False)
    colorbar(figure, axes[0], norm, "attention (%)" if most <= 40 else "attention (%), up to 40")
    return figure


@styled
def attention_matrix(weights: Tensor, config: TokenizerConfig, part: str, title: str = "") -> Figure:
    """Who looks at whom in one layer of a part: weights (t, keys) of a head, or (H, t, keys) for their mean."""
    values = as_array(weights.float().mean(0) if weights.ndim == 3 else weights)
    norm = PowerNorm(0.5, 0, values.max())
    figure = new_figure(6.4, 5.2, title or f"Who looks at whom? ({PART_NAMES[part]})")
    ax = figure.subplots()
    ax.imshow(np.ma.masked_equal(values, 0), norm=norm, cmap=VIRIDIS)
    ax.set(xlabel="looks at (key)", ylabel="who looks (query)")
    _groups(ax, probe.sequence(config, part))
    colorbar(figure, ax, norm, "share of the attention")
    return figure


@styled
def dependency_maps(
    named: dict[str, Tensor],
    label: str = "mean change of the pixels",
    title: str = "Which patches move when one token is changed?",
) -> Figure:
    """Dependency maps (T, G*G) side by side, with one scale; what is exactly 0 is pale.

    Steps mark the border of causality: below them, the token comes after the patch's own.
    """
    norm = PowerNorm(0.5, 0, max(float(values.max()) for values in named.values()))
    figure = new_figure(min(9, 0.9 + 4.3 * len(named)), 4.9, title)
    axes = figure.subplots(1, len(named), squeeze=False)[0]
    for ax, (name, values) in zip(axes, named.items(), strict=True):
        tokens, patches = values.shape
        grid, prefix = math.isqrt(patches), tokens - patches
        ax.imshow(np.ma.masked_equal(as_array(values), 0), norm=norm, cmap=VIRIDIS, aspect="auto")
        ax.stairs(np.arange(prefix, tokens) + 0.5, np.arange(patches + 1) - 0.5, baseline=None, color=RED, linewidth=2)
        if prefix:
            ax.axhline(prefix - 0.5, color="white", linewidth=2)
        step = grid * math.ceil(grid / 4)
        starts = np.arange(0, patches, step)
        names = [f"({start // grid}, 0)" for start in starts]
        ax.set_xticks(starts, names)
        ax.set_yticks([*([prefix / 2 - 0.5] if prefix else []), *(starts + prefix)], ["prefix"] * bool(prefix) + names)
        ax.set(title=name, xlabel="patch (row, column)", ylabel="token that is changed" if ax is axes[0] else "")
    colorbar(figure, list(axes), norm, label)
    return figure


# ---------------------------------------------------------------- numbers at positions and in rows


@styled
def position_maps(
    named: dict[str, Tensor], label: str = "nats", title: str = "Where are the tokens hard?", form: str = ""
) -> Figure:
    """Numbers at every token, name -> (T,), as heat maps with one scale; NaN is pale. `form` writes the numbers."""
    values = {name: as_array(numbers) for name, numbers in named.items()}
    every = np.concatenate(list(values.values()))
    norm = Normalize(min(0, np.nanmin(every)), np.nanmax(every))
    form = form or ("{:.0f}" if (every[np.isfinite(every)] % 1 == 0).all() else "{:.1f}")
    shapes = [geometry(len(numbers)) for numbers in values.values()]
    boards = [Board(*shape, room=any(prefix for prefix, _ in shapes)) for shape in shapes]
    rows = [max(board.height for board in boards)]
    room = {"top": 0.72 if boards[0].room else 0.45, "across": 0.6}
    figure, axes = panels(title, [board.width for board in boards], rows, **room)
    for ax, (name, numbers), board in zip(axes[0], values.items(), boards, strict=True):
        heat(ax, numbers, norm, form if board.grid < 5 else "")
        frame(ax, board, name)
    colorbar(figure, axes[0, -1], norm, label)
    return figure


@styled
def row_profiles(
    named: dict[str, Tensor | tuple[Tensor, Tensor]],
    label: str = "mean squared error",
    title: str = "Does the first row suffer?",
) -> Figure:
    """A number for each row of patches: name -> (G,), or (mean, spread) of several runs."""
    figure = new_figure(8, 4, title)
    ax = figure.subplots()
    for color, marker, (name, given) in zip(SERIES, "osD^vP", named.items(), strict=False):
        mean, spread = given if isinstance(given, tuple) else (given, None)
        rows = np.arange(len(mean))
        yerr = None if spread is None else as_array(spread)
        ax.errorbar(rows, as_array(mean), yerr, color=color, marker=marker, capsize=5, label=name)
    ax.set(xlabel="row of patches (0 is the top)", ylabel=label, xticks=rows)
    ax.set_ylim(bottom=0)
    legend(figure)
    return figure


@styled
def curves(named: dict[str, tuple[Sequence, Sequence]], xlabel: str, ylabel: str, title: str) -> Figure:
    """Lines: name -> (x, y); for the loss of a training, or for a knob that is turned."""
    figure = new_figure(8, 4, title)
    ax = figure.subplots()
    for color, (name, (x, y)) in zip(SERIES, named.items(), strict=False):
        ax.plot(as_array(x), as_array(y), color=color, label=name, marker="o" if len(x) < 20 else "")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    legend(figure)
    return figure


@styled
def ablation(
    rows: dict[str, dict],
    number: str,
    label: str,
    reported: str = "",
    title: str = "What does each part of AliTok buy?",
    form: str = "",
) -> Figure:
    """One number of an ablation's rows with its spread over seeds, beside what the paper's table reports.

    rows: as `ablation.summarise` makes them, name -> {"title", "mean": {number: ...}, "spread": {number: ...}}; a row
    of one seed has no spread. reported: a column of `REPORTED`; a row that is not in there leaves its place empty.
    form: writes a number, as in `bars`.
    Raises ValueError when no row has that number.
    """
    if not any(number in row["mean"] for row in rows.values()):
        raise ValueError(
            f"no row has {number!r}; they have {', '.join(sorted({k for r in rows.values() for k in r['mean']}))}"
        )
    titles = ["\n".join(textwrap.wrap(f"{name}: {row['title']}", 26)) for name, row in rows.items()]
    means = np.array([row["mean"].get(number, np.nan) for row in rows.values()], float)
    spreads = np.array([row["spread"].get(number, 0) for row in rows.values()], float)
    figure = new_figure(9, 1.1 + 0.55 * len(rows), title)
    axes = figure.subplots(1, 2 if reported else 1, squeeze=False, sharey=True)[0]
    _bars(axes[0], titles, means, spreads, BLUE, label, form)
    if reported:
        values = np.array([REPORTED.get(name, {}).get(reported, np.nan) for name in rows], float)
        unit = f"{reported}{' (%)' * (reported == 'top-1')}\nreported for ImageNet"
        _bars(axes[1], titles, values, np.zeros(len(rows)), ORANGE, unit)
    return figure


@styled
def bars(named: dict[str, float | tuple[float, float]], label: str, title: str, form: str = "") -> Figure:
    """Numbers to compare: name -> value, or (mean, spread). `form` writes a number; without it, three digits do."""
    values = [value if isinstance(value, tuple) else (value, 0) for value in named.values()]
    means, spreads = np.array(values, float).T
    figure = new_figure(9, 1 + 0.5 * len(named), title)
    _bars(figure.subplots(), ["\n".join(textwrap.wrap(name, 30)) for name in named], means, spreads, BLUE, label, form)
    return figure


def _bars(
    ax: Axes, names: list[str], means: np.ndarray, spreads: np.ndarray, color: str, label: str, form: str = ""
) -> None:
    """Horizontal bars from 0 with whiskers and numbers at their ends, the first on top; NaN leaves its place empty."""
    places = np.arange(len(names))
    ax.barh(places, means, 0.62, color=color, alpha=0.85)
    digits = max(0, 2 - math.floor(math.log10(max(np.nanmax(np.abs(means)), 1e-9))))
    form = form or f"{{:,.{digits}f}}"
    for place, mean, spread in zip(places, means, spreads, strict=True):
        if np.isnan(mean):
            continue
        if spread > 0:
            ax.errorbar(mean, place, xerr=spread, color=INK, capsize=4, linewidth=1.8)
        text = form.format(mean) + f" ± {form.format(spread).lstrip('+')}" * bool(spread > 0)
        side = -1 if mean < 0 else 1
        look = {"textcoords": "offset points", "va": "center", "ha": "right" if mean < 0 else "left", "fontsize": 12}
        ax.annotate(text, (mean + side * spread, place), (6 * side, 0), **look)
    low, high = min(0, np.nanmin(means - spreads)), max(0, np.nanmax(means + spreads))
    left, right = bool(np.nanmin(means) < 0), bool(np.nanmax(means) > 0)  # where there are numbers
    share = 0.19 * len(ax.figure.axes)  # of the panel's width, for the numbers at one side
    room = share / (1 - share * (left + right)) * (high - low)
    ax.set(yticks=places, xlabel=label, xlim=(low - room * left, high + room * right))
    ax.set_yticks(places, names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(axis="y", length=0)


@styled
def stacked(named: dict[str, dict[str, float]], label: str, title: str, form: str = "{:.0f}") -> Figure:
    """What sums are made of: name -> part -> number, a bar for each name, its parts side by side in one order.

    `form` writes a part's number into it where there is room.
    """
    parts = list(dict.fromkeys(part for row in named.values() for part in row))
    figure = new_figure(9, 1.6 + 0.55 * len(named), title)
    ax, places = figure.subplots(), np.arange(len(named))
    longest = max(sum(row.values()) for row in named.values())
    left = np.zeros(len(named))
    for color, part in zip(SERIES, parts, strict=False):
        values = np.array([row.get(part, 0) for row in named.values()], float)
        ax.barh(places, values, 0.66, left, color=color, edgecolor="white", linewidth=1.5, label=part)
        for place, value, start in zip(places, values, left, strict=True):
            if value > 0.02 * longest * len(form.format(value)):
                look = {"color": "white" if color == BLUE else INK, "ha": "center", "va": "center", "fontsize": 12}
                ax.text(start + value / 2, place, form.format(value), **look)
        left += values
    ax.set(xlabel=label, xlim=(0, 1.02 * longest), ylim=(len(named) - 0.5, -0.5))
    ax.set_yticks(places, ["\n".join(textwrap.wrap(name, 26)) for name in named])
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.tick_params(axis="y", length=0)
    legend(figure)
    return figure


# ---------------------------------------------------------------- the AR model


@styled
def next_token_shift(
    ids: Tensor, count: int = 6, title: str = "What does the AR model see, and what must it say?"
) -> Figure:
    """The first ids of a picture as inputs, behind the class token, and as targets one place to the left."""
    words = [str(id_) for id_ in as_array(ids).astype(int)[:count]]
    figure = new_figure(9, 2.3, title)
    ax = figure.subplots()
    no_ticks(ax)
    for i in range(count):
        for y, text, color in ((0, ["class", *words][i], SKY), (1.5, words[i], ORANGE)):
            face = YELLOW if (y, i) == (0, 0) else color
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
    for color, value, ax in zip(SERIES, values, figure.subplots(1, len(values), sharey=True), strict=False):
        scaled = as_array(logits)[order] / value
        p = np.exp(scaled - scaled.max())
        p /= p.sum()
        entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
        ax.bar(np.arange(min(top, len(p))), p[:top], color=color)
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
    for color, (name, (guidance, power)) in zip(SERIES, named.items(), strict=False):
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
    """A drawing under way: for each moment the picture so far and, below, the entropy (t,) in nats of the predictions
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
    """Orders of a grid: name -> patch numbers (in raster counting) in the order in which they are told."""
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
    """A diagram of the two stages: what is trained, what is frozen, which decoder."""
    figure = new_figure(9, 3.2, title)
    ax = figure.subplots()
    no_ticks(ax)
    stages = {
        "stage 1": ("causal decoder", (True, True, True)),
        "stage 2": ("bidirectional\ndecoder", (False, False, True)),
    }
    for row, (name, (decoder, trained)) in enumerate(stages.items()):
        ax.text(-0.15, -1.6 * row, name, fontsize=15, weight="bold", va="center", ha="right")
        for column, (words, learns) in enumerate(
            zip(("encoder\nand queries", "codebook", decoder), trained, strict=True)
        ):
            x, y, color, hatch = 2.1 * column, -1.6 * row, *((ORANGE, "") if learns else (PALE, "//"))
            box = FancyBboxPatch((x + 0.1, y - 0.42), 1.5, 0.84, "round,pad=0.06", fc=color, ec="#999999", hatch=hatch)
            ax.add_patch(box)
            text = ax.text(x + 0.85, y, words, ha="center", va="center", fontsize=14)
            text.set_path_effects([withStroke(linewidth=4, foreground=color)])
            if column:
                ax.add_patch(FancyArrowPatch((x - 0.42, y), (x + 0.02, y), arrowstyle="-|>", mutation_scale=18, fc=INK))
    ax.add_patch(FancyArrowPatch((2.95, -0.5), (2.95, -1.1), arrowstyle="-|>", mutation_scale=18, fc=INK))
    ax.text(3.1, -0.8, "the same ids", va="center", fontsize=13)
    for label, color, hatch in (("trained", ORANGE, ""), ("frozen", PALE, "//")):
        ax.add_patch(Rectangle((0, 0), 0, 0, facecolor=color, hatch=hatch, edgecolor="#999999", label=label))
    ax.set(xlim=(-1.25, 6), ylim=(-2.12, 0.55))
    figure.legend(loc="outside lower right", ncols=2)
    return figure


# ---------------------------------------------------------------- the explorer


def attention_explorer(model: AliTok, pixels: Tensor, label: int | None = None) -> "ipywidgets.VBox":
    """An ipywidgets viewer of the attention on one picture (1, 3, S, S): choose part, layer, head and token; a patch is
    chosen by clicking its button. `attention` gives the same picture without a kernel."""
    import ipywidgets as widgets  # only notebooks have it running

    config, maps = model.tokenizer.config, probe.attention_of(model, pixels, label)
    part = widgets.Dropdown(options=[(PART_NAMES[name], name) for name in maps], description="part")
    layer = widgets.IntSlider(max=0, description="layer")
    head = widgets.Dropdown(options=_heads(maps[part.value]), description="head")
    token = widgets.IntSlider(config.prefix_tokens, 0, config.tokens - 1, description="token")
    picture = widgets.Image(format="png", layout={"width": "auto", "max_width": "100%", "align_self": "flex-start"})

    def fit(_: object = None) -> None:
        """Parts differ in layers and heads."""
        layer.max = len(maps[part.value]) - 1
        if head.options != _heads(maps[part.value]):
            head.options = _heads(maps[part.value])

    def show(_: object = None) -> None:
        weights, one = maps[part.value][layer.value], None if head.value < 0 else head.value
        picture.value = to_png(attention(pixels, weights, config, part.value, token.value, one))

    fit()
    show()
    part.observe(fit, "value")
    for control in (part, layer, head, token):
        control.observe(show, "value")
    controls = widgets.VBox([part, layer, head, token], layout={"flex": "0 0 auto"})
    return widgets.VBox([widgets.HBox([controls, _token_buttons(config, token)]), picture])


def _heads(layers: list[Tensor]) -> tuple[tuple[str, int], ...]:
    """What the explorer offers as heads; -1 is their mean."""
    return (("mean of the heads", -1), *((f"head {i}", i) for i in range(len(layers[0]))))


def _token_buttons(config: TokenizerConfig, token: "ipywidgets.IntSlider") -> "ipywidgets.VBox":
    """A button for each token, standing as on the picture; a click sets the slider, the slider marks its button."""
    import ipywidgets as widgets

    prefix, grid = config.prefix_tokens, config.grid
    size = "34px" if grid <= 8 else "20px"
    look = {"width": size, "height": size, "padding": "0", "margin": "1px", "flex": "0 0 auto"}
    buttons = []
    for index in range(config.tokens):
        text = f"p{index}" if index < prefix else "{},{}".format(*divmod(index - prefix, grid))
        button = widgets.Button(
            description=text if grid <= 8 else "", tooltip=token_name(index, prefix, grid), layout=look
        )
        button.on_click(lambda _, index=index: setattr(token, "value", index))
        buttons.append(button)

    def mark(_: object = None) -> None:
        for index, button in enumerate(buttons):
            button.style.button_color = ORANGE if index == token.value else SKY if index < prefix else PALE

    mark()
    token.observe(mark, "value")
    rows = [buttons[:prefix]] * bool(prefix)
    for first in range(prefix, config.tokens, grid):  # an empty place stands under the corner's prefix token
        corner = [widgets.Label(layout=look)] * bool(prefix)
        rows.append([*corner, *buttons[first : first + grid]])
    return widgets.VBox([widgets.HBox(row) for row in rows], layout={"margin": "0 0 0 24px"})


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
        for color, (name, points) in zip(SERIES, rows.items(), strict=False):
            x, y = zip(*points, strict=True)
            ax.plot(x, y, "o", color=color, markersize=5, alpha=0.8, label=name)
        line = [np.mean(rows[name], axis=0) for name in joined if name in rows]
        if line:
            ax.plot(*zip(*line, strict=True), color=INK, linewidth=0.8, alpha=0.5, zorder=0)
        ax.set_xlabel("bits per image")
        ax.set_title(label, loc="left", fontsize="medium")
    legend(figure)
    return figure
