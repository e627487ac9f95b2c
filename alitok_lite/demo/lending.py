"""The GPU that a ZeroGPU Space lends for a call: which calls need it, and for how long.

A visitor has a few GPU minutes a day, and a shorter request is served sooner. Small models therefore stay on the CPU,
where they answer in a second, and larger ones ask for what the call is estimated to take.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps

from ..machine import borrowed_gpu
from . import models

START = 10.0  # seconds until a borrowed GPU has the weights
TOKEN_LAYER = 0.002  # seconds that one layer of the AR model takes for a token, without recorded steps, with its frames
REST = 3.0  # seconds that slow motion rests in all
MOST = 120.0


def seconds(*arguments: object) -> float:
    """An estimate of the GPU time of one of the page's calls, from its arguments: the model first; `draw` has seven."""
    name = arguments[0] if arguments else None
    card = models.models().get(name) if isinstance(name, str) else None
    if card is None or card.ar is None or len(arguments) != 7:
        return START
    drawing = card.config.tokens * card.ar.depth * TOKEN_LAYER
    return min(MOST, START + drawing + REST * bool(arguments[-1]))


def _needs_gpu(arguments: tuple) -> bool:
    """Whether a call is about a large model. The first argument names it, unless it is the only one: then the call is
    about all models that know scenes."""
    if len(arguments) == 1:
        return not all(models.is_small(name) for name, card in models.models().items() if card.knows_scenes)
    return arguments[0] in list(models.models()) and not models.is_small(arguments[0])


def on_gpu(function: Callable) -> Callable:
    """Borrow a GPU for each call of the function that needs one, where the platform lends them."""
    if not borrowed_gpu():
        return function
    import spaces  # only there

    borrowing = spaces.GPU(duration=seconds)(function)

    @wraps(function)
    def call(*arguments: object) -> object:
        return (borrowing if _needs_gpu(arguments) else function)(*arguments)

    @wraps(function)
    def stream(*arguments: object) -> Iterator:
        yield from (borrowing if _needs_gpu(arguments) else function)(*arguments)

    return stream if inspect.isgeneratorfunction(function) else call
