"""Experiments. Begin with rows.py: the tokenizers that are compared.

They are compared with equal codebooks in ablation.py and at equal bits per image in matched.py and verdict.py; what
sampling and training cost is in bench.py and costs.py. The results are in alitok_lite/results/.
"""

from .rows import RESULTS, ROWS
