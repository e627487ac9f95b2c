"""Attention, rotary positions, and who can see whom in the AR model."""

import pytest
import torch
from conftest import small_ar, small_tokenizer

from alitok_lite.core.ar import ARModel
from alitok_lite.core.layers import Attention, KVCache, causal_mask, rope_table, rotate
from alitok_lite.measure.probe import manual_attention


def written_out(layer):
    """Makes a layer attend by the form that is written out; returns a list of the weights of its calls."""
    found = []

    def attend(q, k, v):
        y, weights = manual_attention(q, k, v, layer.causal)
        found.append(weights)
        return y

    layer.attend = attend
    return found


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_manual_attention_equals_fused(device, causal, qk_norm):
    torch.manual_seed(1)
    layer = Attention(16, 4, causal, qk_norm).to(device).eval()
    x = torch.randn(2, 9, 16, device=device)
    fused = layer(x)
    maps = written_out(layer)
    torch.testing.assert_close(layer(x), fused, atol=1e-5, rtol=0)
    assert len(maps) == 1 and maps[0].shape == (2, 4, 9, 9)
    torch.testing.assert_close(maps[0].sum(-1), torch.ones(2, 4, 9, device=device))
    assert (maps[0].triu(1) == 0).all() == causal


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [False, True])
def test_half_precision_attends_in_float32(device, dtype, causal):
    layer = Attention(16, 4, causal).to(device, dtype).eval()
    q, k, v = (2 * torch.randn(3, 2, 4, 50, 32, generator=torch.Generator().manual_seed(3))).to(device, dtype)
    exact, weights = manual_attention(q.float(), k.float(), v.float(), causal)
    assert weights.max(-1).values.mean() > 0.5  # steep: rounded scores would show
    for y in (layer.attend(q, k, v), manual_attention(q, k, v, causal)[0]):
        error = (y.float() - exact).norm() / exact.norm()
        assert error < torch.finfo(dtype).eps / 2


@pytest.mark.parametrize("chunks", [[9], [1] * 9, [4, 1, 3, 1], [3, 6]])
def test_attention_with_a_cache_equals_attention_without(device, chunks):
    torch.manual_seed(2)
    layer = Attention(16, 4, causal=True, qk_norm=True).to(device).eval()
    x = torch.randn(2, 9, 16, device=device)
    cache = KVCache(9)
    with torch.no_grad():
        parts = [layer(part, cache=cache) for part in x.split(chunks, 1)]
        torch.testing.assert_close(torch.cat(parts, 1), layer(x), atol=1e-5, rtol=0)


def test_causal_mask_is_aligned_to_the_last_key():
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]


def test_scores_depend_on_relative_position_only():
    table = rope_table(6, 8, 16)
    q, k = torch.randn(2, 16)

    def score(i, j):
        return rotate(q[None], table[i : i + 1]) @ rotate(k[None], table[j : j + 1]).T

    for shift in (1, 3):  # prefix: one dimension
        torch.testing.assert_close(score(1, 3), score(1 + shift, 3 + shift), atol=1e-5, rtol=1e-5)

    def image(row, column):
        return 1 + 6 + 8 * row + column

    for down, right in ((1, 0), (0, 2), (3, 3)):  # image: two
        a, b = (1, 1), (2, 4)
        moved = score(image(a[0] + down, a[1] + right), image(b[0] + down, b[1] + right))
        torch.testing.assert_close(score(image(*a), image(*b)), moved, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(score(image(1, 1), image(2, 4)), score(image(1, 1), image(4, 2)))  # rows are not columns


def test_class_row_is_zero_and_image_axes_start_behind_the_prefix():
    table = rope_table(5, 4, 8)
    assert (table[0] == 0).all()
    assert torch.equal(table[1], torch.tensor([[1.0, 0.0]]).expand(4, 2))  # prefix position 0: no turn
    angle = torch.atan2(table[6, 0, 1], table[6, 0, 0])  # first image token, first row pair: position K = 5
    torch.testing.assert_close(angle, torch.tensor(5.0 - 2 * torch.pi), atol=1e-5, rtol=0)


def test_every_query_scores_the_class_token_zero(device):
    """A zero rotation makes the class token's key zero, so its weight is that of a score of exactly 0."""
    torch.manual_seed(3)
    layer = Attention(8, 1, causal=True, qk_norm=True).to(device).eval()
    maps = written_out(layer)
    table = rope_table(2, 2, 8).to(device)
    x = torch.randn(1, 7, 8, device=device)
    layer(x, table)
    before = maps[0][0, 0, :, 0]
    q, k, v = layer.qkv(x).chunk(3, -1)
    q, k = rotate(layer.q_norm(q), table), rotate(layer.k_norm(k), table)
    assert (k[:, 0] == 0).all()
    assert (q[:, 0] == 0).all()
    _, weights = manual_attention(q[:, None], k[:, None], v[:, None], True)
    torch.testing.assert_close(weights[0, 0, :, 0], before)


def earlier_logits_move(model, ids, position):
    """Whether changing the id at a position moves a logit at it or before it: a leak."""
    changed = ids.clone()
    changed[:, position] = (changed[:, position] + 1) % 16
    with torch.no_grad():
        moved = (model(ids) - model(changed)).abs().amax((0, 2)) > 1e-6
    return moved[: position + 1].any().item(), moved[position + 1 :].all().item()


def test_ar_model_sees_the_past_only_and_a_broken_mask_is_caught(device):
    torch.manual_seed(4)
    model = ARModel(small_ar(small_tokenizer())).to(device).eval()
    torch.nn.init.normal_(model.output.weight)
    ids = torch.randint(16, (2, 7), device=device)
    for position in range(6):
        assert earlier_logits_move(model, ids, position) == (False, True)
    model.blocks[1].attention.causal = False
    assert earlier_logits_move(model, ids, 4)[0]


def test_ar_model_takes_one_to_all_tokens(device):
    model = ARModel(small_ar(small_tokenizer())).to(device).eval()
    assert model(torch.zeros(2, 1, dtype=torch.long, device=device)).shape == (2, 1, 16)
    for length in (0, 8):
        with pytest.raises(ValueError, match=f"ids have {length} tokens"):
            model(torch.zeros(2, length, dtype=torch.long, device=device))
