"""What a study at equal bits can show and what it cannot, in sentences, from its units alone (see verdict.py)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import mean

from .verdict import CAUSAL, ENDPOINTS, LADDER, READ, Contrast, contrast, read_units, table, weighted_welch

ENDPOINT = "sampling loss"  # the one that was fixed beforehand
FURTHER = (ENDPOINT, "two-sample AUC", "gFD", "PSNR, dB")  # of the rows that the claim is not about


def report(units: dict[str, list[dict]]) -> str:
    """All contrasts of a study's causal tokenizer, those of further rows, its entropy cliff, and what it can show."""
    row = next((name for name in CAUSAL if name in units), None)
    parts = [table(units, row)] if row else []
    further = [table(units, row, (ENDPOINT,), "PSNR")] if row else []
    further += [table(units, other, FURTHER) for other in units if other not in (row, *LADDER)]
    parts += [found for found in further if "\n" in found]  # more than a heading: its bits or PSNR lie between A's
    lines = stage_lines(units), cliff_lines(units), sentences(units, row)
    return "\n\n".join([*parts, *("\n".join(some) for some in lines if some)])


# ---------------------------------------------------------------- the second stage


def stage_lines(units: dict[str, list[dict]]) -> list[str]:
    """The second stage less the causal decoder trained on for equally many steps, over the same tokens: paired by seed.

    Empty where fewer than two units have both.
    """
    found = [unit["decoders"] for unit in _units(units) if {"second stage", "longer"} <= unit["decoders"].keys()]
    if len(found) < 2:
        return []
    pairs = f"over D's tokens, {len(found)} pairs"
    lines = [f"The second stage less a causal decoder trained for equally many steps, {pairs}:"]
    for name, value in (("PSNR, dB", lambda d: d["psnr"]), ("rFD", lambda d: mean(d["rfd"]))):
        one = weighted_welch([(1, [value(d["second stage"]) - value(d["longer"]) for d in found])])
        lines.append(f"  {name}: {one.difference:.3f}, 95 % interval {one.low:.3f} to {one.high:.3f}")
    return lines


# ---------------------------------------------------------------- entropy cliff


def entropy_cliff(sequences: int, codes: int) -> float:
    """log2 N / log2 V: so many tokens tell N training sequences apart, were all V codes equally likely.

    What follows in a training sequence can then be memorised. Source: arXiv 2605.06207.

    >>> entropy_cliff(4096, 64)
    2.0
    """
    return math.log2(sequences) / math.log2(codes)


def cliff_lines(units: dict[str, list[dict]]) -> list[str]:
    """The entropy cliff of each number of training sequences that the readers of a study have."""
    found: dict[int, tuple[list[str], int]] = {}
    for name, reader in _units(units)[0]["readers"].items():
        found.setdefault(reader.get("sequences", READ), ([], len(reader["nats_positions"])))[0].append(name)
    sizes = sorted({unit["codes"] for unit in _units(units)})
    lines = ["Entropy cliff, log2 N / log2 V tokens, for N training sequences of a reader and V codes:"]
    for count, (names, tokens) in sorted(found.items()):
        cliffs = ", ".join(f"{entropy_cliff(count, size):.2f} ({size:,} codes)" for size in sizes)
        lines.append(f"  {count:,} sequences: {cliffs} of {tokens} tokens; reader {', '.join(names)}")
    return [*lines, "After so many tokens a training sequence can be told from all others: the rest can be memorised."]


def knob(units: dict[str, list[dict]], width: str = "224x5") -> dict[str, dict[int, tuple[list[float], float]]]:
    """The data knob of a study: row -> training sequences -> nats of each position (mean over seeds), and the cliff.

    Of the readers of one width that were trained on different numbers of sequences.
    """
    found: dict[str, dict[int, tuple[list[float], float]]] = {}
    for row, ours in units.items():
        for name, reader in ours[0]["readers"].items():
            count = reader.get("sequences", READ)
            if name.split()[0] == width and count not in found.setdefault(row, {}):
                positions = zip(*(unit["readers"][name]["nats_positions"] for unit in ours), strict=True)
                found[row][count] = [mean(values) for values in positions], entropy_cliff(count, ours[0]["codes"])
    return found


def _units(units: dict[str, list[dict]]) -> list[dict]:
    return [unit for found in units.values() for unit in found]


# ---------------------------------------------------------------- what a study shows


def sentences(units: dict[str, list[dict]], row: str | None) -> list[str]:
    """What the units can show and what they cannot; `row` is the causal tokenizer's."""
    counts = ", ".join(f"{len(found)} of {name}" for name, found in units.items())
    lines = [f"Tokenizer seeds: {counts}. A tokenizer with its own readers is one observation."]
    if row is None:
        return [*lines, f"Nothing is compared: the causal tokenizer ({' or '.join(CAUSAL)}) is missing."]
    found = []
    for reader in units[row][0]["readers"]:
        try:
            found.append(contrast(units, ENDPOINT, reader, row))
        except (KeyError, ValueError) as error:
            lines.append(f"Reader {reader}: nothing is compared at equal bits; {_why(error)}.")
    lines += [line for one in found for line in _claim(one, row)]
    lines += _others(units, row, [one.reader for one in found])
    return [*lines, *_unused(units), *_small(units)]


def _why(error: Exception) -> str:
    return "a row lacks this reader" if isinstance(error, KeyError) else str(error)


def _claim(one: Contrast, row: str) -> Iterable[str]:
    """What one reader says about the claim."""
    low, high = one.interval.low, one.interval.high
    first, second = one.between
    seeds = f"{min(one.seeds)} seeds" if len(set(one.seeds)) == 1 else f"{min(one.seeds)} to {max(one.seeds)} seeds"
    yield (
        f"Reader {one.reader}: at the {one.bits:.1f} bits of {row}, between {first} and {second}, the {ENDPOINT} of A"
        f" less that of {row} is {one.interval.difference:.3f}, 95 % interval {low:.3f} to {high:.3f} ({seeds})."
    )
    if one.interval.excludes_zero:
        yield f"  It excludes zero: by the rule, {one.favours} loses less with this reader."
        if not one.wide.excludes_zero:
            yield f"  With the error of the bits it is {one.wide.low:.3f} to {one.wide.high:.3f}, so this is open."
    else:
        reach = (high - low) / 2
        yield f"  It includes zero: this cannot tell who loses less. A difference above about {reach:.3f} would show."


def _others(units: dict[str, list[dict]], row: str, readers: list[str]) -> list[str]:
    """The other endpoints whose intervals exclude zero, and how many would do so by chance."""
    if not readers:
        return []
    every = [contrast(units, name, reader, row) for reader in readers for name in ENDPOINTS]
    shown = [one for one in every if one.endpoint != ENDPOINT and one.interval.excludes_zero]
    said = [f"{one.endpoint} ({one.reader}): {one.favours}" for one in shown]
    text = f"Other endpoints that exclude zero, and whom they favour: {'; '.join(said) or 'none'}."
    chance = f"Of {len(every)} intervals of 95 %, {0.05 * len(every):.0f} or so exclude zero by chance."
    return [text, chance]


def _unused(units: dict[str, list[dict]]) -> list[str]:
    """The codebook that is used least, where codes are unused."""
    used, row, seed = min((unit["tokenizer"]["usage"], unit["row"], unit["seed"]) for unit in _units(units))
    return [f"Unused codes: {row} seed {seed} uses {100 * used:.0f} % of its codebook, the least."] * (used < 0.99)


def _small(units: dict[str, list[dict]]) -> list[str]:
    """How far the models are from those of the published study of scenes."""
    ours, theirs = _units(units), _units(read_units())
    if any(unit.get("data", "scenes") != "scenes" for unit in ours) or _largest(ours) >= _largest(theirs):
        return []
    quality = [mean(unit["decoders"]["own"]["psnr"] for unit in some) for some in (ours, theirs)]
    return [
        f"Small models: the tokenizers reach {quality[0]:.1f} dB and the largest reader has"
        f" {_largest(ours) / 1e6:.2f} million parameters; in the published study it is {quality[1]:.1f} dB and"
        f" {_largest(theirs) / 1e6:.2f} million. This cannot show what larger or longer trained models do.",
        f"Few pictures: distances are measured with {ours[0]['pictures']:,} samples"
        f" (published: {theirs[0]['pictures']:,}), so part of the spread between seeds is measuring error.",
    ]


def _largest(units: list[dict]) -> int:
    return max(reader["parameters"] for unit in units for reader in unit["readers"].values())
