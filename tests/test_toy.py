"""The toy worlds: every number by enumeration, and what they prove."""

import numpy as np
import pytest

from alitok_lite import viz
from alitok_lite.study import toy


@pytest.mark.parametrize(
    "name, right, bits, top1",
    [("A", (1, 1), (2, 2), 0.25), ("B", (0.5, 1), (2, 1), 0.375), ("C", (1, 1), (1, 2, 1), 5 / 12)],
)
def test_buckets_are_the_rows_of_the_ablation(name, right, bits, top1):
    found = toy.count(toy.BUCKETS[name])
    assert found.right == right
    assert found.bits == pytest.approx(bits)
    assert np.mean(found.top1) == pytest.approx(top1)


def test_no_first_token_can_say_more_than_half_of_the_upper_patches():
    assert toy.best_first_patch() == 0.5


def test_codes_are_lossless_and_cost_a_perfect_reader_the_same():
    for tokens in toy.codes().values():
        assert len({tuple(row) for row in tokens}) == 256
        assert toy.bits(tokens, 7).sum() == pytest.approx(toy.entropy(toy.PROBABILITY))
    assert toy.entropy(toy.PROBABILITY) == pytest.approx(1 + 7 * toy.entropy([0.1, 0.9]))


def test_codes_that_a_causal_decoder_can_read_have_the_profile_of_the_patches():
    codes, profile = toy.codes(), toy.bits(toy.ROWS, 7)
    assert [name for name, tokens in codes.items() if toy.causal_decoder_can_read(tokens)] == list(codes)[:2]
    for tokens in list(codes.values())[:2]:
        assert toy.bits(tokens, 7) == pytest.approx(profile)
    assert np.abs(toy.bits(codes["bidirectional, any bijection"], 7) - profile).max() > 0.01


def test_a_short_memory_costs_what_the_table_says():
    codes = toy.codes()
    patch = [toy.bits(codes["token = patch"], memory).sum() for memory in (0, 1)]
    assert patch == pytest.approx([8, 4.283], abs=1e-3)
    leaning = [toy.bits(codes["leaning on the next"], memory).sum() for memory in (0, 1, 2, 4, 7)]
    assert leaning == pytest.approx([4.283] * 5, abs=1e-3)  # no causal decoder can read it, yet the easiest of all
    for name in ("causal, scrambled", "bidirectional, any bijection"):
        costs = [toy.bits(codes[name], memory).sum() for memory in (0, 1, 2, 4, 7)]
        assert costs == sorted(costs, reverse=True) and costs[0] > 6.5


def test_readers_with_few_pictures_pay_and_with_many_nobody_does():
    few, many = ({name: toy.learn(t, n, 5) for name, t in toy.codes().items()} for n in (100, 100_000))
    order = [few[name].excess for name in ("leaning on the next", "token = patch", "causal, scrambled")]
    assert order == sorted(order) and few["bidirectional, any bijection"].excess > order[-1]
    assert all(found.excess < 0.01 and found.variation < 0.03 for found in many.values())
    assert toy.learn(toy.ROWS, 300).excess < toy.learn(toy.ROWS, 30).excess


def test_tables_say_both():
    text = toy.tables()
    assert "causal decoder, prefix token" in text and "4.283" in text


def test_curves_are_the_numbers_of_the_tables():
    found = toy.reader_curves(repeats=2)
    assert list(found) == list(toy.codes())
    for name, tokens in toy.codes().items():
        by_memory, by_size = found[name]
        assert by_memory[3] == pytest.approx(toy.bits(tokens, 3).sum())
        assert by_size[100] == pytest.approx(toy.learn(tokens, 100, 2).excess)


def test_figure_draws_every_code_and_the_entropy():
    named = {"one": ({0: 8.0, 1: 4.5}, {30: 1.0, 100: 0.1}), "two": ({0: 7.0, 1: 5.0}, {30: 2.0, 100: 0.2})}
    figure = viz.toy_readers(named, 4.283)
    memory, data = figure.axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in memory.lines}
    assert drawn["one"] == [8.0, 4.5] and drawn["two"] == [7.0, 5.0] and [4.283, 4.283] in drawn.values()
    assert [list(line.get_ydata()) for line in data.lines] == [[1.0, 0.1], [2.0, 0.2]]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"one", "two"}
