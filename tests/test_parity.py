"""The same numbers as the official code: small fixture, sizes, keys."""

import json
from pathlib import Path

import pytest
import torch

from alitok_lite import PRESETS, AliTok, official
from alitok_lite.sampling import guidance_ramp

KEYS = json.loads((Path(__file__).parent / "data" / "checkpoint_keys.json").read_text())


def group(fixture, prefix):
    return {key[len(prefix) :]: value for key, value in fixture.items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def tokenizer(fixture):
    weights, first = group(fixture, "tokenizer.weights."), group(fixture, "stage1.weights.")
    return official.load_tokenizer(weights, first, encoder_heads=3, decoder_heads=4)


@pytest.fixture(scope="module")
def ar(fixture):
    return official.load_ar(group(fixture, "ar.weights."), heads=4)


def close(a, b, tolerance):
    assert a.shape == b.shape
    assert (a - b).abs().max() <= tolerance


def test_latents_and_ids(fixture, tokenizer):
    pixels = fixture["tokenizer.in.pixels"].float() / 255
    with torch.no_grad():
        close(tokenizer.encoder(pixels), fixture["tokenizer.out.latents"], 1e-5)
    assert torch.equal(tokenizer.encode(pixels), fixture["tokenizer.out.ids"].long())


def test_pixels_of_both_stages(fixture, tokenizer):
    ids = fixture["tokenizer.out.ids"].long()
    close(tokenizer.decode(ids)[:, :, ::4, ::4], fixture["tokenizer.out.pixels_every_4th"], 1e-6)
    pixels, aux = tokenizer.decode(ids, stage=1, return_aux=True)
    close(pixels[:, :, ::4, ::4], fixture["stage1.out.pixels_every_4th"], 1e-6)
    strip = torch.cat(list(aux.unbind(1)), -1)  # (B, 3, p, K * p)
    close(strip[..., ::4, ::4], fixture["stage1.out.aux_pixels_every_4th"], 1e-6)


def test_logits_and_rope(fixture, ar):
    ids, labels = fixture["ar.in.ids"].long(), fixture["ar.in.labels"].long()
    with torch.no_grad():
        close(ar(ids, labels), fixture["ar.out.logits"][:, :-1], 1e-5)
        close(ar(ids), fixture["ar.out.logits_uncond"][:, :-1], 1e-5)
    close(ar.rope(torch.device("cpu")), fixture["ar.out.rope"], 1e-5)


@pytest.mark.parametrize("size", ["b", "l", "xl"])
def test_guidance_ramp(fixture, size):
    preset = PRESETS[f"alitok-{size}"]
    close(guidance_ramp(273, preset.guidance, preset.power), fixture[f"cfg.{size}"], 1e-6)


def unfold(entry):
    """Every key and shape of a file whose layers are folded as N."""
    shapes = {}
    for key, shape in entry["shapes"].items():
        layers = [depth for stem, depth in entry["layers"].items() if key.startswith(f"{stem}.N.")]
        for i in range(layers[0]) if layers else [None]:
            shapes[key if i is None else key.replace(".N.", f".{i}.")] = tuple(shape)
    assert len(shapes) == entry["tensors"]
    return shapes


def meta_model(name):
    with torch.device("meta"):
        return AliTok.from_preset(PRESETS[name], stages=(2,))


SIZES = {"alitok-b": 177_048_064, "alitok-l": 317_851_648, "alitok-xl": 662_141_696}


@pytest.mark.parametrize(("name", "parameters"), SIZES.items())
def test_full_size_ar(name, parameters):
    model = meta_model(name).ar
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model.rope(torch.device("cpu")).device.type == "cpu"
    expected = {official.ar_name(k): s for k, s in unfold(KEYS[name.replace("-", "_") + ".bin"]).items()}
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == expected


def test_full_size_tokenizer():
    model = meta_model("alitok-b").tokenizer
    assert sum(p.numel() for p in model.parameters()) == 389_899_308
    ours = model.state_dict()
    official_shapes = {official.tokenizer_name(k): s for k, s in unfold(KEYS["AliTok.pth"]).items()}
    assert ours.keys() == official_shapes.keys()
    for key, shape in official_shapes.items():  # 1x1 convolutions are linear layers here
        assert tuple(ours[key].shape) == (shape[:2] if shape[2:] == (1, 1) and ours[key].ndim == 2 else shape), key


def test_training_checkpoint_is_unwrapped(fixture, ar):
    wrapped = {"model_state": group(fixture, "ar.weights.")}
    assert torch.equal(official.load_ar(wrapped, heads=4).norm.weight, ar.norm.weight)
    weights = group(fixture, "tokenizer.weights.") | {"quantize.embed_prob": torch.zeros(128)}
    official.load_tokenizer({"model_state": weights}, encoder_heads=3, decoder_heads=4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.pop("blocks.1.mlp.w3.weight"), "blocks.1.mlp.up.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra"),
        (lambda w: w.update({"norm.weight": torch.zeros(63)}), "norm.weight has shape"),
        (lambda w: w.pop("output.weight"), "output.weight"),
    ],
)
def test_wrong_keys_are_named(fixture, change, named):
    weights = group(fixture, "ar.weights.")
    change(weights)
    with pytest.raises(ValueError, match=named):
        official.load_ar(weights, heads=4)
