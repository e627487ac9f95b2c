"""The ablation driver on models small enough for seconds, and the look-ahead debt on tokens whose debt is known."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import small_ar, small_tokenizer
from safetensors import safe_open
from torch import nn

from alitok_lite import PRESETS, AliTok
from alitok_lite.__main__ import main
from alitok_lite.core.config import ARConfig, Preset
from alitok_lite.core.losses import LossWeights
from alitok_lite.data.scan import scanned
from alitok_lite.data.sources import ScannedSource, SceneSource
from alitok_lite.study import ablation, claims
from alitok_lite.study.ablation import open_study, run_row
from alitok_lite.study.claims import summarise, verdicts
from alitok_lite.study.lookahead import MaskedModel, _hidden, nats_given_others, train_masked
from alitok_lite.study.rows import ROWS
from alitok_lite.train import run
from alitok_lite.train.settings import ABLATIONS, AblationSettings, TrainSettings

pytest.importorskip("accelerate")


@pytest.fixture(autouse=True)
def preset(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # compiling would take longer than the training
    tokenizer = small_tokenizer()
    monkeypatch.setitem(PRESETS, "mini", Preset(tokenizer, small_ar(tokenizer, classes=14)))
    part = TrainSettings(steps=3, batch=4, lr=1e-3, warmup=1, pictures=8, save_every=3)
    settings = AblationSettings(part, replace(part, losses=LossWeights(l1=0.2)), part, judge_steps=2, pictures=4)
    monkeypatch.setitem(ABLATIONS, "mini", settings)


@pytest.mark.slow
def test_every_row_trains_differs_in_one_thing_and_is_measured_alike(tmp_path, monkeypatch):
    study, seen = open_study(tmp_path, "mini"), []
    train_part = run.train_part
    monkeypatch.setattr(ablation, "train_part", lambda *args: seen.append(args) or train_part(*args))
    names = ("A", "B", "C", "D", "F", "causal-encoder", "B-column")
    results = {name: run_row(study, name, 0) for name in names}
    config = {name: AliTok.from_pretrained(tmp_path / f"{name}-0", "cpu").tokenizer.config for name in names}
    plain = study.preset.tokenizer
    assert config["B"] == replace(plain, prefix=False)
    assert config["A"] == replace(config["B"], aligned=False)
    assert config["causal-encoder"] == replace(config["A"], encoder_causal=True)
    assert config["B-column"] == config["B"]
    assert config["C"] == config["D"] == config["F"] == plain
    # Equal data, steps and AR model: only the auxiliary loss tells C from D, and F trains a decoder only.
    trained = [(args[0], args[3].name, args[2].losses.aux) for args in seen]
    assert [entry for entry in trained if entry[1] == "F-0"] == [("decoder", "F-0", 0.66)]
    assert {entry[2] for entry in trained if entry[:2] == ("tokenizer", "C-0")} == {0.0}
    assert {(args[3].name, args[2].scan) for args in seen if args[2].scan != "raster"} == {("B-column-0", "column")}
    same = {json.dumps(ablation_settings(args), sort_keys=True) for args in seen if args[0] == "tokenizer"}
    assert len(same) == 1
    assert results["F"]["ids_as_below"] is True
    assert results["F"]["nats"] == results["D"]["nats"] and results["F"]["psnr"] != results["D"]["psnr"]
    assert results["A"]["psnr"] == results["A"]["psnr_stage2"] and results["B"]["psnr"] == results["B"]["psnr_stage1"]
    assert {name for name, result in results.items() if "debt" in result} == {"A", "B"}
    for name in ("A", "B"):
        assert results[name]["debt"] == pytest.approx(results[name]["nats"] - results[name]["nats_given_others"])
    assert len({result["judge_real"] for result in results.values()}) == 1  # one judge, the same pictures


def ablation_settings(args):
    """The settings of a call to train_part, less the auxiliary weight."""
    from dataclasses import asdict

    return asdict(replace(args[2], losses=replace(args[2].losses, aux=0.0), scan="raster"))


def test_a_scanned_run_learns_from_pictures_in_its_order(tmp_path):
    row, study = ROWS["A-column"], open_study(tmp_path, "mini")
    assert (row.changes, row.scan) == (ROWS["A"].changes, "column")
    run_row(study, "A-column", 0)
    with safe_open(tmp_path / "A-column-0" / "state" / "ids.safetensors", "pt") as file:
        assert file.metadata()["pictures"].endswith(" column")
    plain = SceneSource(32, study.settings.ar, torch.device("cpu"))
    moved = ScannedSource(plain, "column", 16)
    assert moved.stamp != plain.stamp and moved.classes == plain.classes
    for ours, theirs in (
        (moved.batch(3), plain.batch(3)),
        (moved.unseen(2), plain.unseen(2)),
        (next(moved.blocks()), next(plain.blocks())),
    ):
        assert torch.equal(ours[0], scanned(theirs[0], "column", 16)) and torch.equal(ours[1], theirs[1])
        assert not torch.equal(ours[0], theirs[0])


def test_finished_rows_are_read_and_unfinished_ones_go_on(tmp_path, monkeypatch):
    study = open_study(tmp_path, "mini")
    run_row(study, "B", 1)
    result = json.loads((tmp_path / "B-1.json").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(ablation, "train_part", lambda *args: pytest.fail("trained again"))
        assert run_row(study, "B", 1) == result
        (tmp_path / "B-1.json").unlink()
        assert run_row(study, "B", 1)["nats"] == result["nats"]  # both parts were finished: measured only
    calls = []
    monkeypatch.setattr(ablation, "train_part", lambda *args: calls.append(args))
    longer = replace(study.settings, ar=replace(study.settings.ar, steps=5))
    (tmp_path / "B-1.json").unlink()
    run_row(replace(study, settings=longer), "B", 1)
    assert [(args[0], args[4]) for args in calls] == [("ar", True)]  # it resumes


def test_every_part_of_a_study_is_announced(tmp_path, monkeypatch, capsys):
    """Row F needs D's parts; what is finished does not count; the estimate follows the time that parts take."""
    study, now = open_study(tmp_path, "mini"), [0.0]
    cost = {"tokenizer": 2.0, "decoder": 1.0, "ar": 4.0}  # seconds a step, of 3
    monkeypatch.setattr(ablation, "training_cost", lambda kind, *_: {"seconds": cost[kind]})
    monkeypatch.setattr(ablation.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ablation, "_measure", lambda *_: {})
    real = ablation.train_part

    def slow(kind, *rest):
        now[0] += 3 * 2 * cost[kind]  # with saves and the like, twice as long as its steps
        return real(kind, *rest)

    monkeypatch.setattr(ablation, "train_part", slow)
    ablation.run_rows(study, ["A", "D", "F"], [0])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("row ")]
    assert [line for line in lines if "parts" in line] == [
        "row A, seed 0, tokenizer: 1 of 5 parts, about 39 s left, and in addition the time to paint, save and measure",
        "row A, seed 0, AR model: 2 of 5 parts, about 66 s left",
        "row D, seed 0, tokenizer: 3 of 5 parts, about 42 s left",
        "row D, seed 0, AR model: 4 of 5 parts, about 30 s left",
        "row F, seed 0, second decoder: 5 of 5 parts, about 6 s left",
    ]
    assert [line for line in lines if "measuring" in line] == [f"row {row}, seed 0: measuring" for row in "ADF"]
    (tmp_path / "A-0.json").unlink()
    ablation.run_rows(study, ["A", "F", "B"], [0])
    assert "row B, seed 0, tokenizer: 1 of 2 parts" in capsys.readouterr().out


def test_seeds_differ(tmp_path):
    study = open_study(tmp_path, "mini")
    weights = []
    for seed in (0, 1):
        run_row(study, "A", seed)
        weights.append(AliTok.from_pretrained(tmp_path / f"A-{seed}", "cpu").tokenizer.encoder.queries)
    assert not torch.allclose(*weights, atol=0.05)  # other initial weights, not only other pictures


def test_a_folder_holds_one_study(tmp_path):
    open_study(tmp_path, "mini", changes=[("codebook_size", 8)])
    assert open_study(tmp_path, "mini", changes=[("codebook_size", 8)]).preset.tokenizer.codebook_size == 8
    with pytest.raises(ValueError, match="another study"):
        open_study(tmp_path, "mini")


def test_summary_and_verdicts(tmp_path):
    def write(row, seed, **numbers):
        (tmp_path / f"{row}-{seed}.json").write_text(json.dumps({"row": row, "seed": seed} | numbers))

    for seed, (a, b) in enumerate([(5.0, 4.0), (5.2, 4.1), (5.1, 4.2)]):
        write("A", seed, nats=a, unigram_entropy=a + 2.0, generation_gap=1.0 + seed, row_ratio=0.9)
        write("B", seed, nats=b, unigram_entropy=b + 2.4 + 0.1 * seed, generation_gap=0.9 + seed, row_ratio=1.2)
    write("D", 0, row_ratio=1.0, psnr=20.0)
    write("F", 0, psnr=20.5)
    rows = summarise(tmp_path)
    assert list(rows) == ["A", "B", "D", "F"] and rows["A"]["seeds"] == [0, 1, 2]
    assert rows["A"]["mean"]["nats"] == pytest.approx(5.1) and rows["A"]["spread"]["nats"] == pytest.approx(0.1)
    found = {(entry["holds"], round(entry["difference"], 6)) for entry in verdicts(rows)}
    assert rows["A"]["mean"]["gain"] == pytest.approx(2.0) and rows["B"]["spread"]["gain"] == pytest.approx(0.1)
    # nats and gain hold; the gap's difference is within its spread; the ratio has no spread; D and F have one seed.
    assert found == {(True, 1.0), (True, 0.5), (False, 0.1), (True, 0.3), (None, 0.2), (None, 0.5)}
    errors = [entry["standard_errors"] for entry in verdicts(rows)]
    assert errors[0] == pytest.approx(1.0 / (0.1 * (2 / 3) ** 0.5)) and errors[3:] == [None, None, None]
    assert "5.100 ± 0.100" in claims.table(rows) and "20.500" in claims.table(rows)


def test_command_line(tmp_path, capsys):
    out = tmp_path / "study"
    assert main(["ablate", "--preset", "mini", "--rows", "A,B", "--seeds", "0,1", "--out", str(out)]) == 0
    summary = json.loads((out / "results.json").read_text())
    assert list(summary["rows"]) == ["A", "B"] and summary["rows"]["B"]["seeds"] == [0, 1]
    assert len(summary["claims"]) == 4
    assert "nats" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        (["--rows", "A,Z"], "'Z'.*A, B, C, D, F"),
        (["--seeds", "one"], "'one'"),
        (["--set", "colour=3"], "colour"),
        (["--set", "patch_size=7"], "image_size 32 must be a multiple of patch_size 7"),
        (["--preset", "alitok-b"], "alitok-b"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, capsys, options, message):
    try:
        status = main(["ablate", "--preset", "mini", "--out", str(tmp_path / "x"), *options])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    import re

    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "x").exists()


def test_masked_model_sees_all_others_but_not_itself():
    config = small_ar(small_tokenizer(), dropout=0.0)
    torch.manual_seed(0)
    model = MaskedModel(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    ids, labels = torch.randint(0, 16, (1, 7)), torch.tensor([1])
    hidden = ids.clone()
    hidden[0, 3] = 16
    before = model(hidden, labels)[0, 3]
    for other in (0, 2, 4, 6):  # earlier and later tokens count
        changed = hidden.clone()
        changed[0, other] = (ids[0, other] + 1) % 16
        assert not torch.allclose(model(changed, labels)[0, 3], before, atol=1e-4)
    first = nats_given_others(model, ids, labels)[0, 3]
    assert first == pytest.approx(-before.log_softmax(-1)[ids[0, 3]].item(), abs=1e-5)


def test_hidden_tokens():
    torch.manual_seed(0)
    hidden = _hidden(400, 7, torch.device("cpu"))
    counts = hidden.sum(1)
    assert (counts[:200] == 1).all() and counts[200:].min() == 1 and counts[200:].max() == 7
    assert (hidden[:200].float().mean(0) - 1 / 7).abs().max() < 0.1  # every position takes its turn


def test_debt_of_tokens_that_repeat_the_next_one():
    """Token 2i is a copy of token 2i + 1: given the past half of the tokens are free, given all others all are."""
    config = ARConfig(codebook_size=4, grid=2, prefix_tokens=0, classes=1, width=32, depth=2, heads=2, hidden=64)
    torch.manual_seed(0)
    ids = torch.randint(0, 4, (2000, 2)).repeat_interleave(2, 1)
    settings = TrainSettings(steps=150, batch=64, lr=3e-3, warmup=10)
    masked = train_masked(ids, torch.zeros(2000, dtype=torch.long), replace(config, dropout=0.0), settings)
    nats = nats_given_others(masked, ids[:200], torch.zeros(200, dtype=torch.long)).mean(0)
    assert (nats < 0.1).all()  # an AR model's loss is at least ln 4 at the first of each pair
