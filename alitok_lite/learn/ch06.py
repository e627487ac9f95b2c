"""The exercises of notebook 06: bits per image, redundancy, and when a difference is an effect."""

from collections.abc import Callable

import torch

from .exercises import (
    as_tensor,
    exercise,
    no_nan,
    plain_number,
    require,
    require_function,
    require_number,
    require_tensor,
    shortened,
)


@exercise(
    "6.1",
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


@exercise(
    "6.2",
    hint="Shares p = counts / counts.sum(), entropy -(p * p.log()).sum() over p > 0; then less nats.mean().",
    stub="""
def gain(counts, nats):
    return 0.0  # your code
""",
)
def gain(answer: Callable) -> None:
    """Write gain(counts, nats): the redundancy in nats per token, that is, the unigram entropy minus the mean loss of
    the AR model, which knows class, position and earlier tokens. counts (V,) says how often each code occurs; nats
    (N, T) is the loss of each token."""
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


@exercise(
    "6.3",
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
        (base, near, False, "The border of 0, 1, 2 against 2.5, 3.5, 4.5 must be 2.83: deviations of seeds, by n - 1"),
        (base, far, True, "The border of 0, 1, 2 against 3, 4, 5 must be 2.83: the deviations add up as squares"),
        (
            [5.0, 5.1, 4.9],
            far,
            False,
            "4.9, 5, 5.1 against 3, 4, 5 must be none: the wider of the two spreads counts too",
        ),
        (far, [5.0, 5.1, 4.9], False, "The spread of the first row must count as much as that of the second"),
    ]
    for first, second, wanted, message in cases:
        found = plain_number(answer(list(first), list(second)))
        require(found in (True, False), f"is_effect must return True or False; this is {shortened(found)}.")
        require(bool(found) == wanted, f"{message}; yours says {bool(found)}.")
