"""Other orders of reading the patches, for the experiment: does alignment need raster order?

The patches of a picture are moved, so that reading it row by row follows another path. Nothing else changes: encoder
and decoders learn their positions, and the prefix tokens show the first G patches of the path. But the AR model's 2D
RoPE then encodes the position in the path, written in rows, and not the position in the picture.
"""

import torch
from einops import rearrange
from torch import Tensor

SCANS = ("raster", "column", "serpentine", "hilbert")


def path(name: str, grid: int) -> Tensor:
    """The patches (raster indices) in the order of a scan: (G*G,).

    raster: row by row. column: column by column. serpentine: row by row, every second one backwards. hilbert: along
    Hilbert's curve, whose neighbours are neighbours in the picture, G a power of two. ValueError for another name or G.

    Shape: path("serpentine", 4) -> (16,)
    """
    places = torch.arange(grid**2).view(grid, grid)
    if name == "raster":
        return places.flatten()
    if name == "column":
        return places.T.flatten()
    if name == "serpentine":
        return torch.stack([row.flip(0) if number % 2 else row for number, row in enumerate(places)]).flatten()
    if name != "hilbert":
        raise ValueError(f"no scan {name!r}; choose one of {', '.join(SCANS)}")
    if grid & (grid - 1):
        raise ValueError(f"Hilbert's curve needs a power of two of patches a side, not {grid}")
    return torch.tensor([row * grid + column for row, column in _hilbert(grid)])


def _hilbert(grid: int) -> list[tuple[int, int]]:
    """Rows and columns along Hilbert's curve from the upper left to the upper right corner: four smaller curves."""
    if grid == 1:
        return [(0, 0)]
    half, quarter = grid // 2, _hilbert(grid // 2)
    first = [(c, r) for r, c in quarter]  # upper left, mirrored: ends below
    second = [(r + half, c) for r, c in quarter]
    third = [(r + half, c + half) for r, c in quarter]
    last = [(half - 1 - c, grid - 1 - r) for r, c in quarter]  # upper right, mirrored the other way
    return first + second + third + last


def scanned(pixels: Tensor, name: str, patch: int) -> Tensor:
    """Pictures whose raster order is the scan's: (B, 3, S, S) -> (B, 3, S, S).

    Shape: scanned((2, 3, 32, 32), "hilbert", 16) -> (2, 3, 32, 32)
    """
    return _moved(pixels, path(name, pixels.shape[-1] // patch), patch)


def unscanned(pixels: Tensor, name: str, patch: int) -> Tensor:
    """What `scanned` did, undone.

    Shape: unscanned((2, 3, 32, 32), "hilbert", 16) -> (2, 3, 32, 32)
    """
    return _moved(pixels, path(name, pixels.shape[-1] // patch).argsort(), patch)


def _moved(pixels: Tensor, order: Tensor, patch: int) -> Tensor:
    sizes = {"p": patch, "q": patch}
    patches = rearrange(pixels, "b c (h p) (w q) -> b (h w) c p q", **sizes)[:, order.to(pixels.device)]
    return rearrange(patches, "b (h w) c p q -> b c (h p) (w q)", h=pixels.shape[-2] // patch)
