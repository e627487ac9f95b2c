"""The texts of the app: what each tab shows, and the code behind it."""

from typing import NamedTuple

from .. import scenes


class Tab(NamedTuple):
    """A tab of the page."""

    title: str
    text: str  # two sentences
    notebook: str  # its path in the repository


TABS = {
    "draw": Tab(
        "Draw",
        "Watch the picture appear patch by patch, from the top left to the bottom right: each patch is one token, "
        "drawn with all earlier ones in view. Bright cells of the second grid have a high entropy: "
        "the model found many continuations likely there.",
        "notebooks/05_a_language_model_that_draws.ipynb",
    ),
    "reconstruct": Tab(
        "Reconstruct",
        "Pull the handle and compare a picture with its reconstruction from a few whole numbers, its token ids. The "
        "causal decoder uses earlier tokens only; the bidirectional decoder uses all of the same tokens.",
        "notebooks/01_an_image_is_a_short_sentence.ipynb",
    ),
    "look": Tab(
        "Look inside",
        "Click a patch: the second grid shows what its token attends to, the third one which tokens its pixels depend "
        "on. The two differ: attention shows where information may come from, dependency shows what changes when a "
        "token is replaced.",
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
        "Each cell shows the loss of its token, in nats, when the AR model predicts it from the earlier ones: bright "
        "cells were hard to predict. Compare tokenizers on the same scene: the fewer bits in all, the easier its "
        "tokens are to predict.",
        "notebooks/06_are_the_tokens_predictable.ipynb",
    ),
}


def about(tab: str) -> str:
    """The two sentences of a tab and the name of its notebook, in Markdown."""
    return f"{TABS[tab].text} Its notebook: `{TABS[tab].notebook}`"


def code(*lines: str) -> str:
    """Lines of Python as Markdown, behind the imports that they need."""
    text = "\n".join(lines)
    heads = [f"import {name}\n" for name in ("math", "torch") if f"{name}." in text]
    heads.append(f"from alitok_lite import {'AliTok, scenes' if 'scenes.' in text else 'AliTok'}\n")
    for folder, names in (("data", ("images",)), ("measure", ("metrics", "probe"))):
        own = [name for name in names if f"{name}." in text]
        if own:
            heads.append(f"from alitok_lite.{folder} import {', '.join(own)}\n")
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
