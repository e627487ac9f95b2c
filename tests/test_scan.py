"""Orders of reading the patches."""

import pytest
import torch

from alitok_lite.data.scan import SCANS, path, scanned, unscanned


def places(name, grid):
    order = path(name, grid)
    return list(zip((order // grid).tolist(), (order % grid).tolist(), strict=True))


@pytest.mark.parametrize("grid", [1, 2, 4, 8])
@pytest.mark.parametrize("name", SCANS)
def test_every_patch_is_read_once(name, grid):
    assert path(name, grid).sort().values.tolist() == list(range(grid**2))


@pytest.mark.parametrize("name", ["serpentine", "hilbert"])
def test_these_paths_never_leap(name):
    steps = zip(places(name, 8), places(name, 8)[1:], strict=False)
    assert all(abs(r - s) + abs(c - d) == 1 for (r, c), (s, d) in steps)


def test_paths_written_out():
    assert places("column", 2) == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert path("serpentine", 3).tolist() == [0, 1, 2, 5, 4, 3, 6, 7, 8]
    assert path("hilbert", 2).tolist() == [0, 2, 3, 1]
    quarters = [(r // 4, c // 4) for r, c in places("hilbert", 8)]
    assert [quarters[i] for i in range(0, 64, 16)] == [(0, 0), (1, 0), (1, 1), (0, 1)]  # one after the other
    assert all(len(set(quarters[i : i + 16])) == 1 for i in range(0, 64, 16))


@pytest.mark.parametrize("name", SCANS)
def test_pictures_there_and_back(name):
    pixels = torch.rand(2, 3, 32, 32)
    moved = scanned(pixels, name, 8)
    assert torch.equal(unscanned(moved, name, 8), pixels)
    for i, (row, column) in enumerate(places(name, 4)):
        r, c = divmod(i, 4)
        patch = pixels[:, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
        assert torch.equal(moved[:, :, r * 8 : r * 8 + 8, c * 8 : c * 8 + 8], patch)


def test_wrong_scans():
    with pytest.raises(ValueError, match="'zigzag'; choose one of raster, column"):
        path("zigzag", 4)
    with pytest.raises(ValueError, match="power of two of patches a side, not 6"):
        path("hilbert", 6)
