"""Drawing: cached equals uncached, seeds, guidance, truncation, prompts, mistakes."""

import json
import math
from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import CLASSES, small_model
from hypothesis import given, settings
from hypothesis import strategies as st

from alitok_lite.core.layers import KVCache
from alitok_lite.core.sampling import Sampling, guidance_ramp, gumbel_noise, next_logits, seed_of_each, truncate


def last_ids(model, *args, **kwargs):
    return [*model.stream(*args, **kwargs)][-1].ids


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_cached_logits_equal_uncached_for_every_prompt_length(model, device, batch):
    tokens = model.ar.config.tokens
    ids = torch.randint(16, (batch, tokens), device=device)
    rows = torch.randint(3, (batch,), device=device)
    whole = model.ar(ids, rows).float()
    for start in range(tokens):
        caches = [KVCache(tokens) for _ in model.ar.blocks]
        for length in range(start, tokens):  # first a chunk of `start` ids, then one at a time
            logits = next_logits(model.ar, rows, ids[:, :length], caches)
            torch.testing.assert_close(logits, whole[:, length], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_stream_draws_what_the_plain_forward_pass_says(model, device, guidance):
    ids = last_ids(model, ["sea", 2], seed=5, guidance=guidance, power=1.3)
    labels, tokens = model.labels(["sea", 2]), model.ar.config.tokens
    cond, uncond = model.ar(ids, labels), model.ar(ids)
    ramp = guidance_ramp(tokens, guidance, 1.3).to(device)
    logits = uncond + ramp[:, None] * (cond - uncond)
    expected = (logits + gumbel_noise([5, 6], tokens, 16, device)).argmax(-1)
    assert torch.equal(ids, expected)


def test_guidance_one_costs_one_row(model, monkeypatch):
    rows = []
    original = model.ar.transform
    monkeypatch.setattr(model.ar, "transform", lambda x, caches: rows.append(len(x)) or original(x, caches))
    model.sample(["sea"] * 3, guidance=1, fast=False)
    assert set(rows) == {3}
    rows.clear()
    model.sample(["sea"] * 3, guidance=2, fast=False)
    assert set(rows) == {6}


def test_ramp_runs_from_one_to_just_under_the_guidance():
    ramp = guidance_ramp(100, 5.0, 1.5)
    assert ramp[0] == 1
    assert 4.9 < ramp[-1] < 5
    assert (ramp.diff() > 0).all()


def test_a_picture_depends_on_its_own_seed_alone(model):
    together = last_ids(model, ["sea", "house", "tree"], seed=7)
    assert torch.equal(together, last_ids(model, ["sea", "house", "tree"], seed=[7, 8, 9]))
    for i, name in enumerate(CLASSES):
        assert torch.equal(last_ids(model, [name], seed=7 + i)[0], together[i])
    assert not torch.equal(last_ids(model, ["sea"], seed=100), together[:1])
    pictures = model.sample(["sea", "sea"], seed=[3, 3])
    assert torch.equal(pictures[0], pictures[1])


def test_stream_gives_a_step_a_token(model):
    steps = list(model.stream(["sea", "tree"], seed=1))
    assert [step.index for step in steps] == list(range(7))
    for step in steps:
        assert step.ids.shape == (2, step.index + 1)
        assert torch.equal(step.ids, steps[-1].ids[:, : step.index + 1])
        assert step.entropy.shape == (2,)
        assert ((step.entropy >= 0) & (step.entropy <= math.log(16) + 1e-5)).all()
    assert torch.equal(model.sample(["sea", "tree"], seed=1), model.tokenizer.decode(steps[-1].ids))


def test_entropy_is_that_of_the_distribution(model, device):
    steps = list(model.stream(["tree"], seed=1))
    logits = model.ar(steps[-1].ids, model.labels(["tree"]))[0]
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(torch.cat([step.entropy for step in steps]), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [0, 1, 3, 6, 7])
def test_prompt_ids_are_kept_and_continued(model, length):
    whole = last_ids(model, ["sea", "tree"], seed=2)
    prompt = whole[:, :length]
    steps = list(model.stream(["sea", "tree"], seed=2, prompt_ids=prompt))
    assert [step.index for step in steps] == list(range(length, 7))
    picture = model.sample(["sea", "tree"], seed=2, prompt_ids=prompt)
    torch.testing.assert_close(picture, model.tokenizer.decode(whole))


def test_temperature_zero_is_greedy(model):
    ids = last_ids(model, ["sea"], seed=1, temperature=0)
    assert torch.equal(ids, last_ids(model, ["sea"], seed=2, temperature=0))
    assert torch.equal(ids, model.ar(ids, model.labels(["sea"])).argmax(-1))
    assert torch.equal(ids, last_ids(model, ["sea"], seed=3, top_k=1))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 20), st.floats(0.01, 1.0))
def test_truncation_keeps_the_likeliest(seed, top_k, top_p):
    logits = 3 * torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))
    kept = truncate(logits, top_k, None) > float("-inf")
    assert (kept.sum(1) == min(top_k, 16)).all()
    kept = truncate(logits, None, top_p) > float("-inf")
    for row, mask in zip(logits.softmax(-1), kept, strict=True):
        assert mask[row.argmax()]
        assert row[mask].min() >= row[~mask].max() if (~mask).any() else True
        assert row[mask].sum() >= top_p - 1e-5  # enough
        assert row[mask].sum() - row[mask].min() < top_p + 1e-5  # and not one more
    torch.testing.assert_close(truncate(logits, None, top_p)[kept], logits[kept])


def test_noise_draws_from_the_distribution():
    logits = torch.tensor([1.0, 0.0, -1.0, 0.5])
    draws = (logits + gumbel_noise(list(range(4000)), 1, 4, torch.device("cpu"))[:, 0]).argmax(-1)
    shares = torch.bincount(draws, minlength=4) / 4000
    torch.testing.assert_close(shares, logits.softmax(-1), atol=0.03, rtol=0)


NUMBERS = [np.int64, np.uint8, np.array, torch.tensor]


@pytest.mark.parametrize("kind", NUMBERS)
def test_whole_numbers_of_numpy_and_torch(kind):
    model = small_model()
    expected = last_ids(model, ["tree", "tree"], seed=[3, 4], top_k=5)
    for classes in (["tree", kind(2)], [kind(2), kind(2)], torch.tensor([2, 2]), np.array([2, 2])):
        assert torch.equal(last_ids(model, classes, seed=kind(3), top_k=kind(5)), expected)
    assert torch.equal(last_ids(model, kind(2), seed=kind(3), top_k=kind(5)), expected[:1])


@pytest.mark.parametrize(
    "seeds", [np.array([3, 7]), torch.tensor([3, 7]), (3, 7), range(3, 11, 4), [np.int64(3), torch.tensor(7)]]
)
def test_seeds_of_numpy_and_torch(seeds):
    assert seed_of_each(seeds, 2) == [3, 7] and {type(seed) for seed in seed_of_each(seeds, 2)} == {int}
    model = small_model()
    assert torch.equal(last_ids(model, ["sea", "sea"], seed=seeds), last_ids(model, ["sea", "sea"], seed=[3, 7]))
    assert torch.equal(gumbel_noise(seeds, 2, 3, "cpu"), gumbel_noise([3, 7], 2, 3, "cpu"))


def test_one_seed_in_an_array_is_that_of_one_picture():
    for seed in (np.array([3]), torch.tensor([3])):
        assert seed_of_each(seed, 1) == [3]
        with pytest.raises(ValueError, match="a list of 2, one a picture"):
            seed_of_each(seed, 2)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array, torch.tensor, Fraction])
def test_settings_of_numpy_and_torch_become_those_of_python(kind):
    half, two = kind(0.5), kind(2)
    sampling = Sampling(two, half, half, None, half)
    assert sampling == Sampling(2, 0.5, 0.5, None, 0.5)
    assert {type(value) for value in asdict(sampling).values()} <= {int, float, type(None)}
    assert Sampling(**json.loads(json.dumps(asdict(sampling)))) == sampling  # as a checkpoint keeps it
    model = small_model()
    drawn = last_ids(model, ["sea"], seed=1, guidance=two, power=half, temperature=half, top_p=half)
    assert torch.equal(drawn, last_ids(model, ["sea"], seed=1, guidance=2, power=0.5, temperature=0.5, top_p=0.5))


def test_wrong_seeds_are_refused_at_once():
    with pytest.raises(ValueError, match=f"seed is {2**32}"):
        small_model().stream(["sea", "sea"], seed=2**32 - 1)  # the second picture's


@pytest.mark.parametrize(
    ("classes", "arguments", "words"),
    [
        ([np.bool_(True)], {}, "no class True"),
        ([torch.tensor(True)], {}, "no class True"),
        ([np.float64(1)], {}, "no class 1.0"),
        (1.0, {}, "no class 1.0"),
        (True, {}, "no class True"),
        (["sea"], {"seed": np.bool_(True)}, "seed is .*True"),
        (["sea"], {"seed": torch.tensor([True])}, "seed is True"),
        (["sea"], {"seed": np.float64(3)}, "seed is .*3.0"),
        (["sea"], {"seed": np.array([[3]])}, r"seed is \[3\]"),
        (["sea"], {"seed": np.array([1.0])}, "seed is 1.0"),
        (["sea"], {"seed": None}, "seed is None"),
        (["sea"], {"seed": {3}}, r"seed is \{3\}"),
        (["sea"], {"guidance": np.bool_(True)}, "guidance is True"),
        (["sea"], {"guidance": np.float32("nan")}, "guidance is nan"),
        (["sea"], {"guidance": np.array([2.0])}, "guidance is array"),
        (["sea"], {"guidance": 10**400}, "guidance is 1000"),
        (["sea"], {"temperature": torch.tensor(float("inf"))}, "temperature is inf"),
        (["sea"], {"top_k": torch.tensor(True)}, "top_k is True"),
        (["sea"], {"top_k": np.float64(3)}, "top_k is 3.0"),
        (["sea"], {"top_k": -1}, "top_k is -1"),
        (["se"], {}, "no class 'se'.*0 to 2.*sea, house, tree"),
        ([3], {}, "no class 3"),
        ([-1], {}, "no class -1"),
        ([True], {}, "no class True"),
        ([1.0], {}, "no class 1.0"),
        (["sea"], {"seed": -1}, "seed is -1"),
        (["sea"], {"seed": 2**32}, f"seed is {2**32}"),
        (["sea"], {"seed": 1.5}, "seed is 1.5"),
        (["sea"], {"seed": True}, "seed is True"),
        (["sea"], {"seed": "7"}, "seed is '7'"),
        (["sea"], {"seed": [1, 2]}, "list of 1"),
        (["sea"], {"guidance": float("nan")}, "guidance is nan"),
        (["sea"], {"guidance": -1}, "guidance is -1"),
        (["sea"], {"guidance": True}, "guidance is True"),
        (["sea"], {"power": 0}, "power is 0"),
        (["sea"], {"temperature": float("inf")}, "temperature is inf"),
        (["sea"], {"temperature": "hot"}, "temperature is 'hot'"),
        (["sea"], {"top_k": 0}, "top_k is 0"),
        (["sea"], {"top_p": 0}, "top_p is 0"),
        (["sea"], {"top_p": 1.1}, "top_p is 1.1"),
        (["sea"], {"prompt_ids": torch.zeros(2, 3, dtype=torch.long)}, r"\(2, 3\).*\(1, t\)"),
        (["sea"], {"prompt_ids": torch.full((1, 3), 16)}, "0 to 15"),
    ],
)
def test_mistakes_name_the_value_at_once(classes, arguments, words):
    with pytest.raises(ValueError, match=words):
        small_model().stream(classes, **arguments)


def test_misspelt_setting():
    with pytest.raises(TypeError, match="temprature"):
        small_model().stream(["sea"], temprature=1.0)


def test_without_an_ar_model():
    model = small_model()
    model.ar = None
    with pytest.raises(ValueError, match="no AR model"):
        model.sample(["sea"])


def test_no_inference_mode_is_held_between_steps(model):
    stream = model.stream(["sea"])
    next(stream)
    assert not torch.is_inference_mode_enabled()
    stream.close()


def test_a_model_that_has_sampled_can_still_be_trained(model, device):
    model.sample(["sea"])
    ids = torch.randint(16, (2, 7), device=device)
    model.ar(ids).square().sum().backward()
    assert model.ar.blocks[0].attention.qkv.weight.grad.abs().sum() > 0
