"""A study at equal bits in a folder of one's own: what is trained, kept, refused, estimated and said at the end."""

import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from test_matched import mini, small_plan  # noqa: F401
from test_verdict import _unit

from alitok_lite.__main__ import main
from alitok_lite.interrupt import Stopped
from alitok_lite.study import matched, pools, units
from alitok_lite.study.rows import RESULTS, ROWS

ROWS_OF = ("A256", "A1024", "B1024")


@pytest.fixture
def plan(mini, monkeypatch):  # noqa: F811
    """The study "mini", of three rows."""
    codes = {"A256": ("A", 8), "A1024": ("A", 16), "B1024": ("B", 16)}
    for row, what in codes.items():
        monkeypatch.setitem(matched.CODES, row, what)
    made = replace(small_plan("scenes", held_out=False), rows=ROWS_OF)
    monkeypatch.setitem(units.PLANS, "mini", made)
    return made


@pytest.fixture
def trained(monkeypatch):
    """Units that are not trained but made up; returns those that were requested."""
    calls = []

    def run_unit(plan, pool, ready, folder, row, seed, log, begins):
        calls.append((row, seed))
        for part in ("tokenizer", *(f"reader {reading.name}" for reading in matched.readings(plan, row))):
            begins(part)
        bits = {"A256": 70, "A1024": 100, "B1024": 80}[row] + seed
        (folder / f"{row}-{seed}.json").write_text(json.dumps(_unit(row, seed, bits, 0.02 + 0.001 * seed)))

    monkeypatch.setattr(units, "run_unit", run_unit)
    return calls


def match(folder, *further):
    return main(["match", "--study", "mini", "--out", str(folder), *further])


def test_a_study_is_run_and_its_verdict_printed_and_drawn(plan, trained, tmp_path, capsys):
    out = tmp_path / "runs" / "match"
    assert match(out) == 0
    assert trained == [(row, seed) for seed in range(3) for row in ROWS_OF]  # a stopped study has whole seeds
    said = capsys.readouterr().out
    parts = re.findall(r"^row (\S+), seed (\d), (.*): (\d+) of 27 parts, about ", said, re.M)
    wanted = [(row, str(seed), part) for seed in range(3) for row in ROWS_OF for part in PARTS]
    assert parts == [(*part, str(number)) for number, part in enumerate(wanted, 1)]
    assert "at the 81.0 bits of B1024, between A256 and A1024" in said
    assert said.endswith(f"chart in {out / 'rate.png'}\n") and (out / "rate.png").stat().st_size > 10_000
    assert main(["verdict", "--from", str(out)]) == 0
    assert said.endswith(capsys.readouterr().out + f"chart in {out / 'rate.png'}\n")


PARTS = ("tokenizer", "reader full", "reader few")


def test_what_a_folder_holds_is_kept(plan, trained, tmp_path, capsys):
    assert match(tmp_path, "--seeds", "0", "--rows", "A256,B1024,A256") == 0
    before = (tmp_path / "B1024-0.json").stat().st_mtime_ns
    capsys.readouterr()
    assert match(tmp_path, "--seeds", "0,1,1") == 0
    assert trained == [("A256", 0), ("B1024", 0), ("A1024", 0), ("A256", 1), ("A1024", 1), ("B1024", 1)]
    said = capsys.readouterr().out
    kept = [f"row {row}, seed 0: {tmp_path} holds it already, and it is kept" for row in ("A256", "B1024")]
    assert said.splitlines()[:2] == kept and said.count("is kept") == 2
    assert "row A1024, seed 0, tokenizer: 1 of 12 parts" in said
    assert (tmp_path / "B1024-0.json").stat().st_mtime_ns == before


def test_a_folder_holds_one_study(plan, trained, tmp_path, capsys, monkeypatch):
    assert match(tmp_path / "a", "--seeds", "0") == 0
    monkeypatch.setitem(units.PLANS, "mini", replace(plan, critic_steps=4))
    held = (tmp_path / "a" / "study.json").read_bytes()
    for folder, name, text in (("b", "A-0", "{}"), ("c", "study", "[1]")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.json").write_text(text)
    capsys.readouterr()
    for name, words in (
        ("a", " holds a study with other settings (critic_steps); choose another --out"),
        ("b", " holds units, and no study.json says how they were made; choose another --out"),
        ("c", "/study.json is not the record of a study; choose another --out"),
    ):
        assert match(tmp_path / name, "--seeds", "1") == 2
        assert capsys.readouterr().err == f"alitok_lite: {tmp_path / name}{words}\n"
    assert len(trained) == 3 and (tmp_path / "a" / "study.json").read_bytes() == held
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["A-0.json"]


def test_too_few_pictures_are_noticed_first(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(units.PLANS, "mini", replace(plan, pictures=14, counts=(14, 28)))
    with pytest.raises(
        ValueError, match="scenes has 14 unseen pictures in each of two sets; the study needs 28 or more"
    ):
        units.open_study(tmp_path / "new", "mini")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (KeyboardInterrupt(), "match was stopped"),
        (Stopped("RUN", 7, 9), "stopped at step 7 of 9, which is saved in RUN"),
    ],
)
def test_ctrl_c_ends_with_a_line(plan, tmp_path, capsys, monkeypatch, stop, words):
    def run_unit(*_):
        raise stop

    monkeypatch.setattr(units, "run_unit", run_unit)
    assert match(tmp_path / "runs") == 130
    said = f"alitok_lite: {words}; {tmp_path / 'runs'} keeps what is finished, and the same command goes on\n"
    assert capsys.readouterr().err.endswith(said)


def test_a_tokenizer_is_begun_continued_or_taken(plan, tmp_path, monkeypatch):
    """Whatever stopped its unit; and its weights are those that are stored."""
    pool, sizes = pools.ScenePool(32, 14, torch.device("cpu")), matched.sizes_of(plan, "B1024", 14)
    calls, real = [], matched.train_part

    def train_part(kind, sizes, settings, run, resume, data, device):
        calls.append(resume)
        if len(calls) == 1:
            real(kind, sizes, replace(settings, steps=2), run, resume, data, device=device)
            raise KeyboardInterrupt
        return real(kind, sizes, settings, run, resume, data, device=device)

    monkeypatch.setattr(matched, "train_part", train_part)
    asked = (sizes, ROWS["B"], plan, pool, tmp_path / "B1024-0", 0)
    with pytest.raises(KeyboardInterrupt):
        matched._tokenizer(*asked)
    first, second = matched._tokenizer(*asked), matched._tokenizer(*asked)
    assert calls == [False, True]
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert not first.training and not any(p.requires_grad for p in first.parameters())


def test_the_published_judges_are_taken(plan, tmp_path):
    pool = pools.ScenePool(32, 14, torch.device("cpu"))
    chosen = replace(plan, published_judges=True, judges=1)
    (judge,) = matched._judges(chosen, pool, tmp_path / "judges.safetensors")
    held = load_file(RESULTS / "matched" / "judges.safetensors")
    assert all(torch.equal(value, held[f"0.{name}"]) for name, value in judge.state_dict().items())
    assert {name.split(".")[0] for name in held} == {"0", "1"}


def test_the_reduced_study_is_small_and_the_whole_one_is_the_published():
    assert set(matched.TINY.rows) < set(matched.CODES) and matched.TINY.published_judges
    for plan in (matched.TINY, matched.SCENES, matched.photographs("pictures")):
        row = plan.rows[-1]
        assert matched.CODES[row][0] == "B"
        assert len(matched.readings(plan, row)) >= 2
    published = json.loads((RESULTS / "matched" / "B-0.json").read_text())
    assert list(published["readers"]) == [reading.name for reading in matched.readings(matched.SCENES, "B")]
    assert published["pictures"] == matched.SCENES.pictures


@pytest.mark.slow
def test_a_study_from_beginning_to_end(plan, tmp_path, capsys):
    assert match(tmp_path, "--seeds", "0,1") == 0
    said = capsys.readouterr().out
    assert "Tokenizer seeds: 2 of A1024, 2 of A256, 2 of B1024." in said
    assert len(list(tmp_path.glob("*-[01].json"))) == 6 and (tmp_path / "rate.png").exists()
    unit = json.loads((tmp_path / "B1024-1.json").read_text())
    assert list(unit["readers"]) == ["full", "few"] and unit["tokenizer"]["look_ahead"] == 0
    assert match(tmp_path, "--seeds", "0,1") == 0
    assert capsys.readouterr().out.count("is kept") == 6
