"""EfficientNet-Lite: small classifiers of ImageNet under Apache 2.0, whose features judge pictures and train decoders.

Lite2 serves the perceptual term of the tokenizer's loss (train/perceptual.py), Lite0 measures (measure/lite0.py): the
network that measures is never the one that trained.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..machine import resize

SIDE = 160  # smaller pictures are enlarged to so many pixels
HEAD = ("conv_head.", "bn2.", "classifier.")  # left out of a network that gives features

# Names of layers in efficientnet_pytorch, whose files carry the same weights, and in timm: outside of the blocks, in a
# block that widens first, and in one that does not.
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_WIDENING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_FAULTS = (OSError, EOFError, ValueError, RuntimeError, KeyError, AttributeError, SafetensorError)  # of a wrong file


def efficientnet_lite(number: int, **options: Any) -> nn.Module:
    """timm's tf_efficientnet_lite0 or 2 with its ImageNet weights, frozen; `options` are those of timm.create_model.

    The weights come from the file (.pth or .safetensors; names as in timm or efficientnet_pytorch) in the environment
    variable ALITOK_LITE0 or ALITOK_LITE2, else from the Hub's cache on this machine: nothing is downloaded here.
    Raises ValueError, in one sentence, where timm or the weights are missing, and for a file of something else.
    """
    name = f"tf_efficientnet_lite{number}"
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision made for another torch
        raise ValueError(
            f"EfficientNet-Lite{number} needs timm and a torchvision that fits torch {torch.__version__}:"
            f" pip install 'alitok_lite[train]' ({error})"
        ) from error
    network = timm.create_model(name, pretrained=False, **options)
    path = _file(number, f"timm/{name}.in1k")
    try:
        given = _read(path)
        places = [f"blocks.{i}.{j}" for i, stage in enumerate(network.blocks) for j in range(len(stage))]
        missing, unknown = network.load_state_dict(timm_names(given, places), strict=False)
        wrong = [*missing, *(key for key in unknown if not key.startswith(HEAD))]
        if wrong:
            raise ValueError(f"{wrong[0]} is missing there, or does not belong there")
    except (*_FAULTS, pickle.UnpicklingError) as error:
        lines = [line.strip() for line in str(error).splitlines()] or ["it is empty"]
        reason = lines[1] if lines[0].startswith("Error(s) in loading") else lines[0]  # torch's heading says nothing
        raise ValueError(f"{path} does not hold the weights of EfficientNet-Lite{number}: {reason}") from error
    return network.eval().requires_grad_(False)


def _file(number: int, hub: str) -> Path:
    """The file of weights on this machine; ValueError where there is none."""
    from huggingface_hub import try_to_load_from_cache

    variable = f"ALITOK_LITE{number}"
    given = os.environ.get(variable)
    path = Path(given) if given else try_to_load_from_cache(hub, "model.safetensors")
    if isinstance(path, str | Path) and Path(path).is_file():
        return Path(path)
    wrong = f"{variable} is {given!r}, which is no file" if given else f"{hub} is not in the Hub's cache"
    raise ValueError(
        f"EfficientNet-Lite{number} needs its weights, and {wrong}: download them once"
        f" (hf download {hub} model.safetensors), or set {variable} to a file that holds them"
    )


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; a pickle may hold nothing else."""
    if path.suffix == ".safetensors":
        return load_file(path)
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError("it holds something else than tensors with names")
    return tensors


def timm_names(tensors: dict[str, Tensor], places: list[str]) -> dict[str, Tensor]:
    """Tensors under the names of timm, from those of efficientnet_pytorch or already timm's.

    places: timm's names of the blocks, "blocks.0.0" and so on, which the other one numbers from 0.
    Raises KeyError for an unknown layer, and ValueError for a block too many.
    """
    if "conv_stem.weight" in tensors:
        return tensors
    renamed = {}
    for key, value in tensors.items():
        layer, rest = key.rsplit(".", 1)
        if layer.startswith("_blocks."):
            _, block, layer = layer.split(".")
            if int(block) >= len(places):
                raise ValueError(f"it has a block {block}, where the network's last is {len(places) - 1}")
            names = _WIDENING if f"_blocks.{block}._expand_conv.weight" in tensors else _PLAIN
            renamed[f"{places[int(block)]}.{names[layer]}.{rest}"] = value
        else:
            renamed[f"{_OUTSIDE[layer]}.{rest}"] = value
    return renamed


def prepared(pixels: Tensor) -> Tensor:
    """Pictures as EfficientNet-Lite takes them: (B, 3, S, S) in [0, 1] -> (B, 3, max(S, 160), ...) in [-1, 1]."""
    large = resize(pixels.float(), max(SIDE, pixels.shape[-1]), "bilinear")
    return 2 * large - 1  # mean and std of timm's pretrained_cfg are 0.5
