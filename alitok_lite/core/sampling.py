"""Sampling ids token by token: guidance ramp, temperature, top-k, top-p, per-image noise, KV cache."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .ar import ARModel
from .config import plain
from .layers import KVCache


def _check_number(name: str, value: float, low: float, high: float, above: bool = False) -> None:
    """Raise a ValueError unless value is a number in low..high (above: greater than low)."""
    if type(value) not in (int, float) or not low <= value <= high or (above and value == low):
        text = f"above {low}" if above else f"of at least {low}"
        raise ValueError(f"{name} is {value!r}; it must be a number {text} and at most {high}")


@dataclass(frozen=True)
class Sampling:
    """How tokens are sampled. Guidance 1 is off and costs one row per picture instead of two; temperature 0 is greedy.

    Numbers of numpy and torch are taken as Python's. Raises ValueError for a setting out of range.
    """

    guidance: float = 1.0
    power: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None  # keep the k most probable codes
    top_p: float | None = None  # then the fewest codes whose probabilities reach p

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, plain(value))
        _check_number("guidance", self.guidance, 0, 1000)
        _check_number("power", self.power, 0, 1000, above=True)
        _check_number("temperature", self.temperature, 0, 1000)
        if self.top_k is not None and (type(self.top_k) is not int or self.top_k < 1):
            raise ValueError(f"top_k is {self.top_k!r}; it must be a whole number of 1 or more, or None")
        if self.top_p is not None:
            _check_number("top_p", self.top_p, 0, 1, above=True)


class Step(NamedTuple):
    """One sampled token: its index, all ids so far (B, index + 1), entropy (B,) in nats of its distribution."""

    index: int  # type: ignore[assignment]  # a field here, while a plain tuple has a method of this name
    ids: Tensor
    entropy: Tensor


def guidance_ramp(tokens: int, guidance: float, power: float) -> Tensor:
    """Guidance scale at every step: 1 + (g - 1) (1 - cos(pi (t/T)^p)) / 2, from 1 to just under g.

    Shape: guidance_ramp(5, 3.0, 1.4) -> (5,)
    """
    t = torch.arange(tokens) / tokens
    return 1 + (guidance - 1) * (1 - torch.cos(math.pi * t**power)) / 2


def seed_of_each(seed: int | Sequence[int] | Tensor, pictures: int) -> list[int]:
    """The seeds of pictures: seed + i, or those given one by one; numpy's and torch's will do.

    Raises ValueError unless there is one for each picture, from 0 to 2**32 - 1: torch tells no more of them apart.
    """
    first = plain(seed)
    seeds = first.tolist() if hasattr(first, "tolist") else first
    if type(first) is int:
        seeds = list(range(first, first + pictures))
    if not isinstance(seeds, Sequence) or isinstance(seeds, str) or len(seeds) != pictures:
        raise ValueError(f"seed is {seed!r}; it must be a whole number or a list of {pictures}, one a picture")
    seeds = [plain(value) for value in seeds]
    for value in seeds:
        if type(value) is not int or not 0 <= value < 2**32:
            raise ValueError(f"seed is {value!r}; it must be a whole number from 0 to {2**32 - 1}")
    return seeds


def gumbel_noise(seeds: Sequence[int], tokens: int, codes: int, device: torch.device) -> Tensor:
    """Gumbel noise of every token and code: the argmax of logits + noise is a sample of softmax(logits).

    Each picture has its own seed, so that it is the same alone and in any batch; see `seed_of_each` for errors.

    Shape: gumbel_noise([3, 4], 5, 16, "cpu") -> (2, 5, 16)
    """
    noise = torch.empty(len(seeds), tokens, codes, device=device)
    for row, seed in zip(noise, seed_of_each(seeds, len(seeds)), strict=True):
        row.exponential_(generator=torch.Generator(device).manual_seed(seed))
    return -noise.clamp_min_(1e-30).log_()  # the log of 0 would be infinite


def truncate(logits: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Logits with all but the top k, then all but the nucleus of probability p, at minus infinity.

    Shape: truncate((2, 16), 4, 0.9) -> (2, 16)
    """
    if top_k is not None and top_k < logits.shape[-1]:
        threshold = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < threshold, float("-inf"))
    if top_p is not None and top_p < 1:
        values, order = logits.sort(-1, descending=True)
        probabilities = values.softmax(-1)
        values = values.masked_fill(probabilities.cumsum(-1) - probabilities >= top_p, float("-inf"))
        logits = torch.empty_like(logits).scatter_(-1, order, values)  # the most probable code always stays
    return logits


@torch.inference_mode()
def next_logits(ar: ARModel, rows: Tensor, ids: Tensor, caches: list[KVCache]) -> Tensor:
    """Logits of the next token for every row; what the caches lack of [class, ids] is run first. -> (rows, V)"""
    ids = torch.cat([ids, ids]) if len(rows) > len(ids) else ids  # with guidance, a picture has two rows
    if caches[0].used == 0:  # prefill: the class token and the prompt
        x = ar.embedding(ids)
        x = torch.cat([ar.embed_class(rows), x], 1)
    else:  # decoding step: the newest token; one of the positions that are used is the class token's
        x = ar.embedding(ids[:, caches[0].used - 1 :])
    return ar.transform(x, caches)[:, -1].float()


@torch.inference_mode()
def draw_codes(logits: Tensor, scale: float, noise: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Guidance, temperature, truncation, sample. logits (B or 2B, V), noise (B, V) -> ids (B, 1), entropy (B,)"""
    if len(logits) > len(noise):  # guided; fast/kernels.py repeats this formula
        conditional, unconditional = logits.chunk(2)
        logits = unconditional + scale * (conditional - unconditional)
    if sampling.temperature == 0:
        return logits.argmax(-1, keepdim=True), logits.new_zeros(len(logits))
    logits = truncate(logits / sampling.temperature, sampling.top_k, sampling.top_p)
    entropy = torch.special.entr(logits.softmax(-1)).sum(-1)
    return (logits + noise).argmax(-1, keepdim=True), entropy


def generate(
    ar: ARModel, labels: Tensor, seeds: Sequence[int], sampling: Sampling, prompt_ids: Tensor | None = None
) -> Iterator[Step]:
    """Sample the tokens of pictures one by one, a Step after each; labels (B,), seeds one for each picture.

    Prompt ids (B, t) are kept and continued. The work between two steps is one forward pass, so closing the
    generator frees the model at the next token. No inference mode is held across a yield.
    """
    tokens, device = ar.config.tokens, labels.device
    ids = torch.empty(len(labels), 0, dtype=torch.long, device=device) if prompt_ids is None else prompt_ids
    noise = gumbel_noise(seeds, tokens, ar.config.codebook_size, device)  # (B, T, V)
    ramp = guidance_ramp(tokens, sampling.guidance, sampling.power).tolist()
    caches = [KVCache(tokens) for _ in ar.blocks]
    null = torch.full_like(labels, ar.config.classes)
    rows = labels if sampling.guidance == 1 else torch.cat([labels, null])  # (B,) or (2B,)
    for index in range(ids.shape[1], tokens):
        logits = next_logits(ar, rows, ids, caches)
        sampled, entropy = draw_codes(logits, ramp[index], noise[:, index], sampling)
        ids = torch.cat([ids, sampled], 1)  # (B, index + 1)
        yield Step(index, ids, entropy)
