"""Checkpoint folders: what is saved comes back, and damage is named in one sentence."""

import copy
import json
import os
import pickle

import numpy as np
import pytest
import torch
from conftest import CLASSES, small_ar, small_model, small_tokenizer
from test_files import device as device_node

from alitok_lite import PRESETS, AliTok
from alitok_lite.core.ar import ARModel
from alitok_lite.core.sampling import Sampling
from alitok_lite.core.tokenizer import Tokenizer
from alitok_lite.files import write_atomically
from alitok_lite.store.folder import CheckpointError


def test_a_checkpoint_comes_back(folder, device):
    first, second = small_model(), AliTok.from_pretrained(folder, device)
    assert second.classes == CLASSES
    assert second.tokenizer.config == first.tokenizer.config
    assert second.ar.config == first.ar.config
    assert second.device.type == device.type
    for a, b in ((first.tokenizer, second.tokenizer), (first.ar, second.ar)):
        for (key, p), (other, q) in zip(a.named_parameters(), b.named_parameters(), strict=True):
            assert key == other
            assert torch.equal(p.half().float(), q.cpu())
    pictures = second.sample(["sea", 2], seed=1)
    assert pictures.shape == (2, 3, 32, 32)
    assert pictures.min() >= 0 and pictures.max() <= 1


@pytest.mark.parametrize("stages", [(1,), (2,), (1, 2)])
def test_absent_parts_are_absent_files(tmp_path, stages):
    model = small_model(stages)
    model.ar = None
    model.save_pretrained(tmp_path)
    names = {"encoder.safetensors", *(f"decoder{stage}.safetensors" for stage in stages), "config.json", "README.md"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert AliTok.from_pretrained(tmp_path, "cpu").tokenizer.stages == stages


def test_bfloat16_keeps_the_quantizer_in_float32(folder):
    model = AliTok.from_pretrained(folder, "cpu", torch.bfloat16)
    assert model.ar.norm.weight.dtype == model.tokenizer.encoder.queries.dtype == torch.bfloat16
    assert model.tokenizer.quantizer.codebook.dtype == torch.float32
    assert model.sample(["sea"]).shape == (1, 3, 32, 32)
    model.tokenizer.encode(torch.rand(1, 3, 32, 32))


def test_bfloat16_leaves_the_codes_as_they_are(folder):
    exact = AliTok.from_pretrained(folder, "cpu").tokenizer.quantizer.codebook
    assert not torch.equal(exact, exact.bfloat16().float())
    loaded = AliTok.from_pretrained(folder, "cpu", torch.bfloat16)
    assert torch.equal(loaded.tokenizer.quantizer.codebook, exact)
    moved = AliTok.from_pretrained(folder, "cpu").to("cpu", torch.bfloat16)
    assert torch.equal(moved.tokenizer.quantizer.codebook, exact)
    assert moved.ar.norm.weight.dtype == moved.tokenizer.decoder1.positions.dtype == torch.bfloat16


def test_weights_in_memory_do_not_depend_on_the_file(folder):
    """A mapped file that is overwritten in place would change the model, or kill the process."""
    small_model().save_pretrained(folder, torch.float32)  # which is loaded without a conversion
    model = AliTok.from_pretrained(folder, "cpu")
    before = model.ar.output.weight.clone()
    for path in folder.glob("*.safetensors"):
        with open(path, "r+b") as file:
            file.write(b"\0" * path.stat().st_size)
    assert torch.equal(model.ar.output.weight, before)


def test_saving_again_replaces_what_changed_and_leaves_no_litter(folder):
    model = AliTok.from_pretrained(folder, "cpu")
    before = (folder / "encoder.safetensors").stat().st_mtime_ns
    torch.nn.init.ones_(model.ar.output.bias)
    model.save_pretrained(folder)
    assert (folder / "encoder.safetensors").stat().st_mtime_ns == before
    assert len(list(folder.iterdir())) == 6
    assert (AliTok.from_pretrained(folder, "cpu").ar.output.bias == 1).all()


def test_a_save_that_breaks_off_leaves_the_old_checkpoint(folder, monkeypatch):
    old = small_model().ar.output.weight.half().float()
    model = AliTok.from_pretrained(folder, "cpu")
    torch.nn.init.ones_(model.ar.output.weight)

    def full_disk(path, data):
        if path.name == "config.json":
            raise OSError(28, "No space left on device")
        write_atomically(path, data)

    monkeypatch.setattr("alitok_lite.store.folder.write_atomically", full_disk)
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(folder)
    assert torch.equal(AliTok.from_pretrained(folder, "cpu").ar.output.weight, old)


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "lost link"])
def test_saving_leaves_alone_what_is_no_file(folder, tmp_path, kind):
    """The weights of that part get another name."""
    model, path = AliTok.from_pretrained(folder, "cpu"), folder / "ar.safetensors"
    path.unlink()
    make = {"device": device_node, "pipe": os.mkfifo, "folder": os.mkdir, "lost link": lambda p: p.symlink_to("none")}
    make[kind](path)
    before = path.lstat()
    for _ in range(2):
        model.save_pretrained(folder)
    assert path.lstat() == before
    again = AliTok.from_pretrained(folder, "cpu")
    assert torch.equal(again.ar.output.weight, model.ar.output.weight)
    assert len(list(folder.iterdir())) == 7


def test_saving_leaves_the_files_of_links_alone(folder, tmp_path):
    """As a cache of the Hub has them: what is equal is not written again, what differs gets another name."""
    model = AliTok.from_pretrained(folder, "cpu")
    (folder / "ar.safetensors").rename(tmp_path / "blob")
    (folder / "ar.safetensors").symlink_to(tmp_path / "blob")
    before = (tmp_path / "blob").read_bytes()
    model.save_pretrained(folder)
    assert len(list(folder.iterdir())) == 6
    torch.nn.init.ones_(model.ar.output.bias)
    model.save_pretrained(folder)
    assert (tmp_path / "blob").read_bytes() == before and (folder / "ar.safetensors").is_symlink()
    assert (AliTok.from_pretrained(folder, "cpu").ar.output.bias == 1).all()


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="folder is ''"):
        small_model().save_pretrained("")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [np.int64, np.array, torch.tensor])
def test_sizes_of_numpy_and_torch_are_saved(tmp_path, kind):
    sizes = small_tokenizer(codebook_size=kind(32))
    ar = small_ar(sizes, width=kind(24), dropout=np.float32(0.5))
    assert (type(sizes.codebook_size), type(ar.width), ar.dropout) == (int, int, 0.5)
    model = AliTok(Tokenizer(sizes, (2,)), ARModel(ar), CLASSES, Sampling(np.float32(2), top_k=kind(3)))
    model.save_pretrained(tmp_path)
    assert AliTok.from_pretrained(tmp_path, "cpu").sampling == Sampling(2, top_k=3)
    for wrong in (kind(0), kind(-8), np.bool_(True), torch.tensor(True), np.float64(32), "32", None):
        with pytest.raises(ValueError, match="TokenizerConfig: codebook_size is .*; it must be a whole number of 1 or"):
            small_tokenizer(codebook_size=wrong)


def test_a_pointer_instead_of_weights_is_named(folder):
    (folder / "ar.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CheckpointError, match="ar.safetensors is a git-lfs pointer, not the weights: .*`git lfs pull`"):
        AliTok.from_pretrained(folder)


def test_labels_take_one_class_or_several(model):
    model.classes = ["1", "0", "x"]
    for classes in (
        "x",
        2,
        "2",
        np.int64(2),
        torch.tensor(2),
        ["x"],
        np.array(["x"]),
        torch.tensor([2]),
        np.array([2]),
    ):
        assert model.labels(classes).tolist() == [2]
    assert model.labels(["1", 1, "0", 0]).tolist() == [0, 1, 1, 0]
    assert model.labels([]).shape == (0,)


# ---------------------------------------------------------------- a torch module


def sampled(model):
    return [*model.stream(["sea", "tree"], seed=3, guidance=2.0)][-1].ids


def test_weights_travel_by_state_dict():
    first, second = small_model(), AliTok(Tokenizer(small_tokenizer(), (1, 2)), ARModel(small_ar(small_tokenizer())))
    second.classes = CLASSES
    state = first.state_dict()
    assert {".".join(key.split(".")[: 1 + key.startswith("tokenizer")]) for key in state} == {
        *("tokenizer.encoder", "tokenizer.quantizer", "tokenizer.decoder1", "tokenizer.decoder2", "ar")
    }
    assert not torch.equal(sampled(first), sampled(second))
    assert str(second.load_state_dict(state)) == "<All keys matched successfully>"
    assert torch.equal(sampled(first), sampled(second))
    assert torch.equal(first.sample(["sea"]), second.sample(["sea"]))


def test_parameters_are_those_of_the_parts(model):
    parts = {
        **dict(model.tokenizer.named_parameters(prefix="tokenizer")),
        **dict(model.ar.named_parameters(prefix="ar")),
    }
    assert dict(model.named_parameters()).keys() == parts.keys() == model.state_dict().keys()
    alone = small_model((2,))
    alone.ar = None
    assert not any(key.startswith(("ar.", "tokenizer.decoder1")) for key in alone.state_dict())


def test_a_new_model_is_in_evaluation_mode_and_training_is_requested(folder):
    for new in (AliTok.from_preset(PRESETS["tiny"]), AliTok.from_pretrained(folder, "cpu"), small_model()):
        assert not any(module.training for module in new.modules())
        assert all(module.training for module in new.train().modules())
        assert new.to("cpu") is new and new.training  # as torch's own `to`
        assert not new.eval().ar.training


CASTS = {
    "to(dtype)": lambda model: model.to(torch.bfloat16),
    "to(device, dtype)": lambda model: model.to("cpu", torch.bfloat16),
    "to(keywords)": lambda model: model.to(device="cpu", dtype=torch.float16),
    "half": lambda model: model.half(),
    "bfloat16": lambda model: model.bfloat16(),
    "part": lambda model: model.tokenizer.half() and model,
}


@pytest.mark.parametrize("cast", CASTS)
def test_a_cast_leaves_codebook_and_ids_alone(cast, device):
    model = small_model().to(device)
    quantizer, ids = model.tokenizer.quantizer, torch.randint(16, (2, 7), device=device)
    latents = quantizer.lookup(ids) + 0.1 * torch.randn(2, 7, 4, device=device)
    codebook, usage, found = quantizer.codebook.detach().clone(), quantizer.usage.clone(), quantizer(latents)[1]
    assert not torch.equal(codebook, codebook.half().float())
    assert CASTS[cast](model) is model and model.dtype in (torch.float16, torch.bfloat16)
    assert quantizer.codebook.dtype == quantizer.usage.dtype == torch.float32
    assert torch.equal(quantizer.codebook, codebook) and torch.equal(quantizer.usage, usage)
    assert torch.equal(quantizer(latents)[1], found)
    assert torch.equal(model.float().tokenizer.quantizer.codebook, codebook)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_weights_of_their_own(again):
    first = small_model()
    first.info = {"a": 1}
    second = again(first)
    assert second.classes == first.classes and second.sampling == first.sampling and second.info == {"a": 1}
    assert torch.equal(sampled(first), sampled(second))
    torch.nn.init.zeros_(second.ar.output.weight)
    assert not torch.equal(sampled(first), sampled(second))


def test_a_shallow_copy_shares_weights_but_not_parts():
    first = small_model()
    second = copy.copy(first)
    assert second.tokenizer is first.tokenizer and second.ar is first.ar
    second.ar = None
    assert first.ar is not None and not second.state_dict().keys() & {"ar.norm.weight"}


def test_the_text_of_a_model_is_short_and_tells_its_sizes(model):
    text = repr(model)
    assert len(text.splitlines()) == 3 and str(model) == text
    for part in ("no preset", "32 px", "7 tokens (3 prefix, 4 image)", "16 codes", "class names: 3", "torch.float32"):
        assert part in text
    assert model.device.type in text and f"{sum(p.numel() for p in model.ar.parameters()):,} (AR model)" in text
    model.ar = model.tokenizer.decoder2 = None
    assert "AR model" not in repr(model) and "bidirectional" not in repr(model)
    with torch.device("meta"):
        named = [repr(AliTok.from_preset(PRESETS[name], ["x"])) for name in ("scenes", "alitok-l")]
    assert "preset scenes, 64 px, class names: 1" in named[0] and ", meta, torch.float32" in named[0]
    assert "preset alitok-l, 256 px" in named[1]


# ---------------------------------------------------------------- damage


PARTS = ["encoder", "decoder1", "decoder2", "ar"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["bit", "truncated", "empty", "missing"])
def test_damaged_weights_are_named(folder, part, damage):
    path = folder / f"{part}.safetensors"
    data = bytearray(path.read_bytes())
    if damage == "bit":
        data[len(data) // 2] ^= 1
    elif damage != "missing":
        data = data[: len(data) // 2] if damage == "truncated" else b""
    path.unlink() if damage == "missing" else path.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=f"{part}.safetensors is {'missing' if damage == 'missing' else 'damaged'}"
    ):
        AliTok.from_pretrained(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(format=99),
        lambda c: c.pop("files"),
        lambda c: c["tokenizer"].update(width=3),
        lambda c: c["tokenizer"].update(image_size=33),
        lambda c: c["tokenizer"].update(image_size="32"),
        lambda c: c["ar"].update(dropout=2),
        lambda c: c.update(sampling=None),
        lambda c: c["files"]["ar"].update(name="../ar.safetensors"),
        lambda c: c["files"].pop("encoder"),
    ],
)
def test_wrong_config_is_named(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="cannot read .*config.json"):
        AliTok.from_pretrained(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_config_that_is_no_config(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot read"):
        AliTok.from_pretrained(folder)


def test_weights_of_other_sizes(folder):
    config = json.loads((folder / "config.json").read_text())
    config["ar"]["width"] = 32
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="ar.safetensors does not fit"):
        AliTok.from_pretrained(folder)


def test_unknown_name(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint 'nonsense'"):
        AliTok.from_pretrained("nonsense")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        AliTok.from_pretrained(tmp_path)


def test_pil_pictures_are_rounded():
    pixels = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 1.2]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert np.asarray(AliTok.to_pil(pixels)[0])[0, :, 0].tolist() == [0, 0, 1, 255, 255, 255]
