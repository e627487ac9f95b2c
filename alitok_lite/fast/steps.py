"""Drawing on a CUDA GPU as fast as its memory allows: the tokens of `sampling.generate` from recorded steps.

A token costs one forward pass of one position. What bounds it from below is reading: all weights once a step, and of
every row the keys and values of the positions so far. Written plainly it takes much longer, because a pass is well over
a thousand small kernels and the CPU needs 5 microseconds or more to launch each. What is done about it
(results/bench/README.md says what each brought, beside what one would predict; techniques.py measures that, and has the
kernels in plain PyTorch):

1. A static cache. Keys and values have room for all positions from the start, and the position is a number in the GPU's
   memory. So every step is the same sequence of kernels on the same addresses, whatever the position.
2. A CUDA graph. That sequence is recorded once for a number of pictures, with guidance or without, and replayed by one
   launch a step: the CPU is out of the way, and what a kernel costs beside its work falls to one or two microseconds.
   Pictures come in powers of two, so that a few graphs serve every batch; those too many draw what nobody reads.
3. The draw is in the graph. Guidance, temperature, entropy and the choice are one kernel, which puts the token where
   the next step reads it. Guidance scales and temperature are numbers in the GPU's memory too, so one graph serves all
   settings. What is left between two replays is to copy the next noise in and the ids and entropy out. Top-k and top-p
   need a sort, which is not in the graph: then the plain path's function draws behind it, and its token replaces the
   graph's. Prompts are put in the same way.
4. Fused kernels. What stands between two matrix products (residual and RMSNorm; SwiGLU; QK-norm, RoPE, the cache and
   attention) is small, and as separate kernels it pays those microseconds and a trip through memory each time. Written
   with Triton, a layer is eight kernels: four products (cuBLAS) and four of ours. A step of AliTok-B shrinks from 1,781
   kernels to 198, which is 24 times eight and six more.
5. Attention that stops where the cache does. A mask over the whole cache reads twice the bytes on average. Ours loops
   over the positions that were written, each pair of row and head on its own, and reads a block of them at once; each
   place of the block keeps a running softmax, and nothing is summed up across warps before the end. How large a block
   is decides how many programs read at the same time, which is worth a factor of two for many pictures.
6. Half-precision weights and cache halve the bytes. This is the model's dtype, not this file's business.

Nothing here runs on a CPU, and nothing is imported from Triton before a GPU is there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.ar import ARModel
from ..core.layers import Block
from ..core.sampling import Sampling, Step, draw_codes, guidance_ramp, gumbel_noise
from ..core.sampling import generate as generate_plainly
from ..machine import borrowed_gpu

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


def joined_weights(ar: ARModel) -> list[Tensor]:
    """Of every layer gate and up in one matrix, since one product of twice the width is faster than two."""
    return [torch.cat([block.mlp.gate.weight, block.mlp.up.weight]) for block in ar.blocks]


# ---------------------------------------------------------------- one step


class Drawer:
    """A recorded step for a number of pictures: it reads `tokens` and `noise`, and draws `ids` and `entropy`.

    With guidance there are two rows a picture, those with a class first. Every step moves `position` on and puts the
    token that it drew where the next one reads. Whatever is written here must be in inference mode.
    """

    def __init__(
        self,
        ar: ARModel,
        pictures: int,
        guided: bool,
        joined: list[Tensor],
        kernels: ModuleType | SimpleNamespace,
        graph: bool = True,
    ) -> None:
        self.pictures, self.copies, self.joined, self.busy = pictures, 2 if guided else 1, joined, Lock()
        self.kernels = kernels  # or what computes the same, see study/techniques.py
        self.rows = pictures * self.copies
        # The parts, not `ar`: what is recorded must not keep its model in memory.
        self.config, self.embedding, self.blocks = ar.config, ar.embedding, ar.blocks
        self.norm, self.output = ar.norm, ar.output
        config, weight = ar.config, ar.output.weight
        shape = (config.depth, self.rows, config.heads, config.tokens, config.width // config.heads)
        # Not empty: a mask multiplies what is not written yet by 0, and that might be NaN.
        self.keys, self.values = weight.new_zeros(shape), weight.new_zeros(shape)
        self.rope = ar.rope(weight.device)  # float32
        self.position = torch.zeros((), dtype=torch.long, device=weight.device)
        self.tokens = torch.zeros(self.copies, pictures, dtype=torch.long, device=weight.device)
        self.ids = torch.zeros(pictures, config.tokens, dtype=torch.long, device=weight.device)
        self.entropy = weight.new_zeros(pictures, dtype=torch.float32)
        self.noise = weight.new_zeros(pictures, config.codebook_size, dtype=torch.float32)
        self.scales = weight.new_ones(config.tokens, dtype=torch.float32)
        self.temperature = weight.new_ones((), dtype=torch.float32)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits = self._forward()
        if graph:
            self._record()

    def _record(self) -> None:
        """Record the graph; the first pass, which compiled the kernels, must not be in it."""
        self.position.zero_()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._forward()  # cuBLAS sets itself up on this stream
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.logits = self._forward()

    def begin(self, labels: Tensor, prompt: Tensor, sampling: Sampling) -> None:
        """Forget all positions; take the settings, the classes (n,) and prompt ids (n, t), n up to `pictures`."""
        config = self.config
        self.position.zero_()
        self.scales.copy_(guidance_ramp(config.tokens, sampling.guidance, sampling.power))
        self.temperature.fill_(sampling.temperature or 1.0)
        rows = torch.stack([labels, torch.full_like(labels, config.classes)][: self.copies])
        self.put(rows + config.codebook_size + 1)
        for token in prompt.unbind(1):
            self.step()
            self.put(token)
        self.ids[: len(prompt), : prompt.shape[1]] = prompt  # over what these steps drew

    def put(self, tokens: Tensor) -> None:
        """What the next step reads instead of what was drawn: rows of the embedding table (n,) or (copies, n)."""
        self.tokens[:, : tokens.shape[-1]] = tokens

    def step(self) -> Tensor:
        """One step: logits (copies, pictures, V), which the next step overwrites."""
        if self.graph is None:
            self.logits = self._forward()
        else:
            self.graph.replay()
        return self.logits.view(self.copies, self.pictures, -1)

    def draw(self, index: int, noise: Tensor, sampling: Sampling) -> None:
        """Token `index` of n pictures into `ids` and its entropy into `entropy`; noise (n, V)."""
        self.noise[: len(noise)] = noise
        logits = self.step()[:, : len(noise)]
        if sampling.temperature == 0:
            self.entropy.zero_()
        elif (sampling.top_k or self.config.codebook_size) < self.config.codebook_size or (sampling.top_p or 1) < 1:
            # Sorting is not in the graph: what it drew is replaced.
            drawn, entropy = draw_codes(logits.flatten(0, 1).float(), self.scales[index], noise, sampling)
            self.put(drawn[:, 0])
            self.ids[: len(noise), index], self.entropy[: len(noise)] = drawn[:, 0], entropy

    def _forward(self) -> Tensor:
        """One position through the model and the draw; the logits (rows, V)."""
        kernels, width = self.kernels, self.config.width
        x = F.embedding(self.tokens.flatten(), self.embedding.weight)  # (rows, D)
        y, normed = torch.zeros_like(x), torch.empty_like(x)
        for number, block in enumerate(self.blocks):
            kernels.add_norm[(self.rows,)](x, y, block.norm1.weight, normed, width, _power(width))
            y = F.linear(self._attend(block, number, normed), block.attention.out.weight, block.attention.out.bias)
            kernels.add_norm[(self.rows,)](x, y, block.norm2.weight, normed, width, _power(width))
            y = F.linear(self._swiglu(F.linear(normed, self.joined[number])), block.mlp.down.weight)
        kernels.add_norm[(self.rows,)](x, y, self.norm.weight, normed, width, _power(width))
        logits = F.linear(normed, self.output.weight, self.output.bias)
        codes, room = self.config.codebook_size, self.config.tokens
        kernels.draw[(self.pictures,)](
            logits, self.noise, self.scales, self.temperature, self.position, self.tokens, self.ids, self.entropy,
            codes, room, self.copies == 2, _power(codes), num_warps=8,
        )  # fmt: skip
        self.position += 1
        return logits

    def _attend(self, block: Block, number: int, x: Tensor) -> Tensor:
        """Attention of a layer before its last product: (rows, D) -> (rows, D)."""
        attention = block.attention
        heads, size = attention.heads, x.shape[1] // attention.heads
        qkv, out = F.linear(x, attention.qkv.weight, attention.qkv.bias), torch.empty_like(x)
        block_size, warps, stages = self.kernels.tiles(self.rows, size)
        self.kernels.attend[(self.rows, heads)](
            qkv, attention.q_norm.weight, attention.k_norm.weight, self.rope, self.keys[number], self.values[number],
            out, self.position, self.config.tokens, size**-0.5, heads, size, _power(size), block_size, stages,
            num_warps=warps,
        )  # fmt: skip
        return out

    def _swiglu(self, both: Tensor) -> Tensor:
        """(rows, 2 hidden) -> (rows, hidden)"""
        hidden = both.shape[1] // 2
        out = both.new_empty(self.rows, hidden)
        self.kernels.swiglu[(self.rows, -(-hidden // 1024))](both, out, hidden, 1024)
        return out


# ---------------------------------------------------------------- drawing


class _Recorded(NamedTuple):
    """What is recorded of a model: state of its weights then, gate and up joined, drawers by (pictures, guided)."""

    state: list[tuple[int, int]]
    joined: list[Tensor]
    drawers: dict[tuple[int, bool], Drawer]


def applies(ar: ARModel, rows: int) -> bool:
    """Whether recorded steps can draw with this model and so many rows."""
    if not ar.output.weight.is_cuda or ar.training or rows > MAX_ROWS or ar in _broken:
        return False
    # A GPU that a Space borrows is gone after the call; maps that are wanted need the plain path.
    if borrowed_gpu() or any(block.attention.keep_maps for block in ar.blocks):
        return False
    try:
        _kernels()
    except ImportError:
        return False
    return True


@torch.inference_mode()
def _drawer(ar: ARModel, pictures: int, guided: bool) -> Drawer:
    """The recorded step for so many pictures or a few more, recorded at its first use."""
    key = _power(pictures), guided
    rows = key[0] * (2 if guided else 1)
    state = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in ar.parameters()]
    with _lock:
        known = _recorded.get(ar)
        if known is None or known.state != state:  # other weights, or at another place
            known = _recorded[ar] = _Recorded(state, joined_weights(ar), {})
        if key not in known.drawers:
            while known.drawers and sum(drawer.rows for drawer in known.drawers.values()) + rows > MAX_ROWS:
                known.drawers.pop(next(iter(known.drawers)))  # who draws with it still may
            known.drawers[key] = Drawer(ar, *key, known.joined, _kernels())
        return known.drawers[key]


def _claim(ar: ARModel, pictures: int, guided: bool) -> Drawer | None:
    """A drawer of one's own until `busy` is released; None where the plain path has to do."""
    if not applies(ar, pictures * (2 if guided else 1)):
        return None
    try:
        drawer = _drawer(ar, pictures, guided)
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
    Safe from several threads. The first call for a number of pictures compiles and records, which takes seconds.
    """
    drawer = _claim(ar, len(labels), sampling.guidance != 1)
    if drawer is None:
        yield from generate_plainly(ar, labels, seeds, sampling, prompt_ids)
        return
    try:
        yield from generate_recorded(drawer, labels, seeds, sampling, prompt_ids)
    finally:
        drawer.busy.release()


def generate_recorded(
    drawer: Drawer, labels: Tensor, seeds: Sequence[int], sampling: Sampling, prompt_ids: Tensor | None
) -> Iterator[Step]:
    config, count = drawer.config, len(labels)
    prompt = labels.new_empty(count, 0) if prompt_ids is None else prompt_ids
    noise = gumbel_noise(seeds, config.tokens, config.codebook_size, labels.device)  # (B, T, V)
    if sampling.temperature == 0:
        noise.zero_()
    with torch.inference_mode():
        drawer.begin(labels, prompt, sampling)
    for index in range(prompt.shape[1], config.tokens):
        with torch.inference_mode():
            drawer.draw(index, noise[:, index], sampling)
        # Copies: the next step, of this drawing or another, writes over what is recorded.
        yield Step(index, drawer.ids[:count, : index + 1].clone(), drawer.entropy[:count].clone())
