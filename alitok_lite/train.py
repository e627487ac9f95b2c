"""Training through `accelerate`, on one device or several: tokenizer (stage 1), decoder (stage 2), AR model.

A RUN folder is a checkpoint (`AliTok.from_pretrained(RUN)`) plus `state/` for resuming and `sheets/` to look at.
Every step draws its data and its random numbers from (seed, step) alone, so a resumed run continues the same way.
Several processes draw the same batch and each takes its share of it, so the batch size is that of all together. A
share may be computed in parts (`TrainSettings.accumulate`), which changes the memory needed but not the step.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace
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
from .config import PRESETS, Preset
from .losses import LossWeights, PatchCritic, adversarial_loss, critic_loss, reconstruction_losses
from .metrics import nats_per_token, psnr
from .model import AliTok, CheckpointError, write_atomically
from .perceptual import PerceptualLoss
from .sampling import Sampling
from .settings import SETTINGS, TrainSettings, learning_rate
from .sources import FolderSource, ScannedSource, SceneSource, open_source
from .tokenizer import Decoder, Tokenizer, TokenizerOutput
from .weights import Weights

if TYPE_CHECKING:
    from accelerate import Accelerator

Source = SceneSource | FolderSource | ScannedSource

# Small models are bound by kernel launches, which CUDA graphs ("reduce-overhead") replay at once.
COMPILE_MODE = "reduce-overhead"


Batch = tuple[Tensor, ...]  # tensors of equal length, a row for each picture


class Task:
    """What `fit` needs of a training: a network, batches, a loss, diagnostics, a sheet."""

    name: str
    network: nn.Module  # what is prepared, compiled and optimised
    model: AliTok  # what is saved
    extra: dict[str, nn.Module] = {}  # trained beside the network, by the task itself
    copied: tuple[str, ...] = ()  # parameters of the network that a moving average takes over as they are

    def batch(self, step: int) -> Batch:
        """What a step learns from, the same in all processes."""
        raise NotImplementedError

    def loss(self, network: Callable, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one part of a step's batch and terms worth printing."""
        raise NotImplementedError

    def before_update(self) -> None:
        """Called once a step, after the backward passes of all parts, before the optimiser's step."""

    def diagnose(self) -> dict[str, float]:
        """Numbers for the progress bar, measured on unseen pictures."""
        raise NotImplementedError

    def sheet(self) -> list[Tensor]:
        """Pictures for a sample sheet, each (N, 3, S, S)."""
        raise NotImplementedError


class TokenizerTask(Task):
    """Stage 1 (encoder, queries, codebook and their decoder) or stage 2 (a new decoder over frozen tokens)."""

    def __init__(
        self,
        name: str,
        model: AliTok,
        settings: TrainSettings,
        accelerator: Accelerator,
        source: Source,
        perceptual: PerceptualLoss | None = None,
    ) -> None:
        self.name, self.model, self.settings, self.accelerator = name, model, settings, accelerator
        self.tokenizer, self.source, self.perceptual = model.tokenizer, source, perceptual
        self.frozen = name == "decoder"
        self.stage = 2 if self.frozen or not self.tokenizer.config.aligned else 1
        self.network = self.tokenizer.decoder2 if self.frozen else self.tokenizer
        # CVQ moves a code at once to where it is needed, which an average would reach many steps later.
        self.copied = () if self.frozen else ("quantizer.codebook",)
        self.probe = source.unseen(64)[0]
        # Kept from all parts of a step, cloned, because a CUDA graph writes the next part's outputs to the same place.
        self.quantized: list[tuple[Tensor, Tensor]] = []  # latents, ids
        self.pairs: list[tuple[Tensor, Tensor]] = []  # real, decoded
        self.critic = None
        if settings.losses.adversarial:
            self.critic = PatchCritic().to(accelerator.device)
            self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), settings.lr / 2, (0.5, 0.9))
            self.extra = {"critic": self.critic}

    def batch(self, step: int) -> Batch:
        return self.source.batch(step)[:1]

    def loss(self, network: Callable, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        (pixels,), weights = batch, self.settings.losses
        if self.frozen:
            with torch.no_grad():  # in float32, so that the ids are those of `encode`
                latents = self.tokenizer.encoder(pixels)
                codes, ids, _ = self.tokenizer.quantizer(latents)
            output = TokenizerOutput(network(codes)[0], None, latents, ids, pixels.new_zeros(()))
        else:
            output = network(pixels, self.stage)
            self.quantized.append((output.latents.detach().clone(), output.ids.clone()))
        terms = reconstruction_losses(output, pixels, weights)
        if self.perceptual is not None:
            with self.accelerator.autocast():
                terms["perceptual"] = weights.perceptual * self.perceptual(output.pixels, pixels)
        if self.critic is not None and step >= weights.adversarial_start * self.settings.steps:
            self.pairs.append((pixels, output.pixels.detach().clone()))
            with self.accelerator.autocast():
                scores, others = self.critic(output.pixels), sum(terms.values())
            terms["gan"] = adversarial_loss(scores, output.pixels, others, weights.adversarial, self._average)
        return sum(terms.values()), terms

    def _average(self, value: Tensor) -> Tensor:
        """Mean over all processes."""
        return self.accelerator.reduce(value, "mean")

    def before_update(self) -> None:
        """The codebook's upkeep, and the critic's own step on the pictures of the decoder's step."""
        if self.quantized:
            # The codebook follows the latents of all parts and processes.
            latents, ids = (self.accelerator.gather(torch.cat(parts)) for parts in zip(*self.quantized, strict=True))
            self.tokenizer.quantizer.revive(latents, ids)
            self.quantized = []
        if self.pairs:
            self._train_critic()
            self.pairs = []

    def _train_critic(self) -> None:
        self.critic_optimizer.zero_grad()
        for real, fake in self.pairs:
            with self.accelerator.autocast():
                loss = critic_loss(self.critic(real), self.critic(fake))
            (loss / len(self.pairs)).backward()
        for parameter in self.critic.parameters():
            parameter.grad = self._average(parameter.grad)
        self.critic_optimizer.step()

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
        model.ar.rope(accelerator.device)  # moved now, so that compiled code finds it there
        with accelerator.main_process_first():  # the others read the file that the first one writes
            self.ids, self.labels = cached_ids(model, source, folder)
        pixels, self.probe_labels = source.unseen(512)
        self.probe_ids = model.tokenizer.encode(pixels)
        # As many training pictures, spread over classes and crops: by how much are they known better?
        seen = torch.linspace(0, len(self.ids) - 1, min(len(pixels), len(self.ids))).long().to(self.ids.device)
        self.seen_ids, self.seen_labels = self.ids[seen].long(), self.labels[seen]

    def batch(self, step: int) -> Batch:
        rows = torch.randint(len(self.ids), (self.settings.batch,), device=self.ids.device)
        ids, labels = self.ids[rows].long(), self.labels[rows]
        dropped = torch.rand(len(labels), device=labels.device) < self.settings.class_dropout
        return ids, labels.masked_fill(dropped, self.model.ar.config.classes)

    def loss(self, network: Callable, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        ids, labels = batch
        loss = F.cross_entropy(network(ids, labels).float().flatten(0, 1), ids.flatten())
        return loss, {"loss": loss}

    def diagnose(self) -> dict[str, float]:
        ar = self.model.ar.eval()
        test, hits = nats_per_token(ar, self.probe_ids, self.probe_labels)
        train, _ = nats_per_token(ar, self.seen_ids, self.seen_labels)
        ar.train()
        return {"train nats": train.mean().item(), "test nats": test.mean().item(), "top1": hits.mean().item()}

    def sheet(self) -> list[Tensor]:
        ar = self.model.ar.eval()
        pictures = self.model.sample([i % len(self.model.classes) for i in range(96)], seed=0)
        ar.train()
        return [pictures]


def cached_ids(model: AliTok, source: Source, folder: Path) -> tuple[Tensor, Tensor]:
    """Ids (N, T) int32 and labels (N,) of all training pictures, from a file if it fits encoder and pictures.

    They stay in the memory of the model's device: 14 GB for ten crops of ImageNet at 273 tokens.
    """
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


def save_state(
    path: Path, step: int, modules: dict, optimizers: dict, settings: TrainSettings, history: list[dict]
) -> None:
    """Write what `load_state` needs, atomically."""
    tensors = {
        key: value.detach().cpu().contiguous().clone() for key, value in _state_tensors(modules, optimizers).items()
    }
    metadata = {"step": str(step), "settings": json.dumps(asdict(settings)), "history": json.dumps(history)}
    write_atomically(path, save(tensors, metadata))


@torch.no_grad()
def load_state(path: Path, modules: dict, optimizers: dict, settings: TrainSettings) -> tuple[int, list[dict]]:
    """Fill modules and optimisers; return the number of steps done and the history of the numbers.

    Raises CheckpointError when there is nothing to resume, the file is damaged, or it was made with other settings.
    """
    if not path.exists():
        raise CheckpointError(f"nothing to resume: there is no {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}); start again without --resume") from error
    old, new = asdict(_read_settings(metadata["settings"])), asdict(settings)
    for key in new:
        if old[key] != new[key]:
            raise CheckpointError(f"cannot resume: {key} was {old[key]} and is now {new[key]}")
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
    return int(metadata["step"]), json.loads(metadata.get("history", "[]"))


def _read_settings(text: str) -> TrainSettings:
    """The settings in a state file; what an older version did not know has its default."""
    values = json.loads(text)
    return TrainSettings(**values | {"betas": tuple(values["betas"]), "losses": LossWeights(**values["losses"])})


def _optimizers(task: Task, settings: TrainSettings, fused: bool) -> dict[str, torch.optim.Optimizer]:
    """AdamW of the network and, where there is one, the critic's own optimiser."""
    groups = _groups(task.network, settings.weight_decay)
    optimizers = {"optimizer": torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)}
    if "critic" in task.extra:
        optimizers["critic_optimizer"] = task.critic_optimizer
    return optimizers


def fit(task: Task, settings: TrainSettings, folder: Path, resume: bool, accelerator: Accelerator) -> None:
    """Train a task to the end of its settings, saving the RUN folder on the way; its network ends as the RUN has it.

    Raises ValueError when the loss stops being a number.
    """
    from accelerate.utils import broadcast

    optimizers = _optimizers(task, settings, fused=accelerator.device.type == "cuda")
    weights = Weights(task.network, settings.ema, settings.keep_best, task.copied)
    modules = {"network": task.network, **task.extra, **weights.modules}
    state = folder / "state" / f"{task.name}.safetensors"
    start, weights.history = load_state(state, modules, optimizers, settings) if resume else (0, [])
    network, optimizer = accelerator.prepare(task.network, optimizers["optimizer"])
    task.network.train()
    began, numbers, steps, main = time.time(), {}, settings.steps, accelerator.is_main_process
    bar = tqdm(range(start, steps), initial=start, total=steps, unit="step", disable=not main)
    for step in bar:
        torch.manual_seed(settings.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step)
        terms = _backward(task, network, settings, step, accelerator)
        accelerator.clip_grad_norm_(task.network.parameters(), settings.clip)
        task.before_update()
        optimizer.step()
        optimizer.zero_grad()
        weights.follow()
        save = step + 1 == steps or (step + 1) % settings.save_every == 0
        if save or step % 50 == 0:
            losses = _means(terms, step, accelerator)
            bar.set_postfix({key: f"{value:.4f}" for key, value in losses.items()} | numbers)
        if save and main:
            done = {"steps": step + 1, "seconds": round(time.time() - began), "settings": asdict(settings)}
            numbers = _save_checkpoint(task, weights, folder, done, losses)
            save_state(state, step + 1, modules, optimizers, settings, weights.history)
            with weights.swapped(weights.published):
                _save_sheet(task, folder, step + 1)
            bar.write(f"{task.name} step {step + 1}: {numbers}")
        if save:
            accelerator.wait_for_everyone()
    weights.finish(broadcast)
    accelerator.unwrap_model(network, keep_fp32_wrapper=False)


def _backward(
    task: Task, network: Callable, settings: TrainSettings, step: int, accelerator: Accelerator
) -> dict[str, Tensor]:
    """Gradients of a step, added up over the parts of this process's share; returns the means of the loss's terms."""
    drawn, parts, total = task.batch(step), settings.accumulate, {}
    if parts > 1:  # gradients have memory of their own, since a CUDA graph writes those of every part to one place
        for parameter in filter(lambda p: p.requires_grad, task.network.parameters()):
            parameter.grad = torch.zeros_like(parameter)
    for part in range(parts):
        first = part * accelerator.num_processes + accelerator.process_index
        share = tuple(rows[first :: parts * accelerator.num_processes] for rows in drawn)
        # The processes exchange their gradients once a step.
        with accelerator.no_sync(network) if part < parts - 1 else nullcontext():
            loss, terms = task.loss(network, share, step)
            accelerator.backward(loss / parts)
        total = {key: total.get(key, 0) + value.detach() / parts for key, value in terms.items()}
    return total


def _means(terms: dict[str, Tensor], step: int, accelerator: Accelerator) -> dict[str, float]:
    """The terms of the loss, averaged over processes. Raises ValueError when they are not finite."""
    losses = {key: accelerator.reduce(value, "mean").item() for key, value in terms.items()}
    if not math.isfinite(sum(losses.values())):
        raise ValueError(f"the loss at step {step} is {sum(losses.values())}: try a lower learning rate (--lr)")
    return losses


def _save_checkpoint(
    task: Task, weights: Weights, folder: Path, done: dict, losses: dict[str, float]
) -> dict[str, float]:
    """Measure, decide which weights the RUN holds and write its checkpoint; returns the numbers measured.

    It comes before the state, so that a run killed in between repeats the steps and writes the same again.
    """
    with weights.swapped(weights.measured):
        numbers = {key: round(value, 3) for key, value in task.diagnose().items()}
    weights.judge(done["steps"], losses | numbers)
    entry = done | losses | numbers
    if weights.history:
        columns = ("step", "train nats", "test nats")
        numbers["kept step"] = weights.kept["step"]
        entry |= weights.kept | {"history": [[row[column] for column in columns] for row in weights.history]}
    task.model.info.setdefault("training", {})[task.name] = entry
    with weights.swapped(weights.published):
        task.model.save_pretrained(folder)
    return numbers


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


def _build(kind: str, sizes: Preset, folder: Path, source: Source, seed: int, device: torch.device) -> AliTok:
    """The model to train: fresh for the tokenizer, the RUN's own with a fresh part for decoder and AR model.

    Raises CheckpointError when the RUN does not fit the preset's sizes or the pictures.
    """
    torch.manual_seed(seed)
    if kind == "tokenizer":
        stages = (1,) if sizes.tokenizer.aligned else (2,)
        sampling = Sampling(sizes.guidance, sizes.power)
        return AliTok(Tokenizer(sizes.tokenizer, stages), None, source.classes, sampling).to(device)
    model = AliTok.from_pretrained(folder, device)
    if model.tokenizer.config != sizes.tokenizer:
        raise CheckpointError(f"{folder} was not trained with this preset: their tokenizer sizes differ")
    if model.classes != source.classes:
        raise CheckpointError(f"{folder} was trained on other pictures: their classes differ")
    model.tokenizer.requires_grad_(False)  # only what is added below learns
    if kind == "ar":
        model.ar = ARModel(replace(sizes.ar, classes=len(source.classes))).to(device)
    elif sizes.tokenizer.aligned:
        model.tokenizer.decoder2 = _second_decoder(model.tokenizer).to(device)
    else:
        raise CheckpointError("this preset is conventional: it has no second stage")
    return model


def _second_decoder(tokenizer: Tokenizer) -> Decoder:
    """A bidirectional decoder with fresh buffer tokens and the causal decoder's other weights."""
    # differs: the paper trains the second decoder from scratch; the causal one is a start that saves most of its steps
    decoder, learned = Decoder(tokenizer.config, causal=False), tokenizer.decoder1.state_dict()
    tokens = tokenizer.config.tokens
    with torch.no_grad():
        decoder.positions[-tokens:] = learned["positions"][-tokens:]
    own = ("extra_tokens", "positions", "aux_head")  # the last of which has no place here
    decoder.load_state_dict({k: v for k, v in learned.items() if not k.startswith(own)}, strict=False)
    return decoder


def _accelerator() -> Accelerator:
    """Accelerate's front end; on a GPU bf16 and compiled, for one part. ValueError without the package."""
    try:
        from accelerate import Accelerator
        from accelerate.utils import TorchDynamoPlugin
    except ImportError as error:
        raise ValueError("training needs the package accelerate: pip install 'alitok_lite[train]'") from error
    if not torch.cuda.is_available():
        return Accelerator(mixed_precision="no")
    from torch._inductor import config

    # With padded strides (torch 2.11) the fused attention of a model that has 7 heads and 21 tokens gets wrong queries
    # and keys, without a word: the AR model of scenes then learns as if it had no positions.
    config.comprehensive_padding = False
    # Forget parts that were compiled before: their sizes would turn those of this one into symbols, which Inductor
    # (torch 2.11) cannot handle here.
    torch.compiler.reset()
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
    return train_part(kind, PRESETS[preset], replace(SETTINGS[preset][kind], **dict(overrides)), out, resume, data)


def train_part(
    kind: str, sizes: Preset, settings: TrainSettings, out: str | Path, resume: bool = False, data: str = "scenes"
) -> AliTok:
    """`train` with sizes and settings of one's own."""
    folder, accelerator = Path(out), _accelerator()
    processes, device = accelerator.num_processes, accelerator.device
    if kind == "tokenizer" and not resume and (folder / "config.json").exists():
        raise CheckpointError(f"{folder} holds a run already: choose another --out, or continue it with --resume")
    if settings.batch % (processes * settings.accumulate):
        parts = f"{processes} x {settings.accumulate}"
        raise ValueError(f"batch {settings.batch} must be a multiple of processes x accumulate, which is {parts}")
    if settings.keep_best and kind != "ar":
        raise ValueError("keep_best is for the AR model: tokenizer and decoder have no test nats")
    perceptual = PerceptualLoss().to(device) if settings.losses.perceptual and kind != "ar" else None
    source: Source = open_source(data, sizes.tokenizer.image_size, settings, device)
    if settings.scan != "raster":
        source = ScannedSource(source, settings.scan, sizes.tokenizer.patch_size)
    model = _build(kind, sizes, folder, source, settings.seed, device)
    (folder / "state").mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        for half_written in (*folder.glob(".*.tmp"), *folder.glob("state/.*.tmp")):  # a killed run leaves them
            half_written.unlink()
    if kind == "ar":
        task: Task = ARTask(model, settings, accelerator, source, folder)
    else:
        task = TokenizerTask(kind, model, settings, accelerator, source, perceptual)
    fit(task, settings, folder, resume, accelerator)
    return model.to(device)
