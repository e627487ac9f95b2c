"""Probes: what they see is there, they change nothing, and a broken mask is found."""

import math

import pytest
import torch
from conftest import small_model
from torch import nn

from alitok_lite.core.layers import Attention, causal_mask
from alitok_lite.measure import metrics, probe


@pytest.fixture(scope="module")
def small():
    """G = 4, K = 5, T = 21."""
    return small_model(image_size=64)


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def state(model):
    layers = [layer for layers in probe._attentions(model).values() for layer in layers]
    return [(dict(vars(layer)), len(layer._forward_hooks)) for layer in layers]


# ---------------------------------------------------------------- sequences


def test_sequences_are_those_that_run(small, pixels):
    """The lengths, from the configuration, are the sizes of the recorded maps."""
    maps = probe.attention_of(small, pixels[:1])
    config = small.tokenizer.config
    assert list(maps) == list(probe.PARTS)
    for part, layers in maps.items():
        length = sum(probe.sequence(config, part).values())
        assert [tuple(layer.shape) for layer in layers] == [(2, length, length)] * 2
        assert probe.mask(config, part).shape == (length, length)
        torch.testing.assert_close(layers[0].sum(-1), torch.ones(2, length))
        assert not layers[0][:, ~probe.mask(config, part)].any()  # and nobody looks past the mask
    assert probe.mask(config, "encoder").all() and not probe.mask(config, "ar").all()
    with pytest.raises(ValueError, match="no part 'decoder'; the parts are encoder, causal"):
        probe.sequence(config, "decoder")


def test_sequences_of_other_tokenizers():
    plain = small_model((2,), aligned=False, prefix=False).tokenizer.config
    assert probe.sequence(plain, "bidirectional") == {"buffer": 1, "image": 4}
    assert probe.sequence(plain, "encoder") == {"patch": 4, "image": 4}
    causal = small_model(encoder_causal=True).tokenizer.config
    assert torch.equal(probe.mask(causal, "encoder"), causal_mask(11, 11))


def test_positions_point_at_their_tokens(small):
    config = small.tokenizer.config
    assert [probe.position(config, part, 6) for part in probe.PARTS] == [16 + 6, 1 + 6, 4 + 6, 6]
    for part in probe.PARTS[:3]:
        values = torch.arange(sum(probe.sequence(config, part).values())).float()
        pieces = probe.split(values, config, part)
        tokens = torch.cat([pieces["prefix"], pieces["image"]])
        assert all(tokens[t] == probe.position(config, part, t) for t in range(21))
    pieces = probe.split(torch.arange(21.0), config, "ar")
    assert pieces["class"] == 0 and pieces["prefix"].tolist() == [1, 2, 3, 4, 5]
    assert pieces["image"].tolist() == [*range(6, 21), 0]  # the last token is never read
    with pytest.raises(ValueError, match="token is 21; it must be a whole number from 0 to 20"):
        probe.position(config, "ar", 21)


# ---------------------------------------------------------------- attention


def test_recording_changes_neither_results_nor_model(small, pixels, device):
    model, pixels = small_model(image_size=64).to(device), pixels.to(device)
    before = state(model)

    def run():
        ids = model.tokenizer.encode(pixels)
        labels = torch.tensor([0, 1, 2], device=device)
        with torch.inference_mode():
            return ids, model.tokenizer.decode(ids, 1), model.tokenizer.decode(ids, 2), model.ar(ids, labels)

    plain = run()
    with probe.record_attention(model) as maps:
        recorded = run()
    assert state(model) == before and set(maps) == set(probe.PARTS)
    assert torch.equal(plain[0], recorded[0])
    for a, b in zip(plain[1:], recorded[1:], strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
    assert maps["ar"][0].device.type == "cpu"


def test_recorded_maps_are_those_of_the_layers(small, pixels):
    """Every layer's own map, in its place: the first of the causal decoder is computed by hand."""
    ids = small.tokenizer.encode(pixels)
    with probe.record_attention(small) as maps:
        small.tokenizer.decode(ids, 1)
    assert set(maps) == {"causal"} and len(maps["causal"]) == 2
    decoder = small.tokenizer.decoder1
    with torch.inference_mode():
        codes = decoder.embed(small.tokenizer.quantizer.lookup(ids))
        x = torch.cat([decoder.extra_tokens.expand(3, -1, -1), codes], 1) + decoder.positions
        q, k, _ = decoder.blocks[0].attention.qkv(decoder.blocks[0].norm1(decoder.norm_in(x))).chunk(3, -1)
        q, k = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in (q, k))
        scores = (q @ k.transpose(-2, -1) / math.sqrt(8)).masked_fill(~causal_mask(22, 22), -torch.inf)
    torch.testing.assert_close(maps["causal"][0], scores.softmax(-1))
    assert not torch.equal(maps["causal"][0], maps["causal"][1])


def test_recording_ends_with_an_exception_and_keeps_what_was_kept(pixels):
    model = small_model(image_size=64)
    layer, calls = model.tokenizer.encoder.blocks[1].attention, []
    method = layer.attend
    layer.attend = lambda *qkv: calls.append(1) or method(*qkv)
    before = state(model)
    with pytest.raises(RuntimeError, match="stop"), probe.record_attention(model) as maps:
        assert all("attend" in vars(other) for layers in probe._attentions(model).values() for other in layers)
        model.tokenizer.encode(pixels)
        raise RuntimeError("stop")
    assert state(model) == before and len(maps["encoder"]) == 2 and calls == [1]


def test_recording_inside_recording_and_while_drawing(small):
    with probe.record_attention(small) as outer:
        with probe.record_attention(small) as inner:
            for step in small.stream([1], seed=0, guidance=1.0):
                assert inner["ar"][0].shape == (1, 2, 1, step.index + 1)  # the newest token looks at all before it
        small.ar(step.ids.clone(), torch.tensor([1]))
    assert outer["ar"][0].shape == (1, 2, 21, 21)
    torch.testing.assert_close(inner["ar"][1], outer["ar"][1][:, :, -1:], atol=1e-5, rtol=1e-4)


def test_attention_of_one_picture_only(small, pixels):
    with pytest.raises(ValueError, match="pixels hold 3 pictures; give one"):
        probe.attention_of(small, pixels)
    null, one = (probe.attention_of(small, pixels[:1], label) for label in (None, 1))
    assert torch.equal(null["encoder"][0], one["encoder"][0]) and not torch.equal(null["ar"][1], one["ar"][1])


# ---------------------------------------------------------------- dependency


def by_hand(tokenizer, ids, stage, token, code):
    """Which patches move when one token of one picture becomes a code."""
    changed = ids.clone()
    changed[:, token] = code
    moved = (tokenizer.decode(changed, stage) - tokenizer.decode(ids, stage)).abs()
    return moved.view(len(ids), 3, 4, 16, 4, 16).mean((0, 1, 3, 5)).flatten()


@pytest.mark.parametrize("method", ["perturbation", "jacobian"])
def test_causal_decoder_has_a_triangular_map(small, pixels, method):
    causal = probe.dependency_map(small.tokenizer, pixels, 1, method)
    assert causal.shape == (21, 16) and probe.find_leaks(causal.T) == []
    for patch in range(16):
        assert (causal[: 5 + patch + 1, patch] > 0).all() and (causal[5 + patch + 1 :, patch] == 0).all()
    both = probe.dependency_map(small.tokenizer, pixels, 2, method)
    assert (both > 0).all() and len(probe.find_leaks(both.T)) == 16 * 15 // 2
    assert (probe.later_share(causal) == 0).all() and (probe.later_share(both)[:-1] > 0).all()


@pytest.mark.parametrize("method", ["perturbation", "jacobian"])
def test_a_broken_mask_is_found(pixels, method):
    model = small_model(image_size=64)
    for block in model.tokenizer.decoder1.blocks:
        block.attention.causal = False
    assert probe.find_leaks(probe.dependency_map(model.tokenizer, pixels, 1, method).T)


def test_perturbation_equals_one_change_by_hand(small, pixels):
    """With two codes the other code is the only one that a token can become."""
    model = small_model(image_size=64, codebook_size=2)
    ids = model.tokenizer.encode(pixels)
    found = probe.dependency_map(model.tokenizer, pixels, 2)
    for token in (0, 7, 20):
        torch.testing.assert_close(found[token], by_hand(model.tokenizer, ids, 2, token, 1 - ids[:, token]))
    assert torch.equal(found, probe.dependency_map(model.tokenizer, pixels, 2, seed=5))
    some = [probe.dependency_map(small.tokenizer, pixels, 1, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(some[0], some[1]) and not torch.equal(some[0], some[2])


def test_jacobian_equals_the_exact_one():
    """On a tiny picture the whole Jacobian can be had: the estimate is near its Frobenius norms, and unbiased."""
    model = small_model(image_size=8, patch_size=4)
    pixels = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    tokenizer = model.tokenizer
    with torch.no_grad():
        codes = tokenizer.quantizer.lookup(tokenizer.encode(pixels).clone())
    exact = torch.autograd.functional.jacobian(lambda c: tokenizer.decoder1(c), codes)[0, :, :, :, 0]  # (3, 8, 8, T, d)
    exact = exact.view(3, 2, 4, 2, 4, 7, 4).square().sum((0, 2, 4, 6)) / (
        48 * 4
    )  # (2, 2, T): per unit of step, per pixel
    squared = [probe.dependency_map(tokenizer, pixels, 1, "jacobian", seed) ** 2 for seed in range(40)]
    torch.testing.assert_close(torch.stack(squared).mean(0), exact.flatten(0, 1).T, rtol=0.35, atol=1e-9)


def test_jacobian_leaves_no_gradients_and_needs_none(small, pixels):
    with torch.inference_mode():
        probe.dependency_map(small.tokenizer, pixels[:1], 2, "jacobian")
    assert all(p.grad is None for p in small.tokenizer.parameters())


def test_dependency_map_refuses_politely(small, pixels):
    with pytest.raises(ValueError, match="method is 'guess'; it must be 'perturbation' or 'jacobian'"):
        probe.dependency_map(small.tokenizer, pixels, method="guess")
    with pytest.raises(ValueError, match=r"no decoder of stage 1; this tokenizer has stages \[2\]"):
        probe.dependency_map(small_model((2,)).tokenizer, pixels[:, :, :32, :32], method="jacobian")


def test_influence_finds_a_broken_attention():
    torch.manual_seed(0)
    x, layer = torch.randn(2, 6, 16), Attention(16, 2, causal=True)
    moved = probe.influence(layer, x)
    assert moved.shape == (6, 6) and probe.find_leaks(moved) == [] and (moved.tril() > 0).sum() == 21
    layer.causal = False
    assert (0, 5) in probe.find_leaks(probe.influence(layer, x)) and len(
        probe.find_leaks(probe.influence(layer, x))
    ) == 15


def test_influence_of_the_ar_model_is_causal(small):
    """Logits (B, t, V) of embedded tokens: position i predicts from what is before token i."""
    x = torch.randn(1, 21, 16, generator=torch.Generator().manual_seed(0))
    moved = probe.influence(small.ar.transform, x)
    assert probe.find_leaks(moved) == []
    # the class token's zero rotation takes its key and query away, not its value
    assert (moved[:, 0] > 0).all()


def test_influence_says_which_input_moves_which_output():
    def shift(x):
        return torch.cat([x[:, :1] * 0, x[:, :-1]], 1)

    moved = probe.influence(shift, torch.ones(1, 4, 2) * torch.arange(4).view(1, 4, 1))
    assert moved.bool().tolist() == torch.diag(torch.ones(3), -1).bool().tolist()


def test_find_leaks_lists_queries_and_keys():
    broken = causal_mask(5, 5).clone()
    broken[1, 3] = broken[0, 4] = True
    assert probe.find_leaks(broken) == [(0, 4), (1, 3)] and probe.find_leaks(causal_mask(3, 7)) == []
    assert probe.find_leaks(torch.ones(2, 3)) == [(0, 2)]  # the last query stands at the last key


def test_later_share_is_the_share_from_later_tokens():
    dependency = torch.tensor([[1.0, 1], [1, 1], [2, 1], [4, 1]])  # K = 2: patch 0 stands at token 2, patch 1 at 3
    assert probe.later_share(dependency).tolist() == [0.5, 0]


# ---------------------------------------------------------------- surgery


def test_replace_tokens():
    ids = torch.arange(12).view(2, 6)
    assert probe.replace_tokens(ids, 2, 99).tolist() == [[0, 1, 99, 3, 4, 5], [6, 7, 99, 9, 10, 11]]
    assert probe.replace_tokens(ids, 2, torch.tensor([7, 8]))[:, 2].tolist() == [7, 8]
    assert torch.equal(probe.replace_tokens(ids, torch.tensor(2), 99), probe.replace_tokens(ids, 2, 99))
    both = probe.replace_tokens(ids, [0, 5], torch.tensor([[1, 2], [3, 4]]))
    assert both[:, [0, 5]].tolist() == [[1, 2], [3, 4]]
    assert probe.replace_tokens(ids, [0, 5], torch.tensor([1, 2]))[:, [0, 5]].tolist() == [[1, 2]] * 2
    assert torch.equal(ids, torch.arange(12).view(2, 6))
    for wrong in (6, -1, [0, 9]):
        with pytest.raises(ValueError, match="a picture has tokens 0 to 5"):
            probe.replace_tokens(ids, wrong, 0)


def test_swap_prefix_leaves_the_image_tokens():
    ids = torch.arange(42).view(2, 21)
    swapped = probe.swap_prefix(ids, 5)
    assert torch.equal(swapped[0, 5:], ids[0, 5:]) and torch.equal(swapped[0, :5], ids[1, :5])
    assert torch.equal(probe.swap_prefix(swapped, 5), ids)
    with pytest.raises(ValueError, match="ids hold 1 pictures; give two"):
        probe.swap_prefix(ids[:1], 5)
    with pytest.raises(ValueError, match="prefix_tokens is 0"):
        probe.swap_prefix(ids, 0)


def test_first_tokens_decide_the_first_patches(small, pixels):
    tokenizer = small.tokenizer
    ids = tokenizer.encode(pixels)
    kept = probe.keep_first(tokenizer, ids, 5 + 6)
    assert torch.equal(kept[:, :11], ids[:, :11]) and len(kept[:, 11:].unique()) == 1
    change = probe.patch_change(tokenizer.decode(ids, 1), tokenizer.decode(kept, 1), 16).flatten(1)  # (3, 16)
    assert (change[:, :6] == 0).all() and (change[:, 6:] > 0).any()
    assert (probe.keep_first(tokenizer, ids, 3, filler=2)[:, 3:] == 2).all()
    assert torch.equal(probe.keep_first(tokenizer, ids, 21), ids)
    codebook = tokenizer.quantizer.codebook
    filler = (codebook - codebook.mean(0)).square().sum(1).argmin()
    assert (probe.keep_first(tokenizer, ids, 0) == filler).all()
    for wrong in (-1, 22):
        with pytest.raises(ValueError, match="from 0 to 21"):
            probe.keep_first(tokenizer, ids, wrong)


def test_changes_are_measured_where_they_are():
    before = torch.zeros(1, 3, 32, 32)
    after = before.clone()
    after[0, 1, 20, 3] = 0.96  # patch row 1, column 0
    change = probe.patch_change(before, after, 16)
    assert change[0, 1, 0] == pytest.approx(0.96 / (3 * 256)) and change.count_nonzero() == 1
    after[0, :, 20, 4] = 0.02  # less than the threshold
    assert probe.changed_pixels(before, after, 16)[0].tolist() == pytest.approx([0, 1 / (16 * 32)])


# ---------------------------------------------------------------- numbers


def test_predictability_of_pictures(small, pixels):
    labels = torch.tensor([0, 1, 2])
    found = probe.predictability(small, pixels, labels)
    assert [value.shape for value in found] == [(3, 21)] * 4
    with torch.inference_mode():
        ids = small.tokenizer.encode(pixels)
        p = small.ar(ids, labels).softmax(-1)
    torch.testing.assert_close(found.nats, -p.gather(2, ids[..., None])[..., 0].log(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.entropy, -(p * p.log()).sum(-1), atol=1e-4, rtol=1e-4)
    assert torch.equal(found.top1.bool(), p.argmax(-1) == ids)
    assert (found.entropy <= math.log(16) + 1e-5).all()
    with pytest.raises(ValueError, match="no AR model"):
        probe.predictability(type(small)(small.tokenizer), pixels, labels)


def test_predictability_and_profile_do_not_depend_on_batches(small, pixels, monkeypatch):
    labels = torch.tensor([0, 1, 2])
    whole, profile = probe.predictability(small, pixels, labels), probe.row_profile(small.tokenizer, pixels, 1)
    monkeypatch.setattr(probe, "BATCH", 2)
    for a, b in zip(whole, probe.predictability(small, pixels, labels), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(probe.row_profile(small.tokenizer, pixels, 1), profile)


def test_row_profile_is_the_error_of_each_row(small, pixels):
    decoded = small.tokenizer.decode(small.tokenizer.encode(pixels), 2)
    expected = metrics.row_errors(decoded, pixels, 16).mean(0)
    torch.testing.assert_close(probe.row_profile(small.tokenizer, pixels), expected)
    assert probe.row_profile(small.tokenizer, pixels, 1).shape == (4,)


def test_probes_leave_the_weights(pixels):
    model = small_model(image_size=64)
    before = {k: v.clone() for part in (model.tokenizer, model.ar) for k, v in part.state_dict().items()}
    probe.attention_of(model, pixels[:1])
    probe.dependency_map(model.tokenizer, pixels[:1], method="jacobian")
    probe.predictability(model, pixels, torch.zeros(3, dtype=torch.long))
    after = {k: v for part in (model.tokenizer, model.ar) for k, v in part.state_dict().items()}
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert not any(isinstance(module, nn.Module) and module.training for module in model.tokenizer.modules())
