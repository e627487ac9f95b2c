"""A RUN folder through all orders of training: a part is lost only on request, and a line says so."""

import itertools
import json
import shutil

import pytest
import torch
from conftest import small_ar, small_tokenizer
from safetensors.torch import load_file
from test_train import add_presets

from alitok_lite import PRESETS, AliTok, train
from alitok_lite.core.config import Preset
from alitok_lite.data.sources import SceneSource
from alitok_lite.store.folder import CheckpointError
from alitok_lite.train import loop
from alitok_lite.train.settings import SETTINGS

pytest.importorskip("accelerate")

PRESET = "mini-plain"  # the quickest
PARTS = ("tokenizer", "decoder", "ar")
MODES = {  # resume, steps (None: the preset's 4), replace
    "plain": (False, None, False),
    "resume": (True, None, False),
    "longer": (True, 6, False),
    "replace": (False, None, True),
    "resume, replace": (True, None, True),
    "longer, replace": (True, 6, True),
}
# What a RUN holds before: parts, and whether the tokenizer was stopped at step 2 of 4.
STATES = [((), False)]
STATES += list(itertools.product((("tokenizer",), PARTS), (False, True)))
STATES += [(("tokenizer", "decoder"), False), (("tokenizer", "ar"), False)]


@pytest.fixture(scope="module")
def presets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        add_presets(patch)
        tokenizer = small_tokenizer(encoder_depth=1, decoder_depth=1)
        patch.setitem(PRESETS, PRESET, Preset(tokenizer, small_ar(tokenizer, classes=14, depth=1)))
        unseen = SceneSource.unseen
        patch.setattr(SceneSource, "unseen", lambda source, count: unseen(source, min(count, 8)))  # all this for speed
        patch.setattr(loop, "_save_sheet", lambda *_: None)
        yield patch


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def runs(presets, tmp_path_factory):
    """A folder for each of STATES."""
    root, made = tmp_path_factory.mktemp("runs"), {}
    for number, (parts, stopped) in enumerate(STATES):
        made[parts, stopped] = root / str(number)
        for part in parts:
            if part == "tokenizer" and stopped:
                with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
                    patch.setattr(loop, "_save_sheet", interrupted)
                    train.train(part, PRESET, root / str(number))
            else:
                train.train(part, PRESET, root / str(number))
    return made


@pytest.fixture(scope="module")
def held_before(runs):
    """What each of `runs` holds, read once."""
    return {state: held(folder) for state, folder in runs.items()}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def held(folder):
    """Part -> steps, and its weights."""
    if not (folder / "config.json").exists():
        return {}
    model = AliTok.from_pretrained(folder, "cpu")
    modules = {"tokenizer": model.tokenizer.decoder1, "decoder": model.tokenizer.decoder2, "ar": model.ar}
    found = {part: module.state_dict() for part, module in modules.items() if module is not None}
    assert model.info.get("training", {}).keys() == found.keys()
    return {part: (model.info["training"][part]["steps"], weights) for part, weights in found.items()}


def expected(parts, stopped, part, mode):
    """What a user would expect: "refused", "idle" (nothing to do), or the parts that go."""
    resume, steps, replace = MODES[mode]
    if part not in parts and (resume or (part != "tokenizer" and not parts)):
        return "refused"  # nothing to resume, or no tokenizer to begin with
    if resume and steps is None and not (part == "tokenizer" and stopped):
        return "idle"
    useless = {"decoder", "ar"} & set(parts) if part == "tokenizer" else set()
    lost = useless if resume else useless | ({part} & set(parts))
    return lost if replace or not lost else "refused"


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("parts", "stopped"), STATES, ids=["+".join(p) + " stopped" * s or "empty" for p, s in STATES])
def test_every_order(runs, held_before, tmp_path, capsys, parts, stopped, part, mode):
    folder, (resume, steps, replace) = tmp_path / "run", MODES[mode]
    if parts:
        shutil.copytree(runs[parts, stopped], folder)
    before, files, wanted = held_before[parts, stopped], contents(folder), expected(parts, stopped, part, mode)
    assert tuple(before) == parts
    overrides = [("steps", steps)] if steps else []
    if wanted == "refused":
        with pytest.raises(CheckpointError) as caught:
            train.train(part, PRESET, folder, resume, overrides, replace=replace)
        assert "\n" not in str(caught.value) and contents(folder) == files
        return
    capsys.readouterr()
    train.train(part, PRESET, folder, resume, overrides, replace=replace)
    said, after = capsys.readouterr().out, held(folder)
    if wanted == "idle":
        assert contents(folder) == files and "are done" in said
        return
    assert after.keys() == (before.keys() - wanted) | {part}
    assert after[part][0] == (steps or 4)
    for other in after.keys() - {part}:
        assert after[other][0] == before[other][0]
        assert all(torch.equal(value, before[other][1][key]) for key, value in after[other][1].items())
    states = {path.stem for path in (folder / "state").glob("*.safetensors")} - {"ids"}
    assert states == after.keys()
    names = {"tokenizer": "tokenizer", "decoder": "second decoder", "ar": "AR model"}
    assert all(names[lost] in said for lost in wanted) and ("will be removed" in said) == bool(wanted)
    for other in after.keys() - {part, "tokenizer"}:  # its state still fits
        train.train(other, PRESET, folder, True, [("steps", 5)])


def test_refusal_names_what_would_go_and_the_ways_out(runs):
    for parts, stopped, part, resume, words in (
        (PARTS, True, "tokenizer", True, ("the second decoder and AR model", "copy the folder", "--replace")),
        (PARTS, False, "tokenizer", False, ("tokenizer, second decoder and AR model", "--out", "--resume")),
        (PARTS, False, "ar", False, ("removes the AR model", "--out", "--resume", "--replace")),
    ):
        with pytest.raises(CheckpointError) as caught:
            train.train(part, PRESET, runs[parts, stopped], resume)
        assert all(word in str(caught.value) for word in words), caught.value


def test_what_is_replaced_stays_until_the_first_save(runs, tmp_path, monkeypatch):
    """An error before it, and the RUN is as it was; sheets and states of what was replaced go with it."""
    folder = shutil.copytree(runs[PARTS, False], tmp_path / "run")
    (folder / "sheets").mkdir()
    for name in ("tokenizer-000004.png", "ar-000004.png"):
        (folder / "sheets" / name).write_bytes(b"old")
    files = contents(folder)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(loop, "backward", lambda *_: 1 / 0)
        train.train("tokenizer", PRESET, folder, replace=True)
    assert contents(folder) == files
    train.train("tokenizer", PRESET, folder, replace=True)
    assert list((folder / "sheets").iterdir()) == []
    assert not (folder / "state" / "ar.safetensors").exists()


def test_killed_between_removal_and_checkpoint_leaves_no_state_of_another_training(runs, tmp_path, monkeypatch):
    folder = shutil.copytree(runs[PARTS, False], tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(loop, "save_state", lambda *_: 1 / 0)  # after the new checkpoint, before the new state
        train.train("ar", PRESET, folder, overrides=[("lr", 0.5)], replace=True)
    assert held(folder)["ar"][0] == 2
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train.train("ar", PRESET, folder, True, [("lr", 0.5)])


def test_state_of_another_tokenizer_is_refused(runs, tmp_path):
    """As after a copy of files by hand."""
    folder = shutil.copytree(runs[PARTS, False], tmp_path / "run")
    kept = {part: (folder / "state" / f"{part}.safetensors").read_bytes() for part in ("decoder", "ar")}
    train.train("tokenizer", PRESET, folder, overrides=[("seed", 1)], replace=True)
    for part, state in kept.items():
        train.train(part, PRESET, folder)
        (folder / "state" / f"{part}.safetensors").write_bytes(state)
        with pytest.raises(CheckpointError, match="belongs to another tokenizer"):
            train.train(part, PRESET, folder, True, [("steps", 6)])


def test_part_on_an_unfinished_tokenizer_is_warned_of(runs, tmp_path, capsys):
    for stopped in (True, False):
        folder = shutil.copytree(runs[("tokenizer",), stopped], tmp_path / str(stopped))
        capsys.readouterr()
        train.train("ar", PRESET, folder)
        said = "has 2 of 4 steps: training it further would make this AR model useless" in capsys.readouterr().out
        assert said is stopped


@pytest.mark.slow
def test_lengthened_training_follows_the_longer_schedule(runs, tmp_path, capsys, monkeypatch):
    rates, real = {}, train.learning_rate
    monkeypatch.setattr(loop, "learning_rate", lambda given, step: rates.setdefault(step, real(given, step)))
    long = [("steps", 40)]
    train.train("tokenizer", PRESET, tmp_path / "whole", overrides=long)
    whole = rates.copy()
    rates.clear()
    folder = shutil.copytree(runs[("tokenizer",), False], tmp_path / "run")
    capsys.readouterr()
    train.train("tokenizer", PRESET, folder, True, long)
    assert rates == {step: rate for step, rate in whole.items() if step >= 4} and len(rates) == 36
    lines = capsys.readouterr().out
    assert "40 steps instead of 4: from step 4 on the learning rate follows the schedule of 40" in lines
    assert AliTok.from_pretrained(folder, "cpu").info["training"]["tokenizer"]["steps"] == 40
    for steps, words in ((39, "40 steps are done and steps is 39; give 40 or more"), (1, "give 40 or more")):
        with pytest.raises(CheckpointError, match=words):
            train.train("tokenizer", PRESET, folder, True, [("steps", steps)])
    with pytest.raises(CheckpointError, match="lr was 0.001 and is now 0.5"):
        train.train("tokenizer", PRESET, folder, True, [*long, ("lr", 0.5)])


def test_stopped_training_may_be_shortened(runs, tmp_path):
    folder = shutil.copytree(runs[("tokenizer",), True], tmp_path / "run")
    train.train("tokenizer", PRESET, folder, True, [("steps", 3)])
    assert held(folder)["tokenizer"][0] == 3
    state = load_file(folder / "state" / "tokenizer.safetensors")
    assert state["optimizer.0.step"] == 3


def test_tokenizer_that_goes_on_keeps_what_the_run_says_of_it(runs, tmp_path):
    folder = shutil.copytree(runs[("tokenizer",), True], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["sampling"]["guidance"], config["info"]["note"] = 7.0, "mine"
    config["info"]["training"]["tokenizer"]["seconds"] = 1000
    (folder / "config.json").write_text(json.dumps(config))
    model = train.train("tokenizer", PRESET, folder, True)
    assert (model.sampling.guidance, model.info["note"]) == (7.0, "mine")
    assert AliTok.from_pretrained(folder, "cpu").info["training"]["tokenizer"]["seconds"] >= 1000


def test_resuming_needs_the_same_sizes_and_classes(runs, tmp_path):
    folder = shutil.copytree(runs[("tokenizer",), True], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["classes"] = ["other"] * 14
    (folder / "config.json").write_text(json.dumps(config))
    files = contents(folder)
    with pytest.raises(CheckpointError, match="trained on other pictures: their classes differ"):
        train.train("tokenizer", PRESET, folder, True)
    with pytest.raises(CheckpointError, match="tokenizer sizes differ"):
        train.train_part("tokenizer", PRESETS["mini-conventional"], SETTINGS[PRESET]["tokenizer"], folder, True)
    assert contents(folder) == files


@pytest.mark.parametrize("info", ["text", [1], {"training": "x"}, {"training": {"tokenizer": 3}}])
def test_damaged_story_is_one_sentence(runs, tmp_path, info):
    folder = shutil.copytree(runs[("tokenizer",), True], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"info": info}))
    for part, resume in (("tokenizer", True), ("ar", False)):
        with pytest.raises(CheckpointError, match="what it says of the training is damaged"):
            train.train(part, PRESET, folder, resume)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tokenizer", "none", "r"), "no preset 'none'; choose one of"),
        (("picture", PRESET, "r"), "no part 'picture' to train; choose one of tokenizer, decoder, ar"),
        (("tokenizer", PRESET, "r", False, [("step", 3)]), "no setting 'step'; choose from accumulate"),
        (("tokenizer", PRESET, "r", False, [("seed", 2**32)]), "seed is 4294967296; it must be a whole number from 0"),
        (("tokenizer", PRESET, "r", False, [("batch", 2.5)]), "batch is 2.5; it must be a whole number from 1"),
        (("tokenizer", PRESET, "file/r"), "file is a file; --out must be a folder"),
        (("ar", PRESET, "r"), "no checkpoint in r"),
        (("ar", PRESET, "scenes"), "no checkpoint in scenes"),  # not the bundled one of that name
    ],
)
def test_mistakes_leave_nothing_behind(presets, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=words):
        train.train(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
