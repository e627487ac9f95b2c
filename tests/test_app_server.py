"""What the app's server must stand: many clients at once, bad input past the page, streams that nobody reads."""

import base64
import io
import json
import os
import re
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from test_app import MAIN, app, checkpoints, client, last  # noqa: F401 (fixtures)

from alitok_lite import model
from alitok_lite.core import sampling
from alitok_lite.demo import drawing, examples

WEB = httpx.Client(verify=False, timeout=60)
CLIENTS, SECONDS = 20, float(os.environ.get("LOAD_SECONDS", "3"))  # 120 for the whole of it


def post(client: Client, name: str, data: str) -> str:
    """The answer to a request whose arguments are JSON text, as no well-behaved client would send it."""
    base = f"{client.src.rstrip('/')}/gradio_api/call/{name}"
    content, kind = f'{{"data": {data}}}', {"content-type": "application/json"}
    answer = WEB.post(base, content=content, headers=kind)
    if answer.status_code != 200:
        return answer.text
    return WEB.get(f"{base}/{answer.json()['event_id']}").text


def resident() -> float:
    """Memory of this process in MB, the server's threads included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def draw_fish(client: Client, seed: int, **changes: object) -> tuple:
    wanted = {"model": MAIN, "class_name": "fish", "seed": str(seed), "guidance": 1, "temperature": 1, "count": 1}
    return client.predict(**wanted | changes, api_name="/draw")


# ---------------------------------------------------------------- many at once


def drawn(client: Client, seed: int) -> Image.Image | str:
    """A picture by the plainest requests, which cost little beside the server's work; or why there is none."""
    data = json.dumps([MAIN, "fish", str(seed), 1, 1, 1])
    text = post(client, "draw", data)
    if "event: complete" not in text:
        return text
    answer = json.loads(text.rsplit("data: ", 1)[1])[2]
    file = WEB.get(answer.get("value", answer)["url"])
    return Image.open(io.BytesIO(file.content))


@pytest.mark.slow
def test_many_clients_at_once(client):
    """Each client's pictures are those drawn alone, and nobody is refused."""
    wanted = [drawing.contact_sheet(last(drawing.draw(MAIN, "fish", seed)).pictures) for seed in range(CLIENTS)]
    counts, refused, wrong = [0] * CLIENTS, [], []

    def go(seed: int) -> None:
        while time.monotonic() < deadline:
            picture = drawn(client, seed)
            if isinstance(picture, str):
                refused.append(picture)
            elif picture.tobytes() != wanted[seed].tobytes() or picture.text["seed"] != str(seed):
                wrong.append(seed)
            else:
                counts[seed] += 1

    assert not isinstance(drawn(client, 0), str)
    before, deadline = resident(), time.monotonic() + SECONDS
    threads = [threading.Thread(target=go, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 60)
    grown = resident() - before
    print(f"{sum(counts)} pictures in {SECONDS:g} s, {len(refused)} refused, {grown:.0f} MB more than {before:.0f}")
    assert not wrong and min(counts) >= 1
    assert not refused, set(refused)
    assert grown < 100


# ---------------------------------------------------------------- streams


@pytest.fixture
def slowly(monkeypatch):
    """A drawing at temperature 0.9 takes over ten seconds, unless it is stopped."""
    real = sampling.draw_codes

    def late(logits, scale, noise, settings):
        time.sleep(0.6 * (settings.temperature == 0.9))
        return real(logits, scale, noise, settings)

    monkeypatch.setattr(sampling, "draw_codes", late)


@pytest.mark.slow
def test_a_cancelled_drawing_frees_the_model(client, slowly):
    job = client.submit(MAIN, "fish", "1", 1, 0.9, 1, api_name="/draw")
    while len(job.outputs()) < 2:
        time.sleep(0.05)
    start = time.monotonic()
    assert job.cancel()
    draw_fish(client, 2)
    assert time.monotonic() - start < 5 and len(job.outputs()) < 10


@pytest.mark.slow
def test_a_dropped_drawing_frees_the_model(client, slowly):
    base = f"{client.src.rstrip('/')}/gradio_api/queue"
    index = next(fn["id"] for fn in client.config["dependencies"] if fn["api_name"] == "draw")
    request = {"data": [MAIN, "fish", "1", 1, 0.9, 1], "fn_index": index, "session_hash": "dropped"}
    assert httpx.post(f"{base}/join", json=request).status_code == 200
    with httpx.stream("GET", f"{base}/data?session_hash=dropped", timeout=30) as stream:
        for line in stream.iter_lines():
            if "process_generating" in line:
                break
    start = time.monotonic()
    draw_fish(client, 2)
    assert time.monotonic() - start < 5


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("draw", '["%s", "fish", "7", NaN, 1, 1]', "guidance is nan; it must be a number from 0 to 30"),
        ("draw", '["%s", "fish", "7", 1, Infinity, 1]', "temperature is inf"),
        ("draw", '["%s", "fish", "7", 1, 1, -Infinity]', "how many is -inf"),
        ("draw", '["%s", "fish", {"a": 1}, 1, 1, 1]', "seed is"),
        ("draw", '["%s", {"a": 1}, "7", 1, 1, 1]', "no class"),
        ("draw", '["%s", "fish", -0.5, 1, 1, 1]', "seed is '-0.5'"),
        ("draw", '["%s", "fish", 99999999999999999999999, 1, 1, 1]', "from 0 to 2147483647"),
        ("look", '["%s", "fish", null, "causal", 1e999, 0, 0]', "layer is inf"),
        ("poke", '["%s", "fish", null, "keep", 0, 0, NaN, "sea"]', "is nan; it must be a whole number from 0 to 21"),
        ("predict", "[{}]", "no scene"),
    ],
)
def test_requests_past_the_page(client, name, data, words):
    text = post(client, name, data % MAIN if "%s" in data else data)
    assert "event: error" in text and words in json.loads(text.split("data: ", 1)[1])["error"]
    assert "Traceback" not in text and "/" not in text.split("data: ")[1]


@pytest.mark.parametrize(
    "data",
    [
        '["%s", null, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]',
        '["%s", null, "/etc/passwd"]',
        '["%s", null, 3]',
        '["%s"]',
    ],
)
def test_foreign_files_and_wrong_shapes_are_refused(client, data):
    text = post(client, "reconstruct", data % MAIN)
    assert "event: error" in text and "root" not in text and "Traceback" not in text
    assert draw_fish(client, 1)  # and the app serves on


def picture(folder: Path, name: str) -> Path:
    """A file of some awkward kind."""
    path, scene = folder / f"picture.{name.split('.')[-1]}", examples.scene_pixels("sea", 64)
    scene = model.AliTok.to_pil(scene)[0]
    if name == "empty.png":
        path.write_bytes(b"")
    elif name == "text.png":
        path.write_text("<html>")
    elif name == "cut.png":
        scene.save(path)
        path.write_bytes(path.read_bytes()[:3000])
    elif name == "bomb.png":
        Image.new("1", (13000, 13000)).save(path)
    elif name == "small.png":
        scene.resize((4, 4)).save(path)
    elif name == "still.gif":
        scene.save(path)
    elif name == "moving.webp":
        scene.save(path, save_all=True, append_images=[Image.new("RGB", (64, 64))], lossless=True)
    elif name == "cmyk.jpg":
        scene.convert("CMYK").save(path, quality=95)
    elif name == "deep.png":
        Image.fromarray(np.full((64, 64), 40000, np.uint16)).save(path)
    elif name == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        scene.rotate(90).save(path, quality=95, exif=exif)
    return path


@pytest.mark.parametrize(
    "name, words",
    [
        ("empty.png", "is not a picture"),
        ("text.png", "is not a picture"),
        ("cut.png", "is damaged: the file is cut short"),
        ("bomb.png", "too many"),
        ("small.png", "4 x 4 pixels, too few"),
        ("still.gif", "is not a picture"),
    ],
)
def test_bad_uploads(client, tmp_path, name, words):
    before = resident()
    with pytest.raises(AppError, match=words) as caught:
        client.predict(MAIN, "fish", handle_file(picture(tmp_path, name)), api_name="/reconstruct")
    text = str(caught.value)
    assert "/tmp" not in text and "gradio" not in text and "\n" not in text and text.count("PNG, JPEG or WEBP") == 1
    assert resident() - before < 100


@pytest.mark.parametrize("name", ["moving.webp", "cmyk.jpg", "deep.png", "turned.jpg"])
def test_unusual_uploads(client, tmp_path, name):
    html, *_ = client.predict(MAIN, None, handle_file(picture(tmp_path, name)), api_name="/reconstruct")
    shown = base64.b64decode(re.findall('class="over"[^>]*base64,([^"]+)', html)[0])
    with Image.open(io.BytesIO(shown)) as image:
        found = np.asarray(image.convert("RGB"), int)
    wanted = np.asarray(model.AliTok.to_pil(examples.scene_pixels("sea", 64))[0], int)
    wanted = np.full_like(wanted, round(40000 / 257)) if name == "deep.png" else wanted
    assert np.abs(found - wanted).mean() < 12  # upright, its first frame, in its own colours
