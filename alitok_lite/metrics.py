"""How good are the pictures, and how predictable the tokens? Numbers on fresh pictures, and a small judge network.

Frechet distances here are in the features of a small classifier trained on the same data: rFD for
reconstructions, gFD for samples. They are not Inception FID and compare only with each other.
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ar import ARModel
from .model import AliTok

Batches = Callable[[int], tuple[Tensor, Tensor]]  # step -> pixels (B, 3, S, S), labels (B,)


def psnr(decoded: Tensor, pixels: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB, for values in [0, 1].

    Shape: psnr((2, 3, 32, 32), (2, 3, 32, 32)) -> (2,)
    """
    return -10 * (decoded.float() - pixels).square().flatten(1).mean(1).clamp_min(1e-10).log10()


class Judge(nn.Module):
    """A small residual CNN that names the class of a picture; its pooled features serve Frechet distances.

    Shape: Judge(5)((2, 3, 32, 32)) -> (2, 5)
    """

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in zip([width, *widths], widths, strict=False))
        self.mix = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, w), nn.GELU(), nn.Conv2d(w, w, 3, padding=1)) for w in widths
        )
        self.output = nn.Linear(widths[-1], classes)

    def features(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, S, S) in [0, 1] -> (B, 128)"""
        x = self.stem(2 * pixels - 1)
        for down, mix in zip(self.down, self.mix, strict=True):
            x = down(F.gelu(x))
            x = x + mix(x)
        return x.mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.output(self.features(pixels))


def train_judge(batches: Batches, classes: int, steps: int, device: torch.device, seed: int = 0) -> Judge:
    """A Judge trained for some steps of cross-entropy; `batches(step)` gives pixels and labels on the device."""
    torch.manual_seed(seed)
    judge = Judge(classes).to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.02, fused=device.type == "cuda")
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        pixels, labels = batches(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = F.cross_entropy(judge(pixels), labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return judge.eval()


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Frechet distance between Gaussians fitted to two sets of features (N, D) and (M, D), in float64."""
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("features are not finite numbers, so they have no Frechet distance")
    cov_a, cov_b = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


@torch.inference_mode()
def nats_per_token(ar: ARModel, ids: Tensor, labels: Tensor, batch: int = 256) -> tuple[Tensor, Tensor]:
    """Teacher-forced nats and top-1 hits of every token. ids (N, T), labels (N,) -> (N, T) each, on the CPU."""
    nats, hits = [], []
    for i in range(0, len(ids), batch):
        logits = ar(ids[i : i + batch], labels[i : i + batch]).float()  # (B, T, V)
        nats.append(F.cross_entropy(logits.transpose(1, 2), ids[i : i + batch], reduction="none").cpu())
        hits.append((logits.argmax(-1) == ids[i : i + batch]).float().cpu())
    return torch.cat(nats), torch.cat(hits)


def _in_batches(total: int, batch: int = 250) -> Iterator[slice]:
    return (slice(i, min(i + batch, total)) for i in range(0, total, batch))


@torch.inference_mode()
def evaluate(model: AliTok, judge: Judge, pixels: Tensor, labels: Tensor) -> dict[str, float]:
    """Numbers of a model on unseen pictures (N, 3, S, S) with labels (N,), all on the model's device.

    Keys: judge_real (accuracy of the judge on the pictures), psnr_stage1/2 in dB, rfd_stage1/2, active_codes (share
    of the codebook seen), and with an AR model nats (per token), top1, bits_per_image, gfd and judge_samples: the
    Frechet distance of as many samples of the same labels, and the share of them that the judge puts into their
    class. Few pictures bias Frechet distances upwards: compare equal counts.
    """
    tokenizer, results = model.tokenizer, {}
    parts = list(_in_batches(len(pixels)))

    def judged(pictures: list[Tensor]) -> tuple[Tensor, float]:
        features = torch.cat([judge.features(p) for p in pictures])
        return features, float((judge.output(features).argmax(1) == labels).float().mean())

    real, results["judge_real"] = judged([pixels[p] for p in parts])
    ids = torch.cat([tokenizer.encode(pixels[p]) for p in parts])  # (N, T)
    results["active_codes"] = len(ids.unique()) / tokenizer.config.codebook_size
    for stage in tokenizer.stages:
        decoded = [tokenizer.decode(ids[p], stage) for p in parts]
        results[f"psnr_stage{stage}"] = float(psnr(torch.cat(decoded), pixels).mean())
        results[f"rfd_stage{stage}"] = frechet_distance(real, judged(decoded)[0])
    if model.ar is not None:
        nats, hits = nats_per_token(model.ar, ids, labels)
        results |= {"nats": float(nats.mean()), "top1": float(hits.mean())}
        results["bits_per_image"] = float(nats.sum(1).mean()) / math.log(2)
        samples = [model.sample(labels[p].tolist(), seed=p.start) for p in parts]
        features, results["judge_samples"] = judged(samples)
        results["gfd"] = frechet_distance(real, features)
    return results
