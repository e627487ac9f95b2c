"""AliTok = tokenizer + AR model + class names, and the checkpoint folder that holds them."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .ar import ARModel
from .class_names import label_of
from .config import ARConfig, Preset, TokenizerConfig, plain
from .files import write_atomically
from .sampling import Sampling, Step, generate, seed_of_each
from .tokenizer import Tokenizer

CHECKPOINTS = Path(__file__).parent / "checkpoints"
FORMAT = 1
PARTS = ("encoder", "decoder1", "decoder2", "ar")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_STORED = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}  # names in a safetensors header


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; the message is one sentence for the user."""


def bundled() -> list[str]:
    """Names of the checkpoints that came with the package: those that can draw first, among them "scenes".

    The first is the default.
    """
    found = [path.parent for path in CHECKPOINTS.glob("*/config.json")]
    order = {folder.name: (not (folder / "ar.safetensors").exists(), folder.name != "scenes") for folder in found}
    return sorted(order, key=lambda name: (order[name], name))


def checkpoint_folder(name: str | Path) -> Path:
    """The folder of a checkpoint, given as a folder, a bundled name, or the Hub's owner/name as a string.

    What lies on the Hub is looked up in the local cache first. CheckpointError if there is no such checkpoint.
    """
    for folder in (Path(name), CHECKPOINTS / str(name)):
        if str(name) and (folder / "config.json").is_file():
            return folder
    from . import hub  # needed only here, and slow to import

    if isinstance(name, str) and hub.is_id(name):
        return hub.download(name)
    known = ", ".join(bundled()) or "none"
    allowed = f"a folder with a config.json, a bundled name ({known}) or the Hub's owner/name"
    raise CheckpointError(f"no checkpoint {str(name)!r}: give {allowed}")


def choose_device(device: str | torch.device) -> torch.device:
    """'auto' becomes CUDA, else Apple's MPS, else the CPU. ValueError for a device that this machine lacks."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    there = [name for name, available in here.items() if available]
    if device == "auto":
        return torch.device(there[0])
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    missing = chosen is not None and chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count()
    if chosen is None or chosen.type not in there or missing:
        raise ValueError(f"device is {str(device)!r}; this machine has auto, {', '.join(there)}")
    return chosen


class AliTok:
    """A tokenizer and, where there is one, the AR model that draws with its tokens.

    `classes` are the class names, `sampling` the checkpoint's own defaults, `info` how it was made and measured.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        ar: ARModel | None = None,
        classes: Sequence[str] = (),
        sampling: Sampling | None = None,
        info: dict | None = None,
    ) -> None:
        self.tokenizer, self.ar = tokenizer, ar
        self.classes, self.sampling, self.info = list(classes), sampling or Sampling(), info or {}

    @classmethod
    def from_preset(cls, preset: Preset, classes: Sequence[str] = (), stages: tuple[int, ...] = (1, 2)) -> "AliTok":
        """A model with fresh random weights."""
        sampling = Sampling(preset.guidance, preset.power)
        return cls(Tokenizer(preset.tokenizer, stages), ARModel(preset.ar), classes, sampling)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, device: str | torch.device = "auto", dtype: torch.dtype | None = None
    ) -> "AliTok":
        """Load a checkpoint: a bundled name, a folder, or a repository on the Hub as owner/name.

        The Hub is asked only for what is not in the local cache yet; owner/name/folder is a folder in a repository.
        `dtype` None is float32; the quantizer stays float32 whatever the dtype. Raises CheckpointError, in one
        sentence, for a name that is none of these, and for missing, damaged or foreign files.
        """
        folder = checkpoint_folder(name)
        config = read_config(folder)
        files = config["files"]
        with torch.device("meta"), _Unfilled():
            stages = tuple(stage for stage in (1, 2) if f"decoder{stage}" in files)
            tokenizer = Tokenizer(config["tokenizer"], stages)
            ar = ARModel(config["ar"]) if "ar" in files else None
        model = cls(tokenizer, ar, config["classes"], config["sampling"], config.get("info"))
        device, dtype = choose_device(device), dtype or torch.float32
        for part, module in model._parts().items():
            _load_part(module, part_path(folder, config, part), files[part]["sha256"], dtype)
        return model.to(device, dtype)

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> "AliTok":
        """Move the model, and change its dtype except the quantizer's; evaluation mode. Returns itself."""
        tokenizer = self.tokenizer
        for module in filter(None, (tokenizer.encoder, tokenizer.decoder1, tokenizer.decoder2, self.ar)):
            module.to(device, dtype)
        tokenizer.quantizer.to(device)  # a code rounded to fewer bits would be another code
        for module in filter(None, (tokenizer, self.ar)):
            module.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.tokenizer.quantizer.codebook.device

    def _parts(self) -> dict[str, nn.Module]:
        """The modules behind each weights file; the quantizer shares the encoder's."""
        tokenizer = self.tokenizer
        encoder = nn.ModuleDict({"encoder": tokenizer.encoder, "quantizer": tokenizer.quantizer})
        parts = {"encoder": encoder, "decoder1": tokenizer.decoder1, "decoder2": tokenizer.decoder2, "ar": self.ar}
        return {name: part for name, part in parts.items() if part is not None}

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write a checkpoint folder: config.json and one safetensors file a part, in half precision.

        Safe at any moment: changed weights go to new files, config.json (with their sha256) is replaced last, and
        only then files that it no longer names are removed. A tokenizer that came from a folder shared with other
        checkpoints is written here too.
        """
        if not str(folder):
            raise ValueError("folder is ''; it must name the folder of a checkpoint")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = {part: save_part(folder, part, module, dtype) for part, module in self._parts().items()}
        config = {
            "tokenizer": self.tokenizer.config,
            "ar": self.ar.config if self.ar else None,
            "classes": self.classes,
            "sampling": self.sampling,
            "info": self.info,
            "files": files,
        }
        write_config(folder, config)
        named = {entry["name"] for entry in files.values()}
        for part in PARTS:
            for old in [*folder.glob(f"{part}.safetensors"), *folder.glob(f"{part}-*.safetensors")]:
                if old.name not in named and old.is_file() and not old.is_symlink():
                    old.unlink()

    def push_to_hub(self, repository: str, dtype: torch.dtype = torch.float16, private: bool = True) -> str:
        """Upload a whole checkpoint to a repository owner/name on the Hub; returns its address.

        The repository is made where there is none, `private` or public. The official weights have no stated licence:
        what was converted from them should stay private. Needs `hf auth login` once; CheckpointError, in one
        sentence, when the Hub refuses or cannot be reached.
        """
        from . import hub  # slow to import

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, dtype)
            return hub.upload(Path(folder), repository, private)

    def labels(self, classes: Sequence[str | int] | Tensor | str | int) -> Tensor:
        """Class names or numbers to label ids (B,) on the model's device; a single one will do.

        Text is taken for a name first and then for a number, see `class_names.label_of`; ValueError names an unknown
        class.
        """
        classes = plain(classes)
        if isinstance(classes, str | int | float):
            classes = [classes]
        found = [label_of(entry, self.classes) for entry in classes]
        return torch.tensor(found, dtype=torch.long, device=self.device)

    def stream(
        self,
        classes: Sequence[str | int] | Tensor | str | int,
        seed: int | Sequence[int] | Tensor = 0,
        prompt_ids: Tensor | None = None,
        fast: bool = True,
        **settings: float | int | None,
    ) -> Iterator[Step]:
        """Draw token by token: an iterator of Steps (index, ids (B, index + 1), entropy (B,) in nats).

        Picture i uses seed + i, or give one seed for each. `settings` are fields of Sampling (guidance, power,
        temperature, top_k, top_p); one that is absent or None is the checkpoint's own. Numbers of numpy and torch are
        taken as Python's. Prompt ids (B, t) are kept and continued. `fast` draws from recorded steps where there is a
        CUDA GPU (fast.py). Raises ValueError at once for a bad argument or a checkpoint without an AR model.
        """
        if self.ar is None:
            raise ValueError("this checkpoint has no AR model, so it cannot draw")
        labels = self.labels(classes)
        seeds = seed_of_each(seed, len(labels))
        unknown = settings.keys() - asdict(self.sampling).keys()
        if unknown:
            raise TypeError(f"stream() got an unexpected argument {min(unknown)!r}")
        sampling = replace(self.sampling, **{key: value for key, value in settings.items() if value is not None})
        if prompt_ids is not None:
            prompt_ids = self._check_prompt(prompt_ids, len(labels))
        if fast and self.device.type == "cuda":
            from .fast import generate as generate_fast

            return generate_fast(self.ar, labels, seeds, sampling, prompt_ids)
        return generate(self.ar, labels, seeds, sampling, prompt_ids)

    def _check_prompt(self, ids: Tensor, pictures: int) -> Tensor:
        config = self.ar.config
        if ids.ndim != 2 or len(ids) != pictures or ids.shape[1] > config.tokens or ids.is_floating_point():
            raise ValueError(
                f"prompt_ids have shape {tuple(ids.shape)}; they must be whole numbers of shape"
                f" ({pictures}, t) with t at most {config.tokens}"
            )
        if ids.numel() and not (ids.min() >= 0 and ids.max() < config.codebook_size):
            raise ValueError(f"prompt_ids must be whole numbers from 0 to {config.codebook_size - 1}")
        return ids.to(self.device, torch.long)

    def sample(
        self,
        classes: Sequence[str | int] | Tensor | str | int,
        seed: int | Sequence[int] | Tensor = 0,
        prompt_ids: Tensor | None = None,
        **settings: float | int | None,
    ) -> Tensor:
        """Draw pictures of classes (names or indices) with the best decoder; arguments as for `stream`.

        Returns (B, 3, S, S) in [0, 1]. The same seed gives the same picture on the same kind of device, alone or
        in any batch.
        """
        ids = prompt_ids
        for step in self.stream(classes, seed, prompt_ids, **settings):
            ids = step.ids
        return self.tokenizer.decode(ids.to(self.device))

    @staticmethod
    def to_pil(pixels: Tensor) -> list[Image.Image]:
        """(B, 3, S, S) in [0, 1] -> PIL pictures."""
        # differs: values are rounded to 8 bits, the official code truncates them
        data = (pixels.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
        return [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in data]


class _Unfilled(TorchFunctionMode):
    """Leaves out the random numbers of new modules, which a file will replace: on the meta device they would import
    torch's compiler, which takes seconds."""

    def __torch_function__(
        self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if function is nn.init.normal_:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


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
    plain = {key: asdict(value) if is_dataclass(value) else value for key, value in config.items()}
    config = {"format": FORMAT} | plain
    write_atomically(folder / "config.json", (json.dumps(config, indent=1) + "\n").encode())


def part_path(folder: Path, config: dict, part: str) -> Path:
    """The weights file of a part. A tokenizer may lie in the sibling folder that config.json names, for several
    checkpoints to share."""
    sibling = config["tokenizer_folder"] if part != "ar" else None
    folder = folder.resolve().parent / sibling if sibling else folder
    return folder / config["files"][part]["name"]


def file_sha256(path: Path) -> str:
    """Checksum of a file of any size."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is the few lines that git leaves in place of a large one where git-lfs is missing."""
    with open(path, "rb") as file:
        return file.read(64).startswith(b"version https://git-lfs")


def save_part(
    folder: Path, part: str, module: nn.Module, dtype: torch.dtype, exact: Collection[str] = ()
) -> dict[str, str]:
    """Write the weights of a part, those named in `exact` in float32; returns their entry in config.json.

    One tensor at a time is converted, so that a mapped file needs no second copy in memory. A file that holds other
    weights is left alone, as is what is no regular file: the entry then names a new one.
    """
    digest = hashlib.sha256()
    for piece in _pieces(module, dtype, exact):
        digest.update(piece)
    path = folder / f"{part}.safetensors"
    if os.path.lexists(path) and not (path.is_file() and file_sha256(path) == digest.hexdigest()):
        path = folder / f"{part}-{digest.hexdigest()[:12]}.safetensors"
    if not path.exists():
        write_atomically(path, _pieces(module, dtype, exact))
    return {"name": path.name, "sha256": digest.hexdigest()}


def _pieces(module: nn.Module, dtype: torch.dtype, exact: Collection[str]) -> Iterator[bytes]:
    """A safetensors file piece by piece: length of the header, header (JSON), then the tensors' bytes."""
    state = module.state_dict()
    dtypes = {key: torch.float32 if key in exact else dtype for key in state}
    keys = sorted(state, key=lambda key: key not in exact)  # float32 first: what is read must be aligned
    header, end = {}, 0
    for key in keys:
        start, end = end, end + state[key].numel() * dtypes[key].itemsize
        header[key] = {"dtype": _STORED[dtypes[key]], "shape": [*state[key].shape], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for key in keys:
        tensor = state[key].detach().to("cpu", dtypes[key]).contiguous()
        yield tensor.view(-1).view(torch.uint8).numpy().data


def _load_part(module: nn.Module, path: Path, digest: str, dtype: torch.dtype) -> None:
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
            dtypes = {key: torch.float32 if key.startswith("quantizer.") else dtype for key in file.keys()}  # noqa: SIM118
        tensors = {}
        for key, wanted in dtypes.items():
            with safe_open(path, "pt") as file:  # mapped anew for each, so that memory does not hold all of it twice
                tensors[key] = file.get_tensor(key).to(wanted, copy=True)
        module.load_state_dict(tensors, assign=True)
    except Exception as error:  # safetensors has no error class of its own to catch
        first = str(error).replace("\n", " ")[:200]
        raise CheckpointError(f"{path} does not fit its config.json: {first}") from error
