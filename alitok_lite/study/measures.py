"""What a study of tokenizers measures beside `evaluate`: precision and recall, tokens that survive, true and sampled
tokens told apart, and judges of its own."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import scenes
from ..core.tokenizer import Tokenizer
from ..data.augment import augment
from ..measure.judge import Judge
from ..train.settings import TrainSettings
from .readers import descend


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


@torch.no_grad()
def survival(tokenizer: Tokenizer, ids: Tensor, stage: int, batch: int = 500) -> float:
    """The share of ids (N, T) that are the same after decoding and encoding again."""
    same = [(tokenizer.encode(tokenizer.decode(part, stage)) == part).double().mean(1) for part in ids.split(batch)]
    return float(torch.cat(same).mean())


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

    def __init__(self, classes: int, factors: int = scenes.FREE_FACTORS) -> None:
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


def train_photo_judge(
    pixels: Tensor, labels: Tensor, classes: int, steps: int, seed: int, size: int, batch: int = 256
) -> Judge:
    """A judge of photographs (N, 3, s, s) uint8 with labels (N,), on their device.

    It sees random crops, flips and colours (see data/augment.py), because few pictures are soon memorised.
    """
    torch.manual_seed(seed)
    judge, device = Judge(classes).to(pixels.device), pixels.device

    def loss() -> Tensor:
        rows = torch.randint(len(labels), (batch,), device=device)
        seen = augment(pixels[rows], torch.rand(batch, 8, device=device), size)
        return F.cross_entropy(judge(seen).float(), labels[rows], label_smoothing=0.05)

    settings = TrainSettings(steps, batch, lr=2e-3, warmup=max(1, steps // 10), weight_decay=0.05, betas=(0.9, 0.99))
    descend(judge, loss, settings, device, seed)
    return judge


@torch.no_grad()
def features(judge: Judge, pixels: Tensor, batch: int = 1000) -> Tensor:
    """Features (N, 128) of pixels (N, 3, S, S) in [0, 1] or uint8, on the CPU in float64."""
    parts = [judge.features(p.float() / 255 if p.dtype == torch.uint8 else p) for p in pixels.split(batch)]
    return torch.cat(parts).cpu().double()
