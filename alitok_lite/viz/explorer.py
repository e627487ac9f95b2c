"""A viewer of attention with buttons, for notebooks."""

from typing import TYPE_CHECKING

from torch import Tensor

from ..core.config import TokenizerConfig
from ..measure import probe
from ..measure.probe import token_name
from ..model import AliTok
from .maps import PART_NAMES, attention
from .panels import ORANGE, PALE, SKY, to_png

if TYPE_CHECKING:
    import ipywidgets


def attention_explorer(model: AliTok, pixels: Tensor, label: int | None = None) -> "ipywidgets.VBox":
    """An ipywidgets viewer of the attention on one picture (1, 3, S, S): choose part, layer, head and token; a patch is
    chosen by clicking its button. `attention` draws the same figure without a kernel."""
    import ipywidgets as widgets  # only notebooks have it running

    config, maps = model.tokenizer.config, probe.attention_of(model, pixels, label)
    part = widgets.Dropdown(options=[(PART_NAMES[name], name) for name in maps], description="part")
    layer = widgets.IntSlider(max=0, description="layer")
    head = widgets.Dropdown(options=_heads(maps[part.value]), description="head")
    token = widgets.IntSlider(config.prefix_tokens, 0, config.tokens - 1, description="token")
    picture = widgets.Image(format="png", layout={"width": "auto", "max_width": "100%", "align_self": "flex-start"})

    def fit(_: object = None) -> None:
        """Parts differ in layers and heads."""
        layer.max = len(maps[part.value]) - 1
        if head.options != _heads(maps[part.value]):
            head.options = _heads(maps[part.value])

    def show(_: object = None) -> None:
        weights, one = maps[part.value][layer.value], None if head.value < 0 else head.value
        picture.value = to_png(attention(pixels, weights, config, part.value, token.value, one))

    fit()
    show()
    part.observe(fit, "value")
    for control in (part, layer, head, token):
        control.observe(show, "value")
    controls = widgets.VBox([part, layer, head, token], layout={"flex": "0 0 auto"})
    return widgets.VBox([widgets.HBox([controls, _token_buttons(config, token)]), picture])


def _heads(layers: list[Tensor]) -> tuple[tuple[str, int], ...]:
    """What the explorer offers as heads; -1 is their mean."""
    return (("mean of the heads", -1), *((f"head {i}", i) for i in range(len(layers[0]))))


def _token_buttons(config: TokenizerConfig, token: "ipywidgets.IntSlider") -> "ipywidgets.VBox":
    """A button for each token, standing as on the picture; a click sets the slider, the slider marks its button."""
    import ipywidgets as widgets

    prefix, grid = config.prefix_tokens, config.grid
    size = "34px" if grid <= 8 else "20px"
    look = {"width": size, "height": size, "padding": "0", "margin": "1px", "flex": "0 0 auto"}
    buttons = []
    for index in range(config.tokens):
        text = f"p{index}" if index < prefix else "{},{}".format(*divmod(index - prefix, grid))
        button = widgets.Button(description=text if grid <= 8 else "", tooltip=token_name(config, index), layout=look)
        button.on_click(lambda _, index=index: setattr(token, "value", index))
        buttons.append(button)

    def mark(_: object = None) -> None:
        for index, button in enumerate(buttons):
            button.style.button_color = ORANGE if index == token.value else SKY if index < prefix else PALE

    mark()
    token.observe(mark, "value")
    rows = [buttons[:prefix]] if prefix else []
    for first in range(prefix, config.tokens, grid):  # an empty place stands under the corner's prefix token
        corner = [widgets.Label(layout=look)] if prefix else []
        rows.append([*corner, *buttons[first : first + grid]])
    return widgets.VBox([widgets.HBox(row) for row in rows], layout={"margin": "0 0 0 24px"})
