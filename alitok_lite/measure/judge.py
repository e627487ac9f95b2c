"""Small classifiers of pictures: a judge, in whose features Frechet distances are measured, and one of details.

A judge that sees the whole picture knows a class by colours and places, also where all detail is smeared. So
`evaluate` asks a second network too, which has to name the class by what small windows show without their colour.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from ..files import write_atomically

Batches = Callable[[int], tuple[Tensor, Tensor]]  # step -> pixels (B, 3, S, S), labels (B,)
DETAILS_EVERY = 3  # steps of a judge for one of its details, which need fewer


class Judge(nn.Module):
    """A small residual CNN that names the class of a picture; Frechet distances are measured in its pooled features.

    Shape: Judge(5)((2, 3, 32, 32)) -> (2, 5)
    """

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in zip([width, *widths], widths, strict=False))
        self.mix = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, w), nn.GELU(), nn.Conv2d(w, w, 3, padding=1)) for w in widths
        )
        self.output = nn.Linear(widths[-1], classes)

    def features(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, S, S) in [0, 1] -> (B, 128)"""
        x = self.stem(2 * pixels - 1)
        for down, mix in zip(self.down, self.mix, strict=True):
            x = down(F.gelu(x))
            x = x + mix(x)
        return x.mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.output(self.features(pixels))


class Details(nn.Module):
    """A CNN that names the class by windows of 17 x 17 pixels without colour, wherever they are: by what they show on
    average.

    Batch normalisation, which is fitted to real pictures, makes it strict about others.

    Shape: Details(5)((2, 3, 32, 32)) -> (2, 5)
    """

    def __init__(self, classes: int, width: int = 24) -> None:
        super().__init__()
        sizes = [(1, width, 5, 2, 2), (width, 2 * width, 3, 2, 0), (2 * width, 4 * width, 3, 1, 0)]
        layers = [(nn.Conv2d(*size), nn.BatchNorm2d(size[1]), nn.ReLU()) for size in sizes]
        self.windows = nn.Sequential(*(part for layer in layers for part in layer))
        self.output = nn.Linear(4 * width, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        grey = pixels.mean(1, keepdim=True)
        return self.output(self.windows(2 * grey - 1).mean((2, 3)))


class DetailJudge(Judge):
    """A Judge with a second opinion, `details`. Trained with the same seed, the Judge itself is the same as alone."""

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__(classes, width)  # first: it gets the random numbers that it gets alone
        self.details = Details(classes)


class _Training:
    """A network of a judge, some of its parameters, and how they learn: AdamW with one cycle of the learning rate."""

    def __init__(self, network: nn.Module, parameters: list[nn.Parameter], rate: float, steps: int) -> None:
        self.network, self.parameters = network, parameters
        fused = parameters[0].device.type == "cuda"
        self.optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.02, fused=fused)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, rate, total_steps=steps)

    def step(self, pixels: Tensor, labels: Tensor) -> None:
        """One step of cross-entropy."""
        kind = pixels.device.type
        # Two runs must give the same numbers, which the fastest algorithms of cuDNN do not.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True):
            with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
                loss = F.cross_entropy(self.network(pixels), labels, label_smoothing=0.05)
            self.optimizer.zero_grad()
            loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()


def train_judge(
    batches: Batches, classes: int, steps: int, device: torch.device, seed: int = 0, kind: type[Judge] = Judge
) -> Judge:
    """A Judge trained for some steps of cross-entropy; `batches(step)` gives pixels and labels on the device.

    The `details` of a DetailJudge learn from every third of these batches. The same seed gives the same judge on the
    same kind of device.
    """
    torch.manual_seed(seed)
    judge = kind(classes).to(device)
    own = [value for name, value in judge.named_parameters() if not name.startswith("details.")]
    whole, details = _Training(judge, own, 2e-3, steps), None
    if isinstance(judge, DetailJudge):
        details = _Training(judge.details, [*judge.details.parameters()], 5e-3, math.ceil(steps / DETAILS_EVERY))
    for step in tqdm(range(steps), desc="judge", unit="step"):
        pixels, labels = batches(step)
        whole.step(pixels, labels)
        if details is not None and step % DETAILS_EVERY == 0:
            details.step(pixels, labels)
    return judge.eval()


def stored_judge(
    path: Path,
    batches: Batches,
    classes: list[str],
    steps: int,
    device: torch.device,
    kind: type[Judge] = Judge,
) -> Judge:
    """The judge that a file holds; where there is no file, one is trained (see `train_judge`) and kept there.

    Only distances by the same judge can be compared. Of several processes, the first that finishes keeps its judge.
    A file that an earlier version wrote holds a plain Judge, which is returned whatever the `kind`. Raises ValueError
    for a file that holds something else, or a judge of other classes or steps.
    """
    plain = {"classes": json.dumps(classes), "steps": str(steps)}
    made = plain | ({} if kind is Judge else {"kind": kind.__name__})
    if not path.exists():
        judge = train_judge(batches, len(classes), steps, device, 0, kind)
        tensors = {key: value.cpu().contiguous() for key, value in judge.state_dict().items()}
        write_atomically(path, save(tensors, made), replace=False)
    try:
        with safe_open(path, "pt") as file:
            if file.metadata() not in (made, plain):
                raise ValueError(f"{path} does not hold a judge of these {len(classes)} classes and {steps} steps")
            judge = (kind if file.metadata() == made else Judge)(len(classes)).to(device).eval()
            judge.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} does not hold a judge: {str(error).splitlines()[0]}") from error
    return judge
