"""What the rows of an ablation say: means, spreads, and which of the paper's claims hold."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev

from ..files import write_atomically
from .rows import ROWS

# Numbers of the summary.
COLUMNS = (
    "psnr",
    "ssim",
    "row_ratio",
    "rfd",
    "nats",
    "gain",
    "top1",
    "bits_per_image",
    "gfd",
    "generation_gap",
    "debt",
)


def summarise(folder: str | Path) -> dict[str, dict]:
    """Mean, spread (standard deviation; absent with one seed) and seeds of every row that has results.

    To the measured numbers it adds `gain`, the redundancy: unigram entropy minus nats per token. Unlike `nats`, it does
    not fall when a run leaves codes unused, as some runs do with a tenth of theirs.
    """
    rows = {}
    for name, row in ROWS.items():
        runs = [json.loads(path.read_text()) for path in sorted(Path(folder).glob(f"{name}-[0-9]*.json"))]
        for run in runs:
            if "unigram_entropy" in run and "nats" in run:
                run["gain"] = run["unigram_entropy"] - run["nats"]
        if runs:
            values = {key: [run[key] for run in runs if key in run] for key in COLUMNS}
            rows[name] = {
                "title": row.title,
                "seeds": [run["seed"] for run in runs],
                "mean": {key: mean(found) for key, found in values.items() if found},
                "spread": {key: stdev(found) for key, found in values.items() if len(found) > 1},
            }
    return rows


# Claims of the paper at equal codebooks: nats and gain also change with what the tokens say, so they are no evidence of
# alignment (`verdict` compares at equal bits). Text, number, the row where the number should be larger, and the row
# where it should be smaller.
CLAIMS = (
    ("the causal decoder's tokens are easier to predict (nats per token)", "nats", "A", "B"),
    ("and more redundant (gain: unigram entropy minus nats)", "gain", "B", "A"),
    ("and the generation gap is smaller (gFD - rFD)", "generation_gap", "A", "B"),
    ("a causal decoder has a larger error in the first row (row 0 / row 1)", "row_ratio", "B", "A"),
    ("prefix tokens and the auxiliary loss reduce it (row 0 / row 1)", "row_ratio", "B", "D"),
    ("the second stage improves the pixels (PSNR)", "psnr", "F", "D"),
)


def verdicts(rows: dict[str, dict]) -> list[dict]:
    """Each claim with the difference of the means and twice its standard deviation; `holds` when it exceeds that.

    This compares single runs of the rows: a simple rule, not a test (`verdict` has intervals and permutation tests).
    `standard_errors` is the difference of the means in units of its standard error, which more seeds make smaller. If a
    row has one seed only, there is no spread, and all three are None.
    """
    found = []
    for text, key, larger, smaller in CLAIMS:
        if larger in rows and smaller in rows and all(key in rows[name]["mean"] for name in (larger, smaller)):
            difference = rows[larger]["mean"][key] - rows[smaller]["mean"][key]
            spreads = [rows[name]["spread"].get(key) for name in (larger, smaller)]
            bound = holds = errors = None
            if None not in spreads:
                bound = 2 * sum(spread**2 for spread in spreads) ** 0.5
                holds = difference > bound
                seeds = [len(rows[name]["seeds"]) for name in (larger, smaller)]
                error = sum(spread**2 / count for spread, count in zip(spreads, seeds, strict=True)) ** 0.5
                errors = difference / error if error else None
            entry = {"claim": text, "difference": difference, "two_deviations": bound}
            found.append(entry | {"standard_errors": errors, "holds": holds})
    return found


def table(rows: dict[str, dict]) -> str:
    """The summary as text: a line for each row, mean and spread of each number."""
    columns = [key for key in COLUMNS if any(key in row["mean"] for row in rows.values())]
    lines = [f"{'row':15}" + "".join(f"{key:>18}" for key in columns)]
    for name, row in rows.items():
        cells = []
        for key in columns:
            value, spread = row["mean"].get(key), row["spread"].get(key)
            cell = "" if value is None else f"{value:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
            cells.append(f"{cell:>18}")
        lines.append(f"{name:15}" + "".join(cells))
    return "\n".join(lines)


def write_summary(folder: str | Path) -> dict:
    """The summary and the verdicts, also in FOLDER/results.json."""
    rows = summarise(folder)
    results = {"rows": rows, "claims": verdicts(rows)}
    write_atomically(Path(folder) / "results.json", (json.dumps(results, indent=1) + "\n").encode())
    return results
