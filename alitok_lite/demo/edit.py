"""The tab Edit: choose another code for a token and let the model go on from there; complete half a picture.

Each function checks its arguments, asks the model, and returns what the tab shows; see examples.py.
"""

import re
import secrets
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ..core.config import TokenizerConfig
from ..data.images import sheet
from ..measure.probe import token_name
from ..model import AliTok
from . import boards
from .boards import Cell, Look
from .drawing import MAX_SEED, TEMPERATURE, find_class, one_thread
from .examples import Upload, subject
from .look import text_size
from .models import check_model, get_model, number, running
from .words import code as as_code
from .words import load_code

LIKELIEST = 6  # codes shown


class Asked(NamedTuple):
    """What the tab is about, as the visitor gave it."""

    model: str
    scene: str | None
    upload: Upload
    class_name: str | None
    ids: str  # empty: those of the picture
    token: int
    temperature: float


class _Case(NamedTuple):
    """The same, checked."""

    model: AliTok
    label: int
    ids: Tensor  # (1, T)
    temperature: float


def _case(asked: Asked) -> _Case:
    """ValueError for anything that is not right."""
    card = check_model(asked.model)
    label = find_class(card, _default_class(asked))
    temperature = number("temperature", asked.temperature, *TEMPERATURE)
    if asked.ids in (None, ""):
        about = subject(asked.model, asked.scene, asked.upload)
        with running():
            return _Case(
                about.model, label, about.model.tokenizer.encode(about.pixels.to(about.model.device)), temperature
            )
    return _Case(get_model(asked.model), label, _read_ids(asked.ids, card.config), temperature)


def _default_class(asked: Asked) -> str | int | None:
    """The class that was given; else the scene's, or the model's first."""
    card = check_model(asked.model)
    if asked.class_name not in (None, ""):
        return asked.class_name
    return asked.scene if card.knows_scenes and asked.scene in card.classes and asked.upload is None else 0


def _read_ids(text: object, config: TokenizerConfig) -> Tensor:
    """The ids (1, T) in a text; ValueError unless they are as many as the model has tokens, all of its codebook."""
    if not right_ids(text, config):
        raise ValueError(
            f"ids are {repr(text)[:40]}; they must be {config.tokens} numbers from 0 to {config.codebook_size - 1}"
            " with spaces between them"
        )
    return torch.tensor([[int(x) for x in text.split()]])


def right_ids(text: object, config: TokenizerConfig) -> bool:
    """Whether a text holds as many ids as the model has tokens, all of its codebook."""
    found = text.split() if isinstance(text, str) and re.fullmatch(r"[0-9 ]{1,20000}", text) else []
    return len(found) == config.tokens and all(len(x) <= 9 and int(x) < config.codebook_size for x in found)


def edit(asked: Asked, code: int = -1, seed: int | None = None) -> tuple[str, str, dict, str, str]:
    """The likeliest codes for the token. A `code` from 0 up takes the token's place first, and the model samples the
    rest anew. Returns html, sentence, numbers, code and the ids, as numbers with spaces between them."""
    case = _case(asked)
    config = case.model.tokenizer.config
    token = number("token", asked.token, 0, config.tokens - 1, whole=True)
    code = number("code", code, -1, config.codebook_size - 1, whole=True)
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else number("seed", seed, 0, MAX_SEED, whole=True)
    if code < 0:
        return _shown(asked.model, case, None, token, "")
    prompt = torch.cat([case.ids[:, :token], torch.tensor([[code]])], 1)
    after = _continued(case, prompt, seed)
    said = f"{token_name(config, token).capitalize()} became code {code}; {_rest(config.tokens - token - 1, seed)}. "
    return _shown(asked.model, case, after, token, said)


def _rest(tokens: int, seed: int) -> str:
    """What became of the tokens after the one that was changed."""
    if not tokens:
        return "no token comes after it"
    others = "the token after it was" if tokens == 1 else f"the {tokens} tokens after it were"
    return f"{others} sampled anew, seed {seed}"


def complete(asked: Asked, seed: int | None = None) -> tuple[str, str, dict, str, str]:
    """The tokens of the upper half of the picture are kept, and the model samples the others; returns as `edit`."""
    case = _case(asked)
    config = case.model.tokenizer.config
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else number("seed", seed, 0, MAX_SEED, whole=True)
    kept = config.prefix_tokens + config.grid * (config.grid // 2)
    after = _continued(case, case.ids[:, :kept], seed)
    said = f"The first {kept} of {config.tokens} tokens were kept, and the others sampled, seed {seed}. "
    return _shown(asked.model, case, after, kept, said)


def _continued(case: _Case, prompt: Tensor, seed: int) -> Tensor:
    ids = prompt.to(case.model.device)
    steps = case.model.stream([case.label], seed, ids, temperature=case.temperature)
    for _ in range(prompt.shape[1], case.model.tokenizer.config.tokens):
        with running(), one_thread():
            ids = next(steps).ids
    return ids


@torch.inference_mode()
def _likely(case: _Case, ids: Tensor, token: int) -> tuple[Tensor, Tensor, list[Image.Image]]:
    """The likeliest codes (n,), their probabilities, and the picture around the token's patch with each of them."""
    model, config = case.model, case.model.tokenizer.config
    label = torch.tensor([case.label], device=model.device)
    logits = model.ar(ids, label)[0, token].float()
    shares = (logits / case.temperature).softmax(-1) if case.temperature else torch.zeros_like(logits)
    if not case.temperature:
        shares[logits.argmax()] = 1
    codes = logits.topk(min(LIKELIEST, len(logits))).indices
    rows = ids.repeat(len(codes), 1)
    rows[:, token] = codes
    pictures = AliTok.to_pil(model.tokenizer.decode(rows, 1 if 1 in model.tokenizer.stages else None))
    place, side = max(token - config.prefix_tokens, 0), config.patch_size
    if token < config.prefix_tokens:  # describes the first row
        boxes = (0, 0, side * config.grid, side)
    else:
        row, column = divmod(place, config.grid)
        boxes = (column * side, row * side, (column + 1) * side, (row + 1) * side)
    return codes.cpu(), shares[codes].cpu(), [picture.crop(boxes) for picture in pictures]


def _shown(name: str, case: _Case, after: Tensor | None, token: int, said: str) -> tuple[str, str, dict, str, str]:
    model, config = case.model, case.model.tokenizer.config
    ids = (case.ids if after is None else after).to(model.device)
    rows = ids if after is None else torch.cat([case.ids.to(model.device), ids])
    with running(), one_thread():
        codes, shares, patches = _likely(case, ids, token)
        decoded = model.to_pil(model.tokenizer.decode(rows))
    cells = [Cell(str(i)) for i in range(config.prefix_tokens)] + [Cell()] * config.grid**2
    alt = f"The picture in {config.grid} x {config.grid} patches; {token_name(config, token)} is chosen"
    grid = boards.board(cells, config.grid, alt, Look(decoded[-1], marked=token, size=text_size(config)))
    picker = f'<div class="al-pick" data-grid="{config.grid}" data-tokens="{config.tokens}">{grid}</div>'
    figures = [boards.figure(picker, "Choose a token", token_name(config, token))]
    figures.append(boards.figure(_choices(codes, shares, patches, int(ids[0, token])), *_words(case)))
    if after is not None:
        figures.append(boards.figure(boards.image(decoded[0], "The picture before"), "Before the change"))
    percent = [f"{100 * share:.0f} %" for share in shares.tolist()]
    status = f"{said}The likeliest codes of **{token_name(config, token)}**: {', '.join(percent)}. Press one."
    numbers = {"codes": codes.tolist(), "probabilities": [round(share, 4) for share in shares.tolist()]}
    text = " ".join(map(str, ids[0].tolist()))
    html = boards.page(boards.row(figures, 200, 380))
    return html, status, numbers | {"ids": ids[0].tolist()}, _script(name, case, ids, token), text


def _words(case: _Case) -> tuple[str, str]:
    name = case.model.classes[case.label].replace("_", " ")
    return "Its likeliest codes", f"given the earlier tokens and the class {name}; temperature {case.temperature:g}"


def _choices(codes: Tensor, shares: Tensor, patches: list[Image.Image], own: int) -> str:
    """Buttons with a patch and a probability each."""
    parts = []
    for code, share, patch in zip(codes.tolist(), shares.tolist(), patches, strict=True):
        mark = " (now)" if code == own else ""
        label = f"Code {code}, probability {100 * share:.1f} %{mark}: choose it and sample the rest"
        bar = boards.tag("i", style=f"width:{100 * share:.1f}%")
        small = boards.tag("small", f"{100 * share:.1f} %{mark}")
        picture = boards.tag("img", alt="", src=boards.data_uri(sheet([patch], 1)))
        parts.append(
            boards.tag("button", picture, small, bar, type="button", data_code=code, aria_label=label, title=label)
        )
    return boards.tag("div", *parts, class_="al-codes")


def _script(name: str, case: _Case, ids: Tensor, token: int) -> str:
    return as_code(
        load_code(name),
        f"ids = torch.tensor([{ids[0].tolist()}])",
        f"logits = model.ar(ids, model.labels([{case.label}]))[0, {token}]  # given the tokens before it",
        f"best = (logits / {max(case.temperature, 1e-3):g}).softmax(-1).topk({LIKELIEST})",
        f"prompt = torch.cat([ids[:, :{token}], best.indices[:1, None]], 1)",
        f"picture = model.sample([{case.label}], 7, prompt, temperature={case.temperature:g})",
    )
