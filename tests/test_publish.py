"""A Space, a public address, and a notebook that lies alone: what is sent, written and said."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_hub import Api, api  # noqa: F401

from alitok_lite.store import publish, space
from alitok_lite.store.find import bundled

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOWING = ["README.md", "pyproject.toml", "CITATION.cff", *(f"notebooks/{path.name}" for path in NOTEBOOKS)]


# ---------------------------------------------------------------- Space


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_a_dry_run_shows_the_files_and_sends_nothing(api, capsys):  # noqa: F811
    assert space.upload("me/app") == ""
    shown = capsys.readouterr().out.splitlines()
    assert api.calls == [] and not api.root.exists()
    assert [line.split()[1] for line in shown[:-1]] == list(space.files("me/app"))
    assert shown[-1].startswith(f"{len(shown) - 1} files, ") and "nothing was sent" in shown[-1]


@pytest.mark.slow
def test_upload(api):  # noqa: F811
    assert space.upload("me/app", dry=False) == "https://hub.invalid/me/app"
    assert api.calls == [("me/app", {"repo_type": "space", "private": False, "exist_ok": True, "space_sdk": "gradio"})]
    sent = {path.relative_to(api.root / "me/app").as_posix() for path in (api.root / "me/app").rglob("*.*")}
    assert {"app.py", "README.md", "requirements.txt", "alitok_lite/checkpoints/scenes/ar.safetensors"} <= sent
    assert not any("__pycache__" in name or name.startswith(("tests", "notebooks")) for name in sent)
    code = "import app, sys; from alitok_lite.demo.models import models; print(len(models()), app.__file__)"
    program = [sys.executable, "-c", code]  # what was sent is whole: without the clone, it starts
    result = subprocess.run(program, cwd=api.root / "me/app", capture_output=True, text=True, timeout=300)
    assert result.stdout.split() == [str(len(bundled())), str(api.root / "me/app" / "app.py")], result.stderr


def test_readme_of_the_space():
    text = space.readme("me/app")
    data = front_matter(text)
    assert data["sdk_version"].startswith("6.31") and data["app_file"] == "app.py" and data["license"] == "mit"
    assert len(data["short_description"]) <= 60 and data["tags"] and "/spaces/me/app/" in data["thumbnail"]
    assert data["thumbnail"].split("/resolve/main/")[1] in space.files("me/app")
    for name in bundled():
        assert f"| `{name}` |" in text
    assert "| `photos` | 64 classes of Tiny ImageNet | ImageNet's: non-commercial" in text
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        assert target in space.files("me/app")


@pytest.mark.parametrize("name", ["app", "me/app/more", "me/a b", ""])
def test_wrong_name_of_a_space(name):
    with pytest.raises(ValueError, match="the repository is '.*'; it must be owner/name"):
        space.upload(name, dry=False)


def test_a_space_comes_from_a_clone(tmp_path):
    with pytest.raises(ValueError, match="there is no app.py in .*: upload a Space from a clone"):
        space.files("me/app", tmp_path)


# ---------------------------------------------------------------- address


@pytest.fixture
def clone(tmp_path):
    for name in SHOWING:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_publish_writes_one_address_everywhere(clone, capsys):
    assert set(publish.publish("me/tok", clone)) == set(SHOWING)
    assert len(capsys.readouterr().out.splitlines()) == len(SHOWING)
    for name in SHOWING:
        text = (clone / name).read_text(encoding="utf-8")
        assert "https://github.com/me/tok" in text, name
    assert "git clone https://github.com/me/tok && cd tok\npython -m venv" in (clone / "README.md").read_text("utf-8")
    assert yaml.safe_load((clone / "CITATION.cff").read_text())["repository-code"] == "https://github.com/me/tok"
    assert 'Issues = "https://github.com/me/tok/issues"' in (clone / "pyproject.toml").read_text()
    before = {name: json.loads((ROOT / name).read_text("utf-8")) for name in SHOWING[3:]}
    for name, notebook in before.items():
        after = json.loads((clone / name).read_text("utf-8"))
        assert 'ADDRESS = "https://github.com/me/tok"\n' in after["cells"][1]["source"]
        after["cells"][1] = notebook["cells"][1]
        assert after == notebook


def test_publishing_again_replaces_the_address(clone, tmp_path_factory):
    publish.publish("me/first", clone)
    publish.publish("me/second", clone)
    twice = {name: (clone / name).read_bytes() for name in SHOWING}
    assert publish.publish("me/second", clone) == []
    for name, content in twice.items():
        assert b"me/first" not in content
        shutil.copy(ROOT / name, clone / name)
    publish.publish("me/second", clone)
    assert twice == {name: (clone / name).read_bytes() for name in SHOWING}


@pytest.mark.parametrize("name", ["tok", "me/tok/more", "https://github.com/me/tok", "me/t k", ""])
def test_wrong_address(clone, name):
    with pytest.raises(ValueError, match="it must be OWNER/NAME"):
        publish.publish(name, clone)


@pytest.mark.parametrize("name", ["pyproject.toml", SHOWING[-1]])
def test_a_file_without_its_place_is_named_and_nothing_is_written(clone, name):
    (clone / name).write_text("{}")
    before = {path: path.read_bytes() for path in clone.rglob("*.*")}
    with pytest.raises(ValueError, match=f"{name} has no place for the address"):
        publish.publish("me/tok", clone)
    assert before == {path: path.read_bytes() for path in clone.rglob("*.*")}


def test_all_files_of_the_repository_show_the_same_address_or_none():
    found = set()
    for name in SHOWING[1:3]:
        found |= set(re.findall(r"https://github.com/[\w-]+/[\w.-]+", (ROOT / name).read_text("utf-8")))
    for path in NOTEBOOKS:
        found |= set(re.findall(r'ADDRESS = \\"([^"\\]*)\\"', path.read_text("utf-8")))
    assert len(found - {""}) <= 1 and (found - {""} == set() or "" not in found)


# ---------------------------------------------------------------- a notebook alone

ALONE = """
import importlib, json, subprocess, sys
root, address = sys.argv[1:]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
sys.path[:] = [place for place in sys.path if place != root]
def install(command, check):
    print("ran", *command[1:], check)
    sys.path.insert(0, root)
subprocess.run = install
source = "".join(json.load(open("alone.ipynb", encoding="utf-8"))["cells"][1]["source"])
exec(source.replace('ADDRESS = ""', f"ADDRESS = {address!r}"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("address", ["", "https://github.com/me/tok"])
def test_a_notebook_alone_installs_the_package_or_says_what_to_do(tmp_path, address):
    shutil.copy(NOTEBOOKS[0], tmp_path / "alone.ipynb")
    program = [sys.executable, "-c", ALONE, str(ROOT), address]
    environment = {"PATH": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    if address:
        ran, ready = result.stdout.splitlines()
        assert ran == "ran -m pip install -q git+https://github.com/me/tok True" and ready.startswith("alitok_lite ")
    else:
        assert result.returncode == 1 and result.stderr.startswith("There is no package alitok_lite here: open this")
        assert result.stderr.count("\n") == 1
