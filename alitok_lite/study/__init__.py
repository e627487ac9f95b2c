"""Experiments: tokenizers that differ in one thing, look-ahead, equal bits, and what time and memory it takes.

The results that come with the package are in results/.
"""

from .rows import RESULTS, ROWS
