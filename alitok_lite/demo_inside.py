"""The tabs Look inside and Poke: attention and dependency, token surgery.

Each function checks its arguments, asks the model, and returns a View; see demo_views.py.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from . import demo_boards as boards
from . import probe
from .config import TokenizerConfig
from .demo import Card, check_model, get_model, models, number, running
from .demo_boards import Cell, Look
from .demo_views import DECODERS, EXAMPLES, Subject, Upload, View, id_cells, scene_pixels, subject
from .demo_words import code, picture_code
from .model import AliTok

PARTS = {"encoder": "Encoder", "causal": DECODERS[1], "bidirectional": DECODERS[2], "ar": "AR model"}
STAGES = {1: "causal", 2: "bidirectional"}
MEAN = -1  # stands for the mean of all heads
MOVED = 1 / 255  # mean change of a patch from which on it counts as moved: one step of an 8-bit picture
_WORK = 2e8  # tokens x weights of a decoder, from which on a dependency map takes minutes on a CPU
_MEMORY = 24  # dependency maps that are kept


def token_name(config: TokenizerConfig, token: int) -> str:
    """What people call a token."""
    if token < config.prefix_tokens:
        return f"prefix token {token}"
    return "image token ({}, {})".format(*divmod(token - config.prefix_tokens, config.grid))


def _percent(share: float) -> str:
    return f"{share:.0f} %" if share >= 1 or share == 0 else "less than 1 %"


def text_size(config: TokenizerConfig) -> float:
    """Of the text in a cell."""
    return 0.3 if config.grid < 8 else 0.36


# ---------------------------------------------------------------- Look inside


def part_sizes(card: Card) -> dict[str, tuple[int, int]]:
    """Layers and heads of every part that a model has."""
    config = card.config
    decoder = (config.decoder_depth, config.decoder_heads)
    sizes = {"encoder": (config.encoder_depth, config.encoder_heads)}
    sizes |= {STAGES[stage]: decoder for stage in card.stages}
    return sizes | ({"ar": (card.ar.depth, card.ar.heads)} if card.ar is not None else {})


def look(model_name: str, scene: str | None, upload: Upload, part: str, layer: int, head: int, token: int) -> View:
    """What a token looks at in one layer of a part, and what its patch depends on. Head MEAN is the mean of all."""
    card = check_model(model_name)
    sizes = part_sizes(card)
    if not isinstance(part, str) or part not in sizes:
        raise ValueError(f"no part {str(part)[:40]!r}; the parts of this model are {', '.join(sizes)}")
    layers, heads = sizes[part]
    layer = number("layer", layer, 0, layers - 1, whole=True)
    head = number("head", head, MEAN, heads - 1, whole=True)
    token = number("token", token, 0, card.config.tokens - 1, whole=True)
    asked = subject(model_name, scene, upload)
    with running():
        weights = _attention(asked, part, layer)
    row = (weights.mean(0) if head == MEAN else weights[head])[probe.position(card.config, part, token)]
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
    status = _attention_words(card.config, part, shares, token) + _dependency_words(card.config, stage, needs, token)
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
    if asked.model.device.type == "cpu" and work > _WORK:
        return None
    return _kept_dependency(asked.name, stage, asked.pixels.numpy().tobytes())


@lru_cache(maxsize=_MEMORY)
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
    return boards.figure(grid, "What it looks at", f"{PARTS[part]}, % of its attention")


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


def _attention_words(config: TokenizerConfig, part: str, shares: dict[str, np.ndarray], token: int) -> str:
    """Where the attention of a token goes, in a sentence."""
    names = {"patch": "the patches", "start": "the start token", "class": "the class", "buffer": "the buffer tokens"}
    names |= {"prefix": "the prefix", "image": "image tokens"}
    parts = [f"{_percent(shares[name].sum())} to {names[name]}" for name in shares]
    told = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    return f"**{token_name(config, token).capitalize()}** gives {told}. "


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
    chosen = "weights.mean(0)" if head == MEAN else f"weights[{head}]"
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


def _fitting(value: object, low: int, high: int, otherwise: int) -> int:
    """A whole number that is in range, or else another one."""
    try:
        return number("", value, low, high, whole=True)
    except ValueError:
        return otherwise


def look_controls(
    name: str, part: str | None = None, layer: int = 0, head: int = MEAN, token: int | None = None
) -> list[dict]:
    """Properties of the controls of `look`, part, layer, head and token, for a model; values that fit are kept."""
    card = check_model(name)
    sizes = part_sizes(card)
    part = part if part in sizes else next(p for p in ("causal", "bidirectional", "encoder") if p in sizes)
    layers, heads = sizes[part]
    grid, last = card.config.grid, card.config.tokens - 1
    middle = card.config.prefix_tokens + grid // 2 * grid + grid // 2
    each = [("mean of all heads", MEAN), *((f"head {i}", i) for i in range(heads))]
    return [
        {"choices": [(PARTS[part], part) for part in sizes], "value": part},
        {"minimum": 0, "maximum": layers - 1, "value": _fitting(layer, 0, layers - 1, layers - 1)},
        {"choices": each, "value": _fitting(head, MEAN, heads - 1, MEAN)},
        {"minimum": 0, "maximum": last, "value": _fitting(token, 0, last, middle)},
    ]


# ---------------------------------------------------------------- Poke

EXPERIMENTS = [("Change one token", "change"), ("Keep the first tokens", "keep"), ("Swap the prefix", "swap")]


def poke(
    model_name: str,
    scene: str | None,
    upload: Upload,
    experiment: str,
    token: int = 0,
    code_id: int = 0,
    count: int = 0,
    other: str = "",
) -> View:
    """One of the experiments; see the functions below."""
    if experiment == "change":
        return change_token(model_name, scene, upload, token, code_id)
    if experiment == "keep":
        return keep_tokens(model_name, scene, upload, count)
    if experiment == "swap":
        return swap_prefix(model_name, scene, upload, other)
    allowed = ", ".join(name for _, name in EXPERIMENTS)
    raise ValueError(f"no experiment {str(experiment)[:40]!r}; the experiments are {allowed}")


def poke_controls(
    name: str,
    experiment: str,
    token: int | None = None,
    code_id: int | None = None,
    count: int | None = None,
    other: str = "lighthouse",
) -> list[dict]:
    """Properties of the controls of `poke`, token, id, count and other scene; values that fit are kept."""
    config = check_model(name).config
    middle = config.prefix_tokens + config.grid // 2 * config.grid
    tokens, codes = config.tokens, config.codebook_size

    def slider(value: int | None, top: int, start: int, use: str) -> dict:
        fits = _fitting(value, 0, top, start)
        return {"minimum": 0, "maximum": top, "value": fits, "visible": experiment == use}

    return [
        slider(token, tokens - 1, middle, "change"),
        slider(code_id, codes - 1, codes // 2, "change"),
        slider(count, tokens, middle, "keep"),
        {
            "choices": list(EXAMPLES),
            "value": other if other in EXAMPLES else EXAMPLES[0],
            "visible": experiment == "swap",
        },
    ]


def _decoded(asked: Subject, *rows: Tensor) -> dict[int, Tensor]:
    """Decoder stage -> the pictures of some rows of ids, on the CPU."""
    tokenizer = asked.model.tokenizer
    ids = torch.cat(rows)
    return {stage: tokenizer.decode(ids, stage).float().cpu() for stage in tokenizer.stages}


def _ids(asked: Subject) -> Tensor:
    return asked.model.tokenizer.encode(asked.pixels.to(asked.model.device))


def _change(asked: Subject, before: Tensor, after: Tensor) -> np.ndarray:
    """Mean change of each patch (G*G,) between two pictures (3, S, S)."""
    patch = asked.model.tokenizer.config.patch_size
    return probe.patch_change(before[None], after[None], patch).flatten().numpy()


def _picture(pixels: Tensor, caption: str, alt: str) -> str:
    return boards.figure(boards.image(AliTok.to_pil(pixels[None])[0], alt), caption)


def _moved(config: TokenizerConfig, change: np.ndarray, marked: int | None, name: str) -> str:
    """Change of each patch as a board, in % of the range of pixels; what did not move is pale."""
    values = 100 * np.where(change > 0, change, np.nan)
    top = max(float(np.nanmax(values, initial=1.0)), 1.0)
    cells = boards.heat(values, top, "{:.0f}")
    grid = boards.board(cells, config.grid, f"Change of each patch under the {name}", Look(marked=marked, size=0.3))
    return boards.figure(grid, "change, %")


def change_token(model_name: str, scene: str | None, upload: Upload, token: int, code_id: int) -> View:
    """One token of a picture becomes another one: before, after and change under every decoder."""
    config = check_model(model_name).config
    token = number("token", token, 0, config.tokens - 1, whole=True)
    code_id = number("new id", code_id, 0, config.codebook_size - 1, whole=True)
    asked = subject(model_name, scene, upload)
    with running():
        ids = _ids(asked)
        decoded = _decoded(asked, ids, probe.replace_tokens(ids, token, code_id))
    old, prefix = int(ids[0, token]), config.prefix_tokens
    parts, words, moves = [], [], {}
    for stage, (before, after) in decoded.items():
        name, change = DECODERS[stage], _change(asked, before, after)
        marked = token - prefix if token >= prefix else None
        figures = [_picture(before, "before", f"{name}, before"), _picture(after, "after", f"{name}, after")]
        parts += [boards.heading(name), boards.row([*figures, _moved(config, change, marked, name)], 92, 240)]
        moves[STAGES[stage]] = change.round(4).tolist()
        early = int((change[: max(token - prefix, 0)] > MOVED).sum())
        words.append(
            f"under the {name.lower()} {(change > MOVED).sum()} of {config.grid**2} patches moved, {early} of "
            "them before the token's own place"
        )
    first = f"**{token_name(config, token).capitalize()}** was id {old} and became {code_id}: "
    same = " Both are the same id, so nothing moves: choose another." if old == code_id else ""
    script = code(
        *asked.code,
        "ids = model.tokenizer.encode(pixels)",
        f"changed = probe.replace_tokens(ids, {token}, {code_id})",
        f"before, after = (model.tokenizer.decode(x, stage={max(decoded)}) for x in (ids, changed))",
        "change = probe.patch_change(before, after, model.tokenizer.config.patch_size)",
    )
    return View(boards.page(*parts), first + "; ".join(words) + "." + same, {"old": old, "change": moves}, script)


def keep_tokens(model_name: str, scene: str | None, upload: Upload, count: int) -> View:
    """The first `count` tokens of a picture, the others replaced by the code that says least."""
    config = check_model(model_name).config
    count = number("how many tokens to keep", count, 0, config.tokens, whole=True)
    asked = subject(model_name, scene, upload)
    with running():
        ids = _ids(asked)
        kept = probe.keep_first(asked.model.tokenizer, ids, count)
        decoded = _decoded(asked, ids, kept)
    alt = f"The first {count} of {config.tokens} tokens"
    grid = boards.board(id_cells(ids[0].tolist(), count), config.grid, alt, Look(size=0.27))
    figures = [boards.figure(grid, "What is kept", f"{count} of {config.tokens} tokens")]
    full = decoded[max(decoded)][0]
    figures.append(_picture(full, "All tokens", f"All tokens, {DECODERS[max(decoded)].lower()}"))
    for stage, (_, part) in decoded.items():
        figures.append(_picture(part, DECODERS[stage], f"The first {count} tokens, {DECODERS[stage].lower()}"))
    filler = int(kept[0, -1])
    shown = max(count - config.prefix_tokens, 0)
    status = f"**{count} of {config.tokens} tokens** are the picture's own: {min(count, config.prefix_tokens)} of the "
    status += f"prefix and {shown} of the patches. " if config.prefix_tokens else f"patches, {shown} in all. "
    status += f"The rest are id {filler}, the code nearest to the mean of all codes." if count < config.tokens else ""
    script = code(
        *asked.code,
        "ids = model.tokenizer.encode(pixels)",
        f"kept = probe.keep_first(model.tokenizer, ids, {count})",
        f"shown = model.tokenizer.decode(kept, stage={min(decoded)})",
    )
    return View(boards.page(boards.row(figures, 140, 300)), status, {"ids": kept[0].tolist()}, script)


def swap_prefix(model_name: str, scene: str | None, upload: Upload, other: str) -> View:
    """The picture and another scene exchange their prefix tokens."""
    card = check_model(model_name)
    config, prefix = card.config, card.config.prefix_tokens
    if not prefix:
        some = [name for name, card in models().items() if card.config.prefix_tokens]
        raise ValueError(f"this model has no prefix tokens to swap; those that do are {', '.join(some) or 'none here'}")
    asked = subject(model_name, scene, upload)
    second = asked._replace(pixels=scene_pixels(other, card.image_size), scene=other)
    with running():
        ids = torch.cat([_ids(asked), _ids(second)])
        decoded = _decoded(asked, ids, probe.swap_prefix(ids, prefix))
    parts, words, numbers = [], [], {}
    for stage, (a, b, a_changed, b_changed) in decoded.items():
        name, change = DECODERS[stage], _change(asked, a, a_changed)
        shown = [(a, "first"), (a_changed, "with the other's prefix"), (b, "second"), (b_changed, "likewise")]
        figures = [_picture(pixels, caption, f"{name}: {caption}") for pixels, caption in shown]
        figures.insert(2, _moved(config, change, None, name))
        parts += [boards.heading(name), boards.row(figures, 92, 210)]
        top, rest = 100 * change[: config.grid].mean(), 100 * change[config.grid :].mean()
        words.append(f"{name.lower()}: {top:.1f} % in the top row, {rest:.1f} % below it")
        numbers[STAGES[stage]] = change.round(4).tolist()
    status = f"Only the {prefix} prefix tokens were swapped. Mean change of the first picture, {'; '.join(words)}."
    script = code(
        *asked.code,
        picture_code(other, card.image_size, "other"),
        "ids = torch.cat([model.tokenizer.encode(pixels), model.tokenizer.encode(other)])",
        f"swapped = probe.swap_prefix(ids, {prefix})",
        f"shown = model.tokenizer.decode(swapped, stage={max(decoded)})",
    )
    return View(boards.page(*parts), status, {"change": numbers}, script)
