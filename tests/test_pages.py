"""The pages say what is true: every block is run as it stands, every command is one, every link leads somewhere.

A comment in front of a block says when it is not run, or not by the quick tests, and why:

    <!-- not run: needs a GPU -->
    <!-- slow: trains for some minutes -->
"""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from alitok_lite.cli import parse

ROOT = Path(__file__).parents[1]
PLACES = ("*.md", ".github/*.md", "notebooks/*.md", "alitok_lite/results/**/*.md", "alitok_lite/checkpoints/*/*.md")
PAGES = sorted({path for place in PLACES for path in ROOT.glob(place)})
BLOCK = re.compile(r"(?:^<!-- (not run|slow): (.+?) -->\n)?^```(\w*)\n(.*?)^```", re.M | re.S)


class Block(NamedTuple):
    mark: str  # "not run", "slow" or ""
    reason: str
    language: str
    text: str


def blocks(page):
    return [Block(*found) for found in BLOCK.findall(page)]


def python(*arguments, folder):
    """Run Python; AssertionError with what it wrote to stderr if it fails."""
    result = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def environment():
    """That of a shell in which the package is installed, as `pip install -e .` would have done it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }


def run(page, folder, marks):
    """Run the blocks with these marks in order, in one folder; AssertionError for one that fails."""
    if not (folder / "notebooks").exists():  # their commands are given in a copy of the repository
        (folder / "notebooks").symlink_to(ROOT / "notebooks")
    for number, block in enumerate(blocks(page)):
        if block.mark not in marks:
            continue
        if block.language == "python":
            (folder / f"block{number}.py").write_text(block.text, encoding="utf-8")
            python(f"block{number}.py", folder=folder)
        for line in block.text.splitlines() if block.language == "bash" else ():
            result = subprocess.run(line, shell=True, cwd=folder, env=environment(), capture_output=True, text=True)
            assert result.returncode == 0, f"{line}\n{result.stderr}"
            outs = re.findall(r"--(?:out|json|judge) (\S+)", line)
            assert all((folder / out).exists() for out in outs), line


def name(path):
    return path.relative_to(ROOT).as_posix()


def having(*marks):
    """Pages with a block of these marks that can be run."""
    texts = {path: blocks(path.read_text(encoding="utf-8")) for path in PAGES}
    return [
        path
        for path, found in texts.items()
        if any(b.mark in marks and b.language in ("bash", "python") for b in found)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", having(""), ids=name)
def test_blocks(path, tmp_path):
    run(path.read_text(encoding="utf-8"), tmp_path, [""])


@pytest.mark.slow
@pytest.mark.parametrize("path", having("slow"), ids=name)
def test_slow_blocks_too(path, tmp_path):
    run(path.read_text(encoding="utf-8"), tmp_path, ["", "slow"])


@pytest.mark.parametrize(
    "text",
    [
        "```bash\npython -c 'exit(3)'\n```\n",
        "```python\nraise ValueError\n```\n",
        "```bash\npython -c 'pass' --out missing.png\n```\n",
        "<!-- slow: waits -->\n```python\nimport alitok_lite.nothing\n```\n",
    ],
)
@pytest.mark.slow
def test_a_broken_block_is_noticed(text, tmp_path):
    with pytest.raises(AssertionError):
        run(text, tmp_path, ["", "slow"])


def test_marks_are_read_and_blocks_share_a_folder(tmp_path):
    text = "a\n\n```bash\npython -c \"open('a', 'w')\"\n```\n\n```python\nopen('a')\n```\n"
    run(text + "\n<!-- not run: fails -->\n```bash\nfalse\n```\n", tmp_path, ["", "slow"])
    assert [block.mark for block in blocks(text)] == ["", ""]


def commands():
    """Every command of ours on a page, in a block or in a sentence."""
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        fenced = "\n".join(block.text for block in blocks(text) if block.language != "python")
        lines = re.findall(r"^(?:\w+=\S+ )?((?:python|accelerate launch) -m alitok_lite .+)$", fenced, re.M)
        lines += re.findall(r"(?<!`)`((?:python|accelerate launch) -m alitok_lite [^`]+)`(?!`)", BLOCK.sub("", text))
        lines = sorted({" ".join(line.split()) for line in lines})
        found += [pytest.param(line, id=f"{name(path)}: {line[:60]}") for line in lines]
    return found


@pytest.mark.parametrize("line", commands())
def test_commands_are_ours(line):
    """Also those that are not run; and none of our options is the beginning of one of the launcher's."""
    arguments = shlex.split(line)
    if arguments[0] == "accelerate":
        launcher = pytest.importorskip("accelerate.commands.launch").launch_command_parser()
        parsed = launcher.parse_args(arguments[2:])
        assert (parsed.module, parsed.training_script) == (True, "alitok_lite")
        arguments = ["python", "-m", "alitok_lite", *parsed.training_script_args]
    if arguments[3:] not in (["--help"], ["COMMAND"]):
        parse(arguments[3:])


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_page(path):
    """Links and pictures exist, no picture comes from elsewhere, Python is Python, and blocks are marked as agreed."""
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert (path.parent / target).exists(), target
    assert not re.search(r"!\[[^]]*\]\(https?:", text)
    for block in blocks(text):
        assert block.mark != "not run" or block.reason
        if block.language == "python":
            ast.parse(block.text)
    assert text.count("<!-- not run") + text.count("<!-- slow") == sum(bool(block.mark) for block in blocks(text))


def test_readme_is_short_and_says_how_to_install_and_test():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 1500 <= len(readme.split()) <= 1900
    for line in ("pip install -e .", "python app.py", 'pip install -e ".[test]" && pytest'):
        assert line in readme.splitlines()


def test_deviations_are_those_of_the_code():
    """Else run `python .ci/deviations.py`."""
    sys.path.insert(0, str(ROOT / ".ci"))
    try:
        from deviations import page
    finally:
        sys.path.pop(0)
    assert (ROOT / "DEVIATIONS.md").read_text(encoding="utf-8") == page()
    tags = [
        tag
        for path in (ROOT / "alitok_lite").rglob("*.py")
        for tag in re.findall("# differs: (.+)", path.read_text("utf-8"))
    ]
    assert len(tags) >= 8 and page().count("\n| [") == len(tags)
