"""The picture of the course: on which tokens each patch depends, for three decoders, and how much of it comes late."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from .. import scenes
from ..measure.probe import dependency_map
from ..model import AliTok
from .colours import GREEN, INK, RED, SKY, YELLOW
from .panels import VIRIDIS, as_array, colorbar, panels, styled

DECODERS = {  # a bundled checkpoint and the stage of its decoder
    "conventional": ("scenes-baseline", 2),
    "causal": ("scenes-noprefix", 1),
    "second stage": ("scenes", 2),
}
PARTS = {"prefix": GREEN, "earlier": SKY, "own": YELLOW, "later": RED}


def shipped_maps(seed: int = 7) -> dict[str, Tensor]:
    """The dependency maps (T, G*G) of DECODERS, measured on one scene of each class; ten seconds of a CPU core."""
    pictures = scenes.render(list(range(len(scenes.CLASSES))), seed=seed, size=64)
    tokenizers = {name: AliTok.from_pretrained(name, "cpu").tokenizer for name, _ in DECODERS.values()}
    return {title: dependency_map(tokenizers[name], pictures, stage) for title, (name, stage) in DECODERS.items()}


def sources(dependency: Tensor) -> dict[str, float]:
    """Where the dependency of a patch comes from, as shares of 1 and means over patches: prefix, earlier, own, later.

    Shape: sources((7, 4)) -> {'prefix': float, 'earlier': float, 'own': float, 'later': float}
    """
    shares = dependency / dependency.sum(0).clamp_min(1e-12)  # (T, G*G), columns add up to 1
    patches = shares.shape[1]
    prefix, image = shares[:-patches], shares[-patches:]
    parts = {"prefix": prefix, "earlier": image.triu(1), "own": image.diagonal(), "later": image.tril(-1)}
    return {name: float(part.sum() / patches) for name, part in parts.items()}


@styled
def misalignment(named: dict[str, Tensor], title: str = "On which tokens does each patch depend?") -> Figure:
    """Dependency maps (T, G*G) side by side as shares of each patch, and below each where the shares come from.

    The red steps mark causality: what lies below them comes from a later token; exactly 0 is pale.
    """
    shares = {name: as_array(map_ / map_.sum(0).clamp_min(1e-12)) for name, map_ in named.items()}
    norm = PowerNorm(0.5, 0, 0.4, clip=True)  # a causal patch 0 has only its own token, a share of 1
    tokens = max(len(values) for values in shares.values())
    patches = next(iter(shares.values())).shape[1]
    prefix = tokens - patches
    room = {"left": 0.95, "right": 1.05, "top": 0.62, "bottom": 1.35, "across": 0.28}
    figure, axes = panels(title, [patches] * len(named), [tokens], 0.26, **room)
    for number, (ax, (name, values)) in enumerate(zip(axes[0], shares.items(), strict=True)):
        own = len(values) - patches
        ax.set(xlim=(-0.5, patches - 0.5), ylim=(patches - 0.5, -prefix - 0.5))
        extent = (-0.5, patches - 0.5, patches - 0.5, -own - 0.5)
        ax.imshow(np.ma.masked_equal(values, 0), norm=norm, cmap=VIRIDIS, extent=extent, aspect="auto")
        ax.stairs(np.arange(patches) + 0.5, np.arange(patches + 1) - 0.5, baseline=None, color=RED, linewidth=2.5)
        if own:
            ax.axhline(-0.5, color="white", linewidth=2)
            ax.text(patches / 2 - 0.5, -own / 2 - 0.5, "prefix tokens", color="white", ha="center", va="center")
        _frame(ax, patches, number == 0)
        found = sources(named[name])
        top = -own - 0.5
        ax.text(patches / 2 - 0.5, top - 1.9, name, ha="center", va="bottom", fontsize=15, weight="bold")
        late = f"{_percent(found['later'])} on later tokens"
        ax.text(patches / 2 - 0.5, top - 0.4, late, ha="center", va="bottom", fontsize=13, color=RED, weight="bold")
        _bar(figure, ax, found)
    handles = [
        Rectangle((0, 0), 1, 1, color=color, label=f"{part} tokens" if part != "own" else "own token")
        for part, color in PARTS.items()
    ]
    figure.legend(handles=handles, loc="lower center", ncols=4)
    colorbar(figure, axes[0], norm, "share of the patch (0.4 or more)")
    return figure


def _frame(ax: Axes, patches: int, labelled: bool) -> None:
    grid = math.isqrt(patches)
    starts = np.arange(0, patches, grid * math.ceil(grid / 4))
    ax.set_xticks(starts, [str(start // grid) for start in starts])
    ax.set_yticks(starts, [f"row {start // grid}" if labelled else "" for start in starts])
    ax.set_xlabel("patch, by row", labelpad=2)
    if labelled:
        ax.set_ylabel("token that is changed", y=(patches / 2) / (ax.get_ylim()[0] - ax.get_ylim()[1]))
    ax.tick_params(length=0, pad=3)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _percent(share: float) -> str:
    """0 %, 38 %, 5.5 %: the half percents as they are, whole ones without a point."""
    return f"{round(200 * share) / 2:g} %"


def _bar(figure: Figure, ax: Axes, found: dict[str, float]) -> None:
    """A bar below a map, divided into the sources."""
    box, height = ax.get_position(), figure.get_figheight()
    bar = figure.add_axes((box.x0, box.y0 - 0.86 / height, box.width, 0.26 / height))
    left = 0.0
    for part, color in PARTS.items():
        bar.barh([0], [found[part]], 1, left, color=color, edgecolor="white")
        if found[part] > 0.2 and part != "later":  # its number stands above the map
            bar.text(
                left + found[part] / 2, -0.02, f"{found[part]:.0%}", ha="center", va="center", fontsize=12, color=INK
            )
        left += found[part]
    bar.set(xlim=(0, 1), ylim=(-0.5, 0.5), xticks=(), yticks=())
    for spine in bar.spines.values():
        spine.set_visible(False)
