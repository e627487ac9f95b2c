"""Networks trained on given ids, without a RUN folder: for studies that need many of them.

A *reader* is an AR model that is trained to measure how well some tokens can be predicted. On a GPU a training step is
recorded once as a CUDA graph and then replayed, because a reader is so small that launching its kernels one by one
would take longer than running them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.ar import ARModel
from ..core.config import ARConfig
from ..core.layers import KVCache
from ..core.sampling import next_logits
from ..core.tokenizer import Decoder, Tokenizer
from ..train.loop import parameter_groups
from ..train.settings import TrainSettings, learning_rate

WARM = 3  # steps before the recording, in which kernels are chosen and the optimiser's state is made


def repeat(step: Callable[[], object], steps: int, before: Callable[[int], object], device: torch.device) -> None:
    """Call `before(number)` and `step()` so many times; on a GPU `step` is recorded and replayed.

    `step` must read what changes from tensors that keep their places, and must not wait for the GPU.
    """
    if device.type != "cuda" or steps <= WARM + 1:
        for number in range(steps):
            before(number)
            step()
        return
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for number in range(WARM):
            before(number)
            step()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    before(WARM)
    with torch.cuda.graph(graph):  # records without running
        step()
    graph.replay()
    for number in range(WARM + 1, steps):
        before(number)
        graph.replay()
    torch.cuda.synchronize(device)


def descend(
    network: nn.Module,
    loss: Callable[[], Tensor],
    settings: TrainSettings,
    device: torch.device,
    seed: int = 0,
    watch: Callable[[int], object] | None = None,
) -> Tensor:
    """Train a network with AdamW on a loss that takes its own batch; returns the last loss.

    `watch(number)` is called before each step. Weight decay acts on matrices of linear layers and convolutions only.
    """
    torch.manual_seed(seed)
    cuda = device.type == "cuda"
    learned = [p for p in network.parameters() if p.requires_grad]
    groups = parameter_groups(network, settings.weight_decay)
    rate = torch.tensor(settings.lr, device=device) if cuda else settings.lr
    optimizer = torch.optim.AdamW(groups, rate, settings.betas, fused=cuda, capturable=cuda)
    last = torch.zeros((), device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda, cache_enabled=False):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(learned, settings.clip)
        optimizer.step()
        last.copy_(value.detach())

    def before(number: int) -> None:
        for group in optimizer.param_groups:
            if cuda:
                group["lr"].fill_(learning_rate(settings, number))
            else:
                group["lr"] = learning_rate(settings, number)
        if watch:
            watch(number)

    network.train()
    repeat(step, settings.steps, before, device)
    network.eval()
    return last


Pairs = tuple[Tensor, Tensor]  # ids (N, T) and labels (N,)
LOOKS = 30  # times that a reader's weights are tried on held-out tokens


class _Best:
    """The weights with the least loss on held-out tokens."""

    def __init__(self, model: ARModel, held_out: Pairs, every: int) -> None:
        self.model, self.held_out, self.every = model, held_out, max(1, every)
        self.nats, self.step, self.weights = math.inf, 0, {}

    def look(self, number: int) -> None:
        """Keep the weights before step `number` if they are the best so far; most numbers are passed over."""
        if number == 0 or number % self.every:
            return
        self.model.eval()
        ids, labels = self.held_out
        with torch.no_grad():
            logits = torch.cat([self.model(i, y) for i, y in zip(ids.split(500), labels.split(500), strict=True)])
            nats = float(F.cross_entropy(logits.float().flatten(0, 1), ids.flatten()))
        self.model.train()
        if nats < self.nats:
            weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.nats, self.step, self.weights = nats, number, weights


def train_reader(
    ids: Tensor, labels: Tensor, config: ARConfig, settings: TrainSettings, held_out: Pairs | None = None
) -> tuple[ARModel, int]:
    """An AR model of ids (N, T) and labels (N,), trained on their device in mixed precision where that is a GPU.

    The recipe is that of `train ar`: random batches with replacement, a share of the labels replaced by the null class.
    With held-out tokens the weights that predict them best are kept. Returns the model and the step of its weights.
    """
    torch.manual_seed(settings.seed)
    device, null = ids.device, config.classes
    model = ARModel(config).to(device)
    model.rope(device)  # moved now, not while a graph is recorded

    def loss() -> Tensor:
        rows = torch.randint(len(ids), (settings.batch,), device=device)
        wanted, classes = ids[rows].long(), labels[rows]
        dropped = torch.rand(settings.batch, device=device) < settings.class_dropout
        logits = model(wanted, classes.masked_fill(dropped, null))
        return F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten())

    best = _Best(model, held_out, settings.steps // LOOKS) if held_out else None
    descend(model, loss, settings, device, settings.seed, best.look if best else None)
    if best is None:
        return model, settings.steps
    best.every = 1
    best.look(settings.steps)
    model.load_state_dict(best.weights)
    return model.eval(), best.step


def train_decoder(
    tokenizer: Tokenizer, decoder: Decoder, pool: Tensor, ids: Tensor, settings: TrainSettings
) -> Decoder:
    """Train a decoder over frozen ids (N, T) of pictures `pool` (N, 3, S, S) uint8, on their device; MSE and L1."""
    codebook, weights = tokenizer.quantizer.codebook.detach(), settings.losses

    def loss() -> Tensor:
        rows = torch.randint(len(ids), (settings.batch,), device=ids.device)
        pixels = pool[rows].float() / 255
        decoded = decoder(F.embedding(ids[rows].long(), codebook)).float()
        return weights.mse * F.mse_loss(decoded, pixels) + weights.l1 * F.l1_loss(decoded, pixels)

    descend(decoder, loss, settings, ids.device, settings.seed)
    return decoder


def resized_reader(config: ARConfig, width: int, depth: int) -> ARConfig:
    """A reader of another width and depth: heads of 32 numbers, an MLP 8/3 times as wide, as in the presets."""
    return replace(config, width=width, depth=depth, heads=width // 32, hidden=-(-width * 8 // 3 // 8) * 8)


def drawn_ids(model: ARModel, labels: Tensor, seed: int, batch: int = 2000) -> Tensor:
    """Ids (N, T) that a reader samples for labels (N,), without guidance, at temperature 1."""
    generator = torch.Generator(labels.device).manual_seed(seed)
    parts = []
    for rows in labels.split(batch):
        caches = [KVCache(model.config.tokens) for _ in model.blocks]
        ids = torch.empty(len(rows), 0, dtype=torch.long, device=rows.device)
        for _ in range(model.config.tokens):
            logits = next_logits(model, rows, ids, caches)  # (B, V)
            noise = torch.empty_like(logits).exponential_(generator=generator).clamp_min_(1e-30).log_()
            ids = torch.cat([ids, (logits - noise).argmax(-1, keepdim=True)], 1)
        parts.append(ids)
    return torch.cat(parts)
