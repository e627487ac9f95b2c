"""Checkpoint folders: found, read, written, on the Hub, and made from the official files.

The object that holds what is in one is AliTok in model.py.
"""

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .find import CHECKPOINTS, bundled, checkpoint_folder
    from .folder import CheckpointError, read_config

__getattr__ = lazily(
    __name__,
    find="CHECKPOINTS bundled checkpoint_folder",
    folder="CheckpointError read_config",
)
