"""The notebooks' contract: what a reader finds in each of them, and that they run as they are shipped."""

import ast
import base64
import html
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

from alitok_lite.learn import EXERCISES, solution_source
from alitok_lite.learn.exercises import LEVELS
from alitok_lite.viz import diagram

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


def stretch_sections(notebook):
    """The core path of a notebook and its stretch sections, two lists of cells, and the titles of these sections."""
    parts, titles, stretch = ([], []), [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := re.search(r"^## (.*)", cell.source, re.M)):
            assert heading.start() == 0 or not (stretch or heading[1].startswith("Stretch: "))  # a cell is one or other
            stretch = heading[1].startswith("Stretch: ")
            titles += [heading[1].removeprefix("Stretch: ")] if stretch else []
        parts[stretch].append(cell)
    return *parts, titles


def reading_time(cells):
    """In minutes: 180 words or 25 lines a minute; the set-up cell is not read."""
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    read = [cell.source for cell in cells if cell.cell_type == "code" and not cell.source.startswith("# Set-up, the")]
    return words / 180 + sum(bool(line.strip()) for text in read for line in text.splitlines()) / 25


def test_minutes_are_counted(notebook):
    """Reading time, one minute for a prediction, an exercise's own; stretch exercises and sections by themselves."""
    told = re.search(
        r"about (\d+) minutes of yours: (\d+) to read, (\d+) for predictions, (\d+) for exercises\. The stretch"
        r" exercises? takes? (\d+) more\.(?: The stretch sections? (.*?) takes? (\d+) more\.)?",
        notebook.cells[0].source,
    )
    total, reading, predicting, exercising, stretch = map(int, told.groups()[:5])
    minutes = dict.fromkeys(LEVELS, 0)
    for exercise in set(re.findall(r'check\("(\d+\.\d+)"', "\n".join(cell.source for cell in code(notebook)))):
        minutes[EXERCISES[exercise].level] += EXERCISES[exercise].minutes
    core, beyond, titles = stretch_sections(notebook)
    core_predictions, more = (sum("\npredict(" in f"\n{cell.source}" for cell in cells) for cells in (core, beyond))
    assert abs(reading - reading_time(core)) < 1 and predicting == core_predictions
    assert stretch == minutes.pop("stretch") and exercising == sum(minutes.values())
    assert total == reading + predicting + exercising <= 60
    assert re.findall(r"\*(.+?)\*", told[6] or "") == titles
    assert abs(int(told[7] or 0) - reading_time(beyond) - more) < 1
    number = re.match(r"# (\d\d)", notebook.cells[0].source)[1]
    assert re.search(rf"^\| \[{number}\].*\| {total} \|", (FOLDER / "TEACHERS.md").read_text("utf-8"), re.M)


def test_cells_have_valid_names(notebook):
    names = [cell.id for cell in notebook.cells]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[\w-]{1,64}", name) for name in names)


def test_set_up_is_the_same_everywhere():
    cells = {read(path).cells[1].source for path in NOTEBOOKS}
    assert len(cells) <= 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_shows_where_it_stands_and_links_the_glossary(path):
    first = read(path).cells[0].source
    assert f"](pictures/where-{path.stem[:2]}.png)" in first and "[glossary](GLOSSARY.md)" in first


@pytest.mark.notebooks
def test_the_diagrams_are_what_the_function_draws(tmp_path):
    assert sorted(diagram.NOTEBOOKS) == [path.stem[:2] for path in NOTEBOOKS]
    for path in diagram.save_diagrams(tmp_path):
        drawn, stored = (
            numpy.asarray(Image.open(one).convert("RGB"), float) for one in (path, FOLDER / "pictures" / path.name)
        )
        assert drawn.shape == stored.shape and numpy.abs(drawn - stored).mean() < 1
    with pytest.raises(ValueError, match="no part 'decoder'; choose from patches, "):
        diagram.pipeline(["decoder"])


def test_links_lead_somewhere(notebook):
    for target in re.findall(r"\]\((?!https?://|#|attachment:)([^)#]+)", prose(notebook)):
        assert (FOLDER / target).exists(), target


def test_every_notebook_is_in_the_teachers_list_and_the_readme():
    for page, prefix in ((FOLDER / "TEACHERS.md", ""), (FOLDER.parent / "README.md", "notebooks/")):
        text = page.read_text("utf-8")
        places = [text.find(f"]({prefix}{path.name})") for path in NOTEBOOKS]
        assert min(places) > 0, page
        in_order = [path.stem[:2] for _, path in sorted(zip(places, NOTEBOOKS, strict=True))]
        assert in_order == ["01", "02", "03", "04", "05", "09", "10", "06", "11", "07", "08"]


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
    assert 2 <= len(set(exercises)) <= 4
    for number in exercises:
        one = EXERCISES[number]
        task = next(cell.source for cell in notebook.cells if f"Exercise {number}" in cell.source)
        assert f"*{one.level.capitalize()}, {one.minutes} minutes.*" in task, number
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
            assert not any("widget" in kind for kind in output.get("data", {})), cell.source


def test_every_figure_is_described_beside_it(notebook):
    """For readers who do not see it; and it says what to look at. Below it, where above it would tell the answer."""
    rows = zip(notebook.cells, notebook.cells[1:], notebook.cells[2:], strict=False)
    for above, cell, below in rows:
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            texts = [one.source for one in (above, below) if one.cell_type == "markdown"]
            assert any("*Figure" in text for text in texts), cell.source


def predictions(notebook):
    """The arguments of the predictions by number, and of what was measured; those of a dict have the name None."""
    found = {"predict": {}, "compare": {}}
    for cell in code(notebook):
        for call in ast.walk(ast.parse(cell.source)):
            name = getattr(getattr(call, "func", None), "id", None)
            if name in found:
                assert call.args[0].value not in found[name]
                found[name][call.args[0].value] = {one.arg: one.value for one in call.keywords}
    return found["predict"], found["compare"]


def test_predictions_can_be_made(notebook):
    """Each question has a cell for the answer; none is given; the experiment stands between it and the measurement."""
    asked, measured = predictions(notebook)
    assert list(asked) == list(measured) and len(asked) >= 2
    sources = [cell.source for cell in notebook.cells]
    for number, names in asked.items():
        assert all(isinstance(value, ast.Constant) and value.value is ... for value in names.values()), number
        assert names.keys() == measured[number].keys() or None in measured[number], number
        calls = (re.compile(rf'\b{call}\(\s*"{number}"') for call in ("predict", "compare"))
        before, after = (next(i for i, text in enumerate(sources) if call.search(text)) for call in calls)
        assert "**Predict.**" in sources[before - 1] and "*Figure" not in sources[before - 1]
        between = notebook.cells[before + 1 : after]
        first = next(n for n, cell in enumerate(between) if cell.cell_type == "code")
        assert not any("*Figure" in cell.source for cell in between[:first]), number
        assert not any("**What you should see.**" in cell.source for cell in between), number


def bound(cell):
    """The names that a cell leaves bound: those of functions and of assignments and loops outside of functions."""
    nodes, found = [cell], set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            found |= {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
            nodes += ast.iter_child_nodes(node)
    return found


def test_a_cell_can_be_run_again(notebook):
    """Once more after all others: what it reads from cells above has not got another meaning below."""
    cells = [(cell.id, ast.parse(cell.source)) for cell in code(notebook)]
    for place, (name, cell) in enumerate(cells):
        nodes = list(ast.walk(cell))
        own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        above = set().union(*(bound(one) for _, one in cells[:place]))
        read = {node.id for node in nodes if isinstance(node, ast.Name)} & above - own
        for below, other in cells[place + 1 :]:
            assert not read & bound(other), f"{name} needs {read & bound(other)}, which {below} makes anew"


def test_answers_are_collapsed(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            shown = re.sub(r"<details>\s*<summary>.*?</summary>\n\n.*?\n\n</details>", "", cell.source, flags=re.S)
            assert "details>" not in shown and "**What you should see.**" not in shown and "**Why.**" not in shown


def test_nothing_is_fetched_from_elsewhere(notebook):
    for cell in notebook.cells:
        assert not re.search(r"!\[[^\]]*\]\(\s*http|<img[^>]+http", cell.source)
        assert not re.search(r"/(root|home|tmp|work)/", cell.source + str(cell.get("outputs", "")))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_size(path):
    assert path.stat().st_size <= 1_000_000


def png_of(pixels):
    """An opaque picture (H, W, 3) in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels.astype("uint8")).convert("RGBA").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.notebooks
@pytest.mark.parametrize("colours", [2, 256])
def test_figures_get_smaller_and_stay_the_same(colours):
    from run import smaller

    table = numpy.random.default_rng(0).integers(256, size=(colours, 3))
    pixels = table[numpy.random.default_rng(1).integers(colours, size=(40, 40))]
    found = smaller(png_of(pixels))
    assert len(found) < len(png_of(pixels))
    assert (numpy.array(Image.open(io.BytesIO(base64.b64decode(found))).convert("RGB")) == pixels).all()


@pytest.mark.notebooks
def test_soft_edges_have_fewer_shades_and_soft_pictures_do_not():
    from run import smaller

    chart = numpy.full((200, 200, 3), 255)
    chart[:4] = numpy.random.default_rng(0).integers(256, size=(4, 200, 3))  # 800 shades of edges
    soft = numpy.stack(numpy.meshgrid(numpy.arange(200), numpy.arange(200)) * 2, -1)[..., :3]
    for pixels, loss in ((chart, True), (soft, False)):
        picture = Image.open(io.BytesIO(base64.b64decode(smaller(png_of(pixels)))))
        assert (picture.mode == "P") == loss
        off = numpy.abs(numpy.asarray(picture.convert("RGB"), float) - pixels)
        assert off.mean() < 1 if loss else off.max() == 0


@pytest.mark.notebooks
def test_copies_for_students_are_empty(tmp_path):
    """Whatever has been done in the notebooks: no output, no prediction, no solution."""
    import nbformat

    used = tmp_path / "used"
    used.mkdir()
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        for cell in code(notebook):
            for number in re.findall(r'check\("(\d+\.\d+)"', cell.source):
                stub = EXERCISES[number].stub.strip()
                cell.source = cell.source.replace(stub, solution_source(number).strip())
            cell.source = re.sub(r"=\.\.\.(?=[,)])", "=12.5", cell.source)
        nbformat.write(notebook, used / path.name)
    run = [sys.executable, str(FOLDER / "run.py")]
    names = [str(used / path.name) for path in NOTEBOOKS]
    subprocess.run([*run, "--student", str(tmp_path / "class"), *names], check=True, timeout=100)
    for path in NOTEBOOKS:
        copy, shipped = read(tmp_path / "class" / path.name), read(path)
        sources = [cell.source.replace("](../alitok_lite/sheets/", "](pictures/") for cell in shipped.cells]
        sources = [re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", text) for text in sources]  # lead nowhere there
        assert [cell.source for cell in copy.cells] == sources
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)|\]\((GLOSSARY.md)\)", prose(copy)):
            assert (tmp_path / "class" / "".join(target)).is_file(), target
        assert not any(cell.outputs or cell.execution_count for cell in code(copy))


@pytest.mark.notebooks
def test_links_to_the_package_stay_where_they_lead_there(tmp_path):
    (tmp_path / "alitok_lite").symlink_to(FOLDER.parent / "alitok_lite")
    run = [sys.executable, str(FOLDER / "run.py"), "--student", str(tmp_path / "class"), str(NOTEBOOKS[3])]
    subprocess.run(run, check=True, timeout=100)
    links = re.findall(r"\]\((\.\./[^)]+)\)", prose(read(tmp_path / "class" / NOTEBOOKS[3].name)))
    assert len(links) >= 3 and links == re.findall(r"\]\((\.\./[^)]+)\)", prose(read(NOTEBOOKS[3])))


@pytest.mark.notebooks
def test_answers_for_teachers_are_complete(tmp_path):
    run = [sys.executable, str(FOLDER / "run.py"), "--answers", str(tmp_path / "key.ipynb")]
    subprocess.run(run, check=True, timeout=100)
    key = read(tmp_path / "key.ipynb")
    text = prose(key)
    for number, one in EXERCISES.items():
        assert f"### Exercise {number} ({one.level}, {one.minutes} minutes)" in text and one.why in text
        assert any(solution_source(number).strip() in cell.source for cell in code(key))
        assert all(f"- {sentence}" in text for sentence in one.mistakes)
    for path in NOTEBOOKS:
        for number in predictions(read(path))[0]:
            (cell,) = [cell for cell in code(read(path)) if re.search(rf'compare\(\s*"{number}"', cell.source)]
            first = cell.outputs[0].text.splitlines()[0].replace("; you made no prediction", "")
            assert f"    {first}" in text, number
    assert text.count("**What you should see.**") >= 50


@pytest.mark.notebooks
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["none.ipynb"], "there is no notebook none.ipynb"),
        (["--student", str(FOLDER)], "holds the notebooks themselves"),
        (["--answers", str(NOTEBOOKS[0])], "is one of the notebooks"),
        (["--answers", "key.txt"], "must end in .ipynb"),
    ],
    ids=["no notebook", "own folder", "own file", "other ending"],
)
def test_copies_never_replace_the_notebooks(given, words, tmp_path):
    run = subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), *given], capture_output=True, text=True, cwd=tmp_path, timeout=100
    )
    assert run.returncode == 2 and words in run.stderr and not list(tmp_path.iterdir())


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_has_an_alternative_text(path):
    """It stands in the text, and run.py --pages writes it into the page."""
    notebook = read(path)
    texts = " ".join(prose(notebook).split())
    for cell in code(notebook):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            alt = cell.metadata["alt"]
            begins = (f"*Figure: {first}{alt[1:]}*" for first in (alt[0], alt[0].lower()))
            assert len(alt) > 30 and any(begun in texts for begun in begins), alt


@pytest.mark.notebooks
def test_the_teachers_pack(tmp_path):
    """Slides, sheet, quiz and figures, all from what is stored."""
    pytest.importorskip("nbconvert")
    import pack

    pack.main(tmp_path)
    slides = (tmp_path / "slides.html").read_text("utf-8")
    assert slides.count("<section>") > 20 and "http" not in re.sub(r"base64,[\w+/=]+", "", slides)
    assert "<details>" not in slides and slides.count("<img") > 8 and 'alt=""' not in slides
    assert not re.search(r"<section>\s*</section>", slides)
    sizes = re.findall(r'<pre style="font-size: ([\d.]+)px">', slides)
    assert len(sizes) >= 4 and min(map(float, sizes)) >= 18  # to be read from the back of a room
    assert slides.count('class="large"') >= 3  # the puzzle, its strip and the three maps
    prompts = sum(prose(read(path)).count("**Predict.**") for path in NOTEBOOKS)
    assert (tmp_path / "predictions.html").read_text("utf-8").count("<li>") >= prompts > 60
    quiz, key = ((tmp_path / f"{name}.html").read_text("utf-8") for name in ("quiz", "quiz-key"))
    assert quiz.count("<li>") == key.count("<li>") == key.count("Answer:") == 5 * len(NOTEBOOKS)
    assert "Answer:" not in quiz
    figures = sum(len(pack.described(pack.nbformat.read(path, 4))) for path in NOTEBOOKS)
    assert len(list((tmp_path / "figures").glob("*.png"))) == figures > 60


@pytest.mark.notebooks
def test_a_page_describes_its_figures(tmp_path):
    """nbconvert's usual template says "No description has been provided" of each."""
    pytest.importorskip("nbconvert")
    path = NOTEBOOKS[9]
    run = [sys.executable, str(FOLDER / "run.py"), "--pages", str(tmp_path), str(path)]
    subprocess.run(run, check=True, timeout=100)
    text = (tmp_path / f"{path.stem}.html").read_text("utf-8")
    assert "No description" not in text and 'alt=""' not in text
    alts = [cell.metadata["alt"] for cell in code(read(path)) if "alt" in cell.metadata]
    assert len(alts) >= 4 and all(f'alt="{html.escape(alt)}"' in text for alt in alts)
    pictures = re.findall(r'<img[^>]+src="([^"]{,22})', text)  # nothing is left outside
    assert len(pictures) > 4 and set(pictures) == {"data:image/png;base64,"}
    assert ".jp-InputArea-editor { overflow-x: auto" in text.split("</head>")[0]  # nothing is cut on a phone
    fetched = re.findall(r'<script src="([^"]+)"', text)
    assert len(fetched) == 1 and "mathjax" in fetched[0]  # for the formulas
    shut = re.sub(r"<details>\s*<summary>.*?</details>", "", text, flags=re.S)
    assert "What you should see." in text and "What you should see." not in shut
