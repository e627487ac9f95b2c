"""A function whose kernels a GPU replays: small kernels by the hundred would otherwise wait for Python."""

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # calls before the recording, in which libraries choose their kernels


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
