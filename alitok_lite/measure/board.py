"""Where tokens stand on a board: G x G patches, and the prefix tokens in a strip above them.

The figures (viz/) and the page (demo/) draw the same board; what both compute is here.
"""

import math

import numpy as np


def token_cell(token: int, prefix: int, grid: int) -> tuple[int, int]:
    """(row, column) of a token's cell among the G x G patches.

    Prefix tokens have row -1: token 1 + c stands above column c, and token 0, which sketches the corner, in column -1.
    """
    if token < prefix:
        return -1, token - 1
    return divmod(token - prefix, grid)


def geometry(tokens: int) -> tuple[int, int]:
    """(K, G) of a sequence of T tokens; ValueError unless T is G*G or 1 + G + G*G."""
    grid = math.isqrt(tokens)
    if tokens == grid * grid or tokens == 1 + grid + grid * grid:
        return tokens - grid * grid, grid
    raise ValueError(f"{tokens} values are no token sequence: give G*G of them, or 1 + G + G*G with a prefix")


def overlay_opacity(shares: np.ndarray | float) -> np.ndarray | float:
    """Opacity of a colour over a picture for values as shares of the largest, 0 to 1: low ones let it shine through."""
    return 0.95 * np.clip(shares, 0, 1) ** 0.4
