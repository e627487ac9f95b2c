"""Training end to end on a tiny preset: all three parts, exact resuming, parts of a step, which weights are kept."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import small_ar, small_model, small_tokenizer
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from alitok_lite import PRESETS, AliTok, scenes, train
from alitok_lite.__main__ import main
from alitok_lite.core.ar import ARModel
from alitok_lite.core.config import Preset
from alitok_lite.core.losses import LossWeights, PatchCritic, critic_loss
from alitok_lite.data.sources import SceneSource
from alitok_lite.measure import evaluation, metrics
from alitok_lite.measure.judge import Judge
from alitok_lite.measure.metrics import nats_per_token
from alitok_lite.store.folder import CheckpointError, parts_of
from alitok_lite.train import loop, tasks
from alitok_lite.train.run import _build, accelerator_front, second_decoder
from alitok_lite.train.settings import SETTINGS, TrainSettings, learning_rate, shortened

pytest.importorskip("accelerate")
NAN = LossWeights(mse=float("nan"))


@pytest.fixture(autouse=True)
def preset(monkeypatch):
    """Presets `mini` and `mini-conventional`, small enough for seconds."""
    small_presets(monkeypatch)


def small_presets(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # compiling would take longer than the training
    add_presets(monkeypatch)


def add_presets(monkeypatch):
    for name, dropout, changes in (
        ("mini", 0.1, {}),
        ("mini-conventional", 0.1, {"aligned": False, "prefix": False}),
        ("mini-plain", 0.0, {}),  # the same however a batch is split: neither dropout nor critic
    ):
        tokenizer = small_tokenizer(**changes)
        monkeypatch.setitem(PRESETS, name, Preset(tokenizer, small_ar(tokenizer, classes=14, dropout=dropout)))
        common = TrainSettings(steps=4, batch=4, lr=1e-3, warmup=2, pictures=12, save_every=2)
        gan = LossWeights(l1=0.2, adversarial=0.5, adversarial_start=0.5)
        first = replace(common, losses=LossWeights() if name == "mini-plain" else gan)
        monkeypatch.setitem(SETTINGS, name, {"tokenizer": first, "decoder": common, "ar": common})


def tensors(model):
    return {
        key: value.clone() for key, value in [*model.tokenizer.state_dict().items(), *model.ar.state_dict().items()]
    }


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with a RUN of the tokenizer for each of two presets. They are trained once; tests work on copies."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        small_presets(patch)
        for name in ("mini", "mini-plain"):
            train.train("tokenizer", name, folder / name)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained / "mini", tmp_path / "run")


def test_three_parts_make_a_checkpoint_that_draws(run):
    pixels = scenes.render([0, 5, 9], 1, 32)
    before = AliTok.from_pretrained(run, "cpu")
    assert before.tokenizer.stages == (1,)
    ids, causal = before.tokenizer.encode(pixels), before.tokenizer.state_dict()
    train.train("decoder", "mini", run)
    train.train("ar", "mini", run)
    after = AliTok.from_pretrained(run, "cpu")
    assert torch.equal(after.tokenizer.encode(pixels), ids)  # stage 2 leaves the ids bit-identical
    for key, value in causal.items():
        assert torch.equal(after.tokenizer.state_dict()[key], value), key
    assert after.tokenizer.stages == (1, 2)
    assert after.sample(["sea", "city"]).shape == (2, 3, 32, 32)
    assert after.info["training"].keys() == {"tokenizer", "decoder", "ar"}
    names = {path.name for path in (run / "sheets").iterdir()}
    assert names == {f"{part}-{step:06d}.png" for part in ("tokenizer", "decoder", "ar") for step in (2, 4)}


def test_second_decoder_starts_as_the_causal_one_without_its_mask(run):
    tokenizer = AliTok.from_pretrained(run, "cpu").tokenizer
    one, two = tokenizer.decoder1, second_decoder(tokenizer)
    assert two.aux_head is None and len(two.extra_tokens) == tokenizer.config.buffer_tokens
    for key, value in two.state_dict().items():
        if key not in ("extra_tokens", "positions"):
            assert torch.equal(value, one.state_dict()[key]), key
    assert torch.equal(two.positions[-7:], one.positions[-7:])
    for block in one.blocks:
        block.attention.causal = False
    two.extra_tokens, two.positions = one.extra_tokens, one.positions
    codes = torch.randn(2, 7, tokenizer.config.code_dim)
    torch.testing.assert_close(two(codes), one(codes))


def test_training_changes_every_trained_tensor(run):
    torch.manual_seed(0)
    fresh = AliTok.from_preset(PRESETS["mini"], stages=(1,)).tokenizer.state_dict()
    trained = AliTok.from_pretrained(run, "cpu").tokenizer.state_dict()
    still = [key for key, value in trained.items() if torch.allclose(value, fresh[key], atol=1e-6)]
    assert still == []


def test_conventional_tokenizer_has_a_bidirectional_decoder_only(tmp_path):
    train.train("tokenizer", "mini-conventional", tmp_path)
    assert AliTok.from_pretrained(tmp_path, "cpu").tokenizer.stages == (2,)
    with pytest.raises(CheckpointError, match="no second stage"):
        train.train("decoder", "mini-conventional", tmp_path)


def state(run, part):
    return load_file(run / "state" / f"{part}.safetensors")


@pytest.mark.parametrize(
    ("part", "overrides"),
    [
        ("tokenizer", {}),
        ("tokenizer", {"ema": 0.9, "accumulate": 2}),
        ("ar", {}),
        ("ar", {"ema": 0.9, "accumulate": 2, "keep_best": True}),
    ],
)
def test_resuming_continues_exactly(trained, tmp_path, monkeypatch, part, overrides):
    """Stop after the first save, resume: the same weights as a run that was never interrupted."""
    if part == "ar":
        for name in "ab":
            shutil.copytree(trained / "mini", tmp_path / name)
    overrides = overrides.items()
    whole = train.train(part, "mini", tmp_path / "a", overrides=overrides)

    def stop(task, folder, step):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_save_sheet", stop)
    with pytest.raises(KeyboardInterrupt):
        train.train(part, "mini", tmp_path / "b", overrides=overrides)
    monkeypatch.undo()  # which also takes the presets back
    add_presets(monkeypatch)
    resumed = train.train(part, "mini", tmp_path / "b", True, overrides)
    a, b = (m.tokenizer if part == "tokenizer" else m.ar for m in (whole, resumed))
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key
    wanted, found = state(tmp_path / "a", part), state(tmp_path / "b", part)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in wanted.items())
    infos = [AliTok.from_pretrained(tmp_path / name, "cpu").info["training"][part] for name in "ab"]
    assert infos[0] | {"seconds": 0} == infos[1] | {"seconds": 0}


def test_state_is_never_ahead_of_the_checkpoint(run, tmp_path, monkeypatch):
    """Killed while the last checkpoint is written, a run still writes it when it is resumed."""
    real = AliTok.save_pretrained

    def killed(model, folder):
        if model.info["training"]["tokenizer"]["steps"] == 4:
            raise KeyboardInterrupt
        real(model, folder)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AliTok, "save_pretrained", killed)
        train.train("tokenizer", "mini", tmp_path / "killed")
    train.train("tokenizer", "mini", tmp_path / "killed", resume=True)
    wanted, found = (AliTok.from_pretrained(path, "cpu").tokenizer.state_dict() for path in (run, tmp_path / "killed"))
    assert all(torch.equal(value, found[key]) for key, value in wanted.items())


def test_state_of_an_older_version_resumes(run):
    """Settings that the file does not know count as their defaults."""
    path = run / "state" / "tokenizer.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    settings = json.loads(metadata["settings"])
    for key in ("accumulate", "ema", "keep_best"):
        del settings[key]
    del settings["losses"]["perceptual"], metadata["history"], metadata["sha256"], metadata["pictures"]
    save_file(state(run, "tokenizer"), path, metadata | {"settings": json.dumps(settings)})
    train.train("tokenizer", "mini", run, resume=True)
    with pytest.raises(CheckpointError, match="ema was 0.0 and is now 0.5"):
        train.train("tokenizer", "mini", run, True, [("ema", 0.5)])


@pytest.mark.parametrize(("part", "steps"), [("tokenizer", 1), ("tokenizer", 4), ("decoder", 4), ("ar", 4)])
def test_parts_of_a_step_add_up(trained, tmp_path, part, steps):
    """One part, two parts or four: the same losses, the same weights, the same codebook and its usage.

    The codebook after one step: later dead codes have moved to the same latent, and then it is a matter of rounding
    which of the two equal codes is the nearest.
    """
    runs = {}
    for parts in (1, 2, 4):
        run = tmp_path / str(parts)
        if part != "tokenizer":
            shutil.copytree(trained / "mini-plain", run)
        model = train.train(part, "mini-plain", run, overrides=[("accumulate", parts), ("steps", steps)])
        info = model.info["training"][part]
        runs[parts] = state(run, part), {key: info[key] for key in info.keys() & {"mse", "aux", "vq", "loss"}}
    for parts in (2, 4):
        assert runs[parts][1] == pytest.approx(runs[1][1], rel=1e-5)
        for key, value in runs[1][0].items():
            if steps == 1 or "quantizer" not in key:
                torch.testing.assert_close(runs[parts][0][key], value, atol=1e-4, rtol=1e-3, msg=key)


def test_gradients_of_the_parts_add_up_and_the_batch_is_drawn_once(tmp_path):
    accelerator, found = accelerator_front(), {}
    for parts in (1, 2):
        settings = replace(SETTINGS["mini-plain"]["tokenizer"], accumulate=parts)
        source, drawn = SceneSource(32, settings, torch.device("cpu")), []
        model = _build("tokenizer", PRESETS["mini-plain"], tmp_path, source, settings, torch.device("cpu"), False)
        task = tasks.TokenizerTask("tokenizer", model, settings, accelerator, source)
        source.batch = lambda step, source=source, drawn=drawn: drawn.append(step) or SceneSource.batch(source, step)
        codebook = model.tokenizer.quantizer.codebook.detach().clone()
        terms = loop.backward(task, model.tokenizer, settings, 7, accelerator)
        assert drawn == [7]
        assert torch.equal(model.tokenizer.quantizer.codebook, codebook)  # until all parts are there
        task.before_update()
        assert not torch.equal(model.tokenizer.quantizer.codebook, codebook)
        found[parts] = terms, {key: value.grad for key, value in model.tokenizer.named_parameters()}
        found[parts] += (model.tokenizer.quantizer.codebook.detach(), model.tokenizer.quantizer.usage)
        task.before_update()  # nothing is left over for the next step
        assert torch.equal(model.tokenizer.quantizer.usage, found[parts][3])
    for one, two in zip(found[1], found[2], strict=True):
        torch.testing.assert_close(two, one, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize(("processes", "parts"), [(1, 1), (1, 3), (2, 1), (2, 3)])
def test_codebook_sees_a_batch_in_its_order_however_it_is_dealt_out(processes, parts):
    """As `backward` deals it out; the codebook's random choices then fall on the same latents."""
    batch, dealt = torch.arange(12 * 7 * 2).view(12, 7, 2), []
    for rank in range(processes):
        firsts = [part * processes + rank for part in range(parts)]
        dealt.append(tuple(batch[first :: parts * processes] for first in firsts))
    own = torch.stack(dealt[0], 1)
    gathered = torch.cat([torch.stack(shares, 1) for shares in dealt])
    task = SimpleNamespace(accelerator=SimpleNamespace(gather=lambda value: gathered))
    assert own.shape == gathered[: len(own)].shape
    assert torch.equal(tasks.TokenizerTask._whole(task, dealt[0]), batch)


@pytest.mark.parametrize("part", ["tokenizer", "ar"])
@pytest.mark.parametrize("parts", [1, 2])
def test_gradients_are_clipped_once_all_parts_are_there(trained, tmp_path, part, parts):
    def norms(clip):
        """Of the gradients that the optimizer of the network gets, step by step."""
        folder, found = tmp_path / f"{clip}", []
        if part == "ar":
            shutil.copytree(trained / "mini-plain", folder)

        def see(optimizer, *_):
            grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            found.append(torch.stack([grad.norm() for grad in grads]).norm().item())

        handle = register_optimizer_step_pre_hook(see)
        try:
            train.train(part, "mini-plain", folder, overrides=[("accumulate", parts), ("clip", clip)])
        finally:
            handle.remove()
        return found

    free, tight = norms(1e6), norms(0.01)
    assert len(free) == len(tight) == 4 and min(free) > 0.02
    assert tight == pytest.approx([0.01] * 4, rel=1e-3)


def test_critic_learns_from_all_parts(tmp_path, monkeypatch):
    """Its pictures of a step are the whole batch, each once, and the two kinds are not mixed up."""
    seen, drawn, real_loss, batch = [], [], critic_loss, SceneSource.batch
    monkeypatch.setattr(PatchCritic, "forward", lambda self, x: seen.append(x.detach()) or x.mean((2, 3)))
    monkeypatch.setattr(PatchCritic, "parameters", lambda self: iter([torch.nn.Parameter(torch.zeros(1))]))
    monkeypatch.setattr(tasks, "critic_loss", lambda *scores: real_loss(*scores).requires_grad_())
    monkeypatch.setattr(SceneSource, "batch", lambda self, step: drawn.append(batch(self, step)) or drawn[-1])
    monkeypatch.setattr(tasks.TokenizerTask, "_average", lambda self, value: value)
    train.train("tokenizer", "mini", tmp_path / "run", overrides=[("accumulate", 2), ("steps", 2)])
    fakes, (a, fake_a, b, fake_b) = seen[:2], seen[2:]
    pixels = drawn[1][0]
    assert torch.equal(torch.cat([a, b]), torch.cat([pixels[0::2], pixels[1::2]]))
    assert torch.equal(torch.cat([fake_a, fake_b]), torch.cat(fakes))


def test_gradients_of_the_critic_add_up(tmp_path, monkeypatch):
    settings, found = SETTINGS["mini"]["tokenizer"], []
    source = SceneSource(32, settings, torch.device("cpu"))
    model = _build("tokenizer", PRESETS["mini"], tmp_path, source, settings, torch.device("cpu"), False)
    task = tasks.TokenizerTask("tokenizer", model, settings, accelerator_front(), source)
    task.critic.eval()  # spectral norm refines its estimate at every call in training
    gradients = lambda: found.append([value.grad.clone() for value in task.critic.parameters()])  # noqa: E731
    monkeypatch.setattr(task.critic_optimizer, "step", gradients)
    real, fake = torch.rand(2, 4, 3, 32, 32)
    for pairs in ([(real, fake)], [(real[:2], fake[:2]), (real[2:], fake[2:])]):
        task.pairs = pairs
        task.before_update()
        assert task.pairs == []
    torch.testing.assert_close(found[1], found[0])


def test_batch_must_split_evenly(tmp_path):
    with pytest.raises(ValueError, match="batch 4 must be a multiple of processes x accumulate, which is 1 x 3"):
        train.train("tokenizer", "mini", tmp_path / "run", overrides=[("accumulate", 3)])
    assert not (tmp_path / "run").exists()


def watch(monkeypatch, kind, method):
    """The network's weights at every call of a task's method."""
    original, seen = getattr(kind, method), []
    weights = lambda task: {key: value.clone() for key, value in task.network.state_dict().items()}  # noqa: E731
    monkeypatch.setattr(kind, method, lambda task: seen.append(weights(task)) or original(task))
    return seen


@pytest.mark.parametrize("part", ["tokenizer", "decoder", "ar"])
def test_run_holds_the_average_and_training_goes_on_from_the_live_weights(trained, tmp_path, monkeypatch, part):
    """`average` in the RUN, in the diagnosis, on the sheet and in the returned model; `network` as without it."""
    runs, kind = {}, tasks.ARTask if part == "ar" else tasks.TokenizerTask
    seen = [watch(monkeypatch, kind, method) for method in ("diagnose", "sheet")]
    for name, ema in (("plain", 0.0), ("average", 0.9)):
        if part != "tokenizer":
            shutil.copytree(trained / "mini", tmp_path / name)
        runs[name] = train.train(part, "mini", tmp_path / name, overrides=[("ema", ema)])
    plain, average = (state(tmp_path / name, part) for name in runs)
    assert all(torch.equal(value, average[key]) for key, value in plain.items())
    found = {key.removeprefix("average.module."): v for key, v in average.items() if key.startswith("average.module.")}
    assert any(not torch.equal(value, average[f"network.{key}"]) for key, value in found.items())
    loaded = AliTok.from_pretrained(tmp_path / "average", "cpu")
    models = {"tokenizer": lambda m: m.tokenizer, "decoder": lambda m: m.tokenizer.decoder2, "ar": lambda m: m.ar}
    returned, held = (models[part](model).state_dict() for model in (runs["average"], loaded))
    for key, value in returned.items():
        assert torch.equal(value, found[key]), key
        assert all(torch.equal(calls[-1][key], found[key]) for calls in seen), key
        assert torch.equal(held[key], found[key].half().float()), key


def test_average_copies_the_codebook(tmp_path):
    train.train("tokenizer", "mini", tmp_path, overrides=[("ema", 0.9)])
    tensors = state(tmp_path, "tokenizer")
    for key in ("quantizer.codebook", "quantizer.usage"):
        assert torch.equal(tensors[f"average.module.{key}"], tensors[f"network.{key}"]), key
    key = "encoder.queries"
    assert not torch.equal(tensors[f"average.module.{key}"], tensors[f"network.{key}"])


def judged(monkeypatch, nats):
    """Let the diagnosis of the AR model find these test nats, one a save; returns the weights that it saw."""
    seen, nats = [], list(nats)

    def diagnose(task):
        seen.append({key: value.clone() for key, value in task.model.ar.state_dict().items()})
        return {"train nats": 1.0, "test nats": nats[len(seen) - 1], "top1": 0.0}

    monkeypatch.setattr(tasks.ARTask, "diagnose", diagnose)
    return seen


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_best_weights_are_kept(run, monkeypatch, ema):
    """Also over an interruption after a worse save; the last save is better than that one, but not the best."""
    overrides = [("keep_best", True), ("save_every", 1), ("ema", ema)]
    with monkeypatch.context() as patch:
        seen = judged(patch, [3.0, 2.0, 2.5])
        patch.setattr(loop, "_save_sheet", lambda task, folder, step: 1 / (3 - step))
        with pytest.raises(ZeroDivisionError):
            train.train("ar", "mini", run, overrides=overrides)
    later = judged(monkeypatch, [2.25])
    model = train.train("ar", "mini", run, True, overrides)
    info = AliTok.from_pretrained(run, "cpu").info["training"]["ar"]
    assert info["history"] == [[1, 1.0, 3.0], [2, 1.0, 2.0], [3, 1.0, 2.5], [4, 1.0, 2.25]]
    assert (info["steps"], info["step"], info["test nats"]) == (4, 2, 2.0)
    held = AliTok.from_pretrained(run, "cpu").ar.state_dict()
    for key, value in seen[1].items():
        assert torch.equal(model.ar.state_dict()[key], value), key
        assert torch.equal(held[key], value.half().float()), key
    live = state(run, "ar")
    assert (live["network.output.weight"] - model.ar.output.weight).abs().max() > 1e-4  # they went on
    assert len(later) == 1 and len(seen) == 3


def test_overfitting_shows_and_the_kept_weights_are_from_before_it(tmp_path, capsys):
    fast = [("steps", 80), ("save_every", 20), ("lr", 3e-2), ("final_lr", 3e-2), ("keep_best", True)]
    for seed in range(5):  # by chance, and by torch's version, a training may be at its best in the end
        random_ids = small_model((1,))  # unlike those of a tokenizer that has hardly learned, they differ
        random_ids.ar, random_ids.classes = None, list(scenes.CLASSES)
        random_ids.save_pretrained(tmp_path / str(seed))
        model = train.train("ar", "mini-plain", tmp_path / str(seed), overrides=[*fast, ("seed", seed)])
        info = model.info["training"]["ar"]
        (first, *_), (last, train_nats, test_nats) = info["history"][0], info["history"][-1]
        assert (first, last) == (20, 80)
        assert train_nats < test_nats - 0.1
        assert info["test nats"] == min(row[2] for row in info["history"])
        if info["test nats"] < test_nats - 0.05:
            break
    else:
        pytest.fail("none of five trainings got worse after its best")
    assert f"kept: the weights of step {info['step']}" in capsys.readouterr().out
    source = SceneSource(32, SETTINGS["mini-plain"]["ar"], torch.device("cpu"))
    pixels, labels = source.unseen(512)
    nats = nats_per_token(model.ar, model.tokenizer.encode(pixels), labels)[0]
    assert nats.mean().item() == pytest.approx(info["test nats"], abs=1e-3)


def test_train_nats_are_those_of_training_pictures_without_dropout(run):
    model, settings = AliTok.from_pretrained(run, "cpu"), replace(SETTINGS["mini"]["ar"], pictures=1000)
    source = SceneSource(32, settings, torch.device("cpu"))
    model.ar = ARModel(small_ar(model.tokenizer.config, classes=14, dropout=0.9))
    torch.nn.init.normal_(model.ar.output.weight)
    task = tasks.ARTask(model, settings, accelerator_front(), source, run)
    assert len(task.seen_ids) == len(task.probe_ids) == 512
    ids, labels = tasks.cached_ids(model, source, run)
    rows = {(*row, label) for row, label in zip(ids.tolist(), labels.tolist(), strict=True)}
    seen = zip(task.seen_ids.tolist(), task.seen_labels.tolist(), strict=True)
    assert all((*row, label) in rows for row, label in seen)
    wanted = nats_per_token(model.ar.eval(), task.seen_ids, task.seen_labels)[0].mean().item()
    model.ar.train()
    assert task.diagnose()["train nats"] == pytest.approx(wanted, rel=1e-6)
    assert model.ar.training


def test_only_the_ar_model_has_a_best(tmp_path):
    with pytest.raises(ValueError, match="keep_best is for the AR model"):
        train.train("tokenizer", "mini", tmp_path / "run", overrides=[("keep_best", True)])
    ready = replace(SETTINGS["mini"]["tokenizer"], standardise=True)
    for part, start, said in (
        ("decoder", None, "not for the decoder"),
        ("tokenizer", "scenes", "scenes has weights already"),
    ):
        with pytest.raises(ValueError, match=f"begins with random weights: {said}"):
            train.train_part(part, PRESETS["mini"], ready, tmp_path / "new", start=start)
    assert not (tmp_path / "new").exists()


def test_presets_follow_the_paper():
    for name, steps in (("alitok-b", 500_000), ("alitok-l", 500_000), ("alitok-xl", 250_000)):
        settings = SETTINGS[name]
        ar = settings["ar"]
        assert (ar.steps, ar.batch, ar.lr, ar.final_lr, ar.warmup) == (steps, 2048, 4e-4, 1e-5, 62_500)
        assert (ar.betas, ar.weight_decay, ar.clip, ar.class_dropout) == ((0.9, 0.96), 0.03, 1.0, 0.1)
        assert (settings["tokenizer"].steps, settings["decoder"].steps) == (350_000, 300_000)
        losses = settings["tokenizer"].losses
        assert losses == settings["decoder"].losses
        assert (losses.mse, losses.aux, losses.vq, losses.l1) == (1.0, 0.66, 1.0, 0.0)
        assert losses.perceptual > 0 and losses.adversarial > 0 and losses.adversarial_start > 0.5


def test_mistakes_are_one_sentence(run, tmp_path):
    for call, words in (
        (lambda: train.train("tokenizer", "mini", run), "holds a run already"),
        (lambda: train.train("tokenizer", "mini", tmp_path / "none", resume=True), "nothing to resume"),
        (lambda: train.train("ar", "mini", tmp_path / "none"), "no checkpoint"),
        (lambda: train.train("ar", "mini-conventional", run), "not trained with this preset"),
        (lambda: train.train("tokenizer", "mini", run, True, [("lr", 0.5)]), "lr was 0.001 and is now 0.5"),
        (
            lambda: train.train("tokenizer", "mini", tmp_path / "bad", overrides=[("losses", NAN)]),
            "loss at step 0 is nan",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_damaged_state_is_named(run):
    path = run / "state" / "tokenizer.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="is damaged"):
        train.train("tokenizer", "mini", run, resume=True)


def test_ids_are_cached_once_and_recognised_as_stale(run, monkeypatch):
    settings, device = SETTINGS["mini"]["ar"], torch.device("cpu")
    source = SceneSource(32, settings, device)
    model = AliTok.from_pretrained(run, "cpu")
    first = tasks.cached_ids(model, source, run)
    assert first[0].shape == (settings.pictures, 7)
    monkeypatch.setattr(model.tokenizer, "encode", None)  # a second encoding would fail
    second = tasks.cached_ids(model, source, run)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    monkeypatch.undo()
    others = SceneSource(32, replace(settings, seed=5), device)
    assert not torch.equal(first[1], tasks.cached_ids(model, others, run)[1])
    model.tokenizer.quantizer.codebook.data.mul_(-1)
    assert not torch.equal(first[0], tasks.cached_ids(model, source, run)[0])


@pytest.fixture
def pictures(tmp_path):
    """A folder of reddish and bluish pictures."""
    noise = np.random.default_rng(0)
    for number, name in enumerate(("red", "blue")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(6):
            pixels = noise.integers(0, 80, (40, 50, 3), np.uint8)
            pixels[:, :, 2 * number] += 150
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


def test_a_folder_of_pictures_becomes_a_model_that_draws(pictures, tmp_path):
    for part in ("tokenizer", "decoder", "ar"):
        train.train(part, "mini", tmp_path / "run", data=str(pictures))
    model = AliTok.from_pretrained(tmp_path / "run", "cpu")
    assert model.classes == ["blue", "red"]
    assert model.ar.config.classes == 2
    assert model.sample(["red", 0], seed=1).shape == (2, 3, 32, 32)
    ids = load_file(tmp_path / "run" / "state" / "ids.safetensors")
    assert ids["ids"].shape == (100, 7)  # ten crops of ten pictures; two are held out
    with pytest.raises(CheckpointError, match="other pictures"):
        train.train("ar", "mini", tmp_path / "run", replace=True)


def test_photos_may_be_shipped():
    with torch.device("meta"):
        whole = AliTok.from_preset(PRESETS["photos"])
        parts = parts_of(whole.tokenizer, whole.ar)
    assert sum(value.numel() for part in parts.values() for value in part.state_dict().values()) <= 18e6  # in 8 bits
    assert PRESETS["photos"].tokenizer.tokens == 73


def test_learning_rate_warms_up_and_falls():
    settings = TrainSettings(steps=100, lr=1.0, final_lr=0.1, warmup=10)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_warm_up_is_at_most_a_tenth_of_the_steps():
    for steps, warmup, wanted in ((100, 10, 10), (100, 11, 10), (99, 300, 9), (5, 2, 0), (2500, 250, 250)):
        assert shortened(TrainSettings(steps, warmup=warmup)) == TrainSettings(steps, warmup=wanted)


@pytest.mark.parametrize("preset", ["alitok-b", "alitok-xl", "scenes", "photos", "tiny"])
@pytest.mark.parametrize("part", ["tokenizer", "decoder", "ar"])
def test_published_schedules_stay(monkeypatch, preset, part):
    """The paper's warm-ups of an eighth and a quarter too, unless somebody trains for less long."""
    calls, published = [], SETTINGS[preset][part]
    monkeypatch.setattr(train, "train_part", lambda *args: calls.append(args[2]))
    monkeypatch.setattr("alitok_lite.train.run.train_part", lambda *args: calls.append(args[2]))
    train.train(part, preset, "run", overrides=[("seed", 3)])
    train.train(part, preset, "run", overrides=[("steps", 200)])
    assert calls == [replace(published, seed=3), replace(published, steps=200, warmup=20)]


@pytest.mark.slow
def test_shortened_warm_up_is_said_and_used(tmp_path, capsys, monkeypatch):
    rates, real = {}, train.learning_rate
    for module in (train, loop):
        monkeypatch.setattr(module, "learning_rate", lambda given, step: rates.setdefault(step, real(given, step)))
    overrides = [("steps", 30), ("warmup", 12), ("save_every", 30)]
    train.train("tokenizer", "mini-plain", tmp_path / "run", overrides=overrides)
    assert "warm-up is shortened from 12 to 3 steps, a tenth of the training" in capsys.readouterr().out
    assert rates == {step: real(TrainSettings(30, lr=1e-3, warmup=3), step) for step in range(30)}
    assert AliTok.from_pretrained(tmp_path / "run", "cpu").info["training"]["tokenizer"]["settings"]["warmup"] == 3
    train.train("tokenizer", "mini-plain", tmp_path / "long", overrides=[("steps", 20), ("warmup", 2)])
    assert "warm-up" not in capsys.readouterr().out


def test_long_warm_up_of_ones_own_is_said_and_left(tmp_path, capsys):
    settings = replace(SETTINGS["mini-plain"]["tokenizer"], warmup=2)
    model = train.train_part("tokenizer", PRESETS["mini-plain"], settings, tmp_path)
    assert model.info["training"]["tokenizer"]["settings"]["warmup"] == 2
    assert "warm-up takes 2 of 4 steps" in capsys.readouterr().out


def test_run_with_a_long_warm_up_of_an_older_version_goes_on_as_it_began(run):
    path = run / "state" / "tokenizer.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    del metadata["sha256"]
    save_file(state(run, "tokenizer"), path, metadata | {"step": "3"})
    model = train.train("tokenizer", "mini", run, True, [("steps", 4)])
    assert model.info["training"]["tokenizer"]["settings"]["warmup"] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 99_999_999_999_999}, "seed is 99999999999999; it must be a whole number from 0 to 4294967295"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.0}, "seed is 1.0"),
        ({"seed": True}, "seed is True"),
        ({"steps": 0}, "steps is 0; it must be a whole number from 1 to 2147483647"),
        ({"batch": 2**31}, "batch is 2147483648"),
        ({"pictures": 10**30}, "pictures is 1000000"),
        ({"save_every": 0}, "save_every is 0"),
        ({"accumulate": "2"}, "accumulate is '2'"),
        ({"warmup": -1}, "warmup is -1; it must be a whole number from 0"),
        ({"lr": float("nan")}, "lr is nan; it must be a number from 0 up"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"ema": 1.0}, "ema is 1.0; it must be a number from 0 up to 1"),
        ({"class_dropout": 1.5}, "class_dropout is 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(changes, words):
    with pytest.raises(ValueError) as caught:
        replace(TrainSettings(4), **changes)
    assert words in str(caught.value)


def test_settings_take_numbers_of_numpy():
    settings = TrainSettings(np.int64(5), seed=np.uint32(2**32 - 1))
    assert type(settings.steps) is int and type(settings.seed) is int
    torch.manual_seed(settings.seed * 1_000_003 + 2**31)  # as the loop does


def test_large_seed_is_one_sentence_on_the_command_line(tmp_path, capsys):
    command = ["train", "tokenizer", "--preset", "tiny", "--out", str(tmp_path / "r")]
    assert main([*command, "--seed", "99999999999999"]) == 2
    assert capsys.readouterr().err == (
        "alitok_lite: seed is 99999999999999; it must be a whole number from 0 to 4294967295\n"
    )


# ---------------------------------------------------------------- the codebook's usage


def test_codebook_usage_is_that_of_evaluate(run, capsys):
    """The same share of the codes, in the log, in config.json, and on the same pictures from `evaluate`."""
    model = AliTok.from_pretrained(run, "cpu")
    source = SceneSource(32, SETTINGS["mini"]["tokenizer"], torch.device("cpu"))
    task = tasks.TokenizerTask("tokenizer", model, source.settings, accelerator_front(), source)
    found = task.diagnose()["codebook usage"]
    pixels, labels = source.unseen(8 * 16 // 7 + 1)
    assert sum(len(part) for part in task.tokens) * 7 >= 8 * 16  # enough tokens to see every code
    judge = Judge(14)
    assert evaluation.evaluate(model, judge, [(pixels, labels)])["active_codes"] == found
    assert model.info["training"]["tokenizer"]["codebook usage"] == pytest.approx(found, abs=0.07)  # half precision
    assert "active" not in model.info["training"]["tokenizer"]


class Collapsed(torch.nn.Module):
    """In place of a quantizer: few codes for all latents, 0 to `used` - 1."""

    def __init__(self, quantizer, used):
        super().__init__()
        self.real, self.used, self.codebook = quantizer, used, quantizer.codebook

    def forward(self, latents):
        codes, ids, loss = self.real(latents)
        return codes, torch.arange(ids.numel()).view(ids.shape) % self.used, loss

    def lookup(self, ids):
        return self.real.lookup(ids)


@pytest.mark.parametrize(("used", "said"), [(1, True), (2, False), (16, False)])
def test_few_codes_in_use_are_said(run, used, said, monkeypatch):
    """Of 16, with both parts' numbers; below a tenth, fewer than two."""
    model, settings = AliTok.from_pretrained(run, "cpu"), SETTINGS["mini"]["tokenizer"]
    model.tokenizer.quantizer = Collapsed(model.tokenizer.quantizer, used)
    source = SceneSource(32, settings, torch.device("cpu"))
    task = tasks.TokenizerTask("tokenizer", model, settings, accelerator_front(), source)
    task.mean_psnr = 0.0
    assert task.diagnose()["codebook usage"] == used / 16
    model.ar = ARModel(small_ar(model.tokenizer.config, classes=14))
    wanted = f"only {used} of 16 codes are in use: PSNR, nats and top-1 say little so far" if said else ""
    for one in (task, tasks.ARTask(model, settings, accelerator_front(), source, run)):
        assert one.caution() == wanted


@pytest.mark.parametrize("standardise", [False, True])
def test_a_tokenizer_that_paints_the_mean_picture_is_said(run, standardise):
    """Its PSNR is that of the mean picture, or hardly more; a second decoder's tokens are given."""
    model = AliTok.from_pretrained(run, "cpu")
    settings = replace(SETTINGS["mini"]["tokenizer"], standardise=standardise)
    source = SceneSource(32, settings, torch.device("cpu"))
    task = tasks.TokenizerTask("tokenizer", model, settings, accelerator_front(), source)
    mean = task.probe.mean(0)
    assert task.mean_psnr == pytest.approx(-10 * (task.probe - mean).square().mean((1, 2, 3)).log10().mean().item())
    for above, said in ((-1.0, True), (0.2, True), (0.4, False)):
        task.psnr = task.mean_psnr + above
        assert (f"the mean picture, whose PSNR is {task.mean_psnr:.1f}; if that stays so" in task.caution()) is said
        assert ("--standardise" in task.caution()) is (said and not standardise)
    model.tokenizer.decode = lambda ids, stage: mean.expand_as(task.probe)
    assert task.diagnose()["psnr"] == pytest.approx(task.mean_psnr) and "the mean picture" in task.caution()


def test_caution_stands_in_the_log(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tasks, "FEW", 1.1)
    for part in ("tokenizer", "ar"):
        train.train(part, "mini-plain", tmp_path)
        assert "codes are in use: PSNR, nats and top-1 say little so far" in capsys.readouterr().out


def test_few_held_out_tokens_are_no_collapse():
    """Two pictures cannot show all codes."""
    ids = torch.arange(42)
    assert tasks._few(ids, 4096) == "" and metrics.codebook_usage(ids, 4096) == 42 / 4096
    assert tasks._few(ids % 4, 4096) != "" and tasks._few(torch.arange(42_000) % 16, 1024) != ""


@pytest.mark.parametrize("pictures", [12, 30_000])
def test_batches_depend_on_seed_and_step_alone(pictures):
    """Few scenes are painted once, also on a CPU; many are painted for every batch."""
    settings = TrainSettings(steps=1, batch=4, pictures=pictures)
    first, second = (SceneSource(32, settings, torch.device("cpu")) for _ in range(2))
    first.batch(0)
    torch.rand(1)  # whoever else draws
    assert torch.equal(first.batch(3)[0], second.batch(3)[0])
    assert not torch.equal(first.batch(3)[0], first.batch(4)[0])
    other = SceneSource(32, replace(settings, seed=1), torch.device("cpu"))
    assert not torch.equal(first.batch(3)[0], other.batch(3)[0])
    assert (first.pool is None) == (pictures > 12)
    if first.pool is not None:
        painted = torch.cat([pixels for pixels, _ in first.blocks()])
        distances = torch.cdist(first.batch(3)[0].flatten(1), painted.flatten(1)).min(1).values
        assert distances.max() < 0.5  # rounded to 8 bits; two scenes are 10 and more apart


PROCESS = """
import sys
import pytest, torch
sys.path.insert(0, sys.argv[1])
import test_train
from alitok_lite import train
from alitok_lite.store.folder import parts_of
from alitok_lite.train import tasks
with pytest.MonkeyPatch.context() as patch:
    test_train.add_presets(patch)
    out, preset, parts = sys.argv[2:]
    common = [("accumulate", int(parts)), ("ema", 0.5)]
    model = train.train("tokenizer", preset, f"{out}/step", overrides=[*common, ("steps", 1)])
    first = {key: value.clone() for key, value in model.tokenizer.state_dict().items()}
    model = train.train("tokenizer", preset, out, overrides=common)
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    torch.save(first, f"{out}/rank{rank}-step.pt")
    torch.save(model.tokenizer.state_dict(), f"{out}/rank{rank}.pt")
    train.train("decoder", preset, out, overrides=common)
    nats = iter([2.0, 1.0, 3.0, 4.0])  # the second save is the best
    patch.setattr(tasks.ARTask, "diagnose", lambda task: {"train nats": 0.0, "test nats": next(nats)})
    model = train.train("ar", preset, out, overrides=[*common, ("keep_best", True), ("save_every", 1)])
    torch.save(model.ar.state_dict(), f"{out}/rank{rank}-ar.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "parts"), [("mini", 1), ("mini-plain", 2)])
def test_two_processes_train_as_one(tmp_path, preset, parts):
    """The same global batch: equal codebooks on both, and the weights and losses of one process in one part.

    The codebook after one step: later, rounding decides which of two codes that moved to the same latent is nearest.
    """
    (tmp_path / "process.py").write_text(PROCESS)
    models = []
    for count in (1, 2):
        out = tmp_path / str(count)
        # `accelerate launch` starts several processes on GPUs only; on CPUs it takes torch's own launcher.
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
        program = [*launch, str(tmp_path / "process.py"), str(Path(__file__).parent), str(out), preset]
        program.append(str(parts if count == 2 else 1))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
        result = subprocess.run(program, capture_output=True, text=True, timeout=300, env=environment)
        assert result.returncode == 0, result.stderr[-3000:]
        models.append(AliTok.from_pretrained(out, "cpu"))
    ranks = [torch.load(tmp_path / "2" / f"rank{rank}.pt") for rank in (0, 1)]
    assert all(torch.equal(ranks[0][key], ranks[1][key]) for key in ranks[0])  # bit for bit
    kept = [torch.load(tmp_path / "2" / f"rank{rank}-ar.pt") for rank in (0, 1)]
    assert all(torch.equal(kept[0][key], kept[1][key]) for key in kept[0])
    held = AliTok.from_pretrained(tmp_path / "2", "cpu").ar.state_dict()
    assert all(torch.equal(kept[1][key].half().float(), held[key]) for key in held)
    one, two = (torch.load(tmp_path / count / "rank0-step.pt") for count in "12")
    for key, value in two.items():
        torch.testing.assert_close(value, one[key], atol=1e-4, rtol=1e-3)
    last = torch.load(tmp_path / "1" / "rank0.pt")
    for key in ranks[0].keys() - {"quantizer.codebook"}:
        torch.testing.assert_close(ranks[0][key], last[key], atol=1e-4, rtol=1e-3)
    for part in ("tokenizer", "decoder", "ar"):
        infos = [model.info["training"][part] for model in models]
        for key in infos[0].keys() & {"mse", "l1", "aux", "vq", "loss"}:
            assert infos[0][key] == pytest.approx(infos[1][key], rel=1e-4), (part, key)


ENDLESS = """
import sys
from pathlib import Path
import pytest
sys.path.insert(0, sys.argv[1])
import test_train
from alitok_lite import train
from alitok_lite.store.folder import parts_of
with pytest.MonkeyPatch.context() as patch:
    test_train.add_presets(patch)
    resume = Path(sys.argv[2], "state", "tokenizer.safetensors").exists()
    print("ready", flush=True)
    train.train("tokenizer", "mini", sys.argv[2], resume, [("steps", 100_000), ("save_every", 2)])
"""


@pytest.mark.slow
def test_killed_at_any_moment_a_run_stays_readable(tmp_path):
    """kill -9 at 20 random moments: the checkpoint loads, and at most one save interval is lost."""
    (tmp_path / "endless.py").write_text(ENDLESS)
    out, moments, seen = tmp_path / "run", random.Random(0), 0
    for _ in range(20):
        program = [sys.executable, str(tmp_path / "endless.py"), str(Path(__file__).parent), str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with open(tmp_path / "log", "w") as log:
            process = subprocess.Popen(program, stdout=log, stderr=log, env=environment)
            while "ready" not in (tmp_path / "log").read_text() and process.poll() is None:
                time.sleep(0.05)
            time.sleep(moments.uniform(0.5, 3))
            process.kill()
            process.wait()
        text = (tmp_path / "log").read_text()
        assert "Error" not in text, text[-2000:]
        saved = [int(step) for step in re.findall(r"tokenizer step (\d+):", text)]
        if not (out / "config.json").exists():
            assert not saved
            continue
        model = AliTok.from_pretrained(out, "cpu")
        assert model.tokenizer.encode(torch.rand(1, 3, 32, 32)).shape == (1, 7)
        with safe_open(out / "state" / "tokenizer.safetensors", "pt") as file:
            step = int(file.metadata()["step"])
        assert step >= max([seen, *saved])
        seen = step
    assert seen >= 10  # the rounds built on one another
    # At most one half-finished change of weights, which leaves a second file of each part; the next save clears it.
    assert all(len(list(out.glob(f"{part}*.safetensors"))) in (1, 2) for part in ("encoder", "decoder1"))
    AliTok.from_pretrained(out, "cpu").save_pretrained(out)
    assert len(list(out.glob("*.safetensors"))) == 2


def test_full_disk_keeps_the_last_good_checkpoint(run, monkeypatch, capsys):
    """The error is one sentence on the command line, and the run goes on from where it was saved."""
    before = AliTok.from_pretrained(run, "cpu").tokenizer.state_dict()

    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("alitok_lite.train.state.write_atomically", full)
        patch.setitem(SETTINGS["mini"], "ar", replace(SETTINGS["mini"]["ar"], pictures=8))
        assert main(["train", "ar", "--preset", "mini", "--out", str(run)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in error
    after = AliTok.from_pretrained(run, "cpu").tokenizer.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    train.train("ar", "mini", run)
