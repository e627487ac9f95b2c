"""The cost of a training step, on models small enough for seconds."""

from dataclasses import replace

import pytest
import torch
from conftest import small_ar, small_tokenizer

from alitok_lite import PRESETS
from alitok_lite.__main__ import main
from alitok_lite.core import ar
from alitok_lite.core.config import Preset, resized
from alitok_lite.core.losses import LossWeights
from alitok_lite.study.costs import training_cost
from alitok_lite.train import loop
from alitok_lite.train.settings import TrainSettings

pytest.importorskip("accelerate")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # compiling would take longer than the training


def preset(**changes):
    return Preset(small_tokenizer(**changes), small_ar(small_tokenizer(**changes), classes=14))


@pytest.mark.parametrize("kind", ["tokenizer", "decoder", "ar"])
def test_a_step_of_each_kind_is_taken_and_counted(kind, monkeypatch):
    settings = TrainSettings(steps=5, batch=4, losses=LossWeights(adversarial=0.5))
    seen, backward = [], loop.backward

    def counted(task, *args):
        terms = backward(task, *args)
        seen.append((task, terms))
        return terms

    monkeypatch.setattr(loop, "backward", counted)
    cost = training_cost(kind, preset(), settings, steps=2)
    assert len(seen) == 5  # three that warm up
    task, terms = seen[0]
    assert ("gan" in terms) == (kind != "ar")
    assert cost["parameters"] == sum(p.numel() for p in task.network.parameters())
    wanted = {"tokenizer": task.model.tokenizer, "decoder": task.model.tokenizer.decoder2, "ar": task.model.ar}
    assert task.network is wanted[kind]
    assert cost["images_per_second"] == pytest.approx(4 / cost["seconds"]) and cost["batch"] == 4


def test_other_sizes_reach_the_ar_model():
    assert resized(preset(), patch_size=8).ar.tokens == 5 + 16
    with pytest.raises(ValueError, match="no size 'colour'; choose from image_size"):
        resized(preset(), colour=1)


def test_command_line(capsys):
    assert main(["cost", "ar", "--preset", "tiny", "--batch", "2", "--steps", "1", "--set", "codebook_size=64"]) == 0
    out = capsys.readouterr().out
    wanted = replace(PRESETS["tiny"].ar, codebook_size=64)
    assert f"parameters {sum(p.numel() for p in ar.ARModel(wanted).parameters()):,.4g}, batch 2," in out
    assert main(["cost", "ar", "--preset", "tiny", "--steps", "0"]) == 2
    assert "steps is 0" in capsys.readouterr().err
