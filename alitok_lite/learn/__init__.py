"""The notebooks' exercises: `check` tests an answer, `hint` helps, `solution` shows one that passes.

The exercises of a notebook are in the file with its number.
"""

from . import ch01, ch02, ch03, ch04, ch05, ch06, ch07, ch08, ch09, ch10, ch11
from .exercises import EXERCISES, Exercise, check, find, hint, solution, solution_source
from .predictions import compare, predict
from .side_by_side import layer_source, side_by_side
from .solved import progress
