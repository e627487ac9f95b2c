"""The paper, in seven files that import nothing else of the package. Read them in this order:

config (sizes), layers (attention, rotary positions), quantizer, tokenizer, losses (how the tokenizer is trained),
ar (the model of its tokens), sampling. Shapes stand beside the tensors, in the letters that config.py explains.
"""

from typing import TYPE_CHECKING

from ..lazy import lazily
from .config import PRESETS, ARConfig, LossWeights, Preset, TokenizerConfig

if TYPE_CHECKING:
    from .ar import ARModel
    from .sampling import Sampling, generate
    from .tokenizer import Decoder, Tokenizer

__getattr__ = lazily(__name__, ar="ARModel", sampling="Sampling generate", tokenizer="Decoder Tokenizer")
