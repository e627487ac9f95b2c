"""The exercises of notebook 06: bits per image, redundancy, and when a difference is an effect."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .exercises import (
    as_tensor,
    exercise,
    known,
    no_nan,
    plain_number,
    randn,
    require,
    require_function,
    require_number,
    require_tensor,
    shortened,
)


@exercise(
    "6.1",
    "warm-up",
    5,
    why="Bits of a whole image compare sequences of different lengths; nats per token do not.",
    hint="Add up the nats of the tokens of each picture, nats.sum(1); a bit is log(2) = 0.693 nats.",
    stub="""
def bits_per_image(nats):
    return nats.mean(1)  # your code
""",
)
def bits_per_image(answer: Callable) -> None:
    """Write bits_per_image(nats): from the loss (N, T) of the tokens of N pictures in nats, the loss (N,) of each
    whole picture in bits."""
    require_function(answer)
    nats = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    found = as_tensor(answer(nats.clone()), "bits_per_image")
    shape = tuple(found.shape)
    require(shape == (3,), f"Three pictures have three numbers of bits, of shape (3,); yours has {shape}.")
    twice = as_tensor(answer(torch.cat([nats, nats], 1)), "bits_per_image")
    longer = "A sequence twice as long, with the same nats again, must have twice the bits; yours goes from"
    require(torch.allclose(twice, 2 * found), f"{longer} {found[0]:.2f} to {twice[0]:.2f}.")
    coins = torch.full((1, 4), 2.0).log()
    require_tensor(answer(coins), torch.tensor([4.0]), "Four tokens of log(2) nats, a coin toss each, are 4 bits")
    require_tensor(answer(nats), nats.sum(1) / coins[0, 0], "The bits of each picture must be those of its own tokens")


known(
    "6.1",
    lambda answer: answer(torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) + 0.5),
    {
        "This is the mean over the tokens; the loss of an image is their sum.": lambda nats: nats.mean(1),
        "This is the mean over the tokens, in bits; the loss of an image is their sum.": lambda nats: (
            nats.mean(1) / math.log(2)
        ),
        "These are still nats.": lambda nats: nats.sum(1),
        "You multiplied by log(2); a nat is more than a bit, so divide.": lambda nats: nats.sum(1) * math.log(2),
        "You took the logarithm of the loss; it is one already.": lambda nats: nats.sum(1).log2(),
        "This is the sum over all pictures.": lambda nats: nats.sum() / math.log(2),
        "This is the mean of all tokens of all pictures.": lambda nats: nats.mean() / math.log(2),
        "This is the sum over the pictures, for each token.": lambda nats: nats.sum(0) / math.log(2),
        "These are bytes; the exercise wants bits.": lambda nats: nats.sum(1) / math.log(2) / 8,
        "You divided by log(10), not by log(2).": lambda nats: nats.sum(1) / math.log(10),
    },
)


@exercise(
    "6.2",
    "core",
    7,
    why="Redundancy is what class, position and earlier tokens are worth: much, if tokens repeat each other.",
    hint="Shares p = counts / counts.sum(), entropy -(p * p.log()).sum() over p > 0; then less nats.mean().",
    stub="""
def redundancy(counts, nats):
    return 0.0  # your code
""",
)
def redundancy(answer: Callable) -> None:
    """Write redundancy(counts, nats): the redundancy in nats per token, that is, the unigram entropy minus the mean
    loss of the AR model, which knows class, position and earlier tokens. counts (V,) says how often each code occurs;
    nats (N, T) is the loss of each token."""
    require_function(answer)
    free = torch.zeros(2, 3)
    even = torch.full((8,), 5)
    uniform = "With 8 equally frequent codes and a loss of 0, the redundancy must be log(8) = 2.0794 nats per token"
    require_number(answer(even, free), torch.tensor(8.0).log().item(), uniform)
    require_number(
        answer(even, free + 1),
        torch.tensor(8.0).log().item() - 1,
        "With a loss of 1 nat for each token, the redundancy must be 1 less",
    )
    unused = plain_number(answer(torch.tensor([5, 5, 0, 0]), free))
    no_nan(unused)
    half = "With two of four codes in use, equally often, and a loss of 0, the redundancy must be log(2) = 0.6931"
    require_number(unused, torch.tensor(2.0).log().item(), half)
    counts = torch.tensor([1, 2, 3, 4])
    wanted = torch.special.entr(counts / 10).sum().item()
    require_number(
        answer(counts, free + wanted), 0, "If the loss is the unigram entropy itself, the redundancy must be 0"
    )


known(
    "6.2",
    lambda answer: answer(torch.tensor([1, 2, 3, 4]), torch.full((2, 3), 0.4)),
    {
        "This counts from log V, as if all codes were equally frequent; count from the unigram entropy.": (
            lambda counts, nats: math.log(len(counts)) - nats.mean()
        ),
        "The entropy is in bits, and the loss in nats.": lambda counts, nats: (
            _entropy(counts) / math.log(2) - nats.mean()
        ),
        "This is the entropy alone.": lambda counts, nats: _entropy(counts),
        "The sign is the other way round.": lambda counts, nats: nats.mean() - _entropy(counts),
        "The loss is summed over the tokens; nats per token are its mean.": (
            lambda counts, nats: _entropy(counts) - nats.sum(1).mean()
        ),
        "The minus in front of the entropy is missing.": lambda counts, nats: -_entropy(counts) - nats.mean(),
        "The counts must be divided by their sum first.": (
            lambda counts, nats: -(counts * counts.log()).sum() - nats.mean()
        ),
        "Shares are counts / counts.sum(); yours are divided by the largest count.": (
            lambda counts, nats: torch.special.entr(counts / counts.max()).sum() - nats.mean()
        ),
        "Each code counts alike in yours; the entropy weights -log p with p.": (
            lambda counts, nats: -(counts / counts.sum()).log().mean() - nats.mean()
        ),
        "The loss is added; subtract it from the entropy.": lambda counts, nats: _entropy(counts) + nats.mean(),
        "This is a ratio; the exercise wants a difference.": lambda counts, nats: _entropy(counts) / nats.mean(),
        "The entropy is the sum over the codes, not their mean.": lambda counts, nats: (
            _entropy(counts) / len(counts) - nats.mean()
        ),
    },
)


def _entropy(counts: Tensor) -> Tensor:
    return torch.special.entr(counts / counts.sum()).sum()


@exercise(
    "6.3",
    "core",
    10,
    why="This rule asks about single runs. The mean of n runs is known better, by the square root of n.",
    hint="torch.tensor(first).std() divides by n - 1. Compare abs(mean - mean) with 2 * (s1**2 + s2**2) ** 0.5.",
    stub="""
def is_effect(first, second):
    return False  # your code
""",
)
def is_effect(answer: Callable) -> None:
    """Write is_effect(first, second): the lists hold the numbers of several seeds for two rows. Return True if their
    means differ by more than 2 * sqrt(s1^2 + s2^2), where s1 and s2 are the standard deviations over the seeds, else
    False."""
    require_function(answer)
    base = [0.0, 1.0, 2.0]  # mean 1, standard deviation 1: the border is at 2 * sqrt(2) = 2.83
    far, near, middle = ([x + shift for x in base] for shift in (3.0, 2.5, 1.0))
    cases = [
        (base, [x + 9 for x in base], True, "0, 1, 2 against 9, 10, 11 must be an effect: 9 apart, the border is 2.83"),
        ([x + 9 for x in base], base, True, "An effect must be one whichever row comes first: take the absolute value"),
        (base, middle, False, "0, 1, 2 against 1, 2, 3 must be none: 1 apart, the border is 2.83"),
        (base, near, False, "The border of 0, 1, 2 against 2.5, 3.5, 4.5 must be 2.83, so they are no effect"),
        (base, far, True, "The border of 0, 1, 2 against 3, 4, 5 must be 2.83, so they are an effect"),
        (
            [5.0, 5.1, 4.9],
            far,
            False,
            "4.9, 5, 5.1 against 3, 4, 5 must be none: the wider of the two spreads counts too",
        ),
        (far, [5.0, 5.1, 4.9], False, "The spread of the first row must count as much as that of the second"),
        (base, [x + 2.8 for x in base], False, "2.8 apart is no effect where the border is 2.83: the factor is 2"),
        ([0.0, 0.0, 3.0], [4.0, 4.0, 4.0], False, "0, 0, 3 has mean 1: 4, 4, 4 is 3 apart, and the border is 3.46"),
    ]
    for first, second, wanted, message in cases:
        found = plain_number(answer(list(first), list(second)))
        require(found in (True, False), f"is_effect must return True or False; this is {shortened(found)}.")
        require(bool(found) == wanted, f"{message}; yours says {bool(found)}.")


def _border(width: Callable) -> Callable:
    """An answer that calls a difference an effect from some width on."""

    def is_effect(first: list[float], second: list[float]) -> bool:
        a, b = torch.tensor(first), torch.tensor(second)
        return bool((a.mean() - b.mean()).abs() > width(a, b))

    return is_effect


known(
    "6.3",
    lambda answer: [plain_number(answer(a, b)) for a, b in _pairs_of_rows()],
    {
        "This takes the standard errors of the means, s / sqrt(n); the rule has the deviations s of single runs.": (
            _border(lambda a, b: 2 * (a.var() / len(a) + b.var() / len(b)) ** 0.5)
        ),
        "The deviations are divided by n; over a few seeds they are divided by n - 1.": (
            _border(lambda a, b: 2 * (a.var(correction=0) + b.var(correction=0)) ** 0.5)
        ),
        "The deviations are added; independent ones add up as squares.": _border(lambda a, b: 2 * (a.std() + b.std())),
        "The factor 2 is missing.": _border(lambda a, b: (a.var() + b.var()) ** 0.5),
        "The root is missing: s1^2 + s2^2 is a variance.": _border(lambda a, b: 2 * (a.var() + b.var())),
        "The two variances are averaged; add them.": _border(lambda a, b: 2 * ((a.var() + b.var()) / 2) ** 0.5),
        "Only the larger of the two deviations is used.": _border(lambda a, b: 2 * max(a.std(), b.std())),
        "This never finds an effect. (The spread of all runs together would not: it holds the difference itself.)": (
            _border(lambda a, b: 2 * torch.cat([a, b]).std())
        ),
        "Only the spread of the first row is used.": _border(lambda a, b: 2 * (2 * a.var()) ** 0.5),
        "Only the spread of the second row is used.": _border(lambda a, b: 2 * (2 * b.var()) ** 0.5),
        "Any difference counts as an effect.": _border(lambda a, b: 0),
        "The absolute value is missing: the first row may be the larger one.": (
            lambda a, b: _border(lambda a, b: 2 * (a.var() + b.var()) ** 0.5)(a, b) and sum(b) > sum(a)
        ),
        "The factor is 2 in this rule, not 1.96.": _border(lambda a, b: 1.96 * (a.var() + b.var()) ** 0.5),
        "These are medians; the rule compares means.": lambda a, b: (
            abs(sorted(a)[1] - sorted(b)[1]) > 2 * (torch.tensor(a).var() + torch.tensor(b).var()) ** 0.5
        ),
        "Yours asks whether the rows overlap; the rule compares means with spreads.": lambda a, b: (
            min(a) > max(b) or min(b) > max(a)
        ),
    },
)


def _pairs_of_rows() -> list[tuple[list[float], list[float]]]:
    """Two rows of three seeds, at many distances, with equal and with unequal spreads."""
    base, narrow = [0.0, 1.0, 2.0], [0.9, 1.0, 1.1]
    pairs = []
    for distance in (0.1, 0.5, 1.2, 1.5, 1.8, 1.95, 2.1, 2.5, 2.9, 3.5, 4.1, 9.0):
        pairs += [(base, [x + distance for x in row]) for row in (base, narrow)]
        pairs += [([x + distance for x in row], base) for row in (base, narrow)]
    return [*pairs, (base, [x + 2.8 for x in base]), ([0.0, 0.0, 3.0], [4.0, 4.0, 4.0])]


@exercise(
    "6.4",
    "stretch",
    15,
    "measure.metrics.bits_per_dimension",
    why="One number for tokens and pixels together: it compares tokenizers of any codebook, length and quality.",
    hint="Bits of the tokens: nats.sum(1).mean() / log(2). Errors in levels: 255 * (decoded - pixels); the mean of"
    " their squares for each of the G rows; at least 1/12. A value of variance v takes 0.5 * log2(2 pi e v) bits.",
    stub='''
def two_part_code(
    nats: torch.Tensor, decoded: torch.Tensor, pixels: torch.Tensor, grid: int
) -> float:
    """Bits for each value of a picture: nats (N, T) of the tokens, pictures (N, 3, S, S) in [0, 1].

    First part: the tokens, as the AR model codes them. Second part: what decoding got wrong,
    255 * (decoded - pixels), coded as Gaussian noise: 0.5 * log2(2 * pi * e * v) bits a value,
    where v is the mean square in its row of patches over all pictures, or 1/12 if it is less.
    """
    return 0.0  # your code
''',
)
def two_part_code(answer: Callable) -> None:
    """Write two_part_code(nats, decoded, pixels, grid): how many bits each of the 3 S S values of a picture takes, if
    one first codes the tokens (nats (N, T)) and then the error of the decoded pictures (N, 3, S, S), as Gaussian noise
    with the mean square of its row of patches, of which there are `grid`."""
    require_function(answer)
    nats, decoded, pixels = _coded()
    exact = plain_number(answer(nats, pixels.clone(), pixels, 2))
    rounding = 0.5 * math.log2(2 * math.pi * math.e / 12)
    tokens = nats.sum(1).mean().item() / math.log(2) / pixels[0].numel()
    free = f"Without any error a value must take {tokens:.3f} bits for the tokens and {rounding:.3f} for rounding"
    require_number(exact, tokens + rounding, free)
    wanted = _two_parts()(nats, decoded, pixels, 2)
    more = plain_number(answer(nats + 1, decoded, pixels, 2))
    require(isinstance(more, int | float), f"two_part_code must return a number; this is {shortened(more)}.")
    found = plain_number(answer(nats, decoded, pixels, 2))
    each = nats.shape[1] / math.log(2) / pixels[0].numel()
    require_number(
        more - found, each, f"One nat more for each of the {nats.shape[1]} tokens must add {each:.4f} bits a value"
    )
    worse = plain_number(answer(nats, pixels + 2 * (decoded - pixels), pixels, 2))
    require_number(worse - found, 1.0, "Twice the error everywhere must add exactly one bit a value")
    require_number(found, wanted, f"These pictures must take {wanted:.4f} bits a value")


def _coded() -> tuple[Tensor, Tensor, Tensor]:
    """Losses (3, 5), and pictures (3, 3, 8, 8) whose lower half is decoded worse, in one of them more so."""
    pixels = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 2
    error = randn(3, 3, 8, 8) * torch.tensor([0.02, 0.1]).repeat_interleave(4)[:, None]
    error = error * torch.tensor([1.0, 1.0, 2.0]).view(3, 1, 1, 1) * torch.tensor([1.0, 1.5]).repeat_interleave(4)
    return randn(3, 5, seed=1).abs() + 2, pixels + error, pixels


def _two_parts(fault: str = "") -> Callable:
    """The code, or one with a fault."""

    def two_part_code(nats: Tensor, decoded: Tensor, pixels: Tensor, grid: int) -> float:
        values = pixels[0].numel()
        tokens = (nats.mean(1) if fault == "mean" else nats.sum(1)).mean() / (1 if fault == "nats" else math.log(2))
        tokens = tokens * {"all pictures": len(nats), "not shared": values}.get(fault, 1)
        levels = (decoded - pixels) * (1 if fault == "unit" else 255)
        squares = levels.square().unflatten(2, (grid, -1))
        rows = {
            "one variance": squares.mean().view(1),
            "pictures": squares.mean((1, 3, 4)).flatten(),
            "columns": levels.square().unflatten(3, (grid, -1)).mean((0, 1, 2, 4)),
        }.get(fault, squares.mean((0, 1, 3, 4)))
        rows = rows if fault == "no rounding" else rows.clamp(min=1 / 12)
        rows = rows.sqrt() if fault == "deviation" else rows
        log = torch.log if fault == "log" else torch.log2
        noise = (1 if fault == "half" else 0.5) * log(2 * torch.pi * torch.e * rows)
        total = {"no tokens": 0, "per token": tokens / nats.shape[1]}.get(fault, tokens) + values * noise.mean()
        total = tokens + 0 if fault == "no residual" else total
        total = tokens + noise.sum() if fault == "one value" else total
        return float(total / (1 if fault == "whole" else values))

    return two_part_code


known(
    "6.4",
    lambda answer: [plain_number(answer(*_coded(), 2)), plain_number(answer(_coded()[0], *[_coded()[2]] * 2, 2))],
    {
        "The tokens are still in nats: divide by log(2).": _two_parts("nats"),
        "The nats are averaged over the tokens; a picture takes their sum.": _two_parts("mean"),
        "The tokens are missing.": _two_parts("no tokens"),
        "The bits of the tokens are for the whole picture: divide them by its 3 S S values, too.": (
            _two_parts("not shared")
        ),
        "These are the tokens of all pictures; take the mean over the pictures.": _two_parts("all pictures"),
        "The second part is missing: what the decoder got wrong.": _two_parts("no residual"),
        "The errors are in [0, 1]; count them in levels of 255, as the pixels are stored.": _two_parts("unit"),
        "One variance stands for the whole picture; each row of patches has its own.": _two_parts("one variance"),
        "Each picture has its own variances, which would have to be sent too; take the mean over all.": _two_parts(
            "pictures"
        ),
        "These are columns of patches; the exercise wants rows.": _two_parts("columns"),
        "Without the least variance of 1/12, that of rounding, a perfect picture takes minus infinity.": _two_parts(
            "no rounding"
        ),
        "v is the mean square, not its root.": _two_parts("deviation"),
        "The second part is in nats: log2, not log.": _two_parts("log"),
        "The factor 0.5 is missing.": _two_parts("half"),
        "This counts one value for each row; a row has 3 * S * S / G of them.": _two_parts("one value"),
        "These are bits of a whole picture; divide by 3 * S * S.": _two_parts("whole"),
    },
)
