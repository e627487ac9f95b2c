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
from typing import NamedTuple

import numpy as np
from PIL import Image

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

STYLE = """
#head h1 {font-size: clamp(17px, 4.3vw, 30px)}
#head {align-items: center; flex-wrap: nowrap}
#status, #result, #unsure {[data-testid="status-tracker"] {display: none}}
.al-about code {white-space: normal; overflow-wrap: anywhere}
#tour {border-left: 5px solid var(--color-accent); padding: 4px 10px 10px}
.al-row {display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, var(--least)), 1fr)); gap: 0 18px}
.al-row > figure {max-width: var(--most); min-width: 0; margin: 0 0 14px; display: grid; grid-row: span 2;
  grid-template-rows: subgrid; align-content: start}
.al-row > figure > :last-child {align-self: start}
.al figcaption {margin: 0 0 6px; font-size: 15px; line-height: 1.35; color: var(--body-text-color)}
.al figcaption small {display: block; font-size: 13px; color: var(--body-text-color-subdued)}
.al h4 {margin: 18px 0 8px; font-size: 16px; color: var(--body-text-color)}
.al h4:first-child {margin-top: 2px}
.al .wide {max-width: 100%}
.al img.picture {width: 100%; display: block; border-radius: 8px; margin: 0}
.al-board {display: grid; grid-template-columns: repeat(var(--n), 1fr); gap: 2px; position: relative;
  container-type: inline-size; padding: 3px}
.al-board > img {width: 100%; height: 100%; margin: 0; border-radius: 4px; display: block; min-width: 0; min-height: 0}
.al-board.dim > img {filter: grayscale(1) brightness(.55)}
.al-board b {aspect-ratio: 1; min-width: 0; display: flex; align-items: center; justify-content: center;
  border-radius: 3px; z-index: 1; font-weight: 600; font-variant-numeric: tabular-nums; overflow: hidden;
  font-size: calc(100cqw / var(--n) * var(--size, .3)); line-height: 1}
.al-board b.blank {background: color-mix(in srgb, var(--body-text-color) 9%, transparent)}
.al-board b.prefix {margin-bottom: 18%; aspect-ratio: 1; border-radius: 30%}
.al-board.overlay b.image {outline: 1px solid rgb(255 255 255 / .28)}
.al-board b.here {outline: 3px solid #D55E00 !important; box-shadow: 0 0 0 5px #fff; z-index: 3}
.al-board b.here.asks {outline-style: dashed !important}
.al-pick .al-board b {cursor: pointer}
.al-pick .al-board b:hover {outline: 3px solid var(--color-accent) !important; z-index: 2}
.al-pick:focus-visible {outline: 3px solid var(--color-accent); outline-offset: 3px; border-radius: 8px}
.al-scale {display: flex; align-items: center; gap: 8px; margin-top: 8px; font-size: 13px;
  color: var(--body-text-color); font-variant-numeric: tabular-nums}
.al-scale i {flex: 1; height: 10px; border-radius: 5px}
.al-compare {position: relative; border-radius: 8px; overflow: hidden; line-height: 0}
.al-compare img {width: 100%; display: block; margin: 0}
.al-compare img.over {position: absolute; inset: 0; height: 100%; clip-path: inset(0 calc(100% - var(--cut)) 0 0)}
.al-compare::after {content: ""; position: absolute; top: 0; bottom: 0; left: calc(var(--cut) - 1.5px); width: 3px;
  background: #fff; box-shadow: 0 0 4px rgb(0 0 0 / .6); pointer-events: none}
.al-compare::before {content: "\\2194"; position: absolute; top: 50%; left: var(--cut); z-index: 2; width: 34px;
  height: 34px; margin: -17px 0 0 -17px; border-radius: 50%; background: #fff; color: #222; font-size: 20px;
  line-height: 32px; text-align: center; box-shadow: 0 0 4px rgb(0 0 0 / .6); pointer-events: none}
.al-compare input {position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize;
  touch-action: pan-y; z-index: 3}
.al-compare:has(input:focus-visible) {outline: 3px solid var(--color-accent); outline-offset: 2px}
.al-ends {display: flex; justify-content: space-between; font-size: 13px; color: var(--body-text-color-subdued);
  margin-top: 4px}
.al-bars {display: grid; grid-template-columns: minmax(90px, max-content) 1fr; gap: 7px 12px; align-items: center;
  font-size: 14px; color: var(--body-text-color)}
.al-bars span {min-width: 0; overflow-wrap: anywhere}
.al-bars div {display: flex; align-items: center; gap: 8px; min-width: 0}
.al-bars i {height: 20px; border-radius: 4px; flex: 0 0 auto; min-width: 2px; max-width: calc(100% - 76px)}
@media (max-width: 640px) {
  .al-row {column-gap: 9px}
  .al-bars {grid-template-columns: 1fr; gap: 2px}
  .al-bars div {margin-bottom: 7px}
}
.al-note {font-size: 14px; color: var(--body-text-color-subdued); margin: 8px 0 0}
"""


def gradient_colour(share: float) -> tuple[int, int, int]:
    """Viridis at 0..1, which is clipped; the darkest colour for NaN."""
    place = (min(max(share, 0.0), 1.0) if share == share else 0.0) * (len(_VIRIDIS) - 1)
    index = min(int(place), len(_VIRIDIS) - 2)
    low, high, part = _VIRIDIS[index], _VIRIDIS[index + 1], place - index
    return tuple(round(a + (b - a) * part) for a, b in zip(low, high, strict=True))


def id_colour(id_: int) -> tuple[int, int, int]:
    """A light colour for an id; neighbouring ids get distant hues."""
    import colorsys

    return tuple(round(255 * v) for v in colorsys.hls_to_rgb(id_ * 0.618034 % 1, 0.8, 0.55))


def _on(colour: Sequence[int]) -> str:
    """Black or white, whichever reads better on a colour."""
    return "#111" if colour[0] * 0.299 + colour[1] * 0.587 + colour[2] * 0.114 > 125 else "#fff"


def data_uri(picture: Image.Image) -> str:
    """A picture as the address of itself."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


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
    """Tokens where they stand: G x G image tokens, above them the prefix tokens if `cells` has 1 + G more.

    Each prefix token stands over the column that it sketches, that of the corner at the left.
    """
    prefix = len(cells) - grid * grid
    shift = 1 if prefix else 0
    parts = [] if look.picture is None else [_beneath(look.picture, grid, shift)]
    for token, cell in enumerate(cells):
        row, column = (0, token) if token < prefix else divmod(token - prefix, grid)
        if token >= prefix:
            row, column = row + shift, column + shift
        kind = "prefix" if token < prefix else "image"
        if token == look.marked:
            kind += " here" + " asks" * look.asks
        style = f"grid-area:{row + 1}/{column + 1}"
        if cell.colour is not None:
            paint = "rgb({} {} {}/{:.2f})".format(*cell.colour, cell.alpha)
            behind = token < prefix and cell.alpha < 1  # no picture lies there
            style += f";background:linear-gradient({paint} 0 0),#3a3a3a" if behind else f";background:{paint}"
            style += f";color:{_on(cell.colour) if cell.alpha > 0.5 else '#fff'}"
        elif look.picture is None or token < prefix:
            kind += " blank"
        parts.append(f'<b class="{kind}" data-token="{token}" style="{style}">{escape(cell.text)}</b>')
    shown = "al-board" + " overlay" * (look.picture is not None) + " dim" * look.dim
    style = f"--n:{grid + shift};--size:{look.size}"
    return f'<div class="{shown}" role="img" aria-label="{escape(alt)}" style="{style}">{"".join(parts)}</div>'


def _beneath(picture: Image.Image, grid: int, shift: int) -> str:
    area = f"{1 + shift}/{1 + shift}/{1 + shift + grid}/{1 + shift + grid}"
    return f'<img alt="" src="{data_uri(picture)}" style="grid-area:{area}">'


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
        cells.append(Cell(text, gradient_colour(share), 0.95 * min(max(share, 0), 1) ** 0.4 if over else 1.0))
    return cells


def scale(top: float, unit: str, form: str = "{:.1f}", low: str = "0") -> str:
    """The legend of `heat`."""
    bar = f'<i style="background:linear-gradient(90deg, {GRADIENT})"></i>'
    return f'<div class="al-scale"><span>{low}</span>{bar}<span>{form.format(top)} {escape(unit)}</span></div>'


def figure(content: str, caption: str = "", note: str = "") -> str:
    """Content with a caption above it and a smaller note behind that."""
    small = f"<small>{escape(note)}</small>" if note else ""
    return f"<figure><figcaption>{escape(caption)}{small}</figcaption><div>{content}</div></figure>"


def image(picture: Image.Image, alt: str, wide: bool = False) -> str:
    """A picture, as wide as there is room."""
    return f'<img class="picture{" wide" * wide}" alt="{escape(alt)}" src="{data_uri(picture)}">'


def row(figures: Sequence[str], least: int = 190, most: int = 330) -> str:
    """Figures side by side, or below each other where there is no room for `least` pixels each."""
    return f'<div class="al-row" style="--least:{least}px;--most:{most}px">{"".join(figures)}</div>'


def page(*parts: str) -> str:
    """Parts below each other, in the app's style."""
    return f'<div class="al">{"".join(parts)}</div>'


def heading(text: str) -> str:
    """A line above a row of figures."""
    return f"<h4>{escape(text)}</h4>"


def note(text: str) -> str:
    """A sentence in small print."""
    return f'<p class="al-note">{escape(text)}</p>'


def compare(left: Image.Image, right: Image.Image, names: tuple[str, str]) -> str:
    """A slider between two pictures of one size: it shows `left` up to the handle; works with arrow keys too."""
    first, second = (escape(name) for name in names)
    move = "this.parentNode.style.setProperty('--cut', this.value + '%')"
    return (
        f'<div class="al-compare" style="--cut:50%"><img alt="{second}" src="{data_uri(right)}">'
        f'<img class="over" alt="{first}" src="{data_uri(left)}">'
        f'<input type="range" min="0" max="100" value="50" oninput="{move}"'
        f' aria-label="How much of the left picture is shown: {first} or {second}"></div>'
        f'<div class="al-ends"><span>{first}</span><span>{second}</span></div>'
    )


def bars(named: dict[str, float], unit: str, form: str = "{:.0f}", colour: str = "#0072B2") -> str:
    """Numbers from 0 up, one bar below the other."""
    top, lines = max([*named.values(), 1e-9]), []
    for name, value in named.items():
        text = f"{form.format(value)} {escape(unit)}"
        width = f"calc((100% - 84px) * {max(value, 0) / top:.4f})"
        lines.append(f'<span>{escape(name)}</span><div><i style="width:{width};background:{colour}"></i>{text}</div>')
    words = ", ".join(f"{name} {form.format(value)} {unit}" for name, value in named.items())
    return f'<div class="al-bars" role="img" aria-label="{escape(words)}">{"".join(lines)}</div>'


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
        f"{selector} .wrap {{display: grid; gap: 6px; grid-template-columns: repeat(auto-fill, minmax({least}, 1fr))}}",
        f"{selector} label {{flex-direction: column; gap: 2px; padding: 3px 3px 5px; min-width: 0}}",
        f"{selector} label span {{margin: 0; font-size: 11px; letter-spacing: -.02em; line-height: 1.15;"
        " max-width: 100%; text-align: center; overflow-wrap: anywhere}",
        f"{narrow} {{{selector} label {{padding: 2px 2px 4px}}",
        f"{selector} label span {{font-size: 10px; letter-spacing: -.03em}}}}",
        f"{selector} input {{position: absolute; opacity: 0}}",
        f"{selector} label:focus-within {{outline: 3px solid var(--color-accent); outline-offset: 1px}}",
        f"{selector} label::before {{content: ''; width: 100%; aspect-ratio: 1; border-radius: 6px;"
        f" background: {url} 0 0 / {len(names)}00% 100%}}",
    ]
    for index in range(len(names)):
        where = 100 * index / max(1, len(names) - 1)
        rules.append(f"{selector} label:nth-of-type({index + 1})::before {{background-position-x: {where:.3f}%}}")
    return "<style>" + "\n".join(rules) + "</style>"


# For the component that shows a picker: a click on a cell, or an arrow key, gives its token.
PICK = """
element.tabIndex = 0;
element.setAttribute('role', 'group');
element.setAttribute('aria-label', 'Click a patch, or move with the arrow keys');
element.addEventListener('click', event => {
  const cell = event.target.closest('.al-pick [data-token]');
  if (cell) trigger('click', {token: Number(cell.dataset.token)});
});
element.addEventListener('keydown', event => {
  const board = element.querySelector('.al-pick'), here = element.querySelector('.al-pick .here');
  if (!here) return;
  const grid = Number(board.dataset.grid), tokens = Number(board.dataset.tokens);
  const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid, ArrowDown: grid}[event.key];
  if (!step) return;
  event.preventDefault();
  const token = Number(here.dataset.token) + step;
  if (token >= 0 && token < tokens) trigger('click', {token});
});
"""

# For the head of the page, so that it listens before anything can be pressed: arrow keys choose within a group of
# radio buttons, as everywhere else on the web.
KEYS = """<script>document.addEventListener('keydown', event => {
  const step = {ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1}[event.key];
  if (!step || event.target.type !== 'radio') return;
  const all = [...event.target.closest('.wrap').querySelectorAll('input[type=radio]')];
  const next = all[(all.indexOf(event.target) + step + all.length) % all.length];
  event.preventDefault();
  next.focus();
  next.click();
})</script>"""
