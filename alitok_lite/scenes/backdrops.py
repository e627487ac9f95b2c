"""What scenes have in common: the hour and its light, sky, land, water."""

from __future__ import annotations

import torch
from torch import Tensor

from ..machine import sample_inside
from .canvas import Canvas, Light
from .shapes import TAU, circle, ellipse, fold, intersection, mix, polar_fold, turn, union, wobble

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


def set_hour(c: Canvas, low: float = 0.25, high: float = 0.85) -> None:
    """Draw the hour, the sun's height between `low` and `high`, and the wind: sets `c.light` and `c.wind`."""
    t, hue = c.uniform(0, len(_HOURS)), c.uniform(-0.3, 0.3)
    sun_x, sun_y, c.wind = c.uniform(-0.85, 0.85), c.uniform(low, high), c.uniform(-1, 1)
    gap = (t.view(-1, 1) - torch.arange(9.0, device=t.device) + 4.5) % 9 - 4.5
    weight = (1 - gap.abs()).relu().unsqueeze(2)  # summed by hand: a matmul may round to TF32 on a GPU
    keys = (weight * c.img.new_tensor(_HOURS)).sum(1).view(-1, 13, 1, 1)
    top, middle, horizon = (turn(keys[:, i : i + 3], hue[:, None]) for i in (0, 3, 6))
    ink = mix(top, c.rgb(0.10, 0.04, 0.26), 0.7)
    distance = (sun_x**2 + (sun_y + 0.4) ** 2).sqrt()
    toward_x, toward_y = sun_x / distance, (sun_y + 0.4) / distance
    place = {"sun_x": sun_x, "sun_y": sun_y, "toward_x": toward_x, "toward_y": toward_y}
    c.light = Light(top, middle, horizon, tint=keys[:, 9:12], ink=ink, night=keys[:, 12], **place)


def sky(c: Canvas, low: float = 0.25, high: float = 0.85) -> None:
    """The sky of an hour with its sun or, at night, moon and stars."""
    set_hour(c, low, high)
    g = c.y * 0.5 + 0.5 + c.uniform(-0.15, 0.15)
    lower = mix(c.light.horizon, c.light.middle, ((g - 0.3) * 2.2).clamp(0, 1))
    c.img.copy_(mix(lower, c.light.top, ((g - 0.6) * 2).clamp(0, 1)))
    stars(c, c.light.night)
    x, y, r = c.x - c.light.sun_x, c.y - c.light.sun_y, c.uniform(0.09, 0.19)
    d = circle(x, y, r)
    c.wash(0.55 * torch.exp(-3 * d.relu()), mix(c.light.horizon, c.rgb(1.0, 0.97, 0.80), 0.6))
    day = (c.light.night < 0.45).float()  # at night a second disc bites the first to a crescent
    d = intersection(d, -circle(x - 0.5 * r, y - 0.25 * r, r) - day * 3)
    c.paint(d, mix(c.rgb(1.0, 0.96, 0.78), c.light.horizon, 0.15))


def stars(c: Canvas, amount: Tensor) -> None:
    x, i = fold(c.x + c.uniform(-1, 1), 0.27)
    y, j = fold(c.y + 0.1 * torch.sin(i * 2.1), 0.27)
    a = i * 12.7 + j * 7.3
    d = circle(x - 0.09 * torch.sin(a), y - 0.09 * torch.sin(1.7 * a), 0.016 * wobble(2.3 * a))
    c.paint(d, c.rgb(1.0, 0.98, 0.88), amount * (0.4 + 0.6 * wobble(3.1 * a)))


def clouds(c: Canvas, rows: int = 2, base: float = 0.3) -> None:
    """Rows of flat-bottomed clouds, lit from the sun's side, leaning with the wind."""
    size, shift = c.uniform(0.35, 1.0), c.uniform(0, 4)
    white = mix(c.white * c.light.tint, c.light.horizon, 0.25)
    for k in range(rows):
        s = size * (0.30 - 0.08 * k)
        x, i = fold(c.x + shift * (1 + 0.7 * k), 1.5 - 0.3 * k)
        y = c.y - base - 0.32 * k - 0.12 * torch.sin(2.3 * i + 9 * shift)
        lean = 0.3 * s * c.wind
        d = union(
            circle(x, y - 0.10 * s, s * 0.62),
            circle(x - 0.65 * s - lean, y, s * 0.42),
            circle(x + 0.65 * s - lean, y, s * (0.35 + 0.12 * wobble(i + shift))),
            circle(x + 1.1 * s, y + 0.02, s * 0.22),
        )
        d = intersection(d, -0.2 * s - y)
        c.paint(d, white, 0.92)
        c.paint(intersection(d, y + 0.02 * s + 0.2 * c.light.toward_x * x), mix(white, c.light.middle, 0.5), 0.55)


def ridge(c: Canvas, base: Tensor | float, amp: Tensor | float, freq: float, phase: Tensor) -> Tensor:
    """Distance below a smooth rolling line."""
    wave = torch.sin(c.x * freq + phase) + 0.4 * torch.sin(c.x * freq * 2.3 + 2 * phase)
    return (c.y - base - amp * wave) * 0.93


def land(c: Canvas, level: Tensor | float) -> Tensor:
    """Two far hills and the near ground, one hue for all; returns the ground's colour."""
    hue, phase, amp = c.uniform(0.13, 0.45), c.uniform(0, TAU), c.uniform(0.03, 0.13)
    sat = c.uniform(0.35, 0.7)
    far = c.lit(hue + 0.06, sat * 0.7, 0.78)
    c.paint(ridge(c, level + 0.22, amp * 1.4, 2.2, phase), mix(far, c.light.horizon, 0.55))
    c.paint(ridge(c, level + 0.10, amp, 3.1, 2 * phase), mix(far, c.light.horizon, 0.25))
    near = c.lit(hue, sat, 0.72)
    d = ridge(c, level, 0.3 * amp, 2.0, 3 * phase)
    c.paint(d, near)
    rows = wobble(40 * (level - c.y) / (1.3 - c.y + level) + 2 * torch.sin(c.x * 2 + phase))
    c.paint(d, c.lit(hue - 0.03, sat, 0.88), 0.5 * rows * rows)
    return near


def grass(c: Canvas, level: Tensor | float, colour: Tensor) -> None:
    """Tufts along a line, bent by the wind."""
    y = c.y - level
    x, i = fold(c.x - 0.5 * c.wind * y.relu() + 0.013 * torch.sin(30 * c.x), 0.085)
    height = 0.05 + 0.07 * wobble(i * 2.4, c.wind * 9)
    c.paint(intersection((x.abs() - 0.032 * (1 - y / height)) * 0.9, -y - 0.05), colour)


def meadow(c: Canvas, ground: Tensor) -> None:
    """A row of small flowers along the lower edge, bent by the wind."""
    x, i = fold(c.x + c.uniform(0, 1), c.uniform(0.24, 0.36))
    y = c.y + 0.82 - 0.09 * torch.sin(2.4 * i)
    c.paint(intersection((x + 0.1 * c.wind * y).abs() - 0.016, y), mix(ground, c.light.ink, 0.4))
    qx, qy = polar_fold(x, y, torch.full_like(c.wind, 5))
    c.paint(circle(qx - 0.055, qy, 0.042), c.lit(c.uniform(0, 1), 0.5, 1.0))
    c.paint(circle(x, y, 0.03), c.lit(0.13, 0.75, 1.0))


def pines(c: Canvas, level: Tensor, height: Tensor, colour: Tensor) -> None:
    """A row of fir trees standing on a line."""
    x, i = fold(c.x, height * 0.62)
    h = height * (0.65 + 0.35 * wobble(2.4 * i, 20 * height))
    t = ((c.y - level) / h).clamp(-0.3, 1)
    width = 0.33 * h * (1 - t) * (0.62 + 0.38 * (1 - (t * 3.0) % 1.0))
    d = intersection((x.abs() - width) * 0.85, c.y - level - h)
    c.paint(d, colour)
    c.shade(intersection(d, x * c.light.toward_x.sign()), 0.5)


def water(c: Canvas, level: Tensor, clear: Tensor | float = 0.55) -> Tensor:
    """A water surface below `level` that mirrors all painted above it; returns the phase of its waves."""
    phase, chop, hue = c.uniform(0, TAU), c.uniform(0.03, 0.16), c.uniform(0.48, 0.62)
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
    c.wash(a * crest, mix(c.light.horizon, c.white, 0.4))
    # the sun's path of glitter
    spread = 0.06 + 0.25 * depth
    path = (1 - ((c.x - c.light.sun_x) / spread) ** 2).relu() * (0.35 + 0.65 * (swell * 3).clamp(0, 1))
    c.wash(a * 0.8 * path, mix(c.light.horizon, c.rgb(1.0, 0.97, 0.8), 0.6))
    return phase


def shadow(c: Canvas, x: Tensor | float, y: Tensor | float, w: Tensor | float, h: float = 0.05) -> None:
    """Cast on the ground, away from the light."""
    long = 0.35 + 0.65 * c.light.toward_x.abs()
    c.paint(ellipse(c.x - x + c.light.toward_x * w * 0.8, c.y - y, w * (0.7 + long), h), c.light.ink, 0.38)
