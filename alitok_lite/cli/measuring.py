"""Commands that measure: evaluate, bench and verdict."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..core.config import PRESETS
from ..files import check_output, write_atomically
from ..machine import DTYPES, say
from ..model import AliTok
from .values import check_data, check_seed, store, whole

if TYPE_CHECKING:
    from ..data.sources import FolderSource, SceneSource
    from ..measure.judge import Judge


def _check_evaluate(args: argparse.Namespace) -> None:
    """Raise a ValueError for an option that would fail late."""
    check_data(args.data)
    for name in ("pictures", "judge_steps"):
        if getattr(args, name) < 2:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be 2 or more")
    check_seed(args.seed)
    if args.lite0 and args.data == "scenes":
        raise ValueError("--lite0 names photographs, not scenes: give --data a folder of photographs")
    for option, given in (("--json", args.json), ("--judge", args.judge)):
        if given is not None:
            check_output(option, given)
    if args.judge is None:
        return
    kept = Path(args.judge)
    if kept.exists() and not kept.is_file():
        raise ValueError(f"--judge is {args.judge!r}; it must be a file, which can be read again")
    if args.json is not None and Path(args.json).resolve() == kept.resolve():
        raise ValueError(f"--json and --judge are both {args.json!r}; they must be two files")


def _source(args: argparse.Namespace, model: AliTok) -> SceneSource | FolderSource:
    """The judge's training pictures. ValueError unless they have the classes of the model."""
    from ..data.sources import judge_source

    source = judge_source(args.data, model.tokenizer.config.image_size, model.device)
    if source.classes != model.classes:  # their order counts too
        name = "scenes" if args.data == "scenes" else f"the folder {Path(args.data).resolve().name!r}"
        different = sorted(set(source.classes) ^ set(model.classes))
        why = f"only one of them has the class {different[0]!r}" if different else "their classes differ in order"
        raise ValueError(f"{args.model} was not trained on {name} ({why}): give --data the pictures that it was")
    return source


def _judge(args: argparse.Namespace, source: SceneSource | FolderSource, device: torch.device) -> Judge:
    from ..measure.judge import DetailJudge, stored_judge, train_judge

    if args.judge is None:
        return train_judge(source.batch, len(source.classes), args.judge_steps, device, 0, DetailJudge)
    judge = stored_judge(Path(args.judge), source.batch, source.classes, args.judge_steps, device, DetailJudge)
    if not isinstance(judge, DetailJudge):
        say(f"{args.judge} is from an earlier version: its judge does not look at details, so nothing is said of them")
    return judge


def evaluate(args: argparse.Namespace) -> None:
    from .. import __version__
    from ..data.sources import unseen_scenes, whole_pictures
    from ..measure import lite0, metrics, report
    from ..measure.evaluation import evaluate

    _check_evaluate(args)
    model = AliTok.from_pretrained(args.model, args.device)
    inception = metrics.inception_features(model.device) if args.inception else None
    eye = lite0.lite0_features(model.device) if args.lite0 else None
    source = _source(args, model)
    count = args.pictures if args.data == "scenes" else min(args.pictures, len(source.test))
    if count < 2:
        raise ValueError(f"the folder {Path(args.data).resolve().name!r} has {count} test picture; two are needed")
    judge = _judge(args, source, model.device)
    if args.data == "scenes":
        size, seeds = model.tokenizer.config.image_size, (args.seed, (args.seed + 1) % 2**32)
        unseen, others = (unseen_scenes(count, seed, size, model.device) for seed in seeds)
        training = None
    else:
        unseen, training = (whole_pictures(split, count) for split in (source.test, source.train))
        others = None
    data = Path(args.data).resolve().name
    results = {"model": args.model, "data": data, "seed": args.seed, "judge_steps": args.judge_steps}
    results["frechet_features"] = "those of the judge; not Inception FID, except under names with inception or lite0"
    results |= evaluate(model, judge, unseen, training, inception, args.seed, others)
    if eye is not None:
        half = len(source.train) // 2  # of the training photographs, as many of each class
        pictures = whole_pictures(source.test, count), whole_pictures(source.train, half)
        results |= lite0.lite0_numbers(model, eye, *pictures, args.seed)
    results["warnings"] = report.warnings(results, model.tokenizer.config)
    results["device"] = model.device.type
    results["versions"] = {"alitok_lite": __version__, "torch": torch.__version__}
    store(results, args.json)
    print(report.table(results))


def _check_bench(args: argparse.Namespace) -> list[int]:
    """The numbers of pictures at once. ValueError for what is not allowed, or not together."""
    given = ("1,64" if args.growth else "1,8,64") if args.batch is None else args.batch
    batches = [whole("--batch", text) for text in given.split(",")]
    if 0 in batches or args.repeats < 1:
        raise ValueError("--batch and --repeats must be 1 or more")
    if args.json is not None:
        check_output("--json", args.json)
    check_data(args.data)
    for option in ("techniques", "growth"):
        if getattr(args, option) and args.official is not None:
            raise ValueError(f"--official is timed beside our paths, not beside --{option}: leave one of them out")
    if args.out is not None:
        if not args.growth:
            raise ValueError(f"--out is {args.out!r}; only --growth has a chart: give it too, or leave --out away")
        check_output("--out", args.out, ".png")
        if args.json is not None and Path(args.json).resolve() == Path(args.out).resolve():
            raise ValueError(f"--json and --out are both {args.out!r}; they must be two files")
    return batches


def bench(args: argparse.Namespace) -> None:
    from ..machine import choose_device
    from ..study import growth, official, techniques
    from ..study.bench import bench, caching, table

    batches = _check_bench(args)
    device = choose_device(args.device)
    code = None if args.official is None else official.load(args.official, PRESETS[args.preset])
    dtype = DTYPES[args.dtype or ("bfloat16" if device.type == "cuda" else "float32")]
    work = PRESETS[args.preset], batches, device, dtype, args.repeats
    if args.techniques:
        results, table = techniques.compare(*work), techniques.table
    elif args.growth:
        results, table = growth.growth(*work), growth.table
    else:
        cached = {} if args.data is None else {"cached_per_second": caching(work[0], args.data, device, dtype)}
        results = bench(*work, code) | cached
    store({"preset": args.preset} | results, args.json)
    if args.out is not None:
        from .. import viz

        write_atomically(args.out, viz.to_png(viz.growth_charts(growth.curves(results["rows"]))))
    print(table(results))
    if args.out is not None:
        print(f"chart in {args.out}")


def verdict(args: argparse.Namespace) -> None:
    """Print the contrasts of a study at equal bits and what they show; draw its chart where a file is given."""
    from ..study.verdict import NATURAL, RESULTS, read_units

    if args.out is not None:
        check_output("--out", args.out, ".png")
    published = NATURAL if args.study == "natural" else RESULTS
    show_study(read_units(published if args.folder is None else args.folder), args.out)


def show_study(units: dict[str, list[dict]], out: str | None) -> None:
    """Print what units show, and draw their chart in a file."""
    from .. import viz
    from ..study.conclusions import report
    from ..study.verdict import LADDER, TITLES, chart_points

    text = report(units)
    if out is not None:
        chart = viz.rate_charts(chart_points(units), joined=[TITLES[row] for row in LADDER])
        write_atomically(out, viz.to_png(chart))
    print(text)
    if out is not None:
        print(f"chart in {out}")
