"""Drawing token by token, as the app shows it: frames, contact sheets, files.

A ValueError is one sentence for a visitor. The model is held for a step at a time.
"""

import math
import re
import secrets
import time
from collections.abc import Iterator
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
from ..store.class_names import label_of
from .models import Card, check_model, drawing_models, get_model, models, number, running

MAX_SEED = 2**31 - 1
MAX_COUNT = 16
GUIDANCE = (0.0, 30.0)
TEMPERATURE = (0.0, 3.0)
FRAME_SECONDS = 0.06  # at most one frame in this time: encoding and sending one costs more than a small model's token
COSTLY_FRAME_SECONDS = 0.3  # a frame that takes longer waits until drawing has taken as long again, even in slow motion
SLOW_SECONDS = 3.0  # a drawing in slow motion rests this long in all
CPU_THREADS = torch.get_num_threads()  # of a CPU, for a step
SMALL_MODEL = 50_000_000  # parameters; with fewer, a second thread gains little on quiet cores and waits on busy ones


class Frame(NamedTuple):
    """A moment of a drawing."""

    pictures: list[Image.Image]
    token: int  # tokens drawn so far, 1..tokens
    tokens: int
    seed: int
    seconds: float  # the model's own time so far, without the rests of slow motion
    preview: bool  # the last id stands in for the missing tokens, because there is no causal decoder
    entropy: np.ndarray  # (pictures, token) in nats, of what each token was drawn from

    @property
    def done(self) -> bool:
        """The last frame, from the best decoder."""
        return self.token == self.tokens

    @property
    def status(self) -> str:
        """One line for the visitor, in Markdown."""
        if self.done:
            mean = f"mean entropy {self.entropy.mean():.1f} nats"
            return f"Drawn in {self.seconds:.1f} s of model time: {self.tokens} tokens, {mean}, **seed {self.seed}**."
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
    slow: bool = False,
) -> Iterator[Frame]:
    """Draw pictures of a class, token by token: Frames, the last of which shows the finished pictures.

    Seed None is drawn at random and reported in every frame; picture i uses seed + i. Guidance None is the
    checkpoint's own. `slow` rests between the tokens and shows each, unless a frame takes too long for that. Closing
    the iterator stops at the next token; the model is never held between two frames. Raises ValueError at once for a
    bad argument.
    """
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else number("seed", seed, 0, MAX_SEED, whole=True)
    guidance = None if guidance is None else number("guidance", guidance, *GUIDANCE)
    temperature = number("temperature", temperature, *TEMPERATURE)
    count = number("how many", count, 1, MAX_COUNT, whole=True)
    if not isinstance(slow, bool):
        raise ValueError(f"slow is {repr(slow)[:40]}; it must be true or false")
    label = find_class(check_model(model_name), class_name)
    model = get_model(model_name)
    steps = model.stream([label] * count, seed, guidance=guidance, temperature=temperature)
    return _frames(model, steps, seed, slow)


def find_class(card: Card, entry: str | int) -> int:
    """Label of a class of a model that draws, by its name or number as in `class_names.label_of`. Else ValueError."""
    if card.ar is None or not card.classes:
        raise ValueError(f"this model cannot draw; those that can are {', '.join(drawing_models()) or 'none'}")
    if type(entry) is not int:  # a request may hold anything
        entry = str(entry) if len(str(entry)) <= 80 else str(entry)[:40] + "..."
    return label_of(entry, card.classes)


def _frames(model: AliTok, steps: Iterator, seed: int, slow: bool) -> Iterator[Frame]:
    """Frames of a drawing under way. The lock is taken for a step at a time, so a forgotten drawing blocks nobody."""
    tokens, entropies = model.tokenizer.config.tokens, []
    small = sum(p.numel() for part in (model.tokenizer, model.ar) for p in part.parameters()) < SMALL_MODEL
    seconds, shown, cost = 0.0, -math.inf, 0.0  # cost: of the last frame
    for token in range(1, tokens + 1):
        with running(), one_thread(small):
            start = time.perf_counter()
            _, ids, entropy = next(steps)
            entropies.append(entropy.float().cpu().numpy())
            pause = cost if cost > COSTLY_FRAME_SECONDS else 0 if slow else FRAME_SECONDS
            wanted = token == tokens or start - shown >= pause
            if wanted:
                begun = time.perf_counter()
                pictures = model.to_pil(partial_pixels(model.tokenizer, ids))
                cost = time.perf_counter() - begun
            seconds += time.perf_counter() - start
        if wanted:
            preview = 1 not in model.tokenizer.stages and token < tokens
            yield Frame(pictures, token, tokens, seed, seconds, preview, np.stack(entropies, 1))
            if slow:
                time.sleep(SLOW_SECONDS / tokens)
            shown = time.perf_counter()  # after the consumer's work, which is not to eat up the model's time


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
    config, known = tokenizer.config, ids.shape[1]
    if known == config.tokens:
        return tokenizer.decode(ids)
    filled = torch.cat([ids, ids[:, -1:].expand(-1, config.tokens - known)], 1)
    if 1 not in tokenizer.stages:
        return tokenizer.decode(filled)
    prefix, side, grid = config.prefix_tokens, config.patch_size, config.grid
    pixels, aux = tokenizer.decode_with_prefix(filled) if prefix else (tokenizer.decode(filled, 1), None)
    pixels = pixels.clone()
    for patch in range(max(known - prefix, 0), grid**2):
        row, column = divmod(patch, grid)
        tile = torch.full_like(pixels[:, :, :side, :side], 0.93 - 0.03 * ((row + column) % 2))
        if row == 0 and column + 1 < known and aux is not None:  # prefix token 0 is the corner, 1 + c is column c
            tile = 0.5 * tile + 0.5 * aux[:, column + 1]
        pixels[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side] = tile
    return pixels


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
    save_png(contact_sheet(frame.pictures), path, text)
    return path
