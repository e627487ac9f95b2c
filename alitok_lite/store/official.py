"""Official AliTok checkpoints: the only file that knows the names used there.

Source: official.md (key map, forward passes). The weights have no stated licence; none are shipped here.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..core.ar import ARModel
from ..core.config import ARConfig, TokenizerConfig
from ..core.tokenizer import Tokenizer

# Replaced in this order inside a dotted name; `decoder.` becomes decoder1. or decoder2. at the end.
_TOKENIZER_NAMES = [
    ("quantize.embedding.weight", "quantizer.codebook"),
    ("encoder.positional_embedding", "encoder.patch_positions"),
    ("encoder.latent_token_positional_embedding", "encoder.query_positions"),
    ("encoder.conv_out.", "encoder.bottleneck."),
    ("latent_tokens", "encoder.queries"),
    ("decoder.latent_token_positional_embedding", "decoder.positions"),
    ("decoder.class_embedding", "decoder.extra_tokens"),  # buffer tokens, not a class
    ("decoder.decoder_embed.", "decoder.embed."),
    ("decoder.ffn.0.", "decoder.head.linear."),
    ("decoder.conv_out.", "decoder.head.conv."),
    ("decoder.ffn_aux.0.", "decoder.aux_head.linear."),
    ("decoder.conv_out_aux.", "decoder.aux_head.conv."),
    (".transformer.", ".blocks."),
    (".ln_pre.", ".norm_in."),
    (".ln_post.", ".norm_out."),
    (".ln_1.", ".norm1."),
    (".ln_2.", ".norm2."),
    (".attn.in_proj.", ".attention.qkv."),
    (".attn.out_proj.", ".attention.out."),
    (".mlp.c_fc.", ".mlp.up."),
    (".mlp.c_proj.", ".mlp.down."),
]
_AR_NAMES = [
    ("embeddings.weight", "embedding.weight"),
    (".attn.qkv.", ".attention.qkv."),
    (".attn.proj.", ".attention.out."),
    (".attn.q_norm.", ".attention.q_norm."),
    (".attn.k_norm.", ".attention.k_norm."),
    (".mlp.w1.", ".mlp.gate."),
    (".mlp.w3.", ".mlp.up."),
    (".mlp.w2.", ".mlp.down."),
]


def _rename(key: str, names: list[tuple[str, str]]) -> str:
    for old, new in names:
        key = key.replace(old, new)
    return key


def tokenizer_name(key: str, stage: int = 2) -> str:
    """Our name of an official tokenizer key; its `decoder.` is that of the given stage."""
    return _rename(key, _TOKENIZER_NAMES).replace("decoder.", f"decoder{stage}.", 1)


def ar_name(key: str) -> str:
    """Our name of an official AR key."""
    return _rename(key, _AR_NAMES)


def official_tokenizer_name(name: str) -> str:
    """The official key of a tensor of ours, the inverse of `tokenizer_name`; both decoders become `decoder.`."""
    return _rename(re.sub(r"^decoder[12]\.", "decoder.", name), [(new, old) for old, new in _TOKENIZER_NAMES[::-1]])


def official_ar_name(name: str) -> str:
    """The official key of a tensor of ours, the inverse of `ar_name`."""
    return _rename(name, [(new, old) for old, new in _AR_NAMES[::-1]])


def _unwrap(state: Mapping) -> dict[str, Tensor]:
    """The bare state dict; training checkpoints wrap it and carry the running codebook usage."""
    state = state.get("model_state", state)
    return {key: value for key, value in state.items() if key != "quantize.embed_prob"}


def kind(state_dict: Mapping) -> str | None:
    """What an official state dict holds: "tokenizer", "ar" (the AR model), or None when it is neither."""
    state = _unwrap(state_dict)
    if "latent_tokens" in state or "quantize.embedding.weight" in state:
        return "tokenizer"
    return "ar" if "embeddings.weight" in state or "output.weight" in state else None


def _size(state: Mapping[str, Tensor], key: str, axis: int = 0) -> int:
    if key not in state or state[key].ndim <= axis:
        raise ValueError(f"the state dict lacks {key}: not an official checkpoint of this kind")
    return state[key].shape[axis]


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    """Number of blocks under a prefix such as 'encoder.transformer.'."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def _fill(model: nn.Module, renamed: dict[str, tuple[str, Tensor]]) -> None:
    """Put the tensors in place after checking every name and shape; 1x1 convolutions become linear layers."""
    wanted = model.state_dict()
    for key in wanted:
        if key not in renamed:
            raise ValueError(f"the state dict lacks a tensor for {key}")
    for key, (official, tensor) in renamed.items():
        if key not in wanted:
            raise ValueError(f"the state dict has a tensor too many: {official}")
        if tensor.shape[: wanted[key].ndim] != wanted[key].shape or tensor.numel() != wanted[key].numel():
            expected, found = tuple(wanted[key].shape), tuple(tensor.shape)
            raise ValueError(f"{official} has shape {found}; expected {expected}")
        if not tensor.is_floating_point():
            raise ValueError(f"{official} has numbers of type {tensor.dtype}; expected floating point")
    model.load_state_dict({key: t.reshape(wanted[key].shape) for key, (_, t) in renamed.items()}, assign=True)


def tokenizer_sizes(state_dict: Mapping) -> dict[str, Any]:
    """Fields of TokenizerConfig that the shapes of an official state dict tell: all but the numbers of heads.

    Raises ValueError for a state dict that lacks what is needed to tell.
    """
    state = _unwrap(state_dict)
    grid = math.isqrt(_size(state, "encoder.positional_embedding"))
    patch = _size(state, "encoder.patch_embed.weight", 2)
    tokens = _size(state, "latent_tokens")
    if tokens not in (grid**2, grid**2 + grid + 1):
        raise ValueError(f"latent_tokens has {tokens} rows; expected {grid**2} or {grid**2 + grid + 1}")
    return {
        "image_size": grid * patch,
        "patch_size": patch,
        "codebook_size": _size(state, "quantize.embedding.weight"),
        "code_dim": _size(state, "quantize.embedding.weight", 1),
        "prefix": tokens > grid**2,
        "encoder_width": _size(state, "encoder.patch_embed.weight"),
        "encoder_depth": _depth(state, "encoder.transformer."),
        "decoder_width": _size(state, "decoder.class_embedding", 1),
        "decoder_depth": _depth(state, "decoder.transformer."),
        "buffer_tokens": _size(state, "decoder.class_embedding"),
    }


def ar_sizes(state_dict: Mapping) -> dict[str, int]:
    """Fields of ARConfig that the shapes of an official state dict tell: all but heads, prefix and grid.

    Raises ValueError for a state dict that lacks what is needed to tell.
    """
    state = _unwrap(state_dict)
    codes = _size(state, "output.weight")
    return {
        "codebook_size": codes,
        "classes": _size(state, "embeddings.weight") - codes - 2,
        "width": _size(state, "embeddings.weight", 1),
        "depth": _depth(state, "blocks."),
        "hidden": _size(state, "blocks.0.mlp.w1.weight"),
    }


def load_tokenizer(
    state_dict: Mapping, stage1: Mapping | None = None, encoder_heads: int = 12, decoder_heads: int = 16
) -> Tokenizer:
    """A Tokenizer from an official state dict (`AliTok.pth`), sizes taken from the shapes.

    `state_dict` holds the released bidirectional decoder; `stage1` may add the `decoder.*` of the causal one.
    Raises ValueError that names the first missing, extra or mis-shaped key.
    """
    state, first = _unwrap(state_dict), _unwrap(stage1 or {})
    config = TokenizerConfig(**tokenizer_sizes(state), encoder_heads=encoder_heads, decoder_heads=decoder_heads)
    with torch.device("meta"):
        tokenizer = Tokenizer(config, (1, 2) if first else (2,))
    renamed = {tokenizer_name(key): (key, value) for key, value in state.items()}
    renamed |= {tokenizer_name(key, 1): (key, value) for key, value in first.items()}
    _fill(tokenizer, renamed)
    return tokenizer.eval()


def load_ar(state_dict: Mapping, heads: int = 16, prefix_tokens: int = 17, grid: int = 16) -> ARModel:
    """An ARModel from an official state dict (`alitok_b.bin` and its sisters), sizes taken from the shapes.

    The geometry is not in the shapes: `prefix_tokens` and `grid` default to the official 17 and 16.
    Raises ValueError that names the first missing, extra or mis-shaped key.
    """
    state = _unwrap(state_dict)
    config = ARConfig(**ar_sizes(state), heads=heads, prefix_tokens=prefix_tokens, grid=grid)
    with torch.device("meta"):
        model = ARModel(config)
    _fill(model, {ar_name(key): (key, value) for key, value in state.items()})
    return model.eval()
