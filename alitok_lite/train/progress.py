"""What a training says: how long it will take, what it measured, and which command comes next."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .curve import curve_path
from .settings import TrainSettings

FIRST = 5.0  # seconds until a training says how long it will take

_FORMS = {
    "psnr": "PSNR {:.2f} dB",
    "codebook usage": "codebook usage {:.1%}",
    "test nats": "{:.3f} nats per token on unseen pictures",
    "train nats": "{:.3f} nats on training pictures",
    "top1": "top-1 {:.1%}",
    "loss": "loss {:.4g}",
    "kept step": "kept: the weights of step {:,.0f}",
}


def sentence(numbers: Mapping[str, float]) -> str:
    """Diagnostics in words, for example "PSNR 18.20 dB, codebook usage 93.1 %"."""
    known = [form.format(numbers[key]) for key, form in _FORMS.items() if key in numbers]
    return ", ".join(known).replace("%", " %")


def duration(seconds: float) -> str:
    """A time in words, rounded as an estimate deserves: "50 s", "25 min", "3.5 h", "2.1 days"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"


class Estimate:
    """How long a training will take, from the steps and saves that it has done.

    The first step does not count while there are others: it reads pictures, and on a GPU it compiles.
    """

    def __init__(self, start: int, settings: TrainSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.start, self.steps, self.every, self.clock = start, settings.steps, settings.save_every, clock
        self.began = self.first = clock()
        self.done = start
        self.saving: list[float] = []  # seconds of each save
        self.told = False

    def stepped(self, done: int) -> None:
        """`done` steps are done."""
        self.done = done
        if done == self.start + 1:
            self.first = self.clock()

    def saved(self, seconds: float) -> None:
        """A save took so long; what it prints says how much time is left."""
        self.saving.append(seconds)
        self.told = True

    @property
    def per_step(self) -> float:
        """Seconds."""
        count = self.done - self.start
        if count < 2:
            return self.first - self.began
        return (self.clock() - self.first - sum(self.saving)) / (count - 1)

    @property
    def saves_left(self) -> int:
        """Saves that are planned from now on."""
        planned = {self.steps, *range(self.every, self.steps, self.every)}
        return sum(step > self.done for step in planned)

    @property
    def left(self) -> float:
        """Seconds, saves included once one has been seen."""
        one = sum(self.saving) / len(self.saving) if self.saving else 0.0
        return self.per_step * (self.steps - self.done) + one * self.saves_left

    def first_words(self) -> str:
        """Once, after FIRST seconds: how long the training will take; empty before and afterwards."""
        if self.told or self.done == self.steps or self.clock() - self.began < FIRST:
            return ""
        self.told = True
        count, saves = self.steps - self.start, self.saves_left
        which = f"the other {count:,} steps" if self.start else f"{count:,} steps"
        also = f", and in addition the time of {saves:,} save{'s' if saves > 1 else ''}"
        whole = self.left + self.clock() - self.began
        return f"{which} will take about {duration(whole)} ({self.per_step:.2g} s a step){also}"


def thread_hint(threads: int) -> str:
    """Advice for a training on a CPU that others use too; empty where there is nothing to say.

    PyTorch's threads wait for each other many times a step. Alone on a machine they are faster than one thread, but
    with load 6 on two CPUs one thread was two to ten times as fast as two (presets tiny and scenes, batch 64).
    """
    cpus = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if threads < 2 or load <= cpus or "OMP_NUM_THREADS" in os.environ:
        return ""
    return (
        f"other programs keep this machine busy (load {load:.1f} on {cpus} CPUs): with OMP_NUM_THREADS=1 in front of"
        " the command, training is often several times faster"
    )


def next_steps(
    kind: str, folder: Path, options: list[str], also: Mapping[str, list[str]], held: list[str], two_stages: bool
) -> list[str]:
    """Lines that say where to look after a part, and the next command, with the same options.

    `also` are further options for a part, `held` the parts that the RUN holds. A tokenizer of two stages may get a
    second decoder, or one that is trained further.
    """
    there = [str(path) for path in (folder / "sheets", curve_path(folder, kind), folder / "log.csv") if path.exists()]
    lines = [f"look at {', '.join(there[:-1])} and {there[-1]}"] if len(there) > 1 else []  # few rows have no curve
    if "ar" in held:
        command = ["sample", "--model", str(folder)]
    else:
        # Few pictures are soon overfitted.
        command = ["train", "ar", *options, *also["ar"], *(["--keep-best"] if "--data" in options else [])]
    lines.append(f"next: {_shell(command)}")
    if kind == "tokenizer" and two_stages and "decoder" not in held:
        command = ["train", "decoder", *options, *also["decoder"]]
        lines.append(f"or, for better pictures of the same tokens, first: {_shell(command)}")
    return lines


def _shell(command: list[str]) -> str:
    return f"python -m alitok_lite {shlex.join(command)}"
