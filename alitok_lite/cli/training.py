"""Commands that train: train, ablate, match and cost."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ..files import check_folder
from ..machine import say
from .values import check_data, check_seed, sizes, whole


def train(args: argparse.Namespace) -> None:
    from ..train.run import train

    names = ("steps", "batch", "accumulate", "lr", "seed", "pictures", "save_every")
    overrides = {key: getattr(args, key) for key in names}
    for key, value in overrides.items():
        if value is not None and not (value > 0 or (key == "seed" and value == 0)):
            raise ValueError(f"--{key.replace('_', '-')} is {value}; it must be above 0")
    chosen = [(key, value) for key, value in overrides.items() if value is not None]
    chosen += [(key, True) for key in ("keep_best", "standardise") if getattr(args, key)]
    if args.pictures is not None and args.data != "scenes":
        say("--pictures is for scenes: of a folder all pictures are used")
    further = args.replace, args.device, args.workers, args.start, args.log
    try:
        train(args.part, args.preset, args.out, args.resume, chosen, args.data, *further)
    except KeyboardInterrupt as stop:
        saved, steps = getattr(stop, "saved", 0), getattr(stop, "steps", 1)
        how = "the same command" if args.resume or not saved else "the same command with --resume"
        more = "" if saved == steps else f"; {how} goes on from there" if saved else f"; {how} starts again"
        raise KeyboardInterrupt(f"{str(stop) or 'stopped before anything was saved'}{more}") from None


def ablate(args: argparse.Namespace) -> None:
    from ..study import ablation, claims
    from ..study.rows import ROWS

    rows, seeds = _rows(args.rows, ROWS), _seeds(args.seeds)
    check_folder("--out", args.out)
    check_data(args.data)
    study = ablation.open_study(args.out, args.preset, args.data, sizes(args.set))
    ablation.run_rows(study, rows, seeds)
    results = claims.write_summary(args.out)
    print(claims.table(results["rows"]))
    for entry in results["claims"]:
        verdict = {True: "holds", False: "does not hold", None: "has no spread to compare with"}[entry["holds"]]
        print(f"{entry['claim']}: {entry['difference']:.3f}, {verdict}")


def match(args: argparse.Namespace) -> None:
    """Run a study at equal bits, as far as it is not done, and print what it shows."""
    from ..study import matched, units
    from ..study.verdict import read_units
    from .measuring import show_study

    plan = units.plan_of(args.study)
    rows = plan.rows if args.rows is None else _rows(args.rows, matched.CODES)
    seeds = _seeds(args.seeds)
    check_folder("--out", args.out)
    if args.study not in units.PLANS and not Path(args.study).is_dir():
        allowed = f"{', '.join(units.PLANS)} or a folder of pictures with train/ and test/"
        raise ValueError(f"--study is {args.study!r}; it must be {allowed}")
    study = units.open_study(args.out, args.study)
    try:
        units.run_units(study, rows, seeds)
    except KeyboardInterrupt as stop:
        text = f"{str(stop) or 'match was stopped'}; {args.out} keeps what is finished, and the same command goes on"
        raise KeyboardInterrupt(text) from None
    show_study(read_units(study.folder), str(study.folder / "rate.png"))


def _rows(given: str, known: Collection[str]) -> list[str]:
    """The rows of --rows, each once."""
    rows = list(dict.fromkeys(given.split(",")))
    for row in rows:
        if row not in known:
            raise ValueError(f"there is no row {row!r}; choose from {', '.join(known)}")
    return rows


def _seeds(given: str) -> list[int]:
    """The seeds of --seeds, each once."""
    seeds = list(dict.fromkeys(whole("--seeds", text) for text in given.split(",")))
    for seed in seeds:
        check_seed(seed, option="--seeds")
    return seeds


def cost(args: argparse.Namespace) -> None:
    from ..core.config import PRESETS, resized
    from ..study.costs import training_cost
    from ..train.settings import SETTINGS

    settings = SETTINGS[args.preset][args.part]
    for option, value in (("--batch", args.batch), ("--steps", args.steps)):
        if value is not None and value < 1:
            raise ValueError(f"{option} is {value}; it must be 1 or more")
    if args.batch is not None:
        settings = replace(settings, batch=args.batch)
    cost = training_cost(args.part, resized(PRESETS[args.preset], **sizes(args.set)), settings, args.steps)
    print(", ".join(f"{key.replace('_', ' ')} {value:,.4g}" for key, value in cost.items()))
