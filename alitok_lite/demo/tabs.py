"""The tabs of the page: their components, and what their events do."""

from contextlib import suppress
from typing import Any, NamedTuple

import gradio as gr

from . import components, drawing, endpoints, examples, links, models, words
from . import look as inside
from . import poke as surgery
from . import predict as predictability
from . import tell as telling
from .components import PRIVATE
from .guard import limited, plain_errors


class Built(NamedTuple):
    """What the page needs of a tab."""

    controls: dict[str, gr.components.Component]  # that a link or the tour can set, by their names in links
    parts: dict[str, gr.components.Component] = {}  # others that it connects
    running: gr.events.Dependency | None = None  # what Back ends


NOTHING = Built({})
FILES = ("png", "gif", "webp", "edit")  # parts of Draw: what to do with a drawing, once there is one


def tell_tab(tab: gr.Tab, go: gr.Number) -> Built:
    """The conventional and the causal tokenizer side by side; moves before anything is pressed."""
    with gr.Row(elem_classes="al-split"):
        with gr.Column(scale=3, min_width=280, elem_classes="al-controls-column"):
            scene = components.pictures("tell", telling.STORED[0], "A painted scene")
            sampled = gr.Checkbox(False, label="Sampled by each model instead")
            seed = gr.Textbox("", label="Seed", placeholder="empty: a new one every time", max_lines=1)
            components.with_example(seed, "7")
            here = telling.pair() is not None
            start = gr.Button("Another picture", variant="primary", interactive=here)
            if not here:
                gr.Markdown(
                    "The models here cannot tell a new picture: it takes a conventional and a causal tokenizer."
                )
        with gr.Column(scale=9, min_width=300):
            where, outputs = components.results("tell", telling.stored(), words.verdict() + words.diagram())
    if here:
        triggers = [start.click, scene.input, sampled.input, go.change]
        components.wire(endpoints.tell, where, [scene, seed, sampled], outputs, triggers)
    return Built({"scene": scene, "seed": seed, "sampled": sampled})


def draw_tab(tab: gr.Tab, go: gr.Number) -> Built:
    """Choose a class, press Draw, watch."""
    names = models.drawing_models()
    if not names:
        gr.Markdown("No model here can draw: this tab needs a checkpoint with an AR model.")
        return NOTHING
    with gr.Row(elem_classes="al-split"):
        with gr.Column(scale=5, min_width=300, elem_classes="al-controls-column"):
            model = components.choose_from(names)
            changing = components.class_choice(model.value)
            count = gr.Slider(1, drawing.MAX_COUNT, 1, step=1, label="How many")
            with gr.Row():
                start = gr.Button("Draw", variant="primary", scale=3, min_width=120)
                slow = not all(models.is_small(name) for name in names)
                stop = gr.Button("Stop", variant="stop", scale=1, min_width=80, visible=slow)
            seed, guidance, temperature, last = components.draw_settings(model.value)
        with gr.Column(scale=7, min_width=300):
            where = components.place("draw")
            outputs, hidden, files = _drawing(model.value)
    kind = changing[0]
    shown, status, download, script = outputs
    ids, link = hidden
    wires = {"inputs": [model, kind, seed, guidance, temperature, count], **components.options(endpoints.draw, where)}
    wires["outputs"] = [shown, status, download, ids, link, script, last]
    event = gr.on([start.click, go.change, where.again.click], api_name="draw", **wires)
    components.follow(event, where)
    stop.click(None, js="() => alitok.stopped('draw')", cancels=[event], **PRIVATE)
    event.success(lambda: [gr.update(interactive=True)] * 3, None, files[:3], **PRIVATE)
    buttons = [download, *files[:3]]
    model.select(new_model, model, [*changing, guidance, shown, status, *buttons], cancels=[event], **PRIVATE).then(
        None, js="() => alitok.answered('draw')", **PRIVATE
    )
    link.change(None, link, js="link => alitok.drew(link)", **PRIVATE)
    _save_animation(link, [files[0], files[1], files[3]], where)
    controls = {"model": model, "class": kind, "seed": seed, "guidance": guidance, "temperature": temperature}
    parts = {"ids": ids, "link": link, "shown": shown, "status": status, "search": changing[1], "style": changing[2]}
    return Built(controls | {"count": count}, parts | dict(zip(FILES, buttons, strict=True)), event)


def _drawing(model: str) -> tuple[list, list, list]:
    """Where the drawing appears; before that, what was made earlier. Its hidden values, and the buttons for files."""
    card = models.models()[model]
    status = gr.Markdown(examples.first_drawing(card)[1], elem_id="status", elem_classes="al-status")
    shown = gr.HTML(examples.first_board(card), elem_id="drawing", elem_classes="al-answer")
    with gr.Row(elem_classes="al-files"):
        download = gr.DownloadButton("PNG", interactive=False, size="sm", min_width=70, elem_id="png")
        gif = gr.Button("GIF", interactive=False, size="sm", min_width=70)
        webp = gr.Button("WebP", interactive=False, size="sm", min_width=70)
        file = gr.DownloadButton("The animation", visible="hidden", elem_id="animation-file")
        edit = gr.Button("Edit this drawing", interactive=False, size="sm", min_width=120)
        copy = gr.Button("Copy link", size="sm", min_width=90)
        copy.click(None, js="() => alitok.copy('draw')", **PRIVATE)
    gr.HTML('<div id="al-strip" aria-label="Your last drawings"></div>')
    ids = gr.Textbox("", visible="hidden", elem_id="drawn-ids")
    first = links.drawn(model, card.classes[0], 0, None, 1, 1)
    link = components.with_example(gr.Textbox(first, visible="hidden", elem_id="drawn-link"), first)
    with gr.Accordion("The code behind this", open=False):
        script = gr.Markdown("Draw something first.")
    return [shown, status, download, script], [ids, link], [gif, webp, edit, file]


def _save_animation(link: gr.Textbox, files: list, where: components.Place) -> None:
    """A press on GIF or WebP makes the file, and the page then saves it."""
    gif, webp, file = files
    for number, (button, kind) in enumerate(((gif, "gif"), (webp, "webp"))):
        name = components.with_example(gr.Textbox(kind, visible="hidden"), kind)
        wires: dict[str, Any] = {"api_name": "animation"} if number == 0 else {"api_visibility": "private"}
        wires |= components.options(endpoints.animation, where)
        event = button.click(inputs=[link, name], outputs=file, **wires)
        components.follow(event, where)
        event.success(None, js="() => alitok.save('animation-file')", **PRIVATE)


@limited
@plain_errors()
def new_model(name: str) -> list:
    """Classes, guidance and first picture of another model; nothing to save or edit yet."""
    card = models.check_model(name)
    choice = [gr.update(**change) for change in examples.class_choice(card)]
    shown = [examples.first_board(card), examples.first_drawing(card)[1]]
    return [*choice, card.guidance, *shown, *[gr.update(interactive=False)] * len(FILES)]


def edit_tab(tab: gr.Tab, go: gr.Number) -> Built:
    """Choose another code for a token and let the model go on; complete half a picture."""
    names = models.drawing_models()
    if not names:
        gr.Markdown("No model here can draw: this tab needs a checkpoint with an AR model.")
        return NOTHING
    first = models.models()[names[0]]
    with gr.Row(elem_classes="al-split"):
        with gr.Column(scale=2, min_width=280, elem_classes="al-controls-column"):
            inputs, clicked = components.chooser("edit", "lighthouse", names=names)
            half = gr.Button("Complete the lower half", variant="primary")
            kind = gr.Dropdown(
                ["", *first.classes], value="", label="Class that the model is told (empty: the scene's)"
            )
            top = first.config.tokens - 1
            token = gr.Slider(0, top, top // 2, step=1, label="Token")
            temperature = gr.Slider(*drawing.TEMPERATURE, 1, step=0.05, label="Temperature")
            seed = gr.Textbox("", label="Seed", placeholder="empty: a new one every time", max_lines=1)
            components.with_example(seed, "7")
        with gr.Column(scale=5, min_width=300):
            where, outputs = components.results("edit", examples.waiting(first, "lighthouse", "Click a patch."))
    model, scene, own = inputs
    ids = components.with_example(gr.Textbox("", visible="hidden", elem_id="edit-ids"), "")
    code = gr.Number(-1, visible="hidden")
    asked = [model, scene, own, kind, ids, token, code, temperature, seed]
    picked = outputs[0].click(picked_code, None, [token, code], **PRIVATE)
    reset = {"fn": None, "js": "() => ['', -1]", "outputs": [ids, code], **PRIVATE}
    fresh = [event(**reset) for event in (own.upload, clicked.then)]
    fits = model.input(fit_edit, model, [kind, token, ids, code], **PRIVATE)
    looked = [
        event(None, js="() => -1", outputs=code, **PRIVATE)
        for event in (token.input, temperature.input, kind.input, go.change)
    ]
    components.wire(endpoints.edit, where, asked, [*outputs, ids], [tab.select], picked, fits, *fresh, *looked)
    wires = components.options(endpoints.complete, where)
    done = half.click(
        inputs=[model, scene, own, kind, temperature, seed], outputs=[*outputs, ids], api_name="complete", **wires
    )
    components.follow(done, where)
    controls = {"model": model, "scene": scene, "class": kind, "token": token, "temperature": temperature, "seed": seed}
    return Built(controls | {"ids": ids}, {"code": code, "own": own})


@limited
@plain_errors()
def fit_edit(name: str) -> list:
    """The controls of Edit for another model."""
    card = models.check_model(name)
    top = card.config.tokens - 1
    return [gr.update(choices=["", *card.classes], value=""), gr.update(maximum=top, value=top // 2), "", -1]


def reconstruct_tab(tab: gr.Tab, go: gr.Number) -> Built:
    """A picture, its tokens, and what each decoder makes of them."""
    with gr.Row(elem_classes="al-split"):
        with gr.Column(scale=2, min_width=280, elem_classes="al-controls-column"):
            inputs, clicked = components.chooser("reconstruct", "sailboat", "photos")
        with gr.Column(scale=5, min_width=300):
            first = examples.first_reconstruction(models.models()[inputs[0].value])
            where, outputs = components.results("reconstruct", first)
    triggers = [tab.select, inputs[2].upload, inputs[0].input, go.change]
    components.wire(endpoints.reconstruct, where, inputs, outputs, triggers, clicked)
    return Built({"model": inputs[0], "scene": inputs[1]}, {"own": inputs[2]})


def look_tab(tab: gr.Tab, go: gr.Number) -> Built:
    """Click a patch: attention and dependency."""
    with gr.Row(elem_classes="al-split"):
        with gr.Column(scale=2, min_width=280, elem_classes="al-controls-column"):
            inputs, clicked = components.chooser("look", "lighthouse")
            shapes = inside.look_controls(inputs[0].value)
            part = gr.Dropdown(**shapes[0], label="Part of the model")
            layer = gr.Slider(**shapes[1], step=1, label="Layer")
            head = gr.Dropdown(**shapes[2], label="Head")
            token = gr.Slider(**shapes[3], step=1, label="Token")
        with gr.Column(scale=5, min_width=300):
            first = examples.waiting(models.models()[inputs[0].value], "lighthouse", "Click a patch.")
            where, outputs = components.results("look", first)
    fitted = [part, layer, head, token]
    picked = outputs[0].click(picked_token, None, token, **PRIVATE)
    fits = [event(fit_look, [inputs[0], *fitted], fitted, **PRIVATE) for event in (inputs[0].input, part.input)]
    triggers = [tab.select, inputs[2].upload, layer.input, head.input, token.input, go.change]
    components.wire(endpoints.look, where, [*inputs, *fitted], outputs, triggers, clicked, picked, *fits)
    named = {"model": inputs[0], "scene": inputs[1]}
    return Built(named | {"part": part, "layer": layer, "head": head, "token": token}, {"own": inputs[2]})


@plain_errors()
def picked_token(event: gr.EventData) -> int:
    """The token of a cell that was clicked."""
    return _picked(event, "token")


@plain_errors()
def picked_code(event: gr.EventData) -> tuple:
    """The token of a cell that was clicked, and -1; or the code that was chosen, and the token stays."""
    chosen = getattr(event, "_data", None)
    if isinstance(chosen, dict) and "code" in chosen:
        return gr.skip(), _picked(event, "code")
    return _picked(event, "token"), -1


def _picked(event: gr.EventData, name: str) -> int:
    value = None
    with suppress(AttributeError, TypeError):  # what a request says of a click may be anything
        value = getattr(event, name)
    return models.number(name, value, 0, drawing.MAX_SEED, whole=True)


@limited
@plain_errors()
def fit_look(*values: object) -> list:
    """The controls of Look inside for another model or part."""
    return [gr.update(**shape) for shape in inside.look_controls(*values)]


@limited
@plain_errors()
def fit_poke(*values: object) -> list:
    """The controls of Poke for another model or experiment."""
    return [gr.update(**shape) for shape in surgery.poke_controls(*values)]


def poke_tab(tab: gr.Tab, go: gr.Number) -> Built:
    """Token surgery."""
    with gr.Row(elem_classes="al-split"):
        with gr.Column(scale=2, min_width=280, elem_classes="al-controls-column"):
            inputs, clicked = components.chooser("poke", "balloon")
            experiment = gr.Radio(surgery.EXPERIMENTS, value="change", label="What to do")
            shapes = surgery.poke_controls(inputs[0].value, "change")
            token = gr.Slider(**shapes[0], step=1, label="Token")
            new_id = gr.Slider(**shapes[1], step=1, label="Its new id")
            count = gr.Slider(**shapes[2], step=1, label="Tokens to keep")
            other = gr.Dropdown(**shapes[3], label="The other scene")
        with gr.Column(scale=5, min_width=300):
            first = examples.waiting(models.models()[inputs[0].value], "balloon", "Change a token.")
            where, outputs = components.results("poke", first)
    fitted = [token, new_id, count, other]
    asked = [inputs[0], experiment, *fitted]
    fits = [event(fit_poke, asked, fitted, **PRIVATE) for event in (inputs[0].input, experiment.input)]
    triggers = [tab.select, inputs[2].upload, go.change, *(control.input for control in fitted)]
    components.wire(endpoints.poke, where, [*inputs, experiment, *fitted], outputs, triggers, clicked, *fits)
    named = {"model": inputs[0], "scene": inputs[1], "experiment": experiment}
    named |= {"token": token, "id": new_id, "keep": count, "other": other}
    return Built(named, {"own": inputs[2]})


def predict_tab(tab: gr.Tab, go: gr.Number) -> Built:
    """What was measured about both kinds of tokens, and one scene."""
    gr.HTML(predictability.measured())
    if not predictability.comparable():
        gr.Markdown("No model here predicts scenes: this needs one whose classes are the painted scenes.")
        return NOTHING
    with gr.Row(elem_classes="al-split"):
        with gr.Column(scale=2, min_width=280, elem_classes="al-controls-column"):
            scene = components.pictures("predict", "lighthouse", "A painted scene")
        with gr.Column(scale=5, min_width=300):
            first = examples.View("", "One scene: choose it, and each tokenizer's losses appear here.", {}, "")
            where, outputs = components.results("predict", first)
    components.wire(endpoints.predict, where, [scene], outputs, [tab.select, scene.input, go.change])
    return Built({"scene": scene})


TABS = {
    "tell": tell_tab,
    "draw": draw_tab,
    "edit": edit_tab,
    "reconstruct": reconstruct_tab,
    "look": look_tab,
    "poke": poke_tab,
    "predict": predict_tab,
}
