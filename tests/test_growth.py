"""How sampling time grows: what is timed, the numbers of a row, the slopes, the command."""

import json
import weakref
from dataclasses import replace

import pytest
import torch
from conftest import small_ar, small_tokenizer

from alitok_lite import viz
from alitok_lite.__main__ import main
from alitok_lite.core.ar import ARModel
from alitok_lite.core.config import PRESETS, Preset
from alitok_lite.core.sampling import Step
from alitok_lite.fast import steps
from alitok_lite.packed import PackedLinear, packed
from alitok_lite.study import growth
from alitok_lite.study.bench import ar_work

TOKENIZER = small_tokenizer()
PRESET = Preset(TOKENIZER, small_ar(TOKENIZER))
CPU = torch.device("cpu")
FAST = isinstance(packed(torch.nn.Linear(2, 2)), PackedLinear)  # on this CPU


def by_line(preset, batches):
    found = {line: [] for line in growth.LINES}
    for point in growth.points(preset, batches):
        found[point.line].append(point)
    return found


@pytest.mark.parametrize("name", PRESETS)
def test_one_thing_changes_at_a_time(name):
    preset = PRESETS[name]
    lines = by_line(preset, [64, 1, 1])
    geometry = {"grid": preset.ar.grid, "prefix_tokens": preset.ar.prefix_tokens}
    assert {replace(point.config, **geometry) for point in lines["tokens"]} == {preset.ar}
    assert {point.config for point in lines["pictures"]} == {preset.ar}
    assert {point.config.tokens for point in lines["parameters"]} == {preset.ar.tokens}
    for line in ("tokens", "parameters"):
        once = [point.config for point in lines[line] if point.pictures == 1]
        assert preset.ar in once and len(set(once)) == len(once)
        assert [point.config for point in lines[line] if point.pictures == 64] == once
        assert {point.pictures for point in lines[line]} == {1, 64}
    assert [point.pictures for point in lines["pictures"]] == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_lines_of_the_presets():
    def tokens(name):
        return [point.config.tokens for point in by_line(PRESETS[name], [1])["tokens"]]

    def sizes(name):
        return [(p.config.depth, p.config.width, p.config.hidden) for p in by_line(PRESETS[name], [1])["parameters"]]

    assert tokens("alitok-b") == tokens("scenes") == [21, 73, 133, 273, 553, 1057]
    assert tokens("fruits") == [21, 43, 73, 133, 273, 553, 1057]  # its own among them
    assert tokens("scenes-noprefix") == [16, 64, 121, 256, 529, 1024]
    assert sizes("alitok-b") == sizes("alitok-xl") == [(24, 768, 2048), (24, 1024, 2816), (32, 1280, 3584)]
    assert sizes("tiny") == [(1, 64, 172), (3, 128, 344), (6, 256, 688)]
    assert [p.pictures for p in by_line(PRESETS["tiny"], [3, 5])["pictures"]] == [3, 6, 12]


@pytest.fixture
def quick(monkeypatch):
    """Two grids beside the preset's own and rates that say nothing of this machine; the models that are made."""
    models = []

    def remembered(config):
        ar = ARModel(config)
        assert not any(model() is not None for model in models), "a model is there while the next one is made"
        models.append(weakref.ref(ar))
        return ar

    monkeypatch.setattr(growth, "ARModel", remembered)
    monkeypatch.setattr(growth, "GRIDS", (2, 3))
    monkeypatch.setattr(growth, "rates", lambda device, dtype: {"bytes": 1e10, "flop": 1e13})
    return models


def test_growth_on_a_cpu(quick):
    results = growth.growth(PRESET, [1, 2], CPU, torch.float32, repeats=2)
    rows = results["rows"]
    assert [row["line"] for row in rows] == [point.line for point in growth.points(PRESET, [1, 2])]
    assert len(quick) == len({point.config for point in growth.points(PRESET, [1, 2])})  # the preset's own once
    for row in rows:
        assert row["path"] == ("fast" if FAST else "plain") and row["seconds"] > 0 and row["first"] > 0
        assert row["ms_per_step"] == pytest.approx(1000 * row["seconds"] / row["tokens"])
        assert row["images_per_second"] == pytest.approx(row["pictures"] / row["seconds"])
        assert row["share_of_bound"] == pytest.approx(row["bound"] / row["seconds"])
    last = next(point.config for point in reversed(growth.points(PRESET, [1, 2])))
    least = ar_work(last, 4, 4)["bytes"] / 1e10  # two pictures with guidance, four bytes a number
    assert rows[-1]["bound"] == pytest.approx(least)
    for named in growth.curves(rows).values():
        for points in named.values():
            assert all(a[0] < b[0] and a[2] < b[2] for a, b in zip(points, points[1:], strict=False))  # x and bound
    own = [row for row in rows if row["tokens"] == PRESET.ar.tokens and row["pictures"] == 1]
    same = [row for row in own if row["parameters"] == sum(p.numel() for p in ARModel(PRESET.ar).parameters())]
    assert len(same) == 3 and len({row["seconds"] for row in same}) == 1
    assert results["left_out"] == [] and results["versions"]["torch"] == torch.__version__
    lines = growth.table(results).splitlines()
    assert len(set(map(len, lines[: 1 + len(rows)]))) == 1
    assert lines[1 + len(rows) + (not FAST)].startswith("Slopes")


def test_every_token_of_the_batch_is_sampled_with_guidance(monkeypatch):
    sampled = []

    def generate(ar, labels, seeds, sampling):
        for step in steps.generate_plainly(ar, labels, seeds, sampling):
            sampled.append((sampling.guidance, step.ids.shape))
            yield step

    monkeypatch.setattr(growth.steps, "generate", generate)
    growth._measure(PRESET.ar, [3], CPU, torch.float32, 1)
    once = [(2.0, (3, index + 1)) for index in range(PRESET.ar.tokens)]
    assert sampled == 2 * once  # to warm up, and for the time


def test_path_is_that_which_was_taken(monkeypatch):
    """Asked afterwards, since recording may fail."""
    told = []
    monkeypatch.setattr(growth, "packed", lambda module: module)
    monkeypatch.setattr(growth.steps, "generate", lambda *_: told.append("sampled") or iter([Step]))
    monkeypatch.setattr(growth.steps, "applies", lambda ar, rows: told.append(rows) or rows <= 4)
    found = growth._measure(PRESET.ar, [2, 3], CPU, torch.float32, 1)
    assert [found[n]["path"] for n in (2, 3)] == ["fast", "plain"]
    assert told == ["sampled", "sampled", 4, "sampled", "sampled", 6]


def test_too_little_memory_costs_its_row_alone(quick, monkeypatch):
    sample = growth._sample

    def limited(ar, pictures):
        if ar.config.tokens > PRESET.ar.tokens:
            raise torch.OutOfMemoryError("no room")
        sample(ar, pictures)

    monkeypatch.setattr(growth, "_sample", limited)
    monkeypatch.setattr(growth, "GRIDS", (2, 9))
    results = growth.growth(PRESET, [1], CPU, torch.float32, repeats=1)
    assert [entry.partition(",")[0] for entry in results["left_out"]] == ["tokens: 91 tokens"]
    assert len(results["rows"]) == len(growth.points(PRESET, [1])) - 1
    assert f"left out, too little memory: {results['left_out'][0]}" in growth.table(results)


def rows_of(slope, path="fast"):
    """Seconds that grow with a power of each line's number, and a bound in proportion."""
    base = {"tokens": 10, "pictures": 4, "parameters": 2_000_000, "path": path}
    rows = []
    for line in growth.LINES:
        for factor in (1, 2, 8):
            row = base | {"line": line, line: base[line] * factor, "seconds": factor**slope, "bound": factor / 10}
            rows.append(row | {"ms_per_step": 1.0, "images_per_second": 1.0, "share_of_bound": 0.1})
    return rows


def results_of(rows):
    return {"rows": rows, "left_out": []}


@pytest.mark.parametrize("slope", [0, 1, 2])
def test_slopes(slope):
    lines = growth.bend(rows_of(slope)).splitlines()[1:]
    form = "{}: {}-{}: {:.2f} (1.00); {}-{}: {:.2f} (1.00)"
    assert lines == [
        form.format("  tokens of a picture, 4 pictures", 10, 20, slope, 20, 80, slope),
        form.format("  pictures at once, 10 tokens", 4, 8, slope, 8, 32, slope),
        form.format("  parameters (millions), 4 pictures", 2, 4, slope, 4, 16, slope),
    ]


def test_paths_are_not_compared():
    rows = rows_of(1)
    rows[2]["path"] = "plain"
    charts = growth.curves(rows)
    assert list(charts["tokens of a picture"]) == ["4 pictures", "4 pictures, plain path"]
    assert charts["tokens of a picture"]["4 pictures, plain path"] == [(80, 8, 0.8)]
    assert "4 pictures, plain path: a single point" in growth.bend(rows)
    assert "plain: the fast path serves a GPU up to 1,024 rows" in growth.table(results_of(rows))
    assert "plain: " not in growth.table(results_of(rows_of(1)))


def test_chart_shows_measured_and_bound():
    charts = growth.curves(rows_of(2))
    axes = viz.growth_charts(charts).axes
    assert [ax.get_xlabel() for ax in axes] == list(growth.LINES.values())
    for ax, named in zip(axes, charts.values(), strict=True):
        (points,) = named.values()
        measured, bound = ax.lines[-2:]
        assert [*zip(*measured.get_data(), *bound.get_data()[1:], strict=True)] == points
        assert (measured.get_linestyle(), bound.get_linestyle()) == ("-", "--")
        assert measured.get_color() == bound.get_color()
        assert ax.get_xscale() == ax.get_yscale() == "log"


def test_command(tmp_path, monkeypatch, capsys):
    results = results_of(rows_of(1))
    monkeypatch.setattr(growth, "growth", lambda *arguments: results | {"arguments": [str(a) for a in arguments[1:]]})
    path, out = tmp_path / "g.json", tmp_path / "g.png"
    options = ["--growth", "--preset", "tiny", "--device", "cpu", "--json", str(path)]
    assert main(["bench", *options, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{growth.table(results)}\nchart in {out}\n"
    assert out.read_bytes() == viz.to_png(viz.growth_charts(growth.curves(results["rows"])))
    kept = json.loads(path.read_text())
    assert kept["preset"] == "tiny" and kept["arguments"] == ["[1, 64]", "cpu", "torch.float32", "3"]
    assert main(["bench", *options, "--batch", "2,4", "--repeats", "1"]) == 0
    assert json.loads(path.read_text())["arguments"] == ["[2, 4]", "cpu", "torch.float32", "1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--growth", "--techniques"], "not allowed with argument"),
        (["--growth", "--data", "."], "not allowed with argument"),
        (["--growth", "--official", "."], "not beside --growth"),
        (["--growth", "--batch", ""], "--batch has ''"),
        (["--growth", "--batch", "0"], "--batch and --repeats must be 1 or more"),
        (["--growth", "--repeats", "0"], "--batch and --repeats must be 1 or more"),
        (["--growth", "--out", ""], "--out is ''"),
        (["--growth", "--out", "growth.jpg"], "its name must end in .png"),
        (["--growth", "--out", "growth", "--json", "./growth"], "they must be two files"),
        (["--out", "growth.png"], "only --growth has a chart"),
        (["--techniques", "--out", "growth.png"], "only --growth has a chart"),
    ],
)
def test_refusals(tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(growth, "timed", lambda *_: pytest.fail("nothing may be timed"))
    assert main(["bench", "--device", "cpu", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error and not any(tmp_path.iterdir())
