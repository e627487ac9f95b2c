"""What the Gradio app does, without Gradio: cached models, drawing token by token, reconstructing.

Every function that a visitor reaches checks its arguments itself and raises ValueError with one sentence.
Importing this file loads no model and touches neither a GPU nor the network.
"""

import base64
import colorsys
import io
import logging
import math
import os
import re
import secrets
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from . import scenes
from .images import load_picture, save_png, sheet
from .metrics import psnr
from .model import AliTok, CheckpointError, bundled, checkpoint_folder, read_config
from .tokenizer import Tokenizer

MAX_SEED = 2**31 - 1
MAX_COUNT = 16
GUIDANCE = (0.0, 30.0)
TEMPERATURE = (0.0, 3.0)
FRAME_SECONDS = 0.06  # at most one frame in this time: encoding and sending one costs more than a small model's token
SLOW_SECONDS = 3.0  # a drawing in slow motion rests this long in all
DECODERS = {1: "Causal", 2: "Bidirectional"}
PANELS = {  # caption -> alternative text
    "Original": "The picture as the model saw it",
    DECODERS[1]: "Reconstruction by the causal decoder",
    DECODERS[2]: "Reconstruction by the bidirectional decoder",
    "Tokens": "The ids as numbered tiles; they are listed below",
}
_TILE = "max(54px, 12.5%)"  # least width of a thumbnail: seven columns on a desk, five on a phone
EXAMPLES = scenes.CLASSES[:8]

_loading = Lock()
_running = Lock()  # one step of one model at a time, however many threads the server has


class Card(NamedTuple):
    """What the page says about a checkpoint before its weights are read."""

    source: str  # folder or bundled name
    classes: list[str]
    image_size: int
    guidance: float


class Frame(NamedTuple):
    """A moment of a drawing."""

    pictures: list[Image.Image]
    token: int  # tokens drawn so far, 1..tokens
    tokens: int
    seed: int
    seconds: float  # the model's own time so far, without the rests of slow motion
    preview: bool  # what is missing was guessed, because there is no causal decoder

    @property
    def done(self) -> bool:
        """The last frame, from the best decoder."""
        return self.token == self.tokens

    @property
    def status(self) -> str:
        """One line for the visitor, in Markdown."""
        if self.done:
            return f"drawn in {self.seconds:.1f} s of model time, {self.tokens} tokens, with **seed {self.seed}**"
        guess = " (preview: the missing tokens are guessed)" if self.preview else ""
        return f"token {self.token} of {self.tokens}{guess}"


class Reconstruction(NamedTuple):
    """A picture before and after the tokenizer."""

    original: Image.Image  # as the model saw it
    pictures: dict[int, Image.Image]  # decoder stage -> picture
    psnr: dict[int, float]  # decoder stage -> dB
    prefix: np.ndarray  # (K,) ids
    grid: np.ndarray  # (G, G) ids, in raster order
    bits: float  # of all ids together

    @property
    def status(self) -> str:
        """One line for the visitor, in Markdown."""
        side, prefix, grid = self.original.width, self.prefix.size, len(self.grid)
        parts = f"{prefix} of the prefix, then " * (prefix > 0) + f"a grid of {grid} x {grid}"
        tokens = f"**{prefix + grid * grid} tokens ({self.bits / 8:.0f} bytes)**"
        return f"{side} x {side} pixels ({3 * side * side:,} bytes) became {tokens}: {parts}."

    def caption(self, stage: int) -> str:
        """What stands above the picture of a decoder, in Markdown."""
        there = f"{self.psnr[stage]:.1f} dB" if stage in self.psnr else "not in this model"
        return f"**{DECODERS[stage]}**: {there}"


# ---------------------------------------------------------------- models


@cache
def models() -> dict[str, Card]:
    """The models on offer by name: those of the environment variable ALITOK_MODELS (comma-separated folders, bundled
    names or the Hub's owner/name), else the bundled ones, "scenes" first. Reads configs only, no weights; what is on
    the Hub is fetched if it is not in the local cache.

    Raises CheckpointError for a config that cannot be read and ValueError for two models of one name.
    """
    sources = [entry.strip() for entry in os.environ.get("ALITOK_MODELS", "").split(",") if entry.strip()]
    cards = {}
    for source in sources or bundled():
        folder, name = checkpoint_folder(source), Path(source).absolute().name  # a folder in the cache has another
        config = read_config(folder)
        if name in cards:
            raise ValueError(f"two models are named {name!r}; give their folders different names")
        size, guidance = config["tokenizer"].image_size, config["sampling"].guidance
        cards[name] = Card(str(folder), config["classes"], size, guidance)
    return cards


@cache
def _load(name: str) -> AliTok:
    return AliTok.from_pretrained(models()[name].source)


def get_model(name: str) -> AliTok:
    """The model of that name, loaded once. ValueError for another name or a checkpoint that does not load."""
    if not isinstance(name, str) or name not in models():
        raise ValueError(f"no model {name!r}; the models are {', '.join(models()) or 'none'}")
    try:
        with _loading:
            return _load(name)
    except CheckpointError as error:  # its sentence names folders, which are the operator's business
        logging.getLogger(__name__).error("%s", error)
        raise ValueError(f"the model {name!r} could not be loaded; the server's log says why") from None


# ---------------------------------------------------------------- drawing


def _number(name: str, value: object, low: float, high: float, whole: bool = False) -> float | int:
    """The value as float, or int if it must be whole; ValueError unless it is a finite number in low..high."""
    right = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not right or (whole and value != int(value)):
        kind = "whole number" if whole else "number"
        raise ValueError(f"{name} is {repr(value)[:40]}; it must be a {kind} from {low:g} to {high:.10g}")
    return int(value) if whole else float(value)


def read_seed(text: str | None) -> int | str | None:
    """What a visitor typed as a seed: None when empty, an int for digits; `draw` refuses the rest by name."""
    text = (text or "").strip()
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
    checkpoint's own. `slow` shows every token and rests between them. Closing the iterator stops at the next
    token; the model is never held between two frames. Raises ValueError at once for a bad argument.
    """
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else _number("seed", seed, 0, MAX_SEED, whole=True)
    guidance = None if guidance is None else _number("guidance", guidance, *GUIDANCE)
    temperature = _number("temperature", temperature, *TEMPERATURE)
    count = _number("how many", count, 1, MAX_COUNT, whole=True)
    model = get_model(model_name)
    if class_name not in model.classes:
        names = ", ".join(model.classes[:20]) + ", ..." * (len(model.classes) > 20)
        raise ValueError(f"no class {str(class_name)[:40]!r}; the classes are {names}")
    steps = model.stream([class_name] * count, seed, guidance=guidance, temperature=temperature)
    return _frames(model, steps, seed, slow)


def _frames(model: AliTok, steps: Iterator, seed: int, slow: bool) -> Iterator[Frame]:
    """Frames of a drawing under way. The lock is taken for a step at a time, so a forgotten drawing blocks nobody."""
    tokens, seconds, shown = model.tokenizer.config.tokens, 0.0, -math.inf
    for token in range(1, tokens + 1):
        with _running:
            start = time.perf_counter()
            ids = next(steps).ids
            wanted = slow or token == tokens or start - shown >= FRAME_SECONDS
            pixels = partial_pixels(model.tokenizer, ids) if wanted else None
            if wanted:
                pictures = model.to_pil(pixels)
            seconds += time.perf_counter() - start
        if wanted:
            yield Frame(pictures, token, tokens, seed, seconds, 1 not in model.tokenizer.stages and token < tokens)
            if slow:
                time.sleep(SLOW_SECONDS / tokens)
            shown = time.perf_counter()  # after the consumer's work, which is not to eat up the model's time


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
    pixels, aux = tokenizer.decode(filled, 1, return_aux=True) if prefix else (tokenizer.decode(filled, 1), None)
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


# ---------------------------------------------------------------- reconstructing


def reconstruct(model_name: str, picture: str | Path) -> Reconstruction:
    """A picture file through the tokenizer and every decoder that there is.

    Raises ValueError for an unknown model and for a file that is no PNG, JPEG or WEBP picture (images.load_picture).
    """
    if not isinstance(picture, str | Path):
        raise ValueError("choose a picture first: upload one or click an example")
    model = get_model(model_name)
    tokenizer, config = model.tokenizer, model.tokenizer.config
    pixels = load_picture(picture, config.image_size)
    with _running:
        ids = tokenizer.encode(pixels.to(model.device))
        decoded = {stage: tokenizer.decode(ids, stage).float().cpu() for stage in tokenizer.stages}
    quality = {stage: psnr(result, pixels).item() for stage, result in decoded.items()}
    prefix, grid = ids[0].cpu().split([config.prefix_tokens, config.grid**2])
    return Reconstruction(
        model.to_pil(pixels)[0],
        {stage: model.to_pil(result)[0] for stage, result in decoded.items()},
        quality,
        prefix.numpy(),
        grid.view(config.grid, config.grid).numpy(),
        config.tokens * math.log2(config.codebook_size),
    )


def token_picture(prefix: np.ndarray, grid: np.ndarray, side: int = 384) -> Image.Image:
    """The ids as numbered tiles; the same id has the same colour.

    The image tokens (G, G) stand below the prefix (1 + G or none), each column under the prefix token that sketches
    its first patch; the prefix token of the corner stands out on the left.
    """
    indent = 1 if len(prefix) else 0
    tile = side // (len(grid) + indent)
    offset = indent * (tile + tile // 4)
    paper = Image.new("RGBA", ((len(grid) + indent) * tile, offset + len(grid) * tile))  # transparent: light and dark
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(max(8, min(24, tile // 3)))
    places = [(i * tile, 0, id_) for i, id_ in enumerate(prefix.tolist())]
    places += [((c + indent) * tile, offset + r * tile, id_) for (r, c), id_ in np.ndenumerate(grid)]
    for x, y, id_ in places:
        hue = id_ * 0.618034 % 1  # golden ratio: neighbouring ids get distant hues
        colour = tuple(round(255 * v) for v in colorsys.hls_to_rgb(hue, 0.8, 0.55))
        pen.rounded_rectangle((x + 1, y + 1, x + tile - 2, y + tile - 2), tile // 10, fill=colour)
        if tile >= 24:
            pen.text((x + tile / 2, y + tile / 2), str(id_), fill=(30, 30, 40), font=font, anchor="mm")
    return paper


# ---------------------------------------------------------------- pictures of the page itself


@cache
def _test_scenes() -> dict[str, Image.Image]:
    """One scene of each class from a test seed, 128 x 128."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many tiny operations: on a busy machine more threads only wait for each other
    try:
        pixels = scenes.render(range(len(scenes.CLASSES)), scenes.TEST_SEED, 128)
    finally:
        torch.set_num_threads(threads)
    return dict(zip(scenes.CLASSES, AliTok.to_pil(pixels), strict=True))


def example(name: str) -> Image.Image:
    """The test scene of a class that is offered as an example, 128 x 128. ValueError for another name."""
    if name not in EXAMPLES:
        raise ValueError(f"no example {str(name)[:40]!r}; the examples are {', '.join(EXAMPLES)}")
    return _test_scenes()[name]


def thumbnail_style(selector: str, classes: list[str]) -> str:
    """A style element that makes a radio group's labels tiles with thumbnails; empty unless all are scenes."""
    if not classes or not set(classes) <= set(scenes.CLASSES):
        return ""
    thumbnails = [_test_scenes()[name].resize((96, 96), Image.Resampling.LANCZOS) for name in classes]
    strip, buffer = sheet(thumbnails, len(classes), 0), io.BytesIO()
    strip.save(buffer, "WEBP", quality=85)
    url = f"url(data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()})"
    narrow = "@media (max-width: 500px)"
    rules = [
        ".icon-button-wrapper:not(:has(button)) {display: none !important}",  # a speck in the corner of pictures
        f"{selector} .wrap {{display: grid; gap: 6px; grid-template-columns: repeat(auto-fill, minmax({_TILE}, 1fr))}}",
        f"{selector} label {{flex-direction: column; gap: 2px; padding: 3px 3px 5px; min-width: 0}}",
        f"{selector} label span {{margin: 0; font-size: 11px; line-height: 1.2; white-space: nowrap}}",
        f"{narrow} {{{selector} label {{padding: 2px 2px 4px}} {selector} label span {{font-size: 9.5px}}}}",
        f"{selector} input {{position: absolute; opacity: 0}}",
        f"{selector} label:focus-within {{outline: 2px solid var(--color-accent); outline-offset: 1px}}",
        f"{selector} label::before {{content: ''; width: 100%; aspect-ratio: 1; border-radius: 6px;"
        f" background: {url} 0 0 / {len(classes)}00% 100%}}",
    ]
    for index in range(len(classes)):
        where = 100 * index / max(1, len(classes) - 1)
        rules.append(f"{selector} label:nth-of-type({index + 1})::before {{background-position-x: {where:.3f}%}}")
    return "<style>" + "\n".join(rules) + "</style>"
