"""The GPU that a ZeroGPU Space lends for a call: which calls need it, and for how long.

A visitor has a few GPU minutes a day, and a shorter request is served sooner. Small models therefore stay on the CPU,
where they answer in a second, and larger ones ask for what the call is estimated to take.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial, wraps
from urllib.parse import parse_qsl

from ..machine import borrowed_gpu
from . import models

START = 10.0  # seconds until a borrowed GPU has the weights
TOKEN_LAYER = 0.002  # seconds that one layer of the AR model takes for a token, without recorded steps, with its frames
MOST = 120.0


def _about(name: str, arguments: tuple) -> str | None:
    """The model that a call of the function of this name is about; None: all models that know scenes."""
    first = arguments[0] if arguments else None
    if name in ("tell", "predict") or not isinstance(first, str):
        return None
    return dict(parse_qsl(first)).get("model", "") if name == "animation" else first


def seconds(name: str, *arguments: object) -> float:
    """An estimate of the GPU time of a call of the function of this name: drawing takes its steps."""
    card = models.models().get(_about(name, arguments) or "")
    if card is None or card.ar is None or name not in ("draw", "animation", "edit", "complete"):
        return START
    return min(MOST, START + card.config.tokens * card.ar.depth * TOKEN_LAYER)


def _needs_gpu(name: str, arguments: tuple) -> bool:
    """Whether a call is about a large model."""
    about = _about(name, arguments)
    if about is None:
        return not all(models.is_small(each) for each, card in models.models().items() if card.knows_scenes)
    return about in list(models.models()) and not models.is_small(about)


def on_gpu(function: Callable) -> Callable:
    """Borrow a GPU for each call of the function that needs one, where the platform lends them."""
    if not borrowed_gpu():
        return function
    import spaces  # only there

    name = function.__name__
    borrowing = spaces.GPU(duration=partial(seconds, name))(function)

    @wraps(function)
    def call(*arguments: object) -> object:
        return (borrowing if _needs_gpu(name, arguments) else function)(*arguments)

    @wraps(function)
    def stream(*arguments: object) -> Iterator:
        yield from (borrowing if _needs_gpu(name, arguments) else function)(*arguments)

    return stream if inspect.isgeneratorfunction(function) else call
