"""alitok_lite: image tokens that an autoregressive model can predict (AliTok, arXiv 2506.05289), small and readable."""

from typing import TYPE_CHECKING

from . import interrupt as _interrupt  # noqa: F401  first, since importing torch takes seconds
from .lazy import lazily

if TYPE_CHECKING:
    from .core import PRESETS, ARConfig, TokenizerConfig
    from .model import AliTok

__version__ = "0.1.0"
__all__ = ["PRESETS", "ARConfig", "AliTok", "TokenizerConfig"]
__getattr__ = lazily(__name__, model="AliTok", core="PRESETS ARConfig TokenizerConfig")
