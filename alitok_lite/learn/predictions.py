"""Predictions: made before a cell is run, and afterwards set beside what was measured.

A prediction is an argument of `predict`. In a running notebook there is also a field to type it into.
"""

import importlib.util
import re
import sys
from numbers import Real
from typing import Any

from .exercises import plain_number

NUMBER = r"\s*([+-]?(?:\d[\d.,]*|[.,]\d+))\s*(?:%|per ?cent|dB|nats?|bits?|bytes?|times|patches|codes)?"
ABOUT = r"(?:about|around|roughly|ca\.?|~|≈)?"
BELOW, ABOVE = ("<", "less than", "fewer than", "below", "under"), (">", "more than", "above", "over")
BOUND = f"({'|'.join(BELOW + ABOVE)})"
_made: dict[str, dict[str, object]] = {}  # "01a" -> name -> prediction; ... where there is none yet
_fields: dict[str, dict[str, Any]] = {}  # "01a" -> name -> the text field of a prediction that is ...


def predict(number: str, **predictions: object) -> None:
    """Keep predictions for `compare`: a number, True or False, or a word for each name; ... stands for none yet.

    Raises ValueError for a prediction of another kind.
    """
    plain = {name: plain_number(value) for name, value in predictions.items()}
    for name, value in plain.items():
        if value is not ... and not isinstance(value, Real | str):
            raise ValueError(
                f"the prediction {name} is {value!r}; it must be a number, True, False or a word in quotes"
            )
    _made[number], _fields[number] = plain, {}
    missing = [name for name, value in plain.items() if value is ...]
    if missing:
        print(f'{number}: put your prediction in place of each "..." and run this cell again.')
        _show_fields(number, missing)
    else:
        print(f"{number}: kept. Now run the next cell.")


def compare(number: str, **found: object) -> None:
    """Print what was measured beside what was predicted under the same names, and which prediction has another name."""
    for name, value in found.items():
        value, guess = plain_number(value), _guess(number, name)
        said = "made no prediction" if guess is ... else f"predicted {_text(guess)}{_judged(guess, value)}"
        print(f"{_spaced(name)}: measured {_text(value)}; you {said}")
    for name in sorted(_made.get(number, {}).keys() - found.keys()):
        if _guess(number, name) is not ...:
            print(f"You also predicted {name}, which is not asked here; asked: {', '.join(found)}.")


def made() -> tuple[int, int]:
    """How many predictions were made in this notebook, and how many it has."""
    every = [_guess(number, name) for number, names in _made.items() for name in names]
    return sum(value is not ... for value in every), len(every)


def _show_fields(number: str, names: list[str]) -> None:
    """A text field for each prediction, where a kernel and ipywidgets can show one; `compare` reads them."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if not hasattr(shell, "kernel") or not importlib.util.find_spec("ipywidgets"):
        return
    import ipywidgets as widgets
    from IPython.display import display

    wide, room = {"description_width": "initial"}, {"width": "28em"}  # a long name leaves room to type
    _fields[number] = {
        name: widgets.Text(description=f"{_spaced(name)}:", placeholder="your prediction", style=wide, layout=room)
        for name in names
    }
    told = widgets.Label("Or type it here, and go on to the next cell (a restart of the kernel forgets it):")
    display(widgets.VBox([told, *_fields[number].values()]))


def _guess(number: str, name: str) -> object:
    """The prediction: the argument, else what stands in its field, else ..."""
    guess, field = _made.get(number, {}).get(name, ...), _fields.get(number, {}).get(name)
    guess = field.value if guess is ... and field is not None else guess
    return _typed(guess) if isinstance(guess, str) else guess


def _typed(text: str) -> object:
    """What somebody typed: yes or no, a number with a decimal point or comma, another word, or ... for nothing.

    A number may have "about" before it and a unit behind it.
    """
    text = text.strip().strip("\"'")
    if text.lower() in ("yes", "true", "no", "false"):
        return text.lower() in ("yes", "true")
    found = re.fullmatch(ABOUT + NUMBER, text, re.IGNORECASE)
    number = _number(found[1]) if found else None
    return text or ... if number is None else number


def _number(text: str) -> float | None:
    """The number that digits, points and commas make; None if they make none."""
    text = text.replace(",", "" if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", text) else ".")
    return float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text) else None


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    """A value in few digits."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    value = value + 0  # no -0
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.3g}"


def _judged(guess: object, value: object) -> str:
    """How far a prediction is from a value, in words."""
    if isinstance(value, bool) or not isinstance(value, Real):
        same = str(guess).strip().lower() == str(value).strip().lower() or guess == value
        return ": right" if same else ": not so"
    if isinstance(guess, str | bool):
        found = re.fullmatch(BOUND + NUMBER, str(guess), re.IGNORECASE)
        bound = _number(found[2]) if found else None
        if bound is None:
            return ": not a number"
        return ": right" if (value > bound if found[1].lower() in ABOVE else value < bound) else ": not so"
    if abs(guess - value) <= 0.1 * abs(value):
        return ": close"
    if guess * value > 0 and not 0.5 < guess / value < 2:
        return f": {max(guess / value, value / guess):.3g} times too {'high' if abs(guess) > abs(value) else 'low'}"
    return f": too {'high' if guess > value else 'low'}"
