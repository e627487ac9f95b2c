"""Classes as people write them: a name or a number, alone or in a list."""

import csv
import io
import re
from collections.abc import Sequence

from ..core.config import plain
from . import imagenet


def label_of(entry: str | int, names: Sequence[str]) -> int:
    """The label of a class among `names`, given by its name or by its number from 0 on, which may be text too.

    A name comes before a number: with a class named "10", "10" is that class and 10 is the eleventh one. With the
    classes of ImageNet, whatever `imagenet.find_class` finds will do, such as a name in small letters. Raises
    ValueError, in one sentence, for anything else.
    """
    given = plain(entry)
    number: object = given
    if isinstance(given, str):
        if given in names:
            return names.index(given)
        number = _number(given)
        if number is None and list(names) == imagenet.names():
            return imagenet.find_class(given)
    if type(number) is int and 0 <= number < len(names):
        return number
    known = ", ".join([*names[:20], "..."] if len(names) > 20 else names)
    raise ValueError(f"no class {given!r}: give a number from 0 to {len(names) - 1} or one of {known}")


def read_list(text: str, names: Sequence[str]) -> list[str | int]:
    """The classes of a list with commas: as they are written, or as numbers where no class has that name.

    Spaces around them do not count, and a name with a comma stands in double quotes: '"crane, bird",3'. Raises
    ValueError, in one sentence, for an empty entry, an unknown class, and a quote that is not closed.
    """
    try:
        rows = list(csv.reader([re.sub(r'"\s+(?=,|$)', '"', text)], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(f"the list of classes {text!r} cannot be read ({error}): quote a name with commas") from None
    entries = [entry.strip() for row in rows for entry in row] or [""]
    if "" in entries:
        raise ValueError(f"no class '': the list of classes {text!r} has an empty entry")
    found = [_name_or_number(entry, names) for entry in entries]
    for entry in found:
        label_of(entry, names)
    return found


def write_list(classes: Sequence[str | int]) -> str:
    """The text from which `read_list` reads these classes."""
    file = io.StringIO()
    csv.writer(file, lineterminator="").writerow(classes)
    return file.getvalue()


def _name_or_number(entry: str, names: Sequence[str]) -> str | int:
    """The text of a list as a number, if it is one and no class has that name."""
    number = None if entry in names else _number(entry)
    return entry if number is None else number


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\s*\d{1,9}\s*", text) else None
