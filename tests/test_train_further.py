"""The decoder with which the tokens were learned, trained further: what changes, what stays, and what is refused."""

import shlex
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import small_ar, small_tokenizer
from safetensors.torch import load_file
from small_training import Grey

from alitok_lite import PRESETS, AliTok, scenes, train
from alitok_lite.__main__ import main
from alitok_lite.cli.program import parse
from alitok_lite.core.config import Preset
from alitok_lite.core.losses import LossWeights, prefix_target
from alitok_lite.store.folder import CheckpointError
from alitok_lite.train import loop, tasks
from alitok_lite.train.run import accelerator_front
from alitok_lite.train.settings import SETTINGS, TrainSettings
from alitok_lite.train.state import held_parts

pytest.importorskip("accelerate")
PREFIX, PLAIN, CONVENTIONAL = NAMES = ("further-prefix", "further", "further-conventional")
CHANGES = {PREFIX: {}, PLAIN: {"prefix": False}, CONVENTIONAL: {"prefix": False, "aligned": False}}
COMMON = TrainSettings(steps=4, batch=4, lr=1e-3, warmup=2, pictures=12, save_every=2)
CRITIC = LossWeights(l1=0.2, adversarial=0.5, adversarial_start=0.0)
PIXELS = scenes.render([0, 5, 9, 3, 12, 7, 1, 10], seed=scenes.TEST_SEED + 1, size=32)  # unseen ones


@pytest.fixture(scope="module", autouse=True)
def presets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        for name in NAMES:
            tokenizer = small_tokenizer(**CHANGES[name])
            patch.setitem(PRESETS, name, Preset(tokenizer, small_ar(tokenizer, classes=14)))
            decoder = replace(COMMON, further=True, losses=CRITIC)
            patch.setitem(SETTINGS, name, {"tokenizer": COMMON, "decoder": decoder, "ar": COMMON})
        yield


@pytest.fixture(scope="module")
def learned(presets, tmp_path_factory):
    """A RUN of the tokenizer alone for each preset; tests work on copies."""
    root = tmp_path_factory.mktemp("learned")
    for name in NAMES:
        train.train("tokenizer", name, root / name)
    return root


@pytest.fixture
def run(learned, tmp_path):
    return lambda name, to="run": shutil.copytree(learned / name, tmp_path / to)


def stage_of(name):
    return 2 if name == CONVENTIONAL else 1


def loaded(folder):
    return AliTok.from_pretrained(folder, "cpu")


def decoder_in(folder, name=PLAIN):
    return loaded(folder).tokenizer.decoder(stage_of(name)).state_dict()


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(value, two[key]) for key, value in one.items())


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kept(folder):
    return folder / "state" / "learned-decoder.safetensors"


def stopped_at_a_save(*_):
    raise KeyboardInterrupt


# ---------------------------------------------------------------- what is trained


@pytest.mark.parametrize("name", NAMES)
def test_decoder_changes_and_the_tokens_stay_bit_for_bit(run, name, capsys):
    folder = run(name)
    before = loaded(folder)
    ids, stage = before.tokenizer.encode(PIXELS), stage_of(name)
    capsys.readouterr()
    returned = train.train("decoder", name, folder)
    after = loaded(folder)
    assert after.tokenizer.stages == (stage,) == before.tokenizer.stages
    for key, value in before.tokenizer.state_dict().items():
        assert torch.equal(after.tokenizer.state_dict()[key], value) is not key.startswith("decoder"), key
    assert torch.equal(after.tokenizer.encode(PIXELS), ids) and torch.equal(returned.tokenizer.encode(PIXELS), ids)
    info = after.info["training"]
    assert info.keys() == {"tokenizer", "decoder"} and info["decoder"]["steps"] == 4
    assert info["tokenizer"] == before.info["training"]["tokenizer"] and info["decoder"]["gan"] != 0
    assert held_parts(folder) == ["tokenizer", "decoder"]
    said = capsys.readouterr().out
    assert "further-trained decoder before training: PSNR" in said and "further-trained decoder step 4: " in said
    names = {path.name for path in (folder / "sheets").glob("decoder-*")}
    assert names == {f"decoder-{step:06d}.png" for step in (0, 2, 4)}


@pytest.mark.parametrize("name", NAMES)
def test_squared_error_on_unseen_pictures_falls(run, name):
    """Of pixels, and with the auxiliary loss that of the prefix outputs too."""
    folder, errors, many = run(name), [], [("steps", 60), ("save_every", 60), ("pictures", 200), ("lr", 4e-3)]

    def measure(model):
        decoder = model.tokenizer.decoder(stage_of(name))
        codes = model.tokenizer.quantizer.lookup(model.tokenizer.encode(PIXELS))
        with torch.no_grad():
            pixels, aux = decoder.outputs(codes)
        found = [(pixels - PIXELS).square().mean().item()]
        errors.append(found + ([(aux - prefix_target(PIXELS, 16)).square().mean().item()] if aux is not None else []))

    measure(loaded(folder))
    train.train("decoder", name, folder, overrides=[*many, ("losses", LossWeights(vq=0.0))])
    measure(loaded(folder))
    assert len(errors[0]) == (2 if name == PREFIX else 1)
    assert all(after < 0.9 * before for before, after in zip(*errors, strict=True)), errors


@pytest.mark.parametrize("name", NAMES)
def test_auxiliary_loss_goes_on_where_there_is_a_prefix(run, name):
    model = loaded(run(name))
    model.tokenizer.requires_grad_(False)
    decoder = model.tokenizer.decoder(stage_of(name)).requires_grad_(True)
    source, found = Grey(), []
    for weight in (1.0, 2.0):
        losses = LossWeights(mse=0.0, aux=weight, vq=0.0)
        settings = replace(COMMON, further=True, losses=losses)
        task = tasks.TokenizerTask("decoder", model, settings, accelerator_front(), source)
        loss, terms = task.loss(task.network, task.batch(0), 0)
        loss.backward()
        assert all(value.grad is None for value in model.tokenizer.encoder.parameters())
        assert ("aux" in terms) is (name == PREFIX)
        found.append(loss.item())
    assert {id(value) for value in task.network.parameters()} == {id(value) for value in decoder.parameters()}
    if name == PREFIX:
        aux = model.tokenizer.decode_with_prefix(model.tokenizer.encode(source.pixels))[1]
        wanted = (aux - prefix_target(source.pixels, 16)).square().mean().item()
        assert found == pytest.approx([wanted, 2 * wanted], rel=1e-4)
        assert decoder.aux_head.linear.weight.grad.abs().sum() > 0 and decoder.embed.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", [PREFIX, CONVENTIONAL])
def test_resuming_continues_exactly(run, name, monkeypatch):
    whole, folder = run(name, "whole"), run(name)
    options = [("ema", 0.9)]
    train.train("decoder", name, whole, overrides=options)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_save_sheet", stopped_at_a_save)
        train.train("decoder", name, folder, overrides=options)
    assert loaded(folder).info["training"]["decoder"]["steps"] == 2
    backup = kept(folder).read_bytes()
    train.train("decoder", name, folder, True, options)
    assert same(*(load_file(place / "state" / "decoder.safetensors") for place in (whole, folder)))
    assert same(decoder_in(whole, name), decoder_in(folder, name))
    assert kept(folder).read_bytes() == backup and same(load_file(kept(whole)), load_file(kept(folder)))


# ---------------------------------------------------------------- what a RUN holds, and what is refused


def test_same_command_again_is_refused_and_replace_begins_where_the_tokenizer_ended(run, capsys):
    folder = run(PLAIN)
    train.train("decoder", PLAIN, folder)
    first, files = decoder_in(folder), contents(folder)
    command = ["train", "decoder", "--preset", PLAIN, "--out", str(folder)]
    capsys.readouterr()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "tokenizer and further-trained decoder" in error and "--replace" in error
    assert contents(folder) == files
    train.train("decoder", PLAIN, folder, True)  # nothing to do
    assert contents(folder) == files
    assert "all 4 steps of the further-trained decoder are done" in capsys.readouterr().out
    train.train("decoder", PLAIN, folder, replace=True)
    assert same(decoder_in(folder), first)  # and not twice as far
    assert "the further-trained decoder will be removed at the first save" in capsys.readouterr().out


def test_nothing_is_lost_whenever_it_is_killed(run, learned, monkeypatch):
    """Before the first save the RUN is as it was; between checkpoint and state, --replace begins anew."""
    folder, whole = run(PLAIN), run(PLAIN, "whole")
    train.train("decoder", PLAIN, whole)
    files = contents(folder)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(loop, "backward", lambda *_: 1 / 0)
        train.train("decoder", PLAIN, folder)
    assert contents(folder) == files
    for again in (False, True):
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(loop, "save_state", lambda *_: 1 / 0)
            train.train("decoder", PLAIN, folder, replace=again)
        assert not same(decoder_in(folder), decoder_in(learned / PLAIN))
        with pytest.raises(CheckpointError, match="nothing to resume"):
            train.train("decoder", PLAIN, folder, True)
    train.train("decoder", PLAIN, folder, replace=True)
    assert same(decoder_in(folder), decoder_in(whole))


def test_lost_or_foreign_copy_of_the_learned_decoder_is_one_sentence(run):
    folder, other = run(PLAIN), run(CONVENTIONAL, "other")
    for place, name in ((folder, PLAIN), (other, CONVENTIONAL)):
        train.train("decoder", name, place)
    shutil.copy(kept(other), kept(folder))
    files = contents(folder)
    with pytest.raises(CheckpointError, match="cannot be read .it belongs to another tokenizer.: give --from"):
        train.train("decoder", PLAIN, folder, replace=True)
    assert contents(folder) == files
    kept(folder).unlink()
    with pytest.raises(CheckpointError, match="cannot be read .FileNotFoundError") as caught:
        train.train("decoder", PLAIN, folder, replace=True)
    assert "\n" not in str(caught.value)


def test_tokenizer_trained_longer_takes_its_own_decoder_and_only_on_request(run):
    folder, plain, longer = run(PREFIX), run(PREFIX, "plain"), [("steps", 6)]
    train.train("tokenizer", PREFIX, plain, True, longer)
    train.train("decoder", PREFIX, folder)
    files = contents(folder)
    with pytest.raises(CheckpointError, match="the further-trained decoder in .* copy the folder first"):
        train.train("tokenizer", PREFIX, folder, True, longer)
    assert contents(folder) == files
    train.train("tokenizer", PREFIX, folder, True, longer, replace=True)
    assert same(loaded(folder).tokenizer.state_dict(), loaded(plain).tokenizer.state_dict())
    assert held_parts(folder) == ["tokenizer"] and not kept(folder).exists()
    assert not (folder / "state" / "decoder.safetensors").exists()


def test_tokenizer_trained_anew(run):
    folder = run(PLAIN)
    train.train("decoder", PLAIN, folder)
    with pytest.raises(CheckpointError, match="with tokenizer and further-trained decoder"):
        train.train("tokenizer", PLAIN, folder)
    train.train("tokenizer", PLAIN, folder, overrides=[("seed", 1)], replace=True)
    assert held_parts(folder) == ["tokenizer"] and not kept(folder).exists()
    train.train("decoder", PLAIN, folder)
    assert kept(folder).exists()


def test_ar_model_stays_valid(run, capsys):
    folder = run(PLAIN)
    before = train.train("ar", PLAIN, folder).ar.state_dict()
    ids = (folder / "state" / "ids.safetensors").read_bytes()
    train.train("decoder", PLAIN, folder)
    held = loaded(folder).ar.state_dict()
    assert all(torch.equal(value.half().float(), held[key]) for key, value in before.items())
    assert held_parts(folder) == ["tokenizer", "decoder", "ar"]
    decoder = decoder_in(folder)
    capsys.readouterr()
    train.train("ar", PLAIN, folder, True, [("steps", 6)])
    assert "made again" not in capsys.readouterr().out
    assert (folder / "state" / "ids.safetensors").read_bytes() == ids
    assert same(decoder_in(folder), decoder) and kept(folder).exists()
    train.train("decoder", PLAIN, folder, True, [("steps", 6)])  # its state still fits


@pytest.mark.parametrize("name", [PREFIX, CONVENTIONAL])
def test_checkpoint_to_begin_with(run, tmp_path, name, capsys):
    given, out, none = run(name, "given"), tmp_path / "out", [("lr", 0.0), ("final_lr", 0.0)]
    train.train("decoder", name, given)
    wanted = decoder_in(given, name)
    train.train("decoder", name, out, start=str(given), overrides=none)
    assert same(decoder_in(out, name), wanted)  # the given one, without a learning rate
    assert loaded(out).info["training"]["decoder"]["from"] == str(given)
    with pytest.raises(CheckpointError, match="give --from CHECKPOINT"):
        train.train("decoder", name, out, replace=True)
    own = run(name, "own")
    mine = decoder_in(own, name)
    train.train("decoder", name, own, start=str(given), overrides=none)
    assert same(decoder_in(own, name), wanted) and not same(mine, wanted)
    train.train("decoder", name, own, replace=True, overrides=none)
    assert same(decoder_in(own, name), mine)  # what the RUN had is not lost
    train.train("ar", name, tmp_path / "ar", start=str(with_ar(given, name)))
    assert held_parts(tmp_path / "ar") == ["tokenizer", "decoder", "ar"]


def with_ar(given, name):
    train.train("ar", name, given)
    return given


def test_second_decoder_and_a_further_trained_one_replace_each_other(run, learned, capsys):
    folder, second = run(PREFIX), replace(COMMON, losses=CRITIC)
    train.train_part("decoder", PRESETS[PREFIX], second, folder)
    with pytest.raises(CheckpointError, match="removes the second decoder"):
        train.train("decoder", PREFIX, folder)
    with pytest.raises(CheckpointError, match="cannot resume: further was False and is now True"):
        train.train("decoder", PREFIX, folder, True)
    one = decoder_in(folder, PREFIX)
    train.train("decoder", PREFIX, folder, replace=True)
    assert loaded(folder).tokenizer.stages == (1,) and not same(decoder_in(folder, PREFIX), one)
    with pytest.raises(CheckpointError, match="removes the further-trained decoder"):
        train.train_part("decoder", PRESETS[PREFIX], second, folder)
    train.train_part("decoder", PRESETS[PREFIX], second, folder, replace=True)
    assert loaded(folder).tokenizer.stages == (1, 2) and not kept(folder).exists()
    assert same(decoder_in(folder, PREFIX), decoder_in(learned / PREFIX, PREFIX))


@pytest.mark.parametrize("name", [PREFIX, CONVENTIONAL])
def test_next_command_is_right(run, tmp_path, name, capsys):
    given = run(name, "given")
    capsys.readouterr()
    train.train("tokenizer", name, tmp_path / "out", start=str(given))
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if "for better pictures of the same tokens" in line)
    arguments = parse(shlex.split(line.split("alitok_lite ")[-1]))
    assert (arguments.command, arguments.part, arguments.start) == ("train", "decoder", None)
    train.train("decoder", name, tmp_path / "out")
    said = capsys.readouterr().out
    assert "next: python -m alitok_lite train ar" in said and "for better pictures" not in said


def test_presets_with_one_decoder_train_it_further():
    alone = {name for name, parts in SETTINGS.items() if parts["decoder"].further} - set(NAMES)
    assert alone == {"scenes-baseline", "scenes-noprefix"}
    for name in alone:
        settings = SETTINGS[name]["decoder"]
        assert (settings.steps, settings.batch, settings.lr, settings.pictures) == (4000, 512, 3e-4, 300_000)
        assert settings.losses == LossWeights(l1=0.2, features=0.03, adversarial=0.5, adversarial_start=0.0)
        assert all(SETTINGS[name][part] == SETTINGS["scenes"][part] for part in ("tokenizer", "ar"))
