"""The rows of the ablation, where measured ones are kept, and what the paper reports of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"  # studies that come with the package: what was measured, no weights


@dataclass(frozen=True)
class Row:
    """What a row changes in the preset's tokenizer."""

    title: str
    changes: dict[str, bool] = field(default_factory=dict)  # of the TokenizerConfig
    aux: bool = True  # with the auxiliary loss, where there are prefix tokens
    over: str | None = None  # the row whose tokens get a second decoder
    next_code: float = 0.0  # weight of CRT's term
    scan: str = "raster"  # the order in which patches are read; its RUNs know pictures in that order only


BIDIRECTIONAL = {"aligned": False, "prefix": False}
CAUSAL = {"prefix": False}
ROWS = {
    "A": Row("conventional: bidirectional decoder", BIDIRECTIONAL),
    "B": Row("causal decoder", CAUSAL),
    "C": Row("and prefix tokens", aux=False),
    "D": Row("prefix tokens and auxiliary loss"),
    "F": Row("and second stage", over="D"),
    "causal-encoder": Row("A with a causal encoder", BIDIRECTIONAL | {"encoder_causal": True}),
    "CRT": Row("A with CRT's causal regulariser", BIDIRECTIONAL, next_code=0.01),
    "A-column": Row("A read as column", BIDIRECTIONAL, scan="column"),
    "B-column": Row("B read as column", CAUSAL, scan="column"),
    "A-serpentine": Row("A read as serpentine", BIDIRECTIONAL, scan="serpentine"),
    "B-serpentine": Row("B read as serpentine", CAUSAL, scan="serpentine"),
    "A-hilbert": Row("A read as hilbert", BIDIRECTIONAL, scan="hilbert"),
    "B-hilbert": Row("B read as hilbert", CAUSAL, scan="hilbert"),
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
