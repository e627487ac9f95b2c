"""`train --from CHECKPOINT`: what begins with its weights, what is fresh, and what does not fit."""

import shutil

import pytest
import torch
from test_data import fill
from test_train import preset  # noqa: F401

from alitok_lite import PRESETS, AliTok, train
from alitok_lite.__main__ import main
from alitok_lite.store.folder import CheckpointError
from alitok_lite.train import start
from alitok_lite.train.log import read_log
from alitok_lite.train.settings import TrainSettings


@pytest.fixture
def given(tmp_path):
    """A checkpoint with all parts, for the classes a, b and c."""
    torch.manual_seed(3)
    model = AliTok.from_preset(PRESETS["mini"], ["a", "b", "c"] + [str(i) for i in range(11)])
    torch.nn.init.normal_(model.ar.output.weight, std=0.1)
    model.save_pretrained(tmp_path / "given")
    return str(tmp_path / "given")


@pytest.fixture
def pictures(tmp_path):
    fill(tmp_path / "pictures", {"b": 6, "new": 6}, side=40)
    return str(tmp_path / "pictures")


def at_first(monkeypatch):
    """The model as it is before the first step."""
    found, real = [], start.begin
    keep = lambda *args: found.append(model := real(*args)) or model  # noqa: E731
    copy = lambda *args: (model := keep(*args), found.append({k: v.clone() for k, v in model.state_dict().items()}))[0]  # noqa: E731
    monkeypatch.setattr("alitok_lite.train.run.begin", copy)
    return found


def test_ar_model_keeps_all_weights_but_those_of_new_classes(given, pictures, tmp_path, monkeypatch, capsys):
    found, out, before = at_first(monkeypatch), tmp_path / "run", AliTok.from_pretrained(given, "cpu")
    model = train.train("ar", "mini", out, data=pictures, start=given, overrides=[("steps", 2)])
    begun, table = found[1], before.ar.embedding.weight
    for key, value in before.state_dict().items():
        if key != "ar.embedding.weight":
            assert torch.equal(begun[key], value), key
    first = PRESETS["mini"].tokenizer.codebook_size + 1
    new = begun["ar.embedding.weight"]
    assert len(new) == first + 3 and torch.equal(new[:first], table[:first]) and torch.equal(new[-1], table[-1])
    assert torch.equal(new[first], table[first + 1])  # "b" keeps its row
    assert not (new[first + 1] == table).all(1).any() and new[first + 1].std() < 0.05
    said = capsys.readouterr().out
    assert "1 classes begin with a fresh embedding (new); 1 keep theirs" in said and "before training: " in said
    loaded = AliTok.from_pretrained(out, "cpu")
    assert loaded.classes == ["b", "new"] and loaded.tokenizer.stages == (1, 2)
    assert loaded.info["training"].keys() == {"tokenizer", "decoder", "ar"}
    assert {entry["from"] for entry in loaded.info["training"].values()} == {given}
    assert not torch.equal(model.ar.output.weight, before.ar.output.weight)
    assert torch.equal(loaded.tokenizer.quantizer.codebook, before.tokenizer.quantizer.codebook.half().float())
    assert sorted(path.name for path in (out / "sheets").iterdir()) == ["ar-000000.png", "ar-000002.png"]
    assert [row["step"] for row in read_log(out)] == ["0", "1", "2"] and "test nats" in read_log(out)[0]


def test_tokenizer_goes_on_from_its_weights_and_no_code_is_dead(given, pictures, tmp_path, monkeypatch, capsys):
    found, before = at_first(monkeypatch), AliTok.from_pretrained(given, "cpu").tokenizer
    model = train.train("tokenizer", "mini", tmp_path / "run", data=pictures, start=given, overrides=[("lr", 0.0)])
    assert all(
        torch.equal(value, before.state_dict()[key.removeprefix("tokenizer.")]) for key, value in found[1].items()
    )
    assert (model.ar, model.tokenizer.decoder2) == (None, None) and model.classes == ["b", "new"]
    # Without a learning rate, only the online clustering could have moved the codebook.
    assert torch.equal(model.tokenizer.quantizer.codebook, before.quantizer.codebook)
    said = capsys.readouterr().out
    assert "the second decoder and AR model of" in said and "left out" in said
    assert said.count(f"--from {given}") == 2  # in the commands that are proposed
    assert (tmp_path / "run" / "sheets" / "tokenizer-000000.png").exists()


def test_decoder_begins_with_the_second_one(given, pictures, tmp_path, monkeypatch):
    found, before = at_first(monkeypatch), AliTok.from_pretrained(given, "cpu").tokenizer
    model = train.train("decoder", "mini", tmp_path / "run", data=pictures, start=given, overrides=[("lr", 0.1)])
    assert torch.equal(found[1]["tokenizer.decoder2.positions"], before.decoder2.positions)
    assert not torch.equal(model.tokenizer.decoder2.positions, before.decoder2.positions)
    assert torch.equal(model.tokenizer.decoder1.positions, before.decoder1.positions)


def test_run_keeps_its_own_tokenizer(given, pictures, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    train.train("tokenizer", "mini", out, data=pictures)
    own = AliTok.from_pretrained(out, "cpu").tokenizer.quantizer.codebook
    capsys.readouterr()
    model = train.train("ar", "mini", out, data=pictures, start=given)
    assert torch.equal(model.tokenizer.quantizer.codebook, own)
    assert f"the tokenizer in {out} is not that of {given}" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="holds a run already"):
        train.train("ar", "mini", out, data=pictures, start=given)


def test_resuming_needs_no_checkpoint_and_ends_in_the_same_weights(given, pictures, tmp_path):
    precise = AliTok.from_pretrained(given, "cpu")  # in float32, while a RUN holds half precision
    for value in precise.parameters():
        value.data += 1e-4 * torch.randn_like(value)
    precise.save_pretrained(given, torch.float32)
    options = {"data": pictures, "overrides": [("steps", 4)]}
    whole = train.train("ar", "mini", tmp_path / "whole", start=given, **options)
    train.train("ar", "mini", tmp_path / "run", start=given, data=pictures, overrides=[("steps", 4), ("save_every", 2)])
    shutil.rmtree(given)
    longer = [("steps", 6), ("save_every", 2)]
    train.train("ar", "mini", tmp_path / "run", True, longer, pictures)
    rates = {float(row["learning rate"]) for row in read_log(tmp_path / "run") if row["step"] != "0"}
    assert max(rates) <= 1e-4  # a tenth of the preset's, also afterwards
    again = AliTok.from_pretrained(tmp_path / "run", "cpu")
    assert again.info["training"]["ar"]["from"] == given and again.info["training"]["ar"]["steps"] == 6
    assert whole.ar.config == again.ar.config


def test_parts_of_a_checkpoint():
    parts = ("tokenizer", "decoder", "ar")
    assert [start.holds("scenes-noprefix", part) for part in parts] == [True, False, True]
    assert all(start.holds("scenes", part) for part in parts) and not start.holds("owner/name", "ar")


def test_gentle_settings(capsys):
    settings = TrainSettings(steps=1000, lr=1e-3)
    assert (start.gentle(settings, ()).steps, start.gentle(settings, ()).lr) == (100, pytest.approx(1e-4))
    assert start.gentle(settings, ("steps", "lr")) == settings
    assert start.gentle(settings, ("lr",)).steps == 100 and start.gentle(settings, ("steps",)).steps == 1000
    assert "fine-tuning: 100 steps with a learning rate of 0.0001" in capsys.readouterr().out


def test_what_does_not_fit_is_one_sentence_before_pictures_are_read(given, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("alitok_lite.train.run.open_source", lambda *_: pytest.fail("read pictures"))
    out = tmp_path / "run"
    bare = AliTok.from_pretrained(given, "cpu")
    bare.ar, bare.tokenizer.decoder2 = None, None
    bare.save_pretrained(tmp_path / "bare")
    for part, name, preset_name, words in (
        ("tokenizer", given, "tiny", "does not have this preset's sizes (image_size is 32, the preset's is"),
        ("ar", str(tmp_path / "bare"), "mini", "has no AR model to begin with"),
        ("decoder", str(tmp_path / "bare"), "mini", "has no second decoder to begin with"),
        ("tokenizer", "nowhere", "mini", "no checkpoint 'nowhere'"),
    ):
        assert main(["train", part, "--preset", preset_name, "--out", str(out), "--from", name]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1 and not out.exists()


def test_terms_of_what_the_checkpoint_has_seen_go_on(given, pictures, tmp_path):
    """Fine-tuned weights stay under the terms of the first pictures, and the card names both."""
    model = AliTok.from_pretrained(given, "cpu")
    terms = {"data": "photographs", "license": "other", "terms": "for research", "link": "https://example.org/terms"}
    model.info["seen"] = [terms]
    model.save_pretrained(given)
    out = tmp_path / "run"
    for kind in ("tokenizer", "decoder", "ar"):  # the last two begin anew, in the RUN of the first
        begun = given if kind == "tokenizer" else None
        train.train(kind, "mini", out, data=pictures, start=begun, overrides=[("steps", 1)])
    seen = AliTok.from_pretrained(out, "cpu").info["seen"]
    assert [entry["data"] for entry in seen] == ["photographs", "a folder of pictures"] and seen[0] == terms
    text = (out / "README.md").read_text()
    assert "license: other" in text and "license_link: https://example.org/terms" in text
    assert "photographs: for research" in text and "a folder of pictures: " in text
    train.train("tokenizer", "mini", out, data=pictures, overrides=[("steps", 1)], replace=True)
    assert [entry["data"] for entry in AliTok.from_pretrained(out, "cpu").info["seen"]] == ["a folder of pictures"]
    train.train("tokenizer", "mini", tmp_path / "painted", overrides=[("steps", 1)])
    assert "license: mit" in (tmp_path / "painted" / "README.md").read_text()
