"""Names of a folder that are imported when they are first used, so that `alitok --help` waits for no torch."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazily(folder: str, /, **files: str) -> Callable[[str], Any]:
    """The `__getattr__` of a folder (PEP 562): which names, with spaces between them, are in which of its files.

    The folder's `__init__.py` imports the same names under TYPE_CHECKING, for editors and type checkers.
    """
    homes = {name: file for file, names in files.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {folder!r} has no attribute {name!r}")
        return getattr(import_module(f"{folder}.{homes[name]}"), name)

    return find
