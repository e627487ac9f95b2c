"""A training that begins with the weights of a checkpoint instead of random ones (`train --from CHECKPOINT`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from ..core.ar import ARModel
from ..core.config import PRESETS, Preset
from ..data.sources import Source
from ..machine import say
from ..model import AliTok
from ..store.find import CHECKPOINTS
from ..store.folder import CheckpointError, read_config
from .further import learned_stage, restore_learned, train_further
from .settings import TrainSettings
from .state import encoder_sha256, furthered, name_of

GENTLE = 10  # fine-tuning has so many times less learning rate and steps than the preset


def begun_with(folder: Path, kind: str) -> str | None:
    """The checkpoint that a part of a RUN began with; None for random weights, and where there is no such part."""
    if not (folder / "config.json").is_file():
        return None
    try:
        start = read_config(folder)["info"]["training"][kind]["from"]
    except (KeyError, TypeError):
        return None
    return start if isinstance(start, str) else None


def holds(start: str, kind: str, further: bool = False) -> bool:
    """Whether a checkpoint on this machine has a part to begin with; False where it is not, or no longer, here.

    A decoder that is trained `further` is the RUN's own, which fits the RUN's tokens.
    """
    if further and kind == "decoder":
        return False
    places = [Path(start), CHECKPOINTS / start]
    folder = next((place for place in places if (place / "config.json").is_file()), None)
    return (
        folder is not None and {"decoder": "decoder2", "ar": "ar"}.get(kind, "encoder") in read_config(folder)["files"]
    )


def gentle(settings: TrainSettings, given: Collection[str]) -> TrainSettings:
    """Settings for fine-tuning: a lower learning rate and fewer steps than the preset's, where none were `given`."""
    changes: dict[str, float | int] = {}
    if "lr" not in given:
        changes["lr"] = settings.lr / GENTLE
    if "steps" not in given:
        changes["steps"] = max(1, settings.steps // GENTLE)
    changes["final_lr"] = min(settings.final_lr, float(changes.get("lr", settings.lr)))
    if changes.keys() & {"lr", "steps"}:
        values = changes.get("steps", settings.steps), changes.get("lr", settings.lr)
        say(f"fine-tuning: {values[0]:,} steps with a learning rate of {values[1]:g} (--steps and --lr change that)")
    return dataclasses.replace(settings, **changes)  # type: ignore[arg-type]


def opened(kind: str, start: str, sizes: Preset, device: torch.device, further: bool = False) -> AliTok:
    """The checkpoint `start`.

    Raises CheckpointError where there is none, and when it lacks the part or has other sizes than the preset.
    """
    given = AliTok.from_pretrained(start, device)
    _check_sizes(given, start, kind, sizes)
    if kind == "decoder" and not further and (given.tokenizer.decoder2 is None or not sizes.tokenizer.aligned):
        raise CheckpointError(f"{start} has no second decoder to begin with")
    if kind == "ar" and given.ar is None:
        raise CheckpointError(f"{start} has no AR model to begin with")
    causal_too = kind == "tokenizer" or further
    if causal_too and sizes.tokenizer.aligned and given.tokenizer.decoder1 is None:
        raise CheckpointError(f"{start} has no causal decoder, with which its tokenizer was trained")
    return given


def begin(kind: str, given: AliTok, start: str, folder: Path, source: Source, further: bool = False) -> AliTok:
    """The model to train: its new part, and a RUN that is still empty, get the weights of a checkpoint.

    `given` is the checkpoint, as `opened` returns it, and `start` its name. Raises CheckpointError when the RUN does
    not fit the checkpoint or the pictures.
    """
    if kind == "tokenizer":
        return _tokenizer(given, start, source)
    fresh = not (folder / "config.json").is_file()
    model = _whole_tokenizer(given, start, source.classes) if fresh else AliTok.from_pretrained(folder, given.device)
    if model.tokenizer.config != given.tokenizer.config:
        raise CheckpointError(f"the tokenizers of {folder} and {start} have different sizes")
    if model.classes != source.classes:
        raise CheckpointError(f"{folder} was trained on other pictures: their classes differ")
    if not fresh and encoder_sha256(model) != encoder_sha256(given):
        name = name_of(kind, further)
        say(f"the tokenizer in {folder} is not that of {start}: the {name} has to get used to its codes")
    model.tokenizer.requires_grad_(False)  # only the part added below is trained
    if kind == "decoder" and further:
        _further(model, given, start, fresh)
    elif kind == "decoder" and given.tokenizer.decoder2 is not None:
        if not fresh:
            restore_learned(model, folder)
        model.tokenizer.decoder2 = given.tokenizer.decoder2.requires_grad_(True)
    elif given.ar is not None:
        model.ar = _with_classes(given.ar, given.classes, source.classes).to(given.device)
    return model


def _further(model: AliTok, given: AliTok, start: str, fresh: bool) -> None:
    """Let a RUN's own decoder, which will be trained further, begin with that of a checkpoint."""
    if fresh and given.tokenizer.config.aligned and given.tokenizer.decoder2 is not None:
        say(f"the second decoder of {start} is left out: the decoder with which the tokens were learned is trained")
    stage = learned_stage(model.tokenizer.config)
    setattr(model.tokenizer, f"decoder{stage}", given.tokenizer.decoder(stage))
    train_further(model.tokenizer)


def _check_sizes(given: AliTok, start: str, kind: str, sizes: Preset) -> None:
    """Raise CheckpointError, in one sentence, unless a checkpoint has the sizes of the preset."""
    pairs: list[tuple[Any, Any]] = [(given.tokenizer.config, sizes.tokenizer)]
    if kind == "ar" and given.ar is not None:
        pairs.append((dataclasses.replace(given.ar.config, classes=1), dataclasses.replace(sizes.ar, classes=1)))
    for own, wanted in pairs:
        names = [
            field.name for field in dataclasses.fields(own) if getattr(own, field.name) != getattr(wanted, field.name)
        ]
        if names:
            fitting = [name for name, preset in PRESETS.items() if preset.tokenizer == given.tokenizer.config]
            hint = f": give --preset {' or '.join(fitting)}" if fitting else ""
            raise CheckpointError(
                f"{start} does not have this preset's sizes ({names[0]} is {getattr(own, names[0])}, the preset's is"
                f" {getattr(wanted, names[0])}){hint}"
            )


def _whole_tokenizer(given: AliTok, start: str, classes: list[str]) -> AliTok:
    """A checkpoint's tokenizer with its decoders, for other classes; without its AR model."""
    records = given.info.get("training", {})
    kept = {part: records.get(part, {}) | {"from": start} for part in ("tokenizer", "decoder")}
    second = given.tokenizer.decoder2 is not None and given.tokenizer.config.aligned
    if not (second or furthered(given.info)):
        del kept["decoder"]
    with torch.no_grad():
        for value in given.tokenizer.parameters():
            value.copy_(value.half())  # a RUN holds half precision, and the ids must be those of what it holds
    info = {"training": kept}
    return AliTok(given.tokenizer, None, classes, given.sampling, info).to(given.device)


def _tokenizer(given: AliTok, start: str, source: Source) -> AliTok:
    """A tokenizer to be trained further, without the parts that will no longer fit it."""
    tokenizer = given.tokenizer
    if tokenizer.config.aligned:
        left = [
            name for name, part in (("second decoder", tokenizer.decoder2), ("AR model", given.ar)) if part is not None
        ]
        if left:
            say(f"the {' and '.join(left)} of {start} would not fit a tokenizer that is trained further: left out")
        tokenizer.decoder2 = None
    # Usage is not in a checkpoint. From 0, all codes would count as dead, and the first step would replace them.
    tokenizer.quantizer.usage.fill_(1 / len(tokenizer.quantizer.codebook))
    return AliTok(tokenizer, None, source.classes, given.sampling).to(given.device)


def _with_classes(ar: ARModel, old: list[str], new: list[str]) -> ARModel:
    """An AR model for other classes: names that it knows keep their embedding, others get a fresh one."""
    config = dataclasses.replace(ar.config, classes=len(new))
    model = ARModel(config)
    first = config.codebook_size + 1  # row of the first class
    with torch.no_grad():
        table, known = model.embedding.weight, ar.embedding.weight.cpu()
        table[:first], table[-1] = known[:first], known[-1]  # the codes, and the null class
        for row, name in enumerate(new):
            if name in old:
                table[first + row] = known[first + old.index(name)]
    model.load_state_dict(ar.state_dict() | {"embedding.weight": table.detach()})
    fresh = [name for name in new if name not in old]
    some = ", ".join(fresh[:5]) + (", ..." if len(fresh) > 5 else "")
    kept = len(new) - len(fresh)
    parts = [f"{len(fresh):,} classes begin with a fresh embedding ({some})"] if fresh else []
    say("; ".join(parts + ([f"{kept:,} keep theirs, because the checkpoint has their names"] if kept else [])))
    return model
