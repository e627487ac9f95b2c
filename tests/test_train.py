"""Training end to end on a tiny preset: all three parts, frozen ids, exact resuming, clear mistakes."""

import os
import random
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_ar, small_tokenizer
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from alitok_lite import PRESETS, AliTok, scenes, train
from alitok_lite.__main__ import main
from alitok_lite.config import Preset
from alitok_lite.losses import LossWeights
from alitok_lite.model import CheckpointError
from alitok_lite.sources import SceneSource
from alitok_lite.train import SETTINGS, TrainSettings, learning_rate

pytest.importorskip("accelerate")
NAN = LossWeights(mse=float("nan"))


@pytest.fixture(autouse=True)
def preset(monkeypatch):
    """Presets `mini` and `mini-conventional`, small enough for seconds."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # compiling would take longer than the training
    add_presets(monkeypatch)


def add_presets(monkeypatch):
    for name, changes in (("mini", {}), ("mini-conventional", {"aligned": False, "prefix": False})):
        tokenizer = small_tokenizer(**changes)
        monkeypatch.setitem(PRESETS, name, Preset(tokenizer, small_ar(tokenizer, classes=14, dropout=0.1)))
        common = TrainSettings(steps=4, batch=4, lr=1e-3, warmup=2, pictures=12, save_every=2)
        gan = LossWeights(l1=0.2, edges=0.1, adversarial=0.5, adversarial_start=0.5)
        parts = {"tokenizer": replace(common, losses=gan), "decoder": common, "ar": common}
        monkeypatch.setitem(SETTINGS, name, parts)


def tensors(model):
    return {
        key: value.clone() for key, value in [*model.tokenizer.state_dict().items(), *model.ar.state_dict().items()]
    }


@pytest.fixture
def run(tmp_path):
    train.train("tokenizer", "mini", tmp_path / "run")
    return tmp_path / "run"


def test_three_parts_make_a_checkpoint_that_draws(run):
    pixels = scenes.render([0, 5, 9], 1, 32)
    before = AliTok.from_pretrained(run, "cpu")
    assert before.tokenizer.stages == (1,)
    ids, causal = before.tokenizer.encode(pixels), before.tokenizer.state_dict()
    train.train("decoder", "mini", run)
    train.train("ar", "mini", run)
    after = AliTok.from_pretrained(run, "cpu")
    assert torch.equal(after.tokenizer.encode(pixels), ids)  # stage 2 leaves the ids bit-identical
    for key, value in causal.items():
        assert torch.equal(after.tokenizer.state_dict()[key], value), key
    assert after.tokenizer.stages == (1, 2)
    assert after.sample(["sea", "city"]).shape == (2, 3, 32, 32)
    assert after.info["training"].keys() == {"tokenizer", "decoder", "ar"}
    names = {path.name for path in (run / "sheets").iterdir()}
    assert names == {f"{part}-{step:06d}.png" for part in ("tokenizer", "decoder", "ar") for step in (2, 4)}


def test_training_changes_every_trained_tensor(run):
    torch.manual_seed(0)
    fresh = AliTok.from_preset(PRESETS["mini"], stages=(1,)).tokenizer.state_dict()
    trained = AliTok.from_pretrained(run, "cpu").tokenizer.state_dict()
    still = [key for key, value in trained.items() if torch.allclose(value, fresh[key], atol=1e-6)]
    assert still == []


def test_conventional_tokenizer_has_a_bidirectional_decoder_only(tmp_path):
    train.train("tokenizer", "mini-conventional", tmp_path)
    assert AliTok.from_pretrained(tmp_path, "cpu").tokenizer.stages == (2,)
    with pytest.raises(CheckpointError, match="no second stage"):
        train.train("decoder", "mini-conventional", tmp_path)


@pytest.mark.parametrize("part", ["tokenizer", "ar"])
def test_resuming_continues_exactly(tmp_path, monkeypatch, part):
    """Stop after the first save, resume: the same weights as a run that was never interrupted."""
    if part == "ar":
        train.train("tokenizer", "mini", tmp_path / "a")
        train.train("tokenizer", "mini", tmp_path / "b")
    whole = train.train(part, "mini", tmp_path / "a")

    def stop(task, folder, step):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_save_sheet", stop)
    with pytest.raises(KeyboardInterrupt):
        train.train(part, "mini", tmp_path / "b")
    monkeypatch.undo()  # which also takes the presets back
    add_presets(monkeypatch)
    resumed = train.train(part, "mini", tmp_path / "b", resume=True)
    a, b = (m.tokenizer if part == "tokenizer" else m.ar for m in (whole, resumed))
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key


def test_mistakes_are_one_sentence(run, tmp_path):
    for call, words in (
        (lambda: train.train("tokenizer", "mini", run), "holds a run already"),
        (lambda: train.train("tokenizer", "mini", tmp_path / "none", resume=True), "nothing to resume"),
        (lambda: train.train("ar", "mini", tmp_path / "none"), "no checkpoint"),
        (lambda: train.train("ar", "mini-conventional", run), "not trained with preset mini-conventional"),
        (lambda: train.train("tokenizer", "mini", run, True, [("lr", 0.5)]), "lr was 0.001 and is now 0.5"),
        (
            lambda: train.train("tokenizer", "mini", tmp_path / "bad", overrides=[("losses", NAN)]),
            "loss at step 0 is nan",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_damaged_state_is_named(run):
    path = run / "state" / "tokenizer.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="is damaged"):
        train.train("tokenizer", "mini", run, resume=True)


def test_ids_are_cached_once_and_recognised_as_stale(run, monkeypatch):
    settings, device = SETTINGS["mini"]["ar"], torch.device("cpu")
    source = SceneSource(32, settings, device)
    model = AliTok.from_pretrained(run, "cpu")
    first = train.cached_ids(model, source, run)
    assert first[0].shape == (settings.pictures, 7)
    monkeypatch.setattr(model.tokenizer, "encode", None)  # a second encoding would fail
    second = train.cached_ids(model, source, run)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    monkeypatch.undo()
    others = SceneSource(32, replace(settings, seed=5), device)
    assert not torch.equal(first[1], train.cached_ids(model, others, run)[1])
    model.tokenizer.quantizer.codebook.data.mul_(-1)
    assert not torch.equal(first[0], train.cached_ids(model, source, run)[0])


@pytest.fixture
def pictures(tmp_path):
    """A folder of reddish and bluish pictures."""
    noise = np.random.default_rng(0)
    for number, name in enumerate(("red", "blue")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(6):
            pixels = noise.integers(0, 80, (40, 50, 3), np.uint8)
            pixels[:, :, 2 * number] += 150
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


def test_a_folder_of_pictures_becomes_a_model_that_draws(pictures, tmp_path):
    for part in ("tokenizer", "decoder", "ar"):
        train.train(part, "mini", tmp_path / "run", data=str(pictures))
    model = AliTok.from_pretrained(tmp_path / "run", "cpu")
    assert model.classes == ["blue", "red"]
    assert model.ar.config.classes == 2
    assert model.sample(["red", 0], seed=1).shape == (2, 3, 32, 32)
    ids = load_file(tmp_path / "run" / "state" / "ids.safetensors")
    assert ids["ids"].shape == (100, 7)  # ten crops of ten pictures; two are held out
    with pytest.raises(CheckpointError, match="other pictures"):
        train.train("ar", "mini", tmp_path / "run")


def test_learning_rate_warms_up_and_falls():
    settings = TrainSettings(steps=100, lr=1.0, final_lr=0.1, warmup=10)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_batches_depend_on_seed_and_step_alone():
    settings = TrainSettings(steps=1, batch=4)
    first, second = (SceneSource(32, settings, torch.device("cpu")) for _ in range(2))
    first.batch(0)
    assert torch.equal(first.batch(3)[0], second.batch(3)[0])
    assert not torch.equal(first.batch(3)[0], first.batch(4)[0])
    other = SceneSource(32, replace(settings, seed=1), torch.device("cpu"))
    assert not torch.equal(first.batch(3)[0], other.batch(3)[0])


PROCESS = """
import sys
import pytest, torch
sys.path.insert(0, sys.argv[1])
import test_train
from alitok_lite import train
with pytest.MonkeyPatch.context() as patch:
    test_train.add_presets(patch)
    model = train.train("tokenizer", "mini", sys.argv[2])
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    torch.save(model.tokenizer.state_dict(), f"{sys.argv[2]}/rank{rank}.pt")
    train.train("decoder", "mini", sys.argv[2])
    train.train("ar", "mini", sys.argv[2])
"""


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """The same global batch: equal codebooks on both, and the weights and losses of one process."""
    (tmp_path / "process.py").write_text(PROCESS)
    models = []
    for count in (1, 2):
        out = tmp_path / str(count)
        # `accelerate launch` starts several processes on GPUs only; on CPUs it takes torch's own launcher.
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
        program = [*launch, str(tmp_path / "process.py"), str(Path(__file__).parent), str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
        result = subprocess.run(program, capture_output=True, text=True, timeout=300, env=environment)
        assert result.returncode == 0, result.stderr[-3000:]
        models.append(AliTok.from_pretrained(out, "cpu"))
    ranks = [torch.load(tmp_path / "2" / f"rank{rank}.pt") for rank in (0, 1)]
    assert all(torch.equal(ranks[0][key], ranks[1][key]) for key in ranks[0])  # bit for bit
    one = torch.load(tmp_path / "1" / "rank0.pt")
    for key, value in ranks[0].items():
        torch.testing.assert_close(value, one[key], atol=1e-4, rtol=1e-3)
    for part in ("tokenizer", "decoder", "ar"):
        infos = [model.info["training"][part] for model in models]
        for key in infos[0].keys() & {"mse", "l1", "edges", "aux", "vq", "train nats"}:
            assert infos[0][key] == pytest.approx(infos[1][key], rel=1e-4), (part, key)


ENDLESS = """
import sys
from pathlib import Path
import pytest
sys.path.insert(0, sys.argv[1])
import test_train
from alitok_lite import train
with pytest.MonkeyPatch.context() as patch:
    test_train.add_presets(patch)
    resume = Path(sys.argv[2], "state", "tokenizer.safetensors").exists()
    print("ready", flush=True)
    train.train("tokenizer", "mini", sys.argv[2], resume, [("steps", 100_000), ("save_every", 2)])
"""


@pytest.mark.slow
def test_killed_at_any_moment_a_run_stays_readable(tmp_path):
    """kill -9 at 20 random moments: the checkpoint loads, and at most one save interval is lost."""
    (tmp_path / "endless.py").write_text(ENDLESS)
    out, moments, seen = tmp_path / "run", random.Random(0), 0
    for _ in range(20):
        program = [sys.executable, str(tmp_path / "endless.py"), str(Path(__file__).parent), str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with open(tmp_path / "log", "w") as log:
            process = subprocess.Popen(program, stdout=log, stderr=log, env=environment)
            while "ready" not in (tmp_path / "log").read_text() and process.poll() is None:
                time.sleep(0.05)
            time.sleep(moments.uniform(0.5, 3))
            process.kill()
            process.wait()
        text = (tmp_path / "log").read_text()
        assert "Error" not in text, text[-2000:]
        saved = [int(step) for step in re.findall(r"tokenizer step (\d+):", text)]
        if not (out / "config.json").exists():
            assert not saved
            continue
        model = AliTok.from_pretrained(out, "cpu")
        assert model.tokenizer.encode(torch.rand(1, 3, 32, 32)).shape == (1, 7)
        with safe_open(out / "state" / "tokenizer.safetensors", "pt") as file:
            step = int(file.metadata()["step"])
        assert step >= max([seen, *saved])
        seen = step
    assert seen >= 10  # the rounds built on one another
    assert len(list(out.glob("*.safetensors"))) <= 3  # at most one half-finished change of weights


def test_full_disk_keeps_the_last_good_checkpoint(run, monkeypatch, capsys):
    """The error is one sentence on the command line, and the run goes on from where it was saved."""
    before = AliTok.from_pretrained(run, "cpu").tokenizer.state_dict()

    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("alitok_lite.train.write_atomically", full)
        patch.setitem(SETTINGS["mini"], "ar", replace(SETTINGS["mini"]["ar"], pictures=8))
        patch.setattr("alitok_lite.__main__._trainable", lambda: ["mini"])
        assert main(["train", "ar", "--preset", "mini", "--out", str(run)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in error
    after = AliTok.from_pretrained(run, "cpu").tokenizer.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    train.train("ar", "mini", run)
