"""Intervals, permutation tests and contrasts of the study at matched bits, on numbers worked out by hand."""

import json
import re

import pytest
from scipy.stats import permutation_test as scipy_permutation
from scipy.stats import ttest_ind

from alitok_lite import viz
from alitok_lite.study import conclusions, verdict

A, B = [5.1, 5.4, 5.2, 5.6, 5.3], [4.6, 4.9, 4.7, 5.2]


def test_welch_and_permutation_agree_with_scipy():
    ours = verdict.weighted_welch([(1, A), (-1, B)])
    theirs = ttest_ind(A, B, equal_var=False).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    options = {"n_resamples": 10**6, "alternative": "greater", "vectorized": False}
    found = scipy_permutation((A, B), lambda x, y: abs(x.mean() - y.mean()), **options)
    assert verdict.permutation_test(A, B) == pytest.approx(found.pvalue)
    assert verdict.permutation_test([1, 2], [3, 4]) == pytest.approx(2 / 6)
    with pytest.raises(ValueError, match="two or more"):
        verdict.weighted_welch([(1, A), (-1, [4.0])])


def test_an_interval_shrinks_with_seeds_and_grows_with_spread():
    def width(values):
        found = verdict.weighted_welch([(1, values), (-1, B)])
        return found.high - found.low

    assert width(A + A) < width(A) < width([value + (-1) ** i for i, value in enumerate(A)])


def _unit(row, seed, bits, loss, psnr=20.0):
    sampled = {"sampling_loss": [{"infinite": loss}, {"infinite": loss}], "gfd": [1.0], "in_class": [0.9]}
    sampled |= {"bits_per_dimension": 6.0, "precision": 0.8, "recall": 0.8}
    reader = {"bits_per_image": bits, "two_sample_auc": 0.5, "survival": 0.7, "decoders": {"own": sampled}}
    reader |= {"parameters": 10**5, "nats_positions": [1.0] * 16, "sequences": 4096}
    own = {"psnr": psnr, "rfd": [2.0]}
    unit = {"row": row, "seed": seed, "codes": 4096 if row in "AB" else 1024, "pictures": 1120, "data": "scenes"}
    return unit | {"readers": {"224x5": reader}, "decoders": {"own": own}, "tokenizer": {"usage": 1.0}}


@pytest.fixture
def units():
    found = {"A1024": [_unit("A1024", i, 99 + i, 0.02 + 0.001 * i, 21) for i in range(3)]}
    found["A"] = [_unit("A", i, 119 + i, 0.04 + 0.001 * i, 22) for i in range(3)]
    found["B"] = [_unit("B", i, 104 + i, 0.010 + 0.001 * i, 20) for i in range(3)]
    return found


def test_the_contrast_lies_on_the_line_between_two_codebooks(units):
    found = verdict.contrast(units, "sampling loss", "224x5")
    assert found.between == ("A1024", "A") and found.share == pytest.approx(0.25)  # 105 between 100 and 120
    assert found.a == pytest.approx(0.021 + 0.25 * 0.02) and found.b == pytest.approx(0.011)
    assert found.interval.excludes_zero and found.favours == "B" and found.seeds == (3, 3, 3)
    error = (1e-6 / 3 * (0.75**2 + 0.25**2 + 1)) ** 0.5
    assert found.interval.high - found.interval.difference == pytest.approx(error * 2.78, rel=0.15)
    assert verdict.contrast(units, "PSNR, dB", "224x5").favours == "A"  # there more is better
    assert verdict.contrast(units, "gFD", "224x5").favours == "neither"


def test_the_error_of_the_bits_widens_the_interval(units):
    """B's bits alone vary: an error of one bit moves the result by the slope of A's line, 0.001 a bit."""
    for row, loss in (("A1024", 0.02), ("A", 0.04)):
        units[row] = [_unit(row, i, {"A1024": 100, "A": 120}[row], loss) for i in range(3)]
    units["B"] = [_unit("B", i, value, 0.01) for i, value in enumerate((103, 105, 107))]
    found = verdict.contrast(units, "sampling loss", "224x5")
    assert found.interval == pytest.approx((0.015, 0.015, 0.015))  # nothing else varies
    reach = 4.3027 * 0.001 * (4 / 3) ** 0.5
    assert found.wide == pytest.approx((0.015, 0.015 - reach, 0.015 + reach), rel=1e-4)
    said = "\n".join(conclusions.sentences(units, "B"))
    assert "B loses less with this reader." in said and "so this is open" not in said
    units["B"] = [_unit("B", i, value, 0.01) for i, value in enumerate((95, 105, 115))]
    said = "\n".join(conclusions.sentences(units, "B"))
    assert (
        f"With the error of the bits it is {0.015 - 5 * reach:.3f} to {0.015 + 5 * reach:.3f}, so this is open." in said
    )


def test_the_same_at_equal_psnr(units):
    """A reaches B's 21.2 dB a fifth of the way from 21 to 22 dB."""
    units["B"] = [_unit("B", i, 150, 0.01, 21.2) for i in range(3)]  # whose bits no codebook of A has
    found = verdict.contrast(units, "sampling loss", "224x5", at="PSNR")
    assert found.share == pytest.approx(0.2) and found.bits == pytest.approx(21.2)
    assert found.a == pytest.approx(0.021 + 0.2 * 0.02) and found.favours == "B"
    assert "A at its PSNR" in conclusions.report(units)
    with pytest.raises(ValueError, match="whose bits enclose the 150.0 bits of row B"):
        verdict.contrast(units, "sampling loss", "224x5")


def test_no_contrast_outside_the_ladder(units):
    units["B"] = [_unit("B", i, 150, 0.01) for i in range(3)]
    with pytest.raises(ValueError, match="no two codebooks"):
        verdict.contrast(units, "sampling loss", "224x5")
    assert verdict.table(units).count("\n") == 0  # the heading alone


def test_the_entropy_cliff():
    assert conclusions.entropy_cliff(2**15, 2**10) == pytest.approx(1.5)
    units = verdict.read_units(verdict.NATURAL)
    natural = "\n".join(conclusions.cliff_lines(units))
    knob = conclusions.knob(units)
    assert list(knob) == ["A", "A1024", "B"] and sorted(knob["B"]) == [4_000, 16_000, 51_200]
    first = [unit["readers"]["224x5 2000"]["nats_positions"][0] for unit in units["B"]]
    nats, cliff = knob["B"][4_000]
    assert nats[0] == pytest.approx(sum(first) / 5) and len(nats) == 64 and cliff == pytest.approx(0.997, abs=1e-3)
    assert "  4,000 sequences: 1.20 (1,024 codes), 1.00 (4,096 codes) of 64 tokens; reader 224x5 2000\n" in natural
    scenes = conclusions.cliff_lines(verdict.read_units())  # whose units do not tell: 200,000 scenes
    assert scenes[1].startswith("  200,000 sequences: 2.20 (256 codes), 1.76 (1,024 codes), 1.47 (4,096 codes) of 16")
    page = (verdict.RESULTS / "README.md").read_text()
    for count in (4_000, 16_000, 51_200):
        cliff = conclusions.entropy_cliff(count, 4096)
        assert re.search(rf"^\| .*\| {count:,} \|.* {cliff:.2f} \|", page, re.M), count


def test_sentences_say_what_can_be_seen_and_what_cannot(units):
    lines = conclusions.sentences(units, "B")
    assert lines[0].startswith("Tokenizer seeds: 3 of A1024, 3 of A, 3 of B.")
    found = verdict.contrast(units, "sampling loss", "224x5").interval
    numbers = f"{found.difference:.3f}, 95 % interval {found.low:.3f} to {found.high:.3f} (3 seeds)."
    assert lines[1].endswith(
        f"at the 105.0 bits of B, between A1024 and A, the sampling loss of A less that of B is {numbers}"
    )
    assert lines[2] == "  It excludes zero: by the rule, B loses less with this reader."
    assert lines[3] == "Other endpoints that exclude zero, and whom they favour: PSNR, dB (224x5): A."
    assert "Of 10 intervals of 95 %, 0 or so" in lines[4] or "1 or so" in lines[4]
    assert "21.0 dB and the largest reader has 0.10 million parameters" in lines[5] and "1,120 samples" in lines[6]
    units["A"][2]["tokenizer"]["usage"] = 0.8
    assert "Unused codes: A seed 2 uses 80 % of its codebook, the least." in conclusions.sentences(units, "B")
    assert not [line for line in lines if "Unused" in line]
    for unit in units["B"]:
        loss = unit["readers"]["224x5"]["decoders"]["own"]["sampling_loss"]
        loss[:] = [{"infinite": 0.03 * unit["seed"]}] * 2
    found = verdict.contrast(units, "sampling loss", "224x5").interval
    reach = f"{(found.high - found.low) / 2:.3f}"
    said = f"  It includes zero: this cannot tell who loses less. A difference above about {reach} would show."
    assert said in conclusions.sentences(units, "B")


def test_sentences_say_why_nothing_is_compared(units):
    alone = {row: found[:1] for row, found in units.items()}
    assert "an interval needs two or more values in each group" in conclusions.report(alone)
    outside = {row: found for row, found in units.items() if row != "A"}
    assert "row A has no two codebooks whose bits enclose the 105.0 bits of row B" in conclusions.report(outside)
    without = {row: found for row, found in units.items() if row != "B"}
    assert "the causal tokenizer (B or B1024) is missing" in conclusions.report(without)


def test_units_are_read_by_row_and_seed(tmp_path, units):
    for row, found in units.items():
        for unit in reversed(found):
            (tmp_path / f"{row}-{unit['seed']}.json").write_text(json.dumps(unit))
    (tmp_path / "judges.json").write_text("{}")
    assert verdict.read_units(tmp_path) == units
    with pytest.raises(ValueError, match="no units"):
        verdict.read_units(tmp_path / "nothing")


def test_the_published_study():
    units = verdict.read_units()
    counts = {"A": 5, "A1024": 5, "A256": 5, "B": 5, "B1024": 3, "C": 3, "CRT": 3, "D": 3, "causal-encoder": 5}
    assert {row: len(found) for row, found in units.items()} == counts
    assert all(unit["tokenizer"]["usage"] > 0.98 for found in units.values() for unit in found)
    assert all(unit["tokenizer"]["repainted"] == unit["tokenizer"]["look_ahead"] == 0 for unit in units["B"])
    text = verdict.table(units)
    assert "sampling loss" in text and "favours B" in text and "favours A" in text


def test_further_rows_and_the_second_stage_are_compared():
    """As the page says: at their own bits, and paired by seed."""
    units = verdict.read_units()
    favours = {
        row: verdict.contrast(units, "sampling loss", "224x5 short", row).favours for row in ("B", "B1024", "CRT")
    }
    assert favours == {"B": "A", "B1024": "B1024", "CRT": "A"}
    text, page = conclusions.report(units), " ".join((verdict.RESULTS / "README.md").read_text().split())
    assert re.search(r"A at its bits +B1024 ", text) and re.search(r"A at its bits +CRT ", text)
    assert not re.search(r"A at its bits +D ", text)  # D's bits lie above those of row A
    own = [unit["decoders"] for unit in units["D"]]
    pairs = [d["second stage"]["psnr"] - d["longer"]["psnr"] for d in own]
    reach = 4.3027 * (sum((p - sum(pairs) / 3) ** 2 for p in pairs) / 2 / 3) ** 0.5
    low, high = sum(pairs) / 3 - reach, sum(pairs) / 3 + reach
    assert f"PSNR, dB: {sum(pairs) / 3:.3f}, 95 % interval {low:.3f} to {high:.3f}\n" in text
    assert f"0.18 dB ({low:.2f} to {high:.2f})" in page
    assert conclusions.stage_lines({"D": units["D"][:1]}) == conclusions.stage_lines({"A": units["A"]}) == []
    for row, reader in (("B1024", "224x5"), ("B1024", "224x5 short"), ("CRT", "224x5"), ("CRT", "224x5 short")):
        interval = verdict.contrast(units, "sampling loss", reader, row).interval
        low, high = sorted((abs(interval.low), abs(interval.high)))
        digits = 2 if interval.low < -0.1 else 3
        assert f"({low:.{digits}f} to {high:.{digits}f})" in page, (row, reader)


def test_the_published_study_of_natural_pictures():
    units = verdict.read_units(verdict.NATURAL)
    assert {row: len(found) for row, found in units.items()} == {"A": 5, "A1024": 5, "B": 5}
    found = verdict.contrast(units, "sampling loss", "224x5")
    assert found.between == ("A1024", "A") and found.favours == "neither"  # as the page says


def test_the_page_of_the_study_says_what_the_files_say():
    page = (verdict.RESULTS / "README.md").read_text()
    for folder, readers, digits in (
        (verdict.RESULTS, ("224x5", "128x3", "224x5 short"), 3),
        (verdict.NATURAL, ("224x5", "224x5 8000", "224x5 2000", "64x2"), 1),
    ):
        units = verdict.read_units(folder)
        for reader in readers:
            interval = verdict.contrast(units, "sampling loss", reader).interval
            assert f"| {interval.low:.{digits}f} to {interval.high:.{digits}f} |" in page
            if folder == verdict.RESULTS:
                wide = verdict.contrast(units, "sampling loss", reader).wide
                equal = verdict.contrast(units, "sampling loss", reader, at="PSNR").interval
                assert f"| {wide.low:.3f} to {wide.high:.3f} |" in page
                assert f"| {equal.low:.3f} to {equal.high:.3f} |" in page


def test_every_row_of_the_study_is_drawn():
    """Also where there are more rows than colours."""
    points = verdict.chart_points(verdict.read_units())
    figure = viz.rate_charts(points)
    for ax, rows in zip(figure.axes, points.values(), strict=True):
        drawn = {line.get_label(): (line.get_color(), line.get_marker()) for line in ax.lines}
        assert set(drawn) == set(rows) and len(rows) > 6 and len(set(drawn.values())) == len(rows)
