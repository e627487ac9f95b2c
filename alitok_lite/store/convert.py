"""Files of the official weights to a checkpoint folder: read safely, checked against the official sizes, streamed.

AliTok-B, L and XL share one tokenizer. It may be converted once, into a folder of its own, and the AR models into
folders beside it, whose config.json names that folder ("tokenizer_folder") instead of holding the same files again.
"""

import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..core.ar import ARModel
from ..core.config import PRESETS
from ..core.sampling import Sampling
from ..core.tokenizer import Tokenizer
from ..files import check_folder, file_sha256, is_lfs_pointer
from . import imagenet, official
from .folder import part_path, parts_of, read_config, save_part, write_config

TITLES = {"alitok-b": "AliTok-B", "alitok-l": "AliTok-L", "alitok-xl": "AliTok-XL"}  # presets
FILES = {"alitok-b": "alitok_b.bin", "alitok-l": "alitok_l.bin", "alitok-xl": "alitok_xl.bin"}
EXACT = ("quantizer.codebook",)  # rounded to fewer bits, other codes would be the nearest
AGAIN = "download it again, from the folder that the official README links"


class Weights(NamedTuple):
    """An official state dict, and what a training put around it."""

    state: dict[str, Tensor]
    wrapper: str = ""  # the key of the file's own dictionary that it was under
    prefix: str = ""  # what stood before its keys
    others: int = 0  # entries beside it that do not belong to it

    def note(self, name: str) -> str:
        """What was taken of the file of that name, and what was left; empty if that is all of it."""
        parts = []
        if self.wrapper:
            parts.append(f"is a training checkpoint, of which the {self.wrapper} was taken")
        if self.prefix:
            parts.append(f"has {self.prefix!r} before its keys, which was taken away")
        if self.others:
            parts.append(f"has {self.others} other entries, which were left out")
        return f"{name} " + ", and ".join(parts) if parts else ""


class Opened(NamedTuple):
    """An official file whose tensors are mapped: model, preset with its sizes, and where in the file they were."""

    path: Path
    module: Tokenizer | ARModel
    preset: str
    weights: Weights


def convert(
    tokenizer: str | Path,
    ar: str | Path | None,
    out: str | Path,
    dtype: torch.dtype = torch.float32,
    force: bool = False,
) -> str:
    """Write the checkpoint folder `out` of official files; returns one line about it.

    `tokenizer` is AliTok.pth, or the folder of a tokenizer converted before, beside `out`, which is then shared.
    `ar` is alitok_b.bin, alitok_l.bin or alitok_xl.bin; None converts the tokenizer alone. The codebook keeps float32
    whatever the dtype. `force` replaces a checkpoint that is there.

    Everything is checked before anything is written, `out` appears whole or not at all, and memory holds about one of
    the files at most. Raises ValueError (or OSError), in one sentence that says what to do.
    """
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < (2, 10):
        raise ValueError(
            f"conversion needs torch 2.10 or newer and this is {torch.__version__}, which cannot read files from others"
            " safely (CVE-2026-24747): pip install -U torch"
        )
    if not str(out).strip():
        raise ValueError(f"--out is {str(out)!r}; it must be the name of a folder")
    tokenizer, out = Path(tokenizer), Path(out).resolve()
    _check_out(out, force)
    shared = _shared(tokenizer.resolve(), out) if tokenizer.is_dir() else None
    if shared is None:
        _tokenizer(tokenizer)  # checked, not kept, so that memory never holds both files
    name = "alitok-b" if ar is None else _ar(Path(ar)).preset
    preset = PRESETS[name]
    config: dict[str, Any] = {"tokenizer": preset.tokenizer, "ar": None, "sampling": Sampling(), "files": {}}
    config |= {"info": {}, "classes": imagenet.names()} | (shared or {})
    notes = []
    with _appearing(out) as folder:
        if shared is None:
            notes.append(_save(folder, config, _tokenizer(tokenizer), dtype))
        if ar is not None:
            config |= {"ar": preset.ar, "sampling": Sampling(preset.guidance, preset.power)}
            notes.append(_save(folder, config, _ar(Path(ar)), dtype))
        write_config(folder, config)
        size = sum(path.stat().st_size for path in folder.iterdir())
    what = "the tokenizer" if ar is None else TITLES[name] + ("" if shared else " with its tokenizer")
    if shared is not None:
        notes.append(f"its tokenizer stays in {tokenizer}")
    return "; ".join([f"{what} in {out}, {size / 1e9:.2f} GB", *filter(None, notes)])


def _save(folder: Path, config: dict, file: Opened, dtype: torch.dtype) -> str:
    """Write the weights of a file and take them down in the config; returns a note about the file, or none.

    Raises ValueError for numbers that are not finite.
    """
    module = file.module
    parts: dict[str, nn.Module] = {"ar": module} if isinstance(module, ARModel) else parts_of(module)
    name = "ar" if "ar" in parts else "tokenizer"
    for part, weights in parts.items():
        for key, value in weights.state_dict().items():
            if not value.to(dtype).isfinite().all():
                advice = AGAIN if dtype == torch.float32 else f"give --dtype float32, or {AGAIN}"
                raise ValueError(f"{file.path.name} has numbers in {key} that are not finite in {dtype}: {advice}")
        config["files"][part] = save_part(folder, part, weights, dtype, EXACT)
    config["info"][name] = {
        "file": file.path.name,
        "sha256": file_sha256(file.path),
        "dtype": str(dtype).removeprefix("torch."),
        "source": "official weights, of no stated licence",
        "training": bool(file.weights.wrapper),
    }
    return file.weights.note(file.path.name)


def _check_out(out: Path, force: bool) -> None:
    """Raise a ValueError unless the folder may be made or, with `force`, replaced."""
    if out.is_file():
        raise ValueError(f"{out} is a file; --out must be a folder")
    check_folder("--out", str(out))
    there = sorted(out.iterdir()) if out.exists() else []
    if there and not force:
        raise ValueError(f"{out} exists already: choose another --out, or replace it with --force")
    for path in there:  # --force must not take anything else along
        ours = path.name == "config.json" or path.suffix == ".safetensors"
        if not ours or path.is_symlink() or not path.is_file():
            raise ValueError(
                f"{out} holds more than a checkpoint ({path.name}): choose another --out, or move that away"
            )


def _shared(folder: Path, out: Path) -> dict:
    """What config.json says about the tokenizer of another folder; ValueError unless it can be shared from `out`."""
    if folder.parent != out.parent or folder == out:
        raise ValueError(f"the folder {folder} must lie beside --out {out}, because it is found there by its name")
    config = read_config(folder)
    about = (config.get("info") or {}).get("tokenizer")
    if config["tokenizer"] != PRESETS["alitok-b"].tokenizer or about is None:
        raise ValueError(f"{folder} holds another tokenizer than the official one: convert AliTok.pth")
    files = {part: entry for part, entry in config["files"].items() if part != "ar"}
    for part, entry in files.items():
        path = part_path(folder, config, part)
        if not path.is_file() or file_sha256(path) != entry["sha256"]:
            raise ValueError(f"{path} is missing or damaged: convert AliTok.pth again")
    return {
        "tokenizer_folder": config["tokenizer_folder"] or folder.name,
        "files": files,
        "info": {"tokenizer": about},
    }


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder to write in that takes the place of `out` at the end; after a failure all is as before."""
    made = [path for path in out.parents if not path.exists()]
    new, old = out.with_name(f".{out.name}.tmp"), out.with_name(f".{out.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(new, ignore_errors=True)  # of a conversion that was killed
        new.mkdir(parents=True)
        yield new
        if out.exists():
            os.replace(out, old)
        os.replace(new, out)
    except BaseException:
        if old.exists() and not out.exists():
            os.replace(old, out)
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):
            for path in made:
                path.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


# ---------------------------------------------------------------- reading


def _tokenizer(path: Path) -> Opened:
    """The tokenizer of AliTok.pth; ValueError if it is another one."""
    weights, sizes = _read(path, "tokenizer"), PRESETS["alitok-b"].tokenizer
    try:
        for field, found in official.tokenizer_sizes(weights.state).items():
            if found != getattr(sizes, field):
                raise ValueError(f"its {field} is {found}, AliTok's is {getattr(sizes, field)}")
        module = official.load_tokenizer(weights.state, None, sizes.encoder_heads, sizes.decoder_heads)
    except ValueError as error:
        raise ValueError(f"{path.name} is not the official tokenizer: {error}; {AGAIN}") from None
    return Opened(path, module, "alitok-b", weights)


def _ar(path: Path) -> Opened:
    """The AR model of a file; ValueError if it is of another size than B, L and XL, or than its name says."""
    weights = _read(path, "ar")
    try:
        found = official.ar_sizes(weights.state)
        presets = [name for name in TITLES if all(getattr(PRESETS[name].ar, k) == v for k, v in found.items())]
        if not presets:
            known = ", ".join(f"{TITLES[name]} {_described(vars(PRESETS[name].ar))}" for name in TITLES)
            raise ValueError(f"{_described(found)} is the size of none ({known})")
        ar = PRESETS[presets[0]].ar
        module = official.load_ar(weights.state, ar.heads, ar.prefix_tokens, ar.grid)
    except ValueError as error:
        raise ValueError(f"{path.name} is not an official AR model: {error}; {AGAIN}") from None
    if path.name in FILES.values() and path.name != FILES[presets[0]]:
        title, name = TITLES[presets[0]], FILES[presets[0]]
        raise ValueError(f"{path.name} holds {title}: rename it to {name}, or {AGAIN}")
    return Opened(path, module, presets[0], weights)


def _described(sizes: Mapping[str, int]) -> str:
    return f"{sizes['depth']} layers of width {sizes['width']}"


def _read(path: Path, wanted: str) -> Weights:
    """The official state dict of a file, of kind "tokenizer" or "ar"; ValueError for whatever else it may be.

    Nothing but tensors and plain containers is unpickled, whatever happens, and a file in the usual zip format is
    mapped, not read.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}: give the official file that you downloaded")
    with open(path, "rb") as file:
        start = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html")):
        raise ValueError(
            f"{path.name} is a web page, not weights: Google Drive sends one when too many people have downloaded a"
            " file; open it in a browser to read what it says, and try again later or from a copy in your own Drive"
        )
    if is_lfs_pointer(path):
        raise ValueError(f"{path.name} is a git-lfs pointer, not the weights: fetch them with `git lfs pull`")
    if start.startswith(b"pk\x03\x04") and not zipfile.is_zipfile(path):
        raise ValueError(f"{path.name} is cut short: {AGAIN}")
    state = _unpickled(path)
    other = {"ar": "tokenizer", "tokenizer": "ar"}[wanted]
    weights = _find_weights(state, wanted, path.name) or _find_weights(state, other, path.name)
    if weights is None and isinstance(state, Mapping) and all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path.name} holds other weights than AliTok's ({next(iter(state), None)!r}): {AGAIN}")
    if weights is None or not all(isinstance(value, Tensor) for value in weights.state.values()):
        raise ValueError(f"{path.name} is not a state dict, which names tensors and holds nothing else: {AGAIN}")
    if official.kind(weights.state) != wanted:
        holds, option = ("an AR model", "--ar") if wanted == "tokenizer" else ("the tokenizer", "--tokenizer")
        raise ValueError(f"{path.name} holds {holds}: give it as {option} (were the two files swapped?)")
    return weights


# How the names of tensors end that a state dict of each kind has, whatever a training puts before them.
_SIGNS = {"tokenizer": ("latent_tokens", "quantize.embedding.weight"), "ar": ("embeddings.weight", "output.weight")}
_COMPILED = "_orig_mod."  # torch.compile's, which may stand anywhere


def _find_weights(state: object, kind: str, name: str) -> Weights | None:
    """The state dict of a kind that a file holds, as it is, under a key of its own, or with a prefix; None without one.

    Raises ValueError, with what to do, for a file that holds several of them. An official training checkpoint may: its
    `model_state` is taken.
    """
    if not isinstance(state, Mapping):
        return None
    keys = {key: key.replace(_COMPILED, "") for key in state if isinstance(key, str)}
    ends = [(key, sign) for key in keys.values() for sign in _SIGNS[kind] if f".{key}".endswith(f".{sign}")]
    prefixes = {key.removesuffix(sign) for key, sign in ends}
    searched = (
        (key, _find_weights(value, kind, name)) for key, value in state.items() if not isinstance(value, Tensor)
    )
    inside = {key: found for key, found in searched if found}
    if "model_state" in inside:
        inside = {"model_state": inside["model_state"]}
    if len(prefixes) + len(inside) > 1 or len(set(keys.values())) < len(keys):
        longest = max(prefixes, key=len, default="")
        one = f"{{k: v for k, v in torch.load({name!r}).items() if k.startswith({longest or _COMPILED!r})}}"
        one = f"torch.load({name!r})[{next(iter(inside))!r}]" if inside else one
        several = ", ".join(map(repr, [*sorted(prefixes), *inside]))
        raise ValueError(f"{name} holds several models ({several}): keep one, as torch.save({one}, 'one.bin') does")
    for key, found in inside.items():
        return found._replace(wrapper=f"{key}.{found.wrapper}".strip("."))
    for prefix in prefixes:
        own = {short.removeprefix(prefix): state[key] for key, short in keys.items() if short.startswith(prefix)}
        compiled = _COMPILED if any(_COMPILED in key for key in keys) else ""
        return Weights(own, prefix=prefix + compiled, others=len(state) - len(own))
    return None


def _unpickled(path: Path) -> object:
    """torch.load, safely; ValueError for what it refuses or cannot read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        culprit = re.search(r"GLOBAL ([\w.]+)", str(error))
        if culprit:
            raise ValueError(
                f"{path.name} holds more than weights ({culprit[1]}) and could run code of others, so it is not"
                f" opened: {AGAIN}, or torch.save the state dict alone if you trained it yourself"
            ) from None
        raise ValueError(f"{path.name} is damaged or no file of weights: {AGAIN}") from None
    except Exception:  # torch.load raises many kinds for damaged files
        raise ValueError(f"{path.name} is damaged or no file of weights: {AGAIN}") from None
