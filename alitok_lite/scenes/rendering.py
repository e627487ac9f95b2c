"""A procedural picture set: fourteen kinds of flat-design scene, painted with signed-distance functions.

Every picture is a pure function of (label, seed, index). A row of uniform numbers, the *factors*, is hashed
from (seed, index); the painter of the class reads them one after another (position, palette, counts, ...).
Painting is vectorised over the pictures of a class and runs on any device at any size.

Letters: n pictures of one class, F factors a picture, H = W = size. x runs right and y runs up, both over
[-1, 1], so a scene looks the same at every size. A shape is a distance d (n, H, W), negative inside; a colour
is (n, 3, 1, 1), or wider where it varies over the picture; factors are (n, 1, 1).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .canvas import Canvas
from .nature import (
    paint_butterfly,
    paint_face,
    paint_fish,
    paint_flower,
    paint_mountains,
    paint_planet,
    paint_sea,
    paint_tree,
)
from .places import paint_balloon, paint_car, paint_city, paint_house, paint_lighthouse, paint_sailboat

TEST_SEED = 2**30  # training seeds are below, test seeds from here on
FACTORS = 64  # columns of the factor table; no painter uses more
FREE_FACTORS = 16  # the first columns are independent; each later one follows one of them
FOLLOW_SHARE = 0.7  # how closely

PAINTERS: dict[str, Callable[[Canvas], None]] = {
    p.__name__.removeprefix("paint_"): p
    for p in (paint_sea, paint_mountains, paint_house, paint_tree, paint_flower, paint_balloon, paint_face)
    + (paint_fish, paint_planet, paint_car, paint_sailboat, paint_city, paint_butterfly, paint_lighthouse)
}
CLASSES: tuple[str, ...] = tuple(PAINTERS)
Labels = Sequence[int] | Tensor


def factor_table(count: int, seed: int) -> Tensor:
    """Uniform factors (count, FACTORS) in [0, 1) on the CPU; row i depends on seed and i alone.

    The details of a picture go together: a column from FREE_FACTORS on is a mixture of FOLLOW_SHARE of an earlier
    column and the rest of its own. A picture then holds about as much information as some twenty tokens.

    A splitmix64 hash of (seed, row, column) rather than torch.Generator, whose CPU engine keeps only the low
    32 bits of a seed.
    """

    def scramble(z: Tensor) -> Tensor:  # int64 products wrap around; >> is signed, so mask the sign's copies
        z = (z ^ ((z >> 30) & (2**34 - 1))) * -0x40A7B892E31B1A47
        z = (z ^ ((z >> 27) & (2**37 - 1))) * -0x6B2FB644ECCEEE15
        return z ^ ((z >> 31) & (2**33 - 1))

    key = scramble(torch.tensor(seed) + 0x1E3779B97F4A7C15)
    step = torch.arange(1, count * FACTORS + 1) * -0x61C8864680B583EB
    bits = scramble(scramble(key) + step) >> 40 & (2**24 - 1)
    u = (bits.double() / 2**24).view(count, FACTORS)
    leader = u[:, (torch.arange(FACTORS - FREE_FACTORS) * 7 + 3) % FREE_FACTORS]
    v, b = FOLLOW_SHARE * leader + (1 - FOLLOW_SHARE) * u[:, FREE_FACTORS:], 1 - FOLLOW_SHARE
    # The sum's own distribution function (a trapezoid's) makes it uniform again.
    middle, edge = (v - b / 2) / FOLLOW_SHARE, torch.minimum(v, 1 - v).square() / (2 * FOLLOW_SHARE * b)
    tied = torch.where(v < b, edge, torch.where(v > FOLLOW_SHARE, 1 - edge, middle))
    return torch.cat([u[:, :FREE_FACTORS], tied], 1).float().clamp_max_(1 - 2**-24)


def paint(labels: Tensor, table: Tensor, size: int) -> Tensor:
    """Pictures (B, 3, size, size) of labels (B,) on the CPU and their factors (B, FACTORS) on any device."""
    out = table.new_empty(len(table), 3, size, size)
    for k, painter in enumerate(PAINTERS.values()):
        rows = (labels == k).nonzero().flatten().to(table.device)
        if len(rows):
            canvas = Canvas(table[rows], size)
            painter(canvas)
            out[rows] = canvas.img.clamp_(0, 1)
    return out


@torch.no_grad()
def render(labels: Labels, seed: int, size: int = 64, device: str | torch.device = "cpu") -> Tensor:
    """Paint a batch of pictures.

    Args:
        labels: (B,) class numbers, 0 <= label < len(CLASSES).
        seed: 0 <= seed < 2**63. Picture i depends on labels[i], seed and i alone.
        size: height and width in pixels, at least 8.
        device: where to paint.

    Returns:
        (B, 3, size, size) float32 in [0, 1].

    Raises:
        ValueError: for labels, seed or size outside these ranges.
    """
    labels = torch.as_tensor(labels).cpu()
    if labels.numel() == 0:
        labels = labels.flatten().long()
    if labels.ndim != 1:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; a flat sequence (B,) is needed")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels are {labels.dtype}; integers are needed")
    for bad in labels[(labels < 0) | (labels >= len(CLASSES))][:1].tolist():
        raise ValueError(f"label {bad} is out of range; labels go from 0 to {len(CLASSES) - 1}")
    for name, value in (("seed", seed), ("size", size)):
        if not hasattr(value, "__index__"):
            raise ValueError(f"{name} {value!r} is not allowed; an integer is needed")
    seed, size = operator.index(seed), operator.index(size)
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed {seed} is out of range; seeds go from 0 to 2**63 - 1")
    if size < 8:
        raise ValueError(f"size {size} is too small; at least 8 pixels are needed")
    return paint(labels, factor_table(len(labels), seed).to(device), size)
