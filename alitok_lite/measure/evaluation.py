"""All the numbers of a model on unseen pictures: reconstruction, predictability, samples.

Frechet distances (rFD of reconstructions, gFD of samples) are in the features of a judge (see judge.py); what is in
the features of Inception has inception in its name.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..core.ar import ARModel
from ..core.tokenizer import Tokenizer
from ..data.sources import slices
from ..model import AliTok
from ..packed import packed
from .judge import DetailJudge, Judge
from .metrics import (
    Features,
    affordable,
    bits_per_dimension,
    codebook_usage,
    frechet_distance,
    predictability,
    psnr,
    row_errors,
    ssim,
    unigram_entropy,
)
from .probe import dependency_map, later_share
from .repaint import repaint_share
from .sampling_loss import sampling_loss

Pictures = Iterable[tuple[Tensor, Tensor]]  # batches of pixels (B, 3, S, S) and labels (B,), all of them together N

LOOKED_AT = 14  # pictures on which dependency on later tokens is measured; each is decoded for every token
_KEYS = {"judge": "", "inception": "inception_"}  # extractors of features, and how the keys of their numbers begin
_DETAILS = "details"  # a further extractor, of logits, which have no Frechet distance


@dataclass(frozen=True)
class _Decoded:
    """Reconstructions of N pictures by one decoder, on the CPU."""

    psnr: Tensor  # (N,), dB
    ssim: Tensor  # (N,)
    row_mse: Tensor  # (N, G)
    features: dict[str, Tensor]  # of each extractor, (N, D)


@dataclass(frozen=True)
class _Measured:
    """N pictures and their reconstructions, on the CPU."""

    ids: Tensor  # (N, T)
    labels: Tensor  # (N,)
    real: dict[str, Tensor]  # features of each extractor, (N, D)
    decoded: dict[int, _Decoded]  # of each stage


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
    With a DetailJudge also of reconstructions, and by details: details_, details_lowest_ and details_classes_ (each).
    active_codes (codebook usage), unigram_entropy in nats and its exponential unigram_perplexity.
    Of each decoder, _stage1 causal and _stage2 bidirectional: psnr in dB, ssim, row_mse of the G rows of patches,
    row_ratio of the first over the second, rfd; on a few of them look_ahead, the share of a patch's dependency on later
    tokens, and repainted, the share of patches that change visibly after their own token was told.
    With an AR model: nats, top1 and top5 per token, of all or with _prefix or _image of these tokens, and at the T
    _positions; bits_per_image. Of N samples with the labels of the pictures: judge_samples, gfd, and generation_gap,
    gfd minus the rfd of the decoder that draws. Two sets of real pictures have a distance too, which falls with N; gfd
    contains it, rfd of the very same pictures hardly does, so a perfect AR model has a gap a little above 0.
    sampling_loss and its floor: what the AR model alone loses (see sampling_loss.py), where there are pictures enough.
    bits_per_dimension: length of a two-part code, AR bits and residual, in bits for each of the picture's values.
    fd_floor is that distance of real pictures to real ones, fd_floor_pictures on each side: to `others`, as many more
    unseen pictures, or else between two halves of the N.
    With `inception` (see `inception_features`): distances and gap a second time, as inception_rfd_stage1 and so on.
    With training pictures: judge_train, nats_train, top1_train; much better there means overfitted.

    Raises ValueError for fewer than two pictures and for a model whose outputs are not finite numbers.
    """
    extractors = {"judge": judge.features} | ({"inception": inception} if inception else {})
    looks = extractors | ({_DETAILS: judge.details} if isinstance(judge, DetailJudge) else {})
    stages = model.tokenizer.stages
    measured = _measure(model.tokenizer, looks, pictures, stages)
    labels = measured.labels
    results: dict[str, Any] = {"pictures": len(labels), "judge_real": _accuracy(judge, measured.real["judge"], labels)}
    results["judge_chance"] = float(labels.bincount().max() / len(labels))
    results |= _codebook(measured.ids, model.tokenizer.config.codebook_size) | _floor(extractors, measured, others)
    results |= _judged_pictures(judge, measured)
    for stage in stages:
        results |= _reconstructions(measured, stage) | _later_tokens(model.tokenizer, measured.ids, stage)
    if model.ar is not None:
        results |= _tokens(model.ar, measured) | _samples(model, judge, looks, measured, seed)
        results |= _combined(results, [_KEYS[name] for name in extractors], stages, model.tokenizer.config.image_size)
    return results if training is None else results | _seen(model, judge, training)


def _seen(model: AliTok, judge: Judge, training: Pictures) -> dict[str, float | list[float]]:
    """Numbers of the pictures that the model was trained on."""
    measured = _measure(model.tokenizer, {"judge": judge.features}, training, ())
    tokens = {} if model.ar is None else _tokens(model.ar, measured)
    accuracy = {"judge_train": _accuracy(judge, measured.real["judge"], measured.labels)}
    return accuracy | {f"{name}_train": tokens[name] for name in ("nats", "top1") if name in tokens}


def _measure(
    tokenizer: Tokenizer, extractors: dict[str, Features], pictures: Pictures, stages: tuple[int, ...]
) -> _Measured:
    """One pass over the pictures and their reconstructions by the decoders of some stages."""
    parts, painter = [], packed(tokenizer)
    for pixels, labels in tqdm(pictures, desc="measuring", unit="batch"):
        ids = tokenizer.encode(pixels)
        decoded = {}
        for stage in stages:
            again = painter.decode(ids, stage)
            rows = row_errors(again, pixels, tokenizer.config.patch_size)
            similar = psnr(again, pixels).cpu(), ssim(again, pixels).cpu(), rows.cpu()
            decoded[stage] = _Decoded(*similar, _features(extractors, again))
        parts.append(_Measured(ids.cpu(), labels.cpu(), _features(extractors, pixels), decoded))
    return _Measured(
        torch.cat([part.ids for part in parts]),
        torch.cat([part.labels for part in parts]),
        _joined([part.real for part in parts]),
        {stage: _joined_decoded([part.decoded[stage] for part in parts]) for stage in stages},
    )


def _features(extractors: dict[str, Features], pixels: Tensor) -> dict[str, Tensor]:
    """The features of a batch of pictures by each extractor, (B, D) on the CPU."""
    return {name: extract(pixels).cpu() for name, extract in extractors.items()}


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The features of several batches, one after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _joined_decoded(parts: list[_Decoded]) -> _Decoded:
    """The reconstructions of several batches, one after the other."""
    return _Decoded(
        torch.cat([part.psnr for part in parts]),
        torch.cat([part.ssim for part in parts]),
        torch.cat([part.row_mse for part in parts]),
        _joined([part.features for part in parts]),
    )


def _accuracy(judge: Judge, features: Tensor, labels: Tensor) -> float:
    return float((judge.output(features.to(judge.output.weight.device)).argmax(1).cpu() == labels).double().mean())


def _combined(results: dict[str, Any], keys: list[str], stages: tuple[int, ...], size: int) -> dict[str, float]:
    """What follows from other numbers: the generation gaps, and bits per dimension for pictures of a size."""
    gaps = {f"{key}generation_gap": results[f"{key}gfd"] - results[f"{key}rfd_stage{stages[-1]}"] for key in keys}
    bits, rows = results["bits_per_image"], results[f"row_mse_stage{stages[-1]}"]
    return gaps | {"bits_per_dimension": bits_per_dimension(bits, rows, size)}


def _judged_pictures(judge: Judge, measured: _Measured) -> dict[str, float | list[float]]:
    """As `_judged`, of the pictures and of each decoder's reconstructions."""
    results = _judged(judge, measured.real, measured.labels, "real")
    for stage, decoded in measured.decoded.items():
        results |= _judged(judge, decoded.features, measured.labels, f"stage{stage}")
    return results


def _judged(judge: Judge, looks: dict[str, Tensor], labels: Tensor, of: str) -> dict[str, float | list[float]]:
    """Shares of pictures put into their class by a DetailJudge, as a whole and by details; empty for a plain Judge."""
    if _DETAILS not in looks:
        return {}
    hits = (looks[_DETAILS].argmax(1) == labels).double()
    classes = [float(hits[labels == label].mean()) for label in labels.unique()]
    shares: dict[str, float | list[float]] = {f"judge_{of}": _accuracy(judge, looks["judge"], labels)}
    shares |= {f"details_{of}": float(hits.mean()), f"details_lowest_{of}": min(classes)}
    return shares | {f"details_classes_{of}": classes}


def _codebook(ids: Tensor, codes: int) -> dict[str, float]:
    entropy = unigram_entropy(ids, codes)
    active = codebook_usage(ids, codes)
    return {"active_codes": active, "unigram_entropy": entropy, "unigram_perplexity": math.exp(entropy)}


def _reconstructions(measured: _Measured, stage: int) -> dict[str, float | list[float]]:
    """Means over the pictures of one decoder's reconstructions, and their Frechet distances to the pictures."""
    decoded = measured.decoded[stage]
    rows = decoded.row_mse.double().mean(0)  # (G,)
    results: dict[str, float | list[float]] = {
        f"psnr_stage{stage}": float(decoded.psnr.double().mean()),
        f"ssim_stage{stage}": float(decoded.ssim.double().mean()),
        f"row_mse_stage{stage}": rows.tolist(),
    }
    if len(rows) > 1 and rows[1] > 0:
        results[f"row_ratio_stage{stage}"] = float(rows[0] / rows[1])
    for name in (name for name in measured.real if name in _KEYS):
        results[f"{_KEYS[name]}rfd_stage{stage}"] = frechet_distance(measured.real[name], decoded.features[name])
    return results


@torch.no_grad()
def _later_tokens(tokenizer: Tokenizer, ids: Tensor, stage: int) -> dict[str, float]:
    """How much patches depend on tokens after their own: on a few pictures, spread over all."""
    chosen = torch.linspace(0, len(ids) - 1, min(LOOKED_AT, len(ids))).long()
    some = ids[chosen].to(tokenizer.quantizer.codebook.device)
    share = later_share(dependency_map(tokenizer, tokenizer.decode(some, stage), stage))  # of reconstructions
    found = repaint_share(tokenizer, some, stage)
    return {f"look_ahead_stage{stage}": float(share.mean()), f"repainted_stage{stage}": found["repainted"]}


def _floor(extractors: dict[str, Features], measured: _Measured, others: Pictures | None) -> dict[str, float]:
    """How far real pictures are from other real ones, see `evaluate`; nothing for fewer than four without others."""
    more = [_features(extractors, pixels) for pixels, _ in others or ()]
    turns = measured.labels.argsort(stable=True)  # class after class: halves have as many of each
    results: dict[str, float] = {}
    for name in extractors:
        real = measured.real[name]
        halves = (real, _joined(more)[name]) if more else (real[turns[::2]], real[turns[1::2]])
        if min(map(len, halves)) > 1:
            results[f"{_KEYS[name]}fd_floor"] = frechet_distance(*halves)
            results["fd_floor_pictures"] = min(map(len, halves))
    return results


def _tokens(ar: ARModel, measured: _Measured) -> dict[str, float | list[float]]:
    """Means of `predictability` over all tokens, the prefix, the image, and at each position."""
    device = ar.output.weight.device
    prefix = ar.config.prefix_tokens
    found = predictability(packed(ar), measured.ids.to(device), measured.labels.to(device))
    results: dict[str, float | list[float]] = {}
    for name in ("nats", "top1", "top5"):
        means = getattr(found, name).double().mean(0)  # (T,)
        if not means.isfinite().all():
            raise ValueError("the AR model's logits are not finite numbers")
        parts = {name: means, f"{name}_prefix": means[:prefix], f"{name}_image": means[prefix:]}
        results |= {key: float(part.mean()) for key, part in parts.items() if len(part)}
        results[f"{name}_positions"] = means.tolist()
    results["bits_per_image"] = sum(found.nats.double().mean(0).tolist()) / math.log(2)
    return results


def _samples(
    model: AliTok, judge: Judge, extractors: dict[str, Features], measured: _Measured, seed: int
) -> dict[str, float | list[float]]:
    """gfd of samples with the labels of the pictures, and the share of them that the judge puts into their class."""
    assert model.ar is not None
    labels, first = measured.labels, seed * 1_000_003 % 2**31  # seeds go up to 2**32 - 1
    parts = []
    for rows in tqdm(list(slices(len(labels), affordable(model.ar))), desc="drawing", unit="batch"):
        parts.append(_features(extractors, model.sample(labels[rows].tolist(), seed=first + rows.start)))
    samples = _joined(parts)
    spaces = [name for name in samples if name in _KEYS]
    results: dict[str, float | list[float]] = {
        f"{_KEYS[name]}gfd": frechet_distance(measured.real[name], samples[name]) for name in spaces
    }
    decoded = measured.decoded[model.tokenizer.stages[-1]].features
    for name in spaces:
        lost = sampling_loss(samples[name], decoded[name])
        results |= {f"{_KEYS[name]}{key}": value for key, value in lost.items()}
    results["judge_samples"] = _accuracy(judge, samples["judge"], labels)
    return results | _judged(judge, samples, labels, "samples")
