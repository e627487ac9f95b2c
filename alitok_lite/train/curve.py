"""The curves of a training as a picture, drawn from the rows of its log."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import write_atomically
from .log import series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST = 5  # rows; fewer show nothing
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")  # also for the colour-blind
PANELS = {  # label of the axis -> columns and their names; what is no diagnosis is a term of the loss
    "PSNR (dB), unseen pictures": {"psnr": "PSNR"},
    "nats per token": {"test nats": "unseen pictures", "train nats": "training pictures"},
    "codebook usage": {"codebook usage": "codebook usage"},
    "top-1 accuracy, unseen pictures": {"top1": "top-1"},
}
SHARES = ("codebook usage", "top-1 accuracy, unseen pictures")
DIAGNOSES = {column for named in PANELS.values() for column in named} | {"kept step"}


def curve_path(folder: Path, part: str) -> Path:
    """Where the curves of a part are."""
    return folder / f"curve-{part}.png"


def draw_curve(rows: Sequence[Mapping[str, str]], part: str, title: str, folder: Path) -> None:
    """Write RUN/curve-PART.png: the loss and its terms beside what was measured at the saves.

    Nothing is drawn from fewer than LEAST rows.
    """
    found = series(rows, part)
    if sum(row["part"] == part for row in rows) < LEAST:
        return
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import PercentFormatter

    terms = {key: found[key] for key in sorted(found.keys() - DIAGNOSES)}
    shown = [label for label, named in PANELS.items() if named.keys() & found.keys()]
    figure = Figure(figsize=(4.4 * (1 + len(shown)), 3.4), dpi=110)
    loss, *others = figure.subplots(1, 1 + len(shown), squeeze=False)[0]
    _lines(loss, {key: (key, terms[key]) for key in terms}, "loss and its terms" if len(terms) > 1 else "loss")
    if len(terms) > 1 and all(value > 0 for _, values in terms.values() for value in values):
        loss.set_yscale("log")
    last = max(steps[-1] for steps, _ in found.values())
    for ax, label in zip(others, shown, strict=True):
        named = PANELS[label]
        _lines(ax, {key: (named[key], found[key]) for key in named if key in found}, label)
        ax.set_xlim(-0.03 * last, 1.03 * last)
        if label in SHARES:
            ax.set_ylim(bottom=0)
            ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    if "kept step" in found and "nats per token" in shown:
        ax, step = others[shown.index("nats per token")], found["kept step"][1][-1]
        ax.axvline(step, color="#999999", linestyle=":", label=f"kept: step {step:,.0f}")
        ax.legend(frameon=False, fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.subplots_adjust(left=0.05 if others else 0.15, right=0.99, bottom=0.15, top=0.87, wspace=0.24)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(curve_path(folder, part), buffer.getvalue())


def _lines(ax: Axes, named: Mapping[str, tuple[str, tuple[Sequence[int], Sequence[float]]]], label: str) -> None:
    """Curves of one panel, "loss" in black above its terms."""
    colours = iter(COLOURS * 3)
    for key, (name, (steps, values)) in named.items():
        total = key == "loss"
        style = {"color": "#222222", "zorder": 3} if total else {"color": next(colours)}
        ax.plot(steps, values, label=name, linewidth=1.6, marker="o" if len(steps) < 12 else "", markersize=3, **style)
    ax.set_xlabel("step")
    ax.set_title(label, fontsize=9, loc="left")
    ax.grid(color="#e6e6e6", linewidth=0.7)
    ax.spines[["top", "right"]].set_visible(False)
    if len(named) > 1:
        ax.legend(frameon=False, fontsize=8)
