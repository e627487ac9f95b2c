"""Who can see whom in the tokenizer, gradients through the quantizer, online clustered codebook, losses."""

import pytest
import torch
from conftest import small_ar, small_model, small_tokenizer

from alitok_lite.core.losses import LossWeights, adversarial_loss, prefix_target, reconstruction_losses
from alitok_lite.core.quantizer import VectorQuantizer
from alitok_lite.core.tokenizer import Decoder, Tokenizer


def dependencies(decoder, config, device):
    """Boolean (G*G patches, T tokens) from the Jacobian: which code moves which patch."""
    codes = torch.randn(1, config.tokens, config.code_dim, device=device, requires_grad=True)
    pixels = decoder(codes)
    p, rows = config.patch_size, []
    for i in range(config.grid**2):
        row, column = divmod(i, config.grid)
        patch = pixels[:, :, row * p : (row + 1) * p, column * p : (column + 1) * p]
        (gradient,) = torch.autograd.grad(patch.square().sum(), codes, retain_graph=True)
        rows.append(gradient[0].abs().amax(1) > 0)
    return torch.stack(rows)


def triangle(config):
    """What a causal decoder may do: patch i sees the prefix and image tokens 0..i."""
    patches = torch.ones(config.grid**2, config.grid**2, dtype=torch.bool).tril()
    return torch.cat([torch.ones(config.grid**2, config.prefix_tokens, dtype=torch.bool), patches], 1)


@pytest.mark.parametrize("prefix", [True, False])
def test_causal_decoder_is_triangular(device, prefix):
    config = small_tokenizer(image_size=48, prefix=prefix)
    decoder = Decoder(config, causal=True).to(device)
    assert torch.equal(dependencies(decoder, config, device).cpu(), triangle(config))


def test_a_broken_mask_and_the_bidirectional_decoder_are_not_triangular(device):
    config = small_tokenizer(image_size=48)
    broken = Decoder(config, causal=True).to(device)
    broken.blocks[1].attention.causal = False
    assert (dependencies(broken, config, device).cpu() & ~triangle(config)).any()
    assert dependencies(Decoder(config, causal=False).to(device), config, device).all()


def test_causality_of_ids_by_perturbation(model, device):
    """The same through the public interface, prefix outputs included."""
    tokens, prefix = model.tokenizer.config.tokens, model.tokenizer.config.prefix_tokens
    ids = torch.randint(16, (1, tokens), device=device)
    before, aux = model.tokenizer.decode_with_prefix(ids)
    for position in range(tokens):
        changed = ids.clone()
        changed[0, position] = (ids[0, position] + 1) % 16
        after, aux2 = model.tokenizer.decode_with_prefix(changed)
        outputs = torch.cat([aux[0].flatten(1), patches(before)]), torch.cat([aux2[0].flatten(1), patches(after)])
        moved = (outputs[0] - outputs[1]).abs().amax(1) > 1e-7
        assert moved.tolist() == [i >= position for i in range(tokens)], (position, prefix)


def patches(pixels):
    """(1, 3, 32, 32) -> (4, 768) in raster order."""
    return torch.stack([pixels[0, :, r : r + 16, c : c + 16].flatten() for r in (0, 16) for c in (0, 16)])


def test_encoder_sees_everything_unless_it_is_causal(device):
    for causal in (False, True):
        encoder = small_model((1,), encoder_causal=causal).to(device).tokenizer.encoder
        x = torch.rand(1, 3, 32, 32, device=device)
        before = encoder(x)
        encoder.queries.data[-1] *= -1  # the last query
        moved = (encoder(x) - before).abs().amax((0, 2)) > 1e-6
        assert moved[:-1].any().item() is not causal
        assert moved[-1]


def test_gradients_pass_straight_through_the_quantizer(device):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(16, 4).to(device)
    latents = torch.randn(2, 5, 4, device=device, requires_grad=True)
    weights = torch.randn(2, 5, 4, device=device)
    codes, ids, loss = quantizer(latents)
    torch.testing.assert_close(codes, quantizer.lookup(ids))
    (gradient,) = torch.autograd.grad((codes * weights).sum(), latents, retain_graph=True)
    assert torch.equal(gradient, weights)
    to_latents, to_codes = torch.autograd.grad(loss, [latents, quantizer.codebook])
    error = (latents - quantizer.lookup(ids)).detach()
    torch.testing.assert_close(to_latents, 0.25 * 2 * error / error.numel())
    expected = torch.zeros_like(to_codes).index_add(0, ids.flatten(), -2 * error.flatten(0, 1) / error.numel())
    torch.testing.assert_close(to_codes, expected)


def test_the_nearest_code_is_chosen(device):
    quantizer = VectorQuantizer(64, 4).to(device)
    z = torch.randn(30, 4, device=device) * 0.02
    nearest = torch.cdist(z.double(), quantizer.codebook.double()).argmin(1)
    assert torch.equal(quantizer(z[None])[1][0], nearest)


def test_cvq_moves_dead_codes_to_the_data_and_leaves_live_ones(device):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 2).to(device)
    quantizer.codebook.data = torch.tensor([[0.0, 0.0], [5.0, 5.0]] + [[-50.0, 50.0]] * 6, device=device)
    quantizer.usage[:2] = 0.5  # two codes in use, six dead
    z = torch.tensor([[0.1, 0.0], [5.0, 5.2], [-3.0, 4.0]], device=device).repeat(10, 1)[None]
    live = quantizer.codebook[:2].clone()
    for _ in range(4):  # a dead code moves to a latent at random, so that all six miss the third cluster at most once
        quantizer.revive(z, quantizer(z)[1])
    torch.testing.assert_close(quantizer.codebook[:2], live)
    assert (torch.cdist(quantizer.codebook[2:], z[0]).amin(1) < 0.1).all()
    assert quantizer.usage.sum().item() == pytest.approx(1, abs=1e-5)
    assert (quantizer(z)[1][0, 2::3] >= 2).all()  # the third cluster now has codes of its own


def test_many_dead_codes_spread_over_the_latents(device):
    """All codes start at one place, far from every latent: with nearest anchors all would move to the same one."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(64, 2).to(device)
    quantizer.codebook.data = torch.full((64, 2), 50.0, device=device)
    z = torch.randn(1, 256, 2, device=device)
    for _ in range(3):
        quantizer.revive(z, quantizer(z)[1])
    assert len(quantizer(z)[1].unique()) > 40


def test_one_pass_of_the_decoder_gives_pixels_and_prefix_outputs():
    """In training and for the decoder with its prefix outputs; and what is decoded is one tensor, always."""
    tokenizer, passes = small_model().tokenizer, []
    tokenizer.decoder1.norm_out.register_forward_hook(lambda *_: passes.append(1))
    pixels, ids = torch.rand(2, 3, 32, 32), torch.randint(16, (2, 7))
    output = tokenizer(pixels, 1)
    assert passes == [1] and output.aux.shape == (2, 3, 3, 16, 16)
    decoded, prefix = tokenizer.decode_with_prefix(ids)
    assert passes == [1, 1] and torch.equal(decoded, tokenizer.decode(ids, 1))
    assert torch.equal(tokenizer.decoder1(tokenizer.quantizer.lookup(ids)), decoded)
    assert torch.equal(tokenizer.decoder1.outputs(tokenizer.quantizer.lookup(ids))[1], prefix)
    assert tokenizer(pixels, 2).aux is None
    for stage in (None, 1, 2):
        assert tokenizer.decode(ids, stage).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("cast", [lambda m: m.half(), lambda m: m.to(torch.bfloat16), lambda m: m.double()])
def test_codes_stay_float32(cast):
    quantizer = VectorQuantizer(16, 4)
    latents = torch.randn(2, 5, 4)
    quantizer.revive(latents, quantizer(latents)[1])
    before = {"codebook": quantizer.codebook.detach().clone(), "usage": quantizer.usage.clone()}
    assert not torch.equal(before["codebook"], before["codebook"].bfloat16().float())
    cast(quantizer)
    for name, old in before.items():
        assert getattr(quantizer, name).dtype == torch.float32 and torch.equal(getattr(quantizer, name), old)
    assert isinstance(quantizer.codebook, torch.nn.Parameter)
    assert quantizer.to("meta").codebook.is_meta and quantizer.usage.is_meta  # they do move


def test_usage_stays_out_of_checkpoints():
    assert set(VectorQuantizer(8, 2).state_dict()) == {"codebook"}


def test_prefix_target_is_the_corner_and_the_first_row():
    pixels = torch.rand(2, 3, 48, 48)
    target = prefix_target(pixels, 16)
    assert target.shape == (2, 4, 3, 16, 16)
    assert torch.equal(target[:, 0], pixels[:, :, :16, :16])
    for i in range(3):
        assert torch.equal(target[:, 1 + i], pixels[:, :, :16, 16 * i : 16 * i + 16])


def test_losses_vanish_for_a_perfect_copy_and_count_each_term():
    weights = LossWeights(l1=0.2)
    pixels = torch.rand(2, 3, 32, 32)
    output = Tokenizer(small_tokenizer())(pixels, 1)
    perfect = output._replace(pixels=pixels, aux=prefix_target(pixels, 16), vq_loss=torch.zeros(()))
    assert {
        key: float(value) for key, value in reconstruction_losses(perfect, pixels, weights).items()
    } == dict.fromkeys(("mse", "l1", "aux", "vq"), 0.0)
    off = perfect._replace(pixels=pixels + 0.1)
    terms = reconstruction_losses(off, pixels, weights)
    assert float(terms["mse"]) == pytest.approx(0.01, rel=1e-4)
    assert float(terms["l1"]) == pytest.approx(0.02, rel=1e-4)
    assert "aux" not in reconstruction_losses(perfect._replace(aux=None), pixels, weights)


def test_adversarial_gradient_has_the_size_of_the_others():
    """With one patch a picture: the mean over the pictures."""
    decoded = torch.rand(2, 3, 8, 8, requires_grad=True)
    others, scores = decoded.square().mean(), 100 * (decoded * torch.randn(3, 8, 8)).mean((1, 2, 3))
    (theirs,) = torch.autograd.grad(others, decoded, retain_graph=True)
    (mine,) = torch.autograd.grad(0.5 * adversarial_loss(scores, decoded, others, 8), decoded)
    assert float(mine.mean(0).norm() / theirs.mean(0).norm()) == pytest.approx(0.5, rel=1e-4)


def test_mistakes_name_the_value():
    tokenizer = small_model((1,)).tokenizer
    ids = torch.zeros(1, 7, dtype=torch.long)
    assert small_ar(small_tokenizer(), prefix_tokens=0).tokens == 4
    for call, words in (
        (lambda: tokenizer.encode(torch.rand(1, 3, 64, 64)), r"\(1, 3, 64, 64\).*\(B, 3, 32, 32\)"),
        (lambda: tokenizer.encode(torch.full((1, 3, 32, 32), 1.5)), r"\[0, 1\]"),
        (lambda: tokenizer.encode(torch.full((1, 3, 32, 32), float("nan"))), r"\[0, 1\]"),
        (lambda: tokenizer.decode(ids, stage=2), r"no decoder of stage 2.*\[1\]"),
        (lambda: tokenizer.decode(ids[:, :6]), r"\(1, 6\).*\(B, 7\)"),
        (lambda: tokenizer.decode(ids + 16), "0 to 15"),
        (lambda: tokenizer.decode(ids - 1), "0 to 15"),
        (lambda: tokenizer.decode(ids.float()), "whole numbers"),
        (lambda: small_model((2,)).tokenizer.decode_with_prefix(ids), r"no decoder of stage 1.*\[2\]"),
        (lambda: small_model((1,), prefix=False).tokenizer.decode_with_prefix(ids[:, :4]), "no prefix tokens"),
        (lambda: Tokenizer(small_tokenizer(aligned=False), (1, 2)), "no causal decoder"),
        (lambda: small_tokenizer(image_size=40), "image_size 40 must be a multiple of patch_size 16"),
        (lambda: small_tokenizer(encoder_depth=0), "encoder_depth is 0; it must be a whole number of 1 or more"),
        (lambda: small_tokenizer(prefix=1), "prefix is 1; it must be true or false"),
        (lambda: small_ar(small_tokenizer(), prefix_tokens=-1), "prefix_tokens is -1; .* a whole number of 0 or more"),
        (lambda: small_ar(small_tokenizer(), dropout=1), "dropout is 1; it must be a number from 0 up to 1"),
        (lambda: small_tokenizer(codebook_size=True), "codebook_size is True"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
