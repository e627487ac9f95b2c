"""Pictures as EfficientNet-Lite0 sees them: a Frechet distance and the share that is recognised, in its features.

"Lite0 distance" is no FID: other features, of other size and scale, than Inception's. Compare it only with itself, of
equally many pictures.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..data.sources import slices
from ..model import AliTok
from .efficientnet import efficientnet_lite, prepared
from .metrics import Features, affordable, frechet_distance

Pictures = Iterable[tuple[Tensor, Tensor]]  # batches of pixels (B, 3, S, S) and labels (B,)


def lite0_features(device: torch.device) -> Features:
    """The pooled features of EfficientNet-Lite0 at 160 pixels or more: (B, 3, S, S) in [0, 1] -> float32 (B, 1280).

    Raises ValueError, in one sentence that says what to do, where timm or the weights are missing.
    """
    network = efficientnet_lite(0, num_classes=0).to(device)
    return lambda pixels: network(prepared(pixels.clamp(0, 1))).float()


class Probe(nn.Module):
    """A linear classifier of features: logistic regression on standardised ones, fitted to its end when it is made.

    Shape: Probe((6, 5), (6,), 3)((2, 5)) -> (2, 3)
    """

    mean: Tensor  # (D,)
    std: Tensor  # (D,)

    def __init__(self, features: Tensor, labels: Tensor, classes: int, decay: float = 1e-3) -> None:
        """features (N, D), labels (N,) in 0..classes-1; `decay` weighs the sum of the squared weights."""
        super().__init__()
        with torch.inference_mode(False), torch.enable_grad():
            features, labels = features.clone(), labels.clone()  # those of an inference mode cannot be learned from
            self.register_buffer("mean", features.mean(0))
            self.register_buffer("std", features.std(0).clamp_min(1e-6))
            self.linear = nn.Linear(features.shape[1], classes, device=features.device)
            self._fit(features, labels, decay)
        self.requires_grad_(False)

    def _fit(self, features: Tensor, labels: Tensor, decay: float) -> None:
        """L-BFGS from zero: the loss is convex, so there is one best place, whatever the seed."""
        for parameter in self.linear.parameters():
            nn.init.zeros_(parameter)
        optimizer = torch.optim.LBFGS(self.linear.parameters(), max_iter=60, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(self(features), labels) + decay * self.linear.weight.square().sum()
            value.backward()
            return value

        optimizer.step(loss)

    def forward(self, features: Tensor) -> Tensor:
        """features (B, D) -> scores (B, classes)"""
        return self.linear((features - self.mean) / self.std)

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of the pictures that are put into their class."""
        return float((self(features).argmax(1) == labels).double().mean())


@torch.inference_mode()
def lite0_numbers(
    model: AliTok, extract: Features, unseen: Pictures, training: Pictures, seed: int = 0
) -> dict[str, float]:
    """How unseen photographs, their reconstructions, and samples with their labels look to Lite0.

    lite0_distance_real, _stage1, _stage2, _samples: Frechet distance in the features `extract` to the training
    photographs; lite0_right_real and so on: share that a `Probe` fitted to these puts into their class.
    Raises ValueError for fewer than two pictures and for a model whose outputs are not finite numbers.
    """
    found: dict[str, list[Tensor]] = defaultdict(list)
    names: dict[str, list[Tensor]] = defaultdict(list)
    for pixels, labels in tqdm(training, desc="Lite0: training pictures", unit="batch"):
        found["training"].append(extract(pixels))
        names["training"].append(labels)
    for pixels, labels in tqdm(unseen, desc="Lite0: unseen pictures", unit="batch"):
        found["real"].append(extract(pixels))
        names["real"].append(labels)
        ids = model.tokenizer.encode(pixels)
        for stage in model.tokenizer.stages:
            found[f"stage{stage}"].append(extract(model.tokenizer.decode(ids, stage)))
    labels = torch.cat(names["real"])
    if model.ar is not None:
        first = seed * 1_000_003 % 2**31  # the samples that `evaluate` draws
        for rows in tqdm(list(slices(len(labels), affordable(model.ar))), desc="Lite0: drawing", unit="batch"):
            found["samples"].append(extract(model.sample(labels[rows].tolist(), seed=first + rows.start)))
    known = torch.cat(found.pop("training"))
    probe = Probe(known, torch.cat(names["training"]), len(model.classes))
    results: dict[str, float] = {"lite0_training_pictures": len(known)}
    for name, parts in found.items():
        features = torch.cat(parts)
        results[f"lite0_distance_{name}"] = frechet_distance(features, known)
        results[f"lite0_right_{name}"] = probe.accuracy(features, labels)
    return results
