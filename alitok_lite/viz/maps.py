"""Figures of attention masks, attention weights and dependency maps."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..core.config import TokenizerConfig
from ..measure import probe
from ..measure.board import geometry
from ..measure.probe import token_name
from .colours import INK, PALE, RED, SKY
from .panels import (
    VIRIDIS,
    Board,
    as_array,
    cell_text,
    cells,
    colorbar,
    frame,
    heat,
    new_figure,
    outline,
    panels,
    rgb,
    styled,
    under,
)

PART_NAMES = dict(zip(probe.PARTS, ("encoder", "causal decoder", "bidirectional decoder", "AR model"), strict=True))


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
    title: str = "Which token may attend to which?",
) -> Figure:
    """Attention masks: name -> bool (queries, keys), coloured where the query may attend to the key.

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
        ax.imshow(seen, cmap=ListedColormap([PALE, SKY, RED]), vmin=0, vmax=2)
        ax.set(title=name, xlabel="attended to (key)" if ax in axes[-1] else "")
        ax.set_ylabel("attends (query)" if ax in axes[:, 0] else "")
        ax.spines[:].set_visible(False)
        if groups and name in groups:
            _groups(ax, groups[name])
        else:
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


class Shares(NamedTuple):
    """Attention weights of one token, in %; empty where a part has no such tokens."""

    part: str
    token: int
    front: np.ndarray  # (1,), all that stands in front of the tokens: start, class, buffers
    tokens: np.ndarray  # (T,)
    patches: np.ndarray  # (G*G,)


def shares_of_attention(weights: Tensor, config: TokenizerConfig, part: str, token: int) -> Shares:
    """The row of a token in the weights (t, keys) of one head."""
    row = 100 * weights[probe.position(config, part, token)].float()
    pieces = {name: as_array(piece) for name, piece in probe.split(row, config, part).items()}
    front = [pieces[front_of(part)].sum()] if front_of(part) else []
    tokens = np.concatenate([pieces[name] for name in ("prefix", "image") if name in pieces])
    return Shares(part, token, np.array(front), tokens, pieces.get("patch", np.zeros(0)))


def front_of(part: str) -> str:
    """What stands in front of the tokens in the sequence of a part."""
    return {"causal": "start", "bidirectional": "buffer", "ar": "class"}.get(part, "")


def scale_of(shown: list[Shares]) -> Normalize:
    return Normalize(0, max(np.concatenate([one.front, one.tokens, one.patches]).max() for one in shown))


def _over_tokens(ax: Axes, pixels: Tensor, shares: Shares, norm: Normalize, caption: str, labels: bool = True) -> None:
    """Attention of one token over the other tokens."""
    board = Board(*geometry(len(shares.tokens)), front_of(shares.part))
    form = "{:.0f}" if labels and board.grid < 5 else ""
    heat(ax, shares.tokens, norm, form, pixels)
    if board.front:
        cells(ax, shares.front[None], board.place(-1), norm, over=True)
        cell_text(ax, board.place(-1), shares.front[0], norm, form)
    frame(ax, board, caption, labels)
    outline(ax, board, shares.token, ":" if shares.part == "ar" else "-", 3.5 if labels else 2)


def _over_patches(ax: Axes, pixels: Tensor, shares: Shares, norm: Normalize, caption: str, labels: bool = True) -> None:
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
    """What one token attends to: weights (H, t, keys) of one layer of a part, drawn over the picture.

    head None is the mean of all heads. The red frame is the token that attends, dotted where only its place is meant.
    Of the encoder, the left panel shows the patches and the right one the latent queries.
    """
    grid, prefix = config.grid, config.prefix_tokens
    shares = shares_of_attention(weights.float().mean(0) if head is None else weights[head], config, part, token)
    norm = scale_of([shares])
    board = Board(prefix, grid, front_of(part), room=True)
    title = f"What does {token_name(config, token)} attend to?"
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

    The scale ends at 40 %, so that one head with a sharp maximum does not darken the others.
    """
    grid, prefix, heads = config.grid, config.prefix_tokens, len(weights)
    columns, encoder = min(4, heads), part == "encoder"
    shown = [shares_of_attention(head, config, part, token) for head in weights]
    most = scale_of(shown).vmax
    norm = Normalize(0, min(most, 40))
    board = Board(0 if encoder else prefix, grid, front_of(part))
    room = {"left": 0.2, "top": 0.6, "bottom": 0.15, "across": 0.25, "down": 0.58}
    title = f"What does each head attend to for {token_name(config, token)}? ({PART_NAMES[part]})"
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
def dependency_maps(
    named: dict[str, Tensor],
    label: str = "mean change of the pixels",
    title: str = "Which patches move when one token is changed?",
) -> Figure:
    """Dependency maps (T, G*G) side by side, with one scale; what is exactly 0 is pale.

    The red steps mark causality: below them, the token comes after the patch's own.
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
        rows, row_names = [*(starts + prefix)], [*names]
        if prefix:
            rows, row_names = [prefix / 2 - 0.5, *rows], ["prefix", *row_names]
        ax.set_yticks(rows, row_names)
        ax.set(title=name, xlabel="patch (row, column)", ylabel="token that is changed" if ax is axes[0] else "")
    colorbar(figure, list(axes), norm, label)
    return figure
