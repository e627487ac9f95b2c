"""The guided tour: its stops, what each sets, and what it says."""

from collections.abc import Sequence
from typing import NamedTuple

from .models import models


class Step(NamedTuple):
    """A stop of the tour: where it is, what it says, what it sets (names of its tab's controls)."""

    tab: str
    text: str
    settings: dict[str, object]


def tour() -> list[Step]:
    """The stops that the models on offer allow."""
    first = Step(
        "tell",
        "Each picture is told token by token. On the left, later tokens repaint what was told before; on the right, "
        "what is told stays. An orange frame marks each patch that was repainted.",
        {},
    )
    steps = [first, *_drawing_steps(), *_looking_steps(), *_poking_steps()]
    if any(card.knows_scenes and card.ar for card in models().values()):
        steps.append(
            Step(
                "predict",
                "Last stop. A language model for pictures can only be as good as its tokens are predictable. Here "
                "is what was measured, at equal length and at equal bits, and below it the losses of one scene.",
                {"scene": "lighthouse"},
            )
        )
    return steps


def _drawing_steps() -> list[Step]:
    drawing = [(name, card) for name, card in models().items() if card.ar and card.classes]
    if not drawing:
        return []
    name, card = next(((n, c) for n, c in drawing if c.knows_scenes), drawing[0])
    kind = "face" if card.knows_scenes else card.classes[0]
    common = {"model": name, "class": kind, "seed": "3", "count": 1}
    steps = [
        Step(
            "draw",
            "The model draws a picture as one writes a sentence: one token after another, each from the earlier ones. "
            "Follow both grids; pause, and pull the slider back.",
            common | {"temperature": 1},
        ),
        Step(
            "draw",
            "The same at temperature 0: the model always takes the likeliest token. Nothing is left to chance, so "
            "every seed gives this one picture, and the entropy is 0.",
            common | {"temperature": 0},
        ),
    ]
    if card.knows_scenes:
        text = (
            "Each token was one choice among many. Here are the likeliest codes for a token in the middle. Press one: "
            "what came before stays, and the model samples the rest anew."
        )
        steps.append(Step("edit", text, {"model": name, "scene": "lighthouse", "token": card.config.tokens // 2}))
    return steps


def _looking_steps() -> list[Step]:
    names = list(models())
    if not names:
        return []
    name = next((n for n, card in models().items() if card.knows_scenes), names[0])
    card = models()[name]
    grid, prefix = card.config.grid, card.config.prefix_tokens
    middle = prefix + (grid // 2) * grid + grid // 2
    common = {"model": name, "scene": "lighthouse", "token": middle, "layer": 0, "head": -1}
    first = "causal" if 1 in card.stages else "bidirectional"
    steps = [
        Step(
            "reconstruct",
            "Before anything can be predicted, a picture must become tokens. Pull the handle in the middle: how "
            "much of the scene do these few numbers keep?",
            {"model": name, "scene": "sailboat"},
        ),
        Step(
            "look",
            "This is one token in the middle. Which tokens does it attend to, and which ones do its pixels depend on? "
            "Click other patches, and see the red frame move.",
            common | {"part": first},
        ),
    ]
    if 2 in card.stages and first == "causal":
        text = (
            "The same token in the bidirectional decoder: now it may attend to later tokens too, and its pixels "
            "depend on them. The ids are the same; only the decoder differs."
        )
        steps.append(Step("look", text, common | {"part": "bidirectional"}))
    return steps


def _poking_steps() -> list[Step]:
    names = [name for name, card in models().items() if card.knows_scenes and card.config.prefix_tokens]
    if not names:
        return []
    card = models()[names[0]]
    middle = card.config.prefix_tokens + card.config.grid * (card.config.grid // 2)
    common = {"model": names[0], "scene": "balloon"}
    return [
        Step(
            "poke",
            "One token in the middle of this scene becomes another one. Compare the two rows: before its own place, "
            "the causal decoder's picture stays as it was, to the last pixel.",
            common | {"experiment": "change", "token": middle},
        ),
        Step(
            "poke",
            "Half of the tokens are gone. Move the slider: the tokens run from top to bottom, and those that "
            "are missing are replaced by the code nearest to the mean of all codes.",
            common | {"experiment": "keep", "keep": middle},
        ),
    ]


def tour_text(steps: Sequence[Step], index: int) -> str:
    """What the tour says at a stop, in Markdown."""
    return f"**Stop {index + 1} of {len(steps)}.** {steps[index].text}"
