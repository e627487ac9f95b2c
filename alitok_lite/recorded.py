"""Functions whose kernels a GPU replays: small kernels by the hundred would otherwise wait for Python.

The pass of a decoder over one picture is a thousand kernels, which take a fifth of the time when they are replayed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from types import ModuleType, SimpleNamespace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .core.tokenizer import Decoder, Tokenizer
from .machine import borrowed_gpu

WARM_UP = 3  # calls before the recording, in which libraries choose their kernels
FEW = 16  # pictures up to which a decoder waits for Python; for many more the GPU has enough to do

# By tokenizer, weakly: one that is let go takes its recordings along.
_twins: WeakKeyDictionary[Tokenizer, Tokenizer] = WeakKeyDictionary()
_lock = Lock()


def noting(functions: ModuleType | SimpleNamespace) -> tuple[SimpleNamespace, list[Callable[[], object]]]:
    """The same namespace with functions that only note how they are called, and the list of these calls to come."""
    calls: list[Callable[[], object]] = []

    def noted(function: Callable[..., object]) -> Callable[..., None]:
        return lambda *given, **more: calls.append(partial(function, *given, **more))

    parts = {name: noted(part) if callable(part) else part for name, part in vars(functions).items()}
    return SimpleNamespace(**parts), calls


def at_once(calls: Sequence[Callable[[], object]]) -> None:
    """Run calls that launch kernels, each in a thread of its own, on the present CUDA stream; raises what one raises.

    For kernels that are yet to be compiled: compilers are programs of their own, so several run at the same time.
    """
    stream = torch.cuda.current_stream()

    def run(call: Callable[[], object]) -> None:
        with torch.inference_mode(), torch.cuda.stream(stream):  # a new thread has neither
            call()

    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(run, calls))


class Recorded:
    """A function of tensors, recorded as a CUDA graph at its first call; elsewhere it is simply called.

    The function takes and returns tensors, whose shapes must follow from the shapes of what it is given; the results
    are copies. Another shape or type, or another state of autocast, is recorded anew.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        self.function = function
        self.key: object = None  # of the present recording
        self.graph: torch.cuda.CUDAGraph | None = None
        self.given: list[Tensor] = []  # where the recording reads
        self.found: tuple[Tensor, ...] = ()  # where it writes

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The results for tensors that lie on one device."""
        if given[0].device.type != "cuda":
            return self.function(*given)
        key = [(tensor.shape, tensor.dtype) for tensor in given], torch.is_autocast_enabled("cuda")
        if self.graph is None or key != self.key:
            self.key, self.graph = key, self._record(given)
        for mine, theirs in zip(self.given, given, strict=True):
            mine.copy_(theirs)
        self.graph.replay()
        return tuple(tensor.clone() for tensor in self.found)

    def _record(self, given: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph:
        self.given = [tensor.detach().clone() for tensor in given]
        side, present = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(present)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.function(*self.given)
        present.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may read pictures meanwhile
            self.found = self.function(*self.given)
        return graph


class RecordedDecoder(nn.Module):
    """What a Decoder on a CUDA GPU computes, without gradients; of up to FEW pictures from a recorded pass.

    Shape: RecordedDecoder(decoder)((2, 7, 4)) -> (2, 3, 32, 32)
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder, self.positions, self.busy = decoder, decoder.positions, Lock()
        self.passes: dict[int, Recorded] = {}  # by the number of pictures
        self.state: list[int] = []  # where the weights lie that they read
        self.broken = False

    def forward(self, codes: Tensor) -> Tensor:
        """codes (B, T, d) -> pixels (B, 3, S, S) in [0, 1]."""
        # Attention that is being recorded for a figure needs the plain pass, and so does who comes second.
        looked_into = any("attend" in vars(block.attention) for block in self.decoder.blocks)
        if self.broken or looked_into or len(codes) > FEW or not self.busy.acquire(blocking=False):
            return self.decoder(codes)
        try:
            with torch.inference_mode():
                pixels = self._replayed(codes)
            return pixels.clone()  # outside, where it is an ordinary tensor
        except Exception as error:  # memory, a driver: the plain pass makes the same
            self.broken = True
            warnings.warn(f"decoding without a recorded pass, which failed: {error}", RuntimeWarning, stacklevel=2)
            return self.decoder(codes)
        finally:
            self.busy.release()

    def _replayed(self, codes: Tensor) -> Tensor:
        state = [parameter.data_ptr() for parameter in self.decoder.parameters()]
        if state != self.state:
            self.passes, self.state = {}, state
        one = self.passes.setdefault(len(codes), Recorded(lambda codes: (self.decoder(codes),)))
        return one(codes)[0]


def recorded(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with recorded decoders, for decoding alone; itself where it is not on a CUDA GPU of one's own."""
    if not tokenizer.quantizer.codebook.is_cuda or tokenizer.training or borrowed_gpu():
        return tokenizer
    parts = dict(tokenizer.named_children())
    with _lock:
        twin = _twins.get(tokenizer)
        known = [] if twin is None else [getattr(part, "decoder", part) for part in twin._modules.values()]
        if twin is None or known != list(parts.values()):  # or another decoder by now
            twin = _twins[tokenizer] = copy.copy(tokenizer)
            made = {name: RecordedDecoder(part) for name, part in parts.items() if isinstance(part, Decoder)}
            twin._modules = parts | made
        return twin
