"""The exercises of notebook 08: corrected entropy, scan orders, rotary positions."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..core.ar import ARModel
from .ch07 import little_ar
from .exercises import (
    as_tensor,
    exercise,
    known,
    no_nan,
    plain_number,
    require,
    require_function,
    require_number,
    require_tensor,
)


@exercise(
    "8.1",
    "core",
    7,
    why="The correction repairs a part of the bias only: codes that nobody has seen yet cannot be counted.",
    hint="p = counts / N; entropy -(p * p.log()).sum() over p > 0; then add (codes that were seen - 1) / (2 N).",
    stub="""
def corrected(counts):
    return 0.0  # your code
""",
)
def corrected(answer: Callable) -> None:
    """Write corrected(counts): from counts of codes (V,) the entropy in nats plus the correction (S - 1) / (2 N),
    where S is the number of codes that were seen and N the sum of the counts."""
    require_function(answer)
    always = plain_number(answer(torch.tensor([6])))
    require_number(always, 0, "One code that is always used has no entropy, and one seen code no correction, so 0")
    even = torch.full((8,), 10**6)
    uniform = "With millions of counts the correction vanishes: 8 equally frequent codes must have log(8) = 2.0794 nats"
    require_number(answer(even), torch.tensor(8.0).log().item(), uniform)
    few = "Two codes seen once each must have log(2) + (2 - 1) / (2 * 2) = 0.9431 nats"
    require_number(answer(torch.tensor([1, 1])), torch.tensor(2.0).log().item() + 0.25, few)
    unused = plain_number(answer(torch.tensor([1, 1, 0, 0])))
    no_nan(unused)
    require_number(unused, torch.tensor(2.0).log().item() + 0.25, "Codes that were never seen must change nothing")
    counts = torch.tensor([1, 2, 3, 4])
    wanted = torch.special.entr(counts / 10).sum().item() + 3 / 20
    require_number(answer(counts), wanted, f"Counts 1, 2, 3, 4 must give {wanted:.4f}")


known(
    "8.1",
    lambda answer: [plain_number(answer(torch.tensor(counts))) for counts in ([1, 2, 3, 4, 0, 0], [5, 5, 0])],
    {
        "The correction is missing.": lambda counts: _counted(counts, 0),
        "S is the number of codes that were seen, not all V.": lambda counts: _counted(counts, len(counts) - 1),
        "The correction must be added: counting makes the entropy too low.": (
            lambda counts: _counted(counts, 1 - int((counts > 0).sum()))
        ),
        "S - 1, not S.": lambda counts: _counted(counts, int((counts > 0).sum())),
        "The 2 is missing: (S - 1) / (2 N).": lambda counts: _counted(counts, 2 * int((counts > 0).sum()) - 2),
        "This is in bits; the exercise wants nats.": lambda counts: (
            _counted(counts, int((counts > 0).sum()) - 1) / math.log(2)
        ),
        "A code that never occurs gives 0 * log(0), which is nan: leave it out.": lambda counts: math.nan,
        "Mind the brackets: / 2 * N multiplies by N.": (
            lambda counts: _counted(counts, (int((counts > 0).sum()) - 1) * int(counts.sum()) ** 2)
        ),
        "S is the number of codes that were seen, not the largest count.": (
            lambda counts: _counted(counts, int(counts.max()) - 1)
        ),
        "Shares are counts / counts.sum(); yours are divided by the number of codes.": (
            lambda counts: (
                torch.special.entr(counts / len(counts)).sum().item()
                + (int((counts > 0).sum()) - 1) / (2 * int(counts.sum()))
            )
        ),
        "The correction is divided by the number of codes; N is the sum of the counts.": (
            lambda counts: _counted(counts, (int((counts > 0).sum()) - 1) * int(counts.sum()) / len(counts))
        ),
    },
)


def _counted(counts: Tensor, extra: float) -> float:
    """The entropy in nats of counted codes, plus extra / (2 N)."""
    total = int(counts.sum())
    return torch.special.entr(counts / total).sum().item() + extra / (2 * total)


@exercise(
    "8.2",
    "warm-up",
    7,
    why="A snake never jumps, so neighbours in the sequence are neighbours in the picture.",
    hint="torch.arange(grid**2).view(grid, grid) numbers the patches; row.flip(0) reverses a row; which rows?",
    stub="""
def snake(grid):
    return torch.arange(grid**2)  # your code
""",
)
def snake(answer: Callable) -> None:
    """Write snake(grid): the G*G patches, numbered row by row, in the order of a snake: first row from left to right,
    second from right to left, and so on."""
    require_function(answer)
    found = as_tensor(answer(4), "snake")
    require(found.shape == (16,), f"snake(4) must name 16 patches, of shape (16,); yours has {tuple(found.shape)}.")
    once = sorted(found.tolist()) == list(range(16))
    require(once, "Every patch from 0 to 15 must be visited once.")
    require_tensor(found[:4], torch.arange(4), "The first row must go from left to right")
    last = f"After patch 3, at the end of the first row, the snake must go straight down to 7; yours goes to {found[4]}"
    require(found[4] == 7, f"{last}.")
    steps = [
        abs(a % 4 - b % 4) + abs(a // 4 - b // 4) for a, b in zip(found.tolist(), found.tolist()[1:], strict=False)
    ]
    require(max(steps) == 1, "A snake never jumps: each patch must be beside, above or below the one before it.")
    require_tensor(
        answer(3), torch.tensor([0, 1, 2, 5, 4, 3, 6, 7, 8]), "The snake of a 3 x 3 grid must be 0 1 2 5 4 3 6 7 8"
    )


def _upside_down(grid: int) -> Tensor:
    rows = torch.arange(grid * grid).view(grid, grid)
    rows[1::2] = rows[1::2].flip(0)
    return rows.flatten()


known(
    "8.2",
    lambda answer: as_tensor(answer(4), "snake"),
    {
        "That is raster order: every row from left to right.": lambda g: torch.arange(g * g),
        "That goes down the columns.": lambda g: torch.arange(g * g).view(g, g).T.flatten(),
        "That is a snake down the columns; the first row must come first.": lambda g: _snake(g).view(g, g).T.flatten(),
        "That begins at the end.": lambda g: torch.arange(g * g).flip(0),
        "The wrong rows are reversed: the first goes from left to right.": (
            lambda g: torch.cat([r if i % 2 else r.flip(0) for i, r in enumerate(torch.arange(g * g).view(g, g))])
        ),
        "The order is right; flatten() makes one row of it.": lambda g: _snake(g).view(g, g),
        "Every row is reversed.": lambda g: torch.arange(g * g).view(g, g).flip(1).flatten(),
        "The rows after the first are one long reversed row.": (
            lambda g: torch.cat([torch.arange(g), torch.arange(g, g * g).flip(0)])
        ),
        "Patches count from 0.": lambda g: _snake(g) + 1,
        "flip(0) of several rows turns their order round; each row must be reversed in itself, flip(1).": _upside_down,
        "A row is one patch short: range(grid - 1, 0, -1) stops before 0.": (
            lambda g: torch.tensor([n for n in _snake(g).tolist() if n // g % 2 == 0 or n % g])
        ),
        "Only the second row is reversed; so must be the fourth, and so on.": (
            lambda g: torch.cat([torch.arange(g), torch.arange(g, 2 * g).flip(0), torch.arange(2 * g, g * g)])
        ),
    },
)


def _snake(grid: int) -> Tensor:
    rows = torch.arange(grid * grid).view(grid, grid)
    return torch.cat([row.flip(0) if number % 2 else row for number, row in enumerate(rows)])


@exercise(
    "8.3",
    "core",
    7,
    why="The cache replaces the sum 1 + 2 + ... + T by T: most of the '10 times faster' comes from there.",
    hint="With a cache every token runs once: T. Without one, step t runs t positions again: 1 + 2 + ... + T.",
    stub="""
def positions(tokens, cache, guided):
    return 0  # your code
""",
)
def positions(answer: Callable) -> None:
    """Write positions(tokens, cache, guided): how many positions the AR model computes while it samples one picture of
    T tokens, with or without a KV cache, with or without guidance (which runs every sequence twice)."""
    require_function(answer)
    require_number(answer(1, True, False), 1, "One token takes one position, that of the class, so 1")
    require_number(answer(21, True, False), 21, "With a cache each of 21 steps runs one position, 21 in all")
    require_number(answer(3, False, False), 6, "Without a cache three tokens take 1 + 2 + 3 = 6 positions")
    require_number(answer(273, False, False), 273 * 137, "Without a cache 273 tokens take 273 * 274 / 2 = 37,401")
    require_number(
        answer(21, True, True),
        42,
        "Guidance runs once with the class and once without, so 21 tokens take 42 with a cache",
    )
    require_number(answer(3, False, True), 12, "Guidance doubles the 6 positions of three tokens without a cache to 12")


known(
    "8.3",
    lambda answer: [answer(t, cache, guided) for t in (3, 21) for cache in (True, False) for guided in (True, False)],
    {
        "The cache makes no difference in yours.": lambda t, cache, guided: t * (1 + guided),
        "Guidance is missing: it reads every sequence twice.": lambda t, cache, guided: (
            t if cache else t * (t + 1) // 2
        ),
        "T * T counts later positions too: step t has only t of them.": (
            lambda t, cache, guided: (t if cache else t * t) * (1 + guided)
        ),
        "The sum 1 + 2 + ... + T is T (T + 1) / 2, not T * T / 2.": (
            lambda t, cache, guided: (t if cache else t * t / 2) * (1 + guided)
        ),
        "Guidance reads the whole sequence twice, not one position more.": (
            lambda t, cache, guided: (t if cache else t * (t + 1) // 2) + guided
        ),
        "The first step has one position, that of the class: the sum begins with 1 and ends with T.": (
            lambda t, cache, guided: (t if cache else t * (t - 1) // 2) * (1 + guided)
        ),
        "Cached and uncached are exchanged.": lambda t, cache, guided: (
            (t * (t + 1) // 2 if cache else t) * (1 + guided)
        ),
        "The class is one of the T positions: the last id is never read.": (
            lambda t, cache, guided: (t + 1 if cache else t * (t + 1) // 2) * (1 + guided)
        ),
        "Guidance doubles the number of rows, not the length of the sequence.": (
            lambda t, cache, guided: (1 + guided) * t if cache else (1 + guided) * t * ((1 + guided) * t + 1) // 2
        ),
    },
)


@exercise(
    "8.4",
    "stretch",
    15,
    "core.ar.ARModel.transform measure.metrics.predictability",
    why="Order and place are two things: the mask follows the order of reading, and RoPE says where a token stands.",
    hint="tokens = ids[:, order]. Inputs: the class token, then the tokens but the last. The table has the row of the"
    " class token first: keep it, and take table[1:][order] behind it. Blocks, norm, output; then -log_softmax at the"
    " tokens.",
    stub='''
def nats_along(
    ar: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor, order: torch.Tensor
) -> torch.Tensor:
    """Loss (B, T) in nats of ids (B, T) that are read in an order (T,) of 0 .. T - 1.

    Each token keeps its place: its row in ar.rope(ids.device) (1 + T, d/2, 2), class token first.
    ar.embed_class(labels) -> (B, 1, D); ar.embedding(ids) -> (B, t, D); ar.norm; ar.output
    each block of ar.blocks: block(x, rope) -> x, where rope has a row for each position of x
    """
    return torch.zeros(ids.shape)  # your code
''',
)
def nats_along(answer: Callable) -> None:
    """Write nats_along(ar, ids, labels, order): the loss (B, T) in nats of an AR model that reads the ids (B, T) in
    another order, a permutation (T,): position i predicts token order[i] from the class and the tokens order[:i], each
    of which keeps the rotary position of its place."""
    require_function(answer)
    ar, ids, labels = _reader()
    plain = torch.arange(7)
    found = as_tensor(answer(ar, ids, labels, plain), "nats_along")
    require(
        found.shape == (2, 7), f"Two pictures of 7 tokens have losses of shape (2, 7); yours have {tuple(found.shape)}."
    )
    raster = -ar(ids, labels).log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    require_tensor(found, raster, "In the order 0, 1, 2, ... the losses must be those of the model as it is")
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    wanted = _along()(ar, ids, labels, order)
    found = answer(ar, ids, labels, order)
    require_tensor(
        found[:, 0], wanted[:, 0], "The first loss must be that of token order[0], predicted from the class alone"
    )
    require_tensor(
        found, wanted, "In the order 3, 0, 6, 1, 5, 2, 4 the losses must be those of tokens that keep their places"
    )


def _reader() -> tuple[ARModel, Tensor, Tensor]:
    """A small random model, ids (2, 7) and labels."""
    generator = torch.Generator().manual_seed(0)
    return little_ar(), torch.randint(12, (2, 7), generator=generator), torch.tensor([0, 2])


def _along(fault: str = "") -> Callable:
    """The reader, or one with a fault."""

    def nats_along(ar: ARModel, ids: Tensor, labels: Tensor, order: Tensor) -> Tensor:
        tokens = {"ids stay": ids, "inverse": ids[:, order.argsort()]}.get(fault, ids[:, order])
        inputs = tokens if fault == "own answer" else tokens[:, :-1]
        first = ar.embedding(inputs) if fault == "own answer" else None
        x = torch.cat([ar.embed_class(labels), ar.embedding(inputs)], 1) if first is None else first
        table = ar.rope(ids.device)
        rows = {"places": table[1:], "inverse": table[1:][order.argsort()]}.get(fault, table[1:][order])
        rope = torch.cat([table[:1], rows])[: x.shape[1]]
        rope = rows if fault in ("class row", "own answer") else rope
        rope = table[order] if fault == "off by one" else rope
        for block in ar.blocks:
            x = block(x, rope)
        logits = ar.output(x if fault == "no norm" else ar.norm(x))
        targets = ids if fault == "old targets" else tokens
        nats = -logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        nats = nats / math.log(2) if fault == "bits" else nats
        nats = -logits.gather(-1, targets[..., None])[..., 0] if fault == "logits" else nats
        nats = -logits.log_softmax(-1).max(-1).values if fault == "first choice" else nats
        nats = (-nats).exp() if fault == "probability" else nats
        return nats[:, order.argsort()] if fault == "sorted back" else nats

    return nats_along


def _read(answer: Callable) -> list:
    orders = torch.arange(7), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    return [answer(*_reader(), order) for order in orders]


known(
    "8.4",
    _read,
    {
        "The tokens have lost their places: take the rows of the table in the same order.": _along("places"),
        "The ids are not in the new order; only the table is.": _along("ids stay"),
        "The order is used the wrong way round: ids[:, order] puts token order[0] first.": _along("inverse"),
        "The targets are in the old order.": _along("old targets"),
        "Each position reads its own answer: the class token belongs in front, and the last id goes.": _along(
            "own answer"
        ),
        "The class token's row of the table is missing, so all places are shifted by one.": _along("class row"),
        "table[order] takes the class token for place 0: keep its row in front of table[1:][order].": (
            _along("off by one")
        ),
        "The last norm is missing.": _along("no norm"),
        "These are bits; the exercise wants nats.": _along("bits"),
        "These are the losses of the model's first choices; take those of the tokens that are there.": (
            _along("first choice")
        ),
        "These are probabilities; the loss is minus their logarithm.": _along("probability"),
        "These are logits; the loss needs their log_softmax.": _along("logits"),
        "The losses are sorted back to places; the exercise wants the order of reading.": _along("sorted back"),
    },
)
