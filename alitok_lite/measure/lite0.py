"""Pictures as EfficientNet-Lite0 sees them: a Frechet distance and the share that is recognised, in its features.

"Lite0 distance" is no FID: other features, of other size and scale, than Inception's. Compare it only with itself, of
equally many pictures.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .efficientnet import efficientnet_lite, prepared
from .metrics import Features


def lite0_features(device: torch.device) -> Features:
    """The pooled features of EfficientNet-Lite0 at 160 pixels or more: (B, 3, S, S) in [0, 1] -> float32 (B, 1280).

    Raises ValueError, in one sentence that says what to do, where timm or the weights are missing.
    """
    network = efficientnet_lite(0)
    network.reset_classifier(0)
    network = network.to(device)
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
