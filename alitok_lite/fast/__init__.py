"""Sampling in less time; the pictures are those of core/sampling.py.

On a CUDA GPU a decoding step is recorded once as a CUDA graph and replayed (steps.py, kernels.py). On a CPU the weights
are packed once (packed.py).
"""

from .steps import applies, generate
