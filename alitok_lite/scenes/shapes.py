"""Shapes as distances (negative inside), ways to fold the plane, and colours.

A distance is (n, H, W) for n pictures; a colour is (n, 3, 1, 1), or wider where it varies over the picture.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

TAU = 2 * math.pi


def circle(x: Tensor, y: Tensor, r: Tensor | float) -> Tensor:
    """Radius r about the origin."""
    return (x * x + y * y).sqrt() - r


def ellipse(x: Tensor, y: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """First-order distance to the ellipse with half axes a and b."""
    x, y = x / a, y / b
    k = (x * x + y * y).sqrt()
    x, y = x / a, y / b
    return k * (k - 1) / (x * x + y * y).sqrt().clamp_min(1e-4)


def box(x: Tensor, y: Tensor, w: Tensor | float, h: Tensor | float) -> Tensor:
    """Half width w, half height h, sharp corners."""
    return torch.maximum(x.abs() - w, y.abs() - h)


def rbox(x: Tensor, y: Tensor, w: Tensor | float, h: Tensor | float, r: Tensor | float) -> Tensor:
    """A box whose corners are rounded with radius r."""
    x, y = x.abs() - w + r, y.abs() - h + r
    return (x.relu() ** 2 + y.relu() ** 2).sqrt() + torch.maximum(x, y).clamp_max(0) - r


def segment(x: Tensor, y: Tensor, x0, y0, x1, y1, r: Tensor | float) -> Tensor:
    """A line of half width r with round ends."""
    dx, dy = x1 - x0, y1 - y0
    x, y = x - x0, y - y0
    t = ((x * dx + y * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return circle(x - dx * t, y - dy * t, r)


def polygon(x: Tensor, y: Tensor, *points) -> Tensor:
    """A convex polygon; its corners run counter-clockwise (y up)."""
    d = None
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        ex, ey = bx - ax, by - ay
        length = (ex * ex + ey * ey) ** 0.5
        side = (x - ax) * (ey / length) - (y - ay) * (ex / length)
        d = side if d is None else torch.maximum(d, side)
    return d


def union(*shapes: Tensor) -> Tensor:
    """Inside any of the shapes."""
    return functools.reduce(torch.minimum, shapes)


def intersection(*shapes: Tensor) -> Tensor:
    """Inside all of the shapes."""
    return functools.reduce(torch.maximum, shapes)


def smooth_union(a: Tensor, b: Tensor, k: Tensor | float) -> Tensor:
    """A union with its inner corner rounded over a width k."""
    h = (k - (a - b).abs()).relu() / k
    return torch.minimum(a, b) - h * h * k * 0.25


def rotate(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates in a frame turned counter-clockwise by an angle."""
    c, s = torch.cos(angle), torch.sin(angle)
    return x * c + y * s, y * c - x * s


def fold(x: Tensor, period: Tensor | float) -> tuple[Tensor, Tensor]:
    """Repeat the plane: the coordinate within the cell, centred on 0, and the number of the cell."""
    i = torch.round(x / period)
    return x - i * period, i


def lattice(x: Tensor, y: Tensor, step: Tensor | float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Repeat the plane in staggered rows: coordinates within the cell, numbers of the column and the row."""
    y, j = fold(y, step)
    x, i = fold(x + 0.5 * step * j, step)
    return x, y, i, j


def polar_fold(x: Tensor, y: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Fold the plane into `count` sectors, each seen along its own axis."""
    r = (x * x + y * y).sqrt()
    a, _ = fold(torch.atan2(y, x), TAU / count)
    return r * torch.cos(a), r * torch.sin(a)


def triangle(x: Tensor) -> Tensor:
    """Triangle wave of period 1 with values 0..1."""
    return 2 * (x - torch.round(x)).abs()


def wobble(*terms: Tensor) -> Tensor:
    """A number in 0..1 for a cell. A plain sine, so that devices agree, unlike the usual fract-sin hash."""
    return 0.5 + 0.5 * torch.sin(sum(terms))


def hsv(h: Tensor, s: Tensor | float, v: Tensor | float) -> Tensor:
    """Colour (n, 3, ...) of hue, saturation and value (n, ...); the hue wraps around."""
    k = (torch.stack([6 * h + i for i in (5, 3, 1)], 1)) % 6
    s, v = (t.unsqueeze(1) if isinstance(t, Tensor) else t for t in (s, v))
    return v - v * s * torch.minimum(k, 4 - k).clamp(0, 1)


def mix(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """From colour a to colour b by t in 0..1, a number or (n, ...)."""
    return a + (b - a) * (t.unsqueeze(1) if isinstance(t, Tensor) and t.ndim == 3 else t)


def turn(rgb: Tensor, angle: Tensor) -> Tensor:
    """Rotate the hue of colours (n, 3, ...) by an angle (n, 1, ...)."""
    c, s = torch.cos(angle), torch.sin(angle) / math.sqrt(3)
    k = (1 - c) / 3
    return (rgb * (c + k) + rgb.roll(1, 1) * (k + s) + rgb.roll(-1, 1) * (k - s)).clamp(0, 1)
