"""The exercises of notebook 09: the look-ahead share, a dependency map, and a comparison at equal bits."""

from collections.abc import Callable

import torch
from torch import Tensor

from .exercises import as_tensor, exercise, known, plain_number, require, require_function, require_number, shortened


@exercise(
    "9.1",
    "warm-up",
    10,
    layer="measure.probe.later_share",
    why="The share is taken for each patch by itself, so a patch that hardly moves counts as much as any other.",
    hint="dependency[t, n] with t > n is a later token. torch.tril(dependency, -1) keeps just those; divide its column"
    " sums by all column sums, and take the mean.",
    stub="""
def later_share(dependency):
    return 0.0  # your code
""",
)
def later_share(answer: Callable) -> None:
    """Write later_share(dependency): dependency (T, T) says how much each patch (column) changes when a token (row) is
    changed; there are no prefix tokens. Return the share of a patch's dependency that comes from later tokens, as a
    mean over the patches."""
    require_function(answer)
    require_number(answer(torch.ones(4, 4).triu()), 0, "Where nothing comes from later tokens, the share must be 0")
    last = torch.zeros(4, 4)
    last[3] = 1
    require_number(answer(last), 0.75, "Where all comes from the last of 4 tokens, 3 patches have 1 and the last has 0")
    require_number(answer(torch.ones(4, 4)), 0.375, "Where each token counts alike, shares are 3/4, 2/4, 1/4 and 0")
    weak = torch.ones(4, 4)
    weak[:, 0] = 100
    message = "Each patch counts alike, also one that changes 100 times as much: divide in each column, then average"
    require_number(answer(weak), 0.375, message)


known(
    "9.1",
    lambda answer: plain_number(answer(_table_of_dependency())),
    {
        "These are the earlier tokens: later ones stand below the diagonal, in rows t > n.": (
            lambda d: (d.triu(1).sum(0) / d.sum(0)).mean()
        ),
        "The diagonal is counted too; the own token is not a later one.": lambda d: (d.tril().sum(0) / d.sum(0)).mean(),
        "You divided all later entries by all entries, so patches that move much count more.": (
            lambda d: d.tril(-1).sum() / d.sum()
        ),
        "Rows and columns are exchanged: a patch is a column.": lambda d: (d.tril(-1).sum(1) / d.sum(1)).mean(),
        "This is one share for each patch; the exercise wants their mean.": lambda d: d.tril(-1).sum(0) / d.sum(0),
        "Yours divides by the other tokens; a share is one of the whole column.": (
            lambda d: (d.tril(-1).sum(0) / d.triu().sum(0).clamp_min(1e-9)).mean()
        ),
        "Yours counts entries that are not 0; their size counts.": lambda d: (d.tril(-1) > 0).float().mean(),
        "This is the mean of the entries below the diagonal; a share is divided by the sum of its column.": (
            lambda d: d.tril(-1).mean()
        ),
        "This is the sum over the patches; the exercise wants their mean.": lambda d: (
            d.tril(-1).sum(0) / d.sum(0)
        ).sum(),
    },
)


def _table_of_dependency() -> Tensor:
    return torch.rand(5, 5, generator=torch.Generator().manual_seed(0))


@exercise(
    "9.2",
    "stretch",
    15,
    layer="measure.probe._by_perturbation measure.probe.dependency_map",
    why="An intervention shows what a patch depends on; no attention map of a single layer could.",
    hint="For each token: changed = ids.clone(); changed[:, t] = (changed[:, t] + 1) % codes. The pictures change by"
    " (decode(changed) - before).abs(), and .view(N, 3, G, p, G, p) cuts that into patches.",
    stub="""
def dependencies(decode, ids, codes, grid):
    return torch.zeros(ids.shape[1], grid * grid)  # your code
""",
)
def dependencies(answer: Callable) -> None:
    """Write dependencies(decode, ids, codes, grid): change one token at a time, in all pictures, to the next code, (id
    + 1) modulo codes, and decode again. Return a table (T, grid * grid): the mean absolute change of the pixels of each
    patch, patches in raster order. decode turns ids (N, T) into pictures (N, 3, S, S)."""
    require_function(answer)
    ids = torch.tensor([[0, 3, 1, 4], [5, 2, 6, 0]])
    own = _map(answer, lambda ids: _patches(ids / 10), ids, (4, 4))
    _equal(own, torch.eye(4) / 10, "Where each patch is a tenth of its own id, the table must be 0.1 on the diagonal")
    causal = _map(answer, lambda ids: _patches(ids.cumsum(1) / 10), ids, (4, 4))
    earlier = torch.ones(4, 4).triu() / 10
    _equal(causal, earlier, "Rows are tokens, columns are patches; where patch n adds up tokens 0 to n, row 0 is full")
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    _equal(
        _map(answer, lambda ids: _patches(ids * weights), ids, (4, 4)),
        weights.diag(),
        "Only one token may be changed at a time, and patches stand in raster order: row by row",
    )
    squares = _map(answer, lambda ids: _patches(ids * ids / 10), torch.tensor([[0] * 4, [1] * 4]), (4, 4))
    _equal(
        squares, torch.eye(4) / 5, "All pictures count alike: where the patch changes by 0.1 and 0.3, the mean is 0.2"
    )
    wrapped = _map(answer, lambda ids: _patches(ids / 10), torch.tensor([[9, 0, 0, 0]]), (4, 4))
    require_number(wrapped[0, 0], 0.9, "The next code of 9 is 0 when there are 10 codes, so that patch changes by 0.9")
    prefix = _map(answer, lambda ids: _patches(ids[:, :1] * weights), torch.zeros(1, 5, dtype=torch.long), (5, 4))
    _equal(prefix[0], weights, "There may be more tokens than patches: with a prefix token row 0 is that token")


def _patches(values: Tensor) -> Tensor:
    """Pictures (N, 3, 4, 4) of 2 x 2 patches with these values (N, 4)."""
    return values.view(-1, 1, 2, 2).repeat_interleave(2, 2).repeat_interleave(2, 3).expand(-1, 3, -1, -1)


def _map(answer: Callable, decode: Callable, ids: Tensor, shape: tuple[int, int]) -> Tensor:
    mine = ids.clone()
    found = as_tensor(answer(decode, mine, 10, 2), "dependencies").float()
    require(torch.equal(mine, ids), "The ids that you were given must stay as they are: change a copy.")
    require(
        found.shape == shape, f"{shape[0]} tokens and 4 patches make a table {shape}; yours is {tuple(found.shape)}."
    )
    return found


def _equal(found: Tensor, wanted: Tensor, message: str) -> None:
    require(torch.allclose(found, wanted, atol=1e-5), f"{message}; yours is {shortened(found)}.")


def _dependencies(fault: str = "") -> Callable:
    """The table, or one with a fault."""

    def dependencies(decode: Callable, ids: Tensor, codes: int, grid: int) -> Tensor:
        before, rows, kept = decode(ids), [], ids.clone()
        for token in range(ids.shape[1]):
            changed = kept if fault == "stays changed" else ids.clone()
            changed[:, token] = changed[:, token] + 1 if fault == "no modulo" else (changed[:, token] + 1) % codes
            changed[:, token] = 0 if fault == "zero" else changed[:, token]
            change = decode(changed) - (0 if fault == "no before" else before)
            change = change if fault == "signed" else change.square() if fault == "squares" else change.abs()
            cut = change.unflatten(3, (grid, -1)).unflatten(2, (grid, -1))  # (N, 3, G, p, G, p)
            part = cut[:1] if fault == "first picture" else cut
            row = part.sum((0, 1, 3, 5)) if fault == "sum" else part.mean((0, 1, 3, 5))
            row = change.reshape(*change.shape[:2], grid**2, -1).mean((0, 1, 3)) if fault == "view" else row
            rows.append((row.T if fault == "columns" else row).flatten())
        table = torch.stack(rows)
        return table.T if fault == "transposed" else table

    return dependencies


known(
    "9.2",
    lambda answer: answer(
        lambda ids: _patches(ids.cumsum(1) ** 2 / 50), torch.tensor([[0, 3, 9, 4], [5, 2, 6, 0]]), 10, 2
    ),
    {
        "The changes pile up: begin each time with a copy of the ids that were given.": _dependencies("stays changed"),
        "The absolute value is missing: changes up and down cancel.": _dependencies("signed"),
        "These are squares; the exercise wants the mean absolute change.": _dependencies("squares"),
        "The code after the last one is 0: (id + 1) modulo codes.": _dependencies("no modulo"),
        "Each token is set to code 0; set it to the next code, (id + 1) modulo codes.": _dependencies("zero"),
        "The picture before is missing: take the difference of the two.": _dependencies("no before"),
        "view cuts along the memory, into strips; patches need view(N, 3, G, p, G, p).": _dependencies("view"),
        "These are sums over the pixels; the exercise wants their mean.": _dependencies("sum"),
        "Only the first picture counts; take the mean over all.": _dependencies("first picture"),
        "Patches run down the columns; raster order goes along the rows.": _dependencies("columns"),
        "Rows and columns are exchanged: a row is a token that was changed.": _dependencies("transposed"),
    },
)


@exercise(
    "9.3",
    "core",
    7,
    why="Outside the two points nothing is known: a line may be drawn there, but nobody has measured on it.",
    hint="share = (bits - first[0]) / (second[0] - first[0]) says how far bits lies between the two; the value is"
    " first[1] + share * (second[1] - first[1]).",
    stub="""
def at_equal_bits(first, second, bits):
    return 0.0  # your code
""",
)
def at_equal_bits(answer: Callable) -> None:
    """Write at_equal_bits(first, second, bits): first and second are (bits, value) of the same tokenizer with two
    codebooks. Return the value on the straight line between them at `bits`; return None if bits does not lie between
    them, because a line says nothing outside."""
    require_function(answer)
    small, large = (10.0, 15.0), (20.0, 16.0)
    cases = [(12.5, 15.25, "a quarter of the way"), (10, 15, "at the first point"), (20, 16, "at the second point")]
    for bits, value, where in cases:
        require_number(answer(small, large, bits), value, f"Between (10, 15) and (20, 16), {where}, it must be {value}")
    require_number(answer(large, small, 12.5), 15.25, "The order of the two points must not matter")
    for bits in (9, 21):
        found = plain_number(answer(small, large, bits))
        require(found is None, f"{bits} bits do not lie between 10 and 20, so it must be None; yours is {found}.")


known(
    "9.3",
    lambda answer: [plain_number(answer((10.0, 15.0), (20.0, 17.0), bits)) for bits in (12.5, 25.0, 10.0)],
    {
        "The line goes on outside the two points; return None there.": lambda a, b, x: _line(a, b, x),
        "This is the mean of the two values, wherever bits lies.": lambda a, b, x: (a[1] + b[1]) / 2,
        "The share is the wrong way round: it is 0 at the first point.": lambda a, b, x: (
            _line(a, b, a[0] + b[0] - x) if a[0] <= x <= b[0] else None
        ),
        "This is the value of the nearer point.": lambda a, b, x: a[1] if abs(x - a[0]) < abs(x - b[0]) else b[1],
        "The two points belong to the line: take <=, not <.": lambda a, b, x: (
            _line(a, b, x) if a[0] < x < b[0] else None
        ),
        "Outside the two points return None, not nan.": lambda a, b, x: (
            _line(a, b, x) if a[0] <= x <= b[0] else float("nan")
        ),
        "This is the share, not the value.": lambda a, b, x: (x - a[0]) / (b[0] - a[0]) if a[0] <= x <= b[0] else None,
    },
)


def _line(a: tuple[float, float], b: tuple[float, float], x: float) -> float:
    return a[1] + (x - a[0]) / (b[0] - a[0]) * (b[1] - a[1])
