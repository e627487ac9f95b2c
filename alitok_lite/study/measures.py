"""What a study of tokenizers measures beside `evaluation.evaluate`: the sampling loss and its company.

The *sampling loss* is the Frechet distance between sampled pictures and reconstructions of unseen pictures, both from
the same decoder. What the tokenizer loses is in both, so the distance is what the AR model loses. A Frechet distance
of N pictures is too large by about a constant over N; measured at several N, the line in 1 / N gives the distance that
infinitely many pictures would have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import scenes
from ..core.tokenizer import Tokenizer
from ..measure.judge import Judge
from ..measure.metrics import frechet_distance
from ..measure.repaint import VISIBLE, changes, told
from ..train.settings import TrainSettings
from .readers import descend

COUNTS = (2500, 5000, 10_000, 20_000)  # pictures at which a distance is measured


def distances(a: Tensor, b: Tensor, counts: Sequence[int] = COUNTS) -> dict[str, float]:
    """Frechet distances of two sets of features (N, D) by the number of pictures, and for infinitely many.

    At each number the sets are cut into as many disjoint parts as they have, and the mean counts. The line in 1 / N
    gives `infinite` (its value at 0) and `slope`; numbers above N are left out.

    Shape: distances((40, 3), (40, 3), (10, 20)) -> {'10': float, '20': float, 'infinite': float, 'slope': float}
    """
    total, found = min(len(a), len(b)), {}
    for count in (count for count in counts if count <= total):
        parts = range(0, total - count + 1, count)
        found[count] = sum(frechet_distance(a[i : i + count], b[i : i + count]) for i in parts) / len(parts)
    if len(found) < 2:
        raise ValueError(f"{total} pictures are too few for a line through {tuple(counts)}")
    x = torch.tensor([1 / count for count in found], dtype=torch.float64)
    y = torch.tensor(list(found.values()), dtype=torch.float64)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    line = {"infinite": float(y.mean() - slope * x.mean()), "slope": float(slope)}
    return {str(count): value for count, value in found.items()} | line


def precision_recall(samples: Tensor, reference: Tensor, k: int = 3) -> dict[str, float]:
    """Improved precision and recall of features (N, D) and (M, D): shares that fall into the other set's balls.

    A ball reaches from a point to its k-th neighbour in its own set. Source: Kynkäänniemi et al., 2019.

    Shape: precision_recall((20, 3), (20, 3)) -> {'precision': float, 'recall': float}
    """

    def inside(points: Tensor, centres: Tensor) -> float:
        radius = torch.cdist(centres, centres).kthvalue(k + 1).values  # (M,); the nearest is the point itself
        return float((torch.cdist(points, centres) <= radius).any(1).double().mean())

    samples, reference = samples.float(), reference.float()
    return {"precision": inside(samples, reference), "recall": inside(reference, samples)}


def bits_per_dimension(bits_per_image: float, row_mse: Sequence[float], size: int) -> float:
    """Length of a two-part code of the pictures, in bits for each of their 3 * size * size values of 8 bits.

    The tokens are coded by the AR model; what the decoder gets wrong is coded as Gaussian noise with the mean squared
    error of its row of patches, in [0, 1]. It compares tokenizers of any length and codebook.
    """
    values = 3 * size * size / len(row_mse)
    noise = sum(values * 0.5 * math.log2(2 * math.pi * math.e * mse * 255**2) for mse in row_mse)
    return (bits_per_image + noise) / (3 * size * size)


@torch.no_grad()
def survival(tokenizer: Tokenizer, ids: Tensor, stage: int, batch: int = 500) -> float:
    """The share of ids (N, T) that are the same after decoding and encoding again."""
    same = [(tokenizer.encode(tokenizer.decode(part, stage)) == part).double().mean(1) for part in ids.split(batch)]
    return float(torch.cat(same).mean())


@torch.no_grad()
def repaint_share(tokenizer: Tokenizer, ids: Tensor, stage: int) -> dict[str, float]:
    """How many patches change after their own token is known: decoded when only tokens up to their own are, and at
    the end. ids (N, T).

    `repainted` is the share of patches that change visibly, see measure/repaint.py;
    `repaint_change` is the mean change. Tokens that are not known yet are the code nearest to the mean of the codebook.
    Both are exactly 0 for a causal decoder. Shares of single pictures are in `repainted_pictures`, as mean and standard
    deviation.
    """
    parts = (changes(told(tokenizer, part, stage), tokenizer.config.patch_size)[:, -1] for part in ids.split(64))
    change = torch.cat(list(parts))  # (N, G*G)
    shares = (change > VISIBLE).double().mean(1)
    spread = float(shares.std()) if len(shares) > 1 else 0.0
    return {"repainted": float(shares.mean()), "repaint_change": float(change.mean()), "repainted_spread": spread}


class _Critic(nn.Module):
    """Tells true sentences of tokens from drawn ones: a bidirectional transformer over code vectors and class."""

    def __init__(self, codebook: Tensor, tokens: int, classes: int, width: int = 128) -> None:
        super().__init__()
        self.register_buffer("codebook", codebook / codebook.std())
        self.embed = nn.Linear(codebook.shape[1], width)
        self.positions = nn.Parameter(torch.randn(tokens, width) * width**-0.5)
        self.labels = nn.Embedding(classes, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = nn.Linear(width, 1)

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        """ids (B, T), labels (B,) -> scores (B,), high for true."""
        x = self.embed(F.embedding(ids, self.codebook)) + self.positions + self.labels(labels)[:, None]
        return self.output(self.blocks(x).mean(1))[:, 0]


def two_sample_test(
    true: Tensor, drawn: Tensor, labels: Tensor, codebook: Tensor, steps: int = 1200, seed: int = 0
) -> float:
    """Area under the ROC curve of a classifier between true and drawn ids, both (N, T) with labels (N,).

    It learns from four fifths of the pictures and is measured on the rest. 0.5: it cannot tell them apart.
    """
    torch.manual_seed(seed)
    device, cut = true.device, len(true) * 4 // 5
    critic = _Critic(codebook.detach().float(), true.shape[1], int(labels.max()) + 1).to(device)
    both, classes = torch.stack([drawn, true]), labels  # (2, N, T)

    def loss() -> Tensor:
        rows = torch.randint(cut, (256,), device=device)
        kind = torch.randint(2, (256,), device=device)
        scores = critic(both[kind, rows], classes[rows])
        return F.binary_cross_entropy_with_logits(scores.float(), kind.float())

    settings = TrainSettings(steps, 256, lr=1e-3, warmup=max(1, steps // 10), weight_decay=0.05)
    descend(critic, loss, settings, device, seed)
    with torch.no_grad():
        scores = [torch.cat([critic(x, y) for x, y in _parts(ids[cut:], labels[cut:])]) for ids in (true, drawn)]
    return area_under_curve(*scores)


def _parts(ids: Tensor, labels: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(ids.split(1000), labels.split(1000), strict=True)


def area_under_curve(high: Tensor, low: Tensor) -> float:
    """The chance that a score of `high` (N,) exceeds one of `low` (M,), ties counted half.

    Shape: area_under_curve((5,), (4,)) -> float
    """
    order, inverse, count = torch.cat([high, low]).double().unique(return_inverse=True, return_counts=True)
    rank = (count.cumsum(0) - (count - 1) / 2)[inverse]  # ranks from 1, the mean among equals
    total = rank[: len(high)].sum() - len(high) * (len(high) + 1) / 2
    return float(total / (len(high) * len(low)))


class FactorJudge(Judge):
    """A judge of scenes that must also tell how each was painted: the first factors of its painter.

    Features of a judge that knows classes only lie near their class's mean, so that they hardly see anything else.
    """

    def __init__(self, classes: int, factors: int = scenes.FREE) -> None:
        super().__init__(classes)
        self.factors = nn.Linear(self.output.in_features, classes * factors)


def train_factor_judge(
    pixels: Tensor, labels: Tensor, factors: Tensor, steps: int, seed: int, batch: int = 256
) -> FactorJudge:
    """A judge of scenes (N, 3, S, S) uint8 with labels (N,) and factors (N, F), on their device.

    Loss: cross-entropy of the class and squared error of the factors, whose meaning depends on the class.
    """
    torch.manual_seed(seed)
    classes, device = len(scenes.CLASSES), pixels.device
    judge = FactorJudge(classes, factors.shape[1]).to(device)

    def loss() -> Tensor:
        rows = torch.randint(len(labels), (batch,), device=device)
        features, kind = judge.features(pixels[rows].float() / 255), labels[rows]
        told = judge.factors(features).view(batch, classes, -1)[torch.arange(batch, device=device), kind]  # (B, F)
        named = F.cross_entropy(judge.output(features).float(), kind, label_smoothing=0.05)
        return named + 5 * F.mse_loss(told.float(), factors[rows])

    settings = TrainSettings(steps, batch, lr=2e-3, warmup=max(1, steps // 10), weight_decay=0.02, betas=(0.9, 0.99))
    descend(judge, loss, settings, device, seed)
    return judge


@torch.no_grad()
def features(judge: Judge, pixels: Tensor, batch: int = 1000) -> Tensor:
    """Features (N, 128) of pixels (N, 3, S, S) in [0, 1] or uint8, on the CPU in float64."""
    parts = [judge.features(p.float() / 255 if p.dtype == torch.uint8 else p) for p in pixels.split(batch)]
    return torch.cat(parts).cpu().double()
