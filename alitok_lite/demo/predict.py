"""The tab Predictability: how well tokens can be predicted. What was measured first, one scene second."""

import math
from html import escape

import torch

from ..measure import probe
from ..study import toy
from . import boards
from .boards import Look, tag
from .examples import Subject, View, subject
from .look import text_size
from .models import Card, models, running
from .words import code, term

# results/matched/README.md, rows A and B with 4,096 codes and 16 tokens; top-1 from results/README.md
EQUAL_LENGTH = (
    ("bits", "for a picture", "113 ± 6", "103 ± 8", "see below"),
    ("top-1", "shorter trainings", "5.0 ± 0.8 %", "7.5 ± 1.0 %", "causal"),
    ("sampling loss", "largest AR model", "0.026 ± 0.001", "0.017 ± 0.003", "causal"),
    ("PSNR", "of reconstructions", "21.65 ± 0.09 dB", "21.24 ± 0.08 dB", "conventional"),
)
# results/matched/README.md: the conventional tokenizer at the bits of the causal one, less the causal one
EQUAL_BITS = (
    ("sampling loss", "largest AR model", "0.007", "0.003 to 0.011", "causal"),
    ("sampling loss", "next smaller AR model", "0.011", "0.006 to 0.016", "causal"),
    ("sampling loss", "largest AR model, short training", "-0.072", "-0.115 to -0.029", "conventional"),
    ("PSNR", "of reconstructions, dB", "0.31", "0.22 to 0.41", "conventional"),
    ("gFD", "of sampled pictures", "-0.39", "-0.57 to -0.20", "conventional"),
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


def _named(rows: tuple[tuple[str, ...], ...]) -> list[tuple[str, ...]]:
    """The rows with a term, which explains itself, and what it is of as the first cell."""
    return [(f"{term(name)}, {escape(of_what)}", *values) for name, of_what, *values in rows]


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]], title: str) -> str:
    """The first cell of a row is HTML, the others are text."""
    top = tag("tr", *(tag("th", escape(head), scope="col") for head in heads))
    lines = []
    for name, *values in rows:
        lines.append(tag("tr", tag("th", name, scope="row"), *(tag("td", escape(value)) for value in values)))
    table = tag("table", tag("caption", escape(title)), tag("thead", top), tag("tbody", *lines))
    return tag("div", table, class_="al-table", tabindex=0, role="region", aria_label=title)


def measured() -> str:
    """The means with their spread, at equal length and at equal bits: HTML that needs no model."""
    length = _table(
        ("", "Conventional", "Causal", "Better"),
        _named(EQUAL_LENGTH),
        "Equal length and codebook: means and deviations of five trainings",
    )
    bits = _table(
        ("", "Difference", "95 % interval", "Better"),
        _named(EQUAL_BITS),
        "Equal bits: conventional minus causal, five trainings each",
    )
    words = (
        "Causal tokens are easier to predict, and they also say less, which makes any tokens easier to predict. So "
        "the first table cannot decide; the second one is fairer. There the gain in sampling is small, and at equal "
        "PSNR nothing is won. After a short training the interval is -0.195 to 0.051 if the error of the bits is "
        "counted, too, so that is open, as is the question on photographs."
    )
    return boards.page(tag("div", length, bits, class_="al-tables"), boards.note(words), counted())


def counted() -> str:
    """The toy world of notebook 10 in numbers, which are exact: HTML."""
    rows = []
    for name, bucket in toy.BUCKETS.items():
        found = toy.count(bucket)
        upper, lower = (f"{100 * share:.0f} %" for share in found.right)
        bits = f"{' + '.join(f'{value:.0f}' for value in found.bits)} = {sum(found.bits):.0f}"
        first = f"{100 * sum(found.top1) / len(found.top1):.1f} %"
        rows.append((f"{name}: {escape(bucket.title)}", bits, first, upper, lower))
    heads = ("", "Bits", "First choices right", "Upper patches right", "Lower patches right")
    table = _table(heads, rows, "A world of two patches, counted: sixteen pictures, tokens of four codes")
    words = (
        "These numbers are exact, for the best decoder and a perfect AR model. B needs one bit less than A because its "
        "tokens say one bit less: half of the upper patches are wrong. The prefix token of C gives that bit back. C "
        "needs as many bits as A; its first choices are right more often only because the same four bits are cut into "
        "three pieces. Notebook 10 counts them."
    )
    return table + boards.note(words)


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
    bits = {name: float(nats.sum() / math.log(2)) for name, nats in losses.items()}
    parts = []
    for length in sorted({len(nats) for nats in losses.values()}):
        figures = []
        for name, nats in losses.items():
            if len(nats) != length:
                continue
            config = cards[name].config
            alt = f"Loss of each token in nats for the {kind_of(cards[name])} tokenizer {name}"
            grid = boards.board(boards.heat(nats, top), config.grid, alt, Look(size=text_size(config)))
            words = f"{name}: {bits[name]:.0f} bits, {hits[name]} of {length} first choices right"
            figures.append(boards.figure(grid, kind_of(cards[name]).capitalize(), words))
        parts += [boards.heading(f"This {scene} in {length} tokens"), boards.row(figures, 180, 330)]
    parts.append(boards.scale(top, "nats"))
    told = ", ".join(f"**{name}** {value:.0f} bits for {len(losses[name])} tokens" for name, value in bits.items())
    status = f"One scene, {scene}: {told}. Other scenes give other orders; sequences of other lengths do not compare."
    numbers = {name: {"nats": nats.round(3).tolist(), "bits": round(bits[name], 2)} for name, nats in losses.items()}
    return View(boards.page(*parts), status, numbers, _predict_code(asked, cards))


def _predict_code(asked: Subject, cards: dict[str, Card]) -> str:
    return code(
        asked.code[1],
        f"for name in {list(cards)}:",
        "    model = AliTok.from_pretrained(name)",
        f"    result = probe.predictability(model, pixels, torch.tensor([{asked.label}]))",
        "    print(name, result.nats.sum() / math.log(2), 'bits')",
    )
