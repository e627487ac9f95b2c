"""What scenes have in common: the hour and its light, sky, land, water."""

from __future__ import annotations

import torch
from torch import Tensor

from ..machine import sample_inside
from .canvas import Canvas
from .shapes import TAU, circle, ellipse, fold, inter, mix, polar_fold, turn, union, wob

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
