"""Plain vector quantisation with the online clustered codebook (CVQ), in float32 throughout."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VectorQuantizer(nn.Module):
    """V codes of d numbers; a latent becomes the nearest code by squared L2 distance, without normalisation.

    Source: paper.md, Tokenizer table (rows quantizer and codebook upkeep).

    Shape: VectorQuantizer(16, 4)((2, 5, 4)) -> (2, 5, 4), (2, 5), ()
    """

    decay = 0.99  # of the running usage

    def __init__(self, codebook_size: int, code_dim: int) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.empty(codebook_size, code_dim))
        nn.init.trunc_normal_(self.codebook, std=0.02)
        # Share of the tokens that chose each code, smoothed; needed for training only, so not in a checkpoint.
        self.register_buffer("usage", torch.zeros(codebook_size, device="cpu"), persistent=False)

    def distances(self, latents: Tensor) -> Tensor:
        """Squared L2 distance of every latent (N, d) to every code, in float32.

        Shape: distances((7, 4)) -> (7, 16)
        """
        with torch.autocast(latents.device.type, enabled=False):
            z, e = latents.float(), self.codebook.float()
            return z.square().sum(1, keepdim=True) - 2 * z @ e.T + e.square().sum(1)

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

        Code k moves to (1 - a_k) e_k + a_k * (a latent of the batch), a_k = exp(-10 V p_k / (1 - decay) - 1e-3) with
        the running usage p_k: about 1 for a dead code, about 0 for one in use.
        """
        z, size = latents.detach().float().flatten(0, -2), len(self.codebook)
        share = torch.bincount(ids.flatten(), minlength=size) / ids.numel()  # (V,)
        self.usage.lerp_(share, 1 - self.decay)
        # differs: dead codes move to random latents; the nearest one is the same for many, and most of them stay dead
        anchors = z[torch.randint(len(z), (size,), device=z.device)]  # (V, d)
        a = torch.exp(-10 * size * self.usage / (1 - self.decay) - 1e-3)[:, None]  # (V, 1)
        self.codebook.copy_((1 - a) * self.codebook + a * anchors)
