"""What the project promises about itself: sizes, dependencies, README."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import alitok_lite
from alitok_lite.cli import main, parse
from alitok_lite.model import AliTok
from alitok_lite.store.find import CHECKPOINTS, bundled
from alitok_lite.study.rows import ROWS
from alitok_lite.train.settings import ABLATIONS, SETTINGS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "alitok_lite"
README = (ROOT / "README.md").read_text()


def listed(text, start):
    """The strings of a TOML list."""
    return re.findall(r'"([^"]+)"', text[text.index(start) :].split("]", 1)[0].split("[", 1)[1])


def test_folders_import_in_one_direction():
    """The contract in pyproject.toml."""
    pytest.importorskip("importlinter")
    program = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout


def test_requirements_equal_pyproject():
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert (ROOT / "requirements.txt").read_text().split() == listed(pyproject, "\ndependencies = [")


def test_conda_environment_has_the_same_packages():
    names = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    conda = (ROOT / "environment.yml").read_text()
    for line in (ROOT / "requirements.txt").read_text().split():
        name, versions = re.match(r"([\w_]+)(.*)", line).groups()
        assert f"- {names.get(name, name)}{versions}\n" in conda
    assert re.findall(r"^  - ([\w-]+)$", conda.split("dependencies")[0], re.M) == ["conda-forge", "nodefaults"]


def test_import_touches_neither_cuda_nor_the_network_nor_heavy_packages(loaded):
    heavy = {"gradio", "accelerate", "matplotlib", "huggingface_hub", "transformers", "ipywidgets"}
    assert "alitok_lite.study" in loaded["imports"] and not heavy & loaded["imports"]


def test_version_is_that_of_the_package():
    assert re.fullmatch(r"\d+\.\d+\.\d+", alitok_lite.__version__)


@pytest.mark.parametrize("name", bundled())
def test_bundled_checkpoints_work(name):
    model = AliTok.from_pretrained(name, "cpu")
    size = model.tokenizer.config.image_size
    ids = model.tokenizer.encode(torch.rand(2, 3, size, size))
    assert model.tokenizer.decode(ids).shape == (2, 3, size, size)
    assert model.sample([0, model.classes[-1]], seed=1).shape == (2, 3, size, size)
    files = list((CHECKPOINTS / name).iterdir())
    assert sum(path.stat().st_size for path in files) <= (22e6 if name.startswith("scenes-") else 28e6)
    assert all(path.stat().st_size <= 16 * 2**20 for path in files)
    assert (CHECKPOINTS / name / "README.md").exists()


def test_all_checkpoints_together_stay_small():
    assert sum(path.stat().st_size for path in CHECKPOINTS.glob("*/*")) <= 100e6


def test_the_default_checkpoint_draws():
    assert AliTok.from_pretrained(bundled()[0], "cpu").ar is not None


def test_something_is_bundled():
    assert bundled()


def commands():
    """Lines of the README's console blocks."""
    for block in re.findall(r"^```bash\n(.*?)^```", README, re.M | re.S):
        yield from (line for line in block.splitlines() if line and not line.startswith("#"))


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("python -m alitok_lite")])
def test_readme_commands(line, tmp_path, monkeypatch):
    """Commands that take seconds are run; those that take minutes are parsed, against what exists."""
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(line)[3:]
    parsed = parse(arguments)
    if arguments[0] == "train":
        assert parsed.part in SETTINGS[parsed.preset]
        return
    if arguments[0] == "ablate":
        assert parsed.preset in ABLATIONS and set(parsed.rows.split(",")) <= ROWS.keys()
        return
    if getattr(parsed, "model", "").startswith(("runs/", "official/")):  # what the commands above it would have made
        return
    if arguments[0] == "convert":
        assert {parsed.tokenizer, parsed.ar} <= {"AliTok.pth", "official/tokenizer", "alitok_b.bin", None}
        return
    if arguments[0] == "evaluate":
        assert parsed.model in bundled()
        return
    if arguments[0] == "reconstruct":
        assert main(["sample", "--num", "1"]) == 0
        arguments[1] = "samples.png"
    assert main(arguments) == 0
    assert (tmp_path / arguments[arguments.index("--out") + 1]).exists()


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("accelerate launch -m alitok_lite")])
def test_readme_commands_for_several_processes(line):
    """No option of ours is the beginning of one of the launcher's, which would take it for an ambiguous one."""
    launcher = pytest.importorskip("accelerate.commands.launch").launch_command_parser()
    parsed = launcher.parse_args(shlex.split(line)[2:])
    assert (parsed.module, parsed.training_script) == (True, "alitok_lite")
    parse(parsed.training_script_args)


@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```", README, re.M | re.S))
def test_readme_python(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})


def test_readme_names_every_deviation():
    tags = [tag for path in PACKAGE.rglob("*.py") for tag in re.findall(r"# differs: (.+)", path.read_text())]
    section = README.split("## Deviations from the paper")[1].split("\n## ")[0]
    assert len(tags) == len(re.findall(r"^- ", section, re.M))
    for tag in tags:
        assert tag in section, tag


def test_readme_links_and_pictures_exist():
    for target in re.findall(r"\]\((?!https?://|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
    assert not re.search(r"!\[[^]]*\]\(https?:", README)


def test_the_test_command_stands_in_the_readme_word_for_word():
    assert 'pip install -e ".[test]" && pytest' in README.splitlines()
    assert "pip install -e . && python app.py" in README.splitlines()
