"""Drawing on a CUDA GPU as fast as its memory allows: the tokens of `sampling.generate` from recorded steps.

A token costs one forward pass of one position. What bounds it from below is reading: all weights once a step, and of
every row the keys and values of the positions so far. Written plainly it takes much longer, because a pass is well over
a thousand small kernels and the CPU needs some 5 microseconds to launch each. What is done about it (how much each
brings has not been measured yet, and this has not run on a GPU: see `bench.py`):

1. A static cache. Keys and values have room for all positions from the start, and the position is a number in the GPU's
   memory. So every step is the same sequence of kernels on the same addresses, whatever the position.
2. A CUDA graph. That sequence is recorded once for a number of rows and replayed by one launch a step: the CPU is out
   of the way. Rows come in powers of two, so that a few graphs serve every batch; rows too many draw what nobody reads.
3. Fused kernels. What stands between two matrix products (residual and RMSNorm; SwiGLU; QK-norm, RoPE, the cache and
   attention) is small, and as separate kernels it pays for a launch and a trip through memory each time. Written with
   Triton, a layer is eight kernels: four products (cuBLAS) and four of ours.
4. Attention that stops where the cache does. A mask over the whole cache reads twice the bytes on average. Ours loops
   over the positions that were written, each pair of row and head on its own, and keeps a running softmax.
5. Half-precision weights and cache halve the bytes. This is the model's dtype, not this file's business.

Noise, guidance, truncation and the draw itself stay plain PyTorch between two replays, the very functions of the plain
path: a dozen launches that the CPU makes while the GPU still works on the step.

Nothing here runs on a CPU, and nothing is imported from Triton before a GPU is there.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from threading import Lock
from types import ModuleType
from typing import NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor

from .ar import ARModel
from .layers import Block
from .sampling import Sampling, Step, _draw, guidance_ramp, gumbel_noise
from .sampling import generate as generate_plainly

MAX_ROWS = 1024  # of all recorded steps of a model; AliTok-B's caches then have 20 GB in half precision

_recorded: WeakKeyDictionary[ARModel, _Recorded] = WeakKeyDictionary()
_broken: WeakSet[ARModel] = WeakSet()
_lock = Lock()


def _power(number: int) -> int:
    """The power of two that is as large or next larger."""
    return 1 << (number - 1).bit_length()


def _kernels() -> ModuleType:
    """The Triton kernels; ImportError where there is no Triton."""
    from . import kernels

    return kernels


# ---------------------------------------------------------------- one step


class _Drawer:
    """A recorded step for a number of rows: tokens (rows,) in, logits (rows, V) out, `position` moves on by itself."""

    def __init__(self, ar: ARModel, rows: int, joined: list[Tensor]) -> None:
        self.rows, self.joined, self.busy = rows, joined, Lock()
        # The parts, not `ar`: what is recorded must not keep its model in memory.
        self.config, self.embedding, self.blocks = ar.config, ar.embedding, ar.blocks
        self.norm, self.output = ar.norm, ar.output
        config, weight = ar.config, ar.output.weight
        shape = (config.depth, rows, config.heads, config.tokens, config.width // config.heads)
        self.keys, self.values = weight.new_empty(shape), weight.new_empty(shape)
        self.rope = ar.rope(weight.device)  # float32
        self.tokens = torch.zeros(rows, dtype=torch.long, device=weight.device)
        self.position = torch.zeros((), dtype=torch.long, device=weight.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits = self._forward()
        if weight.is_cuda:
            self._record()

    def _record(self) -> None:
        """Record the graph; the first pass, which compiled the kernels, must not be in it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._forward()  # cuBLAS sets itself up on this stream
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.logits = self._forward()

    def restart(self) -> None:
        """Forget all positions."""
        self.position.zero_()

    def step(self, tokens: Tensor) -> Tensor:
        """Rows of the embedding table (n,), n up to `rows`, to logits (n, V), which the next step overwrites."""
        self.tokens[: len(tokens)] = tokens
        if self.graph is None:
            self.logits = self._forward()
        else:
            self.graph.replay()
        return self.logits[: len(tokens)]

    def _forward(self) -> Tensor:
        """One position through the model: (rows, V)."""
        kernels, width = _kernels(), self.config.width
        x = F.embedding(self.tokens, self.embedding.weight)  # (rows, D)
        y, normed = torch.zeros_like(x), torch.empty_like(x)
        for number, block in enumerate(self.blocks):
            kernels.add_norm[(self.rows,)](x, y, block.norm1.weight, normed, width, _power(width))
            y = F.linear(self._attend(block, number, normed), block.attention.out.weight, block.attention.out.bias)
            kernels.add_norm[(self.rows,)](x, y, block.norm2.weight, normed, width, _power(width))
            y = F.linear(self._swiglu(F.linear(normed, self.joined[number])), block.mlp.down.weight)
        kernels.add_norm[(self.rows,)](x, y, self.norm.weight, normed, width, _power(width))
        self.position += 1
        return F.linear(normed, self.output.weight, self.output.bias)

    def _attend(self, block: Block, number: int, x: Tensor) -> Tensor:
        """Attention of a layer before its last product: (rows, D) -> (rows, D)."""
        attention, kernels = block.attention, _kernels()
        heads, size = attention.heads, x.shape[1] // attention.heads
        qkv, out = F.linear(x, attention.qkv.weight, attention.qkv.bias), torch.empty_like(x)
        kernels.attend[(self.rows, heads)](
            qkv, attention.q_norm.weight, attention.k_norm.weight, self.rope, self.keys[number], self.values[number],
            out, self.position, self.config.tokens, size**-0.5, heads, size, _power(size // 2), 32,
        )  # fmt: skip
        return out

    def _swiglu(self, both: Tensor) -> Tensor:
        """(rows, 2 hidden) -> (rows, hidden)"""
        kernels, hidden = _kernels(), both.shape[1] // 2
        out = both.new_empty(self.rows, hidden)
        kernels.swiglu[(self.rows, -(-hidden // 1024))](both, out, hidden, 1024)
        return out


# ---------------------------------------------------------------- drawing


class _Recorded(NamedTuple):
    """What is recorded of a model: the state of its weights then, gate and up joined, drawers by rows."""

    state: list[tuple[int, int]]
    joined: list[Tensor]
    drawers: dict[int, _Drawer]


def applies(ar: ARModel, rows: int) -> bool:
    """Whether recorded steps can draw with this model and so many rows."""
    if not ar.output.weight.is_cuda or ar.training or rows > MAX_ROWS or ar in _broken:
        return False
    # A GPU that a Space borrows is gone after the call; maps that are wanted need the plain path.
    if "spaces" in sys.modules or any(block.attention.keep_maps for block in ar.blocks):
        return False
    try:
        _kernels()
    except ImportError:
        return False
    return True


@torch.inference_mode()
def _drawer(ar: ARModel, rows: int) -> _Drawer:
    """The recorded step for so many rows or a few more, recorded at its first use."""
    rows = _power(rows)
    state = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in ar.parameters()]
    with _lock:
        known = _recorded.get(ar)
        if known is None or known.state != state:  # other weights, or at another place
            joined = [torch.cat([block.mlp.gate.weight, block.mlp.up.weight]) for block in ar.blocks]
            known = _recorded[ar] = _Recorded(state, joined, {})
        if rows not in known.drawers:
            while known.drawers and sum(known.drawers) + rows > MAX_ROWS:
                known.drawers.pop(next(iter(known.drawers)))  # who draws with it still may
            known.drawers[rows] = _Drawer(ar, rows, known.joined)
        return known.drawers[rows]


def _claim(ar: ARModel, rows: int) -> _Drawer | None:
    """A drawer of one's own until `busy` is released; None where the plain path has to do."""
    if not applies(ar, rows):
        return None
    try:
        drawer = _drawer(ar, rows)
    except Exception as error:  # memory, a driver, a Triton of another version: the plain path draws the same
        _broken.add(ar)
        warnings.warn(f"drawing plainly, because the fast path failed: {error}", RuntimeWarning, stacklevel=2)
        return None
    return drawer if drawer.busy.acquire(blocking=False) else None


def generate(
    ar: ARModel, labels: Tensor, seeds: Sequence[int], sampling: Sampling, prompt_ids: Tensor | None = None
) -> Iterator[Step]:
    """The Steps of `sampling.generate`, from recorded steps where they apply and nobody else draws with them.

    Equal in float32; in half precision the logits agree to rounding, so that now and then another token is drawn.
    Safe from several threads. The first call for a number of rows compiles and records, which takes seconds.
    """
    drawer = _claim(ar, len(labels) * (1 if sampling.guidance == 1 else 2))
    if drawer is None:
        yield from generate_plainly(ar, labels, seeds, sampling, prompt_ids)
        return
    try:
        yield from _generate(drawer, labels, seeds, sampling, prompt_ids)
    finally:
        drawer.busy.release()


def _generate(
    drawer: _Drawer, labels: Tensor, seeds: Sequence[int], sampling: Sampling, prompt_ids: Tensor | None
) -> Iterator[Step]:
    config = drawer.config
    ids = torch.empty(len(labels), 0, dtype=torch.long, device=labels.device) if prompt_ids is None else prompt_ids
    noise = gumbel_noise(seeds, config.tokens, config.codebook_size, labels.device)  # (B, T, V)
    ramp = guidance_ramp(config.tokens, sampling.guidance, sampling.power).tolist()
    rows = labels if sampling.guidance == 1 else torch.cat([labels, torch.full_like(labels, config.classes)])
    copies = len(rows) // len(labels)
    with torch.inference_mode():
        drawer.restart()
        logits = drawer.step(rows + config.codebook_size + 1)
        for token in ids.unbind(1)[: config.tokens - 1]:
            logits = drawer.step(token.repeat(copies))
    for index in range(ids.shape[1], config.tokens):
        drawn, entropy = _draw(logits.float(), ramp[index], noise[:, index], sampling)
        ids = torch.cat([ids, drawn], 1)  # (B, index + 1)
        yield Step(index, ids, entropy)
        if index + 1 < config.tokens:
            with torch.inference_mode():
                logits = drawer.step(drawn[:, 0].repeat(copies))
