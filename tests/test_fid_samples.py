"""Many samples in one .npz: the same whatever the processes and interruptions."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_model

from alitok_lite import AliTok, machine
from alitok_lite.__main__ import main
from alitok_lite.measure import fid
from alitok_lite.measure.fid import Order, draw


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """Calls the command in a folder of its own; returns the pictures, or the status when it fails."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, out="a.npz"):
        fixed = ["--model", str(folder), "--device", "cpu", "--pictures", "10", "--batch", "4", "--seed", "3"]
        status = main(["fidsamples", *fixed, "--out", out, *arguments])
        return np.load(out)["arr_0"] if status == 0 else status

    return call


def pixels(pictures):
    return np.stack([np.asarray(picture) for picture in AliTok.to_pil(pictures)])


def test_picture_i_has_class_i_and_seed_plus_i(run, folder, tmp_path, capsys):
    pictures = run()
    assert capsys.readouterr().out == "10 pictures in a.npz\n"
    assert (pictures.shape, pictures.dtype) == ((10, 32, 32, 3), np.uint8)
    model = AliTok.from_pretrained(folder, "cpu")
    for i in range(10):
        assert np.array_equal(pictures[i : i + 1], pixels(model.sample([i % 3], seed=3 + i)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "small"]
    assert not np.array_equal(pictures, run("--seed", "4", out="b.npz"))


def test_options_reach_the_sampler(run, folder):
    pictures = run("--classes", "tree, 0", "--guidance", "2", "--top-k", "3", "--dtype", "bfloat16")
    model = AliTok.from_pretrained(folder, "cpu", machine.DTYPES["bfloat16"])
    expected = model.sample(["tree", 0, "tree", 0], seed=3, guidance=2.0, top_k=3)
    assert np.array_equal(pictures[:4], pixels(expected))


def test_a_restart_draws_only_what_is_missing(run, monkeypatch):
    whole, drawn, sample = run(), [], AliTok.sample

    def watched(model, classes, seed, **settings):
        if len(drawn) == 2:
            raise ZeroDivisionError
        drawn.append(seed)
        return sample(model, classes, seed, **settings)

    monkeypatch.setattr(AliTok, "sample", watched)
    with pytest.raises(ZeroDivisionError):
        run(out="b.npz")
    assert sorted(path.name for path in Path("b.npz.parts").iterdir()) == [
        "0000000000.npy",
        "0000000004.npy",
        "order.json",
    ]
    assert drawn == [3, 7]
    drawn.pop()
    assert np.array_equal(run(out="b.npz"), whole)
    assert drawn == [3, 11]
    assert not Path("b.npz.parts").exists()


def test_a_disk_that_fills_while_joining_loses_nothing(run, monkeypatch, capsys):
    whole, replace = run(), os.replace

    def full(source, target):
        if str(target) == "b.npz":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("os.replace", full)
    assert run(out="b.npz") == 2
    assert "No space left" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["a.npz", "b.npz.parts", "small"]
    monkeypatch.setattr("os.replace", replace)
    monkeypatch.setattr(AliTok, "sample", None)  # all is drawn already
    assert np.array_equal(run(out="b.npz"), whole)


def test_files_of_others_are_left_alone(run, capsys):
    """The folder for the batches may be there already."""
    mine = Path("a.npz.parts") / "mine"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    assert run() == 2
    assert "a.npz.parts holds something else than batches: move it" in capsys.readouterr().err
    assert [path.name for path in mine.parent.iterdir()] == ["mine"]
    mine.unlink()
    assert len(run()) == 10 and not mine.parent.exists()  # empty, it serves

    def add(*_):
        Path("b.npz.parts/mine").write_bytes(b"mine")
        return 1 / 0

    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(fid, "_assemble", add)
        run(out="b.npz")
    assert len(run(out="b.npz")) == 10
    assert [path.name for path in Path("b.npz.parts").iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_batches_need_a_folder(run, capsys, kind):
    parts = Path("a.npz.parts")
    parts.write_bytes(b"mine") if kind == "file" else parts.symlink_to("small")
    assert run() == 2
    assert "a.npz.parts is not a folder" in capsys.readouterr().err
    assert parts.is_symlink() == (kind == "link") and (Path("small") / "config.json").exists()


def test_what_a_killed_run_left_half_written_is_removed(run):
    parts = Path("a.npz.parts")
    parts.mkdir()
    (parts / ".order.json.01234567.tmp").write_bytes(b"{")
    assert len(run()) == 10 and not parts.exists()


def test_behind_a_link_the_link_stays(run):
    Path("deep").mkdir()
    Path("a.npz").symlink_to("deep/b.npz")
    assert len(run()) == 10
    assert Path("a.npz").is_symlink() and [path.name for path in Path("deep").iterdir()] == ["b.npz"]


def test_numbers_of_numpy_and_torch_make_the_same_order(folder, tmp_path):
    kinds = (int, np.int64, torch.tensor)
    orders = [Order(k(2), k(2), k(3), [k(2), "sea"], settings={"guidance": k(2), "top_k": k(3)}) for k in kinds]
    orders.append(Order(2, 2, 3, "2, sea", settings={"guidance": 2, "top_k": 3}))
    for number, order in enumerate(orders):
        draw(str(folder), tmp_path / f"{number}.npz", order, "cpu")
    first, *others = (np.load(tmp_path / f"{number}.npz")["arr_0"] for number in range(4))
    assert all(np.array_equal(first, other) for other in others)
    for wrong in ({"pictures": True}, {"pictures": 2.0}, {"batch": np.bool_(True)}, {"seed": 1.5}, {"seed": None}):
        with pytest.raises(ValueError, match=f"--{next(iter(wrong))} is"):
            Order(**wrong)


def test_another_order_does_not_mix_with_what_is_there(run, folder, capsys, monkeypatch):
    monkeypatch.setattr(fid, "_assemble", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run()
    for options, key in (
        (["--batch", "5"], "batch"),
        (["--top-k", "2"], "settings"),
        (["--classes", "sea"], "classes"),
    ):
        assert run(*options) == 2
        assert f"a.npz.parts holds batches with {key} " in capsys.readouterr().err
    model = small_model()
    model.classes = ["a", "b", "c"]
    model.save_pretrained(folder)
    assert run() == 2
    assert "a.npz.parts holds batches with model " in capsys.readouterr().err


MISTAKES = [
    (["--pictures", "0"], "--pictures is 0"),
    (["--batch", "0"], "--batch is 0"),
    (["--seed", "-1"], "--seed is -1; it must be a whole number from 0 to 4294967286"),
    (["--seed", "4294967290"], "--seed is 4294967290"),
    (["--classes", "boat"], "no class 'boat'"),
    (["--classes", "7"], "no class 7"),
    (["--classes", "sea,"], "no class '': the list of classes 'sea,' has an empty entry"),
    (["--classes", ""], "no class ''"),
    (["--out", "a.png"], "--out is 'a.png'"),
    (["--out", ""], "--out is ''; it must be a new file.npz"),
    (["--out", "new.npz/"], "--out is 'new.npz/'; it must be a new file.npz"),
    (["--out", "small"], "--out is 'small'; it must be a new file.npz"),
    (["--out", "none/a.npz"], "a new file.npz in a folder that exists"),
    (["--out", "there.npz"], "--out is 'there.npz'; it must be a new"),
    (["--guidance", "nan"], "guidance is nan"),
    (["--model", "nonsense"], "no checkpoint 'nonsense'"),
    (["--pictures", "1000000000"], "GB free; 6144.0 are needed"),
]


@pytest.mark.parametrize(("options", "words"), MISTAKES)
def test_mistakes(run, tmp_path, capsys, options, words):
    Path("there.npz").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    assert run(*options) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.startswith("alitok_lite: ")
    assert captured.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tokenizer_alone_cannot_draw(run, folder, capsys):
    model = AliTok.from_pretrained(folder, "cpu")
    model.ar = None
    model.save_pretrained(folder)
    assert run() == 2
    assert "has no AR model, so it cannot draw" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["small"]


def launch(count, out, folder, *options):
    """The command under torch's launcher, which `accelerate launch` uses too."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count), "-m"]
    order = ["--model", str(folder), "--device", "cpu", "--pictures", "30", "--batch", "4", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*launcher, "alitok_lite", "fidsamples", *order, *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
def test_two_processes_draw_what_one_draws(folder, tmp_path):
    pytest.importorskip("accelerate")
    draw(str(folder), tmp_path / "1.npz", Order(30, 4), "cpu")
    process = launch(2, tmp_path / "2.npz", folder)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert output == f"30 pictures in {tmp_path}/2.npz\n"  # said once
    assert np.array_equal(np.load(tmp_path / "1.npz")["arr_0"], np.load(tmp_path / "2.npz")["arr_0"])
    assert not (tmp_path / "2.npz.parts").exists()


SLOW = """
import sys, time
from alitok_lite import AliTok
from alitok_lite.__main__ import main
sample = AliTok.sample
AliTok.sample = lambda *args, **settings: (time.sleep(0.2), sample(*args, **settings))[1]
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_and_restarted_with_more_processes(folder, tmp_path):
    """kill -9 in the middle, then two processes: the pictures of one undisturbed process."""
    pytest.importorskip("accelerate")
    draw(str(folder), tmp_path / "whole.npz", Order(30, 4), "cpu")
    out, parts = tmp_path / "a.npz", tmp_path / "a.npz.parts"
    order = ["--model", str(folder), "--device", "cpu", "--pictures", "30", "--batch", "4", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", SLOW, "fidsamples", *order], env=environment)
    deadline = time.monotonic() + 120
    while len(list(parts.glob("0*.npy"))) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.npy")}
    assert 3 <= len(there) < 8 and not out.exists()
    assert json.loads((parts / "order.json").read_text())["pictures"] == 30
    process = launch(2, out, folder)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 0, error
    assert np.array_equal(np.load(out)["arr_0"], np.load(tmp_path / "whole.npz")["arr_0"])


@pytest.mark.slow
def test_a_mistake_ends_all_processes(folder, tmp_path):
    pytest.importorskip("accelerate")
    process = launch(2, tmp_path / "a.npz", folder, "--classes", "boat")
    error = process.communicate(timeout=300)[1]
    assert process.returncode != 0
    assert "alitok_lite: no class 'boat'" in error
    assert not (tmp_path / "a.npz.parts").exists()
