"""What each technique of `fast/steps.py` brings: AliTok samples with one more of them each time.

The kernels of kernels.py stand here a second time, in lines of plain PyTorch: what they compute, and what a step costs
without them. The prediction beside each time is what one would say beforehand: a microsecond for every kernel of a
graph, five for one that the CPU launches, and what must be read at the rate of a copy. Where it misses, there is
something to learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from types import ModuleType, SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.ar import ARModel
from ..core.config import ARConfig, Preset
from ..core.layers import Attention, rms_norm, rotate
from ..core.sampling import Sampling, draw_codes
from ..fast import steps
from .bench import about, ar_work, random_model, rates, timed

LAUNCHED, GRAPHED = 5e-6, 1e-6  # seconds for a kernel that does next to nothing

# ---------------------------------------------------------------- the kernels, in plain PyTorch


def add_norm(x: Tensor, y: Tensor, weight: Tensor, out: Tensor) -> None:
    """x += y, out = RMSNorm(x)."""
    x += y
    out.copy_(rms_norm(x, weight))


def swiglu(both: Tensor, out: Tensor) -> None:
    """silu(gate) * up, from rows of [gate, up]."""
    gate, up = both.chunk(2, 1)
    out.copy_(F.silu(gate) * up)


def attend(qkv: Tensor, attention: Attention, tensors: steps.StepTensors, layer: int, out: Tensor) -> None:
    """QK-norm, RoPE, the cache's new entry, and attention with a mask over the whole cache."""
    keys, values, here = tensors.keys[layer], tensors.values[layer], tensors.position[None]
    q, k, v = qkv.view(len(qkv), 3, attention.heads, 1, -1).unbind(1)  # (rows, H, 1, d)
    turn = tensors.rope[here]
    q, k = (rotate(x, turn).to(v.dtype) for x in (attention.q_norm(q), attention.k_norm(k)))
    keys.index_copy_(2, here, k)
    values.index_copy_(2, here, v)
    written = torch.arange(keys.shape[2], device=qkv.device) <= tensors.position
    out.copy_(F.scaled_dot_product_attention(q, keys, values, written[None, None, None]).flatten(1))


def draw(logits: Tensor, tensors: steps.StepTensors) -> None:
    """Guidance, temperature, entropy and the choice."""
    here = tensors.position[None]
    scale = tensors.scales.index_select(0, here)
    sampled, entropy = draw_codes(logits.float() / tensors.temperature, scale, tensors.noise, Sampling())
    tensors.entropy.copy_(entropy)  # (pictures,)
    tensors.ids.index_copy_(1, here, sampled)  # (pictures, 1)
    tensors.tokens.copy_(sampled[:, 0].expand_as(tensors.tokens))


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, norm: Tensor | None = None, added: bool = False
) -> None:
    """out = x weight^T + bias or out += ..., of RMSNorm(x) with a norm, and through SwiGLU with gate and up."""
    y = F.linear(x if norm is None else rms_norm(x, norm), weight, bias)
    if len(weight) > out.shape[1]:
        swiglu(y, out)
    else:
        out.copy_(out + y if added else y)


PLAIN = SimpleNamespace(add_norm=add_norm, swiglu=swiglu, attend=attend, draw=draw, product=product, FEW_ROWS=0)


# ---------------------------------------------------------------- one after the other


@dataclass(frozen=True)
class Stage:
    """How a step is computed; `whole_cache` says that attention reads entries that are not written yet."""

    name: str
    kernels: ModuleType | SimpleNamespace
    graph: bool
    whole_cache: bool


def stages() -> list[Stage]:
    """The techniques in the order in which they were added; ImportError without Triton."""
    from ..fast import kernels

    small = SimpleNamespace(**vars(kernels) | {"FEW_ROWS": 0})
    without_attention = SimpleNamespace(**vars(small) | {"attend": attend})
    large = SimpleNamespace(**vars(small) | {"attend": partial(kernels.attend, cut=(128, 8, 1))})
    return [
        Stage("static cache", PLAIN, False, True),
        Stage("and a CUDA graph", PLAIN, True, True),
        Stage("and fused norms, SwiGLU and draw", without_attention, True, True),
        Stage("and attention in one kernel, blocks of 128", large, True, False),
        Stage("and small blocks", small, True, False),
        Stage("and for few rows, products with norm and sum, begun early", kernels, True, False),
    ]


def predicted(config: ARConfig, stage: Stage, rows: int, itemsize: int, kernels: int, bandwidth: float) -> float:
    """Seconds of sampling all tokens, `kernels` a step, bandwidth in bytes a second."""
    weights = 2 * ar_work(config, 1, itemsize)["bytes"] - ar_work(config, 2, itemsize)["bytes"]
    cache = ar_work(config, rows, itemsize)["bytes"] - weights
    if stage.whole_cache:
        cache *= 2 * config.tokens / (config.tokens + 1)
    return config.tokens * kernels * (GRAPHED if stage.graph else LAUNCHED) + (weights + cache) / bandwidth


def _count(work: Callable[[], object]) -> int:
    """Kernels, copies among them, that the GPU runs in some work; none on a CPU."""
    with torch.profiler.profile() as profiler:
        work()
    device = torch.autograd.DeviceType.CUDA
    return sum(event.count for event in profiler.key_averages() if event.device_type == device)


def measure(ar: ARModel, stage: Stage, pictures: int, repeats: int) -> tuple[dict[str, float], Tensor]:
    """What a stage takes, and the ids (B, T) that it sampled with guidance.

    Seconds of `recording` (compiling and capturing included) and of sampling: median and spread of the repeats.
    """
    device = ar.output.weight.device
    labels = torch.arange(pictures, device=device) % ar.config.classes
    drawers, sampled = [], []

    @torch.inference_mode()
    def record() -> None:
        drawers[:] = [steps.Drawer(ar, pictures, True, steps.joined_weights(ar), stage.kernels, stage.graph)]

    def work() -> None:
        for step in steps.generate_recorded(drawers[0], labels, list(range(pictures)), Sampling(2.0), None):
            sampled[:] = [step.ids]

    recording = timed(record, device, 1)[0]
    with torch.inference_mode():
        drawers[0].tensors.position.zero_()
        kernels = _count(drawers[0].forward_step)
    drawing = timed(work, device, 1 + repeats)[1:]
    found = {"kernels": kernels, "recording": recording}
    return found | {"draw": median(drawing), "draw_spread": max(drawing) - min(drawing)}, sampled[0]


def compare(preset: Preset, batches: list[int], device: torch.device, dtype: torch.dtype, repeats: int = 3) -> dict:
    """Each technique for each number of pictures: `rows` beside device, versions, commit and measured rates.

    Raises ValueError without a CUDA GPU.
    """
    if device.type != "cuda":
        raise ValueError(f"the techniques are for a CUDA GPU, and the device is {str(device)!r}")
    ar, speed, rows = random_model(preset, device, dtype).ar.eval(), rates(device, dtype), []
    for stage in stages():
        for pictures in batches:
            found, _ = measure(ar, stage, pictures, repeats)
            work = (preset.ar, stage, 2 * pictures, dtype.itemsize, found["kernels"], speed["bytes"])
            rows.append({"stage": stage.name, "pictures": pictures} | found | {"predicted": predicted(*work)})
    return about(device, dtype) | {"repeats": repeats, "rates": speed, "rows": rows}


def table(results: dict) -> str:
    """The results as text."""
    lines = [f"{'':44}{'pictures':>10}{'kernels':>10}{'predicted':>11}{'measured':>11}{'recording':>11}"]
    for row in results["rows"]:
        numbers = f"{row['predicted']:11.3f}{row['draw']:11.3f}{row['recording']:11.2f}"
        lines.append(f"{row['stage']:44}{row['pictures']:10d}{row['kernels']:10d}{numbers}")
    return "\n".join(lines)
