"""The picture set: determinism, independence of the batch, richness, size consistency and errors."""

import pytest
import torch
import torch.nn.functional as fn

from alitok_lite import scenes
from alitok_lite.scenes import CLASSES, FACTORS, FREE_FACTORS, TEST_SEED, factor_table, render, rendering

ALL = list(range(len(CLASSES)))


@pytest.mark.parametrize("size", [32, 64, 96])
def test_shape_dtype_range_and_contrast(size):
    pictures = render(ALL * 2, seed=3, size=size)
    assert pictures.shape == (2 * len(ALL), 3, size, size)
    assert pictures.dtype == torch.float32
    assert pictures.isfinite().all()
    assert pictures.min() >= 0 and pictures.max() <= 1
    assert (pictures.flatten(1).std(1) > 0.05).all()  # nothing is blank


def test_fourteen_named_classes():
    assert len(CLASSES) >= 14 and len(set(CLASSES)) == len(CLASSES)
    assert all(name == name.lower().strip() for name in CLASSES)


def test_same_seed_same_pictures():
    assert torch.equal(render(ALL, seed=11), render(torch.tensor(ALL), seed=11))


def test_the_scenes_stay_what_the_shipped_models_were_trained_on():
    pictures = render([label for label in ALL for _ in range(4)], seed=3, size=32).view(len(ALL), -1)
    means = [0.6821, 0.6106, 0.6084, 0.6379, 0.5397, 0.5759, 0.6871, 0.5598, 0.2899, 0.5671, 0.6951, 0.4568]
    means += [0.5885, 0.6766]
    spreads = [0.1646, 0.2068, 0.2069, 0.2137, 0.2066, 0.2139, 0.2238, 0.2036, 0.1955, 0.2235, 0.1595, 0.1833]
    spreads += [0.2367, 0.1966]
    assert pictures.mean(1).tolist() == pytest.approx(means, abs=2e-4)
    assert pictures.std(1).tolist() == pytest.approx(spreads, abs=2e-4)


@pytest.mark.parametrize("seed", [0, 12345, TEST_SEED, 2**62])
def test_factor_rows_do_not_depend_on_the_number_of_rows(seed):
    long = factor_table(300, seed)
    for count in (1, 2, 7, 15, 16, 17, 63, 64, 65, 255):
        assert torch.equal(factor_table(count, seed), long[:count])


def test_factors_are_uniform_and_the_free_ones_unrelated():
    table = factor_table(4000, 5)
    assert table.shape == (4000, FACTORS) and table.min() >= 0 and table.max() < 1
    assert (table.mean(0) - 0.5).abs().max() < 0.03
    assert (table.var(0) - 1 / 12).abs().max() < 0.01
    between = (torch.corrcoef(table.T) - torch.eye(FACTORS)).abs()
    assert between[:FREE_FACTORS, :FREE_FACTORS].max() < 0.1  # independent
    assert between[FREE_FACTORS:, :FREE_FACTORS].max(1).values.min() > 0.8  # each follows one of them
    for other in (6, 5 + 2**32, 5 + 2**62):  # neighbours, and seeds with the same low 32 bits
        both = torch.stack([table.flatten(), factor_table(4000, other).flatten()])
        assert torch.corrcoef(both)[0, 1].abs() < 0.02


def test_picture_depends_on_its_own_label_and_index_only():
    batch = render(ALL, seed=21)
    others = [(k + 1) % len(ALL) for k in ALL]
    for i in ALL:
        labels = others[:i] + [i]  # another batch size and other neighbours
        torch.testing.assert_close(render(labels, seed=21)[i], batch[i], atol=1e-6, rtol=0)


def test_other_seed_index_or_label_gives_another_picture():
    first, second = render(ALL, seed=1), render(ALL, seed=2)
    assert ((first - second).abs().flatten(1).mean(1) > 0.02).all()
    train, test = render(ALL, seed=1), render(ALL, seed=TEST_SEED + 1)
    assert ((train - test).abs().flatten(1).mean(1) > 0.02).all()
    for label in ALL:
        row = render([label] * 3, seed=4)
        assert (row[0] - row[1]).abs().mean() > 0.02 and (row[1] - row[2]).abs().mean() > 0.02


@pytest.mark.parametrize("label", ALL, ids=CLASSES)
def test_every_class_has_at_least_ten_visible_factors(label):
    table = factor_table(4, seed=8)  # four pictures: a factor may be hidden in one of them
    rows = table.unsqueeze(1).repeat(1, FACTORS + 1, 1)
    for j in range(FACTORS):  # row 0 is the original; row j + 1 moves factor j by half its range
        rows[:, j + 1, j] = (rows[:, j + 1, j] + 0.5) % 1
    labels = torch.full((len(rows) * (FACTORS + 1),), label)
    pictures = rendering.paint(labels, rows.flatten(0, 1), 32).unflatten(0, (len(rows), FACTORS + 1))
    change = (pictures[:, 1:] - pictures[:, :1]).abs().flatten(2).mean(2).amax(0)
    assert (change > 0.01).sum() >= 10
    assert change[-1] == 0  # the table is wide enough: no painter reads its last column


def test_size_consistency():
    labels = ALL * 4
    small, large = render(labels, seed=9, size=64), render(labels, seed=9, size=128)
    error = (fn.avg_pool2d(large, 2) - small).abs().flatten(1).mean(1)
    shifted = (small.roll(1, -1) - small).abs().flatten(1).mean(1)
    assert error.max() < 0.015
    assert error.mean() < 0.2 * shifted.mean()  # far closer than a picture moved by one pixel


@pytest.mark.parametrize("size", [32, 64, 256])
def test_coverage_measures_area_with_an_edge_one_pixel_wide(size):
    canvas = scenes.Canvas(factor_table(1, 0), size)
    cover = canvas.cover(scenes.circle(canvas.x, canvas.y, 0.5))
    assert cover.mean().item() == pytest.approx(torch.pi * 0.25 / 4, rel=2e-3)
    edge = ((cover > 0) & (cover < 1)).float().mean().item() * size**2
    assert edge == pytest.approx(torch.pi * 0.5 * size, rel=0.15)  # the perimeter, pi, in pixels of 2 / size


def test_classes_have_distinct_mean_pictures():
    count = 96
    pictures = render([k for k in ALL for _ in range(count)], seed=13, size=32)
    halves = pictures.view(len(ALL), 2, count // 2, -1).mean(2)
    distance = torch.cdist(halves[:, 0], halves[:, 1])
    assert distance.argmin(1).tolist() == ALL  # each half is nearest to the other half of its own class


def test_empty_batch():
    assert render([], seed=0).shape == (0, 3, 64, 64)
    assert render(torch.zeros(0, dtype=torch.long), seed=0, size=32).shape == (0, 3, 32, 32)


@pytest.mark.parametrize(
    ("labels", "seed", "size", "message"),
    [
        ([len(CLASSES)], 0, 64, rf"label {len(CLASSES)} .*0 to {len(CLASSES) - 1}"),
        ([0, -1], 0, 64, r"label -1 .*0 to"),
        ([0.5], 0, 64, r"labels .*float.*integers"),
        ([True], 0, 64, r"labels .*bool.*integers"),
        ([[0, 1]], 0, 64, r"shape \(1, 2\)"),
        ([0], -1, 64, r"seed -1 .*0 to"),
        ([0], 2**63, 64, r"seed 9223372036854775808 .*0 to"),
        ([0], 0.5, 64, r"seed 0\.5 .*integer"),
        ([0], 0, 7, r"size 7 .*at least 8"),
        ([0], 0, 64.0, r"size 64\.0 .*integer"),
    ],
)
def test_errors_name_the_value_and_what_is_allowed(labels, seed, size, message):
    with pytest.raises(ValueError, match=message):
        render(labels, seed=seed, size=size)


def test_largest_seed_and_smallest_size():
    assert render([0], seed=2**63 - 1, size=8).shape == (1, 3, 8, 8)
