"""ZeroGPU Spaces lend a GPU for a call: known by their own variable, for large models only, for an estimated time."""

import importlib
import sys
from types import SimpleNamespace

import gradio as gr
import pytest
import torch

from alitok_lite import PRESETS
from alitok_lite.demo import lending, models
from alitok_lite.fast import steps

FUNCTIONS = [
    "tell",
    "draw",
    "animation",
    "reconstruct",
    "look",
    "poke",
    "edit",
    "complete",
    "predict",
]  # events that use a model


def forget():
    for cached in (models.models, models._load, models.is_small):
        cached.cache_clear()
    sys.modules.pop("alitok_lite.demo.endpoints", None)


@pytest.fixture
def page(monkeypatch):
    """The page's functions on a ZeroGPU Space: `may` has names of those that may borrow a GPU, `asked` the seconds that
    they requested."""
    may, asked, devices = [], [], []

    def lend(duration):
        def decorate(function):
            may.append(function.__name__)
            return lambda *arguments: asked.append(duration(*arguments)) or function(*arguments)

        return decorate

    def chosen(device):
        devices.append(device)
        return torch.device("cpu")

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lend))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.delenv("ALITOK_MODELS", raising=False)
    monkeypatch.setattr("alitok_lite.model.choose_device", chosen)
    before = sys.modules.get("alitok_lite.demo.endpoints")
    forget()
    page = importlib.import_module("alitok_lite.demo.endpoints")
    yield SimpleNamespace(page=page, may=may, asked=asked, devices=devices)
    forget()
    if before:
        sys.modules["alitok_lite.demo.endpoints"] = before
        sys.modules["alitok_lite.demo"].endpoints = before


def test_small_models_stay_on_the_cpu(page):
    assert page.may == FUNCTIONS
    *_, (_, _, _, _, link, *_) = page.page.draw("scenes", "sea", 0, 1, 1, 1)
    assert page.page.reconstruct("scenes", "house") and page.page.predict("house")
    assert page.page.tell("house", "1", False) and page.page.animation(link, "gif")
    assert page.asked == [] and set(page.devices) == {"cpu"}


@pytest.mark.slow
def test_large_models_ask_for_what_the_call_takes(page, monkeypatch):
    monkeypatch.setattr(models, "SMALL_BYTES", 0)
    *_, (_, _, _, _, link, *_) = page.page.draw("scenes", "sea", 0, 1, 1, 1)
    assert page.page.animation(link, "gif") and page.page.reconstruct("scenes", "house") and page.page.predict("house")
    assert lending.START < page.asked[0] == page.asked[1] < lending.START + 1
    assert page.asked[2:] == [lending.START, lending.START]
    assert set(page.devices) == {"auto"}
    with pytest.raises(gr.Error, match="no model 'other'"):  # a mistake costs nobody GPU time
        page.page.reconstruct("other", "house")
    assert len(page.asked) == 4


@pytest.mark.parametrize(("name", "low", "high"), [("alitok-b", 20, 30), ("alitok-xl", 25, 60)])
def test_estimates_for_official_models(monkeypatch, name, low, high):
    """AliTok-B took 11 s on an H100 when the weights were there."""
    card = models.models()["scenes"]._replace(config=PRESETS[name].tokenizer, ar=PRESETS[name].ar)
    monkeypatch.setattr(models, "models", lambda: {"m": card})
    assert low < lending.seconds("draw", "m", "0", 0, None, 1.0, 1) < high


def test_nothing_is_borrowed_elsewhere(monkeypatch):
    """Also not on a Space with a GPU of its own, which has the package `spaces` too."""
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=None))
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert lending.on_gpu(print) is print


class Model:
    """As much of an AR model on a GPU as is asked."""

    output, training, blocks = SimpleNamespace(weight=SimpleNamespace(is_cuda=True)), False, []


@pytest.mark.parametrize("value", ["true", "1", "True"])
def test_recorded_steps_are_off_only_where_a_gpu_is_lent(monkeypatch, value):
    monkeypatch.setattr(steps, "_kernels", lambda: None)
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace())
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert steps.applies(Model(), 2)
    monkeypatch.setenv("SPACES_ZERO_GPU", value)
    assert not steps.applies(Model(), 2)
