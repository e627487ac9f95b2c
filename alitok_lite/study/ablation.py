"""The paper's ablation at small scale: tokenizers that differ in one thing, each with an AR model of its own.

A study is a folder. Each pair of row and seed trains in FOLDER/ROW-SEED (a RUN) and ends in FOLDER/ROW-SEED.json;
finished pairs are not trained again and unfinished ones are resumed, so a study can be stopped and continued, or shared
by several processes with different rows or seeds. All pairs are measured by one judge on the same unseen pictures.

Source: paper.md, Ablation. Row E, longer training, is left out.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn

from ..core.config import PRESETS, ARConfig, Preset, resized
from ..data.scan import scanned, unscanned
from ..data.sources import FolderSource, judge_source, open_source, unseen_scenes, whole_pictures
from ..files import write_atomically
from ..machine import say
from ..measure.evaluation import evaluate
from ..measure.judge import Judge, stored_judge
from ..model import AliTok
from ..train.run import train_part
from ..train.settings import ABLATIONS, AblationSettings, TrainSettings
from ..train.tasks import cached_ids
from .costs import training_cost
from .lookahead import nats_given_others, train_masked
from .progress import Progress
from .rows import ROWS, Row

TEST_SEED = 54_321  # of the unseen scenes that every row is measured on


@dataclass(frozen=True)
class Study:
    """What all rows have in common."""

    folder: Path
    preset: Preset
    settings: AblationSettings
    data: str = "scenes"


def open_study(
    folder: str | Path,
    preset: str = "scenes",
    data: str = "scenes",
    changes: Mapping[str, int] | Iterable[tuple[str, int]] = (),
) -> Study:
    """A study of a preset, with changed sizes (field of TokenizerConfig and value) for all rows.

    Raises ValueError for a preset without ablation settings, a wrong size, or a folder that holds another study.
    """
    if preset not in ABLATIONS:
        raise ValueError(f"preset {preset!r} has no ablation settings; choose one of {', '.join(ABLATIONS)}")
    changed = dict(changes)
    sizes = resized(PRESETS[preset], **changed)
    wanted = {"preset": preset, "data": Path(data).name, "changes": changed}
    path = Path(folder) / "study.json"
    if path.exists() and json.loads(path.read_text()) != wanted:
        raise ValueError(f"{folder} holds another study, {path.read_text().strip()}; choose another --out")
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(wanted) + "\n").encode())
    return Study(Path(folder), sizes, ABLATIONS[preset], data)


def run_rows(study: Study, rows: Sequence[str], seeds: Sequence[int]) -> None:
    """Train and measure rows with seeds; says before each part which it is and how long all of them will take."""
    progress = _Parts(study, rows, seeds)
    progress.measure()
    for seed in seeds:
        for row in rows:
            run_row(study, row, seed, progress)


class _Parts(Progress):
    """The trainings of an ablation that are still to come."""

    def __init__(self, study: Study, rows: Sequence[str], seeds: Sequence[int]) -> None:
        super().__init__([])
        self.study = study
        for seed in seeds:
            for row in rows:
                self._plan(row, seed)
        self.total = len(self.left)

    def _plan(self, name: str, seed: int) -> None:
        row, run = ROWS[name], self.study.folder / f"{name}-{seed}"
        if (self.study.folder / f"{name}-{seed}.json").exists():
            return
        if row.over is not None:
            self._plan(row.over, seed)
        for kind in ("tokenizer", "ar") if row.over is None else ("decoder",):
            entry = (name, seed, kind)
            if entry not in self.left and not finished(run, kind, getattr(self.study.settings, kind)):
                self.left.append(entry)

    def measure(self) -> None:
        """Time a few steps of each kind of part, on a CPU; on a GPU they would first be compiled, for a minute."""
        if torch.cuda.is_available():
            return
        for name, _, kind in self.left:
            if kind not in self.seconds:
                settings: TrainSettings = getattr(self.study.settings, kind)
                sizes = resized(self.study.preset, **ROWS[name].changes)
                self.seconds[kind] = training_cost(kind, sizes, settings, 2)["seconds"] * settings.steps
        self.began = time.monotonic()


def run_row(study: Study, name: str, seed: int, progress: Progress | None = None) -> dict:
    """Train and measure one row with one seed, or read what an earlier call measured."""
    progress = progress or _Parts(study, [name], [seed])
    path = study.folder / f"{name}-{seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    row, run = ROWS[name], study.folder / f"{name}-{seed}"
    sizes = resized(study.preset, **row.changes)
    if row.over is None:
        for kind in ("tokenizer", "ar"):
            progress.begins(name, seed, kind)
            _train(study, kind, sizes, run, seed, row)
            progress.ends(name, seed, kind)
    else:
        run_row(study, row.over, seed, progress)
        if not (run / "config.json").exists():
            ignore = shutil.ignore_patterns("state", "sheets")
            shutil.copytree(study.folder / f"{row.over}-{seed}", run, ignore=ignore, dirs_exist_ok=True)
        progress.begins(name, seed, "decoder")
        _train(study, "decoder", sizes, run, seed, row)
        progress.ends(name, seed, "decoder")
    say(f"row {name}, seed {seed}: measuring")
    result = {"row": name, "title": row.title, "seed": seed} | _measure(study, run, name, seed)
    write_atomically(path, (json.dumps(result, indent=1) + "\n").encode())
    return result


def finished(run: Path, kind: str, settings: TrainSettings) -> bool:
    """Whether a RUN holds a part with all its steps."""
    if not (run / "config.json").exists():
        return False
    done = json.loads((run / "config.json").read_text())["info"]["training"]
    return done.get(kind, {}).get("steps") == settings.steps


def _train(study: Study, kind: str, sizes: Preset, run: Path, seed: int, row: Row) -> None:
    """Train one part, resume it, or leave it if it is finished."""
    settings: TrainSettings = replace(getattr(study.settings, kind), seed=seed, scan=row.scan)
    if kind == "tokenizer":
        losses = settings.losses if row.aux else replace(settings.losses, aux=0.0)
        settings = replace(settings, losses=losses, next_code=row.next_code)
    if finished(run, kind, settings):
        return
    train_part(kind, sizes, settings, run, (run / "state" / f"{kind}.safetensors").exists(), study.data)


@dataclass(frozen=True)
class _ScannedJudge:
    """A judge of pictures whose patches are in the order of a scan: it sees them with the patches moved back."""

    judge: Judge
    scan: str
    patch: int

    @property
    def output(self) -> nn.Linear:
        """The judge's own."""
        return self.judge.output

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 128)"""
        return self.judge.features(unscanned(pixels, self.scan, self.patch))


def _measure(study: Study, run: Path, name: str, seed: int) -> dict:
    """Everything `evaluate` says about a RUN, with plain names for the decoder that the row is about."""
    model = AliTok.from_pretrained(run)
    size, count = study.preset.tokenizer.image_size, study.settings.pictures
    source = judge_source(study.data, size, model.device)
    path, steps = study.folder / "judge.safetensors", study.settings.judge_steps
    judge = stored_judge(path, source.batch, source.classes, steps, model.device)
    if isinstance(source, FolderSource):
        unseen = whole_pictures(source.test, min(count, len(source.test)))
    else:
        unseen = unseen_scenes(count, TEST_SEED, size, model.device)
    scan, patch = ROWS[name].scan, study.preset.tokenizer.patch_size
    pictures = [(scanned(x, scan, patch), y) for x, y in unseen]
    result = evaluate(model, _ScannedJudge(judge, scan, patch), pictures, seed=seed)
    stage = model.tokenizer.stages[-1]
    result |= {key: result[f"{key}_stage{stage}"] for key in ("psnr", "ssim", "rfd", "row_ratio", "row_mse")}
    over = ROWS[name].over
    if over is not None:
        below = AliTok.from_pretrained(study.folder / f"{over}-{seed}")
        same = (torch.equal(model.tokenizer.encode(x), below.tokenizer.encode(x)) for x, _ in pictures)
        result["ids_as_below"] = all(same)
    if study.settings.lookahead and name in ("A", "B") and seed == 0:
        result |= _lookahead(study, model, pictures, run, seed, result["nats_positions"])
    return result


def _lookahead(study: Study, model: AliTok, pictures: list, run: Path, seed: int, nats_past: list[float]) -> dict:
    """The look-ahead debt of a row's tokens, from a masked model that sees all other tokens."""
    settings = replace(study.settings.ar, seed=seed)
    source = open_source(study.data, model.tokenizer.config.image_size, settings, model.device)
    settings = replace(settings, steps=settings.steps * study.settings.lookahead)
    ids, labels = cached_ids(model, source, run)
    config: ARConfig = model.ar.config
    masked = train_masked(ids, labels, config, settings)
    test = torch.cat([model.tokenizer.encode(x) for x, _ in pictures])
    given_others = nats_given_others(masked, test, torch.cat([y for _, y in pictures])).double().mean(0)  # (T,)
    debt = [past - others for past, others in zip(nats_past, given_others.tolist(), strict=True)]
    return {"nats_given_others": float(given_others.mean()), "debt": mean(debt), "debt_positions": debt}
