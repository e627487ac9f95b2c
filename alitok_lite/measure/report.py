"""The numbers of `evaluate` as text."""

import math
from typing import NamedTuple

from ..core.config import TokenizerConfig

FEW_CODES = 0.25  # codes in use, as a share of those that so many tokens could show; below it a warning
WEAK_JUDGE = 0.5  # accuracy, as a share of the way from chance to always right; below it a warning
JUDGES = (  # key, name, and what it gives
    ("judge", "judge", "verdicts and distances"),
    ("details", "judge of details", "verdicts"),
)
HIGH_FLOOR = 0.5  # floor, as a share of gFD; above it a warning
KINDS = (("", "the judge", "rFD and gFD", 128), ("inception_", "Inception", "rFID and gFID", 2048))  # and features


class Section(NamedTuple):
    """A part of the table: its columns, with how the keys of the results end there, and its rows."""

    columns: dict[str, str]  # heading: ending of the keys
    rows: tuple[tuple[str, str, str], ...]  # label, beginning of the keys, format


SECTIONS = (
    Section(
        {"causal": "_stage1", "bidirectional": "_stage2"},
        (
            ("PSNR, dB", "psnr", ".1f"),
            ("SSIM", "ssim", ".3f"),
            ("error of row 0 over row 1", "row_ratio", ".2f"),
            ("look-ahead share", "look_ahead", ".1%"),
            ("patches repainted", "repainted", ".1%"),
            ("rFD (judge features)", "rfd", ".2f"),
            ("Inception rFID", "inception_rfd", ".2f"),
        ),
    ),
    Section(
        {"all tokens": "", "prefix": "_prefix", "image": "_image", "in training": "_train"},
        (
            ("nats per token", "nats", ".3f"),
            ("top-1", "top1", ".1%"),
            ("top-5", "top5", ".1%"),
        ),
    ),
    Section(
        {
            "pictures": "_real",
            "causal": "_stage1",
            "bidirectional": "_stage2",
            "samples": "_samples",
            "in training": "_train",
        },
        (
            ("judged to be of their class", "judge", ".1%"),
            ("by their details", "details", ".1%"),
            ("  in the lowest class", "details_lowest", ".1%"),
        ),
    ),
    Section(
        {"pictures": "_real", "causal": "_stage1", "bidirectional": "_stage2", "samples": "_samples"},
        (
            ("Lite0 distance to training", "lite0_distance", ".1f"),
            ("named right by a Lite0 probe", "lite0_right", ".1%"),
        ),
    ),
    Section(
        {"": ""},
        (
            ("bits per image", "bits_per_image", ".1f"),
            ("bits per dimension", "bits_per_dimension", ".3f"),
            ("codebook usage", "active_codes", ".1%"),
            ("unigram entropy, nats", "unigram_entropy", ".3f"),
            ("gFD (judge features)", "gfd", ".2f"),
            ("floor: real to other real", "fd_floor", ".2f"),
            ("generation gap, gFD - rFD", "generation_gap", ".2f"),
            ("sampling loss", "sampling_loss", ".3f"),
            ("its floor", "sampling_loss_floor", ".3f"),
            ("Inception gFID", "inception_gfd", ".2f"),
            ("Inception floor", "inception_fd_floor", ".2f"),
            ("Inception gFID - rFID", "inception_generation_gap", ".2f"),
            ("Inception sampling loss", "inception_sampling_loss", ".2f"),
            ("its floor", "inception_sampling_loss_floor", ".2f"),
        ),
    ),
)


def table(results: dict) -> str:
    """The main numbers as text, and below them warnings.

    Columns and rows without any number are left out.
    """
    lines = [f"{results['model']} on {results['pictures']:,} unseen pictures of {results['data']}"]
    for columns, rows in SECTIONS:
        ends = {name: end for name, end in columns.items() if any(f"{row[1]}{end}" in results for row in rows)}
        if ends:
            lines.append("\n" + " " * 28 + "".join(f"{name:>15}" for name in ends) if any(ends) else "")
        for label, key, form in rows:
            cells = [format(results[key + end], form) if key + end in results else "" for end in ends.values()]
            if any(cells):
                lines.append(f"{label:28}" + "".join(f"{cell:>15}" for cell in cells))
    lines.append("")
    if "fd_floor" in results:
        count = f"{results['fd_floor_pictures']:,}"
        lines.append(f"Floor: {count} real pictures to {count} other real ones. A smaller generation gap says little.")
    lines += [f"Warning: {warning}." for warning in results["warnings"]]
    return "\n".join(line.rstrip() for line in lines).rstrip()


def warnings(results: dict, config: TokenizerConfig) -> list[str]:
    """A sentence for each of the results of `evaluation.evaluate` that means little."""
    codes, pictures, found = config.codebook_size, results["pictures"], []
    used = round(results["active_codes"] * codes)
    even = codes * (1 - math.exp(-pictures * config.tokens / codes))  # seen if all codes were equally frequent
    if used < FEW_CODES * even:
        found.append(
            f"only {used:,} of {codes:,} codes are in use, so the tokens say little about a picture, and nats, top-1"
            " and the generation gap mean little"
        )
    chance = results["judge_chance"]
    if chance == 1:
        found.append("all pictures are of one class, so nothing shows whether the judge is any good")
    for key, name, what in JUDGES:
        right = results.get(f"{key}_real", 1)
        if chance < 1 and right < chance + WEAK_JUDGE * (1 - chance):
            found.append(
                f"the {name} puts only {right:.1%} of the real pictures into their class ({chance:.1%} if it named"
                f" always the same), so its {what} mean little"
            )
    for kind, name, distances, features in KINDS:
        gfd, floor = results.get(f"{kind}gfd"), results.get(f"{kind}fd_floor")
        if not any(key.startswith(f"{kind}rfd") for key in results):
            continue
        if pictures <= features:
            found.append(
                f"{pictures:,} pictures are few for the {features:,} features of {name}: {distances} mean little"
            )
        elif gfd is not None and floor is not None and floor > HIGH_FLOOR * gfd:
            found.append(
                f"of the gFD in the features of {name}, {floor / gfd:.0%} is the floor: {distances} mean little"
            )
    return found
