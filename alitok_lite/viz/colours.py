"""What colours mean, in notebooks, pages and app: one colour for each kind of tokenizer, wherever it is drawn.

Okabe and Ito's colours, and three of Tol's, which colour-blind people can tell apart.
"""

import re
from collections.abc import Sequence

BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
)
INK, PALE, PLAIN = "#222222", "#E4E4E0", "#7A8794"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)  # for things that are no tokenizers and carry their own names

CONVENTIONAL, CAUSAL, WITH_PREFIX, STAGE_2 = BLUE, ORANGE, GREEN, PURPLE
TOKENS = YELLOW  # tokens and their codes, in drawings of ideas; prefix tokens are WITH_PREFIX
OTHERS = (SKY, RED, "#999933", "#882255", PLAIN, INK)  # for what is none of these kinds
KINDS = (  # what a name says, the first that fits
    (r"causal.encoder", ""),
    (r"stage 2|second stage|^F:", STAGE_2),
    (r"with prefix|^prefix( tokens?)?$|stage 1|^[CD]:", WITH_PREFIX),
    (r"conventional|bidirectional|baseline|^A\b", CONVENTIONAL),
    (r"causal|noprefix|^B\b", CAUSAL),
)


def colour_of(name: str) -> str:
    """The colour of the kind of tokenizer that a name names; empty for another name."""
    return next((colour for pattern, colour in KINDS if re.search(pattern, name)), "")


def colours(names: Sequence[str]) -> list[str]:
    """A colour for each name, all different while there are enough: its kind's, or the next of OTHERS."""
    found, free = [], list(OTHERS * (1 + len(names) // len(OTHERS)))
    for name in names:
        kind = colour_of(name)
        found.append(kind if kind and kind not in found else free.pop(0))
    return found
