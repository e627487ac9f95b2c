"""Checkpoint folders: found, read, written, on the Hub, and made from the official files.

The object that holds what is in one is AliTok in model.py.
"""

from .find import CHECKPOINTS, bundled, checkpoint_folder
from .folder import CheckpointError, read_config
