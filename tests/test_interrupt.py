"""Ctrl-C and SIGTERM at any moment: what is done is saved, one line says how to go on, and nothing is half-written."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from test_train import add_presets, trained  # noqa: F401 (a fixture)

from alitok_lite import AliTok, interrupt, train
from alitok_lite.__main__ import main
from alitok_lite.interrupt import Stop, Stopped, on_signals
from alitok_lite.train import loop, run, state, tasks
from alitok_lite.train.average import Weights

pytest.importorskip("accelerate")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
PRESET = "mini-plain"


@pytest.fixture(autouse=True)
def presets(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    add_presets(monkeypatch)
    monkeypatch.setattr(tasks.TokenizerTask, "sheet", lambda task: [torch.zeros(1, 3, 8, 8)])
    monkeypatch.setattr(tasks.ARTask, "sheet", lambda task: [torch.zeros(1, 3, 8, 8)])


def kill(number=signal.SIGINT):
    os.kill(os.getpid(), number)


def at(monkeypatch, place, name, count, number=signal.SIGINT):
    """A signal when a function is called for the count-th time, just before it does its work."""
    real, calls = getattr(place, name), []

    def called(*args, **options):
        calls.append(1)
        if len(calls) == count:
            kill(number)
        return real(*args, **options)

    monkeypatch.setattr(place, name, called)


# Where the signal comes, at which call, and the steps that are saved then; saves are planned at 2 and 4.
MOMENTS = [
    (loop, "optimizers_of", 1, 0),  # after the pictures are read, before the first step
    (loop, "backward", 1, 1),
    (loop, "backward", 3, 3),
    (Weights, "update_average", 2, 2),
    (tasks.TokenizerTask, "diagnose", 1, 2),  # during a save
    (AliTok, "save_pretrained", 1, 2),
    (state, "write_atomically", 1, 2),
    (loop, "_save_sheet", 1, 2),
    (loop, "_save_sheet", 2, 4),
]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("place", "name", "count", "saved"), MOMENTS)
def test_stopped_run_goes_on_as_if_nothing_had_been(trained, tmp_path, monkeypatch, place, name, count, saved, number):
    before = [signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch, pytest.raises(Stopped) as caught:
        at(patch, place, name, count, number)
        train.train("tokenizer", PRESET, tmp_path / "run")
    assert (caught.value.saved, caught.value.steps) == (saved, 4)
    assert [signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)] == before
    if not saved:
        assert "before anything was saved" in str(caught.value) and not (tmp_path / "run").exists()
        return
    assert f"stopped at step {saved} of 4, which is saved in {tmp_path / 'run'}" in str(caught.value)
    assert AliTok.from_pretrained(tmp_path / "run", "cpu").info["training"]["tokenizer"]["steps"] == saved
    assert not [path for path in (tmp_path / "run").rglob("*") if path.name.startswith(".")]
    train.train("tokenizer", PRESET, tmp_path / "run", resume=True)
    runs = trained / PRESET, tmp_path / "run"
    wanted, found = (load_file(folder / "state" / "tokenizer.safetensors") for folder in runs)
    assert wanted.keys() == found.keys() and all(torch.equal(value, found[key]) for key, value in wanted.items())


def test_stop_while_ids_are_made_changes_nothing(trained, tmp_path, monkeypatch):
    shutil.copytree(trained / PRESET, tmp_path, dirs_exist_ok=True)
    files = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patch, pytest.raises(Stopped, match="before anything was saved"):
        at(patch, tasks, "save_tensors", 1)
        train.train("ar", PRESET, tmp_path)
    assert sorted(tmp_path.rglob("*")) == files


def test_stop_of_a_resumed_run_before_its_first_step_names_what_is_saved(trained, tmp_path, monkeypatch):
    shutil.copytree(trained / PRESET, tmp_path, dirs_exist_ok=True)
    with monkeypatch.context() as patch, pytest.raises(Stopped, match="stopped at step 4 of 8, which is saved"):
        at(patch, run, "open_source", 1)
        train.train("tokenizer", PRESET, tmp_path, True, [("steps", 8)])


@pytest.mark.parametrize("count", [1, 3])
def test_stop_between_saves_does_not_change_which_weights_are_best(trained, tmp_path, monkeypatch, count):
    """A run with --keep-best that was stopped and resumed ends as one that never was."""
    overrides = [("keep_best", True)]
    for name in ("whole", "run"):
        shutil.copytree(trained / PRESET, tmp_path / name)
    whole = train.train("ar", PRESET, tmp_path / "whole", overrides=overrides)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        at(patch, loop, "backward", count)
        train.train("ar", PRESET, tmp_path / "run", overrides=overrides)
    held, live = AliTok.from_pretrained(tmp_path / "run", "cpu"), load_file(tmp_path / "run/state/ar.safetensors")
    kept = "network" if count == 1 else "best"  # before the first save that judges, the weights as they are
    assert torch.equal(held.ar.output.weight, live[f"{kept}.output.weight"].half().float())
    resumed = train.train("ar", PRESET, tmp_path / "run", True, overrides)
    assert all(torch.equal(value, resumed.ar.state_dict()[key]) for key, value in whole.ar.state_dict().items())
    infos = [AliTok.from_pretrained(tmp_path / name, "cpu").info["training"]["ar"] for name in ("whole", "run")]
    assert infos[0]["history"] == infos[1]["history"]


def test_second_signal_stops_at_once(tmp_path, monkeypatch):
    """In the middle of a save: nothing is half-written, and the run goes on."""
    later, reached = iter([0.0, 0.5, 2.0]), []
    monkeypatch.setattr(interrupt, "time", SimpleNamespace(monotonic=lambda: next(later)))

    def save(path, *_):
        kill()  # the first
        kill()  # half a second later, as some programs send it twice
        (path.parent / ".tokenizer.safetensors.1.tmp").write_bytes(b"half")
        reached.append(1)
        kill()
        pytest.fail("went on")

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="before anything was saved"):
        patch.setattr(loop, "save_state", save)
        (tmp_path / "state").mkdir()
        train.train("tokenizer", PRESET, tmp_path)
    assert reached == [1]
    train.train("tokenizer", PRESET, tmp_path, replace=True)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_signals_that_others_handle_or_ignore_are_left_alone():
    heard = []
    for handler in (signal.SIG_IGN, lambda *_: heard.append(1)):
        before = signal.signal(signal.SIGINT, handler)
        try:
            with on_signals(lambda *_: pytest.fail("was called")):
                kill()
        finally:
            signal.signal(signal.SIGINT, before)
    assert heard == [1]


def test_training_in_a_thread_has_no_handlers(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(train.train("tokenizer", PRESET, tmp_path)))
    thread.start()
    thread.join(60)
    assert found[0].tokenizer.stages == (1,)


class Others:
    """Two processes, of which the other one was asked to stop."""

    num_processes, device = 2, torch.device("cpu")

    def __init__(self):
        self.asked = []

    def reduce(self, value, how):
        self.asked.append((value.item(), how))
        return value + 1


def test_processes_ask_each_other_now_and_then():
    others = Others()
    stop = Stop(others)
    assert [stop.agreed(step) for step in range(20)] == ([False] * 9 + [True]) * 2
    stop.ask(signal.SIGINT, None)
    stop.since -= 10
    stop.ask(signal.SIGINT, None)  # does not stop this one alone
    assert stop.agreed(29) and others.asked == [(0.0, "sum"), (0.0, "sum"), (1.0, "sum")]


@pytest.mark.parametrize(
    ("moment", "further", "words"),
    [
        (
            (loop, "optimizers_of", 1),
            [],
            "before anything was saved; {out} is as it was; the same command starts again",
        ),
        ((loop, "backward", 1), [], "step 1 of 4, which is saved in {out}; the same command with --resume goes on"),
        ((loop, "_save_sheet", 2), [], "stopped at step 4 of 4, which is saved in {out}"),
    ],
)
def test_command_line_says_how_to_go_on(tmp_path, monkeypatch, capsys, moment, further, words):
    command = ["train", "tokenizer", "--preset", PRESET, "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        at(patch, *moment)
        assert main([*command, *further]) == 130
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert lines[-1].startswith("alitok_lite: ") and words.format(out=tmp_path / "run") in lines[-1]
    assert sum(line.startswith("alitok_lite: ") for line in lines) == 1
    if moment[1] == "backward":
        with monkeypatch.context() as patch:
            at(patch, *moment)
            assert main([*command, "--resume"]) == 130
        assert "step 2 of 4, which is saved in" in (error := capsys.readouterr().err)
        assert error.endswith("; the same command goes on from there\n")


def test_other_commands_end_with_a_line(folder, capsys, monkeypatch):
    at(monkeypatch, AliTok, "sample", 1)
    assert main(["sample", "--model", str(folder), "--device", "cpu"]) == 130
    assert capsys.readouterr().err == "alitok_lite: sample was stopped\n"


def test_only_the_main_process_speaks(folder, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    at(monkeypatch, AliTok, "sample", 1)
    assert main(["sample", "--model", str(folder), "--device", "cpu"]) == 130
    assert capsys.readouterr().err == ""


def run_until(arguments, ready, number, cwd, wait=0.0, timeout=120):
    """A program in a group of its own, which gets a signal once it has printed `ready`; its status and output."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    with open(cwd / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=log, stderr=log, cwd=cwd, env=environment, start_new_session=True
        )
    try:
        end = time.monotonic() + timeout
        while ready not in (cwd / "log").read_text() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(wait)
        if process.poll() is None:
            os.killpg(process.pid, number)
        return process.wait(timeout), (cwd / "log").read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


EARLY = """
import sys
sys.argv, sys.orig_argv = {argv}, {orig}
from alitok_lite.cli import main
print("ready", flush=True)
main(["sample"])
"""


@pytest.mark.parametrize(
    "names", [(["-m"], ["python", "-m", "alitok_lite"]), (["bin/alitok"], ["python", "bin/alitok"])]
)
def test_during_the_imports(tmp_path, names):
    code = EARLY.format(argv=names[0], orig=names[1])
    status, text = run_until(["-c", code], "ready", signal.SIGINT, tmp_path, 0.2)
    assert (status, text) == (130, "ready\nalitok_lite: stopped\n")


RUN = """
import sys
import pytest
sys.path.insert(0, sys.argv[1])
import test_train
from alitok_lite import __main__
with pytest.MonkeyPatch.context() as patch:
    test_train.add_presets(patch)
    print("ready", flush=True)
    sys.exit(__main__.main(sys.argv[2:]))
"""
TESTS = str(Path(__file__).parent)


@pytest.mark.slow
def test_at_random_moments(tmp_path):
    """Always one line and status 130, a run that is readable, and one that goes on from where it was."""
    (tmp_path / "run.py").write_text(RUN)
    moments, done = random.Random(0), 0
    for _ in range(12):
        command = ["train", "tokenizer", "--preset", "mini", "--out", "run", "--steps", "100000", "--save-every", "7"]
        command += ["--resume"] if (tmp_path / "run" / "config.json").exists() else []
        number = moments.choice((signal.SIGINT, signal.SIGTERM))
        status, text = run_until(["run.py", TESTS, *command], "ready", number, tmp_path, moments.uniform(0, 3))
        lines = text.replace("\r", "\n").splitlines()
        assert status == 130 and "Traceback" not in text, text[-2000:]
        assert sum(line.startswith("alitok_lite: stopped") for line in lines) == 1, text[-2000:]
        assert not list(tmp_path.rglob(".*.tmp"))
        if (tmp_path / "run" / "config.json").exists():
            steps = AliTok.from_pretrained(tmp_path / "run", "cpu").info["training"]["tokenizer"]["steps"]
            assert steps >= done and f"at step {steps} of 100000" in text
            done = steps
    assert done > 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_while_a_folder_is_read(tmp_path, workers):
    """Also the processes that read pictures get the signal, and say nothing."""
    import numpy as np
    from PIL import Image

    for label in ("a", "b"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(3000):
            pixels = np.full((40, 40, 3), number % 256, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{number}.png")
    (tmp_path / "run.py").write_text(RUN)
    command = ["train", "tokenizer", "--preset", "mini", "--out", "run", "--data", "pictures", "--workers", workers]
    for ready, wait in (("checking", 0.1), ("decoding", 0.1), ("decoding", 0.5)):
        status, text = run_until(["run.py", TESTS, *command], ready, signal.SIGINT, tmp_path, wait)
        assert status == 130 and "Traceback" not in text, text[-2000:]
        assert text.endswith("alitok_lite: stopped before anything was saved; run is as it was; the same command"
                             " starts again\n")  # fmt: skip
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_several_processes_stop_together(tmp_path, whole):
    """The signal goes to the launcher and all its processes, or to the second of two alone."""
    script = RUN.replace(
        'print("ready"',
        "import os, threading\n"
        '    if os.environ["RANK"] == "1" and sys.argv.pop(1) == "one":\n'
        "        threading.Timer(4, lambda: os.kill(os.getpid(), 2)).start()\n"
        '    elif os.environ["RANK"] == "0":\n'
        "        sys.argv.pop(1)\n"
        '    print("ready"',
    ).replace("sys.path.insert(0, sys.argv[1])", "sys.path.insert(0, sys.argv[2])")
    (tmp_path / "run.py").write_text(script)
    command = ["train", "tokenizer", "--preset", "mini", "--out", "run", "--steps", "100000", "--save-every", "50"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "run.py"]
    launch += ["all" if whole else "one", TESTS, *command]
    ready = "tokenizer step 50" if whole else "alitok_lite: stopped"
    status, text = run_until(launch, ready, signal.SIGINT, tmp_path, 0.3, 180)
    lines = [line for line in text.replace("\r", "\n").splitlines() if line.startswith("alitok_lite: ")]
    assert status != 0 and len(lines) == 1, text[-3000:]
    steps = AliTok.from_pretrained(tmp_path / "run", "cpu").info["training"]["tokenizer"]["steps"]
    assert f"stopped at step {steps} of 100000, which is saved in run" in lines[0]
    assert "alitok_lite" not in text.split("Traceback")[1] if "Traceback" in text else True  # the launcher's own
