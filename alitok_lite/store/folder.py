"""A checkpoint folder: config.json and one safetensors file for each part, read and written.

Every file is checked by its sha256, and a folder is complete at any moment.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..core.ar import ARModel
from ..core.config import ARConfig, TokenizerConfig
from ..core.sampling import Sampling
from ..core.tokenizer import Tokenizer
from ..files import file_sha256, is_lfs_pointer, write_atomically
from .rows import SCALES, fits_rows, from_rows, to_rows

FORMAT = 1
PARTS = ("encoder", "decoder1", "decoder2", "ar")
_STORED = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int8: "I8"}  # in a file's header


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; the message is one sentence for the user."""


class Unfilled(TorchFunctionMode):
    """Leaves out the random numbers of new modules, which a file will replace: on the meta device they would import
    torch's compiler, which takes seconds."""

    def __torch_function__(
        self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if function is nn.init.normal_:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def read_config(folder: Path) -> dict:
    """config.json with its configs as dataclasses; CheckpointError for anything unexpected in it."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        if config["format"] != FORMAT:
            raise ValueError(f"format {config['format']!r}; this version reads format {FORMAT}")
        config["tokenizer"] = TokenizerConfig(**config["tokenizer"])
        config["ar"] = ARConfig(**config["ar"]) if config["ar"] else None
        config["sampling"] = Sampling(**config["sampling"])
        files = {part: (entry["name"], entry["sha256"]) for part, entry in config["files"].items()}
        sibling = config.setdefault("tokenizer_folder", None)
        names = [name for name, _ in files.values()] + ([sibling] if sibling else [])
        if "encoder" not in files or any(name in (".", "..") or Path(name).name != name for name in names):
            raise ValueError("its list of files is wrong")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read {path}: {type(error).__name__}: {error}") from error
    return config


def write_config(folder: Path, config: dict) -> None:
    """Write config.json of what `read_config` returns: its configs may be dataclasses."""
    plain = {key: _plain(value) for key, value in config.items()}
    config = {"format": FORMAT} | plain
    write_atomically(folder / "config.json", (json.dumps(config, indent=1) + "\n").encode())


def _plain(value: object) -> object:
    """A dataclass as a dict, anything else as it is."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def part_path(folder: Path, config: dict, part: str) -> Path:
    """The weights file of a part. A tokenizer may lie in the sibling folder that config.json names, for several
    checkpoints to share."""
    sibling = config["tokenizer_folder"] if part != "ar" else None
    folder = folder.resolve().parent / sibling if sibling else folder
    return folder / config["files"][part]["name"]


def check_stored(dtype: torch.dtype) -> None:
    """Raise a ValueError for a dtype that weights are not stored in."""
    if dtype not in _STORED:
        raise ValueError(f"dtype is {dtype}; it must be one of {', '.join(map(str, _STORED))}")


def save_part(
    folder: Path, part: str, module: nn.Module, dtype: torch.dtype, exact: Collection[str] = ()
) -> dict[str, str]:
    """Write the weights of a part, those named in `exact` in float32; returns their entry in config.json.

    int8 stores matrices in 8 bits with a scale a row (rows.py) where they fit, and all else in half precision. The
    encoder with its codebook stays in half precision too: it decides the tokens, which stay those of half precision.

    One tensor at a time is converted, so that a mapped file needs no second copy in memory. A file that holds other
    weights is left alone, as is what is no regular file: the entry then names a new one.
    """
    if dtype == torch.int8 and part == "encoder":
        dtype = torch.float16
    digest = hashlib.sha256()
    for piece in _pieces(module, dtype, exact):
        digest.update(piece)
    path = folder / f"{part}.safetensors"
    if os.path.lexists(path) and not (path.is_file() and file_sha256(path) == digest.hexdigest()):
        path = folder / f"{part}-{digest.hexdigest()[:12]}.safetensors"
    if not path.exists():
        write_atomically(path, _pieces(module, dtype, exact))
    return {"name": path.name, "sha256": digest.hexdigest()}


def _pieces(module: nn.Module, dtype: torch.dtype, exact: Collection[str]) -> Iterator[bytes | memoryview]:
    """A safetensors file piece by piece: length of the header, header (JSON), then the tensors' bytes."""
    state = module.state_dict()
    dtypes = _dtypes(state, dtype, exact)
    keys = sorted(dtypes, key=lambda key: (key not in exact, -dtypes[key].itemsize))  # what is read must be aligned
    header, end = {}, 0
    for key in keys:
        shape = [*state[key].shape] if key in state else [len(state[key.removesuffix(SCALES)])]
        start, end = end, end + math.prod(shape) * dtypes[key].itemsize
        header[key] = {"dtype": _STORED[dtypes[key]], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for key in keys:
        tensor = _stored(state, key, dtypes[key]).contiguous()
        yield tensor.view(-1).view(torch.uint8).numpy().data


def _dtypes(state: Mapping[str, Tensor], dtype: torch.dtype, exact: Collection[str]) -> dict[str, torch.dtype]:
    """What each tensor of a file is stored in, scales among them."""
    found = {}
    for key, value in state.items():
        found[key] = torch.float32 if key in exact else dtype
        if found[key] == torch.int8 and fits_rows(value):
            found[key + SCALES] = torch.bfloat16
        elif found[key] == torch.int8:
            found[key] = torch.float16
    return found


def _stored(state: Mapping[str, Tensor], key: str, dtype: torch.dtype) -> Tensor:
    """A tensor as it is stored under its name in a file, on the CPU."""
    if key not in state:
        return to_rows(state[key.removesuffix(SCALES)])[1]
    return to_rows(state[key])[0] if dtype == torch.int8 else state[key].detach().to("cpu", dtype)


def load_part(module: nn.Module, path: Path, digest: str, dtype: torch.dtype) -> None:
    """Fill a module built on the meta device from a safetensors file whose sha256 must match."""
    try:
        found = file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path} is missing or unreadable: {error.strerror}") from error
    if found != digest and is_lfs_pointer(path):
        raise CheckpointError(f"{path} is a git-lfs pointer, not the weights: fetch them with `git lfs pull`")
    if found != digest:
        raise CheckpointError(f"{path} is damaged: its sha256 is not the one in config.json; fetch or save it again")
    try:
        with safe_open(path, "pt") as file:
            keys = [*file.keys()]
            scales = {key + SCALES for key in keys if file.get_slice(key).get_dtype() == "I8"}
        tensors = {}
        for key in (key for key in keys if key not in scales):
            wanted = torch.float32 if key.startswith("quantizer.") else dtype
            with safe_open(path, "pt") as file:  # mapped anew for each, so that memory does not hold all of it twice
                if key + SCALES in scales:
                    tensors[key] = from_rows(file.get_tensor(key), file.get_tensor(key + SCALES)).to(wanted)
                else:
                    tensors[key] = file.get_tensor(key).to(wanted, copy=True)
        module.load_state_dict(tensors, assign=True)
    except Exception as error:  # safetensors has no error class of its own to catch
        first = str(error).replace("\n", " ")[:200]
        raise CheckpointError(f"{path} does not fit its config.json: {first}") from error


def parts_of(tokenizer: Tokenizer, ar: ARModel | None = None) -> dict[str, nn.Module]:
    """The modules behind each weights file; the quantizer shares the encoder's."""
    encoder = nn.ModuleDict({"encoder": tokenizer.encoder, "quantizer": tokenizer.quantizer})
    parts = {"encoder": encoder, "decoder1": tokenizer.decoder1, "decoder2": tokenizer.decoder2, "ar": ar}
    return {name: part for name, part in parts.items() if part is not None}
