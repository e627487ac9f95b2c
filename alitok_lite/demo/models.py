"""The models on offer: found, described, loaded once.

Every function that a visitor reaches checks its arguments itself and raises ValueError with one sentence.
Importing this file loads no model and touches neither a GPU nor the network.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from .. import scenes
from ..core.config import ARConfig, TokenizerConfig
from ..machine import borrowed_gpu
from ..model import AliTok
from ..store.find import bundled, checkpoint_folder
from ..store.folder import CheckpointError, part_path, read_config

TURN_SECONDS = 30.0  # seconds that a step waits for its turn; only work that hangs keeps it waiting so long
MAX_CLASS_TILES = 40  # a model with more classes has a list to search instead
SMALL_BYTES = 200_000_000  # of weights; the bundled models have 30 million

_loading = Lock()
_running = Lock()  # one step of one model at a time, however many threads the server has


class Card(NamedTuple):
    """What the page says about a checkpoint before its weights are read."""

    source: str  # folder
    classes: list[str]
    config: TokenizerConfig
    ar: ARConfig | None
    stages: tuple[int, ...]  # of its decoders: 1 causal, 2 bidirectional
    guidance: float
    metrics: dict  # as measured when it was made, if it was

    @property
    def image_size(self) -> int:
        """In pixels."""
        return self.config.image_size

    @property
    def knows_scenes(self) -> bool:
        """Whether it can name the painted scenes."""
        return self.classes == list(scenes.CLASSES)


LEFT_OUT: list[str] = []  # a sentence for each entry of ALITOK_MODELS that is not, or not wholly, among `models`


def _entries() -> list[str]:
    """What ALITOK_MODELS holds, as `models` describes it; the word "bundled" if nothing."""
    given = re.split(f"[,{re.escape(os.pathsep)}]", os.environ.get("ALITOK_MODELS", ""))
    return list(filter(None, (part.strip() for part in given))) or ["bundled"]


def _sources(entry: str) -> list[str]:
    """Folders, bundled names and Hub ids that an entry stands for."""
    if entry == "bundled":
        return bundled()
    inside = sorted(Path(entry).glob("*/config.json")) if not (Path(entry) / "config.json").is_file() else []
    return [str(path.parent) for path in inside] or [entry]


@cache
def models() -> dict[str, Card]:
    """The models on offer by name: those of the environment variable ALITOK_MODELS, else the bundled ones, "scenes"
    first. Reads configs only, no weights; what is on the Hub is fetched if it is not in the local cache.

    ALITOK_MODELS holds one or more entries with commas (or os.pathsep, ":" or ";") between them: a checkpoint folder,
    a folder of checkpoint folders, a bundled name, the Hub's owner/name, or the word "bundled" for all that came with
    the package. What cannot be read, or has the name of an earlier one, is left out, and LEFT_OUT says why. Raises
    ValueError, with those sentences, if that leaves none.
    """
    cards, faults = {}, []
    for entry in _entries():
        reasons = []
        try:
            for source in _sources(entry):
                reasons += filter(None, [_add_card(cards, source)])
        except OSError as error:
            reasons.append(f"{error.strerror or error}")
        if reasons:
            commas = "; put commas between entries" if ";" in entry else ""
            faults.append(f"ALITOK_MODELS: {entry!r} is left out: {'; '.join(reasons)}{commas}")
    if faults and not cards:
        raise ValueError("; ".join(faults))
    LEFT_OUT[:] = faults
    return cards


def _add_card(cards: dict[str, Card], source: str) -> str:
    """Add a model to those on offer; if that cannot be, say why."""
    name = Path(source).absolute().name  # a folder in the local cache has another
    if name in cards:
        return f"another model is named {name!r}"
    try:
        folder = checkpoint_folder(source)
        config = read_config(folder)
        if not all(isinstance(kind, str) for kind in config["classes"]):
            raise TypeError("its classes are not names")
        stages = tuple(stage for stage in (1, 2) if f"decoder{stage}" in config["files"])
        ar = config["ar"] if "ar" in config["files"] else None
        metrics = (config.get("info") or {}).get("metrics") or {}
        guidance = float(config["sampling"].guidance)
        cards[name] = Card(str(folder), list(config["classes"]), config["tokenizer"], ar, stages, guidance, metrics)
    except (CheckpointError, OSError) as error:
        return str(error)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return f"cannot read its config.json: {type(error).__name__}: {error}"
    return ""


def drawing_models() -> list[str]:
    """Names of the models that can draw."""
    return [name for name, card in models().items() if card.ar is not None and card.classes]


def check_model(name: str) -> Card:
    """The card of a model; ValueError for a name that is none."""
    if not isinstance(name, str) or name not in models():
        raise ValueError(f"no model {str(name)[:40]!r}; the models are {', '.join(models()) or 'none'}")
    return models()[name]


@cache
def is_small(name: str) -> bool:
    """Whether a model is quick enough on a CPU, so that no GPU needs to be borrowed for it."""
    folder = Path(models()[name].source)
    try:
        config = read_config(folder)
        return sum(part_path(folder, config, part).stat().st_size for part in config["files"]) < SMALL_BYTES
    except (OSError, CheckpointError):  # it does not load either, and says so then
        return True


@cache
def _load(name: str) -> AliTok:
    return AliTok.from_pretrained(models()[name].source, "cpu" if borrowed_gpu() and is_small(name) else "auto")


def get_model(name: str) -> AliTok:
    """The model of that name, loaded once. ValueError for another name or a checkpoint that does not load."""
    check_model(name)
    try:
        with held(_loading):
            return _load(name)
    except CheckpointError as error:  # its sentence names folders, which are the operator's business
        logging.getLogger(__name__).error("%s", error)
        raise ValueError(f"the model {name!r} could not be loaded; the server's log says why") from None


@contextmanager
def held(lock: Lock) -> Iterator[None]:
    """Holds the lock; ValueError if it is not free within TURN_SECONDS."""
    if not lock.acquire(timeout=TURN_SECONDS):
        raise ValueError("the model has been busy for too long; try again later")
    try:
        yield
    finally:
        lock.release()


def running() -> AbstractContextManager[None]:
    """The right to run a model, for one step of it; ValueError as `held`."""
    return held(_running)


def number(name: str, value: object, low: float, high: float, whole: bool = False) -> float | int:
    """The value as float, or int if it must be whole; ValueError unless it is a finite number in low..high."""
    right = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not right or (whole and value != int(value)):
        kind = "whole number" if whole else "number"
        raise ValueError(f"{name} is {repr(value)[:40]}; it must be a {kind} from {low:g} to {high:.10g}")
    return int(value) if whole else float(value)
