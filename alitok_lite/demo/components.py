"""Gradio components that several tabs of the page share."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from html import escape
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import gradio as gr
from gradio.utils import get_upload_folder

from . import boards, examples, links, models
from .drawing import GUIDANCE, TEMPERATURE

_Component = TypeVar("_Component", bound=gr.components.Component)
# Gradio hands the values of an event on unread: the package checks them all, and in its own words.
_UNREAD: dict[str, Any] = {"preprocess": False}
# Options of every event that runs a model, and of the small events of the page itself.
MODEL = {"concurrency_id": "model", "concurrency_limit": 2} | _UNREAD  # two, as a long drawing is not to stop others
PRIVATE = {"api_visibility": "private", "queue": False, "show_progress": "hidden"} | _UNREAD


def with_example(component: _Component, example: object) -> _Component:
    """The component, with what the page about the API gives as an example of its value."""
    component.example_payload = component.example_value = lambda: example  # type: ignore[method-assign]
    return component


def choose_from(names: list[str], best: str = "") -> gr.Dropdown:
    """A chooser of models, hidden where there is nothing to choose from."""
    value = best if best in names else next(iter(names), None)
    return gr.Dropdown(names, value=value, label="Model", visible=len(names) > 1)


def pictures(place: str, scene: str | None, label: str = "A painted scene ...") -> gr.Radio:
    """Example scenes to click."""
    gr.HTML(boards.thumbnail_style(f"#{place}", examples.EXAMPLES, examples.scene_strip(), "20%"), visible="hidden")
    return gr.Radio(list(examples.EXAMPLES), value=scene, label=label, elem_id=place)


def chooser(place: str, scene: str | None, model: str = "", names: list[str] | None = None) -> tuple:
    """Model, scene and upload; the event after a click on a scene, which takes the upload away."""
    name = choose_from(names or list(models.models()), model)
    kind = pictures(place, scene)
    with gr.Accordion("... or a picture of your own", open=False):
        upload: dict[str, Any] = {"format": "png", "type": "filepath", "image_mode": None, "height": 220}
        own = gr.Image(label="PNG, JPEG or WEBP", sources=["upload", "clipboard"], **upload)
        with_example(own, None)
    own.upload(None, None, kind, js="() => null", **PRIVATE)
    clicked = kind.input(None, None, own, js="() => null", **PRIVATE)
    return [name, kind, own], clicked


class Place(NamedTuple):
    """Where a tab says how its last press is getting on, and the hidden button that presses again."""

    name: str  # of the tab
    say: gr.HTML
    again: gr.Button


def place(name: str) -> Place:
    """page.js writes here at once: waiting, how many come first, what went wrong."""
    line = boards.tag("p", id=f"say-{name}", class_="al-say", role="status", aria_live="polite")
    heard = boards.tag("p", class_="al-heard", role="status", aria_live="polite")  # for screen readers alone
    say = gr.HTML(line + heard, elem_classes="al-say-box")
    return Place(name, say, gr.Button("Try again", elem_id=f"again-{name}", visible="hidden"))


def results(name: str, first: examples.View | None = None, below: str = "") -> tuple[Place, list]:
    """What shows a View: sentence, HTML, and two closed drawers with the numbers and the code; `below` stays."""
    first = first or examples.View("", "", {}, "")
    where = place(name)
    status = gr.Markdown(first.status, elem_classes="al-status")
    html = gr.HTML(first.html, js_on_load=boards.PICK_SCRIPT, elem_classes="al-answer")
    if below:
        gr.HTML(below)
    with gr.Accordion("The code behind this", open=False):
        code = gr.Markdown(first.code)
    with gr.Accordion("The same as numbers", open=False):
        numbers = gr.JSON(first.numbers, show_label=False)
    return where, [html, status, numbers, code]


def class_choice(model: str) -> list:
    """Classes as pictures or words to click, or as a list to search where there are many, and the pictures' style."""
    kinds, found, style = examples.class_choice(models.models()[model])
    kind = gr.Radio(**kinds, label="What to draw", elem_id="kinds")
    search = gr.Dropdown(**found, label="What to draw: type to search")
    search.input(None, search, kind, js="value => value", **PRIVATE)
    return [kind, search, gr.HTML(**style)]


def draw_settings(model: str) -> tuple:
    """Seed, guidance and temperature, and the seed that was drawn last."""
    with gr.Accordion("Seed and settings", open=False):  # an empty Number would turn into 0 in here
        seed = gr.Textbox("", label="Seed", placeholder="empty: a new one every time", max_lines=1)
        with gr.Row():
            keep = gr.Button("Keep the last seed", size="sm", min_width=120)
            forget = gr.Button("New seed every time", size="sm", min_width=120)
        temperature = gr.Slider(*TEMPERATURE, 1, step=0.05, label="Temperature (0 = no chance)")
        guidance = gr.Slider(*GUIDANCE, models.models()[model].guidance, step=0.1, label="Guidance (1 = off)")
    last = gr.State()
    keep.click(lambda value: "" if value is None else str(value), last, seed, **PRIVATE)
    forget.click(lambda: "", None, seed, **PRIVATE)
    return with_example(seed, "7"), guidance, temperature, last


def options(function: Callable, where: Place) -> dict[str, Any]:
    """Options of an event that runs a model: the press is answered at once, in its place."""
    asked = f"(...values) => {{alitok.asked('{where.name}'); return values}}"
    shown = {"show_progress": "minimal", "show_progress_on": [where.say]}
    return {"fn": function, "js": asked, **shown, **MODEL}


def follow(event: gr.events.Dependency, where: Place) -> None:
    """Tell the visitor when it is done, or what went wrong."""
    event.success(None, js=f"() => alitok.answered('{where.name}')", **PRIVATE)
    event.failure(None, js=f"() => alitok.failed('{where.name}')", **PRIVATE)


def wire(
    function: Callable, where: Place, inputs: list, outputs: list, triggers: list, *after: gr.events.Dependency
) -> None:
    """Run a tab's function on any of these events, and after those; of several in a row, the last one counts."""
    wires = {"inputs": inputs, "outputs": outputs, "trigger_mode": "always_last", **options(function, where)}
    events = [gr.on([*triggers, where.again.click], api_name=function.__name__, **wires)]
    events += [event.then(**wires, api_visibility="private") for event in after]
    for event in events:
        follow(event, where)


def check_cache() -> None:
    """ValueError if files cannot be written in the folder that Gradio keeps uploads and pictures in."""
    folder = get_upload_folder()
    try:
        os.makedirs(folder, exist_ok=True)
        os.rmdir(tempfile.mkdtemp(dir=folder))
    except OSError as error:
        raise ValueError(f"the folder {folder!r} (GRADIO_TEMP_DIR) cannot be written: {error.strerror}") from None


CACHE = (600, 3600)  # seconds: how often Gradio looks for old files in its cache, and how old they are
_folders = count(1)  # made so far


def new_folder() -> Path:
    """A fresh folder in Gradio's own cache. Gradio removes the file in it by age; the folder is removed here."""
    if next(_folders) % 100 == 0:
        remove_folders()
    return Path(tempfile.mkdtemp(dir=get_upload_folder()))


def remove_folders() -> None:
    """Remove the folders of the cache that have been empty for as long as files are kept."""
    with os.scandir(get_upload_folder()) as found:
        old = [entry.path for entry in found if time.time() - entry.stat(follow_symlinks=False).st_mtime > CACHE[1]]
    for path in old:
        with suppress(OSError):  # a file is left in it
            os.rmdir(path)


def theme() -> gr.themes.Base:
    """Colours with a contrast of at least 4.5 : 1 in both themes; the fonts of the visitor's machine."""
    soft = gr.themes.Soft(primary_hue="teal", neutral_hue="stone", font=["system-ui", "sans-serif"])
    return soft.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_border_color="*primary_700",
        button_primary_border_color_dark="*primary_700",
        button_primary_text_color="white",
        block_label_text_color="*primary_800",
        block_label_text_color_dark="*primary_100",
        block_label_background_fill_dark="*primary_800",
        block_title_background_fill_dark="*primary_800",
        block_title_text_color="*primary_800",
        block_title_text_color_dark="*primary_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
        checkbox_label_text_color_selected="white",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        input_border_color="*neutral_500",
        input_border_color_dark="*neutral_500",
        input_border_width="1px",
        color_accent="*primary_700",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_200",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


_SAID = "The same scene told token by token by two tokenizers: one keeps repainting what it told, the other never does."


def preview() -> str:
    """What a link to the page shows elsewhere: words, and a picture where the repository is public."""
    meta = [("name", "description", _SAID), ("property", "og:title", "AliTok lite: misalignment, seen")]
    meta.append(("property", "og:description", _SAID))
    if links.repository():
        meta.append(("property", "og:image", f"{links.repository()}/raw/main/alitok_lite/sheets/repaint.png"))
    return "".join(f'<meta {kind}="{name}" content="{escape(content)}">' for kind, name, content in meta)
