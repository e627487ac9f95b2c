"""Ctrl-C (SIGINT) and SIGTERM: a training finishes the step under way and saves it.

Several processes stop at the same step, whichever of them got the signal, so that none waits for another.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator

EVERY = 10  # steps after which several processes ask each other
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


@contextmanager
def on_signals(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Call a handler at SIGINT and SIGTERM, as long as nobody else handles or ignores them.

    Outside the main thread, where Python allows no handlers, nothing changes.
    """
    changed = []
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in _DEFAULTS:
                changed.append((number, signal.signal(number, handler)))
    try:
        yield
    finally:
        for number, old in changed:
            signal.signal(number, old)


class Stopped(KeyboardInterrupt):
    """A training that was stopped: with the number of `steps` that are `saved` (0: none); its text is the message."""

    def __init__(self, folder: object, saved: int, steps: int) -> None:
        self.saved, self.steps = saved, steps
        done = f"stopped at step {saved} of {steps}, which is saved in {folder}"
        super().__init__(done if saved else f"stopped before anything was saved; {folder} is as it was")


class Stop:
    """Whether somebody asked a training to stop.

    A second signal, a second later, raises KeyboardInterrupt at once; among several processes it changes nothing.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator, self.alone = accelerator, accelerator.num_processes == 1
        self.asked, self.since = False, 0.0

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        if self.asked and self.alone and time.monotonic() - self.since > 1:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self.since = True, time.monotonic()

    def agreed(self, step: int) -> bool:
        """Whether to stop after this step: the same answer in all processes."""
        if self.alone:
            return self.asked
        if (step + 1) % EVERY:
            return False
        import torch  # not above: see the end of this file

        asked = torch.tensor(float(self.asked), device=self.accelerator.device)
        return self.accelerator.reduce(asked, "sum").item() > 0


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"alitok_lite: stopped\n")
    os._exit(130)


def imported() -> None:
    """All imports are done: Ctrl-C is an exception again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# `alitok` and `python -m alitok_lite` import torch for seconds, in which Ctrl-C would be answered by a long traceback.
_PROGRAM = Path(*sys.argv[:1]).name in ("alitok", "alitok.exe") or (
    sys.argv[:1] == ["-m"] and "alitok_lite" in sys.orig_argv
)
if _PROGRAM and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)
