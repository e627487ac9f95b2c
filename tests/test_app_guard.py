"""What the app lets in from the web, and for how long: uploads, arguments, errors, time limits, models, its cache."""

import asyncio
import atexit
import inspect
import io
import json
import os
import pickle
import platform
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio import queueing
from gradio.events import EventData
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from test_app import BASELINE, MAIN, app, ask, checkpoints, client, every_frame, forget, load_app  # noqa: F401 (fixtures)
from test_app_server import post

from alitok_lite.cli.page import HEAPS
from alitok_lite.demo import components, drawing, guard, look, models, reconstruct
from alitok_lite.demo import examples as demo_views
from alitok_lite.demo.guard import (
    DEFAULT_LIMIT,
    FOREIGN_FILE,
    LIMITS,
    SERVER_FAULT,
    Limit,
    limited,
    opened,
    plain_errors,
)
from alitok_lite.measure import metrics
from alitok_lite.model import AliTok

ROOT = Path(__file__).parents[1]
META = {"meta": {"_type": "gradio.FileData"}}


def error(text: str) -> str | None:
    """The sentence of a refusal; None if an answer is none."""
    if "event: error" not in text:
        return None
    return json.loads(text.rsplit("data: ", 1)[1])["error"] or "null"


def arguments(endpoint: dict) -> list:
    """The defaults of an endpoint of the API."""
    return [one["parameter_default"] for one in endpoint["parameters"]]


@cache
def listed(client: Client) -> dict[str, dict]:
    """The endpoints of the API by name, without the slash."""
    found = httpx.get(f"{client.src.rstrip('/')}/gradio_api/info?all_endpoints=true").json()
    assert not found["unnamed_endpoints"]
    return {name.strip("/"): endpoint for name, endpoint in found["named_endpoints"].items()}


def with_files(client: Client) -> list[tuple[str, list, int]]:
    """Endpoints with a file among their arguments: name, arguments, its place among them."""
    places = []
    for name, endpoint in listed(client).items():
        for place, one in enumerate(endpoint["parameters"]):
            if "path" in json.dumps(one["type"]):
                places.append((name, arguments(endpoint), place))
    return places


# ---------------------------------------------------------------- uploads


@pytest.fixture
def bad_paths(tmp_path, monkeypatch) -> list[str]:
    """Paths to what was not uploaded, or is no file."""
    monkeypatch.chdir(ROOT)
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    inside = Path(tempfile.mkdtemp(dir=folder))
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64), "red").save(secret)
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(inside / "pipe.png")
    (inside / "link.png").symlink_to(secret)
    (inside / "away").symlink_to(tmp_path)
    (inside / "large.png").write_bytes(b"")
    os.truncate(inside / "large.png", guard.MAX_UPLOAD + 1)
    (inside / "sub").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(inside / "socket.png"))
    paths = [secret, "/etc/passwd", "/etc/nonexistent", "/proc/self/environ", tmp_path, tmp_path / "pipe.png", ROOT]
    paths += [inside / name for name in ("missing.png", "pipe.png", "link.png", "away/secret.png", "large.png", "sub")]
    paths += [inside / "socket.png", folder, inside, f"{inside}/../../{os.path.relpath(secret, folder.parent)}"]
    paths += [f"{inside}/../../../../../../../../../etc/passwd", f"{inside}/link.png/..", f"{folder}x/secret.png"]
    paths += ["alitok_lite/sheets/scenes-samples.png", "app.py", ".", "..", "", "~", "\0", f"{inside}/\0", "\ud800"]
    paths += [f"{inside}/{'x' * 5000}", "file:///etc/passwd", f"file://{inside}/pipe.png", "data:image/png;base64,aGk="]
    yield [str(path) for path in paths]
    shutil.rmtree(inside)


@pytest.fixture
def web(monkeypatch):
    """A server of files on the loopback; afterwards nobody may have asked it for one."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                asked.append(connection)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a.png"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert not asked


def shapes(path: str, url: str) -> list:
    """What a request may hold for a file."""
    plain = [{"path": path}, {"path": path, **META}, {"path": path, "url": url}, {"path": path, "url": url, **META}]
    odd = [{"path": path, "meta": value} for value in (None, [], "gradio.FileData", {"_type": 3}, {})]
    odd += [{"path": path, "is_stream": True, **META}, {"path": path, "orig_name": "a.png", "size": 3, **META}]
    return (
        plain + odd + [{"url": path}, {"url": path, **META}, path, [path], {"path": [path]}, {"path": {"path": path}}]
    )


def test_nothing_but_uploads_reaches_the_loader(client, bad_paths, web, monkeypatch):
    """Every endpoint of the API that takes a file: one and the same sentence, whatever the path and its shape."""
    read, places, sentences = [], with_files(client), set()
    monkeypatch.setattr("alitok_lite.demo.examples.load_picture", lambda file, _: read.append(file.name))
    assert {name for name, _, _ in places} >= {"reconstruct", "look", "poke"}
    for name, data, place in places:
        first = name == places[0][0]  # the others get a few: all use the same function, which is tested by itself
        odd = shapes(bad_paths[0], web) if first else []
        for data[place] in [*({"path": path} for path in [*bad_paths[: None if first else 5], web]), *odd]:
            sentences.add(error(post(client, name, json.dumps(data))))
    assert (sentences, read) == ({FOREIGN_FILE}, [])


def test_no_shape_of_any_path_is_opened(bad_paths):
    for path in bad_paths:
        for value in shapes(path, "http://127.0.0.1:1/a.png"):
            with pytest.raises(gr.Error) as caught:
                opened(value)
            assert caught.value.message == FOREIGN_FILE and not caught.value.print_exception


@pytest.mark.parametrize("value", [True, False, 0, 3, 1.5, "x", [], [None], {}, {"x": 1}, {"path": None}, {"path": 3}])
def test_what_is_no_file(client, value):
    for name, data, place in with_files(client):
        data[place] = value
        assert error(post(client, name, json.dumps(data))) == FOREIGN_FILE


@pytest.mark.slow
def test_no_other_argument_is_taken_for_a_file(client, bad_paths, web, capfd):
    """Gradio looks for files, here and elsewhere, in the arguments of every component."""
    for name, endpoint in listed(client).items():
        for place, one in enumerate(endpoint["parameters"]):
            for path in [bad_paths[0], web]:
                data = arguments(endpoint)
                data[place] = {"path": path, "url": path, **META}
                sentence = error(post(client, name, json.dumps(data))) or "what it asks for needs it not {...}"
                assert sentence == FOREIGN_FILE if "path" in json.dumps(one["type"]) else "{...}" in sentence
    assert "Traceback" not in capfd.readouterr().err


def test_uploads_are_read(client, tmp_path):
    """With and without `meta`."""
    AliTok.to_pil(demo_views.scene_pixels("house", 100))[0].save(tmp_path / "mine.png")
    base = f"{client.src.rstrip('/')}/gradio_api"
    (path,) = httpx.post(f"{base}/upload", files={"files": ("mine.png", (tmp_path / "mine.png").read_bytes())}).json()
    wanted = reconstruct.reconstruct(MAIN, None, tmp_path / "mine.png").html
    for value in ({"path": path}, {"path": path, **META}, {"path": path, "url": f"{base}/file={path}", **META}):
        text = post(client, "reconstruct", json.dumps([MAIN, None, value]))
        assert json.loads(text.rsplit("data: ", 1)[1])[0] == wanted
    os.unlink(path)
    assert error(post(client, "reconstruct", json.dumps([MAIN, None, {"path": path}]))) == FOREIGN_FILE


def test_an_upload_is_read_into_memory(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for folder in ("real", "link"):  # the folder itself may be a link, and may be named by where it leads
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / folder))
        file = opened({"path": str(tmp_path / folder / "a.png")})
        assert (file.read(), file.name) == (b"abc", "a.png")
    assert opened({"path": str(tmp_path / "real" / "a.png")}).read() == b"abc"
    assert opened(None) is None
    copy = pickle.loads(pickle.dumps(opened({"path": str(tmp_path / "real" / "a.png")})))  # a borrowed GPU's process
    assert (copy.read(), copy.name) == (b"abc", "a.png")


def test_refusals_leave_no_file_open(bad_paths):
    before = len(os.listdir("/proc/self/fd"))
    for path in bad_paths * 3:
        with pytest.raises(gr.Error):
            opened({"path": path})
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_foreign_paths_are_not_even_looked_at(bad_paths, monkeypatch):
    looked = []
    for name in ("open", "stat", "lstat", "readlink"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path, *a, real=real, **k: looked.append(path) or real(path, *a, **k))
    folder = get_upload_folder()
    for path in bad_paths:
        if not os.path.normpath(path).startswith(folder + os.sep):
            with pytest.raises(gr.Error):
                opened({"path": path})
    assert all(str(path).startswith(folder) or os.path.dirname(folder).startswith(str(path)) for path in looked)


# ---------------------------------------------------------------- arguments

WRONG = [None, True, "\ud800", 1.5, 10**30, ["sea"], {"a": 1}]


def called(app, fn: int, data: list, event_data: object = None) -> str | None:
    """The sentence of a refusal by an event, without the way through the server, which costs most of the time."""
    session = app.demo.state_holder["odd"]
    try:
        asyncio.run(app.demo.process_api(fn, data, session, event_data=EventData(None, event_data)))
    except gr.Error as caught:
        assert not caught.print_exception
        return caught.message
    return None


def events(app, client: Client) -> list[tuple[int, list]]:
    """Everything that a request can name, those of the page itself included, with arguments that are right."""
    defaults = {name: arguments(endpoint) for name, endpoint in listed(client).items()}
    return [
        (index, defaults.get(fn.api_name) or [getattr(block, "value", None) for block in fn.inputs])
        for index, fn in app.demo.fns.items()
        if not fn.cancels
    ]


@pytest.mark.slow
def test_wrong_arguments_get_a_sentence(app, client, capfd, caplog):
    """Each argument of each event, those of the page included: an answer or one sentence, and no traceback."""
    checked = 0
    for fn, data in events(app, client):
        for place in range(len(data)):
            for value in WRONG:
                sentence = called(app, fn, [*data[:place], value, *data[place + 1 :]])
                assert sentence != SERVER_FAULT, (fn, place, value)
                assert sentence is None or ("\n" not in sentence and len(sentence) < 300)
                checked += 1
    assert checked > 200
    assert "Traceback" not in capfd.readouterr().err + caplog.text


def test_too_few_and_too_many_arguments_get_a_sentence(app, client, capfd, caplog):
    for fn, data in events(app, client):
        for wrong in ([], data[:-1], [*data, None], [*data, 1, 2]):
            if len(wrong) != len(data):
                sentence = called(app, fn, wrong)
                assert "takes" in sentence or "nothing to call" in sentence, (fn, sentence)
    names = "model, scene, picture, experiment, token, new_id, count, other"
    wanted = f"poke takes 8 arguments ({names}), and 1 were given"
    assert error(post(client, "poke", json.dumps([MAIN]))) == wanted
    assert "and 9 were given" in error(post(client, "poke", json.dumps([None] * 9)))
    assert "Traceback" not in capfd.readouterr().err + caplog.text


def test_wrong_types_through_the_server(client, capfd, caplog):
    """The same for some, as a client gets it."""
    for value, shown in (("\ud800", "'?'"), (["sea"], "'[...]'"), ({"a": 1}, "'{...}'"), (None, "'None'")):
        assert f"no model {shown}" in error(post(client, "look", json.dumps([value, "sea", None, "ar", 0, 0, 0])))
    assert "Traceback" not in capfd.readouterr().err + caplog.text


def test_odd_clicks_get_a_sentence(app, client, capfd, caplog):
    index = next(index for index, fn in app.demo.fns.items() if fn.name == "picked_token")
    for data in (None, [], "x", 3, {}, {"token": "3"}, {"token": [1]}, {"token": -1}, {"target": 1}):
        assert "token is" in called(app, index, [], data)
    assert called(app, index, [], {"token": 3}) is None
    assert "Traceback" not in capfd.readouterr().err + caplog.text


@pytest.mark.parametrize(
    "path, body",
    [
        ("call/nonsense", {"data": []}),
        ("call/v2/nonsense", {}),
        ("call/v2/draw", {"nonsense": 1}),
        ("run/nonsense", {"data": []}),
        ("queue/join", {"data": [], "fn_index": 99999, "session_hash": "odd"}),
        ("component_server", {"data": [], "component_id": 99999, "session_hash": "odd", "fn_name": "x"}),
    ],
)
def test_requests_for_what_there_is_not(client, capfd, path, body):
    answer = httpx.post(f"{client.src.rstrip('/')}/gradio_api/{path}", json=body)
    assert answer.status_code == 400 and "no such endpoint" in answer.json()["detail"]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_every_argument_has_a_default_and_an_example_that_are_right(client):
    for name, endpoint in listed(client).items():
        assert all(one["parameter_has_default"] for one in endpoint["parameters"]), name
        assert client.predict(api_name=f"/{name}")
        examples = [one["example_input"] for one in endpoint["parameters"]]
        assert "event: complete" in post(client, name, json.dumps(examples))
    seeds = {client.predict(api_name="/draw")[1].split("seed")[1] for _ in range(2)}
    assert len(seeds) == 2  # drawn at random


def test_errors_of_other_kinds_are_told_and_logged(client, monkeypatch, caplog):
    def broken(*_: object) -> None:
        raise KeyError("/home/somebody/secret")

    monkeypatch.setattr(reconstruct, "reconstruct", broken)
    assert error(post(client, "reconstruct", json.dumps([MAIN, "sea", None]))) == SERVER_FAULT
    assert "KeyError: '/home/somebody/secret'" in caplog.text
    caplog.clear()
    monkeypatch.setattr(gr.Blocks, "postprocess_data", broken)  # Gradio's own part
    assert error(post(client, "predict", '["sea"]')) == SERVER_FAULT and "KeyError" in caplog.text


# ---------------------------------------------------------------- time


@pytest.fixture
def stuck(monkeypatch):
    """An event that is set at the end: what waits for it is stuck until then. Calls are given up early."""
    end = threading.Event()
    monkeypatch.setattr(guard, "DEFAULT_LIMIT", Limit(0.3, 0.3))
    monkeypatch.setattr(guard, "LIMITS", {"draw": Limit(0.3, 3000)})
    yield end
    end.set()


def wait_for(condition, seconds: float = 20) -> None:
    """Until it is true, or the test has failed."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_stuck_call_is_given_up(client, stuck, monkeypatch):
    """And who comes next is served: the queue has one place."""
    client.predict("sea", api_name="/predict")  # loaded
    before = threading.active_count()
    monkeypatch.setattr(reconstruct, "reconstruct", lambda *_: stuck.wait(20))
    for _ in range(2):
        with pytest.raises(AppError, match="took too long and was given up"):
            client.predict(api_name="/reconstruct")
        monkeypatch.setattr(guard, "DEFAULT_LIMIT", DEFAULT_LIMIT)
        assert client.predict("sea", api_name="/predict")
        monkeypatch.setattr(guard, "DEFAULT_LIMIT", Limit(0.3, 0.3))
    stuck.set()
    wait_for(lambda: threading.active_count() <= before + 1)  # what was left behind has ended too


@pytest.mark.slow
@pytest.mark.parametrize("frames", [0, 2])
def test_a_stuck_drawing_is_given_up(client, every_frame, stuck, monkeypatch, frames):
    closed, real = threading.Event(), drawing.draw

    def hangs(*args: object):
        try:
            for _, frame in zip(range(frames), real(*args), strict=False):
                yield frame
            stuck.wait(20)
            yield frame
        finally:
            closed.set()

    ask(client)
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "draw", hangs)
        job = client.submit(MAIN, "fish", "1", 1, 1, 1, api_name="/draw")
        with pytest.raises(AppError, match="took too long and was given up"):
            job.result(timeout=60)
        assert len(job.outputs()) >= frames
    monkeypatch.setattr(guard, "LIMITS", LIMITS)
    assert "seed 7" in ask(client)[1]
    assert not closed.is_set()
    stuck.set()
    assert closed.wait(20)  # it is not drawn to its end


@pytest.mark.slow
def test_an_endless_drawing_is_given_up(client, every_frame, monkeypatch):
    """Each frame comes in time, but they do not come to an end."""
    monkeypatch.setattr(guard, "LIMITS", {"draw": Limit(60, 0.5)})
    drawn, real = [], drawing.draw

    def endless(*args: object):
        frame, late = next(real(*args)), time.monotonic() + 20
        while time.monotonic() < late:
            drawn.append(1)
            time.sleep(0.02)
            yield frame

    with monkeypatch.context() as patch:
        patch.setattr(drawing, "draw", endless)
        with pytest.raises(AppError, match="took too long"):
            ask(client)
    monkeypatch.setattr(guard, "LIMITS", LIMITS)
    assert "seed 7" in ask(client)[1]
    count = len(drawn)
    time.sleep(0.2)
    assert len(drawn) <= count + 1


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["_running", "_loading"])
def test_a_lock_that_is_never_freed_is_told(client, monkeypatch, lock):
    """Whatever keeps a model for good: each visitor gets a sentence, and those who need no model are served."""
    monkeypatch.setattr(models, "TURN_SECONDS", 0.1)
    forget()
    with getattr(models, lock):
        for name, endpoint in listed(client).items():
            assert "busy for too long" in error(post(client, name, json.dumps(arguments(endpoint))))
        assert "no class" in error(post(client, "draw", json.dumps([MAIN, "x", "", 1, 1, 1])))
    for name, endpoint in listed(client).items():
        assert error(post(client, name, json.dumps(arguments(endpoint)))) is None


@pytest.mark.slow
def test_a_stuck_call_that_holds_the_model_does_not_hold_the_others(client, stuck, monkeypatch):
    monkeypatch.setattr(models, "TURN_SECONDS", 0.1)
    real = metrics.psnr

    def hangs(*_: object) -> None:
        with models.running():
            stuck.wait(20)

    client.predict("sea", api_name="/predict")
    monkeypatch.setattr(look, "look", hangs)
    monkeypatch.setattr(reconstruct, "psnr", real)
    with pytest.raises(AppError, match="took too long"):
        client.predict(api_name="/look")
    monkeypatch.setattr(guard, "DEFAULT_LIMIT", DEFAULT_LIMIT)
    with pytest.raises(AppError, match="busy for too long"):
        client.predict(api_name="/reconstruct")
    stuck.set()
    wait_for(lambda: not models._running.locked())
    assert client.predict(api_name="/reconstruct")


def join(client: Client, name: str, data: list, session: str) -> None:
    """Take a place in the queue, and do not wait for the answer."""
    index = next(fn["id"] for fn in client.config["dependencies"] if fn["api_name"] == name)
    body = {"data": data, "fn_index": index, "session_hash": session}
    assert httpx.post(f"{client.src.rstrip('/')}/gradio_api/queue/join", json=body).status_code == 200


@pytest.mark.slow
def test_visitors_that_are_forgotten_do_not_stop_the_queue(app, client, monkeypatch, caplog):
    """Gradio remembers the last 2,000; the place of another one may still be in the queue."""
    go, begun, real = threading.Event(), threading.Event(), reconstruct.reconstruct
    waits = lambda *given: begun.set() or go.wait(20) and real(*given)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(reconstruct, "reconstruct", waits)
        join(client, "reconstruct", [MAIN, "sea", None], "first")
        assert begun.wait(20)
        for session in ("gone", "gone too"):
            join(client, "predict", ["sea"], session)
        for session in ("gone", "gone too"):
            app.demo._queue.pending_messages_per_session.pop(session)
        join(client, "predict", ["sea"], "here")
        go.set()
    assert client.submit("sea", api_name="/predict").result(timeout=30)
    assert not app.demo._queue.stopped and caplog.text == ""


def test_forgotten_visits_leave_nothing(app, client):
    """Gradio keeps a set of each visit's open calls for ever, although it forgets its messages."""
    queue = app.demo._queue
    known, waiting = queue.pending_messages_per_session, queue.pending_event_ids_session
    names = [f"old {number}" for number in range(2 * known.max_size)]
    known["known"] = None
    waiting.update({name: set() for name in [*names, "known"]} | {"open": {"a call"}})
    try:
        assert client.predict(api_name="/reconstruct")
        assert not waiting.keys() & set(names) and {"known", "open", client.session_hash} <= waiting.keys()
    finally:
        for name in [*names, "known", "open"]:
            waiting.pop(name, None)
        del known["known"]


def test_a_call_that_is_cancelled_before_it_begins_gives_its_place_back(client, monkeypatch):
    real, cancelled = queueing.set_task_name, []

    def cancels(task: asyncio.Task, *given: object) -> None:
        real(task, *given)
        task.cancel()
        cancelled.append(task)

    with monkeypatch.context() as patch:
        patch.setattr(queueing, "set_task_name", cancels)
        for _ in range(3):
            join(client, "predict", ["sea"], "cancelled")
        wait_for(lambda: len(cancelled) == 3)
    assert client.submit("sea", api_name="/predict").result(timeout=30)


@pytest.mark.slow
def test_a_queue_that_fails_starts_again(app, client, monkeypatch, caplog):
    real, failed = queueing.Queue.get_events, []

    def fails(self: queueing.Queue) -> object:
        if not failed:
            failed.append(1)
            raise LookupError("no reason")
        return real(self)

    monkeypatch.setattr(queueing.Queue, "get_events", fails)
    assert client.submit("sea", api_name="/predict").result(timeout=30)
    assert failed and "the queue failed and starts again" in caplog.text and not app.demo._queue.stopped


def test_limited_functions(monkeypatch):
    """What they return and raise is theirs, on threads that end."""
    before = threading.active_count()

    @limited
    def divide(a: int, b: int) -> float:
        """Divides."""
        return a / b

    @limited
    def count(until: int):
        """Counts."""
        if until < 0:
            raise LookupError("below 0")
        yield from range(until)

    assert (divide.__name__, divide.__doc__, divide(1, 2), list(count(3))) == ("divide", "Divides.", 0.5, [0, 1, 2])
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)
    with pytest.raises(LookupError, match="below 0"):
        list(count(-1))
    numbers = count(10**9)
    assert next(numbers) == 0
    numbers.close()
    assert inspect.isgeneratorfunction(count) and not inspect.isgeneratorfunction(divide)
    wait_for(lambda: threading.active_count() <= before)
    timeout = limited(lambda: (_ for _ in ()).throw(TimeoutError("its own")))
    with pytest.raises(TimeoutError, match="its own"):
        timeout()


def test_limited_functions_know_the_request():
    """Where a GPU is lent, the request says to whom; it is in a context variable."""
    from gradio.context import LocalContext

    @limited
    def who() -> object:
        return LocalContext.request.get(None)

    @limited
    def all_of() -> object:
        yield LocalContext.request.get(None)

    token = LocalContext.request.set("somebody")
    try:
        assert who() == "somebody" and list(all_of()) == ["somebody"]
    finally:
        LocalContext.request.reset(token)


def test_every_event_has_a_limit(app):
    """Functions of more than a line, that is."""
    named = {fn.fn.__name__: fn.fn for fn in app.demo.fns.values() if fn.fn is not None}
    assert set(named) >= {"draw", "reconstruct", "look", "poke", "predict", "new_model", "fit_look", "fit_poke"}
    for name, function in named.items():
        inner = getattr(function, "__closure__", None) or ()
        kept = any(getattr(cell.cell_contents, "__name__", "") == name for cell in inner)
        assert name in ("<lambda>", "picked_token") or kept, name
    assert set(LIMITS) <= set(named) and all(
        0 < limit.step <= limit.whole <= 900 for limit in (*LIMITS.values(), DEFAULT_LIMIT)
    )


def test_plain_errors_in_a_decorator():
    @plain_errors()
    def check(value: object) -> object:
        return models.number("x", value, 0, 1)

    assert check(1) == 1
    with pytest.raises(gr.Error, match="x is 2; it must be"):
        check(2)
    with pytest.raises(gr.Error, match="&lt;b&gt;"):
        check("<b>")


# ---------------------------------------------------------------- models and cache


def broken(folder: Path, content: str) -> Path:
    """A checkpoint whose config.json is wrong."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(content)
    return folder


def changed(checkpoints: Path, folder: Path, **changes: object) -> Path:
    config = json.loads((checkpoints / MAIN / "config.json").read_text()) | changes
    return broken(folder, json.dumps(config))


@pytest.fixture
def entries(checkpoints, tmp_path) -> dict[str, str]:
    """Bad entries of ALITOK_MODELS, and what is said of them."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "several").mkdir()
    (tmp_path / "several" / "good").symlink_to(checkpoints / BASELINE)
    broken(tmp_path / "several" / "bad", "{")
    return {
        str(tmp_path / "missing"): "no checkpoint",
        "nonsense": "no checkpoint 'nonsense'",
        str(tmp_path / "empty"): "no checkpoint",
        str(broken(tmp_path / "json", "{")): "cannot read",
        str(broken(tmp_path / "list", "[1]")): "cannot read",
        str(broken(tmp_path / "void", "")): "cannot read",
        str(changed(checkpoints, tmp_path / "classes", classes=3)): "TypeError",
        str(changed(checkpoints, tmp_path / "names", classes=[1, 2])): "its classes are not names",
        str(changed(checkpoints, tmp_path / "info", info=["x"])): "AttributeError",
        str(changed(checkpoints, tmp_path / "future", format=99)): "format 99",
        f"{checkpoints / MAIN};photos": "put commas between entries",
        str(checkpoints / MAIN) + "/": f"another model is named '{MAIN}'",
        str(tmp_path / "several"): "cannot read",
    }


def test_bad_entries_are_left_out_and_told(app, checkpoints, entries, monkeypatch, capsys):
    monkeypatch.setenv("ALITOK_MODELS", ",".join([str(checkpoints / MAIN), *entries]))
    forget()
    try:
        assert list(models.models()) == [MAIN, "good"]  # a folder with one bad checkpoint gives the others
        app.check()
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == len(entries)
        for line, (entry, words) in zip(lines, entries.items(), strict=True):
            assert line.startswith(f"app.py: ALITOK_MODELS: {entry!r} is left out: ") and words in line
        text = json.dumps(app.build().get_config_file(), default=str)
        assert "Not every model" in text and "nonsense" not in text and str(entries) not in text
    finally:
        forget()


def test_without_bad_entries_nothing_is_told(app, capsys):
    forget()
    app.check()
    assert capsys.readouterr().err == "" and models.LEFT_OUT == []
    assert "Not every model" not in json.dumps(app.build().get_config_file(), default=str)


def test_without_a_model_the_app_ends_with_a_sentence(app, entries, monkeypatch, capsys):
    for entry in [entry for entry, words in entries.items() if "another model" not in words and "several" not in entry]:
        monkeypatch.setenv("ALITOK_MODELS", entry)
        forget()
        try:
            with pytest.raises(SystemExit) as caught:
                app.check()
        finally:
            forget()
        text = capsys.readouterr().err
        assert caught.value.code == 2 and text.count("\n") == 1 and text.startswith("app.py: ALITOK_MODELS: ")


@pytest.mark.slow
def test_the_program_ends_with_a_sentence(tmp_path):
    environment = os.environ | {"ALITOK_MODELS": "nonsense", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    environment.pop("GRADIO_TEMP_DIR", None)
    run = subprocess.run(
        [sys.executable, ROOT / "app.py"], capture_output=True, text=True, timeout=120, env=environment
    )
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1)
    assert run.stderr.startswith(
        "app.py: ALITOK_MODELS: 'nonsense' is left out: no checkpoint 'nonsense': give a folder"
    )
    assert list(tmp_path.glob("alitok_lite-*")) == []  # no cache is left


def test_a_cache_of_ones_own(checkpoints, monkeypatch, tmp_path):
    """Where Gradio's name for it is taken by somebody else."""
    registered = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(atexit, "register", lambda *given, **more: registered.append((given, more)))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    (tmp_path / "gradio").write_text("somebody else's")
    load_app()
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert folder.parent == tmp_path and Path(get_upload_folder()) == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and folder.stat().st_uid == os.getuid()
    assert ((shutil.rmtree, str(folder)), {"ignore_errors": True}) in registered
    assert components.new_folder().parent == folder
    load_app()  # what is set stays
    assert os.environ["GRADIO_TEMP_DIR"] == str(folder)


def test_folders_that_have_been_empty_for_long_are_removed(monkeypatch, tmp_path):
    """Gradio removes old files of its cache, and leaves a folder for each of them."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(components, "_folders", iter(range(1, 200)))
    (tmp_path / "file").write_text("")
    for name in ("empty", "full", "young"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "a.png").write_text("a picture")
    long_ago = time.time() - components.CACHE[1] - 60
    for name in ("empty", "full", "file"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    made = [components.new_folder() for _ in range(150)]
    assert not (tmp_path / "empty").exists() and (tmp_path / "full" / "a.png").exists()
    assert all(path.is_dir() for path in (*made, tmp_path / "young")) and (tmp_path / "file").exists()


_HEAPS = """
import ctypes, pathlib, sys, threading
from alitok_lite.cli.page import share_heaps
libc, threads = ctypes.CDLL(None), threading.Barrier(9)
if sys.argv[1] == "shared":
    share_heaps()
def call():
    libc.malloc(1000)
    threads.wait()
    threads.wait()
for _ in range(8):
    threading.Thread(target=call).start()
threads.wait()
libc.fopen.restype = ctypes.c_void_p
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
threads.wait()
print(pathlib.Path(sys.argv[2]).read_text().count("<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has a heap for each thread")
def test_calls_share_heaps(tmp_path):
    """Eight threads at once; without a limit each of them has its own, and what it needed once stays in it."""
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    environment["PYTHONPATH"] = str(ROOT)

    def heaps(how: str, **given: str) -> int:
        command = [sys.executable, "-c", _HEAPS, how, str(tmp_path / "heaps.xml")]
        return int(subprocess.run(command, check=True, capture_output=True, timeout=60, env=environment | given).stdout)

    assert heaps("own") >= 8 and heaps("shared") == HEAPS
    assert heaps("shared", MALLOC_ARENA_MAX="5") == 5  # the operator's wish


def test_a_cache_that_cannot_be_written(app, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(SystemExit) as caught:
        app.check()
    text = capsys.readouterr().err
    assert caught.value.code == 2 and "cannot be written: Not a directory" in text and text.count("\n") == 1
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "new" / "cache"))
    app.check()
    assert list((tmp_path / "new" / "cache").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("user", ["the same", "another"])
def test_the_app_runs_where_somebody_else_has_it_too(user):
    """In a shared folder for temporary files, where what Gradio would use belongs to whoever came first."""
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if user == "another" else {}
    if user == "another" and (not hasattr(os, "getuid") or os.getuid() != 0):
        pytest.skip("only root can become somebody else")
    if subprocess.run(
        ["env", sys.executable, "-c", "import gradio"], capture_output=True, cwd="/", **nobody
    ).returncode:
        pytest.skip("somebody else may not read this Python")
    shared, port = Path(tempfile.mkdtemp()), 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    try:
        if user == "another":
            (shared / "gradio").mkdir(mode=0o700)  # of root, who came first
        else:
            (shared / "gradio").write_text("somebody else's")
        shared.chmod(0o1777)
        environment = os.environ | {"TMPDIR": str(shared), "ALITOK_MODELS": "scenes"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_TEMP_DIR": ""}
        command = [sys.executable, ROOT / "app.py"]
        with subprocess.Popen(
            command, env=environment, cwd="/", stderr=subprocess.PIPE, text=True, **nobody
        ) as program:
            try:
                base = f"http://127.0.0.1:{port}/gradio_api"
                wait_for(lambda: program.poll() is not None or serves(f"{base}/info"), 100)
                assert program.poll() is None, program.stderr.read()
                picture = (ROOT / "alitok_lite" / "sheets" / "scenes-samples.png").read_bytes()
                (path,) = httpx.post(f"{base}/upload", files={"files": ("a.png", picture)}).json()
                for name, data in (("reconstruct", [None, {"path": path}]), ("draw", ["sea", "1", 1, 1, 1])):
                    asked = httpx.post(f"{base}/call/{name}", json={"data": ["scenes", *data]}).json()
                    assert "event: complete" in httpx.get(f"{base}/call/{name}/{asked['event_id']}", timeout=60).text
                (own,) = shared.glob("alitok_lite-*")
                assert own.stat().st_uid == nobody.get("user", os.getuid()) and path.startswith(f"{own}/")
            finally:
                program.send_signal(signal.SIGINT if user == "another" else signal.SIGTERM)
        assert not list(shared.glob("alitok_lite-*"))
    finally:
        shutil.rmtree(shared)


def serves(address: str) -> bool:
    try:
        return httpx.get(address).status_code == 200
    except httpx.HTTPError:
        return False


# ---------------------------------------------------------------- the page


def test_calls_are_not_followed_by_statistics(app, client):
    """Gradio's table of all earlier calls costs more than a drawing, and the list of them grows."""
    queue = app.demo._queue
    assert client.predict(api_name="/reconstruct")
    assert queue.events_recorded and queue.cached_event_analytics_summary == {"functions": {}}
    assert queue.ANALYTICS_MAX_EVENTS <= 100


def test_stop_another_model_and_back_end_a_drawing(app):
    """Without a word about a drawing that has ended: see the tests in a browser."""
    fns, names = app.demo.fns, {}
    for index, fn in fns.items():
        names.setdefault(fn.name, []).append(index)
    (draw,), (model,), (back,) = names["draw"], names["new_model"], names["back"]
    cancelling = [fn.targets for fn in fns.values() if fn.cancels == [draw]]
    known = [fns[model].targets, fns[back].targets]
    assert all(targets in cancelling for targets in known) and len(cancelling) == 3
    (stop,) = [targets for targets in cancelling if targets not in known]
    (said,) = [fn for fn in fns.values() if fn.targets == stop and not fn.cancels]
    assert said.fn is None and "alitok.stopped('draw')" in said.js


def test_handed_over_pictures(client, tmp_path):
    """A client that gives an address instead of a file is refused as well: the app asks no other machine."""
    with pytest.raises(AppError, match="was not uploaded here"):
        client.predict(MAIN, None, handle_file("https://127.0.0.1:1/a.png"), api_name="/reconstruct")
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    assert client.predict(MAIN, None, handle_file(tmp_path / "a.png"), api_name="/reconstruct")
