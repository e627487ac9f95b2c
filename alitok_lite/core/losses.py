"""The tokenizer's losses: pixels, the prefix's auxiliary target, and a patch critic late in training."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from .config import LossWeights
from .tokenizer import TokenizerOutput


def prefix_target(pixels: Tensor, patch: int) -> Tensor:
    """What the K prefix outputs should show: the top-left patch, then the G patches of the first row.

    Shape: prefix_target((2, 3, 32, 32), 16) -> (2, 3, 3, 16, 16)
    """
    row = rearrange(pixels[:, :, :patch], "b c h (g w) -> b g c h w", w=patch)  # (B, G, 3, p, p)
    return torch.cat([row[:, :1], row], 1)


def reconstruction_losses(output: TokenizerOutput, pixels: Tensor, weights: LossWeights) -> dict[str, Tensor]:
    """The weighted terms that need no critic, each a scalar, by name; their sum is the loss. pixels (B, 3, S, S)"""
    terms = {"mse": weights.mse * F.mse_loss(output.pixels.float(), pixels)}
    if weights.l1:
        terms["l1"] = weights.l1 * F.l1_loss(output.pixels.float(), pixels)
    if weights.aux and output.aux is not None:
        terms["aux"] = weights.aux * F.mse_loss(output.aux.float(), prefix_target(pixels, output.aux.shape[-1]))
    if weights.vq:
        terms["vq"] = weights.vq * output.vq_loss
    return terms


def adversarial_loss(
    scores: Tensor, decoded: Tensor, others: Tensor, patch: int, average: Callable[[Tensor], Tensor] = torch.clone
) -> Tensor:
    """The decoder's hinge term: raise the critic's scores (B, 1, h, w) of the decoded pictures (B, 3, S, S).

    Scaled so that its gradient is as large as that of the other terms (a scalar), both averaged over pictures and
    patches: the adaptive weight of VQGAN, for the bias of the last layer. `average` is over processes.
    """
    loss, sizes = -scores.mean(), []
    for term in (loss, others):
        (gradient,) = torch.autograd.grad(term, decoded, retain_graph=True)
        sizes.append(average(reduce(gradient.float(), "b c (h p) (w q) -> c p q", "mean", p=patch, q=patch)).norm())
    return sizes[1] / sizes[0].clamp_min(1e-8) * loss


class SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value, which each training step estimates better.

    torch's own has an operation that Apple GPUs lack in torch 2.8. Source: Miyato et al., 2018.

    Shape: SpectralNorm(torch.rand(4, 3, 2, 2))((4, 3, 2, 2)) -> (4, 3, 2, 2)
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        for name, size in zip(("_u", "_v"), weight.flatten(1).shape, strict=True):
            self.register_buffer(name, F.normalize(weight.new_empty(size).normal_(), dim=0))
        for _ in range(15):
            self(weight.detach())

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        if self.training:
            with torch.no_grad():
                self._u.copy_(F.normalize(matrix @ self._v, dim=0))
                self._v.copy_(F.normalize(matrix.T @ self._u, dim=0))
        return weight / torch.dot(self._u.clone(), torch.mv(matrix, self._v.clone()))


class PatchCritic(nn.Module):
    """PatchGAN: scores overlapping patches of a picture as real (high) or decoded (low), with spectral norm.

    Shape: PatchCritic(8)((2, 3, 32, 32)) -> (2, 1, 4, 4)
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        first = (3, width, 4, 2, 1), (width, 2 * width, 4, 2, 1), (2 * width, 4 * width, 4, 2, 1)
        for sizes in (*first, (4 * width, 1, 3, 1, 1)):  # channels in and out, kernel, stride, padding
            conv = nn.Conv2d(*sizes)
            layers += [register_parametrization(conv, "weight", SpectralNorm(conv.weight)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(2 * pixels - 1)


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the critic's scores (B, 1, h, w) of real and decoded pictures.

    Shape: critic_loss((2, 1, 4, 4), (2, 1, 4, 4)) -> ()
    """
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
