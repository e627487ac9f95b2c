"""How good are the pictures, and how predictable the tokens? Numbers on unseen pictures, and a small judge network.

Frechet distances (rFD of reconstructions, gFD of samples) are in the features of a small classifier trained on the same
data. They are not Inception FID, and compare only with those of the same judge on as many pictures; what is in the
features of Inception has inception in its name.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from . import scenes
from .ar import ARModel
from .data import PictureFolder
from .files import write_atomically
from .model import AliTok
from .tokenizer import Tokenizer

Batches = Callable[[int], tuple[Tensor, Tensor]]  # step -> pixels (B, 3, S, S), labels (B,)
Pictures = Iterable[tuple[Tensor, Tensor]]  # batches of pixels (B, 3, S, S) and labels (B,), all of them together N
Features = Callable[[Tensor], Tensor]  # pixels (B, 3, S, S) -> (B, D)

BATCH = 128  # pictures at once
LOGITS = 2**25  # logits or noise at once: B * T * V, 128 MB in float32
INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def psnr(decoded: Tensor, pixels: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB, for values in [0, 1].

    Shape: psnr((2, 3, 32, 32), (2, 3, 32, 32)) -> (2,)
    """
    return -10 * (decoded.float() - pixels).square().flatten(1).mean(1).clamp_min(1e-10).log10()


def ssim(decoded: Tensor, pixels: Tensor) -> Tensor:
    """Structural similarity of each picture, up to 1 for equal ones; values in [0, 1], at least 11 x 11 pixels.

    Gaussian window 11 x 11 of sigma 1.5 where it fits wholly, K1 = 0.01, K2 = 0.03, mean over places and channels.
    Raises ValueError for smaller pictures. Source: Wang et al., Image Quality Assessment (2004).

    Shape: ssim((2, 3, 32, 32), (2, 3, 32, 32)) -> (2,)
    """
    if min(pixels.shape[2:]) < 11:
        raise ValueError(f"pictures have {pixels.shape[2]} x {pixels.shape[3]} pixels; SSIM needs 11 x 11 or more")
    x, y = decoded.float(), pixels.float()
    mean_x, mean_y = _blurred(x), _blurred(y)  # (B, 3, S - 10, S - 10)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    means = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (means * (2 * covariance + c2) / (var_x + var_y + c2)).flatten(1).mean(1)


def _blurred(x: Tensor) -> Tensor:
    """Means under SSIM's window, (B, C, H, W) -> (B, C, H - 10, W - 10).

    Shifted and added: a GPU may round the factors of a convolution to 10 bits, too few for the variances of smooth
    places.
    """
    window = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    for dim in (2, 3):
        length = x.shape[dim] - 10
        x = sum(share * x.narrow(dim, i, length) for i, share in enumerate((window / window.sum()).tolist()))
    return x


def row_errors(decoded: Tensor, pixels: Tensor, patch: int) -> Tensor:
    """Mean squared error of each row of patches in each picture: a causal decoder has least to go by in row 0.

    Shape: row_errors((2, 3, 32, 32), (2, 3, 32, 32), 16) -> (2, 2)
    """
    errors = (decoded.float() - pixels).square().mean((1, 3))  # (B, S)
    return errors.unflatten(1, (-1, patch)).mean(2)


def unigram_entropy(ids: Tensor, codes: int) -> float:
    """Entropy in nats, at most log(codes), of the codes in ids regardless of place; ids of any shape.

    Counted, not corrected: some (codes - 1) / (2 * ids.numel()) nats too low.
    """
    shares = torch.bincount(ids.flatten().cpu(), minlength=codes).double() / ids.numel()  # Apple GPUs have no float64
    return float(torch.special.entr(shares).sum())


def codebook_usage(ids: Tensor, codes: int) -> float:
    """Share of the codes that occur in ids, of any shape."""
    return len(ids.cpu().unique()) / codes


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
    """A Judge trained for some steps of cross-entropy; `batches(step)` gives pixels and labels on the device.

    The same seed gives the same judge on the same kind of device.
    """
    torch.manual_seed(seed)
    judge = Judge(classes).to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.02, fused=device.type == "cuda")
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in tqdm(range(steps), desc="judge", unit="step"):
        pixels, labels = batches(step)
        # Two runs must give the same numbers, and cuDNN has faster ways that do not.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = F.cross_entropy(judge(pixels), labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return judge.eval()


def stored_judge(path: Path, batches: Batches, classes: list[str], steps: int, device: torch.device) -> Judge:
    """The judge that a file holds; where there is no file, one is trained (see `train_judge`) and kept there.

    Distances compare only by the same judge. Of several processes, the first that has trained one decides.
    Raises ValueError for a file that holds something else, or a judge of other classes or steps.
    """
    made = {"classes": json.dumps(classes), "steps": str(steps)}
    if not path.exists():
        judge = train_judge(batches, len(classes), steps, device)
        tensors = {key: value.cpu().contiguous() for key, value in judge.state_dict().items()}
        write_atomically(path, save(tensors, made), replace=False)
    judge = Judge(len(classes)).to(device).eval()
    try:
        with safe_open(path, "pt") as file:
            if file.metadata() != made:
                raise ValueError(f"{path} does not hold a judge of these {len(classes)} classes and {steps} steps")
            judge.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} does not hold a judge: {str(error).splitlines()[0]}") from error
    return judge


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Frechet distance between Gaussians fitted to two sets of features (N, D) and (M, D), in float64.

    Raises ValueError for fewer than two of either, and for features that are not finite numbers.
    """
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a Frechet distance needs two pictures or more on each side, not {len(a)} and {len(b)}")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("features are not finite numbers, so they have no Frechet distance")
    cov_a, cov_b = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def inception_features(device: torch.device) -> Features:
    """The features of the Inception FID: pixels (B, 3, S, S) in [0, 1] -> (B, 2048), rounded to 8 bits first.

    Network and resizing are those of torch-fidelity, which equal the original ones; fewer pictures than features make
    a poor fit, and published numbers have 50,000. Never downloads: raises ValueError, in one sentence that says what
    to do, where the package or its weights are missing.
    """
    try:
        from torch_fidelity import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision made for another torch
        raise ValueError(
            f"Inception FID needs torch-fidelity and a torchvision that fits torch {torch.__version__}:"
            f" pip install 'torch-fidelity>=0.4' torchvision ({error})"
        ) from error
    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION.rsplit("/", 1)[1]
    if not path.is_file():
        raise ValueError(f"Inception FID needs its weights (96 MB): curl -L --create-dirs -o {path} {INCEPTION}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != INCEPTION_SHA256:
        raise ValueError(f"{path} is damaged: its sha256 is not {INCEPTION_SHA256}; fetch {INCEPTION} again")
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path)).to(device).eval()
    return lambda pixels: network((pixels.clamp(0, 1) * 255).round().byte())[0]


class Predictability(NamedTuple):
    """How well the AR model foresees each token from the class and the true tokens before it; on the CPU."""

    nats: Tensor  # (N, T), minus the log-probability of the token
    top1: Tensor  # (N, T), 1 where the token is the likeliest code
    top5: Tensor  # (N, T), 1 where it is among the five likeliest


@torch.inference_mode()
def predictability(ar: ARModel, ids: Tensor, labels: Tensor, batch: int | None = None) -> Predictability:
    """Teacher-forced nats and hits of every token: ids (N, T), labels (N,) -> (N, T) each.

    `batch` pictures at once; None: as many as are quick and fit the memory.
    """
    parts = []
    for part in _parts(len(ids), batch or _affordable(ar)):
        logits, wanted = ar(ids[part], labels[part]).float(), ids[part]  # (B, T, V), (B, T)
        nats = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        hits = logits.topk(min(5, logits.shape[-1])).indices == wanted[..., None]  # (B, T, 5)
        parts.append((nats.cpu(), hits[..., 0].float().cpu(), hits.any(-1).float().cpu()))
    return Predictability(*(torch.cat(column) for column in zip(*parts, strict=True)))


def nats_per_token(ar: ARModel, ids: Tensor, labels: Tensor, batch: int | None = None) -> tuple[Tensor, Tensor]:
    """The nats and the top-1 hits of `predictability`. ids (N, T), labels (N,) -> (N, T) each, on the CPU."""
    return predictability(ar, ids, labels, batch)[:2]


def _parts(total: int, batch: int) -> Iterator[slice]:
    return (slice(i, min(i + batch, total)) for i in range(0, total, batch))


def _affordable(ar: ARModel) -> int:
    """How many pictures an AR model handles at once."""
    return min(BATCH, max(1, LOGITS // (ar.config.tokens * ar.config.codebook_size)))


def unseen_scenes(count: int, seed: int, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of scenes that no training sees, `count` in all: pixels (B, 3, size, size), labels (B,).

    Classes take turns: were they drawn, their shares would move a Frechet distance more than the pictures do.
    """
    for part in _parts(count, BATCH):
        labels = torch.arange(part.start, part.stop) % len(scenes.CLASSES)
        first = scenes.TEST_SEED + seed * 1_000_003 + part.start
        yield scenes.render(labels, first, size, device), labels.to(device)


def whole_pictures(pictures: PictureFolder, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of pictures of a folder as they are, spread over its classes, at most `count` in all."""
    for rows in torch.linspace(0, len(pictures) - 1, min(count, len(pictures))).long().split(BATCH):
        yield pictures.whole(rows), pictures.labels[rows.to(pictures.labels.device)]


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
    for name, values in predictability(ar, seen["ids"].to(device), seen["labels"].to(device))._asdict().items():
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
    for part in tqdm(list(_parts(len(labels), _affordable(model.ar))), desc="drawing", unit="batch"):
        drawn = model.sample(labels[part].tolist(), seed=first + part.start)
        for eye, features in eyes.items():
            found[eye].append(features(drawn).cpu())
    drawn = {eye: torch.cat(features) for eye, features in found.items()}
    results = {f"{eye}gfd": frechet_distance(seen[f"{eye}real"], features) for eye, features in drawn.items()}
    return results | {"judge_samples": _accuracy(judge, drawn[""], labels)}
