"""Weights in 8 bits with a scale a row: how far they move, what stays, and damage that is named in one sentence."""

import json

import pytest
import torch
from conftest import small_model
from safetensors.torch import load_file, save_file

from alitok_lite import AliTok
from alitok_lite.cli import main
from alitok_lite.data.sources import unseen_scenes
from alitok_lite.files import file_sha256
from alitok_lite.measure.metrics import nats_per_token, psnr
from alitok_lite.store.folder import CheckpointError
from alitok_lite.store.rows import LIMIT, SCALES, fits_rows, from_rows, to_rows, wider


def matrix(rows=40, columns=300, std=1.0):
    return std * torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows + columns))


MATRICES = {
    "small": matrix(std=1e-6),
    "large": matrix(std=1e6),
    "uniform": torch.rand(30, 500, generator=torch.Generator().manual_seed(1)) - 0.5,
    "rows of all sizes": matrix() * torch.logspace(-30, 30, 40)[:, None],
    "zeros": torch.zeros(3, 5),
    "zeros among others": matrix() * (torch.arange(40) % 3 > 0)[:, None],
    "one row": matrix(1, 64),
    "convolution": matrix(20, 108).view(20, 3, 6, 6),
    "half precision": matrix().half(),
}


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("name", MATRICES)
def test_a_weight_moves_by_half_a_scale_at_most(name):
    """And a scale is a 127th of the largest weight of its row, rounded to 8 significant bits."""
    given = MATRICES[name]
    numbers, scales = to_rows(given)
    assert numbers.dtype == torch.int8 and numbers.shape == given.shape and scales.shape == (len(given),)
    again = from_rows(numbers, scales)
    assert again.dtype == torch.float32 and again.shape == given.shape
    error, largest = (again - given.float()).flatten(1).abs(), given.float().flatten(1).abs().amax(1)
    assert (error <= scales.float()[:, None] * 0.5001).all()
    assert (error.amax(1) <= largest / 254 * (1 + 2**-8)).all()


def test_the_error_is_that_of_rounding():
    """Evenly spread over a scale, it has a standard deviation of the scale over the root of 12."""
    given = MATRICES["uniform"]
    numbers, scales = to_rows(given)
    error = (from_rows(numbers, scales) - given) / scales.float()[:, None]
    assert error.square().mean().sqrt().item() == pytest.approx(12**-0.5, rel=0.02)


@pytest.mark.parametrize("name", MATRICES)
def test_what_was_stored_is_stored_alike_again(name):
    numbers, scales = to_rows(MATRICES[name])
    other, same = to_rows(from_rows(numbers, scales))
    assert torch.equal(other, numbers) and torch.equal(same, scales)


def test_a_matrix_with_very_large_weights_does_not_fit():
    plain = matrix()
    outlying = plain.clone()
    outlying[:, 0] = 12.0
    error = (from_rows(*to_rows(outlying)) - outlying).square().mean() / outlying.square().mean()
    assert LIMIT < error.sqrt() < 4 * LIMIT
    assert fits_rows(plain) and not fits_rows(outlying)


@pytest.mark.parametrize("weights", [torch.rand(5), torch.tensor(1.0), torch.zeros(0, 4), torch.zeros(4, 0)])
def test_what_is_no_matrix_does_not_fit(weights):
    assert not fits_rows(weights)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_matrix_that_is_not_finite_does_not_fit(value):
    weights = matrix()
    weights[2, 3] = value
    assert not fits_rows(weights)


# ---------------------------------------------------------------- checkpoints


WIDE = "blocks.0.mlp.down.weight"


@pytest.fixture
def eight(tmp_path):
    """A checkpoint in 8 bits; one matrix of its AR model does not fit."""
    model = small_model()
    with torch.no_grad():
        model.ar.blocks[0].mlp.down.weight[:, 0] = 15.0
    model.save_pretrained(tmp_path / "eight", torch.int8)
    return tmp_path / "eight"


def test_matrices_have_8_bits_and_all_else_keeps_16(eight):
    for part in ("encoder", "decoder1", "decoder2", "ar"):
        for key, value in load_file(eight / f"{part}.safetensors").items():
            narrow = part != "encoder" and value.ndim > 1 and (part, key) != ("ar", WIDE)
            wanted = torch.int8 if narrow else torch.bfloat16 if key.endswith(SCALES) else torch.float16
            assert value.dtype == wanted, key
    assert wider(eight / "ar.safetensors") == [WIDE] and wider(eight / "decoder1.safetensors") == []
    assert "quantizer.codebook" in wider(eight / "encoder.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_in_memory_has_ordinary_weights(eight, dtype):
    before, after = small_model(), AliTok.from_pretrained(eight, "cpu", dtype)
    for key, value in after.named_parameters():
        wanted = before.get_parameter(key).detach().clone()
        if key == "ar.blocks.0.mlp.down.weight":
            wanted[:, 0] = 15.0
        exact = key.startswith("tokenizer.quantizer")
        assert value.dtype == (torch.float32 if exact else dtype) and value.requires_grad
        if value.ndim < 2 or key.startswith(("tokenizer.encoder", "tokenizer.quantizer", "ar.blocks.0.mlp.down")):
            assert torch.equal(value, wanted.half().to(value.dtype))
        else:
            assert torch.equal(value, from_rows(*to_rows(wanted)).to(dtype))
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert after.sample(["sea"]).shape == (1, 3, 32, 32)
    if dtype == torch.float32:
        before.save_pretrained(eight.parent / "half")
        half = AliTok.from_pretrained(eight.parent / "half", "cpu")
        assert torch.equal(half.tokenizer.encode(pixels), after.tokenizer.encode(pixels))


def test_saving_again_writes_nothing_new(eight):
    before = {path.name: path.stat().st_mtime_ns for path in eight.glob("*.safetensors")}
    AliTok.from_pretrained(eight, "cpu").save_pretrained(eight, torch.int8)
    assert {path.name: path.stat().st_mtime_ns for path in eight.glob("*.safetensors")} == before


def test_the_weights_do_not_depend_on_the_file(eight):
    model = AliTok.from_pretrained(eight, "cpu")
    before = model.ar.embedding.weight.clone()
    for path in eight.glob("*.safetensors"):
        with open(path, "r+b") as file:
            file.write(b"\0" * path.stat().st_size)
    assert torch.equal(model.ar.embedding.weight, before)


def test_another_type_is_refused_before_anything_is_written(tmp_path):
    for dtype in (torch.float64, torch.uint8):
        with pytest.raises(ValueError, match=f"dtype is {dtype}; it must be one of torch.float32, .*torch.int8"):
            small_model().save_pretrained(tmp_path / "new", dtype)
    assert not (tmp_path / "new").exists()


NAME = "embedding.weight"
DAMAGE = {
    "not a number": lambda t: t[NAME + SCALES].__setitem__(3, float("nan")),
    "infinite": lambda t: t[NAME + SCALES].__setitem__(0, float("inf")),
    "zero": lambda t: t[NAME + SCALES].__setitem__(-1, 0.0),
    "negative": lambda t: t[NAME + SCALES].__setitem__(1, -1.0),
    "too few": lambda t: t.update({NAME + SCALES: t[NAME + SCALES][1:].clone()}),
    "one for all": lambda t: t.update({NAME + SCALES: t[NAME + SCALES][0].clone()}),
    "whole numbers": lambda t: t.update({NAME + SCALES: torch.ones(len(t[NAME]), dtype=torch.int32)}),
    "missing": lambda t: t.pop(NAME + SCALES),
    "of no matrix": lambda t: t.update({"norm.weight" + SCALES: torch.ones(16)}),
    "of a matrix in 16 bits": lambda t: t.update({WIDE + SCALES: torch.ones(16)}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_wrong_scales_are_refused(eight, damage):
    path, config = eight / "ar.safetensors", json.loads((eight / "config.json").read_text())
    tensors = load_file(path)
    DAMAGE[damage](tensors)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="ar.safetensors is damaged: its sha256"):
        AliTok.from_pretrained(eight)
    config["files"]["ar"]["sha256"] = file_sha256(path)
    (eight / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"ar.safetensors does not fit its config.json: .*(scale)"):
        AliTok.from_pretrained(eight)


@torch.inference_mode()
def test_the_shipped_scenes_move_little_in_8_bits(tmp_path):
    """Nats by less than 0.005 and PSNR by less than 0.02 dB, at unchanged tokens."""
    before = AliTok.from_pretrained("scenes", "cpu")
    before.save_pretrained(tmp_path, torch.int8)
    after = AliTok.from_pretrained(tmp_path, "cpu")
    [(pixels, labels)] = unseen_scenes(56, 7, 64, torch.device("cpu"))
    ids = before.tokenizer.encode(pixels)
    assert torch.equal(after.tokenizer.encode(pixels), ids)
    for stage in (1, 2):
        moved = [psnr(model.tokenizer.decode(ids, stage), pixels).mean() for model in (before, after)]
        assert abs(moved[0] - moved[1]) < 0.02
    nats = [nats_per_token(model.ar, ids, labels)[0].mean() for model in (before, after)]
    assert abs(nats[0] - nats[1]) < 0.005
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) < 17.5e6


# ---------------------------------------------------------------- command


def test_export_writes_a_smaller_checkpoint(eight, folder, tmp_path, capsys):
    assert main(["export", "--model", str(eight), "--out", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{eight} in {tmp_path / 'a'}: 0.1 MB of weights, before 0.1 MB")
    assert said[1] == "In half precision: the encoder, what is no matrix, ar blocks.0.mlp.down.weight"
    assert (tmp_path / "a" / "ar.safetensors").read_bytes() == (eight / "ar.safetensors").read_bytes()
    assert main(["export", "--model", str(folder), "--out", str(tmp_path / "b"), "--dtype", "float32"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert load_file(tmp_path / "b" / "ar.safetensors")["output.weight"].dtype == torch.float32


def test_export_replaces_nothing(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out, why in ((folder, "which is not empty"), (tmp_path / "file", "it must be a folder"), ("", "must be a fol")):
        assert main(["export", "--model", str(folder), "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert why in said and said.count("\n") == 1
    assert main(["export", "--model", str(tmp_path / "none"), "--out", str(tmp_path / "new")]) == 2
    assert "no checkpoint" in capsys.readouterr().err and not (tmp_path / "new").exists()
    assert (tmp_path / "file").read_text() == "mine"
