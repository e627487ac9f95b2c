"""Tokenizers compared at equal bits: does sampling lose less with the tokens of a causal decoder?

A unit is one tokenizer (row and seed) with everything that is measured on it, in FOLDER/ROW-SEED.json. Units that are
there are not made again, so a study can be stopped and continued, and several processes can share it (see units.py).
The claim, its endpoint and its rule were fixed before the first unit was trained: see results/matched/README.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..core.ar import ARModel
from ..core.config import PRESETS, ARConfig, Preset, resized
from ..core.tokenizer import Decoder, Tokenizer
from ..files import write_atomically
from ..measure.judge import Judge
from ..measure.metrics import (
    bits_per_dimension,
    frechet_distance,
    predictability,
    psnr,
    row_errors,
    ssim,
    unigram_entropy,
)
from ..measure.probe import dependency_map, later_share
from ..measure.repaint import repaint_share
from ..measure.sampling_loss import distances
from ..model import AliTok
from ..train.run import train_part
from ..train.settings import ABLATIONS, TrainSettings
from . import measures
from .ablation import finished
from .pools import Pool
from .readers import Pairs, drawn_ids, resized_reader, train_decoder, train_reader
from .rows import RESULTS, ROWS, Row

CODES = {  # row: the row of the ablation that it is, and its codebook
    "A256": ("A", 256),
    "A1024": ("A", 1024),
    "A": ("A", 4096),
    "B": ("B", 4096),
    "B1024": ("B", 1024),
    "causal-encoder": ("causal-encoder", 4096),
    "CRT": ("CRT", 4096),
    "C": ("C", 4096),
    "D": ("D", 4096),
}
CAPACITY = ("A256", "A1024", "A", "B")  # rows that meet smaller readers, too
FRESH = ("A", "B")  # rows whose frozen tokens meet fresh decoders of both kinds
FRESH_SEEDS = 3


class Reading(NamedTuple):
    """One reader of a row's tokens: what differs from the preset's AR model and from the plan's settings."""

    name: str
    steps: int
    size: tuple[int, int] | None = None  # width and depth
    pictures: int | None = None  # training pictures of a folder; None: all of them
    rows: tuple[str, ...] | None = None  # the rows that have this reader; None: all of them


@dataclass(frozen=True)
class Plan:
    """Sizes and lengths of a study."""

    preset: str
    tokenizer: TrainSettings
    reader: TrainSettings  # its steps are those of each Reading
    decoder: TrainSettings
    readers: tuple[Reading, ...]
    data: str = "scenes"  # or a folder of pictures
    pictures: int = 20_000  # unseen scenes, and as many samples
    hold_out: int = 5  # of a folder: every fifth training picture is unseen, too, beside those of test/
    counts: tuple[int, ...] = (2500, 5000, 10_000, 20_000)  # pictures at which a distance is measured
    judge_pictures: int = 100_000
    judge_steps: int = 4000
    judges: int = 2  # seeds of the judge
    critic_steps: int = 1200
    rows: tuple[str, ...] = ("A256", "A1024", "A", "B")  # those that the command trains unless others are named
    published_judges: bool = False  # those of results/matched, which know scenes of 64 px, instead of fresh ones


_SCENES, _PHOTOS = ABLATIONS["scenes"], ABLATIONS["photos-plain"]
SCENES = Plan(
    "scenes",
    _SCENES.tokenizer,
    replace(_SCENES.ar, keep_best=False),
    replace(_SCENES.decoder, warmup=800),
    (
        Reading("224x5", 6000),
        Reading("224x5 short", 1000),
        *(Reading(f"{w}x{d}", 6000, (w, d), rows=CAPACITY) for w, d in ((128, 3), (64, 2), (32, 1))),
    ),
    published_judges=True,
)
# The reduced study: nine units in a quarter of an hour on two CPU cores.
_TINY = ABLATIONS["tiny"]
TINY = Plan(
    "tiny",
    replace(_TINY.tokenizer, steps=1300, batch=16, pictures=8000, save_every=650),
    replace(_TINY.ar, pictures=8000),
    _TINY.decoder,
    (Reading("64x2", 600, (64, 2)), Reading("64x2 short", 100, (64, 2))),
    pictures=1120,
    counts=(280, 560, 1120),
    judges=1,
    critic_steps=30,
    rows=("A256", "A1024", "B1024"),
    published_judges=True,
)


def photographs(folder: str | Path, counts: tuple[int, ...] = (550, 1100, 2200, 4400), hold_out: int = 5) -> Plan:
    """The study on a folder of natural pictures: readers of 2,000, of 8,000 and of all training pictures.

    Few pictures are soon memorised: the weights with the least loss on held-out pictures are kept.
    """
    return Plan(
        "photos-plain",
        _PHOTOS.tokenizer,
        replace(_PHOTOS.ar, batch=256, ema=0.0, keep_best=True),
        replace(_PHOTOS.decoder, warmup=500),
        (
            Reading("224x5", 3000),
            Reading("224x5 8000", 1500, pictures=8000),
            Reading("224x5 2000", 600, pictures=2000),
            Reading("64x2", 3000, (64, 2)),
        ),
        data=str(folder),
        hold_out=hold_out,
        counts=counts,
        rows=("A1024", "A", "B"),
    )


def sizes_of(plan: Plan, row: str, classes: int) -> Preset:
    """The sizes of a row's tokenizer and of its AR model, for pictures of so many classes."""
    base, codes = CODES[row]
    sizes = resized(PRESETS[plan.preset], codebook_size=codes, **ROWS[base].changes)
    return replace(sizes, ar=replace(sizes.ar, classes=classes))


def readings(plan: Plan, row: str) -> list[Reading]:
    """The readers that a row has."""
    return [reading for reading in plan.readers if reading.rows is None or row in reading.rows]


# ---------------------------------------------------------------- judges


class Bench:
    """What all units of a study share: its pictures, judges, and the features of the pictures.

    All units have the same judges, which FOLDER/judges.safetensors keeps.
    """

    def __init__(self, plan: Plan, pool: Pool, folder: Path) -> None:
        self.plan, self.pool, self.device = plan, pool, pool.labels.device
        self.judges = _judges(plan, pool, folder / "judges.safetensors")
        self.real = [measures.features(judge, pool.first) for judge in self.judges]
        self.other = [measures.features(judge, pool.second) for judge in self.judges]
        self.accuracy = [in_class(j, f, pool.labels) for j, f in zip(self.judges, self.real, strict=True)]


def _judges(plan: Plan, pool: Pool, path: Path) -> list[Judge]:
    """The first judges that the file holds; where there is none, they are trained, or copied, and kept there."""
    judges = [pool.fresh_judge().to(pool.labels.device).eval() for _ in range(plan.judges)]
    if not path.exists() and plan.published_judges:
        write_atomically(path, (RESULTS / "matched" / path.name).read_bytes())
    if not path.exists():
        judges = [pool.train_judge(plan.judge_pictures, plan.judge_steps, seed) for seed in range(plan.judges)]
        write_atomically(path, save({k: v.cpu().contiguous() for k, v in nn.ModuleList(judges).state_dict().items()}))
    held = {name: value for name, value in load_file(path).items() if int(name.split(".")[0]) < plan.judges}
    nn.ModuleList(judges).load_state_dict(held)
    return judges


def in_class(judge: Judge, found: Tensor, labels: Tensor) -> float:
    """The share of features (N, 128) that the judge puts into their class."""
    device = judge.output.weight.device
    return float((judge.output(found.float().to(device)).argmax(1) == labels).double().mean())


# ---------------------------------------------------------------- one unit


def run_unit(
    plan: Plan,
    pool: Pool,
    ready: Callable[[], Bench],
    folder: Path,
    row: str,
    seed: int,
    log: Callable[[str], object] = print,
    begins: Callable[[str], object] = lambda part: None,
) -> dict:
    """Train and measure one tokenizer with its readers, and store FOLDER/ROW-SEED.json.

    `ready` gives the study's Bench; it is called once the tokenizer is trained. `begins` is told each part that begins.
    tokenizer: numbers of the tokenizer; decoders: of each decoder over its ids; readers: of each AR model, with its
    samples through each decoder.
    """
    began, (base, codes) = time.time(), CODES[row]
    sizes = sizes_of(plan, row, len(pool.classes))
    begins("tokenizer")
    tokenizer = _tokenizer(sizes, ROWS[base], plan, pool, folder / f"{row}-{seed}", seed)
    trained, bench = time.time() - began, ready()
    pictures, kinds = pool.training(seed, plan.reader.pictures)
    ids = encoded(tokenizer, pictures)
    result = {"row": row, "title": ROWS[base].title, "codes": codes, "seed": seed, "pictures": len(pool.first)}
    result |= {"judge_real": bench.accuracy, "device": _name(bench.device), "data": Path(plan.data).name}
    first, second = encoded(tokenizer, pool.first).long(), encoded(tokenizer, pool.second).long()
    result["tokenizer"] = _tokens(tokenizer, first, codes, seed)
    decoders = _decoders(tokenizer, row, seed, plan, pictures, ids)
    views = {name: _View(bench, tokenizer, decoder, first, second) for name, decoder in decoders.items()}
    result["decoders"] = {name: view.numbers for name, view in views.items()}
    result["readers"] = {}
    for reading in readings(plan, row):
        begins(f"reader {reading.name}")
        at, reader, entry = time.time(), *_trained(reading, sizes.ar, plan, pool, tokenizer, (ids, kinds), seed)
        learned = time.time()
        found = _reader(bench, reader, tokenizer, first, views, seed)
        seconds = {"training": round(learned - at, 1), "measuring": round(time.time() - learned, 1)}
        result["readers"][reading.name] = found | entry | {"seconds": seconds}
    result["seconds"] = {"tokenizer": round(trained, 1), "all": round(time.time() - began, 1)}
    write_atomically(folder / f"{row}-{seed}.json", (json.dumps(result, indent=1) + "\n").encode())
    log(line(result))
    return result


def _trained(
    reading: Reading, config: ARConfig, plan: Plan, pool: Pool, tokenizer: Tokenizer, read: Pairs, seed: int
) -> tuple[ARModel, dict]:
    """A reader of ids and labels `read`, and what is known of its training."""
    chosen = pool.subset(len(read[0]), reading.pictures)
    ids, kinds = read[0][chosen], read[1][chosen]
    watch = (encoded(tokenizer, pool.watched).long(), pool.watched_labels) if plan.reader.keep_best else None
    sizes = resized_reader(config, *reading.size) if reading.size else config
    settings = replace(plan.reader, steps=reading.steps, warmup=max(1, reading.steps // 10), seed=seed)
    reader, best = train_reader(ids, kinds, sizes, settings, watch)
    return reader, {"steps": reading.steps, "kept_step": best, "sequences": len(ids)}


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _tokenizer(sizes: Preset, row: Row, plan: Plan, pool: Pool, run: Path, seed: int) -> Tokenizer:
    """The tokenizer of a RUN, whose training is begun, continued or done already; as stored, however it came there."""
    settings, device = replace(plan.tokenizer, seed=seed, next_code=row.next_code), pool.labels.device
    if not row.aux:
        settings = replace(settings, losses=replace(settings.losses, aux=0.0))
    if not finished(run, "tokenizer", settings):
        held, place = (run / "state" / "tokenizer.safetensors").exists(), "cpu" if device.type == "cpu" else "auto"
        train_part("tokenizer", sizes, settings, run, held, pool.source(settings), device=place)
    return AliTok.from_pretrained(run, device).tokenizer.eval().requires_grad_(False)


@torch.no_grad()
def encoded(tokenizer: Tokenizer, pixels: Tensor) -> Tensor:
    """Ids (N, T) int32 of pixels (N, 3, S, S) uint8."""
    return torch.cat([tokenizer.encode(part.float() / 255).int() for part in pixels.split(1000)])


def _tokens(tokenizer: Tokenizer, ids: Tensor, codes: int, seed: int) -> dict:
    """Codebook use, and how much patches depend on later tokens, by intervention and by Jacobian."""
    stage, numbers = tokenizer.stages[-1], {"stage": tokenizer.stages[-1]}
    numbers |= {"usage": len(ids.unique()) / codes, "unigram_entropy": unigram_entropy(ids, codes)}
    pictures = tokenizer.decode(ids[:56], stage)  # decoded ones, whose ids are about the same
    changed = later_share(dependency_map(tokenizer, pictures, stage, "perturbation", seed))
    moved = later_share(dependency_map(tokenizer, pictures[:14], stage, "jacobian", seed))
    numbers |= {"look_ahead": float(changed.mean()), "look_ahead_jacobian": float(moved.mean())}
    numbers |= repaint_share(tokenizer, ids[:280], stage)
    return numbers | {"survival": measures.survival(tokenizer, ids[:2000], stage)}


def _decoders(
    tokenizer: Tokenizer, row: str, seed: int, plan: Plan, pictures: Tensor, ids: Tensor
) -> dict[str, Decoder]:
    """The tokenizer's own decoder and those that are trained over its frozen tokens, by name."""
    own = tokenizer.decoder1 or tokenizer.decoder2
    decoders, settings, device = {"own": own}, replace(plan.decoder, seed=seed), pictures.device
    config = replace(tokenizer.config, aligned=True)  # a conventional tokenizer's fresh decoders are like the others'
    if row in FRESH and seed < FRESH_SEEDS:
        for name, causal in (("fresh causal", True), ("fresh bidirectional", False)):
            torch.manual_seed(seed)
            decoders[name] = Decoder(config, causal).to(device)
    if row == "D":
        from ..train.run import second_decoder

        decoders["second stage"] = second_decoder(tokenizer).to(device)
        decoders["longer"] = Decoder(config, True).to(device)
        decoders["longer"].load_state_dict(own.state_dict())
    for name, decoder in decoders.items():
        if name != "own":
            train_decoder(tokenizer, decoder.requires_grad_(True), pictures, ids, settings).requires_grad_(False)
    return decoders


class _View:
    """One decoder over one tokenizer's ids: its numbers, and the features that samples are compared with."""

    def __init__(self, bench: Bench, tokenizer: Tokenizer, decoder: Decoder, first: Tensor, second: Tensor) -> None:
        self.bench, self.tokenizer, self.decoder = bench, tokenizer, decoder
        real = bench.pool.first
        pixels = self.decode(first)
        self.features = [measures.features(judge, pixels) for judge in bench.judges]
        others = [measures.features(judge, self.decode(second)) for judge in bench.judges]
        size, patch = tokenizer.config.image_size, tokenizer.config.patch_size
        found: dict[str, list[Tensor]] = {"psnr": [], "ssim": [], "row_mse": []}
        for decoded, wanted in zip(pixels.split(1000), real.split(1000), strict=True):
            decoded, wanted = decoded.float() / 255, wanted.float() / 255
            found["psnr"].append(psnr(decoded, wanted))
            found["ssim"].append(ssim(decoded, wanted))
            found["row_mse"].append(row_errors(decoded, wanted, patch))
        self.rows = torch.cat(found["row_mse"]).double().mean(0).tolist()
        self.size = size
        self.numbers = {
            "causal": decoder.causal,
            "psnr": float(torch.cat(found["psnr"]).double().mean()),
            "ssim": float(torch.cat(found["ssim"]).double().mean()),
            "row_mse": self.rows,
            "rfd": [frechet_distance(a, b) for a, b in zip(bench.real, self.features, strict=True)],
            "in_class": [in_class(j, f, bench.pool.labels) for j, f in zip(bench.judges, self.features, strict=True)],
            # Two sets of reconstructions of unseen pictures: what a perfect AR model would lose.
            "floor": [distances(a, b, bench.plan.counts) for a, b in zip(others, self.features, strict=True)],
        }

    @torch.no_grad()
    def decode(self, ids: Tensor) -> Tensor:
        """Pixels (N, 3, S, S) uint8 of ids (N, T)."""
        codes = self.tokenizer.quantizer
        parts = [self.decoder(codes.lookup(part.long())) for part in ids.split(1000)]
        return torch.cat([(part.float().clamp(0, 1) * 255).round().byte() for part in parts])

    def sampled(self, drawn: Tensor, bits: float) -> dict:
        """Numbers of pictures that a reader drew: the sampling loss and its company."""
        bench, counts = self.bench, self.bench.plan.counts
        pixels = self.decode(drawn)
        found = [measures.features(judge, pixels) for judge in bench.judges]
        near = min(5000, len(drawn))
        return {
            "sampling_loss": [distances(a, b, counts) for a, b in zip(found, self.features, strict=True)],
            "gfd": [frechet_distance(a, b) for a, b in zip(found, bench.other, strict=True)],
            "in_class": [in_class(j, f, bench.pool.labels) for j, f in zip(bench.judges, found, strict=True)],
            "bits_per_dimension": bits_per_dimension(bits, self.rows, self.size),
        } | measures.precision_recall(found[0][:near].to(bench.device), self.features[0][:near].to(bench.device))


@torch.no_grad()
def _reader(bench: Bench, reader: torch.nn.Module, tokenizer: Tokenizer, first: Tensor, views: dict, seed: int) -> dict:
    """How well a reader predicts true tokens, whether its own can be told from them, and its samples."""
    nats, top1, top5 = (x.double().mean(0) for x in predictability(reader, first, bench.pool.labels, batch=500)[:3])
    drawn = drawn_ids(reader, bench.pool.labels, 1_000_003 + seed)
    bits, stage = float(nats.sum() / torch.tensor(2.0).log()), tokenizer.stages[-1]
    with torch.enable_grad():
        codebook = tokenizer.quantizer.codebook
        told = measures.two_sample_test(drawn, first, bench.pool.labels, codebook, bench.plan.critic_steps, seed)
    return {
        "parameters": sum(p.numel() for p in reader.parameters()),
        "nats": float(nats.mean()),
        "nats_positions": nats.tolist(),
        "top1": float(top1.mean()),
        "top5": float(top5.mean()),
        "bits_per_image": bits,
        "two_sample_auc": told,
        "survival": measures.survival(tokenizer, drawn[:2000], stage),
        "decoders": {name: view.sampled(drawn, bits) for name, view in views.items()},
    }


def line(result: dict) -> str:
    """A unit in one line of a log."""
    own, token = result["decoders"]["own"], result["tokenizer"]
    text = f"{result['row']}-{result['seed']}: {own['psnr']:.2f} dB, usage {token['usage']:.3f}"
    text += f", look-ahead {token['look_ahead']:.3f}, repainted {token['repainted']:.3f}"
    for name, reader in result["readers"].items():
        loss = reader["decoders"]["own"]["sampling_loss"][0]["infinite"]
        text += f" | {name}: {reader['bits_per_image']:.1f} bits, loss {loss:.3f}, auc {reader['two_sample_auc']:.3f}"
    return text + f" | {result['seconds']['all']} s"
