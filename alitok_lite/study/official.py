"""The official code, where the user has a checkout of it, as something that `bench` can time.

None of it is shipped. What must be known of it is how its models are built and called: `modeling/ar.py` has ARModel
(config), whose `generate` gives ids, and `modeling/alitok.py` has AliTok(), whose `decode_tokens` gives pixels. It runs
in float32, as its own scripts do, with TF32 products on a GPU. Its weights are random here, like ours in `bench`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..core.ar import ARModel
from ..core.config import Preset
from ..core.tokenizer import Tokenizer

MODULES = ("modeling.ar", "ARModel"), ("modeling.alitok", "AliTok")


class OfficialCode(NamedTuple):
    """The two models of the official code, and the folder that it came from."""

    ar: Any
    tokenizer: Any
    folder: Path

    def to(self, device: torch.device | str) -> None:
        """Move both models."""
        self.ar.to(device)
        self.tokenizer.to(device)

    def draw(self, classes: list[int]) -> Tensor:
        """Ids (n, T) of classes, with guidance."""
        labels = torch.tensor(classes, device=self.ar.output.weight.device)
        with tf32():
            return self.ar.generate(
                condition=labels, guidance_scale=2.0, randomize_temperature=1.0, guidance_scale_pow=1.0, kv_cache=True
            )

    def decode(self, ids: Tensor) -> Tensor:
        """Pixels (n, 3, S, S) of ids (n, T)."""
        with torch.no_grad(), tf32():
            return self.tokenizer.decode_tokens(ids)


class _Settings(dict[str, Any]):
    """A dict whose entries are attributes too, as the official code reads its settings."""

    __getattr__ = dict.__getitem__


@contextmanager
def tf32() -> Iterator[None]:
    """Products of float32 in TF32 on a GPU, and afterwards as before."""
    settings = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [setting.allow_tf32 for setting in settings]
    try:
        for setting in settings:
            setting.allow_tf32 = True
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.allow_tf32 = value


@contextmanager
def _importing(folder: Path) -> Iterator[None]:
    """Imports look into the folder first; its modules have common names, and nobody else shall find them afterwards."""
    before, path = dict(sys.modules), list(sys.path)
    own = {file.stem for file in folder.iterdir() if file.is_dir() or file.suffix == ".py"}

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] in own]:
            del sys.modules[name]

    forget()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        forget()
        sys.modules.update(before)
        sys.path[:] = path


def _modules(folder: Path) -> list[ModuleType]:
    """The official modules in a folder; ValueError where they are not there or cannot be imported."""
    for name, _ in MODULES:
        file = folder / Path(*name.split(".")).with_suffix(".py")
        if not file.is_file():
            lacking = file.relative_to(folder)
            raise ValueError(f"--official is {str(folder)!r}, which has no {lacking}; it must be a checkout of AliTok")
    try:
        with _importing(folder):
            return [importlib.import_module(name) for name, _ in MODULES]
    except Exception as error:  # a library that is missing, most often
        raise ValueError(f"--official: the code in {str(folder)!r} cannot be imported: {error!r}") from None


def _count(model: nn.Module) -> int:
    """Numbers that a checkpoint of a model holds; the running codebook usage is in none."""
    return sum(tensor.numel() for name, tensor in model.state_dict().items() if name != "quantize.embed_prob")


def load(folder: str | Path, preset: Preset) -> OfficialCode:
    """The official models of a preset's sizes, on the CPU, with random weights. It runs the code in the folder.

    Raises ValueError where the folder is no checkout, its code cannot be used, or it builds models of other sizes.
    """
    if not str(folder).strip():
        raise ValueError(f"--official is {str(folder)!r}; it must be the name of a folder")
    folder = Path(folder).resolve()
    modules = _modules(folder)
    try:
        found = [getattr(module, name) for module, (_, name) in zip(modules, MODULES, strict=True)]
        ar, tokenizer = found[0](_config(preset)), found[1]()
    except Exception as error:  # whatever another version of it does
        raise ValueError(f"--official: the code in {str(folder)!r} builds no models: {error!r}") from None
    with torch.device("meta"):
        ours = ARModel(preset.ar), Tokenizer(preset.tokenizer, (2,))
    for theirs, own, (_, name) in zip((ar, tokenizer), ours, MODULES, strict=True):
        if _count(theirs) != _count(own):
            numbers = f"{_count(theirs):,} numbers, and the preset {_count(own):,}"
            raise ValueError(f"--official: {name} has {numbers}; choose one of alitok-b, alitok-l and alitok-xl")
    nn.init.normal_(ar.output.weight, std=0.02)  # fresh ones are 0, and all logits alike
    return OfficialCode(ar.eval(), tokenizer.eval(), folder)


def _config(preset: Preset) -> _Settings:
    """The settings that the official ARModel reads."""
    sizes = preset.ar
    generator = _Settings(
        hidden_size=sizes.width, num_hidden_layers=sizes.depth, num_attention_heads=sizes.heads,
        image_seq_len=sizes.tokens, condition_num_classes=sizes.classes,
        dropout=sizes.dropout, attn_drop=sizes.dropout, tok_dropout=sizes.dropout,
    )  # fmt: skip
    return _Settings(model=_Settings(generator=generator, vq_model=_Settings(codebook_size=sizes.codebook_size)))
