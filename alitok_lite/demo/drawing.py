"""Drawing token by token, as the app shows it: frames, contact sheets, files.

A ValueError is one sentence for a visitor. The model is held for a step at a time.
"""

import math
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.tokenizer import Tokenizer
from ..data.images import save_png, sheet
from ..model import AliTok
from ..packed import packed
from ..store.class_names import label_of
from .models import Card, check_model, drawing_models, get_model, models, number, running

MAX_SEED = 2**31 - 1
MAX_COUNT = 16
GUIDANCE = (0.0, 30.0)
TEMPERATURE = (0.0, 3.0)
FRAME_SECONDS = 0.5  # at most one frame in this time while drawing; the page plays all of them when it is finished
COSTLY_FRAME_SECONDS = 0.3  # a frame that takes longer waits until drawing has taken as long again
MAX_FRAMES = 64  # of a finished drawing
MAX_FRAME_PIXELS = 2**22  # of all its frames together
CPU_THREADS = torch.get_num_threads()  # of a CPU, for a step
SMALL_MODEL = 50_000_000  # parameters; with fewer, a second thread gains little on quiet cores and waits on busy ones


class Frame(NamedTuple):
    """A moment of a drawing."""

    pictures: list[Image.Image]
    token: int  # tokens drawn so far, 1..tokens
    tokens: int
    seed: int
    seconds: float  # the model's own time so far
    preview: bool  # the last id stands in for the missing tokens, because there is no causal decoder
    entropy: np.ndarray  # (pictures, token) in nats, of what each token was drawn from
    ids: Tensor  # (pictures, token)

    @property
    def done(self) -> bool:
        """The last frame, from the best decoder."""
        return self.token == self.tokens

    @property
    def status(self) -> str:
        """One line for the visitor, in Markdown."""
        if self.done:
            mean = f"mean entropy {self.entropy.mean():.1f} nats"
            return f"Drawn in {self.seconds:.2f} s of model time: {self.tokens} tokens, {mean}, **seed {self.seed}**."
        guess = " (preview: the missing tokens are filled in)" if self.preview else ""
        return f"Token {self.token} of {self.tokens}{guess}"


def read_seed(given: object) -> int | str | None:
    """What a visitor gave as a seed: None when empty, an int for digits; `draw` refuses the rest by name."""
    text = "" if given is None else str(given).strip()
    return int(text) if re.fullmatch("[0-9]{1,20}", text) else text or None


def draw(
    model_name: str,
    class_name: str,
    seed: int | None = None,
    guidance: float | None = None,
    temperature: float = 1.0,
    count: int = 1,
) -> Iterator[Frame]:
    """Draw pictures of a class, token by token: Frames, the last of which shows the finished pictures.

    Seed None is drawn at random and reported in every frame; picture i uses seed + i. Guidance None is the
    checkpoint's own. A small model is finished before the first FRAME_SECONDS are over, so its only Frame is the last.
    Closing the iterator stops at the next token; the model is never held between two frames. Raises ValueError at once
    for a bad argument.
    """
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else number("seed", seed, 0, MAX_SEED, whole=True)
    guidance = None if guidance is None else number("guidance", guidance, *GUIDANCE)
    temperature = number("temperature", temperature, *TEMPERATURE)
    count = number("how many", count, 1, MAX_COUNT, whole=True)
    label = find_class(check_model(model_name), class_name)
    model = get_model(model_name)
    steps = model.stream([label] * count, seed, guidance=guidance, temperature=temperature)
    return _frames(model, steps, seed)


def find_class(card: Card, entry: str | int) -> int:
    """Label of a class of a model that draws, by its name or number as in `class_names.label_of`. Else ValueError."""
    if card.ar is None or not card.classes:
        raise ValueError(f"this model cannot draw; those that can are {', '.join(drawing_models()) or 'none'}")
    if type(entry) is not int:  # a request may hold anything
        entry = str(entry) if len(str(entry)) <= 80 else str(entry)[:40] + "..."
    return label_of(entry, card.classes)


def _frames(model: AliTok, steps: Iterator, seed: int) -> Iterator[Frame]:
    """Frames of a drawing under way. The lock is taken for a step at a time, so a forgotten drawing blocks nobody."""
    tokens, entropies = model.tokenizer.config.tokens, []
    small = _is_small(model)
    seconds, shown, cost = 0.0, time.perf_counter(), 0.0  # cost: of the last frame
    for token in range(1, tokens + 1):
        with running(), one_thread(small):
            start = time.perf_counter()
            _, ids, entropy = next(steps)
            entropies.append(entropy.float().cpu().numpy())
            pause = cost if cost > COSTLY_FRAME_SECONDS else FRAME_SECONDS
            wanted = token == tokens or start - shown >= pause
            if wanted:
                begun = time.perf_counter()
                pictures = model.to_pil(partial_pixels(model.tokenizer, ids))
                cost = time.perf_counter() - begun
            seconds += time.perf_counter() - start
        if wanted:
            preview = 1 not in model.tokenizer.stages and token < tokens
            yield Frame(pictures, token, tokens, seed, seconds, preview, np.stack(entropies, 1), ids.cpu())
            shown = time.perf_counter()  # after the consumer's work, which is not to eat up the model's time


def _is_small(model: AliTok) -> bool:
    """Whether a second thread of a CPU would gain little for it."""
    parts = filter(None, (model.tokenizer, model.ar))
    return sum(weight.numel() for part in parts for weight in part.parameters()) < SMALL_MODEL


@contextmanager
def one_thread(small: bool = True) -> Iterator[None]:
    """Work of one thread, if it is small. Sets the number either way: threads born meanwhile begin with the latest."""
    torch.set_num_threads(1 if small else CPU_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(CPU_THREADS)


@torch.inference_mode()
def partial_pixels(tokenizer: Tokenizer, ids: Tensor) -> Tensor:
    """What the first t ids show. (B, t) -> (B, 3, S, S) in [0, 1].

    All ids: the best decoder. Fewer: the causal decoder, whose patches need no later token, with pale tiles for
    the patches to come, over which the prefix sketches the first row faintly. Without a causal decoder the last
    id stands in for the missing ones.
    """
    config, known, tokenizer = tokenizer.config, ids.shape[1], packed(tokenizer)
    if known == config.tokens:
        return tokenizer.decode(ids)
    filled = torch.cat([ids, ids[:, -1:].expand(-1, config.tokens - known)], 1)
    return _tiled(tokenizer, *_causal(tokenizer, filled), known) if 1 in tokenizer.stages else tokenizer.decode(filled)


@torch.inference_mode()
def all_partial_pixels(tokenizer: Tokenizer, ids: Tensor, steps: Sequence[int]) -> list[Tensor]:
    """`partial_pixels` after each of these numbers of tokens; ids (B, T). A causal decoder runs once for all."""
    if 1 not in tokenizer.stages:
        return [partial_pixels(tokenizer, ids[:, :known]) for known in steps]
    tokenizer = packed(tokenizer)
    early = _causal(tokenizer, ids)
    last = tokenizer.config.tokens
    return [tokenizer.decode(ids) if known == last else _tiled(tokenizer, *early, known) for known in steps]


def _causal(tokenizer: Tokenizer, ids: Tensor) -> tuple[Tensor, Tensor | None]:
    """Pixels from the causal decoder, and its sketch of the first row where there is a prefix."""
    return tokenizer.decode_with_prefix(ids) if tokenizer.config.prefix_tokens else (tokenizer.decode(ids, 1), None)


def _tiled(tokenizer: Tokenizer, pixels: Tensor, aux: Tensor | None, known: int) -> Tensor:
    """The pixels with pale tiles over the patches whose tokens are not among the first `known`."""
    config = tokenizer.config
    prefix, side, grid, pixels = config.prefix_tokens, config.patch_size, config.grid, pixels.clone()
    for patch in range(max(known - prefix, 0), grid**2):
        row, column = divmod(patch, grid)
        tile = torch.full_like(pixels[:, :, :side, :side], 0.93 - 0.03 * ((row + column) % 2))
        if row == 0 and column + 1 < known and aux is not None:  # prefix token 0 is the corner, 1 + c is column c
            tile = 0.5 * tile + 0.5 * aux[:, column + 1]
        pixels[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side] = tile
    return pixels


def played(model: AliTok, ids: Tensor) -> tuple[list[int], list[Image.Image]]:
    """What the page plays of a finished drawing with ids (B, T): numbers of tokens, and a sheet of the pictures so far
    for each. As many as there are tokens, unless that is too much to send."""
    tokens, pictures = ids.shape[1], len(ids)
    pixels = pictures * model.tokenizer.config.image_size**2
    frames = max(2, min(tokens, MAX_FRAMES, MAX_FRAME_PIXELS // pixels))
    steps = sorted({round(step) for step in np.linspace(1, tokens, frames)})
    with running(), one_thread(_is_small(model)):
        shown = all_partial_pixels(model.tokenizer, ids.to(model.device), steps)
    columns = math.ceil(math.sqrt(pictures))
    return steps, [sheet(model.to_pil(part), columns, 4) for part in shown]


def contact_sheet(pictures: list[Image.Image]) -> Image.Image:
    """One picture enlarged to some 400 pixels, several as a square-ish sheet of some 600."""
    columns, width = math.ceil(math.sqrt(len(pictures))), pictures[0].width
    return sheet(pictures, columns, 8, max(1, min(400 // width, 592 // (columns * width))))


def save_drawing(
    folder: Path, frame: Frame, model_name: str, class_name: str, guidance: float | None, temperature: float
) -> Path:
    """Write the frame's contact sheet as a PNG that says in text chunks how to draw it again; returns its path."""
    guidance = models()[model_name].guidance if guidance is None else guidance
    text = {"class": class_name, "seed": str(frame.seed), "model": model_name, "pictures": str(len(frame.pictures))}
    text |= {"guidance": f"{guidance:g}", "temperature": f"{temperature:g}", "Software": "alitok_lite"}
    name = re.sub("[^A-Za-z0-9]+", "-", class_name)[:40].strip("-")
    path = folder / f"{name}-{frame.seed}.png"
    save_png(contact_sheet(frame.pictures), path, text, level=1)
    return path
