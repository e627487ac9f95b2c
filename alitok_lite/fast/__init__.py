"""Sampling on a CUDA GPU from recorded steps, and the kernels they are made of.

The pictures are those of core/sampling.py; only the time differs.
"""

from .steps import applies, generate
