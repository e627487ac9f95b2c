"""Sampling on a CUDA GPU as fast as its memory allows: the tokens of `sampling.generate` from recorded steps.

A token costs one forward pass of one position. What bounds it from below is reading: all weights once a step, and of
every row the keys and values of the positions so far. Written plainly it takes much longer, because a pass is well over
a thousand small kernels and the CPU needs 5 microseconds or more to launch each. What is done about it
(results/bench/README.md says what each brought; study/techniques.py has the kernels in plain PyTorch):

1. A static cache. Keys and values have room for all positions from the start, and the position is a number in the GPU's
   memory. So every step is the same sequence of kernels on the same addresses, whatever the position.
2. A CUDA graph. That sequence is recorded once for a number of pictures and replayed by one launch a step: the CPU is
   out of the way, and what a kernel costs beside its work falls to one or two microseconds. Pictures come in powers of
   two, so that a few graphs serve every batch; the output of the extra rows is discarded.
3. The choice of the token is in the graph: guidance, temperature, entropy and the choice are one kernel. Between two
   replays only the next noise goes in, and ids and entropy come out. Top-k and top-p need a sort, which is not in the
   graph: then the plain path's function samples after it, and its token replaces the graph's. So do those of a prompt.
4. Fused kernels. What stands between two matrix products (residual and RMSNorm; SwiGLU; QK-norm, RoPE, the cache and
   attention) is small, and separate kernels pay those microseconds and a trip through memory each time. With Triton, a
   layer is four products (cuBLAS) and four kernels of ours. A step of AliTok-B shrinks from 1,781 kernels to 198.
5. Attention that stops where the cache does. Each pair of row and head loops on its own over the positions that were
   written, a block at once; each place of the block keeps a running softmax. The size of a block decides how many
   programs read at the same time, which is worth a factor of two for many pictures.
6. Products of few rows are nothing but reading their weights, and starting a kernel takes as long. Ours have the norm
   before and SwiGLU or the sum behind in them: 124 kernels a step, for one or two guided pictures. On NVIDIA's GPUs
   since Hopper each begins before the last one has ended, and asks meanwhile for all that it reads but the rows.
7. Half-precision weights and cache halve the bytes. This is the model's dtype, not this file's business.

Nothing here runs on a CPU, and nothing is imported from Triton before a GPU is there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.ar import ARModel
from ..core.sampling import Sampling, Step, draw_codes, guidance_ramp, gumbel_noise
from ..core.sampling import generate as generate_plainly
from ..machine import borrowed_gpu
from ..recorded import at_once, noting

MAX_ROWS = 1024  # of all recorded steps of a model; AliTok-B's caches then have 20 GB in half precision

# By model, weakly: a model that is let go takes its recorded steps along.
_recorded: WeakKeyDictionary[ARModel, _Recorded] = WeakKeyDictionary()
_broken: WeakSet[ARModel] = WeakSet()
_lock = Lock()


def _kernels() -> ModuleType:
    """The Triton kernels; ImportError where there is no Triton."""
    from . import kernels

    return kernels


def joined_weights(ar: ARModel) -> list[Tensor]:
    """Of every layer gate and up in one matrix, since one product of twice the width is faster than two."""
    return [torch.cat([block.mlp.gate.weight, block.mlp.up.weight]) for block in ar.blocks]


# ---------------------------------------------------------------- one step


@dataclass(frozen=True)
class StepTensors:
    """What every step reads and writes, always at the same addresses.

    A row is a picture; with guidance there are two `copies` of them, those with a class first.
    """

    keys: Tensor  # (layers, rows, H, T, d)
    values: Tensor  # (layers, rows, H, T, d)
    rope: Tensor  # (1 + T, d/2, 2) float32
    position: Tensor  # ()
    tokens: Tensor  # (copies, pictures), rows of the embedding table that the next step reads
    ids: Tensor  # (pictures, T), sampled so far
    entropy: Tensor  # (pictures,)
    noise: Tensor  # (pictures, V)
    scales: Tensor  # (T,), guidance at each step
    temperature: Tensor  # ()

    @classmethod
    def of(cls, ar: ARModel, pictures: int, guided: bool) -> StepTensors:
        """Those of a model for a number of pictures, with all positions still to come."""
        config, weight, copies = ar.config, ar.output.weight, 2 if guided else 1
        cache = (config.depth, copies * pictures, config.heads, config.tokens, config.width // config.heads)
        whole, real = {"dtype": torch.long}, {"dtype": torch.float32}
        return cls(
            # Not empty: a mask multiplies what is not written yet by 0, and that might be NaN.
            keys=weight.new_zeros(cache),
            values=weight.new_zeros(cache),
            rope=ar.rope(weight.device),
            position=weight.new_zeros((), **whole),
            tokens=weight.new_zeros(copies, pictures, **whole),
            ids=weight.new_zeros(pictures, config.tokens, **whole),
            entropy=weight.new_zeros(pictures, **real),
            noise=weight.new_zeros(pictures, config.codebook_size, **real),
            scales=weight.new_ones(config.tokens, **real),
            temperature=weight.new_ones((), **real),
        )


class Drawer:
    """A recorded step for a number of pictures: it reads `tensors.noise`, and writes `tensors.ids` and `.entropy`.

    Every step moves the position on and puts the token that it sampled where the next one reads. Whatever is written
    here must be in inference mode.
    """

    def __init__(
        self, ar: ARModel, pictures: int, guided: bool, joined: list[Tensor], kernels: ModuleType | SimpleNamespace,
        graph: bool = True,
    ) -> None:  # fmt: skip
        self.tensors, self.joined, self.busy = StepTensors.of(ar, pictures, guided), joined, Lock()
        self.kernels = kernels  # or what computes the same, see study/techniques.py
        self.rows = self.tensors.tokens.numel()
        # The parts, not `ar`: what is recorded must not keep its model in memory.
        self.config, self.embedding, self.blocks = ar.config, ar.embedding, ar.blocks
        self.norm, self.output = ar.norm, ar.output
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits = self._record() if graph else self.forward_step()

    def _record(self) -> Tensor:
        """Record the graph; its logits. What compiles the kernels must not be in it."""
        kernels = self.kernels
        self.kernels, calls = noting(kernels)
        self.forward_step()
        self.kernels = kernels
        self.tensors.position.zero_()
        at_once([*calls[:5], calls[-1]])  # of a layer and the choice: all kernels, compiled in half the time
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.forward_step()  # cuBLAS sets itself up on this stream
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # thread_local: what other threads do on the GPU meanwhile must not break the recording.
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            return self.forward_step()

    def begin(self, labels: Tensor, prompt: Tensor, sampling: Sampling) -> None:
        """Forget all positions; take the settings, the classes (n,) and prompt ids (n, t), n up to the pictures."""
        config, tensors = self.config, self.tensors
        tensors.position.zero_()
        tensors.scales.copy_(guidance_ramp(config.tokens, sampling.guidance, sampling.power))
        tensors.temperature.fill_(sampling.temperature or 1.0)
        rows = torch.stack([labels, torch.full_like(labels, config.classes)][: len(tensors.tokens)])
        self.put(rows + config.codebook_size + 1)
        for token in prompt.unbind(1):
            self.step()
            self.put(token)
        tensors.ids[: len(prompt), : prompt.shape[1]] = prompt  # over what these steps sampled

    def put(self, tokens: Tensor) -> None:
        """What the next step reads instead of what was sampled: rows of the embedding table (n,) or (copies, n)."""
        self.tensors.tokens[:, : tokens.shape[-1]] = tokens

    def step(self) -> Tensor:
        """One step: logits (copies, pictures, V), which the next step overwrites."""
        if self.graph is None:
            self.logits = self.forward_step()
        else:
            self.graph.replay()
        return self.logits.view(*self.tensors.tokens.shape, -1)

    def draw(self, index: int, noise: Tensor, sampling: Sampling) -> None:
        """Token `index` of n pictures into the ids and its entropy into the entropy; noise (n, V)."""
        tensors, n, codes = self.tensors, len(noise), self.config.codebook_size
        tensors.noise[:n] = noise
        logits = self.step()[:, :n]
        if sampling.temperature == 0:
            tensors.entropy.zero_()
        elif (sampling.top_k or codes) < codes or (sampling.top_p or 1) < 1:
            # Sorting is not in the graph: what it sampled is replaced.
            sampled, entropy = draw_codes(logits.flatten(0, 1).float(), tensors.scales[index], noise, sampling)
            self.put(sampled[:, 0])
            tensors.ids[:n, index], tensors.entropy[:n] = sampled[:, 0], entropy

    def forward_step(self) -> Tensor:
        """One position through the model and the choice of its token; the logits (rows, V)."""
        x = F.embedding(self.tensors.tokens.flatten(), self.embedding.weight)  # (rows, D)
        layers = self._few_rows if self.rows <= self.kernels.FEW_ROWS else self._many_rows
        logits = layers(x, torch.empty_like(x), x.new_empty(len(x), self.config.hidden))
        self.kernels.draw(logits, self.tensors)
        self.tensors.position.add_(1)
        return logits

    def _few_rows(self, x: Tensor, attended: Tensor, hidden: Tensor) -> Tensor:
        """Logits of embedded tokens x (rows, D), which it overwrites: five kernels a layer."""
        product, qkv = self.kernels.product, x.new_empty(len(x), 3 * x.shape[1])
        for number, block in enumerate(self.blocks):
            attention = block.attention
            product(x, attention.qkv.weight, attention.qkv.bias, qkv, block.norm1.weight)
            self.kernels.attend(qkv, attention, self.tensors, number, attended)
            product(attended, attention.out.weight, attention.out.bias, x, added=True)
            product(x, self.joined[number], None, hidden, block.norm2.weight)
            product(hidden, block.mlp.down.weight, None, x, added=True)
        logits = x.new_empty(len(x), self.config.codebook_size)
        product(x, self.output.weight, self.output.bias, logits, self.norm.weight)
        return logits

    def _many_rows(self, x: Tensor, attended: Tensor, hidden: Tensor) -> Tensor:
        """The same with the products of cuBLAS: eight kernels a layer."""
        kernels = self.kernels
        y, normed = torch.zeros_like(x), torch.empty_like(x)  # y is 0: nothing is added before the first norm
        for number, block in enumerate(self.blocks):
            attention = block.attention
            kernels.add_norm(x, y, block.norm1.weight, normed)
            qkv = F.linear(normed, attention.qkv.weight, attention.qkv.bias)
            kernels.attend(qkv, attention, self.tensors, number, attended)
            y = F.linear(attended, attention.out.weight, attention.out.bias)
            kernels.add_norm(x, y, block.norm2.weight, normed)
            kernels.swiglu(F.linear(normed, self.joined[number]), hidden)
            y = F.linear(hidden, block.mlp.down.weight)
        kernels.add_norm(x, y, self.norm.weight, normed)
        return F.linear(normed, self.output.weight, self.output.bias)


# ---------------------------------------------------------------- sampling


class _Recorded(NamedTuple):
    """What is recorded of a model: state of its weights then, gate and up joined, drawers by (pictures, guided)."""

    state: list[tuple[int, int]]
    joined: list[Tensor]
    drawers: dict[tuple[int, bool], Drawer]


def applies(ar: ARModel, rows: int) -> bool:
    """Whether recorded steps can serve this model and so many rows."""
    if not ar.output.weight.is_cuda or ar.training or rows > MAX_ROWS or ar in _broken:
        return False
    # A GPU that a Space borrows is gone after the call; attention that is being recorded needs the plain path.
    if borrowed_gpu() or any("attend" in vars(block.attention) for block in ar.blocks):
        return False
    try:
        _kernels()
    except ImportError:
        return False
    return True


@torch.inference_mode()
def _drawer(ar: ARModel, pictures: int, guided: bool) -> Drawer:
    """The recorded step for so many pictures or a few more, recorded at its first use."""
    key = 1 << (pictures - 1).bit_length(), guided  # the power of two that is as large or next larger
    rows = key[0] * (2 if guided else 1)
    # A graph reads fixed addresses, and `joined` is a copy. Tensors made in inference mode count no versions.
    state = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in ar.parameters()]
    with _lock:
        known = _recorded.get(ar)
        if known is None or known.state != state:  # other weights, or at another place
            known = _recorded[ar] = _Recorded(state, joined_weights(ar), {})
        if key not in known.drawers:
            while known.drawers and sum(drawer.rows for drawer in known.drawers.values()) + rows > MAX_ROWS:
                known.drawers.pop(next(iter(known.drawers)))  # who holds it may still use it
            known.drawers[key] = Drawer(ar, *key, known.joined, _kernels())
        return known.drawers[key]


def _claim(ar: ARModel, pictures: int, guided: bool) -> Drawer | None:
    """A drawer of one's own until `busy` is released; None where the plain path has to do."""
    if not applies(ar, pictures * (2 if guided else 1)):
        return None
    try:
        drawer = _drawer(ar, pictures, guided)
    except Exception as error:  # memory, a driver, a Triton of another version: the plain path samples the same
        _broken.add(ar)
        warnings.warn(f"sampling without recorded steps, which failed: {error}", RuntimeWarning, stacklevel=2)
        return None
    return drawer if drawer.busy.acquire(blocking=False) else None


def generate(
    ar: ARModel, labels: Tensor, seeds: Sequence[int], sampling: Sampling, prompt_ids: Tensor | None = None
) -> Iterator[Step]:
    """The Steps of `sampling.generate`, from recorded steps where they apply and nobody else uses them.

    Equal in float32; in half precision the logits agree to rounding, so that now and then another token is sampled.
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
    """The Steps of `generate` by a drawer that is claimed."""
    config, tensors, count = drawer.config, drawer.tensors, len(labels)
    prompt = labels.new_empty(count, 0) if prompt_ids is None else prompt_ids
    noise = gumbel_noise(seeds, config.tokens, config.codebook_size, labels.device)  # (B, T, V)
    if sampling.temperature == 0:
        noise.zero_()
    with torch.inference_mode():
        drawer.begin(labels, prompt, sampling)
    for index in range(prompt.shape[1], config.tokens):
        with torch.inference_mode():
            drawer.draw(index, noise[:, index], sampling)
        # Copies: the next step, of this call or another, writes over what is recorded.
        yield Step(index, tensors.ids[:count, : index + 1].clone(), tensors.entropy[:count].clone())
