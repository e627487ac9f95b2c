"""Sampling on a CUDA GPU: a decoding step is recorded once as a CUDA graph and replayed (steps.py, kernels.py).

The pictures are those of core/sampling.py; only the time differs. For a CPU see packed.py.
"""

from .steps import applies, generate
