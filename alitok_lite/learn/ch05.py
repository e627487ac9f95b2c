"""The exercises of notebook 05: shifted inputs, the guidance ramp, temperature."""

from collections.abc import Callable

import torch

from .exercises import as_tensor, exercise, randn, require, require_function, require_number, require_tensor


@exercise(
    "5.1",
    hint="The inputs begin with the class token and lack the last id; the targets are the ids themselves.",
    stub="""
def shift(ids, class_tokens):
    return ids, ids  # your code
""",
)
def shift(answer: Callable) -> None:
    """Write shift(ids, class_tokens): from ids (B, T) and class tokens (B,) the inputs (B, T) and targets (B, T) of the
    AR model: at each position it reads what came before and must predict the id of that position."""
    require_function(answer)
    ids, classes = torch.arange(10, 18).view(2, 4), torch.tensor([98, 99])
    found = answer(ids.clone(), classes.clone())
    pair = isinstance(found, tuple | list) and len(found) == 2
    require(pair, "shift must return two tensors, inputs and targets.")
    inputs, targets = found
    require(
        tuple(targets.shape) == (2, 4),
        f"There are 4 ids to predict, and your targets have shape {tuple(targets.shape)}.",
    )
    require_tensor(targets, ids, "Every id must be predicted, also the first: the targets must be the ids")
    require(
        not torch.equal(inputs, ids), "Your model reads the very id that it must predict: nothing is left to learn."
    )
    require(
        tuple(inputs.shape) == (2, 4),
        f"There are 4 positions to read, and your inputs have shape {tuple(inputs.shape)}.",
    )
    require_tensor(inputs[:, 0], classes, "What is read before the first id must be the class token")
    require_tensor(inputs[:, 1:], ids[:, :-1], "Behind the class token come the ids, up to the last but one")


@exercise(
    "5.2",
    hint="1 + (g - 1) (1 - cos(pi (t / T) ** p)) / 2, for t = 0 .. T - 1.",
    stub="""
def ramp(tokens, guidance, power):
    return torch.full((tokens,), float(guidance))  # your code
""",
)
def ramp(answer: Callable) -> None:
    """Write ramp(tokens, guidance, power): the guidance scale at each of T tokens, (T,): half a cosine from 1 at t = 0
    towards g, which t = T would reach, with t / T raised to the power p."""
    require_function(answer)
    found = as_tensor(answer(100, 5.0, 1.0), "ramp").float()
    require(found.shape == (100,), f"There are 100 tokens, and your ramp has shape {tuple(found.shape)}.")
    require_number(found[0], 1, "At the first token the scale must be 1, no guidance")
    require((found.diff() > 0).all(), "The scale must rise from token to token.")
    last = found[-1].item()
    require(4.9 < last < 5, f"The last token is T - 1, so its scale must stay just under g = 5; yours is {last:.4f}.")
    require_number(found[50], 3, "With power 1 the middle of a ramp to 5 must be 3")
    bent = as_tensor(answer(100, 5.0, 2.0), "ramp").float()
    lower = f"A larger power must rise later: at token 50 power 2 gives {bent[50]:.2f}, power 1 gives {found[50]:.2f}"
    require(bent[50] < found[50], f"{lower}.")
    require_number(bent[50], 1 + 2 * (1 - 0.5**0.5), "With power 2, token 50 must be at a quarter of the cosine")
    require_number(as_tensor(answer(7, 1.0, 1.4), "ramp").max(), 1, "Guidance 1 must be 1 everywhere")


@exercise(
    "5.3",
    hint="Divide the logits by the temperature, then softmax over the last dimension.",
    stub="""
def probabilities(logits, temperature):
    return torch.zeros_like(logits)  # your code
""",
)
def probabilities(answer: Callable) -> None:
    """Write probabilities(logits, temperature): from logits (B, V) the probabilities (B, V) of the next id at a
    temperature above 0."""
    require_function(answer)
    logits = 2 * randn(2, 6)
    plain = as_tensor(answer(logits.clone(), 1.0), "probabilities")
    require(plain.shape == (2, 6), "The result must have the shape of the logits, (2, 6).")
    require_tensor(plain.sum(-1), torch.ones(2), "The probabilities of each picture must add up to 1")
    require_tensor(plain, logits.softmax(-1), "At temperature 1 they must be the softmax of the logits")
    low, high = (torch.special.entr(answer(logits.clone(), t)).sum(-1) for t in (0.5, 2.0))
    order = "A higher temperature must be less certain: entropies at 0.5 and 2 are"
    require((high > low).all(), f"{order} {low[0]:.2f} and {high[0]:.2f}.")
    for t in (0.5, 2.0):
        found = answer(logits.clone(), t)
        require_tensor(found.sum(-1), torch.ones(2), f"At temperature {t:g} they must add up to 1 too")
        wanted = "the ratio of two probabilities must be that at temperature 1, to the power 1 / temperature"
        require_tensor(found, (logits / t).softmax(-1), f"At temperature {t:g} {wanted}")
