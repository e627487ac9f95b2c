"""Gradio components that several tabs of the page share, or that would make its file too long."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from gradio.utils import get_upload_folder

from . import boards, examples, models
from .drawing import GUIDANCE, TEMPERATURE

_Component = TypeVar("_Component", bound=gr.components.Component)
# Gradio hands the values of an event on unread: the package checks them all, and in its own words.
_UNREAD: dict[str, Any] = {"preprocess": False}
# Options of every event that runs a model, and of the small events of the page itself.
ONE_AT_A_TIME = {"concurrency_id": "model", "concurrency_limit": 1} | _UNREAD
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


def chooser(place: str, scene: str | None, model: str = "") -> tuple:
    """Model, scene and upload; the event after a click on a scene, which takes the upload away."""
    name = choose_from(list(models.models()), model)
    kind = pictures(place, scene)
    with gr.Accordion("... or a picture of your own", open=False):
        upload: dict[str, Any] = {"format": "png", "type": "filepath", "image_mode": None, "height": 220}
        own = gr.Image(label="PNG, JPEG or WEBP", sources=["upload", "clipboard"], **upload)
        with_example(own, None)
    own.upload(None, None, kind, js="() => null", **PRIVATE)
    clicked = kind.input(None, None, own, js="() => null", **PRIVATE)
    return [name, kind, own], clicked


def results(first: examples.View | None = None) -> list:
    """What shows a View: sentence, HTML, and two closed drawers with the numbers and the code."""
    first = first or examples.View("", "", {}, "")
    status = gr.Markdown(first.status)
    html = gr.HTML(first.html, js_on_load=boards.PICK_SCRIPT)
    with gr.Accordion("The code behind this", open=False):
        code = gr.Markdown(first.code)
    with gr.Accordion("The same as numbers", open=False):
        numbers = gr.JSON(first.numbers, show_label=False)
    return [html, status, numbers, code]


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


def drawing(model: str) -> tuple:
    """Where the drawing appears; before that, what was made earlier."""
    card = models.models()[model]
    picture, sentence = examples.first_drawing(card)
    status = gr.Markdown(sentence, elem_id="status")
    with gr.Row():
        with gr.Column(min_width=240):
            shape: dict[str, Any] = {"format": "png", "height": "min(420px, 88vw)", "buttons": ["fullscreen"]}
            shape |= {"interactive": False, "show_label": False, "alt_text": "Examples made earlier"}
            result = gr.Image(picture, label="Picture", elem_id="result", **shape)
            download = gr.DownloadButton("Download PNG", interactive=False, size="sm")
        with gr.Column(min_width=240):
            board = gr.HTML(examples.entropy_board(card), elem_id="entropy")
    with gr.Accordion("The code behind this", open=False):
        script = gr.Markdown("Draw something first.")
    return result, board, status, download, script


def wire(function: Callable, inputs: list, outputs: list, triggers: list, *after: gr.events.Dependency) -> None:
    """Run a tab's function on any of these events, and after those; of several in a row, the last one counts."""
    wires: dict[str, Any] = {"fn": function, "inputs": inputs, "outputs": outputs}
    wires |= {"show_progress": "minimal", **ONE_AT_A_TIME}
    gr.on(triggers, api_name=function.__name__, trigger_mode="always_last", **wires)
    for event in after:
        event.then(**wires, trigger_mode="always_last", api_visibility="private")


def check_cache() -> None:
    """ValueError if files cannot be written in the folder that Gradio keeps uploads and pictures in."""
    folder = get_upload_folder()
    try:
        os.makedirs(folder, exist_ok=True)
        os.rmdir(tempfile.mkdtemp(dir=folder))
    except OSError as error:
        raise ValueError(f"the folder {folder!r} (GRADIO_TEMP_DIR) cannot be written: {error.strerror}") from None


def new_folder() -> Path:
    """A fresh folder in Gradio's own cache, which Gradio empties by age."""
    return Path(tempfile.mkdtemp(dir=get_upload_folder()))
