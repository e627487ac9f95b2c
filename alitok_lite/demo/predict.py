"""The tab Predictability: how well the tokens of a scene can be predicted, for each tokenizer on offer."""

import json
import logging
import math

import torch

from ..measure import probe
from . import boards
from .boards import Look
from .examples import Subject, View, subject
from .look import text_size
from .models import Card, models, running
from .words import code

_REPORTED_NOTE = (
    "Each row adds one thing to the row above it. This is ImageNet and a much larger model: compare the rows with each "
    "other, not with the scenes above."
)


def comparable() -> dict[str, Card]:
    """The models that predict scenes: the conventional tokenizer first, those with a prefix last."""
    cards = {name: card for name, card in models().items() if card.knows_scenes and card.ar is not None}
    return dict(sorted(cards.items(), key=lambda item: (item[1].config.aligned, item[1].config.prefix)))


def kind_of(card: Card) -> str:
    """What sort of tokenizer a model has."""
    if not card.config.aligned:
        return "conventional"
    return "causal, with prefix" if card.config.prefix else "causal"


def predict(scene: str) -> View:
    """The loss of each token of a scene under the AR models of all comparable tokenizers."""
    cards = comparable()
    if not cards:
        raise ValueError("no model here predicts scenes; this tab needs one whose classes are the painted scenes")
    losses, hits = {}, {}
    for name in cards:
        asked = subject(name, scene, None)
        with running():
            result = probe.predictability(asked.model, asked.pixels, torch.tensor([asked.label]))
        losses[name], hits[name] = result.nats[0].numpy(), int(result.top1.sum())
    top = max(float(nats.max()) for nats in losses.values())
    figures = []
    for name, nats in losses.items():
        config = cards[name].config
        alt = f"Nats of each token for {name}, {kind_of(cards[name])}"
        grid = boards.board(boards.heat(nats, top), config.grid, alt, Look(size=text_size(config)))
        words = f"{kind_of(cards[name])}; {hits[name]} of {config.tokens} tokens predicted right (top-1)"
        figures.append(boards.figure(grid, name, words))
    bits = {name: float(nats.sum() / math.log(2)) for name, nats in losses.items()}
    parts = [boards.row(figures, 140, 330), boards.scale(top, "nats")]
    parts += [boards.heading("This scene in all"), boards.bars(_with_kind(cards, bits), "bits"), *_measured(cards)]
    told = ", ".join(f"**{name}** {value:.0f} bits for {len(losses[name])} tokens" for name, value in bits.items())
    numbers = {name: {"nats": nats.round(3).tolist(), "bits": round(bits[name], 2)} for name, nats in losses.items()}
    return View(
        boards.page(*parts, *ablation_chart()), f"Loss of the {scene}: {told}.", numbers, _predict_code(asked, cards)
    )


def _with_kind(cards: dict[str, Card], values: dict[str, float]) -> dict[str, float]:
    return {f"{name} ({kind_of(cards[name])})": value for name, value in values.items()}


def _measured(cards: dict[str, Card]) -> list[str]:
    """Bits per image on many unseen scenes, as far as the checkpoints say."""
    found = {name: card.metrics["bits_per_image"] for name, card in cards.items() if "bits_per_image" in card.metrics}
    if not found:
        return []
    chart = boards.bars(_with_kind(cards, found), "bits", colour="#009E73")
    return [boards.heading("Mean over the unseen scenes that each checkpoint was measured on"), chart]


def _predict_code(asked: Subject, cards: dict[str, Card]) -> str:
    return code(
        asked.code[1],
        f"for name in {list(cards)}:",
        "    model = AliTok.from_pretrained(name)",
        f"    result = probe.predictability(model, pixels, torch.tensor([{asked.label}]))",
        "    print(name, result.nats.sum() / math.log(2), 'bits')",
    )


def ablation_chart() -> list[str]:
    """Top-1 accuracy of the AR model in each row of the ablation: as the study in this package measured it, and as the
    paper's table reports it."""
    from ..study.rows import REPORTED, ROWS  # slow to import

    titles, parts = {name: f"{name}: {row.title}" for name, row in ROWS.items()}, []
    rows = _study()
    if rows:
        parts.append(boards.heading("Ablation, measured here: tokens predicted right (in brackets: number of runs)"))
        found = {f"{titles[name]} ({len(row['seeds'])})": 100 * row["mean"]["top1"] for name, row in rows.items()}
        parts.append(boards.bars(found, "%", "{:.1f}"))
    reported = {titles[name]: row["top-1"] for name, row in REPORTED.items() if name in titles}
    parts.append(boards.heading("Ablation, as reported for ImageNet with AliTok-B: tokens predicted right"))
    parts.append(boards.bars(reported, "%", "{:.1f}", "#B26A00"))
    return [*parts, boards.note(_REPORTED_NOTE)]


def _study() -> dict[str, dict]:
    """The rows of the study on scenes; none, and a line in the log, if its file is damaged."""
    from ..study.rows import RESULTS, ROWS

    path = RESULTS / "scenes" / "results.json"
    try:
        rows = json.loads(path.read_text())["rows"]
        return {
            name: row for name, row in rows.items() if name in ROWS and row["seeds"] and row["mean"]["top1"] is not None
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logging.getLogger(__name__).warning("cannot read %s: %s", path, error)
        return {}
