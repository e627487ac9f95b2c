"""Options that several commands have: checked, and read as numbers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from ..files import write_atomically


def given_settings(args: argparse.Namespace) -> dict[str, float | int]:
    """The settings of sampling that were given."""
    given = {key: getattr(args, key) for key in ("guidance", "power", "temperature", "top_k", "top_p")}
    return {key: value for key, value in given.items() if value is not None}


def check_seed(seed: int, pictures: int = 1, option: str = "--seed") -> None:
    """Raise a ValueError unless each of the pictures, which have seed + i, has a seed that torch takes."""
    most = 2**32 - pictures
    if not 0 <= seed <= most:
        raise ValueError(f"{option} is {seed}; it must be a whole number from 0 to {most}")


def check_data(data: str | None) -> None:
    """Raise a ValueError for an empty name, which would be the folder that one happens to be in."""
    if data is not None and not data.strip():
        raise ValueError(f"--data is {data!r}; it must be the name of a folder of pictures")


def whole(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{option} has {text!r}; it takes whole numbers")
    return int(text)


def sizes(entries: Sequence[str]) -> dict[str, int]:
    """SIZE=NUMBER entries of --set."""
    found: dict[str, int] = {}
    for name, _, value in (entry.partition("=") for entry in entries):
        if name in found:
            raise ValueError(f"--set has {name} twice")
        found[name] = whole("--set", value)
    return found


def store(results: dict, path: str | None) -> None:
    """Write results as JSON where a file was given; called before they are printed, so that they are safe then."""
    if path is not None:
        write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())
