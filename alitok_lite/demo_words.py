"""The app's words: what to look at in each tab, the code behind it, and the guided tour."""

from collections.abc import Sequence
from typing import NamedTuple

from . import scenes
from .demo import models


class Tab(NamedTuple):
    """A tab of the page."""

    title: str
    text: str  # two sentences
    notebook: str  # its path in the repository


TABS = {
    "draw": Tab(
        "Draw",
        "Watch the picture appear patch by patch, from the top left to the bottom right: each patch is one token, "
        "drawn with all earlier ones in view. Bright cells of the second grid are the places where the model "
        "hesitated, because many continuations were likely.",
        "notebooks/05_a_language_model_that_draws.ipynb",
    ),
    "reconstruct": Tab(
        "Reconstruct",
        "Pull the handle and compare a picture with what is left of it after it was squeezed into a handful of whole "
        "numbers. The causal decoder may use earlier tokens only, the bidirectional one reads the same tokens and sees "
        "all of them.",
        "notebooks/01_an_image_is_a_short_sentence.ipynb",
    ),
    "look": Tab(
        "Look inside",
        "Click a patch: the second grid shows what its token looks at, the third one which tokens its pixels really "
        "depend on. The two are not the same: attention says where information may come from, dependency what moves "
        "when a token is changed.",
        "notebooks/02_who_may_look_at_whom.ipynb",
    ),
    "poke": Tab(
        "Poke",
        "Change a token, drop the last ones, or swap the first ones, and see which patches move. Under the causal "
        "decoder nothing before the changed token ever moves; under the bidirectional decoder everything may.",
        "notebooks/03_the_first_row_has_nobody_to_lean_on.ipynb",
    ),
    "predict": Tab(
        "Predictability",
        "Each cell says how many nats its token cost the model that predicts it from the earlier ones: bright cells "
        "were surprises. Compare tokenizers on the same scene: the fewer bits in all, the easier its tokens are to "
        "predict.",
        "notebooks/06_are_the_tokens_predictable.ipynb",
    ),
}


def about(tab: str) -> str:
    """The two sentences of a tab and the name of its notebook, in Markdown."""
    return f"{TABS[tab].text} Its notebook: `{TABS[tab].notebook}`"


# ---------------------------------------------------------------- code


def code(*lines: str) -> str:
    """Lines of Python as Markdown, behind the imports that they need."""
    text = "\n".join(lines)
    heads = [f"import {name}\n" for name in ("math", "torch") if f"{name}." in text]
    own = [name for name in ("images", "metrics", "probe", "scenes") if f"{name}." in text]
    heads.append(f"from alitok_lite import {', '.join(['AliTok', *own])}\n")
    return "\n".join(("```python", *heads, text, "```"))


def load_code(model: str) -> str:
    """How a model is loaded."""
    return f"model = AliTok.from_pretrained({model!r})"


def picture_code(scene: str | None, size: int, name: str = "pixels") -> str:
    """How the picture came about; None is an upload."""
    if scene is None:
        return f'{name} = images.load_picture("picture.png", {size})  # your picture'
    label = scenes.CLASSES.index(scene)
    return f"{name} = scenes.render([{label}], scenes.TEST_SEED + {label}, {size})  # {scene}"


def draw_code(model: str, label: int, name: str, seed: int, settings: dict[str, float], count: int) -> str:
    """What drew the pictures."""
    given = ", ".join(f"{key}={value:g}" for key, value in settings.items())
    return code(
        load_code(model),
        f"for step in model.stream([{label}] * {count}, seed={seed}, {given}):  # {label} is {name!r}",
        "    print(step.index, step.ids[0, -1].item(), step.entropy[0].item())",
        "pictures = model.to_pil(model.tokenizer.decode(step.ids))",
    )


# ---------------------------------------------------------------- the guided tour


class Step(NamedTuple):
    """A stop of the tour: where it is, what it says, what it sets (names of the page's controls)."""

    tab: str
    text: str
    settings: dict[str, object]


def tour() -> list[Step]:
    """The stops that the models on offer allow."""
    steps = [*_drawing_steps(), *_looking_steps(), *_poking_steps()]
    if any(card.knows_scenes and card.ar for card in models().values()):
        steps.append(
            Step(
                "predict",
                "Last stop. A language model for pictures can only be as good as its tokens are predictable. Here is "
                "what each token of one scene cost: the first ones are dear, and then the picture explains itself.",
                {"predict_scene": "lighthouse"},
            )
        )
    return steps


def _drawing_steps() -> list[Step]:
    drawing = [(name, card) for name, card in models().items() if card.ar and card.classes]
    if not drawing:
        return []
    name, card = next(((n, c) for n, c in drawing if c.knows_scenes), drawing[0])
    kind = "face" if card.knows_scenes else card.classes[0]
    common = {"draw_model": name, "kind": kind, "seed": "3", "count": 1, "slow": True}
    return [
        Step(
            "draw",
            "A picture is drawn like a sentence is written: one token after another, never looking ahead. Class and "
            "seed are set; press **Draw** and follow both grids.",
            common | {"temperature": 1},
        ),
        Step(
            "draw",
            "Now at temperature 0 the model always takes its favourite token. Press **Draw** again: no chance is left, "
            "so every seed gives this one picture, and the entropy is shown as 0.",
            common | {"temperature": 0},
        ),
    ]


def _looking_steps() -> list[Step]:
    names = list(models())
    if not names:
        return []
    name = next((n for n, card in models().items() if card.knows_scenes), names[0])
    card = models()[name]
    grid, prefix = card.config.grid, card.config.prefix_tokens
    middle = prefix + (grid // 2) * grid + grid // 2
    common = {"look_model": name, "look_scene": "lighthouse", "token": middle, "layer": 0, "head": -1}
    first = "causal" if 1 in card.stages else "bidirectional"
    steps = [
        Step(
            "reconstruct",
            "Before anything can be predicted, a picture must become tokens. Pull the handle in the middle: how much "
            "of the scene survives in these few numbers?",
            {"reconstruct_model": name, "reconstruct_scene": "sailboat"},
        ),
        Step(
            "look",
            "This is one token in the middle. Which tokens does it look at, and which ones do its pixels depend on? "
            "Click other patches, and see the red frame move.",
            common | {"part": first},
        ),
    ]
    if 2 in card.stages and first == "causal":
        text = (
            "The same token in the bidirectional decoder: now it may look at later tokens too, and its pixels listen "
            "to them. The ids have not changed, only who may read them."
        )
        steps.append(Step("look", text, common | {"part": "bidirectional"}))
    return steps


def _poking_steps() -> list[Step]:
    names = [name for name, card in models().items() if card.knows_scenes and card.config.prefix_tokens]
    if not names:
        return []
    card = models()[names[0]]
    middle = card.config.prefix_tokens + card.config.grid * (card.config.grid // 2)
    common = {"poke_model": names[0], "poke_scene": "balloon"}
    return [
        Step(
            "poke",
            "One token in the middle of this scene becomes another one. Compare the two rows: before its own place, "
            "the causal decoder's picture stays as it was, to the last pixel.",
            common | {"experiment": "change", "poke_token": middle},
        ),
        Step(
            "poke",
            "Half of the tokens are gone. Move the slider: the picture is told from top to bottom, and what is not "
            "told yet is filled with the most ordinary token there is.",
            common | {"experiment": "keep", "keep": middle},
        ),
    ]


def tour_text(steps: Sequence[Step], index: int) -> str:
    """What the tour says at a stop, in Markdown."""
    return f"**Stop {index + 1} of {len(steps)}.** {steps[index].text}"
