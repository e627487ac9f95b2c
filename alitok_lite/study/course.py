"""How the dependence on later tokens comes about: the look-ahead share and the repaint share during a training.

A conventional tokenizer, whose decoder can look ahead, soon does so; a causal one cannot.
`python -m alitok_lite.study.course` measures again what results/matched/course.json holds, on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..core.config import PRESETS, Preset, resized
from ..core.losses import reconstruction_losses
from ..core.tokenizer import Tokenizer
from ..data.sources import SceneSource, unseen_scenes
from ..files import write_atomically
from ..machine import say
from ..measure.metrics import psnr
from ..measure.probe import dependency_map, later_share
from ..measure.repaint import repaint_share
from ..train.settings import ABLATIONS, TrainSettings
from .readers import descend
from .rows import RESULTS, ROWS

COURSE = RESULTS / "matched" / "course.json"
STEPS = (0, 25, 50, 75, 100, 150, 200, 250, 300, 400)
PICTURES, UNSEEN = 56, 2003  # scenes on which the shares are measured, and their seed


class _Course:
    """A tokenizer under training, which is measured at some steps."""

    def __init__(self, sizes: Preset, settings: TrainSettings, steps: Sequence[int]) -> None:
        torch.manual_seed(settings.seed)
        device, size = torch.device("cpu"), sizes.tokenizer.image_size
        self.tokenizer = Tokenizer(sizes.tokenizer, (1,) if sizes.tokenizer.aligned else (2,))
        self.settings, self.steps, self.step = settings, steps, 0
        self.source = SceneSource(size, settings, device)
        self.pictures = next(unseen_scenes(PICTURES, UNSEEN, size, device))[0]
        self.chosen: list[tuple[Tensor, Tensor]] = []  # latents and ids of the last step
        self.found: dict[str, list[float]] = {"look_ahead": [], "repainted": [], "psnr": []}

    def watch(self, step: int) -> None:
        """Move dead codes, which `train` does a moment earlier, between gradient and step; and measure."""
        self.step = step
        if self.chosen:
            self.tokenizer.quantizer.revive(*self.chosen.pop())
        if step in self.steps:
            self.tokenizer.eval()
            for name, value in shares(self.tokenizer, self.pictures).items():
                self.found[name].append(value)
            self.tokenizer.train()

    def loss(self) -> Tensor:
        """Of the present step's batch."""
        pixels, _ = self.source.batch(self.step)
        output = self.tokenizer(pixels, self.tokenizer.stages[-1])
        self.chosen.append((output.latents.detach(), output.ids))
        return torch.stack(list(reconstruction_losses(output, pixels, self.settings.losses).values())).sum()


@torch.no_grad()
def shares(tokenizer: Tokenizer, pictures: Tensor) -> dict[str, float]:
    """The look-ahead share, by changing one token at a time, the repaint share, and the PSNR in dB.

    Shape: shares(tokenizer, (2, 3, 32, 32)) -> {'look_ahead': float, 'repainted': float, 'psnr': float}
    """
    stage, ids = tokenizer.stages[-1], tokenizer.encode(pictures)
    decoded = tokenizer.decode(ids, stage)
    later = later_share(dependency_map(tokenizer, pictures, stage)).mean()
    told = repaint_share(tokenizer, ids, stage)["repainted"]
    return {"look_ahead": float(later), "repainted": told, "psnr": float(psnr(decoded, pictures).mean())}


def course(
    row: str, seed: int, steps: Sequence[int] = STEPS, preset: str = "tiny", settings: TrainSettings | None = None
) -> dict:
    """Train the tokenizer of a row ("A" conventional, "B" causal) on a CPU, and measure it at each of `steps`.

    Returns row, seed, steps and what `shares` gives, a number for each step; both shares are exactly 0 for a causal
    decoder. `settings` are those of the preset's ablation unless given; the last of `steps` is their end.
    Raises ValueError for steps that do not rise.
    """
    if not steps or list(steps) != sorted(set(steps)) or steps[0] < 0 or steps[-1] < 1:
        raise ValueError(f"steps are {list(steps)}; they must rise from 0 or more, and the last must be 1 or more")
    sizes = resized(PRESETS[preset], **ROWS[row].changes)
    settings = replace(settings or ABLATIONS[preset].tokenizer, steps=steps[-1], seed=seed)
    under_way = _Course(sizes, settings, steps)
    descend(under_way.tokenizer, under_way.loss, settings, torch.device("cpu"), seed, under_way.watch)
    under_way.watch(settings.steps)
    return {"row": row, "seed": seed, "steps": list(steps)} | under_way.found


def main(path: Path = COURSE, seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Measure rows A and B with some seeds, and store all courses in a file."""
    courses = []
    for seed in seeds:
        for row in ("A", "B"):
            courses.append(course(row, seed))
            last = {name: round(courses[-1][name][-1], 3) for name in ("look_ahead", "repainted", "psnr")}
            say(f"row {row}, seed {seed}, after {STEPS[-1]} steps: {last}")
    settings = ABLATIONS["tiny"].tokenizer
    made = {"preset": "tiny", "batch": settings.batch, "pictures": PICTURES, "courses": courses}
    write_atomically(path, (json.dumps(made, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
