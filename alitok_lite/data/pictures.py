"""Training on a folder of pictures (see folders.py for how it may look).

A picture is decoded to the same uint8 square every time; all randomness comes after that, on the device.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..machine import allowed_workers, deaf_children, quiet_worker
from . import images
from .augment import augment, cut_crop, resized
from .folders import find

STORED = 1.25  # side of the stored squares, as a multiple of `size`, where the pictures are large enough
RESIZED = 1.1  # the same for the pictures that the ten crops are taken from
BLOCK = 64  # pictures that a worker decodes at once outside `batch`
NAMED = 10  # pictures at most that an error names


class UnfitPictures(ValueError):
    """Pictures that are damaged, too large or too small.

    problems: class folder and sentence without an end for each of them, the file's name in front.
    """

    def __init__(self, problems: list[tuple[str, str]], size: int) -> None:
        self.problems, self.size = problems, size
        texts = [f"in the class folder {label!r}, {text}" for label, text in problems[:NAMED]]
        if len(problems) > NAMED:
            texts.append(f"and {len(problems) - NAMED:,} more")
        count = f"{len(problems):,} pictures cannot be used: " if len(problems) > 1 else ""
        allowed = f"give PNG, JPEG or WEBP pictures of at least {size} x {size} and at most 24 million pixels"
        super().__init__(f"{count}{'; '.join(texts)}; {allowed}")


class PictureFolder:
    """Pictures of a folder with one subfolder for each class, decoded once where they fit `memory` bytes.

    `split` is "train" or "test"; `workers` processes decode (0: this one does; None: one for each CPU, at most 16).
    Where they do not fit, they are decoded again whenever they are drawn. ImageNet at 256 pixels would be 390 GB;
    it also has pictures with a side below 256 pixels, which are refused: leave them out.

    Raises ValueError, in one sentence without absolute paths, for a missing or empty folder, fewer than two classes
    and a class without pictures; and UnfitPictures, which names them all, for pictures that are damaged, too large
    (24 million pixels) or smaller than `size`. Damage behind the header of pictures that do not fit `memory` is only
    found when they are drawn.

    layout:  where they lie, and what is left out.
    classes: sorted names of the class folders, those of train/ for both splits.
    names:   "CLASS/FILE" of every picture, sorted by class, then by file.
    labels:  (N,) int64, on the device.
    side:    side of the stored squares, 1.25 x size or the shortest side among the pictures.
    """

    def __init__(
        self,
        folder: str | Path,
        size: int,
        split: str = "train",
        device: torch.device | str = "cpu",
        memory: float = 8e9,
        workers: int | None = None,
    ) -> None:
        self.size, self.split, self.device = size, split, torch.device(device)
        self.workers = reading_workers(workers)
        self.layout = find(Path(folder), split)
        self.classes, self.names = self.layout.classes, self.layout.names
        places = {name: number for number, name in enumerate(self.classes)}
        self.labels = torch.tensor([places[name.split("/")[0]] for name in self.names]).to(self.device)
        self.stamps = [_stamp(place) for place in self._places()]
        with tqdm(zip(self.names, self._places(), strict=True), "checking", len(self), unit="picture") as bar:
            sides = [_shorter_side(name, place, size) for name, place in bar]
        unfit = {name: side for name, side in zip(self.names, sides, strict=True) if isinstance(side, str)}
        self.side = min([round(STORED * size), *(side for side in sides if isinstance(side, int))])
        self.files = _Files(self.names, self._places(), self.side)
        self.pool: Tensor | None = None
        self._ahead: Iterator[Tensor] = iter(())
        self._next: tuple | None = None  # (step, batch, seed) of the batch that comes out of _ahead next
        if len(self) * 3 * self.side**2 <= memory:
            self.pool = self._decode_all(unfit)
        if unfit:
            raise self._refusal(unfit)

    def __len__(self) -> int:
        return len(self.names)

    def _places(self) -> list[Path]:
        """The files, in the order of their names."""
        return [self.layout.root / path for path in self.layout.paths]

    def _refusal(self, unfit: dict[str, str]) -> UnfitPictures:
        """The error about pictures with something wrong, given as names and sentences."""
        return UnfitPictures([(name.split("/")[0], unfit[name]) for name in sorted(unfit)], self.size)

    def batch(self, step: int, batch: int, seed: int) -> tuple[Tensor, Tensor]:
        """Augmented pictures (B, 3, size, size) float32 in [0, 1] and labels (B,), from (seed, step) alone.

        Pictures are drawn with replacement. Calls for one step after the other are fastest when the pictures are
        not in memory: then workers decode ahead. Raises ValueError for a file that turns out to be damaged.
        """
        rows, numbers = _draw(len(self), step, batch, seed)
        if self.pool is not None:
            pixels = self.pool[rows.to(self.device)]
        else:
            if self._next != (step, batch, seed):
                coming = (_draw(len(self), later, batch, seed)[0] for later in itertools.count(step))
                self._ahead = self._stream(coming, self.workers)
            self._next = None  # if the next line raises, a repeated call starts again
            pixels = next(self._ahead).to(self.device)
            self._next = (step + 1, batch, seed)
        return augment(pixels, numbers.to(self.device), self.size), self.labels[rows.to(self.device)]

    def ten_crops(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All pictures, resized to 1.1 x size, in all ten crops, for the id cache: blocks of pixels and labels.

        Each picture is decoded once. A block of n pictures gives (10 n, 3, size, size) in [0, 1], all of one crop
        before the next one (see `augment.cut_crop`).
        """
        blocks = torch.arange(len(self)).split(BLOCK)
        kept = None if self.pool is None else (self.pool[rows.to(self.device)] for rows in blocks)
        with tqdm(total=len(self), desc="cropping", unit="picture") as bar:
            for rows, stored in zip(blocks, kept or self._stream(blocks, self.workers), strict=True):
                large = resized(stored.to(self.device), int(RESIZED * self.size))
                pixels = torch.cat([cut_crop(large, self.size, crop) for crop in range(10)])
                yield pixels, self.labels[rows.to(self.device)].repeat(10)
                bar.update(len(rows))

    def whole(self, index: slice | Tensor) -> Tensor:
        """Centre squares (n, 3, size, size) in [0, 1] without augmentation, for evaluation."""
        return resized(self._stored(index), self.size)

    def _stored(self, index: slice | Tensor) -> Tensor:
        """Stored squares (n, 3, side, side) uint8 on the device."""
        if self.pool is not None:
            return self.pool[index if isinstance(index, slice) else index.to(self.device)]
        blocks = torch.arange(len(self))[index if isinstance(index, slice) else index.cpu()].split(BLOCK)
        return torch.cat(list(self._stream(blocks, self.workers if len(blocks) > 1 else 0))).to(self.device)

    def _decode_all(self, unfit: dict[str, str]) -> Tensor:
        """All stored squares (N, 3, side, side) uint8 on the device; adds to `unfit` what turns out to be damaged."""
        pool = torch.empty(len(self), 3, self.side, self.side, dtype=torch.uint8, device=self.device)
        good = [row for row, name in enumerate(self.names) if name not in unfit]
        blocks = torch.tensor(good, dtype=torch.long).split(BLOCK) if good else ()
        with tqdm(total=len(self), desc="decoding", unit="picture") as bar:
            for rows, pixels in zip(blocks, self._decoded(blocks, self.workers), strict=True):
                if isinstance(pixels, dict):
                    unfit |= pixels
                elif not unfit:  # otherwise the pool is not used
                    pool[rows[0] : rows[-1] + 1] = pixels
                bar.update(len(rows))
        return pool

    def _stream(self, rows: Iterable[Tensor], workers: int) -> Iterator[Tensor]:
        """Stored squares of one tensor of rows after the other. Raises UnfitPictures for damaged ones."""
        for pixels in self._decoded(rows, workers):
            if isinstance(pixels, dict):
                raise self._refusal(pixels)
            yield pixels

    def _decoded(self, rows: Iterable[Tensor], workers: int) -> Iterator[Tensor | dict[str, str]]:
        """Stored squares, decoded by `workers` processes, or what is wrong with some of the files.

        Processes, since most of the work on a small picture holds the interpreter's lock: threads were slower than
        a single one. The generator keeps the loader off the global random numbers.
        """
        loader = DataLoader(
            self.files,
            batch_size=None,
            sampler=rows,
            num_workers=workers,
            worker_init_fn=quiet_worker,
            generator=torch.Generator(),
        )
        with deaf_children():
            stream = iter(loader)
        yield from stream


class _Files(Dataset):
    """Rows (n,) -> decoded squares (n, 3, side, side) uint8, or what is wrong with some of the files, by name.

    Errors travel as text: a loader would raise them with the whole traceback of the worker in the message.
    """

    def __init__(self, names: list[str], places: list[Path], side: int) -> None:
        self.names, self.places, self.side = names, places, side

    def __getitem__(self, rows: Tensor) -> Tensor | dict[str, str]:
        found, unfit = [], {}
        for row in rows.tolist():
            try:
                found.append(self._decode(self.places[row]))
            except ValueError as error:
                unfit[self.names[row]] = _problem(error)
        return unfit or torch.cat(found)

    def _decode(self, place: Path) -> Tensor:
        return images.load_picture(place, self.side).mul_(255).round_().byte()


def fingerprint(pictures: PictureFolder) -> str:
    """Hex digest over names, sizes and times of the files, size and split: another one means other pictures."""
    text = repr((pictures.size, pictures.split, pictures.classes, pictures.names, pictures.stamps))
    return hashlib.sha256(text.encode()).hexdigest()


def _draw(pictures: int, step: int, batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows (B,) and numbers (B, 8) of `augment`; drawn on the CPU, so that every device gets the same."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**32)
    return torch.randint(pictures, (batch,), generator=generator), torch.rand(batch, 8, generator=generator)


def reading_workers(wished: int | None) -> int:
    """How many processes read pictures: None is one for each CPU, at most 16; none where they could not start."""
    return allowed_workers(min(16, _cpus()) if wished is None else wished)


def _cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stamp(place: Path) -> tuple[int, int]:
    """Size and time of a file. ValueError, without its folder, for one that has gone since it was found."""
    try:
        stat = os.stat(place)
    except OSError as error:
        raise ValueError(f"the picture {place.name!r} cannot be read: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns


def _problem(error: ValueError) -> str:
    """What `images.load_picture` finds wrong, without what it allows."""
    return str(error).removesuffix(images.ALLOWED).rstrip("; ")


def _shorter_side(name: str, place: Path, size: int) -> int | str:
    """The shorter side of a picture, from its header alone, or what makes it unfit."""
    try:
        with images.open_picture(place) as picture:
            width, height = picture.image.size
    except ValueError as error:
        return _problem(error)
    if min(width, height) < size:
        file = name.split("/", 1)[1]
        return f"{file!r} has {width} x {height} pixels, too small"
    return min(width, height)
