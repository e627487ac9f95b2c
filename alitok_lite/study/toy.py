"""Two toy worlds in which alignment can be computed exactly, by enumeration, in a second.

*Buckets*: a picture is two patches, a sentence two or three tokens of four codes. They show, by counting, what a causal
decoder does to tokens, to the first patch and to a perfect reader: rows A, B and C of the ablation.

*Readers*: a picture is eight patches, black or white, and a code any one-to-one way to write it in eight tokens. All
codes cost a perfect reader the entropy of the pictures. A reader with a short memory, or with few training pictures,
pays more; the excess is the KL divergence of what it would sample from the true pictures.

Only numpy; probabilities are exact, and training sets are drawn from a fixed seed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

# ---------------------------------------------------------------- buckets

UPPER, LOWER = 8, 2  # looks of the upper and of the lower patch, all equally likely: 3 bits and 1 bit
PICTURES = [(upper, lower) for upper in range(UPPER) for lower in range(LOWER)]


class Bucket(NamedTuple):
    """A code of the two-patch pictures: tokens of a picture, and whether its decoder is causal."""

    title: str
    tokens: Callable[[int, int], tuple[int, ...]]
    causal: bool
    prefix: int = 0


BUCKETS = {
    # The second token says the third bit of the upper patch: the upper patch depends on a later token.
    "A": Bucket("bidirectional decoder", lambda upper, lower: (upper // 2, 2 * (upper % 2) + lower), False),
    # Whatever the second token could add about the upper patch, a causal decoder would read it too late.
    "B": Bucket("causal decoder", lambda upper, lower: (upper // 2, lower), True),
    "C": Bucket("causal decoder, prefix token", lambda upper, lower: (upper % 2, upper // 2, lower), True, 1),
}


class Counted(NamedTuple):
    """What counting says of a code: shares of patches right, bits of each token, first guesses right."""

    right: tuple[float, float]
    bits: tuple[float, ...]
    top1: tuple[float, ...]


def count(bucket: Bucket) -> Counted:
    """The best decoder and the perfect reader of a code, by counting the sixteen pictures."""
    sentences = [bucket.tokens(*picture) for picture in PICTURES]
    right = []
    for patch in (0, 1):
        end = bucket.prefix + patch + 1 if bucket.causal else None
        right.append(_best_guess((s[:end], picture[patch]) for s, picture in zip(sentences, PICTURES, strict=True)))
    bits, top1 = [], []
    for token in range(len(sentences[0])):
        pairs = [(sentence[:token], sentence[token]) for sentence in sentences]
        bits.append(_conditional_entropy(pairs))
        top1.append(_best_guess(pairs))
    return Counted((right[0], right[1]), tuple(bits), tuple(top1))


def _by_context(pairs: Iterable[tuple]) -> list[Counter]:
    contexts: dict[tuple, Counter] = defaultdict(Counter)
    for context, value in pairs:
        contexts[context][value] += 1
    return list(contexts.values())


def _best_guess(pairs: Iterable[tuple]) -> float:
    """How often the most frequent value of each context is right."""
    counts = _by_context(pairs)
    return sum(max(values.values()) for values in counts) / sum(values.total() for values in counts)


def _conditional_entropy(pairs: Iterable[tuple]) -> float:
    """Entropy in bits of the values given their contexts."""
    counts = _by_context(pairs)
    everything = sum(values.total() for values in counts)
    return sum(values.total() / everything * entropy(list(values.values())) for values in counts)


def entropy(weights: Sequence[float] | np.ndarray) -> float:
    """Entropy in bits of a distribution given by weights, which need not sum to 1."""
    p = np.asarray(weights, float).ravel()
    p = p[p > 0] / p.sum()
    return float(-(p * np.log2(p)).sum())


def best_first_patch() -> float:
    """The largest share of upper patches that any first token of four codes can get right: all 4^8 are tried."""
    return max(len(set(token)) / UPPER for token in product(range(4), repeat=UPPER))


# ---------------------------------------------------------------- readers

PATCHES, FLIP = 8, 0.1  # patches in a row; the chance that neighbours differ
ROWS = (np.arange(2**PATCHES)[:, None] >> np.arange(PATCHES - 1, -1, -1)) & 1  # all pictures, (256, 8)
PROBABILITY = 0.5 * np.where(ROWS[:, 1:] == ROWS[:, :-1], 1 - FLIP, FLIP).prod(1)  # (256,)
MEMORIES = (0, 1, 2, 3, 5, 7)  # tokens that a reader can remember
SIZES = (30, 100, 300, 1000, 10_000, 100_000)  # training pictures


def codes(seed: int = 0) -> dict[str, np.ndarray]:
    """Four lossless codes: tokens (256, 8) of every picture.

    "token = patch" and "causal, scrambled" can be read by a causal decoder, the other two cannot: of "leaning on the
    next" the first patch needs all tokens.
    """
    random = np.random.default_rng(seed)
    scrambled = np.empty_like(ROWS)
    for place in range(PATCHES):  # each patch, or its opposite, as a random table of the patches before says
        scrambled[:, place] = ROWS[:, place] ^ random.integers(0, 2, 2**place)[_context(ROWS, place, PATCHES)]
    leaning = np.concatenate([ROWS[:, :-1] ^ ROWS[:, 1:], ROWS[:, -1:]], 1)
    bijection = ROWS[random.permutation(len(ROWS))]
    return {
        "token = patch": ROWS,
        "causal, scrambled": scrambled,
        "bidirectional, any bijection": bijection,
        "leaning on the next": leaning,
    }


def _context(tokens: np.ndarray, place: int, memory: int) -> np.ndarray:
    """The last `memory` tokens before a place as one number, for every row (256,)."""
    first = max(0, place - memory)
    return (
        tokens[:, first:place] @ (1 << np.arange(place - first)[::-1]) if place > first else np.zeros(len(tokens), int)
    )


def causal_decoder_can_read(tokens: np.ndarray) -> bool:
    """Whether every patch is known once the token at its place and those before it are."""
    for place in range(PATCHES):
        seen = _context(tokens, place + 1, PATCHES)
        if len(set(zip(seen, ROWS[:, place], strict=True))) > len(set(seen)):
            return False
    return True


def bits(tokens: np.ndarray, memory: int) -> np.ndarray:
    """Bits of each token (8,) for the best reader that remembers so many tokens."""
    found = []
    for place in range(PATCHES):
        joint = _joint(tokens, place, memory, PROBABILITY)
        found.append(entropy(joint) - entropy(joint.sum(1)))
    return np.array(found)


def _joint(tokens: np.ndarray, place: int, memory: int, weights: np.ndarray) -> np.ndarray:
    """Weights of (context, token) at a place, (contexts, 2)."""
    joint = np.zeros((2 ** min(memory, place), 2))
    np.add.at(joint, (_context(tokens, place, memory), tokens[:, place]), weights)
    return joint


class Learned(NamedTuple):
    """A reader that has seen some pictures: excess bits a picture, total variation of its samples, its memory."""

    excess: float
    variation: float
    memory: int


def learn(tokens: np.ndarray, pictures: int, repeats: int = 20, seed: int = 0) -> Learned:
    """A reader that counts so many training pictures, with the memory that serves it best; means over training sets.

    It predicts by Krichevsky-Trofimov counts (each count plus a half). Excess bits are the KL divergence of its
    samples from the true pictures, exactly, because a lossless code keeps it.
    """
    random = np.random.default_rng(seed)
    training = [random.multinomial(pictures, PROBABILITY) for _ in range(repeats)]
    found = []
    for memory in MEMORIES:
        logs = [_log_probability(tokens, counts, memory) for counts in training]
        excess = np.mean([(PROBABILITY * (np.log2(PROBABILITY) - log)).sum() for log in logs])
        variation = np.mean([np.abs(PROBABILITY - 2**log).sum() / 2 for log in logs])
        found.append(Learned(float(excess), float(variation), memory))
    return min(found)


def _log_probability(tokens: np.ndarray, counts: np.ndarray, memory: int) -> np.ndarray:
    """Log2 probability of every picture (256,) for a reader that has counted the training pictures."""
    total = np.zeros(len(tokens))
    for place in range(PATCHES):
        joint, context = _joint(tokens, place, memory, counts), _context(tokens, place, memory)
        total += np.log2((joint[context, tokens[:, place]] + 0.5) / (joint[context].sum(1) + 1))
    return total


def reader_curves(repeats: int = 10) -> dict[str, tuple[dict[int, float], dict[int, float]]]:
    """For `viz.toy_readers`: code -> bits a picture by memory, and excess bits by number of training pictures."""
    return {
        name: (
            {memory: float(bits(tokens, memory).sum()) for memory in range(PATCHES)},
            {size: learn(tokens, size, repeats).excess for size in SIZES},
        )
        for name, tokens in codes().items()
    }


def tables() -> str:
    """Both worlds as text."""
    lines = ["code" + " " * 30 + "patches right   bits (perfect reader)     first guesses right"]
    for name, bucket in BUCKETS.items():
        found = count(bucket)
        each = " + ".join(f"{value:.0f}" for value in found.bits)
        lines.append(
            f"{name} {bucket.title:32}{found.right[0]:.2f}, {found.right[1]:.2f}      {each} = {sum(found.bits):.0f}"
            f"{sum(found.top1) / len(found.top1):24.1%}"
        )
    lines += ["", f"entropy of a picture: {entropy(PROBABILITY):.3f} bits", ""]
    lines.append(f"{'code':30}{'memory 0':>10}{'1':>7}{'2':>7}{'4':>7}{'7':>7}   excess bits after {SIZES} pictures")
    for name, tokens in codes().items():
        short = "".join(f"{bits(tokens, memory).sum():7.2f}" for memory in (0, 1, 2, 4, 7))
        learned = " ".join(f"{learn(tokens, size, 10).excess:.3f}" for size in SIZES)
        lines.append(f"{name:33}{short}   {learned}")
    return "\n".join(lines)
