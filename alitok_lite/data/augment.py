"""Random crops, flips and colours of decoded pictures, and the ten fixed crops; on the device."""

import math

import torch
from torch import Tensor

from ..machine import resize, sample_inside


def augment(pixels: Tensor, numbers: Tensor, size: int) -> Tensor:
    """Random resized crop, flip and colour: uint8 (B, 3, s, s) -> float32 (B, 3, size, size) in [0, 1].

    `numbers` (B, 8) in [0, 1): area (0.6 to 1), ratio (0.8 to 1.25), place across and down, flip, brightness,
    contrast, saturation (each 0.9 to 1.1).
    """
    area, ratio, across, down, flip, *colour = numbers[:, :, None].unbind(1)  # each (B, 1)
    area, ratio = 0.6 + 0.4 * area, torch.exp((2 * ratio - 1) * math.log(1.25))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    # The grid is made by hand: affine_grid multiplies matrices, in bfloat16 under the autocast of a training step.
    line = (torch.arange(size, device=pixels.device) * 2 + 1) / size - 1
    x = (1 - width) * (2 * across - 1) + torch.where(flip < 0.5, -width, width) * line  # (B, size)
    y = (1 - height) * (2 * down - 1) + height * line
    cut = sample_inside(pixels.float() / 255, x[:, None, :], y[:, :, None])
    brightness, contrast, saturation = (0.9 + 0.2 * number[:, :, None, None] for number in colour)
    cut = cut * brightness
    grey = _grey(cut)
    cut = grey + (cut - grey) * saturation  # leaves the grey values as they are
    mean = grey.mean((2, 3), keepdim=True)
    return (mean + (cut - mean) * contrast).clamp(0, 1)


def _grey(pixels: Tensor) -> Tensor:
    """Luma (B, 1, H, W)."""
    return 0.299 * pixels[:, :1] + 0.587 * pixels[:, 1:2] + 0.114 * pixels[:, 2:]


def cut_crop(large: Tensor, size: int, crop: int) -> Tensor:
    """One of ten crops of pictures (n, 3, s, s) -> (n, 3, size, size).

    0 to 4: top left, top right, bottom left, bottom right, centre; 5 to 9: the mirror images of these crops.
    """
    end = large.shape[-1] - size
    top, left = ((0, 0), (0, end), (end, 0), (end, end), (end // 2, end // 2))[crop % 5]
    pixels = large[:, :, top : top + size, left : left + size]
    return pixels.flip(3) if crop >= 5 else pixels.contiguous()


def resized(pixels: Tensor, size: int) -> Tensor:
    """uint8 (n, 3, s, s) -> float32 (n, 3, size, size) in [0, 1], as Pillow's bicubic filter does it."""
    return resize(pixels.float() / 255, size, "bicubic").clamp(0, 1)
