"""The paper: sizes, layers, the quantizer, the tokenizer, the AR model, the losses and sampling.

Read it first, in this order; it imports nothing else of the package.
"""

from .ar import ARModel
from .config import PRESETS, ARConfig, Preset, TokenizerConfig
from .layers import KVCache, causal_mask
from .losses import LossWeights
from .quantizer import VectorQuantizer
from .sampling import Sampling, generate
from .tokenizer import Decoder, Tokenizer
