"""The 1,000 classes of ImageNet in the order of their labels, and finding one by name, number or synset."""

import json
import re
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("imagenet.json")
SHOWN = 6  # names in a sentence


@cache
def classes() -> list[tuple[str, str]]:
    """Synset and name of each class, such as ("n01440764", "tench").

    Six names that would stand for two classes each, small and capital letters being the same, say in brackets which
    of them is meant.
    """
    return [(synset, name) for synset, name in json.loads(FILE.read_text(encoding="utf-8"))]


@cache
def names() -> list[str]:
    """Names of the classes, each of them once."""
    return [name for _, name in classes()]


def find_class(text: str | int) -> int:
    """Label of a class given by name ("golden retriever"), number (207 or "207") or synset ("n02099601").

    Case, hyphens and underscores do not matter. Raises ValueError, in one sentence, for a name of several classes, and
    for an unknown one, with names that have these words.
    """
    wanted = _plain(str(text))
    if re.fullmatch(r"\s*\d{1,9}\s*", str(text)) and int(text) < len(names()):
        return int(text)
    found = [i for i, (synset, name) in enumerate(classes()) if wanted in (synset, _plain(name))]
    if not found:
        found = [i for i, name in enumerate(names()) if wanted and wanted == _plain(name.split(" (")[0])]
        if found:
            raise ValueError(f"class {text!r} may be any of {_listed(found)}: give one of these names or numbers")
        near = search(str(text))
        advice = f"near it are {_listed(near)}" if near else "give a name, a synset or a number from 0 to 999"
        raise ValueError(f"no class {text!r} in ImageNet: {advice}")
    return found[0]


def search(text: str) -> list[int]:
    """Labels of the classes whose name has all words of the text, or else words that begin like them."""
    words = _plain(text).split()
    if not words:
        return []
    plain = [_plain(name).split() for name in names()]
    whole = [i for i, name in enumerate(plain) if set(words) <= set(name)]
    begun = [i for i, name in enumerate(plain) if all(any(part.startswith(word) for part in name) for word in words)]
    return whole or begun


def _plain(text: str) -> str:
    """Small letters, single spaces, no hyphens, underscores or brackets."""
    return " ".join(re.sub(r"[-_()]", " ", text.lower()).split())


def _listed(labels: list[int]) -> str:
    """The first few of them as "tench (0), goldfish (1)"."""
    shown = ", ".join(f"{names()[i]} ({i})" for i in labels[:SHOWN])
    return f"{shown} and {len(labels) - SHOWN} more" if len(labels) > SHOWN else shown
