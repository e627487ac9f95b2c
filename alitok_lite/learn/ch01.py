"""The exercises of notebook 01: bits, nearest codes, straight-through gradients."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.quantizer import VectorQuantizer
from .exercises import exercise, known, randn, require, require_function, require_number, require_tensor


@exercise(
    "1.1",
    "warm-up",
    5,
    why="Bits = tokens x bits per token: the codebook counts by its logarithm, the grid by its square.",
    hint="A picture is T tokens, and one of V codes takes log2(V) bits. The prefix adds 1 + G tokens.",
    stub="""
def bits_per_picture(image_size, patch_size, codebook_size, prefix):
    return 0  # your code
""",
)
def bits_per_picture(answer: Callable) -> None:
    """Write bits_per_picture(image_size, patch_size, codebook_size, prefix): how many bits the ids of one picture take.
    prefix is True or False."""
    require_function(answer)
    require_number(answer(64, 16, 2, False), 16, "With two codes a token is one bit, so 4 x 4 tokens take 16")
    more = answer(64, 16, 2048, False) - answer(64, 16, 1024, False)
    require_number(more, 16, "Twice the codes must add one bit for each of 16 tokens, 16 in all")
    require_number(answer(64, 8, 1024, False), 640, "Half the patch side makes four times the tokens, 64 of 10 bits")
    more = answer(64, 16, 2, True) - answer(64, 16, 2, False)
    require_number(more, 5, "On a 4 x 4 grid the prefix adds 1 + 4 tokens, with two codes 5 bits")


known(
    "1.1",
    lambda answer: [answer(64, 16, 1024, prefix) for prefix in (False, True)] + [answer(64, 8, 2, True)],
    {
        "You multiplied by the number of codes; one of V codes takes log2(V) bits.": lambda s, p, v, k: (
            _tokens(s, p, k) * v
        ),
        "These are nats: you took the natural logarithm instead of log2.": lambda s, p, v, k: (
            _tokens(s, p, k) * math.log(v)
        ),
        "You left out the prefix.": lambda s, p, v, k: _tokens(s, p, False) * math.log2(v),
        "Your prefix has G tokens; it has 1 + G.": lambda s, p, v, k: (_tokens(s, p, k) - k) * math.log2(v),
        "You took the pixels of a side for tokens; the grid has image_size / patch_size patches a side.": (
            lambda s, p, v, k: (s * s + k * (1 + s)) * math.log2(v)
        ),
        "This counts the patches of one side only; the grid is square.": (
            lambda s, p, v, k: (s // p + k * (1 + s // p)) * math.log2(v)
        ),
        "Your prefix has one token; it has 1 + G.": lambda s, p, v, k: (_tokens(s, p, False) + k) * math.log2(v),
        "These are bytes; the exercise wants bits.": lambda s, p, v, k: _tokens(s, p, k) * math.log2(v) / 8,
    },
)


def _tokens(size: int, patch: int, prefix: bool) -> int:
    grid = size // patch
    return grid * grid + prefix * (1 + grid)


@exercise(
    "1.2",
    "core",
    7,
    why="Each latent belongs to one region of the space, that of its nearest code; training moves the borders.",
    hint="Squared distances of all pairs: (latents[:, None] - codebook[None]).square().sum(-1). Which is the least?",
    stub="""
def nearest_code(latents, codebook):
    return torch.zeros(len(latents), dtype=torch.long)  # your code
""",
)
def nearest_code(answer: Callable) -> None:
    """Write nearest_code(latents, codebook): for latents (N, d) and a codebook (V, d) the ids (N,) of the nearest codes
    by squared distance."""
    require_function(answer)
    codebook = _codes()
    require_tensor(
        answer(codebook.clone(), codebook), torch.arange(8), "A latent that is a code must get that code's id"
    )
    line = torch.tensor([[1.0, 0.0], [4.0, 0.0]])
    found = answer(torch.tensor([[2.0, 0.0], [3.5, 0.0]]), line)
    require_tensor(found, torch.tensor([0, 1]), "Between codes at 1 and 4, the latents 2 and 3.5 belong to ids 0 and 1")
    latents = randn(50, 3)
    wanted = torch.cdist(latents, codebook).argmin(1)
    require_tensor(answer(latents, codebook), wanted, "Each of 50 latents must get its nearest code")


known(
    "1.2",
    lambda answer: answer(randn(50, 3), _codes()),
    {
        "This is what the dot product gives: long codes win, however far away they are.": lambda z, e: (z @ e.T).argmax(
            1
        ),
        "This is what the cosine gives: it compares directions and ignores lengths.": (
            lambda z, e: (F.normalize(z, dim=1) @ F.normalize(e, dim=1).T).argmax(1)
        ),
        "This is the sum of absolute differences (L1); squared distances can have another nearest code.": (
            lambda z, e: torch.cdist(z, e, 1).argmin(1)
        ),
        "This is the largest single difference; all d numbers count.": lambda z, e: torch.cdist(z, e, torch.inf).argmin(
            1
        ),
        "These are the codes that are furthest away: argmin, not argmax.": lambda z, e: torch.cdist(z, e).argmax(1),
        "These are the latents that are nearest to each code: the other dimension.": lambda z, e: torch.cdist(
            z, e
        ).argmin(0),
        "These are the distances; the ids are their argmin.": lambda z, e: torch.cdist(z, e).min(1).values,
        "These are the squared distances; the ids are their argmin.": lambda z, e: (
            torch.cdist(z, e).square().min(1).values
        ),
        "These are the codes themselves; the exercise wants their ids.": lambda z, e: e[torch.cdist(z, e).argmin(1)],
        "Ids count from 0.": lambda z, e: torch.cdist(z, e).argmin(1) + 1,
    },
)


def _codes() -> Tensor:
    """Short and long codes (8, 3)."""
    return randn(8, 3, seed=1) * torch.linspace(0.2, 3, 8)[:, None]


@exercise(
    "1.3",
    "core",
    7,
    why="Where the error of rounding is held fixed, the slope is 1: a useful approximation, not the true gradient.",
    hint="What is added to the latents must have the right value and no gradient: detach() it.",
    stub="""
def straight_through(latents, codes):
    return codes  # your code
""",
)
def straight_through(answer: Callable) -> None:
    """Write straight_through(latents, codes): its value is the codes, but its gradient goes to the latents as if
    nothing had been rounded."""
    require_function(answer)
    latents, codes = randn(4, 3).requires_grad_(), randn(4, 3, seed=1).requires_grad_()
    found = answer(latents, codes)
    require_tensor(found, codes.detach(), "Forwards, the value must be the codes")
    require(found.requires_grad, "Backwards, no gradient gets through: the result is cut off from the latents.")
    weights = randn(4, 3, seed=2)
    to_latents, to_codes = torch.autograd.grad((found * weights).sum(), (latents, codes), allow_unused=True)
    nothing = to_latents is None or not to_latents.any()
    require(not nothing, "Backwards, the latents get no gradient: the encoder would never learn.")
    require_tensor(to_latents, weights, "Backwards, the latents must get the gradient of the result unchanged")
    quiet = to_codes is None or not to_codes.any()
    require(quiet, "Backwards, the codes get a gradient too; they must learn from their own loss alone.")


known(
    "1.3",
    lambda answer: _through(answer),
    {
        "detach() of everything: no gradient is left for anybody.": lambda z, e: e.detach(),
        "These are the codes as they are: the gradient goes to them, and none to the latents.": lambda z, e: e,
        "These are the latents as they are: nothing has been rounded.": lambda z, e: z,
        "Without detach() the latents cancel: z + (e - z) is e, in the gradient too.": lambda z, e: z + (e - z),
        "You detached the latents, and they are what the gradient must go to.": lambda z, e: e + (z - z.detach()),
        "You detached the wrong part: the latents must stay attached, the difference must not.": (
            lambda z, e: z.detach() + (e - z)
        ),
        "The parts are exchanged: yours has the value of the latents and the gradient of the codes.": (
            lambda z, e: z.detach() + e - e.detach()
        ),
        "This is the mean of latents and codes; forwards, the codes go on alone.": lambda z, e: (z + e) / 2,
    },
)


def _through(answer: Callable) -> list:
    """The value of the answer and its gradients at latents and codes."""
    latents, codes = randn(4, 3).requires_grad_(), randn(4, 3, seed=1).requires_grad_()
    found = answer(latents, codes)
    if not found.requires_grad:
        return [found]
    return [found, *torch.autograd.grad(found.square().sum(), (latents, codes), allow_unused=True)]


@exercise(
    "1.4",
    "stretch",
    15,
    "core.quantizer.VectorQuantizer.forward",
    why="Three gradients meet here: straight-through and commitment at the latents, the codebook loss at the codes.",
    hint="Flatten to (B*T, d), take the nearest row of each, view the ids as (B, T). Two mean squared errors between"
    " latents and rows, each with one side detached; then latents + (rows - latents).detach().",
    stub='''
def quantize(latents: torch.Tensor, codebook: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """latents (B, T, d), codebook (V, d) -> codes (B, T, d), ids (B, T), VQ loss, a scalar.

    loss = 0.25 * commitment loss (moves the latents) + codebook loss (moves the codes)
    """
    ids = torch.zeros(latents.shape[:2], dtype=torch.long)
    return codebook[ids], ids, torch.zeros(())  # your code
''',
)
def quantize(answer: Callable) -> None:
    """Write quantize(latents, codebook), the whole layer: for latents (B, T, d) and a codebook (V, d) the codes
    (B, T, d) with straight-through gradients, the ids (B, T), and the VQ loss: 0.25 times the commitment loss plus the
    codebook loss, each the mean of squares over all numbers."""
    require_function(answer)
    latents, codebook = randn(2, 5, 3), _codes()
    found = answer(latents.clone(), codebook.clone())
    three = isinstance(found, tuple | list) and len(found) == 3
    require(three, "quantize must return three things: codes, ids and the loss.")
    layer = VectorQuantizer(*codebook.shape)
    layer.codebook.data = codebook
    codes, ids, loss = (part.detach() for part in layer(latents))
    require_tensor(found[1], ids, "Every latent of every picture must get the id of its nearest code")
    require_tensor(found[0], codes, "Forwards, the codes must be the rows of those ids")
    require_number(found[2], loss.item(), f"The VQ loss of these latents must be {loss:.4f}")
    mine, theirs = _gradients(answer), _gradients(_quantize())
    says = {
        "codes at latents": "The gradient of the codes must go to the latents unchanged",
        "codes at codebook": "The gradient of the codes must not reach the codebook",
        "loss at latents": "The VQ loss must move the latents by the commitment loss alone, with weight 0.25",
        "loss at codebook": "The VQ loss must move the codes by the codebook loss alone, with weight 1",
    }
    for name, message in says.items():
        require_tensor(mine[name], theirs[name], message)


def _gradients(answer: Callable) -> dict[str, Tensor]:
    """What codes and loss send back, to latents and codebook; zeros where nothing arrives."""
    latents, codebook = randn(2, 5, 3).requires_grad_(), _codes().requires_grad_()
    codes, _, loss = answer(latents, codebook)
    found = {}
    for name, result in (("codes", (codes * randn(2, 5, 3, seed=2)).sum()), ("loss", loss)):
        for where, leaf in (("latents", latents), ("codebook", codebook)):
            there = (
                torch.autograd.grad(result, leaf, retain_graph=True, allow_unused=True)[0]
                if result.requires_grad
                else None
            )
            found[f"{name} at {where}"] = torch.zeros_like(leaf) if there is None else there
    return found


def _quantize(fault: str = "") -> Callable:
    """The layer, or one with a fault."""

    def quantize(latents: Tensor, codebook: Tensor) -> tuple[Tensor, ...]:
        nearness = latents @ codebook.T if fault == "dot" else -torch.cdist(latents, codebook)
        ids = nearness.argmax(-1)
        rows = F.embedding(ids, codebook)
        reduction = "sum" if fault == "sum" else "mean"
        fixed = (latents, rows) if fault == "both move" else (latents.detach(), rows.detach())
        commitment = F.mse_loss(latents, fixed[1], reduction=reduction)
        codebook_loss = F.mse_loss(rows, fixed[0], reduction=reduction)
        a, b = (1.0, 0.25) if fault == "weights" else (0.25, 1.0)
        a, b = (a if fault != "no commitment" else 0, b if fault != "no codebook" else 0)
        codes = {"detached": rows.detach(), "leak": latents + (rows - latents)}.get(fault)
        codes = latents + (rows - latents).detach() if codes is None else codes
        return codes, ids, a * commitment + b * codebook_loss

    return quantize


known(
    "1.4",
    lambda answer: [*answer(randn(2, 5, 3), _codes()), _gradients(answer)],
    {
        "The ids are those of the dot product: long codes win.": _quantize("dot"),
        "The squares are summed; the loss has their mean.": _quantize("sum"),
        "The weights are exchanged: 0.25 belongs to the commitment loss, which moves the latents.": _quantize(
            "weights"
        ),
        "Nothing is detached in the loss: each term moves latents and codes alike.": _quantize("both move"),
        "The codes are detached: the encoder would never learn.": _quantize("detached"),
        "There is no straight-through: the gradient goes to the rows. Detach rows - latents.": _quantize("leak"),
        "The commitment loss is missing.": _quantize("no commitment"),
        "The codebook loss is missing: no code would ever move.": _quantize("no codebook"),
    },
)
