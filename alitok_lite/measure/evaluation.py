"""All the numbers of a model on unseen pictures: reconstruction, predictability, samples.

Frechet distances (rFD of reconstructions, gFD of samples) are in the features of a judge (see judge.py); what is in
the features of Inception has inception in its name.
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor
from tqdm import tqdm

from ..core.ar import ARModel
from ..core.tokenizer import Tokenizer
from ..data.sources import slices
from ..model import AliTok
from .judge import Judge
from .metrics import (
    Features,
    affordable,
    codebook_usage,
    frechet_distance,
    predictability,
    psnr,
    row_errors,
    ssim,
    unigram_entropy,
)

Pictures = Iterable[tuple[Tensor, Tensor]]  # batches of pixels (B, 3, S, S) and labels (B,), all of them together N


@torch.inference_mode()
def evaluate(
    model: AliTok,
    judge: Judge,
    pictures: Pictures,
    training: Pictures | None = None,
    inception: Features | None = None,
    seed: int = 0,
    others: Pictures | None = None,
) -> dict[str, float | list[float]]:
    """Numbers of a model on N unseen pictures, which come in batches on the model's device.

    judge_real: share of the pictures that the judge puts into their class; judge_chance: share of the largest class.
    active_codes (codebook usage), unigram_entropy in nats and its exponential unigram_perplexity.
    Of each decoder, _stage1 causal and _stage2 bidirectional: psnr in dB, ssim, row_mse of the G rows of patches,
    row_ratio of the first over the second, rfd.
    With an AR model: nats, top1 and top5 per token, of all or with _prefix or _image of these tokens, and at the T
    _positions; bits_per_image. Of N samples with the labels of the pictures: judge_samples, gfd, and generation_gap,
    gfd less the rfd of the decoder that draws. Two draws of real pictures differ too, less the larger N; gfd contains
    that, rfd of the very same pictures hardly does, so a perfect AR model has a gap a little above 0.
    fd_floor is that distance of real pictures to real ones, fd_floor_pictures on each side: to `others`, as many more
    unseen pictures, or else between two halves of the N.
    With `inception` (see `inception_features`): distances and gap a second time, as inception_rfd_stage1 and so on.
    With training pictures: judge_train, nats_train, top1_train; much better there means learned by heart.

    Raises ValueError for fewer than two pictures and for a model whose outputs are not finite numbers.
    """
    eyes = {"": judge.features} | ({"inception_": inception} if inception else {})
    stages = model.tokenizer.stages
    seen = _look(model.tokenizer, eyes, pictures, stages)
    results = {"pictures": len(seen["ids"]), "judge_real": _accuracy(judge, seen["real"], seen["labels"])}
    results["judge_chance"] = float(seen["labels"].bincount().max() / len(seen["labels"]))
    results |= _codebook(seen["ids"], model.tokenizer.config.codebook_size)
    for stage in stages:
        results |= _decoder(seen, f"_stage{stage}", eyes)
    results |= _floor(eyes, seen, others)
    if model.ar is not None:
        results |= _tokens(model.ar, seen) | _samples(model, judge, eyes, seen, seed)
        for eye in eyes:
            results[f"{eye}generation_gap"] = results[f"{eye}gfd"] - results[f"{eye}rfd_stage{stages[-1]}"]
    if training is not None:
        seen = _look(model.tokenizer, {"": judge.features}, training, ())
        results["judge_train"] = _accuracy(judge, seen["real"], seen["labels"])
        tokens = {} if model.ar is None else _tokens(model.ar, seen)
        results |= {f"{name}_train": tokens[name] for name in ("nats", "top1") if name in tokens}
    return results


def _look(
    tokenizer: Tokenizer, eyes: dict[str, Features], pictures: Pictures, stages: tuple[int, ...]
) -> dict[str, Tensor]:
    """One pass over the pictures: ids, labels, and what there is to know of each picture and its reconstructions."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    for pixels, labels in tqdm(pictures, desc="measuring", unit="batch"):
        ids = tokenizer.encode(pixels)
        new = {"ids": ids, "labels": labels} | {f"{eye}real": features(pixels) for eye, features in eyes.items()}
        for stage in stages:
            decoded = tokenizer.decode(ids, stage)
            new[f"psnr_stage{stage}"], new[f"ssim_stage{stage}"] = psnr(decoded, pixels), ssim(decoded, pixels)
            new[f"row_mse_stage{stage}"] = row_errors(decoded, pixels, tokenizer.config.patch_size)
            new |= {f"{eye}rfd_stage{stage}": features(decoded) for eye, features in eyes.items()}
        for key, value in new.items():
            found[key].append(value.cpu())
    return {key: torch.cat(values) for key, values in found.items()}


def _accuracy(judge: Judge, features: Tensor, labels: Tensor) -> float:
    return float((judge.output(features.to(judge.output.weight.device)).argmax(1).cpu() == labels).double().mean())


def _codebook(ids: Tensor, codes: int) -> dict[str, float]:
    entropy = unigram_entropy(ids, codes)
    active = codebook_usage(ids, codes)
    return {"active_codes": active, "unigram_entropy": entropy, "unigram_perplexity": math.exp(entropy)}


def _decoder(seen: dict[str, Tensor], stage: str, eyes: Iterable[str]) -> dict[str, float | list[float]]:
    """Means over the pictures of what `_look` found of one decoder."""
    results = {f"{name}{stage}": float(seen[f"{name}{stage}"].double().mean()) for name in ("psnr", "ssim")}
    rows = seen[f"row_mse{stage}"].double().mean(0)  # (G,)
    results[f"row_mse{stage}"] = rows.tolist()
    if len(rows) > 1 and rows[1] > 0:
        results[f"row_ratio{stage}"] = float(rows[0] / rows[1])
    for eye in eyes:
        results[f"{eye}rfd{stage}"] = frechet_distance(seen[f"{eye}real"], seen[f"{eye}rfd{stage}"])
    return results


def _floor(eyes: dict[str, Features], seen: dict[str, Tensor], others: Pictures | None) -> dict[str, float]:
    """How far real pictures are from other real ones, see `evaluate`; nothing for fewer than four without others."""
    more: dict[str, list[Tensor]] = defaultdict(list)
    for pixels, _ in others or ():
        for eye, features in eyes.items():
            more[eye].append(features(pixels).cpu())
    results, turns = {}, seen["labels"].argsort(stable=True)  # class after class: halves have as many of each
    for eye in eyes:
        real = seen[f"{eye}real"]
        halves = (real, torch.cat(more[eye])) if more else (real[turns[::2]], real[turns[1::2]])
        if min(map(len, halves)) > 1:
            results[f"{eye}fd_floor"] = frechet_distance(*halves)
            results["fd_floor_pictures"] = min(map(len, halves))
    return results


def _tokens(ar: ARModel, seen: dict[str, Tensor]) -> dict[str, float | list[float]]:
    """Means of `predictability` over all tokens, the prefix, the image, and at each position."""
    results, prefix, device = {}, ar.config.prefix_tokens, ar.output.weight.device
    for name, values in zip(
        ("nats", "top1", "top5"), predictability(ar, seen["ids"].to(device), seen["labels"].to(device)), strict=False
    ):
        means = values.double().mean(0)  # (T,)
        if not means.isfinite().all():
            raise ValueError("the AR model's logits are not finite numbers")
        parts = {name: means, f"{name}_prefix": means[:prefix], f"{name}_image": means[prefix:]}
        results |= {key: float(part.mean()) for key, part in parts.items() if len(part)}
        results[f"{name}_positions"] = means.tolist()
    return results | {"bits_per_image": sum(results["nats_positions"]) / math.log(2)}


def _samples(
    model: AliTok, judge: Judge, eyes: dict[str, Features], seen: dict[str, Tensor], seed: int
) -> dict[str, float]:
    """gfd of samples with the labels of the pictures, and the share of them that the judge puts into their class."""
    labels, first = seen["labels"], seed * 1_000_003 % 2**31  # seeds go up to 2**32 - 1
    found: dict[str, list[Tensor]] = defaultdict(list)
    for part in tqdm(list(slices(len(labels), affordable(model.ar))), desc="drawing", unit="batch"):
        drawn = model.sample(labels[part].tolist(), seed=first + part.start)
        for eye, features in eyes.items():
            found[eye].append(features(drawn).cpu())
    drawn = {eye: torch.cat(features) for eye, features in found.items()}
    results = {f"{eye}gfd": frechet_distance(seen[f"{eye}real"], features) for eye, features in drawn.items()}
    return results | {"judge_samples": _accuracy(judge, drawn[""], labels)}
