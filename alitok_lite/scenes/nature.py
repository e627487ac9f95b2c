"""Painters of living things, landscapes and the sky."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from .backdrops import clouds, grass, land, meadow, pines, ridge, set_hour, shadow, sky, stars, water
from .canvas import Canvas
from .shapes import (
    TAU,
    box,
    circle,
    ellipse,
    fold,
    hsv,
    intersection,
    lattice,
    mix,
    polar_fold,
    rbox,
    rotate,
    segment,
    smooth_union,
    triangle,
    union,
    wobble,
)


def paint_sea(c: Canvas) -> None:
    """An island, the sky and the sun mirrored in the swell; a beach with a parasol."""
    sky(c, 0.3, 0.8)
    clouds(c, base=0.45)
    level = c.uniform(-0.2, 0.25)
    ix, iw, ih = c.uniform(-0.9, 0.9), c.uniform(0.35, 0.8), c.uniform(0.0, 0.22)
    d = ellipse(c.x - ix, c.y - level, iw, ih + 0.02)
    d2 = ellipse(c.x - ix - 0.7 * iw, c.y - level, iw * 0.6, 0.6 * ih + 0.02)
    rock = mix(c.lit(c.uniform(0.2, 0.5), 0.45, 0.6), c.light.horizon, 0.35)
    c.solid(union(d, d2), rock, c.x - ix, c.y - level, iw)
    phase = water(c, level)
    gx, gy, span, climb = c.uniform(-0.8, 0.3), c.uniform(0.35, 0.8), c.uniform(0.11, 0.18), c.uniform(-0.5, 0.5)
    for k in range(3):  # gulls, their wings bent by the wind
        x, y = (c.x - gx - 0.33 * k).abs() / span, c.y - gy - 0.2 * climb * k + 0.12 * (k % 2)
        wing = y - span * (0.25 + 0.4 * c.wind.abs()) * torch.sin(math.pi * x.clamp_max(1) ** 0.6)
        gull = intersection(wing.abs() * 0.8 - 0.02, (x - 1) * span)
        c.paint(gull, mix(c.light.ink, c.white, 0.9 * (1 - c.light.night)))
    shore, slant = c.uniform(-0.9, -0.6), c.uniform(-0.3, 0.3)
    front = shore + slant * c.x
    for k in range(3):  # waves rolling onto the beach
        y = front + (0.30 - 0.12 * k) + 0.03 * torch.sin(c.x * (7 - k) + phase * (k + 1))
        c.paint((c.y - y).abs() - 0.022, mix(c.white * c.light.tint, c.light.horizon, 0.2), 0.45 + 0.2 * k)
    d = c.y - front - 0.03 * torch.sin(c.x * 5 + phase * 3)
    c.paint(d, c.lit(c.uniform(0.08, 0.13), c.uniform(0.25, 0.5), 0.98))
    c.paint(d + 0.09, c.lit(0.09, 0.5, 0.86), 0.5 * wobble(c.x * 22, 30 * c.y, 3 * torch.sin(5 * c.x)))
    px, r, hue = c.uniform(-0.7, 0.7), c.uniform(0.2, 0.3), c.uniform(0, 1)  # a parasol that leans with the wind
    py = shore + slant * px - 0.09
    x, y = rotate(c.x - px, c.y - py, -0.3 * c.wind)
    shadow(c, px, py, r * 0.6, 0.035)
    c.paint(box(x, y - 0.22, 0.014, 0.22), c.lit(0.09, 0.3, 0.9))
    d = intersection(circle(x, y - 0.38, r), 0.4 + 0.03 * torch.sin(x * 40 / (r * 4)).abs() - y)
    c.solid(d, c.lit(hue, 0.75, 1.0), x, y - 0.38, r)
    c.paint(intersection(d, fold(torch.atan2(x, y - 0.3), 0.72)[0].abs() * r - 0.18 * r), c.lit(hue, 0.08, 1.0))


def paint_mountains(c: Canvas) -> None:
    """Three ranges with snow, sunlit on one side, behind a lake that mirrors them."""
    sky(c, 0.45, 0.85)
    clouds(c, base=0.5)
    hue, snow = c.uniform(0.5, 0.85), c.uniform(0.05, 0.5)
    level = c.uniform(-0.75, -0.3)
    for k in range(3):
        freq, phase = c.uniform(0.45, 0.8) * (1 + 0.25 * k), c.uniform(0, 1)
        height = c.uniform(0.75, 1.05) * (0.95 - 0.27 * k)
        s = c.x * freq + phase
        jag = 0.16 * triangle(2.7 * s + 0.3) + 0.07 * triangle(6.1 * s)
        top = level + height * (1 - triangle(s)) * (1 - 0.25 * k) + height * jag * 0.7
        d = (c.y - top) * 0.62
        haze = 0.5 - 0.2 * k
        rock = mix(c.lit(hue - 0.05 * k, 0.5, 0.6 + 0.05 * k), c.light.horizon, haze)
        c.paint(d, rock)
        side = c.light.toward_x
        sunny = ((torch.round(s) - s) * side * 40 + 12 * jag * side - c.y * side * 3).clamp(-1, 1)
        c.paint(d, mix(rock, c.white * c.light.tint, 0.3), 0.8 * sunny.relu())
        line = level + height * (1.02 - 0.1 * k) - snow * height * (1 - 0.3 * k) + 0.12 * triangle(5 * s + phase)
        white = mix(c.white * c.light.tint, c.light.ink, 0.22 * (-sunny).relu())
        c.paint(intersection(d, (line - c.y) * 0.7), mix(white, c.light.horizon, haze * 0.35))
    tree = c.lit(c.uniform(0.3, 0.5), 0.55, 0.45)
    pines(c, level, c.uniform(0.1, 0.3), tree)
    lake = level - 0.02
    c.paint(c.y - lake, mix(tree, c.light.horizon, 0.15))
    water(c, lake, 0.7)
    pines(c, c.uniform(-1.25, -0.85) + 0.25 * c.light.toward_x * c.x, c.uniform(0.3, 0.6), mix(tree, c.light.ink, 0.3))


def paint_tree(c: Canvas) -> None:
    """A crown of lobes with fruit, on a curved trunk, among falling leaves."""
    sky(c)
    clouds(c)
    level = c.uniform(-0.75, -0.5)
    ground = land(c, level + 0.12)
    x0, bend, r = c.uniform(-0.3, 0.3), c.uniform(-0.4, 0.4), c.uniform(0.4, 0.6)
    tall, tw = c.uniform(0.55, 0.95) * (0.95 - level - 1.5 * r), c.uniform(0.05, 0.1)
    shadow(c, x0, level, r * 0.9, 0.07)
    y = c.y - level
    x = c.x - x0 - bend * y.clamp_max(0.6) ** 2
    bark = c.lit(c.uniform(0.03, 0.1), 0.5, 0.5)
    width = tw * (1 + 1.3 * torch.exp(-9 * y.relu()) - 0.35 * y)
    trunk = intersection(x.abs() - width, box(x, y - tall * 0.55, 1, tall * 0.6))
    arm = tall * 0.72
    branch = segment(x.abs(), y, 0 * r, arm * 0.9, r * 0.6, arm + r * 0.5, tw * 0.45)
    trunk = union(trunk, branch)
    c.solid(trunk, bark, x, y - tall, tw * 2)
    hue, spread = c.uniform(-0.1, 0.45), c.uniform(0.35, 0.75)
    y = y - tall - r * 0.4
    leaf = c.lit(hue, c.uniform(0.55, 0.85), 0.88)
    lobes = torch.floor(c.uniform(5, 9))
    phase = c.uniform(0, TAU)
    px, py = rotate(x, y, phase)
    px, py = polar_fold(px, py / 0.9, lobes)
    top = circle(x, y - r * c.uniform(0.2, 0.7), r * 0.55)
    blobs = union(circle(x, y, r * 0.72), circle(px - r * spread, py, r * 0.42), top)
    c.solid(blobs, leaf, x, y, r)
    qx, qy = x - 0.12 * r * c.light.toward_x, y - 0.12 * r * c.light.toward_y  # lighter leaves towards the light
    bright = circle(qx, qy, r * (0.55 + 0.08 * torch.sin(torch.atan2(qy, qx) * lobes + phase)))
    glow = 0.9 * (0.5 + (qx * c.light.toward_x + qy * c.light.toward_y) / r).clamp(0, 1)
    c.paint(bright, mix(leaf, c.rgb(1.0, 0.96, 0.6) * c.light.tint, 0.3), glow)
    fx, fy, i, j = lattice(x, y, r * 0.36)
    jit = i * 3.7 + j * 5.1
    fruit = circle(fx - 0.05 * torch.sin(jit), fy - 0.05 * torch.sin(1.9 * jit + phase), c.uniform(0.03, 0.055))
    ripe = c.chance(0.65) * (wobble(2 * jit) > 0.3)
    c.paint(intersection(fruit, blobs + 0.03), c.lit(c.uniform(-0.12, 0.16), c.uniform(0.1, 0.9), 1.0), ripe)
    fx, i = fold(c.x + c.wind * c.y, 0.41)  # leaves falling with the wind
    fy, j = fold(c.y - 0.2 * wobble(i), 0.27)
    d = intersection(ellipse(fx - 0.12 * torch.sin(i * 5 + j * 3), fy, 0.042, 0.027), y + 0.5 * r)
    c.paint(d, mix(leaf, c.white, 0.2), c.chance(0.6))
    grass(c, level - 0.28, mix(ground, c.light.ink, 0.15))


def paint_flower(c: Canvas) -> None:
    """Two rings of petals around a seed head; the stem sets where the leaves grow."""
    sky(c, 0.5, 0.9)
    clouds(c)
    level = c.uniform(-0.55, -0.2)
    ground = land(c, level)
    grass(c, level - 0.2, mix(ground, c.light.ink, 0.15))
    meadow(c, ground)
    x0, y0, r = c.uniform(-0.32, 0.32), c.uniform(0.0, 0.3), c.uniform(0.4, 0.64)
    bend, green = c.uniform(-0.35, 0.35), c.lit(c.uniform(0.24, 0.42), 0.65, 0.6)
    x, y = c.x - x0, c.y - y0
    stem = intersection((x - bend * y * y).abs() - 0.045, y)
    for s in (-1, 1):
        lx, ly = rotate(x - bend * 0.45 - s * 0.02, y + 0.72 + 0.1 * s, c.uniform(0.3, 0.9) * s)
        leaf = ellipse(lx - s * 0.24, ly - 0.5 * lx * lx * s, 0.26, 0.095)
        c.paint(leaf, green)
        c.shade(intersection(leaf, ly), 0.5)
    c.solid(stem, green, x, y + 0.5, 1.0)
    hue, count = c.uniform(-0.35, 0.2), torch.floor(c.uniform(5, 14))
    wide, tip, spin = c.uniform(0.75, 1.1), c.uniform(0.0, 0.5), c.uniform(0, TAU)
    petal = c.lit(hue, c.uniform(0.35, 0.8), 1.0)
    rim = c.lit(hue + c.uniform(-0.12, 0.12), c.uniform(0.2, 0.85), 0.95)
    for k in range(2):
        q = 1 - 0.3 * k
        px, py = rotate(x, y, spin + k * math.pi / count)
        px, py = polar_fold(px, py, count)
        b = wide * r * q * 1.9 / (count + 1.5)
        d = ellipse(px - r * q * 0.58, py * (1 + tip * (px / r - 0.5)), r * q * 0.44, b)
        c.paint(d - 0.025 * (1 - k), mix(petal, c.light.ink, 0.45))
        c.solid(d, mix(petal, rim, 0.75 * k), x, y, r, 0.5)
        c.paint(intersection(d, py.abs() - 0.012 - 0.03 * px), mix(petal, rim, 0.9 - 0.5 * k), 0.6)
    rc = r * c.uniform(0.25, 0.4)
    core = c.lit(c.uniform(0.05, 0.15), 0.8, 0.95)
    c.solid(circle(x, y, rc), core, x, y, rc)
    fx, fy, _, _ = lattice(x, y, rc * 0.36)
    c.paint(intersection(circle(fx, fy, rc * 0.1), circle(x, y, rc * 0.85)), mix(core, c.light.ink, 0.6))


def _hat(c: Canvas, x: Tensor, y: Tensor, w: Tensor, h: Tensor, hue: Tensor) -> None:
    """A striped bobble hat on a quarter of the heads."""
    on, brim = c.chance(0.25), 0.42 * h
    cap = union(intersection(ellipse(x, y - 0.1, w, h + 0.06), brim - y), circle(x, y - h - 0.18, 0.1))
    c.paint(cap, c.lit(hue + 0.3, 0.7, 0.9), on)
    c.paint(intersection(cap, fold(y - brim - 0.02 - 0.1 * x.abs(), 0.2)[0].abs() - 0.05), c.lit(hue, 0.3, 1.0), on)
    c.shade(cap, 0.6 * on * (0.2 - x * c.light.toward_x / w).clamp(0, 1))


def _eyes(c: Canvas, x: Tensor, y: Tensor, brow: Tensor, frame: Tensor) -> None:
    """Eyes looking the same way, brows, and sometimes glasses; x = y = 0 is the middle of the face."""
    ex, r, gaze = c.uniform(0.17, 0.24), c.uniform(0.08, 0.115), c.uniform(-0.03, 0.03)
    y = y - c.uniform(0.0, 0.1)
    ax, side = x.abs() - ex, x.sign()
    c.paint(ellipse(ax, y, r, r * c.uniform(0.7, 1.05)), mix(c.white, c.light.tint, 0.5))
    c.paint(circle(ax + side * gaze, y, r * 0.72), c.lit(c.uniform(0.05, 0.65), 0.7, 0.6))
    c.paint(circle(ax + side * gaze, y, r * 0.45), c.rgb(0.06, 0.04, 0.1))
    c.paint(circle(ax - 0.02 * c.light.toward_x.sign() * side, y - 0.03, r * 0.28), c.white)
    c.paint(ellipse(ax, y - 0.17 - c.uniform(-0.35, 0.12) * ax, 0.11, c.uniform(0.02, 0.04)), brow)
    rims = rbox(ax, y, r + 0.06, r + 0.05, c.uniform(0.03, 0.14)).abs() - 0.018
    c.paint(union(rims, box(x, y, ex - r - 0.06, 0.016)), frame, c.chance(0.35))


def paint_face(c: Canvas) -> None:
    """A symmetric face with hair, perhaps glasses or a hat, in front of a striped sky."""
    sky(c, 0.6, 0.9)
    c.light = replace(c.light, tint=mix(c.light.tint, c.rgb(1.0, 0.98, 0.96), 0.6))
    bx, _ = rotate(c.x, c.y, c.uniform(0, TAU))
    c.paint(fold(bx, c.uniform(0.25, 0.5))[0].abs() - 0.07, mix(c.light.horizon, c.light.top, 0.5), 0.35)
    x0, y0, w, h = c.uniform(-0.12, 0.12), c.uniform(-0.08, 0.1), c.uniform(0.42, 0.54), c.uniform(0.52, 0.64)
    tan, shirt = c.uniform(0, 1), c.uniform(0, 1)
    skin = c.lit(c.uniform(0.04, 0.085), 0.24 + 0.34 * tan + c.uniform(-0.04, 0.04), 1.0 - 0.5 * tan)
    hair = c.lit(c.uniform(-0.05, 0.13), c.uniform(0.4, 0.85), c.uniform(0.15, 1.0))
    sx, sy = c.x - x0, c.y - y0  # upright, for the shoulders
    x, y = rotate(sx, sy, c.uniform(-0.15, 0.15))
    long, vol = c.uniform(-0.5, 1.0), c.uniform(0.06, 0.2)
    back = rbox(x, y + 0.3 * long, w + vol * 0.8, 0.25 + 0.4 * long.relu(), 0.2)
    c.paint(union(back, intersection(ellipse(x, y - 0.12, w + vol, h + vol * 0.6), -0.1 - y)), hair)
    c.shade(back, 0.6)
    neck = rbox(sx, sy + h, 0.17, 0.36, 0.12)
    c.paint(neck, skin)
    c.shade(neck, 0.4)
    d = intersection(ellipse(sx, sy + 1.3, 0.85, 0.55), -circle(sx, sy + 0.68, 0.17))
    c.solid(d, c.lit(shirt, 0.65, 0.9), sx, sy + 1, 0.8)
    c.paint(
        intersection(d, fold(sy + 0.15 * sx * sx, 0.16)[0].abs() - 0.04), c.lit(shirt + c.uniform(0.1, 0.5), 0.4, 1.0)
    )
    ax = x.abs()
    ear = circle(ax - w, y + 0.05, 0.11)
    c.paint(ear, skin)
    c.shade(ear + 0.04, 0.4)
    head = ellipse(x / (1 + c.uniform(-0.25, 0.25) * y), y, w, h)
    c.solid(head, skin, x, y, w, 0.28)
    c.paint(circle(ax - 0.27, y + 0.2, 0.11), c.lit(0.99, 0.55, 0.95), c.uniform(0.1, 0.5))
    _eyes(c, x, y, mix(hair, c.light.ink, 0.4), c.lit(shirt + 0.5, 0.7, 0.4))
    c.paint(ellipse(x, y + 0.13, c.uniform(0.04, 0.075), 0.06), skin * c.rgb(0.86, 0.72, 0.74))
    mw, mo = c.uniform(0.13, 0.22), c.uniform(0.0, 0.06)
    my = y + 0.33 - (c.uniform(0.2, 1.8) + 14 * mo) * ax * ax
    mouth = intersection(my.abs() - 0.025 - mo * (1 - (ax / mw) ** 2).relu(), ax - mw)
    c.paint(mouth, c.lit(0.98, 0.7, 0.62))
    c.paint(intersection(mouth, 0.02 - my), c.white, (mo > 0.03).float())
    line = h * c.uniform(0.3, 0.55) + c.uniform(-0.2, 0.2) * x - 0.3 * ax * ax + c.uniform(0, 0.06) * torch.sin(x * 22)
    c.solid(intersection(union(head, ellipse(x, y - 0.12, w + 0.05, h)), line - y), hair, x, y - h, w)
    _hat(c, x, y, w + vol + 0.02, h + 0.5 * vol, shirt)


def _sea_bed(c: Canvas) -> None:
    """Water with shafts of light from the sun, weed in two depths, and rippled sand."""
    hue, phase, floor = c.uniform(0.46, 0.66), c.uniform(0, TAU), c.uniform(-0.95, -0.65)
    deep = c.lit(hue + 0.05, 0.85, 0.55)
    c.img.copy_(mix(c.lit(hue, 0.55, 0.95), deep, 0.5 - 0.55 * c.y).expand_as(c.img))
    shafts = wobble(torch.atan2(c.x - c.light.sun_x, 1.5 - c.y) * 17, c.uniform(0, TAU)) ** 2
    c.wash(0.28 * shafts * (0.7 + 0.5 * c.y).relu(), mix(c.light.horizon, c.white, 0.6))
    y = c.y - floor
    bend = 0.15 * c.wind * y * y + 0.05 * torch.sin(6 * y + phase) * (0.3 + y.relu())
    for k in range(2):
        x, i = fold(c.x + bend, 0.5 - 0.1 * k)
        x = x - 0.1 * torch.sin(i * 4 + phase)
        tall = (0.35 + 0.5 * wobble(i * 2.6, phase)) * (1.2 - 0.5 * k)
        weed = intersection(x.abs() - 0.05 * (1.1 - y / tall) - 0.02 * torch.sin(y * 28 + i), y - tall)
        c.paint(weed, mix(c.lit(c.uniform(0.22, 0.48), 0.6, 0.7), deep, 0.55 - 0.35 * k))
    sand = ridge(c, floor, 0.05, 3.0, phase)
    c.paint(sand, mix(c.lit(0.11, 0.45, 0.95), deep, 0.2))
    c.paint(sand + 0.06, deep, 0.3 * wobble(c.x * 20, 25 * c.y, 2 * torch.sin(c.x * 6)))


def paint_fish(c: Canvas) -> None:
    """A fish with scales and stripes under the shafts of the sun; weed sways with the current."""
    set_hour(c, 0.7, 1.0)
    _sea_bed(c)
    s, r, x0, y0 = c.sign(), c.uniform(0.44, 0.62), c.uniform(-0.2, 0.2), c.uniform(-0.2, 0.25)
    b = r * c.uniform(0.5, 0.8)
    x, y = rotate((c.x - x0) * s, c.y - y0, c.uniform(-0.25, 0.25))
    y = y - 0.12 * torch.sin(c.uniform(0, TAU) + x * 3) * (0.5 - x).relu()  # swimming bends the tail
    hue = c.uniform(-0.12, 0.2)
    skin, fins = c.lit(hue, 0.75, 1.0), c.lit(hue + c.uniform(-0.15, 0.15), 0.7, 0.85)
    t = -0.75 - x / r
    notch = t - 0.65 + c.uniform(0.1, 0.35) * (1 - y.abs() / b)
    tail = intersection((y.abs() - b * (0.12 + 1.1 * t)) * 0.75, -t * r, notch * r)
    fin = ellipse(x + 0.15 * r, y.abs() - b * 0.75, r * c.uniform(0.3, 0.5), b * c.uniform(0.3, 0.55))
    c.paint(union(tail, fin), fins)
    c.paint(union(tail, fin), mix(fins, c.light.ink, 0.5), 0.6 * wobble(y * 40, 8 * x) ** 2)
    body = ellipse(x, y * (1 - 0.2 * x / r), r, b)
    c.paint(body, skin)
    c.paint(intersection(body, y + b * 0.25), mix(skin, c.white, 0.6), 0.8)
    fy, fx, _, _ = lattice(y, x, r * 0.2)
    c.paint(intersection(circle(fx, fy, r * 0.11).abs() - 0.008, body + 0.05, x - 0.35 * r), c.light.ink, 0.35)
    band = fold(x + 0.3 * y * y / r + c.uniform(0, 1), r * c.uniform(0.35, 0.8))[0].abs() - r * c.uniform(0.04, 0.12)
    c.paint(intersection(body, band, x - 0.45 * r), c.lit(hue + c.uniform(0.3, 0.7), 0.6, 0.9), 0.9)
    c.shade(body, 0.7 * (0.1 - (x * s * c.light.toward_x + y * c.light.toward_y) / b).clamp(0, 1))
    c.paint(ellipse(x - 0.05 * r, y + 0.25 * b, r * 0.2, b * 0.16), fins)
    c.paint(circle(x - 0.62 * r, y - 0.15 * b, r * 0.16), c.white)
    c.paint(circle(x - 0.65 * r, y - 0.15 * b, r * 0.09), c.rgb(0.05, 0.04, 0.12))
    c.paint(segment(x, y, 0.82 * r, -0.22 * b, 1.0 * r, -0.12 * b, 0.018), c.light.ink, 0.7)
    for k in range(4):  # bubbles from the mouth
        bx = c.x - x0 - s * (r * 1.1 + 0.05 * math.sin(2.4 * k)) - 0.1 * c.wind * k
        bubble = circle(bx, c.y - y0 - 0.12 - 0.19 * k, 0.03 + 0.013 * k)
        c.paint(bubble.abs() - 0.012, c.rgb(0.9, 1, 1), 0.85)


def _space(c: Canvas, hue: Tensor) -> None:
    """A dark sky of one hue with a cloud of mist and stars."""
    c.img.copy_(hsv(hue, 0.78, 0.24 + 0.08 * c.y).expand_as(c.img))
    x, y = rotate(c.x, c.y, c.uniform(0, TAU))
    mist = torch.exp(-6 * (y - 0.25 * torch.sin(3 * x + c.uniform(0, TAU))) ** 2)
    c.wash(0.6 * mist * (0.6 + 0.4 * torch.sin(4 * x)), hsv(hue + c.uniform(-0.2, 0.2), 0.65, 0.7))
    stars(c, torch.ones_like(hue))


def paint_planet(c: Canvas) -> None:
    """A banded planet, perhaps ringed, with two moons lit from the same side."""
    set_hour(c)
    hue, r, a = c.uniform(0.52, 0.88), c.uniform(0.4, 0.58), c.uniform(0, TAU)
    _space(c, hue)
    light = mix(c.light.tint, c.white, 0.75)
    c.light = replace(c.light, tint=light, toward_x=torch.cos(a), toward_y=torch.sin(a))
    dark = hsv(hue, 0.8, 0.15)
    x, y = c.x - c.uniform(-0.25, 0.25), c.y - c.uniform(-0.2, 0.2)
    base, second = c.uniform(0, 1), c.uniform(0.08, 0.5)
    soil, bands = c.lit(base, c.uniform(0.4, 0.75), 0.95), c.lit(base + second, 0.5, 1.0)
    d = circle(x, y, r)
    c.wash(0.5 * torch.exp(-9 * d.relu()), soil)  # the glow of its air
    rx, ry = rotate(x, y, c.uniform(-0.7, 0.7))
    flat, gap, wide, has = c.uniform(0.12, 0.4), c.uniform(1.25, 1.4), c.uniform(0.15, 0.45), c.chance(0.6)
    e = (rx * rx + (ry / flat) ** 2).sqrt() / r
    slope = flat + (1 - flat) * (rx / (e * r)).abs().clamp(0, 1)  # distances shrink with the ring's height
    ring = ((e - gap - wide * 0.5).abs() - wide * 0.5) * r * slope

    def rings(half: Tensor) -> None:
        c.paint(half, mix(soil, c.white, 0.35), 0.92 * has)
        c.paint(half, c.light.ink, 0.45 * has * wobble(e * 45))

    rings(intersection(ring, -ry))  # the far half, behind the planet
    c.paint(d, soil)
    wave = ry + 0.04 * torch.sin(rx * 7 + a) + 0.2 * rx * rx
    c.paint(d, bands, (2.5 * torch.sin(wave / r * c.uniform(4, 11) + c.uniform(0, TAU))).clamp(0, 1) * 0.85)
    px, py = rx - r * c.uniform(-0.5, 0.5), ry - r * c.uniform(-0.5, 0.5)
    for k in range(3):  # storms
        qx, qy, q = px + 0.3 * r * math.sin(4 * k), py + 0.3 * r * math.cos(4 * k), r * (0.2 - 0.05 * k)
        c.paint(
            intersection(ellipse(qx, qy, q, 0.65 * q), d), mix(c.lit(base + second / 2, 0.6, 0.8), c.light.ink, 0.25)
        )
    c.shade(intersection(d, (e - gap).abs() * r * flat - 0.05, -ry), 0.7 * has)  # the ring's shadow
    bulge = (1 - (x * x + y * y) / (r * r)).relu().sqrt()
    toward = (x * c.light.toward_x + y * c.light.toward_y) / r * 0.85 + 0.5 * bulge
    c.paint(d, dark, (0.75 - 1.6 * toward).clamp(0, 0.88))
    rings(intersection(ring, ry))
    for k in range(2):
        q, m = c.uniform(0, TAU), c.uniform(0.05, 0.11)
        mx, my = c.x + 0.75 * torch.cos(q), c.y - 0.75 * torch.sin(q)
        c.paint(circle(mx, my, m), c.lit(base + 0.5 + 0.2 * k, 0.3, 0.95))
        c.paint(
            circle(mx, my, m), dark, (0.4 - 1.5 * (mx * c.light.toward_x + my * c.light.toward_y) / m).clamp(0, 0.85)
        )


def paint_butterfly(c: Canvas) -> None:
    """Wings folded about a tilted axis, with veins, rims and eyes, over a row of flowers."""
    sky(c)
    clouds(c)
    ground = land(c, c.uniform(-0.75, -0.4))
    meadow(c, ground)
    x, y = rotate(c.x - c.uniform(-0.15, 0.15), c.y - c.uniform(-0.05, 0.2), c.uniform(-0.5, 0.5))
    r, hue, ax = c.uniform(0.6, 0.76), c.uniform(0, 1), x.abs() / c.uniform(0.65, 1.0)
    main, second = c.lit(hue, c.uniform(0.55, 0.9), 1.0), c.lit(hue + c.uniform(-0.16, 0.16), c.uniform(0.5, 0.9), 1.0)
    spot, edge = c.lit(hue + c.uniform(0.3, 0.7), 0.4, 1.0), mix(c.light.ink, c.lit(hue + 0.1, 0.8, 0.35), 0.5)
    ux, uy = rotate(ax, y - 0.05, c.uniform(0.45, 0.8))
    lx, ly = rotate(ax, y + 0.02, c.uniform(-0.95, -0.55))
    a, b = r * c.uniform(0.52, 0.64), r * c.uniform(0.28, 0.4)
    upper = ellipse(ux - a * 0.98, uy - 0.25 * ux * ux, a, b * (0.55 + 0.6 * (ux / (2 * a)).clamp(0, 1)))
    la, lb, tail = r * c.uniform(0.36, 0.5), r * c.uniform(0.24, 0.36), c.uniform(0, 0.2)
    tip = segment(lx, ly, la * 1.4, -lb * 0.4, la * 1.8 + tail, -lb * 0.5 - tail, 0.03)
    lower = smooth_union(ellipse(lx - la * 0.95, ly, la, lb), tip, 0.08)
    rim, veins = c.uniform(0.035, 0.09), c.uniform(5, 11)
    for wing, wx, wy, k, tint in ((lower, lx, ly, la, second), (upper, ux, uy, a, main)):
        inner = wing + rim
        c.framed(inner, rim, edge, tint)
        vein = fold(torch.atan2(wy, wx), 2.2 / veins)[0].abs() * wx.abs() - 0.01
        c.paint(intersection(inner, vein), edge, 0.7)
        c.paint(intersection(inner, circle(wx - k * 0.6, wy, k * 0.38)), mix(tint, c.rgb(1, 0.95, 0.7), 0.5), 0.75)
        c.framed(circle(wx - k * 1.35, wy, k * 0.17), k * 0.09, edge, spot)
    c.shade(union(upper, lower), 0.6 * (0.2 - x * c.light.toward_x * 2).clamp(0, 1))
    body, ax, curl = ellipse(x, y + 0.02, 0.055, 0.32), x.abs() - 0.02, c.uniform(0.1, 0.3)
    c.paint(union(body, circle(x, y - 0.32, 0.07)), edge)
    c.paint(intersection(body, fold(y, 0.1)[0].abs() - 0.02), mix(main, edge, 0.4))
    feeler = intersection((ax - curl * (y - 0.35).relu().sqrt()).abs() - 0.016, (y - 0.48).abs() - 0.14)
    c.paint(union(feeler, circle(ax - curl * 0.52, y - 0.62, 0.035)), edge)
