"""The paper's ablation at small scale: tokenizers that differ in one thing, each with an AR model of its own.

A study is a folder. Each pair of row and seed trains in FOLDER/ROW-SEED (a RUN) and ends in FOLDER/ROW-SEED.json;
finished pairs are not trained again and unfinished ones go on, so a study can be stopped and continued, or filled by
several processes with different rows or seeds. All pairs are measured by one judge on the same unseen pictures.

Source: paper.md, Ablation. Row E, longer training, is left out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor, nn

from . import metrics
from .config import PRESETS, ARConfig, Preset, resized
from .lookahead import nats_given_others, train_masked
from .model import AliTok, write_atomically
from .scan import SCANS, scanned, unscanned
from .settings import ABLATIONS, AblationSettings, TrainSettings
from .sources import FolderSource, SceneSource, open_source
from .tasks import cached_ids
from .train import train_part

RESULTS = Path(__file__).parent / "results"  # studies that come with the package: what was measured, no weights
TEST_SEED = 54_321  # of the unseen scenes that every row is measured on


@dataclass(frozen=True)
class Row:
    """What a row changes in the preset's tokenizer."""

    title: str
    changes: dict[str, bool] = field(default_factory=dict)  # of the TokenizerConfig
    aux: bool = True  # with the auxiliary loss, where there are prefix tokens
    over: str | None = None  # the row whose tokens get a second decoder
    scan: str = "raster"  # the order in which patches are read; its RUNs know pictures in that order only


_A, _B = {"aligned": False, "prefix": False}, {"prefix": False}
ROWS: dict[str, Row] = {
    "A": Row("conventional: bidirectional decoder", _A),
    "B": Row("causal decoder", _B),
    "C": Row("and prefix tokens", aux=False),
    "D": Row("prefix tokens and auxiliary loss"),
    "F": Row("and second stage", over="D"),
    "causal-encoder": Row("A with a causal encoder", _A | {"encoder_causal": True}),
} | {
    f"{name}-{scan}": Row(f"{name} read as {scan}", sizes, scan=scan)
    for scan in SCANS[1:]
    for name, sizes in (("A", _A), ("B", _B))
}


@dataclass(frozen=True)
class Study:
    """What all rows have in common."""

    folder: Path
    preset: Preset
    settings: AblationSettings
    data: str = "scenes"


def open_study(
    folder: str | Path, preset: str = "scenes", data: str = "scenes", changes: Iterable[tuple[str, int]] = ()
) -> Study:
    """A study of a preset, with changed sizes (field of TokenizerConfig, value) for all rows.

    Raises ValueError for a preset without ablation settings, a wrong size, or a folder that holds another study.
    """
    if preset not in ABLATIONS:
        raise ValueError(f"preset {preset!r} has no ablation settings; choose one of {', '.join(ABLATIONS)}")
    changes = dict(changes)
    sizes = resized(PRESETS[preset], **changes)
    wanted = {"preset": preset, "data": Path(data).name, "changes": changes}
    path = Path(folder) / "study.json"
    if path.exists() and json.loads(path.read_text()) != wanted:
        raise ValueError(f"{folder} holds another study, {path.read_text().strip()}; choose another --out")
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(wanted) + "\n").encode())
    return Study(Path(folder), sizes, ABLATIONS[preset], data)


def run_row(study: Study, name: str, seed: int) -> dict:
    """Train and measure one row with one seed, or read what an earlier call measured."""
    path = study.folder / f"{name}-{seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    row, run = ROWS[name], study.folder / f"{name}-{seed}"
    sizes = resized(study.preset, **row.changes)
    if row.over is None:
        _train(study, "tokenizer", sizes, run, seed, row)
        _train(study, "ar", sizes, run, seed, row)
    else:
        run_row(study, row.over, seed)
        if not (run / "config.json").exists():
            ignore = shutil.ignore_patterns("state", "sheets")
            shutil.copytree(study.folder / f"{row.over}-{seed}", run, ignore=ignore, dirs_exist_ok=True)
        _train(study, "decoder", sizes, run, seed, row)
    result = {"row": name, "title": row.title, "seed": seed} | _measure(study, run, name, seed)
    write_atomically(path, (json.dumps(result, indent=1) + "\n").encode())
    return result


def _train(study: Study, kind: str, sizes: Preset, run: Path, seed: int, row: Row) -> None:
    """Train one part, go on with it, or leave it where it is finished."""
    settings: TrainSettings = replace(getattr(study.settings, kind), seed=seed, scan=row.scan)
    if not row.aux and kind == "tokenizer":
        settings = replace(settings, losses=replace(settings.losses, aux=0.0))
    if (run / "config.json").exists():
        done = json.loads((run / "config.json").read_text())["info"]["training"]
        if done.get(kind, {}).get("steps") == settings.steps:
            return
    train_part(kind, sizes, settings, run, (run / "state" / f"{kind}.safetensors").exists(), study.data)


def _source(study: Study, device: torch.device) -> SceneSource | FolderSource:
    """Pictures for the judge, and the unseen ones."""
    batch = 256 if device.type == "cuda" else 64
    settings = TrainSettings(study.settings.judge_steps, batch, pictures=60_000, seed=77)
    return open_source(study.data, study.preset.tokenizer.image_size, settings, device)


@dataclass(frozen=True)
class _Reader:
    """The judge for pictures whose patches were moved: it sees them where they belong."""

    judge: metrics.Judge
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
    source, count = _source(study, model.device), study.settings.pictures
    kept, steps = study.folder / "judge.safetensors", study.settings.judge_steps
    judge = metrics.stored_judge(kept, source.batch, source.classes, steps, model.device)
    if isinstance(source, SceneSource):
        pictures = metrics.unseen_scenes(count, TEST_SEED, source.size, model.device)
    else:
        pictures = metrics.whole_pictures(source.test, min(count, len(source.test)))
    scan, patch = ROWS[name].scan, study.preset.tokenizer.patch_size
    pictures, judge = [(scanned(x, scan, patch), y) for x, y in pictures], _Reader(judge, scan, patch)
    result = metrics.evaluate(model, judge, pictures, seed=seed)
    stage = model.tokenizer.stages[-1]
    result |= {key: result[f"{key}_stage{stage}"] for key in ("psnr", "ssim", "rfd", "row_ratio", "row_mse")}
    over = ROWS[name].over
    if over is not None:
        below = AliTok.from_pretrained(study.folder / f"{over}-{seed}")
        encode = [(model.tokenizer.encode(x), below.tokenizer.encode(x)) for x, _ in pictures]
        result["ids_as_below"] = all(torch.equal(a, b) for a, b in encode)
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


# Numbers of the summary.
COLUMNS = (
    "psnr",
    "ssim",
    "row_ratio",
    "rfd",
    "nats",
    "gain",
    "top1",
    "bits_per_image",
    "gfd",
    "generation_gap",
    "debt",
)


def summarise(folder: str | Path) -> dict[str, dict]:
    """Mean, spread (standard deviation; absent with one seed) and seeds of every row that has results.

    Beside what was measured, `gain`: the nats that class, place and the tokens before save on a token, over a guess by
    how often each code occurs. Runs differ in that (some leave a tenth of their codes unused), and `nats` with it.
    """
    rows = {}
    for name, row in ROWS.items():
        runs = [json.loads(path.read_text()) for path in sorted(Path(folder).glob(f"{name}-[0-9]*.json"))]
        for run in runs:
            if "unigram_entropy" in run and "nats" in run:
                run["gain"] = run["unigram_entropy"] - run["nats"]
        if runs:
            entry = {"title": row.title, "seeds": [run["seed"] for run in runs], "mean": {}, "spread": {}}
            for key in COLUMNS:
                values = [run[key] for run in runs if key in run]
                if values:
                    entry["mean"][key] = mean(values)
                if len(values) > 1:
                    entry["spread"][key] = stdev(values)
            rows[name] = entry
    return rows


# What the paper leads us to expect: text, number, the row where it should be larger, and where smaller.
CLAIMS = (
    ("the causal decoder's tokens are easier to predict (nats per token)", "nats", "A", "B"),
    ("of what they could say, more is foretold (gain: unigram entropy less nats)", "gain", "B", "A"),
    ("and they lose less in generation (gap)", "generation_gap", "A", "B"),
    ("the first row suffers under a causal decoder (row 0 / row 1)", "row_ratio", "B", "A"),
    ("prefix tokens and their loss repair it (row 0 / row 1)", "row_ratio", "B", "D"),
    ("the second stage improves the pixels (PSNR)", "psnr", "F", "D"),
)


def verdicts(rows: dict[str, dict]) -> list[dict]:
    """Each claim with the difference of the means and twice its standard deviation; `holds` when it exceeds that.

    That is a strict measure, which asks of a single run of each row to differ. `standard_errors` is the difference in
    units of its own uncertainty, which more seeds make smaller. Where a row has one seed only, there is no spread to
    compare with, and all three are None.
    """
    found = []
    for text, key, larger, smaller in CLAIMS:
        if larger in rows and smaller in rows and all(key in rows[name]["mean"] for name in (larger, smaller)):
            difference = rows[larger]["mean"][key] - rows[smaller]["mean"][key]
            spreads = [rows[name]["spread"].get(key) for name in (larger, smaller)]
            bound = holds = errors = None
            if None not in spreads:
                bound = 2 * sum(spread**2 for spread in spreads) ** 0.5
                holds = difference > bound
                seeds = [len(rows[name]["seeds"]) for name in (larger, smaller)]
                error = sum(spread**2 / count for spread, count in zip(spreads, seeds, strict=True)) ** 0.5
                errors = difference / error if error else None
            entry = {"claim": text, "difference": difference, "two_deviations": bound}
            found.append(entry | {"standard_errors": errors, "holds": holds})
    return found


def table(rows: dict[str, dict]) -> str:
    """The summary as text: a line for each row, mean and spread of each number."""
    columns = [key for key in COLUMNS if any(key in row["mean"] for row in rows.values())]
    lines = [f"{'row':15}" + "".join(f"{key:>18}" for key in columns)]
    for name, row in rows.items():
        cells = []
        for key in columns:
            value, spread = row["mean"].get(key), row["spread"].get(key)
            cell = "" if value is None else f"{value:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
            cells.append(f"{cell:>18}")
        lines.append(f"{name:15}" + "".join(cells))
    return "\n".join(lines)


def write_summary(folder: str | Path) -> dict:
    """The summary and the verdicts, also in FOLDER/results.json."""
    rows = summarise(folder)
    results = {"rows": rows, "claims": verdicts(rows)}
    write_atomically(Path(folder) / "results.json", (json.dumps(results, indent=1) + "\n").encode())
    return results
