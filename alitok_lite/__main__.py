"""Command line: `python -m alitok_lite COMMAND`; `--help` lists the commands."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .console import lenient_console
from .core.config import PRESETS
from .files import check_folder, check_output, write_atomically
from .interrupt import imported
from .machine import DTYPES, main_process, say
from .model import AliTok
from .options import (
    AT_ONCE,
    MANY,
    ablate_options,
    bench_options,
    convert_options,
    cost_options,
    evaluate_options,
    fidsamples_options,
    reconstruct_options,
    sample_options,
    train_options,
)
from .store.class_names import read_list, write_list

if TYPE_CHECKING:
    from .data.sources import FolderSource, SceneSource
    from .measure.judge import Judge


MOST = 10_000  # pictures in a sheet


def _names(text: str | None, model: AliTok) -> list[str | int]:
    """Classes as they were written, see `class_names.read_list`; without any text all of them, or eight of many."""
    if text is None:
        return model.classes if len(model.classes) <= MANY else model.classes[:: len(model.classes) // 8]
    return read_list(text, model.classes)


def _settings(args: argparse.Namespace) -> dict[str, float | int]:
    """The settings of sampling that were given."""
    given = {key: getattr(args, key) for key in ("guidance", "power", "temperature", "top_k", "top_p")}
    return {key: value for key, value in given.items() if value is not None}


def _check_seed(seed: int, pictures: int = 1, option: str = "--seed") -> None:
    """Raise a ValueError unless each of the pictures, which have seed + i, has a seed that torch takes."""
    most = 2**32 - pictures
    if not 0 <= seed <= most:
        raise ValueError(f"{option} is {seed}; it must be a whole number from 0 to {most}")


def _encodable(text: dict[str, str]) -> dict[str, str]:
    """Without the halves of characters that Python makes of a folder's name that is not UTF-8."""
    return {key: value.encode("utf-8", "backslashreplace").decode() for key, value in text.items()}


def _sample(args: argparse.Namespace) -> None:
    from .data import images

    check_output("--out", args.out, ".png")
    model = AliTok.from_pretrained(args.model, args.device, DTYPES[args.dtype])
    names = _names(args.classes, model)
    count = len(names) if args.num is None else args.num
    if not 1 <= count <= MOST:
        raise ValueError(f"--num is {count}; it must be 1 or more, and at most {MOST} (`fidsamples` draws more)")
    _check_seed(args.seed, count)
    classes = [names[i % len(names)] for i in range(count)]
    settings, pictures = _settings(args), []
    for start in range(0, count, AT_ONCE):
        drawn = model.sample(classes[start : start + AT_ONCE], args.seed + start, **settings)
        pictures += AliTok.to_pil(drawn)
    text = {"model": args.model, "classes": write_list(names), "seed": str(args.seed)}
    text |= {key: str(value) for key, value in settings.items()}
    columns = min(count, len(names) if 1 < len(names) <= 16 else 8)  # a column for each class where they fit
    images.save_png(images.sheet(pictures, columns), args.out, _encodable(text))
    print(f"{count} pictures in {args.out}")


def _reconstruct(args: argparse.Namespace) -> None:
    from .data import images
    from .measure.metrics import psnr

    check_output("--out", args.out, ".png")
    if Path(args.out).exists() and Path(args.picture).exists() and Path(args.out).samefile(args.picture):
        raise ValueError(f"--out is {args.out!r}, the picture itself: give another file")
    model = AliTok.from_pretrained(args.model, args.device)
    pixels = images.load_picture(args.picture, model.tokenizer.config.image_size).to(model.device)
    ids = model.tokenizer.encode(pixels)
    decoded = {stage: model.tokenizer.decode(ids, stage) for stage in model.tokenizer.stages}
    pictures = [AliTok.to_pil(picture)[0] for picture in (pixels, *decoded.values())]
    images.save_png(images.sheet(pictures, len(pictures)), args.out, _encodable({"model": args.model}))
    print(f"ids: {' '.join(map(str, ids[0].tolist()))}")
    for stage, picture in decoded.items():
        print(f"stage {stage} ({'causal' if stage == 1 else 'bidirectional'}): {psnr(picture, pixels).item():.1f} dB")
    print(f"original and reconstructions in {args.out}")


def _train(args: argparse.Namespace) -> None:
    from .train.run import train

    names = ("steps", "batch", "accumulate", "lr", "seed", "pictures", "save_every")
    overrides = {key: getattr(args, key) for key in names}
    for key, value in overrides.items():
        if value is not None and not (value > 0 or (key == "seed" and value == 0)):
            raise ValueError(f"--{key.replace('_', '-')} is {value}; it must be above 0")
    chosen = [(key, value) for key, value in overrides.items() if value is not None]
    chosen += [("keep_best", True)] if args.keep_best else []
    if args.pictures is not None and args.data != "scenes":
        say("--pictures is for scenes: of a folder all pictures are used")
    further = args.replace, args.device, args.workers, args.start, args.log
    try:
        train(args.part, args.preset, args.out, args.resume, chosen, args.data, *further)
    except KeyboardInterrupt as stop:
        saved, steps = getattr(stop, "saved", 0), getattr(stop, "steps", 1)
        how = "the same command" if args.resume or not saved else "the same command with --resume"
        more = "" if saved == steps else f"; {how} goes on from there" if saved else f"; {how} starts again"
        raise KeyboardInterrupt(f"{stop or 'stopped before anything was saved'}{more}") from None


def _check_data(data: str | None) -> None:
    """Raise a ValueError for an empty name, which would be the folder that one happens to be in."""
    if data is not None and not data.strip():
        raise ValueError(f"--data is {data!r}; it must be the name of a folder of pictures")


def _check_evaluate(args: argparse.Namespace) -> None:
    """Raise a ValueError for an option that would fail late."""
    _check_data(args.data)
    for name in ("pictures", "judge_steps"):
        if getattr(args, name) < 2:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be 2 or more")
    _check_seed(args.seed)
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
    from .data.sources import judge_source

    source = judge_source(args.data, model.tokenizer.config.image_size, model.device)
    if source.classes != model.classes:  # their order counts too
        name = "scenes" if args.data == "scenes" else f"the folder {Path(args.data).resolve().name!r}"
        different = sorted(set(source.classes) ^ set(model.classes))
        why = f"only one of them has the class {different[0]!r}" if different else "their classes differ in order"
        raise ValueError(f"{args.model} was not trained on {name} ({why}): give --data the pictures that it was")
    return source


def _judge(args: argparse.Namespace, source: SceneSource | FolderSource, device: torch.device) -> Judge:
    from .measure.judge import stored_judge, train_judge

    if args.judge is not None:
        return stored_judge(Path(args.judge), source.batch, source.classes, args.judge_steps, device)
    return train_judge(source.batch, len(source.classes), args.judge_steps, device)


def _evaluate(args: argparse.Namespace) -> None:
    from . import __version__
    from .data.sources import unseen_scenes, whole_pictures
    from .measure import metrics, report
    from .measure.evaluation import evaluate

    _check_evaluate(args)
    model = AliTok.from_pretrained(args.model, args.device)
    inception = metrics.inception_features(model.device) if args.inception else None
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
    results["frechet_features"] = "those of the judge; not Inception FID, except under names with inception"
    results |= evaluate(model, judge, unseen, training, inception, args.seed, others)
    results["warnings"] = report.warnings(results, model.tokenizer.config)
    results["device"] = model.device.type
    results["versions"] = {"alitok_lite": __version__, "torch": torch.__version__}
    _store(results, args.json)
    print(report.table(results))


def _store(results: dict, path: str | None) -> None:
    """Write results as JSON where a file was given; called before they are printed, so that they are safe then."""
    if path is not None:
        write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())


def _convert(args: argparse.Namespace) -> None:
    from .store.convert import convert

    print(convert(args.tokenizer, args.ar, args.out, DTYPES[args.dtype], args.force))


def _fidsamples(args: argparse.Namespace) -> None:
    from .measure.fid import Order, draw

    classes = () if args.classes is None else args.classes
    order = Order(args.pictures, args.batch, args.seed, classes, args.dtype, _settings(args))
    if draw(args.model, args.out, order, args.device):
        print(f"{args.pictures:,} pictures in {args.out}")


def _ablate(args: argparse.Namespace) -> None:
    from .study import ablation, claims
    from .study.rows import ROWS

    rows = args.rows.split(",")
    for row in rows:
        if row not in ROWS:
            raise ValueError(f"there is no row {row!r}; choose from {', '.join(ROWS)}")
    seeds = [_whole("--seeds", text) for text in args.seeds.split(",")]
    for seed in seeds:
        _check_seed(seed, option="--seeds")
    check_folder("--out", args.out)
    _check_data(args.data)
    study = ablation.open_study(args.out, args.preset, args.data, _sizes(args.set))
    ablation.run_rows(study, rows, seeds)
    results = claims.write_summary(args.out)
    print(claims.table(results["rows"]))
    for entry in results["claims"]:
        verdict = {True: "holds", False: "does not hold", None: "has no spread to compare with"}[entry["holds"]]
        print(f"{entry['claim']}: {entry['difference']:.3f}, {verdict}")


def _sizes(entries: Sequence[str]) -> dict[str, int]:
    """SIZE=NUMBER entries of --set."""
    sizes = {}
    for name, _, value in (entry.partition("=") for entry in entries):
        if name in sizes:
            raise ValueError(f"--set has {name} twice")
        sizes[name] = _whole("--set", value)
    return sizes


def _cost(args: argparse.Namespace) -> None:
    from .core.config import resized
    from .study.costs import training_cost
    from .train.settings import SETTINGS

    settings = SETTINGS[args.preset][args.part]
    for option, value in (("--batch", args.batch), ("--steps", args.steps)):
        if value is not None and value < 1:
            raise ValueError(f"{option} is {value}; it must be 1 or more")
    if args.batch is not None:
        settings = replace(settings, batch=args.batch)
    cost = training_cost(args.part, resized(PRESETS[args.preset], **_sizes(args.set)), settings, args.steps)
    print(", ".join(f"{key.replace('_', ' ')} {value:,.4g}" for key, value in cost.items()))


def _bench(args: argparse.Namespace) -> None:
    from .machine import choose_device
    from .study import techniques
    from .study.bench import bench, caching, table

    batches = [_whole("--batch", text) for text in args.batch.split(",")]
    if 0 in batches or args.repeats < 1:
        raise ValueError("--batch and --repeats must be 1 or more")
    if args.json is not None:
        check_output("--json", args.json)
    _check_data(args.data)
    device = choose_device(args.device)
    dtype = DTYPES[args.dtype or ("bfloat16" if device.type == "cuda" else "float32")]
    work = PRESETS[args.preset], batches, device, dtype, args.repeats
    if args.techniques:
        results = techniques.compare(*work)
    else:
        cached = {} if args.data is None else {"cached_per_second": caching(work[0], args.data, device, dtype)}
        results = bench(*work) | cached
    _store({"preset": args.preset} | results, args.json)
    print(techniques.table(results) if args.techniques else table(results))


def _whole(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{option} has {text!r}; it takes whole numbers")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m alitok_lite", description="Image tokens that an AR model can predict.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, action, options, text in (
        ("sample", _sample, sample_options, "Draw pictures of classes."),
        ("reconstruct", _reconstruct, reconstruct_options, "Encode a picture and decode its tokens."),
        ("train", _train, train_options, "Train a tokenizer (stage 1), its second decoder (stage 2), or an AR model."),
        ("evaluate", _evaluate, evaluate_options, "Measure a checkpoint on unseen pictures, with a fresh judge."),
        ("ablate", _ablate, ablate_options, "Train tokenizers that differ in one thing, and compare them."),
        ("cost", _cost, cost_options, "Time and memory of a training step, with random pictures."),
        ("bench", _bench, bench_options, "Time drawing, plain and fast, beside what the hardware allows."),
        ("convert", _convert, convert_options, "Turn downloaded official weights into a checkpoint folder."),
        ("fidsamples", _fidsamples, fidsamples_options, "Draw an .npz of 50,000 pictures for an FID."),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(action=action)
        options(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 with one sentence on stderr for a user's mistake, 130 at Ctrl-C."""
    with lenient_console():
        args = _parser().parse_args(argv)
        try:
            imported()
            args.action(args)
            return 0
        except KeyboardInterrupt as stop:
            status, text = 130, str(stop) or f"{args.command} was stopped"
        except OSError as error:
            named = error.filename and error.strerror
            status, text = 2, f"{error.filename}: {error.strerror}" if named else str(error)
        except (ValueError, RuntimeError, OverflowError) as error:
            status, text = 2, str(error)
        # Outside the clauses, which hold on to the progress bar: only now has it ended its line.
        if status == 2 or main_process():
            print(f"alitok_lite: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
