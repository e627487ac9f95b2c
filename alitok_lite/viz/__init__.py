"""Every figure of the notebooks: functions of tensors that return a matplotlib Figure.

Colours are in colours.py, fonts and boards of tokens in panels.py; nothing else of the package imports this folder.
"""

from ..study.rows import REPORTED
from .colours import CAUSAL, CONVENTIONAL, INK, PLAIN, STAGE_2, WITH_PREFIX, colour_of, colours
from .diagram import pipeline
from .drawings import growing
from .explorer import attention_explorer
from .ideas import drawing, guidance_ramps, next_token_shift, rope_phases, scan_orders, temperatures, two_stages
from .looks import Look, attention_beside_dependency
from .maps import PART_NAMES, attention, attention_heads, dependency_maps, masks
from .misalignment import DECODERS, misalignment, shipped_maps, sources
from .numbers import (
    ablation,
    bars,
    curves,
    data_knob,
    dependence_courses,
    growth_charts,
    plateaus,
    position_maps,
    row_profiles,
    stacked,
    toy_readers,
)
from .panels import to_png
from .queries import latent_queries
from .tokens import auxiliary_target, change_map, codebook_usage, nearest_codes, pictures, rate_charts, token_grid
from .toys import toy_buckets, toy_strips
