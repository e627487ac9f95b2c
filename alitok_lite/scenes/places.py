"""Painters of houses, vehicles and other things that people make."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .backdrops import clouds, grass, land, pines, ridge, shadow, sky, water
from .canvas import Canvas
from .shapes import (
    TAU,
    box,
    circle,
    ellipse,
    fold,
    intersection,
    mix,
    polar_fold,
    polygon,
    rbox,
    rotate,
    segment,
    triangle,
    union,
    wobble,
)


def paint_house(c: Canvas) -> None:
    """A cottage whose smoke drifts with the wind and whose windows light up at night."""
    sky(c)
    clouds(c)
    level = c.uniform(-0.62, -0.4)
    ground = land(c, level + 0.1)
    x0, w, h, roof = c.uniform(-0.35, 0.35), c.uniform(0.38, 0.58), c.uniform(0.22, 0.38), c.uniform(0.22, 0.5)
    x, y = c.x - x0, c.y - level - h
    shadow(c, x0, level, w * 1.1, 0.09)
    path = x - 0.5 * w - c.uniform(-0.5, 0.5) * (level - c.y) ** 2
    d = intersection(path.abs() - 0.09 - 0.16 * (level - c.y), c.y - level)
    c.paint(d, mix(ground, c.rgb(1, 0.93, 0.8), 0.6))
    cx = c.sign() * w * 0.55
    c.puffs(x - cx, y - h - roof - 0.12, 0.16 * c.wind, 0.13, 0.05)
    d = box(x - cx, y - h - roof * 0.5, 0.075, roof * 0.5 + 0.02)
    c.solid(d, c.lit(0.03, 0.5, 0.65), x - cx, y - h - roof, 0.3)
    hue = c.uniform(0, 1)
    trim, wall = c.lit(hue + 0.08, 0.12, 1.0), c.lit(hue, c.uniform(0.15, 0.55), 0.95)
    d = union(box(x, y, w, h), polygon(x, y, (-w, h), (w, h), (0 * w, h + roof)))
    c.paint(d, wall)
    c.shade(d, 0.4 * c.cover(fold(y, 0.11)[0].abs() - 0.014) + 0.5 * (0.2 - x * c.light.toward_x / w).clamp(0, 1))
    slope = roof / w
    above = (y - h - roof + x.abs() * slope) / (1 + slope * slope).sqrt()  # above the gable's lines
    eaves = intersection(above.abs() - 0.065, x.abs() - w - 0.1, h - 0.14 - y)
    c.paint(eaves, c.lit(hue + c.uniform(0.35, 0.65), 0.65, 0.72))
    c.shade(intersection(eaves, -above), 0.5)
    c.shade(intersection(d, -above - 0.12), 0.6)  # the roof's shadow on the wall
    pane = mix(mix(c.light.middle, c.rgb(0.72, 0.9, 1.0), 0.75), c.lamp, (c.light.night * 1.6).clamp(0, 1))
    window = box(x + 0.25 * w, y - h * 0.2, w * 0.42, h * 0.42)
    c.framed(window, 0.03, trim, pane)
    bars = torch.minimum(fold(x + 0.25 * w, w * 0.42)[0].abs(), (y - 0.2 * h).abs())
    c.paint(intersection(window, bars - 0.014), trim)
    door = rbox(x - 0.5 * w, y + h * 0.25, w * 0.18, h * 0.75, 0.05)
    c.framed(door, 0.03, trim, c.lit(hue + c.uniform(0.3, 0.7), 0.7, 0.7))
    c.paint(circle(x - 0.6 * w, y + 0.3 * h, 0.022), trim)
    c.framed(circle(x, y - h - roof * 0.4, 0.07 + 0.08 * roof), 0.025, trim, pane)
    fx, fy = fold(c.x + c.uniform(0, 1), 0.13)[0].abs(), c.y - level + 0.14
    fence = intersection(union(intersection(fx - 0.03, fy.abs() - 0.13 + fx), fy.abs() - 0.022), 0.24 - path.abs())
    c.paint(fence, c.lit(hue + 0.1, 0.08, 1.0), c.chance(0.6))
    grass(c, level - 0.3, mix(ground, c.light.ink, 0.15))


def _hot_air(c: Canvas, x: Tensor, y: Tensor, r: Tensor, hue: Tensor, f: list[Tensor]) -> None:
    """One balloon with its centre at x = y = 0; f holds stripes, second hue, band, contrast."""
    neck, tip = 0.2, 1.35
    knee = -0.5 * r
    low = r * (0.866 - (0.866 - neck) * (knee - y) / (r * (tip - 0.5)))
    half = torch.where(y > knee, (r * r - y * y).clamp_min(1e-6).sqrt(), low)
    cone = polygon(x, y, (-neck * r, -tip * r), (neck * r, -tip * r), (0.866 * r, knee), (-0.866 * r, knee))
    d = union(circle(x, y, r), cone)
    rope = segment(x.abs(), y, 0.2 * r, -tip * r, 0.13 * r, -1.66 * r, 0.014)
    c.paint(rope, mix(c.light.ink, c.light.horizon, 0.15))
    basket = rbox(x, y + 1.74 * r, 0.19 * r, 0.13 * r, 0.03)
    c.solid(basket, c.lit(0.08, 0.55, 0.65), x, y + 1.7 * r, 0.2 * r)
    c.paint(intersection(basket, (y + 1.64 * r).abs() - 0.02), c.lit(0.09, 0.4, 0.9))
    base, second = c.lit(hue, 0.72, 0.95), c.lit(hue + f[1], f[3], 1.0)
    c.paint(d, base)
    turn_ = torch.asin((x / half.clamp_min(0.02)).clamp(-0.999, 0.999))
    stripe = torch.sin(turn_ * f[0] + f[2] * 9)
    soft = r * c.size / f[0] * 0.45
    c.paint(d, second, (0.5 + stripe * soft).clamp(0, 1))
    zig = (y - r * f[2] - 0.1 * r * triangle(turn_ * f[0] / math.pi)).abs() - 0.1 * r
    c.paint(intersection(d, zig), c.lit(hue + f[1] * 0.5, 0.5, 1.0), 0.95)
    c.shade(d, 0.75 * (0.25 - (x * c.light.toward_x + y * c.light.toward_y) / r).clamp(0, 1))
    c.paint(
        d,
        c.white,
        0.35 * (1 - circle(x - 0.4 * r * c.light.toward_x, y - 0.45 * r * c.light.toward_y, 0 * r) / (0.5 * r)).relu(),
    )


def paint_balloon(c: Canvas) -> None:
    """A hot-air balloon leaning with the wind, and its little sister far away."""
    sky(c)
    clouds(c)
    land(c, c.uniform(-1.0, -0.7))
    hue = c.uniform(0, 1)
    f = [c.uniform(4, 13), c.uniform(0.1, 0.6), c.uniform(-0.4, 0.4), c.uniform(0.05, 0.6)]
    side, r = c.sign(), c.uniform(0.09, 0.16)
    _hot_air(c, c.x - side * c.uniform(0.5, 0.8), c.y - c.uniform(-0.2, 0.65), r, hue + 0.3, f)
    r = c.uniform(0.34, 0.5)
    top, bottom = 0.94 - r, 1.87 * r - 0.9  # from touching the upper edge to touching the lower one
    x, y = rotate(c.x + side * c.uniform(-0.05, 0.35), c.y - bottom - (top - bottom) * c.uniform(0, 1), 0.15 * c.wind)
    _hot_air(c, x, y, r, hue, f)


def _wheels(c: Canvas, x: Tensor, y: Tensor, r: Tensor, body: Tensor) -> None:
    """Two wheels at once, as x is folded, in their arches; the spokes stand at any angle."""
    c.paint(intersection(circle(x, y, r * 1.22), body - 0.01), c.light.ink, 0.75)
    c.paint(circle(x, y, r), c.rgb(0.11, 0.1, 0.17))
    c.paint(circle(x, y, r * 0.6), c.lit(0.6, 0.06, 0.92))
    x, y = polar_fold(*rotate(x, y, c.uniform(0, TAU)), torch.floor(c.uniform(4, 8)))
    c.paint(circle(x - r * 0.36, y, r * 0.13), c.rgb(0.2, 0.2, 0.3))


def paint_car(c: Canvas) -> None:
    """A car before a wood; at night its headlights shine."""
    sky(c)
    clouds(c)
    level = c.uniform(-0.42, -0.2)
    ground = land(c, level + 0.1)
    pines(c, level + 0.06, c.uniform(0.2, 0.45), mix(ground, c.light.ink, 0.35))
    c.paint(c.y - level + 0.12, c.lit(0.68, 0.12, 0.42))
    c.paint((c.y - level + 0.15).abs() - 0.022, mix(ground, c.white, 0.6))
    c.paint(box(fold(c.x + c.uniform(0, 1), 0.5)[0], c.y - level + 0.62, 0.14, 0.03), c.lit(0.13, 0.5, 1.0))
    s, w, h, r = c.sign(), c.uniform(0.56, 0.74), c.uniform(0.14, 0.2), c.uniform(0.13, 0.17)
    x0, y0 = c.uniform(-0.2, 0.2), level - c.uniform(0.32, 0.48)
    shadow(c, x0, y0, w * 0.9, 0.06)
    x, y = (c.x - x0) * s, c.y - y0 - r - h * 0.7
    hue, night = c.uniform(0, 1), (c.light.night * 1.6).clamp(0, 1)
    coat, accent = c.lit(hue, c.uniform(0.55, 0.85), c.uniform(0.75, 1.0)), c.lit(hue + c.uniform(0.1, 0.6), 0.25, 1.0)
    cab = c.uniform(0.26, 0.42)
    cw = w * c.uniform(0.5, 0.68)
    cx = w * c.uniform(-0.25, 0.02)
    rake = c.uniform(0.05, 0.28)
    beam = intersection((y + 0.06 * x).abs() - 0.05 - 0.35 * (x - w), w - x)
    c.wash(night * 0.5 * c.cover(beam) * (1.3 - x / 1.6).clamp(0, 1), c.lamp)
    low, top = ((cx - cw, h / 2), (cx + cw + rake * 0.6, h / 2)), h + cab
    cabin = polygon(x, y, *low, (cx + cw - rake * 0.4, top), (cx - cw + rake * 0.6, top))
    c.solid(cabin - 0.03, coat, x * s, y, w)
    pane = intersection(cabin + 0.035, 0.03 - (x - cx).abs(), h * 0.6 + 0.03 - y)
    c.paint(pane, mix(mix(c.light.middle, c.rgb(0.8, 0.95, 1.0), 0.55), c.lamp, night * 0.6))
    c.paint(intersection(pane, fold(x - 0.6 * y, 0.33)[0].abs() - 0.045), c.white, 0.4)
    body = union(rbox(x, y, w, h, h * 0.75), rbox(x, y + h * 0.35, w * 1.04, h * 0.5, 0.06))
    c.solid(body, coat, x * s, y, w)
    c.paint(intersection(body, (y - h * c.uniform(-0.3, 0.5)).abs() - c.uniform(0.02, 0.06)), accent)
    c.paint(intersection(body, (x - cx).abs() - 0.012), c.light.ink, 0.5)  # the door and its handle
    c.paint(box(x - cx - 0.1, y - 0.4 * h, 0.05, 0.014), c.light.ink, 0.7)
    c.paint(circle(x - w * 0.93, y - 0.1 * h, 0.055), c.rgb(1.0, 0.95, 0.65))
    c.paint(box(x + w * 0.97, y - 0.1 * h, 0.035, 0.05), c.rgb(0.95, 0.2, 0.2))
    _wheels(c, x.abs() - w * 0.58, c.y - y0 - r, r, body)
    c.puffs(x + w * 1.1, y + h * 0.6, -0.11, 0.05, 0.035)


def paint_sailboat(c: Canvas) -> None:
    """A boat heeling with the wind, its sails and flag filled by it, mirrored in the sea."""
    sky(c)
    clouds(c)
    level = c.uniform(-0.3, 0.05)
    isle = ridge(c, level - 0.03, c.uniform(0.03, 0.12), 2.6, c.uniform(0, TAU))
    c.paint(isle, mix(c.lit(c.uniform(0.2, 0.5), 0.4, 0.6), c.light.horizon, 0.5))
    phase = water(c, level, 0.5)
    line = level - c.uniform(0.15, 0.35)
    x0, w, tall, lee = c.uniform(-0.3, 0.3), c.uniform(0.38, 0.52), c.uniform(0.85, 1.1), c.wind.sign()
    hue, stripes = c.uniform(0, 1), c.uniform(0.12, 0.3)
    hull_c, sail_c = c.lit(hue, 0.7, 0.75), c.lit(0.12, c.uniform(0.0, 0.2), 1.0)
    trim = c.lit(hue + c.uniform(-0.2, 0.2), 0.75, 0.98)
    jib_c = c.lit(hue + c.uniform(0.2, 0.5), c.uniform(0.1, 0.75), 1.0)
    belly, mast = c.uniform(0.08, 0.25), c.uniform(-0.12, 0.12)
    fore, flag = c.uniform(0.6, 0.95) * tall, c.uniform(0, TAU)

    def boat() -> None:
        x, y = rotate(c.x - x0, c.y - line, -0.16 * c.wind)
        x = x * lee - mast  # the sails fill to the lee side
        c.paint(segment(x, y, 0.0, 0.1, 0 * tall, tall + 0.08, 0.02), c.lit(0.08, 0.5, 0.5))
        t = ((tall - y) / (tall - 0.2)).clamp(0, 1)
        edge = w * (0.95 * t + belly * torch.sin(math.pi * t) * 2)
        main = intersection((x - edge) * 0.8, 0.035 - x, 0.2 - y, y - tall)
        c.paint(main, sail_c)
        c.paint(intersection(main, fold(y + 0.2 * x, stripes)[0].abs() - 0.035), trim, 0.85)
        t = ((fore - y) / (fore - 0.22)).clamp(0, 1)
        jib = intersection((-0.035 - x - w * (0.8 * t + belly * (t - t * t))) * 0.8, x + 0.035, 0.22 - y, y - fore)
        c.paint(jib, jib_c)
        c.shade(union(main, jib), (0.2 - x * c.light.toward_x * lee / w).clamp(0, 0.35))
        c.paint(intersection(box(x - 0.12, y - tall - 0.05 - 0.02 * torch.sin(20 * x + flag), 0.12, 0.05), -x), trim)
        x = x + mast
        side, deck = w * (1 - 2.7 * (0.16 - y).relu() ** 1.5), y - 0.16 - 0.12 * x * x
        hull = intersection((x.abs() - side - 0.2 * y) * 0.9, deck, -y - 0.08)
        c.solid(hull, hull_c, x * lee, y, w)
        c.paint(intersection(hull, (deck + 0.06).abs() - 0.022), c.white * c.light.tint)
        c.paint(intersection(hull, circle(fold(x, 0.16)[0], y - 0.01, 0.026)), trim)

    c.mirrored(line, boat, 0.55, phase)
    boat()
    foam = (c.y - line + 0.02 - 0.02 * torch.sin(c.x * 15 + phase)).abs() - 0.025
    c.paint(intersection(foam, (c.x - x0).abs() - w * 1.2), mix(c.white, c.light.middle, 0.25), 0.85)
    for k in range(2):
        y = c.y - line + 0.22 + 0.22 * k - 0.03 * torch.sin(c.x * (9 - 2 * k) + phase * (k + 2))
        c.paint(y.abs() - 0.014 - 0.01 * torch.sin(6 * c.x + phase), mix(c.light.horizon, c.white, 0.4), 0.5)


def paint_city(c: Canvas) -> None:
    """Three rows of towers, their windows lit at night, mirrored in a river."""
    sky(c, 0.4, 0.85)
    clouds(c, base=0.5)
    level, hue, night = c.uniform(-0.6, -0.35), c.uniform(0, 1), (c.light.night * 1.5).clamp(0, 1)
    for k in range(3):
        wide, phase, tall = c.uniform(0.2, 0.4), c.uniform(0, TAU), c.uniform(0.5, 0.85) * (1.1 - 0.22 * k)
        x, i = fold(c.x + phase, wide)
        gable = 0.12 * (1 - x.abs() * 2 / wide) * (wobble(5 * i) > 0.6)
        y = c.y - level - tall * (0.35 + 0.65 * wobble(i * 2.4, phase * 7)) - gable
        d = intersection(x.abs() - wide * (0.5 - 0.06 * wobble(3.3 * i)), y)
        mast = intersection(x.abs() - 0.012, y - 0.12 * (wobble(1.9 * i) > 0.5))
        value = (0.7 + 0.3 * wobble(1.3 * i)) * (1 - 0.4 * night)
        wall = c.lit(hue + 0.12 * torch.sin(2.9 * i), 0.42 + 0.08 * k, value)
        c.paint(union(d, mast), mix(wall, c.light.horizon, 0.55 - 0.25 * k))
        c.shade(intersection(d, x * c.light.toward_x.sign()), 0.5)
        if k > 0:  # the far row is too hazy for windows
            gx, a = fold(x, wide / 4)
            gy, b = fold(y, 0.11)
            pane = intersection(box(gx, gy, wide * 0.065, 0.03), d + 0.03)
            on = wobble(a * 5.3, b * 3.7 + i * 2.9) > 0.75 - 0.35 * night
            c.paint(pane, mix(c.light.middle, c.light.ink, 0.35), 0.75)
            c.paint(pane, c.lamp, on * (0.25 + 0.75 * night))
    c.paint(c.y - level - 0.04, mix(c.light.ink, c.light.horizon, 0.25))
    x, i = fold(c.x + c.uniform(0, 1), 0.28)
    c.paint(circle(x, c.y - level - 0.08, 0.07 + 0.03 * torch.sin(i * 3)), c.lit(c.uniform(0.2, 0.45), 0.5, 0.55))
    water(c, level, c.uniform(0.6, 0.8))
    x, y = c.x - c.uniform(-0.5, 0.5), c.y - level + c.uniform(0.2, 0.3)  # a ferry
    c.paint(intersection(box(x, y, 0.2, 0.05), x.abs() - 0.2 - y), c.lit(hue + 0.5, 0.6, 0.6))
    c.paint(box(x, y - 0.075, 0.11, 0.03), c.lamp)


def paint_lighthouse(c: Canvas) -> None:
    """A striped tower on a rock; its beam is strong at night."""
    sky(c, 0.35, 0.85)
    clouds(c)
    level = c.uniform(-0.45, -0.15)
    phase = water(c, level)
    s, foot, hue = c.sign(), level + c.uniform(0.02, 0.15), c.uniform(0, 1)
    x, y = c.x * s - c.uniform(0.0, 0.4), c.y - foot
    side = 1.6 * (x.abs() - 0.35 - 0.25 * x).relu() ** 1.2
    cliff = intersection((y + side - 0.04 * triangle(x * 2.3) - 0.03 * triangle(c.y * 3 + x)) * 0.6, level - 0.4 - c.y)
    c.paint(cliff, c.lit(c.uniform(0.02, 0.75), 0.3, 0.55))
    c.shade(
        cliff, 0.7 * (0.4 - x * s * c.light.toward_x * 1.5).clamp(0, 1) * (0.5 + 0.5 * triangle(x * 2.3 + c.y * 1.7))
    )
    c.paint(intersection(cliff, 0.03 * torch.sin(x * 17) - 0.05 - y), c.lit(c.uniform(0.2, 0.4), 0.55, 0.7))
    w, tall = c.uniform(0.13, 0.18), c.uniform(0.78, 1.0) * (0.6 - foot)
    top = y - tall
    bx, by = rotate(x, top - 0.09, c.uniform(-0.25, 0.25))
    beam = c.cover(by.abs() - 0.03 - 0.16 * bx.abs()) * (1.2 - 0.6 * bx.abs()).clamp(0, 1)
    c.wash((0.2 + 0.6 * c.light.night) * beam, c.rgb(1, 0.95, 0.6))
    paint = c.lit(hue, 0.78, 0.82)
    hx = x - c.uniform(0.28, 0.4)
    c.solid(box(hx, y - 0.1, 0.13, 0.14), c.lit(0.1, 0.1, 1.0), hx * s, y, 0.2)
    c.paint(polygon(hx, y, (-0.18, 0.22), (0.18, 0.22), (0.0, 0.4)), paint)
    c.paint(box(hx, y - 0.1, 0.04, 0.05), c.lamp)
    tower = intersection(x.abs() - w * (1.15 - 0.45 * y / tall), top, -y)
    c.paint(tower, c.lit(0.1, 0.06, 1.0))
    band = c.uniform(0.22, 0.42)
    c.paint(
        intersection(tower, fold(y + c.uniform(0, 0.5) + c.uniform(-0.4, 0.4) * x, band)[0].abs() - band * 0.25), paint
    )
    c.shade(tower, 0.8 * (0.3 - x * s * c.light.toward_x / w).clamp(0, 1))
    window = intersection(box(x, fold(y - 0.2, 0.3)[0], 0.028, 0.045), tower + 0.03)
    c.paint(window, mix(c.light.ink, c.lamp, c.light.night))
    c.paint(rbox(x, top, w, 0.03, 0.02), mix(c.light.ink, paint, 0.3))
    c.paint(box(x, top - 0.1, w * 0.55, 0.09), c.rgb(1.0, 0.93, 0.55))
    c.paint(box(x, top - 0.1, 0.012, 0.09), c.light.ink)
    dome = intersection(ellipse(x, top - 0.18, w * 0.75, 0.11), 0.18 - top)
    c.paint(union(dome, circle(x, top - 0.3, 0.03)), paint)
    tone = c.uniform(0.47, 0.62)
    for k in range(3):  # breakers in front of the rock
        d = c.y - level + 0.33 + 0.17 * k - 0.03 * torch.sin(c.x * (11 - 2 * k) + phase * (k + 1))
        c.paint(d, mix(c.lit(tone, 0.72, 0.85 - 0.12 * k), c.light.middle, 0.3))
        c.paint(d.abs() - 0.026 + 0.006 * k, mix(c.white * c.light.tint, c.light.horizon, 0.15), 0.9 - 0.15 * k)
