"""The perceptual terms: to a classifier of photographs, a picture and its reconstruction should look the same.

`PerceptualLoss` compares ConvNeXt-Small's logits, as the paper does; `FeatureLoss` compares what EfficientNet-Lite2
sees at several depths, which serves small pictures too.
"""

import os
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from ..machine import resize
from ..measure.efficientnet import efficientnet_lite, prepared
from ..recorded import Recorded

CONVNEXT = "facebook/convnext-small-224"
SIDE = 224  # of the pictures that it was trained on, in pixels
CPU = torch.device("cpu")
PICTURES = 128  # of a step that FeatureLoss looks at
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as it expects them


class PerceptualLoss(nn.Module):
    """Mean squared error between the logits that a frozen ConvNeXt-Small gives to decoded and original pictures.

    Source: paper.md, tokenizer losses. The weights come from the folder or Hub name in the environment variable
    ALITOK_CONVNEXT, else from facebook/convnext-small-224, and only from this machine: nothing is downloaded here.
    Raises ValueError, in one sentence, where they or the package transformers are missing.
    """

    mean: Tensor  # (3, 1, 1)
    std: Tensor  # (3, 1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.network = _convnext(os.environ.get("ALITOK_CONVNEXT", CONVNEXT)).float().eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))

    def logits(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, S, S) in [0, 1] -> float32 (B, classes)."""
        large = resize(pixels.float(), SIDE, "bilinear")
        return self.network((large - self.mean) / self.std).logits.float()

    def forward(self, decoded: Tensor, pixels: Tensor) -> Tensor:
        """decoded and pixels (B, 3, S, S) in [0, 1] -> a scalar, differentiable to `decoded`."""
        with torch.no_grad():
            wanted = self.logits(pixels)
        return F.mse_loss(self.logits(decoded), wanted)


class FeatureLoss(nn.Module):
    """How far the features of a frozen EfficientNet-Lite2 are between decoded and original pictures, as LPIPS does it.

    At each of five depths, from 1/2 to 1/32 of the side, the channels at a place are scaled to unit length; squared
    differences are summed over channels, averaged over places and pictures, and summed over depths: 0 for equal
    pictures, 20 at most. Pictures are enlarged to 160 pixels. Only the first PICTURES of a step are looked at, which
    are chosen at random as all of them are: the term costs more than everything else.
    Differs from LPIPS: no learned weights of channels.
    Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (2018).
    Raises ValueError as `efficientnet_lite` does.
    """

    def __init__(self, device: torch.device = CPU) -> None:
        super().__init__()
        # Convolutions of one channel each are fast in this layout only.
        network = efficientnet_lite(2, features_only=True)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if device.type == "cuda":  # a minute, and then half the time
            self.network.compile(dynamic=False)
        self.with_gradient = Recorded(self._with_gradient)

    def features(self, pixels: Tensor) -> list[Tensor]:
        """pixels (B, 3, S, S) in [0, 1] -> float32 (B, C, h, w) of each depth, of unit length along C."""
        large = prepared(pixels).contiguous(memory_format=torch.channels_last)
        return [F.normalize(depth.float(), dim=1) for depth in self.network(large)]

    def _with_gradient(self, decoded: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The value, a scalar, and its gradient at `decoded`."""
        with torch.enable_grad():
            decoded = decoded.detach().requires_grad_()
            with torch.no_grad():
                wanted = self.features(pixels)
            pairs = zip(self.features(decoded), wanted, strict=True)
            value = torch.stack([(mine - theirs).square().sum(1).mean() for mine, theirs in pairs]).sum()
            (gradient,) = torch.autograd.grad(value, decoded)
        return value.detach(), gradient

    def forward(self, decoded: Tensor, pixels: Tensor) -> Tensor:
        """decoded and pixels (B, 3, S, S) in [0, 1] -> a scalar, differentiable to `decoded`."""
        decoded, pixels = decoded[:PICTURES], pixels[:PICTURES]
        return _WithGradient.apply(decoded, *self.with_gradient(decoded.detach(), pixels))


class _WithGradient(torch.autograd.Function):
    """A value whose gradient is known already: the network's backward pass runs once, however often it is needed."""

    @staticmethod
    def forward(ctx: Any, decoded: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None


def _convnext(source: str) -> nn.Module:
    """The classifier from a folder or the local cache; see PerceptualLoss for the errors."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from transformers import ConvNextForImageClassification
    except ImportError as error:
        raise ValueError("the perceptual loss needs transformers: pip install 'alitok_lite[train]'") from error
    try:
        # The folder in the cache is found here, because transformers asks the network even with `local_files_only`.
        cached = None if os.path.isdir(source) else try_to_load_from_cache(source, "config.json")
        folder = os.path.dirname(cached) if isinstance(cached, str) else source
        if not os.path.isdir(folder):
            raise ValueError(f"there is no folder {folder}")
        return ConvNextForImageClassification.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"the perceptual loss needs ConvNeXt-Small, and {source!r} cannot be loaded: download it once"
            f" (hf download {CONVNEXT}), or set ALITOK_CONVNEXT to a folder that holds it"
        ) from error
