"""Which weights a RUN holds: those of the last step, their moving average, or the best so far.

Training always continues from the live weights. The other weights are copied into the network and back in place,
because a CUDA graph replays with the addresses that it was captured with.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Weights:
    """A network's live weights and, if wished, their moving average and the best so far.

    `ema` is the decay of the average (0: none); `copied` names parameters that are copied to it instead of averaged.

    average: the moving average, in `average.module`.
    best:    the weights of the save with the lowest "test nats" (`keep_best`).
    history: step and numbers of every save (`keep_best`).
    """

    def __init__(self, network: nn.Module, ema: float, keep_best: bool, copied: Sequence[str] = ()) -> None:
        self.network = network
        self.ema = ema
        self.copied = copied
        self.average = AveragedModel(network) if ema else None
        self.best = copy.deepcopy(network) if keep_best else None
        self.history: list[dict[str, float]] = []

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a continued training needs beside the network."""
        return {name: module for name, module in (("average", self.average), ("best", self.best)) if module is not None}

    @property
    def measured(self) -> nn.Module:
        """The module whose weights are measured at a save."""
        return self.network if self.average is None else self.average.module

    @property
    def saved(self) -> nn.Module:
        """The module whose weights the RUN holds: the best, once a save was recorded."""
        return self.best if self.best is not None and self.history else self.measured

    @property
    def best_row(self) -> dict[str, float]:
        """The row of the history that `best` comes from; the first of equals."""
        return min(self.history, key=lambda row: row["test nats"])

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average towards the live weights; called after every step of the optimiser."""
        if self.average is None:
            return
        count = int(self.average.n_averaged)
        # The first averages are over a few steps only, so that the random initial weights soon have no effect.
        self.average.multi_avg_fn = get_ema_multi_avg_fn(min(self.ema, (1 + count) / (10 + count)))
        self.average.update_parameters(self.network)
        for name in self.copied:
            self.average.module.get_parameter(name).copy_(self.network.get_parameter(name))

    def record(self, step: int, numbers: dict[str, float]) -> None:
        """Add the numbers of a save, measured on `measured`, to the history; copy its weights if they are the best."""
        if self.best is None:
            return
        self.history.append({"step": step} | numbers)
        if self.best_row is self.history[-1]:
            _fill(self.best, _tensors(self.measured))

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """Within the block the network has the weights of a module; afterwards its own again, bit for bit."""
        live = [tensor.clone() for tensor in _tensors(self.network)]
        _fill(self.network, _tensors(module))
        try:
            yield
        finally:
            _fill(self.network, live)

    def finish(self, broadcast: Callable[[list[Tensor]], object]) -> None:
        """Give the network the weights that the RUN holds; `broadcast` sends the main process's in place."""
        if self.best is not None:
            broadcast(_tensors(self.best))  # only the main process records
        _fill(self.network, _tensors(self.measured if self.best is None else self.best))


def _tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]


@torch.no_grad()
def _fill(module: nn.Module, values: list[Tensor]) -> None:
    """Copy values into a module's parameters and buffers, in place."""
    for tensor, value in zip(_tensors(module), values, strict=True):
        tensor.copy_(value)
