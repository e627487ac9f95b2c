"""Alternative texts of figures, for readers who do not see them."""

import re

import nbformat


def describe(notebook: nbformat.NotebookNode) -> None:
    """Give each cell with a picture the description above it as `metadata.alt`, for nbconvert."""
    text = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = re.findall(r"\*Figure: (.*?)\*(?=\s*(?:\n\n|$))", cell.source, re.S)
            text = " ".join(found[-1].split()) if found else text
            continue
        cell.metadata.pop("alt", None)
        if text and any(
            "image/png" in output.get("data", {}) for output in cell.get("outputs", [])
        ):
            cell.metadata["alt"] = text[:1].upper() + text[1:]
            text = ""
