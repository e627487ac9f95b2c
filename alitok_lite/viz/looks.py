"""Attention beside dependency: what a patch's token attends to, and on which tokens the patch depends."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from ..core.config import TokenizerConfig
from ..measure.board import geometry
from .maps import Shares, front_of, scale_of, shares_of_attention
from .panels import Board, as_array, cell_text, cells, colorbar, frame, heat, outline, panels, styled


class Look(NamedTuple):
    """A decoder, as `attention_beside_dependency` draws it.

    weights:  attention (H, t, keys) of one layer, `probe.attention_of`.
    moves:    dependency map (T, G*G), `probe.dependency_map`.
    part:     "causal" or "bidirectional".
    """

    weights: Tensor
    moves: Tensor
    config: TokenizerConfig
    part: str


@styled
def attention_beside_dependency(
    named: dict[str, Look], patch: int, head: int | None = None, numbers: bool = True
) -> Figure:
    """For one patch, a row for each decoder: left the attention of its token, right the tokens on which the patch
    depends, each in per cent; what is exactly 0 is pale. name -> Look; head None is the mean of the heads.

    The red frame is the patch's own token. `later` is the share of the image tokens behind it. Without numbers
    in the cells there is a colour bar.
    """
    rows = [(_attention(one, patch, head), _dependency(one, patch)) for one in named.values()]
    prefix, grid = max(one.config.prefix_tokens for one in named.values()), next(iter(named.values())).config.grid
    boards = Board(prefix, grid, "start", room=True), Board(prefix, grid, room=True)
    numbers = numbers and grid < 5
    title = f"Patch {divmod(patch, grid)}: what does its token attend to, and on which tokens does it depend?"
    room = {"left": 0.2, "top": 0.6, "bottom": 0.1, "across": 0.5, "down": 0.65}
    figure, axes = panels(title, [one.width for one in boards], [boards[0].height] * len(rows), 0.5, **room)
    norm = scale_of([shares for both in rows for shares in both])
    for line, (name, both) in enumerate(zip(named, rows, strict=True)):
        for ax, board, shares, what in zip(axes[line], boards, both, ("attention", "dependency"), strict=True):
            later = shares.tokens[shares.token + 1 :].sum()
            _draw(ax, board, shares, norm, f"{name}\n{what}: {later:.0f} % later", numbers)
    if not numbers:
        colorbar(figure, axes[:, -1], norm, "share (%)")
    return figure


def _draw(ax: Axes, board: Board, shares: Shares, norm: Normalize, caption: str, numbers: bool) -> None:
    """Shares on a board of the size that all rows have, with or without prefix, and a caption above it."""
    own = Board(*geometry(len(shares.tokens)), front_of(shares.part))
    form = "{:.0f}" if numbers else ""
    heat(ax, np.where(shares.tokens == 0, np.nan, shares.tokens), norm, form)
    if own.front:
        cells(ax, shares.front[None], own.place(-1), norm)
        if numbers:
            cell_text(ax, own.place(-1), shares.front[0], norm, form)
    frame(ax, own, labels=False)
    outline(ax, own, shares.token)
    ax.set(xlim=(board.left, board.grid - 0.5), ylim=(board.grid - 0.5, board.top))
    ax.set_title(caption, y=1, pad=6)


def _attention(one: Look, patch: int, head: int | None) -> Shares:
    weights = one.weights.float().mean(0) if head is None else one.weights[head]
    return shares_of_attention(weights, one.config, one.part, one.config.prefix_tokens + patch)


def _dependency(one: Look, patch: int) -> Shares:
    """The column of the patch in the dependency map, in % of its sum."""
    moved = as_array(one.moves)[:, patch]
    share = 100 * moved / max(moved.sum(), 1e-12)
    return Shares("", one.config.prefix_tokens + patch, np.zeros(0), share, np.zeros(0))
