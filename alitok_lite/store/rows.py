"""Matrices in 8 bits: whole numbers from -127 to 127, and one scale a row (output channel).

A row of the matrix is its whole numbers times its scale. The scale has the 8 significant bits of bfloat16, so each
product is exact in float32, and a matrix that was stored and read is stored as the same numbers again.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

MOST = 127  # the largest whole number
LIMIT = 0.01  # root mean square of the error over that of the weights; beyond it a matrix keeps 16 bits
SCALES = ".row_scales"  # ending of the scales' name in a file, after the name of their matrix


def to_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor (R, ...) as int8 of its shape and scales (R,) in bfloat16, both on the CPU.

    No weight moves by more than half its scale.
    """
    flat = matrix.detach().to("cpu", torch.float32).flatten(1)
    smallest = torch.finfo(torch.float32).tiny  # for a row of zeros
    largest = torch.maximum(flat.amax(1), -flat.amin(1))
    scales = (largest / MOST).clamp_min(smallest).bfloat16()
    numbers = (flat / scales.float()[:, None]).round_().clamp_(-MOST, MOST)
    return numbers.to(torch.int8).view(matrix.shape), scales


def from_rows(numbers: Tensor, scales: Tensor) -> Tensor:
    """What `to_rows` stored, in float32. ValueError unless there is one positive, finite scale a row."""
    right = scales.shape == numbers.shape[:1] and scales.is_floating_point()
    if not (right and scales.isfinite().all() and (scales > 0).all()):
        raise ValueError(f"a matrix of {len(numbers)} rows needs as many positive, finite scales")
    return numbers.float().flatten(1).mul_(scales.float()[:, None]).view(numbers.shape)


def fits_rows(weights: Tensor) -> bool:
    """Whether weights are a matrix that 8 bits are enough for; a few very large weights in a row speak against it."""
    if weights.ndim < 2 or not (weights.numel() and weights.isfinite().all()):
        return False
    weights = weights.detach().to("cpu", torch.float32)
    error = from_rows(*to_rows(weights)).sub_(weights)
    return bool(torch.linalg.vector_norm(error) <= LIMIT * torch.linalg.vector_norm(weights))


def wider(path: Path) -> list[str]:
    """Names of the matrices that a weights file of 8 bits keeps in more, because they do not fit."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return [name for name, part in tensors.items() if len(part.get_shape()) > 1 and part.get_dtype() != "I8"]
