"""Predictions: made before a cell is run, and afterwards set beside what was measured."""

from numbers import Real

from .exercises import plain_number

_made: dict[str, dict[str, object]] = {}  # "01a" -> name -> prediction; ... where there is none yet


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
    _made[number] = plain
    if any(value is ... for value in plain.values()):
        print(f'{number}: put your prediction in place of each "..." and run this cell again.')
    else:
        print(f"{number}: kept. Now run the next cell.")


def compare(number: str, **found: object) -> None:
    """Print what was measured beside what was predicted under the same names."""
    for name, value in found.items():
        value, guess = plain_number(value), _made.get(number, {}).get(name, ...)
        said = "made no prediction" if guess is ... else f"predicted {_text(guess)}{_judged(guess, value)}"
        print(f"{_words(name)}: measured {_text(value)}; you {said}")


def made() -> tuple[int, int]:
    """How many predictions were made in this notebook, and how many it has."""
    every = [value for values in _made.values() for value in values.values()]
    return sum(value is not ... for value in every), len(every)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    """A value in few digits."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.3g}"


def _judged(guess: object, value: object) -> str:
    """How far a prediction is from a value, in words."""
    if isinstance(value, bool) or not isinstance(value, Real):
        same = str(guess).strip().lower() == str(value).strip().lower() or guess == value
        return ": right" if same else ": not so"
    if isinstance(guess, str):
        return ": not a number"
    if abs(guess - value) <= 0.1 * abs(value):
        return ": close"
    if guess * value > 0 and not 0.5 < guess / value < 2:
        return f": {max(guess / value, value / guess):.3g} times too {'high' if abs(guess) > abs(value) else 'low'}"
    return f": too {'high' if guess > value else 'low'}"
