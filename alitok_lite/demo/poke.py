"""The tab Poke: token surgery.

Each function checks its arguments, asks the model, and returns a View; see examples.py.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.config import TokenizerConfig
from ..measure import probe
from ..measure.probe import token_name
from ..model import AliTok
from . import boards
from .boards import Look
from .examples import DECODERS, EXAMPLES, Subject, Upload, View, scene_pixels, subject
from .look import STAGES, fitting
from .models import check_model, models, number, running
from .reconstruct import id_cells
from .words import code, picture_code

MOVED_FROM = 1 / 255  # mean change of a patch from which on it counts as moved: one step of an 8-bit picture

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
) -> list[dict[str, Any]]:
    """Properties of the controls of `poke`, token, id, count and other scene; values that fit are kept."""
    config = check_model(name).config
    middle = config.prefix_tokens + config.grid // 2 * config.grid
    tokens, codes = config.tokens, config.codebook_size

    def slider(value: int | None, top: int, start: int, use: str) -> dict[str, Any]:
        fits = fitting(value, 0, top, start)
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
        early = int((change[: max(token - prefix, 0)] > MOVED_FROM).sum())
        words.append(
            f"under the {name.lower()} {(change > MOVED_FROM).sum()} of {config.grid**2} patches moved, {early} of "
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
    """The first `count` tokens of a picture, the others replaced by the code nearest to the mean of all codes."""
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
        shown = [(a, "first"), (a_changed, "with the other's prefix")]
        shown += [(b, "second"), (b_changed, "with the first's prefix")]
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
