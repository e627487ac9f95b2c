"""Training through `accelerate`, on one device or several: tokenizer (stage 1), decoder (stage 2), AR model.

A RUN folder is a checkpoint (`AliTok.from_pretrained(RUN)`) plus `state/` for resuming and `sheets/` to look at.
Every step draws its data and its random numbers from (seed, step) alone, so a resumed run continues the same way.
Several processes draw the same batch and each takes its share of it, so the batch size is that of all together.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from . import images
from .ar import ARModel
from .config import PRESETS
from .losses import LossWeights, PatchCritic, adversarial_loss, critic_loss, reconstruction_losses
from .metrics import nats_per_token, psnr
from .model import AliTok, CheckpointError, write_atomically
from .sampling import Sampling
from .sources import FolderSource, SceneSource, open_source
from .tokenizer import Decoder, Tokenizer, TokenizerOutput

if TYPE_CHECKING:
    from accelerate import Accelerator

Source = SceneSource | FolderSource

# Small models are bound by kernel launches, which CUDA graphs ("reduce-overhead") replay at once.
COMPILE_MODE = "reduce-overhead"


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast; learning rate warms up linearly, then falls along a cosine."""

    steps: int
    batch: int = 256  # pictures a step, all processes together
    lr: float = 4e-4
    final_lr: float = 1e-5
    warmup: int = 300  # steps
    betas: tuple[float, float] = (0.9, 0.96)
    weight_decay: float = 0.03  # not on norms, biases, embeddings and tables
    clip: float = 1.0
    class_dropout: float = 0.1  # AR: share of labels replaced by the null class
    pictures: int = 200_000  # different training pictures, on a GPU and in the AR model's id cache
    save_every: int = 2000
    seed: int = 0
    losses: LossWeights = field(default_factory=LossWeights)


SETTINGS: dict[str, dict[str, TrainSettings]] = {
    "scenes": {
        "tokenizer": TrainSettings(steps=40_000, batch=512, lr=1e-3, pictures=400_000, losses=LossWeights(l1=0.2)),
        "decoder": TrainSettings(
            steps=16_000,
            batch=512,
            lr=1e-3,
            pictures=400_000,
            losses=LossWeights(l1=0.2, adversarial=0.5, adversarial_start=0.75),
        ),
        "ar": TrainSettings(steps=30_000, batch=512, lr=1e-3, pictures=1_000_000),
    },
    "tiny": {
        "tokenizer": TrainSettings(steps=4500, batch=64, lr=1e-3, save_every=500),
        "decoder": TrainSettings(steps=1500, batch=64, lr=1e-3, warmup=50, save_every=500),
        "ar": TrainSettings(steps=5000, batch=64, lr=1e-3, warmup=50, pictures=40_000, save_every=1000),
    },
}


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Learning rate of a step: linear warm-up, then a cosine down to final_lr."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.final_lr + (settings.lr - settings.final_lr) * (1 + math.cos(math.pi * done)) / 2


def _share(rows: Tensor, accelerator: Accelerator) -> Tensor:
    """This process's rows of a batch that all processes have drawn."""
    return rows[accelerator.process_index :: accelerator.num_processes]


class Task:
    """What `fit` needs of a training: a network, batches, a loss, diagnostics, a sheet."""

    name: str
    network: nn.Module  # what is prepared, compiled and optimised
    model: AliTok  # what is saved
    extra: dict[str, nn.Module] = {}  # trained beside the network, by the task itself

    def loss(self, network: Callable, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step and terms worth printing."""
        raise NotImplementedError

    def before_update(self, step: int) -> None:
        """Called after the backward pass, before the optimiser's step."""

    def diagnose(self) -> dict[str, float]:
        """Numbers for the progress bar, measured on unseen pictures."""
        raise NotImplementedError

    def sheet(self) -> list[Tensor]:
        """Pictures for a sample sheet, each (N, 3, S, S)."""
        raise NotImplementedError


class TokenizerTask(Task):
    """Stage 1 (encoder, queries, codebook and their decoder) or stage 2 (a new decoder over frozen tokens)."""

    def __init__(
        self, name: str, model: AliTok, settings: TrainSettings, accelerator: Accelerator, source: Source
    ) -> None:
        self.name, self.model, self.settings, self.accelerator = name, model, settings, accelerator
        self.tokenizer, self.source = model.tokenizer, source
        self.frozen = name == "decoder"
        self.stage = 2 if self.frozen or not self.tokenizer.config.aligned else 1
        self.network = self.tokenizer.decoder2 if self.frozen else self.tokenizer
        self.probe = source.unseen(64)[0]
        self.critic, self.fake, self.real = None, None, None
        if settings.losses.adversarial:
            self.critic = PatchCritic().to(accelerator.device)
            self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), settings.lr / 2, (0.5, 0.9))
            self.extra = {"critic": self.critic}

    def loss(self, network: Callable, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        pixels, weights = _share(self.source.batch(step)[0], self.accelerator), self.settings.losses
        if self.frozen:
            with torch.no_grad():  # in float32, so that the ids are those of `encode`
                latents = self.tokenizer.encoder(pixels)
                codes, ids, _ = self.tokenizer.quantizer(latents)
            output = TokenizerOutput(network(codes)[0], None, latents, ids, pixels.new_zeros(()))
        else:
            output = network(pixels, self.stage)
            gather = self.accelerator.gather  # the codebook follows the latents of all processes
            self.tokenizer.quantizer.revive(gather(output.latents.detach()), gather(output.ids))
        terms = reconstruction_losses(output, pixels, weights)
        if self.critic is not None and step >= weights.adversarial_start * self.settings.steps:
            self.real, self.fake = pixels, output.pixels
            with self.accelerator.autocast():
                scores, others = self.critic(self.fake), sum(terms.values())
            terms["gan"] = adversarial_loss(scores, self.fake, others, weights.adversarial, self._average)
        return sum(terms.values()), terms

    def _average(self, value: Tensor) -> Tensor:
        """Mean over all processes."""
        return self.accelerator.reduce(value, "mean")

    def before_update(self, step: int) -> None:
        """The critic's own step, on the pictures of the decoder's step."""
        if self.fake is None:
            return
        self.critic_optimizer.zero_grad()
        with self.accelerator.autocast():
            loss = critic_loss(self.critic(self.real), self.critic(self.fake.detach()))
        loss.backward()
        for parameter in self.critic.parameters():
            parameter.grad = self._average(parameter.grad)
        self.critic_optimizer.step()
        self.fake = self.real = None

    def diagnose(self) -> dict[str, float]:
        used = self.tokenizer.quantizer.usage * self.tokenizer.config.codebook_size
        decoded = self.tokenizer.decode(self.tokenizer.encode(self.probe), self.stage)
        numbers = {"psnr": psnr(decoded, self.probe).mean().item()}
        return numbers if self.frozen else numbers | {"active": (used > 0.01).float().mean().item()}

    def sheet(self) -> list[Tensor]:
        pixels = self.probe[:32]
        ids = self.tokenizer.encode(pixels)
        return [pixels, *(self.tokenizer.decode(ids, stage) for stage in self.tokenizer.stages)]


class ARTask(Task):
    """Next-token prediction on ids that are computed once."""

    def __init__(
        self, model: AliTok, settings: TrainSettings, accelerator: Accelerator, source: Source, folder: Path
    ) -> None:
        self.name, self.model, self.settings, self.network = "ar", model, settings, model.ar
        self.accelerator = accelerator
        model.ar.rope(accelerator.device)  # moved now, so that compiled code finds it there
        with accelerator.main_process_first():  # the others read the file that the first one writes
            self.ids, self.labels = cached_ids(model, source, folder)
        pixels, self.probe_labels = source.unseen(512)
        self.probe_ids = model.tokenizer.encode(pixels)

    def loss(self, network: Callable, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        rows = torch.randint(len(self.ids), (self.settings.batch,), device=self.ids.device)
        ids, labels = self.ids[rows].long(), self.labels[rows]
        dropped = torch.rand(len(labels), device=labels.device) < self.settings.class_dropout
        labels = labels.masked_fill(dropped, self.model.ar.config.classes)
        ids, labels = _share(ids, self.accelerator), _share(labels, self.accelerator)
        loss = F.cross_entropy(network(ids, labels).float().flatten(0, 1), ids.flatten())
        return loss, {"train nats": loss}

    def diagnose(self) -> dict[str, float]:
        ar = self.model.ar.eval()
        nats, hits = nats_per_token(ar, self.probe_ids, self.probe_labels)
        ar.train()
        return {"test nats": nats.mean().item(), "top1": hits.mean().item()}

    def sheet(self) -> list[Tensor]:
        ar = self.model.ar.eval()
        pictures = self.model.sample([i % len(self.model.classes) for i in range(96)], seed=0)
        ar.train()
        return [pictures]


def cached_ids(model: AliTok, source: Source, folder: Path) -> tuple[Tensor, Tensor]:
    """Ids (N, T) int32 and labels (N,) of all training pictures, from a file if it fits encoder and pictures."""
    weights = b"".join(t.cpu().numpy().tobytes() for t in model.tokenizer.encoder.state_dict().values())
    weights += model.tokenizer.quantizer.codebook.detach().cpu().numpy().tobytes()
    wanted = {"encoder": hashlib.sha256(weights).hexdigest(), "pictures": source.stamp}
    path = folder / "state" / "ids.safetensors"
    if path.exists():
        with safe_open(path, "pt") as file:
            if file.metadata() == wanted:
                return file.get_tensor("ids").to(model.device), file.get_tensor("labels").to(model.device)
    encoded = [(model.tokenizer.encode(pixels).int(), labels) for pixels, labels in source.blocks()]
    ids, labels = torch.cat([ids for ids, _ in encoded]), torch.cat([labels for _, labels in encoded])
    write_atomically(path, save({"ids": ids.cpu(), "labels": labels.cpu()}, wanted))
    return ids, labels


def _groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay on the matrices of linear layers and convolutions only."""
    linear = (nn.Linear, nn.Conv2d)
    decayed = [m.weight for m in network.modules() if isinstance(m, linear) and m.weight.requires_grad]
    chosen = {id(p) for p in decayed}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in chosen]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _state_tensors(modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Every tensor that a continued training needs, by a flat name; buffers too, also those outside checkpoints."""
    tensors = {}
    for name, module in modules.items():
        for key, value in [*module.named_parameters(), *module.named_buffers()]:
            tensors[f"{name}.{key}"] = value
    for name, optimizer in optimizers.items():
        for index, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{key}": value for key, value in entry.items()}
    return tensors


def save_state(path: Path, step: int, modules: dict, optimizers: dict, settings: TrainSettings) -> None:
    """Write what `load_state` needs, atomically."""
    tensors = {
        key: value.detach().cpu().contiguous().clone() for key, value in _state_tensors(modules, optimizers).items()
    }
    metadata = {"step": str(step), "settings": json.dumps(asdict(settings))}
    write_atomically(path, save(tensors, metadata))


@torch.no_grad()
def load_state(path: Path, modules: dict, optimizers: dict, settings: TrainSettings) -> int:
    """Fill modules and optimisers; return the number of steps done.

    Raises CheckpointError when there is nothing to resume, the file is damaged, or it was made with other settings.
    """
    if not path.exists():
        raise CheckpointError(f"nothing to resume: there is no {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}); start again without --resume") from error
    old, new = json.loads(metadata["settings"]), json.loads(json.dumps(asdict(settings)))
    for key in new:
        if old.get(key) != new[key]:
            raise CheckpointError(f"cannot resume: {key} was {old.get(key)} and is now {new[key]}")
    for name, optimizer in optimizers.items():
        state: dict[int, dict] = {}
        for key, value in tensors.items():
            if key.startswith(f"{name}."):
                _, index, slot = key.split(".")
                state.setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for name, module in modules.items():
        for key, value in [*module.named_parameters(), *module.named_buffers()]:
            value.copy_(tensors[f"{name}.{key}"])
    return int(metadata["step"])


def _optimizers(task: Task, settings: TrainSettings, fused: bool) -> dict[str, torch.optim.Optimizer]:
    """AdamW of the network and, where there is one, the critic's own optimiser."""
    groups = _groups(task.network, settings.weight_decay)
    optimizers = {"optimizer": torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)}
    if "critic" in task.extra:
        optimizers["critic_optimizer"] = task.critic_optimizer
    return optimizers


def fit(task: Task, settings: TrainSettings, folder: Path, resume: bool, accelerator: Accelerator) -> None:
    """Train a task to the end of its settings, saving the RUN folder on the way.

    Raises ValueError when the loss stops being a number.
    """
    optimizers = _optimizers(task, settings, fused=accelerator.device.type == "cuda")
    modules = {"network": task.network, **task.extra}
    state = folder / "state" / f"{task.name}.safetensors"
    start = load_state(state, modules, optimizers, settings) if resume else 0
    network, optimizer = accelerator.prepare(task.network, optimizers["optimizer"])
    task.network.train()
    began, numbers, steps = time.time(), {}, settings.steps
    quiet = not accelerator.is_main_process
    bar = tqdm(range(start, steps), initial=start, total=steps, unit="step", disable=quiet)
    for step in bar:
        torch.manual_seed(settings.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step)
        loss, terms = task.loss(network, step)  # `prepare` put the network, and only it, in mixed precision
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(task.network.parameters(), settings.clip)
        task.before_update(step)
        optimizer.step()
        optimizer.zero_grad()
        save = step + 1 == steps or (step + 1) % settings.save_every == 0
        if save or step % 50 == 0:
            losses = {key: accelerator.reduce(value.detach(), "mean").item() for key, value in terms.items()}
            bar.set_postfix({key: f"{value:.4f}" for key, value in losses.items()} | numbers)
            if not math.isfinite(sum(losses.values())):
                raise ValueError(f"the loss at step {step} is {sum(losses.values())}: try a lower learning rate (--lr)")
        if save:
            if accelerator.is_main_process:
                numbers = {key: round(value, 3) for key, value in task.diagnose().items()}
                done = {"steps": step + 1, "seconds": round(time.time() - began), "settings": asdict(settings)}
                task.model.info.setdefault("training", {})[task.name] = done | losses | numbers
                save_state(state, step + 1, modules, optimizers, settings)
                task.model.save_pretrained(folder)
                _save_sheet(task, folder, step + 1)
                bar.write(f"{task.name} step {step + 1}: {numbers}")
            accelerator.wait_for_everyone()
    accelerator.unwrap_model(network, keep_fp32_wrapper=False)


def _save_sheet(task: Task, folder: Path, step: int) -> None:
    """Write sheets/NAME-STEP.png: rows of pictures, originals above reconstructions."""
    rows = task.sheet()
    columns = 12 if len(rows) == 1 else 16
    pictures: list = []
    for i in range(0, len(rows[0]), columns):
        for row in rows:
            pictures += AliTok.to_pil(row[i : i + columns])
    (folder / "sheets").mkdir(exist_ok=True)
    images.save_png(images.sheet(pictures, columns), folder / "sheets" / f"{task.name}-{step:06d}.png", {})


def _build(kind: str, preset: str, folder: Path, source: Source, device: torch.device) -> AliTok:
    """The model to train: fresh for the tokenizer, the RUN's own with a fresh part for decoder and AR model.

    Raises CheckpointError when the RUN does not fit the preset or the pictures.
    """
    torch.manual_seed(0)
    sizes = PRESETS[preset]
    if kind == "tokenizer":
        stages = (1,) if sizes.tokenizer.aligned else (2,)
        sampling = Sampling(sizes.guidance, sizes.power)
        return AliTok(Tokenizer(sizes.tokenizer, stages), None, source.classes, sampling).to(device)
    model = AliTok.from_pretrained(folder, device)
    if model.tokenizer.config != sizes.tokenizer:
        raise CheckpointError(f"{folder} was not trained with preset {preset}: their tokenizer sizes differ")
    if model.classes != source.classes:
        raise CheckpointError(f"{folder} was trained on other pictures: their classes differ")
    model.tokenizer.requires_grad_(False)  # only what is added below learns
    if kind == "ar":
        model.ar = ARModel(replace(sizes.ar, classes=len(source.classes))).to(device)
    elif sizes.tokenizer.aligned:
        model.tokenizer.decoder2 = Decoder(sizes.tokenizer, causal=False).to(device)
    else:
        raise CheckpointError(f"preset {preset} is conventional: it has no second stage")
    return model


def _accelerator() -> Accelerator:
    """Accelerate's front end; bf16 and compiled on a GPU. ValueError where the package is missing."""
    try:
        from accelerate import Accelerator
        from accelerate.utils import TorchDynamoPlugin
    except ImportError as error:
        raise ValueError("training needs the package accelerate: pip install 'alitok_lite[train]'") from error
    if not torch.cuda.is_available():
        return Accelerator(mixed_precision="no")
    return Accelerator(mixed_precision="bf16", dynamo_plugin=TorchDynamoPlugin(backend="inductor", mode=COMPILE_MODE))


def train(
    kind: str,
    preset: str,
    out: str | Path,
    resume: bool = False,
    overrides: Iterable[tuple[str, object]] = (),
    data: str = "scenes",
) -> AliTok:
    """Train 'tokenizer', 'decoder' or 'ar' of a preset in the RUN folder `out`; returns the model.

    `data` is "scenes" or a folder of pictures. `overrides` replace fields of the preset's TrainSettings. Decoder and
    AR model continue the RUN that `train tokenizer` made. Raises CheckpointError or ValueError, in one sentence, for
    a user's mistake.
    """
    settings, folder, accelerator = replace(SETTINGS[preset][kind], **dict(overrides)), Path(out), _accelerator()
    if kind == "tokenizer" and not resume and (folder / "config.json").exists():
        raise CheckpointError(f"{folder} holds a run already: choose another --out, or continue it with --resume")
    if settings.batch % accelerator.num_processes:
        raise ValueError(f"batch {settings.batch} must be a multiple of the {accelerator.num_processes} processes")
    source = open_source(data, PRESETS[preset].tokenizer.image_size, settings, accelerator.device)
    model = _build(kind, preset, folder, source, accelerator.device)
    (folder / "state").mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        for half_written in (*folder.glob(".*.tmp"), *folder.glob("state/.*.tmp")):  # a killed run leaves them
            half_written.unlink()
    if kind == "ar":
        task: Task = ARTask(model, settings, accelerator, source, folder)
    else:
        task = TokenizerTask(kind, model, settings, accelerator, source)
    fit(task, settings, folder, resume, accelerator)
    return model.to(accelerator.device)
