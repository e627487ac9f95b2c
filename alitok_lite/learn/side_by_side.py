"""A learner's layer beside the package's own."""

import html
import importlib
import inspect
import textwrap
from collections.abc import Callable

from .exercises import find
from .solved import solved_here


class Sources:
    """Texts of code under headings: in columns on a page, below each other elsewhere."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def __repr__(self) -> str:
        return "\n".join(f"# {title}\n{text}" for title, text in self.texts.items())

    def _repr_html_(self) -> str:
        look = "text-align: left; vertical-align: top; white-space: pre-wrap; font-family: monospace; font-size: 85%"
        titles = "".join(f'<th style="text-align: left">{html.escape(title)}</th>' for title in self.texts)
        cells = "".join(f'<td style="{look}">{html.escape(text)}</td>' for text in self.texts.values())
        whole = "table-layout: fixed; width: 100%"  # long lines are wrapped, so that both columns are seen
        return f'<table style="{whole}"><tr>{titles}</tr><tr>{cells}</tr></table>'


def layer_source(number: str) -> str:
    """The package's code for a build exercise; ValueError for an exercise that builds no layer."""
    wanted = find(number)
    if not wanted.layer:
        raise ValueError(f"exercise {number!r} builds no layer of the package")
    return "\n\n".join(textwrap.dedent(inspect.getsource(_named(name))).strip() for name in wanted.layer.split())


def _named(name: str) -> Callable:
    """The function or method "core.layers.Attention.forward" of the package."""
    folder, file, *rest = name.split(".")
    found = importlib.import_module(f"..{folder}.{file}", __package__)
    for part in rest:
        found = getattr(found, part)
    return found


def side_by_side(number: str, answer: Callable) -> Sources | None:
    """Yours and the package's code, once the exercise is solved in this notebook; until then a line is printed.

    ValueError for an unknown number, or an exercise that builds no layer.
    """
    theirs, names = layer_source(number), find(number).layer.split()
    if not solved_here(number):
        print(f"Solve {number} first; then the package's own code is shown here beside yours.")
        return None
    try:
        mine = inspect.getsource(answer).strip()
    except (OSError, TypeError):
        mine = "# typed where no source is kept"
    return Sources({"yours": mine, f"alitok_lite: {', '.join(names)}": theirs})
