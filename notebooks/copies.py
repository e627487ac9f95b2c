"""Copies: without outputs for students, all answers in one for teachers, pages to read."""

import base64
import html
import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parents[1]))
from alitok_lite.learn import EXERCISES, Exercise, layer_source, solution_source

FOLDER = Path(__file__).parent
NARROW = """<style>
.jp-InputArea-editor { overflow-x: auto !important }
.jp-OutputArea-output pre { white-space: pre !important }
</style>"""  # on a phone, code and tables of printed numbers are moved sideways, not cut or torn
CHECK = re.compile(r'^(\w+ = )?check\("(\d+\.\d+)"', re.MULTILINE)


def student(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without outputs, with the stub in each exercise and with no prediction made."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        found = CHECK.search(cell.source)
        if found:
            stub = EXERCISES[found.group(2)].stub.strip()
            before, call = cell.source[: found.start()], cell.source[found.start() :]
            cell.source = stub + before[len(before.rstrip()) :] + call
        if _predicts(cell):
            cell.source = re.sub(r"(\w+)=[^,)\n]+(?=[,)])", r"\1=...", cell.source)
    return notebook


def bring(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Copy the pictures in a notebook's text, and the glossary, into the folder of its copy.

    The text shows the copies, so pictures are seen wherever the folder stands. A link to a file of
    the package is kept if it leads there from the folder, as in a clone; else only its words are.
    """
    (folder / "pictures").mkdir(exist_ok=True)
    shutil.copyfile(FOLDER / "GLOSSARY.md", folder / "GLOSSARY.md")
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for address in re.findall(r"!\[[^\]]*\]\(([^):]+)\)", cell.source):
            copy = f"pictures/{Path(address).name}"
            if (FOLDER / address).is_file():
                shutil.copyfile(FOLDER / address, folder / copy)
                cell.source = cell.source.replace(f"]({address})", f"]({copy})")
        for text, address in re.findall(r"(?<!!)\[([^\]]+)\]\((\.\./[^)]+)\)", cell.source):
            if not (folder / address.split("#")[0]).exists():  # a link that leads nowhere from here
                cell.source = cell.source.replace(f"[{text}]({address})", text)


def page(path: Path) -> str:
    """A notebook as it is stored, as a page of HTML with its pictures in it.

    Every figure gets its description, which nbconvert's usual template leaves out. The pictures are
    put in here, because nbconvert's embed_images closes each <details> before its text: all answers
    would be open. Scripts that the page does not need are not fetched; MathJax is, for formulas.
    """
    from nbconvert import HTMLExporter

    notebook = nbformat.read(path, as_version=4)
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    resources = {"metadata": {"name": path.stem, "path": str(path.parent)}}
    text, _ = HTMLExporter(log_level="ERROR").from_notebook_node(notebook, resources)
    for address in set(re.findall(r'<img[^>]+src="(?!data:)([^"]+)"', text)):
        kind, data = Path(address).suffix[1:], (path.parent / address).read_bytes()
        source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        text = text.replace(f'src="{address}"', f'src="{source}"')
    text = text.replace("</head>", f"{NARROW}</head>", 1)
    unneeded = "require" if any("$" in one for one in prose) else "require|mathjax"
    text = re.sub(rf'<script src="https:[^"]*({unneeded})[^"]*">\s*</script>', "", text)
    figures = (
        cell.metadata.get("alt", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    )
    missing = 'alt="No description has been provided for this image"'
    for alt in figures:
        text = text.replace(missing, f'alt="{html.escape(alt)}"', 1)
    return text


def answers(notebooks: dict[str, nbformat.NotebookNode]) -> nbformat.NotebookNode:
    """One notebook: solution, reason and mistakes of each exercise, and the right predictions.

    notebooks: name -> notebook with its stored outputs.
    """
    by = "For teachers. Made from the notebooks by `python notebooks/run.py --answers FILE.ipynb`."
    cells = [new_markdown_cell(f"# Answers\n\n{by}")]
    for name, notebook in notebooks.items():
        title = notebook.cells[0].source.split("\n")[0].removeprefix("# ")
        cells.append(new_markdown_cell(f"## {title}\n\n[{name}]({name})"))
        for number, cell in enumerate(notebook.cells[1:], 1):
            before, found = notebook.cells[number - 1].source, CHECK.search(cell.source)
            if _predicts(cell) and "**Predict.**" in before:
                cells.append(new_markdown_cell(_predicted(before, notebook.cells[number:])))
            if cell.cell_type == "code" and found:
                cells += _solved(EXERCISES[found.group(2)])
    for number, cell in enumerate(cells):
        cell.id = f"answer-{number:03}"  # the same at each run
    return new_notebook(cells=cells, metadata=_metadata(notebooks))


def _predicts(cell: nbformat.NotebookNode) -> bool:
    return (
        cell.cell_type == "code" and re.search(r"^predict\(", cell.source, re.MULTILINE) is not None
    )


def _predicted(question: str, rest: list[nbformat.NotebookNode]) -> str:
    """The question, what `compare` printed, and the answer that is collapsed in the notebook."""
    asked = next(part for part in question.split("\n\n") if "**Predict.**" in part)
    texts = [asked[asked.index("**Predict.**") :]]
    for cell in rest:
        if cell.cell_type == "code" and "compare(" in cell.source:
            said = "".join(output.get("text", "") for output in cell.outputs)
            texts.append(
                "\n".join(
                    f"    {line}"
                    for line in said.replace("; you made no prediction", "").splitlines()
                )
            )
        if cell.cell_type == "markdown" and "</details>" in cell.source:
            inside = cell.source.split("</summary>", 1)[1].split("</details>")[0]
            return "\n\n".join([*texts, inside.strip()])
        if cell.cell_type == "markdown" and "**Predict.**" in cell.source:
            break
    return "\n\n".join(texts)


def _solved(exercise: Exercise) -> list[nbformat.NotebookNode]:
    """The task, a solution that can be run, and what else there is to say."""
    level = f"{exercise.level}, {exercise.minutes} minutes"
    head = f"### Exercise {exercise.number} ({level})\n\n{exercise.task}"
    mistakes = "\n".join(f"- {sentence}" for sentence in exercise.mistakes)
    after = f"**Why.** {exercise.why}\n\n**Hint.** {exercise.hint}\n\n"
    after += f"**Mistakes that `check` names.**\n\n{mistakes}"
    if exercise.layer:
        after += f"\n\n**In the package.**\n\n```python\n{layer_source(exercise.number)}\n```"
    code = "import torch\n\n\n" + solution_source(exercise.number).strip()
    return [new_markdown_cell(head), new_code_cell(code), new_markdown_cell(after)]


def _metadata(notebooks: dict[str, nbformat.NotebookNode]) -> dict:
    return dict(next(iter(notebooks.values())).metadata)
