"""The exercises of notebook 10: conditional entropy, what a causal decoder can read, and KL divergence."""

import math
from collections.abc import Callable

import torch

from .exercises import exercise, known, no_nan, plain_number, require, require_function, require_number, shortened


@exercise(
    "10.1",
    "warm-up",
    7,
    layer="study.toy._conditional_entropy study.toy._by_context",
    why="A perfect AR model needs exactly this for each token, given all tokens before it.",
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


known(
    "10.1",
    lambda answer: answer([("a", 0), ("b", 0), ("b", 1), ("b", 1), ("b", 2), ("a", 0), ("a", 1)]),
    {
        "This is the entropy without any context.": lambda pairs: _entropy([((), value) for _, value in pairs]),
        "This is in nats; the exercise wants bits.": lambda pairs: _entropy(pairs) * math.log(2),
        "Each context counts alike; it must count as often as it occurs.": lambda pairs: _entropy(pairs, "alike"),
        "This is the sum over the contexts, without their weights.": lambda pairs: _entropy(pairs, "sum"),
        "Context and value are exchanged.": lambda pairs: _entropy([(value, context) for context, value in pairs]),
        "This is the entropy of the pairs, the context included.": lambda pairs: _entropy(
            [((), pair) for pair in pairs]
        ),
        "Within a context the values count as equally likely in yours; count how often each occurs.": (
            lambda pairs: _entropy(pairs, "number")
        ),
        "This is the entropy of the contexts.": lambda pairs: _entropy([((), context) for context, _ in pairs]),
        "This is the logarithm of the number of values, as if all were equally likely.": (
            lambda pairs: math.log2(len({value for _, value in pairs}))
        ),
    },
)


def _entropy(pairs: list, weights: str = "frequency") -> float:
    groups: dict = {}
    for context, value in pairs:
        groups.setdefault(context, []).append(value)
    each = [
        (len(v), -sum(v.count(x) / len(v) * math.log2(v.count(x) / len(v)) for x in set(v))) for v in groups.values()
    ]
    if weights == "number":
        return sum(len(v) * math.log2(len(set(v))) for v in groups.values()) / len(pairs)
    if weights == "sum":
        return sum(h for _, h in each)
    if weights == "alike":
        return sum(h for _, h in each) / len(each)
    return sum(n * h for n, h in each) / len(pairs)


@exercise(
    "10.2",
    "stretch",
    15,
    layer="study.toy.causal_decoder_can_read",
    why="This is the causal mask as a statement about information: patch n must be known when token n is there.",
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


def _readable(fault: str = "") -> Callable:
    """The test, or one with a fault."""

    def causal_can_read(tokens: list, pictures: list) -> bool:
        prefix = len(tokens[0]) - len(pictures[0])
        for patch in range(len(pictures[0])):
            first = {"no prefix": 0, "strict": prefix - 1}.get(fault, prefix)
            told: dict = {}
            for sequence, picture in zip(tokens, pictures, strict=True):
                seen = tuple(sequence[: first + patch + 1])
                seen = tuple(sequence) if fault == "all" else seen
                seen = tuple(sequence[prefix + patch : prefix + patch + 1]) if fault == "own" else seen
                if told.setdefault(seen, picture[patch]) != picture[patch]:
                    return fault == "inverted"
        return fault != "inverted"

    return causal_can_read


known(
    "10.2",
    lambda answer: [plain_number(answer(list(t), list(p))) for t, p in _examples()],
    {
        "This is always False.": lambda tokens, pictures: False,
        "All tokens are used for each patch, as in a bidirectional decoder.": _readable("all"),
        "Only a patch's own token is used; earlier ones may be read with it.": _readable("own"),
        "The own token is missing: patch n may use tokens 0 to K + n.": _readable("strict"),
        "The prefix tokens are not counted: patch n may use K more.": _readable("no prefix"),
        "Yes and no are exchanged.": _readable("inverted"),
        "This is always True.": lambda tokens, pictures: True,
    },
)


def _examples() -> list:
    four = [(a, b) for a in (0, 1) for b in (0, 1)]
    codes = [
        four,
        [(b, a) for a, b in four],
        [(a, a ^ b) for a, b in four],
        [(a ^ b, b) for a, b in four],
        [(b, a ^ b, b) for a, b in four],
        [(0, b, a) for a, b in four],
        [(a, 0) for a, b in four],
    ]
    early = [(a, 0) for a in (0, 1)], [(0, a) for a in (0, 1)]  # readable even from the tokens before
    return [*((code, four) for code in codes), early]


@exercise(
    "10.3",
    "core",
    7,
    why="A reader is never better than the truth: these bits are 0 or more, and 0 only where q equals p.",
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
    no_nan(certain, "picture")
    require_number(certain, 1, "A picture that never occurs (p = 0) adds nothing; p = (0, 1), q = (0.5, 0.5) gives 1")


known(
    "10.3",
    lambda answer: answer(torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.6, 0.3, 0.1])),
    {
        "p and q are exchanged: pictures occur as p says.": lambda p, q: (q * (q / p).log2()).sum(),
        "This is in nats; the exercise wants bits.": lambda p, q: (p * (p / q).log()).sum(),
        "The sign is the wrong way round: log2(p / q), not log2(q / p).": lambda p, q: (p * (q / p).log2()).sum(),
        "This is the whole loss; the entropy of p must be subtracted.": lambda p, q: -(p * q.log2()).sum(),
        "The weights p are missing.": lambda p, q: (p / q).log2().sum(),
        "This is the mean over the pictures, each counted alike.": lambda p, q: (p * (p / q).log2()).mean(),
        "Half the sum of |p - q| is another distance, and not counted in bits.": lambda p, q: (p - q).abs().sum() / 2,
        "The weights are p, not p - q.": lambda p, q: ((p - q) * (p / q).log2()).sum(),
        "These are absolute values; terms below 0 belong to the sum.": lambda p, q: (p * (p / q).log2()).abs().sum(),
    },
)
