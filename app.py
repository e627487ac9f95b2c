"""The Gradio app: wiring only; everything it does is in alitok_lite/demo.py. Run it with `python app.py`."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

try:  # lends a GPU per call on a ZeroGPU Space; must come before anything that touches CUDA
    import spaces
except ImportError:
    spaces = None

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from alitok_lite import demo as engine
from alitok_lite import images

Image.MAX_IMAGE_PIXELS = images.MAX_PIXELS
ONE_AT_A_TIME = {"concurrency_id": "model", "concurrency_limit": 1}  # every event that runs a model
PRIVATE = {"api_visibility": "private", "queue": False}  # small events of the page itself
LAUNCH = {
    "share": False,
    "theme": gr.themes.Soft(primary_hue="teal", neutral_hue="stone", font=["system-ui", "sans-serif"]),
    "footer_links": ["api", "gradio"],
    "max_file_size": "8mb",
    "show_error": False,
    "ssr_mode": False,
    "run_history": False,
    "enable_monitoring": False,
}


@contextmanager
def plain_errors() -> Iterator[None]:
    """ValueErrors of the package become messages on the page; gr.Error renders HTML, hence the escape."""
    try:
        yield
    except gr.Error:  # is a ValueError too
        raise
    except ValueError as error:
        raise gr.Error(escape(str(error), quote=False), print_exception=False) from None


def on_gpu(function: Callable) -> Callable:
    """Borrow a GPU for the function where the platform lends them."""
    return spaces.GPU(duration=60)(function) if spaces else function


def cache_folder() -> Path:
    """A fresh folder in Gradio's own cache, which Gradio empties by age."""
    cache = Path(get_upload_folder())
    cache.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=cache))


@on_gpu
def draw(model, class_name, seed, guidance, temperature, count, slow) -> Iterator[tuple]:
    """Draw pictures of a class token by token; the last answer is the finished PNG.

    Args:
        model: name of the model.
        class_name: what to draw, one of the model's class names.
        seed: whole number from 0 to 2147483647; picture i uses seed + i; empty draws a random seed.
        guidance: 0 to 30; 1 is off, more follows the class more closely; null is the model's own.
        temperature: 0 to 3; 0 takes the likeliest token, 1 draws as the model believes.
        count: number of pictures, 1 to 16.
        slow: whether to rest between tokens so that people can watch; false is faster.
    """
    with plain_errors():
        for frame in engine.draw(model, class_name, engine.read_seed(seed), guidance, temperature, count, slow):
            if not frame.done:
                paper = engine.contact_sheet(frame.pictures)
                yield gr.update(value=paper), frame.status, gr.update(interactive=False), frame.seed
        path = str(engine.save_drawing(cache_folder(), frame, model, class_name, guidance, temperature))
    result = gr.update(value=path, alt_text=f"{len(frame.pictures)} generated, class {class_name}, seed {frame.seed}")
    yield result, frame.status, gr.update(value=path, interactive=True), frame.seed


@on_gpu
def reconstruct(model, picture) -> tuple:
    """Turn a picture into tokens and back again, with each decoder of the model.

    Args:
        model: name of the model.
        picture: a PNG, JPEG or WEBP file; its centre square is used.
    """
    with plain_errors():
        result = engine.reconstruct(model, picture)
    pictures = [result.original, *(result.pictures.get(stage) for stage in engine.DECODERS)]
    shown = [picture and engine.contact_sheet([picture]) for picture in pictures]
    captions = [result.caption(stage) for stage in engine.DECODERS]
    ids = {"prefix": result.prefix.tolist(), "grid": result.grid.tolist()}
    return *shown, engine.token_picture(result.prefix, result.grid), *captions, result.status, ids


def choose_model(name: str) -> tuple:
    """The chooser, its thumbnails and the guidance of another model."""
    card = engine.models()[name]
    chooser = gr.update(choices=card.classes, value=next(iter(card.classes), None))
    return chooser, engine.thumbnail_style("#kinds", card.classes), card.guidance


def draw_tab(model: gr.Dropdown) -> None:
    """Choose a class, press Draw, watch."""
    gr.Markdown(
        "Watch the picture appear patch by patch, from the top left to the bottom right: each patch is one token, "
        "drawn with all earlier ones in view. The first few tokens, the *prefix*, only sketch the top row faintly."
    )
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            inputs, start, stop, style, last = draw_controls(model)
        with gr.Column(scale=6, min_width=300):
            shape = {"format": "png", "height": "min(460px, 90vw)", "buttons": ["fullscreen"]}
            output = gr.Image(label="Result", elem_id="result", interactive=False, **shape)
            status = gr.Markdown("Nothing drawn yet.", elem_id="status")
            download = gr.DownloadButton("Download PNG", interactive=False, size="sm")
    outputs = [output, status, download, last]
    look = "(...inputs) => {document.querySelector('#result').scrollIntoView({block: 'nearest'}); return inputs}"
    wires = {"api_name": "draw", "show_progress": "hidden", "js": look, **ONE_AT_A_TIME}
    event = start.click(draw, inputs, outputs, **wires)
    stop.click(lambda: "Stopped.", None, status, cancels=[event], **PRIVATE)
    kind, guidance = inputs[1], inputs[3]
    model.change(choose_model, model, [kind, style, guidance], **PRIVATE)


def draw_controls(model: gr.Dropdown) -> tuple:
    """What is set before drawing: inputs of `draw`, the Draw and Stop buttons, the thumbnails, the last seed."""
    card = engine.models()[model.value]
    many = max(len(other.classes) for other in engine.models().values()) > 40
    chosen = next(iter(card.classes), None)
    kind = (gr.Dropdown if many else gr.Radio)(card.classes, value=chosen, label="What to draw", elem_id="kinds")
    kind.preprocess = lambda value: value  # the choices change with the model, so engine.draw checks them
    count = gr.Slider(1, engine.MAX_COUNT, 1, step=1, label="How many")
    with gr.Row():
        start = gr.Button("Draw", variant="primary", scale=3, min_width=120)
        stop = gr.Button("Stop", variant="stop", scale=1, min_width=80)
    slow = gr.Checkbox(True, label="Slow motion, to watch every token")
    with gr.Accordion("Seed and settings", open=False):  # an empty Number would turn into 0 in here
        seed = gr.Textbox(label="Seed", placeholder="empty: a new one every time", max_lines=1)
        with gr.Row():
            keep = gr.Button("Keep the last seed", size="sm", min_width=120)
            forget = gr.Button("New seed every time", size="sm", min_width=120)
        guidance = gr.Slider(*engine.GUIDANCE, card.guidance, step=0.1, label="Guidance (1 = off)")
        temperature = gr.Slider(*engine.TEMPERATURE, 1, step=0.05, label="Temperature (0 = no chance)")
    style = gr.HTML(engine.thumbnail_style("#kinds", card.classes), visible="hidden")
    last = gr.State()
    keep.click(lambda value: "" if value is None else str(value), last, seed, **PRIVATE)
    forget.click(lambda: "", None, seed, **PRIVATE)
    return [model, kind, seed, guidance, temperature, count, slow], start, stop, style, last


def reconstruct_tab(model: gr.Dropdown) -> None:
    """A picture, its tokens, and what each decoder makes of them."""
    gr.Markdown(
        "Compare the original with what is left of it after it was squeezed into a handful of tokens: the numbers are "
        "all that the decoders get. The causal decoder may use earlier tokens only, the bidirectional one sees all."
    )
    captions, shown = [], []
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            upload = {"type": "filepath", "image_mode": None, "sources": ["upload", "clipboard"], "height": 260}
            picture = gr.Image(label="Your picture", format="png", **upload)
            picture.preprocess = lambda data: data.path if data else None  # Gradio's opens the file, and fails badly
            start = gr.Button("Reconstruct", variant="primary")
            scene = gr.Radio(list(engine.EXAMPLES), label="... or a test scene", elem_id="tests")
            gr.HTML(engine.thumbnail_style("#tests", list(engine.EXAMPLES)), visible="hidden")
        with gr.Column(scale=5, min_width=300):
            status = gr.Markdown("Upload a picture, or choose a scene.")
            with gr.Row():
                for name, alt in engine.PANELS.items():
                    with gr.Column(min_width=150):
                        captions.append(gr.Markdown(f"**{name}**"))
                        silent = {"buttons": [], "show_label": False, "alt_text": alt}
                        shown.append(gr.Image(format="png", interactive=False, **silent))
            with gr.Accordion("The tokens as numbers", open=False):
                ids = gr.JSON(label="Ids", show_label=False)
    wires = {"inputs": [model, picture], "outputs": [*shown, *captions[1:3], status, ids], **ONE_AT_A_TIME}
    gr.on([start.click, picture.upload], reconstruct, api_name="reconstruct", **wires)
    example = scene.input(engine.example, scene, picture, **PRIVATE)
    example.then(reconstruct, api_visibility="private", **wires)


def build() -> gr.Blocks:
    """The whole page; reads the models' configs but no weights."""
    names = list(engine.models())
    with gr.Blocks(title="AliTok lite", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# AliTok lite: pictures as tokens")
        if not names:
            gr.Markdown("No model found: set the environment variable ALITOK_MODELS to checkpoint folders.")
            return page
        model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
        with gr.Tab("Draw", id="draw"):
            draw_tab(model)
        with gr.Tab("Reconstruct", id="reconstruct"):
            reconstruct_tab(model)
    page.queue(max_size=16, default_concurrency_limit=1, api_open=False)
    return page


demo = build()

if __name__ == "__main__":
    if os.environ.get("SPACES_ZERO_GPU"):  # its workers are forked from this process: load now, not in every call
        for name in engine.models():
            engine.get_model(name)
    demo.launch(**LAUNCH)
