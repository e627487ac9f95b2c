"""The texts of the app: what each tab shows, what its terms mean, what was measured, and the code behind it."""

import re
from html import escape
from typing import NamedTuple

from .. import scenes
from . import links
from .boards import tag


class Tab(NamedTuple):
    """A tab of the page."""

    title: str
    text: str  # two sentences; [[term]] is explained on hover and tap
    notebook: str  # its path in the repository


TABS = {
    "tell": Tab(
        "Misalignment",
        "A picture is written as a short row of [[token|tokens]], one for each patch. With a "
        "[[conventional tokenizer]], later tokens repaint patches that were already there (orange frames). That is "
        "[[misalignment]]: an [[AR model]], which makes token after token, cannot know later tokens. With a "
        "[[causal tokenizer]], a patch is final once its token is there.",
        "notebooks/02_who_may_look_at_whom.ipynb",
    ),
    "draw": Tab(
        "Draw",
        "An [[AR model]] draws patch by patch, each [[token]] with all earlier ones in view; bright cells of the "
        "second grid have a high [[entropy]]. If a model has both, its [[causal decoder]] paints the growing picture, "
        "and its [[bidirectional decoder]] the finished one.",
        "notebooks/05_a_language_model_that_draws.ipynb",
    ),
    "edit": Tab(
        "Edit",
        "Click a [[token]], see its likeliest [[code|codes]] with their probabilities, and choose one: the model "
        "samples the rest anew, and never changes what came before. Or let it complete the lower half of a picture.",
        "notebooks/05_a_language_model_that_draws.ipynb",
    ),
    "reconstruct": Tab(
        "Reconstruct",
        "Pull the handle and compare a picture with its reconstruction from a few whole numbers, its token ids. The "
        "[[causal decoder]] uses earlier tokens only; the [[bidirectional decoder]] uses all of the same tokens.",
        "notebooks/01_an_image_is_a_short_sentence.ipynb",
    ),
    "look": Tab(
        "Look inside",
        "Click a patch: the second grid shows what its token [[attention|attends]] to, the third one which tokens its "
        "pixels [[dependency|depend]] on. The two differ: attention shows where information may come from, dependency "
        "shows what changes when a token is replaced.",
        "notebooks/02_who_may_look_at_whom.ipynb",
    ),
    "poke": Tab(
        "Poke",
        "Change a [[token]], drop the last ones, or swap the first ones, and see which patches move. Under the "
        "[[causal decoder]] nothing before the changed token ever moves; under the [[bidirectional decoder]] "
        "everything may.",
        "notebooks/03_the_first_row_has_nobody_to_lean_on.ipynb",
    ),
    "predict": Tab(
        "Predictability",
        "Are the tokens of a causal tokenizer easier to predict? First come the means over five trainings, at equal "
        "length and at equal [[bits]]. Then comes one scene, where chance plays its part.",
        "notebooks/06_are_the_tokens_predictable.ipynb",
    ),
}

TERMS = {
    "misalignment": "The pixels of a patch depend on later tokens, but the AR model predicts each token from earlier "
    "ones only.",
    "token": "One position of the short sequence that stands for a picture. Here: one for each patch, and some have a "
    "few prefix tokens in front.",
    "code": "A row of the codebook, a learned table. A token is the number of a code, its id.",
    "conventional tokenizer": "Its decoder is bidirectional: each patch is made from all tokens, later ones too.",
    "causal tokenizer": "Its decoder is causal: each patch is made from its own token and earlier ones.",
    "causal decoder": "Makes each patch from its own token and earlier ones (stage 1 of the training).",
    "bidirectional decoder": "Makes each patch from all tokens, later ones too (stage 2 of the training).",
    "prefix tokens": "A few tokens in front, which describe the first row of patches.",
    "AR model": "Autoregressive model: predicts each token from the earlier ones, and samples pictures that way.",
    "entropy": "How spread out a prediction is, in nats. 0: one code is certain; ln 4,096 = 8.3: all are alike.",
    "attention": "The weights with which a token takes up information from the others, in one layer.",
    "dependency": "How much a patch changes when a token is replaced; measured by doing it.",
    "loss": "Minus the logarithm of the probability that the AR model gave to the true token, in nats.",
    "bits": "What the AR model needs to code all tokens of a picture: the sum of its losses, 1 nat = 1.44 bits.",
    "top-1": "How often the model's first choice is the true token.",
    "PSNR": "Peak signal-to-noise ratio in dB: how close the pixels of a reconstruction are; higher is closer. A "
    "smeared picture can be closer than a crisp one.",
    "sampling loss": "Distance between sampled pictures and reconstructions: what sampling loses; lower is better.",
    "gFD": "Frechet distance between sampled and real pictures, in features of a judge network; lower is better.",
    "spread": "Mean and standard deviation over trainings with different seeds.",
    "interval": "95 % confidence interval (Welch). If it excludes zero, we call the difference an effect.",
    "repainted": "A patch is repainted if its pixels changed by more than 2 % of their range, on average, after its "
    "own token was told.",
}

STUDY = "alitok_lite/results/matched/README.md"


def term(name: str, shown: str = "") -> str:
    """HTML: a term that explains itself on hover, on focus and on tap."""
    said = f"{shown or name}: {TERMS[name]}"
    return tag("button", escape(shown or name), type="button", class_="al-term", data_tip=TERMS[name], aria_label=said)


def explained(text: str) -> str:
    """Plain text as HTML; [[term]] and [[term|shown]] become terms."""
    found = re.sub(r"\[\[([^]|]+)\|?([^]]*)\]\]", lambda match: term(match[1], match[2]), text)
    return found


def about(tab: str) -> str:
    """The sentences of a tab and its notebook, as HTML."""
    path = TABS[tab].notebook
    here = links.repository()
    shown = tag("a", escape(path), href=f"{here}/blob/main/{path}") if here else tag("code", escape(path))
    return tag("p", explained(TABS[tab].text), " ", tag("small", f"Notebook: {shown}"), class_="al-about")


def verdict() -> str:
    """What was measured about both tokenizers, in short, as HTML."""
    here = links.repository()
    study = tag("a", "the study", href=f"{here}/blob/main/{STUDY}") if here else ""
    numbers = tag("a", "All numbers and what they do not show", href="?tab=predict", data_open="predict")
    lines = [
        "<b>How often?</b> [[repainted|Repainted]] patches of 24 unseen scenes: <b>86 ± 7 %</b> conventional, "
        "<b>exactly 0</b> causal.",
        "<b>Does it help the AR model?</b> It needs 103 ± 8 [[bits]] for a causal scene, 113 ± 6 for a conventional "
        "one, [[spread|five trainings each]]. But causal tokens also say less.",
        "<b>At equal bits</b>, sampling loses a little less with causal tokens: 0.007, [[interval|95 % interval]] "
        f"0.003 to 0.011. The price is 0.31 dB of [[PSNR]] (0.22 to 0.41). {numbers}{'; ' + study if study else ''}.",
    ]
    return tag("ul", *(tag("li", explained(line)) for line in lines), class_="al-verdict")


DIAGRAM = (  # (what it says, the tab that it opens); "" is an arrow
    ("picture", "reconstruct"),
    ("encoder", "look"),
    ("codebook: tokens", "poke"),
    ("decoder", "tell"),
    ("picture", "reconstruct"),
)


def diagram() -> str:
    """How the parts hang together; each of them opens the tab about it."""

    def part(name: str, tab: str) -> str:
        label = f"{name}: open the tab {TABS[tab].title}"
        return tag("a", escape(name), href=f"?tab={tab}", data_open=tab, aria_label=label)

    arrow = tag("i", "→", aria_hidden="true")
    row = arrow.join(part(*each) for each in DIAGRAM)
    below = part("AR model: predicts each token from the earlier ones", "draw")
    return tag(
        "nav", row, tag("span", tag("i", "↑", aria_hidden="true"), below), class_="al-diagram", aria_label="Parts"
    )


def sources() -> str:
    """Links to the paper, the package and the notebooks, as far as they have an address."""
    here = links.repository()
    found = [tag("a", "The paper (arXiv 2506.05289)", href=links.PAPER)]
    if here:
        found += [tag("a", "Package", href=here), tag("a", "Notebooks", href=f"{here}/tree/main/notebooks")]
    return tag("p", " · ".join(found), class_="al-sources")


# ---------------------------------------------------------------- code


def code(*lines: str) -> str:
    """Lines of Python as Markdown, behind the imports that they need."""
    text = "\n".join(lines)
    heads = [f"import {name}\n" for name in ("math", "torch") if f"{name}." in text]
    heads.append(f"from alitok_lite import {'AliTok, scenes' if 'scenes.' in text else 'AliTok'}\n")
    for folder, names in (("data", ("images",)), ("measure", ("metrics", "probe", "repaint"))):
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
