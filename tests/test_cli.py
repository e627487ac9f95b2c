"""The command line: what it writes, and one sentence with status 2 for a mistake."""

import json
import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import small_lite
import torch
from conftest import CLASSES, small_ar, small_model
from PIL import Image
from test_files import device

import alitok_lite
from alitok_lite import AliTok, scenes, viz
from alitok_lite.__main__ import main
from alitok_lite.cli import options, parse
from alitok_lite.cli.program import COMMANDS
from alitok_lite.core.ar import ARModel
from alitok_lite.core.config import PRESETS
from alitok_lite.data import PictureFolder, images
from alitok_lite.machine import DTYPES
from alitok_lite.measure import judge, report
from alitok_lite.measure.lite0 import Probe, lite0_features
from alitok_lite.measure.metrics import frechet_distance, nats_per_token
from alitok_lite.study import bench, conclusions, verdict
from alitok_lite.train import SETTINGS

TOO_OLD_TO_CONVERT = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10)


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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sample_draws_many_in_parts(folder, tmp_path, monkeypatch, dtype):
    out = tmp_path / "samples.png"
    arguments = ["sample", "--model", str(folder), "--device", "cpu", "--num", "5", "--dtype", dtype, "--out", str(out)]
    assert main(arguments) == 0
    together = out.read_bytes()
    monkeypatch.setattr("alitok_lite.cli.use.AT_ONCE", 2)
    assert main(arguments) == 0
    assert out.read_bytes() == together


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


@pytest.fixture
def scenes_model(tmp_path):
    """A checkpoint with the classes of scenes; its AR model has learned nothing."""
    model = small_model()
    model.ar, model.classes = ARModel(small_ar(model.tokenizer.config, classes=14)), list(scenes.CLASSES)
    model.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_evaluate_writes_the_numbers(scenes_model, tmp_path, capsys):
    arguments = ["evaluate", "--model", scenes_model, "--device", "cpu", "--pictures", "30", "--judge-steps", "2"]
    assert main([*arguments, "--json", str(tmp_path / "m.json")]) == 0
    results = json.loads((tmp_path / "m.json").read_text())
    assert results["nats"] == pytest.approx(math.log(16), abs=1e-3)  # the output layer starts at zero: uniform
    assert results["bits_per_image"] == pytest.approx(7 * 4, abs=0.01)
    assert 5 < results["psnr_stage1"] < 20
    assert results["rfd_stage2"] > 0
    assert results["generation_gap"] == pytest.approx(results["gfd"] - results["rfd_stage2"])
    for key in ("judge_real", "judge_samples", "active_codes", "top1", "top5"):
        assert 0 <= results[key] <= 1
    assert results["fd_floor"] > 0 and results["fd_floor_pictures"] == 30
    assert any("30 pictures are few for the 128 features of the judge" in text for text in results["warnings"])
    assert len(results["nats_positions"]) == len(results["top5_positions"]) == 7
    assert len(results["row_mse_stage1"]) == 2
    assert results["versions"] == {"alitok_lite": alitok_lite.__version__, "torch": torch.__version__}
    assert (results["data"], results["pictures"], results["seed"]) == ("scenes", 30, 12345)
    table = capsys.readouterr().out
    assert len(table.splitlines()) < 33
    assert "gFD (judge features)" in table
    assert re.search(r"nats per token +2\.77\d +2\.77\d +2\.77\d\n", table)  # all, prefix, image
    assert re.search(rf"gFD .*\nfloor: real to other real +{results['fd_floor']:.2f}\n", table)
    assert "Floor: 30 real pictures to 30 other real ones." in table
    shares = (f"{results[f'details_{place}']:.1%}" for place in ("real", "stage1", "stage2", "samples"))
    assert re.search(r"\nby their details +" + " +".join(shares) + "\n", table)
    assert all(f"Warning: {warning}.\n" in table for warning in results["warnings"])
    assert re.search(rf"PSNR, dB +{results['psnr_stage1']:.1f} +{results['psnr_stage2']:.1f}\n", table)
    assert "FID" not in table


@pytest.mark.slow
def test_evaluate_gives_the_same_numbers_twice(scenes_model, tmp_path):
    arguments = ["evaluate", "--model", scenes_model, "--device", "cpu", "--pictures", "20", "--judge-steps", "2"]
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert main([*arguments, "--seed", seed, "--json", str(tmp_path / name)]) == 0
    a, b, c = (json.loads((tmp_path / name).read_text()) for name in "abc")
    assert a == b
    assert a["psnr_stage1"] != c["psnr_stage1"]


@pytest.mark.slow
def test_evaluate_keeps_the_judge_for_the_next_call(scenes_model, tmp_path, monkeypatch):
    arguments = ["evaluate", "--model", scenes_model, "--device", "cpu", "--pictures", "20", "--judge-steps", "2"]
    for name in "ab":
        kept = ["--judge", str(tmp_path / "judge"), "--json", str(tmp_path / name)]
        assert main([*arguments, *kept]) == 0
        monkeypatch.setattr(judge, "train_judge", lambda *args: pytest.fail("trained again"))
    monkeypatch.undo()
    assert main([*arguments, "--json", str(tmp_path / "c")]) == 0
    a, b, c = (json.loads((tmp_path / name).read_text()) for name in "abc")
    assert a == b == c


def test_evaluate_reads_an_earlier_judge_and_says_so(scenes_model, tmp_path, capsys):
    path, batches = tmp_path / "judge", lambda step: (torch.rand(4, 3, 32, 32), torch.arange(4))
    judge.stored_judge(path, batches, list(scenes.CLASSES), 2, torch.device("cpu"))
    options = ["--device", "cpu", "--pictures", "20", "--judge-steps", "2", "--judge", str(path)]
    assert main(["evaluate", "--model", scenes_model, *options, "--json", str(tmp_path / "m.json")]) == 0
    said = capsys.readouterr()
    assert f"{path} is from an earlier version: its judge does not look at details" in said.out + said.err
    assert "by their details" not in said.out
    assert not any(key.startswith("details") for key in json.loads((tmp_path / "m.json").read_text()))


@pytest.fixture
def pictures(tmp_path):
    """train/ and test/ with the classes of the small model: 5 and 3 noisy pictures of each."""
    noise = np.random.default_rng(0)
    for split, count in (("train", 5), ("test", 3)):
        for number, name in enumerate(CLASSES):
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = noise.integers(0, 90, (32, 32, 3), np.uint8)
                pixels[..., number] += 150
                Image.fromarray(pixels).save(tmp_path / "pictures" / split / name / f"{i}.png")
    return tmp_path / "pictures"


def save_small_model(folder, classes):
    model = small_model()
    model.classes = classes
    model.save_pretrained(folder)
    return ["evaluate", "--model", str(folder), "--device", "cpu"]


def test_evaluate_measures_on_the_test_pictures_of_a_folder(pictures, tmp_path, capsys):
    arguments = [*save_small_model(tmp_path / "model", sorted(CLASSES)), "--data", str(pictures), "--judge-steps", "2"]
    assert main([*arguments, "--json", str(tmp_path / "m.json")]) == 0
    results = json.loads((tmp_path / "m.json").read_text())
    assert results["data"] == "pictures"
    assert results["pictures"] == 9  # of the 5,000 wished for
    assert results["fd_floor_pictures"] == 4
    assert 0 <= results["judge_train"] <= 1
    assert "in training" in capsys.readouterr().out
    model = AliTok.from_pretrained(tmp_path / "model", "cpu")
    for split, key in (("test", "nats"), ("train", "nats_train")):
        rows = torch.linspace(0, 8 if split == "test" else 14, 9).long()  # as many of both
        folder = PictureFolder(pictures, 32, split, workers=0)
        ids = model.tokenizer.encode(folder.whole(rows))
        nats, _ = nats_per_token(model.ar, ids, folder.labels[rows])
        assert results[key] == pytest.approx(nats.mean().item(), rel=1e-3)
    assert results["nats"] != results["nats_train"]


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["house", "sea", "wood"], "(only one of them has the class 'tree')"),
        (["sea", "house", "tree"], "(their classes differ in order)"),
    ],
)
def test_evaluate_wants_the_classes_of_the_model(pictures, tmp_path, capsys, classes, words):
    assert main([*save_small_model(tmp_path / "model", classes), "--data", str(pictures)]) == 2
    last = capsys.readouterr().err.split("alitok_lite: ")[1]  # behind the progress of reading the folder
    assert "was not trained on the folder 'pictures'" in last
    assert words in last
    assert last.count("\n") == 1


def test_evaluate_says_at_once_what_inception_lacks(scenes_model, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    arguments = ["evaluate", "--model", scenes_model, "--device", "cpu", "--pictures", "4", "--judge-steps", "2"]
    assert main([*arguments, "--inception"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("alitok_lite: Inception FID needs torch-fidelity")
    assert captured.err.count("\n") == 1


def test_evaluate_says_at_once_what_lite0_lacks(pictures, tmp_path, capsys, monkeypatch):
    arguments = [*save_small_model(tmp_path / "model", sorted(CLASSES)), "--judge-steps", "2", "--lite0"]
    assert main(arguments) == 2
    assert "--lite0 names photographs, not scenes" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "timm", None)
    assert main([*arguments, "--data", str(pictures)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("alitok_lite: EfficientNet-Lite0 needs timm") and captured.err.count("\n") == 1


def test_evaluate_with_lite0_measures_what_it_sees(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", small_lite.stand_in())
    small_lite.save_weights(tmp_path / "lite0.pth", old=True)
    monkeypatch.setenv("ALITOK_LITE0", str(tmp_path / "lite0.pth"))
    arguments = [*save_small_model(tmp_path / "model", sorted(CLASSES)), "--judge-steps", "2", "--data", str(pictures)]
    assert main([*arguments, "--lite0", "--json", str(tmp_path / "m.json")]) == 0
    results = json.loads((tmp_path / "m.json").read_text())
    assert results["lite0_training_pictures"] == 7  # half of them
    assert results["lite0_right_real"] > 0.8 > results["lite0_right_stage1"]  # the small model's pictures are noise
    text = capsys.readouterr().out
    assert "Lite0 distance to training" in text and "named right by a Lite0 probe" in text
    model, extract = AliTok.from_pretrained(tmp_path / "model", "cpu"), lite0_features(torch.device("cpu"))
    train, test = (PictureFolder(pictures, 32, split, workers=0) for split in ("train", "test"))
    known, labels = extract(train.whole(torch.linspace(0, 14, 7).long())), test.labels
    pixels = test.whole(slice(None))
    ids, probe = model.tokenizer.encode(pixels), Probe(known, train.labels[torch.linspace(0, 14, 7).long()], 3)
    drawn = model.sample(labels.tolist(), seed=12345 * 1_000_003 % 2**31)
    shown = {"real": pixels, "samples": drawn} | {f"stage{i}": model.tokenizer.decode(ids, i) for i in (1, 2)}
    for name, some in shown.items():
        assert results[f"lite0_right_{name}"] == pytest.approx(probe.accuracy(extract(some), labels))
        assert results[f"lite0_distance_{name}"] == pytest.approx(frechet_distance(extract(some), known), rel=1e-5)


def test_classes_mean_the_same_to_all_commands(tmp_path, capsys):
    """Folders named by numbers: names come before numbers."""
    model = small_model()
    model.classes = sorted(str(i) for i in range(12))
    model.ar = ARModel(small_ar(model.tokenizer.config, classes=12))
    torch.nn.init.normal_(model.ar.embedding.weight, std=3)
    torch.nn.init.normal_(model.ar.output.weight)
    model.save_pretrained(tmp_path / "model")
    options = ["--model", str(tmp_path / "model"), "--device", "cpu", "--classes", "10", "--temperature", "0"]
    assert main(["sample", *options, "--num", "1", "--out", str(tmp_path / "a.png")]) == 0
    assert main(["fidsamples", *options, "--pictures", "1", "--out", str(tmp_path / "a.npz")]) == 0
    with Image.open(tmp_path / "a.png") as image:
        sampled, (drawn,) = np.asarray(image), np.load(tmp_path / "a.npz")["arr_0"]
    model = AliTok.from_pretrained(tmp_path / "model", "cpu")
    named, other = (np.asarray(AliTok.to_pil(model.sample([label], temperature=0))[0]) for label in (2, 10))
    assert not np.array_equal(named, other)
    assert np.array_equal(sampled, named) and np.array_equal(drawn, named)


def test_classes_with_commas_are_quoted(tmp_path, capsys):
    model = small_model()
    model.classes = ["crane, bird", "sea", "tree"]
    model.save_pretrained(tmp_path / "model")
    arguments = ["sample", "--model", str(tmp_path / "model"), "--device", "cpu", "--out", str(tmp_path / "a.png")]
    assert main([*arguments, "--classes", '"crane, bird", 2']) == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["classes"] == '"crane, bird",2'
    assert main(arguments) == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["classes"] == '"crane, bird",sea,tree'


@pytest.mark.parametrize("link", [False, True])
def test_devices_are_written_into(folder, scenes_model, photo, tmp_path, capsys, monkeypatch, link):
    null = device(tmp_path / "null")
    out = null if not link else tmp_path / "link"
    if link:
        out.symlink_to(null)
    few = ["--pictures", "4", "--judge-steps", "2", "--device", "cpu"]
    monkeypatch.setattr(bench, "bench", lambda *_: {})
    monkeypatch.setattr(bench, "table", lambda _: "")
    assert main(["sample", "--model", str(folder), "--device", "cpu", "--num", "1", "--out", str(out)]) == 0
    assert main(["reconstruct", str(photo), "--model", str(folder), "--device", "cpu", "--out", str(out)]) == 0
    assert main(["evaluate", "--model", scenes_model, *few, "--json", str(out)]) == 0
    assert main(["bench", "--device", "cpu", "--json", str(out)]) == 0
    assert null.is_char_device() and out.is_symlink() == link
    capsys.readouterr()
    assert main(["evaluate", "--model", scenes_model, *few, "--judge", str(out)]) == 2
    assert "it must be a file, which can be read again" in capsys.readouterr().err
    assert main(["fidsamples", "--model", str(folder), "--device", "cpu", "--pictures", "1", "--out", str(out)]) == 2
    assert null.is_char_device() and out.is_symlink() == link


def test_results_are_stored_before_they_are_printed(scenes_model, tmp_path, monkeypatch):
    """Whatever printing does."""

    def fails(*_):
        raise ZeroDivisionError

    few = ["--pictures", "4", "--judge-steps", "2", "--device", "cpu"]
    monkeypatch.setattr(report, "table", fails)
    with pytest.raises(ZeroDivisionError):
        main(["evaluate", "--model", scenes_model, *few, "--json", str(tmp_path / "e.json")])
    assert json.loads((tmp_path / "e.json").read_text())["pictures"] == 4
    monkeypatch.setattr(bench, "bench", lambda *_: {"rows": []})
    monkeypatch.setattr(bench, "table", fails)
    with pytest.raises(ZeroDivisionError):
        main(["bench", "--device", "cpu", "--json", str(tmp_path / "b.json")])
    assert json.loads((tmp_path / "b.json").read_text())["rows"] == []


def test_the_picture_itself_is_not_overwritten(folder, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.open(photo).save("pair.png")
    os.link("pair.png", "same.png")
    before = open("pair.png", "rb").read()  # noqa: SIM115
    for out in ([], ["--out", str(tmp_path / "pair.png")], ["--out", "same.png"]):
        assert main(["reconstruct", "pair.png", "--model", str(folder), *out]) == 2
        assert "the picture itself: give another file" in capsys.readouterr().err
    assert open("pair.png", "rb").read() == before  # noqa: SIM115


def test_class_names_that_are_not_utf8(tmp_path):
    """As a folder of pictures may have them; a PNG cannot."""
    model = small_model()
    model.classes = ["sea", "r_\udce9", "tree"]
    model.save_pretrained(tmp_path / "model")
    out = tmp_path / "a.png"
    assert main(["sample", "--model", str(tmp_path / "model"), "--device", "cpu", "--out", str(out)]) == 0
    with Image.open(out) as image:
        assert image.text["classes"] == "sea,r_\\udce9,tree"


def test_evaluate_says_when_few_codes_are_in_use(scenes_model, tmp_path, capsys):
    """All but two codes of 16 lie far away."""
    model = AliTok.from_pretrained(scenes_model, "cpu")
    model.tokenizer.quantizer.codebook.data[2:] = 1000
    model.save_pretrained(scenes_model, torch.float32)
    arguments = ["evaluate", "--model", scenes_model, "--device", "cpu", "--pictures", "20", "--judge-steps", "2"]
    assert main([*arguments, "--json", str(tmp_path / "m.json")]) == 0
    results = json.loads((tmp_path / "m.json").read_text())
    used = round(16 * results["active_codes"])  # which of few codes a fresh encoder takes is up to torch's version
    few = f"only {used} of 16 codes are in use, so the tokens say little about a picture"
    assert results["warnings"][0].startswith(few) and used in (1, 2)
    assert f"Warning: {few}, and nats, top-1 and the generation gap mean little.\n" in capsys.readouterr().out


@pytest.mark.slow
def test_evaluate_says_that_a_tokenizer_collapsed(tmp_path, capsys):
    """Trained for too few steps on a small folder of pictures."""
    noise = np.random.default_rng(0)
    for name, wave in (("stripes", lambda x, y: x + 2 * y), ("rings", lambda x, y: np.hypot(x - 0.5, y - 0.5))):
        (tmp_path / "made" / name).mkdir(parents=True)
        for i in range(60):
            y, x = np.mgrid[:64, :64] / 64
            values = np.sin(noise.uniform(5, 40) * wave(x, y))[..., None]
            pixels = (values * noise.uniform(-120, 120, 3) + 128).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "made" / name / f"{i}.png")
    own = ["--data", str(tmp_path / "made")]
    training = ["--preset", "tiny", "--out", str(tmp_path / "run"), "--steps", "80", "--batch", "16", *own]
    assert main(["train", "tokenizer", *training]) == 0
    assert main(["train", "ar", *training]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--model", str(tmp_path / "run"), "--judge-steps", "30", *own]) == 0
    assert re.search(r"Warning: only \d+ of 1,024 codes are in use", capsys.readouterr().out)


@pytest.mark.parametrize("count", [1, 2])
def test_evaluate_wants_two_test_pictures_before_it_trains_a_judge(pictures, tmp_path, capsys, monkeypatch, count):
    judged = []
    monkeypatch.setattr(judge, "train_judge", lambda *_: judged.append(1) or 1 / 0)
    for picture in sorted((pictures / "test").glob("*/*.png"))[count:]:
        picture.unlink()
    for folder in (pictures / "test").iterdir():
        if not any(folder.iterdir()):
            folder.rmdir()
    arguments = [*save_small_model(tmp_path / "model", sorted(CLASSES)), "--data", str(pictures)]
    if count == 2:
        with pytest.raises(ZeroDivisionError):
            main(arguments)
        assert judged
    else:
        assert main(arguments) == 2
        assert "the folder 'pictures' has 1 test picture; two are needed" in capsys.readouterr().err
        assert not judged


def test_ctrl_c_while_a_class_of_an_import_is_made(folder, monkeypatch, capsys):
    """Before Python 3.12 it arrives as a RuntimeError."""

    def stopped(*_, **__):
        raise RuntimeError("Error calling __set_name__ on 'Field' instance 'a' in 'B'") from KeyboardInterrupt()

    monkeypatch.setattr(AliTok, "sample", stopped)
    assert main(["sample", "--model", str(folder), "--device", "cpu"]) == 130
    assert capsys.readouterr().err == "alitok_lite: sample was stopped\n"


def test_ctrl_c_is_no_traceback(folder, tmp_path, monkeypatch, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(AliTok, "sample", stopped)
    arguments = ["sample", "--model", str(folder), "--device", "cpu", "--out", str(tmp_path / "a.png")]
    assert main(arguments) == 130
    assert capsys.readouterr().err == "alitok_lite: sample was stopped\n"
    assert not (tmp_path / "a.png").exists()


MISTAKES = [
    (["sample", "--model", "{folder}", "--classes", "sea,boat"], "no class 'boat'"),
    (["sample", "--model", "{folder}", "--classes", "sea,"], "the list of classes 'sea,' has an empty entry"),
    (["sample", "--model", "{folder}", "--num", "-3"], "--num is -3"),
    (["sample", "--model", "{folder}", "--num", "100000000000"], "at most 10000 (`fidsamples` draws more)"),
    (["sample", "--model", "{folder}", "--seed", "99999999999999"], "--seed is 99999999999999; it must be a whole num"),
    (["sample", "--model", "{folder}", "--seed", "4294967295"], "from 0 to 4294967293"),  # three pictures
    (["sample", "--model", "{folder}", "--top-k", "0"], "top_k is 0"),
    (["sample", "--model", "{folder}", "--top-k", "-1"], "top_k is -1"),
    (["sample", "--model", "{folder}", "--top-p", "nan"], "top_p is nan"),
    (["sample", "--model", "{folder}", "--power", "inf"], "power is inf"),
    (["sample", "--model", "{folder}", "--out", ""], "--out is ''; it must be a file in a folder that exists"),
    (["sample", "--model", "{folder}", "--out", "{tmp}"], "it must be a file in a folder that exists"),
    (["sample", "--model", "nonsense", "--out", "{tmp}/none/a.png"], "none/a.png'; it must be a file in a folder"),
    (["sample", "--model", "nonsense", "--out", "{tmp}/a.jpg"], "a.jpg'; its name must end in .png"),
    (["reconstruct", "missing.jpg", "--model", "nonsense", "--out", "a.jpg"], "its name must end in .png"),
    (["reconstruct", "missing.jpg", "--model", "nonsense", "--out", ""], "--out is ''"),
    (["reconstruct", "", "--model", "{folder}"], "'.' is a folder"),
    (["evaluate", "--model", "nonsense", "--json", ""], "--json is ''; it must be a file"),
    (["evaluate", "--model", "nonsense", "--judge", ""], "--judge is ''; it must be a file"),
    (["evaluate", "--model", "nonsense", "--data", ""], "--data is ''"),
    (["evaluate", "--model", "nonsense", "--json", "same", "--judge", "{tmp}/same"], "they must be two files"),
    (["evaluate", "--model", "nonsense", "--judge-steps", "-1"], "--judge-steps is -1"),
    (["evaluate", "--model", "nonsense", "--seed", "4294967296"], "--seed is 4294967296"),
    (["ablate", "--out", ""], "--out is ''; it must be a folder"),
    (["ablate", "--out", "{folder}/config.json"], "config.json'; it must be a folder"),
    (["ablate", "--out", "new", "--data", ""], "--data is ''"),
    (["ablate", "--out", "new", "--seeds", "4294967296"], "--seeds is 4294967296"),
    (["ablate", "--out", "new", "--seeds", "²"], "--seeds has '²'"),
    (["ablate", "--out", "new", "--set", "patch_size=8", "--set", "patch_size=16"], "--set has patch_size twice"),
    (["cost", "ar", "--steps", "0"], "--steps is 0"),
    (["cost", "ar", "--batch", "-1"], "--batch is -1"),
    (["bench", "--json", "{tmp}/none/b.json"], "--json is"),
    (["bench", "--json", ""], "--json is ''"),
    (["bench", "--data", ""], "--data is ''"),
    (["convert", "--tokenizer", "AliTok.pth", "--out", ""], "--out is ''; it must be the name of a folder"),
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
    (["train", "ar", "--preset", "tiny", "--out", "{tmp}/r", "--accumulate", "0"], "--accumulate is 0"),
    (["train", "ar", "--preset", "tiny", "--out", "{tmp}/r", "--batch", "4", "--accumulate", "3"], "which is 1 x 3"),
    (["train", "tokenizer", "--preset", "tiny", "--out", "{tmp}/r", "--data", "{tmp}/none"], "no folder 'none'"),
    (["train", "tokenizer", "--preset", "tiny", "--out", "{tmp}/r", "--data", "{folder}"], "no pictures"),
    (["evaluate", "--model", "{folder}", "--pictures", "1"], "--pictures is 1"),
    (["evaluate", "--model", "{folder}", "--judge-steps", "1"], "--judge-steps is 1"),
    (["evaluate", "--model", "{folder}", "--seed", "-1"], "--seed is -1"),
    (["evaluate", "--model", "{folder}", "--json", "{tmp}/none/m.json"], "it must be a file in a folder that exists"),
    (["evaluate", "--model", "{folder}", "--json", "{tmp}"], "it must be a file"),
    (["evaluate", "--model", "{folder}", "--judge", "{tmp}/none/judge"], "--judge is"),
    (["evaluate", "--model", "{folder}", "--data", "{tmp}/none"], "no folder 'none'"),
    (["evaluate", "--model", "{folder}", "--data", "{folder}"], "no pictures"),
    (["evaluate", "--model", "{folder}"], "was not trained on scenes (only one of them has the class"),
    (["evaluate", "--model", "nonsense"], "no checkpoint 'nonsense'"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_mistakes(folder, tmp_path, capsys, monkeypatch, arguments, words):
    if arguments[0] == "convert" and TOO_OLD_TO_CONVERT:
        words = "conversion needs torch"
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


USAGE = [
    (["nonsense"], "there is no command 'nonsense'; see `alitok --help`"),
    (["smaple"], "there is no command 'smaple'; did you mean sample?; see `alitok --help`"),
    (["sample", "--sede=3"], "there is no option --sede; did you mean --seed?; see `alitok sample --help`"),
    (["train", "ar", "--ouy", "x"], "there is no option --ouy; did you mean --out?; see `alitok train --help`"),
    (["train", "everything", "--out", "x"], "invalid choice: 'everything'"),
    (["train", "ar"], "the following arguments are required: --out; see `alitok train --help`"),
    (["sample", "--seed", "x"], "argument --seed: invalid int value: 'x'; see `alitok sample --help`"),
    (["sample", "sea"], "unrecognized arguments: sea"),
    (["--nonsense"], "the following arguments are required: COMMAND"),
    (["app", "--port", "65536"], "--port is 65536; it must be a whole number from 1 to 65535"),
    (["verdict", "--out", "rate.jpg"], "--out is 'rate.jpg'; its name must end in .png"),
    (["verdict", "--study", "photos"], "invalid choice: 'photos'"),
    (["verdict", "--study", "natural", "--from", "x"], "not allowed with argument"),
    (["match"], "the following arguments are required: --out; see `alitok match --help`"),
    (["match", "--out", "x", "--rows", "A,F"], "there is no row 'F'; choose from A256, A1024, A, B, B1024,"),
    (["match", "--out", "x", "--seeds", "0,-1"], "--seeds has '-1'; it takes whole numbers"),
    (["match", "--out", "x", "--study", "natural"], "--study is 'natural'; it must be tiny, scenes or a folder of pic"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE)
def test_usage_mistakes(capsys, arguments, words):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("alitok_lite: ") and captured.err.count("\n") == 1 and captured.out == ""
    assert words in captured.err


def help_of(capsys, *arguments):
    with pytest.raises(SystemExit) as status:
        main(arguments)
    assert status.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_help_lists_what_exists_in_groups(capsys):
    text = help_of(capsys, "--help")
    assert help_of(capsys) == text
    groups = re.findall(r"^(\S.*):\n((?:  .*\n)+)", text, re.M)
    assert [title for title, _ in groups] == ["Use a model", "Train", "Measure", "Official weights", "Share"]
    listed = re.findall(r"^  (\w+) ", text, re.M)
    assert listed[:7] == ["sample", "reconstruct", "app", "train", "ablate", "match", "cost"]
    assert listed[7:] == ["evaluate", "bench", "verdict", "convert", "fidsamples", "export", "space", "publish"]
    for command in listed:
        assert f"example:\n  alitok {command} " in help_of(capsys, command, "--help")


def test_examples_of_the_help_are_right():
    for name, command in COMMANDS.items():
        assert parse([name, *shlex.split(command.example)]).command == name
        assert COMMANDS[name].home in {"use", "page", "training", "measuring", "official", "sharing"}
        assert callable(getattr(import_module(f"alitok_lite.cli.{command.home}"), name))


def test_help_says_the_defaults(capsys):
    text = help_of(capsys, "train", "--help")
    for preset, parts in SETTINGS.items():
        block = text[text.index("defaults of the presets") :]
        block = block[re.search(rf"^  .*\b{preset}(,|$)", block, re.M).end() :]
        for part, settings in parts.items():
            numbers = (settings.steps, settings.batch, settings.lr, settings.save_every, settings.pictures)
            line = next(line for line in block.splitlines() if line.split()[:1] == [part])
            assert line.split()[1:] == [f"{number:,}" for number in numbers]
    text = " ".join(help_of(capsys, "sample", "--help").split())
    assert "picture i uses seed + i (default: 0)" in text and "(default: samples.png)" in text
    assert "None" not in text and "False" not in text and "SUPPRESS" not in text


def test_types_of_numbers_on_offer_are_those_of_the_package():
    assert tuple(DTYPES) == options.DTYPES


def test_the_console_command_is_this_one():
    pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    module, name = re.search(r'^alitok = "([\w.]+):(\w+)"$', pyproject.split("[project.scripts]")[1], re.M).groups()
    assert getattr(import_module(module), name) is main


def test_version(capsys):
    assert help_of(capsys, "--version") == f"alitok_lite {alitok_lite.__version__}\n"


LIGHT = """
import sys
from alitok_lite.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = {"torch", "numpy", "gradio", "matplotlib", "scipy", "PIL"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"], [], ["smaple"]])
def test_help_imports_nothing_heavy(arguments):
    result = subprocess.run([sys.executable, "-c", LIGHT, *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("study", ["scenes", "natural"])
def test_verdict_prints_the_contrasts_and_draws_them(study, tmp_path, capsys):
    folder = verdict.NATURAL if study == "natural" else verdict.RESULTS
    text = conclusions.report(verdict.read_units(folder))
    assert verdict.table(verdict.read_units(folder)) in text
    assert main(["verdict", "--study", study]) == 0
    assert capsys.readouterr().out == text + "\n"
    out = tmp_path / "rate.png"
    assert main(["verdict", "--from", str(folder), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{text}\nchart in {out}\n"
    joined = [verdict.TITLES[row] for row in verdict.LADDER]
    points = verdict.chart_points(verdict.read_units(folder))
    assert out.read_bytes() == viz.to_png(viz.rate_charts(points, joined=joined))


def test_verdict_of_a_folder_without_units(tmp_path, capsys):
    assert main(["verdict", "--from", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"alitok_lite: {tmp_path.name!r} holds no units of a study (ROW-SEED.json)\n"
    assert main(["verdict", "--from", ""]) == 2  # not the published study
    capsys.readouterr()
    path = tmp_path / "A-0.json"
    for text in ("no JSON", "[]", '{"row": "A", "seed": 0, "nats": 3.0}'):  # the last is of another study
        path.write_text(text)
        assert main(["verdict", "--from", str(tmp_path)]) == 2
        assert capsys.readouterr().err == f"alitok_lite: {path} is not a unit of a study at equal bits\n"


def test_reconstruct_says_when_it_was_given_a_sheet(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = ["--model", str(folder), "--device", "cpu"]
    for count, said in (("4", True), ("1", False)):
        assert main(["sample", *model, "--num", count]) == 0
        assert main(["reconstruct", "samples.png", *model]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"{count} picture{'s' * said} in samples.png\n")
        assert ("Note: samples.png is a sheet of pictures" in text) is said
    Image.new("RGB", (16, 16), images.PAPER).save("small.png")
    for name, color, said in (("dark", "black", False), ("blank", images.PAPER, True)):
        Image.new("RGB", (40, 40), color).save(f"{name}.png")
        assert main(["reconstruct", f"{name}.png", *model]) == 0
        assert ("is a sheet" in capsys.readouterr().out) is said
    assert main(["reconstruct", "small.png", *model]) == 0 and "is a sheet" not in capsys.readouterr().out


def test_app_serves_the_page_as_requested(monkeypatch):
    page_of_gradio = pytest.importorskip("alitok_lite.demo.page")
    calls = []
    monkeypatch.setattr(page_of_gradio, "build", lambda: SimpleNamespace(launch=lambda **given: calls.append(given)))
    assert main(["app"]) == 0
    plain = page_of_gradio.LAUNCH | {"server_name": None, "server_port": None, "share": False, "inbrowser": False}
    assert calls[-1] == plain
    assert main(["app", "--host", "0.0.0.0", "--port", "7000", "--share", "--browser"]) == 0
    changes = {"server_name": "0.0.0.0", "server_port": 7000, "share": True, "inbrowser": True}
    assert calls[-1] == plain | changes


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "2001:db8::1"])
def test_app_says_that_a_host_is_not_this_machine(monkeypatch, capsys, host):
    page_of_gradio = pytest.importorskip("alitok_lite.demo.page")
    monkeypatch.setattr(page_of_gradio, "build", lambda: pytest.fail("went on"))
    assert main(["app", "--host", host]) == 2
    said = f"alitok_lite: --host is {host!r}, which is no address of this machine; try 127.0.0.1 or 0.0.0.0\n"
    assert capsys.readouterr().err == said


def test_app_says_that_a_port_is_taken(monkeypatch, capsys):
    page_of_gradio = pytest.importorskip("alitok_lite.demo.page")

    def launch(**given):
        raise OSError(words)

    monkeypatch.setattr(page_of_gradio, "build", lambda: SimpleNamespace(launch=launch))
    words = "Cannot find empty port in range: 7000-7000. You can specify a different port by `server_port`."
    assert main(["app", "--port", "7000"]) == 2
    assert capsys.readouterr().err == "alitok_lite: port 7000 is taken: give another one with --port\n"
    words = "something else"
    assert main(["app", "--port", "7000"]) == 2
    assert capsys.readouterr().err == "alitok_lite: something else\n"


@pytest.mark.slow
def test_app_without_app_py(tmp_path):
    """As from a wheel: the page answers, and Ctrl-C ends it without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "alitok_lite", "app", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(Path(alitok_lite.__file__).parents[1])}
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(program, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 100
        while "Running on local URL" not in (tmp_path / "log").read_text() and time.monotonic() < end:
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert b"gradio" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130) and "Traceback" not in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()


def test_space_and_publish_reach_their_functions(monkeypatch, capsys):
    stores = [pytest.importorskip(f"alitok_lite.store.{name}") for name in ("space", "publish")]
    calls = []
    monkeypatch.setattr(stores[0], "upload", lambda *given: calls.append(given) or "address" * (not given[1]))
    monkeypatch.setattr(stores[1], "publish", lambda *given: calls.append(given) or [])
    assert main(["space", "o/n"]) == main(["space", "o/n", "--upload", "--private"]) == main(["publish", "o/n"]) == 0
    assert calls == [("o/n", True, False), ("o/n", False, True), ("o/n",)]
    said = "`alitok space o/n --upload` uploads them\naddress\nevery file shows o/n already\n"
    assert capsys.readouterr().out == said


def test_presets_on_offer_are_those_with_settings():
    assert set(PRESETS) == set(SETTINGS)


@pytest.mark.slow
def test_as_a_program():
    program = [sys.executable, "-m", "alitok_lite", "sample", "--model", "nonsense"]
    result = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "no checkpoint 'nonsense'" in result.stderr


def test_keep_best_reaches_the_settings(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("alitok_lite.train.train", lambda *args: calls.append(args))
    monkeypatch.setattr("alitok_lite.train.run.train", lambda *args: calls.append(args))
    assert main(["train", "ar", "--preset", "tiny", "--out", str(tmp_path), "--keep-best", "--steps", "7"]) == 0
    assert main(["train", "ar", "--preset", "tiny", "--out", str(tmp_path)]) == 0
    assert main(["train", "tokenizer", "--preset", "tiny", "--out", str(tmp_path), "--standardise"]) == 0
    assert calls[0][4] == [("steps", 7), ("keep_best", True)] and calls[1][4] == []
    assert calls[2][4] == [("standardise", True)]
