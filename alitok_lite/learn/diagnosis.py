"""What `check` needs to name a mistake: the learner's function, watched, and what an answer gives, compared."""

import linecache
import traceback
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


class Unmet(Exception):
    """A property that an answer lacks; the message says which, and what was found."""


class Stopped(Exception):
    """The learner's own code raised; the message is one line: the error, and the line of code."""

    def __init__(self, error: Exception, function: Callable) -> None:
        text = f"{type(error).__name__}: {error}".split("\n")[0].removesuffix(": ")
        code = getattr(function, "__code__", None)
        frames = [f for f in traceback.extract_tb(error.__traceback__) if code and f.filename == code.co_filename]
        line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip() if frames else ""
        super().__init__(f"{text}, at: {line}" if line else text)


class Watched:
    """A learner's function that remembers what it returned, so that its errors are told from those of the check.

    silent: whether it was called and returned None each time.
    """

    def __init__(self, function: Callable) -> None:
        self.function, self.returned, self.silent = function, None, False
        self._called = False

    def __call__(self, *given: object, **named: object) -> object:
        try:
            self.returned = self.function(*given, **named)
        except Unmet:  # of the check, which the learner's code has called
            raise
        except Exception as error:  # the learner's code may raise anything
            raise Stopped(error, self.function) from error
        self.silent = self.returned is None and (self.silent or not self._called)
        self._called = True
        return self.returned


def outcome(tried: Callable[[Callable], object], answer: object) -> object:
    """What an answer gives; for one that raises, the kind of the error."""
    try:
        with torch.random.fork_rng(devices=[]):
            return tried(answer)
    except Exception as error:
        return type(error)


def alike(one: object, other: object) -> bool:
    """Whether two outcomes are equal up to rounding; numbers, tensors and arrays, and lists, sets or dicts of them."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    listed = [isinstance(x, list | tuple) and not _numbers(x) for x in (one, other)]
    if all(listed):
        a, b = list(one), list(other)
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(one, str | type | None) or isinstance(other, str | type | None):
        return type(one) is type(other) and one == other
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of slow conversions, which are no business of the learner
            a, b = (torch.as_tensor(sorted(x) if isinstance(x, set) else x).detach().double() for x in (one, other))
    except (TypeError, ValueError, RuntimeError):
        return False
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


def _numbers(values: object) -> bool:
    """Whether a list or tuple holds plain numbers only."""
    return all(isinstance(x, int | float | np.generic) or (isinstance(x, Tensor) and x.ndim == 0) for x in values)
