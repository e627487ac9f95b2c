"""Time and memory of a training step, to know before a long training begins."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.ar import ARModel
from ..core.config import Preset
from ..core.tokenizer import Tokenizer
from ..data.sources import Source
from ..machine import wait
from ..model import AliTok
from ..train import loop, run
from ..train.further import train_further
from ..train.perceptual import FeatureLoss, PerceptualLoss
from ..train.settings import TrainSettings
from ..train.tasks import ARTask, Task, TokenizerTask

if TYPE_CHECKING:
    from accelerate import Accelerator


class NoiseSource:
    """Random pictures of the size of real ones, made without delay (see `data.sources.Source`)."""

    def __init__(self, size: int, classes: int, batch: int, device: torch.device) -> None:
        self.classes, self.stamp = [str(i) for i in range(classes)], "noise"
        self.pixels = torch.rand(batch, 3, size, size, device=device)
        self.labels = torch.randint(classes, (batch,), device=device)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Pixels (B, 3, S, S) in [0, 1] and labels (B,), the same at every step."""
        return self.pixels, self.labels

    def unseen(self, count: int) -> tuple[Tensor, Tensor]:
        """The first of them, 8 at most."""
        return self.pixels[: min(count, 8)], self.labels[: min(count, 8)]

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The same, as the only block: the id cache is small."""
        yield self.unseen(8)


def training_cost(kind: str, sizes: Preset, settings: TrainSettings, steps: int = 10) -> dict[str, float]:
    """Time and memory of a training step of 'tokenizer', 'decoder' or 'ar', with random weights and pictures.

    Returns parameters (of what is trained), batch, seconds (a step, the mean of `steps` after 3 that warm up),
    images_per_second, and on a GPU memory_gb (peak). The adversarial term counts where its weight is not 0.
    Raises ValueError as `train` does.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be 1 or more")
    accelerator = run.accelerator_front()
    device = accelerator.device
    source = NoiseSource(sizes.tokenizer.image_size, sizes.ar.classes, settings.batch, device)
    with tempfile.TemporaryDirectory() as folder:
        task = _task(kind, sizes, settings, accelerator, source, Path(folder))
    optimizers = loop.optimizers_of(task, settings, fused=device.type == "cuda")
    network, optimizer = accelerator.prepare(task.network, optimizers["optimizer"])
    task.network.train()
    late = settings.steps  # a step at which the critic has joined
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for step in range(3 + steps):
        if step == 3:
            wait(device)
            began = time.perf_counter()
        loop.backward(task, network, settings, late, accelerator)
        accelerator.clip_grad_norm_(task.network.parameters(), settings.clip)
        task.before_update()
        optimizer.step()
        optimizer.zero_grad()
    wait(device)
    seconds = (time.perf_counter() - began) / steps
    parameters = sum(p.numel() for p in task.network.parameters())
    cost = {"parameters": parameters, "batch": settings.batch, "seconds": seconds}
    cost["images_per_second"] = settings.batch / seconds
    if device.type == "cuda":
        cost["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return cost


def _task(
    kind: str, sizes: Preset, settings: TrainSettings, accelerator: Accelerator, source: Source, folder: Path
) -> Task:
    """The task that `train` would build, around random weights."""
    device = accelerator.device
    model = AliTok(Tokenizer(sizes.tokenizer, (1,) if sizes.tokenizer.aligned else (2,)), None, source.classes)
    model.to(device)
    if kind != "tokenizer":
        model.tokenizer.requires_grad_(False)
    if kind == "ar":
        model.ar = ARModel(sizes.ar).to(device)
        (folder / "state").mkdir()
        return ARTask(model, settings, accelerator, source, folder)
    if kind == "decoder" and settings.further:
        train_further(model.tokenizer)
    elif kind == "decoder":
        model.tokenizer.decoder2 = run.second_decoder(model.tokenizer).to(device)
    perceptual = PerceptualLoss().to(device) if settings.losses.perceptual else None
    features = FeatureLoss(device) if settings.losses.features else None
    return TokenizerTask(kind, model, settings, accelerator, source, perceptual, features)
