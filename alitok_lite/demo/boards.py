"""What the app shows, as HTML: boards of tokens, rows of pictures, a slider between two pictures, bars.

HTML follows the width of a phone, the dark theme and the keyboard, and needs no file for each frame. Nothing here
takes a visitor's text: words come from the package, pictures go in as data URIs.
"""

import base64
import io
import math
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..measure.board import overlay_opacity, token_cell

_VIRIDIS = (  # nine samples of matplotlib's map, which is not worth importing for them
    (68, 1, 84),
    (71, 44, 122),
    (59, 81, 139),
    (44, 113, 142),
    (33, 144, 141),
    (39, 173, 129),
    (92, 200, 99),
    (170, 220, 50),
    (253, 231, 37),
)
GRADIENT = ", ".join(f"rgb({r} {g} {b})" for r, g, b in _VIRIDIS)

PAGE_STYLE = Path(__file__).with_name("page.css").read_text("utf-8")


def gradient_colour(share: float) -> tuple[int, int, int]:
    """Viridis at 0..1, which is clipped; the darkest colour for NaN."""
    place = (0.0 if math.isnan(share) else min(max(share, 0.0), 1.0)) * (len(_VIRIDIS) - 1)
    index = min(int(place), len(_VIRIDIS) - 2)
    low, high, part = _VIRIDIS[index], _VIRIDIS[index + 1], place - index
    return tuple(round(a + (b - a) * part) for a, b in zip(low, high, strict=True))


def id_colour(id_: int) -> tuple[int, int, int]:
    """A light colour for an id; neighbouring ids get distant hues."""
    import colorsys

    return tuple(round(255 * v) for v in colorsys.hls_to_rgb(id_ * 0.618034 % 1, 0.8, 0.55))


def _luminance(colour: Sequence[int]) -> float:
    """Relative luminance as WCAG 2 defines it, 0 to 1."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _on(colour: Sequence[int]) -> str:
    """Near black or white, whichever has more contrast on a colour: at least 4.5 : 1 on every one."""
    return "#000" if _luminance(colour) > 0.179 else "#fff"


def data_uri(picture: Image.Image) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def tag(name: str, *content: str, **attributes: object) -> str:
    """An HTML element: its content, which is HTML already, and its attributes, which are escaped here.

    `aria_label` becomes aria-label, `class_` class; None leaves an attribute out.
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    start = "".join(f' {key}="{escape(str(value))}"' for key, value in given.items())
    if name in ("img", "input"):  # they have no end
        return f"<{name}{start}>"
    return f"<{name}{start}>{''.join(content)}</{name}>"


MOST_SAID = 100  # cells of a board, up to which a screen reader is given their values


class Cell(NamedTuple):
    """One token of a board."""

    text: str = ""
    colour: tuple[int, int, int] | None = None  # none: pale, or the picture beneath
    alpha: float = 1.0


class Look(NamedTuple):
    """How a board is shown."""

    picture: Image.Image | None = None  # beneath the image tokens
    dim: bool = False  # the picture in dark grey, on which colours shine
    marked: int | None = None  # the token with a red frame
    asks: bool = False  # the frame is dashed: the token only belongs there
    size: float = 0.3  # of the text, in cells


def board(cells: Sequence[Cell], grid: int, alt: str, look: Look = Look()) -> str:  # noqa: B008 (a constant)
    """Tokens where they stand: G x G image tokens, above them the prefix tokens if `cells` has 1 + G more."""
    prefix = len(cells) - grid * grid
    strip = 1 if prefix else 0  # rows and columns that the prefix takes
    classes = ["al-board"]
    parts = []
    if look.picture is not None:
        classes.append("overlay")
        area = f"{1 + strip}/{1 + strip}/{1 + strip + grid}/{1 + strip + grid}"
        parts.append(tag("img", alt="", src=data_uri(look.picture), style=f"grid-area:{area}"))
    if look.dim:
        classes.append("dim")
    for token, cell in enumerate(cells):
        row, column = token_cell(token, prefix, grid)
        area = f"grid-area:{row + 1 + strip}/{column + 1 + strip}"
        parts.append(_token(token, cell, area, row < 0, look))
    if any(cell.text for cell in cells) and len(cells) <= MOST_SAID:
        alt += ": " + ", ".join(cell.text or "nothing" for cell in cells)
    style = f"--n:{grid + strip};--size:{look.size}"
    return tag("div", *parts, class_=" ".join(classes), role="img", aria_label=alt, style=style)


def _token(token: int, cell: Cell, area: str, prefix: bool, look: Look) -> str:
    """The cell of one token; `area` is its place in CSS."""
    classes = ["prefix" if prefix else "image"]
    styles = [area]
    if token == look.marked:
        classes.append("here")
        if look.asks:
            classes.append("asks")
    if cell.colour is not None:
        paint = "rgb({} {} {}/{:.2f})".format(*cell.colour, cell.alpha)
        if prefix and cell.alpha < 1:  # no picture lies there
            paint = f"linear-gradient({paint} 0 0),#3a3a3a"
        styles += [f"background:{paint}", f"color:{_on(cell.colour) if cell.alpha > 0.5 else '#fff'}"]
    elif look.picture is None or prefix:
        classes.append("blank")
    return tag("b", escape(cell.text), class_=" ".join(classes), data_token=token, style=";".join(styles))


def heat(values: np.ndarray, top: float, form: str = "{:.1f}", over: bool = False, least: float = 0.0) -> list[Cell]:
    """Values of tokens (T,) as cells, coloured from 0 to `top`; NaN is pale.

    `over` lets a picture shine through low values. Numbers below `least` are not written.
    """
    cells = []
    for value in values.tolist():
        if math.isnan(value):
            cells.append(Cell())
            continue
        share = value / top if top > 0 else 0.0
        text = form.format(value) if value >= least else ""
        cells.append(Cell(text, gradient_colour(share), float(overlay_opacity(share)) if over else 1.0))
    return cells


def scale(top: float, unit: str, form: str = "{:.1f}", low: str = "0") -> str:
    """The legend of `heat`."""
    bar = tag("i", style=f"background:linear-gradient(90deg, {GRADIENT})")
    ends = tag("span", low), tag("span", f"{form.format(top)} {escape(unit)}")
    return tag("div", ends[0], bar, ends[1], class_="al-scale")


def figure(content: str, caption: str = "", note: str = "") -> str:
    """Content with a caption above it and a smaller note behind that."""
    small = tag("small", escape(note)) if note else ""
    return tag("figure", tag("figcaption", escape(caption), small), tag("div", content))


def image(picture: Image.Image, alt: str, wide: bool = False) -> str:
    """A picture, as wide as there is room."""
    return tag("img", class_="picture wide" if wide else "picture", alt=alt, src=data_uri(picture))


def row(figures: Sequence[str], least: int = 190, most: int = 330) -> str:
    """Figures side by side, or below each other where there is no room for `least` pixels each."""
    return tag("div", *figures, class_="al-row", style=f"--least:{least}px;--most:{most}px")


def page(*parts: str) -> str:
    """Parts below each other, in the app's style."""
    return tag("div", *parts, class_="al")


def heading(text: str) -> str:
    """A line above a row of figures."""
    return tag("h4", escape(text))


def note(text: str) -> str:
    """A sentence in small print."""
    return tag("p", escape(text), class_="al-note")


def compare(left: Image.Image, right: Image.Image, names: tuple[str, str]) -> str:
    """A slider between two pictures of one size: it shows `left` up to the handle; works with arrow keys too."""
    first, second = names
    move = "this.parentNode.style.setProperty('--cut', this.value + '%')"
    label = f"How much of the left picture is shown: {first} or {second}"
    pictures = (
        tag("img", alt=second, src=data_uri(right)),
        tag("img", class_="over", alt=first, src=data_uri(left)),
        tag("input", type="range", min=0, max=100, value=50, oninput=move, aria_label=label),
    )
    ends = (tag("span", escape(name)) for name in names)
    return tag("div", *pictures, class_="al-compare", style="--cut:50%") + tag("div", *ends, class_="al-ends")


def bars(named: dict[str, float], unit: str, form: str = "{:.0f}", colour: str = "#0072B2") -> str:
    """Numbers from 0 up, one bar below the other."""
    top = max([*named.values(), 1e-9])
    lines = []
    for name, value in named.items():
        width = f"calc((100% - 84px) * {max(value, 0) / top:.4f})"
        bar = tag("i", style=f"width:{width};background:{colour}")
        lines += [tag("span", escape(name)), tag("div", bar, f"{form.format(value)} {escape(unit)}")]
    words = ", ".join(f"{name} {form.format(value)} {unit}" for name, value in named.items())
    return tag("div", *lines, class_="al-bars", role="img", aria_label=words)


@lru_cache(maxsize=16)
def thumbnail_style(selector: str, names: tuple[str, ...], strip: bytes, least: str = "max(58px, 12.5%)") -> str:
    """A style element that turns the labels of a radio group into tiles with pictures.

    strip: a WEBP of one square for each name, side by side; empty makes plain words. least: width of a tile in CSS,
    by default such that seven fit on a desk and five on a phone.
    """
    if not strip:
        return "<style></style>"
    url = f"url(data:image/webp;base64,{base64.b64encode(strip).decode()})"
    narrow = "@media (max-width: 500px)"
    rules = [
        f"{selector} .wrap {{display: grid; gap: 4px; grid-template-columns: repeat(auto-fill, minmax({least}, 1fr))}}",
        f"{selector} label {{flex-direction: column; gap: 2px; padding: 3px 0 5px; min-width: 0}}",
        f"{selector} label span {{margin: 0; font-size: 12px; letter-spacing: -.03em; line-height: 1.15;"
        " max-width: 100%; text-align: center; overflow-wrap: anywhere}",
        f"{narrow} {{{selector} label {{padding: 2px 0 4px}}",
        f"{selector} label span {{font-size: 11px; letter-spacing: -.03em}}}}",
        f"{selector} input {{position: absolute; opacity: 0}}",
        f"{selector} label:focus-within {{outline: 3px solid var(--color-accent); outline-offset: 1px}}",
        f"{selector} label::before {{content: ''; width: calc(100% - 6px); aspect-ratio: 1; border-radius: 6px;"
        f" background: {url} 0 0 / {len(names)}00% 100%}}",
    ]
    for index in range(len(names)):
        where = 100 * index / max(1, len(names) - 1)
        rules.append(f"{selector} label:nth-of-type({index + 1})::before {{background-position-x: {where:.3f}%}}")
    return "<style>" + "\n".join(rules) + "</style>"


# For the component that shows a picker: a click on a cell, or an arrow key, gives its token.
PICK_SCRIPT = Path(__file__).with_name("pick.js").read_text("utf-8")

# For the head of the page, so that they listen before anything can be pressed.
_SCRIPTS = ("page.js", "player.js", "links.js")
SCRIPTS = "".join(f"<script>{Path(__file__).with_name(name).read_text('utf-8')}</script>" for name in _SCRIPTS)
