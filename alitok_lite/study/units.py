"""All units of a study at equal bits (see matched.py) in one folder, one after the other.

FOLDER/study.json records the settings, so that units with other settings cannot come into the same folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch

from ..core.config import PRESETS
from ..files import write_atomically
from ..machine import say
from . import measures
from .costs import training_cost
from .matched import SCENES, TINY, Bench, Plan, photographs, readings, run_unit, sizes_of
from .pools import Pool, open_pool
from .progress import Progress
from .readers import resized_reader

PLANS = {"tiny": TINY, "scenes": SCENES}


@dataclass(frozen=True)
class Study:
    """A folder of units, their settings and their pictures."""

    folder: Path
    plan: Plan
    pool: Pool


def plan_of(study: str) -> Plan:
    """The plan "tiny" or "scenes", or that of a folder of natural pictures."""
    return PLANS[study] if study in PLANS else photographs(study)


def open_study(folder: str | Path, study: str = "tiny") -> Study:
    """The study "tiny" or "scenes", or one on a folder of natural pictures, whose units are in `folder`.

    Raises ValueError for a folder with other settings, and for too few pictures; nothing is written then.
    """
    plan, path = plan_of(study), Path(folder) / "study.json"
    wanted = _recorded(plan)
    if path.exists():
        _check_same(path, wanted)
    elif any(Path(folder).glob("*-[0-9]*.json")):
        raise ValueError(f"{folder} holds units, and no study.json says how they were made; choose another --out")
    pool = open_pool(plan.data, PRESETS[plan.preset].tokenizer.image_size, plan.pictures, plan.hold_out, _device())
    if len(pool.first) < plan.counts[1]:
        found = f"{len(pool.first):,} unseen pictures in each of two sets"
        raise ValueError(f"{wanted['data']} has {found}; the study needs {plan.counts[1]:,} or more")
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(wanted, indent=1) + "\n").encode())
    return Study(Path(folder), plan, pool)


def _recorded(plan: Plan) -> dict:
    """What the units of a folder must have in common."""
    settings = json.loads(json.dumps(asdict(plan)))
    settings.pop("rows")
    return settings | {"data": Path(plan.data).resolve().name}


def _check_same(path: Path, wanted: dict) -> None:
    """Raise a ValueError unless study.json says what is wanted."""
    try:
        held = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise ValueError(f"{path} is not the record of a study; choose another --out") from None
    different = [name for name in wanted if held.get(name) != wanted[name]]
    if different:
        names = ", ".join(different)
        raise ValueError(f"{path.parent} holds a study with other settings ({names}); choose another --out")


def _device() -> torch.device:
    """A CUDA GPU, else the CPU: Apple GPUs lack the double precision of the measures."""
    if not torch.cuda.is_available() and torch.backends.mps.is_available():
        say("the study runs on the CPU: it measures in double precision, which Apple GPUs lack")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class _Parts(Progress):
    """The parts of the units that are still to come; each ends when the next one begins."""

    def __init__(self, study: Study, units: Sequence[tuple[str, int]]) -> None:
        self.study, self.under_way = study, None
        names = {row: ["tokenizer", *(f"reader {r.name}" for r in readings(study.plan, row))] for row, _ in units}
        super().__init__([(row, seed, part) for row, seed in units for part in names[row]])

    def enters(self, row: str, seed: int, part: str) -> None:
        """The next part begins."""
        if self.under_way:
            self.ends(*self.under_way)
        self.under_way = (row, seed, part)
        self.begins(row, seed, part)

    def measure(self) -> None:
        """Time a few steps and some pictures, on a CPU; on a GPU steps would first be compiled or recorded."""
        if torch.cuda.is_available() or not self.left:
            return
        plan, pool, row = self.study.plan, self.study.pool, self.left[0][0]
        sizes = sizes_of(plan, row, len(pool.classes))
        judging = _seconds(lambda: measures.features(pool.fresh_judge().eval(), pool.first[:56])) / 56
        judging *= len(pool.first) * plan.judges  # a set of pictures
        step = training_cost("tokenizer", sizes, plan.tokenizer, 5)["seconds"]
        self.seconds["tokenizer"] = step * plan.tokenizer.steps + 2 * judging
        ids = torch.zeros(300, sizes.ar.tokens, dtype=torch.long)
        table = torch.randn(sizes.tokenizer.codebook_size, sizes.tokenizer.code_dim)
        telling = _seconds(lambda: measures.two_sample_test(ids, ids, ids[:, 0], table, 3)) / 3 * plan.critic_steps
        for reading in plan.readers:
            own = replace(sizes, ar=resized_reader(sizes.ar, *reading.size)) if reading.size else sizes
            step = training_cost("ar", own, plan.reader, 5)["seconds"]
            self.seconds[f"reader {reading.name}"] = step * reading.steps + telling + judging
        self.beyond = ", and in addition the time to paint pictures"
        self.began = time.monotonic()


def _seconds(work: Callable[[], object]) -> float:
    """How long something takes, the second time that it is done."""
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run_units(study: Study, rows: Sequence[str], seeds: Sequence[int]) -> None:
    """Train and measure rows with seeds, those that the folder does not hold yet, and say how long it will take.

    Ctrl-C raises KeyboardInterrupt; what is finished stays, and the same call goes on from there.
    """
    ahead = []
    for unit in ((row, seed) for seed in seeds for row in rows):
        if (study.folder / f"{unit[0]}-{unit[1]}.json").exists():
            say(f"row {unit[0]}, seed {unit[1]}: {study.folder} holds it already, and it is kept")
        else:
            ahead.append(unit)
    parts = _Parts(study, ahead)
    parts.measure()
    ready = cache(lambda: Bench(study.plan, study.pool, study.folder))
    for unit in ahead:
        run_unit(study.plan, study.pool, ready, study.folder, *unit, say, partial(parts.enters, *unit))
