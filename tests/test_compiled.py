"""Compiled training computes what the code says. Needs a CUDA GPU: on a CPU nothing is compiled."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from alitok_lite import PRESETS, train
from alitok_lite.ar import ARModel
from alitok_lite.tokenizer import Tokenizer

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def gradients(network, module, loss, draws):
    """The loss and the gradients of all parameters, in mixed precision, averaged over the draws of the dropout."""
    losses = []
    module.zero_grad(set_to_none=True)
    for seed in range(draws):
        torch.manual_seed(seed)
        with torch.autocast("cuda", torch.bfloat16):
            value = loss(network)
        value.backward()
        losses.append(value.item())
    return sum(losses) / draws, {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_alike(ours, plain, least):
    """Losses within one part in a hundred, gradients in the same direction."""
    assert ours[0] == pytest.approx(plain[0], rel=0.01)
    alike = {key: F.cosine_similarity(ours[1][key].flatten(), value.flatten(), 0) for key, value in plain[1].items()}
    wrong = {key: round(value.item(), 3) for key, value in alike.items() if not value > least}
    assert not wrong


def compiled(kind, network):
    """As training compiles it, or not compiled at all."""
    return train._accelerator(kind).prepare(network)


@on_gpu
@pytest.mark.parametrize("preset, batch", [("tiny", 512), ("scenes", 512), ("photos", 256)])
@pytest.mark.parametrize("dropout, draws, least", [(0.0, 1, 0.99), (0.1, 24, 0.8)])
def test_ar_model(preset, batch, dropout, draws, least):
    torch.manual_seed(0)
    config = replace(PRESETS[preset].ar, dropout=dropout)
    model = ARModel(config).cuda().train()
    for name, parameter in model.named_parameters():
        if name.startswith("output") or "qkv" in name:  # predictions that depend on attention
            torch.nn.init.normal_(parameter, std=0.1)
    model.rope(torch.device("cuda"))
    ids = torch.randint(config.codebook_size, (batch, config.tokens), device="cuda")
    labels = torch.randint(config.classes, (batch,), device="cuda")

    def loss(network):
        return F.cross_entropy(network(ids, labels).float().flatten(0, 1), ids.flatten())

    plain = gradients(model, model, loss, draws)
    assert_alike(gradients(compiled("ar", model), model, loss, draws), plain, least)


@on_gpu
@pytest.mark.parametrize("preset, batch", [("tiny", 64), ("scenes", 512), ("photos", 256)])
def test_tokenizer(preset, batch):
    torch.manual_seed(0)
    model = Tokenizer(PRESETS[preset].tokenizer).cuda().train()
    side = model.config.image_size
    pixels = torch.rand(batch, 3, side, side, device="cuda")

    def loss(network):
        output = network(pixels, 1)
        return F.mse_loss(output.pixels, pixels) + output.vq_loss

    plain = gradients(model, model, loss, 1)
    assert_alike(gradients(compiled("tokenizer", model), model, loss, 1), plain, 0.98)
