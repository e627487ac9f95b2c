"""The exercises of notebook 03: the auxiliary target, swapped prefixes, the prefix's share."""

from collections.abc import Callable

import torch
from torch import Tensor

from .exercises import as_tensor, exercise, known, plain_number, require, require_function, require_tensor, shortened


@exercise(
    "3.1",
    "core",
    7,
    why="The corner is shown by two outputs, so there is a prefix token more than patches in the row.",
    hint="The first row of patches is picture[:, :patch]; cut it every `patch` columns. The corner comes first, too.",
    stub="""
def my_target(picture, patch):
    grid = picture.shape[-1] // patch
    return torch.zeros(1 + grid, 3, patch, patch)  # your code
""",
)
def my_target(answer: Callable) -> None:
    """Write my_target(picture, patch): the target of the 1 + G prefix outputs for a picture (3, S, S), as
    (1 + G, 3, p, p): the top-left patch, then the G patches of the first row."""
    require_function(answer)
    picture = _picture()
    found = as_tensor(answer(picture.clone(), 4), "my_target")
    shape = f"For a 12 x 12 picture and patches of 4, the shape must be (4, 3, 4, 4), and is {tuple(found.shape)}"
    require(found.shape == (4, 3, 4, 4), f"{shape}: 1 + 3 patches.")
    require(torch.equal(found[0], picture[:, :4, :4]), "Patch 0 must be the top-left patch.")
    require(torch.equal(found[1], picture[:, :4, :4]), "Patch 1 must be the first of the first row: the corner again.")
    across = torch.equal(found[2], picture[:, :4, 4:8])
    down = torch.equal(found[2], picture[:, 4:8, :4])
    require(not down or across, "Patch 2 stands below the corner: yours is the first column, not the first row.")
    require(across, "Patch 2 must be the second of the first row: rows 0 to 3, columns 4 to 7.")
    require(torch.equal(found[3], picture[:, :4, 8:]), "The last patch must be the last of the first row.")


known(
    "3.1",
    lambda answer: as_tensor(answer(_picture(), 4), "my_target"),
    {
        "The corner is missing: it comes first, and again as the first of the row.": lambda x, p: _row(x, p),
        "This is the first column; asked is the first row.": lambda x, p: torch.stack(
            [x[:, :p, :p], *x[:, :, :p].split(p, 1)]
        ),
        "The corner must come first, not last.": lambda x, p: torch.cat([_row(x, p), _row(x, p)[:1]]),
        "This is the last row of the picture.": lambda x, p: torch.cat(
            [_row(x, p)[:1], torch.stack(x[:, -p:].split(p, 2))]
        ),
        "This lacks the corner in the row: it belongs there again.": (
            lambda x, p: torch.cat([_row(x, p), _row(x, p)[-1:]])
        ),
        "view cuts along the memory, not along the picture: rows of pixels from different patches are mixed.": (
            lambda x, p: torch.cat([x[None, :, :p, :p], x[:, :p].reshape(-1, 3, p, p)])
        ),
    },
)


def _picture() -> Tensor:
    return torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))


def _row(picture: Tensor, patch: int) -> Tensor:
    return torch.stack(picture[:, :patch].split(patch, 2))


@exercise(
    "3.2",
    "warm-up",
    5,
    why="With a copy the originals can be compared afterwards; a swap of slices overwrites what it reads.",
    hint="a[:k], b[:k] = b[:k], a[:k] fails, because slices are views; start from ids.clone(), or use ids.flip(0).",
    stub="""
def swap(ids, prefix_tokens):
    return ids  # your code
""",
)
def swap(answer: Callable) -> None:
    """Write swap(ids, prefix_tokens): the ids (2, T) of two pictures with exchanged prefixes; row 0 keeps the image
    tokens of picture 0. The ids that were given stay as they are."""
    require_function(answer)
    ids = torch.arange(14).view(2, 7)
    given = ids.clone()
    found = as_tensor(answer(given, 3), "swap")
    require(found.shape == (2, 7), f"The result must have shape (2, 7), and has {tuple(found.shape)}.")
    require_tensor(found[:, 3:], ids[:, 3:], "The image tokens must stay where they are")
    require_tensor(found[0, :3], ids[1, :3], "Row 0 must begin with the prefix of picture 1")
    require_tensor(found[1, :3], ids[0, :3], "Row 1 must begin with the prefix of picture 0")
    require(torch.equal(given, ids), "The ids that were given have been changed; work on a copy.")


def _in_place(ids: Tensor, k: int) -> Tensor:
    ids[0, :k], ids[1, :k] = ids[1, :k], ids[0, :k]
    return ids


known(
    "3.2",
    lambda answer: _swapped(answer),
    {
        "Slices are views: the first assignment has overwritten what the second one reads, so both prefixes are alike."
        " Start from ids.clone().": _in_place,
        "This swaps whole pictures; only the prefix moves.": lambda ids, k: ids.flip(0),
        "This swaps the image tokens. Compare: row 0 must keep the image tokens of picture 0.": (
            lambda ids, k: torch.cat([ids[:, :k], ids.flip(0)[:, k:]], 1)
        ),
        "Nothing has been swapped.": lambda ids, k: ids,
        "The result is right, but it was written into the ids that were given.": (
            lambda ids, k: ids.copy_(torch.cat([ids.flip(0)[:, :k], ids[:, k:]], 1))
        ),
        "One prefix token is left where it was: a slice [:k] has k tokens.": (
            lambda ids, k: torch.cat([ids.flip(0)[:, : k - 1], ids[:, k - 1 :]], 1)
        ),
    },
)


def _swapped(answer: Callable) -> list:
    """What the answer returns, and what it has made of the ids that were given."""
    ids = torch.arange(14).view(2, 7)
    return [answer(ids, 3), ids]


@exercise(
    "3.3",
    "warm-up",
    5,
    why="The prefix grows with G, the picture with G x G: on large grids the prefix is nearly free.",
    hint="The share is (1 + G) / (1 + G + G*G). Try G = 1, 2, 3, ... in a loop.",
    stub="""
cheap_from = 1  # your number
""",
)
def cheap_from(answer: int) -> None:
    """From which grid side G on are the 1 + G prefix tokens less than a tenth of all tokens? Give the smallest such G
    as a whole number."""
    answer = plain_number(answer)
    right = isinstance(answer, int | float) and answer == int(answer) and answer >= 1
    require(right, f"The answer must be a whole number of 1 or more; this is {shortened(answer)}.")
    grid = int(answer)
    here, before = ((1 + g) / (1 + g + g * g) for g in (grid, grid - 1))
    require(here < 0.1, f"At G = {grid} the prefix is still {here:.1%} of the tokens.")
    require(before >= 0.1, f"At G = {grid - 1} it is {before:.1%} already, so {grid} is not the smallest.")


known(
    "3.3",
    plain_number,
    {
        "At 9 it is one part in 9, 11 %.": 9,
        "That is the grid of the paper; the share is small enough long before.": 16,
        "This is from where the share 1 / G is less than a tenth; the corner and the prefix itself count too.": 11,
        "This is a number of tokens, or a share; asked is the side G.": 0.1,
    },
)
