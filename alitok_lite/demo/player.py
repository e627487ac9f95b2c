"""Frames that the page plays by itself: all of them in one picture, and the buttons to pause, step and search.

The server makes the frames at full speed and sends them at once; player.js shows them. So nobody's showing time is
the server's time.
"""

import base64
import io
import json
import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from PIL import Image

from .boards import tag

SPEEDS = (0.25, 0.5, 1, 2, 4)
KINDS = ("gif", "webp")  # of an animation


class Counter(NamedTuple):
    """A number that runs with the frames."""

    label: str
    values: Sequence[float]  # one for each frame
    alarm: bool = False  # red from 1 up


class Side(NamedTuple):
    """One of the pictures that are played together."""

    title: str
    note: str
    frames: Sequence[Image.Image]  # of one size
    counters: Sequence[Counter] = ()
    outlined: Sequence[Sequence[int]] | None = None  # numbers of patches for each frame; None: the picture alone
    grid: int = 1  # patches in a row
    untold: Sequence[Sequence[int]] = ()  # patches that are faded in each frame


class Play(NamedTuple):
    """How frames are played."""

    steps: Sequence[int]  # how many tokens each frame has
    wait: int = 150  # milliseconds for a frame
    loop: bool = False
    said: str = ""  # what is announced at the end


def sprite(frames: Sequence[Image.Image]) -> tuple[str, int]:
    """All frames in one WEBP without loss, as a data URI, and how many stand side by side."""
    width, height = frames[0].size
    columns = math.ceil(math.sqrt(len(frames)))
    paper = Image.new("RGB", (columns * width, math.ceil(len(frames) / columns) * height))
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        paper.paste(frame, (column * width, row * height))
    buffer = io.BytesIO()
    paper.save(buffer, "WEBP", lossless=True, method=2, quality=20)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(), columns


def player(sides: Sequence[Side], play: Play, beside: str = "") -> str:
    """Pictures that are played together, and the buttons beneath; `beside` is HTML whose boards follow the tokens."""
    figures = "".join(_figure(side, play) for side in sides)
    data = json.dumps({"steps": list(play.steps), "wait": play.wait, "loop": play.loop, "said": play.said})
    row = tag("div", figures, beside, class_="al-sides")
    controls = _controls(play.steps)
    return tag("div", row, controls, class_="al-player", data_play=data, role="group", aria_label="A drawing, played")


def _figure(side: Side, play: Play) -> str:
    picture, columns = sprite(side.frames)
    width, height = side.frames[0].size
    data = {"sprite": picture, "columns": columns, "title": side.title, "outlined": side.outlined}
    data |= {"untold": side.untold, "counters": [list(counter.values) for counter in side.counters]}
    last = ", ".join(f"{counter.values[-1]:g} {counter.label}" for counter in side.counters)
    alt = f"{side.title}, after {play.steps[-1]} tokens" + (f": {last}" if last else "")
    canvas = tag("canvas", width=width, height=height, role="img", aria_label=alt)
    patches = range(side.grid**2 if side.outlined is not None else 0)
    stage = tag("div", canvas, *(tag("i") for _ in patches), class_="al-stage", style=f"--n:{side.grid}")
    counters = [
        tag("span", tag("b", f"{c.values[-1]:g}"), f" {c.label}", class_="alarm" if c.alarm else None)
        for c in side.counters
    ]
    told = tag("div", *counters, class_="al-counters") if counters else ""
    caption = tag("figcaption", escape(side.title), tag("small", escape(side.note)))
    return tag("figure", caption, tag("div", stage, told), class_="al-side", data_side=json.dumps(data))


def _controls(steps: Sequence[int]) -> str:
    """Buttons, a slider over the frames, the speed."""
    named = {"start": ("|◀", "First frame"), "back": ("◀", "One frame back"), "play": ("Play", "Play or pause")}
    named |= {"on": ("▶", "One frame on"), "again": ("↻", "Replay from the start")}
    buttons = [
        tag("button", sign, type="button", data_do=do, aria_label=label, title=label)
        for do, (sign, label) in named.items()
    ]
    last = len(steps) - 1
    slider = tag("input", type="range", min=0, max=last, value=last, aria_label="Frame", class_="al-scrub")
    place = tag("output", f"token {steps[-1]} of {steps[-1]}")
    speeds = [tag("option", f"{x:g} x", value=x, selected="" if x == 1 else None) for x in SPEEDS]
    speed = tag("select", *speeds, aria_label="Speed")
    return tag("div", *buttons, slider, place, speed, class_="al-controls")


def animated(frames: Sequence[Image.Image], kind: str, wait: int = 150, rest: int = 2000) -> bytes:
    """The frames as a file that moves, "gif" or "webp"; it repeats for ever and rests on the last frame, for which each
    takes these milliseconds. ValueError for another kind."""
    if kind not in KINDS:
        raise ValueError(f"the kind of animation is {str(kind)[:40]!r}; it must be one of {', '.join(KINDS)}")
    first, *others = frames
    buffer, waits = io.BytesIO(), [wait] * len(others) + [rest]
    given = {"lossless": True, "method": 2} if kind == "webp" else {"disposal": 1}
    first.save(buffer, kind.upper(), save_all=True, append_images=others, duration=waits, loop=0, **given)
    return buffer.getvalue()
