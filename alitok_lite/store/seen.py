"""What a model has seen, and which terms that puts on it: kept as `info["seen"]` in its config.json."""

from pathlib import Path
from typing import NamedTuple

from .find import checkpoint_folder
from .folder import read_config


class Seen(NamedTuple):
    """Training pictures and their terms."""

    data: str
    license: str  # as the Hub names it: mit, other, unknown ...
    terms: str  # one line for people


UNKNOWN = Seen("pictures that are not recorded", "unknown", "those of the pictures it was trained on")


def seen_in(info: dict | None) -> list[Seen]:
    """The entries of a model's `info`; one that says that nothing is recorded, where there are none."""
    entries = (info or {}).get("seen") or []
    return [Seen(*(str(entry.get(key, "")) for key in Seen._fields)) for entry in entries] or [UNKNOWN]


def seen_by(name: str | Path) -> list[Seen]:
    """As `seen_in`, of a checkpoint by its name or folder. CheckpointError if there is none."""
    return seen_in(read_config(checkpoint_folder(name)).get("info"))
