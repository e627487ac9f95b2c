"""Which exercises of the course are solved: kept in a file, so that it is known in the next notebook."""

import json
import os
from pathlib import Path

from ..files import write_atomically

_solved: set[str] = set()  # in this notebook, also where no file can be written
PLACE = "ALITOK_PROGRESS"  # environment variable: the file, or nothing for none


def place() -> Path | None:
    """The file: that of the environment variable ALITOK_PROGRESS, else one in the home folder; None if it is empty."""
    named = os.environ.get(PLACE)
    if named is None:
        return Path.home() / ".alitok_lite" / "progress.json"
    return Path(named) if named else None


def solved() -> set[str]:
    """Numbers of the exercises that were solved here or, as the file says, elsewhere; OSError or ValueError if it
    cannot be read."""
    path = place()
    if path is None or not path.exists():
        return set(_solved)
    found = json.loads(path.read_text("utf-8"))
    if not isinstance(found, list) or not all(isinstance(number, str) for number in found):
        raise ValueError("it is no list of exercises")
    return _solved | set(found)


def note_solved(number: str) -> None:
    """Remember an exercise; where the file cannot be read or written, in this notebook only, as `progress` says."""
    if number in _solved:
        return
    _solved.add(number)
    path = place()
    if path is None:
        return
    try:
        numbers = sorted(solved())
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(numbers).encode())
    except (OSError, ValueError):
        return


def progress() -> None:
    """Print which exercises of the course are solved and which are open, with their minutes, and where that is kept."""
    from .exercises import EXERCISES  # which needs this file, as predictions does
    from .predictions import made

    path, note = place(), "Kept in this notebook only."
    try:
        done = solved()
        if path is not None:
            shown = f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)
            note = f"Kept in {shown}." if path.exists() else f"Will be kept in {shown}."
    except (OSError, ValueError) as error:
        done, note = (
            set(_solved),
            f"{path} cannot be read ({error}): this counts what was solved in this notebook only.",
        )
    for notebook in sorted({number.split(".")[0] for number in EXERCISES}, key=int):
        all_ = [one for one in EXERCISES.values() if one.number.split(".")[0] == notebook]
        right = [one.number for one in all_ if one.number in done]
        left = [f"{one.number} {one.level} {one.minutes} min" for one in all_ if one.number not in done]
        line = f"{notebook.zfill(2)}  {len(right)} of {len(all_)} solved"
        print(line + (f"; open: {', '.join(left)}" if left else ""))
    count = sum(number in done for number in EXERCISES)
    predicted, asked = made()
    if asked:
        print(f"Predictions made in this notebook: {predicted} of {asked}.")
    print(f"In all {count} of {len(EXERCISES)} exercises. {note}")


def solved_here(number: str) -> bool:
    """Whether that exercise was solved in this notebook, since its kernel began."""
    return str(number) in _solved
