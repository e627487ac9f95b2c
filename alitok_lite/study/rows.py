"""The rows of the ablation, where measured ones are kept, and what the paper reports of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..data.scan import SCANS

RESULTS = Path(__file__).parents[1] / "results"  # studies that come with the package: what was measured, no weights


@dataclass(frozen=True)
class Row:
    """What a row changes in the preset's tokenizer."""

    title: str
    changes: dict[str, bool] = field(default_factory=dict)  # of the TokenizerConfig
    aux: bool = True  # with the auxiliary loss, where there are prefix tokens
    over: str | None = None  # the row whose tokens get a second decoder
    scan: str = "raster"  # the order in which patches are read; its RUNs know pictures in that order only


_A, _B = {"aligned": False, "prefix": False}, {"prefix": False}
ROWS: dict[str, Row] = {
    "A": Row("conventional: bidirectional decoder", _A),
    "B": Row("causal decoder", _B),
    "C": Row("and prefix tokens", aux=False),
    "D": Row("prefix tokens and auxiliary loss"),
    "F": Row("and second stage", over="D"),
    "causal-encoder": Row("A with a causal encoder", _A | {"encoder_causal": True}),
} | {
    f"{name}-{scan}": Row(f"{name} read as {scan}", sizes, scan=scan)
    for scan in SCANS[1:]
    for name, sizes in (("A", _A), ("B", _B))
}

# Reported for ImageNet at 256 px with AliTok-B (paper.md, ablation): AR top-1 accuracy in %, gFID, rFID.
REPORTED = {
    "A": {"top-1": 5.4, "gFID": 2.96, "rFID": 0.98, "gFID - rFID": 1.98},
    "B": {"top-1": 10.7, "gFID": 1.88, "rFID": 1.07, "gFID - rFID": 0.81},
    "C": {"top-1": 9.7, "gFID": 1.86, "rFID": 1.01, "gFID - rFID": 0.85},
    "D": {"top-1": 10.2, "gFID": 1.82, "rFID": 1.02, "gFID - rFID": 0.80},
    "E": {"top-1": 10.5, "gFID": 1.47, "rFID": 0.91, "gFID - rFID": 0.56},
    "F": {"top-1": 10.5, "gFID": 1.44, "rFID": 0.86, "gFID - rFID": 0.58},
}
