"""How fast pictures are sampled, and how close that is to what the hardware allows.

The bound is the time of a machine that moves only what it must: in a decoding step all weights of the AR model once and
the keys and values of every row so far, and for each picture the work of the decoder; or the time of the arithmetic, if
that is longer. Bandwidth and arithmetic rate are measured first, so that shares of the bound compare across devices.
"""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from .. import __version__
from ..core.config import ARConfig, Preset, TokenizerConfig
from ..data.pictures import PictureFolder
from ..machine import wait
from ..model import AliTok
from ..packed import packed
from ..recorded import recorded
from .official import OfficialCode


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Seconds of each of some runs."""
    found = []
    for _ in range(repeats):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - began)
    return found


def rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Bytes a second of a copy (read and written) and FLOP a second of a matrix product on the device."""
    large, side = (2**30, 8192) if device.type == "cuda" else (2**26, 1024)
    a = torch.empty(large, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    x, y = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    work = {"bytes": (lambda: b.copy_(a), 2 * large), "flop": (lambda: x @ y, 2 * side**3)}
    return {name: amount / min(timed(do, device, 5)[1:]) for name, (do, amount) in work.items()}


def ar_work(config: ARConfig, rows: int, itemsize: int) -> dict[str, float]:
    """The least bytes and FLOP for sampling all T tokens, `rows` at once (two a picture with guidance)."""
    width, tokens = config.width, config.tokens
    layer = 4 * width**2 + 3 * width * config.hidden
    weights = config.depth * layer + width * config.codebook_size
    places = tokens * (tokens + 1) // 2  # that all steps together attend to
    cache = 2 * config.depth * width * places * rows  # numbers read; what is written is little beside it
    flop = 2 * weights * tokens * rows + 4 * config.depth * width * places * rows
    return {"bytes": float(itemsize * (weights * tokens + cache)), "flop": float(flop)}


def decoder_work(config: TokenizerConfig, pictures: int, itemsize: int) -> dict[str, float]:
    """Bytes of the weights, once, and FLOP of decoding so many pictures with the bidirectional decoder."""
    width, length = config.decoder_width, config.tokens + config.buffer_tokens
    weights = config.decoder_depth * 12 * width**2
    flop = pictures * (2 * weights * length + 4 * config.decoder_depth * width * length**2)
    return {"bytes": float(itemsize * weights), "flop": float(flop)}


def bound(work: dict[str, float], speed: dict[str, float]) -> float:
    """Seconds below which the work cannot be done."""
    return max(work[name] / speed[name] for name in work)


def measure(
    draw: Callable[[], Tensor], decode: Callable[[Tensor], object], pictures: int, device: torch.device, repeats: int
) -> dict[str, float]:
    """Seconds of drawing ids (pictures, T) and of decoding them: median and spread (maximum - minimum) of the repeats.

    `first` is the first drawing, in which the fast path compiles and records; memory_gb is the peak on a GPU.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ids: list[Tensor] = []

    def keep() -> None:
        ids[:] = [draw()]

    first = timed(keep, device, 1)[0]
    drawing = timed(keep, device, repeats)
    decoding = timed(lambda: decode(ids[0]), device, 1 + repeats)[1:]
    found = {"pictures": pictures, "first": first, "draw": median(drawing), "draw_spread": max(drawing) - min(drawing)}
    found |= {"decode": median(decoding), "decode_spread": max(decoding) - min(decoding)}
    seconds = found["draw"] + found["decode"]
    found |= {"seconds": seconds, "images_per_second": pictures / seconds}
    found["tokens_per_second"] = ids[0].numel() / found["draw"]
    if device.type == "cuda":
        found["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def _drawn(model: AliTok, classes: list[int], fast: bool) -> Tensor:
    """Ids (n, T) of classes, with guidance."""
    for step in model.stream(classes, 0, guidance=2.0, fast=fast):
        ids = step.ids
    return ids


def _official(code: OfficialCode, preset: Preset, batches: list[int], device: torch.device, repeats: int) -> list[dict]:
    """Rows of the official code, which is on the device only meanwhile."""
    code.to(device)
    rows = []
    for pictures in batches:
        classes = [i % preset.ar.classes for i in range(pictures)]
        found = measure(partial(code.draw, classes), code.decode, pictures, device, repeats)
        rows.append({"path": "official"} | found)
    code.to("cpu")
    return rows


def encoding(model: AliTok, pictures: int, repeats: int) -> float:
    """Pictures a second that are turned into ids, `pictures` at once."""
    side = model.tokenizer.config.image_size
    pixels = torch.rand(pictures, 3, side, side, device=model.device)
    model.tokenizer.encode(pixels)
    return pictures / median(timed(lambda: model.tokenizer.encode(pixels), model.device, repeats))


def caching(preset: Preset, folder: str, device: torch.device, dtype: torch.dtype) -> float:
    """Crops a second of a folder of pictures that become ids, reading and decoding included, as for an id cache.

    Raises ValueError for a folder that cannot be used, see `data.PictureFolder`.
    """
    pictures = PictureFolder(folder, preset.tokenizer.image_size, device=device, memory=0)  # as if it were ImageNet
    tokenizer = random_model(preset, device, dtype).tokenizer

    def encode_all() -> None:
        for pixels, _ in pictures.ten_crops():
            tokenizer.encode(pixels)

    return 10 * len(pictures) / timed(encode_all, device, 1)[0]


def random_model(preset: Preset, device: torch.device, dtype: torch.dtype) -> AliTok:
    """A model of a preset's size, whose logits differ from code to code."""
    with torch.device(device):
        model = AliTok.from_preset(preset, [str(i) for i in range(preset.ar.classes)], (2,)).to(device, dtype)
    torch.nn.init.normal_(model.ar.output.weight, std=0.02)
    return model


def bench(
    preset: Preset, batches: list[int], device: torch.device, dtype: torch.dtype, repeats: int = 3,
    official: OfficialCode | None = None,
) -> dict:  # fmt: skip
    """Plain and fast path side by side for each number of pictures, with random weights and guidance.

    Returns device, versions, commit, the measured rates, pictures a second of encoding, and `rows`: what `measure`
    found, with path, bound (seconds) and share of it. The fast path is left out where it does not apply; the official
    code, which computes in float32 whatever the dtype, comes first where it is given (official.py).
    """
    speed, itemsize = rates(device, dtype), dtype.itemsize
    rows = [] if official is None else _official(official, preset, batches, device, repeats)
    model = random_model(preset, device, dtype)
    for pictures in batches:
        classes = [i % preset.ar.classes for i in range(pictures)]
        faster = device.type == "cuda" or packed(model.ar) is not model.ar
        for path in ("plain", "fast") if faster else ("plain",):
            draw = partial(_drawn, model, classes, path == "fast")
            tokenizer = recorded(packed(model.tokenizer)) if path == "fast" else model.tokenizer
            rows.append({"path": path} | measure(draw, tokenizer.decode, pictures, device, repeats))
    for row in rows:
        least = bound(ar_work(preset.ar, 2 * row["pictures"], itemsize), speed)
        least += bound(decoder_work(preset.tokenizer, row["pictures"], itemsize), speed)
        row |= {"bound": least, "share_of_bound": least / row["seconds"]}
    rows.sort(key=lambda row: batches.index(row["pictures"]))
    encoded = encoding(model, min(64, max(batches)), repeats)
    found = {"repeats": repeats, "rates": speed, "encoded_per_second": encoded, "rows": rows}
    if official is not None:
        found["official_commit"] = commit(official.folder)
    return about(device, dtype) | found


def about(device: torch.device, dtype: torch.dtype) -> dict:
    """What measured: device, threads, dtype, versions, commit."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {"alitok_lite": __version__, "torch": torch.__version__, "python": platform.python_version()}
    found = {"device": name, "threads": torch.get_num_threads(), "dtype": str(dtype).removeprefix("torch.")}
    return found | {"versions": versions, "commit": commit()}


def commit(folder: Path = Path(__file__).parents[1]) -> str | None:
    """The commit that the files of a folder, or the package's, come from, where they lie in a repository."""
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def table(results: dict) -> str:
    """The results as text."""
    columns = {
        "pictures": "d", "path": "s", "first": ".2f", "draw": ".3f", "draw_spread": ".3f", "decode": ".3f",
        "images_per_second": ".1f", "tokens_per_second": ".0f", "memory_gb": ".2f", "share_of_bound": ".1%",
    }  # fmt: skip
    shown = [name for name in columns if name in results["rows"][0]]
    lines = ["".join(f"{name.replace('_', ' '):>18}" for name in shown)]
    for row in results["rows"]:
        lines.append("".join(f"{format(row[name], columns[name]):>18}" for name in shown))
    speed = results["rates"]
    lines.append(f"{results['device']}, {results['dtype']}: copies {speed['bytes'] / 1e9:,.0f} GB/s,")
    lines[-1] += f" multiplies {speed['flop'] / 1e12:,.1f} TFLOP/s,"
    lines[-1] += f" encodes {results['encoded_per_second']:,.0f} images/s"
    if "cached_per_second" in results:
        lines[-1] += f", {results['cached_per_second']:,.0f} from files, each read once for ten crops"
    return "\n".join(lines)
