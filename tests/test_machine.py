"""What differs from machine to machine: Apple GPUs, ways to start processes, who speaks."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as fn
from test_data import fill
from torch.utils import backend_registration

from alitok_lite import machine, scenes, train
from alitok_lite.__main__ import main
from alitok_lite.data.sources import SceneSource
from alitok_lite.machine import allowed_workers, main_process, resize, sample_inside
from alitok_lite.scenes import backdrops
from alitok_lite.train import run

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}


def border(pixels, x, y):
    grid = torch.stack(torch.broadcast_tensors(x, y), -1)
    return fn.grid_sample(pixels, grid, "bilinear", "border", False)


@pytest.mark.parametrize("size", [(8, 8), (5, 12), (1, 3)])
def test_places_outside_have_the_value_of_the_nearest_pixel(size):
    torch.manual_seed(0)
    pixels, x, y = torch.rand(4, 3, *size), torch.randn(4, 20, 30) * 2, torch.randn(4, 20, 1)
    torch.testing.assert_close(sample_inside(pixels, x, y), border(pixels, x, y), atol=1e-5, rtol=0)
    corner = sample_inside(pixels, torch.full((4, 1, 1), -9.0), torch.full((4, 1, 1), 9.0))
    torch.testing.assert_close(corner[:, :, 0, 0], pixels[:, :, -1, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [32, 64, 96])
def test_scenes_are_what_they_were_with_border_padding(monkeypatch, size):
    """Up to rounding; the shipped models were trained on those."""
    labels = list(range(len(scenes.CLASSES))) * 3
    for seed in (0, 77, scenes.TEST_SEED):
        now = scenes.render(labels, seed, size)
        with monkeypatch.context() as patch:
            patch.setattr(backdrops, "sample_inside", border)
            assert (scenes.render(labels, seed, size) - now).abs().max() < 1e-5


def test_resizing_is_torchs():
    pixels = torch.rand(2, 3, 20, 30)
    for mode in ("bilinear", "bicubic"):
        wanted = fn.interpolate(pixels, (9, 9), mode=mode, antialias=True, align_corners=False)
        assert torch.equal(resize(pixels, 9, mode), wanted)


PATHS = ("scenes", "scenes to train on", "tokenizer", "decoder", "ar", "resumed", "draw", "evaluate", "perceptual")


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"), reason="needs a newer torch"
)
def test_nothing_that_apple_gpus_lack_is_reached(tmp_path):
    """Every path through the package on a stand-in for such a device: see apple.py."""
    pytest.importorskip("accelerate")
    pytest.importorskip("transformers")
    program = [sys.executable, str(Path(__file__).parent / "apple.py"), str(tmp_path)]
    result = subprocess.run(program, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    passed = [line.removeprefix("passed: ") for line in result.stdout.splitlines() if line.startswith("passed: ")]
    assert tuple(passed) == PATHS, result.stdout[-1000:] + result.stderr[-3000:]


def test_scenes_are_drawn_from_by_the_cpu_unless_on_cuda():
    for device, wanted in (("cpu", "cpu"), ("mps", "cpu"), ("meta", "cpu")):
        source = SceneSource(16, train.SETTINGS["tiny"]["tokenizer"], torch.device(device))
        assert source.generator.device.type == wanted


# ---------------------------------------------------------------- devices


@pytest.fixture
def accelerators(monkeypatch):
    pytest.importorskip("accelerate")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield run.accelerator_front
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


def test_device_is_the_one_that_was_requested(accelerators, monkeypatch):
    from accelerate.state import PartialState

    assert accelerators("cpu").device.type == "cpu"
    for wrong in ("cuda", "mps", "tpu"):
        with pytest.raises(ValueError, match=f"device is '{wrong}'; this machine has auto, cpu"):
            accelerators(wrong)
    monkeypatch.setattr(PartialState, "default_device", property(lambda state: torch.device("mps")))
    monkeypatch.setattr(run, "choose_device", torch.device)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert accelerators("auto").device.type == "mps"  # after a training on the CPU in the same process
    assert accelerators("mps").device.type == "mps"
    assert accelerators("cpu").device.type == "cpu"
    assert accelerators("auto").device.type == "mps"
    with pytest.raises(ValueError, match="device is 'cuda', but accelerate trains on 'mps' here"):
        accelerators("cuda")


def test_device_and_workers_reach_the_training(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr("alitok_lite.train.train", lambda *args: calls.append(args))
    monkeypatch.setattr("alitok_lite.train.run.train", lambda *args: calls.append(args))
    command = ["train", "ar", "--preset", "tiny", "--out", str(tmp_path)]
    assert main([*command, "--device", "cpu", "--workers", "0", "--replace"]) == 0
    assert main([*command, "--data", "pictures", "--pictures", "5"]) == 0
    assert [args[6:9] for args in calls] == [(True, "cpu", 0), (False, "auto", None)]
    assert "--pictures is for scenes: of a folder all pictures are used" in capsys.readouterr().out


# ---------------------------------------------------------------- processes

SCRIPT = """
import multiprocessing
from alitok_lite.train import train
{guard}    multiprocessing.set_start_method("{method}")
    train("tokenizer", "tiny", "run", overrides=[("steps", 1), ("batch", 4)], data="pictures"{options})
"""
GUARDS = {"none": "if True:\n", "main": 'if __name__ == "__main__":\n'}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("spawned")
    fill(root / "pictures", {"a": 3, "b": 3}, 72)
    return root


@pytest.mark.parametrize(
    ("guard", "method", "options"),
    [
        pytest.param("none", "spawn", "", marks=pytest.mark.slow),
        pytest.param("none", "forkserver", "", marks=pytest.mark.slow),
        pytest.param("none", "spawn", ", workers=0", marks=pytest.mark.slow),
        pytest.param("main", "spawn", ", workers=1", marks=pytest.mark.slow),
        pytest.param("none", "fork", ", workers=1", marks=pytest.mark.slow),
    ],
)
def test_script_whose_processes_would_run_it_again(pictures, tmp_path, guard, method, options):
    """Without the main guard that spawned processes need: one line, and this process reads the pictures itself."""
    pytest.importorskip("accelerate")
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    (tmp_path / "pictures").symlink_to(pictures / "pictures")
    script = SCRIPT.format(method=method, guard=GUARDS[guard], options=options)
    (tmp_path / "script.py").write_text(script)
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, env=ENVIRONMENT
    )
    assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr[-3000:]
    assert (tmp_path / "run" / "config.json").exists()
    said = "pictures are read by this process alone: put what script.py does under `if __name__"
    assert result.stdout.count(said) == (guard == "none" and method != "fork" and options == "")


CALL = "from alitok_lite.machine import _guarded\ndef call():\n    print(_guarded())\n"


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ("call()", False),
        ("if __name__ == '__main__':\n    call()", True),
        ("if True:\n    pass\nif '__main__' == __name__:\n    if True:\n        call()", True),
        ("if __name__ == '__main__':\n    pass\ncall()", False),
        ("def main():\n    call()\nmain()", False),
        ("import threading\nthreading.Thread(target=call).start()", True),  # not seen
    ],
)
def test_guard_is_seen_in_the_script(tmp_path, monkeypatch, capsys, lines, wanted):
    """In this process, as if the script had been started."""
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "spawn")
    path = tmp_path / "script.py"
    path.write_text(CALL + lines)
    started = ModuleType("__main__")
    started.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "__main__", started)
    frame = sys._getframe
    monkeypatch.setattr(sys, "_getframe", lambda: Frames(frame(1), path))
    before = threading.enumerate()
    runpy.run_path(str(path), run_name="__main__")
    for thread in set(threading.enumerate()) - set(before):
        thread.join(10)
    assert capsys.readouterr().out == f"{wanted}\n"


class Frames:
    """The frames of a script alone: those of pytest, which has a main module too, are cut off."""

    def __init__(self, frame, path):
        self.frame, self.path = frame, path

    def __getattr__(self, name):
        return getattr(self.frame, name)

    @property
    def f_back(self):
        back = self.frame.f_back
        inside = self.frame.f_code.co_filename == str(self.path) and self.frame.f_code.co_name == "<module>"
        return None if back is None or inside else Frames(back, self.path)


def test_negative_workers_are_refused():
    assert allowed_workers(0) == 0 and allowed_workers(3) == 3
    with pytest.raises(ValueError, match="workers is -1; it must be a whole number of 0 or more"):
        allowed_workers(-1)


def test_first_process_speaks(monkeypatch, capsys):
    for rank, wanted in ((None, True), ("0", True), ("1", False), ("7", False)):
        monkeypatch.delenv("RANK", raising=False) if rank is None else monkeypatch.setenv("RANK", rank)
        assert main_process() is wanted
        machine.say("here")
        assert capsys.readouterr().out == "here\n" * wanted


def test_programs_own_module_is_guarded():
    text = Path(machine.__file__).with_name("__main__.py").read_text()
    assert text.endswith('if __name__ == "__main__":\n    sys.exit(main())\n')
