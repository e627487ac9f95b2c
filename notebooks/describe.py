"""Alternative texts of figures, for readers who do not see them."""

import re

import nbformat


def describe(notebook: nbformat.NotebookNode) -> None:
    """Give each cell with a picture its description as `metadata.alt`, for nbconvert.

    The description begins with "*Figure:" and stands above the picture, or below it where it would
    tell the answer.
    """
    free: list[str] = []  # descriptions above that belong to no picture yet
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            free = described(cell) or free
            continue
        cell.metadata.pop("alt", None)
        if not any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            continue
        below = next(
            (one for one in notebook.cells[number + 1 :] if one.cell_type == "markdown"), None
        )
        texts = free or (described(below) if below else [])
        if texts:
            cell.metadata["alt"] = texts[-1 if free else 0]
        free = []


def described(cell: nbformat.NotebookNode) -> list[str]:
    """The descriptions in a text, each in one line."""
    found = re.findall(r"\*Figure: (.*?)\*(?=\s*(?:\n\n|\Z))", cell.source, re.S)
    lines = [" ".join(text.split()) for text in found]
    return [line[:1].upper() + line[1:] for line in lines]
