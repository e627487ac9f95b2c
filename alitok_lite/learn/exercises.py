"""Exercises: `check` tests an answer, `hint` helps, `solution` shows one that passes.

Every exercise is one function in the file of its notebook, ch01.py and so on: its name is the name of the answer, its
docstring the task, its body requires properties of the answer, each with a sentence for the learner who misses it. Any
answer with the properties passes. Below it, `known` lists wrong answers that learners give: an answer that gives the
same is told which mistake it is. The solutions are in solutions.py, which a teacher may leave out: `check` and `hint`
work without it.
"""

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .diagnosis import Stopped, Unmet, Watched, alike, outcome
from .solved import note_solved

SOLUTIONS = Path(__file__).with_name("solutions.py")
LEVELS = ("warm-up", "core", "stretch")


@dataclass
class Exercise:
    """One exercise. `stub` is the code that the learner starts from; it runs, and does not pass."""

    number: str
    level: str  # of LEVELS
    minutes: int  # that a learner needs, about
    name: str  # of the answer, in the stub and in the solution
    task: str
    hint: str
    stub: str
    why: str  # what the right answer shows, a sentence
    test: Callable[[object], None]  # raises Unmet
    layer: str = ""  # "core.layers.Attention.forward": what the package has in its place
    tried: Callable[[Callable], object] = lambda answer: answer  # what an answer gives: mistakes are known by it
    mistakes: dict[str, object] = field(default_factory=dict)  # sentence -> a wrong answer


EXERCISES: dict[str, Exercise] = {}


def exercise(number: str, level: str = "core", minutes: int = 7, layer: str = "", **texts: str) -> Callable:
    """Registers the function below it as the test of an exercise; texts are hint, stub and why."""

    def register(test: Callable[[object], None]) -> Callable[[object], None]:
        task, stub = " ".join((test.__doc__ or "").split()), texts["stub"].strip() + "\n"
        found = number, level, minutes, test.__name__, task, texts["hint"], stub, texts.get("why", ""), test, layer
        EXERCISES[number] = Exercise(*found)
        return test

    return register


def known(number: str, tried: Callable[[Callable], object], mistakes: dict[str, object]) -> None:
    """Names wrong answers of an exercise: an answer is one of them if `tried` gives the same for both."""
    EXERCISES[number].tried, EXERCISES[number].mistakes = tried, mistakes


def find(number: str) -> Exercise:
    """The exercise of that number; ValueError, naming those that exist, for another."""
    if str(number) not in EXERCISES:
        raise ValueError(f"there is no exercise {number!r}; there are {', '.join(EXERCISES)}")
    return EXERCISES[str(number)]


def check(number: str, answer: object) -> bool:
    """Whether the answer has every property that the exercise asks for; prints a sentence that says which is missing.

    If the answer is a known mistake, that is named too. An exception in the learner's code is a missing property.
    ValueError for an unknown number.
    """
    wanted = find(number)
    missing = _missing(wanted, answer)
    if missing:
        _print(f"{number}: not yet. {missing}")
        return False
    _print(f"{number}: right! {wanted.why}".strip())
    note_solved(wanted.number)
    return True


def _missing(wanted: Exercise, answer: object) -> str:
    """What the answer lacks, in a sentence or two; empty for a right one."""
    watched = Watched(answer) if callable(answer) else answer
    with torch.random.fork_rng(devices=[]), torch.enable_grad():  # the notebook's own numbers stay as they are
        try:
            wanted.test(watched)
            return ""
        except Unmet as unmet:
            text = str(unmet)
        except Stopped as stopped:
            return f"{wanted.name} stopped with {stopped}"
        except Exception as error:
            if not isinstance(watched, Watched):
                return f"{shortened(answer)} cannot be used ({error}). {wanted.task}".replace("\n", " ")
            text = f"{wanted.name} returned {shortened(watched.returned)}, which is not what was asked. {wanted.task}"
        if isinstance(watched, Watched) and watched.silent and "return" in wanted.stub:
            return f"{wanted.name} returns nothing; is there a return? Printing is not returning."
        return f"{text} {diagnosis(wanted, answer)}".strip()


def diagnosis(wanted: Exercise, answer: object) -> str:
    """The sentence of the known mistake that gives what the answer gives; empty if there is none."""
    mine = outcome(wanted.tried, answer)
    for told, wrong in wanted.mistakes.items():
        if alike(mine, outcome(wanted.tried, wrong)):
            return told
    return ""


def hint(number: str) -> None:
    """Print the hint of an exercise; ValueError for an unknown number."""
    _print(find(number).hint)


def _print(text: str) -> None:
    """In lines that a notebook shows whole; it breaks longer ones anywhere."""
    print(textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False))


def solution(number: str) -> None:
    """Print a solution, or that this copy comes without; ValueError for an unknown number."""
    text = solution_source(number)
    print(text or f"This copy comes without the solution of {number}: ask your teacher, and try hint({number!r}).")


def solution_source(number: str) -> str:
    """The code of a solution, which needs torch alone; empty where there is none."""
    find(number)
    text = SOLUTIONS.read_text() if SOLUTIONS.is_file() else ""
    for section in text.split("\n# --- ")[1:]:
        name, source = section.split("\n", 1)
        if name.strip() == str(number):
            return source.strip() + "\n"
    return ""


def require(condition: object, message: str) -> None:
    if not condition:
        raise Unmet(message)


def require_function(answer: object) -> None:
    require(
        callable(answer),
        f"The answer must be a function, without brackets after its name; this is {shortened(answer)}.",
    )


def shortened(value: object) -> str:
    """A value in one short line."""
    if callable(value):
        return "a function"
    plain = _rounded(value.tolist() if isinstance(value, Tensor | np.ndarray) else value)
    text = (repr(plain) if isinstance(plain, str) else str(plain)).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."


def _rounded(value: object) -> object:
    """A value whose numbers have five digits, also those in lists and tuples."""
    if isinstance(value, list | tuple):
        return [*map(_rounded, value)] if isinstance(value, list) else tuple(map(_rounded, value))
    return float(f"{value:.5g}") if isinstance(value, float) else value


def plain_number(value: object) -> object:
    """A number out of a tensor or array that holds one, else the value itself."""
    single = isinstance(value, Tensor | np.ndarray | np.generic) and np.prod(value.shape) == 1
    return value.item() if single else value


def require_number(found: object, wanted: float, message: str) -> None:
    """found must be that number, up to rounding; a tensor with one number is one too."""
    found = plain_number(found)
    right = isinstance(found, int | float) and abs(found - wanted) <= 1e-4 * max(1, abs(wanted))
    require(right, f"{message}; yours is {shortened(found)}.")


def as_tensor(found: object, name: str) -> Tensor:
    """What a function returned: a tensor, an array, or a list of numbers or of tensors."""
    require(found is not None, f"{name} must return a tensor.")
    if isinstance(found, list | tuple) and found and all(isinstance(part, Tensor) for part in found):
        return torch.stack(list(found))
    return torch.as_tensor(found)


def require_tensor(found: object, wanted: Tensor, message: str) -> None:
    """found must have the shape and the values of wanted."""
    found = as_tensor(found, "Your function").detach()
    shapes = f"its shape must be {tuple(wanted.shape)}, and is {tuple(found.shape)}"
    require(found.shape == wanted.shape, f"{message}: {shapes}.")
    right = torch.isclose(found.double(), wanted.double(), atol=1e-5)
    if found.numel() > 8 and not right.all():
        place = tuple((~right).nonzero()[0].tolist())
        mine, other = (f"{float(x[place]):.5g}" for x in (found, wanted))
        first = f"the first, at {list(place)}, is {mine} and must be {other}"
        raise Unmet(f"{message}; {int((~right).sum())} of {found.numel()} numbers differ: {first}.")
    require(right.all(), f"{message}; yours is {shortened(found)}.")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def no_nan(entropy: float, what: str = "code") -> None:
    told = f"A {what} that never occurs must add nothing, and yours makes nan of it: 0 * log(0)."
    require(not math.isnan(entropy), told)
