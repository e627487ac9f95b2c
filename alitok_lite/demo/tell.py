"""The first tab: one picture, told token by token by the conventional and by the causal tokenizer.

What the page shows before anybody presses anything is stored in sheets/told.*; `python -m alitok_lite.demo.tell` makes
it anew.
"""

import json
import math
import secrets
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from .. import scenes
from ..data.images import sheet
from ..files import write_atomically
from ..measure.metrics import predictability
from ..measure.repaint import VISIBLE, changes, told
from ..model import AliTok
from . import boards, words
from .drawing import MAX_SEED, one_thread
from .examples import SHEETS, View
from .models import get_model, models, number, running
from .player import Counter, Play, Side, player

STORED = ("face", scenes.TEST_SEED + 3)
SHIPPED = ("scenes-baseline", "scenes-noprefix")  # with which the stored drawing was made
TITLES = (
    ("Conventional tokenizer", "its decoder reads all tokens"),
    ("Causal tokenizer", "its decoder reads earlier tokens"),
)
WAIT = 420  # milliseconds for a token


class Telling(NamedTuple):
    """A picture as one tokenizer tells it."""

    frames: list[Image.Image]  # after 0, 1, ... T tokens
    moved: list[list[int]]  # the patches of each frame that changed after their own token
    bits: list[float]  # of the tokens so far, under the AR model; nothing without one
    grid: int


def pair() -> tuple[str, str] | None:
    """The conventional and the causal tokenizer on offer that know the scenes and have one token for each patch."""
    plain = {name: card.config for name, card in models().items() if card.knows_scenes and not card.config.prefix}
    conventional = next((name for name, config in plain.items() if not config.aligned), None)
    causal = next((name for name, config in plain.items() if config.aligned and 1 in models()[name].stages), None)
    return (conventional, causal) if conventional and causal else None


def tell(scene: str, seed: int | None = None, sampled: bool = False) -> View:
    """A painted scene with this seed, or a picture of its class that each AR model samples with it, as both tell it."""
    if not isinstance(scene, str) or scene not in scenes.CLASSES:
        raise ValueError(f"no scene {str(scene)[:40]!r}; the scenes are {', '.join(scenes.CLASSES)}")
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else number("seed", seed, 0, MAX_SEED, whole=True)
    if not isinstance(sampled, bool):
        raise ValueError(f"sampled is {repr(sampled)[:40]}; it must be true or false")
    names = pair()
    if names is None:
        raise ValueError("this needs a conventional and a causal tokenizer of the scenes, and not both are here")
    label = scenes.CLASSES.index(scene)
    found = [get_model(name) for name in names]
    if sampled and any(model.ar is None for model in found):
        raise ValueError("sampling needs an AR model, and not both tokenizers have one here")
    with running(), one_thread():
        pixels = None if sampled else scenes.render([label], seed, found[0].tokenizer.config.image_size)
        tellings = [_telling(model, label, seed, pixels) for model in found]
    picture = None if pixels is None else AliTok.to_pil(pixels)[0]
    return view(tellings, scene, seed, picture)


@torch.inference_mode()
def _telling(model: AliTok, label: int, seed: int, pixels: Tensor | None) -> Telling:
    """How one model tells the picture (1, 3, S, S), or one that it samples itself."""
    tokenizer, labels = model.tokenizer, torch.tensor([label], device=model.device)
    if pixels is None:
        *_, step = model.stream([label], seed)
        ids = step.ids
    else:
        ids = tokenizer.encode(pixels.to(model.device))
    frames = told(tokenizer, ids)
    moved = changes(frames, tokenizer.config.patch_size)[0] > VISIBLE  # (T + 1, G*G)
    bits = []
    if model.ar is not None:
        nats = predictability(model.ar, ids, labels).nats[0].tolist()
        bits = [0.0, *(total / math.log(2) for total in accumulate(nats))]
    marked = [row.nonzero().flatten().tolist() for row in moved.cpu()]
    return Telling(model.to_pil(frames[0]), marked, bits, tokenizer.config.grid)


def view(tellings: list[Telling], scene: str, seed: int, picture: Image.Image | None) -> View:
    """Both tellings, played side by side, and what came of it."""
    steps, sides = range(len(tellings[0].frames)), []
    for telling, (title, note) in zip(tellings, TITLES, strict=True):
        patches = telling.grid**2
        counters = [Counter(f"of {patches} patches repainted", [len(row) for row in telling.moved], alarm=True)]
        counters += [Counter("bits", telling.bits)] if telling.bits else []
        untold = [list(range(step, patches)) for step in steps]
        sides.append(Side(title, note, telling.frames, counters, telling.moved, telling.grid, untold))
    counts = [len(telling.moved[-1]) for telling in tellings]
    patches = tellings[0].grid ** 2
    told = f"Later tokens repainted {counts[0]} of {patches} patches; with the causal tokenizer, {counts[1]}."
    play = Play(list(steps), WAIT, True, told)
    original = [] if picture is None else [boards.figure(boards.image(picture, f"The scene: {scene}"), "The scene")]
    beside = boards.tag("div", *original, class_="al-original") if original else ""
    bits = [round(telling.bits[-1], 1) for telling in tellings if telling.bits]
    status = f"**{told}** {scene.capitalize()}, seed {seed}."
    numbers = {"repainted": counts, "patches": patches, "bits": bits, "seed": seed}
    return View(boards.page(player(sides, play, beside)), status, numbers, _code(scene, seed, picture is None))


def _code(scene: str, seed: int, sampled: bool) -> str:
    names, label = pair() or SHIPPED, scenes.CLASSES.index(scene)
    if sampled:
        ids = f"    *_, (_, ids, _) = model.stream([{label}], {seed})  # a sampled {scene}"
    else:
        ids = f"    ids = model.tokenizer.encode(scenes.render([{label}], {seed}, 64))  # {scene}"
    return words.code(
        f"for name in {list(names)}:",
        "    model = AliTok.from_pretrained(name)",
        ids,
        "    frames = repaint.told(model.tokenizer, ids)",
        "    print(name, repaint.repainted(frames, model.tokenizer.config.patch_size).sum().item())",
    )


# ---------------------------------------------------------------- stored


def stored() -> View:
    """What the page shows first; no model is needed."""
    told = json.loads((SHEETS / "told.json").read_text("utf-8"))
    with Image.open(SHEETS / "told.webp") as file:
        paper = file.convert("RGB")
    side, count = paper.height // 2, len(told["moved"][0])
    squares = [
        [paper.crop((side * column, side * row, side * (column + 1), side * (row + 1))) for column in range(count + 1)]
        for row in (0, 1)
    ]
    tellings = [Telling(squares[row][1:], told["moved"][row], told["bits"][row], told["grid"]) for row in (0, 1)]
    return view(tellings, told["scene"], told["seed"], squares[0][0])


def store(folder: Path = SHEETS) -> None:
    """Write told.webp, a row for each tokenizer with the scene in front, and told.json beside it."""
    scene, seed = STORED
    label = scenes.CLASSES.index(scene)
    pixels = scenes.render([label], seed, 64)
    tellings = [_telling(AliTok.from_pretrained(name, "cpu"), label, seed, pixels) for name in SHIPPED]
    original = AliTok.to_pil(pixels)[0]
    squares = [picture for telling in tellings for picture in (original, *telling.frames)]
    sheet(squares, len(squares) // 2, 0).save(folder / "told.webp", "WEBP", lossless=True, method=6)
    told = {"scene": scene, "seed": seed, "grid": tellings[0].grid, "moved": [t.moved for t in tellings]}
    told["bits"] = [[round(value, 2) for value in telling.bits] for telling in tellings]
    write_atomically(folder / "told.json", (json.dumps(told) + "\n").encode())


if __name__ == "__main__":
    store()
