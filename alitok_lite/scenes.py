"""A procedural picture set: fourteen kinds of flat-design scene, painted with signed-distance functions.

Every picture is a pure function of (label, seed, index). A row of uniform numbers, the *factors*, is hashed
from (seed, index); the painter of the class reads them one after another (position, palette, counts, ...).
Painting is vectorised over the pictures of a class and runs on any device at any size.

Letters: n pictures of one class, F factors a picture, H = W = size. x runs right and y runs up, both over
[-1, 1], so a scene looks the same at every size. A shape is a distance d (n, H, W), negative inside; a colour
is (n, 3, 1, 1), or wider where it varies over the picture; factors are (n, 1, 1).
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .machine import sample_inside

TEST_SEED = 2**30  # training seeds are below, test seeds from here on
FACTORS = 64  # columns of the factor table; no painter uses more
FREE = 16  # the first columns are independent; each later one follows one of them
FOLLOW = 0.7  # how closely
TAU = 2 * math.pi

# One row per hour of the day, blended in a circle: colour of the sky at the top, in the middle and at the
# horizon, colour of the light on every object, and how much it is night.
_HOURS = (
    (0.05, 0.07, 0.26, 0.10, 0.16, 0.44, 0.22, 0.32, 0.62, 0.76, 0.75, 1.00, 1.0),  # night
    (0.17, 0.15, 0.46, 0.50, 0.32, 0.62, 0.98, 0.60, 0.58, 0.92, 0.82, 0.97, 0.5),  # before dawn
    (0.45, 0.57, 0.90, 0.96, 0.72, 0.76, 1.00, 0.87, 0.66, 1.00, 0.91, 0.88, 0.0),  # dawn
    (0.34, 0.66, 0.95, 0.62, 0.84, 0.97, 0.96, 0.96, 0.86, 1.00, 0.98, 0.94, 0.0),  # morning
    (0.14, 0.50, 0.92, 0.40, 0.74, 0.97, 0.78, 0.93, 0.98, 1.00, 1.00, 1.00, 0.0),  # noon
    (0.10, 0.66, 0.74, 0.50, 0.88, 0.82, 0.99, 0.95, 0.72, 1.00, 0.98, 0.90, 0.0),  # afternoon
    (0.46, 0.58, 0.95, 0.80, 0.76, 0.97, 1.00, 0.90, 0.76, 1.00, 0.95, 0.90, 0.0),  # late afternoon
    (0.98, 0.52, 0.40, 1.00, 0.72, 0.42, 1.00, 0.91, 0.58, 1.00, 0.89, 0.74, 0.0),  # golden hour
    (0.36, 0.18, 0.54, 0.88, 0.34, 0.50, 1.00, 0.68, 0.38, 1.00, 0.80, 0.80, 0.3),  # dusk
)


# ---------------------------------------------------------------- distances (negative inside) and colours


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


def inter(*shapes: Tensor) -> Tensor:
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


def tri(x: Tensor) -> Tensor:
    """Triangle wave of period 1 with values 0..1."""
    return 2 * (x - torch.round(x)).abs()


def wob(*terms: Tensor) -> Tensor:
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


# ---------------------------------------------------------------- the canvas


class Canvas:
    """The n pictures of one class while they are painted: coordinates, factors, light, and `img`.

    `hour` adds the colours of the sky (top, mid, low), the light and the shadows (light, ink), how much it is
    night (night), the place of the sun (sx, sy), the direction towards it (lx, ly), and the wind (wind).
    """

    def __init__(self, table: Tensor, size: int) -> None:
        self.table, self.size, self.used = table, size, 0
        p = (torch.arange(size, device=table.device, dtype=torch.float32) + 0.5) * (2 / size) - 1
        self.x, self.y = p.view(1, 1, size), -p.view(1, size, 1)
        self.img = table.new_zeros(len(table), 3, size, size)
        self.white, self.lamp = self.rgb(1, 1, 1), self.rgb(1.0, 0.85, 0.4)
        self.veil: Tensor | None = None  # while a mirror image is painted: its opacity

    def u(self, lo: float, hi: float) -> Tensor:
        """The next factor, uniform over [lo, hi): (n, 1, 1)."""
        self.used += 1
        return (lo + (hi - lo) * self.table[:, self.used - 1]).view(-1, 1, 1)

    def chance(self, p: float) -> Tensor:
        """1 with probability p, else 0: an opacity (n, 1, 1)."""
        return (self.u(0, 1) < p).float()

    def sign(self) -> Tensor:
        """-1 or 1 (n, 1, 1)."""
        return 2 * self.chance(0.5) - 1

    def rgb(self, *values: float) -> Tensor:
        """A fixed colour (1, 3, 1, 1)."""
        return self.img.new_tensor(values).view(1, 3, 1, 1)

    def lit(self, h: Tensor | float, s: Tensor | float, v: Tensor | float) -> Tensor:
        """An HSV colour under the light of the hour."""
        return hsv(h + torch.zeros_like(self.night), s, v) * self.light

    def cover(self, d: Tensor) -> Tensor:
        """Share of each pixel inside the shape: analytic anti-aliasing over one pixel."""
        return (0.5 - d * (self.size / 2)).clamp(0, 1)

    def paint(self, d: Tensor, colour: Tensor, alpha: Tensor | float = 1.0) -> None:
        """Lay a colour over the inside of a shape."""
        a = self.cover(d)
        if self.veil is not None:
            a = a * self.veil
        self.img.lerp_(colour, (a if isinstance(alpha, float) and alpha == 1.0 else a * alpha).unsqueeze(1))

    def wash(self, alpha: Tensor, colour: Tensor) -> None:
        """Lay a colour over everything with a soft opacity (n, H, W)."""
        self.img.lerp_(colour, alpha.clamp(0, 1).unsqueeze(1))

    def shade(self, d: Tensor, alpha: Tensor | float) -> None:
        """Put the inside of a shape in the shade: darker and more violet, but no greyer."""
        a = self.cover(d) * alpha
        a = a if self.veil is None else a * self.veil
        self.img.mul_(1 - a.unsqueeze(1) * self.rgb(0.55, 0.68, 0.40))

    def framed(self, d: Tensor, width: Tensor | float, frame: Tensor, colour: Tensor) -> None:
        """Paint a shape and a frame around it."""
        self.paint(d - width, frame)
        self.paint(d, colour)

    def solid(self, d: Tensor, colour: Tensor, x: Tensor, y: Tensor, r, depth: float = 0.7) -> None:
        """Paint a shape of radius about r around x = y = 0, shaded on the side away from the light."""
        self.paint(d, colour)
        self.shade(d, depth * (0.4 - (x * self.lx + y * self.ly) / r).clamp(0, 1))

    def puffs(self, x: Tensor, y: Tensor, dx: Tensor | float, dy: Tensor | float, r: float) -> None:
        """Four puffs of smoke from x = y = 0, growing and fading as they drift."""
        for k in range(4):
            puff = circle(x - dx * k, y - dy * k, r * (1 + 0.4 * k))
            self.paint(puff, mix(self.white, self.low, 0.4), 0.75 - 0.16 * k)

    def mirrored(self, level: Tensor, scene: Callable[[], None], alpha: float, phase: Tensor) -> None:
        """Paint `scene`, which draws no factor, upside down below the line `level`, rippled and faint."""
        x, y = self.x, self.y
        depth = (level - y).relu()
        self.veil = alpha * (self.cover(y - level) * (1 - 0.5 * depth))
        self.x, self.y = x + (0.03 + 0.05 * depth) * torch.sin(TAU * 9 * y + phase), 2 * level - y
        scene()
        self.x, self.y, self.veil = x, y, None


# ---------------------------------------------------------------- shared painters


def hour(c: Canvas, low: float = 0.25, high: float = 0.85) -> None:
    """Draw the hour, the sun's place and the wind: the light and colours that all later painters use."""
    t, hue = c.u(0, len(_HOURS)), c.u(-0.3, 0.3)
    c.sx, c.sy, c.wind = c.u(-0.85, 0.85), c.u(low, high), c.u(-1, 1)
    gap = (t.view(-1, 1) - torch.arange(9.0, device=t.device) + 4.5) % 9 - 4.5
    weight = (1 - gap.abs()).relu().unsqueeze(2)  # summed by hand: a matmul may round to TF32 on a GPU
    keys = (weight * c.img.new_tensor(_HOURS)).sum(1).view(-1, 13, 1, 1)
    c.top, c.mid, c.low = (turn(keys[:, i : i + 3], hue[:, None]) for i in (0, 3, 6))
    c.light, c.night = keys[:, 9:12], keys[:, 12]
    c.ink = mix(c.top, c.rgb(0.10, 0.04, 0.26), 0.7)  # for outlines and shadows
    norm = (c.sx**2 + (c.sy + 0.4) ** 2).sqrt()
    c.lx, c.ly = c.sx / norm, (c.sy + 0.4) / norm  # direction towards the light


def sky(c: Canvas, low: float = 0.25, high: float = 0.85) -> None:
    """The sky of an hour with its sun or, at night, moon and stars."""
    hour(c, low, high)
    g = c.y * 0.5 + 0.5 + c.u(-0.15, 0.15)
    c.img.copy_(mix(mix(c.low, c.mid, ((g - 0.3) * 2.2).clamp(0, 1)), c.top, ((g - 0.6) * 2).clamp(0, 1)))
    stars(c, c.night)
    x, y, r = c.x - c.sx, c.y - c.sy, c.u(0.09, 0.19)
    d = circle(x, y, r)
    c.wash(0.55 * torch.exp(-3 * d.relu()), mix(c.low, c.rgb(1.0, 0.97, 0.80), 0.6))
    day = (c.night < 0.45).float()  # at night a second disc bites the first to a crescent
    d = inter(d, -circle(x - 0.5 * r, y - 0.25 * r, r) - day * 3)
    c.paint(d, mix(c.rgb(1.0, 0.96, 0.78), c.low, 0.15))


def stars(c: Canvas, amount: Tensor) -> None:
    x, i = fold(c.x + c.u(-1, 1), 0.27)
    y, j = fold(c.y + 0.1 * torch.sin(i * 2.1), 0.27)
    a = i * 12.7 + j * 7.3
    d = circle(x - 0.09 * torch.sin(a), y - 0.09 * torch.sin(1.7 * a), 0.016 * wob(2.3 * a))
    c.paint(d, c.rgb(1.0, 0.98, 0.88), amount * (0.4 + 0.6 * wob(3.1 * a)))


def clouds(c: Canvas, rows: int = 2, base: float = 0.3) -> None:
    """Rows of flat-bottomed clouds, lit from the sun's side, leaning with the wind."""
    size, shift = c.u(0.35, 1.0), c.u(0, 4)
    white = mix(c.white * c.light, c.low, 0.25)
    for k in range(rows):
        s = size * (0.30 - 0.08 * k)
        x, i = fold(c.x + shift * (1 + 0.7 * k), 1.5 - 0.3 * k)
        y = c.y - base - 0.32 * k - 0.12 * torch.sin(2.3 * i + 9 * shift)
        lean = 0.3 * s * c.wind
        d = union(
            circle(x, y - 0.10 * s, s * 0.62),
            circle(x - 0.65 * s - lean, y, s * 0.42),
            circle(x + 0.65 * s - lean, y, s * (0.35 + 0.12 * wob(i + shift))),
            circle(x + 1.1 * s, y + 0.02, s * 0.22),
        )
        d = inter(d, -0.2 * s - y)
        c.paint(d, white, 0.92)
        c.paint(inter(d, y + 0.02 * s + 0.2 * c.lx * x), mix(white, c.mid, 0.5), 0.55)


def ridge(c: Canvas, base: Tensor | float, amp: Tensor | float, freq: float, phase: Tensor) -> Tensor:
    """Distance below a smooth rolling line."""
    wave = torch.sin(c.x * freq + phase) + 0.4 * torch.sin(c.x * freq * 2.3 + 2 * phase)
    return (c.y - base - amp * wave) * 0.93


def land(c: Canvas, level: Tensor | float) -> Tensor:
    """Two far hills and the near ground, one hue for all; returns the ground's colour."""
    hue, phase, amp = c.u(0.13, 0.45), c.u(0, TAU), c.u(0.03, 0.13)
    sat = c.u(0.35, 0.7)
    far = c.lit(hue + 0.06, sat * 0.7, 0.78)
    c.paint(ridge(c, level + 0.22, amp * 1.4, 2.2, phase), mix(far, c.low, 0.55))
    c.paint(ridge(c, level + 0.10, amp, 3.1, 2 * phase), mix(far, c.low, 0.25))
    near = c.lit(hue, sat, 0.72)
    d = ridge(c, level, 0.3 * amp, 2.0, 3 * phase)
    c.paint(d, near)
    rows = wob(40 * (level - c.y) / (1.3 - c.y + level) + 2 * torch.sin(c.x * 2 + phase))
    c.paint(d, c.lit(hue - 0.03, sat, 0.88), 0.5 * rows * rows)
    return near


def grass(c: Canvas, level: Tensor | float, colour: Tensor) -> None:
    """Tufts along a line, bent by the wind."""
    y = c.y - level
    x, i = fold(c.x - 0.5 * c.wind * y.relu() + 0.013 * torch.sin(30 * c.x), 0.085)
    height = 0.05 + 0.07 * wob(i * 2.4, c.wind * 9)
    c.paint(inter((x.abs() - 0.032 * (1 - y / height)) * 0.9, -y - 0.05), colour)


def meadow(c: Canvas, ground: Tensor) -> None:
    """A row of small flowers along the lower edge, bent by the wind."""
    x, i = fold(c.x + c.u(0, 1), c.u(0.24, 0.36))
    y = c.y + 0.82 - 0.09 * torch.sin(2.4 * i)
    c.paint(inter((x + 0.1 * c.wind * y).abs() - 0.016, y), mix(ground, c.ink, 0.4))
    qx, qy = polar_fold(x, y, torch.full_like(c.wind, 5))
    c.paint(circle(qx - 0.055, qy, 0.042), c.lit(c.u(0, 1), 0.5, 1.0))
    c.paint(circle(x, y, 0.03), c.lit(0.13, 0.75, 1.0))


def pines(c: Canvas, level: Tensor, height: Tensor, colour: Tensor) -> None:
    """A row of fir trees standing on a line."""
    x, i = fold(c.x, height * 0.62)
    h = height * (0.65 + 0.35 * wob(2.4 * i, 20 * height))
    t = ((c.y - level) / h).clamp(-0.3, 1)
    width = 0.33 * h * (1 - t) * (0.62 + 0.38 * (1 - (t * 3.0) % 1.0))
    d = inter((x.abs() - width) * 0.85, c.y - level - h)
    c.paint(d, colour)
    c.shade(inter(d, x * c.lx.sign()), 0.5)


def water(c: Canvas, level: Tensor, clear: Tensor | float = 0.55) -> Tensor:
    """A water surface below `level` that mirrors all painted above it; returns the phase of its waves."""
    phase, chop, hue = c.u(0, TAU), c.u(0.03, 0.16), c.u(0.48, 0.62)
    depth = (level - c.y).relu()
    swell = torch.sin(14 * (depth + 0.06).log() + phase + 1.5 * torch.sin(2.5 * c.x + phase))
    gx = c.x + chop * depth.sqrt() * swell
    gy = c.y - 2 * level + 0.05 * chop * swell  # runs down
    mirror = sample_inside(c.img, gx, gy).lerp_(
        c.lit(hue, 0.75, 0.75), ((1 - clear) + 0.25 * depth).clamp(0, 1).unsqueeze(1)
    )
    a = c.cover(c.y - level)
    c.img.lerp_(mirror, a.unsqueeze(1))
    crest = ((swell - 0.55) * (3 + 8 * depth)).clamp(0, 1) * (0.15 + 0.35 * depth.clamp_max(1))
    c.wash(a * crest, mix(c.low, c.white, 0.4))
    # the sun's path of glitter
    spread = 0.06 + 0.25 * depth
    path = (1 - ((c.x - c.sx) / spread) ** 2).relu() * (0.35 + 0.65 * (swell * 3).clamp(0, 1))
    c.wash(a * 0.8 * path, mix(c.low, c.rgb(1.0, 0.97, 0.8), 0.6))
    return phase


def shadow(c: Canvas, x: Tensor | float, y: Tensor | float, w: Tensor | float, h: float = 0.05) -> None:
    """Cast on the ground, away from the light."""
    long = 0.35 + 0.65 * c.lx.abs()
    c.paint(ellipse(c.x - x + c.lx * w * 0.8, c.y - y, w * (0.7 + long), h), c.ink, 0.38)


# ---------------------------------------------------------------- one painter for each class


def paint_sea(c: Canvas) -> None:
    """An island, the sky and the sun mirrored in the swell; a beach with a parasol."""
    sky(c, 0.3, 0.8)
    clouds(c, base=0.45)
    level = c.u(-0.2, 0.25)
    ix, iw, ih = c.u(-0.9, 0.9), c.u(0.35, 0.8), c.u(0.0, 0.22)
    d = ellipse(c.x - ix, c.y - level, iw, ih + 0.02)
    d2 = ellipse(c.x - ix - 0.7 * iw, c.y - level, iw * 0.6, 0.6 * ih + 0.02)
    rock = mix(c.lit(c.u(0.2, 0.5), 0.45, 0.6), c.low, 0.35)
    c.solid(union(d, d2), rock, c.x - ix, c.y - level, iw)
    phase = water(c, level)
    gx, gy, span, climb = c.u(-0.8, 0.3), c.u(0.35, 0.8), c.u(0.11, 0.18), c.u(-0.5, 0.5)
    for k in range(3):  # gulls, their wings bent by the wind
        x, y = (c.x - gx - 0.33 * k).abs() / span, c.y - gy - 0.2 * climb * k + 0.12 * (k % 2)
        wing = y - span * (0.25 + 0.4 * c.wind.abs()) * torch.sin(math.pi * x.clamp_max(1) ** 0.6)
        gull = inter(wing.abs() * 0.8 - 0.02, (x - 1) * span)
        c.paint(gull, mix(c.ink, c.white, 0.9 * (1 - c.night)))
    shore, slant = c.u(-0.9, -0.6), c.u(-0.3, 0.3)
    front = shore + slant * c.x
    for k in range(3):  # waves rolling onto the beach
        y = front + (0.30 - 0.12 * k) + 0.03 * torch.sin(c.x * (7 - k) + phase * (k + 1))
        c.paint((c.y - y).abs() - 0.022, mix(c.white * c.light, c.low, 0.2), 0.45 + 0.2 * k)
    d = c.y - front - 0.03 * torch.sin(c.x * 5 + phase * 3)
    c.paint(d, c.lit(c.u(0.08, 0.13), c.u(0.25, 0.5), 0.98))
    c.paint(d + 0.09, c.lit(0.09, 0.5, 0.86), 0.5 * wob(c.x * 22, 30 * c.y, 3 * torch.sin(5 * c.x)))
    px, r, hue = c.u(-0.7, 0.7), c.u(0.2, 0.3), c.u(0, 1)  # a parasol that leans with the wind
    py = shore + slant * px - 0.09
    x, y = rotate(c.x - px, c.y - py, -0.3 * c.wind)
    shadow(c, px, py, r * 0.6, 0.035)
    c.paint(box(x, y - 0.22, 0.014, 0.22), c.lit(0.09, 0.3, 0.9))
    d = inter(circle(x, y - 0.38, r), 0.4 + 0.03 * torch.sin(x * 40 / (r * 4)).abs() - y)
    c.solid(d, c.lit(hue, 0.75, 1.0), x, y - 0.38, r)
    c.paint(inter(d, fold(torch.atan2(x, y - 0.3), 0.72)[0].abs() * r - 0.18 * r), c.lit(hue, 0.08, 1.0))


def paint_mountains(c: Canvas) -> None:
    """Three ranges with snow, sunlit on one side, behind a lake that mirrors them."""
    sky(c, 0.45, 0.85)
    clouds(c, base=0.5)
    hue, snow = c.u(0.5, 0.85), c.u(0.05, 0.5)
    level = c.u(-0.75, -0.3)
    for k in range(3):
        freq, phase = c.u(0.45, 0.8) * (1 + 0.25 * k), c.u(0, 1)
        height = c.u(0.75, 1.05) * (0.95 - 0.27 * k)
        s = c.x * freq + phase
        jag = 0.16 * tri(2.7 * s + 0.3) + 0.07 * tri(6.1 * s)
        top = level + height * (1 - tri(s)) * (1 - 0.25 * k) + height * jag * 0.7
        d = (c.y - top) * 0.62
        haze = 0.5 - 0.2 * k
        rock = mix(c.lit(hue - 0.05 * k, 0.5, 0.6 + 0.05 * k), c.low, haze)
        c.paint(d, rock)
        sunny = ((torch.round(s) - s) * c.lx * 40 + 12 * jag * c.lx - c.y * c.lx * 3).clamp(-1, 1)
        c.paint(d, mix(rock, c.white * c.light, 0.3), 0.8 * sunny.relu())
        line = level + height * (1.02 - 0.1 * k) - snow * height * (1 - 0.3 * k) + 0.12 * tri(5 * s + phase)
        white = mix(c.white * c.light, c.ink, 0.22 * (-sunny).relu())
        c.paint(inter(d, (line - c.y) * 0.7), mix(white, c.low, haze * 0.35))
    tree = c.lit(c.u(0.3, 0.5), 0.55, 0.45)
    pines(c, level, c.u(0.1, 0.3), tree)
    lake = level - 0.02
    c.paint(c.y - lake, mix(tree, c.low, 0.15))
    water(c, lake, 0.7)
    pines(c, c.u(-1.25, -0.85) + 0.25 * c.lx * c.x, c.u(0.3, 0.6), mix(tree, c.ink, 0.3))


def paint_house(c: Canvas) -> None:
    """A cottage whose smoke drifts with the wind and whose windows light up at night."""
    sky(c)
    clouds(c)
    level = c.u(-0.62, -0.4)
    ground = land(c, level + 0.1)
    x0, w, h, roof = c.u(-0.35, 0.35), c.u(0.38, 0.58), c.u(0.22, 0.38), c.u(0.22, 0.5)
    x, y = c.x - x0, c.y - level - h
    shadow(c, x0, level, w * 1.1, 0.09)
    path = x - 0.5 * w - c.u(-0.5, 0.5) * (level - c.y) ** 2
    d = inter(path.abs() - 0.09 - 0.16 * (level - c.y), c.y - level)
    c.paint(d, mix(ground, c.rgb(1, 0.93, 0.8), 0.6))
    cx = c.sign() * w * 0.55
    c.puffs(x - cx, y - h - roof - 0.12, 0.16 * c.wind, 0.13, 0.05)
    d = box(x - cx, y - h - roof * 0.5, 0.075, roof * 0.5 + 0.02)
    c.solid(d, c.lit(0.03, 0.5, 0.65), x - cx, y - h - roof, 0.3)
    hue = c.u(0, 1)
    trim, wall = c.lit(hue + 0.08, 0.12, 1.0), c.lit(hue, c.u(0.15, 0.55), 0.95)
    d = union(box(x, y, w, h), polygon(x, y, (-w, h), (w, h), (0 * w, h + roof)))
    c.paint(d, wall)
    c.shade(d, 0.4 * c.cover(fold(y, 0.11)[0].abs() - 0.014) + 0.5 * (0.2 - x * c.lx / w).clamp(0, 1))
    slope = roof / w
    above = (y - h - roof + x.abs() * slope) / (1 + slope * slope).sqrt()  # above the gable's lines
    eaves = inter(above.abs() - 0.065, x.abs() - w - 0.1, h - 0.14 - y)
    c.paint(eaves, c.lit(hue + c.u(0.35, 0.65), 0.65, 0.72))
    c.shade(inter(eaves, -above), 0.5)
    c.shade(inter(d, -above - 0.12), 0.6)  # the roof's shadow on the wall
    pane = mix(mix(c.mid, c.rgb(0.72, 0.9, 1.0), 0.75), c.lamp, (c.night * 1.6).clamp(0, 1))
    window = box(x + 0.25 * w, y - h * 0.2, w * 0.42, h * 0.42)
    c.framed(window, 0.03, trim, pane)
    bars = torch.minimum(fold(x + 0.25 * w, w * 0.42)[0].abs(), (y - 0.2 * h).abs())
    c.paint(inter(window, bars - 0.014), trim)
    door = rbox(x - 0.5 * w, y + h * 0.25, w * 0.18, h * 0.75, 0.05)
    c.framed(door, 0.03, trim, c.lit(hue + c.u(0.3, 0.7), 0.7, 0.7))
    c.paint(circle(x - 0.6 * w, y + 0.3 * h, 0.022), trim)
    c.framed(circle(x, y - h - roof * 0.4, 0.07 + 0.08 * roof), 0.025, trim, pane)
    fx, fy = fold(c.x + c.u(0, 1), 0.13)[0].abs(), c.y - level + 0.14
    fence = inter(union(inter(fx - 0.03, fy.abs() - 0.13 + fx), fy.abs() - 0.022), 0.24 - path.abs())
    c.paint(fence, c.lit(hue + 0.1, 0.08, 1.0), c.chance(0.6))
    grass(c, level - 0.3, mix(ground, c.ink, 0.15))


def paint_tree(c: Canvas) -> None:
    """A crown of lobes with fruit, on a curved trunk, among falling leaves."""
    sky(c)
    clouds(c)
    level = c.u(-0.75, -0.5)
    ground = land(c, level + 0.12)
    x0, bend, r = c.u(-0.3, 0.3), c.u(-0.4, 0.4), c.u(0.4, 0.6)
    tall, tw = c.u(0.55, 0.95) * (0.95 - level - 1.5 * r), c.u(0.05, 0.1)
    shadow(c, x0, level, r * 0.9, 0.07)
    y = c.y - level
    x = c.x - x0 - bend * y.clamp_max(0.6) ** 2
    bark = c.lit(c.u(0.03, 0.1), 0.5, 0.5)
    width = tw * (1 + 1.3 * torch.exp(-9 * y.relu()) - 0.35 * y)
    trunk = inter(x.abs() - width, box(x, y - tall * 0.55, 1, tall * 0.6))
    arm = tall * 0.72
    branch = segment(x.abs(), y, 0 * r, arm * 0.9, r * 0.6, arm + r * 0.5, tw * 0.45)
    trunk = union(trunk, branch)
    c.solid(trunk, bark, x, y - tall, tw * 2)
    hue, spread = c.u(-0.1, 0.45), c.u(0.35, 0.75)
    y = y - tall - r * 0.4
    leaf = c.lit(hue, c.u(0.55, 0.85), 0.88)
    lobes = torch.floor(c.u(5, 9))
    phase = c.u(0, TAU)
    px, py = rotate(x, y, phase)
    px, py = polar_fold(px, py / 0.9, lobes)
    top = circle(x, y - r * c.u(0.2, 0.7), r * 0.55)
    blobs = union(circle(x, y, r * 0.72), circle(px - r * spread, py, r * 0.42), top)
    c.solid(blobs, leaf, x, y, r)
    qx, qy = x - 0.12 * r * c.lx, y - 0.12 * r * c.ly  # lighter leaves towards the light
    bright = circle(qx, qy, r * (0.55 + 0.08 * torch.sin(torch.atan2(qy, qx) * lobes + phase)))
    glow = 0.9 * (0.5 + (qx * c.lx + qy * c.ly) / r).clamp(0, 1)
    c.paint(bright, mix(leaf, c.rgb(1.0, 0.96, 0.6) * c.light, 0.3), glow)
    fx, fy, i, j = lattice(x, y, r * 0.36)
    jit = i * 3.7 + j * 5.1
    fruit = circle(fx - 0.05 * torch.sin(jit), fy - 0.05 * torch.sin(1.9 * jit + phase), c.u(0.03, 0.055))
    ripe = c.chance(0.65) * (wob(2 * jit) > 0.3)
    c.paint(inter(fruit, blobs + 0.03), c.lit(c.u(-0.12, 0.16), c.u(0.1, 0.9), 1.0), ripe)
    fx, i = fold(c.x + c.wind * c.y, 0.41)  # leaves falling with the wind
    fy, j = fold(c.y - 0.2 * wob(i), 0.27)
    d = inter(ellipse(fx - 0.12 * torch.sin(i * 5 + j * 3), fy, 0.042, 0.027), y + 0.5 * r)
    c.paint(d, mix(leaf, c.white, 0.2), c.chance(0.6))
    grass(c, level - 0.28, mix(ground, c.ink, 0.15))


def paint_flower(c: Canvas) -> None:
    """Two rings of petals around a seed head; the stem sets where the leaves grow."""
    sky(c, 0.5, 0.9)
    clouds(c)
    level = c.u(-0.55, -0.2)
    ground = land(c, level)
    grass(c, level - 0.2, mix(ground, c.ink, 0.15))
    meadow(c, ground)
    x0, y0, r = c.u(-0.32, 0.32), c.u(0.0, 0.3), c.u(0.4, 0.64)
    bend, green = c.u(-0.35, 0.35), c.lit(c.u(0.24, 0.42), 0.65, 0.6)
    x, y = c.x - x0, c.y - y0
    stem = inter((x - bend * y * y).abs() - 0.045, y)
    for s in (-1, 1):
        lx, ly = rotate(x - bend * 0.45 - s * 0.02, y + 0.72 + 0.1 * s, c.u(0.3, 0.9) * s)
        leaf = ellipse(lx - s * 0.24, ly - 0.5 * lx * lx * s, 0.26, 0.095)
        c.paint(leaf, green)
        c.shade(inter(leaf, ly), 0.5)
    c.solid(stem, green, x, y + 0.5, 1.0)
    hue, count = c.u(-0.35, 0.2), torch.floor(c.u(5, 14))
    wide, tip, spin = c.u(0.75, 1.1), c.u(0.0, 0.5), c.u(0, TAU)
    petal = c.lit(hue, c.u(0.35, 0.8), 1.0)
    rim = c.lit(hue + c.u(-0.12, 0.12), c.u(0.2, 0.85), 0.95)
    for k in range(2):
        q = 1 - 0.3 * k
        px, py = rotate(x, y, spin + k * math.pi / count)
        px, py = polar_fold(px, py, count)
        b = wide * r * q * 1.9 / (count + 1.5)
        d = ellipse(px - r * q * 0.58, py * (1 + tip * (px / r - 0.5)), r * q * 0.44, b)
        c.paint(d - 0.025 * (1 - k), mix(petal, c.ink, 0.45))
        c.solid(d, mix(petal, rim, 0.75 * k), x, y, r, 0.5)
        c.paint(inter(d, py.abs() - 0.012 - 0.03 * px), mix(petal, rim, 0.9 - 0.5 * k), 0.6)
    rc = r * c.u(0.25, 0.4)
    core = c.lit(c.u(0.05, 0.15), 0.8, 0.95)
    c.solid(circle(x, y, rc), core, x, y, rc)
    fx, fy, _, _ = lattice(x, y, rc * 0.36)
    c.paint(inter(circle(fx, fy, rc * 0.1), circle(x, y, rc * 0.85)), mix(core, c.ink, 0.6))


def _hot_air(c: Canvas, x: Tensor, y: Tensor, r: Tensor, hue: Tensor, f: list[Tensor]) -> None:
    """One balloon with its centre at x = y = 0; f holds stripes, second hue, band, contrast."""
    neck, tip = 0.2, 1.35
    knee = -0.5 * r
    low = r * (0.866 - (0.866 - neck) * (knee - y) / (r * (tip - 0.5)))
    half = torch.where(y > knee, (r * r - y * y).clamp_min(1e-6).sqrt(), low)
    cone = polygon(x, y, (-neck * r, -tip * r), (neck * r, -tip * r), (0.866 * r, knee), (-0.866 * r, knee))
    d = union(circle(x, y, r), cone)
    rope = segment(x.abs(), y, 0.2 * r, -tip * r, 0.13 * r, -1.66 * r, 0.014)
    c.paint(rope, mix(c.ink, c.low, 0.15))
    basket = rbox(x, y + 1.74 * r, 0.19 * r, 0.13 * r, 0.03)
    c.solid(basket, c.lit(0.08, 0.55, 0.65), x, y + 1.7 * r, 0.2 * r)
    c.paint(inter(basket, (y + 1.64 * r).abs() - 0.02), c.lit(0.09, 0.4, 0.9))
    base, second = c.lit(hue, 0.72, 0.95), c.lit(hue + f[1], f[3], 1.0)
    c.paint(d, base)
    turn_ = torch.asin((x / half.clamp_min(0.02)).clamp(-0.999, 0.999))
    stripe = torch.sin(turn_ * f[0] + f[2] * 9)
    soft = r * c.size / f[0] * 0.45
    c.paint(d, second, (0.5 + stripe * soft).clamp(0, 1))
    zig = (y - r * f[2] - 0.1 * r * tri(turn_ * f[0] / math.pi)).abs() - 0.1 * r
    c.paint(inter(d, zig), c.lit(hue + f[1] * 0.5, 0.5, 1.0), 0.95)
    c.shade(d, 0.75 * (0.25 - (x * c.lx + y * c.ly) / r).clamp(0, 1))
    c.paint(
        d,
        c.white,
        0.35 * (1 - circle(x - 0.4 * r * c.lx, y - 0.45 * r * c.ly, 0 * r) / (0.5 * r)).relu(),
    )


def paint_balloon(c: Canvas) -> None:
    """A hot-air balloon leaning with the wind, and its little sister far away."""
    sky(c)
    clouds(c)
    land(c, c.u(-1.0, -0.7))
    hue = c.u(0, 1)
    f = [c.u(4, 13), c.u(0.1, 0.6), c.u(-0.4, 0.4), c.u(0.05, 0.6)]
    side, r = c.sign(), c.u(0.09, 0.16)
    _hot_air(c, c.x - side * c.u(0.5, 0.8), c.y - c.u(-0.2, 0.65), r, hue + 0.3, f)
    r = c.u(0.34, 0.5)
    top, bottom = 0.94 - r, 1.87 * r - 0.9  # from touching the upper edge to touching the lower one
    x, y = rotate(c.x + side * c.u(-0.05, 0.35), c.y - bottom - (top - bottom) * c.u(0, 1), 0.15 * c.wind)
    _hot_air(c, x, y, r, hue, f)


def _hat(c: Canvas, x: Tensor, y: Tensor, w: Tensor, h: Tensor, hue: Tensor) -> None:
    """A striped bobble hat on a quarter of the heads."""
    on, brim = c.chance(0.25), 0.42 * h
    cap = union(inter(ellipse(x, y - 0.1, w, h + 0.06), brim - y), circle(x, y - h - 0.18, 0.1))
    c.paint(cap, c.lit(hue + 0.3, 0.7, 0.9), on)
    c.paint(inter(cap, fold(y - brim - 0.02 - 0.1 * x.abs(), 0.2)[0].abs() - 0.05), c.lit(hue, 0.3, 1.0), on)
    c.shade(cap, 0.6 * on * (0.2 - x * c.lx / w).clamp(0, 1))


def _eyes(c: Canvas, x: Tensor, y: Tensor, brow: Tensor, frame: Tensor) -> None:
    """Eyes looking the same way, brows, and sometimes glasses; x = y = 0 is the middle of the face."""
    ex, r, gaze = c.u(0.17, 0.24), c.u(0.08, 0.115), c.u(-0.03, 0.03)
    y = y - c.u(0.0, 0.1)
    ax, side = x.abs() - ex, x.sign()
    c.paint(ellipse(ax, y, r, r * c.u(0.7, 1.05)), mix(c.white, c.light, 0.5))
    c.paint(circle(ax + side * gaze, y, r * 0.72), c.lit(c.u(0.05, 0.65), 0.7, 0.6))
    c.paint(circle(ax + side * gaze, y, r * 0.45), c.rgb(0.06, 0.04, 0.1))
    c.paint(circle(ax - 0.02 * c.lx.sign() * side, y - 0.03, r * 0.28), c.white)
    c.paint(ellipse(ax, y - 0.17 - c.u(-0.35, 0.12) * ax, 0.11, c.u(0.02, 0.04)), brow)
    rims = rbox(ax, y, r + 0.06, r + 0.05, c.u(0.03, 0.14)).abs() - 0.018
    c.paint(union(rims, box(x, y, ex - r - 0.06, 0.016)), frame, c.chance(0.35))


def paint_face(c: Canvas) -> None:
    """A symmetric face with hair, perhaps glasses or a hat, in front of a striped sky."""
    sky(c, 0.6, 0.9)
    c.light = mix(c.light, c.rgb(1.0, 0.98, 0.96), 0.6)
    bx, _ = rotate(c.x, c.y, c.u(0, TAU))
    c.paint(fold(bx, c.u(0.25, 0.5))[0].abs() - 0.07, mix(c.low, c.top, 0.5), 0.35)
    x0, y0, w, h = c.u(-0.12, 0.12), c.u(-0.08, 0.1), c.u(0.42, 0.54), c.u(0.52, 0.64)
    tan, shirt = c.u(0, 1), c.u(0, 1)
    skin = c.lit(c.u(0.04, 0.085), 0.24 + 0.34 * tan + c.u(-0.04, 0.04), 1.0 - 0.5 * tan)
    hair = c.lit(c.u(-0.05, 0.13), c.u(0.4, 0.85), c.u(0.15, 1.0))
    sx, sy = c.x - x0, c.y - y0  # upright, for the shoulders
    x, y = rotate(sx, sy, c.u(-0.15, 0.15))
    long, vol = c.u(-0.5, 1.0), c.u(0.06, 0.2)
    back = rbox(x, y + 0.3 * long, w + vol * 0.8, 0.25 + 0.4 * long.relu(), 0.2)
    c.paint(union(back, inter(ellipse(x, y - 0.12, w + vol, h + vol * 0.6), -0.1 - y)), hair)
    c.shade(back, 0.6)
    neck = rbox(sx, sy + h, 0.17, 0.36, 0.12)
    c.paint(neck, skin)
    c.shade(neck, 0.4)
    d = inter(ellipse(sx, sy + 1.3, 0.85, 0.55), -circle(sx, sy + 0.68, 0.17))
    c.solid(d, c.lit(shirt, 0.65, 0.9), sx, sy + 1, 0.8)
    c.paint(inter(d, fold(sy + 0.15 * sx * sx, 0.16)[0].abs() - 0.04), c.lit(shirt + c.u(0.1, 0.5), 0.4, 1.0))
    ax = x.abs()
    ear = circle(ax - w, y + 0.05, 0.11)
    c.paint(ear, skin)
    c.shade(ear + 0.04, 0.4)
    head = ellipse(x / (1 + c.u(-0.25, 0.25) * y), y, w, h)
    c.solid(head, skin, x, y, w, 0.28)
    c.paint(circle(ax - 0.27, y + 0.2, 0.11), c.lit(0.99, 0.55, 0.95), c.u(0.1, 0.5))
    _eyes(c, x, y, mix(hair, c.ink, 0.4), c.lit(shirt + 0.5, 0.7, 0.4))
    c.paint(ellipse(x, y + 0.13, c.u(0.04, 0.075), 0.06), skin * c.rgb(0.86, 0.72, 0.74))
    mw, mo = c.u(0.13, 0.22), c.u(0.0, 0.06)
    my = y + 0.33 - (c.u(0.2, 1.8) + 14 * mo) * ax * ax
    mouth = inter(my.abs() - 0.025 - mo * (1 - (ax / mw) ** 2).relu(), ax - mw)
    c.paint(mouth, c.lit(0.98, 0.7, 0.62))
    c.paint(inter(mouth, 0.02 - my), c.white, (mo > 0.03).float())
    line = h * c.u(0.3, 0.55) + c.u(-0.2, 0.2) * x - 0.3 * ax * ax + c.u(0, 0.06) * torch.sin(x * 22)
    c.solid(inter(union(head, ellipse(x, y - 0.12, w + 0.05, h)), line - y), hair, x, y - h, w)
    _hat(c, x, y, w + vol + 0.02, h + 0.5 * vol, shirt)


def _sea_bed(c: Canvas) -> None:
    """Water with shafts of light from the sun, weed in two depths, and rippled sand."""
    hue, phase, floor = c.u(0.46, 0.66), c.u(0, TAU), c.u(-0.95, -0.65)
    deep = c.lit(hue + 0.05, 0.85, 0.55)
    c.img.copy_(mix(c.lit(hue, 0.55, 0.95), deep, 0.5 - 0.55 * c.y).expand_as(c.img))
    shafts = wob(torch.atan2(c.x - c.sx, 1.5 - c.y) * 17, c.u(0, TAU)) ** 2
    c.wash(0.28 * shafts * (0.7 + 0.5 * c.y).relu(), mix(c.low, c.white, 0.6))
    y = c.y - floor
    bend = 0.15 * c.wind * y * y + 0.05 * torch.sin(6 * y + phase) * (0.3 + y.relu())
    for k in range(2):
        x, i = fold(c.x + bend, 0.5 - 0.1 * k)
        x = x - 0.1 * torch.sin(i * 4 + phase)
        tall = (0.35 + 0.5 * wob(i * 2.6, phase)) * (1.2 - 0.5 * k)
        weed = inter(x.abs() - 0.05 * (1.1 - y / tall) - 0.02 * torch.sin(y * 28 + i), y - tall)
        c.paint(weed, mix(c.lit(c.u(0.22, 0.48), 0.6, 0.7), deep, 0.55 - 0.35 * k))
    sand = ridge(c, floor, 0.05, 3.0, phase)
    c.paint(sand, mix(c.lit(0.11, 0.45, 0.95), deep, 0.2))
    c.paint(sand + 0.06, deep, 0.3 * wob(c.x * 20, 25 * c.y, 2 * torch.sin(c.x * 6)))


def paint_fish(c: Canvas) -> None:
    """A fish with scales and stripes under the shafts of the sun; weed sways with the current."""
    hour(c, 0.7, 1.0)
    _sea_bed(c)
    s, r, x0, y0 = c.sign(), c.u(0.44, 0.62), c.u(-0.2, 0.2), c.u(-0.2, 0.25)
    b = r * c.u(0.5, 0.8)
    x, y = rotate((c.x - x0) * s, c.y - y0, c.u(-0.25, 0.25))
    y = y - 0.12 * torch.sin(c.u(0, TAU) + x * 3) * (0.5 - x).relu()  # swimming bends the tail
    hue = c.u(-0.12, 0.2)
    skin, fins = c.lit(hue, 0.75, 1.0), c.lit(hue + c.u(-0.15, 0.15), 0.7, 0.85)
    t = -0.75 - x / r
    notch = t - 0.65 + c.u(0.1, 0.35) * (1 - y.abs() / b)
    tail = inter((y.abs() - b * (0.12 + 1.1 * t)) * 0.75, -t * r, notch * r)
    fin = ellipse(x + 0.15 * r, y.abs() - b * 0.75, r * c.u(0.3, 0.5), b * c.u(0.3, 0.55))
    c.paint(union(tail, fin), fins)
    c.paint(union(tail, fin), mix(fins, c.ink, 0.5), 0.6 * wob(y * 40, 8 * x) ** 2)
    body = ellipse(x, y * (1 - 0.2 * x / r), r, b)
    c.paint(body, skin)
    c.paint(inter(body, y + b * 0.25), mix(skin, c.white, 0.6), 0.8)
    fy, fx, _, _ = lattice(y, x, r * 0.2)
    c.paint(inter(circle(fx, fy, r * 0.11).abs() - 0.008, body + 0.05, x - 0.35 * r), c.ink, 0.35)
    band = fold(x + 0.3 * y * y / r + c.u(0, 1), r * c.u(0.35, 0.8))[0].abs() - r * c.u(0.04, 0.12)
    c.paint(inter(body, band, x - 0.45 * r), c.lit(hue + c.u(0.3, 0.7), 0.6, 0.9), 0.9)
    c.shade(body, 0.7 * (0.1 - (x * s * c.lx + y * c.ly) / b).clamp(0, 1))
    c.paint(ellipse(x - 0.05 * r, y + 0.25 * b, r * 0.2, b * 0.16), fins)
    c.paint(circle(x - 0.62 * r, y - 0.15 * b, r * 0.16), c.white)
    c.paint(circle(x - 0.65 * r, y - 0.15 * b, r * 0.09), c.rgb(0.05, 0.04, 0.12))
    c.paint(segment(x, y, 0.82 * r, -0.22 * b, 1.0 * r, -0.12 * b, 0.018), c.ink, 0.7)
    for k in range(4):  # bubbles from the mouth
        bx = c.x - x0 - s * (r * 1.1 + 0.05 * math.sin(2.4 * k)) - 0.1 * c.wind * k
        bubble = circle(bx, c.y - y0 - 0.12 - 0.19 * k, 0.03 + 0.013 * k)
        c.paint(bubble.abs() - 0.012, c.rgb(0.9, 1, 1), 0.85)


def _space(c: Canvas, hue: Tensor) -> None:
    """A dark sky of one hue with a cloud of mist and stars."""
    c.img.copy_(hsv(hue, 0.78, 0.24 + 0.08 * c.y).expand_as(c.img))
    x, y = rotate(c.x, c.y, c.u(0, TAU))
    mist = torch.exp(-6 * (y - 0.25 * torch.sin(3 * x + c.u(0, TAU))) ** 2)
    c.wash(0.6 * mist * (0.6 + 0.4 * torch.sin(4 * x)), hsv(hue + c.u(-0.2, 0.2), 0.65, 0.7))
    stars(c, torch.ones_like(hue))


def paint_planet(c: Canvas) -> None:
    """A banded planet, perhaps ringed, with two moons lit from the same side."""
    hour(c)
    hue, r, a = c.u(0.52, 0.88), c.u(0.4, 0.58), c.u(0, TAU)
    _space(c, hue)
    c.light = mix(c.light, c.white, 0.75)
    c.lx, c.ly = torch.cos(a), torch.sin(a)
    dark = hsv(hue, 0.8, 0.15)
    x, y = c.x - c.u(-0.25, 0.25), c.y - c.u(-0.2, 0.2)
    base, second = c.u(0, 1), c.u(0.08, 0.5)
    soil, bands = c.lit(base, c.u(0.4, 0.75), 0.95), c.lit(base + second, 0.5, 1.0)
    d = circle(x, y, r)
    c.wash(0.5 * torch.exp(-9 * d.relu()), soil)  # the glow of its air
    rx, ry = rotate(x, y, c.u(-0.7, 0.7))
    flat, gap, wide, has = c.u(0.12, 0.4), c.u(1.25, 1.4), c.u(0.15, 0.45), c.chance(0.6)
    e = (rx * rx + (ry / flat) ** 2).sqrt() / r
    slope = flat + (1 - flat) * (rx / (e * r)).abs().clamp(0, 1)  # distances shrink with the ring's height
    ring = ((e - gap - wide * 0.5).abs() - wide * 0.5) * r * slope

    def rings(half: Tensor) -> None:
        c.paint(half, mix(soil, c.white, 0.35), 0.92 * has)
        c.paint(half, c.ink, 0.45 * has * wob(e * 45))

    rings(inter(ring, -ry))  # the far half, behind the planet
    c.paint(d, soil)
    wave = ry + 0.04 * torch.sin(rx * 7 + a) + 0.2 * rx * rx
    c.paint(d, bands, (2.5 * torch.sin(wave / r * c.u(4, 11) + c.u(0, TAU))).clamp(0, 1) * 0.85)
    px, py = rx - r * c.u(-0.5, 0.5), ry - r * c.u(-0.5, 0.5)
    for k in range(3):  # storms
        qx, qy, q = px + 0.3 * r * math.sin(4 * k), py + 0.3 * r * math.cos(4 * k), r * (0.2 - 0.05 * k)
        c.paint(inter(ellipse(qx, qy, q, 0.65 * q), d), mix(c.lit(base + second / 2, 0.6, 0.8), c.ink, 0.25))
    c.shade(inter(d, (e - gap).abs() * r * flat - 0.05, -ry), 0.7 * has)  # the ring's shadow
    toward = (x * c.lx + y * c.ly) / r * 0.85 + 0.5 * (1 - (x * x + y * y) / (r * r)).relu().sqrt()
    c.paint(d, dark, (0.75 - 1.6 * toward).clamp(0, 0.88))
    rings(inter(ring, ry))
    for k in range(2):
        q, m = c.u(0, TAU), c.u(0.05, 0.11)
        mx, my = c.x + 0.75 * torch.cos(q), c.y - 0.75 * torch.sin(q)
        c.paint(circle(mx, my, m), c.lit(base + 0.5 + 0.2 * k, 0.3, 0.95))
        c.paint(circle(mx, my, m), dark, (0.4 - 1.5 * (mx * c.lx + my * c.ly) / m).clamp(0, 0.85))


def _wheels(c: Canvas, x: Tensor, y: Tensor, r: Tensor, body: Tensor) -> None:
    """Two wheels at once, as x is folded, in their arches; the spokes stand at any angle."""
    c.paint(inter(circle(x, y, r * 1.22), body - 0.01), c.ink, 0.75)
    c.paint(circle(x, y, r), c.rgb(0.11, 0.1, 0.17))
    c.paint(circle(x, y, r * 0.6), c.lit(0.6, 0.06, 0.92))
    x, y = polar_fold(*rotate(x, y, c.u(0, TAU)), torch.floor(c.u(4, 8)))
    c.paint(circle(x - r * 0.36, y, r * 0.13), c.rgb(0.2, 0.2, 0.3))


def paint_car(c: Canvas) -> None:
    """A car before a wood; at night its headlights shine."""
    sky(c)
    clouds(c)
    level = c.u(-0.42, -0.2)
    ground = land(c, level + 0.1)
    pines(c, level + 0.06, c.u(0.2, 0.45), mix(ground, c.ink, 0.35))
    c.paint(c.y - level + 0.12, c.lit(0.68, 0.12, 0.42))
    c.paint((c.y - level + 0.15).abs() - 0.022, mix(ground, c.white, 0.6))
    c.paint(box(fold(c.x + c.u(0, 1), 0.5)[0], c.y - level + 0.62, 0.14, 0.03), c.lit(0.13, 0.5, 1.0))
    s, w, h, r = c.sign(), c.u(0.56, 0.74), c.u(0.14, 0.2), c.u(0.13, 0.17)
    x0, y0 = c.u(-0.2, 0.2), level - c.u(0.32, 0.48)
    shadow(c, x0, y0, w * 0.9, 0.06)
    x, y = (c.x - x0) * s, c.y - y0 - r - h * 0.7
    hue, night = c.u(0, 1), (c.night * 1.6).clamp(0, 1)
    coat, accent = c.lit(hue, c.u(0.55, 0.85), c.u(0.75, 1.0)), c.lit(hue + c.u(0.1, 0.6), 0.25, 1.0)
    cab, cw, cx, rake = c.u(0.26, 0.42), w * c.u(0.5, 0.68), w * c.u(-0.25, 0.02), c.u(0.05, 0.28)
    beam = inter((y + 0.06 * x).abs() - 0.05 - 0.35 * (x - w), w - x)
    c.wash(night * 0.5 * c.cover(beam) * (1.3 - x / 1.6).clamp(0, 1), c.lamp)
    low, top = ((cx - cw, h / 2), (cx + cw + rake * 0.6, h / 2)), h + cab
    cabin = polygon(x, y, *low, (cx + cw - rake * 0.4, top), (cx - cw + rake * 0.6, top))
    c.solid(cabin - 0.03, coat, x * s, y, w)
    pane = inter(cabin + 0.035, 0.03 - (x - cx).abs(), h * 0.6 + 0.03 - y)
    c.paint(pane, mix(mix(c.mid, c.rgb(0.8, 0.95, 1.0), 0.55), c.lamp, night * 0.6))
    c.paint(inter(pane, fold(x - 0.6 * y, 0.33)[0].abs() - 0.045), c.white, 0.4)
    body = union(rbox(x, y, w, h, h * 0.75), rbox(x, y + h * 0.35, w * 1.04, h * 0.5, 0.06))
    c.solid(body, coat, x * s, y, w)
    c.paint(inter(body, (y - h * c.u(-0.3, 0.5)).abs() - c.u(0.02, 0.06)), accent)
    c.paint(inter(body, (x - cx).abs() - 0.012), c.ink, 0.5)  # the door and its handle
    c.paint(box(x - cx - 0.1, y - 0.4 * h, 0.05, 0.014), c.ink, 0.7)
    c.paint(circle(x - w * 0.93, y - 0.1 * h, 0.055), c.rgb(1.0, 0.95, 0.65))
    c.paint(box(x + w * 0.97, y - 0.1 * h, 0.035, 0.05), c.rgb(0.95, 0.2, 0.2))
    _wheels(c, x.abs() - w * 0.58, c.y - y0 - r, r, body)
    c.puffs(x + w * 1.1, y + h * 0.6, -0.11, 0.05, 0.035)


def paint_sailboat(c: Canvas) -> None:
    """A boat heeling with the wind, its sails and flag filled by it, mirrored in the sea."""
    sky(c)
    clouds(c)
    level = c.u(-0.3, 0.05)
    isle = ridge(c, level - 0.03, c.u(0.03, 0.12), 2.6, c.u(0, TAU))
    c.paint(isle, mix(c.lit(c.u(0.2, 0.5), 0.4, 0.6), c.low, 0.5))
    phase = water(c, level, 0.5)
    line = level - c.u(0.15, 0.35)
    x0, w, tall, lee = c.u(-0.3, 0.3), c.u(0.38, 0.52), c.u(0.85, 1.1), c.wind.sign()
    hue, stripes = c.u(0, 1), c.u(0.12, 0.3)
    hull_c, sail_c = c.lit(hue, 0.7, 0.75), c.lit(0.12, c.u(0.0, 0.2), 1.0)
    trim, jib_c = c.lit(hue + c.u(-0.2, 0.2), 0.75, 0.98), c.lit(hue + c.u(0.2, 0.5), c.u(0.1, 0.75), 1.0)
    belly, mast, fore, flag = c.u(0.08, 0.25), c.u(-0.12, 0.12), c.u(0.6, 0.95) * tall, c.u(0, TAU)

    def boat() -> None:
        x, y = rotate(c.x - x0, c.y - line, -0.16 * c.wind)
        x = x * lee - mast  # the sails fill to the lee side
        c.paint(segment(x, y, 0.0, 0.1, 0 * tall, tall + 0.08, 0.02), c.lit(0.08, 0.5, 0.5))
        t = ((tall - y) / (tall - 0.2)).clamp(0, 1)
        edge = w * (0.95 * t + belly * torch.sin(math.pi * t) * 2)
        main = inter((x - edge) * 0.8, 0.035 - x, 0.2 - y, y - tall)
        c.paint(main, sail_c)
        c.paint(inter(main, fold(y + 0.2 * x, stripes)[0].abs() - 0.035), trim, 0.85)
        t = ((fore - y) / (fore - 0.22)).clamp(0, 1)
        jib = inter((-0.035 - x - w * (0.8 * t + belly * (t - t * t))) * 0.8, x + 0.035, 0.22 - y, y - fore)
        c.paint(jib, jib_c)
        c.shade(union(main, jib), (0.2 - x * c.lx * lee / w).clamp(0, 0.35))
        c.paint(inter(box(x - 0.12, y - tall - 0.05 - 0.02 * torch.sin(20 * x + flag), 0.12, 0.05), -x), trim)
        x = x + mast
        side, deck = w * (1 - 2.7 * (0.16 - y).relu() ** 1.5), y - 0.16 - 0.12 * x * x
        hull = inter((x.abs() - side - 0.2 * y) * 0.9, deck, -y - 0.08)
        c.solid(hull, hull_c, x * lee, y, w)
        c.paint(inter(hull, (deck + 0.06).abs() - 0.022), c.white * c.light)
        c.paint(inter(hull, circle(fold(x, 0.16)[0], y - 0.01, 0.026)), trim)

    c.mirrored(line, boat, 0.55, phase)
    boat()
    foam = (c.y - line + 0.02 - 0.02 * torch.sin(c.x * 15 + phase)).abs() - 0.025
    c.paint(inter(foam, (c.x - x0).abs() - w * 1.2), mix(c.white, c.mid, 0.25), 0.85)
    for k in range(2):
        y = c.y - line + 0.22 + 0.22 * k - 0.03 * torch.sin(c.x * (9 - 2 * k) + phase * (k + 2))
        c.paint(y.abs() - 0.014 - 0.01 * torch.sin(6 * c.x + phase), mix(c.low, c.white, 0.4), 0.5)


def paint_city(c: Canvas) -> None:
    """Three rows of towers, their windows lit at night, mirrored in a river."""
    sky(c, 0.4, 0.85)
    clouds(c, base=0.5)
    level, hue, night = c.u(-0.6, -0.35), c.u(0, 1), (c.night * 1.5).clamp(0, 1)
    for k in range(3):
        wide, phase, tall = c.u(0.2, 0.4), c.u(0, TAU), c.u(0.5, 0.85) * (1.1 - 0.22 * k)
        x, i = fold(c.x + phase, wide)
        gable = 0.12 * (1 - x.abs() * 2 / wide) * (wob(5 * i) > 0.6)
        y = c.y - level - tall * (0.35 + 0.65 * wob(i * 2.4, phase * 7)) - gable
        d = inter(x.abs() - wide * (0.5 - 0.06 * wob(3.3 * i)), y)
        mast = inter(x.abs() - 0.012, y - 0.12 * (wob(1.9 * i) > 0.5))
        value = (0.7 + 0.3 * wob(1.3 * i)) * (1 - 0.4 * night)
        wall = c.lit(hue + 0.12 * torch.sin(2.9 * i), 0.42 + 0.08 * k, value)
        c.paint(union(d, mast), mix(wall, c.low, 0.55 - 0.25 * k))
        c.shade(inter(d, x * c.lx.sign()), 0.5)
        if k > 0:  # the far row is too hazy for windows
            gx, a = fold(x, wide / 4)
            gy, b = fold(y, 0.11)
            pane = inter(box(gx, gy, wide * 0.065, 0.03), d + 0.03)
            on = wob(a * 5.3, b * 3.7 + i * 2.9) > 0.75 - 0.35 * night
            c.paint(pane, mix(c.mid, c.ink, 0.35), 0.75)
            c.paint(pane, c.lamp, on * (0.25 + 0.75 * night))
    c.paint(c.y - level - 0.04, mix(c.ink, c.low, 0.25))
    x, i = fold(c.x + c.u(0, 1), 0.28)
    c.paint(circle(x, c.y - level - 0.08, 0.07 + 0.03 * torch.sin(i * 3)), c.lit(c.u(0.2, 0.45), 0.5, 0.55))
    water(c, level, c.u(0.6, 0.8))
    x, y = c.x - c.u(-0.5, 0.5), c.y - level + c.u(0.2, 0.3)  # a ferry
    c.paint(inter(box(x, y, 0.2, 0.05), x.abs() - 0.2 - y), c.lit(hue + 0.5, 0.6, 0.6))
    c.paint(box(x, y - 0.075, 0.11, 0.03), c.lamp)


def paint_butterfly(c: Canvas) -> None:
    """Wings folded about a tilted axis, with veins, rims and eyes, over a row of flowers."""
    sky(c)
    clouds(c)
    ground = land(c, c.u(-0.75, -0.4))
    meadow(c, ground)
    x, y = rotate(c.x - c.u(-0.15, 0.15), c.y - c.u(-0.05, 0.2), c.u(-0.5, 0.5))
    r, hue, ax = c.u(0.6, 0.76), c.u(0, 1), x.abs() / c.u(0.65, 1.0)
    main, second = c.lit(hue, c.u(0.55, 0.9), 1.0), c.lit(hue + c.u(-0.16, 0.16), c.u(0.5, 0.9), 1.0)
    spot, edge = c.lit(hue + c.u(0.3, 0.7), 0.4, 1.0), mix(c.ink, c.lit(hue + 0.1, 0.8, 0.35), 0.5)
    ux, uy = rotate(ax, y - 0.05, c.u(0.45, 0.8))
    lx, ly = rotate(ax, y + 0.02, c.u(-0.95, -0.55))
    a, b = r * c.u(0.52, 0.64), r * c.u(0.28, 0.4)
    upper = ellipse(ux - a * 0.98, uy - 0.25 * ux * ux, a, b * (0.55 + 0.6 * (ux / (2 * a)).clamp(0, 1)))
    la, lb, tail = r * c.u(0.36, 0.5), r * c.u(0.24, 0.36), c.u(0, 0.2)
    tip = segment(lx, ly, la * 1.4, -lb * 0.4, la * 1.8 + tail, -lb * 0.5 - tail, 0.03)
    lower = smooth_union(ellipse(lx - la * 0.95, ly, la, lb), tip, 0.08)
    rim, veins = c.u(0.035, 0.09), c.u(5, 11)
    for wing, wx, wy, k, tint in ((lower, lx, ly, la, second), (upper, ux, uy, a, main)):
        inner = wing + rim
        c.framed(inner, rim, edge, tint)
        vein = fold(torch.atan2(wy, wx), 2.2 / veins)[0].abs() * wx.abs() - 0.01
        c.paint(inter(inner, vein), edge, 0.7)
        c.paint(inter(inner, circle(wx - k * 0.6, wy, k * 0.38)), mix(tint, c.rgb(1, 0.95, 0.7), 0.5), 0.75)
        c.framed(circle(wx - k * 1.35, wy, k * 0.17), k * 0.09, edge, spot)
    c.shade(union(upper, lower), 0.6 * (0.2 - x * c.lx * 2).clamp(0, 1))
    body, ax, curl = ellipse(x, y + 0.02, 0.055, 0.32), x.abs() - 0.02, c.u(0.1, 0.3)
    c.paint(union(body, circle(x, y - 0.32, 0.07)), edge)
    c.paint(inter(body, fold(y, 0.1)[0].abs() - 0.02), mix(main, edge, 0.4))
    feeler = inter((ax - curl * (y - 0.35).relu().sqrt()).abs() - 0.016, (y - 0.48).abs() - 0.14)
    c.paint(union(feeler, circle(ax - curl * 0.52, y - 0.62, 0.035)), edge)


def paint_lighthouse(c: Canvas) -> None:
    """A striped tower on a rock; its beam is strong at night."""
    sky(c, 0.35, 0.85)
    clouds(c)
    level = c.u(-0.45, -0.15)
    phase = water(c, level)
    s, foot, hue = c.sign(), level + c.u(0.02, 0.15), c.u(0, 1)
    x, y = c.x * s - c.u(0.0, 0.4), c.y - foot
    side = 1.6 * (x.abs() - 0.35 - 0.25 * x).relu() ** 1.2
    cliff = inter((y + side - 0.04 * tri(x * 2.3) - 0.03 * tri(c.y * 3 + x)) * 0.6, level - 0.4 - c.y)
    c.paint(cliff, c.lit(c.u(0.02, 0.75), 0.3, 0.55))
    c.shade(cliff, 0.7 * (0.4 - x * s * c.lx * 1.5).clamp(0, 1) * (0.5 + 0.5 * tri(x * 2.3 + c.y * 1.7)))
    c.paint(inter(cliff, 0.03 * torch.sin(x * 17) - 0.05 - y), c.lit(c.u(0.2, 0.4), 0.55, 0.7))
    w, tall = c.u(0.13, 0.18), c.u(0.78, 1.0) * (0.6 - foot)
    top = y - tall
    bx, by = rotate(x, top - 0.09, c.u(-0.25, 0.25))
    beam = c.cover(by.abs() - 0.03 - 0.16 * bx.abs()) * (1.2 - 0.6 * bx.abs()).clamp(0, 1)
    c.wash((0.2 + 0.6 * c.night) * beam, c.rgb(1, 0.95, 0.6))
    paint = c.lit(hue, 0.78, 0.82)
    hx = x - c.u(0.28, 0.4)
    c.solid(box(hx, y - 0.1, 0.13, 0.14), c.lit(0.1, 0.1, 1.0), hx * s, y, 0.2)
    c.paint(polygon(hx, y, (-0.18, 0.22), (0.18, 0.22), (0.0, 0.4)), paint)
    c.paint(box(hx, y - 0.1, 0.04, 0.05), c.lamp)
    tower = inter(x.abs() - w * (1.15 - 0.45 * y / tall), top, -y)
    c.paint(tower, c.lit(0.1, 0.06, 1.0))
    band = c.u(0.22, 0.42)
    c.paint(inter(tower, fold(y + c.u(0, 0.5) + c.u(-0.4, 0.4) * x, band)[0].abs() - band * 0.25), paint)
    c.shade(tower, 0.8 * (0.3 - x * s * c.lx / w).clamp(0, 1))
    window = inter(box(x, fold(y - 0.2, 0.3)[0], 0.028, 0.045), tower + 0.03)
    c.paint(window, mix(c.ink, c.lamp, c.night))
    c.paint(rbox(x, top, w, 0.03, 0.02), mix(c.ink, paint, 0.3))
    c.paint(box(x, top - 0.1, w * 0.55, 0.09), c.rgb(1.0, 0.93, 0.55))
    c.paint(box(x, top - 0.1, 0.012, 0.09), c.ink)
    dome = inter(ellipse(x, top - 0.18, w * 0.75, 0.11), 0.18 - top)
    c.paint(union(dome, circle(x, top - 0.3, 0.03)), paint)
    tone = c.u(0.47, 0.62)
    for k in range(3):  # breakers in front of the rock
        d = c.y - level + 0.33 + 0.17 * k - 0.03 * torch.sin(c.x * (11 - 2 * k) + phase * (k + 1))
        c.paint(d, mix(c.lit(tone, 0.72, 0.85 - 0.12 * k), c.mid, 0.3))
        c.paint(d.abs() - 0.026 + 0.006 * k, mix(c.white * c.light, c.low, 0.15), 0.9 - 0.15 * k)


PAINTERS: dict[str, Callable[[Canvas], None]] = {
    p.__name__.removeprefix("paint_"): p
    for p in (paint_sea, paint_mountains, paint_house, paint_tree, paint_flower, paint_balloon, paint_face)
    + (paint_fish, paint_planet, paint_car, paint_sailboat, paint_city, paint_butterfly, paint_lighthouse)
}
CLASSES: tuple[str, ...] = tuple(PAINTERS)
Labels = Sequence[int] | Tensor


def factor_table(count: int, seed: int) -> Tensor:
    """Uniform factors (count, FACTORS) in [0, 1) on the CPU; row i depends on seed and i alone.

    The details of a picture go together: a column from FREE on is FOLLOW parts of an earlier column and the rest
    its own, which leaves a picture about as much to say as some twenty tokens can.

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
    leader = u[:, (torch.arange(FACTORS - FREE) * 7 + 3) % FREE]
    v, b = FOLLOW * leader + (1 - FOLLOW) * u[:, FREE:], 1 - FOLLOW
    # The sum's own distribution function (a trapezoid's) makes it uniform again.
    middle, edge = (v - b / 2) / FOLLOW, torch.minimum(v, 1 - v).square() / (2 * FOLLOW * b)
    tied = torch.where(v < b, edge, torch.where(v > FOLLOW, 1 - edge, middle))
    return torch.cat([u[:, :FREE], tied], 1).float().clamp_max_(1 - 2**-24)


def _paint(labels: Tensor, table: Tensor, size: int) -> Tensor:
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
    return _paint(labels, factor_table(len(labels), seed).to(device), size)
