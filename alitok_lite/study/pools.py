"""The pictures of a study of tokenizers: unseen ones to measure on, those that readers learn, and judges of their kind.

`first` is what tokenizers reconstruct; `second`, other pictures of the same kind, shows how far apart two sets of real
pictures are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from .. import scenes
from ..data.augment import augment
from ..data.pictures import PictureFolder, fingerprint
from ..data.sources import SceneSource, Source
from ..measure.judge import Judge
from ..train.settings import TrainSettings
from . import measures

TEST = 54_321  # seed of the unseen scenes
WATCHED = 800  # held-out photographs on which readers choose their weights; no measure sees them


class Pool(Protocol):
    """What a study asks of its pictures; pixels are (N, 3, S, S) uint8 on the device, labels (N,)."""

    classes: list[str]
    first: Tensor
    labels: Tensor  # of `first`
    second: Tensor
    watched: Tensor
    watched_labels: Tensor

    def source(self, settings: TrainSettings) -> Source:
        """What a tokenizer learns from (see data/sources.py)."""

    def training(self, seed: int, count: int) -> tuple[Tensor, Tensor]:
        """Pictures and labels that decoders and readers learn from; `count` of them where they are painted."""

    def subset(self, count: int, pictures: int | None) -> Tensor | slice:
        """Which of the `count` training pictures belong to the first `pictures` different ones."""

    def fresh_judge(self) -> Judge:
        """A judge of these pictures, not trained."""

    def train_judge(self, pictures: int, steps: int, seed: int) -> Judge:
        """A judge of these pictures, trained on `pictures` of them where they are painted."""


def open_pool(data: str, size: int, pictures: int, hold_out: int, device: torch.device) -> Pool:
    """Scenes, `pictures` of them unseen, or the pictures of a folder."""
    if data == "scenes":
        return ScenePool(size, pictures, device)
    return FolderPool(Path(data), size, hold_out, device)


def painted(count: int, seed: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Scenes of all classes in turn: pixels (N, 3, S, S) uint8, labels (N,), factors (N, FREE_FACTORS)."""
    pixels, labels, factors = [], [], []
    for start in range(0, count, 4096):
        kinds = torch.arange(start, min(start + 4096, count)) % len(scenes.CLASSES)
        pixels.append(scenes.render(kinds, seed + start, size, device).mul_(255).round_().byte())
        labels.append(kinds.to(device))
        factors.append(scenes.factor_table(len(kinds), seed + start)[:, : scenes.FREE_FACTORS].to(device))
    return torch.cat(pixels), torch.cat(labels), torch.cat(factors)


class ScenePool:
    """Scenes, of which there is no end: no reader can memorise them."""

    def __init__(self, size: int, pictures: int, device: torch.device) -> None:
        self.size, self.device, self.classes = size, device, list(scenes.CLASSES)
        unseen = scenes.TEST_SEED + TEST * 1_000_003
        self.first, self.labels, _ = painted(pictures, unseen, size, device)
        self.second, _, _ = painted(pictures, unseen + 10**9, size, device)
        self.watched, self.watched_labels = self.first[:0], self.labels[:0]

    def source(self, settings: TrainSettings) -> SceneSource:
        return SceneSource(self.size, settings, self.device)

    def training(self, seed: int, count: int) -> tuple[Tensor, Tensor]:
        return painted(count, (seed + 1) * 20_000_003, self.size, self.device)[:2]

    def subset(self, count: int, pictures: int | None) -> Tensor | slice:
        return slice(None) if pictures is None else slice(pictures)

    def fresh_judge(self) -> Judge:
        return measures.FactorJudge(len(self.classes))

    def train_judge(self, pictures: int, steps: int, seed: int) -> Judge:
        return measures.train_factor_judge(*painted(pictures, 77_000_231, self.size, self.device), steps, seed)


class FolderPool:
    """The pictures of a folder (see data/folders.py), all in the device's memory.

    Unseen are those of test/ and every `hold_out`-th of train/: 800 on which readers choose their weights, and the
    rest in two halves.
    """

    def __init__(self, folder: Path, size: int, hold_out: int, device: torch.device) -> None:
        self.size, self.device = size, device
        train, test = (PictureFolder(folder, size, split, device, workers=2) for split in ("train", "test"))
        self.classes, self.stamp = train.classes, f"{fingerprint(train)} without every {hold_out}th"
        held = torch.arange(len(train), device=device) % hold_out == 0
        self.stored, self.kinds = train.pool[~held], train.labels[~held]  # (N, 3, s, s), at their own size
        unseen, labels = [test.whole(slice(None)), train.whole(held.nonzero()[:, 0])], [test.labels, train.labels[held]]
        pixels, kinds = torch.cat(unseen).mul_(255).round_().byte(), torch.cat(labels)
        order = torch.randperm(len(kinds), generator=torch.Generator().manual_seed(0)).to(device)
        half, watched = (len(order) - WATCHED) // 2, order[:WATCHED]
        self.watched, self.watched_labels = pixels[watched], kinds[watched]
        first, second = order[WATCHED : WATCHED + half], order[WATCHED + half : WATCHED + 2 * half]
        self.first, self.labels, self.second = pixels[first], kinds[first], pixels[second]
        whole = [train.whole(rows) for rows in (~held).nonzero()[:, 0].split(2000)]
        self.whole = torch.cat([part.mul_(255).round_().byte() for part in whole])
        self.order = torch.randperm(len(self.kinds), generator=torch.Generator().manual_seed(1)).to(device)

    def source(self, settings: TrainSettings) -> FolderPoolSource:
        return FolderPoolSource(self, settings)

    def training(self, seed: int, count: int) -> tuple[Tensor, Tensor]:
        """All of them and their mirror images, whatever `seed` and `count`."""
        return torch.cat([self.whole, self.whole.flip(3)]), self.kinds.repeat(2)

    def subset(self, count: int, pictures: int | None) -> Tensor:
        chosen = self.order[:pictures]
        return torch.cat([chosen, chosen + count // 2])

    def fresh_judge(self) -> Judge:
        return Judge(len(self.classes))

    def train_judge(self, pictures: int, steps: int, seed: int) -> Judge:
        return measures.train_photo_judge(self.stored, self.kinds, len(self.classes), steps, seed, self.size)


class FolderPoolSource:
    """Training pictures of a FolderPool as a source: crops, flips and colours from (seed, step) alone."""

    def __init__(self, pool: FolderPool, settings: TrainSettings) -> None:
        self.pool, self.settings, self.classes, self.stamp = pool, settings, pool.classes, pool.stamp
        self.generator = torch.Generator(pool.device)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented pixels (B, 3, S, S) in [0, 1] and labels (B,)."""
        pool, count = self.pool, self.settings.batch
        self.generator.manual_seed(self.settings.seed * 1_000_003 + step)
        rows = torch.randint(len(pool.kinds), (count,), device=pool.device, generator=self.generator)
        numbers = torch.rand(count, 8, device=pool.device, generator=self.generator)
        return augment(pool.stored[rows], numbers, pool.size), pool.kinds[rows]

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The pictures as they are and their mirror images, in blocks."""
        pixels, labels = self.pool.training(0, 0)
        return ((part.float() / 255, kinds) for part, kinds in zip(pixels.split(1000), labels.split(1000), strict=True))

    def unseen(self, count: int) -> tuple[Tensor, Tensor]:
        """Held-out pictures: the first of those that no measure sees."""
        return self.pool.watched[:count].float() / 255, self.pool.watched_labels[:count]
