"""The canvas that scenes are painted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .shapes import TAU, circle, hsv, mix


@dataclass(frozen=True)
class Light:
    """The light of an hour: colours (n, 3, 1, 1) and numbers (n, 1, 1)."""

    top: Tensor  # colour of the sky above,
    middle: Tensor  # in the middle,
    horizon: Tensor  # and at the horizon
    tint: Tensor  # colour of the light, by which the colour of every object is multiplied
    ink: Tensor  # colour of outlines and shadows
    night: Tensor  # 0 by day, 1 at night
    sun_x: Tensor  # place of the sun
    sun_y: Tensor
    toward_x: Tensor  # direction towards the light, of length 1
    toward_y: Tensor


class Canvas:
    """The n pictures of one class while they are painted: coordinates, factors, light, wind, and `img`."""

    light: Light  # a painter begins with `backdrops.set_hour`, which draws the light and the wind
    wind: Tensor  # (n, 1, 1) in -1..1, to the left and to the right

    def __init__(self, table: Tensor, size: int) -> None:
        self.table, self.size, self.used = table, size, 0
        p = (torch.arange(size, device=table.device, dtype=torch.float32) + 0.5) * (2 / size) - 1
        self.x, self.y = p.view(1, 1, size), -p.view(1, size, 1)
        self.img = table.new_zeros(len(table), 3, size, size)
        self.white, self.lamp = self.rgb(1, 1, 1), self.rgb(1.0, 0.85, 0.4)
        self.veil: Tensor | None = None  # while a mirror image is painted: its opacity

    def uniform(self, lo: float, hi: float) -> Tensor:
        """The next factor, uniform over [lo, hi): (n, 1, 1)."""
        self.used += 1
        return (lo + (hi - lo) * self.table[:, self.used - 1]).view(-1, 1, 1)

    def chance(self, p: float) -> Tensor:
        """1 with probability p, else 0: an opacity (n, 1, 1)."""
        return (self.uniform(0, 1) < p).float()

    def sign(self) -> Tensor:
        """-1 or 1 (n, 1, 1)."""
        return 2 * self.chance(0.5) - 1

    def rgb(self, *values: float) -> Tensor:
        """A fixed colour (1, 3, 1, 1)."""
        return self.img.new_tensor(values).view(1, 3, 1, 1)

    def lit(self, h: Tensor | float, s: Tensor | float, v: Tensor | float) -> Tensor:
        """An HSV colour under the light of the hour."""
        return hsv(h + torch.zeros_like(self.light.night), s, v) * self.light.tint

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
        self.shade(d, depth * (0.4 - (x * self.light.toward_x + y * self.light.toward_y) / r).clamp(0, 1))

    def puffs(self, x: Tensor, y: Tensor, dx: Tensor | float, dy: Tensor | float, r: float) -> None:
        """Four puffs of smoke from x = y = 0, growing and fading as they drift."""
        for k in range(4):
            puff = circle(x - dx * k, y - dy * k, r * (1 + 0.4 * k))
            self.paint(puff, mix(self.white, self.light.horizon, 0.4), 0.75 - 0.16 * k)

    def mirrored(self, level: Tensor, scene: Callable[[], None], alpha: float, phase: Tensor) -> None:
        """Paint `scene`, which draws no factor, upside down below the line `level`, rippled and faint."""
        x, y = self.x, self.y
        depth = (level - y).relu()
        self.veil = alpha * (self.cover(y - level) * (1 - 0.5 * depth))
        self.x, self.y = x + (0.03 + 0.05 * depth) * torch.sin(TAU * 9 * y + phase), 2 * level - y
        scene()
        self.x, self.y, self.veil = x, y, None
