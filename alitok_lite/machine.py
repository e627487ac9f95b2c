"""What this machine has: devices and types of numbers."""

import ast
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def sample_inside(pixels: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear values of pixels (B, C, H, W) at places x, y (B, h, w) in [-1, 1]: (B, C, h, w).

    x runs right and y down between the outer edges of the picture; a place outside has the value of the nearest pixel.
    `F.grid_sample` has a padding mode for that, "border", which Apple GPUs lack before torch 2.13. Places are therefore
    held between the centres of the outermost pixels, which gives the same up to rounding.
    """
    height, width = pixels.shape[2:]
    inside = [at.clamp(1 / size - 1, 1 - 1 / size) for at, size in ((x, width), (y, height))]
    grid = torch.stack(torch.broadcast_tensors(*inside), -1)  # (B, h, w, 2)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def resize(pixels: Tensor, size: int, mode: str) -> Tensor:
    """Antialiased "bilinear" or "bicubic" resizing as Pillow does it, (B, C, H, W) -> (B, C, size, size).

    Apple GPUs lack its gradient, so the CPU does it for devices other than CUDA.
    """
    place = pixels if pixels.device.type in ("cpu", "cuda") else pixels.cpu()
    return F.interpolate(place, (size, size), mode=mode, antialias=True, align_corners=False).to(pixels.device)


def main_process() -> bool:
    """Whether this process speaks: the only one, or the first of those that a launcher such as `accelerate` started."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Print a line above the progress bars, once for all processes."""
    if not main_process():
        return
    try:
        tqdm.write(text)
    except UnicodeEncodeError:  # a console with few letters: names are then written in escapes
        tqdm.write(ascii(text)[1:-1])


def allowed_workers(wished: int) -> int:
    """The number of processes that may read pictures: none where they could not start, which is said in a line.

    macOS and Windows start a process by running the script again, which must not start further ones: the call must
    stand under `if __name__ == "__main__":`. Raises ValueError for less than 0.
    """
    if wished < 0:
        raise ValueError(f"workers is {wished}; it must be a whole number of 0 or more")
    if wished and not _guarded():
        say(
            f"pictures are read by this process alone: put what {Path(sys.argv[0]).name} does under"
            ' `if __name__ == "__main__":`, so that others can start, or say workers=0'
        )
        return 0
    return wished


def _guarded() -> bool:
    """Whether a new process would not run the present call again."""
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    frame, found = sys._getframe(), None
    while frame is not None:
        if frame.f_globals.get("__name__") == "__main__" and frame.f_code.co_name == "<module>":
            found = frame
        frame = frame.f_back
    if method == "fork" or found is None or not hasattr(sys.modules["__main__"], "__file__"):
        return True
    try:
        tree = ast.parse(Path(found.f_code.co_filename).read_bytes())
    except (OSError, SyntaxError, ValueError):  # no script: a notebook, or what was typed
        return True
    guards = [node for node in tree.body if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)]
    return any(node.lineno <= found.f_lineno <= (node.end_lineno or node.lineno) for node in guards)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started meanwhile do not hear Ctrl-C: the one that started them ends them, without a word."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def quiet_worker(number: int) -> None:
    """For a process that reads pictures: no traceback when the one that it reads for has gone, as after Ctrl-C."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, ConnectionError | EOFError):
            usual(kind, error, trace)

    sys.excepthook = hook


def choose_device(device: str | torch.device) -> torch.device:
    """'auto' becomes CUDA, else Apple's MPS, else the CPU. ValueError for a device that this machine lacks."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    there = [name for name, available in here.items() if available]
    if device == "auto":
        return torch.device(there[0])
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    missing = chosen is not None and chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count()
    if chosen is None or chosen.type not in there or missing:
        raise ValueError(f"device is {str(device)!r}; this machine has auto, {', '.join(there)}")
    return chosen


def borrowed_gpu() -> bool:
    """Whether this is a ZeroGPU Space, which lends a GPU for a call; read as its package `spaces` reads it."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def wait(device: torch.device) -> None:
    """Until a GPU has done what was asked of it; clocks are read after that."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
