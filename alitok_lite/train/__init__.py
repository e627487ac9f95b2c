"""Training: the settings, the tasks, the loop, the state of a run, and the average of its weights.

It begins in run.py, with `train`.
"""

from .run import train, train_part
from .settings import ABLATIONS, SETTINGS, TrainSettings, learning_rate
