"""The sampling loss: what an AR model loses, without what its tokenizer loses."""

import pytest
import torch
from conftest import small_model

from alitok_lite import scenes
from alitok_lite.measure import evaluation, metrics
from alitok_lite.measure.judge import Judge
from alitok_lite.measure.repaint import repaint_share
from alitok_lite.measure.sampling_loss import distances, sampling_loss


def test_samples_like_reconstructions_lose_nothing():
    """A shift of 0.5 in each of four numbers is a distance of 1; the floor and equal samples are at about 0."""
    torch.manual_seed(0)
    reconstructions, samples = torch.randn(4000, 4).double(), torch.randn(4000, 4).double()
    equal, shifted = sampling_loss(samples, reconstructions), sampling_loss(samples + 0.5, reconstructions)
    assert abs(equal["sampling_loss"]) < 0.004 and abs(equal["sampling_loss_floor"]) < 0.01
    assert shifted["sampling_loss"] == pytest.approx(1, abs=0.12)
    assert shifted["sampling_loss_floor"] == equal["sampling_loss_floor"]
    raw = metrics.frechet_distance(samples[:500], reconstructions[:500])
    assert raw > 4 * abs(equal["sampling_loss"])  # what the line removes


def test_the_order_of_the_classes_changes_nothing():
    """Pictures that are sorted by class would otherwise be compared class by class."""
    torch.manual_seed(0)
    classes = torch.arange(4).repeat_interleave(500)[:, None] * torch.tensor([[5.0, 0.0]])
    samples, reconstructions = torch.randn(2000, 2) + classes, torch.randn(2000, 2) + classes
    found = sampling_loss(samples.double(), reconstructions.double())
    assert abs(found["sampling_loss"]) < 0.05
    parts = [(samples[i : i + 250], reconstructions[i : i + 250]) for i in range(0, 2000, 250)]
    spread = torch.stack([one.double().var(0).sum() for one, _ in parts]).mean()
    assert spread < samples.double().var(0).sum() / 5  # one class at a time is another thing
    assert sampling_loss(samples.double(), reconstructions.double()) == found


@pytest.mark.parametrize(("count", "names"), [(8, []), (9, ["sampling_loss"]), (40, ["sampling_loss", "floor"])])
def test_nothing_is_said_of_too_few_pictures(count, names):
    """A line needs two numbers of pictures above the 4 features: 9 and 4 are not enough, 10 and 5 are."""
    found = sampling_loss(torch.rand(count + 1, 4).double(), torch.rand(count + 1, 4).double())
    assert [name.removeprefix("sampling_loss_") for name in found] == names


def test_evaluate_measures_samples_against_reconstructions_of_the_best_decoder(monkeypatch):
    torch.manual_seed(0)
    model, judge = small_model((1, 2)), Judge(3).eval()
    monkeypatch.setattr(judge, "features", lambda pixels: pixels.float().mean((2, 3)))
    monkeypatch.setattr(judge, "output", torch.nn.Linear(3, 3))
    pixels = scenes.render([0, 5, 9] * 16, scenes.TEST_SEED, 32, "cpu")
    labels = torch.tensor([0, 1, 2] * 16)
    found = evaluation.evaluate(model, judge, [(pixels, labels)])
    samples = judge.features(model.sample(labels.tolist(), seed=0))
    decoded = judge.features(model.tokenizer.decode(model.tokenizer.encode(pixels), 2))
    expected = sampling_loss(samples, decoded)
    assert found["sampling_loss"] == pytest.approx(expected["sampling_loss"], rel=1e-3)
    assert found["sampling_loss_floor"] == pytest.approx(expected["sampling_loss_floor"], rel=1e-3, abs=1e-6)
    rows = found["row_mse_stage2"]
    assert found["bits_per_dimension"] == metrics.bits_per_dimension(found["bits_per_image"], rows, 32)


def test_a_perfect_decoder_still_costs_the_rounding_to_8_bits():
    assert 0.2 < metrics.bits_per_dimension(0.0, [0.0, 0.0], 32) < 0.3


def test_distances_at_several_numbers():
    a, b = torch.rand(40, 3).double(), torch.rand(40, 3).double()
    assert list(distances(a, b, (10, 20))) == ["10", "20", "infinite", "slope"]


def test_evaluate_tells_how_much_patches_depend_on_later_tokens(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("alitok_lite.measure.repaint.VISIBLE", 1e-4)  # fresh weights repaint faintly
    model = small_model((1, 2))
    for parameter in model.tokenizer.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    pixels, labels = scenes.render([0, 5, 9] * 6, scenes.TEST_SEED, 32, "cpu"), torch.tensor([0, 1, 2] * 6)
    found = evaluation.evaluate(model, Judge(3).eval(), [(pixels, labels)])
    assert found["look_ahead_stage1"] == found["repainted_stage1"] == 0
    assert found["look_ahead_stage2"] > 0.1 and found["repainted_stage2"] > 0.2
    ids = model.tokenizer.encode(pixels)[torch.linspace(0, 17, 14).long()]
    assert found["repainted_stage2"] == repaint_share(model.tokenizer, ids, 2)["repainted"]
