"""Checkpoints on the Hub, played by a server on loopback: revisions, cache, no network, cards, uploads."""

import hashlib
import json
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
from alitok_lite.store import card, hub
from alitok_lite.store.folder import CheckpointError

huggingface_hub = pytest.importorskip("huggingface_hub")
COMMIT, NEWER = "0123456789abcdef0123456789abcdef01234567", "f" * 40


class Files(BaseHTTPRequestHandler):
    """GET and HEAD of a file of a repository, from the folder of the commit that its revision means."""

    def __init__(self, root, log, heads, *args):
        self.root, self.log, self.heads = root, log, heads
        super().__init__(*args)

    def do_GET(self):
        if "/resolve/" not in self.path:  # the library requests more than files
            return self.send_error(404)
        owner, name, _, revision, file = self.path.lstrip("/").split("/", 4)
        self.log.append((self.command, revision, file, self.headers.get("Authorization")))
        commit = self.heads.get(revision, revision)
        path = self.root / commit / owner / name / file
        code = None if (self.root / COMMIT / owner / name).is_dir() else "RepoNotFound"
        code = code or (None if commit in self.heads.values() else "RevisionNotFound")
        code = code or (None if path.is_file() else "EntryNotFound")
        data = b"" if code else path.read_bytes()
        self.send_response(404 if code else 200)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
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
    for module in ("constants", "file_download"):  # which of them is read depends on the version of the library
        monkeypatch.setattr(f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A Hub with me/small; `heads` says where its branches are, `requests` lists requests for files, `stop()` takes it
    off the network."""
    root, log, heads = tmp_path / "hub", [], {"main": COMMIT}
    small_model().save_pretrained(root / COMMIT / "me" / "small")
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, root, log, heads))
    Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    set_address(monkeypatch, f"127.0.0.1:{http.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    http.root, http.requests, http.heads = root / COMMIT, log, heads
    http.stop = lambda: (http.shutdown(), http.server_close())
    yield http
    http.stop()


def fetched(server):
    """Files whose contents were requested."""
    return {file for command, _, file, _ in server.requests if command == "GET"}


PARTS = {"encoder.safetensors", "decoder1.safetensors", "decoder2.safetensors", "ar.safetensors"}


def test_fetched_once_then_from_the_cache(server, capsys):
    model = AliTok.from_pretrained("me/small", "cpu")
    assert model.classes == CLASSES
    assert fetched(server) == PARTS | {"config.json"}
    # All belong together, even if somebody uploads in between.
    assert {revision for _, revision, file, _ in server.requests if file != "config.json"} == {COMMIT}
    server.requests.clear()
    again = AliTok.from_pretrained("me/small", "cpu")
    assert fetched(server) == set() and {file for _, _, file, _ in server.requests} == {"config.json"}
    assert capsys.readouterr().err == ""
    server.stop()
    offline = AliTok.from_pretrained("me/small", "cpu")
    assert capsys.readouterr().err == "alitok_lite: the Hub does not answer; me/small is as it was fetched last\n"
    for other in (again, offline):
        assert torch.equal(model.sample(["sea"], seed=1), other.sample(["sea"], seed=1))


def newer(server):
    """main moves to a commit with other weights of the AR model and the tag v1 stays; returns its bias."""
    model = small_model()
    torch.nn.init.ones_(model.ar.output.bias)
    model.save_pretrained(server.root.parent / NEWER / "me" / "small")
    server.heads.update(main=NEWER, v1=COMMIT)
    return model.ar.output.bias


def test_a_newer_main_is_noticed_and_only_what_changed_is_fetched(server):
    AliTok.from_pretrained("me/small", "cpu")
    bias = newer(server)
    server.requests.clear()
    assert torch.equal(AliTok.from_pretrained("me/small", "cpu").ar.output.bias, bias)
    assert fetched(server) == {"config.json", "ar.safetensors"}


def test_revisions(server):
    bias = newer(server)
    for revision, expected in (("v1", 0), (COMMIT, 0), (NEWER, 1), ("main", 1), (None, 1)):
        model = AliTok.from_pretrained("me/small", "cpu", revision=revision)
        assert torch.equal(model.ar.output.bias, bias * expected), revision
    server.stop()  # with its files here, a commit needs no request
    assert torch.equal(AliTok.from_pretrained("me/small", "cpu", revision=COMMIT).ar.output.bias, bias * 0)


def test_a_revision_that_is_not_there(server):
    with pytest.raises(
        CheckpointError, match="cannot fetch config.json of me/small .*: the repository has no such rev"
    ):
        AliTok.from_pretrained("me/small", revision="v9")


@pytest.mark.parametrize(("wish", "value"), [("revision", "main"), ("force_download", True)])
def test_what_is_on_this_disk_has_no_revision(wish, value):
    with pytest.raises(ValueError, match=f"{wish}.* is for a repository on the Hub; 'scenes' is a checkpoint on this"):
        AliTok.from_pretrained("scenes", **{wish: value})


def test_local_files_only(server, tmp_path):
    with pytest.raises(CheckpointError, match="cannot fetch config.json .* not in the local cache"):
        AliTok.from_pretrained("me/small", local_files_only=True)
    assert server.requests == []
    AliTok.from_pretrained("me/small", "cpu")
    newer(server)
    server.requests.clear()
    assert (AliTok.from_pretrained("me/small", "cpu", local_files_only=True).ar.output.bias == 0).all()
    assert server.requests == []


def test_force_download_fetches_everything_again(server):
    AliTok.from_pretrained("me/small", "cpu")
    server.requests.clear()
    AliTok.from_pretrained("me/small", "cpu", force_download=True)
    assert fetched(server) == PARTS | {"config.json"}
    server.stop()
    with pytest.raises(CheckpointError, match="there is no connection"):
        AliTok.from_pretrained("me/small", force_download=True)


def test_cache_dir_and_token(server, tmp_path):
    AliTok.from_pretrained("me/small", "cpu", cache_dir=tmp_path / "mine", token="some-token")
    assert (tmp_path / "mine" / "models--me--small").is_dir() and not (tmp_path / "cache").exists()
    assert {token for *_, token in server.requests} == {"Bearer some-token"}


def test_what_a_broken_off_download_left_out_is_fetched_later(server):
    AliTok.from_pretrained("me/small", "cpu")
    cached = hub.download("me/small")
    (cached / "ar.safetensors").unlink()
    server.requests.clear()
    AliTok.from_pretrained("me/small", "cpu")
    assert {file for _, _, file, _ in server.requests} == {"config.json", "ar.safetensors"}
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
    """A folder that exists, or a name that no repository can have: nothing is requested."""
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

    def create_repo(self, repository, **options):
        Api.calls.append((repository, options))
        if Api.error:
            raise Api.error
        return f"https://hub.invalid/{repository}"

    def create_commit(self, repository, operations, commit_message, repo_type):
        for operation in operations:
            path = Api.root / repository / operation.path_in_repo
            path.parent.mkdir(parents=True, exist_ok=True)
            content = operation.path_or_fileobj
            path.write_bytes(content if isinstance(content, bytes) else Path(content).read_bytes())


@pytest.fixture
def api(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr(Api, "root", tmp_path / "uploads")
    monkeypatch.setattr(Api, "calls", [])
    return Api


def test_push_and_fetch(server, api):
    api.root = server.root
    model = small_model((2,))
    assert model.push_to_hub("me/pushed", torch.float32) == "https://hub.invalid/me/pushed"
    assert api.calls == [
        ("me/pushed", {"repo_type": "model", "private": True, "exist_ok": True, "space_sdk": None})
    ]  # private by default
    fetched = AliTok.from_pretrained("me/pushed", "cpu")
    for a, b in zip(model.ar.parameters(), fetched.ar.parameters(), strict=True):
        assert torch.equal(a, b)
    assert fetched.tokenizer.stages == (2,)
    assert (
        huggingface_hub.ModelCard.load(server.root / "me" / "pushed" / "README.md").data.library_name == "alitok_lite"
    )


@pytest.mark.parametrize("name", ["scenes", "photos", "fruits"])
def test_the_card_of_a_bundled_model_has_its_terms(tmp_path, name):
    AliTok.from_pretrained(name, "cpu").save_pretrained(tmp_path)
    card = huggingface_hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.pipeline_tag == "unconditional-image-generation" and "arxiv:2506.05289" in card.data.tags
    if name == "photos":
        assert card.data.license == "other" and "image-net.org" in card.data.license_link
        assert "64 classes of Tiny ImageNet: ImageNet's: non-commercial" in card.text
    elif name == "fruits":
        assert card.data.license == "cc-by-sa-4.0" and "CC BY-SA 4.0, Mihai Oltean" in card.text
    else:
        assert card.data.license == "mit" and "painted scenes: MIT" in card.text


def test_cards_of_other_models(tmp_path):
    model = small_model()
    cases = {
        "unknown": ({}, None, "not recorded"),
        "official": ({"ar": {"source": "official weights, of no stated licence"}}, None, "do not publish"),
        "both": (
            {"seen": [card.SCENES._asdict(), {"data": "x", "license": "cc-by-4.0"}]},
            "cc-by-4.0",
            "painted scenes",
        ),
    }
    for name, (info, licence, words) in cases.items():
        model.info = info
        model.save_pretrained(tmp_path / name)
        written = huggingface_hub.ModelCard.load(tmp_path / name / "README.md")
        assert written.data.license == licence and words in written.text
    model.ar = None
    model.save_pretrained(tmp_path / "unknown")
    written = huggingface_hub.ModelCard.load(tmp_path / "unknown" / "README.md")  # written anew with every save
    assert written.data.pipeline_tag is None and "without AR model" in written.text


def test_a_card_in_own_words_stays(folder):
    (folder / "README.md").write_text("# Mine")
    small_model().save_pretrained(folder)
    assert (folder / "README.md").read_text() == "# Mine"


def test_push_without_permission(api, monkeypatch):
    monkeypatch.setattr(Api, "error", PermissionError("403 Forbidden\nmore"))
    with pytest.raises(CheckpointError, match="cannot upload to me/x: PermissionError: 403 Forbidden$"):
        small_model().push_to_hub("me/x")
