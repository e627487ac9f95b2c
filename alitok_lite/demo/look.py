"""The tab Look inside: attention and dependency.

Each function checks its arguments, asks the model, and returns a View; see examples.py.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.config import TokenizerConfig
from ..measure import probe
from ..measure.probe import token_name
from ..model import AliTok
from . import boards
from .boards import Cell, Look
from .examples import DECODERS, Subject, Upload, View, subject
from .models import Card, check_model, get_model, number, running
from .words import code

PARTS = {"encoder": "Encoder", "causal": DECODERS[1], "bidirectional": DECODERS[2], "ar": "AR model"}
STAGES = {1: "causal", 2: "bidirectional"}
MEAN_HEAD = -1  # stands for the mean of all heads
_MAX_MAP_WORK = 2e8  # tokens x weights of a decoder, from which on a dependency map takes minutes on a CPU
_KEPT_MAPS = 24  # dependency maps that are kept


def _percent(share: float) -> str:
    return f"{share:.0f} %" if share >= 1 or share == 0 else "less than 1 %"


def text_size(config: TokenizerConfig) -> float:
    """Of the text in a cell."""
    return 0.3 if config.grid < 8 else 0.36


def part_sizes(card: Card) -> dict[str, tuple[int, int]]:
    """Layers and heads of every part that a model has."""
    config = card.config
    decoder = (config.decoder_depth, config.decoder_heads)
    sizes = {"encoder": (config.encoder_depth, config.encoder_heads)}
    sizes |= {STAGES[stage]: decoder for stage in card.stages}
    return sizes | ({"ar": (card.ar.depth, card.ar.heads)} if card.ar is not None else {})


def look(model_name: str, scene: str | None, upload: Upload, part: str, layer: int, head: int, token: int) -> View:
    """What a token attends to in one layer of a part, and what its patch depends on; MEAN_HEAD: the heads' mean."""
    card = check_model(model_name)
    sizes = part_sizes(card)
    if not isinstance(part, str) or part not in sizes:
        raise ValueError(f"no part {str(part)[:40]!r}; the parts of this model are {', '.join(sizes)}")
    layers, heads = sizes[part]
    layer = number("layer", layer, 0, layers - 1, whole=True)
    head = number("head", head, MEAN_HEAD, heads - 1, whole=True)
    token = number("token", token, 0, card.config.tokens - 1, whole=True)
    asked = subject(model_name, scene, upload)
    with running():
        weights = _attention(asked, part, layer)
    row = (weights.mean(0) if head == MEAN_HEAD else weights[head])[probe.position(card.config, part, token)]
    shares = {name: 100 * piece.numpy() for name, piece in probe.split(row, card.config, part).items()}
    stage = 2 if part == "bidirectional" or 1 not in card.stages else 1
    needs = _dependency(asked, stage)
    there = [shares[name] for name in ("patch", "prefix", "image") if name in shares]
    there += [] if needs is None else [_of_token(card.config, needs, token)]
    top = max(5.0, *(float(values.max()) for values in there))
    figures = [_picker(asked, token), _looks(asked, part, shares, token, top)]
    figures.append(_depends(asked, stage, needs, token, top))
    legend = boards.scale(top, "%", "{:.0f}")
    numbers = {"attention": {name: piece.round(3).tolist() for name, piece in shares.items()}}
    numbers["dependency"] = None if needs is None else _of_token(card.config, needs, token).round(3).tolist()
    status = _attention_words(card.config, shares, token) + _dependency_words(card.config, stage, needs, token)
    script = _look_code(asked, part, (layer, head), token, stage)
    return View(
        boards.page(boards.row(figures, 145 if card.config.grid < 6 else 250, 360), legend), status, numbers, script
    )


@torch.inference_mode()
def _attention(asked: Subject, part: str, layer: int) -> Tensor:
    """Weights (H, t, keys) of one layer; no other part of the model runs under the recorder."""
    model, tokenizer = asked.model, asked.model.tokenizer
    pixels = asked.pixels.to(model.device)
    ids = tokenizer.encode(pixels)
    with probe.record_attention(model) as maps:
        if part == "encoder":
            tokenizer.encode(pixels)
        elif part == "ar":
            model.ar(ids, None if asked.label is None else model.labels([asked.label]))
        else:
            tokenizer.decode(ids, 1 if part == "causal" else 2)
    return maps[part][layer][0].float()


def _dependency(asked: Subject, stage: int) -> np.ndarray | None:
    """Dependency map (T, G*G) of a decoder, in % for each patch; None where it would take minutes."""
    config = asked.model.tokenizer.config
    work = config.tokens * config.decoder_depth * config.decoder_width**2
    if asked.model.device.type == "cpu" and work > _MAX_MAP_WORK:
        return None
    return _kept_dependency(asked.name, stage, asked.pixels.numpy().tobytes())


@lru_cache(maxsize=_KEPT_MAPS)
def _kept_dependency(name: str, stage: int, raw: bytes) -> np.ndarray:
    tokenizer = get_model(name).tokenizer
    side = tokenizer.config.image_size
    pixels = torch.frombuffer(bytearray(raw), dtype=torch.float32).view(1, 3, side, side)
    with running():
        moved = probe.dependency_map(tokenizer, pixels.to(tokenizer.quantizer.codebook.device), stage)
    return (100 * moved / moved.sum(0).clamp_min(1e-12)).float().numpy()


def _of_token(config: TokenizerConfig, needs: np.ndarray, token: int) -> np.ndarray:
    """What the patch of an image token depends on (T,), or which patches a prefix token moves (G*G,)."""
    prefix = config.prefix_tokens
    return needs[:, token - prefix] if token >= prefix else needs[token]


def _picker(asked: Subject, token: int) -> str:
    """The picture, whose patches can be clicked, and the prefix tokens above it."""
    config = asked.model.tokenizer.config
    cells = [Cell(str(i)) for i in range(config.prefix_tokens)] + [Cell()] * config.grid**2
    shown = Look(AliTok.to_pil(asked.pixels)[0], marked=token, size=text_size(config))
    alt = f"The picture in {config.grid} x {config.grid} patches; {token_name(config, token)} is chosen"
    grid = boards.board(cells, config.grid, alt, shown)
    picker = f'<div class="al-pick" data-grid="{config.grid}" data-tokens="{config.tokens}">{grid}</div>'
    return boards.figure(picker, "Choose a token", token_name(config, token))


def _looks(asked: Subject, part: str, shares: dict[str, np.ndarray], token: int, top: float) -> str:
    """Attention of the token; of the encoder, over the patches."""
    config, picture = asked.model.tokenizer.config, AliTok.to_pil(asked.pixels)[0]
    prefix, asks = config.prefix_tokens, part in ("ar", "encoder")
    if part == "encoder":
        values, marked, over = shares["patch"], token - prefix if token >= prefix else max(token - 1, 0), "patches"
    else:
        values = np.concatenate([shares[name] for name in ("prefix", "image") if name in shares])
        marked, over = token, "tokens"
    cells = boards.heat(values, top, "{:.0f}", over=True, least=0.5)
    alt = f"Attention of {token_name(config, token)} over the {over} in percent"
    grid = boards.board(cells, config.grid, alt, Look(picture, True, marked, asks, text_size(config)))
    return boards.figure(grid, "What it attends to", f"{PARTS[part]}, % of its attention")


def _depends(asked: Subject, stage: int, needs: np.ndarray | None, token: int, top: float) -> str:
    """Dependency of the patch of an image token, or what a prefix token moves."""
    config, picture = asked.model.tokenizer.config, AliTok.to_pil(asked.pixels)[0]
    if needs is None:
        return boards.figure(boards.note("For so large a decoder this takes minutes without a GPU."), "Dependency")
    values, image = _of_token(config, needs, token), token >= config.prefix_tokens
    name = DECODERS[stage]
    title = "What its patch depends on" if image else "Which patches depend on it"
    words = f"{name}, % of its change{'' if image else ' by this token'}"
    shown = Look(picture, True, token if image else None, False, text_size(config))
    cells = boards.heat(values, top, "{:.0f}", over=True, least=0.5)
    return boards.figure(boards.board(cells, config.grid, f"{title}: {words}", shown), title, words)


def _attention_words(config: TokenizerConfig, shares: dict[str, np.ndarray], token: int) -> str:
    """Where the attention of a token goes, in a sentence."""
    names = {"patch": "the patches", "start": "the start token", "class": "the class", "buffer": "the buffer tokens"}
    names |= {"prefix": "the prefix", "image": "image tokens"}
    parts = [f"{_percent(shares[name].sum())} to {names[name]}" for name in shares]
    told = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    return f"**{token_name(config, token).capitalize()}** gives its attention: {told}. "


def _dependency_words(config: TokenizerConfig, stage: int, needs: np.ndarray | None, token: int) -> str:
    """Which tokens the patch of a token depends on, in a sentence."""
    if needs is None or token < config.prefix_tokens:
        return ""
    values = _of_token(config, needs, token)
    own, later = float(values[token]), float(values[token + 1 :].sum())
    return (
        f"Of what moves its patch under the {DECODERS[stage].lower()}, {_percent(own)} comes from the token itself, "
        f"{_percent(float(values[:token].sum()))} from earlier and {_percent(later)} from later tokens."
    )


def _look_code(asked: Subject, part: str, place: tuple[int, int], token: int, stage: int) -> str:
    layer, head = place
    prefix = asked.model.tokenizer.config.prefix_tokens
    chosen = "weights.mean(0)" if head == MEAN_HEAD else f"weights[{head}]"
    label = "" if asked.label is None else f", {asked.label}"
    needs = f"dependency[:, {token - prefix}]" if token >= prefix else f"dependency[{token}]"
    return code(
        *asked.code,
        f"weights = probe.attention_of(model, pixels{label})[{part!r}][{layer}]  # (heads, queries, keys)",
        f"row = {chosen}[probe.position(model.tokenizer.config, {part!r}, {token})]",
        f"shares = probe.split(row, model.tokenizer.config, {part!r})",
        f"dependency = probe.dependency_map(model.tokenizer, pixels, stage={stage})  # (tokens, patches)",
        f"needs = {needs}",
    )


def fitting(value: object, low: int, high: int, otherwise: int) -> int:
    """A whole number that is in range, or else another one."""
    try:
        return number("", value, low, high, whole=True)
    except ValueError:
        return otherwise


def look_controls(
    name: str, part: str | None = None, layer: int = 0, head: int = MEAN_HEAD, token: int | None = None
) -> list[dict[str, Any]]:
    """Properties of the controls of `look`, part, layer, head and token, for a model; values that fit are kept."""
    card = check_model(name)
    sizes = part_sizes(card)
    part = part if part in sizes else next(p for p in ("causal", "bidirectional", "encoder") if p in sizes)
    layers, heads = sizes[part]
    grid, last = card.config.grid, card.config.tokens - 1
    middle = card.config.prefix_tokens + grid // 2 * grid + grid // 2
    each = [("mean of all heads", MEAN_HEAD), *((f"head {i}", i) for i in range(heads))]
    return [
        {"choices": [(PARTS[part], part) for part in sizes], "value": part},
        {"minimum": 0, "maximum": layers - 1, "value": fitting(layer, 0, layers - 1, layers - 1)},
        {"choices": each, "value": fitting(head, MEAN_HEAD, heads - 1, MEAN_HEAD)},
        {"minimum": 0, "maximum": last, "value": fitting(token, 0, last, middle)},
    ]
