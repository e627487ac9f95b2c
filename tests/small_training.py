"""Sources and tasks so small that what a training does can be worked out by hand."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import small_model
from torch import Tensor, nn

from alitok_lite.core.losses import LossWeights
from alitok_lite.train import loop, run, tasks
from alitok_lite.train.settings import TrainSettings

pytest.importorskip("accelerate")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Compiling for a GPU would take longer than these trainings; import this fixture where it is wanted."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


class Grey:
    """Pictures of one grey value as a source of training data."""

    classes = ["sea", "house", "tree"]
    stamp = "grey"

    def __init__(self, value: float = 0.9) -> None:
        self.pixels = torch.full((4, 3, 32, 32), value)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.pixels, torch.zeros(4, dtype=torch.long)

    unseen = batch


def tokenizer_task(
    losses: LossWeights, name: str = "tokenizer", perceptual=None, source=None, features=None, **settings
):
    """A task for stage 1 ("tokenizer") or stage 2 ("decoder") of a small model."""
    known = {"steps": 4, "batch": 4, "lr": 0.02, "losses": losses}
    model = small_model((1, 2) if name == "decoder" else (1,))
    settings, source = TrainSettings(**known | settings), source or Grey()
    return tasks.TokenizerTask(name, model, settings, run.accelerator_front(), source, perceptual, features)


class Numbered:
    """Pictures that show their own number as a grey value: 0 to 47 in training, 48 to 95 unseen. Class: number % 3."""

    classes = ["sea", "house", "tree"]
    stamp = "numbered"

    def pictures(self, first: int) -> tuple[Tensor, Tensor]:
        numbers = torch.arange(first, first + 48)
        return (numbers / 255).view(-1, 1, 1, 1).expand(-1, 3, 32, 32), numbers % 3

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.pictures(0)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        pixels, labels = self.pictures(0)
        yield from zip(pixels.split(20), labels.split(20), strict=True)

    def unseen(self, count: int) -> tuple[Tensor, Tensor]:
        return self.pictures(48)


def digits(pixels: Tensor) -> Tensor:
    """In place of a tokenizer's `encode`: the number that a picture shows, in base 16 by the first two of 7 tokens."""
    numbers = (pixels[:, 0, 0, 0] * 255).round().long()
    return torch.stack([numbers // 16, *[numbers % 16] * 6], 1)


def ar_task(folder: Path, **settings) -> tasks.ARTask:
    """A task for the AR model of a small model whose ids are `digits` of numbered pictures."""
    known = {"steps": 4, "batch": 4, "warmup": 1, "lr": 0.01}
    model, settings = small_model((1,)), TrainSettings(**known | settings)
    model.tokenizer.encode = digits
    (folder / "state").mkdir(exist_ok=True)
    return tasks.ARTask(model, settings, run.accelerator_front(), Numbered(), folder)


class Toy(tasks.Task):
    """A weight and a bias, both 1 at first, whose gradients at a step are the mean of that step's row of numbers."""

    def __init__(self, rows: list[list[float]], nats: list[float] = ()) -> None:
        model = SimpleNamespace(info={}, save_pretrained=lambda folder: self.written.append(self.values))
        super().__init__("toy", model, nn.Linear(1, 1), {})
        self.rows, self.nats = rows, list(nats)
        nn.init.ones_(self.network.weight)
        nn.init.ones_(self.network.bias)
        self.sizes: list[int] = []  # of the parts of all steps
        self.written: list[tuple[float, float]] = []  # weight and bias at every save

    @property
    def values(self) -> tuple[float, float]:
        return self.network.weight.item(), self.network.bias.item()

    def batch(self, step: int) -> tuple[Tensor]:
        return (torch.tensor(self.rows[step]),)

    def loss(self, network, batch, step):
        (row,) = batch
        self.sizes.append(len(row))
        loss = (row * network(torch.ones(len(row), 1))[:, 0]).mean()
        return loss, {"loss": loss}

    def diagnose(self) -> dict[str, float]:
        return {"train nats": 0.0, "test nats": self.nats.pop(0)} if self.nats else {}

    def sheet(self) -> list[Tensor]:
        return [torch.zeros(1, 3, 8, 8)]


def fit(task: tasks.Task, settings: TrainSettings, folder: Path) -> tasks.Task:
    """Train a task in a folder of its own; returns the task."""
    (folder / "state").mkdir(parents=True, exist_ok=True)
    loop.fit(task, settings, folder, False, run.accelerator_front())
    return task
