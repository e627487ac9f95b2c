"""What the project promises about itself: sizes, dependencies, checkpoints. What pages promise is in test_pages.py."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import alitok_lite
from alitok_lite.demo.words import TABS
from alitok_lite.model import AliTok
from alitok_lite.store.find import CHECKPOINTS, bundled

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "alitok_lite"


def listed(text, start):
    """The strings of a TOML list."""
    return re.findall(r'"([^"]+)"', text[text.index(start) :].split("]", 1)[0].split("[", 1)[1])


def test_folders_import_in_one_direction():
    """The contract in pyproject.toml."""
    pytest.importorskip("importlinter")
    program = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout


def dependencies():
    return listed((ROOT / "pyproject.toml").read_text(), "\ndependencies = [")


def space_installs():
    """The lines of requirements.txt without comments."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_what_a_space_installs_is_a_part_of_what_the_package_needs():
    lines = space_installs()
    assert set(lines) - set(dependencies()) == {"torch>=2.8,<2.14"}  # the newest that ZeroGPU has
    assert "torch>=2.8,<2.15" in dependencies() and len(lines) == len(set(lines))


APP = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import app
page = sys.modules["alitok_lite.demo.endpoints"]
[*page.draw("scenes", "sea", 0, 1, 1, 1)]
for answer in (page.reconstruct("scenes", "house"), page.look("scenes", "house"), page.poke("scenes", "house")):
    assert answer
assert page.predict("house")
"""


@pytest.mark.slow
def test_the_app_needs_nothing_but_what_a_space_installs(tmp_path):
    names = {re.match(r"[\w-]+", line)[0] for line in dependencies()}
    lacking = names - {re.match(r"[\w-]+", line)[0] for line in space_installs()}
    assert {"accelerate", "matplotlib", "scipy"} <= lacking
    code = f"ABSENT = {sorted(lacking | {'transformers', 'IPython', 'pytest'})}\n{APP}"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]


def test_conda_environment_has_the_same_packages():
    """But for gradio, which comes with the package."""
    names = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    conda = (ROOT / "environment.yml").read_text()
    for line in dependencies():
        name, versions = re.match(r"([\w_]+)(.*)", line).groups()
        assert (f"- {names.get(name, name)}{versions}\n" in conda) == (name != "gradio")
    assert re.findall(r"^  - ([\w-]+)$", conda.split("dependencies")[0], re.M) == ["conda-forge", "nodefaults"]


PARSE = """
import sys
from pip._internal.network.session import PipSession
from pip._internal.req import parse_requirements
from pip._internal.req.constructors import install_req_from_parsed_requirement as made
for line in parse_requirements(sys.argv[1], session=PipSession()):
    print(made(line).editable, made(line).link)
"""


@pytest.mark.slow
def test_pip_accepts_what_conda_hands_to_it(tmp_path):
    """Conda writes the entries under `pip:` into a file of requirements beside environment.yml."""
    pytest.importorskip("pip")
    yaml = pytest.importorskip("yaml")
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    (tmp_path / "requirements.txt").write_text("\n".join(entries))
    program = [sys.executable, "-c", PARSE, str(tmp_path / "requirements.txt")]
    result = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stdout == f"True {ROOT.as_uri()}\n", result.stderr[-500:]
    (tmp_path / "requirements.txt").write_text("--no-deps -e .")
    assert subprocess.run(program, cwd=ROOT, capture_output=True, timeout=120).returncode


def test_metadata():
    pyproject = (ROOT / "pyproject.toml").read_text()
    pythons = listed(pyproject, "\nclassifiers = [")
    assert [f"Programming Language :: Python :: 3.{minor}" in pythons for minor in range(9, 15)] == [0, 1, 1, 1, 1, 0]
    assert "Typing :: Typed" in pythons and (PACKAGE / "py.typed").exists()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.10"' in pyproject and "Python 3.10 to 3.13, torch 2.8 to 2.14" in readme
    assert '"torch>=2.8,<2.15"' in pyproject


_STEPS = """
import json, socket, sys
socket.socket.connect = None
import torch, alitok_lite, alitok_lite.__main__, alitok_lite.store.official, alitok_lite.study
import alitok_lite.demo.examples, alitok_lite.demo.tour, alitok_lite.measure.probe, alitok_lite.learn
assert not torch.cuda.is_initialized()
loaded = {"imports": list(sys.modules)}
from alitok_lite.demo import drawing, models
name = next(iter(models.models()))
list(drawing.draw(name, models.models()[name].classes[0]))
loaded["drawing"] = list(sys.modules)
from alitok_lite import viz
viz.to_png(viz.two_stages())
loaded["figures"] = list(sys.modules)
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Modules of a fresh process after three steps: importing the package, drawing a picture, and a figure."""
    environment = {key: value for key, value in os.environ.items() if key != "ALITOK_MODELS"}
    program = [sys.executable, "-c", _STEPS]
    result = subprocess.run(program, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr
    return {step: set(names) for step, names in json.loads(result.stdout).items()}


def test_import_touches_neither_cuda_nor_the_network_nor_heavy_packages(loaded):
    heavy = {"gradio", "accelerate", "matplotlib", "huggingface_hub", "transformers", "ipywidgets"}
    assert "alitok_lite.study" in loaded["imports"] and not heavy & loaded["imports"]


def test_a_model_loads_without_the_compiler(loaded):
    """Which would take seconds, of the two that a visitor waits for the first picture."""
    assert "alitok_lite.demo.drawing" in loaded["drawing"] and "torch._dynamo" not in loaded["drawing"]


def test_a_figure_leaves_pyplot_out(loaded):
    assert "matplotlib" in loaded["figures"] and not {"matplotlib.pyplot", "ipywidgets"} & loaded["figures"]


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


MISSING = """
import sys
import setuptools
from setuptools._distutils.filelist import FileList
found = FileList()
found.allfiles = sys.stdin.read().splitlines()
for line in open("MANIFEST.in"):
    if not line.startswith("#"):
        before = len(found.files)
        found.process_template_line(line.strip())
        assert len(found.files) > before, line
print(*sorted(set(found.allfiles) - set(found.files)))
"""


def test_everything_goes_into_the_sdist():
    """By the lines of MANIFEST.in; what setuptools adds itself is named here."""
    if importlib.util.find_spec("setuptools") is None:  # to be imported before others import distutils
        pytest.skip("no setuptools here")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("no git here")
    program = [sys.executable, "-c", MISSING]
    result = subprocess.run(program, cwd=ROOT, input=tracked.stdout, capture_output=True, text=True, timeout=120)
    missing = {name for name in result.stdout.split() if not name.endswith("-natural/judges.safetensors")}
    added = {"README.md", "LICENSE", "pyproject.toml", "MANIFEST.in"}
    assert missing == added | {".gitignore", ".pre-commit-config.yaml"}, result.stderr


def test_the_apps_tabs_name_notebooks_that_exist():
    for tab in TABS.values():
        assert (ROOT / tab.notebook).is_file() and re.search(r"[.:?] ", tab.text) and tab.text.endswith(".")
