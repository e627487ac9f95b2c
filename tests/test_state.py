"""Files beside a checkpoint, damaged in every way: caches are made again, the rest is refused in one sentence."""

import json
import random
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_train import add_presets

from alitok_lite import AliTok, train
from alitok_lite.data.sources import SceneSource
from alitok_lite.measure import judge
from alitok_lite.store.folder import CheckpointError
from alitok_lite.train import loop, tasks
from alitok_lite.train.settings import SETTINGS
from alitok_lite.train.state import State, load_tensors, save_tensors

pytest.importorskip("accelerate")
PRESET = "mini-plain"


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def cut(length):
    return lambda path: path.write_bytes(path.read_bytes()[:length])


def change(new_tensors=lambda x: x, new_metadata=lambda x: x):
    """A safetensors file that is valid, with other contents, and without a sha256 that could tell."""

    def damage(path):
        tensors, texts = load_file(path), metadata(path)
        del texts["sha256"]
        save_file(new_tensors(tensors), path, new_metadata(texts))

    return damage


def flip(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def become_a_folder(path):
    path.unlink()
    path.mkdir()


def without(key):
    return lambda texts: {name: text for name, text in texts.items() if name != key}


ANY = {
    **{f"cut to {length}": cut(length) for length in (0, 1, 7, 8, 9, 100, 300, -1)},
    "text": lambda path: path.write_text("hello"),
    "random": lambda path: path.write_bytes(random.Random(0).randbytes(5000)),
    "one bit": flip,
    "no tensors": change(lambda tensors: {}),
    "other names": change(lambda tensors: {f"x{key}": value for key, value in tensors.items()}),
    "other shapes": change(lambda tensors: {key: value.reshape(1, -1) for key, value in tensors.items()}),
    "no metadata": change(new_metadata=lambda texts: None),
}
STATE = ANY | {
    **{f"no {key}": change(new_metadata=without(key)) for key in ("step", "settings")},
    "step in words": change(new_metadata=lambda texts: texts | {"step": "four"}),
    "step too large": change(new_metadata=lambda texts: texts | {"step": "5"}),
    "settings no JSON": change(new_metadata=lambda texts: texts | {"settings": "{"}),
    "settings a list": change(new_metadata=lambda texts: texts | {"settings": "[]"}),
    "settings unknown": change(new_metadata=lambda texts: texts | {"settings": '{"betas": [0, 0], "losses": {}}'}),
    "history a number": change(new_metadata=lambda texts: texts | {"history": "3"}),
    "history of others": change(new_metadata=lambda texts: texts | {"history": '[{"step": 1}]'}),
    "no optimiser": change(lambda tensors: {k: v for k, v in tensors.items() if not k.startswith("optimizer")}),
    "optimiser of others": change(lambda tensors: tensors | {"optimizer.999.exp_avg": torch.zeros(1)}),
    "optimiser torn": change(lambda tensors: {k: v for k, v in tensors.items() if k != "optimizer.0.exp_avg"}),
    "a folder": become_a_folder,
}
IDS = ANY | {
    "floats": change(lambda tensors: {key: value.float() for key, value in tensors.items()}),
    "codes out of range": change(lambda tensors: tensors | {"ids": tensors["ids"] + 99}),
    "negative": change(lambda tensors: tensors | {"ids": tensors["ids"] - 99}),
    "classes out of range": change(lambda tensors: tensors | {"labels": tensors["labels"] + 99}),
    "fewer labels": change(lambda tensors: tensors | {"labels": tensors["labels"][1:]}),
    "no rows": change(lambda tensors: {key: value[:0] for key, value in tensors.items()}),
    "fewer tokens": change(lambda tensors: tensors | {"ids": tensors["ids"][:, 1:].contiguous()}),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a tokenizer and an AR model."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        add_presets(patch)
        patch.setattr(loop, "_save_sheet", lambda *_: None)
        for part in ("tokenizer", "ar"):
            train.train(part, PRESET, folder)
        yield folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.parametrize("part", ["tokenizer", "ar"])
@pytest.mark.parametrize("damage", STATE)
def test_damaged_state_is_one_sentence(run, part, damage):
    path = run / "state" / f"{part}.safetensors"
    STATE[damage](path)
    others = {other: other.read_bytes() for other in run.rglob("*") if other.is_file() and other != path}
    with pytest.raises(CheckpointError) as caught:
        train.train(part, PRESET, run, True, [("steps", 6)], replace=True)
    text = str(caught.value)
    assert text.startswith(f"{path} is damaged (") and text.endswith("): train this part anew with --replace")
    assert "\n" not in text and len(text) < 400
    assert others == {other: other.read_bytes() for other in run.rglob("*") if other.is_file() and other != path}


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_a_state_that_names_the_former_edge_term_is_read(run, capsys, weight):
    """Earlier versions had it, with weight 0 in every preset."""
    path = run / "state" / "tokenizer.safetensors"
    settings = json.loads(metadata(path)["settings"])
    settings["losses"]["edges"] = weight
    change(new_metadata=lambda texts: texts | {"settings": json.dumps(settings)})(path)
    assert State(path).settings == SETTINGS[PRESET]["tokenizer"]
    said = "the loss term 'edges' (weight 0.1) of this training no longer exists: it continues without\n"
    assert capsys.readouterr().out == (said if weight else "")


@pytest.mark.parametrize("damage", IDS)
def test_damaged_ids_are_made_again(run, capsys, damage):
    path, settings = run / "state" / "ids.safetensors", SETTINGS[PRESET]["ar"]
    model, source = AliTok.from_pretrained(run, "cpu"), SceneSource(32, settings, torch.device("cpu"))
    wanted = tasks.cached_ids(model, source, run)
    capsys.readouterr()
    IDS[damage](path)
    found = tasks.cached_ids(model, source, run)
    said = capsys.readouterr().out
    assert all(map(torch.equal, found, wanted))
    assert f"{path} is damaged (" in said and said.count("it is made again") == 1
    assert all(map(torch.equal, tasks.cached_ids(model, source, run), wanted)) and not capsys.readouterr().out


def test_ids_of_another_tokenizer_are_made_again_with_a_line(run, capsys):
    settings = SETTINGS[PRESET]["ar"]
    model, source = AliTok.from_pretrained(run, "cpu"), SceneSource(32, settings, torch.device("cpu"))
    model.tokenizer.quantizer.codebook.data.mul_(-1)
    tasks.cached_ids(model, source, run)
    assert "belongs to another tokenizer or other pictures: it is made again" in capsys.readouterr().out


def test_training_goes_on_with_a_damaged_cache(run):
    cut(300)(run / "state" / "ids.safetensors")
    train.train("ar", PRESET, run, True, [("steps", 6)])
    assert AliTok.from_pretrained(run, "cpu").info["training"]["ar"]["steps"] == 6


JUDGE = ["cut to 0", "cut to 7", "cut to 100", "cut to 300", "cut to -1", "text", "random"]


@pytest.mark.parametrize("damage", [*JUDGE, "a folder", "no tensors", "other names", "other shapes"])
def test_damaged_judge_is_one_sentence(tmp_path, damage):
    path, batches = tmp_path / "judge", lambda step: (torch.rand(4, 3, 32, 32), torch.arange(4) % 2)
    judge.stored_judge(path, batches, ["a", "b"], 2, torch.device("cpu"))
    save_file(load_file(path), path, metadata(path) | {"sha256": ""})  # what `change` takes away
    STATE[damage](path)
    with pytest.raises(ValueError) as caught:
        judge.stored_judge(path, batches, ["a", "b"], 2, torch.device("cpu"))
    assert str(caught.value).startswith(f"{path} does not hold a judge") and "\n" not in str(caught.value)


def test_tensors_come_back_and_any_change_is_seen(tmp_path):
    tensors = {"a": torch.rand(3, 4).T, "b": torch.tensor(7), "c": torch.rand(5).bfloat16(), "d": torch.rand(2) > 0.5}
    save_tensors(tmp_path / "new" / "x", tensors, {"made": "here"})
    found, texts = load_tensors(tmp_path / "new" / "x")
    assert texts == {"made": "here"} and found.keys() == tensors.keys()
    assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in tensors.items())
    whole, seen = (tmp_path / "new" / "x").read_bytes(), 0
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 16
        (tmp_path / "y").write_bytes(data)
        try:
            changed, texts = load_tensors(tmp_path / "y")
        except ValueError:
            seen += 1
        else:  # a blank of the header, or the name of the sha256
            assert texts["made"] == "here" and all(torch.equal(changed[key], value) for key, value in tensors.items())
    assert seen > len(whole) / 10
