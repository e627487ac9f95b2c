"""What a training says and writes beside its weights: log, curve, estimate, the next command, a tracker."""

import csv
import re
import shlex
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from test_train import preset, run, trained  # noqa: F401

from alitok_lite import train
from alitok_lite.__main__ import main
from alitok_lite.core.losses import LossWeights
from alitok_lite.data.images import PAPER
from alitok_lite.train import loop
from alitok_lite.train.curve import draw_curve
from alitok_lite.train.log import FIXED, Log, read_log, series
from alitok_lite.train.progress import Estimate, duration, next_steps, sentence, thread_hint
from alitok_lite.train.settings import SETTINGS, TrainSettings, learning_rate

SETTINGS_OF_THREE = TrainSettings(steps=10, save_every=4)


def rows_of(folder, part):
    return [row for row in read_log(folder) if row["part"] == part]


def without_times(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_log_has_loss_terms_learning_rate_and_diagnostics_of_all_parts(run):  # noqa: F811
    train.train("ar", "mini", run, overrides=[("keep_best", True)])
    with open(run / "log.csv", newline="") as file:
        header = next(csv.reader(file))
    assert tuple(header[:4]) == FIXED
    rows = {part: rows_of(run, part) for part in ("tokenizer", "ar")}
    for part, found in rows.items():
        assert [int(row["step"]) for row in found] == [1, 2, 3, 4]
        for row in found:
            rate = learning_rate(SETTINGS["mini"][part], int(row["step"]) - 1)
            assert float(row["learning rate"]) == pytest.approx(rate, rel=1e-3)
    assert {"mse", "aux", "vq", "loss"} <= rows["tokenizer"][0].keys() and "gan" in rows["tokenizer"][3]
    terms = [float(value) for key, value in rows["tokenizer"][3].items() if key in ("mse", "l1", "aux", "vq", "gan")]
    assert float(rows["tokenizer"][3]["loss"]) == pytest.approx(sum(terms), rel=1e-4)
    assert ["psnr" in row for row in rows["tokenizer"]] == ["test nats" in row for row in rows["ar"]]
    assert ["psnr" in row for row in rows["tokenizer"]] == [False, True, False, True]
    assert "kept step" in rows["ar"][3]


def test_log_goes_on_after_an_interruption_as_if_nothing_had_been(run, tmp_path, monkeypatch):  # noqa: F811
    """Killed after step 3, whose row is not yet written; resumed from step 2."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save_state", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        train.train("tokenizer", "mini", tmp_path / "b")
    assert [int(row["step"]) for row in read_log(tmp_path / "b")] == [1, 2]  # the log is ahead of the state
    shutil.rmtree(tmp_path / "b")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_save_sheet", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        train.train("tokenizer", "mini", tmp_path / "b")
    with open(tmp_path / "b" / "log.csv", "a") as file:  # as if it were ahead of the state
        file.write("tokenizer,3,1.0,0.1\n")
    train.train("tokenizer", "mini", tmp_path / "b", resume=True)
    assert without_times(rows_of(tmp_path / "b", "tokenizer")) == without_times(rows_of(run, "tokenizer"))


def test_log_of_a_replaced_part_goes_and_that_is_said(run, capsys):  # noqa: F811
    train.train("ar", "mini", run)
    assert len(rows_of(run, "ar")) == 4
    train.train("ar", "mini", run, overrides=[("steps", 2)], replace=True)
    assert "will be removed at the first save, with states, sheets, curves and log" in capsys.readouterr().out
    assert len(rows_of(run, "ar")) == 2 and len(rows_of(run, "tokenizer")) == 4
    train.train("tokenizer", "mini", run, resume=True, overrides=[("steps", 6)], replace=True)
    assert not rows_of(run, "ar") and len(rows_of(run, "tokenizer")) == 6


def test_foreign_log_is_kept_under_another_name(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("my,notes\n1,2\n")
    (tmp_path / "log-1.csv").write_text("older")
    train.train("tokenizer", "mini", tmp_path)
    assert (tmp_path / "log-2.csv").read_text() == "my,notes\n1,2\n"
    assert (tmp_path / "log-1.csv").read_text() == "older" and len(read_log(tmp_path)) == 4
    assert "it is now log-2.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["", "a,b\n", ",".join(FIXED) + "\nar,one,2,3\n", ",".join(FIXED) + "\nar,1,2,3,4\n", "\0"]
)
def test_what_is_no_log_is_refused(tmp_path, text):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ValueError):
        read_log(tmp_path)


def test_curve_is_drawn_from_five_rows_on(tmp_path):
    log = Log(tmp_path)
    for step in range(1, 7):
        log.add("ar", step, step, 0.1, {"loss": 9 - step} | ({"test nats": 3.0, "top1": 0.5} if step % 2 else {}))
        draw_curve(log.rows, "ar", "title", tmp_path)
        assert (tmp_path / "curve-ar.png").exists() == (step >= 5)
    assert series(log.rows, "ar")["top1"] == ([1, 3, 5], [0.5, 0.5, 0.5])
    with Image.open(tmp_path / "curve-ar.png") as picture:
        one = picture.size
        assert len(picture.convert("L").getcolors()) > 2
    log.cut("ar", 5)
    assert [row["step"] for row in log.rows] == ["1", "2", "3", "4", "5"]
    for step in range(1, 7):
        log.add("tokenizer", step, step, 0.1, {"loss": 0.5, "mse": 0.25})
    draw_curve(log.rows, "tokenizer", "title", tmp_path)
    with Image.open(tmp_path / "curve-tokenizer.png") as picture:
        assert picture.size[0] < one[0]  # a panel for each kind of number


def test_a_training_draws_its_curve(tmp_path):
    train.train("tokenizer", "mini", tmp_path, overrides=[("steps", 6)])
    assert (tmp_path / "curve-tokenizer.png").exists()
    train.train("tokenizer", "mini", tmp_path, overrides=[("steps", 2)], replace=True)
    assert not (tmp_path / "curve-tokenizer.png").exists()  # too short for one, and the old one has gone


def test_estimate_counts_steps_and_saves():
    now = [0.0]
    estimate = Estimate(0, SETTINGS_OF_THREE, lambda: now[0])

    def step(seconds):
        now[0] += seconds
        estimate.stepped(estimate.done + 1)

    step(3.0)  # the first reads and compiles
    assert estimate.first_words() == "" and estimate.saves_left == 3
    step(1.0)
    step(1.0)
    assert (estimate.per_step, estimate.left) == (1.0, 7.0)
    words = estimate.first_words()
    assert words == "10 steps will take about 12 s (1 s a step), and in addition the time of 3 saves"
    assert estimate.first_words() == ""  # once
    step(1.0)
    now[0] += 2.0
    estimate.saved(2.0)
    assert (estimate.per_step, estimate.saves_left, estimate.left) == (1.0, 2, 6 + 2 * 2.0)


def test_estimate_of_slow_steps_comes_after_the_first_one():
    now = [0.0]
    estimate = Estimate(4, SETTINGS_OF_THREE, lambda: now[0])
    now[0] = 8.0
    estimate.stepped(5)
    assert estimate.first_words().startswith("the other 6 steps will take about 48 s (8 s a step)")


def test_words():
    numbers = {"train nats": 4.0, "test nats": 4.25, "top1": 0.081, "kept step": 1200, "loss": 4.5}
    assert sentence(numbers) == (
        "4.250 nats per token on unseen pictures, 4.000 nats on training pictures, top-1 8.1 %, loss 4.5,"
        " kept: the weights of step 1,200"
    )
    assert sentence({"psnr": 18.2, "codebook usage": 0.931}) == "PSNR 18.20 dB, codebook usage 93.1 %"
    assert [duration(s) for s in (0.1, 50, 1500, 12_600, 181_440)] == ["1 s", "50 s", "25 min", "3.5 h", "2.1 days"]


def test_sheet_has_reconstructions_below_their_originals():
    for count, size in ((2, (2, 2)), (17, (16, 4))):
        rows = [torch.full((count, 3, 8, 8), value) for value in (0.0, 1.0)]
        sheet = loop._sheet(SimpleNamespace(sheet=lambda rows=rows: rows))
        columns, lines = size
        assert sheet.size == (columns * 16 + 8, lines * 16 + 8)  # 8 pixels each, and 8 between them
        colours = [[sheet.getpixel((16 * x + 12, 16 * y + 12)) for x in range(columns)] for y in range(lines)]
        paper = [PAPER] * (-count % columns)
        for y, line in enumerate(colours):
            own = [(255 * (y % 2),) * 3] * columns
            assert line == (own if y < lines - 2 or not paper else own[: columns - len(paper)] + paper)


@pytest.mark.parametrize(
    ("load", "threads", "set_already", "said"),
    [(3.0, 2, False, True), (2.0, 2, False, False), (3.0, 1, False, False), (3.0, 2, True, False)],
)
def test_busy_machine_is_said(monkeypatch, load, threads, set_already, said):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0, 0), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_already:
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert ("load 3.0 on 2 CPUs" in thread_hint(threads)) == said


def test_critic_that_joins_later_is_said():
    losses = LossWeights(adversarial=0.1, adversarial_start=0.8)
    settings, task = TrainSettings(steps=1000, losses=losses), SimpleNamespace(name="tokenizer")
    assert loop._later(task, settings, 3) == "; steps take longer from step 800 on, when the critic joins"
    assert loop._later(task, settings, 900) == loop._later(task, replace(settings, losses=LossWeights()), 3) == ""
    both = replace(settings, losses=replace(losses, features=0.1, features_start=0.5))
    words = "; steps take longer from step 500 on, when the features term joins"
    assert loop._later(task, both, 3) == words + loop._later(task, settings, 3)
    assert loop._later(task, both, 600) == loop._later(task, settings, 600) != ""
    assert loop._later(SimpleNamespace(name="ar"), both, 3) == ""


def test_numbers_are_new_at_every_hundredth_step():
    assert [loop._refresh(TrainSettings(steps=steps)) for steps in (1, 40, 1000, 100_000)] == [1, 1, 10, 50]


def test_saves_are_sentences_and_the_next_command_works(tmp_path, capsys):
    out = str(tmp_path / "my run")
    assert main(["train", "tokenizer", "--preset", "mini", "--out", out]) == 0
    said = capsys.readouterr().out
    assert re.search(r"tokenizer step 2: PSNR \d+\.\d\d dB, codebook usage .* %, loss 0\.\d+; about \d+ s left\n", said)
    assert "{" not in said and "left" not in said.split("step 4")[1]
    command = re.search("next: python -m alitok_lite (.*)", said)[1]
    assert command == f"train ar --preset mini --out '{out}'" and f"train decoder --preset mini --out '{out}'" in said
    assert main(shlex.split(command)) == 0
    said = capsys.readouterr().out
    assert f"next: python -m alitok_lite sample --model '{out}'" in said
    assert main([*shlex.split(re.search("next: python -m alitok_lite (.*)", said)[1]), "--out", f"{out}.png"]) == 0


def test_next_command_names_the_pictures(tmp_path):
    lines = next_steps("tokenizer", tmp_path, ["--data", "my pictures"], {"ar": ["--from", "x"]}, ["tokenizer"], False)
    command = "train ar --data 'my pictures' --from x --keep-best"
    assert lines == [f"next: python -m alitok_lite {command}"]


def test_only_what_is_there_is_named(tmp_path, capsys):
    """A training of a few steps has no curve."""
    for steps, curve in ((1, ""), (12, f", {tmp_path / '12' / 'curve-tokenizer.png'}")):
        out = tmp_path / str(steps)
        train.train("tokenizer", "mini", out, overrides=[("steps", steps)])
        wanted = f"look at {out / 'sheets'}{curve} and {out / 'log.csv'}\n"
        assert wanted in capsys.readouterr().out
        assert (out / "curve-tokenizer.png").exists() == bool(curve)


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_missing_tracker_is_one_sentence(tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr(f"accelerate.utils.is_{name}_available", lambda: False)
    assert main(["train", "tokenizer", "--preset", "mini", "--out", str(tmp_path / "run"), "--log", name]) == 2
    assert capsys.readouterr().err == f"alitok_lite: logging to {name} needs the package {name}: pip install {name}\n"
    assert not (tmp_path / "run").exists()


def test_tracker_gets_what_the_log_has(tmp_path):
    sent = []
    log = Log(tmp_path, lambda numbers, step: sent.append((step, numbers)))
    log.add("ar", 1, 0.5, 0.1, {"loss": 2.0})
    assert sent == []  # at saves only, so that a resumed run sends nothing twice
    log.write()
    log.add("ar", 2, 0.7, 0.2, {"loss": 1.0})
    log.write()
    assert sent == [(1, {"learning rate": 0.1, "loss": 2.0}), (2, {"learning rate": 0.2, "loss": 1.0})]


def test_training_starts_and_ends_its_tracker(tmp_path, monkeypatch):
    from accelerate import Accelerator

    calls = []
    tracker = SimpleNamespace(finish=lambda: calls.append("finish"))
    monkeypatch.setattr("accelerate.utils.is_tensorboard_available", lambda: True)
    monkeypatch.setattr("accelerate.accelerator.filter_trackers", lambda log_with, *_: [log_with] if log_with else [])
    begin = lambda self, name, config: calls.append(name) or self.trackers.append(tracker)  # noqa: E731
    monkeypatch.setattr(Accelerator, "init_trackers", begin)
    monkeypatch.setattr(Accelerator, "log", lambda self, numbers, step: calls.append(step))
    train.train("tokenizer", "mini", tmp_path, log="tensorboard")
    assert calls == ["tokenizer", 1, 2, 3, 4, "finish"]
