"""AliTok = tokenizer + AR model + class names: loaded, saved, and sampled from."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from .core.ar import ARModel
from .core.config import PRESETS, ARConfig, Preset, plain
from .core.sampling import Sampling, Step, generate, seed_of_each
from .core.tokenizer import Tokenizer
from .machine import choose_device
from .packed import packed
from .recorded import recorded
from .store.card import write_card
from .store.class_names import label_of
from .store.find import Access, checkpoint_folder
from .store.folder import (
    PARTS,
    Unfilled,
    check_stored,
    load_part,
    part_path,
    parts_of,
    read_config,
    save_part,
    write_config,
)


class AliTok(nn.Module):
    """A tokenizer and, where there is one, the AR model that predicts and samples its tokens.

    `classes` are the class names, `sampling` the checkpoint's own defaults, `info` how it was made and measured.
    A new model is in evaluation mode. It has no forward pass of its own: use `sample` and `stream`, the methods of
    `tokenizer`, and `ar(ids, labels)`. The codebook stays float32 under `to(dtype)`, `half()` and the like.

    The keys of `state_dict` begin with tokenizer.encoder, tokenizer.quantizer, tokenizer.decoder1, tokenizer.decoder2
    and ar, as far as there are these parts. It holds weights alone; `load_state_dict` needs a model of the same sizes.
    """

    tokenizer: Tokenizer
    ar: ARModel | None

    def __init__(
        self,
        tokenizer: Tokenizer,
        ar: ARModel | None = None,
        classes: Sequence[str] = (),
        sampling: Sampling | None = None,
        info: dict | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer, self.ar = tokenizer, ar
        self.classes, self.sampling, self.info = list(classes), sampling or Sampling(), info or {}
        self.eval()  # most models are made to be used; dropout would change what they sample

    @classmethod
    def from_preset(cls, preset: Preset, classes: Sequence[str] = (), stages: tuple[int, ...] = (1, 2)) -> "AliTok":
        """A model with fresh random weights."""
        sampling = Sampling(preset.guidance, preset.power)
        return cls(Tokenizer(preset.tokenizer, stages), ARModel(preset.ar), classes, sampling)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device = "auto",
        dtype: torch.dtype | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> "AliTok":
        """Load a checkpoint: a bundled name, a folder, or a repository on the Hub as owner/name.

        `dtype` None is float32; the quantizer stays float32 whatever the dtype. The other arguments are those of
        huggingface_hub, for a repository: owner/name/folder is a folder in it, `revision` a branch, tag or commit. The
        Hub is asked whether a branch has moved; without a network the copy in the cache serves, and a line says so.
        Raises CheckpointError, in one sentence, for a name that is none of these, and for missing, damaged or foreign
        files; ValueError for a revision of a checkpoint that is not on the Hub.
        """
        access = Access(revision, token, cache_dir, local_files_only, force_download)
        folder = checkpoint_folder(name, access)
        config = read_config(folder)
        files = config["files"]
        with torch.device("meta"), Unfilled():
            stages = tuple(stage for stage in (1, 2) if f"decoder{stage}" in files)
            tokenizer = Tokenizer(config["tokenizer"], stages)
            ar = ARModel(config["ar"]) if "ar" in files else None
        model = cls(tokenizer, ar, config["classes"], config["sampling"], config.get("info"))
        device, dtype = choose_device(device), dtype or torch.float32
        for part, module in parts_of(model.tokenizer, model.ar).items():
            load_part(module, part_path(folder, config, part), files[part]["sha256"], dtype)
        return model.to(device, dtype)

    def __repr__(self) -> str:
        """Sizes in a few lines, in place of torch's list of all layers."""
        config = self.tokenizer.config
        parts = {
            "encoder": self.tokenizer.encoder,
            "causal decoder": self.tokenizer.decoder1,
            "bidirectional decoder": self.tokenizer.decoder2,
            "AR model": self.ar,
        }
        sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if part is not None}
        lines = [
            f"AliTok({self._preset()}, {config.image_size} px, class names: {len(self.classes)}",
            f"  {config.tokens} tokens ({config.prefix_tokens} prefix, {config.grid**2} image),"
            f" {config.codebook_size:,} codes of {config.code_dim} numbers, {self.device}, {self.dtype}",
            "  parameters: " + ", ".join(f"{size:,} ({name})" for name, size in sizes.items()) + ")",
        ]
        return "\n".join(lines)

    def _preset(self) -> str:
        """The name of the preset that has these sizes, whatever its classes."""
        for name, preset in PRESETS.items():
            ar = self.ar and replace(preset.ar, classes=self.ar.config.classes)
            if preset.tokenizer == self.tokenizer.config and (self.ar is None or self.ar.config == ar):
                return f"preset {name}"
        return "no preset"

    def __copy__(self) -> "AliTok":
        """A second model with the same parts: either may lose or exchange one of its own without the other."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self), _modules=self._modules.copy())  # torch's would share the dict
        return other

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.tokenizer.quantizer.codebook.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are, but for the codebook, which is always float32."""
        return self.tokenizer.encoder.queries.dtype

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write a checkpoint folder: config.json, one safetensors file a part in half precision, and a model card.

        `dtype` may be float32, bfloat16, float16 or int8; ValueError for another. int8 stores the matrices of decoders
        and AR model in 8 bits with a scale a row, which loses little (rows.py). Loaded from such a folder, a model has
        ordinary weights.

        Safe at any moment: changed weights go to new files, config.json (with their sha256) is replaced last, and
        only then files that it no longer names are removed. A tokenizer that came from a folder shared with other
        checkpoints is written here too.
        """
        if not str(folder):
            raise ValueError("folder is ''; it must name the folder of a checkpoint")
        check_stored(dtype)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            part: save_part(folder, part, module, dtype) for part, module in parts_of(self.tokenizer, self.ar).items()
        }
        config = {
            "tokenizer": self.tokenizer.config,
            "ar": self.ar.config if self.ar else None,
            "classes": self.classes,
            "sampling": self.sampling,
            "info": self.info,
            "files": files,
        }
        write_config(folder, config)
        write_card(folder, config)
        named = {entry["name"] for entry in files.values()}
        for part in PARTS:
            for old in [*folder.glob(f"{part}.safetensors"), *folder.glob(f"{part}-*.safetensors")]:
                if old.name not in named and old.is_file() and not old.is_symlink():
                    old.unlink()

    def push_to_hub(self, repository: str, dtype: torch.dtype = torch.float16, private: bool = True) -> str:
        """Upload a whole checkpoint to a repository owner/name on the Hub; returns its address.

        The repository is made where there is none, `private` or public. The official weights have no stated licence:
        what was converted from them should stay private. Needs `hf auth login` once; CheckpointError, in one
        sentence, when the Hub refuses or cannot be reached.
        """
        from .store import hub  # slow to import

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, dtype)
            return hub.upload(Path(folder), repository, private)

    def labels(self, classes: Sequence[str | int] | Tensor | str | int) -> Tensor:
        """Class names or numbers to label ids (B,) on the model's device; a single one will do.

        Text is taken for a name first and then for a number, see `class_names.label_of`; ValueError names an unknown
        class.
        """
        given: Any = plain(classes)
        if isinstance(given, str | int | float):
            given = [given]
        found = [label_of(entry, self.classes) for entry in given]
        return torch.tensor(found, dtype=torch.long, device=self.device)

    def stream(
        self,
        classes: Sequence[str | int] | Tensor | str | int,
        seed: int | Sequence[int] | Tensor = 0,
        prompt_ids: Tensor | None = None,
        fast: bool = True,
        **settings: Any,
    ) -> Iterator[Step]:
        """Sample token by token: an iterator of Steps (index, ids (B, index + 1), entropy (B,) in nats).

        Picture i uses seed + i, or give one seed for each. `settings` are fields of Sampling (guidance, power,
        temperature, top_k, top_p); one that is absent or None is the checkpoint's own. Numbers of numpy and torch are
        taken as Python's. Prompt ids (B, t) are kept and continued. `fast` uses recorded steps on a CUDA GPU
        (fast/steps.py) and packed weights on a CPU (packed.py). Raises ValueError at once for a bad argument or a
        checkpoint without an AR model.
        """
        if self.ar is None:
            raise ValueError("this checkpoint has no AR model, so it cannot sample")
        labels = self.labels(classes)
        seeds = seed_of_each(seed, len(labels))
        unknown = settings.keys() - asdict(self.sampling).keys()
        if unknown:
            raise TypeError(f"stream() got an unexpected argument {min(unknown)!r}")
        sampling = replace(self.sampling, **{key: value for key, value in settings.items() if value is not None})
        if prompt_ids is not None:
            prompt_ids = _checked_prompt(prompt_ids, len(labels), self.ar.config).to(self.device, torch.long)
        if fast and self.device.type == "cuda":
            from .fast.steps import generate as generate_fast

            return generate_fast(self.ar, labels, seeds, sampling, prompt_ids)
        return generate(packed(self.ar) if fast else self.ar, labels, seeds, sampling, prompt_ids)

    def sample(
        self,
        classes: Sequence[str | int] | Tensor | str | int,
        seed: int | Sequence[int] | Tensor = 0,
        prompt_ids: Tensor | None = None,
        **settings: Any,
    ) -> Tensor:
        """Sample pictures of classes (names or numbers) and decode them with the best decoder; arguments as `stream`.

        Returns (B, 3, S, S) in [0, 1]. The same seed gives the same picture on the same kind of device, alone or
        in any batch.
        """
        ids = torch.empty(0) if prompt_ids is None else prompt_ids
        for step in self.stream(classes, seed, prompt_ids, **settings):
            ids = step.ids
        return recorded(packed(self.tokenizer)).decode(ids.to(self.device))

    @staticmethod
    def to_pil(pixels: Tensor) -> list[Image.Image]:
        """(B, 3, S, S) in [0, 1] -> PIL pictures."""
        # differs: values are rounded to 8 bits, the official code truncates them
        data = (pixels.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
        return [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in data]


def _checked_prompt(ids: Tensor, pictures: int, config: ARConfig) -> Tensor:
    """The prompt ids (pictures, t); ValueError for others."""
    if ids.ndim != 2 or len(ids) != pictures or ids.shape[1] > config.tokens or ids.is_floating_point():
        raise ValueError(
            f"prompt_ids have shape {tuple(ids.shape)}; they must be whole numbers of shape"
            f" ({pictures}, t) with t at most {config.tokens}"
        )
    if ids.numel() and not (ids.min() >= 0 and ids.max() < config.codebook_size):
        raise ValueError(f"prompt_ids must be whole numbers from 0 to {config.codebook_size - 1}")
    return ids
