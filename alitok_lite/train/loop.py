"""The loop: steps, saves and sheets, the same for every task."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from ..data import images
from ..interrupt import Stop, on_signals
from ..machine import say
from ..model import AliTok
from .average import Weights
from .curve import draw_curve
from .further import keep_learned, learned_path
from .log import Log
from .progress import Estimate, duration, sentence
from .settings import TrainSettings, learning_rate
from .state import State, forget, furthered, name_of, save_state
from .tasks import Task

if TYPE_CHECKING:
    from accelerate import Accelerator


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Groups of AdamW: weight decay on the matrices of linear layers and convolutions only; frozen ones left out."""
    linear = (nn.Linear, nn.Conv2d)
    decayed = [m.weight for m in network.modules() if isinstance(m, linear) and m.weight.requires_grad]
    chosen = {id(p) for p in decayed}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in chosen]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def optimizers_of(task: Task, settings: TrainSettings, fused: bool) -> dict[str, Optimizer]:
    """AdamW of the network and, where there is one, the critic's own optimiser."""
    groups = parameter_groups(task.network, settings.weight_decay)
    adamw = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)
    return {"optimizer": adamw, **task.extra_optimizers}


def fit(task: Task, settings: TrainSettings, folder: Path, resume: State | None, accelerator: Accelerator) -> None:
    """Train a task to the end of its settings and save the RUN folder on the way.

    At the end the network has the weights that the RUN holds. `resume` is the state to continue from. Ctrl-C and
    SIGTERM end the training after the current step, with KeyboardInterrupt; `task.saved` steps are then in the RUN.
    Raises ValueError when the loss is no longer a finite number.
    """
    from accelerate.utils import broadcast

    optimizers = optimizers_of(task, settings, fused=accelerator.device.type == "cuda")
    weights = Weights(task.network, settings.ema, settings.keep_best, task.copied)
    run = _Run(task, settings, folder, weights, optimizers, accelerator)
    start = run.restore(resume) if resume else run.begin()
    network, optimizer = accelerator.prepare(task.network, optimizers["optimizer"])
    task.network.train()
    steps = settings.steps
    main = accelerator.is_main_process
    stop = Stop(accelerator)
    estimate, every = Estimate(start, settings), _refresh(settings)
    with (
        on_signals(stop.ask),
        tqdm(range(start, steps), initial=start, total=steps, unit="step", disable=not main) as bar,
    ):
        for step in bar:
            terms = _step(task, network, optimizer, settings, step, accelerator)
            weights.update_average()
            planned = step + 1 == steps or (step + 1) % settings.save_every == 0
            stopped = stop.agreed(step)
            if planned or stopped or step % every == 0:
                losses = _means(terms, step, accelerator)
                bar.set_postfix({key: f"{value:.4f}" for key, value in losses.items()} | run.numbers)
                if not (planned or stopped):
                    run.note(step + 1, losses)
            estimate.stepped(step + 1)
            if planned or stopped:
                if main:
                    run.save(step + 1, losses, planned, estimate)
                accelerator.wait_for_everyone()
            if words := estimate.first_words():
                say(f"{run.name}: {words}{_later(task, settings, step)}")
            if stopped or (stop.asked and stop.alone and planned):  # the second: requested during the save
                raise KeyboardInterrupt
    weights.finish(broadcast)
    accelerator.unwrap_model(network, keep_fp32_wrapper=False)


def _refresh(settings: TrainSettings) -> int:
    """After so many steps the numbers of the progress bar are new, and the log gets a row."""
    return min(50, max(1, settings.steps // 100))


def _later(task: Task, settings: TrainSettings, step: int) -> str:
    """A word about steps that take longer than those so far."""
    losses = settings.losses
    joining = {
        "the features term": losses.features_start if losses.features else 0.0,
        "the critic": losses.adversarial_start if losses.adversarial else 0.0,
    }
    firsts = {what: math.ceil(start * settings.steps) for what, start in joining.items()}
    return "".join(
        f"; steps take longer from step {first:,} on, when {what} joins"
        for what, first in firsts.items()
        if task.name != "ar" and step < first < settings.steps
    )


def _tracker(part: str, settings: TrainSettings, accelerator: Accelerator) -> Callable[..., None]:
    """A function that gives numbers to the tracker, which begins at its first call."""

    def track(numbers: dict[str, float], step: int) -> None:
        if not accelerator.trackers:
            # Text where a tracker takes numbers and text only.
            texts = {key: str(value) for key, value in vars(settings).items() if key in ("losses", "betas")}
            accelerator.init_trackers(part, vars(settings) | texts)
        accelerator.log(numbers, step=step)

    return track


class _Run:
    """The RUN folder while a task fills it.

    numbers: what was measured at the last save.
    name:    of the part, in words.
    """

    def __init__(
        self,
        task: Task,
        settings: TrainSettings,
        folder: Path,
        weights: Weights,
        optimizers: dict,
        accelerator: Accelerator,
    ) -> None:
        self.task, self.settings, self.folder = task, settings, folder
        self.name = name_of(task.name, settings.further)
        track = _tracker(task.name, settings, accelerator) if accelerator.log_with else None
        self.log = Log(folder, track)
        self.before: Image.Image | None = None  # the sheet of a part that had learned already, at step 0
        self.weights, self.optimizers = weights, optimizers
        self.modules = {"network": task.network, **task.extra, **weights.modules}
        self.path = folder / "state" / f"{task.name}.safetensors"
        self.numbers: dict[str, float] = {}
        self.began = time.time()

    def restore(self, state: State) -> int:
        """Fill everything from a state; returns the number of steps done."""
        state.fill(self.modules, self.optimizers)
        self.weights.history = state.history
        self.task.saved = state.step
        self.log.cut(self.task.name, state.step)
        self.began -= self.task.model.info.get("training", {}).get(self.task.name, {}).get("seconds", 0)
        return state.step

    def begin(self) -> int:
        """Measure a part that has learned already before its first step; returns 0, the number of steps done."""
        self.log.cut(self.task.name)
        if self.task.start or self.settings.further:
            self.numbers = {key: round(value, 3) for key, value in self.task.diagnose().items()}
            self.log.add(self.task.name, 0, 0.0, 0.0, self.numbers)
            say(f"{self.name} before training: {sentence(self.numbers)}")
            self.before = _sheet(self.task)
        return 0

    def note(self, steps: int, losses: dict[str, float], numbers: dict[str, float] | None = None) -> None:
        """Add a row to the log, which is written at the next save."""
        rate, seconds = learning_rate(self.settings, steps - 1), time.time() - self.began
        measured = {"loss": sum(losses.values())} | losses | (numbers or {})
        self.log.add(self.task.name, steps, seconds, rate, measured)

    def save(self, steps: int, losses: dict[str, float], planned: bool, estimate: Estimate) -> None:
        """Write checkpoint, log, state, curve and, if the save was `planned` and not caused by a signal, the sheet.

        The state comes last, so that a run killed in between repeats the steps and writes the same again. State,
        pictures and log of replaced parts are removed first: a state would otherwise outlive its part.
        """
        if self.settings.further:
            keep_learned(self.folder)
        task, weights, began = self.task, self.weights, time.monotonic()
        forget(self.folder, task.replaced)
        for part in task.replaced:
            if part != task.name:
                self.log.cut(part)
        task.replaced = ()
        done = {"steps": steps, "seconds": round(time.time() - self.began), "settings": asdict(self.settings)}
        done |= {"from": task.start} if task.start else {}
        self.numbers = _save_checkpoint(task, weights, self.folder, done, losses, planned)
        if not furthered(task.model.info):
            learned_path(self.folder).unlink(missing_ok=True)  # the checkpoint has that decoder, or another tokenizer
        self.note(steps, losses, self.numbers)
        self.log.write()
        save_state(self.path, steps, self.modules, self.optimizers, self.settings, weights.history, task.origin)
        task.saved = steps
        if planned:
            with weights.swapped(weights.saved):
                _save_sheet(task, self.folder, steps)
        self._save_others()
        estimate.saved(time.monotonic() - began)
        left = f"; about {duration(estimate.left)} left" if steps < self.settings.steps else ""
        said = sentence(self.numbers | {"loss": sum(losses.values())})
        say(f"{self.name} step {steps}: {said}{left}")
        if task.caution():
            say(task.caution())

    def _save_others(self) -> None:
        """Draw the curve anew; write the sheet of step 0 once."""
        draw_curve(self.log.rows, self.task.name, f"{self.folder.name}: {self.name}", self.folder)
        if self.before is not None:
            (self.folder / "sheets").mkdir(exist_ok=True)
            images.save_png(self.before, sheet_path(self.folder, self.task.name, 0), {})
            self.before = None


def _step(
    task: Task, network: Callable, optimizer: Optimizer, settings: TrainSettings, step: int, accelerator: Accelerator
) -> dict[str, Tensor]:
    """One update of the network; returns the means of the loss's terms in this process."""
    torch.manual_seed(settings.seed * 1_000_003 + step)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, step)
    terms = backward(task, network, settings, step, accelerator)
    accelerator.clip_grad_norm_(task.network.parameters(), settings.clip)
    task.before_update()
    optimizer.step()
    optimizer.zero_grad()
    return terms


def backward(
    task: Task, network: Callable, settings: TrainSettings, step: int, accelerator: Accelerator
) -> dict[str, Tensor]:
    """Gradients of a step, added up over the parts of this process's share; returns the means of the loss's terms."""
    batch = task.batch(step)
    parts = settings.accumulate
    total: dict[str, Tensor] = {}
    if parts > 1:  # gradients have memory of their own, since a CUDA graph writes those of every part to one place
        for parameter in filter(lambda p: p.requires_grad, task.network.parameters()):
            parameter.grad = torch.zeros_like(parameter)
    for part in range(parts):
        first = part * accelerator.num_processes + accelerator.process_index
        share = tuple(rows[first :: parts * accelerator.num_processes] for rows in batch)
        # The processes exchange their gradients once a step.
        with accelerator.no_sync(network) if part < parts - 1 else nullcontext():
            loss, terms = task.loss(network, share, step)
            accelerator.backward(loss / parts)
        for key, value in terms.items():
            mean = value.detach() / parts
            total[key] = total[key] + mean if key in total else mean
    return total


def _means(terms: dict[str, Tensor], step: int, accelerator: Accelerator) -> dict[str, float]:
    """The terms of the loss, averaged over processes. Raises ValueError when they are not finite."""
    losses = {key: accelerator.reduce(value, "mean").item() for key, value in terms.items()}
    if not math.isfinite(sum(losses.values())):
        raise ValueError(f"the loss at step {step} is {sum(losses.values())}: try a lower learning rate (--lr)")
    return losses


def _save_checkpoint(
    task: Task, weights: Weights, folder: Path, done: dict, losses: dict[str, float], planned: bool
) -> dict[str, float]:
    """Measure and write the RUN's checkpoint; returns the numbers measured.

    Only a `planned` save may change which weights are the best.
    """
    with weights.swapped(weights.measured):
        numbers = {key: round(value, 3) for key, value in task.diagnose().items()}
    if planned:
        weights.record(done["steps"], losses | numbers)
    entry = done | losses | numbers
    if weights.history:
        columns = ("step", "train nats", "test nats")
        numbers["kept step"] = weights.best_row["step"]
        entry |= weights.best_row | {"history": [[row[column] for column in columns] for row in weights.history]}
    task.model.info.setdefault("training", {})[task.name] = entry
    with weights.swapped(weights.saved):
        task.model.save_pretrained(folder)
    return numbers


def sheet_path(folder: Path, part: str, step: int) -> Path:
    """Where the sheet of a part is, after so many steps."""
    return folder / "sheets" / f"{part}-{step:06d}.png"


def _save_sheet(task: Task, folder: Path, step: int) -> None:
    """Write the sheet of a step."""
    (folder / "sheets").mkdir(exist_ok=True)
    images.save_png(_sheet(task), sheet_path(folder, task.name, step), {})


def _sheet(task: Task) -> Image.Image:
    """Rows of pictures, originals above reconstructions."""
    rows = task.sheet()
    columns = 12 if len(rows) == 1 else min(16, len(rows[0]))
    pictures: list[Image.Image] = []
    for i in range(0, len(rows[0]), columns):
        for row in rows:
            some = AliTok.to_pil(row[i : i + columns])
            blank = Image.new("RGB", some[0].size, images.PAPER)
            pictures += some + [blank] * (columns - len(some))
    return images.sheet(pictures, columns)
