"""RUN/log.csv: what a training measured, step by step; a tracker such as TensorBoard gets the same numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..files import write_atomically
from ..machine import say

NAME = "log.csv"
FIXED = ("part", "step", "seconds", "learning rate")  # the first columns; loss terms and diagnostics follow
TRACKERS = ("tensorboard", "wandb")


class Log:
    """The log of a RUN, with a row for each step that was measured, of all its parts.

    It is written at saves only. A resumed training therefore continues it without gap or overlap, and a training that
    is stopped before its first save leaves the RUN as it was. A file that is no log is kept under another name.

    rows: column -> text, in the order of the file.
    """

    def __init__(self, folder: Path, track: Callable[..., object] | None = None) -> None:
        self.path, self.track = folder / NAME, track
        self.problem = ""
        self.rows: list[dict[str, str]] = []
        self.unsent: list[tuple[int, dict[str, float]]] = []  # what the tracker has not been given yet
        try:
            self.rows = read_log(folder)
        except ValueError as error:
            self.problem = str(error)

    def cut(self, part: str, steps: int = -1) -> None:
        """Remove the rows of a part above a number of steps; all of them by default."""
        self.rows = [row for row in self.rows if row["part"] != part or int(row["step"]) <= steps]

    def add(self, part: str, step: int, seconds: float, rate: float, numbers: Mapping[str, float]) -> None:
        """Add a row: `step` steps are done, and the last one had this learning rate."""
        fixed = (part, str(step), f"{seconds:.1f}", f"{rate:.4g}")
        self.rows.append(dict(zip(FIXED, fixed, strict=True)) | {key: f"{value:.6g}" for key, value in numbers.items()})
        self.unsent.append((step, {"learning rate": rate} | dict(numbers)))

    def write(self) -> None:
        """Replace the file, and send new rows to the tracker."""
        if self.problem:
            kept = _free(self.path)
            say(f"{self.path} is not a training's log ({self.problem}): it is now {kept.name}, and a new one begins")
            self.path.rename(kept)
            self.problem = ""
        columns = list(dict.fromkeys([*FIXED, *(key for row in self.rows for key in row)]))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue().encode())
        for step, numbers in self.unsent if self.track else ():
            self.track(numbers, step=step)  # type: ignore[misc]
        self.unsent = []


def read_log(folder: Path) -> list[dict[str, str]]:
    """The rows of a RUN's log without empty cells; none where there is no file. ValueError for another file."""
    path = folder / NAME
    if not path.exists():
        return []
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True)
        rows = [{key: text for key, text in row.items() if text} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if tuple(reader.fieldnames or ())[: len(FIXED)] != FIXED:
        raise ValueError(f"its columns do not begin with {', '.join(FIXED)}")
    if None in {key for row in rows for key in row} or not all(row.get("step", "").isdigit() for row in rows):
        raise ValueError("a row does not fit its columns")
    if not all("part" in row for row in rows):
        raise ValueError("a row does not name its part")
    return rows


def series(rows: Sequence[Mapping[str, str]], part: str) -> dict[str, tuple[list[int], list[float]]]:
    """Column -> steps and values of a part, without the columns that every row has."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows:
        for key in row.keys() - set(FIXED) if row["part"] == part else ():
            steps, values = found.setdefault(key, ([], []))
            steps.append(int(row["step"]))
            values.append(float(row[key]))
    return found


def check_tracker(name: str | None) -> None:
    """Raise ValueError, in one sentence, for an unknown tracker and for one whose package is missing."""
    if name is None:
        return
    if name not in TRACKERS:
        raise ValueError(f"log is {name!r}; it must be one of {', '.join(TRACKERS)}")
    from accelerate.utils import is_tensorboard_available, is_wandb_available

    if not {"tensorboard": is_tensorboard_available, "wandb": is_wandb_available}[name]():
        raise ValueError(f"logging to {name} needs the package {name}: pip install {name}")


def _free(path: Path) -> Path:
    """A name beside the path that nobody has."""
    number = 1
    while (free := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    return free
