"""Figures of numbers: by token, by row, as curves and as bars."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from torch import Tensor

from ..measure.board import geometry
from ..study.rows import REPORTED
from .colours import INK, OTHERS, PLAIN, colour_of, colours
from .panels import Board, as_array, colorbar, frame, heat, legend, new_figure, panels, styled


@styled
def position_maps(
    named: dict[str, Tensor], label: str = "nats", title: str = "Where are the tokens hard?", form: str = ""
) -> Figure:
    """Numbers at every token, name -> (T,), as heat maps with one scale; NaN is pale. `form` writes the numbers."""
    values = {name: as_array(numbers) for name, numbers in named.items()}
    every = np.concatenate(list(values.values()))
    norm = Normalize(min(0, np.nanmin(every)), np.nanmax(every))
    form = form or ("{:.0f}" if (every[np.isfinite(every)] % 1 == 0).all() else "{:.1f}")
    shapes = [geometry(len(numbers)) for numbers in values.values()]
    boards = [Board(*shape, room=any(prefix for prefix, _ in shapes)) for shape in shapes]
    rows = [max(board.height for board in boards)]
    room = {"top": 0.72 if boards[0].room else 0.45, "across": 0.6}
    figure, axes = panels(title, [board.width for board in boards], rows, **room)
    for ax, (name, numbers), board in zip(axes[0], values.items(), boards, strict=True):
        heat(ax, numbers, norm, form if board.grid < 5 else "")
        frame(ax, board, name)
    colorbar(figure, axes[0, -1], norm, label)
    return figure


@styled
def row_profiles(
    named: dict[str, Tensor | tuple[Tensor, Tensor]],
    label: str = "mean squared error",
    title: str = "Does the first row suffer?",
) -> Figure:
    """A number for each row of patches: name -> (G,), or (mean, spread) of several runs."""
    figure = new_figure(8, 4, title)
    ax = figure.subplots()
    for color, marker, (name, given) in zip(colours([*named]), "osD^vP", named.items(), strict=False):
        mean, spread = given if isinstance(given, tuple) else (given, None)
        rows = np.arange(len(mean))
        yerr = None if spread is None else as_array(spread)
        ax.errorbar(rows, as_array(mean), yerr, color=color, marker=marker, capsize=5, label=name)
    ax.set(xlabel="row of patches (0 is the top)", ylabel=label, xticks=rows)
    ax.set_ylim(bottom=0)
    legend(figure)
    return figure


@styled
def curves(named: dict[str, tuple[Sequence, Sequence]], xlabel: str, ylabel: str, title: str) -> Figure:
    """Lines: name -> (x, y), for example a loss over the steps of training."""
    figure = new_figure(8, 4, title)
    ax = figure.subplots()
    for color, (name, (x, y)) in zip(colours([*named]), named.items(), strict=True):
        ax.plot(as_array(x), as_array(y), color=color, label=name, marker="o" if len(x) < 20 else "")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    legend(figure)
    return figure


@styled
def toy_readers(
    named: dict[str, tuple[dict[int, float], dict[int, float]]],
    entropy: float,
    title: str = "Lossless codes: what does a limited reader need?",
) -> Figure:
    """Readers of a toy world: code -> bits a picture by memory, and excess bits by training pictures.

    named: as `study.toy.reader_curves` computes it; entropy: bits a picture that the perfect reader needs.
    """
    figure = new_figure(9, 4.4, title)
    memory, data = figure.subplots(1, 2)
    memory.axhline(entropy, color=INK, linewidth=1, linestyle=":")
    memory.annotate("entropy of a picture", (7, entropy), (0, -15), textcoords="offset points", ha="right", fontsize=12)
    for color, marker, (name, (by_memory, by_size)) in zip(colours([*named]), "osD^", named.items(), strict=False):
        look = {"color": color, "marker": marker, "label": name}
        memory.plot(list(by_memory), list(by_memory.values()), **look)
        data.plot(list(by_size), list(by_size.values()), **look | {"label": None})
    memory.set(xlabel="tokens that the reader remembers", ylabel="bits per picture", ylim=(entropy - 0.6, None))
    data.set(xlabel="training pictures", ylabel="excess bits per picture", xscale="log", yscale="log")
    legend(figure)
    return figure


@styled
def dependence_courses(courses: Sequence[dict], title: str = "When does a decoder begin to look ahead?") -> Figure:
    """The look-ahead share and the repaint share over the steps of a training, each tokenizer's seeds as a band.

    courses: as `study.course` measures them, all with the same steps; the line is the mean over seeds, the band
    reaches from the least to the largest.
    """
    figure = new_figure(9, 4, title)
    axes = figure.subplots(1, 2, sharex=True)
    names = {"A": "conventional tokenizer", "B": "causal tokenizer"}
    rows = list(dict.fromkeys(one["row"] for one in courses))
    looks = colours([names.get(row, row) for row in rows])
    for ax, (key, label) in zip(
        axes, (("look_ahead", "look-ahead share"), ("repainted", "repaint share")), strict=True
    ):
        for color, row in zip(looks, rows, strict=True):
            seeds = np.array([one[key] for one in courses if one["row"] == row], float)  # (seeds, steps)
            steps = next(one["steps"] for one in courses if one["row"] == row)
            ax.plot(steps, seeds.mean(0), color=color, marker="o", label=f"{names.get(row, row)} (seeds: {len(seeds)})")
            ax.fill_between(steps, seeds.min(0), seeds.max(0), color=color, alpha=0.2, linewidth=0)
        ax.set(xlabel="training steps", ylabel=label)
    legend(figure)
    return figure


@styled
def data_knob(
    rows: Mapping[str, Mapping[int, tuple[Sequence[float], float]]], title: str = "Where can a training set help?"
) -> Figure:
    """The nats of each position of unseen pictures, by the number of training sequences, and the entropy cliff of each.

    rows: title of a tokenizer -> number of sequences -> nats (T,) and cliff in tokens, as `study.conclusions.knob` has.
    """
    figure = new_figure(9, 3.6, title)
    axes = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    for ax, (name, counts) in zip(axes, rows.items(), strict=True):
        for color, (count, (nats, cliff)) in zip(OTHERS, sorted(counts.items()), strict=False):
            ax.plot(range(1, len(nats) + 1), nats, color=color, label=f"{count:,} sequences, and their entropy cliff")
            ax.axvline(cliff, color=color, linestyle="--", linewidth=1)
        ax.set(xlabel="position of the token", xscale="log")
        ax.xaxis.set_major_formatter("{x:.0f}")
        ax.set_title(name)
    axes[0].set_ylabel("nats, unseen")
    legend(figure)
    return figure


@styled
def growth_charts(
    charts: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]],
    title: str = "How does the time of sampling grow?",
) -> Figure:
    """Seconds over what grows, both axes logarithmic: label of a chart -> curve -> points (x, seconds, bound).

    A curve has one colour in all charts; its bound is the dashed line of that colour.
    charts: as `study.growth.curves` has them.
    """
    figure = new_figure(9, 3.6, title)
    axes = figure.subplots(1, len(charts), squeeze=False, sharey=True)[0]
    names = list(dict.fromkeys(name for named in charts.values() for name in named))
    looks = dict(zip(names, colours(names), strict=True))
    for name, color in looks.items():
        axes[0].plot([], [], color=color, marker="o", label=name)  # the legend is that of the first chart
    axes[0].plot([], [], color=INK, linestyle="--", linewidth=1, label="bound by bytes and arithmetic")
    for ax, (label, named) in zip(axes, charts.items(), strict=True):
        for name, points in named.items():
            x, seconds, bounds = zip(*points, strict=True)
            ax.plot(x, seconds, color=looks[name], marker="o")
            ax.plot(x, bounds, color=looks[name], linestyle="--", linewidth=1)
        ax.set(xlabel=label, xscale="log", yscale="log")
        ticks = sorted({point[0] for points in named.values() for point in points})
        ticks = ticks[:: -2 if len(ticks) > 4 else -1]  # there is no room for all; the largest is named
        ax.set_xticks(ticks, [f"{tick:,.0f}" if tick > 100 else f"{tick:.3g}" for tick in ticks])
        ax.minorticks_off()
    axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel("seconds")
    legend(figure)
    return figure


@styled
def plateaus(runs: Sequence[dict], title: str = "How long does a tokenizer paint only the mean picture?") -> Figure:
    """The explained variance over the steps of a training, a chart for each contrast, each kind's seeds as a band.

    runs: as `study.plateau` measures them; the line is the mean over seeds, the band reaches from the least to the
    largest.
    """
    contrasts = list(dict.fromkeys(one["contrast"] for one in runs))
    figure = new_figure(9, 3.6, title)
    axes = figure.subplots(1, len(contrasts), sharey=True, squeeze=False)[0]
    kinds = (False, "random weights"), (True, "mean and contrast of the pictures, too")
    for ax, contrast in zip(axes, contrasts, strict=True):
        for color, (standardised, name) in zip(OTHERS, kinds, strict=False):
            chosen = [one for one in runs if one["contrast"] == contrast and one["standardised"] is standardised]
            seeds = np.array([one["explained"] for one in chosen], float)  # (seeds, steps)
            if len(seeds):
                steps, label = chosen[0]["steps"], f"begins with {name} (seeds: {len(seeds)})"
                ax.plot(steps, seeds.mean(0), color=color, marker="o", label=label)
                ax.fill_between(steps, seeds.min(0), seeds.max(0), color=color, alpha=0.2, linewidth=0)
        ax.axhline(0, color=INK, linewidth=1, linestyle=":")  # the mean picture
        ax.set(xlabel="training steps", title=f"contrast x {contrast:g}")
    axes[0].set_ylabel("explained variance")
    legend(figure)
    return figure


@styled
def ablation(
    rows: dict[str, dict],
    number: str,
    label: str,
    reported: str = "",
    title: str = "What does each part of AliTok buy?",
    form: str = "",
) -> Figure:
    """One number of an ablation's rows with its spread over seeds, beside what the paper's table reports.

    rows: as `claims.summarise` makes them, name -> {"title", "mean": {number: ...}, "spread": {number: ...}}; a row
    of one seed has no spread. reported: a column of `REPORTED`; a row that is not in there leaves its place empty.
    form: writes a number, as in `bars`.
    Raises ValueError when no row has that number.
    """
    if not any(number in row["mean"] for row in rows.values()):
        raise ValueError(
            f"no row has {number!r}; they have {', '.join(sorted({k for r in rows.values() for k in r['mean']}))}"
        )
    names = [f"{name}: {row['title']}" for name, row in rows.items()]
    means = np.array([row["mean"].get(number, np.nan) for row in rows.values()], float)
    spreads = np.array([row["spread"].get(number, 0) for row in rows.values()], float)
    figure = new_figure(9, 1.1 + 0.55 * len(rows), title)
    axes = figure.subplots(1, 2 if reported else 1, squeeze=False, sharey=True)[0]
    _bars(axes[0], names, 26, means, spreads, label, form)
    if reported:
        values = np.array([REPORTED.get(name, {}).get(reported, np.nan) for name in rows], float)
        unit = f"{reported}{' (%)' if reported == 'top-1' else ''}\nreported for ImageNet"
        _bars(axes[1], names, 26, values, np.zeros(len(rows)), unit)
    return figure


@styled
def bars(named: dict[str, float | tuple[float, float]], label: str, title: str, form: str = "") -> Figure:
    """Numbers to compare: name -> value, or (mean, spread). `form` writes a number; without it, three digits do."""
    values = [value if isinstance(value, tuple) else (value, 0) for value in named.values()]
    means, spreads = np.array(values, float).T
    figure = new_figure(9, 1 + 0.5 * len(named), title)
    _bars(figure.subplots(), [*named], 30, means, spreads, label, form)
    return figure


def _bars(
    ax: Axes, names: list[str], width: int, means: np.ndarray, spreads: np.ndarray, label: str, form: str = ""
) -> None:
    """Horizontal bars from 0 with whiskers and numbers at their ends, the first on top; NaN leaves its place empty.

    A bar has the colour of the kind of tokenizer that its name says; names are wrapped at `width` letters.
    """
    places = np.arange(len(names))
    ax.barh(places, means, 0.62, color=[colour_of(name) or PLAIN for name in names])
    digits = max(0, 2 - math.floor(math.log10(max(np.nanmax(np.abs(means)), 1e-9))))
    form = form or f"{{:,.{digits}f}}"
    for place, mean, spread in zip(places, means, spreads, strict=True):
        if np.isnan(mean):
            continue
        text = form.format(mean)
        if spread > 0:
            ax.errorbar(mean, place, xerr=spread, color=INK, capsize=4, linewidth=1.8)
            text += f" ± {form.format(spread).lstrip('+')}"
        side = -1 if mean < 0 else 1
        look: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 12}
        look["ha"] = "right" if mean < 0 else "left"
        ax.annotate(text, (mean + side * spread, place), (6 * side, 0), **look)
    low, high = min(0, np.nanmin(means - spreads)), max(0, np.nanmax(means + spreads))
    left, right = bool(np.nanmin(means) < 0), bool(np.nanmax(means) > 0)  # where there are numbers
    share = 0.19 * len(ax.figure.axes)  # of the panel's width, for the numbers at one side
    room = share / (1 - share * (left + right)) * (high - low)
    ax.set(yticks=places, xlabel=label, xlim=(low - room * left, high + room * right))
    ax.set_yticks(places, ["\n".join(textwrap.wrap(name, width)) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(axis="y", length=0)


@styled
def stacked(named: dict[str, dict[str, float]], label: str, title: str, form: str = "{:.0f}") -> Figure:
    """What sums are made of: name -> part -> number, a bar for each name, its parts side by side in one order.

    `form` writes a part's number into it where there is room.
    """
    parts = list(dict.fromkeys(part for row in named.values() for part in row))
    figure = new_figure(9, 1.6 + 0.55 * len(named), title)
    ax, places = figure.subplots(), np.arange(len(named))
    longest = max(sum(row.values()) for row in named.values())
    left = np.zeros(len(named))
    for color, part in zip(colours(parts), parts, strict=True):
        values = np.array([row.get(part, 0) for row in named.values()], float)
        ax.barh(places, values, 0.66, left, color=color, edgecolor="white", linewidth=1.5, label=part)
        for place, value, start in zip(places, values, left, strict=True):
            if value > 0.02 * longest * len(form.format(value)):
                look = {
                    "color": "white" if sum(to_rgb(color)) < 1.2 else INK,
                    "ha": "center",
                    "va": "center",
                    "fontsize": 12,
                }
                ax.text(start + value / 2, place, form.format(value), **look)
        left += values
    ax.set(xlabel=label, xlim=(0, 1.02 * longest), ylim=(len(named) - 0.5, -0.5))
    ax.set_yticks(places, ["\n".join(textwrap.wrap(name, 26)) for name in named])
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.tick_params(axis="y", length=0)
    legend(figure)
    return figure
