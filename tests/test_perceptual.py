"""The perceptual term with random weights of a tiny ConvNeXt; nothing is downloaded."""

import socket
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from test_train import add_presets

from alitok_lite import train
from alitok_lite.__main__ import main
from alitok_lite.core.losses import LossWeights
from alitok_lite.train.perceptual import MEAN, PerceptualLoss

transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("went to the network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("went to the network"))


@pytest.fixture
def convnext(tmp_path, monkeypatch):
    """A folder with a tiny ConvNeXt, which ALITOK_CONVNEXT names."""
    torch.manual_seed(0)
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=5)
    model = transformers.ConvNextForImageClassification(config)
    for parameter in model.parameters():  # far enough from the usual start for every pixel to matter
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "convnext")
    monkeypatch.setenv("ALITOK_CONVNEXT", str(tmp_path / "convnext"))
    return model.eval()


def test_gradient_reaches_the_pixels_and_nothing_else(convnext):
    loss, pixels = PerceptualLoss(), torch.rand(2, 3, 32, 32)
    decoded = torch.rand(2, 3, 32, 32, requires_grad=True)
    value = loss(decoded, pixels)
    assert value.shape == () and value > 0
    value.backward()
    assert decoded.grad.abs().amin((1, 2, 3)).min() >= 0 and (decoded.grad != 0).float().mean() > 0.99
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert not loss.network.training


def test_identical_pictures_cost_nothing(convnext):
    pixels = torch.rand(2, 3, 40, 40)
    assert PerceptualLoss()(pixels.clone(), pixels) == 0


def test_logits_are_those_of_the_network_on_standardised_pictures(convnext):
    """At 224 pixels nothing is resized; the mean colour becomes zero."""
    loss, pixels = PerceptualLoss(), torch.rand(1, 3, 224, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        wanted = convnext((pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)).logits
        torch.testing.assert_close(loss.logits(pixels), wanted, atol=1e-4, rtol=1e-4)
        grey = torch.tensor(MEAN).view(1, 3, 1, 1).expand(1, 3, 16, 16)
        torch.testing.assert_close(
            loss.logits(grey), convnext(torch.zeros(1, 3, 224, 224)).logits, atol=1e-4, rtol=1e-4
        )
    other = torch.rand(1, 3, 224, 224)
    wanted = (loss.logits(other) - loss.logits(pixels)).square().mean()
    torch.testing.assert_close(loss(other, pixels), wanted)


@pytest.mark.parametrize("source", ["{tmp}/none", "{tmp}", "facebook/no-such-model", "not a name"])
def test_missing_weights_are_one_sentence(tmp_path, monkeypatch, source, capsys):
    monkeypatch.setenv("ALITOK_CONVNEXT", source.format(tmp=tmp_path))
    began = time.monotonic()
    assert main(["train", "tokenizer", "--preset", "alitok-b", "--out", str(tmp_path / "run")]) == 2
    assert time.monotonic() - began < 10
    error = capsys.readouterr().err
    assert "hf download facebook/convnext-small-224" in error and "ALITOK_CONVNEXT" in error
    assert error.count("\n") == 1 and error.startswith("alitok_lite: ")
    assert list(tmp_path.iterdir()) == []


def test_weights_in_the_cache_are_found(convnext, tmp_path, monkeypatch):
    monkeypatch.delenv("ALITOK_CONVNEXT")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="'facebook/convnext-small-224' cannot be loaded"):
        PerceptualLoss()
    repository = tmp_path / "cache" / "models--facebook--convnext-small-224"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots").mkdir()
    (tmp_path / "convnext").rename(repository / "snapshots" / "abc")
    found = PerceptualLoss().network.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in convnext.state_dict().items())


def test_damaged_weights_are_named(convnext, tmp_path):
    path = tmp_path / "convnext" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"convnext' cannot be loaded: download"):
        PerceptualLoss()


def test_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'alitok_lite\[train\]'"):
        PerceptualLoss()


def check_training(term, part, folder, monkeypatch):
    """The term is in the loss and moves the weights; the classifier itself stays out of the state."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    add_presets(monkeypatch)
    states = []
    for weight in (0.0, 0.1):
        run = folder / str(weight)
        if part == "decoder":
            train.train("tokenizer", "mini-plain", run)
        losses = LossWeights(**{term: weight}, adversarial=0.5, adversarial_start=0.0)
        model = train.train(part, "mini-plain", run, overrides=[("losses", losses), ("steps", 2)])
        assert (term in model.info["training"][part]) is (weight > 0)
        states.append(load_file(run / "state" / f"{part}.safetensors"))
    assert model.info["training"][part][term] > 0
    assert states[0].keys() == states[1].keys()
    key = "network.positions" if part == "decoder" else "network.encoder.queries"
    assert not torch.equal(states[0][key], states[1][key])


def check_ar_model_without(term, variable, folder, monkeypatch):
    """An AR model trains although the classifier's weights are missing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    add_presets(monkeypatch)
    monkeypatch.setenv(variable, str(folder / "none"))
    train.train("tokenizer", "mini-plain", folder / "run")
    train.train("ar", "mini-plain", folder / "run", overrides=[("losses", LossWeights(**{term: 1.0}))])


@pytest.mark.parametrize("part", ["tokenizer", "decoder"])
def test_training_with_it(convnext, tmp_path, monkeypatch, part):
    check_training("perceptual", part, tmp_path, monkeypatch)


def test_ar_model_does_not_load_it(tmp_path, monkeypatch):
    check_ar_model_without("perceptual", "ALITOK_CONVNEXT", tmp_path, monkeypatch)
