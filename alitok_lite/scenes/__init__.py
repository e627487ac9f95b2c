"""The painted pictures: fourteen kinds of scene, each a function of class, seed and index.

Read rendering.py first, then one of the painters in nature.py or places.py.
"""

from .canvas import Canvas
from .rendering import CLASSES, FACTORS, FOLLOW_SHARE, FREE_FACTORS, PAINTERS, TEST_SEED, factor_table, render
from .shapes import circle
