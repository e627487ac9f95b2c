"""What the encoder's latent queries gather: patches below, a box for each query above, attention as lines."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..core.config import TokenizerConfig
from .colours import INK, OTHERS, PALE
from .panels import as_array, new_figure, no_ticks, rgb, styled

THICKEST = 22  # points: a line for all of a query's attention


@styled
def latent_queries(
    pixels: Tensor,
    weights: Tensor,
    config: TokenizerConfig,
    tokens: Sequence[int],
    title: str = "What do the latent queries gather?",
) -> Figure:
    """The encoder's sequence for a picture (3, S, S): its patches, and the queries behind them, which become tokens.

    weights: the encoder's attention (H, t, t), of one layer or the mean of several, `probe.attention_of`. From each
    patch a line leads to each of the queries `tokens`, as thick as its share of their attention. The number is the
    share of all patches in per cent; the rest goes to queries.
    """
    grid, prefix, count = config.grid, config.prefix_tokens, config.tokens
    shares = as_array(weights.float().mean(0))[grid**2 :, : grid**2]  # of each query for each patch: (T, G*G)
    figure = new_figure(9, 3.9, title, layout="none")
    height = figure.get_figheight()
    ax = figure.add_axes((0.01, 0.02, 0.98, 3.85 / height))
    no_ticks(ax)
    ax.set(xlim=(-0.3, count), ylim=(-1.5, 7.6))
    below = np.linspace(0.5, count - 0.8, grid**2)  # the middle of each patch
    _patches(ax, rgb(pixels), grid, below, (count - 1) / grid**2)
    for token in range(count):
        face = OTHERS[tokens.index(token)] if token in tokens else PALE
        ax.add_patch(Rectangle((token + 0.05, 5), 0.8, 0.9, facecolor=face, edgecolor="#888888", linewidth=0.8))
    for token, color in zip(tokens, OTHERS, strict=False):
        for x, share in zip(below, shares[token], strict=True):
            ax.plot([x, token + 0.45], [1, 5], color=color, linewidth=THICKEST * share, alpha=0.75, zorder=0)
        ax.text(token + 0.45, 6, f"{100 * shares[token].sum():.0f} %", ha="center", va="bottom", fontsize=13, color=INK)
    ax.text(prefix / 2, 6.8, "prefix queries" if prefix else "", ha="center", va="bottom", fontsize=13)
    ax.text((prefix + count) / 2, 6.8, f"{grid**2} image queries", ha="center", va="bottom", fontsize=13)
    ax.text(count / 2, -0.3, f"{grid**2} patches of the picture", ha="center", va="top", fontsize=13)
    return figure


def _patches(ax: Axes, picture: np.ndarray, grid: int, middles: np.ndarray, room: float) -> None:
    """The patches of a picture (S, S, 3) side by side."""
    side, width = len(picture) // grid, 0.42 * room
    for number, x in enumerate(middles):
        row, column = divmod(number, grid)
        patch = picture[row * side : (row + 1) * side, column * side : (column + 1) * side]
        ax.imshow(patch, extent=(x - width, x + width, 0, 1), aspect="auto", zorder=2)
    ax.set(xlim=(-0.3, middles[-1] + 1), ylim=(-1.5, 7.6))
