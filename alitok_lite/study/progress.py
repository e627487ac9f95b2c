"""Which part of a study is trained, how many are left, and about how long they will take."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..machine import say
from ..train.progress import duration
from ..train.state import NAMES

Part = tuple[str, int, str]  # row, seed, and what is trained


class Progress:
    """Says before each part of a study which it is, and about how long all that are left will take.

    left:    the parts that are still to come, in order.
    seconds: what a part of a kind should take, as far as it is known.
    """

    def __init__(self, left: Sequence[Part]) -> None:
        self.left, self.total = list(left), len(left)
        self.seconds: dict[str, float] = {}
        self.began = time.monotonic()
        self.behind = 0.0  # what the parts done should have taken
        self.beyond = ", and in addition the time to paint, save and measure"  # what `seconds` do not hold

    def begins(self, name: str, seed: int, kind: str) -> None:
        """Say that a part begins."""
        if (name, seed, kind) not in self.left:
            return
        spent, count = time.monotonic() - self.began, self.total - len(self.left)
        # What was done took longer than its steps: painting, saving and measuring come on top of them.
        slower = spent / self.behind if self.behind else 1.0
        ahead = [self.seconds.get(part) for *_, part in self.left]
        words = f"row {name}, seed {seed}, {NAMES.get(kind, kind)}: {count + 1} of {self.total} parts"
        if count and not self.seconds:  # on a GPU: as long as those before, on average
            words += f", about {duration(spent / count * len(self.left))} left"
        elif known := [seconds for seconds in ahead if seconds is not None]:
            words += f", about {duration(slower * sum(known))} left{'' if count else self.beyond}"
        say(words)

    def ends(self, name: str, seed: int, kind: str) -> None:
        """A part is done."""
        if (name, seed, kind) in self.left:
            self.left.remove((name, seed, kind))
            self.behind += self.seconds.get(kind, 0.0)
