"""Run notebooks and store their outputs, or make copies for a class.

python notebooks/run.py [FILE.ipynb ...]                   run (default: all), store the outputs
python notebooks/run.py --student FOLDER [FILE.ipynb ...]  no outputs, empty exercises
python notebooks/run.py --answers FILE.ipynb               all answers in one, for teachers
python notebooks/run.py --pages FOLDER [FILE.ipynb ...]    as they are stored, as pages to read
"""

import argparse
import base64
import io
import os
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image, ImageChops, ImageStat

from copies import answers, bring, page, student
from describe import describe

FOLDER = Path(__file__).parent
LEVEL = 1  # of 255
WIDGET = "application/vnd.jupyter.widget-view+json"


def executed(notebook: nbformat.NotebookNode, seconds: int = 600) -> nbformat.NotebookNode:
    """The notebook with fresh outputs, without what differs from run to run and means nothing.

    Raises nbclient.exceptions.CellExecutionError for a cell that fails.
    """
    options = {"timeout": seconds, "kernel_name": "python3", "store_widget_state": False}
    options["coalesce_streams"] = True  # printed lines stay together, the same at each run
    os.environ["ALITOK_PROGRESS"] = ""  # nobody's own progress is read or written
    NotebookClient(notebook, resources={"metadata": {"path": str(FOLDER)}}, **options).execute()
    notebook.metadata.pop("widgets", None)
    language = {"name": "python"}
    notebook.metadata.language_info = nbformat.from_dict(language)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:  # a widget without its kernel is an error message
            cell.outputs = [one for one in cell.outputs if WIDGET not in one.get("data", {})]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data.pop("image/jpeg", None)  # the same picture again
                output.data["image/png"] = smaller(output.data["image/png"])
    describe(notebook)
    return notebook


def smaller(png: str) -> str:
    """An opaque picture (base64) in fewer bytes, with 256 colours if they are the same to the eye.

    Charts are: the shades of their smooth edges differ by less than LEVEL on average. Pictures with
    soft colours are not, and keep all.
    """
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    few = picture.quantize(256, dither=Image.Dither.NONE)
    difference = ImageStat.Stat(ImageChops.difference(picture, few.convert("RGB"))).mean
    if sum(difference) / 3 < LEVEL:
        picture = few
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def written(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all."""
    temporary = path.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    temporary.rename(path)


def arguments() -> argparse.Namespace:
    """What was requested; one sentence and exit code 2 for what cannot be done."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("files", nargs="*", metavar="FILE.ipynb", type=Path)
    parser.add_argument("--student", metavar="FOLDER", type=Path, help="copies for students")
    parser.add_argument("--answers", metavar="FILE.ipynb", type=Path, help="answers for teachers")
    parser.add_argument("--pages", metavar="FOLDER", type=Path, help="pages of HTML")
    given = parser.parse_args()
    given.files = given.files or sorted(FOLDER.glob("[0-9]*.ipynb"))
    for path in given.files:
        if not path.is_file():
            parser.error(f"there is no notebook {path}")
    if given.student and given.student.resolve() in {path.resolve().parent for path in given.files}:
        parser.error(f"{given.student} holds the notebooks themselves; name another folder")
    if given.answers and given.answers.suffix != ".ipynb":
        parser.error(f"{given.answers} must end in .ipynb")
    if given.answers and given.answers.resolve() in {path.resolve() for path in given.files}:
        parser.error(f"{given.answers} is one of the notebooks; name another file")
    return given


def main() -> None:
    """Run the notebooks and write each when it has finished; or write copies."""
    given = arguments()
    if given.student:
        given.student.mkdir(parents=True, exist_ok=True)
        for path in given.files:
            copy = student(nbformat.read(path, as_version=4))
            bring(copy, given.student)
            written(copy, given.student / path.name)
            print(given.student / path.name)
    if given.answers:
        notebooks = {path.name: nbformat.read(path, as_version=4) for path in given.files}
        written(answers(notebooks), given.answers)
        print(given.answers)
    if given.pages:
        given.pages.mkdir(parents=True, exist_ok=True)
        for path in given.files:
            (given.pages / f"{path.stem}.html").write_text(page(path), "utf-8")
            print(given.pages / f"{path.stem}.html")
    if given.student or given.answers or given.pages:
        return
    for path in given.files:
        began = time.time()
        written(executed(nbformat.read(path, as_version=4)), path)
        print(f"{path.name}: {time.time() - began:.0f} s, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
