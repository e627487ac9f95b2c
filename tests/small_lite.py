"""A stand-in for timm with a tiny EfficientNet-Lite whose layers have timm's names, and files of its random weights."""

from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

# For each layer of the tiny network its name in efficientnet_pytorch, written out by hand.
OLD_NAMES = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "blocks.0.0.conv_dw": "_blocks.0._depthwise_conv",
    "blocks.0.0.bn1": "_blocks.0._bn1",
    "blocks.0.0.conv_pw": "_blocks.0._project_conv",
    "blocks.0.0.bn2": "_blocks.0._bn2",
    "blocks.1.0.conv_pw": "_blocks.1._expand_conv",
    "blocks.1.0.bn1": "_blocks.1._bn0",
    "blocks.1.0.conv_dw": "_blocks.1._depthwise_conv",
    "blocks.1.0.bn2": "_blocks.1._bn1",
    "blocks.1.0.conv_pwl": "_blocks.1._project_conv",
    "blocks.1.0.bn3": "_blocks.1._bn2",
    "blocks.1.1.conv_pw": "_blocks.2._expand_conv",
    "blocks.1.1.bn1": "_blocks.2._bn0",
    "blocks.1.1.conv_dw": "_blocks.2._depthwise_conv",
    "blocks.1.1.bn2": "_blocks.2._bn1",
    "blocks.1.1.conv_pwl": "_blocks.2._project_conv",
    "blocks.1.1.bn3": "_blocks.2._bn2",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
    "classifier": "_fc",
}


class Block(nn.Sequential):
    """One of timm's two kinds of blocks, with all convolutions equally wide, so that only names tell them apart."""

    def __init__(self, convolutions: list[str], stride: int) -> None:
        super().__init__()
        for number, name in enumerate(convolutions, 1):
            step = stride if name == "conv_dw" else 1
            self.add_module(name, nn.Conv2d(8, 8, 3, step, 1, groups=8 if name == "conv_dw" else 1, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(8))


class TinyLite(nn.Module):
    """timm's EfficientNet, so far as the package knows it."""

    def __init__(self, features_only: bool = False, classes: int = 5) -> None:
        super().__init__()
        widening = ["conv_pw", "conv_dw", "conv_pwl"]
        self.conv_stem, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        second = nn.Sequential(Block(widening, 2), Block(widening, 1))
        self.blocks = nn.Sequential(nn.Sequential(Block(["conv_dw", "conv_pw"], 1)), second)
        self.features_only = features_only
        if not features_only:
            self.conv_head, self.bn2 = nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12)
            self.classifier = nn.Linear(12, classes) if classes else nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor | list[Tensor]:
        self.seen, x, depths = pixels, self.bn1(self.conv_stem(pixels)), []
        for stage in self.blocks:
            x = stage(x)
            depths.append(x)
        return depths if self.features_only else self.classifier(F.relu(self.bn2(self.conv_head(x))).mean((2, 3)))


def stand_in() -> SimpleNamespace:
    """In place of the module timm; remembers which networks were requested."""
    asked = []

    def create_model(name: str, pretrained: bool = True, features_only: bool = False, num_classes: int = 5) -> TinyLite:
        assert not pretrained
        asked.append(name)
        return TinyLite(features_only, num_classes)

    return SimpleNamespace(create_model=create_model, asked=asked)


def tensors(seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a whole tiny network under timm's names; running variances are positive."""
    torch.manual_seed(seed)
    made = {}
    for name, value in TinyLite().state_dict().items():
        whole = not value.is_floating_point()
        made[name] = (
            value if whole else (torch.rand_like(value) + 0.5 if "var" in name else torch.randn_like(value) / 3)
        )
    return made


def save_weights(path: Path, old: bool = False, **changes: Tensor) -> dict[str, Tensor]:
    """Write the weights, under the old names if `old`, as .pth or .safetensors; returns them under timm's names."""
    made = tensors() | changes
    named = made
    if old:
        named = {f"{OLD_NAMES[key.rsplit('.', 1)[0]]}.{key.rsplit('.', 1)[1]}": value for key, value in made.items()}
    if path.suffix == ".safetensors":
        save_file(named, path)
    else:
        torch.save(named, path)
    return made
