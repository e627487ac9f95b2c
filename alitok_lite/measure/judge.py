"""A small classifier of pictures, in whose features Frechet distances are measured."""

import json
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


def train_judge(batches: Batches, classes: int, steps: int, device: torch.device, seed: int = 0) -> Judge:
    """A Judge trained for some steps of cross-entropy; `batches(step)` gives pixels and labels on the device.

    The same seed gives the same judge on the same kind of device.
    """
    torch.manual_seed(seed)
    judge = Judge(classes).to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.02, fused=device.type == "cuda")
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in tqdm(range(steps), desc="judge", unit="step"):
        pixels, labels = batches(step)
        # Two runs must give the same numbers, which the fastest algorithms of cuDNN do not.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = F.cross_entropy(judge(pixels), labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return judge.eval()


def stored_judge(path: Path, batches: Batches, classes: list[str], steps: int, device: torch.device) -> Judge:
    """The judge that a file holds; where there is no file, one is trained (see `train_judge`) and kept there.

    Only distances by the same judge can be compared. Of several processes, the first that finishes keeps its judge.
    Raises ValueError for a file that holds something else, or a judge of other classes or steps.
    """
    made = {"classes": json.dumps(classes), "steps": str(steps)}
    if not path.exists():
        judge = train_judge(batches, len(classes), steps, device)
        tensors = {key: value.cpu().contiguous() for key, value in judge.state_dict().items()}
        write_atomically(path, save(tensors, made), replace=False)
    judge = Judge(len(classes)).to(device).eval()
    try:
        with safe_open(path, "pt") as file:
            if file.metadata() != made:
                raise ValueError(f"{path} does not hold a judge of these {len(classes)} classes and {steps} steps")
            judge.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} does not hold a judge: {str(error).splitlines()[0]}") from error
    return judge
