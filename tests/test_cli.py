"""The command line: what it writes, and one sentence with status 2 for a mistake."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import CLASSES, small_ar, small_model
from PIL import Image

from alitok_lite import scenes
from alitok_lite.__main__ import _trainable, main
from alitok_lite.ar import ARModel
from alitok_lite.train import SETTINGS


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)).save(path)
    return path


def test_sample_writes_a_sheet_that_says_how_it_was_made(folder, tmp_path, capsys):
    out = tmp_path / "samples.png"
    arguments = ["sample", "--model", str(folder), "--device", "cpu", "--seed", "3", "--out", str(out)]
    assert main([*arguments, "--classes", "sea, 2", "--num", "5", "--top-k", "4"]) == 0
    assert "5 pictures" in capsys.readouterr().out
    with Image.open(out) as image:
        first = np.asarray(image)
        assert image.text["classes"] == "sea,2"
        assert image.text["seed"] == "3"
        assert image.text["top_k"] == "4"
    assert main([*arguments, "--classes", "sea,tree", "--num", "5", "--top-k", "4"]) == 0
    with Image.open(out) as image:
        assert np.array_equal(np.asarray(image), first)
    assert main(arguments) == 0
    assert f"{len(CLASSES)} pictures" in capsys.readouterr().out


def test_reconstruct_prints_ids_and_psnr(folder, photo, tmp_path, capsys):
    out = tmp_path / "pair.png"
    assert main(["reconstruct", str(photo), "--model", str(folder), "--device", "cpu", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    ids = re.search(r"ids: ([\d ]+)", text).group(1).split()
    assert len(ids) == 7
    assert re.search(r"stage 1 \(causal\): -?\d+\.\d dB", text)
    assert re.search(r"stage 2 \(bidirectional\): -?\d+\.\d dB", text)
    with Image.open(out) as image:
        assert image.width > 3 * 32


def test_evaluate_writes_the_numbers(tmp_path, capsys):
    model = small_model()
    model.ar, model.classes = ARModel(small_ar(model.tokenizer.config, classes=14)), list(scenes.CLASSES)
    model.save_pretrained(tmp_path / "model")
    numbers = ["--pictures", "30", "--judge-steps", "2", "--json", str(tmp_path / "m.json")]
    assert main(["evaluate", "--model", str(tmp_path / "model"), "--device", "cpu", *numbers]) == 0
    results = json.loads((tmp_path / "m.json").read_text())
    assert results["nats"] == pytest.approx(math.log(16), abs=1e-3)  # the output layer starts at zero: uniform
    assert results["bits_per_image"] == pytest.approx(7 * 4, abs=0.01)
    assert 5 < results["psnr_stage1"] < 20
    assert results["rfd_stage2"] > 0
    for key in ("judge_real", "judge_samples", "active_codes", "top1"):
        assert 0 <= results[key] <= 1
    assert "gfd" in capsys.readouterr().out


MISTAKES = [
    (["sample", "--model", "{folder}", "--classes", "sea,boat"], "no class 'boat'"),
    (["sample", "--model", "{folder}", "--classes", ""], "no class ''"),
    (["sample", "--model", "{folder}", "--num", "0"], "--num is 0"),
    (["sample", "--model", "{folder}", "--seed", "-1"], "seed is -1"),
    (["sample", "--model", "{folder}", "--guidance", "nan"], "guidance is nan"),
    (["sample", "--model", "{folder}", "--temperature", "-1"], "temperature is -1"),
    (["sample", "--model", "{folder}", "--device", "gpu7"], "device is 'gpu7'; this machine has auto"),
    (["sample", "--model", "{folder}", "--device", "cuda:99"], "device is 'cuda:99'"),
    (["sample", "--model", "{folder}", "--device", "xpu"], "device is 'xpu'"),
    (["sample", "--model", "nonsense"], "no checkpoint 'nonsense'"),
    (["sample", "--model", "{folder}", "--out", "{tmp}/none/out.png"], "none"),
    (["reconstruct", "{tmp}/missing.jpg", "--model", "{folder}"], "missing.jpg"),
    (["reconstruct", "{folder}/config.json", "--model", "{folder}"], "config.json"),
    (["train", "ar", "--preset", "tiny", "--out", "{tmp}/none"], "no checkpoint"),
    (["train", "tokenizer", "--preset", "tiny", "--out", "{folder}"], "holds a run already"),
    (["train", "tokenizer", "--preset", "tiny", "--out", "{tmp}/r", "--batch", "0"], "--batch is 0"),
    (["train", "tokenizer", "--preset", "tiny", "--out", "{tmp}/r", "--lr", "nan"], "--lr is nan"),
    (["train", "tokenizer", "--preset", "tiny", "--out", "{tmp}/r", "--data", "{tmp}/none"], "no folder 'none'"),
    (["train", "tokenizer", "--preset", "tiny", "--out", "{tmp}/r", "--data", "{folder}"], "no pictures"),
    (["evaluate", "--model", "{folder}", "--pictures", "1"], "--pictures is 1"),
    (["evaluate", "--model", "{folder}"], "was not trained on scenes"),
    (["evaluate", "--model", "nonsense"], "no checkpoint 'nonsense'"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_mistakes(folder, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    filled = [argument.format(folder=folder, tmp=tmp_path) for argument in arguments]
    assert main(filled) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.startswith("alitok_lite: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before  # nothing half-written


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["train", "everything"], ["sample", "--seed", "x"]])
def test_usage_mistakes(capsys, arguments):
    with pytest.raises(SystemExit) as status:
        main(arguments)
    assert status.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_help_lists_what_exists(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.search(r"\{([a-z,]+)\}", capsys.readouterr().out).group(1).split(",")
    for command in listed:
        with pytest.raises(SystemExit) as status:
            main([command, "--help"])
        assert status.value.code == 0
    assert listed == ["sample", "reconstruct", "train", "evaluate"]


def test_presets_on_offer_are_those_with_settings():
    assert set(_trainable()) == set(SETTINGS)


def test_as_a_program():
    program = [sys.executable, "-m", "alitok_lite", "sample", "--model", "nonsense"]
    result = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "no checkpoint 'nonsense'" in result.stderr
