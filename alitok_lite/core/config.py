"""Sizes of every part, and the named presets.

Letters used in the whole package: B batch, S image side in pixels, p patch side, G = S / p patches per side,
K = 1 + G prefix tokens (0 when off), T = K + G*G tokens, D width, H heads, V codebook size, C classes.
"""

from dataclasses import dataclass, fields, replace
from numbers import Integral, Real

_ALLOWED = {int: "a whole number of 1 or more", bool: "true or false", float: "a number from 0 up to 1"}


def plain(value: object) -> object:
    """A single number of numpy or torch as Python's int, float or bool; anything else as it is."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _check(config: object, divisible: list[tuple[str, str]]) -> None:
    """Raise a ValueError that names the field unless sizes are positive and divide as the model needs."""
    for field in fields(config):
        value = plain(getattr(config, field.name))
        object.__setattr__(config, field.name, value)
        if field.type is bool:
            right = isinstance(value, bool)
        elif field.type is int:
            right = type(value) is int and value >= (0 if field.name == "prefix_tokens" else 1)
        else:
            right = type(value) in (int, float) and 0 <= value < 1
        if not right:
            allowed = _ALLOWED[field.type]
            raise ValueError(f"{type(config).__name__}: {field.name} is {value!r}; it must be {allowed}")
    for whole, part in divisible:
        a, b = getattr(config, whole), getattr(config, part)
        if a % b:
            raise ValueError(f"{type(config).__name__}: {whole} {a} must be a multiple of {part} {b}")


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
        _check(
            self,
            [
                ("image_size", "patch_size"),
                ("encoder_width", "encoder_heads"),
                ("decoder_width", "decoder_heads"),
            ],
        )

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
    prefix_tokens: int = 17  # K
    classes: int = 1000  # C; label C is the null class of classifier-free guidance
    width: int = 768
    depth: int = 24
    heads: int = 16
    hidden: int = 2048  # of the SwiGLU MLP
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _check(self, [("width", "heads")])
        if self.width // self.heads % 4:
            raise ValueError(
                f"ARConfig: width {self.width} over {self.heads} heads is {self.width // self.heads};"
                " 2D RoPE needs a multiple of 4"
            )

    @property
    def tokens(self) -> int:
        """T = K + G*G, tokens of a picture."""
        return self.prefix_tokens + self.grid**2


@dataclass(frozen=True)
class Preset:
    """A tokenizer, an AR model that fits it, and its guidance (scale g and power p of the ramp)."""

    tokenizer: TokenizerConfig
    ar: ARConfig
    guidance: float = 1.0
    power: float = 1.0


def _preset(tokenizer: TokenizerConfig, classes: int, guidance: float, power: float, **ar: int | float) -> Preset:
    """A preset whose AR model takes its vocabulary and geometry from the tokenizer."""
    shared = {"codebook_size": tokenizer.codebook_size, "grid": tokenizer.grid}
    shared |= {"prefix_tokens": tokenizer.prefix_tokens, "classes": classes}
    return Preset(tokenizer, ARConfig(**shared, **ar), guidance, power)


def resized(preset: Preset, **changes: int | bool) -> Preset:
    """A preset with other sizes of its tokenizer; the AR model's vocabulary and geometry follow.

    Raises ValueError for a name that is no field of TokenizerConfig, and for sizes that do not fit together.
    """
    known = [field.name for field in fields(TokenizerConfig)]
    for name in changes:
        if name not in known:
            raise ValueError(f"a tokenizer has no size {name!r}; choose from {', '.join(known)}")
    tokenizer = replace(preset.tokenizer, **changes)
    shared = {"codebook_size": tokenizer.codebook_size, "grid": tokenizer.grid}
    return replace(preset, tokenizer=tokenizer, ar=replace(preset.ar, prefix_tokens=tokenizer.prefix_tokens, **shared))


_OFFICIAL = TokenizerConfig()
_SCENES = TokenizerConfig(
    image_size=64,
    encoder_width=192,
    encoder_depth=5,
    encoder_heads=6,
    decoder_width=224,
    decoder_depth=5,
    decoder_heads=7,
    buffer_tokens=8,
)
_PHOTOS = replace(_SCENES, patch_size=8, buffer_tokens=16)
_TINY = TokenizerConfig(
    image_size=64,
    codebook_size=1024,
    code_dim=16,
    encoder_width=128,
    encoder_depth=3,
    encoder_heads=4,
    decoder_width=128,
    decoder_depth=3,
    decoder_heads=4,
    buffer_tokens=8,
)

PRESETS: dict[str, Preset] = {
    "alitok-b": _preset(_OFFICIAL, 1000, 16.0, 1.8, width=768, depth=24, heads=16, hidden=2048),
    "alitok-l": _preset(_OFFICIAL, 1000, 6.0, 0.7, width=1024, depth=24, heads=16, hidden=2816),
    "alitok-xl": _preset(_OFFICIAL, 1000, 13.0, 1.4, width=1280, depth=32, heads=16, hidden=3584),
    # The shipped checkpoint: the official compression (patch 16, 4096 codes x 32) on small pictures.
    "scenes": _preset(_SCENES, 14, 1.0, 1.0, width=224, depth=5, heads=7, hidden=592),
    # Photographs show more than scenes: four times as many image tokens.
    "photos": _preset(_PHOTOS, 24, 1.5, 1.0, width=224, depth=5, heads=7, hidden=592, dropout=0.15),
    # For a laptop: trains on one CPU core in about an hour.
    "tiny": _preset(_TINY, 14, 1.0, 1.0, width=128, depth=3, heads=4, hidden=344),
}

# `scenes` without prefix tokens, equal in everything else: rows A and B of the paper's ablation.
PRESETS["scenes-baseline"] = resized(PRESETS["scenes"], aligned=False, prefix=False)
PRESETS["scenes-noprefix"] = resized(PRESETS["scenes"], prefix=False)
