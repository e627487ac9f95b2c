"""Plain vector quantisation with the online clustered codebook (CVQ), in float32 throughout."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VectorQuantizer(nn.Module):
    """V codes of d numbers; a latent becomes the nearest code by squared L2 distance, without normalisation.

    Shape: VectorQuantizer(16, 4)((2, 5, 4)) -> (2, 5, 4), (2, 5), ()
    """

    # CVQ's constants, see `revive`
    decay = 0.99  # gamma, of the running usage
    sharpness = 10  # how fast the move of a code falls with its usage
    epsilon = 1e-3  # a dead code stops a thousandth short of its anchor
    usage: Tensor  # (V,), the share of tokens that chose each code, smoothed

    def __init__(self, codebook_size: int, code_dim: int) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.empty(codebook_size, code_dim))
        nn.init.trunc_normal_(self.codebook, std=0.02)
        # Needed for training only, so not in a checkpoint; on the CPU even where the model is built without memory.
        self.register_buffer("usage", torch.zeros(codebook_size, device="cpu"), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "VectorQuantizer":
        """For `to`, `half` and the like, which here keep the dtype: a code of fewer bits would be another code."""
        return super()._apply(lambda x: y if (y := fn(x)).dtype == x.dtype else x.to(y.device), recurse)

    def distances(self, latents: Tensor) -> Tensor:
        """Squared L2 distance of every latent (N, d) to every code, in float32.

        Shape: distances((7, 4)) -> (7, 16)
        """
        with torch.autocast(latents.device.type, enabled=False):  # in bfloat16, other codes would be nearest
            x, codes = latents.float(), self.codebook.float()
            return x.square().sum(1, keepdim=True) - 2 * x @ codes.T + codes.square().sum(1)

    def lookup(self, ids: Tensor) -> Tensor:
        """Codebook rows of ids in 0..V-1.

        Shape: lookup((2, 5)) -> (2, 5, 4)
        """
        return F.embedding(ids, self.codebook)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """latents (B, T, d) -> codes (B, T, d), ids (B, T), VQ loss (a scalar).

        The codes are the codebook rows; backwards, their gradient goes straight through to the latents.
        Loss = 0.25 * commitment (latents move to codes) + 1.0 * codebook (codes move to latents).
        """
        latents = latents.float()
        ids = self.distances(latents.detach().flatten(0, 1)).argmin(1).view(latents.shape[:2])  # (B, T)
        rows = self.lookup(ids).float()  # (B, T, d)
        loss = 0.25 * F.mse_loss(latents, rows.detach()) + F.mse_loss(rows, latents.detach())
        return latents + (rows - latents).detach(), ids, loss

    @torch.no_grad()
    def revive(self, latents: Tensor, ids: Tensor) -> None:
        """One CVQ step after the nearest codes were chosen: dead codes move to where latents are.

        Code k moves to (1 - a_k) e_k + a_k anchor_k with a_k = exp(-10 V p_k / (1 - gamma) - epsilon), where p_k is
        its running usage: a_k is about 1 for a dead code and about 0 for one in use.
        Source: Zheng and Vedaldi 2023, Online Clustered Codebook (arXiv 2307.15139).
        """
        latents, codes = latents.detach().float().flatten(0, -2), len(self.codebook)  # (N, d), V
        share = torch.bincount(ids.flatten(), minlength=codes) / ids.numel()  # (V,)
        self.usage.lerp_(share, 1 - self.decay)
        # differs: dead codes move to random latents; the nearest one is the same for many, and most of them stay dead
        anchors = latents[torch.randint(len(latents), (codes,), device=latents.device)]  # (V, d)
        move = torch.exp(-self.sharpness * codes * self.usage / (1 - self.decay) - self.epsilon)[:, None]  # a, (V, 1)
        self.codebook.copy_((1 - move) * self.codebook + move * anchors)
