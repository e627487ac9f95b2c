"""The exercises of notebook 10: conditional entropy, KL divergence, and what a causal decoder can read."""

from collections.abc import Callable

import torch

from .exercises import exercise, no_nan, plain_number, require, require_function, require_number, shortened


@exercise(
    "10.1",
    hint="Collect a collections.Counter of values for each context. A context with n of all N pairs adds n / N times"
    " the entropy of its own counts.",
    stub="""
def conditional_entropy(pairs):
    return 0.0  # your code
""",
)
def conditional_entropy(answer: Callable) -> None:
    """Write conditional_entropy(pairs): pairs is a list of (context, value), all equally likely. Return the entropy of
    the value in bits for a reader that knows the context."""
    require_function(answer)
    nothing = [((), value) for value in range(4)]
    require_number(
        answer(list(nothing)), 2, "Without any context, four equally likely values have an entropy of 2 bits"
    )
    require_number(answer([(value, value) for value in range(4)]), 0, "A value that its context tells has 0 bits")
    halves = [(value // 2, value) for value in range(4)]
    require_number(answer(halves), 1, "Four values of which the context leaves two open have 1 bit")
    uneven = [("a", 0), ("a", 1), ("a", 1), ("a", 1)]
    require_number(answer(uneven), 0.811278, "Within a context, 1 against 3 is 0.8113 bits, not 1")
    weighted = [("a", 0), ("b", 0), ("b", 1), ("b", 0), ("b", 1)]
    require_number(
        answer(weighted), 0.8, "A context counts as often as it occurs: with 1 bit in 4 of 5 pairs, the answer is 0.8"
    )


@exercise(
    "10.2",
    hint="Sum p * log2(p / q) over the pictures with p > 0. torch.log2 takes a tensor.",
    stub="""
def excess_bits(p, q):
    return 0.0  # your code
""",
)
def excess_bits(answer: Callable) -> None:
    """Write excess_bits(p, q): p (N,) is the true probability of every picture, q (N,) what a reader says. Return how
    many bits per picture the reader needs beyond the entropy, that is, the KL divergence of q from p."""
    require_function(answer)
    fair, loaded = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    require_number(answer(fair, fair), 0, "A reader that says the true probabilities needs 0 bits more")
    first = 0.5 * torch.log2(torch.tensor(4 / 3)).item()
    require_number(answer(fair, loaded), first, "For p = (0.5, 0.5) and q = (0.25, 0.75) it must be 0.2075 bits")
    second = (loaded * torch.log2(loaded / fair)).sum().item()
    require_number(
        answer(loaded, fair),
        second,
        "The pictures occur as p says, so p weights the sum: with p and q exchanged 0.1887",
    )
    certain = plain_number(answer(torch.tensor([0.0, 1.0]), fair))
    no_nan(certain)
    require_number(certain, 1, "A picture that never occurs (p = 0) adds nothing; p = (0, 1), q = (0.5, 0.5) gives 1")


@exercise(
    "10.3",
    hint="Make a dictionary for each patch n: the key is the tuple of tokens 0 to K + n, the value the patch. A key"
    " that comes again with another patch means False.",
    stub="""
def causal_can_read(tokens, pictures):
    return True  # your code
""",
)
def causal_can_read(answer: Callable) -> None:
    """Write causal_can_read(tokens, pictures): tokens is a list with the K + G tokens of every picture, pictures the
    list of their G patches; K is 0 or more. Return True if every patch n is known from its own token and earlier ones
    (tokens 0 to K + n), else False."""
    require_function(answer)
    four = [(a, b) for a in (0, 1) for b in (0, 1)]
    cases = [
        (four, four, True, "Where each token is its patch, a causal decoder can read all"),
        ([(b, a) for a, b in four], four, False, "Where token 0 says patch 1, patch 0 is told too late"),
        ([(a, a ^ b) for a, b in four], four, True, "A token may be read together with earlier ones (a, then a xor b)"),
        ([(a ^ b, b) for a, b in four], four, False, "Where patch 0 is a xor b, b comes too late for it"),
        ([(b, a ^ b, b) for a, b in four], four, True, "With one prefix token, patch 0 may use tokens 0 and 1"),
        ([(0, b, a) for a, b in four], four, False, "With one prefix token, token 2 is still too late for patch 0"),
        ([(a, 0) for a, b in four], four, False, "A patch that no token tells cannot be read"),
    ]
    for tokens, pictures, wanted, message in cases:
        found = plain_number(answer(list(tokens), list(pictures)))
        require(found in (True, False), f"causal_can_read must return True or False; this is {shortened(found)}.")
        require(bool(found) == wanted, f"{message}, so it must be {wanted}; yours says {bool(found)}.")
