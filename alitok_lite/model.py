"""AliTok = tokenizer + AR model + class names, and the checkpoint folder that holds them."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor, nn

from .ar import ARModel
from .config import ARConfig, Preset, TokenizerConfig
from .sampling import Sampling, Step, generate
from .tokenizer import Tokenizer

CHECKPOINTS = Path(__file__).parent / "checkpoints"
FORMAT = 1
PARTS = ("encoder", "decoder1", "decoder2", "ar")


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; the message is one sentence for the user."""


def bundled() -> list[str]:
    """Names of the checkpoints that came with the package, "scenes" first: the first is the default."""
    names = (path.parent.name for path in CHECKPOINTS.glob("*/config.json"))
    return sorted(names, key=lambda name: (name != "scenes", name))


def checkpoint_folder(name: str | Path) -> Path:
    """The folder of a checkpoint, given as a folder or a bundled name; CheckpointError if there is none."""
    for folder in (Path(name), CHECKPOINTS / str(name)):
        if str(name) and (folder / "config.json").is_file():
            return folder
    known = ", ".join(bundled()) or "none"
    raise CheckpointError(f"no checkpoint {str(name)!r}: give a folder with a config.json or a bundled name ({known})")


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file beside the path, then rename: a crash leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
        """Load a bundled checkpoint by name, or a checkpoint folder.

        `dtype` None is float32; the quantizer stays float32 whatever the dtype. Raises CheckpointError, in one
        sentence, for a name that is neither, and for missing, damaged or foreign files.
        """
        folder = checkpoint_folder(name)
        config = read_config(folder)
        files = config["files"]
        with torch.device("meta"):
            stages = tuple(stage for stage in (1, 2) if f"decoder{stage}" in files)
            tokenizer = Tokenizer(config["tokenizer"], stages)
            ar = ARModel(config["ar"]) if "ar" in files else None
        model = cls(tokenizer, ar, config["classes"], config["sampling"], config.get("info"))
        for part, module in model._parts().items():
            _load_part(module, folder / files[part]["name"], files[part]["sha256"])
        return model.to(choose_device(device), dtype or torch.float32)

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> "AliTok":
        """Move the model, and change its dtype except the quantizer's; evaluation mode. Returns itself."""
        for module in filter(None, (self.tokenizer, self.ar)):
            module.to(device, dtype).eval()
        self.tokenizer.quantizer.float()
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
        only then files that it no longer names are removed.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        for part, module in self._parts().items():
            tensors = {key: value.detach().to("cpu", dtype).contiguous() for key, value in module.state_dict().items()}
            data = save(tensors)
            digest = hashlib.sha256(data).hexdigest()
            path = folder / f"{part}.safetensors"
            if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                path = folder / f"{part}-{digest[:12]}.safetensors"
            if not path.exists():
                write_atomically(path, data)
            files[part] = {"name": path.name, "sha256": digest}
        config = {
            "format": FORMAT,
            "tokenizer": asdict(self.tokenizer.config),
            "ar": asdict(self.ar.config) if self.ar else None,
            "classes": self.classes,
            "sampling": asdict(self.sampling),
            "info": self.info,
            "files": files,
        }
        write_atomically(folder / "config.json", (json.dumps(config, indent=1) + "\n").encode())
        named = {entry["name"] for entry in files.values()}
        for part in PARTS:
            for old in [*folder.glob(f"{part}.safetensors"), *folder.glob(f"{part}-*.safetensors")]:
                if old.name not in named:
                    old.unlink()

    def labels(self, classes: Sequence[str | int]) -> Tensor:
        """Class names or indices to label ids (B,) on the model's device; ValueError names an unknown one."""
        found = []
        for entry in classes:
            index = self.classes.index(entry) if entry in self.classes else entry
            if type(index) is not int or not 0 <= index < len(self.classes):
                names = ", ".join(self.classes[:20]) + ", ..." * (len(self.classes) > 20)
                raise ValueError(
                    f"no class {entry!r}: give a number from 0 to {len(self.classes) - 1} or one of {names}"
                )
            found.append(index)
        return torch.tensor(found, dtype=torch.long, device=self.device)

    def stream(
        self,
        classes: Sequence[str | int],
        seed: int | Sequence[int] = 0,
        prompt_ids: Tensor | None = None,
        **settings: float | int | None,
    ) -> Iterator[Step]:
        """Draw token by token: an iterator of Steps (index, ids (B, index + 1), entropy (B,) in nats).

        Picture i uses seed + i, or give one seed for each. `settings` are fields of Sampling (guidance, power,
        temperature, top_k, top_p); one that is absent or None is the checkpoint's own. Prompt ids (B, t) are kept
        and continued. Raises ValueError at once for a bad argument or a checkpoint without an AR model.
        """
        if self.ar is None:
            raise ValueError("this checkpoint has no AR model, so it cannot draw")
        labels = self.labels([classes] if isinstance(classes, str | int) else classes)
        seeds = list(range(seed, seed + len(labels))) if type(seed) is int else seed
        if not isinstance(seeds, Sequence) or isinstance(seeds, str) or len(seeds) != len(labels):
            raise ValueError(f"seed is {seed!r}; it must be a whole number or a list of {len(labels)}, one a picture")
        unknown = settings.keys() - asdict(self.sampling).keys()
        if unknown:
            raise TypeError(f"stream() got an unexpected argument {min(unknown)!r}")
        sampling = replace(self.sampling, **{key: value for key, value in settings.items() if value is not None})
        if prompt_ids is not None:
            prompt_ids = self._check_prompt(prompt_ids, len(labels))
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
        classes: Sequence[str | int],
        seed: int | Sequence[int] = 0,
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
        if "encoder" not in files or any(Path(name).name != name for name, _ in files.values()):
            raise ValueError("its list of files is wrong")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read {path}: {type(error).__name__}: {error}") from error
    return config


def _load_part(module: nn.Module, path: Path, digest: str) -> None:
    """Fill a module built on the meta device from a safetensors file whose sha256 must match."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} is missing or unreadable: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise CheckpointError(f"{path} is damaged: its sha256 is not the one in config.json; fetch or save it again")
    try:
        tensors = {key: value.float() for key, value in load(data).items()}
        module.load_state_dict(tensors, assign=True)
    except Exception as error:  # safetensors has no error class of its own to catch
        first = str(error).replace("\n", " ")[:200]
        raise CheckpointError(f"{path} does not fit its config.json: {first}") from error
