"""The same numbers as the official code: small fixture, sizes, keys."""

import json
from pathlib import Path

import pytest
import torch

from alitok_lite import PRESETS, AliTok
from alitok_lite.core.sampling import Sampling, generate, guidance_ramp, gumbel_noise
from alitok_lite.store import official

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
    pixels, aux = tokenizer.decode_with_prefix(ids)
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


@pytest.mark.parametrize("file", KEYS)
def test_names_can_be_turned_back(file):
    there, back = official.ar_name, official.official_ar_name
    if file == "AliTok.pth":
        there, back = official.tokenizer_name, official.official_tokenizer_name
    keys = list(unfold(KEYS[file]))
    assert [back(there(key)) for key in keys] == keys
    assert len({there(key) for key in keys}) == len(keys)


def test_both_decoders_have_one_official_name():
    for key in ("decoder.class_embedding", "decoder.conv_out_aux.weight", "decoder.transformer.1.mlp.c_fc.bias"):
        assert {official.official_tokenizer_name(official.tokenizer_name(key, stage)) for stage in (1, 2)} == {key}


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


@pytest.mark.parametrize("name", SIZES)
def test_full_size_state_dicts_load(name):
    """On the meta device: every official key finds its place, and the sizes are those of the preset."""
    shapes = unfold(KEYS[name.replace("-", "_") + ".bin"])
    model = official.load_ar({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    assert model.config == PRESETS[name].ar
    shapes = unfold(KEYS["AliTok.pth"])
    tokenizer = official.load_tokenizer({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    assert tokenizer.config == PRESETS[name].tokenizer
    assert tokenizer.stages == (2,)
    assert official.kind(shapes) == "tokenizer"


def random_state(shapes):
    """Weights like those of a fresh model, but with an output layer, and norms that are not all one."""
    torch.manual_seed(0)
    return {
        key: 0.02 * torch.randn(shape) + float("norm" in key and key.endswith("weight"))
        for key, shape in shapes.items()
    }


def narrow(shapes, **sizes):
    """Other sizes for those of AliTok-B, two layers deep; the 273 tokens stay."""
    there = {768: "width", 2304: "qkv", 48: "head", 2048: "hidden", 4096: "codes", 5098: "rows"}
    sizes = {"qkv": 3 * sizes["width"], "rows": sizes["codes"] + 1002} | sizes
    kept = {key: shape for key, shape in shapes.items() if not key.startswith("blocks.") or int(key.split(".")[1]) < 2}
    return {key: tuple(sizes.get(there.get(n), n) for n in shape) for key, shape in kept.items()}


SMALL_B = {"width": 64, "head": 16, "hidden": 96, "codes": 128}
FULL_B = pytest.param(None, marks=pytest.mark.slow)


def load_b(sizes):
    shapes = unfold(KEYS["alitok_b.bin"])
    if sizes is None:
        return official.load_ar(random_state(shapes))
    return official.load_ar(random_state(narrow(shapes, **sizes)), heads=sizes["width"] // sizes["head"])


@pytest.mark.parametrize("sizes", [SMALL_B, FULL_B])
def test_cached_generation_equals_uncached_at_273_tokens(sizes):
    """With the official guidance: every id is what one pass over all of them, without a cache, would draw."""
    ar, sampling = load_b(sizes), Sampling(PRESETS["alitok-b"].guidance, PRESETS["alitok-b"].power)
    labels = torch.tensor([207, 999])
    ids = [step.ids for step in generate(ar, labels, [5, 6], sampling)][-1]
    assert ids.shape == (2, 273)
    with torch.inference_mode():
        conditional, unconditional = ar(ids, labels), ar(ids)
    ramp = guidance_ramp(273, sampling.guidance, sampling.power)[:, None]
    scores = unconditional + ramp * (conditional - unconditional)
    scores += gumbel_noise([5, 6], 273, ar.config.codebook_size, torch.device("cpu"))
    lost = scores.max(-1).values - scores.gather(-1, ids[..., None])[..., 0]
    assert lost.max() <= 1e-3  # 0 but where two codes come out even, to rounding
    assert (lost == 0).double().mean() > 0.99


@pytest.mark.parametrize("sizes", [SMALL_B, FULL_B])
def test_bfloat16_logits_are_near_those_of_float32(sizes):
    """Stated tolerance: 3 % of their own size (root mean square), and 0.001 nats between the distributions."""
    ar = load_b(sizes)
    ids, labels = torch.randint(ar.config.codebook_size, (2, 273)), torch.tensor([1, 1000])
    with torch.inference_mode():
        exact = ar(ids, labels)
        near = ar.to(torch.bfloat16)(ids, labels).float()
    assert (near - exact).square().mean().sqrt() <= 0.03 * exact.square().mean().sqrt()
    divergence = (exact.softmax(-1) * (exact.log_softmax(-1) - near.log_softmax(-1))).sum(-1)
    assert divergence.max() <= 1e-3
