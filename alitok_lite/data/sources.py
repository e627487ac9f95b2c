"""Where training gets its pictures: scenes painted on the fly, or a folder of pictures.

Both give batches from (seed, step) alone, unseen pictures to measure on, and all training pictures once for the AR
model's id cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from .. import scenes
from ..machine import say
from .pictures import PictureFolder, UnfitPictures, fingerprint, reading_workers
from .scan import scanned

FEW_SCENES = 20_000  # up to so many are painted once on a CPU, in half a minute
_USES = {"train": "to train on", "test": "held out"}

BATCH = 128  # pictures at once


class BatchSettings(Protocol):
    """What a source must know of a training, for example its TrainSettings."""

    @property
    def batch(self) -> int:
        """Pictures a step."""

    @property
    def pictures(self) -> int:
        """Different ones, of scenes."""

    @property
    def seed(self) -> int:
        """Decides which pictures a step gets."""


class Source(Protocol):
    """Where training and evaluation get their pictures: pixels (B, 3, S, S) in [0, 1], labels (B,), on the device."""

    classes: list[str]  # names, in the order of the labels
    stamp: str  # another one means other pictures

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The training pictures of a step, the same at every call."""

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All training pictures in blocks, for the AR model's id cache."""

    def unseen(self, count: int) -> tuple[Tensor, Tensor]:
        """Pictures that training never sees, `count` at most."""


class PlainSettings(NamedTuple):
    """The same without a training."""

    batch: int
    pictures: int
    seed: int


def random_scenes(count: int, seed: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scenes of random classes: pixels (count, 3, size, size), labels (count,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(scenes.CLASSES), (count,), generator=generator)
    return scenes.render(labels, seed, size, device), labels.to(device)


class SceneSource:
    """Procedural scenes.

    On a CPU every batch is painted anew if `settings.pictures` is above FEW_SCENES. Otherwise, and on a GPU, where the
    many small kernels of painting would take longer than the training, all pictures are painted once and batches are
    taken from them.
    """

    def __init__(self, size: int, settings: BatchSettings, device: torch.device) -> None:
        self.size, self.settings, self.device = size, settings, device
        self.classes, self.stamp = list(scenes.CLASSES), f"scenes {settings.seed} {settings.pictures}"
        self.pool: tuple[Tensor, Tensor] | None = None  # pixels (N, 3, S, S) uint8, labels (N,)
        # For Apple GPUs the random numbers come from the CPU, which works in every version of torch.
        self.generator = torch.Generator(device if device.type == "cuda" else "cpu")

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Pixels (B, 3, S, S) in [0, 1] and labels (B,)."""
        if self.device.type != "cuda" and self.settings.pictures > FEW_SCENES:
            return random_scenes(self.settings.batch, self._seed(step), self.size, self.device)
        if self.pool is None:
            painted = [(pixels.mul(255).round_().byte(), labels) for pixels, labels in self.blocks()]
            self.pool = torch.cat([pixels for pixels, _ in painted]), torch.cat([labels for _, labels in painted])
        pixels, labels = self.pool
        self.generator.manual_seed(self._seed(step))
        place = self.generator.device
        rows = torch.randint(len(labels), (self.settings.batch,), device=place, generator=self.generator)
        rows = rows.to(self.device)
        return pixels[rows].float() / 255, labels[rows]

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All training pictures and their labels in blocks, for the pool and the id cache."""
        total, block = self.settings.pictures, 4096 if self.device.type == "cuda" else 128
        for start in tqdm(range(0, total, block), desc="painting", unit="block"):
            yield random_scenes(min(block, total - start), self._seed(start), self.size, self.device)

    def unseen(self, count: int) -> tuple[Tensor, Tensor]:
        """Pictures that training never sees: pixels (count, 3, S, S), labels (count,)."""
        # Above the seeds of every evaluation, which must not measure on the pictures that chose the best weights.
        return random_scenes(count, scenes.TEST_SEED + 2**61, self.size, self.device)

    def _seed(self, number: int) -> int:
        """A training seed, below scenes.TEST_SEED."""
        return (self.settings.seed * 1_000_003 + number) % scenes.TEST_SEED


class FolderSource:
    """A folder of pictures with one subfolder for each class (see `data.PictureFolder`, also for its errors)."""

    def __init__(
        self, folder: Path, size: int, settings: BatchSettings, device: torch.device, workers: int | None = None
    ) -> None:
        opened, problems, workers = [], [], reading_workers(workers)
        for split in ("train", "test"):
            try:
                opened.append(PictureFolder(folder, size, split, device, workers=workers))
            except UnfitPictures as error:  # those of both are named at once
                problems += error.problems
        if problems:
            raise UnfitPictures(problems, size)
        self.train, self.test = opened
        self.settings, self.classes = settings, self.train.classes
        self.stamp = fingerprint(self.train)

    def report(self) -> list[str]:
        """Lines that say which pictures were found, how they are used, and what is left out."""
        layout = self.train.layout
        found = f"{len(self.classes):,} classes, {len(self.train):,} pictures to train on"
        lines = [f"{found}, {len(self.test):,} held out ({layout.held_out})"]
        for pictures in (self.train, self.test):
            if missing := len(self.classes) - len({name.split("/")[0] for name in pictures.names}):
                lines.append(f"{missing:,} of the classes have no picture {_USES[pictures.split]}")
        return lines + list(dict.fromkeys(layout.notes + self.test.layout.notes))

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented pixels (B, 3, S, S) in [0, 1] and labels (B,)."""
        return self.train.batch(step, self.settings.batch, self.settings.seed)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Ten crops of every training picture, in blocks, for the id cache."""
        return self.train.ten_crops()

    def unseen(self, count: int) -> tuple[Tensor, Tensor]:
        """Held-out pictures spread over the classes: pixels (n, 3, S, S), labels (n,), n at most count."""
        rows = torch.linspace(0, len(self.test) - 1, min(count, len(self.test))).long()
        return self.test.whole(rows), self.test.labels[rows.to(self.test.labels.device)]


class ScannedSource:
    """Another source's pictures with their patches in another order (see scan.py)."""

    def __init__(self, source: Source, scan: str, patch: int) -> None:
        self.source, self.scan, self.patch = source, scan, patch
        self.classes, self.stamp = source.classes, f"{source.stamp} {scan}"

    def _read(self, pictures: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return scanned(pictures[0], self.scan, self.patch), pictures[1]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Pixels (B, 3, S, S) in [0, 1] and labels (B,)."""
        return self._read(self.source.batch(step))

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All training pictures in blocks."""
        return map(self._read, self.source.blocks())

    def unseen(self, count: int) -> tuple[Tensor, Tensor]:
        """Pictures that training never sees."""
        return self._read(self.source.unseen(count))


def open_source(
    data: str, size: int, settings: BatchSettings, device: torch.device, workers: int | None = None
) -> Source:
    """The source named on the command line: "scenes", or a folder, whose report is printed.

    `workers` processes read the folder (see `PictureFolder`). ValueError for a folder that cannot be used.
    """
    if data == "scenes":
        return SceneSource(size, settings, device)
    source = FolderSource(Path(data), size, settings, device, workers)
    for line in source.report():
        say(line)
    return source


def slices(total: int, batch: int) -> Iterator[slice]:
    """Slices of `batch` rows that together cover `total` rows; the last may be shorter."""
    return (slice(i, min(i + batch, total)) for i in range(0, total, batch))


def unseen_scenes(count: int, seed: int, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of scenes that no training sees, `count` in all: pixels (B, 3, size, size), labels (B,).

    Classes take turns: random shares of the classes would change a Frechet distance more than the pictures do.
    """
    for part in slices(count, BATCH):
        labels = torch.arange(part.start, part.stop) % len(scenes.CLASSES)
        first = scenes.TEST_SEED + seed * 1_000_003 + part.start
        yield scenes.render(labels, first, size, device), labels.to(device)


def whole_pictures(pictures: PictureFolder, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of pictures of a folder as they are, spread over its classes, at most `count` in all."""
    for rows in torch.linspace(0, len(pictures) - 1, min(count, len(pictures))).long().split(BATCH):
        yield pictures.whole(rows), pictures.labels[rows.to(pictures.labels.device)]


def judge_source(data: str, size: int, device: torch.device) -> Source:
    """The pictures that every judge is trained on; `data` as for `open_source`."""
    return open_source(data, size, PlainSettings(256 if device.type == "cuda" else 64, 60_000, 77), device)
