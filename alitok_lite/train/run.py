"""Training through `accelerate`, on one device or several: tokenizer (stage 1), decoder (stage 2), AR model.

The decoder is a second, bidirectional one. Presets with `further` in its settings have none: their decoder, with which
the tokens were learned, is trained further over the same tokens.

A RUN folder is a checkpoint (`AliTok.from_pretrained(RUN)`) plus `state/` for resuming, `sheets/` of pictures, log.csv
with what was measured, and curve-PART.png, which shows it.
A training that would replace a part of the RUN, or make it useless, needs `replace`.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core.ar import ARModel
from ..core.config import PRESETS, Preset, TokenizerConfig
from ..core.sampling import Sampling
from ..core.tokenizer import Decoder, Tokenizer
from ..data.sources import ScannedSource, Source, open_source
from ..interrupt import Stopped, on_signals
from ..machine import choose_device, say
from ..model import AliTok
from ..store.card import OWN, SCENES, seen_in, with_seen
from ..store.folder import CheckpointError, read_config
from .fresh import standardise
from .further import restore_learned, train_further
from .log import check_tracker
from .loop import fit
from .perceptual import FeatureLoss, PerceptualLoss
from .progress import next_steps, thread_hint
from .settings import SETTINGS, TrainSettings, shortened
from .start import begin, begun_with, gentle, holds, opened
from .state import NAMES, State, described, further_in, held_parts, name_of, unfinished
from .tasks import ARTask, Task, TokenizerTask

if TYPE_CHECKING:
    from accelerate import Accelerator

# Small models are bound by kernel launches, which CUDA graphs ("reduce-overhead") replay at once.
COMPILE_MODE = "reduce-overhead"


def _build(
    kind: str,
    sizes: Preset,
    folder: Path,
    source: Source,
    settings: TrainSettings,
    device: torch.device,
    resume: bool,
) -> AliTok:
    """The model to train: fresh for the tokenizer, the RUN's own with a fresh part for decoder and AR model.

    A decoder that is trained further is the RUN's own: unless `resume`, as the training of the tokenizer left it.
    Raises CheckpointError when the RUN does not fit the preset's sizes or the pictures.
    """
    torch.manual_seed(settings.seed)
    if kind == "tokenizer":
        stages = (1,) if sizes.tokenizer.aligned else (2,)
        sampling = Sampling(sizes.guidance, sizes.power)
        return AliTok(Tokenizer(sizes.tokenizer, stages), None, source.classes, sampling).to(device)
    model = AliTok.from_pretrained(folder, device)
    _same(folder, model.tokenizer.config, model.classes, sizes, source)
    model.tokenizer.requires_grad_(False)  # only the part chosen below is trained
    if kind == "decoder" and not resume:
        restore_learned(model, folder)
    if kind == "ar":
        model.ar = ARModel(dataclasses.replace(sizes.ar, classes=len(source.classes))).to(device)
    elif settings.further:
        train_further(model.tokenizer)
    elif not sizes.tokenizer.aligned:
        raise CheckpointError("this preset is conventional: it has no second stage")
    elif model.tokenizer.decoder1 is None:
        raise CheckpointError(f"{folder} has no causal decoder, from which the second one starts")
    else:
        model.tokenizer.decoder2 = second_decoder(model.tokenizer).to(device)
    return model


def _same(folder: Path, config: TokenizerConfig, classes: list[str], sizes: Preset, source: Source) -> None:
    """Raise CheckpointError unless a RUN's sizes and classes are those of the preset and the pictures."""
    if config != sizes.tokenizer:
        raise CheckpointError(f"{folder} was not trained with this preset: their tokenizer sizes differ")
    if classes != source.classes:
        raise CheckpointError(f"{folder} was trained on other pictures: their classes differ")


def _keep_records(model: AliTok, folder: Path, sizes: Preset, source: Source, lost: Iterable[str]) -> None:
    """Copy sampling, info and records of training from the RUN's config.json to a tokenizer that is resumed."""
    config = read_config(folder)
    _same(folder, config["tokenizer"], config["classes"], sizes, source)
    model.sampling, model.info = config["sampling"], config.get("info") or {}
    for part in lost:
        model.info.get("training", {}).pop(part, None)


def second_decoder(tokenizer: Tokenizer) -> Decoder:
    """A bidirectional decoder with fresh buffer tokens and the causal decoder's other weights.

    Raises ValueError for a tokenizer without a causal decoder.
    """
    # differs: the paper trains the second decoder from scratch; the causal one is a start that saves most of its steps
    if tokenizer.decoder1 is None:
        raise ValueError("this tokenizer has no causal decoder, from which the second one starts")
    decoder = Decoder(tokenizer.config, causal=False)
    learned = tokenizer.decoder1.state_dict()
    tokens = tokenizer.config.tokens
    with torch.no_grad():
        decoder.positions[-tokens:] = learned["positions"][-tokens:]
    own = ("extra_tokens", "positions", "aux_head")  # the last of which has no place here
    decoder.load_state_dict({k: v for k, v in learned.items() if not k.startswith(own)}, strict=False)
    return decoder


def accelerator_front(device: str = "auto", **further: object) -> Accelerator:
    """Accelerate's front end; on a GPU bf16 and compiled, for one part. ValueError without the package or the device.

    "auto" is accelerate's own choice: CUDA, else Apple's MPS, else the CPU. `further` are arguments of `Accelerator`.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState, PartialState
        from accelerate.utils import TorchDynamoPlugin
    except ImportError as error:
        raise ValueError("training needs the package accelerate: pip install 'alitok_lite[train]'") from error
    chosen = None if device == "auto" else choose_device(device)
    cpu = chosen is not None and chosen.type == "cpu"
    before = PartialState._shared_state  # accelerate decides once a process; an earlier training may have had another
    if before and before.get("num_processes") == 1 and before.get("_cpu") != (cpu or _cpu_requested()):
        AcceleratorState._reset_state(reset_partial_state=True)
    if cpu or not torch.cuda.is_available():
        accelerator = Accelerator(cpu=cpu, mixed_precision="no", **further)
    else:
        accelerator = _on_cuda(Accelerator, TorchDynamoPlugin, chosen, further)
    if chosen is not None and accelerator.device.type != chosen.type:
        raise ValueError(f"device is {device!r}, but accelerate trains on {accelerator.device.type!r} here")
    if accelerator.num_processes > 1:
        atexit.unregister(_leave_others)
        atexit.register(_leave_others)
    return accelerator


def _leave_others() -> None:
    """End the group of processes before Python ends: its threads may otherwise abort the process after its work."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _cpu_requested() -> bool:
    """Whether accelerate's own variable asks for the CPU, as `accelerate launch --cpu` does."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on", "y", "t")


def _on_cuda(front: type[Accelerator], plugin: type, device: torch.device | None, further: dict) -> Accelerator:
    from torch._inductor import config

    # With padded strides (torch 2.11) the fused attention of a model that has 7 heads and 21 tokens gets wrong queries
    # and keys, silently: the AR model of scenes then learns as if it had no positions.
    config.comprehensive_padding = False
    # Forget what was compiled before: because of its sizes, the sizes of this part would become symbols, which Inductor
    # (torch 2.11) cannot handle here.
    torch.compiler.reset()
    if device is not None and device.index is not None:
        torch.cuda.set_device(device)
    return front(mixed_precision="bf16", dynamo_plugin=plugin(backend="inductor", mode=COMPILE_MODE), **further)


def train(
    kind: str,
    preset: str,
    out: str | Path,
    resume: bool = False,
    overrides: Iterable[tuple[str, object]] = (),
    data: str = "scenes",
    replace: bool = False,
    device: str = "auto",
    workers: int | None = None,
    start: str | None = None,
    log: str | None = None,
) -> AliTok:
    """Train 'tokenizer', 'decoder' or 'ar' of a preset in the RUN folder `out`; returns the model.

    `data` is "scenes" or a folder of pictures, which `workers` processes read (0: this one only; None: one for each
    CPU, at most 16). `overrides` replace fields of the preset's TrainSettings; if they change the steps, warm-up is at
    most a tenth of them. Decoder and AR model continue the RUN that `train tokenizer` made. A part that the RUN holds
    is trained again from the start only with `replace`; so is a tokenizer on which other parts were trained. `resume`
    continues where the RUN stopped, or after its end with more steps. `device` is "auto", "cpu", "cuda" or "mps".
    `start` is a checkpoint whose weights the part begins with (see start.py); learning rate and steps are then a tenth
    of the preset's, unless `overrides` name them. `log` is "tensorboard" or "wandb", which gets the numbers of log.csv.
    Raises CheckpointError or ValueError, in one sentence, for a user's mistake, and KeyboardInterrupt at Ctrl-C, once
    the current step is saved.
    """
    changes: dict[str, Any] = dict(overrides)
    _known(kind, preset, changes)
    folder = Path(out)
    if resume and start is None:
        start = begun_with(folder, kind)
    settings = dataclasses.replace(SETTINGS[preset][kind], **changes)
    settings = wished = gentle(settings, changes) if start else settings
    # A preset's own schedule stays, the paper's long warm-ups among them.
    if start or changes.keys() & {"steps", "warmup"}:
        settings = shortened(wished)
    if settings.warmup != wished.warmup:
        say(f"warm-up is shortened from {wished.warmup:,} to {settings.warmup:,} steps, a tenth of the training")
    model = train_part(kind, PRESETS[preset], settings, folder, resume, data, replace, device, workers, start, log)
    common = ["--preset", preset, *(["--data", data] if data != "scenes" else []), "--out", str(folder)]
    further = SETTINGS[preset]["decoder"].further
    also = {part: ["--from", start] if start and holds(start, part, further) else [] for part in NAMES}
    two_stages = further or PRESETS[preset].tokenizer.aligned
    for line in next_steps(kind, folder, common, also, held_parts(folder), two_stages):
        say(line)
    return model


def _known(kind: str, preset: str, changes: Iterable[str]) -> None:
    """Raise ValueError for a part, a preset or a setting that does not exist."""
    if preset not in SETTINGS:
        raise ValueError(f"there is no preset {preset!r}; choose one of {', '.join(SETTINGS)}")
    if kind not in NAMES:
        raise ValueError(f"there is no part {kind!r} to train; choose one of {', '.join(NAMES)}")
    fields = {field.name for field in dataclasses.fields(TrainSettings)}
    if unknown := sorted(set(changes) - fields):
        raise ValueError(f"there is no setting {unknown[0]!r}; choose from {', '.join(sorted(fields))}")


def train_part(
    kind: str,
    sizes: Preset,
    settings: TrainSettings,
    out: str | Path,
    resume: bool = False,
    data: str | Source = "scenes",
    replace: bool = False,
    device: str = "auto",
    workers: int | None = None,
    start: str | None = None,
    log: str | None = None,
) -> AliTok:
    """`train` with given sizes and settings; their warm-up is not shortened. `data` may be a source itself."""
    folder = Path(out)
    task: Task | None = None
    state: State | None = None
    with on_signals(signal.default_int_handler):
        try:
            check_tracker(log)
            accelerator = accelerator_front(device, log_with=log, project_dir=folder / "tensorboard")
            _check(kind, settings, folder, accelerator.num_processes, start)
            state = State(folder / "state" / f"{kind}.safetensors") if resume else None
            settings = _schedule(settings, state)
            if accelerator.device.type == "cpu" and (words := thread_hint(torch.get_num_threads())):
                say(words)
            name = name_of(kind, settings.further)
            if state and state.step == settings.steps:
                say(f"{folder}: all {state.step:,} steps of the {name} are done; for more, give more steps")
                return AliTok.from_pretrained(folder, accelerator.device)
            lost = _parts_to_replace(kind, name, folder, resume, replace)
            _announce(settings, state)
            task = _task(kind, sizes, settings, folder, accelerator, data, workers, state, lost, start)
            try:
                fit(task, settings, folder, state, accelerator)
            finally:
                for tracker in accelerator.trackers:
                    tracker.finish()
        except KeyboardInterrupt:
            saved = max(task.saved if task else 0, state.step if state else 0)
            raise Stopped(folder, saved, settings.steps) from None
    return task.model.to(accelerator.device).eval()


def _check(kind: str, settings: TrainSettings, folder: Path, processes: int, start: str | None) -> None:
    """Raise ValueError for mistakes that would otherwise show only after a while."""
    if settings.batch % (processes * settings.accumulate):
        parts = f"{processes} x {settings.accumulate}"
        raise ValueError(f"batch {settings.batch} must be a multiple of processes x accumulate, which is {parts}")
    if settings.keep_best and kind != "ar":
        raise ValueError("keep_best is for the AR model: tokenizer and decoder have no test nats")
    if settings.further and kind != "decoder":
        raise ValueError(f"further is for the decoder, not for the {NAMES[kind]}")
    if settings.standardise and (kind != "tokenizer" or start):
        part = f"{start} has weights already" if kind == "tokenizer" else f"not for the {kind}"
        raise ValueError(f"standardise is for a tokenizer that begins with random weights: {part}")
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                raise ValueError(f"{place} is a file; --out must be a folder, which may be new")
            break
    if kind != "tokenizer" and start is None and not (folder / "config.json").is_file():
        raise CheckpointError(f"no checkpoint in {folder}: `train tokenizer` must make it first")


def _schedule(settings: TrainSettings, state: State | None) -> TrainSettings:
    """The settings to continue with. Raises CheckpointError if those of the state do not fit."""
    if state is None:
        return settings
    before = state.settings
    if before.steps == settings.steps and settings.warmup == settings.steps // 10 < before.warmup:
        settings = dataclasses.replace(settings, warmup=before.warmup)  # begun by a version that did not shorten it
    state.check(settings)
    return settings


def _announce(settings: TrainSettings, state: State | None) -> None:
    """Print what differs from the earlier training, and whether the warm-up is long."""
    if state and state.settings.steps != settings.steps:
        say(
            f"{settings.steps:,} steps instead of {state.settings.steps:,}: from step {state.step:,} on the learning"
            f" rate follows the schedule of {settings.steps:,}"
        )
    if settings.warmup > settings.steps / 4:
        say(f"warm-up takes {settings.warmup:,} of {settings.steps:,} steps")


def _parts_to_replace(kind: str, name: str, folder: Path, resume: bool, replace: bool) -> tuple[str, ...]:
    """The parts that are removed when this one, `name` in words, is first saved.

    Raises CheckpointError for any without `replace`.
    """
    held, further = held_parts(folder), further_in(folder)
    if resume and kind not in held:
        raise CheckpointError(f"nothing to resume: {folder} holds no {name}")
    own = () if resume else (kind,)
    lost = tuple(part for part in (*own, *(("decoder", "ar") if kind == "tokenizer" else ())) if part in held)
    going = described(lost, further) if lost else ""
    if lost and not replace and resume:
        raise CheckpointError(
            f"the {going} in {folder} belong{'s' if len(lost) == 1 else ''} to the present tokenizer and would not fit"
            f" it after more training: copy the folder first to keep it, then give --replace, which removes the {going}"
        )
    if lost and not replace:
        raise CheckpointError(
            f"{folder} holds a run already, with {described(held, further)}: choose another --out, continue the {name}"
            f" with --resume, or give --replace, which removes the {going}"
        )
    if lost:
        say(f"{folder}: the {going} will be removed at the first save, with states, sheets, curves and log")
    steps = unfinished(folder)
    if steps and kind != "tokenizer":
        say(
            f"the tokenizer in {folder} has {steps[0]:,} of {steps[1]:,} steps: training it further would make this"
            f" {name} useless"
        )
    return lost


def _task(
    kind: str,
    sizes: Preset,
    settings: TrainSettings,
    folder: Path,
    accelerator: Accelerator,
    data: str | Source,
    workers: int | None,
    state: State | None,
    lost: tuple[str, ...],
    start: str | None,
) -> Task:
    """The task of a part around its model and its pictures."""
    device = accelerator.device
    given = opened(kind, start, sizes, device, settings.further) if start and state is None else None
    perceptual = PerceptualLoss().to(device) if settings.losses.perceptual and kind != "ar" else None
    features = FeatureLoss(device) if settings.losses.features and kind != "ar" else None
    size = sizes.tokenizer.image_size
    source = open_source(data, size, settings, device, workers) if isinstance(data, str) else data
    if settings.scan != "raster":
        source = ScannedSource(source, settings.scan, sizes.tokenizer.patch_size)
    if start and given:
        torch.manual_seed(settings.seed)
        model = begin(kind, given, start, folder, source, settings.further)
    else:
        model = _build(kind, sizes, folder, source, settings, device, state is not None)
        if settings.standardise and kind == "tokenizer" and state is None:
            standardise(model.tokenizer, source.batch(0)[0])
    if state and kind == "tokenizer":
        _keep_records(model, folder, sizes, source, lost)
    if isinstance(data, str):
        before = seen_in(given.info, given.classes) if given else []
        with_seen(model.info, *before, SCENES if data == "scenes" else OWN)
    if accelerator.is_main_process:
        for half_written in (*folder.glob(".*.tmp"), *folder.glob("state/.*.tmp")):  # a killed run leaves them
            half_written.unlink()
    if kind == "ar":
        task: Task = ARTask(model, settings, accelerator, source, folder)
    else:
        task = TokenizerTask(kind, model, settings, accelerator, source, perceptual, features)
    if state:
        state.check_origin(task.origin)
    task.replaced, task.start = lost, start
    return task
