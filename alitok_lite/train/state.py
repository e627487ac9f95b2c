"""The state of a training, from which it is resumed: every tensor and setting that it needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..core.losses import LossWeights
from ..files import write_atomically
from ..machine import say
from ..model import AliTok
from ..store.folder import CheckpointError, read_config
from .curve import curve_path
from .settings import TrainSettings

NAMES = {"tokenizer": "tokenizer", "decoder": "second decoder", "ar": "AR model"}
FURTHER = "further-trained decoder"  # in place of a second one, see further.py
_COLUMNS = {"step", "train nats", "test nats"}  # of the history of a training that keeps its best weights


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and texts to a safetensors file, atomically, with their sha256."""
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(tensors, metadata | {"sha256": _sha256(tensors, metadata)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of a file that `save_tensors` wrote. Raises ValueError, which says why, for a damaged one.

    An older version wrote no sha256; then there is none to compare.
    """
    try:
        with safe_open(path, "pt") as file:
            # Copied, since a mapped file that somebody cuts short would end the process (SIGBUS).
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except Exception as error:  # safetensors has several kinds for damaged files
        raise ValueError(f"{type(error).__name__}: {error}".splitlines()[0][:200]) from error
    wanted = metadata.pop("sha256", None)
    if wanted is not None and wanted != _sha256(tensors, metadata):
        raise ValueError("its sha256 is not the one it was written with")
    return tensors, metadata


def _sha256(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Of names, types, shapes and values."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def encoder_sha256(model: AliTok) -> str:
    """The sha256 of encoder and codebook, which decide the ids of a picture."""
    digest = hashlib.sha256()
    for value in (*model.tokenizer.encoder.state_dict().values(), model.tokenizer.quantizer.codebook):
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------- states


def _state_tensors(modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Every tensor that a continued training needs, by a flat name; buffers too, also those outside checkpoints."""
    tensors = {}
    for name, module in modules.items():
        for key, value in [*module.named_parameters(), *module.named_buffers()]:
            tensors[f"{name}.{key}"] = value
    for name, optimizer in optimizers.items():
        for index, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{key}": value for key, value in entry.items()}
    return tensors


def save_state(
    path: Path,
    step: int,
    modules: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    settings: TrainSettings,
    history: list[dict],
    origin: dict[str, str],
) -> None:
    """Write what `load_state` needs, atomically. `origin` says what the part learned from."""
    metadata = {"step": str(step), "settings": json.dumps(asdict(settings)), "history": json.dumps(history)}
    save_tensors(path, _state_tensors(modules, optimizers), metadata | origin)


class State:
    """A state file, read and checked. Raises CheckpointError for none, and for a damaged one.

    step, settings, history: as they were saved.
    origin: what the part learned from: "pictures", and "encoder" where it learned from ids.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise CheckpointError(f"nothing to resume: there is no {path}")
        try:
            self.tensors, metadata = load_tensors(path)
            self.step, self.history = int(metadata.pop("step")), json.loads(metadata.pop("history", "[]"))
            self.settings, self.origin = _read_settings(metadata.pop("settings")), metadata
            rows = all(isinstance(row, dict) and row.keys() >= _COLUMNS for row in self.history)
            if not (rows and 0 < self.step <= self.settings.steps):
                raise ValueError("its numbers make no sense")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._damaged(f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else error) from error

    def _damaged(self, why: object) -> CheckpointError:
        return CheckpointError(f"{self.path} is damaged ({why}): train this part anew with --replace")

    def check(self, settings: TrainSettings) -> None:
        """Raise CheckpointError unless a training with these settings can be resumed from this state."""
        old, new = asdict(self.settings), asdict(settings)
        if settings.steps < self.step:
            raise CheckpointError(
                f"cannot resume: {self.step} steps are done and steps is {settings.steps}; give {self.step} or more"
            )
        schedule = () if old["steps"] == new["steps"] else ("steps", "warmup")
        for key in new:
            if old[key] != new[key] and key not in schedule:
                raise CheckpointError(f"cannot resume: {key} was {old[key]} and is now {new[key]}")

    def check_origin(self, origin: dict[str, str]) -> None:
        """Raise CheckpointError for another tokenizer than before; print a line if the pictures have changed."""
        if self.origin.get("encoder", origin.get("encoder")) != origin.get("encoder"):
            raise CheckpointError(
                f"cannot resume: {self.path} belongs to another tokenizer than the one beside it; train this part anew"
                " with --replace"
            )
        if self.origin.get("pictures", origin.get("pictures")) != origin.get("pictures"):
            say("the pictures have changed since this training began, or their dates: it continues with the new ones")

    @torch.no_grad()
    def fill(self, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]) -> None:
        """Fill modules and optimisers. Raises CheckpointError if their sizes differ."""
        try:
            for name, module in modules.items():
                for key, value in [*module.named_parameters(), *module.named_buffers()]:
                    found = self.tensors[f"{name}.{key}"]
                    if found.shape != value.shape:
                        raise ValueError(f"{name}.{key} has the shape {tuple(found.shape)}, not {tuple(value.shape)}")
                    value.copy_(found)
            for name, optimizer in optimizers.items():
                self._fill_optimizer(name, optimizer)
        except (ValueError, KeyError, RuntimeError) as error:
            text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise self._damaged(text) from error
        self.tensors = {}  # frees several times the memory of the model

    def _fill_optimizer(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        groups = optimizer.state_dict()["param_groups"]
        shapes = [value.shape for group in optimizer.param_groups for value in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self.tensors.items():
            if key.startswith(f"{name}."):
                _, index, slot = key.split(".")
                if not int(index) < len(shapes) or value.ndim and value.shape != shapes[int(index)]:
                    raise ValueError(f"{key} does not belong here")
                state.setdefault(int(index), {})[slot] = value
        if name == "optimizer" and not state:
            raise KeyError(name)
        if len({frozenset(entry) for entry in state.values()}) > 1:
            raise ValueError(f"{name} is not complete")
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def _read_settings(text: str) -> TrainSettings:
    """The settings in a state file; what an older version did not know has its default."""
    values = json.loads(text)
    edges = values["losses"].pop("edges", 0)  # a term of earlier versions, which no preset used
    if edges:
        say(f"the loss term 'edges' (weight {edges}) of this training no longer exists: it continues without")
    return TrainSettings(**values | {"betas": tuple(values["betas"]), "losses": LossWeights(**values["losses"])})


# ---------------------------------------------------------------- parts of a RUN


def held_parts(folder: Path) -> list[str]:
    """The parts that a RUN holds.

    Raises CheckpointError for a config.json that cannot be read.
    """
    if not (folder / "config.json").exists():
        return []
    config = read_config(folder)
    files, info = config["files"], config.get("info") or {}
    trained = info.get("training", {}) if isinstance(info, dict) else None
    if not (isinstance(trained, dict) and all(isinstance(entry, dict) for entry in trained.values())):
        raise CheckpointError(f"cannot read {folder / 'config.json'}: what it says of the training is damaged")
    held = ["tokenizer"]
    if ("decoder2" in files and config["tokenizer"].aligned) or furthered(info):
        held.append("decoder")
    if "ar" in files:
        held.append("ar")
    return held


def furthered(info: object) -> bool:
    """Whether a checkpoint's `info` says that the decoder with which its tokens were learned was trained further."""
    try:
        return info["training"]["decoder"]["settings"]["further"] is True  # type: ignore[index]
    except (KeyError, TypeError):
        return False


def further_in(folder: Path) -> bool:
    """`furthered` of a RUN; False where there is none."""
    return (folder / "config.json").exists() and furthered(read_config(folder).get("info"))


def unfinished(folder: Path) -> tuple[int, int] | None:
    """Steps done and steps planned of a RUN's tokenizer; None if it is finished or unknown."""
    config = read_config(folder) if (folder / "config.json").exists() else {}
    try:
        entry = config["info"]["training"]["tokenizer"]
        done, planned = int(entry["steps"]), int(entry["settings"]["steps"])
    except (KeyError, TypeError, ValueError):
        return None
    return (done, planned) if done < planned else None


def name_of(part: str, further: bool = False) -> str:
    """A part in words; `further` tells which decoder it is."""
    return FURTHER if further and part == "decoder" else NAMES.get(part, part)


def described(parts: Sequence[str], further: bool = False) -> str:
    """The parts in words."""
    names = [name_of(part, further) for part in parts]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def forget(folder: Path, parts: Sequence[str]) -> None:
    """Remove states, sheets and curves of parts that are replaced."""
    for part in parts:
        state, sheets = folder / "state" / f"{part}.safetensors", (folder / "sheets").glob(f"{part}-*.png")
        for path in (state, curve_path(folder, part), *sheets):
            path.unlink(missing_ok=True)
