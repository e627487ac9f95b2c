"""How long a tokenizer paints only the mean picture: by the contrast of its pictures, and by how it begins.

`python -m alitok_lite.study.plateau` measures again what results/matched/plateau.json holds, on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..core.config import PRESETS, TokenizerConfig, resized
from ..core.losses import reconstruction_losses
from ..core.tokenizer import Tokenizer
from ..data.sources import SceneSource, unseen_scenes
from ..files import write_atomically
from ..machine import say
from ..train.fresh import standardise
from ..train.settings import ABLATIONS
from .readers import descend
from .rows import RESULTS, ROWS

PLATEAU = RESULTS / "matched" / "plateau.json"
STEPS = (0, 50, 100, 150, 200, 250, 300, 400)
CONTRASTS = (1.0, 0.35, 0.2)  # of the scenes; the pixels' distance to grey is multiplied by it
PICTURES, UNSEEN = 56, 2004  # scenes on which it is measured, and their seed
SETTINGS = replace(ABLATIONS["tiny"].tokenizer, batch=16, pictures=2000)


def sizes() -> TokenizerConfig:
    """A conventional tokenizer of few and narrow layers."""
    small = {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in (("width", 64), ("depth", 2))}
    return resized(PRESETS["tiny"], **small, encoder_heads=2, decoder_heads=2, **ROWS["A"].changes).tokenizer


def faded(pixels: Tensor, contrast: float) -> Tensor:
    """Pixels in [0, 1] with less contrast around grey."""
    return 0.5 + contrast * (pixels - 0.5)


@torch.no_grad()
def explained(tokenizer: Tokenizer, pixels: Tensor) -> float:
    """The share of the variance of pictures (N, 3, S, S) that their reconstructions explain.

    0 for the mean picture, 1 for perfect ones; below 0 where they are further away than the mean picture.
    """
    decoded = tokenizer.decode(tokenizer.encode(pixels))
    return 1 - float((decoded - pixels).square().mean() / (pixels - pixels.mean(0)).square().mean())


@torch.no_grad()
def between(tokenizer: Tokenizer, pixels: Tensor) -> float:
    """The standard deviation of latents between pictures (N, 3, S, S), as a share of their deviation in all.

    Near 0 where latents differ between positions and not between pictures.
    """
    latents = tokenizer.encoder(pixels)  # (N, T, d)
    return float(latents.std(0).square().mean().sqrt() / latents.std())


def plateau(contrast: float, standardised: bool, seed: int, steps: Sequence[int] = STEPS) -> dict:
    """Train a small tokenizer on a CPU; returns its settings, and `explained` and `between` at each step.

    `standardised`: whether it begins with its pictures' mean and contrast (see train/fresh.py). `steps` rise; training
    ends with the last.
    """
    torch.manual_seed(seed)
    device, config = torch.device("cpu"), sizes()
    settings = replace(SETTINGS, steps=steps[-1], seed=seed)
    tokenizer, source = Tokenizer(config, (2,)), SceneSource(config.image_size, settings, device)
    unseen = faded(next(unseen_scenes(PICTURES, UNSEEN, config.image_size, device))[0], contrast)
    if standardised:
        standardise(tokenizer, faded(source.batch(0)[0], contrast))
    found: dict[str, list[float]] = {"explained": [], "between": []}
    chosen: list[tuple[Tensor, Tensor]] = []  # latents and ids of the last step
    now = 0

    def watch(step: int) -> None:
        nonlocal now
        now = step
        if chosen:
            tokenizer.quantizer.revive(*chosen.pop())
        if step in steps:
            found["explained"].append(explained(tokenizer, unseen))
            found["between"].append(between(tokenizer, unseen))

    def loss() -> Tensor:
        pixels = faded(source.batch(now)[0], contrast)
        output = tokenizer(pixels, 2)
        chosen.append((output.latents.detach(), output.ids))
        return torch.stack(list(reconstruction_losses(output, pixels, settings.losses).values())).sum()

    descend(tokenizer, loss, settings, device, seed, watch)
    watch(settings.steps)
    return {"contrast": contrast, "standardised": standardised, "seed": seed, "steps": list(steps)} | found


def main(path: Path = PLATEAU, seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Measure all contrasts, with both ways to begin, and store them in a file."""
    runs = []
    for contrast in CONTRASTS:
        for standardised in (False, True):
            for seed in seeds:
                runs.append(plateau(contrast, standardised, seed))
                last = [round(x, 2) for x in runs[-1]["explained"]]
                say(f"contrast {contrast:g}, {'standardised' if standardised else 'plain'}, seed {seed}: {last}")
    made = {"batch": SETTINGS.batch, "pictures": PICTURES, "runs": runs}
    write_atomically(path, (json.dumps(made, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
