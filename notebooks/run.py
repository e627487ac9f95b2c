"""Run notebooks, store their outputs: python notebooks/run.py [FILE.ipynb ...]; default all."""

import base64
import io
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image, ImageChops

from describe import describe

FOLDER = Path(__file__).parent


def executed(notebook: nbformat.NotebookNode, seconds: int = 600) -> nbformat.NotebookNode:
    """The notebook with fresh outputs, without what differs from run to run and means nothing.

    Raises nbclient.exceptions.CellExecutionError for a cell that fails.
    """
    options = {"timeout": seconds, "kernel_name": "python3", "store_widget_state": False}
    NotebookClient(notebook, resources={"metadata": {"path": str(FOLDER)}}, **options).execute()
    notebook.metadata.pop("widgets", None)
    language = {"name": "python"}
    notebook.metadata.language_info = nbformat.from_dict(language)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
    describe(notebook)
    return notebook


def smaller(png: str) -> str:
    """The same opaque picture (base64) in fewer bytes; charts have few colours, and no alpha."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    few = picture.quantize(256, dither=Image.Dither.NONE)
    if ImageChops.difference(picture, few.convert("RGB")).getbbox() is None:
        picture = few
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def main(names: list[str]) -> None:
    """Run the named notebooks, or all of them, and write each when it has finished."""
    for path in [Path(name) for name in names] or sorted(FOLDER.glob("*.ipynb")):
        began = time.time()
        notebook = executed(nbformat.read(path, as_version=4))
        temporary = path.with_suffix(".tmp")
        nbformat.write(notebook, temporary)
        temporary.rename(path)
        print(f"{path.name}: {time.time() - began:.0f} s, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
