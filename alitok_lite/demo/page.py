"""The page: Gradio's components and what their events do; what they show is made in the files beside it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import gradio as gr
from PIL import Image

from ..data import images
from . import boards, components, drawing, examples, guard, models, words
from . import look as inside
from . import poke as surgery
from . import predict as predictability
from . import reconstruct as reconstruction
from . import tour as route
from .guard import limited, plain_errors
from .lending import on_gpu

Image.MAX_IMAGE_PIXELS = images.MAX_PIXELS
LAUNCH: dict[str, Any] = {
    "share": False,
    "theme": gr.themes.Soft(primary_hue="teal", neutral_hue="stone", font=["system-ui", "sans-serif"]),
    "css": boards.PAGE_STYLE,
    "head": boards.KEYS_SCRIPT,
    "footer_links": ["api", "gradio"],
    "max_file_size": guard.MAX_UPLOAD,
    "show_error": False,
    "app_kwargs": {"exception_handlers": guard.REFUSALS},
    "ssr_mode": False,
    "state_session_capacity": 100,  # what a visitor has set; Gradio keeps that of 10,000 visits, a quarter MB each
    "run_history": False,
    "enable_monitoring": False,
}


# ---------------------------------------------------------------- what the events do


@limited
@on_gpu
def draw(model, class_name, seed, guidance, temperature, count, slow) -> Iterator[tuple]:
    """Draw pictures of a class token by token; the last answer is the finished PNG.

    Args:
        model: name of the model.
        class_name: what to draw, one of the model's class names; of ImageNet's classes, number or synset will do.
        seed: whole number from 0 to 2147483647; picture i uses seed + i; empty draws a random seed.
        guidance: 0 to 30; 1 is off, more follows the class more closely; null is the model's own.
        temperature: 0 to 3; 0 takes the likeliest token (greedy), 1 samples from the model as it is.
        count: number of pictures, 1 to 16.
        slow: whether to rest between tokens so that people can watch; false is faster.
    """
    with plain_errors():
        card = models.check_model(model)
        for frame in drawing.draw(model, class_name, drawing.read_seed(seed), guidance, temperature, count, slow):
            board = examples.entropy_board(card, frame)
            if not frame.done:
                paper = drawing.contact_sheet(frame.pictures)
                yield gr.update(value=paper), board, frame.status, gr.update(interactive=False), frame.seed, gr.skip()
        path = str(drawing.save_drawing(components.new_folder(), frame, model, class_name, guidance, temperature))
        script = examples.draw_script(model, class_name, frame, guidance, temperature)
    result = gr.update(value=path, alt_text=f"{len(frame.pictures)} generated, class {class_name}, seed {frame.seed}")
    yield result, board, frame.status, gr.update(value=path, interactive=True), frame.seed, script


@limited
@on_gpu
@plain_errors()
def reconstruct(model, scene, picture=None) -> tuple:
    """Turn a picture into tokens and back again, with each decoder of the model.

    Args:
        model: name of the model.
        scene: name of a painted scene, used when there is no picture.
        picture: a PNG, JPEG or WEBP file, or null; its centre square is used.
    """
    return tuple(reconstruction.reconstruct(model, scene, picture))


@limited
@on_gpu
@plain_errors()
def look(model, scene, picture=None, part="causal", layer=0, head=-1, token=0) -> tuple:
    """What a token attends to in one layer of a part of the model, and what its patch depends on, in percent.

    Args:
        model: name of the model.
        scene: name of a painted scene, used when there is no picture.
        picture: a PNG, JPEG or WEBP file, or null.
        part: encoder, causal, bidirectional (the decoders) or ar.
        layer: number of the layer, from 0.
        head: number of the head, from 0; -1 is the mean of all heads.
        token: number of the token, from 0, prefix first.
    """
    return tuple(inside.look(model, scene, picture, part, layer, head, token))


@limited
@on_gpu
@plain_errors()
def poke(model, scene, picture=None, experiment="change", token=0, new_id=0, count=0, other="lighthouse") -> tuple:
    """Change the tokens of a picture, and see which patches move under each decoder.

    Args:
        model: name of the model.
        scene: name of a painted scene, used when there is no picture.
        picture: a PNG, JPEG or WEBP file, or null.
        experiment: change (one token becomes another), keep (the first tokens) or swap (the prefix with another scene).
        token: for change: number of the token, from 0, prefix first.
        new_id: for change: the id that it becomes.
        count: for keep: how many tokens.
        other: for swap: name of the other scene.
    """
    return tuple(surgery.poke(model, scene, picture, experiment, token, new_id, count, other))


@limited
@on_gpu
@plain_errors()
def predict(scene) -> tuple:
    """The loss of each token of a painted scene, in nats, under the AR models of all comparable tokenizers.

    Args:
        scene: name of a painted scene.
    """
    return tuple(predictability.predict(scene))


# ---------------------------------------------------------------- the tabs; each returns what the tour can set


def draw_tab(_: gr.Tab, __: gr.Number) -> dict:
    """Choose a class, press Draw, watch."""
    names = models.drawing_models()
    if not names:
        gr.Markdown("No model here can draw: this tab needs a checkpoint with an AR model.")
        return {}
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            model = components.choose_from(names)
            changing = components.class_choice(model.value)
            count = gr.Slider(1, drawing.MAX_COUNT, 1, step=1, label="How many")
            with gr.Row():
                start = gr.Button("Draw", variant="primary", scale=3, min_width=120)
                stop = gr.Button("Stop", variant="stop", scale=1, min_width=80)
            slow = gr.Checkbox(True, label="Slow motion, to watch every token")
            seed, guidance, temperature, last = components.draw_settings(model.value)
        with gr.Column(scale=7, min_width=300):
            result, board, status, download, script = components.drawing(model.value)
    kind = changing[0]
    look = "(...inputs) => {document.querySelector('#status').scrollIntoView({block: 'nearest'}); return inputs}"
    wires: dict[str, Any] = {"api_name": "draw", "show_progress": "hidden", "js": look, **components.ONE_AT_A_TIME}
    inputs, outputs = [model, kind, seed, guidance, temperature, count, slow], [result, board, status, download, last]
    event = start.click(draw, inputs, [*outputs, script], **wires)
    stopped = "text => text.startsWith('Token') ? 'Stopped.' : text"  # a finished drawing's sentence stays
    stop.click(None, status, status, js=stopped, cancels=[event], **components.PRIVATE)
    model.change(new_model, model, [*changing, guidance, result, board, status], cancels=[event], **components.PRIVATE)
    return {"draw_model": model, "kind": kind, "seed": seed, "temperature": temperature, "count": count, "slow": slow}


@limited
@plain_errors()
def new_model(name: str) -> list:
    """Classes, guidance and first picture of another model."""
    card = models.check_model(name)
    picture, sentence = examples.first_drawing(card)
    choice = [gr.update(**change) for change in examples.class_choice(card)]
    shown = gr.update(value=picture, alt_text="Examples made earlier")
    return [*choice, card.guidance, shown, examples.entropy_board(card), sentence]


def reconstruct_tab(tab: gr.Tab, go: gr.Number) -> dict:
    """A picture, its tokens, and what each decoder makes of them."""
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            inputs, clicked = components.chooser("reconstruct", "sailboat", "photos")
        with gr.Column(scale=5, min_width=300):
            outputs = components.results(examples.first_reconstruction(models.models()[inputs[0].value]))
    components.wire(reconstruct, inputs, outputs, [tab.select, inputs[2].upload, inputs[0].input, go.change], clicked)
    return {"reconstruct_model": inputs[0], "reconstruct_scene": inputs[1]}


def look_tab(tab: gr.Tab, go: gr.Number) -> dict:
    """Click a patch: attention and dependency."""
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            inputs, clicked = components.chooser("look", "lighthouse")
            shapes = inside.look_controls(inputs[0].value)
            part = gr.Dropdown(**shapes[0], label="Part of the model")
            layer = gr.Slider(**shapes[1], step=1, label="Layer")
            head = gr.Dropdown(**shapes[2], label="Head")
            token = gr.Slider(**shapes[3], step=1, label="Token")
        with gr.Column(scale=5, min_width=300):
            outputs = components.results()
    fitted = [part, layer, head, token]
    picked = outputs[0].click(picked_token, None, token, **components.PRIVATE)
    fits = [
        event(fit_look, [inputs[0], *fitted], fitted, **components.PRIVATE) for event in (inputs[0].input, part.input)
    ]
    triggers = [tab.select, inputs[2].upload, layer.input, head.input, token.input, go.change]
    components.wire(look, [*inputs, *fitted], outputs, triggers, clicked, picked, *fits)
    controls = {"part": part, "layer": layer, "head": head, "token": token}
    return {"look_model": inputs[0], "look_scene": inputs[1]} | controls


@plain_errors()
def picked_token(event: gr.EventData) -> int:
    """The token of a cell that was clicked."""
    token = None
    with suppress(AttributeError, TypeError):  # what a request says of a click may be anything
        token = event.token
    return models.number("token", token, 0, drawing.MAX_SEED, whole=True)


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


def poke_tab(tab: gr.Tab, go: gr.Number) -> dict:
    """Token surgery."""
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            inputs, clicked = components.chooser("poke", "balloon")
            experiment = gr.Radio(surgery.EXPERIMENTS, value="change", label="What to do")
            shapes = surgery.poke_controls(inputs[0].value, "change")
            token = gr.Slider(**shapes[0], step=1, label="Token")
            new_id = gr.Slider(**shapes[1], step=1, label="Its new id")
            count = gr.Slider(**shapes[2], step=1, label="Tokens to keep")
            other = gr.Dropdown(**shapes[3], label="The other scene")
        with gr.Column(scale=5, min_width=300):
            outputs = components.results()
    fitted = [token, new_id, count, other]
    asked = [inputs[0], experiment, *fitted]
    fits = [event(fit_poke, asked, fitted, **components.PRIVATE) for event in (inputs[0].input, experiment.input)]
    go.change(fit_poke, asked, fitted, **components.PRIVATE)
    triggers = [tab.select, inputs[2].upload, go.change, *(control.input for control in fitted)]
    components.wire(poke, [*inputs, experiment, *fitted], outputs, triggers, clicked, *fits)
    controls = {"experiment": experiment, "poke_token": token, "keep": count}
    return {"poke_model": inputs[0], "poke_scene": inputs[1]} | controls


def predict_tab(tab: gr.Tab, go: gr.Number) -> dict:
    """Nats per token of one scene, for every tokenizer that there is."""
    if not predictability.comparable():
        gr.Markdown("No model here predicts scenes: this tab needs one whose classes are the painted scenes.")
        gr.HTML(boards.page(*predictability.ablation_chart()))
        return {}
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            scene = components.pictures("predict", "lighthouse", "A painted scene")
        with gr.Column(scale=5, min_width=300):
            outputs = components.results()
    components.wire(predict, [scene], outputs, [tab.select, scene.input, go.change])
    return {"predict_scene": scene}


# ---------------------------------------------------------------- the page


PAGES = {"draw": draw_tab, "reconstruct": reconstruct_tab, "look": look_tab, "poke": poke_tab, "predict": predict_tab}


def build() -> gr.Blocks:
    """The whole page; reads the models' configs but no weights."""
    with guard.Page(title="AliTok lite", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        with gr.Row(elem_id="head"):
            gr.Markdown("# AliTok lite: pictures as tokens")
            guide = gr.Button("Guided tour", size="sm", scale=0, min_width=130)
        if not models.models():
            gr.Markdown("No model found: set the environment variable ALITOK_MODELS to checkpoint folders.")
            return page
        if models.LEFT_OUT:
            gr.Markdown("Not every model that ALITOK_MODELS names could be read; the server's log says why.")
        with gr.Column(visible=False, elem_id="tour") as panel:
            told = gr.Markdown()
            with gr.Row():
                back, onward, leave = (gr.Button(name, size="sm", min_width=80) for name in ("Back", "Next", "End"))
        stops = {name: gr.Number(0, visible="hidden") for name in PAGES}  # a change wakes the tab
        controls = {}
        with gr.Tabs() as tabs:
            for name, fill in PAGES.items():
                with gr.Tab(words.TABS[name].title, id=name) as tab:
                    gr.Markdown(words.about(name), elem_classes="al-about")
                    controls |= fill(tab, stops[name])
        tour(tabs, panel, told, {guide: None, back: -1, onward: 1, leave: 0}, controls | stops)
    page.queue(max_size=16, default_concurrency_limit=1, api_open=False)
    return page


def tour(tabs: gr.Tabs, panel: gr.Column, told: gr.Markdown, buttons: dict, controls: dict) -> None:
    """Each stop opens its tab, sets what it talks about, and wakes the tab's function."""
    stops, place = route.tour(), gr.State(0)

    def go(step: int | None, at: int) -> dict:
        at = 0 if step is None else at + step
        if step == 0 or not 0 <= at < len(stops):
            return {panel: gr.update(visible=False), place: 0}
        stop = stops[at]
        found = {controls[name]: value for name, value in stop.settings.items()}
        found[controls[stop.tab]] = at + 1
        shown = {panel: gr.update(visible=True), told: route.tour_text(stops, at), tabs: gr.Tabs(selected=stop.tab)}
        return shown | {place: at} | found

    for button, step in buttons.items():
        outputs = [panel, told, tabs, place, *controls.values()]
        button.click(lambda at, step=step: go(step, at), place, outputs, **components.PRIVATE)
