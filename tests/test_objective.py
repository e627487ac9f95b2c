"""The loss of the tokenizer's training: each term by hand, the critic, and which way they push."""

from contextlib import nullcontext
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch
from conftest import small_model
from einops import reduce
from small_training import Grey, on_the_cpu, tokenizer_task  # noqa: F401
from torch import nn

from alitok_lite.core.losses import (
    LossWeights,
    PatchCritic,
    SpectralNorm,
    adversarial_loss,
    critic_loss,
    prefix_target,
    reconstruction_losses,
)
from alitok_lite.core.tokenizer import TokenizerOutput
from alitok_lite.train import run, tasks
from alitok_lite.train.settings import TrainSettings

OFF = LossWeights(mse=0, perceptual=0, features=0, l1=0, aux=0, vq=0, adversarial=0)
# One picture of 2 x 2 pixels, the same in each channel, patches of one pixel: G = 2, K = 3.
PIXELS = torch.tensor([[0.2, 0.4], [0.5, 0.6]]).expand(1, 3, 2, 2)
ERRORS = torch.tensor([[0.1, -0.2], [0.3, 0.0]])
# What the prefix should show: the corner once more, then the first row.
FIRST_ROW = torch.tensor([0.2, 0.2, 0.4]).view(1, 3, 1, 1, 1).expand(1, 3, 3, 1, 1)
AUX_ERRORS = torch.tensor([0.1, -0.2, 0.4]).view(1, 3, 1, 1, 1)
BY_HAND = {
    "mse": (0.01 + 0.04 + 0.09 + 0.0) / 4,
    "l1": (0.1 + 0.2 + 0.3 + 0.0) / 4,
    "aux": (0.01 + 0.04 + 0.16) / 3,
    "vq": 0.8,
    "perceptual": 0.7,  # what `Classifier` below returns for any two pictures
    "features": 0.4,  # what a second one does
}


def output() -> TokenizerOutput:
    """A reconstruction with known errors, whose pixels require gradients."""
    pixels = (PIXELS + ERRORS).requires_grad_()
    return TokenizerOutput(pixels, FIRST_ROW + AUX_ERRORS, PIXELS, PIXELS, torch.tensor(0.8))


class Classifier(nn.Module):
    """In place of a perceptual network: one value for any two pictures, which it remembers."""

    def __init__(self, value=0.7):
        super().__init__()
        self.value = value

    def forward(self, decoded, pixels):
        self.seen = decoded, pixels
        return self.value + 0 * decoded.sum()


def terms_of(weights: LossWeights, step: int = 0) -> dict[str, float]:
    """The terms that a training step reports for the known reconstruction."""
    task = tokenizer_task(weights, perceptual=Classifier(), features=Classifier(0.4))
    loss, terms = task.loss(lambda pixels, stage: output(), (PIXELS,), step)
    assert loss.item() == pytest.approx(sum(value.item() for value in terms.values()), rel=1e-6)
    return {key: value.item() for key, value in terms.items()}


# test_adversarial_term_by_hand, test_critic_joins_at_the_right_step, test_features_join_at_the_right_step
OTHERS = {"adversarial", "adversarial_start", "features_start"}


def test_every_weight_is_tested():
    """A new weight needs its value in BY_HAND, or a test of its own and a place in OTHERS."""
    assert {field.name for field in fields(LossWeights)} == BY_HAND.keys() | OTHERS


@pytest.mark.parametrize("name", sorted(BY_HAND))
@pytest.mark.parametrize("weight", [1.0, 2.0, 0.25])
def test_term_is_its_weight_times_the_value_by_hand(name, weight):
    terms = terms_of(replace(OFF, **{name: weight}))
    assert terms[name] == pytest.approx(weight * BY_HAND[name], rel=1e-5)
    assert all(value == 0 for key, value in terms.items() if key != name)


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_weight_zero_removes_a_term(name):
    everything = LossWeights(mse=1, perceptual=1, features=1, l1=1, aux=1, vq=1)
    terms = terms_of(replace(everything, **{name: 0}))
    assert terms.pop(name, 0) == 0
    assert terms == pytest.approx({key: BY_HAND[key] for key in BY_HAND.keys() - {name}}, rel=1e-5)


@pytest.mark.parametrize("name", ["mse", "l1"])
def test_a_step_downhill_brings_the_pixels_nearer(name):
    result = output()
    terms = reconstruction_losses(result, PIXELS, replace(OFF, **{name: 1.0}))
    (gradient,) = torch.autograd.grad(terms[name], result.pixels)
    moved = result._replace(pixels=result.pixels.detach() - 0.02 * gradient.sign())
    assert reconstruction_losses(moved, PIXELS, replace(OFF, **{name: 1.0}))[name] < terms[name]


def test_prefix_target_is_the_corner_and_then_the_first_row():
    assert torch.equal(prefix_target(PIXELS, 1), FIRST_ROW)
    tall = torch.arange(12.0).view(1, 1, 4, 3).expand(1, 3, 4, 3)[..., :2]  # rows 0 1, 3 4, 6 7, 9 10
    assert prefix_target(tall, 2)[0, :, 0].tolist() == [[[0, 1], [3, 4]]] * 2


def test_the_usual_weights():
    """Those of the paper's code; everything else is off. Its auxiliary weight is 10 K / (G * G), with 17 and 16."""
    assert LossWeights() == replace(OFF, mse=1.0, aux=0.66, vq=1.0, adversarial_start=0.5)
    assert LossWeights().aux == pytest.approx(10 * 17 / 256, abs=0.005)


@pytest.mark.parametrize("stage", ["tokenizer", "decoder"])
def test_perceptual_term_compares_the_reconstruction_with_its_picture(stage):
    classifier = Classifier()
    task = tokenizer_task(LossWeights(perceptual=0.5), stage, classifier)
    (pixels,) = task.batch(0)
    _, terms = task.loss(task.network, (pixels,), 0)
    decoded, wanted = classifier.seen
    assert terms["perceptual"].item() == pytest.approx(0.35)
    assert wanted is pixels and decoded.requires_grad and decoded.shape == pixels.shape


@pytest.mark.parametrize("stage", ["tokenizer", "decoder"])
def test_features_term_compares_the_reconstruction_with_its_picture(stage):
    network = Classifier(0.4)
    task = tokenizer_task(LossWeights(features=0.5), stage, features=network)
    (pixels,) = task.batch(0)
    _, terms = task.loss(task.network, (pixels,), 0)
    decoded, wanted = network.seen
    assert terms["features"].item() == pytest.approx(0.2)
    assert wanted is pixels and decoded.requires_grad and decoded.shape == pixels.shape


@pytest.mark.parametrize(("start", "first"), [(0.0, 0), (0.5, 2), (0.6, 3), (1.0, 4)])
def test_features_join_at_the_right_step(start, first):
    task = tokenizer_task(LossWeights(features=1.0, features_start=start), features=Classifier())
    joined = ["features" in task.loss(task.network, task.batch(step), step)[1] for step in range(4)]
    assert joined == [step >= first for step in range(4)]


# ---------------------------------------------------------------- the adversarial term


def scores(decoded: torch.Tensor) -> torch.Tensor:
    """A linear critic of two pixels: 3 a + 4 b."""
    return (decoded * torch.tensor([3.0, 4.0])).sum()


def adversarial_by_hand(weight: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two patches of one pixel each: the mean gradient is -3.5 of the scores and 7 of the other terms."""
    decoded = torch.tensor([[[[1.0, 2.0]]]], requires_grad=True)
    others = (decoded * torch.tensor([6.0, 8.0])).sum()
    return weight * adversarial_loss(scores(decoded), decoded, others, 1), decoded


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_adversarial_term_by_hand(weight):
    loss, decoded = adversarial_by_hand(weight)
    assert loss.item() == pytest.approx(weight * (7 / 3.5) * -(3 * 1 + 4 * 2))
    (gradient,) = torch.autograd.grad(loss, decoded)
    torch.testing.assert_close(gradient.flatten(), weight * 2 * torch.tensor([-3.0, -4.0]))
    better = decoded.detach() - 0.01 * gradient
    assert scores(better) > scores(decoded)  # downhill in the loss is uphill for the critic


@pytest.mark.parametrize("patch", [1, 2])
def test_adversarial_size_compares_what_all_patches_and_pictures_want(patch):
    """Gradients that differ from patch to patch cancel in the last layer; what the critic says everywhere adds up."""
    decoded = torch.zeros(2, 1, 2, 4, requires_grad=True)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0]) if patch == 2 else torch.tensor([1.0, -1.0, 1.0, -1.0])
    others = (decoded * signs).sum() + 0.25 * decoded.sum()
    loss = adversarial_loss(decoded.mean((1, 2, 3)) + 1, decoded, others, patch)
    assert loss.item() == pytest.approx(-0.25 * 16)  # a gradient of 1/16 at each of 16 pixels, raised to 0.25
    coherent = adversarial_loss(decoded.mean((1, 2, 3)) + 1, decoded, decoded.sum(), patch)
    assert coherent.item() == pytest.approx(-16)


def test_adversarial_term_is_finite_where_the_critic_is_flat():
    decoded = torch.ones(1, 3, 2, 2, requires_grad=True)
    loss = adversarial_loss((0 * decoded).sum(), decoded, decoded.square().sum(), 2)
    assert torch.autograd.grad(loss, decoded)[0].abs().max() == 0


def test_adversarial_size_follows_the_mean_over_processes():
    """Of the gradients of a patch, here -3.5 and 7, before their lengths are compared."""
    decoded = torch.tensor([[[[1.0, 2.0]]]], requires_grad=True)
    others, seen = (decoded * torch.tensor([6.0, 8.0])).sum(), []
    average = lambda value: seen.append(value.item()) or value * (3 if value > 0 else 1)  # noqa: E731
    loss = adversarial_loss(scores(decoded), decoded, others, 1, average)
    assert sorted(seen) == [-3.5, 7.0] and loss.item() == pytest.approx(-66)


@pytest.mark.parametrize("weight", [0.25, 0.5])
def test_adversarial_weight_is_the_size_of_its_gradient_in_a_training_step(weight):
    task, seen = tokenizer_task(LossWeights(adversarial=weight, adversarial_start=0.0, aux=0, vq=0)), []
    network = lambda pixels, stage: seen.append(task.network(pixels, stage)) or seen[0]  # noqa: E731
    _, terms = task.loss(network, task.batch(0), 0)
    patch, sizes = task.tokenizer.config.patch_size, {}
    for name in ("gan", "mse"):
        (gradient,) = torch.autograd.grad(terms[name], seen[0].pixels, retain_graph=True)
        sizes[name] = reduce(gradient, "b c (h p) (w q) -> c p q", "mean", p=patch, q=patch).norm().item()
    assert sizes["gan"] / sizes["mse"] == pytest.approx(weight, rel=1e-3)


@pytest.mark.parametrize("name", ["tokenizer", "decoder"])
def test_decoder_learns_to_raise_the_critics_scores(name):
    """A small step against the gradient of the adversarial term alone."""
    task = tokenizer_task(LossWeights(adversarial=1.0, adversarial_start=0.0), name)
    task.critic.eval()
    (pixels,) = task.batch(0)

    def decoded():
        if name == "tokenizer":
            return task.network(pixels, 1).pixels
        return task.network(task.tokenizer.quantizer(task.tokenizer.encoder(pixels))[0])[0]

    with torch.no_grad():
        before = task.critic(decoded()).mean()
    _, terms = task.loss(task.network, (pixels,), 0)
    terms["gan"].backward()
    with torch.no_grad():
        for parameter in task.network.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad / parameter.grad.norm().clamp_min(1e-12)
        assert task.critic(decoded()).mean() > before


@pytest.mark.parametrize(("start", "first"), [(0.0, 0), (0.5, 2), (0.75, 3), (0.6, 3), (1.0, None)])
def test_critic_joins_at_the_right_step(start, first):
    """After that share of four steps: it then scores the decoder, and learns itself."""
    task = tokenizer_task(LossWeights(adversarial=1.0, adversarial_start=start))
    weights = lambda: torch.cat([value.detach().flatten() for value in task.critic.parameters()])  # noqa: E731
    for step in range(4):
        before = weights()
        _, terms = task.loss(task.network, task.batch(step), step)
        task.before_update()
        joined = first is not None and step >= first
        assert ("gan" in terms) is joined, step
        assert (not torch.equal(weights(), before)) is joined, step


def test_critics_term_grows_to_its_weight_in_a_twentieth_of_the_steps():
    """From step 50 of 100 on a fifth, two fifths ... of it: 0.2, 0.4, 0.6, 0.8, 1, 1 ..."""
    task = tokenizer_task(LossWeights(adversarial=0.5, adversarial_start=0.5, aux=0, vq=0), steps=100)
    (pixels,), patch, found = task.batch(0), task.tokenizer.config.patch_size, []
    for step in (50, 51, 54, 55, 99):
        output = task.network(pixels, 1)
        _, terms = task.loss(lambda *_, output=output: output, (pixels,), step)
        whole = adversarial_loss(task.critic(output.pixels), output.pixels, terms["mse"], patch)
        found.append((terms["gan"] / whole).item())
    assert found == pytest.approx([0.1, 0.2, 0.5, 0.5, 0.5], rel=1e-2)


def test_without_an_adversarial_weight_there_is_no_critic():
    assert tokenizer_task(LossWeights()).critic is None and tokenizer_task(LossWeights()).extra == {}
    task = tokenizer_task(LossWeights(adversarial=0.1))
    assert list(task.extra.values()) == [task.critic]  # so that a resumed training has it again


# ---------------------------------------------------------------- the critic


def test_hinge_loss_by_hand():
    loss = critic_loss(torch.tensor([0.5, 2.0]), torch.tensor([-2.0, 0.5]))
    assert loss.item() == pytest.approx(((0.5 + 0.0) / 2 + (0.0 + 1.5) / 2) / 2)


@pytest.mark.parametrize(("kind", "direction"), [("real", 1), ("fake", -1)])
def test_critic_wants_high_scores_for_real_and_low_ones_for_decoded(kind, direction):
    values = {"real": torch.zeros(1, 1, 2, 2), "fake": torch.zeros(1, 1, 2, 2)}
    values[kind].requires_grad_()
    (gradient,) = torch.autograd.grad(critic_loss(values["real"], values["fake"]), values[kind])
    assert (-gradient * direction > 0).all()  # downhill


def test_critic_separates_real_from_decoded_after_a_few_steps():
    torch.manual_seed(0)
    critic, real, fake = PatchCritic(8), torch.full((2, 3, 32, 32), 0.9), torch.full((2, 3, 32, 32), 0.1)
    optimizer = torch.optim.Adam(critic.parameters(), 0.01)
    for _ in range(10):
        loss = critic_loss(critic(real), critic(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert critic(real).mean() > critic(fake).mean() + 0.2


def test_critic_of_a_training_separates_pictures_from_their_reconstructions():
    """White pictures, whose first reconstructions are grey; only the critic moves here."""
    torch.manual_seed(0)
    task = tokenizer_task(LossWeights(adversarial=1.0, adversarial_start=0.0), source=Grey(1.0))
    (pixels,) = task.batch(0)
    decoded = task.network(pixels, 1).pixels.detach()
    for step in range(10):
        task.loss(task.network, (pixels,), step)
        task.before_update()
    assert task.critic(pixels).mean() > task.critic(decoded).mean() + 0.2


def test_critic_learns_from_its_own_loss_alone():
    """What the decoder's backward pass leaves in its gradients is thrown away, and the decoder gets nothing from it."""
    task = tokenizer_task(LossWeights(adversarial=1.0, adversarial_start=0.0))
    task.critic.eval()
    loss, _ = task.loss(task.network, task.batch(0), 0)
    loss.backward()
    with torch.no_grad():
        fake = task.network(*task.batch(0), 1).pixels
    wanted = torch.autograd.grad(
        critic_loss(task.critic(task.batch(0)[0]), task.critic(fake)), list(task.critic.parameters())
    )
    grads = {key: value.grad.clone() for key, value in task.network.named_parameters() if value.grad is not None}
    task.before_update()
    for parameter, gradient in zip(task.critic.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)
    assert grads and all(torch.equal(dict(task.network.named_parameters())[key].grad, grads[key]) for key in grads)


def test_critic_is_made_as_its_docstring_says():
    """Half the learning rate and the betas of its game; spectral norm on each layer; grey pictures are zero to it."""
    task = tokenizer_task(LossWeights(adversarial=1.0), lr=0.04)
    (group,) = task.critic_optimizer.param_groups
    assert (group["lr"], group["betas"]) == (0.02, (0.5, 0.9))
    assert {id(value) for value in group["params"]} == {id(value) for value in task.critic.parameters()}
    layers = [layer for layer in task.critic.modules() if isinstance(layer, nn.Conv2d)]
    assert len(layers) == 4
    with torch.no_grad():
        for layer in layers:
            layer.bias.zero_()
            task.critic(torch.rand(1, 3, 32, 32))
            for _ in range(20):
                layer.weight  # noqa: B018  each look refines the estimate of the norm
            assert float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) == pytest.approx(1, rel=0.05)
        assert task.critic(torch.full((1, 3, 32, 32), 0.5)).abs().max() == 0
        assert task.critic(torch.rand(1, 3, 32, 32)).abs().max() > 0


# ---------------------------------------------------------------- which parts learn, and from what


def test_each_reconstruction_is_compared_with_its_own_picture():
    task = tokenizer_task(LossWeights(l1=1.0, aux=0.0, vq=0.0))
    pixels = torch.rand(4, 3, 32, 32)
    copy = TokenizerOutput(
        pixels.clone(), None, torch.zeros(4, 7, 4), torch.zeros(4, 7, dtype=torch.long), pixels.sum()
    )
    loss, _ = task.loss(lambda given, stage: copy if given is pixels else None, (pixels,), 0)
    assert loss.item() == 0


def test_first_stage_trains_against_the_causal_decoder_and_a_conventional_one_against_its_only_one():
    for changes, stages, wanted in (({}, (1,), 1), ({"aligned": False, "prefix": False}, (2,), 2)):
        settings, asked = TrainSettings(steps=1, batch=4), []
        model = small_model(stages, **changes)
        task = tasks.TokenizerTask("tokenizer", model, settings, run.accelerator_front(), Grey())
        network = lambda pixels, stage, asked=asked, task=task: asked.append(stage) or task.network(pixels, stage)  # noqa: E731
        task.loss(network, task.batch(0), 0)
        assert asked == [wanted]


def test_second_stage_moves_the_new_decoder_alone():
    task = tokenizer_task(LossWeights(), "decoder")
    assert task.network is task.tokenizer.decoder2
    seen = []
    loss, terms = task.loss(lambda codes: seen.append(codes) or task.network(codes), task.batch(0), 0)
    loss.backward()
    ids = task.tokenizer.encode(*task.batch(0))
    torch.testing.assert_close(seen[0], task.tokenizer.quantizer.lookup(ids).detach())
    assert not seen[0].requires_grad
    moved = {key.split(".")[0] for key, value in task.tokenizer.named_parameters() if value.grad is not None}
    assert moved == {"decoder2"}
    assert all(value.grad is not None for value in task.network.parameters())
    assert float(terms.get("vq", 0)) == 0 and "aux" not in terms


def test_gradients_reach_the_encoder_through_the_codes():
    task = tokenizer_task(LossWeights(mse=1.0, aux=0.0, vq=0.0))
    loss, _ = task.loss(task.network, (torch.rand(4, 3, 32, 32),), 0)
    loss.backward()
    assert task.tokenizer.encoder.patch_embed.weight.grad.abs().sum() > 0
    assert task.tokenizer.quantizer.codebook.grad is None or task.tokenizer.quantizer.codebook.grad.abs().sum() == 0


def test_codebook_follows_the_latents_of_a_step():
    """Online clustering, after the step's nearest codes are chosen: usage counts them, dead codes move to latents."""
    task = tokenizer_task(LossWeights())
    quantizer = task.tokenizer.quantizer
    _, ids, _ = quantizer(task.tokenizer.encoder(*task.batch(0)))
    task.loss(task.network, task.batch(0), 0)
    assert quantizer.usage.sum() == 0
    task.before_update()
    torch.testing.assert_close(quantizer.usage, 0.01 * torch.bincount(ids.flatten(), minlength=16) / ids.numel())
    frozen = tokenizer_task(LossWeights(), "decoder")
    frozen.loss(frozen.network, frozen.batch(0), 0)
    frozen.before_update()
    assert frozen.tokenizer.quantizer.usage.sum() == 0  # stage 2 leaves it alone


# ---------------------------------------------------------------- several processes


def task_of(reduce=lambda value, how: value, gather=lambda value: value) -> tasks.TokenizerTask:
    """A task in one of several processes, which these two functions stand for."""
    accelerator = SimpleNamespace(device=torch.device("cpu"), autocast=nullcontext, reduce=reduce, gather=gather)
    settings = TrainSettings(steps=1, batch=4, losses=LossWeights(adversarial=1.0, adversarial_start=0.0))
    torch.manual_seed(0)
    return tasks.TokenizerTask("tokenizer", small_model((1,)), settings, accelerator, Grey())


def test_critic_learns_from_the_mean_gradient_of_all_processes():
    """Here that is three times as large as this process's own."""
    asked, found = [], []
    for mean in (lambda value, how: value, lambda value, how: asked.append(how) or 3 * value):
        task = task_of(mean)
        task.critic.eval()  # spectral norm moves at every call in training
        task.loss(task.network, task.batch(0), 0)
        task.before_update()
        found.append([parameter.grad for parameter in task.critic.parameters()])
    assert set(asked) == {"mean"}
    for one, three in zip(*found, strict=True):
        torch.testing.assert_close(three, 3 * one)


def test_codebook_follows_the_latents_of_all_processes():
    """The other process has as many tokens, all of code 0 and with latents of zeros."""
    task = task_of(gather=lambda value: torch.cat([value, torch.zeros_like(value)]))
    quantizer = task.tokenizer.quantizer
    with torch.no_grad():
        latents = task.tokenizer.encoder(*task.batch(0))
        ids = quantizer(latents)[1]
    task.loss(task.network, task.batch(0), 0)
    task.before_update()
    share = torch.bincount(torch.cat([ids, torch.zeros_like(ids)]).flatten(), minlength=16) / (2 * ids.numel())
    torch.testing.assert_close(quantizer.usage, 0.01 * share)
    z = torch.cat([latents, torch.zeros_like(latents)]).flatten(0, 1)
    dead = quantizer.codebook[share == 0]
    assert len(dead) > 8 and (torch.cdist(dead, z).amin(1) < 0.01).all()  # each has moved to some latent
    assert (torch.cdist(dead, z[len(z) // 2 :]).amin(1) < 0.01).any()  # of the other process, too


def test_spectral_norm_divides_by_the_largest_singular_value():
    torch.manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(6, 6))[0]
    weight = (rotation * torch.tensor([3.0, 1.0, 0.5, 0.2, 0.1, 0.1])) @ torch.linalg.qr(torch.randn(6, 6))[0]
    norm = SpectralNorm(weight)
    assert torch.allclose(norm(weight), weight / 3, rtol=1e-3)
    before = norm._u.clone()
    assert torch.equal(norm.eval()(weight), norm(weight)) and torch.equal(norm._u, before)
    other = weight.flip(0) * 2
    norm.train()
    for _ in range(30):  # it follows a weight that changes
        found = norm(other)
    assert torch.allclose(found, other / 6, rtol=1e-3)
