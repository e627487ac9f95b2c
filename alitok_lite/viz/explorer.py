"""A viewer of attention and dependency with buttons, for notebooks."""

import io
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from ..core.config import TokenizerConfig
from ..measure import probe
from ..measure.probe import token_name
from ..model import AliTok
from .colours import PALE, RED, SKY
from .looks import Look, attention_beside_dependency
from .maps import PART_NAMES, attention
from .panels import rgb, to_png

if TYPE_CHECKING:
    import ipywidgets

STAGES = {"causal": 1, "bidirectional": 2}


class Seen:
    """What one picture (1, 3, S, S) shows of a model; dependency is measured when it is first needed."""

    def __init__(self, model: AliTok, pixels: Tensor, label: int | None) -> None:
        self.config, self.pixels = model.tokenizer.config, pixels
        self.maps = probe.attention_of(model, pixels, label)
        self._tokenizer, self._moves = model.tokenizer, {}

    def moves(self, part: str) -> Tensor:
        """The dependency map (T, G*G) of a decoder on this picture: the mean over three other codes for each token."""
        if part not in self._moves:
            found = [probe.dependency_map(self._tokenizer, self.pixels, STAGES[part], seed=seed) for seed in range(3)]
            self._moves[part] = sum(found) / len(found)
        return self._moves[part]

    def png(self, name: str, part: str, layer: int, head: int | None, token: int) -> bytes:
        """The figure: of a decoder and an image token attention beside dependency, else attention alone."""
        weights, patch = self.maps[part][layer], token - self.config.prefix_tokens
        if part in STAGES and patch >= 0:
            look = Look(weights, self.moves(part), self.config, part)
            return to_png(attention_beside_dependency({f"{name}, {PART_NAMES[part]}": look}, patch, head))
        return to_png(attention(self.pixels, weights, self.config, part, token, head))


def attention_explorer(
    models: AliTok | dict[str, AliTok], pixels: Tensor, label: int | None = None
) -> "ipywidgets.VBox":
    """An ipywidgets viewer of one picture (1, 3, S, S): choose tokenizer, part, layer, head, and a token by a click on
    the picture. models: name -> model. `attention_beside_dependency` and `attention` draw the same without a kernel."""
    import ipywidgets as widgets  # only notebooks have it running

    named = models if isinstance(models, dict) else {"this model": models}
    controls = _Controls({name: Seen(model, pixels, label) for name, model in named.items()})
    left = widgets.VBox(controls.all, layout={"flex": "0 0 auto"})
    return widgets.VBox([widgets.HBox([left, controls.clicks]), controls.figure])


class _Controls:
    """The widgets of the explorer, and what a change of each does to the others."""

    def __init__(self, seen: dict[str, Seen]) -> None:
        import ipywidgets as widgets

        self.seen, first = seen, next(iter(seen.values()))
        self.tokenizer = widgets.Dropdown(options=list(seen), description="tokenizer")
        self.part = widgets.Dropdown(options=_parts(first), description="part")
        self.layer = widgets.IntSlider(max=0, description="layer")
        self.head = widgets.Dropdown(options=_heads(first.maps[self.part.value]), description="head")
        prefix, tokens = first.config.prefix_tokens, first.config.tokens
        self.token = widgets.IntSlider(prefix, 0, tokens - 1, description="token")
        look = {"width": "auto", "max_width": "100%", "align_self": "flex-start"}
        self.figure = widgets.Image(format="png", layout=look)
        self.clicks = widgets.Box([_clickable(first.pixels, first.config, self.token)])
        self.all = [self.tokenizer, self.part, self.layer, self.head, self.token]
        self.fit()
        self.show()
        self.tokenizer.observe(self.change, "value")
        self.part.observe(self.fit, "value")
        for control in self.all[1:]:
            control.observe(self.show, "value")

    def show(self, _: object = None) -> None:
        name, head = self.tokenizer.value, None if self.head.value < 0 else self.head.value
        self.figure.value = self.seen[name].png(name, self.part.value, self.layer.value, head, self.token.value)

    def fit(self, _: object = None) -> None:
        """Parts differ in layers and heads."""
        layers = self.seen[self.tokenizer.value].maps[self.part.value]
        self.layer.max = len(layers) - 1
        if self.head.options != _heads(layers):
            self.head.options = _heads(layers)

    def change(self, change: dict) -> None:
        """Another tokenizer has other parts and perhaps no prefix; the patch stays."""
        old, new = self.seen[change["old"]].config, self.seen[change["new"]]
        patch, kept, parts = max(self.token.value - old.prefix_tokens, 0), self.part.value, _parts(new)
        for control in self.all[1:]:
            control.unobserve(self.show, "value")
        self.part.options = parts
        self.part.value = kept if kept in dict(parts).values() else "bidirectional"
        self.token.max = new.config.tokens - 1
        self.token.value = new.config.prefix_tokens + patch
        self.clicks.children = [_clickable(new.pixels, new.config, self.token)]
        self.fit()
        for control in self.all[1:]:
            control.observe(self.show, "value")
        self.show()


def _parts(seen: Seen) -> tuple[tuple[str, str], ...]:
    """The parts of a model that can be chosen, by their names."""
    return tuple((PART_NAMES[name], name) for name in seen.maps)


def _heads(layers: list[Tensor]) -> tuple[tuple[str, int], ...]:
    """What the explorer offers as heads; -1 is their mean."""
    return (("mean of the heads", -1), *((f"head {i}", i) for i in range(len(layers[0]))))


def _clickable(pixels: Tensor, config: TokenizerConfig, token: "ipywidgets.IntSlider") -> "ipywidgets.VBox":
    """The picture under a transparent button for each patch, the prefix tokens above it; a click sets the slider, and
    the slider marks its button."""
    import ipywidgets as widgets

    prefix, grid = config.prefix_tokens, config.grid
    side = 44 if grid <= 5 else 176 // grid
    buttons = []
    for index in range(config.tokens):
        look = {"width": f"{side}px", "height": f"{side}px", "padding": "0", "margin": "0", "min_width": "0"}
        text = f"p{index}" if index < prefix and grid <= 8 else ""
        button = widgets.Button(description=text, tooltip=token_name(config, index), layout=look)
        button.style.button_color = SKY if index < prefix else "transparent"
        button.on_click(lambda _, index=index: setattr(token, "value", index))
        buttons.append(button)

    def mark(_: object = None) -> None:
        for index, button in enumerate(buttons):
            button.layout.border = f"3px solid {RED}" if index == token.value else f"1px solid {PALE}"

    mark()
    token.observe(mark, "value")
    place = {"grid_area": "picture", "width": f"{side * grid}px", "height": f"{side * grid}px", "margin": "0"}
    columns = {"grid_template_columns": f"repeat({grid}, {side}px)", "grid_gap": "0px"}
    picture = widgets.Image(value=_enlarged(pixels, side * grid), format="png", layout=place)
    cells = widgets.GridBox(buttons[prefix:], layout=place | columns)
    corner = f"0 0 0 {side if prefix else 0}px"  # the corner's prefix token stands left of the picture
    both = widgets.GridBox([picture, cells], layout={"grid_template_areas": '"picture"', "margin": corner})
    strip = [widgets.HBox(buttons[:prefix], layout={"margin": "0 0 8px 0"})] if prefix else []
    return widgets.VBox([*strip, both], layout={"margin": "0 0 0 24px"})


def _enlarged(pixels: Tensor, side: int) -> bytes:
    """A picture as a PNG file of that many pixels a side."""
    file = io.BytesIO()
    picture = Image.fromarray((255 * rgb(pixels)).round().astype("uint8"))
    picture.resize((side, side), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()
