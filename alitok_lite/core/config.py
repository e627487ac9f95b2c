"""Sizes of every part, the weights of the losses, and the named presets.

Letters used in the whole package: B batch, S image side in pixels, p patch side, G = S / p patches per side,
K = 1 + G prefix tokens (0 when off), T = K + G*G tokens, D width, H heads, V codebook size, C classes.
"""

from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any


def plain(value: Any) -> Any:
    """A single number of numpy or torch as Python's int, float or bool; anything else as it is."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _check(config: Any, *multiples: tuple[str, str]) -> None:
    """Raise a ValueError that names the field unless all values are allowed and the first of a pair is a multiple."""
    name = type(config).__name__
    for item in fields(config):
        value, least = plain(getattr(config, item.name)), item.metadata.get("least", 1)
        object.__setattr__(config, item.name, value)  # the dataclass is frozen
        if isinstance(item.default, bool):  # a default is of the kind that the field holds
            right, allowed = isinstance(value, bool), "true or false"
        elif isinstance(item.default, int):
            right, allowed = type(value) is int and value >= least, f"a whole number of {least} or more"
        else:
            right, allowed = type(value) in (int, float) and 0 <= value < 1, "a number from 0 up to 1"
        if not right:
            raise ValueError(f"{name}: {item.name} is {value!r}; it must be {allowed}")
    for whole, part in multiples:
        a, b = getattr(config, whole), getattr(config, part)
        if a % b:
            raise ValueError(f"{name}: {whole} {a} must be a multiple of {part} {b}")


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of the tokenizer; the defaults are the official ones (paper.md: ViT-B encoder, ViT-L decoder)."""

    image_size: int = 256  # S, pixels
    patch_size: int = 16  # p, pixels
    codebook_size: int = 4096  # V
    code_dim: int = 32  # numbers in a code
    prefix: bool = True  # K = 1 + G prefix tokens in front of the image tokens
    aligned: bool = True  # trained against a causal decoder; False = conventional baseline, bidirectional only
    # differs: the paper names a causal encoder without saying how; here one mask over patches, then queries
    encoder_causal: bool = False
    encoder_width: int = 768
    encoder_depth: int = 12
    encoder_heads: int = 12
    decoder_width: int = 1024
    decoder_depth: int = 24
    decoder_heads: int = 16
    buffer_tokens: int = 32  # extra learned tokens in front of the bidirectional decoder's input

    def __post_init__(self) -> None:
        heads = ("encoder_width", "encoder_heads"), ("decoder_width", "decoder_heads")
        _check(self, ("image_size", "patch_size"), *heads)

    @property
    def grid(self) -> int:
        """G, patches per side."""
        return self.image_size // self.patch_size

    @property
    def prefix_tokens(self) -> int:
        """K, prefix tokens in front of the image tokens (0 when off)."""
        return 1 + self.grid if self.prefix else 0

    @property
    def tokens(self) -> int:
        """T = K + G*G, tokens of a picture."""
        return self.prefix_tokens + self.grid**2


@dataclass(frozen=True)
class ARConfig:
    """Sizes of the autoregressive (AR) model; the defaults are AliTok-B."""

    codebook_size: int = 4096  # V
    grid: int = 16  # G
    prefix_tokens: int = field(default=17, metadata={"least": 0})  # K
    classes: int = 1000  # C; label C is the null class of classifier-free guidance
    width: int = 768
    depth: int = 24
    heads: int = 16
    hidden: int = 2048  # of the SwiGLU MLP
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _check(self, ("width", "heads"))
        d = self.width // self.heads
        if d % 4:
            raise ValueError(f"ARConfig: width {self.width} over {self.heads} heads is {d}; RoPE needs a multiple of 4")

    @property
    def tokens(self) -> int:
        """T = K + G*G, tokens of a picture."""
        return self.prefix_tokens + self.grid**2


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term; 0 leaves the term out."""

    mse: float = 1.0  # mean over pixels, as the paper's code
    perceptual: float = 0.0  # ConvNeXt-Small logits, see train/perceptual.py
    features: float = 0.0  # differs: EfficientNet-Lite2 features of several depths, see train/perceptual.py
    features_start: float = 0.0  # share of the training after which they join
    l1: float = 0.0  # differs: an L1 term, for presets without the perceptual term, whose weights are a download
    aux: float = 0.66  # differs: fixed; the official 10 K / (G*G) is 0.66 at 16x16 and ruins small grids
    vq: float = 1.0  # commitment and codebook loss, computed in quantizer.py
    adversarial: float = 0.0  # differs: size of the hinge PatchGAN's gradient, mean of all patches, the others' being 1
    adversarial_start: float = 0.5  # share of the training after which the critic joins


@dataclass(frozen=True)
class Preset:
    """A tokenizer, an AR model that fits it, and its guidance (scale g and power p of the ramp)."""

    tokenizer: TokenizerConfig
    ar: ARConfig
    guidance: float = 1.0
    power: float = 1.0


def _fitted(preset: Preset) -> Preset:
    """The preset with its AR model's vocabulary and geometry taken from the tokenizer."""
    shared = {name: getattr(preset.tokenizer, name) for name in ("codebook_size", "grid", "prefix_tokens")}
    return replace(preset, ar=replace(preset.ar, **shared))


def resized(preset: Preset, **changes: Any) -> Preset:
    """A preset with other sizes of its tokenizer; the AR model's vocabulary and geometry follow.

    Raises ValueError for a name that is no field of TokenizerConfig, and for sizes that do not fit together.
    """
    known = [item.name for item in fields(TokenizerConfig)]
    for name in changes:
        if name not in known:
            raise ValueError(f"a tokenizer has no size {name!r}; choose from {', '.join(known)}")
    return _fitted(replace(preset, tokenizer=replace(preset.tokenizer, **changes)))


def _vit(part: str, width: int, depth: int, heads: int) -> dict[str, Any]:
    """Sizes of the encoder or the decoders."""
    return {f"{part}_width": width, f"{part}_depth": depth, f"{part}_heads": heads}


_OFFICIAL = TokenizerConfig()
# The official compression (patch 16, 4096 codes x 32) on small pictures; photographs get more tokens.
_SCENES = TokenizerConfig(image_size=64, buffer_tokens=8, **_vit("encoder", 192, 5, 6), **_vit("decoder", 224, 5, 7))
_PHOTOS = replace(_SCENES, patch_size=8, buffer_tokens=16, **_vit("decoder", 288, 5, 9))
_FRUITS = replace(_SCENES, image_size=96, buffer_tokens=12)
_TINY = replace(_SCENES, codebook_size=1024, code_dim=16, **_vit("encoder", 128, 3, 4), **_vit("decoder", 128, 3, 4))
_SMALL: dict[str, Any] = {"width": 224, "depth": 5, "heads": 7, "hidden": 592}  # of the AR model

PRESETS: dict[str, Preset] = {
    "alitok-b": Preset(_OFFICIAL, ARConfig(), 16.0, 1.8),
    "alitok-l": Preset(_OFFICIAL, ARConfig(width=1024, hidden=2816), 6.0, 0.7),
    "alitok-xl": Preset(_OFFICIAL, ARConfig(width=1280, depth=32, hidden=3584), 13.0, 1.4),
    "scenes": _fitted(Preset(_SCENES, ARConfig(classes=14, **_SMALL))),
    "fruits": _fitted(Preset(_FRUITS, ARConfig(classes=3, **_SMALL, dropout=0.15), 3.0)),
    "photos": _fitted(Preset(_PHOTOS, ARConfig(classes=24, **_SMALL, dropout=0.15), 4.0)),
    "tiny": _fitted(Preset(_TINY, ARConfig(classes=14, width=128, depth=3, heads=4, hidden=344))),  # for a laptop
}

PRESETS["scenes-baseline"] = resized(PRESETS["scenes"], aligned=False, prefix=False)  # row A of the paper's ablation
PRESETS["scenes-noprefix"] = resized(PRESETS["scenes"], prefix=False)  # row B
PRESETS["scenes-plain"] = PRESETS["scenes"]  # its second decoder is trained without a perceptual term
PRESETS["photos-plain"] = replace(resized(PRESETS["photos"], decoder_width=224, decoder_heads=7), guidance=1.5)
