"""Checkpoints on the Hub, played by a server on this machine: the cache first, then the network, in seconds."""

import json
import shutil
import socket
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from conftest import CLASSES, small_model

from alitok_lite import AliTok
from alitok_lite.__main__ import main
from alitok_lite.demo import models
from alitok_lite.store import hub
from alitok_lite.store.folder import CheckpointError

huggingface_hub = pytest.importorskip("huggingface_hub")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Files(BaseHTTPRequestHandler):
    """GET and HEAD of /owner/name/resolve/REVISION/FILE from root/owner/name."""

    def __init__(self, root, log, *args):
        self.root, self.log = root, log
        super().__init__(*args)

    def do_GET(self):
        if "/resolve/" not in self.path:  # the library asks about other things too
            return self.send_error(404)
        owner, name, _, revision, file = self.path.lstrip("/").split("/", 4)
        self.log.append((revision, file))
        path = self.root / owner / name / file
        code = None if (self.root / owner / name).is_dir() else "RepoNotFound"
        code = code or (None if revision in ("main", COMMIT) else "RevisionNotFound")
        code = code or (None if path.is_file() else "EntryNotFound")
        data = b"" if code else path.read_bytes()
        self.send_response(404 if code else 200)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{len(data)}-{file.replace("/", "-")}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


def set_address(monkeypatch, address):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://{address}")
    template = f"http://{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for module in ("constants", "file_download"):  # where new and old versions look
        monkeypatch.setattr(f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A Hub with me/small; `requests` lists what it was asked for, `stop()` takes it off the network."""
    root, log = tmp_path / "hub", []
    small_model().save_pretrained(root / "me" / "small")
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, root, log))
    Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    set_address(monkeypatch, f"127.0.0.1:{http.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    http.root, http.requests = root, log
    http.stop = lambda: (http.shutdown(), http.server_close())
    yield http
    http.stop()


def test_fetched_once_then_offline(server):
    model = AliTok.from_pretrained("me/small", "cpu")
    assert model.classes == CLASSES
    files = {"config.json", "encoder.safetensors", "decoder1.safetensors", "decoder2.safetensors", "ar.safetensors"}
    assert {file for _, file in server.requests} == files
    # All belong together, even if somebody uploads in between.
    assert {revision for revision, file in server.requests if file != "config.json"} == {COMMIT}
    server.requests.clear()
    again = AliTok.from_pretrained("me/small", "cpu")
    assert server.requests == []  # the cache first
    server.stop()
    offline = AliTok.from_pretrained("me/small", "cpu")
    for other in (again, offline):
        assert torch.equal(model.sample(["sea"], seed=1), other.sample(["sea"], seed=1))


def test_what_a_broken_off_download_left_out_is_fetched_later(server):
    AliTok.from_pretrained("me/small", "cpu")
    cached = hub.download("me/small")
    (cached / "ar.safetensors").unlink()
    server.requests.clear()
    AliTok.from_pretrained("me/small", "cpu")
    assert {file for _, file in server.requests} == {"ar.safetensors"}
    (cached / "ar.safetensors").unlink()
    server.stop()
    with pytest.raises(CheckpointError, match="cannot fetch ar.safetensors of me/small from the Hub: there is no conn"):
        AliTok.from_pretrained("me/small", "cpu")


def test_several_models_of_a_repository_share_a_tokenizer(server):
    whole = server.root / "me" / "small"
    config = json.loads((whole / "config.json").read_text())
    for name in ("b", "tokenizer"):
        (whole / name).mkdir()
    for part in ("encoder", "decoder1", "decoder2"):
        (whole / f"{part}.safetensors").rename(whole / "tokenizer" / f"{part}.safetensors")
    (whole / "ar.safetensors").rename(whole / "b" / "ar.safetensors")
    (whole / "b" / "config.json").write_text(json.dumps(config | {"tokenizer_folder": "tokenizer"}))
    assert AliTok.from_pretrained("me/small/b", "cpu").ar is not None
    server.stop()
    assert AliTok.from_pretrained("me/small/b", "cpu").sample([0]).shape == (1, 3, 32, 32)


def test_a_tokenizer_outside_the_repository(server):
    path = server.root / "me" / "small" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_folder": "tokenizer"}))
    with pytest.raises(CheckpointError, match="points to a tokenizer outside its repository"):
        AliTok.from_pretrained("me/small", "cpu")


def test_damage_on_the_way_is_noticed(server):
    path = server.root / "me" / "small" / "encoder.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="encoder.safetensors is damaged"):
        AliTok.from_pretrained("me/small", "cpu")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("me/none", "there is no such repository, or you may not read it"),
        ("me/small/b", "cannot fetch b/config.json of me/small from the Hub: the repository has no such file"),
    ],
)
def test_what_the_hub_does_not_have(server, name, words):
    with pytest.raises(CheckpointError) as error:
        AliTok.from_pretrained(name)
    assert words in str(error.value)


@pytest.mark.parametrize("way", ["nobody listens", "no answer", "no such host", "offline"])
def test_no_network_fails_in_seconds(server, monkeypatch, capsys, way):
    server.stop()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        address = f"127.0.0.1:{silent.getsockname()[1]}" if way == "no answer" else "hub.invalid"
        if way in ("no answer", "no such host"):
            set_address(monkeypatch, address)
        if way == "offline":
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr(hub, "TIMEOUT", 1)
        start = time.monotonic()
        assert main(["sample", "--model", "me/small"]) == 2
    assert time.monotonic() - start < 4
    error = capsys.readouterr().err
    assert error.startswith("alitok_lite: cannot fetch config.json of me/small from the Hub: there is no connection")
    assert error.count("\n") == 1
    assert not Path("samples.png").exists()


@pytest.mark.parametrize(
    "name", ["runs/mine", "./me/small", "/me/small", "me", "../me/small", "me\\small", "a b/c", ""]
)
def test_local_mistakes_stay_local(server, name):
    """A folder that exists, or a name that no repository can have: nothing is asked of anybody."""
    Path("runs").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        AliTok.from_pretrained(name)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        AliTok.from_pretrained(Path("me/small"))  # a Path is a folder
    assert server.requests == []


def test_the_app_takes_a_repository(server, monkeypatch):
    monkeypatch.setenv("ALITOK_MODELS", "me/small")
    for cached in (models.models, models._load):
        cached.cache_clear()
    try:
        assert list(models.models()) == ["small"]
        server.stop()  # from here on the cache serves
        assert models.get_model("small").classes == CLASSES
    finally:
        for cached in (models.models, models._load):
            cached.cache_clear()


class Api:
    """Takes uploads into a folder."""

    root, calls, error = None, [], None

    def create_repo(self, repository, private, exist_ok):
        Api.calls.append((repository, private, exist_ok))
        if Api.error:
            raise Api.error
        return f"https://hub/{repository}"

    def upload_folder(self, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, Api.root / repo_id)


def test_push_and_fetch(server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr(Api, "root", server.root)
    monkeypatch.setattr(Api, "calls", [])
    model = small_model((2,))
    assert model.push_to_hub("me/pushed", torch.float32) == "https://hub/me/pushed"
    assert Api.calls == [("me/pushed", True, True)]  # private unless told otherwise
    fetched = AliTok.from_pretrained("me/pushed", "cpu")
    for a, b in zip(model.ar.parameters(), fetched.ar.parameters(), strict=True):
        assert torch.equal(a, b)
    assert fetched.tokenizer.stages == (2,)


def test_push_without_permission(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr(Api, "error", PermissionError("403 Forbidden\nmore"))
    with pytest.raises(CheckpointError, match="cannot upload to me/x: PermissionError: 403 Forbidden$"):
        small_model().push_to_hub("me/x")
