"""The notebooks' contract: what a reader finds in each of them, and that they run as they are shipped."""

import base64
import io
import json
import re
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from alitok_lite.learn import EXERCISES, solution_source

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
sys.path.insert(0, str(FOLDER))


class Node(dict):
    """A part of a notebook, whose keys are attributes and whose texts are whole, as nbformat has them."""

    __getattr__ = dict.__getitem__

    def __init__(self, pairs):
        texts = {key: "".join(value) for key, value in pairs if key in ("source", "text", "text/plain", "image/png")}
        super().__init__(dict(pairs) | texts)


def read(path):
    """A notebook; importing nbformat would take longer than all tests that only read."""
    return json.loads(path.read_text("utf-8"), object_pairs_hook=Node)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return read(request.param)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_opens_with_goals_prerequisites_and_minutes(notebook):
    first, second = notebook.cells[:2]
    assert first.cell_type == "markdown" and second.cell_type == "code"
    assert re.match(r"# \d\d ", first.source)
    for words in ("You will be able to", "You need", "minutes on two CPU cores"):
        assert words in first.source, words


def test_set_up_is_the_same_everywhere():
    cells = {read(path).cells[1].source for path in NOTEBOOKS}
    assert len(cells) <= 1


def test_ends_with_where_to_read_more(notebook):
    assert "## Read more" in notebook.cells[-1].source and "arXiv" in notebook.cells[-1].source


def test_rhythm(notebook):
    """Predict, run, what you should see, why; ranges are asserted; exercises have check, hint and solution."""
    text = prose(notebook)
    for words in ("**Predict.**", "**What you should see.**", "**Why.**"):
        assert text.count(words) >= 2, words
    source = "\n".join(cell.source for cell in code(notebook))
    assert len(re.findall(r"^\s*assert ", source, re.M)) >= 3
    exercises = re.findall(r'check\("(\d+\.\d+)"', source)
    assert 2 <= len(set(exercises)) <= 3
    for number in exercises:
        assert f'hint("{number}")' in source or f'hint("{number}")' in text
        assert f'solution("{number}")' in source or f'solution("{number}")' in text


def test_outputs_are_stored_whole_and_clean(notebook):
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "widgets" not in notebook.metadata
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.get("text")


def test_every_figure_is_described_above_it(notebook):
    """For readers who do not see it; and it says what to look at."""
    for above, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            assert above.cell_type == "markdown" and "*Figure" in above.source, cell.source


def test_nothing_is_fetched_from_elsewhere(notebook):
    for cell in notebook.cells:
        assert not re.search(r"!\[[^\]]*\]\(\s*http|<img[^>]+http", cell.source)
        assert not re.search(r"/(root|home|tmp|work)/", cell.source + str(cell.get("outputs", "")))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_size(path):
    assert path.stat().st_size <= 1_000_000


@pytest.mark.notebooks
@pytest.mark.parametrize("colours", [2, 256, 300])
def test_figures_get_smaller_and_stay_the_same(colours):
    from run import smaller

    generator = torch.Generator().manual_seed(0)
    table = torch.randint(256, (colours, 4), generator=generator, dtype=torch.uint8)
    table[:, 3] = 255  # opaque
    pixels = table[torch.randint(colours, (40, 40), generator=generator)]  # (40, 40, 4)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG")
    found = base64.b64decode(smaller(base64.b64encode(file.getvalue()).decode()))
    assert len(found) < len(file.getvalue())
    again = torch.from_numpy(numpy.array(Image.open(io.BytesIO(found)).convert("RGB")))
    assert torch.equal(again, pixels[..., :3])


@pytest.mark.notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_as_shipped(path):
    import nbformat
    from run import executed

    executed(nbformat.read(path, as_version=4), seconds=300)


@pytest.mark.notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_with_the_solutions(path):
    """Also what stands behind an exercise and uses its answer."""
    import nbformat
    from run import executed

    notebook, checks = nbformat.read(path, as_version=4), 'check("{}", '
    numbers = [number for number in EXERCISES if any(checks.format(number) in cell.source for cell in code(notebook))]
    for number in numbers:
        cell = next(cell for cell in code(notebook) if checks.format(number) in cell.source)
        stub = EXERCISES[number].stub.strip()
        assert stub in cell.source
        cell.source = cell.source.replace(stub, solution_source(number).strip())
    outputs = [output for cell in code(executed(notebook, seconds=300)) for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert len(numbers) >= 2 and all(f"{number}: right!" in printed for number in numbers)
