"""The exercises of notebook 02: masks, leaks, and on how many tokens a patch depends."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.layers import Attention, causal_mask
from .exercises import (
    as_tensor,
    exercise,
    known,
    randn,
    require,
    require_function,
    require_number,
    require_tensor,
    shortened,
)


@exercise(
    "2.1",
    "warm-up",
    7,
    why="The same rule serves training, with as many queries as keys, and sampling, with a single query.",
    hint="Query i of q stands at key i + (k - q). torch.ones(q, k, dtype=torch.bool).tril(diagonal) keeps a corner.",
    stub="""
def my_mask(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool)  # your code
""",
)
def my_mask(answer: Callable) -> None:
    """Write my_mask(queries, keys): a bool mask (queries, keys), True where a query may see a key. The queries are the
    last of the sequence, as with a KV cache: the last query sees every key, and no query sees a later key."""
    require_function(answer)
    square = as_tensor(answer(4, 4), "my_mask")
    require(square.shape == (4, 4), f"my_mask(4, 4) must have shape (4, 4), and has {tuple(square.shape)}.")
    whole = square.dtype == torch.bool or bool(((square == 0) | (square == 1)).all())
    require(whole, f"The mask must hold True and False; yours holds {shortened(square.unique())}.")
    square = square.bool()
    require(square.diagonal().all(), "Every position must see itself: the diagonal must be True.")
    require(not square.triu(1).any(), "Query 0 sees later keys: key 1 and all after it must be False.")
    require(square.tril().sum() == 10, "Every position must see all earlier ones: the lower left must be True.")
    last = torch.as_tensor(answer(1, 5)).bool()
    require(last.all(), f"The one query of my_mask(1, 5) is the newest and must see 5 keys; it sees {int(last.sum())}.")
    require_tensor(answer(2, 5), causal_mask(2, 5), "In my_mask(2, 5) query 0 must see keys 0 to 3 and query 1 all")


known(
    "2.1",
    lambda answer: [as_tensor(answer(4, 4), "my_mask").float(), as_tensor(answer(2, 5), "my_mask").float()],
    {
        "Yours is inverted: True must mean 'may see'. (nn.MultiheadAttention means the opposite by True.)": (
            lambda q, k: ~causal_mask(q, k)
        ),
        "Yours holds 0 and -inf, to be added to scores; the exercise wants a bool mask.": (
            lambda q, k: torch.zeros(q, k).masked_fill(~causal_mask(q, k), -torch.inf)
        ),
        "Nothing is masked.": lambda q, k: torch.ones(q, k),
        "The queries are counted from the start of the sequence; they are its last ones.": lambda q, k: torch.ones(
            q, k
        ).tril(),
        "Yours looks the wrong way: it shows the present and what comes later.": lambda q, k: torch.ones(q, k).triu(
            k - q
        ),
        "Yours looks the wrong way, and counts the queries from the start.": lambda q, k: torch.ones(q, k).triu(),
        "Position i must see itself too: this mask is strict.": lambda q, k: torch.ones(q, k).tril(k - q - 1),
        "Each position sees only itself.": lambda q, k: torch.eye(q, k),
    },
)


@exercise(
    "2.2",
    "warm-up",
    5,
    why="This finds leaks of one layer; through several layers they spread, so a model must be tested as a whole.",
    hint="A leak is a pair with key > query where the mask is True. mask.nonzero() lists all True places.",
    stub="""
def leaks(mask):
    return []  # your code
""",
)
def leaks(answer: Callable) -> None:
    """Write leaks(mask): the list of all (query, key) pairs in which a query of the square bool mask sees a later
    key."""
    require_function(answer)
    broken = causal_mask(6, 6).clone()
    _pairs(answer(broken.clone()), set(), "A causal mask has no leak, so the list must be empty")
    broken[1, 4] = True
    _pairs(answer(broken.clone()), {(1, 4)}, "Where query 1 sees key 4, the one leak is (1, 4)")
    broken[3, 5] = True
    _pairs(answer(broken.clone()), {(1, 4), (3, 5)}, "With two leaks, (1, 4) and (3, 5), both must be listed")
    broken[2, 3] = True
    three = "With three leaks, (1, 4), (2, 3) and (3, 5), the one of two neighbours must be listed, too"
    _pairs(answer(broken.clone()), {(1, 4), (2, 3), (3, 5)}, three)
    strict = torch.zeros(3, 3, dtype=torch.bool)
    _pairs(answer(strict), set(), "A mask without any True has no leak")


def _pairs(found: object, wanted: set, message: str) -> None:
    held = found.tolist() if isinstance(found, Tensor) else found
    pairs = isinstance(held, list | tuple | set) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in held
    )
    require(pairs, f"leaks must return a list of (query, key) pairs; yours returned {shortened(found)}.")
    listed = [tuple(int(x) for x in pair) for pair in held]
    require(set(listed) == wanted and len(listed) == len(wanted), f"{message}; yours is {shortened(listed)}.")


known(
    "2.2",
    lambda answer: _listed(answer(_leaky())),
    {
        "These are (key, query): the order of a pair is the other way round.": lambda m: [p[::-1] for p in _leaks(m)],
        "These are the places where a later key is masked; a leak is where it is not.": lambda m: _leaks(~m),
        "These are all places that may be seen; a leak is one with key > query.": lambda m: m.nonzero().tolist(),
        "key >= query lists the diagonal as well; a position may see itself.": (
            lambda m: [(q, k) for q, k in m.nonzero().tolist() if k >= q]
        ),
        "These are keys before the query, and those it may see.": lambda m: [
            (q, k) for q, k in m.nonzero().tolist() if k < q
        ],
        "This finds only the first leak.": lambda m: _leaks(m)[:1],
        "This is how many leaks there are; the exercise wants to know which.": lambda m: len(_leaks(m)),
        "This says whether there is a leak; the exercise wants to know which.": lambda m: bool(_leaks(m)),
        "The next key is later, too: key > query, not key > query + 1.": lambda m: [
            p for p in _leaks(m) if p[1] > p[0] + 1
        ],
        "These are all pairs with a later key; a leak is one that the mask allows.": lambda m: _leaks(
            torch.ones_like(m)
        ),
    },
)


def _leaky() -> Tensor:
    mask = causal_mask(6, 6)
    mask[1, 4] = mask[2, 3] = mask[3, 5] = True
    return mask


def _leaks(mask: Tensor) -> list[tuple[int, int]]:
    return [(query, key) for query, key in mask.nonzero().tolist() if key > query]


def _listed(found: object) -> object:
    """Pairs in one order, whatever holds them."""
    found = found.tolist() if isinstance(found, Tensor) else found
    return sorted(list(map(int, pair)) for pair in found) if isinstance(found, list | set | tuple) else [found]


@exercise(
    "2.3",
    "core",
    7,
    why="In a causal decoder the number grows by one with each patch, and the prefix lifts all patches alike.",
    hint="Count: all prefix tokens, the image tokens of the rows above, those to the left, and the patch's own.",
    stub="""
def tokens_it_may_use(row, column, grid, prefix_tokens):
    return 0  # your code
""",
)
def tokens_it_may_use(answer: Callable) -> None:
    """Write tokens_it_may_use(row, column, grid, prefix_tokens): on how many tokens the patch at (row, column) may
    depend in a causal decoder."""
    require_function(answer)
    require_number(answer(3, 3, 4, 0), 16, "The last patch of a 4 x 4 grid without prefix must depend on all 16 tokens")
    require_number(answer(0, 0, 4, 0), 1, "The first patch without prefix must depend on its own token only, 1")
    require_number(
        answer(1, 0, 4, 0) - answer(0, 3, 4, 0),
        1,
        "From the end of a row to the start of the next there is one token more",
    )
    require_number(
        answer(2, 1, 4, 0) - answer(1, 1, 4, 0), 4, "One row further down a 4 x 4 grid there are 4 tokens more"
    )
    require_number(answer(0, 0, 4, 5) - answer(0, 0, 4, 0), 5, "Every patch depends on the 5 prefix tokens too, 5 more")


known(
    "2.3",
    lambda answer: [answer(r, c, 4, k) for r in range(4) for c in range(4) for k in (0, 5)],
    {
        "You left out the patch's own token.": lambda r, c, g, k: k + r * g + c,
        "You left out the prefix tokens.": lambda r, c, g, k: r * g + c + 1,
        "You count down the columns; raster order goes along the rows.": lambda r, c, g, k: k + c * g + r + 1,
        "This is the whole sequence, as in a bidirectional decoder.": lambda r, c, g, k: k + g * g,
        "You count later tokens; a causal decoder has the earlier ones.": lambda r, c, g, k: k + g * g - r * g - c,
        "Only the prefix tokens before it are counted, but a patch comes after the whole prefix.": (
            lambda r, c, g, k: min(k, 1 + c) + r * g + c + 1
        ),
        "A rectangle above and to the left is counted; raster order has whole rows above.": (
            lambda r, c, g, k: k + (r + 1) * (c + 1)
        ),
        "The whole row is counted; what stands to the right of the patch comes later.": lambda r, c, g, k: (
            k + (r + 1) * g
        ),
        "The start token is counted; it is no token of the picture.": lambda r, c, g, k: k + r * g + c + 2,
    },
)


@exercise(
    "2.4",
    "stretch",
    15,
    "core.layers.Attention.forward core.layers.Attention.attend",
    why="The fused kernel of torch computes the same without ever storing the weights; a map needs your form.",
    hint="qkv(x) (B, t, 3 D): unflatten its last dimension to (3, heads, d) and permute to (3, B, heads, t, d). Scores"
    " q @ k^T / sqrt(d), masked, softmax over the keys, @ v; then transpose heads back and flatten them before out.",
    stub='''
def attend(
    x: torch.Tensor, qkv: torch.nn.Linear, out: torch.nn.Linear, heads: int, causal: bool
) -> torch.Tensor:
    """x (B, t, D) -> (B, t, D). qkv: D -> 3 D, in order q, k, v, each of `heads`; out: D -> D."""
    return torch.zeros_like(x)  # your code
''',
)
def attend(answer: Callable) -> None:
    """Write attend(x, qkv, out, heads, causal): attention with values and heads. x (B, t, D); qkv and out are linear
    layers, D to 3 D (queries, keys, values, each cut into heads) and D to D. Returns (B, t, D)."""
    require_function(answer)
    for heads, causal in ((1, False), (1, True), (4, False), (4, True)):
        layer, x = _attention(heads, causal), randn(2, 5, 8)
        found = as_tensor(answer(x.clone(), layer.qkv, layer.out, heads, causal), "attend")
        what = f"With {heads} head{'s' * (heads > 1)}, {'causal' if causal else 'without mask'}"
        require(found.shape == (2, 5, 8), f"{what}, the shape must be (2, 5, 8), and is {tuple(found.shape)}.")
        if causal:
            other = x.clone()
            other[:, 3:] += 1
            same = torch.allclose(found[:, :3], answer(other, layer.qkv, layer.out, heads, causal)[:, :3], atol=1e-5)
            require(same, f"{what}, positions 0 to 2 must not depend on positions 3 and 4, and yours do.")
        require_tensor(found, layer(x), f"{what}, the result must be that of the package's layer")


def _attention(heads: int, causal: bool) -> Attention:
    """A layer of width 8 whose weights are the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = Attention(8, heads, causal)
        torch.nn.init.normal_(layer.qkv.weight, std=0.7)
    return layer.requires_grad_(False)


def _attend(fault: str = "") -> Callable:
    """Attention, or one with a fault."""

    def attend(x: Tensor, qkv: torch.nn.Linear, out: torch.nn.Linear, heads: int, causal: bool) -> Tensor:
        batch, length, width = x.shape
        if fault == "one head":
            heads = 1
        parts = qkv(x).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        if fault == "interleaved":
            parts = qkv(x).unflatten(-1, (heads, -1, 3)).permute(4, 0, 2, 1, 3)
        q, k, v = parts.flip(0) if fault == "order" else parts
        scale = {"unscaled": 1, "width": width**0.5, "d": q.shape[-1]}.get(fault, q.shape[-1] ** 0.5)
        scores = q @ k.transpose(-1, -2) / scale
        closed = ~causal_mask(length, length)
        if causal and fault not in ("no mask", "mask after"):
            scores = scores.masked_fill(closed.T if fault == "future" else closed, -1e30)
        weights = scores.softmax(-2 if fault == "queries" else -1)
        if causal and fault == "mask after":
            weights = weights.masked_fill(closed, 0)
        y = weights @ v
        y = y.reshape(batch, length, -1) if fault == "no transpose" else y.transpose(1, 2).reshape(batch, length, -1)
        return y if fault == "no output" else out(y)

    return attend


def _attended(answer: Callable) -> list:
    layers = [(_attention(heads, causal), heads, causal) for heads in (1, 4) for causal in (False, True)]
    return [answer(randn(2, 5, 8), layer.qkv, layer.out, heads, causal) for layer, heads, causal in layers]


known(
    "2.4",
    _attended,
    {
        "The scores are not divided by sqrt(d).": _attend("unscaled"),
        "The scores are divided by sqrt(D); each head has only d = D / heads numbers.": _attend("width"),
        "The scores are divided by d, not by its root.": _attend("d"),
        "The heads are not cut: yours computes a single one.": _attend("one head"),
        "qkv gives all queries, then all keys, then all values: cut into (3, heads, d) in this order.": _attend(
            "interleaved"
        ),
        "Queries and values are exchanged: the order is q, k, v.": _attend("order"),
        "The mask is not used.": _attend("no mask"),
        "The mask is the wrong way round: it hides the past.": _attend("future"),
        "The mask comes after the softmax, so the weights of a row do not add up to 1: put -inf in before.": _attend(
            "mask after"
        ),
        "The softmax runs over the queries; each query must share its weights among the keys.": _attend("queries"),
        "Heads and positions are mixed: transpose to (B, t, heads, d) before you flatten.": _attend("no transpose"),
        "The output layer is missing.": _attend("no output"),
    },
)
