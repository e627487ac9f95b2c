"""The exercises of notebook 02: masks, leaks, and on how many tokens a patch depends."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.layers import causal_mask
from .exercises import as_tensor, exercise, require, require_function, require_number, require_tensor, shortened


@exercise(
    "2.1",
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
    square = square.bool()
    require(square.diagonal().all(), "Every position must see itself: the diagonal must be True.")
    require(not square.triu(1).any(), "Query 0 sees later keys: key 1 and all after it must be False.")
    require(square.tril().sum() == 10, "Every position must see all earlier ones: the lower left must be True.")
    last = torch.as_tensor(answer(1, 5)).bool()
    require(last.all(), f"The one query of my_mask(1, 5) is the newest and must see 5 keys; it sees {int(last.sum())}.")
    require_tensor(answer(2, 5), causal_mask(2, 5), "In my_mask(2, 5) query 0 must see keys 0 to 3 and query 1 all")


@exercise(
    "2.2",
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
    strict = torch.zeros(3, 3, dtype=torch.bool)
    _pairs(answer(strict), set(), "A mask without any True has no leak")


def _pairs(found: object, wanted: set, message: str) -> None:
    require(found is not None, "leaks returns nothing; is there a return?")
    listed = [tuple(int(x) for x in pair) for pair in (found.tolist() if isinstance(found, Tensor) else found)]
    require(set(listed) == wanted and len(listed) == len(wanted), f"{message}; yours is {shortened(listed)}.")


@exercise(
    "2.3",
    hint="Count: all prefix tokens, the image tokens of the rows above, those to the left, and the patch's own.",
    stub="""
def tokens_heard(row, column, grid, prefix_tokens):
    return 0  # your code
""",
)
def tokens_heard(answer: Callable) -> None:
    """Write tokens_heard(row, column, grid, prefix_tokens): on how many tokens the patch at (row, column) may depend
    in a causal decoder."""
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
