"""How each part of each preset is trained."""

import math
import operator
from dataclasses import dataclass, field, replace

from ..core.config import LossWeights

LEAST = {"steps": 1, "batch": 1, "accumulate": 1, "warmup": 0, "pictures": 1, "save_every": 1}  # of whole numbers
MOST = 2**31 - 1  # of the same
SEEDS = 2**32  # seeds are below


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast; learning rate warms up linearly, then falls along a cosine.

    Raises ValueError for numbers out of range.
    """

    steps: int
    batch: int = 256  # pictures a step, all processes and parts together
    accumulate: int = 1  # parts that each process computes its share of a step in, to save memory
    lr: float = 4e-4
    final_lr: float = 1e-5
    warmup: int = 300  # steps
    betas: tuple[float, float] = (0.9, 0.96)
    weight_decay: float = 0.03  # not on norms, biases, embeddings and tables
    clip: float = 1.0
    ema: float = 0.0  # decay of the moving average of the weights that the RUN then holds; 0 = off
    keep_best: bool = False  # AR: the RUN keeps the weights with the lowest test nats
    standardise: bool = False  # tokenizer: begins with the mean and the contrast of its pictures, see fresh.py
    next_code: float = 0.0  # tokenizer: weight of a term for codes that follow from earlier ones, see regulariser.py
    scan: str = "raster"  # order in which the patches are read, one of scan.SCANS; for the experiment
    further: bool = False  # decoder: that with which the tokens were learned is trained on, instead of a second one
    class_dropout: float = 0.1  # AR: share of labels replaced by the null class
    pictures: int = 200_000  # different scenes, on a GPU and in the AR model's id cache
    save_every: int = 2000
    seed: int = 0
    losses: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            self._whole(name, least, MOST)
        self._whole("seed", 0, SEEDS - 1)  # as many as `sample` takes; torch takes few more, times a million
        for name in ("lr", "final_lr", "weight_decay", "clip", "next_code"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; it must be a number from 0 up")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; it must be a number from 0 up to 1")
        if not 0 <= self.class_dropout <= 1:
            raise ValueError(f"class_dropout is {self.class_dropout}; it must be a number from 0 to 1")

    def _whole(self, name: str, least: int, most: int) -> None:
        """Turn a field into an int; numpy's count too."""
        value = getattr(self, name)
        if isinstance(value, bool) or not hasattr(value, "__index__") or not least <= operator.index(value) <= most:
            raise ValueError(f"{name} is {value!r}; it must be a whole number from {least} to {most}")
        object.__setattr__(self, name, operator.index(value))


def shortened(settings: TrainSettings) -> TrainSettings:
    """The settings with a warm-up of at most a tenth of the steps; one that is all warm-up never reaches `lr`."""
    return replace(settings, warmup=min(settings.warmup, settings.steps // 10))


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Learning rate of a step: linear warm-up, then a cosine down to final_lr."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.final_lr + (settings.lr - settings.final_lr) * (1 + math.cos(math.pi * done)) / 2


def _official(epochs: int) -> dict[str, TrainSettings]:
    """The paper's recipe on ImageNet's 1.28 million pictures, which the AR model sees `epochs` times.

    Source: paper.md, steps of both stages and everything about the AR model. Learning rate, warm-up and batch of the
    tokenizer and the weights of its perceptual and adversarial terms are not published: they are usual values.
    """
    losses = LossWeights(perceptual=0.1, adversarial=0.3, adversarial_start=0.7)
    common = TrainSettings(steps=350_000, batch=256, lr=1e-4, warmup=5000, pictures=20_000, save_every=5000)
    ar_steps = epochs * 1_280_000 // 2048
    return {
        "tokenizer": replace(common, losses=losses),
        "decoder": replace(common, losses=losses, steps=300_000),
        "ar": replace(common, steps=ar_steps, batch=2048, lr=4e-4, warmup=62_500),
    }


# Beside each preset: what to expect, from the cards in checkpoints/*/README.md and from README.md, and the machine that
# it was measured on. The times of `scenes` and `photos` are of a GPU on which other training ran meanwhile.
SETTINGS: dict[str, dict[str, TrainSettings]] = {
    # Not trained here. On an H100 a step of 64 pictures takes 0.23 s (tokenizer), 0.33 s (decoder) and 0.08, 0.11 or
    # 0.21 s (AR model of B, L or XL; README, "What training costs"). Computed from that: 4 + 5 + 14 days for B, and 20
    # and 19 days for the AR models of L and XL.
    "alitok-b": _official(800),
    "alitok-l": _official(800),
    "alitok-xl": _official(400),
    # Checkpoint `scenes`, on 5,000 unseen scenes. `scenes-baseline` and `scenes-noprefix` learn tokens and AR model by
    # the same settings: 23.4 and 22.5 dB, 4.98 and 4.39 nats per token; 10 + 4 and 11 + 4 minutes of an H100. Then the
    # one decoder of each is trained 4,000 steps further, to be crisp: 21.9 and 21.2 dB; 10 minutes.
    "scenes": {
        # 7 minutes of an H200; PSNR 23.2 dB, SSIM 0.720, rFD 1.98, all codes in use
        "tokenizer": TrainSettings(steps=32_000, batch=512, lr=1e-3, pictures=400_000, losses=LossWeights(l1=0.2)),
        # 4 to 8 minutes of an H100; PSNR 22.0 dB. The checkpoint's second decoder was trained in two pieces (its card).
        "decoder": TrainSettings(
            steps=8000,
            batch=512,
            lr=5e-4,
            pictures=300_000,
            losses=LossWeights(l1=0.2, features=0.03, adversarial=0.5, adversarial_start=0.5),
        ),
        # 5 minutes of an H100; 4.67 nats per token, top-1 9.6 %, gFD 0.48 without guidance
        "ar": TrainSettings(steps=30_000, batch=512, lr=1e-3, pictures=1_000_000),
    },
    # Checkpoint `photos`: tokenizer and decoder on 32,000 photographs of 64 classes, AR model on the 12,000 of 24 of
    # them; measured on 1,200 unseen ones of the 24. The perceptual term needs the weights of EfficientNet-Lite2.
    "photos": {
        # 9 minutes of an H200; PSNR 20.1 dB, Lite0 distance 83, 71 % named right
        "tokenizer": TrainSettings(steps=20_400, lr=1e-3, losses=LossWeights(l1=0.2, features=1.0)),
        # 6 to 10 minutes of an H100; Lite0 distance 81, 73 % named right. The checkpoint's was trained in three pieces.
        "decoder": TrainSettings(
            steps=9000,
            lr=5e-4,
            losses=LossWeights(l1=0.2, features=1.0, adversarial=0.35, adversarial_start=0.5),
        ),
        # 2 minutes of an H200; 6.77 nats per token (training: 6.60), top-1 4.2 %; samples with guidance 4: 96, 76 %
        # Few photographs are soon overfitted: more weight decay, averaged weights, and the best of them kept.
        "ar": TrainSettings(steps=9000, lr=1e-3, weight_decay=0.1, ema=0.999, keep_best=True, save_every=750),
    },
    # The recipe before that, for 24 classes, without a perceptual term: 21.1 and 21.3 dB, 6.35 nats per token; 8, 5
    # and 3 minutes of a GPU.
    "photos-plain": {
        "tokenizer": TrainSettings(steps=12_000, lr=1e-3, losses=LossWeights(l1=0.2)),
        "decoder": TrainSettings(
            steps=8000, lr=1e-3, losses=LossWeights(l1=0.2, adversarial=0.5, adversarial_start=0.75)
        ),
        "ar": TrainSettings(steps=8000, lr=1e-3, weight_decay=0.1, ema=0.999, keep_best=True, save_every=500),
    },
    # Checkpoint `fruits`, with the perceptual term; 6 minutes of GPUs for all three parts. On 4,623 pictures of fruits
    # other than those of the training: 25.9 and 26.0 dB. The AR model soon knows its few fruits by heart.
    "fruits": {
        "tokenizer": TrainSettings(steps=10_500, lr=1e-3, losses=LossWeights(l1=0.2, features=0.3)),
        "decoder": TrainSettings(steps=3500, lr=1e-3, losses=LossWeights(l1=0.2, features=0.3)),
        "ar": TrainSettings(steps=8000, lr=1e-3, weight_decay=0.1, ema=0.999, keep_best=True, save_every=666),
    },
    # About an hour of two CPU cores for all three parts.
    "tiny": {
        "tokenizer": TrainSettings(steps=4500, batch=64, lr=1e-3, save_every=500),
        "decoder": TrainSettings(steps=1500, batch=64, lr=1e-3, warmup=50, save_every=500),
        "ar": TrainSettings(steps=5000, batch=64, lr=1e-3, warmup=50, pictures=40_000, save_every=1000),
    },
}
# Their only decoder is trained further, with the terms of the second decoder of `scenes`, which make it crisp.
_FURTHER = TrainSettings(
    # 10 minutes of an H100 shared by four trainings; PSNR 21.9 dB (`scenes-baseline`) and 21.2 dB (`scenes-noprefix`)
    steps=4000,
    batch=512,
    lr=3e-4,
    pictures=300_000,
    further=True,
    losses=LossWeights(l1=0.2, features=0.03, adversarial=0.5, adversarial_start=0.0),
)
SETTINGS |= dict.fromkeys(("scenes-baseline", "scenes-noprefix"), SETTINGS["scenes"] | {"decoder": _FURTHER})
# With a second decoder that needs no download, as the perceptual term does. With a weak critic in its last fifth, which
# is left out here, it had 23.6 dB, and details were smeared.
SETTINGS["scenes-plain"] = SETTINGS["scenes"] | {"decoder": replace(SETTINGS["scenes"]["tokenizer"], steps=16_000)}


@dataclass(frozen=True)
class AblationSettings:
    """How long each part of a row trains, and on how much it is measured."""

    tokenizer: TrainSettings
    decoder: TrainSettings
    ar: TrainSettings
    judge_steps: int = 1500
    pictures: int = 10_000  # unseen ones, and samples; with fewer the generation gap varies by chance
    lookahead: int = 4  # for the look-ahead debt of A-0 and B-0: a masked model has so many times the AR model's steps


def _equal(first: TrainSettings, ar: TrainSettings, **rest: int) -> AblationSettings:
    """Both stages train alike."""
    return AblationSettings(first, first, ar, **rest)


_PLAIN = LossWeights(l1=0.2)
ABLATIONS: dict[str, AblationSettings] = {
    # Mean of five seeds: A 21.7 dB, 5.53 nats; B 21.2 dB, 4.98 nats; D 21.5 dB, 4.93 nats (results/scenes).
    "scenes": _equal(
        TrainSettings(steps=8000, lr=1e-3, save_every=4000, losses=_PLAIN),
        TrainSettings(steps=6000, lr=1e-3, save_every=3000),
    ),
    # Mean of three seeds: A 20.6 dB, 6.42 nats; B 20.5 dB, 6.29 nats. D failed with its one seed: a third of its codes
    # did not occur on the test pictures, 18.2 dB (results/photos).
    "photos-plain": _equal(
        TrainSettings(steps=5000, lr=1e-3, save_every=2500, losses=_PLAIN),
        TrainSettings(steps=2500, lr=1e-3, weight_decay=0.1, ema=0.999, keep_best=True, save_every=500),
        pictures=1200,
    ),
    # Rows A and B with one seed: ten minutes of two CPU cores, 2.99 and 2.88 nats. Another seed may reverse the order.
    "tiny": _equal(
        TrainSettings(steps=1500, batch=32, lr=1e-3, warmup=50, pictures=12_000, save_every=500, losses=_PLAIN),
        TrainSettings(steps=1200, batch=64, lr=1e-3, warmup=50, pictures=12_000, save_every=400),
        judge_steps=200,
        pictures=1000,
        lookahead=0,
    ),
}
