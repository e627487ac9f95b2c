"""How good are the pictures, and how predictable the tokens? PSNR, SSIM, Frechet distances, nats.

Frechet distances are measured between features of a judge (see judge.py) or of Inception. Compare only distances in
the same features and of equally many pictures.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.ar import ARModel
from ..data.sources import BATCH, slices

Features = Callable[[Tensor], Tensor]  # pixels (B, 3, S, S) -> (B, D)
LOGITS = 2**25  # computed at once: B * T * V logits, 128 MB in float32
INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def psnr(decoded: Tensor, pixels: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB, for values in [0, 1].

    Shape: psnr((2, 3, 32, 32), (2, 3, 32, 32)) -> (2,)
    """
    return -10 * (decoded.float() - pixels).square().flatten(1).mean(1).clamp_min(1e-10).log10()


def ssim(decoded: Tensor, pixels: Tensor) -> Tensor:
    """Structural similarity of each picture, up to 1 for equal ones; values in [0, 1], at least 11 x 11 pixels.

    Gaussian window 11 x 11 of sigma 1.5 where it fits wholly, K1 = 0.01, K2 = 0.03, mean over places and channels.
    Raises ValueError for smaller pictures. Source: Wang et al., Image Quality Assessment (2004).

    Shape: ssim((2, 3, 32, 32), (2, 3, 32, 32)) -> (2,)
    """
    if min(pixels.shape[2:]) < 11:
        raise ValueError(f"pictures have {pixels.shape[2]} x {pixels.shape[3]} pixels; SSIM needs 11 x 11 or more")
    x, y = decoded.float(), pixels.float()
    mean_x, mean_y = _blurred(x), _blurred(y)  # (B, 3, S - 10, S - 10)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    means = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (means * (2 * covariance + c2) / (var_x + var_y + c2)).flatten(1).mean(1)


def _blurred(x: Tensor) -> Tensor:
    """Means under SSIM's window, (B, C, H, W) -> (B, C, H - 10, W - 10).

    Shifted and added: a GPU may round the factors of a convolution to 10 bits, too few for the variances of smooth
    places.
    """
    window = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    for dim in (2, 3):
        length = x.shape[dim] - 10
        x = sum(share * x.narrow(dim, i, length) for i, share in enumerate((window / window.sum()).tolist()))
    return x


def row_errors(decoded: Tensor, pixels: Tensor, patch: int) -> Tensor:
    """Mean squared error of each row of patches in each picture: a causal decoder has the fewest tokens for row 0.

    Shape: row_errors((2, 3, 32, 32), (2, 3, 32, 32), 16) -> (2, 2)
    """
    errors = (decoded.float() - pixels).square().mean((1, 3))  # (B, S)
    return errors.unflatten(1, (-1, patch)).mean(2)


def unigram_entropy(ids: Tensor, codes: int) -> float:
    """Entropy in nats, at most log(codes), of the codes in ids regardless of place; ids of any shape.

    Estimated from counts without correction, so about (codes - 1) / (2 * ids.numel()) nats too low.
    """
    shares = torch.bincount(ids.flatten().cpu(), minlength=codes).double() / ids.numel()  # Apple GPUs have no float64
    return float(torch.special.entr(shares).sum())


def codebook_usage(ids: Tensor, codes: int) -> float:
    """Share of the codes that occur in ids, of any shape."""
    return len(ids.cpu().unique()) / codes


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Frechet distance between Gaussians fitted to two sets of features (N, D) and (M, D), in float64.

    Raises ValueError for fewer than two of either, and for features that are not finite numbers.
    """
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a Frechet distance needs two pictures or more on each side, not {len(a)} and {len(b)}")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("features are not finite numbers, so they have no Frechet distance")
    cov_a, cov_b = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def inception_features(device: torch.device) -> Features:
    """The features of the Inception FID: pixels (B, 3, S, S) in [0, 1] -> (B, 2048), rounded to 8 bits first.

    Network and resizing are those of torch-fidelity, which equal the original ones; fewer pictures than features make
    a poor fit, and published numbers have 50,000. Never downloads: raises ValueError, in one sentence that says what
    to do, where the package or its weights are missing.
    """
    try:
        from torch_fidelity import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision made for another torch
        raise ValueError(
            f"Inception FID needs torch-fidelity and a torchvision that fits torch {torch.__version__}:"
            f" pip install 'torch-fidelity>=0.4' torchvision ({error})"
        ) from error
    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION.rsplit("/", 1)[1]
    if not path.is_file():
        raise ValueError(f"Inception FID needs its weights (96 MB): curl -L --create-dirs -o {path} {INCEPTION}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != INCEPTION_SHA256:
        raise ValueError(f"{path} is damaged: its sha256 is not {INCEPTION_SHA256}; fetch {INCEPTION} again")
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path)).to(device).eval()
    return lambda pixels: network((pixels.clamp(0, 1) * 255).round().byte())[0]


class Predictability(NamedTuple):
    """How well the AR model predicts each token from the class and the true tokens before it; on the CPU."""

    nats: Tensor  # (N, T), minus the log-probability of the token
    top1: Tensor  # (N, T), 1 where the token is the likeliest code
    top5: Tensor  # (N, T), 1 where it is among the five likeliest
    entropy: Tensor  # (N, T), of the prediction, in nats: the nats that the model expects


@torch.inference_mode()
def predictability(ar: ARModel, ids: Tensor, labels: Tensor, batch: int | None = None) -> Predictability:
    """Teacher-forced nats, hits and entropy of every token: ids (N, T), labels (N,) -> (N, T) each.

    `batch` pictures at once; None: as many as are fast and fit in memory.
    """
    parts = []
    for part in slices(len(ids), batch or affordable(ar)):
        logits, wanted = ar(ids[part], labels[part]).float(), ids[part]  # (B, T, V), (B, T)
        nats = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        hits = logits.topk(min(5, logits.shape[-1])).indices == wanted[..., None]  # (B, T, 5)
        entropy = torch.special.entr(logits.softmax(-1)).sum(-1)  # (B, T)
        parts.append(tuple(x.float().cpu() for x in (nats, hits[..., 0], hits.any(-1), entropy)))
    return Predictability(*(torch.cat(column) for column in zip(*parts, strict=True)))


def nats_per_token(ar: ARModel, ids: Tensor, labels: Tensor, batch: int | None = None) -> tuple[Tensor, Tensor]:
    """The nats and the top-1 hits of `predictability`. ids (N, T), labels (N,) -> (N, T) each, on the CPU."""
    return predictability(ar, ids, labels, batch)[:2]


def affordable(ar: ARModel) -> int:
    """How many pictures an AR model handles at once."""
    return min(BATCH, max(1, LOGITS // (ar.config.tokens * ar.config.codebook_size)))


def bits_per_dimension(bits_per_image: float, row_mse: Sequence[float], size: int) -> float:
    """Length of a two-part code of the pictures, in bits for each of their 3 * size * size values of 8 bits.

    The tokens are coded by the AR model; what the decoder gets wrong is coded as Gaussian noise with the mean squared
    error of its row of patches, in [0, 1], or with that of rounding to 8 bits, if it is more. It compares tokenizers of
    any length and codebook.
    """
    values = 3 * size * size / len(row_mse)
    noise = sum(values * 0.5 * math.log2(2 * math.pi * math.e * max(mse * 255**2, 1 / 12)) for mse in row_mse)
    return (bits_per_image + noise) / (3 * size * size)
