"""Official files to a checkpoint folder: the same numbers, little memory, one sentence for whatever else is given."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import small_model
from safetensors.torch import load_file
from test_files import device
from test_parity import close, group

from alitok_lite import PRESETS, AliTok, ARConfig, TokenizerConfig
from alitok_lite.__main__ import main
from alitok_lite.core.config import Preset
from alitok_lite.store import official
from alitok_lite.store.folder import CheckpointError, save_part

if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < (2, 10):
    pytest.skip("conversion needs torch 2.10 or newer", allow_module_level=True)

SMALL = TokenizerConfig(
    codebook_size=128,
    code_dim=8,
    encoder_width=48,
    encoder_depth=2,
    encoder_heads=3,
    decoder_width=64,
    decoder_depth=2,
    decoder_heads=4,
)


@pytest.fixture
def files(fixture, tmp_path, monkeypatch):
    """AliTok.pth and alitok_b.bin with the weights of the parity fixture, whose sizes the presets have for a while."""
    hidden = fixture["ar.weights.blocks.0.mlp.w1.weight"].shape[0]
    ar = ARConfig(128, classes=10, width=64, depth=2, heads=4, hidden=hidden)
    large = ARConfig(128, classes=10, width=64, depth=3, heads=4, hidden=hidden)
    presets = {"alitok-b": Preset(SMALL, ar, 16.0, 1.8), "alitok-l": Preset(SMALL, large, 6.0, 0.7)}
    monkeypatch.setattr("alitok_lite.store.convert.PRESETS", presets | {"alitok-xl": PRESETS["alitok-xl"]})
    monkeypatch.setattr("alitok_lite.store.imagenet.names", lambda: [f"class {i}" for i in range(10)])
    monkeypatch.chdir(tmp_path)
    torch.save(group(fixture, "tokenizer.weights."), "AliTok.pth")
    weights = group(fixture, "ar.weights.")
    torch.save(weights, "alitok_b.bin")
    third = {key.replace("blocks.1.", "blocks.2."): value for key, value in weights.items() if "blocks.1." in key}
    torch.save(weights | third, "alitok_l.bin")
    return tmp_path


def convert(*arguments, tokenizer="AliTok.pth", out="official/b"):
    return main(["convert", "--tokenizer", str(tokenizer), *map(str, arguments), "--out", str(out)])


def test_converted_weights_give_the_official_numbers(files, fixture, capsys):
    assert convert("--ar", "alitok_b.bin") == 0
    assert capsys.readouterr().out.startswith(f"AliTok-B with its tokenizer in {files}/official/b, 0.00 GB\n")
    model = AliTok.from_pretrained("official/b", "cpu")
    assert model.classes == [f"class {i}" for i in range(10)]
    assert (model.sampling.guidance, model.sampling.power) == (16.0, 1.8)
    assert model.tokenizer.stages == (2,)
    ids = fixture["tokenizer.out.ids"].long()
    assert torch.equal(model.tokenizer.encode(fixture["tokenizer.in.pixels"].float() / 255), ids)
    close(model.tokenizer.decode(ids)[:, :, ::4, ::4], fixture["tokenizer.out.pixels_every_4th"], 1e-6)
    with torch.no_grad():
        logits = model.ar(fixture["ar.in.ids"].long(), fixture["ar.in.labels"].long())
    close(logits, fixture["ar.out.logits"][:, :-1], 1e-5)


def test_weights_are_those_of_the_files_bit_for_bit(files, fixture):
    assert convert("--ar", "alitok_b.bin") == 0
    expected = official.load_tokenizer(group(fixture, "tokenizer.weights."), None, 3, 4)
    held = AliTok.from_pretrained("official/b", "cpu").tokenizer.state_dict()
    for key, value in expected.state_dict().items():
        assert torch.equal(held[key], value), key
    assert (
        load_file("official/b/ar.safetensors").keys()
        == official.load_ar(group(fixture, "ar.weights."), heads=4).state_dict().keys()
    )  # the library reads what we wrote


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_halves_the_files_but_not_the_codebook(files, fixture, dtype):
    assert convert("--ar", "alitok_b.bin", "--dtype", dtype) == 0
    tensors = load_file("official/b/encoder.safetensors") | load_file("official/b/ar.safetensors")
    codebook = tensors.pop("quantizer.codebook")
    assert torch.equal(codebook, fixture["tokenizer.weights.quantize.embedding.weight"])
    assert {value.dtype for value in tensors.values()} == {getattr(torch, dtype)}
    model = AliTok.from_pretrained("official/b", "cpu", getattr(torch, dtype))
    assert torch.equal(model.tokenizer.quantizer.codebook, codebook)
    assert model.ar.norm.weight.dtype == getattr(torch, dtype)


def test_one_tokenizer_for_several_models(files):
    assert convert(out="official/tokenizer") == 0
    assert {path.name for path in Path("official/tokenizer").iterdir()} == {
        "config.json",
        "encoder.safetensors",
        "decoder2.safetensors",
    }
    assert AliTok.from_pretrained("official/tokenizer", "cpu").ar is None
    assert convert("--ar", "alitok_b.bin", tokenizer="official/tokenizer") == 0
    assert convert("--ar", "alitok_l.bin", tokenizer="official/b", out="official/l") == 0  # b itself shares it
    shutil.move("official", "moved")
    for name, depth, guidance in (("b", 2, 16.0), ("l", 3, 6.0)):
        assert {path.name for path in Path("moved", name).iterdir()} == {"config.json", "ar.safetensors"}
        model = AliTok.from_pretrained(f"moved/{name}", "cpu")
        assert (model.ar.config.depth, model.sampling.guidance) == (depth, guidance)
        assert model.info["tokenizer"]["file"] == "AliTok.pth"
    os.chdir("moved/b")
    assert AliTok.from_pretrained(".", "cpu").tokenizer.stages == (2,)
    os.chdir("../..")
    model.save_pretrained("whole")
    shutil.rmtree("moved")
    assert AliTok.from_pretrained("whole", "cpu").ar is not None


def test_a_shared_tokenizer_must_be_there_and_whole(files, capsys):
    assert convert(out="official/tokenizer") == 0
    assert convert("--ar", "alitok_b.bin", tokenizer="official/tokenizer") == 0
    assert convert("--ar", "alitok_b.bin", tokenizer="official/tokenizer", out="elsewhere/b") == 2
    assert "must lie beside --out" in capsys.readouterr().err
    small_model().save_pretrained("official/other")
    assert convert("--ar", "alitok_b.bin", tokenizer="official/other", out="official/c") == 2
    assert "holds another tokenizer" in capsys.readouterr().err
    damage = Path("official/tokenizer/encoder.safetensors")
    damage.write_bytes(damage.read_bytes()[:-1] + b"?")
    assert convert("--ar", "alitok_b.bin", tokenizer="official/tokenizer", out="official/c") == 2
    assert "encoder.safetensors is missing or damaged" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="encoder.safetensors is damaged"):
        AliTok.from_pretrained("official/b", "cpu")
    shutil.rmtree("official/tokenizer")
    with pytest.raises(CheckpointError, match="tokenizer/encoder.safetensors is missing"):
        AliTok.from_pretrained("official/b", "cpu")


@pytest.mark.parametrize("sibling", ["..", ".", "../tokenizer", "/tmp", 5])
def test_a_shared_tokenizer_lies_nowhere_else(folder, sibling):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tokenizer_folder": sibling}))
    with pytest.raises(CheckpointError, match="cannot read"):
        AliTok.from_pretrained(folder, "cpu")


@pytest.mark.parametrize("legacy", [False, True])
def test_training_checkpoints_and_the_old_file_format_are_read(files, capsys, legacy):
    state = torch.load("AliTok.pth") | {"quantize.embed_prob": torch.zeros(128)}
    wrapped = {"model_state": state, "step": 7, "optimizer": {"lr": 0.1}}
    torch.save(wrapped, "AliTok.pth", _use_new_zipfile_serialization=not legacy)
    assert convert("--ar", "alitok_b.bin") == 0
    assert "AliTok.pth is a training checkpoint, of which the model_state was taken" in capsys.readouterr().out
    assert AliTok.from_pretrained("official/b", "cpu").info["tokenizer"]["training"] is True


def rekeyed(state, before, inside=""):
    """With text before every key, or before the second part of each."""
    return {before + key.replace(".", f".{inside}", 1) if inside else before + key: v for key, v in state.items()}


WRAPPED = {
    "module.": (lambda s: rekeyed(s, "module."), "has 'module.' before its keys, which was taken away"),
    "compiled": (lambda s: rekeyed(s, "_orig_mod."), "has '_orig_mod.' before its keys, which was taken away"),
    "both": (lambda s: rekeyed(s, "module._orig_mod."), "has 'module._orig_mod.' before its keys"),
    "compiled inside": (lambda s: rekeyed(s, "", "_orig_mod."), "has '_orig_mod.' before its keys"),
    "Lightning": (
        lambda s: {"state_dict": rekeyed(s, "model.") | {"loss.weight": torch.ones(1)}, "epoch": 3},
        "is a training checkpoint, of which the state_dict was taken, and has 'model.' before its keys, which was"
        " taken away, and has 1 other entries, which were left out",
    ),
    "ema": (lambda s: {"ema": s}, "is a training checkpoint, of which the ema was taken"),
    "nested": (lambda s: {"a": {"model": s}, "b": {"lr": 1}}, "of which the a.model was taken"),
    "average": (lambda s: rekeyed(s, "module.") | {"n_averaged": torch.tensor(3)}, "has 1 other entries"),
    "model_state": (lambda s: {"model_state": s, "ema": s}, "of which the model_state was taken"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_weights_of_a_training_of_ones_own(files, fixture, capsys, name):
    """What is unambiguous is accepted, and said."""
    wrap, words = WRAPPED[name]
    for file in ("AliTok.pth", "alitok_b.bin"):
        torch.save(wrap(torch.load(file)), file)
    assert convert("--ar", "alitok_b.bin") == 0
    output = capsys.readouterr().out
    assert all(re.search(f"; {file} [^;]*{re.escape(words)}", output) for file in ("AliTok.pth", "alitok_b.bin"))
    assert output.count("\n") == 1
    model = AliTok.from_pretrained("official/b", "cpu")
    ids = fixture["tokenizer.out.ids"].long()
    assert torch.equal(model.tokenizer.encode(fixture["tokenizer.in.pixels"].float() / 255), ids)
    assert torch.equal(model.ar.norm.weight, fixture["ar.weights.norm.weight"])


SEVERAL = {
    "model and ema": (
        lambda s: {"model": s, "ema": s},
        "several models ('model', 'ema'): keep one, as torch.save(torch.load('alitok_b.bin')['model'], 'one.bin') does",
    ),
    "two prefixes": (
        lambda s: rekeyed(s, "online.") | rekeyed(s, "online.ema."),
        "('online.', 'online.ema.'): keep one, as torch.save({k: v for k, v in torch.load('alitok_b.bin').items() if"
        " k.startswith('online.ema.')}, 'one.bin') does",
    ),
    "plain and compiled": (lambda s: s | rekeyed(s, "_orig_mod."), "several models"),
    "wrapped and not": (lambda s: s | {"ema": s}, "several models"),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_models_in_one_file(files, capsys, name):
    """The sentence says how to take one of them out, and doing so helps."""
    wrap, words = SEVERAL[name]
    torch.save(wrap(torch.load("alitok_b.bin")), "alitok_b.bin")
    assert convert("--ar", "alitok_b.bin") == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not Path("official").exists()
    code = re.search(r"as (torch\.save\(.*\)) does", error)[1]
    exec(code, {"torch": torch})
    assert convert("--ar", "one.bin") == 0


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def change(path, **changes):
    state = torch.load(path)
    torch.save({key: value for key, value in (state | changes).items() if value is not None}, path)


def overwrite(path, data):
    Path(path).write_bytes(data)


def cut(path, share):
    data = Path(path).read_bytes()
    overwrite(path, data[: int(len(data) * share)])


def swap():
    os.rename("AliTok.pth", "x")
    os.rename("alitok_b.bin", "AliTok.pth")
    os.rename("x", "alitok_b.bin")


def old_format(path, share):
    torch.save(torch.load(path), path, _use_new_zipfile_serialization=False)
    cut(path, share)


PAGE = b"\n<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"
MISTAKES = {
    "page": (lambda: overwrite("AliTok.pth", PAGE), "AliTok.pth is a web page, not weights: Google Drive"),
    "page of ar": (lambda: overwrite("alitok_b.bin", PAGE[1:].lower()), "alitok_b.bin is a web page"),
    "pointer": (
        lambda: overwrite("AliTok.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n"),
        "AliTok.pth is a git-lfs pointer, not the weights: fetch them with `git lfs pull`",
    ),
    "wrapped code": (lambda: torch.save({"state_dict": {"a": Evil()}}, "AliTok.pth"), "if you trained it yourself"),
    "swapped in a wrapper": (
        lambda: torch.save({"ema": rekeyed(torch.load("alitok_b.bin"), "module.")}, "AliTok.pth"),
        "AliTok.pth holds an AR model: give it as --ar",
    ),
    "number in a prefix": (
        lambda: torch.save({"m.output.weight": torch.ones(1), "m.step": 7}, "AliTok.pth"),
        "AliTok.pth is not a state dict",
    ),
    "cut": (lambda: cut("AliTok.pth", 0.9), "AliTok.pth is cut short: download it again"),
    "cut at once": (lambda: cut("alitok_b.bin", 0.01), "alitok_b.bin is cut short"),
    "cut, old format": (lambda: old_format("AliTok.pth", 0.9), "AliTok.pth is damaged or no file of weights"),
    "empty": (lambda: overwrite("AliTok.pth", b""), "AliTok.pth is damaged or no file of weights"),
    "noise": (lambda: overwrite("AliTok.pth", os.urandom(999)), "AliTok.pth is damaged or no file of weights"),
    "swapped": (swap, "AliTok.pth holds an AR model: give it as --ar (were the two files swapped?)"),
    "tokenizer twice": (lambda: shutil.copy("AliTok.pth", "alitok_b.bin"), "alitok_b.bin holds the tokenizer: give it"),
    "code": (lambda: torch.save({"a": Evil()}, "AliTok.pth"), "(posix.mkdir) and could run code of others"),
    "list": (lambda: torch.save([1, 2], "AliTok.pth"), "AliTok.pth is not a state dict"),
    "no tensors": (lambda: torch.save({"model_state": {"a": 1}}, "AliTok.pth"), "AliTok.pth is not a state dict"),
    "other weights": (
        lambda: torch.save({"fc.bias": torch.zeros(1)}, "AliTok.pth"),
        "other weights than AliTok's ('fc.",
    ),
    "too many": (lambda: change("alitok_b.bin", extra=torch.zeros(1)), "a tensor too many: extra; download it again"),
    "missing": (
        lambda: change("AliTok.pth", **{"encoder.ln_pre.bias": None}),
        "lacks a tensor for encoder.norm_in.bias",
    ),
    "shape": (lambda: change("alitok_b.bin", **{"norm.weight": torch.zeros(63)}), "norm.weight has shape (63,)"),
    "flat": (lambda: change("alitok_b.bin", **{"embeddings.weight": torch.zeros(9)}), "lacks embeddings.weight"),
    "type": (lambda: change("alitok_b.bin", **{"norm.weight": torch.ones(64).int()}), "numbers of type torch.int32"),
    "inf": (lambda: change("alitok_b.bin", **{"norm.weight": torch.full((64,), torch.inf)}), "numbers in norm.weight"),
    "size": (lambda: change("alitok_b.bin", **{"blocks.2.norm1.weight": torch.zeros(64)}), "a tensor for blocks.2."),
    "no size": (lambda: change("alitok_b.bin", **{"blocks.9.x": torch.zeros(1), "blocks.8.x": torch.zeros(1)}), "none"),
    "other tokenizer": (
        lambda: change("AliTok.pth", **{"decoder.class_embedding": torch.zeros(1, 64)}),
        "its buffer_tokens is 1, AliTok's is 32",
    ),
    "misnamed": (
        lambda: shutil.copy("alitok_l.bin", "alitok_b.bin"),
        "alitok_b.bin holds AliTok-L: rename it to alitok_l",
    ),
    "no tokenizer": (lambda: os.remove("AliTok.pth"), "there is no file AliTok.pth"),
    "no ar": (lambda: os.remove("alitok_b.bin"), "there is no file alitok_b.bin"),
    "there": (
        lambda: (os.makedirs("official/b"), overwrite("official/b/notes", b"")),
        "exists already: choose another",
    ),
    "file": (lambda: (os.makedirs("official"), overwrite("official/b", b"")), "official/b is a file"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(files, capsys, name):
    make, words = MISTAKES[name]
    make()
    before = sorted(files.rglob("*"))
    assert convert("--ar", "alitok_b.bin") == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.startswith("alitok_lite: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(files.rglob("*")) == before  # nothing half-written, no code run


def test_sizes_that_fit_none_are_compared_with_all(files, capsys):
    change("alitok_b.bin", **{"blocks.7.norm1.weight": torch.zeros(64)})
    change("alitok_b.bin", **{"blocks.8.norm1.weight": torch.zeros(64)})
    assert convert("--ar", "alitok_b.bin") == 2
    sizes = "AliTok-B 2 layers of width 64, AliTok-L 3 layers of width 64, AliTok-XL 32 layers of width 1280"
    assert f"4 layers of width 64 is the size of none ({sizes})" in capsys.readouterr().err


def test_numbers_too_large_for_float16(files, capsys):
    change("alitok_b.bin", **{"norm.weight": torch.full((64,), 1e6)})
    assert convert("--ar", "alitok_b.bin", "--dtype", "float16") == 2
    assert (
        "numbers in norm.weight that are not finite in torch.float16: give --dtype float32" in capsys.readouterr().err
    )
    assert not Path("official").exists()
    assert convert("--ar", "alitok_b.bin", "--dtype", "bfloat16") == 0


@pytest.mark.parametrize("version", ["2.8.0", "2.9.1+cu128"])
def test_old_torch_does_not_convert(files, capsys, monkeypatch, version):
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", None)
    assert convert("--ar", "alitok_b.bin") == 2
    assert f"conversion needs torch 2.10 or newer and this is {version}" in capsys.readouterr().err


def test_force_replaces_a_checkpoint_and_nothing_else(files, capsys):
    assert convert("--ar", "alitok_l.bin") == 0
    assert convert("--ar", "alitok_b.bin") == 2
    assert "replace it with --force" in capsys.readouterr().err
    assert AliTok.from_pretrained("official/b", "cpu").ar.config.depth == 3
    assert convert("--ar", "alitok_b.bin", "--force") == 0
    assert AliTok.from_pretrained("official/b", "cpu").ar.config.depth == 2
    assert [path.name for path in Path("official").iterdir()] == ["b"]
    overwrite("official/b/notes.txt", b"mine")
    assert convert("--ar", "alitok_b.bin", "--force") == 2
    assert "holds more than a checkpoint (notes.txt)" in capsys.readouterr().err
    assert Path("official/b/notes.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_force_replaces_files_only(files, capsys, kind):
    assert convert("--ar", "alitok_b.bin") == 0
    mine = Path("official/b/mine.safetensors")
    {"folder": mine.mkdir, "link": lambda: mine.symlink_to("ar.safetensors"), "pipe": lambda: os.mkfifo(mine)}[kind]()
    before = mine.lstat()
    capsys.readouterr()
    assert convert("--ar", "alitok_b.bin", "--force") == 2
    assert "holds more than a checkpoint (mine.safetensors)" in capsys.readouterr().err
    assert mine.lstat() == before


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_out_is_a_folder(files, capsys, kind):
    os.mkdir("official")
    device("official/b") if kind == "device" else os.mkfifo("official/b")
    for force in ([], ["--force"]):
        assert convert("--ar", "alitok_b.bin", *force) == 2
        assert "official/b'; it must be a folder" in capsys.readouterr().err
    assert os.listdir("official") == ["b"]


@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_leaves_all_as_it_was(files, capsys, monkeypatch, force):
    if force:
        assert convert("--ar", "alitok_l.bin") == 0
    before = sorted(files.rglob("*"))

    def full(folder, part, module, dtype, exact):
        if part == "ar":
            raise OSError(28, "No space left on device")
        return save_part(folder, part, module, dtype, exact)

    monkeypatch.setattr("alitok_lite.store.convert.save_part", full)
    assert convert("--ar", "alitok_b.bin", *["--force"] * force) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert sorted(files.rglob("*")) == before
    if force:
        assert AliTok.from_pretrained("official/b", "cpu").ar.config.depth == 3


def test_what_a_killed_conversion_left_is_removed_by_the_next(files):
    os.makedirs("official/.b.tmp")
    overwrite("official/.b.tmp/encoder.safetensors", b"half")
    assert convert("--ar", "alitok_b.bin") == 0
    assert [path.name for path in Path("official").iterdir()] == ["b"]


WEIGHTS = """
import sys, torch
from test_parity import KEYS, unfold
for name in ("AliTok.pth", "alitok_b.bin"):
    torch.manual_seed(1)
    torch.save({key: torch.empty(shape).uniform_(-0.05, 0.05) for key, shape in unfold(KEYS[name]).items()}, name)
"""
CONVERT = """
from alitok_lite.__main__ import main
assert main(["convert", "--tokenizer", "AliTok.pth", "--ar", "alitok_b.bin", "--out", "b"]) == 0
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
COMPARE = """
import torch
from alitok_lite import AliTok
from alitok_lite import PRESETS
from alitok_lite.store import official
model = AliTok.from_pretrained("b", "cpu")
assert (model.tokenizer.config, model.ar.config) == (PRESETS["alitok-b"].tokenizer, PRESETS["alitok-b"].ar)
assert len(model.classes) == 1000
assert model.labels(["goldfish", "n01440764", "Golden Retriever"]).tolist() == [1, 0, 207]
for name, module in (("AliTok.pth", model.tokenizer), ("alitok_b.bin", model.ar)):
    state = torch.load(name, weights_only=True, mmap=True)
    expected = official.load_tokenizer(state) if module is model.tokenizer else official.load_ar(state)
    held = module.state_dict()
    assert all(torch.equal(held[key], value) for key, value in expected.state_dict().items())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_full_size_round_trip(tmp_path):
    """Random weights of the official sizes, 2.3 GB: all of them come back, and memory stays below 1.5 files."""
    if shutil.disk_usage(tmp_path).free < 6e9:
        pytest.skip("needs 6 GB of disk")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    try:
        for code in (WEIGHTS, CONVERT, COMPARE):
            command = [sys.executable, "-c", code]
            result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
            assert result.returncode == 0, result.stderr[-3000:]
            if code is CONVERT:
                assert "AliTok-B with its tokenizer in" in result.stdout
                peak, largest = int(result.stdout.split()[-1]) * 1024, (tmp_path / "AliTok.pth").stat().st_size
                assert peak < 1.5 * largest
    finally:
        shutil.rmtree(tmp_path)
