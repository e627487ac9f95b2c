"""What is trained: the tokenizer, a decoder over its tokens, or the AR model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.losses import PatchCritic, adversarial_loss, critic_loss, reconstruction_losses
from ..core.tokenizer import TokenizerOutput
from ..data.sources import Source
from ..machine import say
from ..measure.metrics import codebook_usage, nats_per_token, psnr
from ..model import AliTok
from .further import decoder_alone, learned_stage
from .perceptual import FeatureLoss, PerceptualLoss
from .regulariser import NextCode
from .settings import TrainSettings
from .state import encoder_sha256, load_tensors, save_tensors

if TYPE_CHECKING:
    from accelerate import Accelerator

BARELY = 0.3  # dB above the mean picture; a tokenizer that explains so little has not begun to tell pictures apart
FEW = 0.1  # share of the codes (or of the tokens, if fewer) in use; below it the other numbers say little
Batch = tuple[Tensor, ...]  # tensors of equal length, a row for each picture


class Task:
    """What `fit` needs of a training: a network, batches, a loss, diagnostics, a sheet.

    name:             the part that is trained: "tokenizer", "decoder" or "ar".
    model:            what is saved.
    network:          what is prepared, compiled and optimised.
    origin:           what it learns from: "pictures", and "encoder" where it learns from ids.
    copied:           parameters of the network that a moving average takes over as they are.
    extra:            modules trained beside the network by the task itself, and their `extra_optimizers`.
    replaced:         parts of the RUN that are removed when this one is first saved.
    saved:            steps that the RUN holds.
    start:            the checkpoint that it began with; None for random weights.
    """

    def __init__(self, name: str, model: AliTok, network: nn.Module, origin: dict[str, str]) -> None:
        self.name, self.model, self.network, self.origin = name, model, network, origin
        self.copied: tuple[str, ...] = ()
        self.extra: dict[str, nn.Module] = {}
        self.extra_optimizers: dict[str, Optimizer] = {}
        self.replaced: tuple[str, ...] = ()
        self.saved = 0
        self.start: str | None = None

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

    def caution(self) -> str:
        """A warning about the numbers of the last `diagnose`; empty if there is none."""
        return ""

    def sheet(self) -> list[Tensor]:
        """Pictures for a sample sheet, each (N, 3, S, S)."""
        raise NotImplementedError


class TokenizerTask(Task):
    """Stage 1 (encoder, queries, codebook and their decoder) or stage 2 (a decoder over frozen tokens).

    That decoder is a second one or, with `further`, that of stage 1 with its prefix outputs.
    """

    def __init__(
        self,
        name: str,
        model: AliTok,
        settings: TrainSettings,
        accelerator: Accelerator,
        source: Source,
        perceptual: PerceptualLoss | None = None,
        features: FeatureLoss | None = None,
    ) -> None:
        self.frozen = name == "decoder"
        network: nn.Module = model.tokenizer
        self.stage = learned_stage(model.tokenizer.config)
        if self.frozen:
            self.stage, network = decoder_alone(model.tokenizer, settings.further)
        origin = {"pictures": source.stamp} | ({"encoder": encoder_sha256(model)} if self.frozen else {})
        super().__init__(name, model, network, origin)
        self.settings, self.accelerator, self.source = settings, accelerator, source
        self.perceptual, self.features = perceptual, features
        self.tokenizer = model.tokenizer
        # CVQ moves a dead code in one step, which an average would follow only after many steps.
        self.copied = () if self.frozen else ("quantizer.codebook",)
        self.probe = source.unseen(64)[0]
        self.mean_psnr = psnr(self.probe.mean(0, keepdim=True).expand_as(self.probe), self.probe).mean().item()
        self.psnr = float("inf")  # of the probe, at the last diagnosis
        # Enough tokens to see every code: eight for each. For a decoder alone the codebook is fixed.
        count = 8 * self.tokenizer.config.codebook_size // self.tokenizer.config.tokens + 1
        self.tokens = () if self.frozen else source.unseen(count)[0].split(64)
        self.ids = torch.empty(0)  # of these pictures, at the last diagnosis
        # Clones from all parts of a step, because a CUDA graph writes the next part's outputs to the same memory.
        self.quantized: list[tuple[Tensor, Tensor]] = []  # latents, ids
        self.pairs: list[tuple[Tensor, Tensor]] = []  # real, decoded
        self.critic: PatchCritic | None = None
        if settings.losses.adversarial:
            self.critic = PatchCritic().to(accelerator.device)
            self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), settings.lr / 2, (0.5, 0.9))
            self.extra = {"critic": self.critic}
            self.extra_optimizers = {"critic_optimizer": self.critic_optimizer}
        self.next_code: NextCode | None = None
        if settings.next_code and not self.frozen:
            config = self.tokenizer.config
            self.next_code = NextCode(config.tokens, config.code_dim).to(accelerator.device)
            self.next_code_optimizer = torch.optim.AdamW(self.next_code.parameters(), settings.lr)
            self.extra |= {"next_code": self.next_code}
            self.extra_optimizers |= {"next_code_optimizer": self.next_code_optimizer}

    def batch(self, step: int) -> Batch:
        return self.source.batch(step)[:1]

    def loss(self, network: Callable, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        (pixels,), weights = batch, self.settings.losses
        if self.frozen:
            with torch.no_grad():  # in float32, so that the ids are those of `encode`
                latents = self.tokenizer.encoder(pixels)
                codes, ids, _ = self.tokenizer.quantizer(latents)
            decoded, aux = network(codes) if self.settings.further else (network(codes), None)
            output = TokenizerOutput(decoded, aux, latents, ids, pixels.new_zeros(()))
        else:
            output = network(pixels, self.stage)
            self.quantized.append((output.latents.detach().clone(), output.ids.clone()))
        terms = reconstruction_losses(output, pixels, weights)
        if self.perceptual is not None:
            with self.accelerator.autocast():
                terms["perceptual"] = weights.perceptual * self.perceptual(output.pixels, pixels)
        if self.features is not None and step >= weights.features_start * self.settings.steps:
            with self.accelerator.autocast():
                terms["features"] = weights.features * self.features(output.pixels, pixels)
        if self.next_code is not None:
            latents, codes = output.latents.float(), self.tokenizer.quantizer.lookup(output.ids).float()
            codes = latents + (codes - latents).detach()  # straight through, as for the decoder
            with self.accelerator.autocast():
                terms["next code"] = self.settings.next_code * self.next_code(codes)
        first = weights.adversarial_start * self.settings.steps
        if self.critic is not None and step >= first:
            self.pairs.append((pixels, output.pixels.detach().clone()))
            with self.accelerator.autocast():
                scores, others = self.critic(output.pixels), _total(terms)
            patch = self.tokenizer.config.patch_size
            gan = adversarial_loss(scores, output.pixels, others, patch, self._average)
            # What a fresh critic says means little: its term grows to its weight in a twentieth of the steps.
            terms["gan"] = weights.adversarial * min(1.0, 20 * (step + 1 - first) / self.settings.steps) * gan
        return _total(terms), terms

    def _average(self, value: Tensor) -> Tensor:
        """Mean over all processes."""
        return self.accelerator.reduce(value, "mean")

    def _whole(self, parts: Sequence[Tensor]) -> Tensor:
        """The rows of all parts and processes in the order of the batch, so that dead codes move to the same latents
        whatever the number of parts and processes."""
        rows = self.accelerator.gather(torch.stack(list(parts), 1))  # (processes * B', parts, ...)
        return rearrange(rows, "(r n) p ... -> (n p r) ...", r=len(rows) // len(parts[0]))

    def before_update(self) -> None:
        """Move dead codes, and take the critic's own step on the pictures of the decoder's step."""
        if self.quantized:
            latents, ids = (self._whole(parts) for parts in zip(*self.quantized, strict=True))
            self.tokenizer.quantizer.revive(latents, ids)
            self.quantized = []
        if self.critic is not None and self.pairs:
            self._train_critic(self.critic)
            self.pairs = []
        if self.next_code is not None:  # its gradients are those of the tokenizer's own loss
            self._average_gradients(self.next_code)
            self.next_code_optimizer.step()
            self.next_code_optimizer.zero_grad()

    def _average_gradients(self, module: nn.Module) -> None:
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad = self._average(parameter.grad)

    def _train_critic(self, critic: PatchCritic) -> None:
        self.critic_optimizer.zero_grad()
        for real, fake in self.pairs:
            with self.accelerator.autocast():
                loss = critic_loss(critic(real), critic(fake))
            (loss / len(self.pairs)).backward()
        self._average_gradients(critic)
        self.critic_optimizer.step()

    def diagnose(self) -> dict[str, float]:
        decoded = self.tokenizer.decode(self.tokenizer.encode(self.probe), self.stage)
        self.psnr = psnr(decoded, self.probe).mean().item()
        numbers = {"psnr": self.psnr}
        if self.frozen:
            return numbers
        self.ids = torch.cat([self.tokenizer.encode(pixels) for pixels in self.tokens])
        return numbers | {"codebook usage": codebook_usage(self.ids, self.tokenizer.config.codebook_size)}

    def caution(self) -> str:
        cautions = [_few(self.ids, self.tokenizer.config.codebook_size)]
        if not self.frozen and self.psnr < self.mean_psnr + BARELY:
            help_ = "a lower --lr helps" if self.settings.standardise else "--standardise or a lower --lr helps"
            painted = f"so far it paints little more than the mean picture, whose PSNR is {self.mean_psnr:.1f}"
            cautions.append(f"{painted}; if that stays so, {help_}")
        return "; ".join(filter(None, cautions))

    def sheet(self) -> list[Tensor]:
        pixels = self.probe[:32]
        ids = self.tokenizer.encode(pixels)
        return [pixels, *(self.tokenizer.decode(ids, stage) for stage in self.tokenizer.stages)]


class ARTask(Task):
    """Next-token prediction on ids that are computed once."""

    def __init__(
        self, model: AliTok, settings: TrainSettings, accelerator: Accelerator, source: Source, folder: Path
    ) -> None:
        if model.ar is None:
            raise ValueError("the model has no AR model to train")
        super().__init__("ar", model, model.ar, {"pictures": source.stamp, "encoder": encoder_sha256(model)})
        self.ar, self.settings = model.ar, settings
        self.ar.rope(accelerator.device)  # moved now, so that compiled code finds it there
        with accelerator.main_process_first():  # the others read the file that the first one writes
            self.ids, self.labels = cached_ids(model, source, folder)
        pixels, self.probe_labels = source.unseen(512)
        self.probe_ids = model.tokenizer.encode(pixels)
        # As many training pictures, spread over classes and crops, to compare: lower nats there show overfitting.
        seen = torch.linspace(0, len(self.ids) - 1, min(len(pixels), len(self.ids))).long().to(self.ids.device)
        self.seen_ids, self.seen_labels = self.ids[seen].long(), self.labels[seen]

    def batch(self, step: int) -> Batch:
        rows = torch.randint(len(self.ids), (self.settings.batch,), device=self.ids.device)
        ids, labels = self.ids[rows].long(), self.labels[rows]
        dropped = torch.rand(len(labels), device=labels.device) < self.settings.class_dropout
        return ids, labels.masked_fill(dropped, self.ar.config.classes)

    def loss(self, network: Callable, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        ids, labels = batch
        loss = F.cross_entropy(network(ids, labels).float().flatten(0, 1), ids.flatten())
        return loss, {"loss": loss}

    def diagnose(self) -> dict[str, float]:
        ar = self.ar.eval()
        test, hits = nats_per_token(ar, self.probe_ids, self.probe_labels)
        train, _ = nats_per_token(ar, self.seen_ids, self.seen_labels)
        ar.train()
        return {"train nats": train.mean().item(), "test nats": test.mean().item(), "top1": hits.mean().item()}

    def caution(self) -> str:
        return _few(torch.cat([self.probe_ids, self.seen_ids]), self.model.tokenizer.config.codebook_size)

    def sheet(self) -> list[Tensor]:
        ar = self.ar.eval()
        pictures = self.model.sample([i % len(self.model.classes) for i in range(96)], seed=0)
        ar.train()
        return [pictures]


def _total(terms: dict[str, Tensor]) -> Tensor:
    """The sum of the terms of a loss."""
    return reduce(torch.add, terms.values())


def _few(ids: Tensor, codes: int) -> str:
    """A warning if few codes are in use, because the tokenizer has hardly learned or has collapsed."""
    used = round(codebook_usage(ids, codes) * codes)
    if used >= FEW * min(codes, ids.numel()):
        return ""
    return f"only {used:,} of {codes:,} codes are in use: PSNR, nats and top-1 say little so far"


def cached_ids(model: AliTok, source: Source, folder: Path) -> tuple[Tensor, Tensor]:
    """Ids (N, T) int32 and labels (N,) of all training pictures, from a file if it fits encoder and pictures.

    They stay in the memory of the model's device: 14 GB for ten crops of ImageNet at 273 tokens.
    """
    path = folder / "state" / "ids.safetensors"
    origin = {"encoder": encoder_sha256(model), "pictures": source.stamp}
    found = _read_ids(path, origin, model) if path.exists() else None
    if found is not None:
        return found
    encoded = [(model.tokenizer.encode(pixels).int(), labels) for pixels, labels in source.blocks()]
    ids, labels = torch.cat([ids for ids, _ in encoded]), torch.cat([labels for _, labels in encoded])
    save_tensors(path, {"ids": ids, "labels": labels}, origin)
    return ids, labels


def _read_ids(path: Path, origin: dict[str, str], model: AliTok) -> tuple[Tensor, Tensor] | None:
    """Ids and labels from a file; None, said in a line, where it is damaged or belongs to something else."""
    config = model.tokenizer.config
    try:
        tensors, found = load_tensors(path)
        if found.keys() != origin.keys():
            raise ValueError("it does not say what it was made from")
        if found != origin:
            say(f"{path} belongs to another tokenizer or other pictures: it is made again")
            return None
        ids, labels = tensors["ids"], tensors["labels"]
        shapes = ids.ndim == 2 and ids.shape[1] == config.tokens and labels.shape == ids.shape[:1]
        if not (shapes and len(ids) and ids.dtype == torch.int32 and labels.dtype == torch.int64):
            raise ValueError("its sizes or types are wrong")
        negative = ids.min() < 0 or labels.min() < 0
        if negative or ids.max() >= config.codebook_size or labels.max() >= len(model.classes):
            raise ValueError("its numbers are out of range")
    except (ValueError, KeyError) as error:
        say(f"{path} is damaged ({error}): it is made again")
        return None
    return ids.to(model.device), labels.to(model.device)
