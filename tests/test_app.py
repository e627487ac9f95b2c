"""The models on offer and drawing, as functions and in the app on a real server driven by gradio_client.

What the other tabs do is tested in test_app_tabs.py, what the server must stand in test_app_server.py.
"""

import base64
import importlib.util
import io
import json
import math
import os
import re
import shutil
from html import unescape
from pathlib import Path
from types import ModuleType, SimpleNamespace

import httpx
import numpy as np
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from alitok_lite import PRESETS, AliTok, ARConfig, TokenizerConfig, scenes
from alitok_lite.core import sampling
from alitok_lite.core.config import Preset
from alitok_lite.data.images import sheet
from alitok_lite.demo import drawing, models
from alitok_lite.packed import packed
from alitok_lite.store.find import bundled

MAIN, BASELINE = "scenes-random", "two-kinds"
# Events that use a model; `tell` is not there without two tokenizers that know the scenes.
BORROWERS = ["draw", "animation", "edit", "complete", "reconstruct", "look", "poke", "predict"]


def random_model(preset: Preset, classes: list[str], stages: tuple[int, ...]) -> AliTok:
    """Random weights, but loud ones: ids, pictures and predictions differ visibly."""
    torch.manual_seed(0)
    model = AliTok.from_preset(preset, classes, stages)
    for weight in model.ar.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)
    torch.nn.init.normal_(model.tokenizer.quantizer.codebook)
    for decoder in filter(None, (model.tokenizer.decoder1, model.tokenizer.decoder2)):
        for head in filter(None, (decoder.head, decoder.aux_head)):
            torch.nn.init.normal_(head.linear.weight, std=0.3)
            torch.nn.init.normal_(head.conv.weight)
    return model.to("cpu")


@pytest.fixture(scope="module", autouse=True)
def checkpoints(tmp_path_factory):
    """ALITOK_MODELS names two random checkpoints, the second a conventional one without causal decoder."""
    folder = tmp_path_factory.mktemp("checkpoints")
    random_model(PRESETS["tiny"], list(scenes.CLASSES), (1, 2)).save_pretrained(folder / MAIN)
    widths = {"encoder_width": 32, "encoder_depth": 1, "encoder_heads": 2}
    widths |= {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}
    tokenizer = TokenizerConfig(32, 8, codebook_size=64, code_dim=8, prefix=False, aligned=False, **widths)
    ar = ARConfig(codebook_size=64, grid=4, prefix_tokens=0, classes=2, width=32, depth=1, heads=2, hidden=64)
    random_model(Preset(tokenizer, ar, 2.0), ["cat", "dog"], (2,)).save_pretrained(folder / BASELINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALITOK_MODELS", f"{folder / MAIN}, {folder / BASELINE}")
        forget()
        yield folder
    forget()


def forget() -> None:
    models.LEFT_OUT.clear()
    models.models.cache_clear()
    models._load.cache_clear()


@pytest.fixture
def every_frame(monkeypatch):
    """A drawing shows each of its tokens while it goes on, as a large model's does."""
    monkeypatch.setattr(drawing, "FRAME_SECONDS", 0)


def same(a: list[Image.Image], b: list[Image.Image]) -> bool:
    return [x.tobytes() for x in a] == [x.tobytes() for x in b]


def last(frames) -> drawing.Frame:
    return list(frames)[-1]


# ---------------------------------------------------------------- models


def test_models_are_read_without_weights(checkpoints):
    assert list(models.models()) == [MAIN, BASELINE] and models._load.cache_info().currsize == 0
    card = models.models()[BASELINE]
    assert (card.classes, card.image_size, card.guidance) == (["cat", "dog"], 32, 2.0)
    assert (card.stages, card.knows_scenes) == ((2,), False) and models.models()[MAIN].stages == (1, 2)


@pytest.mark.parametrize(
    "value, names",
    [
        ("{0}", [MAIN, BASELINE]),  # a folder of checkpoints
        ("{0}/two-kinds", [BASELINE]),
        ("{0}/two-kinds" + os.pathsep + " {0}/scenes-random", [BASELINE, MAIN]),
        ("{0}/two-kinds,bundled", [BASELINE, *bundled()]),
        (" , ", bundled()),
    ],
)
def test_what_alitok_models_accepts(checkpoints, monkeypatch, value, names):
    monkeypatch.setenv("ALITOK_MODELS", value.format(checkpoints))
    forget()
    try:
        assert list(models.models()) == names
    finally:
        forget()


def test_bundled_models_start_with_scenes(checkpoints, monkeypatch, tmp_path):
    for name in ("photos", "scenes", "scenes-baseline"):
        shutil.copytree(checkpoints / BASELINE, tmp_path / name)
    monkeypatch.delenv("ALITOK_MODELS")
    monkeypatch.setattr("alitok_lite.store.find.CHECKPOINTS", tmp_path)
    forget()
    try:
        assert list(models.models()) == ["scenes", "photos", "scenes-baseline"]
    finally:
        forget()


def test_wrong_models(checkpoints, monkeypatch):
    monkeypatch.setenv("ALITOK_MODELS", "nonsense,none.such")
    forget()
    try:
        with pytest.raises(ValueError, match="'nonsense' is left out: no checkpoint .*'none.such' is left out"):
            models.models()
        monkeypatch.setenv("ALITOK_MODELS", f"nonsense,{checkpoints / MAIN},{checkpoints / MAIN}/")
        assert list(models.models()) == [MAIN]
        assert (
            "no checkpoint 'nonsense'" in models.LEFT_OUT[0]
            and f"another model is named '{MAIN}'" in models.LEFT_OUT[1]
        )
    finally:
        forget()


def test_get_model(checkpoints, monkeypatch):
    assert models.get_model(MAIN) is models.get_model(MAIN)
    for wrong in ("other", None, 3, [MAIN], str(checkpoints / MAIN)):
        with pytest.raises(ValueError, match=f"no model .*{MAIN}, {BASELINE}"):
            models.get_model(wrong)


def test_damaged_weights_do_not_leak_the_folder(checkpoints, monkeypatch, tmp_path, caplog):
    broken = random_model(PRESETS["tiny"], ["a"], (1,))
    broken.save_pretrained(tmp_path / "broken")
    (tmp_path / "broken" / "ar.safetensors").write_bytes(b"x")
    monkeypatch.setenv("ALITOK_MODELS", str(tmp_path / "broken"))
    forget()
    try:
        with pytest.raises(ValueError) as caught:
            models.get_model("broken")
    finally:
        forget()
    assert "could not be loaded" in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert str(tmp_path) in caplog.text


# ---------------------------------------------------------------- drawing

BAD = [math.nan, math.inf, -math.inf, True, "3", [1], -1, 10**30]


@pytest.mark.parametrize(
    "name, values",
    [
        ("seed", [*BAD, 1.5, 2**31]),
        ("guidance", [*BAD, 31]),
        ("temperature", [*BAD, 3.1, None]),
        ("count", [*BAD, 0, 17, 1.5, None]),
    ],
)
def test_bad_numbers(name, values):
    for value in values:
        with pytest.raises(ValueError) as caught:
            drawing.draw(MAIN, "sea", **{name: value})  # at once, not at the first frame
        text = str(caught.value)
        assert {"count": "how many"}.get(name, name) in text and "must be a" in text and "\n" not in text
        assert len(text) < 150


def test_bad_class():
    for value in ("dragon", "", None, 99, True, ["sea"], "x" * 10000):
        with pytest.raises(ValueError, match="no class .*sea, mountains") as caught:
            drawing.draw(MAIN, value)
        assert len(str(caught.value)) < 250


def test_a_class_by_its_number():
    card = models.check_model(MAIN)
    assert [drawing.find_class(card, entry) for entry in (3, "3", card.classes[3])] == [3, 3, 3]


def test_read_seed():
    assert [drawing.read_seed(text) for text in (None, "", " ", " 12 ", "0")] == [None, None, None, 12, 0]
    for text in ("-1", "1.5", "abc", "2147483648", "9" * 5000, "١"):
        with pytest.raises(ValueError, match="seed is"):
            drawing.draw(MAIN, "sea", drawing.read_seed(text))


@pytest.mark.parametrize("name, kind", [(MAIN, "fish"), (BASELINE, "dog")])
def test_last_frame_is_a_sample(every_frame, name, kind):
    frames = list(drawing.draw(name, kind, 7, 3.0, 0.8, 2))
    model = models.get_model(name)
    wanted = model.to_pil(model.sample([kind, kind], seed=7, guidance=3.0, temperature=0.8))
    tokens = model.tokenizer.config.tokens
    assert all(frame.ids.shape == (2, frame.token) for frame in frames)
    assert same(frames[-1].pictures, wanted) and frames[-1].done and not any(frame.done for frame in frames[:-1])
    assert [frame.token for frame in frames] == list(range(1, tokens + 1))
    assert {(frame.tokens, frame.seed, len(frame.pictures)) for frame in frames} == {(tokens, 7, 2)}
    steps = list(model.stream([kind, kind], 7, guidance=3.0, temperature=0.8))
    for count, frame in enumerate(frames, 1):
        assert frame.entropy.shape == (2, count)
        assert np.allclose(frame.entropy[:, -1], steps[count - 1].entropy, atol=1e-4)
    seconds = [frame.seconds for frame in frames]
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_defaults_are_the_checkpoints_own():
    model = models.get_model(BASELINE)
    frame = last(drawing.draw(BASELINE, "cat", 1))
    assert same(frame.pictures, model.to_pil(model.sample(["cat"], 1)))
    assert not same(frame.pictures, last(drawing.draw(BASELINE, "cat", 1, guidance=1)).pictures)


def test_seeds():
    three = last(drawing.draw(MAIN, "sea", 5, count=3)).pictures
    assert same(three, [last(drawing.draw(MAIN, "sea", seed)).pictures[0] for seed in (5, 6, 7)])
    assert len({picture.tobytes() for picture in three}) == 3
    first, second = (last(drawing.draw(MAIN, "sea")) for _ in range(2))
    assert first.seed != second.seed and 0 <= first.seed <= drawing.MAX_SEED
    assert same(first.pictures, last(drawing.draw(MAIN, "sea", first.seed)).pictures)
    assert last(drawing.draw(MAIN, "sea", 5.0)).seed == 5
    assert last(drawing.draw(BASELINE, "cat", drawing.MAX_SEED, count=2)).seed == drawing.MAX_SEED


@pytest.mark.parametrize("cost, shown", [(1.0, [5, 14, 21]), (0.25, [5, 10, 15, 20, 21])])
def test_costly_frames_leave_as_much_time_to_drawing(monkeypatch, cost, shown):
    """By a clock on which a step takes an eighth of a second and a frame `cost`."""
    now, pixels, model = [0.0], drawing.partial_pixels, models.get_model(MAIN)

    def after(seconds, result):
        now[0] += seconds
        return result

    monkeypatch.setattr(drawing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(drawing, "partial_pixels", lambda *given: after(cost, pixels(*given)))
    steps = (after(0.125, step) for step in model.stream([0], 0))
    assert [frame.token for frame in drawing._frames(model, steps, 0)] == shown


def test_frame_rate_is_bounded(monkeypatch):
    monkeypatch.setattr(drawing, "FRAME_SECONDS", 1e9)
    assert [frame.token for frame in drawing.draw(MAIN, "sea", 1)] == [21]
    monkeypatch.setattr(drawing, "FRAME_SECONDS", 0)
    assert [frame.token for frame in drawing.draw(MAIN, "sea", 1)] == list(range(1, 22))


def test_closing_stops_and_frees_the_model(every_frame, monkeypatch):
    drawn = []
    real = sampling.draw_codes
    monkeypatch.setattr(sampling, "draw_codes", lambda *args: drawn.append(1) or real(*args))
    frames = drawing.draw(MAIN, "sea", 1)
    next(frames), next(frames)
    assert not models._running.locked() and not torch.is_inference_mode_enabled()  # a paused drawing holds nothing
    other = last(drawing.draw(BASELINE, "cat", 1))
    assert other.done
    count = len(drawn)
    frames.close()
    assert len(drawn) == count == 2 + other.tokens and not models._running.locked()
    assert next(frames, None) is None


def test_partial_pictures_of_a_causal_decoder():
    model = models.get_model(MAIN)
    tokenizer, config = model.tokenizer, model.tokenizer.config
    ids = torch.randint(0, config.codebook_size, (2, config.tokens), generator=torch.Generator().manual_seed(0))
    full, aux = tokenizer.decode_with_prefix(ids)
    side = config.patch_size

    def patch(pixels: torch.Tensor, index: int) -> torch.Tensor:
        y, x = divmod(index, config.grid)
        return pixels[:, :, y * side : (y + 1) * side, x * side : (x + 1) * side]

    for known in (1, 3, 5, 6, 11, 20):
        shown = drawing.partial_pixels(tokenizer, ids[:, :known])
        for index in range(config.grid**2):
            part = patch(shown, index)
            if index < known - config.prefix_tokens:
                assert torch.allclose(part, patch(full, index), atol=1e-5)
            elif index < min(known - 1, config.grid):  # the prefix sketches the first row, half transparent
                pale = 0.93 - 0.03 * (index % 2)
                assert torch.allclose(part, (pale + aux[:, 1 + index]) / 2, atol=1e-5)
            else:
                assert part.std() < 1e-6 and 0.89 < part.mean() < 0.94
    assert torch.equal(drawing.partial_pixels(tokenizer, ids), packed(tokenizer).decode(ids, 2))


def test_without_a_causal_decoder_partial_pictures_are_previews(every_frame):
    frames = list(drawing.draw(BASELINE, "cat", 3))
    assert [frame.preview for frame in frames] == [True] * 15 + [False]
    assert not any(frame.preview for frame in drawing.draw(MAIN, "sea", 3))
    tokenizer = models.get_model(BASELINE).tokenizer
    ids = torch.tensor([[3, 9]])
    filled = torch.tensor([[3] + [9] * 15])
    assert torch.equal(drawing.partial_pixels(tokenizer, ids), packed(tokenizer).decode(filled))


def test_save_drawing_says_how_to_draw_it_again(tmp_path):
    frame = last(drawing.draw(BASELINE, "cat", 11, count=2))
    path = drawing.save_drawing(tmp_path, frame, BASELINE, "cat/../é", None, 1)
    assert path.parent == tmp_path and path.name == "cat-11.png"
    with Image.open(path) as image:
        text = {key: str(value) for key, value in image.text.items()}
        assert image.tobytes() == drawing.contact_sheet(frame.pictures).tobytes()
    assert text["class"] == "cat/../é" and text["seed"] == "11" and text["model"] == BASELINE
    assert (text["guidance"], text["temperature"], text["pictures"]) == ("2", "1", "2")


@pytest.mark.parametrize("size", [64, 96, 256])
def test_contact_sheets_fit_the_page(size):
    for count in range(1, 17):
        width, height = drawing.contact_sheet([Image.new("RGB", (size, size))] * count).size
        assert width >= height and (width <= 640 or size == 256)


# ---------------------------------------------------------------- the app


def load_app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("app", Path(__file__).parents[1] / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def app(checkpoints):
    """app.py as a module; importing it builds the page."""
    forget()
    module = load_app()
    assert models._load.cache_info().currsize == 0  # the page needs no weights
    return module


@pytest.fixture(scope="module")
def client(app, tmp_path_factory):
    """A client of the app on a loopback port."""
    _, url, _ = app.demo.launch(**app.LAUNCH, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    client = Client(url, verbose=False, download_files=tmp_path_factory.mktemp("answers"))
    yield client
    client.close()
    app.demo.close()


def ask(client: Client, **changes: object) -> tuple:
    wanted = {"model": MAIN, "class_name": "fish", "seed": "7", "guidance": 1, "temperature": 1, "count": 1}
    return client.predict(**(wanted | changes), api_name="/draw")


def played(html: str) -> list[Image.Image]:
    """The frames in a player, cut out of the picture that holds them all."""
    play, side = (json.loads(unescape(re.search(f'data-{name}="([^"]*)"', html)[1])) for name in ("play", "side"))
    width, height = (int(re.search(f'<canvas[^>]* {name}="([0-9]+)"', html)[1]) for name in ("width", "height"))
    with Image.open(io.BytesIO(base64.b64decode(side["sprite"].split(",")[1]))) as file:
        paper = file.convert("RGB")
    places = [divmod(index, side["columns"]) for index in range(len(play["steps"]))]
    return [paper.crop((x * width, y * height, (x + 1) * width, (y + 1) * height)) for y, x in places]


def test_draw_over_the_network(client):
    """One answer with all frames; the file is the picture that is drawn without the app."""
    job = client.submit(MAIN, "fish", "7", 3, 0.5, 2, api_name="/draw")
    html, status, download, ids, link, script = job.result(timeout=60)
    wanted = last(drawing.draw(MAIN, "fish", 7, 3.0, 0.5, 2))
    with Image.open(download["value"] if isinstance(download, dict) else download) as image:
        text = dict(image.text)
        assert image.tobytes() == drawing.contact_sheet(wanted.pictures).tobytes()
    assert (text["class"], text["seed"], text["model"], text["guidance"]) == ("fish", "7", MAIN, "3")
    assert "seed 7" in status and "21 tokens" in status and len(job.outputs()) == 1
    assert html.count("<b ") == 21 and "blank" not in html and "model.stream([7] * 2, seed=7" in script
    assert ids == " ".join(map(str, wanted.ids[0].tolist()))
    assert link == f"tab=draw&model={MAIN}&class=fish&seed=7&guidance=3&temperature=0.5&count=2"
    model = models.get_model(MAIN)
    frames = played(html)
    assert len(frames) == 21 and frames[-1].tobytes() == sheet(wanted.pictures, 2, 4).tobytes()
    partial = model.to_pil(drawing.partial_pixels(model.tokenizer, wanted.ids[:, :12]))
    assert np.abs(np.asarray(frames[11], int) - np.asarray(sheet(partial, 2, 4), int)).max() <= 1


def test_a_large_models_drawing_is_shown_while_it_goes_on(client, every_frame):
    job = client.submit(MAIN, "fish", "7", 3, 0.5, 2, api_name="/draw")
    job.result(timeout=60)
    earlier = job.outputs()[:-1]
    assert ["of 21" in answer[1] for answer in earlier] == [True] * 20
    assert [answer[0].count("blank") for answer in earlier] == list(range(20, 0, -1))  # entropy token by token


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_animations(client, kind):
    link = ask(client, count=2)[4]
    with Image.open(client.predict(link, kind, api_name="/animation")) as file:
        assert (file.format, file.n_frames, file.info["loop"]) == (kind.upper(), 21, 0)
        file.seek(20)
        found = np.asarray(file.convert("RGB"), int)
    paper = sheet(last(drawing.draw(MAIN, "fish", 7, 1, 1, 2)).pictures, 2, 4)
    wanted = np.asarray(paper.resize((2 * paper.width, 2 * paper.height)), int)
    assert np.abs(found - wanted).mean() < 12
    for wrong, words in (((link, "exe"), "must be one of gif, webp"), (("x=1", kind), "draw something first")):
        with pytest.raises(AppError, match=words):
            client.predict(*wrong, api_name="/animation")


def test_many_tokens_are_sent_in_few_frames(monkeypatch):
    frame, model = last(drawing.draw(MAIN, "sea", 1, count=2)), models.get_model(MAIN)
    monkeypatch.setattr(drawing, "MAX_FRAMES", 5)
    assert drawing.played(model, frame.ids)[0] == [1, 6, 11, 16, 21]
    monkeypatch.setattr(drawing, "MAX_FRAME_PIXELS", 3 * 2 * 64 * 64)
    steps, frames = drawing.played(model, frame.ids)
    assert steps == [1, 11, 21] and len(frames) == 3


def test_seeds_over_the_network(client):
    statuses = {ask(client, seed=seed)[1].split("seed")[1] for seed in ("", "", 5, "5")}
    assert len(statuses) == 3 and any(" 5*" in status for status in statuses)


def test_second_model_over_the_network(client):
    _, status, *_ = ask(client, model=BASELINE, class_name="dog", guidance=2)
    assert "16 tokens" in status


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"class_name": "dragon"}, "no class 'dragon'"),
        ({"class_name": "<img src=x>"}, "&lt;img src=x&gt;"),
        ({"model": BASELINE}, "no class 'fish': give a number from 0 to 1 or one of cat, dog"),
        ({"seed": "1.5"}, "seed is '1.5'"),
        ({"seed": "-1"}, "from 0 to 2147483647"),
        ({"seed": True}, "seed is 'True'"),
        ({"count": True}, "how many is True"),
        ({"count": 1.5}, "whole number from 1 to 16"),
        ({"count": 99}, "16"),
        ({"temperature": -1}, "temperature is -1; it must be a number from 0 to 3"),
        ({"guidance": "3"}, "guidance is '3'"),
        ({"model": ["x"]}, "no model"),
    ],
)
def test_mistakes_over_the_network(client, capfd, changes, words):
    with pytest.raises(AppError) as caught:
        ask(client, **changes)
    text = str(caught.value)
    assert words in text and "Traceback" not in text and str(Path.cwd()) not in text
    assert "Traceback" not in capfd.readouterr().err


def test_public_events_are_described(client):
    events = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(events) == {f"/{name}" for name in BORROWERS}
    for event in events.values():
        assert event["description"]


def test_settings(app):
    config = app.demo.get_config_file()
    assert app.demo.analytics_enabled is False and app.demo.delete_cache == (600, 3600)
    assert app.LAUNCH["state_session_capacity"] <= 100
    assert app.LAUNCH["share"] is False and app.LAUNCH["show_error"] is False and app.LAUNCH["ssr_mode"] is False
    assert not {"server_name", "server_port", "allowed_paths"} & set(app.LAUNCH)
    functions = app.demo.fns.values()
    shared = [fn.concurrency_id == "model" for fn in functions if fn.api_name in BORROWERS]
    assert len(shared) == len(BORROWERS) and all(shared)
    assert "fonts.googleapis" not in json.dumps(config, default=str)


def test_nobody_jumps_the_queue(client):
    for name in BORROWERS:
        answer = httpx.post(f"{client.src.rstrip('/')}/gradio_api/run/{name}", json={"data": [MAIN, None]})
        assert answer.status_code == 404


def test_page_without_models(app, monkeypatch):
    monkeypatch.setattr("alitok_lite.demo.drawing.models", dict)
    monkeypatch.setattr("alitok_lite.demo.models.models", dict)
    assert "No model found" in json.dumps(app.build().get_config_file(), default=str)


def test_page_says_what_is_missing(app, monkeypatch):
    cards = {name: card._replace(ar=None) for name, card in models.models().items()}
    monkeypatch.setattr(drawing, "models", lambda: cards)
    monkeypatch.setattr(models, "models", lambda: cards)
    for module in ("poke", "predict", "tell", "tour"):
        monkeypatch.setattr(f"alitok_lite.demo.{module}.models", lambda: cards)
    text = json.dumps(app.build().get_config_file(), default=str)
    assert "No model here can draw" in text and "No model here predicts scenes" in text and "Reconstruct" in text


@pytest.mark.parametrize("limit, within", [(10**12, 1), (1, 2)])
def test_a_small_model_draws_with_one_thread(monkeypatch, limit, within):
    """And the number of threads is as it was between the frames, also where a thread began with another one."""
    monkeypatch.setattr(drawing, "CPU_THREADS", 2)
    monkeypatch.setattr(drawing, "SMALL_MODEL", limit)
    before, seen, shown = torch.get_num_threads(), [], drawing.partial_pixels
    monkeypatch.setattr(drawing, "partial_pixels", lambda *args: seen.append(torch.get_num_threads()) or shown(*args))
    torch.set_num_threads(1)
    try:
        for _ in drawing.draw(
            models.drawing_models()[0], models.get_model(models.drawing_models()[0]).classes[0], seed=0
        ):
            assert torch.get_num_threads() == 2
        assert set(seen) == {within}
    finally:
        torch.set_num_threads(before)
