"""Training: the settings, the tasks, the loop, the state of a run, and the average of its weights.

It begins in run.py, with `train`.
"""

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .run import train, train_part
    from .settings import ABLATIONS, SETTINGS, TrainSettings, learning_rate

__getattr__ = lazily(
    __name__,
    run="train train_part",
    settings="ABLATIONS SETTINGS TrainSettings learning_rate",
)
