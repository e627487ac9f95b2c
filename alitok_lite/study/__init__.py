"""Experiments. Begin with rows.py: the tokenizers that are compared.

They are compared with equal codebooks in ablation.py and at equal bits per image in matched.py, units.py, verdict.py
and conclusions.py; when they begin to look ahead is in course.py, and what sampling and training cost in bench.py,
growth.py and costs.py. The results are in alitok_lite/results/.
"""

from .rows import RESULTS, ROWS
