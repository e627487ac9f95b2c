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
    """A linear classifier of features, fitted to labels: logistic regression on standardised features.

    Shape: Probe((6, 5), (6,), 3)((2, 5)) -> (2, 3)
    """

    mean: Tensor  # (D,)
    std: Tensor  # (D,)

    def __init__(self, features: Tensor, labels: Tensor, classes: int, decay: float = 1e-3, rounds: int = 60) -> None:
        """features (N, D), labels (N,) in 0..classes-1; `decay` weighs the squared weights, `rounds` of L-BFGS."""
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("std", features.std(0).clamp_min(1e-6))
        self.linear = nn.Linear(features.shape[1], classes, device=features.device)
        for parameter in self.linear.parameters():
            nn.init.zeros_(parameter)
        inputs = self._standardised(features)
        optimizer = torch.optim.LBFGS(self.linear.parameters(), max_iter=rounds, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(self.linear(inputs), labels) + decay * self.linear.weight.square().sum()
            loss.backward()
            return loss

        with torch.inference_mode(False), torch.enable_grad():
            optimizer.step(closure)
        self.requires_grad_(False)

    def _standardised(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.std

    def forward(self, features: Tensor) -> Tensor:
        """features (B, D) -> scores (B, classes)"""
        return self.linear(self._standardised(features))

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of the pictures that are put into their class."""
        return float((self(features).argmax(1) == labels).double().mean())
