"""The study at matched bits: its measures by closed forms, and one unit from beginning to end at a tiny size."""

import json
import math
from dataclasses import replace

import pytest
import torch
from conftest import small_ar, small_tokenizer
from PIL import Image

from alitok_lite import PRESETS, scenes
from alitok_lite.core.config import ARConfig, Preset
from alitok_lite.core.tokenizer import Tokenizer
from alitok_lite.measure import repaint
from alitok_lite.measure.metrics import bits_per_dimension, frechet_distance
from alitok_lite.measure.sampling_loss import distances
from alitok_lite.study import matched, measures, pools, readers
from alitok_lite.train.settings import TrainSettings


def test_the_line_in_one_over_n_removes_the_bias():
    torch.manual_seed(0)
    a, b = torch.randn(4000, 8).double(), torch.randn(4000, 8).double() + 0.1
    found = distances(a, b, (500, 1000, 2000, 4000))
    assert list(found) == ["500", "1000", "2000", "4000", "infinite", "slope"]
    assert found["4000"] == pytest.approx(frechet_distance(a, b))
    halves = (frechet_distance(a[:2000], b[:2000]) + frechet_distance(a[2000:], b[2000:])) / 2
    assert found["2000"] == pytest.approx(halves)
    assert found["500"] > found["4000"] > 0.08  # the truth is 8 x 0.01; every finite number is too large
    assert abs(found["infinite"] - 0.08) < abs(found["500"] - 0.08) / 3
    with pytest.raises(ValueError, match="too few"):
        distances(a[:600], b, (500, 1000))


def test_precision_and_recall():
    square = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    near, far = square[:2] + 0.1, square[:2] + 50
    assert measures.precision_recall(near, square, k=1) == {"precision": 1.0, "recall": 1.0}
    assert measures.precision_recall(far, square, k=1) == {"precision": 0.0, "recall": 0.0}
    half = measures.precision_recall(torch.cat([near, far]), square, k=1)
    assert half["precision"] == 0.5


def test_bits_per_dimension_is_tokens_and_gaussian_residual():
    mse = 0.01
    residual = 0.5 * math.log2(2 * math.pi * math.e * mse * 255**2)
    assert bits_per_dimension(0.0, [mse] * 4, 32) == pytest.approx(residual)
    assert bits_per_dimension(3072.0, [mse] * 4, 32) == pytest.approx(residual + 1)
    mixed = bits_per_dimension(0.0, [mse, 4 * mse], 32)  # a factor of 4 in half of the rows: half a bit each
    assert mixed == pytest.approx(residual + 0.5)


def test_area_under_curve():
    high, low = torch.tensor([3.0, 2.0]), torch.tensor([1.0, 2.0])
    assert measures.area_under_curve(high, low) == pytest.approx(3.5 / 4)  # three pairs right, one tie
    assert measures.area_under_curve(low, high) == pytest.approx(0.5 / 4)
    assert measures.area_under_curve(high, high) == pytest.approx(0.5)


@pytest.mark.slow
def test_two_sample_test_sees_broken_sentences_and_not_equal_ones():
    torch.manual_seed(0)
    labels = torch.arange(800) % 2
    true = torch.randint(0, 8, (800, 4))
    true[:, 2] = true[:, 0]  # token 2 repeats token 0
    broken = torch.where(torch.arange(4) == 2, true.roll(7, 0), true)
    codebook = torch.randn(8, 4)
    assert measures.two_sample_test(true, broken, labels, codebook, steps=200) > 0.8
    fresh = torch.randint(0, 8, (800, 4))
    fresh[:, 2] = fresh[:, 0]
    assert abs(measures.two_sample_test(true, fresh, labels, codebook, steps=150) - 0.5) < 0.12


@pytest.mark.parametrize("aligned", [True, False])
def test_repaint_share_is_zero_for_a_causal_decoder_only(aligned):
    torch.manual_seed(0)
    stage = 1 if aligned else 2
    tokenizer = Tokenizer(small_tokenizer(aligned=aligned), (stage,)).eval()
    for parameter in tokenizer.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(0, tokenizer.config.codebook_size, (5, tokenizer.config.tokens))
    found = repaint.repaint_share(tokenizer, ids, stage)
    if aligned:
        assert found == {"repainted": 0.0, "repaint_change": 0.0, "repainted_spread": 0.0}
    else:
        assert found["repainted"] > 0.1 and found["repaint_change"] > 0
    last = tokenizer.config.grid**2
    assert found["repainted"] <= (last - 1) / last  # the last patch is painted when all tokens are there


def test_survival_counts_equal_tokens(monkeypatch):
    tokenizer = Tokenizer(small_tokenizer(), (1,)).eval()
    ids = torch.zeros(4, tokenizer.config.tokens, dtype=torch.long)
    monkeypatch.setattr(tokenizer, "encode", lambda pixels: torch.cat([ids[:, :-1], ids[:, -1:] + 1], 1))
    total = tokenizer.config.tokens
    assert measures.survival(tokenizer, ids, 1) == pytest.approx((total - 1) / total)


def test_a_reader_learns_and_draws_what_it_has_learned():
    config = ARConfig(codebook_size=4, grid=2, prefix_tokens=0, classes=2, width=32, depth=1, heads=1, hidden=88)
    torch.manual_seed(0)
    labels = torch.arange(400) % 2
    ids = torch.stack([labels, labels + 2, labels, labels + 2], 1)
    settings = TrainSettings(120, 64, lr=3e-3, warmup=12)
    reader, _ = readers.train_reader(ids, labels, replace(config, dropout=0.0), settings)
    drawn = readers.drawn_ids(reader, labels[:200], seed=1)
    assert (drawn == ids[:200]).double().mean() > 0.95
    assert torch.equal(drawn, readers.drawn_ids(reader, labels[:200], seed=1))


def test_sizes_of_readers_follow_the_presets():
    config = PRESETS["scenes"].ar
    small = readers.resized_reader(config, 128, 3)
    assert (small.width, small.depth, small.heads, small.hidden) == (128, 3, 4, 344)


def test_judges_must_tell_how_a_scene_was_painted():
    pixels, labels, factors = pools.painted(28, 5, 32, torch.device("cpu"))
    assert pixels.dtype == torch.uint8 and labels.tolist() == [i % 14 for i in range(28)]
    assert torch.equal(factors, scenes.factor_table(28, 5)[:, : scenes.FREE_FACTORS])
    judge = measures.train_factor_judge(pixels, labels, factors, 3, seed=0, batch=8)
    assert measures.features(judge, pixels).shape == (28, 128)


def small_plan(data, held_out):
    """A plan of three steps a part, on the preset "mini" that the tests make."""
    part = TrainSettings(steps=3, batch=4, lr=1e-3, warmup=1, pictures=28, save_every=3)
    readings = (
        matched.Reading("full", 2),
        matched.Reading("small", 2, (32, 1), rows=("A",)),
        matched.Reading("few", 2, pictures=12),
    )
    reader = replace(part, keep_best=held_out)
    return matched.Plan(
        "mini", part, reader, part, readings, data, 56, 2, (14, 28, 56)[: 2 + (data == "scenes")], 28, 3, 2, 3
    )


@pytest.fixture
def mini(monkeypatch):
    """The preset "mini" and codebooks of 16, on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tokenizer = small_tokenizer()
    monkeypatch.setitem(PRESETS, "mini", Preset(tokenizer, small_ar(tokenizer, classes=14)))
    for row in ("A", "D"):
        monkeypatch.setitem(matched.CODES, row, (row, 16))


def check_unit(unit, decoders, kinds):
    assert list(unit["decoders"]) == decoders
    assert [view["causal"] for view in unit["decoders"].values()] == kinds
    for reader in unit["readers"].values():
        assert reader["bits_per_image"] == pytest.approx(sum(reader["nats_positions"]) / math.log(2))


@pytest.mark.slow
def test_one_unit_from_beginning_to_end(tmp_path, mini):
    plan, pool = small_plan("scenes", held_out=False), pools.ScenePool(32, 56, torch.device("cpu"))
    bench, again = matched.Bench(plan, pool, tmp_path), matched.Bench(plan, pool, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(bench.real, again.real, strict=True))  # the judges are kept
    a, d = (matched.run_unit(plan, pool, lambda: bench, tmp_path, row, 0, lambda text: None) for row in ("A", "D"))
    assert json.loads((tmp_path / "A-0.json").read_text()) == a
    check_unit(a, ["own", "fresh causal", "fresh bidirectional"], [False, True, False])
    check_unit(d, ["own", "second stage", "longer"], [True, False, True])
    assert d["tokenizer"]["repainted"] == 0 and d["tokenizer"]["look_ahead"] == 0
    assert list(a["readers"]) == ["full", "small", "few"] and list(d["readers"]) == ["full", "few"]
    assert [reader["sequences"] for reader in a["readers"].values()] == [28, 28, 12]


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder of 3 classes: 20 pictures of each to train on and 18 to test with, whose first pixel numbers them."""
    monkeypatch.setattr(pools, "WATCHED", 6)
    for number in range(114):
        split, kind = ("train", "test")[number >= 60], number % 3
        pixels = torch.full((36, 36, 3), 80 * kind + 40, dtype=torch.uint8)
        pixels[:] += torch.randint(0, 20, pixels.shape, generator=torch.Generator().manual_seed(number)).byte()
        pixels[..., 0] = number
        folder = tmp_path / "pictures" / split / f"class{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(folder / f"{number:03d}.png")
    return tmp_path / "pictures"


def numbers(pixels):
    """Which pictures these are (see `pictures`), to within a rounding of the resizing."""
    return {round(float(picture[0].float().mean())) for picture in pixels}


def test_a_folder_keeps_its_unseen_pictures_apart(pictures):
    pool = pools.FolderPool(pictures, 32, 4, torch.device("cpu"))
    learned, first, second, watched = map(numbers, (pool.whole, pool.first, pool.second, pool.watched))
    assert len(learned) == 45 and len(first) == len(second) == 31 and len(watched) == 6
    assert len(learned | first | second | watched) == 45 + 31 + 31 + 6  # no picture is in two of them
    assert learned < set(range(60))  # every fourth of train/ is unseen, too
    both, kinds = pool.training(0, 999)
    assert len(both) == 90 and torch.equal(both[45:], both[:45].flip(3)) and torch.equal(kinds[45:], kinds[:45])
    chosen = pool.subset(90, 10)
    assert len(chosen) == 20 and torch.equal(chosen[10:], chosen[:10] + 45)
    assert numbers(both[chosen]) == numbers(pool.whole[pool.order[:10]])
    settings = TrainSettings(3, 8, seed=3)
    source = pool.source(settings)
    assert torch.equal(source.batch(5)[0], source.batch(5)[0]) and not torch.equal(
        source.batch(5)[0], source.batch(6)[0]
    )
    assert numbers(source.unseen(4)[0] * 255) <= watched


@pytest.mark.slow
def test_one_unit_on_a_folder(tmp_path, mini, pictures):
    plan, pool = small_plan(str(pictures), held_out=True), pools.FolderPool(pictures, 32, 4, torch.device("cpu"))
    bench = matched.Bench(plan, pool, tmp_path)
    unit = matched.run_unit(plan, pool, lambda: bench, tmp_path, "A", 0, lambda text: None)
    check_unit(unit, ["own", "fresh causal", "fresh bidirectional"], [False, True, False])
    assert [reader["sequences"] for reader in unit["readers"].values()] == [90, 90, 24]
    assert all(1 <= reader["kept_step"] <= 2 for reader in unit["readers"].values())


def test_a_reader_keeps_the_weights_that_predict_held_out_tokens_best():
    config = ARConfig(codebook_size=4, grid=2, prefix_tokens=0, classes=2, width=32, depth=1, heads=1, hidden=88)
    torch.manual_seed(0)
    ids, labels = torch.randint(0, 4, (8, 4)), torch.zeros(8, dtype=torch.long)  # noise, soon memorised
    held_out = torch.randint(0, 4, (200, 4)), torch.zeros(200, dtype=torch.long)
    settings = TrainSettings(60, 8, lr=1e-2, warmup=1)

    def nats(model):
        logits = model(*held_out).detach()
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), held_out[0].flatten()))

    last, steps = readers.train_reader(ids, labels, replace(config, dropout=0.0), settings)
    best, kept = readers.train_reader(ids, labels, replace(config, dropout=0.0), settings, held_out)
    assert steps == 60 and kept < 30 and nats(best) < nats(last) - 0.05
