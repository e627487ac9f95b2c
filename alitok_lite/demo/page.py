"""The page: its frame, the guided tour, and links; its tabs are in tabs.py, what they ask of the server in
endpoints.py."""

import json
import time
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
from PIL import Image

from ..data import images
from . import boards, components, examples, guard, links, models, words
from . import edit as editing
from . import look as inside
from . import poke as surgery
from . import tour as route
from .components import PRIVATE
from .guard import limited, plain_errors
from .tabs import FILES, TABS, Built

Image.MAX_IMAGE_PIXELS = images.MAX_PIXELS
LAUNCH: dict[str, Any] = {
    "share": False,
    "theme": components.theme(),
    "css": boards.PAGE_STYLE,
    "head": boards.SCRIPTS + components.preview(),
    "footer_links": ["api", "gradio"],
    "max_file_size": guard.MAX_UPLOAD,
    "show_error": False,
    "app_kwargs": {"exception_handlers": guard.REFUSALS},
    "ssr_mode": False,
    "state_session_capacity": 100,  # what a visitor has set; Gradio keeps that of 10,000 visits, a quarter MB each
    "run_history": False,
    "enable_monitoring": False,
}
MAX_WAITING = 200  # visitors in the queue; each waits for a fraction of a second of work


def build() -> gr.Blocks:
    """The whole page; reads the models' configs but no weights."""
    cache = components.CACHE
    with guard.Page(title="AliTok lite: misalignment, seen", analytics_enabled=False, delete_cache=cache) as page:
        with gr.Row(elem_id="head"):
            gr.HTML("<h1>AliTok lite<span>: pictures as tokens</span></h1>")
            present = gr.Button("Presenter size", size="sm", scale=0, min_width=130)
            guide = gr.Button("Guided tour", size="sm", scale=0, min_width=130)
        present.click(None, js="() => alitok.present()", **PRIVATE)
        if not models.models():
            gr.Markdown("No model found: set the environment variable ALITOK_MODELS to checkpoint folders.")
            return page
        if models.LEFT_OUT:
            gr.Markdown("Not every model that ALITOK_MODELS names could be read; the server's log says why.")
        said = gr.Markdown(visible=False)
        with gr.Column(visible=False, elem_id="tour") as panel:
            told = gr.Markdown()
            with gr.Row():
                back, onward, leave = (gr.Button(name, size="sm", min_width=80) for name in ("Back", "Next", "End"))
        stops = {name: gr.Number(0, visible="hidden") for name in TABS}  # a change wakes the tab
        built = {}
        with gr.Tabs(elem_id="tabs") as tabs:
            for name, fill in TABS.items():
                with gr.Tab(words.TABS[name].title, id=name, elem_id=f"tab-{name}") as tab:
                    gr.HTML(words.about(name))
                    built[name] = fill(tab, stops[name])
                tab.select(None, js=f"() => alitok.opened('{name}')", **PRIVATE)
        gr.HTML(words.sources())
        page.alitok = built
        _remember(built)
        _read_link(page, said, built, stops)
        _edit_drawing(tabs, built, stops)
        _tour(tabs, panel, told, {guide: None, back: -1, onward: 1, leave: 0}, built, stops)
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)
    return page


# ---------------------------------------------------------------- links


def _remember(built: dict[str, Built]) -> None:
    """What is set goes into the page's address."""
    for name, (controls, *_) in built.items():
        names = list(controls)
        js = f"(...values) => alitok.link('{name}', {names}, values)"
        changes = [control.change for control in controls.values()]
        if changes:
            gr.on(changes, None, list(controls.values()), None, js=js, **PRIVATE)


def _read_link(page: gr.Blocks, said: gr.Markdown, built: dict[str, Built], stops: dict) -> None:
    """On load, what the address asks for is set, and its tab begins; later the same for Back and Forward."""
    known = {name: tuple(controls) for name, (controls, *_) in built.items()}
    woken = gr.Textbox("", visible="hidden")

    def asked(query: dict[str, str], shown: str | None = None) -> dict:
        given = links.read(query, known)
        if not given.tab:
            return {said: gr.update(value=given.said, visible=bool(given.said)), woken: ""}
        updates, wrong = settings(given.tab, given.values, built[given.tab], shown)
        sentence = " ".join(filter(None, [given.said, wrong]))
        begins = given.tab != "draw" or "seed" in given.values
        return {said: gr.update(value=sentence, visible=bool(sentence)), woken: given.tab if begins else ""} | updates

    @limited
    @plain_errors()
    def read(request: gr.Request) -> dict:
        return asked(dict(request.query_params))

    @limited
    @plain_errors()
    def back(query: str, shown: str = "") -> dict:
        return asked(dict(parse_qsl(str(query))), str(shown))

    outputs = [said, woken]
    for controls, parts, _ in built.values():
        outputs += [*controls.values(), *parts.values()]
    every = [control for controls, *_ in built.values() for control in controls.values()]
    names = {name: list(own) for name, own in known.items()}
    start = f"(...values) => alitok.start({json.dumps(names)}, values)"
    page.load(read, None, outputs, **PRIVATE).then(None, every, js=start, **PRIVATE).then(**_wake(woken, stops))
    wanted, button = gr.Textbox("", visible="hidden"), gr.Button("Back", visible="hidden", elem_id="go-back")
    inputs = [wanted, built["draw"].controls.get("model", wanted)]
    cancels = [found.running for found in built.values() if found.running]
    js = "(_, model) => [alitok.wanted, model]"
    done = button.click(back, inputs, outputs, js=js, cancels=cancels, trigger_mode="always_last", **PRIVATE)
    done.then(None, js="() => alitok.restored()", **PRIVATE).then(**_wake(woken, stops))


def _wake(tab: gr.Textbox, stops: dict[str, gr.Number]) -> dict[str, Any]:
    """An event of the page that wakes the tab of this name, once all that was set is there."""
    js = f"(tab, ...old) => {json.dumps(list(stops))}.map((name, index) => old[index] + (name === tab))"
    return {"fn": None, "inputs": [tab, *stops.values()], "outputs": list(stops.values()), "js": js, **PRIVATE}


_TEXTS = ("seed", "class", "model", "scene", "other", "part", "experiment", "ids")  # others are numbers


def settings(tab: str, given: dict[str, str], found: Built, shown: str | None = None) -> tuple[dict, str]:
    """Updates of a tab's components for these settings, by their names in links; and a sentence about those that this
    page does not have. `shown`: the model in the tab Draw, if the page has been used: what is not given is emptied."""
    controls, parts, _ = found
    values = {name: value if name in _TEXTS else links.number(value) for name, value in given.items()}
    name = values.get("model", controls["model"].value if "model" in controls else None)
    known = name in models.models()
    wrong = [] if name is None or known else [f"model={name[:40]}"]
    updates = _of_model(tab, name, values, controls, parts) if known else {}
    if shown is not None:
        empty = [control for control in controls.values() if control.value == "" or control.value is False]
        updates |= {control: updates.get(control, gr.update()) | {"value": control.value} for control in empty}
        kept = ("shown", "status", *FILES) if name == shown else ()
        updates |= {part: gr.skip() for key, part in parts.items() if key in kept}
    if "own" in parts and "scene" in values:
        updates[parts["own"]] = None
    if "code" in parts:
        updates[parts["code"]] = -1
    for key, value in values.items():
        if key == "model":
            continue
        shape = updates.get(controls[key], gr.update())
        right = key != "ids" or (known and editing.right_ids(value, models.models()[name].config))
        if right and _fits(controls[key], value, shape):
            updates[controls[key]] = shape | {"value": value}
        else:
            wrong.append(f"{key}={str(value)[:40]}")
    return updates, f"This link asks for {', '.join(wrong)}, which this page does not have." if wrong else ""


def _of_model(tab: str, name: str, values: dict, controls: dict, parts: dict) -> dict:
    """Updates of the model, and of what depends on it."""
    card, updates = models.models()[name], {controls["model"]: gr.update(value=name)}
    if tab == "draw":
        tiles, found, style = (gr.update(**change) for change in examples.class_choice(card))
        updates |= {controls["class"]: tiles, parts["search"]: found, parts["style"]: style}
        updates[controls["guidance"]] = gr.update(value=card.guidance)
        updates |= {parts["shown"]: examples.first_board(card), parts["status"]: examples.first_drawing(card)[1]}
        updates |= {parts[key]: gr.update(interactive=False) for key in FILES}
    elif tab == "edit":
        top = card.config.tokens - 1
        updates[controls["class"]] = gr.update(choices=["", *card.classes], value="")
        updates[controls["token"]] = gr.update(maximum=top, value=top // 2)
    elif tab == "look":
        keys = ("part", "layer", "head", "token")
        shapes = inside.look_controls(name, *(values.get(key) for key in keys))
        updates |= {controls[key]: gr.update(**shape) for key, shape in zip(keys, shapes, strict=True)}
    elif tab == "poke":
        keys, experiment = ("token", "id", "keep", "other"), values.get("experiment", "change")
        shapes = surgery.poke_controls(name, experiment, *(values.get(key) for key in keys[:3]))
        updates |= {controls[key]: gr.update(**shape) for key, shape in zip(keys, shapes, strict=True)}
    return updates


def _fits(control: gr.components.Component, value: object, shape: dict) -> bool:
    """Whether a control can have that value, in the shape that it will have."""
    choices, least, most = (shape.get(key, getattr(control, key, None)) for key in ("choices", "minimum", "maximum"))
    if choices:
        return value in [choice[1] if isinstance(choice, tuple | list) else choice for choice in choices]
    if isinstance(control, gr.Slider):
        return isinstance(value, int | float) and least <= value <= most
    return not isinstance(control, gr.Checkbox) or isinstance(value, bool)


def _edit_drawing(tabs: gr.Tabs, built: dict[str, Built], stops: dict) -> None:
    """The button beneath a drawing opens it in the tab Edit."""
    draw, edit = built["draw"].parts, built["edit"]
    if not draw:
        return

    @plain_errors()
    def open_edit(ids: str, link: str) -> dict:
        name, class_name, seed, *_ = links.read_drawn(link)
        card = models.check_model(name)
        top, kinds = card.config.tokens - 1, ["", *card.classes]
        own = edit.controls
        return {
            tabs: gr.Tabs(selected="edit"),
            own["model"]: name,
            own["class"]: gr.update(choices=kinds, value=class_name if class_name in kinds else ""),
            own["token"]: gr.update(maximum=top, value=top // 2),
            own["ids"]: ids,
            edit.parts["code"]: -1,
            edit.parts["own"]: None,
            stops["edit"]: time.time(),  # any change wakes the tab
        }

    outputs = [
        tabs,
        *(edit.controls[key] for key in ("model", "class", "token", "ids")),
        *edit.parts.values(),
        stops["edit"],
    ]
    draw["edit"].click(open_edit, [draw["ids"], draw["link"]], outputs, **PRIVATE)


# ---------------------------------------------------------------- the tour


def _tour(tabs: gr.Tabs, panel: gr.Column, told: gr.Markdown, buttons: dict, built: dict, stops: dict) -> None:
    """Each stop opens its tab, sets what it talks about, and wakes the tab; at the end all is as it was before."""
    steps, place, before = route.tour(), gr.State(0), gr.State({})
    keys = [(tab, name) for tab, found in built.items() for name in found.controls]
    every = [built[tab].controls[name] for tab, name in keys]

    def go(step: int | None, at: int, kept: dict, *values: object) -> dict:
        if step is None:
            at, kept = 0, {f"{tab} {name}": value for (tab, name), value in zip(keys, values, strict=True)}
        else:
            at = max(at + step, 0)  # nothing comes before the first stop
        if step == 0 or at == len(steps):
            restored = {}
            for tab, found in built.items():
                own = {name: kept[f"{tab} {name}"] for name in found.controls if f"{tab} {name}" in kept}
                restored |= {found.controls[name]: value for name, value in own.items()}
            return {panel: gr.update(visible=False), place: 0, before: {}} | restored
        stop = steps[at]
        found = {built[stop.tab].controls[name]: value for name, value in stop.settings.items()}
        found[stops[stop.tab]] = at + 1
        shown = {panel: gr.update(visible=True), told: route.tour_text(steps, at), tabs: gr.Tabs(selected=stop.tab)}
        return shown | {place: at, before: kept} | found

    for button, step in buttons.items():
        outputs = [panel, told, tabs, place, before, *stops.values(), *every]
        button.click(lambda *given, step=step: go(step, *given), [place, before, *every], outputs, **PRIVATE)
