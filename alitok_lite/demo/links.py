"""Links: what a visitor has set, in the page's address; and the project's own addresses.

`?tab=draw&model=scenes&class=face&seed=3`: the names are those of the tab's controls (tabs.py).
"""

from functools import cache
from importlib import metadata
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from . import models
from .drawing import read_seed

PAPER = "https://arxiv.org/abs/2506.05289"
DRAWN = ("model", "class", "seed", "guidance", "temperature", "count")


@cache
def repository() -> str:
    """The public address of the repository; empty until there is one, see `alitok publish`."""
    try:
        urls = metadata.metadata("alitok_lite").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return ""
    return dict(line.split(", ", 1) for line in urls).get("Repository", "")


def file_link(path: str, text: str = "") -> str:
    """Markdown: a link to a file of the repository where that is public, and else its name."""
    here = repository()
    return f"[{text or path}]({here}/blob/main/{path})" if here else f"{text + ': ' if text else ''}`{path}`"


def drawn(model: str, class_name: str, seed: int, guidance: float | None, temperature: float, count: int) -> str:
    """The link of a drawing, from its arguments: a query without the question mark."""
    guidance = models.check_model(model).guidance if guidance is None else guidance
    values = (model, class_name, seed, f"{guidance:g}", f"{temperature:g}", count)
    return urlencode({"tab": "draw"} | dict(zip(DRAWN, values, strict=True)))


def read_drawn(link: str) -> tuple:
    """The arguments of `drawing.draw` that a drawing's link stands for; ValueError for other text."""
    given = dict(parse_qsl(link)) if isinstance(link, str) else {}
    if set(DRAWN) - set(given):
        raise ValueError(f"{str(link)[:40]!r} is no link of a drawing; draw something first")
    numbers = [number(given[name]) for name in DRAWN[3:]]
    return given["model"], given["class"], read_seed(given["seed"]), *numbers


def number(text: str) -> float | int | bool | str:
    """The number that a text is, or true or false; other text as it is, to be refused by whoever gets it."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


class Given(NamedTuple):
    """What an address asks for."""

    tab: str
    values: dict[str, str]
    said: str  # what of it is not known here; empty if all is


def read(query: dict[str, str], known: dict[str, tuple[str, ...]]) -> Given:
    """The tab and the settings of a query; `known`: the names of the controls of each tab."""
    tab = query.get("tab", "")
    own = {name: value for name, value in query.items() if name != "tab" and not name.startswith("__")}
    if not tab and not own:
        return Given("", {}, "")
    if tab not in known:
        return Given("", {}, f"This link asks for a tab {tab[:40]!r}; the tabs are {', '.join(known)}.")
    foreign = [name[:40] for name in own if name not in known[tab]]
    said = f"This link asks for {', '.join(foreign)}, which this tab does not have." if foreign else ""
    return Given(tab, {name: value for name, value in own.items() if name in known[tab]}, said)
