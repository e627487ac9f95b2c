"""Pictures by the ten thousand, for an FID: one .npz, drawn by as many processes as there are, restartable.

Picture i depends on its class, on seed + i, and on the batch that it is in, whose limits are fixed. So the processes,
which take whole batches, may be any number, and a restart continues where the last run was stopped.
"""

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..core.config import plain
from ..files import check_output, write_atomically, writing
from ..machine import DTYPES, choose_device
from ..model import AliTok
from ..store.class_names import read_list
from ..store.find import checkpoint_folder


@dataclass(frozen=True)
class Order:
    """What decides the pictures. Raises ValueError for numbers out of range.

    `classes` may also be text, as for `class_names.read_list`.
    """

    pictures: int = 50_000
    batch: int = 64
    seed: int = 0  # picture i has seed + i
    classes: Sequence[str | int] | str = ()  # picture i has class i % their number; none = all classes in order
    dtype: str = "float32"
    settings: dict = field(default_factory=dict)  # of sampling; those not there are the checkpoint's own

    def __post_init__(self) -> None:
        for name in ("pictures", "batch", "seed"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if not isinstance(self.classes, str):
            object.__setattr__(self, "classes", [plain(entry) for entry in self.classes])
        object.__setattr__(self, "settings", {key: plain(value) for key, value in self.settings.items()})
        for name in ("pictures", "batch"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"--{name} is {value!r}; it must be a whole number of 1 or more")
        most = 2**32 - self.pictures
        if type(self.seed) is not int or not 0 <= self.seed <= most:
            raise ValueError(f"--seed is {self.seed}; it must be a whole number from 0 to {most}")


@dataclass(frozen=True)
class Processes:
    """This process among those that draw."""

    index: int
    count: int
    device: torch.device
    wait: Callable[[], None]  # until all have come here


def draw(name: str, out: str | Path, order: Order, device: str = "auto") -> bool:
    """Write pictures of a checkpoint to the file `out`: `arr_0`, uint8 (pictures, S, S, 3), rounded to 8 bits.

    Started by `accelerate launch` or `torchrun`, the processes share the work, and the first, for which this returns
    True, writes the file. Finished batches wait in the folder `out`.parts, from which the same order continues after an
    interruption. Raises ValueError (or OSError), in one sentence, for a mistake in the order, for a file or another
    order's folder that is there, and for a disk too small.
    """
    processes, job = _plan(name, str(out), order, device)
    _draw_missing(job, processes)
    processes.wait()
    if processes.index == 0:
        _assemble(job)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return processes.index == 0


@dataclass(frozen=True)
class _Job:
    """A checked order: what to draw, with what, and where the batches wait."""

    out: Path
    parts: Path  # folder of the batches
    order: Order
    model: AliTok
    labels: list[int]  # picture i has labels[i % their number]
    missing: list[int]  # first pictures of the batches that were not there when the run began

    @property
    def files(self) -> list[Path]:
        """The files of all batches, in order."""
        return [_part(self.parts, start) for start in range(0, self.order.pictures, self.order.batch)]


def _plan(name: str, given: str, order: Order, device: str) -> tuple[Processes, _Job]:
    """Check everything before anything is drawn, and find out what is missing. Raises ValueError as `draw` does."""
    out = Path(given)
    if out.suffix != ".npz" or out.exists() or not out.parent.is_dir() or given.endswith(("/", os.sep)):
        raise ValueError(f"--out is {given!r}; it must be a new file.npz in a folder that exists")
    check_output("--out", given)
    processes = _processes(device)
    model = AliTok.from_pretrained(name, processes.device, DTYPES[order.dtype])
    if model.ar is None:
        raise ValueError(f"{name} has no AR model, so it cannot draw")
    if isinstance(order.classes, str):
        order = replace(order, classes=read_list(order.classes, model.classes))
    labels = model.labels(order.classes or range(len(model.classes))).tolist()
    replace(model.sampling, **order.settings)  # for its errors, before anything is written
    side, parts = model.tokenizer.config.image_size, out.with_name(f"{out.name}.parts")
    _check_parts(parts)
    there = sum(path.stat().st_size for path in parts.glob("*.npy"))
    _check_disk(out.parent, 2 * order.pictures * 3 * side**2 - there)
    missing = [start for start in range(0, order.pictures, order.batch) if not _part(parts, start).exists()]
    _check_order(parts, order, name, processes)  # waits for all, so that all have the same list of what is missing
    return processes, _Job(out, parts, order, model, labels, missing)


def _draw_missing(job: _Job, processes: Processes) -> None:
    """Draw this process's share of the missing batches and write each to a file of its own."""
    order, labels = job.order, job.labels
    for start in tqdm(job.missing[processes.index :: processes.count], unit="batch", disable=processes.index > 0):
        rows = range(start, min(start + order.batch, order.pictures))
        drawn = job.model.sample([labels[i % len(labels)] for i in rows], order.seed + start, **order.settings)
        file = io.BytesIO()
        np.save(file, np.stack([np.asarray(picture) for picture in AliTok.to_pil(drawn)]))
        write_atomically(_part(job.parts, start), file.getvalue())


def _assemble(job: _Job) -> None:
    """Join the batches to the .npz, then remove them and their folder."""
    side = job.model.tokenizer.config.image_size
    _join(job.out, job.files, (job.order.pictures, side, side, 3))
    for file in (*job.files, job.parts / "order.json", *job.parts.glob(".*.tmp")):  # a killed run leaves the last ones
        file.unlink(missing_ok=True)
    with suppress(OSError):  # somebody else's files are in it
        job.parts.rmdir()


def _part(parts: Path, start: int) -> Path:
    return parts / f"{start:010d}.npy"


def _check_parts(parts: Path) -> None:
    """Raise a ValueError unless the folder for the batches is new, empty, or that of an order."""
    if parts.is_symlink() or (parts.exists() and not parts.is_dir()):
        raise ValueError(f"{parts} is not a folder, but the batches need one: move it, or give another --out")
    order = parts / "order.json"
    if not order.exists() and any(path.suffix != ".tmp" for path in parts.glob("*")):
        raise ValueError(f"{parts} holds something else than batches: move it, or give another --out")


def _processes(device: str) -> Processes:
    """Of `accelerate launch` or torchrun, or this one alone. ValueError where accelerate is needed and missing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(0, 1, choose_device(device), lambda: None)
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ValueError("several processes need the package accelerate: pip install accelerate") from error
    state = PartialState(cpu=device == "cpu", timeout=timedelta(days=2))  # the first may have to wait for the last
    return Processes(state.process_index, state.num_processes, state.device, state.wait_for_everyone)


def _check_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{folder.resolve()} has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} are needed, for the pictures and the"
            " batches that they are joined from"
        )


def _check_order(parts: Path, order: Order, name: str, processes: Processes) -> None:
    """Record the order beside the batches; ValueError, before any is drawn, if another one is there."""
    digest = hashlib.sha256((checkpoint_folder(name) / "config.json").read_bytes()).hexdigest()
    about = asdict(order) | {"model": digest, "device": processes.device.type}
    about = json.loads(json.dumps(about))  # tuples become lists, as they are read
    path = parts / "order.json"
    processes.wait()
    if processes.index == 0 and not path.exists():
        parts.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(about, indent=1).encode())
    processes.wait()
    there = json.loads(path.read_text())
    for key in about:
        if about[key] != there.get(key):
            raise ValueError(
                f"{parts} holds batches with {key} {there.get(key)!r}, not {about[key]!r}: give the same options to"
                " continue, another --out, or remove that folder"
            )


def _join(out: Path, parts: Sequence[Path], shape: tuple[int, ...]) -> None:
    """Join the batches to one array in an .npz, without ever holding more than one of them."""
    with (
        writing(out) as raw,
        zipfile.ZipFile(raw, "w") as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.load(part).tobytes())
