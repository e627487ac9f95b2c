"""Compiled training computes what the code says. Needs a CUDA GPU: on a CPU nothing is compiled."""

import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_lite import save_weights, stand_in

from alitok_lite import PRESETS
from alitok_lite.core.ar import ARModel
from alitok_lite.core.tokenizer import Tokenizer
from alitok_lite.study.lookahead import MaskedModel
from alitok_lite.train import run
from alitok_lite.train.perceptual import FeatureLoss

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def gradients(network, module, loss, draws=1, first=0):
    """The loss and the gradients of all parameters, in mixed precision, summed over the draws of the dropout."""
    losses, total = [], {}
    for seed in range(first, first + draws):
        module.zero_grad(set_to_none=True)  # a CUDA graph writes the next gradients to the same place
        torch.manual_seed(seed)
        with torch.autocast("cuda", torch.bfloat16):
            value = loss(network)
        value.backward()
        losses.append(value.item())
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                total[name] = total.get(name, 0) + parameter.grad.float()
    return sum(losses) / draws, total


def alike(ours, plain):
    """Cosines between the gradients of each parameter."""
    return {key: F.cosine_similarity(ours[1][key].flatten(), value.flatten(), 0) for key, value in plain[1].items()}


def assert_alike(ours, plain, again, least):
    """Losses within one part in a hundred, gradients as alike as those of two plain runs, of which dropout makes two
    different ones: then ours may be a little less alike."""
    assert ours[0] == pytest.approx(plain[0], rel=0.01)
    found, usual = alike(ours, plain), alike(again, plain)
    bounds = {key: least * value - 0.1 * (value < 0.99) for key, value in usual.items()}
    assert not {key: (value.item(), bounds[key].item()) for key, value in found.items() if not value > bounds[key]}


def compiled(network):
    """As training compiles it."""
    return run.accelerator_front().prepare(network)


@on_gpu
@pytest.mark.parametrize(
    "kind, preset, batch",
    [(ARModel, "tiny", 512), (ARModel, "scenes", 512), (ARModel, "photos", 256), (MaskedModel, "scenes", 512)],
)
@pytest.mark.parametrize("dropout, draws, least", [(0.0, 1, 0.99), (0.1, 96, 0.98)])
def test_ar_model(kind, preset, batch, dropout, draws, least):
    torch.manual_seed(0)
    config = replace(PRESETS[preset].ar, dropout=dropout)
    model = kind(config).cuda().train()
    for name, parameter in model.named_parameters():
        if name.startswith("output") or "qkv" in name:  # predictions that depend on attention
            torch.nn.init.normal_(parameter, std=0.1)
    model.rope(torch.device("cuda"))
    ids = torch.randint(config.codebook_size, (batch, config.tokens), device="cuda")
    labels = torch.randint(config.classes, (batch,), device="cuda")

    def loss(network):
        return F.cross_entropy(network(ids, labels).float().flatten(0, 1), ids.flatten())

    plain = gradients(model, model, loss, draws)
    again = gradients(model, model, loss, draws, first=draws)
    assert_alike(gradients(compiled(model), model, loss, draws), plain, again, least)


@on_gpu
@pytest.mark.parametrize("preset, batch", [("tiny", 64), ("scenes", 512), ("photos", 256)])
def test_tokenizer(preset, batch):
    torch.manual_seed(0)
    model = Tokenizer(PRESETS[preset].tokenizer).cuda().train()
    side = model.config.image_size
    # Not grey on average, as the first outputs are: the gradient of the last bias would be nothing but rounding.
    pixels = torch.rand(batch, 3, side, side, device="cuda") * torch.tensor([0.9, 0.6, 0.3], device="cuda").view(
        3, 1, 1
    )

    def loss(network):
        output = network(pixels, 1)
        return F.mse_loss(output.pixels, pixels) + output.vq_loss

    plain = gradients(model, model, loss)
    assert_alike(gradients(compiled(model), model, loss), plain, plain, 0.98)


@on_gpu
def test_recorded_features_term_is_the_plain_one(tmp_path, monkeypatch):
    """Value and gradient, for every batch anew, also after a batch of another size and another kind of autocast."""
    monkeypatch.setitem(sys.modules, "timm", stand_in())
    save_weights(tmp_path / "lite2.safetensors")
    monkeypatch.setenv("ALITOK_LITE2", str(tmp_path / "lite2.safetensors"))
    loss = FeatureLoss(torch.device("cuda"))
    for count, half in ((8, True), (8, True), (5, True), (8, False)):
        decoded, pixels = torch.rand(2, count, 3, 64, 64, device="cuda").unbind()
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            wanted, gradient = loss._with_gradient(decoded, pixels)
            decoded.requires_grad_()
            value = loss(decoded, pixels)
        (2 * value).backward()
        torch.testing.assert_close(value, wanted, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(decoded.grad, 2 * gradient, rtol=1e-2, atol=1e-6)
