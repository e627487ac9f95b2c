"""Numbers and formulas of the paper and its code, each beside what it does here: DEVIATIONS.md says where we differ."""

import math
from dataclasses import fields

import pytest
import torch
from conftest import small_ar, small_model, small_tokenizer
from torch import nn

from alitok_lite.core.ar import ARModel
from alitok_lite.core.config import PRESETS, ARConfig, TokenizerConfig
from alitok_lite.core.layers import Attention, Block, KVCache, RMSNorm
from alitok_lite.core.quantizer import VectorQuantizer
from alitok_lite.core.sampling import Sampling, generate, guidance_ramp, truncate
from alitok_lite.core.tokenizer import Tokenizer
from alitok_lite.train.settings import TrainSettings

# ---------------------------------------------------------------- constants


def test_constants_of_training():
    settings = TrainSettings(steps=1)
    assert settings.betas == (0.9, 0.96) and settings.weight_decay == 0.03 and settings.clip == 1.0
    assert (settings.lr, settings.final_lr) == (4e-4, 1e-5)
    assert settings.class_dropout == 0.1 and ARConfig().dropout == 0.1
    assert all(PRESETS[name].ar.dropout == 0.1 for name in ("alitok-b", "alitok-l", "alitok-xl"))
    assert VectorQuantizer(4, 2).decay == 0.99


def test_constants_of_sampling():
    guidance = {name: (PRESETS[name].guidance, PRESETS[name].power) for name in ("alitok-b", "alitok-l", "alitok-xl")}
    assert guidance == {"alitok-b": (16, 1.8), "alitok-l": (6, 0.7), "alitok-xl": (13, 1.4)}
    assert Sampling() == Sampling(guidance=1, power=1, temperature=1, top_k=None, top_p=None)


def test_sizes_of_the_sequence():
    config = TokenizerConfig()
    assert (config.grid, config.prefix_tokens, config.tokens, config.buffer_tokens) == (16, 17, 273, 32)
    assert (config.codebook_size, config.code_dim) == (4096, 32)


# ---------------------------------------------------------------- initialisation


def near(values: torch.Tensor, std: float) -> bool:
    """Mean 0 and this standard deviation, within four standard errors."""
    error = std / math.sqrt(values.numel())
    return abs(values.mean()) < 4 * error and abs(values.std() - std) < 4 * error / math.sqrt(2)


def test_ar_model_starts_from_normal_weights_and_a_uniform_prediction():
    torch.manual_seed(0)
    config = small_ar(small_tokenizer(), width=64, heads=4, hidden=96, codebook_size=256)
    model = ARModel(config)
    for name, value in model.named_parameters():
        if name == "output.weight" or name.endswith("bias"):
            assert value.abs().max() == 0, name
        elif "norm" in name:
            assert (value == 1).all(), name
        else:
            assert near(value, 0.02), name
    assert model(torch.zeros(1, 7, dtype=torch.long)).abs().max() == 0  # every code is as likely


def test_tokenizer_starts_as_the_paper_says():
    """Linear layers, convolutions and codebook: 0.02; tables: width^-0.5; biases 0; norms 1."""
    torch.manual_seed(0)
    sizes = {f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in (("width", 64), ("heads", 4))}
    tokenizer = Tokenizer(small_tokenizer(codebook_size=256, code_dim=8, **sizes), (1, 2))
    for name, value in tokenizer.named_parameters():
        if name.endswith("bias"):
            assert value.abs().max() == 0, name
        elif any(word in name for word in ("positions", "queries", "extra_tokens")):
            assert near(value, 64**-0.5), name
        elif value.ndim == 1:
            assert (value == 1).all(), name
        else:
            assert near(value, 0.02), name


# ---------------------------------------------------------------- dropout


class Constant(nn.Module):
    """A layer with the same output for any input."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x, *_):
        return torch.full_like(x, self.value)


@pytest.mark.parametrize("branch", ["attention", "mlp"])
def test_dropout_of_each_branch_of_a_block(branch):
    """Kept values are 1 / (1 - p) times as large; in evaluation all are kept as they are."""
    values = {"attention": 0.0, "mlp": 0.0} | {branch: 1.0}
    block = Block(8, Constant(values["attention"]), Constant(values["mlp"]), nn.LayerNorm, dropout=0.75)
    x = torch.zeros(1, 5000, 8)
    assert torch.equal(block.eval()(x), torch.ones_like(x))
    found = block.train()(x)
    assert found.unique().tolist() == [0, 4] and (found > 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_dropout_of_the_attention_weights():
    torch.manual_seed(0)
    layer, plain = Attention(16, 4, causal=True, dropout=0.999), Attention(16, 4, causal=True)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 9, 16)
    assert torch.equal(layer.eval()(x), plain(x))
    dropped = layer.train()(x) - layer.out.bias
    assert (dropped.abs() < 1e-6).float().mean() > 0.8  # hardly a weight is left
    assert torch.equal(plain.train()(x), plain.eval()(x))


@pytest.mark.parametrize("place", ["embedding", "attention", "residual"])
def test_each_dropout_of_the_ar_model_acts_in_training_alone(place):
    """Built with p = 0.999, then all but one place are switched off."""
    torch.manual_seed(0)
    model = ARModel(small_ar(small_tokenizer(), dropout=0.999))
    nn.init.normal_(model.output.weight)
    dropouts = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Dropout)}
    for name, layer in dropouts.items():
        if place == "attention" or ("blocks" in name) != (place == "residual"):
            layer.p = 0.0
    for layer in model.modules():
        if isinstance(layer, Attention) and place != "attention":
            layer.dropout = 0.0
    ids = torch.randint(16, (4, 7))
    plain = model.eval()(ids)
    assert torch.equal(plain, model(ids))
    assert (model.train()(ids) - plain).abs().mean() > 0.01 * plain.abs().mean()


def test_tokenizer_has_no_dropout():
    tokenizer = small_model().tokenizer
    pixels = torch.rand(2, 3, 32, 32)
    for stage in (1, 2):
        one, two = (tokenizer.train(mode)(pixels, stage).pixels for mode in (True, False))
        assert torch.equal(one, two)


# ---------------------------------------------------------------- quantizer


def test_vq_loss_by_hand():
    """0.25 times commitment plus the codebook's, means over numbers: latents 0.1 and 0.4 from codes 0 and 1."""
    quantizer = VectorQuantizer(2, 1)
    quantizer.codebook.data = torch.tensor([[0.0], [1.0]])
    latents = torch.tensor([[[0.1], [0.6]]], requires_grad=True)
    codes, ids, loss = quantizer(latents)
    error = (0.1**2 + 0.4**2) / 2
    assert ids.tolist() == [[0, 1]] and codes.flatten().tolist() == pytest.approx([0, 1], abs=1e-6)
    assert loss.item() == pytest.approx(1.25 * error)
    to_latents, to_codes = torch.autograd.grad(loss, [latents, quantizer.codebook])
    assert to_latents.flatten().tolist() == pytest.approx([0.25 * 2 * 0.1 / 2, 0.25 * 2 * -0.4 / 2])
    assert to_codes.flatten().tolist() == pytest.approx([2 * -0.1 / 2, 2 * 0.4 / 2])


def test_online_clustering_by_hand(monkeypatch):
    """Two steps of usage p and codes (1 - a) e + a z, a = exp(-10 V p / 0.01 - 0.001), z a random latent."""
    quantizer = VectorQuantizer(2, 1)
    quantizer.codebook.data = torch.tensor([[0.0], [1.0]])
    usage, codes = [0.0, 0.0], [0.0, 1.0]
    for latents, counts, drawn in (([0.2, 0.8, 0.95, 0.9], [1, 3], [0, 2]), ([0.1, 0.1, 0.1, 0.3], [4, 0], [3, 1])):
        z = torch.tensor(latents).view(1, 4, 1)
        ids = quantizer(z)[1]
        assert torch.bincount(ids.flatten(), minlength=2).tolist() == counts
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randint", lambda count, shape, drawn=drawn, **_: torch.tensor(drawn))
            quantizer.revive(z, ids)
        usage = [0.99 * p + 0.01 * count / 4 for p, count in zip(usage, counts, strict=True)]
        shares = [math.exp(-10 * 2 * p / 0.01 - 1e-3) for p in usage]
        codes = [(1 - a) * e + a * latents[i] for a, e, i in zip(shares, codes, drawn, strict=True)]
        assert quantizer.usage.tolist() == pytest.approx(usage)
        assert quantizer.codebook.flatten().tolist() == pytest.approx(codes, abs=1e-6)


def test_a_code_never_chosen_moves_all_the_way():
    quantizer = VectorQuantizer(2, 1)
    quantizer.codebook.data = torch.tensor([[0.0], [9.0]])
    quantizer.revive(torch.full((1, 3, 1), 0.5), torch.zeros(1, 3, dtype=torch.long))
    assert quantizer.codebook[1].item() == pytest.approx(0.5, abs=0.01)
    assert quantizer.codebook[0].item() == pytest.approx(0.5 * math.exp(-20 - 1e-3), abs=1e-6)  # one in use stays


# ---------------------------------------------------------------- attention and norms


@pytest.mark.parametrize("parts", [[3, 2], [1, 2, 2], [2, 3]])
def test_queries_behind_a_cache_see_no_later_ones(parts):
    torch.manual_seed(0)
    layer, cache, x = Attention(8, 2, causal=True).eval(), KVCache(5), torch.randn(1, 5, 8)
    with torch.no_grad():
        found = torch.cat([layer(part, cache=cache) for part in x.split(parts, 1)], 1)
        torch.testing.assert_close(found, layer(x), atol=1e-6, rtol=1e-5)


def test_rms_norm_by_hand():
    x = torch.tensor([3.0, 4.0])
    norm = RMSNorm(2)
    norm.weight.data = torch.tensor([1.0, 2.0])
    scale = 1 / math.sqrt((9 + 16) / 2 + 1e-5)
    assert norm(x).tolist() == pytest.approx([3 * scale, 2 * 4 * scale])
    assert norm(torch.full((2,), 1e-3))[0].item() == pytest.approx(1e-3 / math.sqrt(1e-6 + 1e-5), rel=1e-4)


# ---------------------------------------------------------------- the plain sampler


def drawn(seeds, sampling, labels=None):
    """Model and steps of a drawing."""
    model = small_model()
    labels = torch.zeros(len(seeds), dtype=torch.long) if labels is None else labels
    return model.ar, list(generate(model.ar, labels, seeds, sampling))


SAMPLINGS = {
    "temperature": Sampling(temperature=0.5),
    "top_k": Sampling(top_k=4),
    "top_p": Sampling(top_p=0.6),
    "guidance": Sampling(guidance=5.0),
    "power": Sampling(guidance=5.0, power=0.4),
}


def test_every_sampling_setting_is_tested():
    """A new field needs its place in SAMPLINGS, with what it does in `distribution`."""
    assert {field.name for field in fields(Sampling)} == SAMPLINGS.keys()


def distribution(logits: list[float], sampling: Sampling) -> list[float]:
    """Probabilities of a token, written out: temperature, then the top k, then the nucleus of what is left."""
    heights = [math.exp(value / sampling.temperature) for value in logits]
    order = sorted(range(len(logits)), key=lambda code: -heights[code])[: sampling.top_k]
    total, kept, mass = sum(heights[code] for code in order), [], 0.0
    for code in order:
        kept.append(code)
        mass += heights[code] / total
        if mass >= (sampling.top_p or 1):
            break
    total = sum(heights[code] for code in kept)
    return [heights[code] / total if code in kept else 0.0 for code in range(len(logits))]


EVERYTHING = Sampling(guidance=3.0, power=1.4, temperature=0.7, top_k=9, top_p=0.8)


@pytest.mark.parametrize("sampling", [*SAMPLINGS.values(), EVERYTHING])
def test_entropy_of_every_step_is_that_of_the_distribution_written_out(sampling):
    labels = torch.tensor([0, 1, 2])
    ar, steps = drawn([5, 6, 7], sampling, labels)
    conditional, unconditional = ar(steps[-1].ids, labels), ar(steps[-1].ids)
    for step in steps:
        scale = 1 + (sampling.guidance - 1) * (1 - math.cos(math.pi * (step.index / 7) ** sampling.power)) / 2
        logits = unconditional + scale * (conditional - unconditional)
        for row, entropy in zip(logits[:, step.index].tolist(), step.entropy.tolist(), strict=True):
            shares = distribution(row, sampling)
            assert entropy == pytest.approx(-sum(p * math.log(p) for p in shares if p), abs=1e-4), step.index


@pytest.mark.parametrize("name", SAMPLINGS)
def test_sampled_codes_come_as_often_as_the_distribution_says(name):
    """Four thousand second tokens after the same first one, within five standard deviations of a binomial share."""
    sampling, seeds, model = SAMPLINGS[name], list(range(4000)), small_model()
    prompt, labels = torch.full((4000, 1), 3), torch.ones(4000, dtype=torch.long)
    step = next(generate(model.ar, labels, seeds, sampling, prompt))
    conditional, unconditional = (model.ar(torch.tensor([[3, 0]]), label)[0, 1] for label in (labels[:1], None))
    scale = guidance_ramp(7, sampling.guidance, sampling.power)[1]
    wanted = torch.tensor(distribution((unconditional + scale * (conditional - unconditional)).tolist(), sampling))
    found = torch.bincount(step.ids[:, 1], minlength=16) / 4000
    assert ((found - wanted).abs() <= 5 * (wanted * (1 - wanted) / 4000).sqrt() + 1e-6).all()
    if name != "guidance":  # the ramp has hardly begun
        assert (wanted - conditional.softmax(-1)).abs().max() > 0.02  # the setting makes a difference


def test_ramp_by_hand():
    half = math.sqrt(0.5)
    assert guidance_ramp(4, 5.0, 1.0).tolist() == pytest.approx([1, 3 - 2 * half, 3, 3 + 2 * half])
    wanted = [1 + 2 * (1 - math.cos(math.pi * t)) for t in (0, 1 / 16, 1 / 4, 9 / 16)]
    assert guidance_ramp(4, 5.0, 2.0).tolist() == pytest.approx(wanted)
    assert guidance_ramp(4, 1.0, 2.0).tolist() == [1, 1, 1, 1]


def test_truncation_by_hand():
    logits = torch.tensor([[0.5, 0.1, 0.15, 0.25]]).log()
    kept = lambda *limits: (truncate(logits, *limits)[0] > -math.inf).tolist()  # noqa: E731
    assert kept(2, None) == [True, False, False, True]
    assert kept(None, 0.7) == [True, False, False, True] and kept(None, 0.8) == [True, False, True, True]
    assert kept(2, 0.7) == [True, False, False, True]  # of what the top 2 leave, 2/3 are not enough
    assert kept(2, 0.6) == [True, False, False, False]
    assert kept(None, None) == kept(4, 1.0) == kept(9, None) == [True] * 4
