"""How the time of sampling grows with the tokens of a picture, with the pictures at once and with the AR model's size.

One of the three changes at a time, the others are the preset's. The slope between two neighbours in a chart with both
axes logarithmic says how: 0 where more costs nothing, since every step waits for the same weights; 1 where it costs in
proportion; for the tokens up to 2, since a step reads all that came before. Where the slope changes, the curve bends.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from math import log
from statistics import median
from typing import NamedTuple

import torch

from ..core.ar import ARModel
from ..core.config import PRESETS, ARConfig, Preset, resized
from ..core.sampling import Sampling
from ..fast import steps
from ..packed import packed
from .bench import about, ar_work, bound, rates, timed

GRIDS = 4, 8, 11, 16, 23, 32  # patches a side: 21, 73, 133, 273, 553 and 1,057 tokens with a prefix
LINES = {"tokens": "tokens of a picture", "pictures": "pictures at once", "parameters": "parameters (millions)"}


class Point(NamedTuple):
    """What is timed; `line`, a key of LINES, is what differs from the preset."""

    line: str
    config: ARConfig
    pictures: int


def points(preset: Preset, batches: list[int]) -> list[Point]:
    """Tokens and sizes for each number of pictures; pictures doubled from the smallest to four times the largest.

    Raises ValueError where half the width of a model does not suit its heads.
    """
    batches, grids = sorted(set(batches)), sorted({*GRIDS, preset.tokenizer.grid})
    longer = [resized(preset, image_size=grid * preset.tokenizer.patch_size).ar for grid in grids]
    doubled = [batches[0]]
    while 2 * doubled[-1] <= 4 * batches[-1]:
        doubled.append(2 * doubled[-1])
    found = [Point("tokens", config, pictures) for pictures in batches for config in longer]
    found += [Point("pictures", preset.ar, pictures) for pictures in doubled]
    return found + [Point("parameters", config, pictures) for pictures in batches for config in _family(preset.ar)]


def _family(config: ARConfig) -> list[ARConfig]:
    """The official sizes, where it is one of them; or half of depth and width, itself, and twice of both."""
    official = [preset.ar for name, preset in PRESETS.items() if name.startswith("alitok-")]
    if config in official:
        return official
    width, hidden, depth = config.width, config.hidden, config.depth
    half = replace(config, width=width // 2, hidden=max(1, hidden // 2), depth=max(1, depth // 2))
    return [half, config, replace(config, width=2 * width, hidden=2 * hidden, depth=2 * depth)]


def _sample(ar: ARModel, pictures: int) -> None:
    """All tokens, with guidance, by the fast path where it applies."""
    labels = torch.arange(pictures, device=ar.embedding.weight.device) % ar.config.classes
    for _ in steps.generate(packed(ar), labels, list(range(pictures)), Sampling(2.0)):
        pass


def _measure(config: ARConfig, counts: list[int], device: torch.device, dtype: torch.dtype, repeats: int) -> dict:
    """Number of pictures -> what was measured; without `seconds` where memory did not suffice."""
    with torch.device(device):
        ar = ARModel(config).to(device, dtype).eval()
    size, found = {"parameters": sum(p.numel() for p in ar.parameters())}, {}
    for pictures in counts:
        found[pictures] = size
        try:
            first, *seconds = timed(lambda n=pictures: _sample(ar, n), device, 1 + repeats)
        except torch.OutOfMemoryError:
            continue
        fast = packed(ar) is not ar or steps.applies(ar, 2 * pictures)  # afterwards: recording may have failed
        numbers = {"first": first, "seconds": median(seconds), "spread": max(seconds) - min(seconds)}
        found[pictures] = size | {"path": "fast" if fast else "plain"} | numbers
    return found


def growth(preset: Preset, batches: list[int], device: torch.device, dtype: torch.dtype, repeats: int = 3) -> dict:
    """Seconds of sampling along three lines, with random weights: `rows` beside device, versions, commit and rates.

    A row has line, tokens, pictures, parameters, path (fast, or plain where that does not apply), first (seconds of the
    run that warms up), seconds (the median of all tokens of one batch), spread, ms_per_step, images_per_second, bound
    (seconds) and share_of_bound. The preset itself stands in every line and is timed once for each number of pictures.
    `left_out` names what had too little memory.
    """
    speed, plan = rates(device, dtype), points(preset, batches)
    measured: dict[ARConfig, dict[int, dict]] = {}
    for config in dict.fromkeys(point.config for point in plan):
        counts = sorted({point.pictures for point in plan if point.config == config})
        measured[config] = _measure(config, counts, device, dtype, repeats)
        gc.collect()  # the model is let go, and with it what is recorded of it
        if device.type == "cuda":
            torch.cuda.empty_cache()
    rows, left_out = [], []
    for line, config, pictures in plan:
        row = {"line": line, "tokens": config.tokens, "pictures": pictures} | measured[config][pictures]
        if "seconds" not in row:
            left_out.append(f"{line}: {config.tokens} tokens, {pictures} pictures, {row['parameters']} parameters")
            continue
        least = bound(ar_work(config, 2 * pictures, dtype.itemsize), speed)
        row |= {"ms_per_step": 1000 * row["seconds"] / config.tokens, "images_per_second": pictures / row["seconds"]}
        rows.append(row | {"bound": least, "share_of_bound": least / row["seconds"]})
    return about(device, dtype) | {"repeats": repeats, "rates": speed, "rows": rows, "left_out": left_out}


def curves(rows: list[dict]) -> dict[str, dict[str, list[tuple[float, float, float]]]]:
    """Title of a line -> name of a curve -> x, seconds and bound of each point; the paths are curves of their own."""
    found: dict[str, dict[str, list[tuple[float, float, float]]]] = {title: {} for title in LINES.values()}
    for row in rows:
        kept = "tokens" if row["line"] == "pictures" else "pictures"
        name = f"{row[kept]:,} {kept if row[kept] > 1 else kept[:-1]}" + (", plain path" * (row["path"] == "plain"))
        x = row[row["line"]] / (1e6 if row["line"] == "parameters" else 1)
        found[LINES[row["line"]]].setdefault(name, []).append((x, row["seconds"], row["bound"]))
    return {title: named for title, named in found.items() if named}


def bend(rows: list[dict]) -> str:
    """How seconds grow between neighbours on each curve, and how the bound does."""
    lines = ["Slopes between neighbours, of the bound in brackets (0 flat, 1 proportional, 2 quadratic):"]
    for title, named in curves(rows).items():
        for name, found in named.items():
            parts = []
            for before, after in zip(found, found[1:], strict=False):
                wider, *longer = (log(b / a) for a, b in zip(before, after, strict=True))
                slope, lowest = (grown / wider for grown in longer)
                parts.append(f"{before[0]:,.4g}-{after[0]:,.4g}: {slope:.2f} ({lowest:.2f})")
            lines.append(f"  {title}, {name}: " + ("; ".join(parts) or "a single point"))
    return "\n".join(lines)


def table(results: dict) -> str:
    """The results as text."""
    columns = {
        "line": "s", "tokens": ",d", "pictures": "d", "parameters": ",d", "path": "s", "seconds": ".4f",
        "ms_per_step": ".3f", "images_per_second": ".1f", "bound": ".4f", "share_of_bound": ".1%",
    }  # fmt: skip
    lines = ["".join(f"{name.replace('_', ' '):>18}" for name in columns)]
    lines += ["".join(f"{format(row[name], form):>18}" for name, form in columns.items()) for row in results["rows"]]
    if any(row["path"] == "plain" for row in results["rows"]):
        lines.append(f"plain: the fast path serves a GPU up to {steps.MAX_ROWS:,} rows, two a picture, and x86 CPUs")
    lines += [f"left out, too little memory: {text}" for text in results["left_out"]]
    return "\n".join([*lines, bend(results["rows"])])
