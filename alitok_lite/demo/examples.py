"""Pictures that need no model: examples and first impressions; the subject of a tab, and its View.

A tab's function checks its arguments, asks the model, and returns a View. As in models.py, a ValueError is one
sentence for a visitor, and a model is used by one function at a time.
"""

import io
import math
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from .. import scenes
from ..data.images import load_picture, sheet
from ..model import AliTok
from ..store.find import CHECKPOINTS
from . import boards
from .drawing import Frame, contact_sheet, find_class, one_thread, played
from .models import MAX_CLASS_TILES, Card, check_model, get_model
from .player import Play, Side, player
from .words import draw_code, load_code, picture_code

SHEETS = Path(__file__).parents[1] / "sheets"  # pictures of the bundled models, made earlier
Upload = BinaryIO | str | Path | None  # a picture of one's own
DECODERS = {1: "Causal decoder", 2: "Bidirectional decoder"}
EXAMPLES = ("lighthouse", "sailboat", "house", "fish", "balloon", "butterfly", "face", "mountains")


class View(NamedTuple):
    """What a tab shows."""

    html: str
    status: str  # Markdown
    numbers: dict  # the same for programs
    code: str  # Markdown: the lines of the package that do this


# ---------------------------------------------------------------- pictures


@cache
def _scene(label: int, size: int) -> Tensor:
    with one_thread():  # many tiny operations
        return scenes.render([label], scenes.TEST_SEED + label, size)


def scene_pixels(name: str, size: int) -> Tensor:
    """The example scene of a class, (1, 3, size, size) in [0, 1]. ValueError for another name."""
    if not isinstance(name, str) or name not in scenes.CLASSES:
        raise ValueError(f"no scene {str(name)[:40]!r}; the scenes are {', '.join(scenes.CLASSES)}")
    return _scene(scenes.CLASSES.index(name), size)


class Subject(NamedTuple):
    """A model and the picture that it is asked about."""

    name: str
    model: AliTok
    pixels: Tensor  # (1, 3, S, S)
    scene: str | None  # None: an upload
    label: int | None  # of the scene, if the model knows scenes

    @property
    def code(self) -> tuple[str, str]:
        """Where model and picture come from."""
        return load_code(self.name), picture_code(self.scene, self.pixels.shape[-1])


def subject(model_name: str, scene: str | None, upload: Upload) -> Subject:
    """The model, and the upload, a file or its path, or else the scene.

    Raises ValueError for an unknown model or scene, for no picture at all, and for a file that is no PNG, JPEG or
    WEBP picture (images.load_picture).
    """
    card = check_model(model_name)
    if isinstance(upload, io.IOBase) or (isinstance(upload, str | Path) and str(upload)):
        scene, label, pixels = None, None, load_picture(upload, card.image_size)
    elif upload not in (None, "") or scene in (None, ""):
        raise ValueError("choose a picture first: upload one or click an example")
    else:
        pixels = scene_pixels(scene, card.image_size)
        label = scenes.CLASSES.index(scene) if card.knows_scenes else None
    return Subject(model_name, get_model(model_name), pixels, scene, label)


def made_earlier(card: Card, kind: str) -> Path | None:
    """A sheet of "samples" or "reconstructions" of a model: KIND.png in its folder or, of a bundled one, among the
    package's sheets; None where there is none."""
    folder = Path(card.source)
    sheets = [folder / f"{kind}.png"]
    if folder.parent == CHECKPOINTS:
        sheets.append(SHEETS / f"{folder.name}-{kind}.png")
    return next((path for path in sheets if path.is_file()), None)


def class_strip(card: Card) -> bytes:
    """A WEBP with a square for each class of a model, side by side: scenes, or what the model's sheet of samples
    holds in its first row, if that has a column for each class. Empty where there is nothing to show."""
    if card.knows_scenes:
        squares = [AliTok.to_pil(scene_pixels(name, 96))[0] for name in card.classes]
    else:
        path, side = made_earlier(card, "samples"), card.image_size + 8
        if path is None or len(card.classes) > 100:
            return b""
        with Image.open(path) as paper:
            if paper.width != side * len(card.classes) + 8:
                return b""
            corners = [8 + side * column for column in range(len(card.classes))]
            squares = [paper.convert("RGB").crop((x, 8, x + side - 8, side)) for x in corners]
    return _webp(squares)


@cache
def scene_strip() -> bytes:
    """As `class_strip`, of the examples."""
    return _webp([AliTok.to_pil(scene_pixels(name, 96))[0] for name in EXAMPLES])


def _webp(squares: list[Image.Image]) -> bytes:
    buffer = io.BytesIO()
    sheet(squares, len(squares), 0).save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def class_choice(card: Card) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Properties of what a class is chosen with: tiles to click, or a list to search, and the style of the tiles."""
    many, first = len(card.classes) > MAX_CLASS_TILES, next(iter(card.classes), None)
    named = [(name.replace("_", " "), name) for name in card.classes]
    tiles = {"choices": [] if many else named, "value": first, "visible": "hidden" if many else True}
    found = {"choices": named if many else [], "value": first if many else None, "visible": many}
    # A word that would break in two; i, l and t are narrow.
    long = any(len(w) - sum(map(w.count, "ilt")) / 2 > 9 for name in card.classes for w in name.split("_"))
    least = {"least": "max(70px, 15%)"} if long else {}
    style = boards.thumbnail_style("#kinds", tuple(card.classes), b"" if many else class_strip(card), **least)
    return tiles, found, {"value": style, "visible": "hidden"}


def first_drawing(card: Card) -> tuple[Image.Image, str]:
    """What the page shows before anything was drawn, and a sentence about it: no model is needed."""
    path = made_earlier(card, "samples")
    if path is not None:
        with Image.open(path) as paper:
            return _part(paper.convert("RGB"), card.image_size, 4, 3), "Drawn earlier by this model. Press **Draw**."
    squares = [AliTok.to_pil(scene_pixels(name, 64))[0] for name in scenes.CLASSES[:12]]
    return sheet(squares, 4, 8), "Examples of painted scenes, not drawn by this model. Press **Draw**."


def first_reconstruction(card: Card) -> View:
    """What the page shows before anything was reconstructed."""
    path = made_earlier(card, "reconstructions")
    if path is None:
        return View("", "Choose a scene, or upload a picture.", {}, "")
    rows = ["causal decoder", "bidirectional decoder"]
    if card.knows_scenes:  # the originals of others may not be shown
        rows = ["originals", *rows]
    with Image.open(path) as paper:
        part = _part(paper.convert("RGB"), card.image_size, 6, len(rows))
    alt = f"Pictures that the model made of tokens, in rows: {', '.join(rows)}"
    shown = boards.figure(boards.image(part, alt), "Made earlier:", ", ".join(rows))
    return View(boards.page(boards.row([shown], 280, 620)), "Choose a scene, or upload a picture.", {}, "")


def waiting(card: Card, scene: str, words: str) -> View:
    """What a tab shows before its first answer: the scene, and the patches to click."""
    config = card.config
    picture = AliTok.to_pil(scene_pixels(scene, card.image_size))[0]
    cells = [boards.Cell(str(i)) for i in range(config.prefix_tokens)] + [boards.Cell()] * config.grid**2
    alt = f"The {scene} in {config.grid} x {config.grid} patches"
    grid = boards.board(cells, config.grid, alt, boards.Look(picture))
    picker = f'<div class="al-pick" data-grid="{config.grid}" data-tokens="{config.tokens}">{grid}</div>'
    return View(boards.page(boards.row([boards.figure(picker, "The picture", scene)], 200, 360)), words, {}, "")


def _part(paper: Image.Image, side: int, columns: int, rows: int) -> Image.Image:
    """The upper left pictures of a contact sheet, enlarged."""
    box = (0, 0, min(paper.width, 8 + columns * (side + 8)), min(paper.height, 8 + rows * (side + 8)))
    factor = max(1, 600 // box[2])
    return paper.crop(box).resize((box[2] * factor, box[3] * factor), Image.Resampling.LANCZOS)


# ---------------------------------------------------------------- Draw


def entropy_board(card: Card, frame: Frame | None = None) -> str:
    """The entropy of each prediction so far, where its token stands; the mean of several pictures."""
    config, top = card.config, math.log(card.config.codebook_size)
    values = np.full(config.tokens, np.nan)
    if frame is not None:
        values[: frame.token] = frame.entropy.mean(0)
    alt = "Nothing is drawn yet" if frame is None else f"Entropy of the first {frame.token} predictions in nats"
    size = 0.3 if config.grid < 10 else 0.36
    grid = boards.board(boards.heat(values, top, "{:.1f}"), config.grid, alt, boards.Look(size=size))
    legend = boards.scale(top, "nats (all codes equally likely)")
    words = "prefix above, then a cell for each patch" if config.prefix_tokens else "a cell for each patch"
    return boards.figure(grid + legend, "Entropy of each prediction", words)


def _beside(left: str, right: str) -> str:
    return boards.page(boards.tag("div", left, right, class_="al-sides"))


def first_board(card: Card) -> str:
    """What the tab shows before anything was drawn."""
    picture, _ = first_drawing(card)
    shown = boards.figure(boards.image(picture, "Examples made earlier"), "Made earlier")
    return _beside(shown, entropy_board(card))


def under_way(card: Card, frame: Frame) -> str:
    """A drawing of a model that needs more than a moment."""
    shown = boards.image(contact_sheet(frame.pictures), frame.status)
    return _beside(boards.figure(shown, frame.status), entropy_board(card, frame))


DRAWING_SECONDS = 3.0  # that playing a drawing takes


def drawn(model_name: str, class_name: str, frame: Frame) -> str:
    """A finished drawing, for the page to play."""
    card = check_model(model_name)
    name = card.classes[find_class(card, class_name)].replace("_", " ")
    steps, frames = played(get_model(model_name), frame.ids)
    mean = frame.entropy.mean()
    said = f"Finished: {name}, {frame.tokens} tokens, mean entropy {mean:.1f} nats."
    play = Play(steps, round(1000 * DRAWING_SECONDS / len(steps)), False, said)
    side = Side(name.capitalize(), f"model {model_name}, seed {frame.seed}", frames)
    return boards.page(player([side], play, entropy_board(card, frame)))


def draw_script(model_name: str, class_name: str, frame: Frame, guidance: float | None, temperature: float) -> str:
    """The lines of the package that drew a frame."""
    card = check_model(model_name)
    settings = {"guidance": card.guidance if guidance is None else guidance, "temperature": temperature}
    label = find_class(card, class_name)
    return draw_code(model_name, label, card.classes[label], frame.seed, settings, len(frame.pictures))
