"""What the study at matched bits says: contrasts with intervals, and exact permutation tests.

Everything here is computed from the JSON files of the units (see matched.py), in seconds. A contrast compares row B
with row A *at B's bits*: between A's two codebooks whose bits per image enclose those of B, on the straight line
between their means. Each tokenizer seed is one observation; samples and test pictures are inside it. The same can be
done at B's PSNR.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean, variance
from typing import NamedTuple

from scipy.stats import t as student

from ..train.settings import ABLATIONS

RESULTS = Path(__file__).parents[1] / "results" / "matched"  # scenes
NATURAL = RESULTS.with_name("matched-natural")  # photographs
LADDER = ("A256", "A1024", "A")  # the conventional tokenizer by its codebook
CAUSAL = ("B", "B1024")  # the causal one; the first of them that a study has is compared
READ = ABLATIONS["scenes"].ar.pictures  # scenes that a reader learns from, where a unit does not tell


def _own(unit: dict, reader: str) -> dict:
    return unit["readers"][reader]["decoders"]["own"]


# Endpoints: name -> (value of a unit with a reader, which sign favours B in "A minus B").
ENDPOINTS: dict[str, tuple[Callable[[dict, str], float], int]] = {
    "sampling loss": (lambda u, r: mean(x["infinite"] for x in _own(u, r)["sampling_loss"]), 1),
    "two-sample AUC": (lambda u, r: u["readers"][r]["two_sample_auc"], 1),
    "in class": (lambda u, r: mean(_own(u, r)["in_class"]), -1),
    "gFD": (lambda u, r: mean(_own(u, r)["gfd"]), 1),
    "PSNR, dB": (lambda u, r: u["decoders"]["own"]["psnr"], -1),
    "rFD": (lambda u, r: mean(u["decoders"]["own"]["rfd"]), 1),
    "bits per dimension": (lambda u, r: _own(u, r)["bits_per_dimension"], 1),
    "precision": (lambda u, r: _own(u, r)["precision"], -1),
    "recall": (lambda u, r: _own(u, r)["recall"], -1),
    "survival of tokens": (lambda u, r: u["readers"][r]["survival"], -1),
}


def bits(unit: dict, reader: str) -> float:
    """Bits per image of a unit's tokens, as its reader codes them."""
    return unit["readers"][reader]["bits_per_image"]


def read_units(folder: str | Path = RESULTS) -> dict[str, list[dict]]:
    """The units of a study by row, in the order of their seeds.

    Raises ValueError for a folder without any, and for a file that is none.
    """
    units: dict[str, list[dict]] = {}
    for path in sorted(Path(folder).glob("*-[0-9]*.json")):
        try:
            unit = json.loads(path.read_text())
            units.setdefault(unit["row"], []).append(unit)
            complete = {"seed", "codes", "decoders", "readers"} <= unit.keys()
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise ValueError(f"{path} is not a unit of a study at equal bits")
    if not units:
        raise ValueError(f"{Path(folder).name!r} holds no units of a study (ROW-SEED.json)")
    return {row: sorted(found, key=lambda unit: unit["seed"]) for row, found in units.items()}


# ---------------------------------------------------------------- statistics


class Interval(NamedTuple):
    """A difference of means with the 95 % confidence interval of Welch's test."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the two groups differ."""
        return self.low > 0 or self.high < 0


def weighted_welch(groups: Sequence[tuple[float, Sequence[float]]], level: float = 0.95) -> Interval:
    """A weighted sum of the groups' means with its confidence interval, by Welch and Satterthwaite.

    Two groups with weights 1 and -1 give Welch's interval of their difference.
    Raises ValueError for a group with fewer than two values.
    """
    if any(len(values) < 2 for _, values in groups):
        raise ValueError("an interval needs two or more values in each group")
    total = sum(weight * mean(values) for weight, values in groups)
    parts = [(weight**2 * variance(values) / len(values), len(values) - 1) for weight, values in groups if weight]
    error = sum(part for part, _ in parts)
    if not error:
        return Interval(total, total, total)
    freedom = error**2 / sum(part**2 / count for part, count in parts)
    reach = float(student.ppf((1 + level) / 2, freedom)) * math.sqrt(error)
    return Interval(total, total - reach, total + reach)


def permutation_test(a: Sequence[float], b: Sequence[float]) -> float:
    """The exact two-sided p of the difference of means: the share of all ways to label the values with a difference as
    large. With 4 and 4 values no p is below 2 / 70 = 0.029.

    >>> permutation_test([1, 2, 3, 4], [5, 6, 7, 8])  # 2 of 70
    0.02857142857142857
    """
    values, found = [*a, *b], abs(mean(a) - mean(b))
    total, count, reached = sum(values), 0, 0
    for chosen in combinations(range(len(values)), len(a)):
        part = sum(values[i] for i in chosen)
        difference = abs(part / len(a) - (total - part) / len(b))
        count, reached = count + 1, reached + (difference >= found - 1e-12)
    return reached / count


# ---------------------------------------------------------------- contrasts


class Contrast(NamedTuple):
    """A at B's bits (or PSNR) less B, for one endpoint and one reader.

    `interval` takes as known where B's bits lie between those of A; `wide` counts the uncertainty of all these means.
    """

    endpoint: str
    reader: str
    bits: float  # of B, mean; or the PSNR
    between: tuple[str, str]  # rows of A whose bits enclose B's
    share: float  # of the second of them
    a: float
    b: float
    interval: Interval
    wide: Interval
    seeds: tuple[int, int, int]
    favours: str  # "B", "A" or "neither"


def contrast(units: dict[str, list[dict]], endpoint: str, reader: str, row: str = "B", at: str = "bits") -> Contrast:
    """Row B (or another) against A `at` its "bits" or "PSNR". ValueError where A's codebooks do not enclose them."""
    value, sign = ENDPOINTS[endpoint]
    measure = {"bits": bits, "PSNR": ENDPOINTS["PSNR, dB"][0]}[at]
    ladder = sorted((mean(measure(u, reader) for u in units[name]), name) for name in LADDER if name in units)
    wanted = mean(measure(u, reader) for u in units[row])
    steps = [pair for pair in zip(ladder, ladder[1:], strict=False) if pair[0][0] < pair[1][0]]
    pairs = [pair for pair in steps if pair[0][0] <= wanted <= pair[1][0]]
    if not pairs:
        raise ValueError(f"row A has no two codebooks whose {at} enclose the {wanted:.1f} {at} of row {row}")
    (low, first), (high, second) = pairs[0]
    share = (wanted - low) / (high - low)
    rows, weights = (first, second, row), (1 - share, share, -1.0)
    groups = [[value(u, reader) for u in units[name]] for name in rows]
    interval = weighted_welch(list(zip(weights, groups, strict=True)))
    # To first order an error of the bits moves the result along the line between A's codebooks.
    slope = (mean(groups[1]) - mean(groups[0])) / (high - low)
    moved = [[value(u, reader) - slope * measure(u, reader) for u in units[name]] for name in rows]
    wide = weighted_welch(list(zip(weights, moved, strict=True)))
    favours = "neither"
    if interval.excludes_zero:
        favours = row if sign * interval.difference > 0 else "A"
    a, b = interval.difference + mean(groups[2]), mean(groups[2])
    seeds = tuple(len(group) for group in groups)
    return Contrast(endpoint, reader, wanted, (first, second), share, a, b, interval, wide, seeds, favours)


def table(
    units: dict[str, list[dict]], row: str = "B", endpoints: Iterable[str] = tuple(ENDPOINTS), at: str = "bits"
) -> str:
    """All contrasts of a row as text, a line each; or those of some endpoints, or at equal "PSNR"."""
    heading = f"{'reader':14}{'endpoint':20}{f'A at its {at}':>16}{row:>10}{'difference':>12}   "
    lines = [f"{heading}{'95 % interval':20}{'':18}with the error of the {at}"]
    for reader in units[row][0]["readers"]:
        for endpoint in endpoints:
            try:
                c = contrast(units, endpoint, reader, row, at)
            except (KeyError, ValueError):
                continue
            known, wide = (f"{i.low:.4f} to {i.high:.4f}" for i in (c.interval, c.wide))
            lines.append(
                f"{reader:14}{endpoint:20}{c.a:16.4f}{c.b:10.4f}{c.interval.difference:12.4f}"
                f"   {known:20}{f'favours {c.favours}':18}{wide}"
            )
    return "\n".join(lines)


CHARTS = {  # axis label -> endpoint and reader
    "PSNR in dB (more is better)": ("PSNR, dB", "224x5"),
    "sampling loss, trained to the end": ("sampling loss", "224x5"),
    "sampling loss after 1,000 steps": ("sampling loss", "224x5 short"),
}
TITLES = {
    "A256": "conventional, 256 codes",
    "A1024": "conventional, 1,024",
    "A": "conventional, 4,096",
    "causal-encoder": "conventional, causal encoder, 4,096",
    "B1024": "causal decoder, 1,024",
    "B": "causal decoder, 4,096",
    "CRT": "conventional, CRT's regulariser, 4,096",
    "C": "causal with prefix, 4,096",
    "D": "with prefix and auxiliary loss, 4,096",
}


def _charts(units: dict[str, list[dict]]) -> dict[str, tuple[str, str]]:
    """CHARTS, or the same with the readers of a study that has others."""
    readers = list(next(iter(units.values()))[0]["readers"])
    if "224x5" in readers:
        return CHARTS
    losses = {f"sampling loss, reader {reader}": ("sampling loss", reader) for reader in readers[:2]}
    return {next(iter(CHARTS)): ("PSNR, dB", readers[0])} | losses


def chart_points(units: dict[str, list[dict]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """What `viz.rate_charts` draws: axis label -> title of a row -> (bits, value) of each unit.

    A chart whose reader the study does not have is left out.
    """
    charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for label, (endpoint, reader) in _charts(units).items():
        value, _ = ENDPOINTS[endpoint]
        if any(reader not in unit["readers"] for found in units.values() for unit in found):
            continue
        rows = {
            TITLES.get(row, row): units[row]
            for row in (*TITLES, *(r for r in units if r not in TITLES))
            if row in units
        }
        charts[label] = {name: [(bits(u, reader), value(u, reader)) for u in found] for name, found in rows.items()}
    return charts
