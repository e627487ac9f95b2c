"""Live weights, their moving average and the best so far."""

import pytest
import torch
from torch import nn

from alitok_lite.train.average import Weights


def network():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return module


def move(module, value):
    """Set every parameter to a value."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def test_average_forgets_the_first_weights_and_then_decays():
    module = network()
    weights, wanted = Weights(module, 0.8, keep_best=False), None
    for count in range(60):
        move(module, float(count**2))
        weights.update_average()
        keep = min(0.8, (1 + count) / (10 + count))
        wanted = count**2 if wanted is None else keep * wanted + (1 - keep) * count**2
        for parameter in weights.average.module.parameters():
            torch.testing.assert_close(parameter, torch.full_like(parameter, wanted))
    assert weights.measured is weights.saved is weights.average.module


def test_long_average_soon_leaves_the_random_start():
    """A decay of 0.9999 alone would still hold 99 % of the first weights after a hundred steps."""
    module = network()
    weights = Weights(module, 0.9999, keep_best=False)
    for step in range(100):
        move(module, 0.0 if step == 0 else 1.0)
        weights.update_average()
    assert weights.average.module[0].weight.min() > 0.999


def test_named_parameters_and_buffers_are_copied():
    module = network()
    weights = Weights(module, 0.9, keep_best=False, copied=("0.weight",))
    for value in (1.0, 2.0):
        move(module, value)
        module[1].running_mean.fill_(value)
        weights.update_average()
    assert torch.equal(weights.average.module[0].weight, module[0].weight)
    assert torch.equal(weights.average.module[1].running_mean, module[1].running_mean)
    assert not torch.equal(weights.average.module[0].bias, module[0].bias)


def test_without_average_or_best_there_is_nothing_beside_the_network():
    module = network()
    weights = Weights(module, 0.0, keep_best=False)
    weights.update_average()
    weights.record(1, {})
    assert weights.modules == {} and weights.history == []
    assert weights.measured is weights.saved is module


def test_swapped_weights_come_and_go_in_place():
    module, other = network(), network()
    move(other, 7.0)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    places = [value.data_ptr() for value in module.parameters()]
    weights = Weights(module, 0.0, keep_best=False)
    with pytest.raises(KeyError), weights.swapped(other):
        assert module[0].weight.unique().tolist() == [7.0]
        assert [value.data_ptr() for value in module.parameters()] == places
        raise KeyError
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert [value.data_ptr() for value in module.parameters()] == places
    assert all(value.requires_grad for value in module.parameters())


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_best_is_the_first_of_the_lowest(ema):
    module = network()
    weights, measured = Weights(module, ema, keep_best=True), {}
    for step, nats in enumerate((3.0, 2.0, 2.0, 4.0, 2.5), 1):
        move(module, float(step))
        weights.update_average()
        measured[step] = weights.measured[0].weight.detach().clone()
        weights.record(step, {"test nats": nats})
    assert weights.best_row == {"step": 2, "test nats": 2.0}
    assert weights.saved is weights.best
    assert torch.equal(weights.best[0].weight, measured[2])
    sent = []
    weights.finish(sent.extend)
    assert torch.equal(module[0].weight, measured[2])
    assert {value.data_ptr() for value in sent} >= {value.data_ptr() for value in weights.best.parameters()}
