"""The paper, in seven files that import nothing else of the package. Read them in this order:

config (sizes), layers (attention, rotary positions), quantizer, tokenizer, losses (how the tokenizer is trained),
ar (the model of its tokens), sampling. Shapes stand beside the tensors, in the letters that config.py explains.
"""

from .ar import ARModel
from .config import PRESETS, ARConfig, Preset, TokenizerConfig
from .layers import KVCache, causal_mask
from .losses import LossWeights
from .quantizer import VectorQuantizer
from .sampling import Sampling, generate
from .tokenizer import Decoder, Tokenizer
