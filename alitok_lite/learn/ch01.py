"""The exercises of notebook 01: bits, nearest codes, straight-through gradients."""

from collections.abc import Callable

import torch

from .exercises import exercise, randn, require, require_function, require_number, require_tensor


@exercise(
    "1.1",
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


@exercise(
    "1.2",
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
    codebook = randn(8, 3, seed=1) * torch.linspace(0.2, 3, 8)[:, None]  # short and long codes
    require_tensor(
        answer(codebook.clone(), codebook), torch.arange(8), "A latent that is a code must get that code's id"
    )
    line = torch.tensor([[1.0, 0.0], [4.0, 0.0]])
    found = answer(torch.tensor([[2.0, 0.0], [3.5, 0.0]]), line)
    require_tensor(found, torch.tensor([0, 1]), "Between codes at 1 and 4, the latents 2 and 3.5 belong to ids 0 and 1")
    latents = randn(50, 3)
    wanted = torch.cdist(latents, codebook).argmin(1)
    require_tensor(answer(latents, codebook), wanted, "Each of 50 latents must get its nearest code")


@exercise(
    "1.3",
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
