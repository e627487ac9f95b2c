"""Figures: the data is in them, nothing is clipped, overlapping, tiny or empty, and the explorer equals its twin."""

import inspect
import io
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import small_model, small_tokenizer
from matplotlib import pyplot, rcParams, rcParamsOrig
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from alitok_lite import TokenizerConfig, viz
from alitok_lite.core.layers import causal_mask, rope_table
from alitok_lite.measure import probe
from alitok_lite.study import toy
from alitok_lite.viz.colours import TOKENS


@pytest.fixture(scope="module")
def given():
    """A model with a 4 x 4 grid and what can be seen of it."""
    model = small_model(image_size=64)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ids = model.tokenizer.encode(pixels)
    decoded, aux = model.tokenizer.decode_with_prefix(ids)
    return SimpleNamespace(
        model=model,
        config=model.tokenizer.config,
        pixels=pixels,
        ids=ids,
        decoded=decoded,
        aux=aux,
        maps=probe.attention_of(model, pixels[:1], 1),
        dependency={"causal": probe.dependency_map(model.tokenizer, pixels), "other": torch.rand(21, 16)},
        values=torch.rand(21, generator=torch.Generator().manual_seed(1)),
    )


def looks(g):
    """With prefix and without."""
    plain = small_tokenizer(image_size=64, prefix=False)
    return {
        "causal": viz.Look(g.maps["causal"][1], g.dependency["causal"], g.config, "causal"),
        "conventional": viz.Look(torch.full((2, 20, 20), 0.05), torch.rand(16, 16), plain, "bidirectional"),
    }


BROKEN = causal_mask(9, 9).clone()
BROKEN[2, 6] = True
ROWS = {  # as ablation.summarise makes them
    "A": {"title": "conventional: bidirectional decoder", "mean": {"nats": 5.41, "psnr": 20}, "spread": {"nats": 0.12}},
    "B": {"title": "causal decoder", "mean": {"nats": 4.62, "psnr": 21}, "spread": {"nats": 0.08}},
    "causal-encoder": {"title": "A with a causal encoder", "mean": {"nats": 4.1, "generation_gap": -0.2}, "spread": {}},
}
ATTENTION = {
    f"attention {part} {token}": lambda g, part=part, token=token: viz.attention(
        g.pixels[:1], g.maps[part][1], g.config, part, token
    )
    for part, token in (("encoder", 11), ("causal", 0), ("ar", 20))
}
LOOKS = [(upper, lower) for upper in range(8) for lower in range(2)]
FIGURES = ATTENTION | {
    "pipeline": lambda g: viz.pipeline(title="Where are we?"),
    "pipeline of one part": lambda g: viz.pipeline(["prefix tokens"], "Where are we?"),
    "misalignment": lambda g: viz.misalignment(
        {"conventional": torch.rand(16, 16), "causal": torch.rand(16, 16).triu(), "second stage": torch.rand(21, 16)}
    ),
    "toy_buckets": lambda g: viz.toy_buckets(
        LOOKS,
        {"A, bidirectional": [(0, 3)] * 16, "C, with prefix": [(1, 2, 3)] * 16},
        {"A, bidirectional": LOOKS, "C, with prefix": LOOKS[::-1]},
    ),
    "toy_strips": lambda g: viz.toy_strips(dict.fromkeys(("the pictures", *toy.codes()), toy.ROWS[100:110])),
    "pictures": lambda g: viz.pictures(
        torch.cat([g.pixels, g.decoded]), ["a", "b", "c", "a long caption of two lines"], 2, "What?", ["one", "two"]
    ),
    "token_grid": lambda g: viz.token_grid(g.pixels[0], g.ids[0] + 1000),
    "token_grid of 8 x 8": lambda g: viz.token_grid(g.pixels[0], torch.full((73,), 2047)),
    "nearest_codes": lambda g: viz.nearest_codes(torch.randn(9, 2), torch.randn(4, 2)),
    "codebook_usage": lambda g: viz.codebook_usage(
        {"used": torch.arange(1, 9), "collapsed": torch.tensor([9] + [0] * 7)}
    ),
    "auxiliary_target": lambda g: viz.auxiliary_target(g.pixels[0], g.aux[0], 4),
    "change_map": lambda g: viz.change_map(
        g.pixels[0], g.decoded[0], probe.patch_change(g.pixels[:1], g.decoded[:1], 16)[0]
    ),
    "masks": lambda g: viz.masks(
        {part: probe.mask(g.config, part) for part in probe.PARTS},
        {part: probe.sequence(g.config, part) for part in probe.PARTS},
    ),
    "masks with a leak": lambda g: viz.masks({"yours": BROKEN}, leaks={"yours": probe.find_leaks(BROKEN)}),
    "attention of one head": lambda g: viz.attention(
        g.pixels[:1], g.maps["bidirectional"][0], g.config, "bidirectional", 9, head=1
    ),
    "attention_beside_dependency": lambda g: viz.attention_beside_dependency(looks(g), 6),
    "attention_beside_dependency of one head": lambda g: viz.attention_beside_dependency(
        {"causal": looks(g)["causal"]}, 15, head=1
    ),
    "attention_heads encoder": lambda g: viz.attention_heads(g.pixels[0], g.maps["encoder"][0], g.config, "encoder", 9),
    "attention_heads ar": lambda g: viz.attention_heads(g.pixels[0], g.maps["ar"][0], g.config, "ar", 9),
    "attention of 16 x 16": lambda g: viz.attention(g.pixels[0], torch.rand(2, 273, 273), TokenizerConfig(), "ar", 99),
    "masks of 16 x 16": lambda g: viz.masks(
        {"causal": probe.mask(TokenizerConfig(), "causal")}, {"causal": probe.sequence(TokenizerConfig(), "causal")}
    ),
    "dependency_maps": lambda g: viz.dependency_maps(g.dependency),
    "position_maps": lambda g: viz.position_maps({"with prefix": g.values, "without": g.values[5:]}, "nats"),
    "position_maps of 8 x 8": lambda g: viz.position_maps({"photos": torch.rand(73)}, "nats"),
    "position_maps of 16 x 16, three": lambda g: viz.position_maps(dict.fromkeys(("B", "L", "XL"), torch.rand(273))),
    "row_profiles": lambda g: viz.row_profiles(
        {"causal": (g.values[:4], g.values[4:8] / 9), "with prefix": g.values[8:12], "conventional": g.values[12:16]}
    ),
    "curves": lambda g: viz.curves(
        {"loss": (range(50), [1 / (i + 1) for i in range(50)])}, "step", "loss", "Does it learn?"
    ),
    "toy_readers": lambda g: viz.toy_readers(
        {
            name: ({m: 2 + k / (m + 1) for m in range(8)}, {n: k / n for n in (30, 100, 1000)})
            for k, name in enumerate(toy.codes(), 1)
        },
        1.8,
    ),
    "dependence_courses": lambda g: viz.dependence_courses(
        [
            {"row": row, "steps": [0, 100, 400], "look_ahead": [0.03, high, high], "repainted": [0.0, 0.1, high]}
            for row, high in (("A", 0.28), ("A", 0.38), ("B", 0.0))
        ]
    ),
    "data_knob": lambda g: viz.data_knob(
        {
            row: {4000: ([5.0, 6, 6.5], 1.2), 51_200: ([4.5, 5.5, 6.2], 1.6)}
            for row in ("conventional", "causal decoder")
        }
    ),
    "growth_charts": lambda g: viz.growth_charts(
        {
            "tokens": {"1 picture": [(21, 0.01, 0.002), (273, 0.2, 0.03), (1057, 1.0, 0.2)]},
            "pictures": {"273 tokens": [(2**n, 0.2 * 1.2**n, 0.03 * 1.4**n) for n in range(9)]},
            "parameters (millions)": {"1 picture": [(176.9, 0.2, 0.03), (662.0, 0.5, 0.1)]},
        }
    ),
    "plateaus": lambda g: viz.plateaus(
        [
            {"contrast": c, "standardised": s, "steps": [0, 100, 400], "explained": [-0.2, high * s, high]}
            for c in (1.0, 0.35, 0.2)
            for s in (False, True)
            for high in (0.2, 0.3)
        ]
    ),
    "rate_charts": lambda g: viz.rate_charts(
        {
            "PSNR in dB": {"conventional": [(70, 21.0), (72, 21.1)], "causal": [(90, 21.3)], "larger": [(95, 21.6)]},
            "loss": {"conventional": [(70, 0.1), (72, 0.2)], "causal": [(90, 0.1)], "larger": [(95, 0.4)]},
        },
        ("conventional", "larger"),
    ),
    "ablation": lambda g: viz.ablation(ROWS, "nats", "nats per token (scenes)", "top-1"),
    "ablation of our own": lambda g: viz.ablation(ROWS, "psnr", "PSNR (dB)"),
    "bars": lambda g: viz.bars(
        {"tiny": (1234.5, 20.0), "a model of a rather long name": 177_048_064 / 1e5}, "x", "How many?"
    ),
    "stacked": lambda g: viz.stacked(
        {"layer 0": {"buffer": 14.2, "prefix": 26, "image": 59.8}, "a rather long name of a row": {"image": 80}},
        "share of the attention (%)",
        "Where do the tokens look?",
    ),
    "next_token_shift": lambda g: viz.next_token_shift(g.ids[0]),
    "temperatures": lambda g: viz.temperatures(5 * g.values),
    "guidance_ramps": lambda g: viz.guidance_ramps({"B": (16, 1.8), "L": (6, 0.7)}, 273, 17),
    "rope_phases": lambda g: viz.rope_phases(rope_table(5, 4, 16), 5, 4),
    "rope_phases without prefix": lambda g: viz.rope_phases(rope_table(0, 4, 16), 0, 4),
    "drawing": lambda g: viz.drawing([(g.pixels[0], g.values[:7]), (g.decoded[0], g.values)], 21),
    "scan_orders": lambda g: viz.scan_orders({"raster": range(16), "backwards": range(15, -1, -1)}),
    "two_stages": lambda g: viz.two_stages(),
    "latent_queries": lambda g: viz.latent_queries(g.pixels[0], g.maps["encoder"][0], g.config, [0, 6, 20]),
    "latent_queries without prefix": lambda g: viz.latent_queries(
        g.pixels[0], torch.full((2, 32, 32), 1 / 32), small_tokenizer(image_size=64, prefix=False), [15]
    ),
}


@pytest.mark.parametrize(
    ("style", "name"),
    [("dark_background", "ablation"), ("dark_background", "dependency_maps"), ("ggplot", "curves")],
)
def test_figures_look_the_same_under_every_style(given, style, name):
    expected = viz.to_png(FIGURES[name](given))
    with pyplot.style.context([style, {"savefig.facecolor": "black"}]):  # as dark styles had it
        assert viz.to_png(FIGURES[name](given)) == expected
        saved = io.BytesIO()
        FIGURES[name](given).savefig(saved, format="png")  # as people do it
    assert saved.getvalue() == expected


def test_paper_axes_and_ink_are_the_house_s_own(given):
    with pyplot.style.context("dark_background"):
        figure = FIGURES["guidance_ramps"](given)
    (axes,) = figure.axes
    assert to_hex(figure.get_facecolor()) == to_hex(axes.get_facecolor()) == "#ffffff"
    texts = [axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *figure.findobj(Text)]
    assert {to_hex(text.get_color()) for text in texts if text.get_text()} == {viz.INK.lower()}


def drawn_texts(figure, monkeypatch):
    """Every text that drawing the figure really draws, with its box in pixels."""
    texts, plain = [], Text.draw

    def draw(self, renderer, *more, **named):
        if self.get_visible() and self.get_text().strip():
            texts.append((self, self.get_window_extent(renderer)))
        return plain(self, renderer, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", draw)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return texts, np.asarray(canvas.buffer_rgba())[..., :3]


def check_texts(figure, monkeypatch):
    """No text is small, clipped or over another one."""
    texts, picture = drawn_texts(figure, monkeypatch)
    height, width = picture.shape[:2]
    for text, box in texts:
        assert text.get_fontsize() >= 12, f"small: {text}"
        inside = box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
        assert inside, f"clipped: {text} {box}"
    for i, (one, a) in enumerate(texts):
        for two, b in texts[:i]:
            across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert across < 2 or down < 3, f"overlap: {one} {two}"
    return [text.get_text().replace("\n", " ") for text, _ in texts], picture


@pytest.mark.parametrize("name", FIGURES)
def test_figures_can_be_read(name, given, monkeypatch):
    figure = FIGURES[name](given)
    texts, picture = check_texts(figure, monkeypatch)
    assert isinstance(figure, Figure) and figure.get_figwidth() <= 9.01
    assert picture.std() > 5 and len(np.unique(picture[::5, ::5].reshape(-1, 3), axis=0)) > 20  # not blank
    assert all(ax.has_data() or ax.texts for ax in figure.axes)
    assert any("?" in text for text in texts)  # the title asks


@pytest.mark.parametrize(
    ("x", "y", "size", "problem"), [(0.5, 0.5, 9, "small"), (0.97, 0.5, 14, "clipped"), (0.3, 0.32, 14, "overlap")]
)
def test_unreadable_figures_are_noticed(x, y, size, problem, monkeypatch):
    figure = Figure()
    figure.text(0.3, 0.3, "some words", size=14)
    figure.text(x, y, "other words", size=size)
    with pytest.raises(AssertionError, match=problem):
        check_texts(figure, monkeypatch)


def test_every_figure_function_is_here():
    made = {name.split(" ")[0] for name in FIGURES}
    public = {
        name
        for name, thing in vars(viz).items()
        if inspect.isfunction(thing) and inspect.signature(thing).return_annotation is Figure
    }
    assert public == made


def arrays(ax):
    return [np.asarray(image.get_array()) for image in ax.images]


def holds(ax, expected):
    """Whether an image in the axes shows exactly this array."""
    expected = np.asarray(expected)
    return any(a.shape == expected.shape and np.allclose(a, expected, atol=1e-5, equal_nan=True) for a in arrays(ax))


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_position_maps_hold_the_values(given):
    figure = viz.position_maps({"with prefix": given.values, "without": given.values[5:]}, "nats per token")
    one, other = figure.axes[:2]
    assert holds(one, given.values[5:].view(4, 4)) and holds(other, given.values[5:].view(4, 4))
    assert holds(one, given.values[None, 1:5]) and holds(one, given.values[None, :1])
    assert not holds(other, given.values[None, 1:5])
    assert (one.get_title(), other.get_title()) == ("with prefix", "without")
    assert one.images[0].norm is other.images[0].norm and figure.axes[2].get_ylabel() == "nats per token"
    assert one.get_xlabel() == "column" and one.get_ylabel() == "row"
    with pytest.raises(ValueError, match="20 values are no token sequence"):
        viz.position_maps({"wrong": given.values[:20]})


def test_cells_stand_where_their_tokens_are(given):
    """The number in each cell is its own value, at (column, row)."""
    ax = viz.position_maps({"one": torch.arange(21)}).axes[0]
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert places["5"] == (0, 0) and places["6"] == (1, 0) and places["9"] == (0, 1) and places["20"] == (3, 3)
    assert places["1"][0] == 0 and places["4"][0] == 3 and places["0"][0] < -0.5
    assert all(places[f"{i}"][1] < -0.5 for i in range(5))
    image = next(image for image in ax.images if image.get_array().shape == (4, 4))
    assert image.get_extent() == [-0.5, 3.5, 3.5, -0.5]


@pytest.mark.parametrize(
    "values, form, written", [([0.04, 1], "", "0.0"), ([0.04, 1], "{:.2f}", "0.04"), ([3, 1], "", "3")]
)
def test_numbers_at_positions(values, form, written):
    ax = viz.position_maps({"one": torch.tensor([*values, 0.0, 0.0])}, form=form).axes[0]
    assert ax.texts[0].get_text() == written


def test_bars_carry_their_numbers_at_their_own_ends():
    ax = viz.bars({"up": (2.0, 0.5), "down": -1.234}, "nats", "Which?", "{:+.2f}").axes[0]
    up, down = ax.texts
    assert up.get_text() == "+2.00 ± 0.50" and up.xy[0] == 2.5 and up.get_ha() == "left"
    assert down.get_text() == "-1.23" and down.xy[0] == -1.234 and down.get_ha() == "right"
    assert ax.get_xlim()[0] < -2 and ax.get_xlim()[1] > 3  # room for both


@pytest.mark.parametrize(
    "names, columns", [(["a", "b", "c", "d", "e"], 5), ([c * 45 for c in "abcde"], 1), ([c * 16 for c in "abcde"], 3)]
)
def test_legends_are_read_line_by_line(names, columns):
    legend = viz.curves({name: ([0, 1], [0, 1]) for name in names}, "x", "y", "Which?").legends[0]
    written = [text.get_text() for text in legend.get_texts()]
    rows = [written[0:2], written[2:4], written[4:5]] if columns == 3 else [written]  # matplotlib fills columns
    assert [row[i] for i in range(2) for row in rows if i < len(row)] == names if columns == 3 else written == names


def test_a_steep_head_does_not_darken_the_others(given):
    weights = given.maps["encoder"][0].clone()
    weights[0, 23] = 0
    weights[0, 23, 3] = 1
    heads = viz.attention_heads(given.pixels[:1], weights, given.config, "encoder", 7)
    assert any(image.norm.vmax == 40 for image in heads.axes[1].images)


def test_attention_shows_the_row_of_the_query(given):
    token, weights = 11, given.maps["ar"][1]
    figure = viz.attention(given.pixels[:1], weights, given.config, "ar", token)
    row = 100 * weights.mean(0)[token]  # what predicts token 11 stands at 11: class, then tokens 0..10
    expected = torch.cat([row[1:], torch.zeros(1)])
    right = figure.axes[1]
    assert holds(right, expected[5:].view(4, 4)) and holds(right, expected[None, 1:5]) and holds(right, row[None, :1])
    assert f"class {row[0]:.0f} %" in right.get_title() and "AR model" in figure.axes[0].get_title()
    assert "class" in words(right) and "image token (1, 2)" in figure.get_suptitle()
    framed = [patch.get_xy() for patch in right.patches if patch.get_linewidth() > 3]
    assert set(framed) == {(1.5, 0.5)}  # the upper left corner of image token (1, 2)
    one = viz.attention(given.pixels[:1], weights, given.config, "ar", token, head=1).axes[1]
    assert holds(one, 100 * torch.cat([weights[1, token, 6:], torch.zeros(1)]).view(4, 4))


def test_attention_of_the_encoder_shows_patches_beside_latents(given):
    weights = given.maps["encoder"][0]
    row = 100 * weights.mean(0)[16 + 7]  # the query of token 7 stands behind the 16 patches
    left, right = viz.attention(given.pixels[:1], weights, given.config, "encoder", 7).axes[:2]
    assert holds(left, row[:16].view(4, 4)) and holds(right, row[21:].view(4, 4))
    heads = viz.attention_heads(given.pixels[:1], weights, given.config, "encoder", 7)
    for head, ax in enumerate(heads.axes[:2]):
        patches = 100 * weights[head, 23, :16]
        assert holds(ax, patches.view(4, 4)) and ax.get_title() == f"head {head}\npatches {patches.sum():.0f} %"


def test_masks_show_masks_groups_and_leaks(given):
    lengths = probe.sequence(given.config, "causal")
    figure = viz.masks({"causal": causal_mask(22, 22), "broken": BROKEN}, {"causal": lengths}, {"broken": [(2, 6)]})
    one, other = figure.axes
    assert BROKEN.sum() == 46 and len(viz.masks(dict.fromkeys("abc", BROKEN)).axes) == 3
    assert holds(one, causal_mask(22, 22).float())
    assert arrays(other)[0][2, 6] == 2 and arrays(other)[0].sum() == BROKEN.sum() + 1
    assert [text.get_text() for text in one.get_yticklabels()] == ["start", "prefix", "image"]
    assert [line.get_ydata()[0] for line in one.lines if line.get_xdata()[0] == 0] == [0.5, 5.5]


def test_dependency_maps_show_zero_apart_and_the_border_in_its_place(given):
    ax = viz.dependency_maps({"causal": given.dependency["causal"]}).axes[0]
    shown = ax.images[0].get_array()
    assert (
        np.allclose(shown.filled(0), given.dependency["causal"])
        and shown.mask[6:, 0].all()
        and not shown.mask[:6, 0].any()
    )
    (stairs,) = [patch for patch in ax.patches if hasattr(patch, "get_data")]
    assert stairs.get_data().values[0] == 5.5 and stairs.get_data().values[-1] == 20.5
    assert [text.get_text() for text in ax.get_yticklabels()][:2] == ["prefix", "(0, 0)"]


def test_stacked_parts_stand_side_by_side():
    rows = {"one": {"a": 1, "b": 30, "c": 69}, "other": {"b": 50, "a": 10}}
    ax = viz.stacked(rows, "share (%)", "What?", "{:.1f}").axes[0]
    found = {bars.get_label(): [(bar.get_x(), bar.get_width()) for bar in bars] for bars in ax.containers}
    assert found == {"a": [(0, 1), (0, 10)], "b": [(1, 30), (10, 50)], "c": [(31, 69), (60, 0)]}
    assert words(ax) == ["10.0", "30.0", "50.0", "69.0"]  # no room for 1.0, and none for what is not there
    assert [text.get_text() for text in ax.get_yticklabels()] == ["one", "other"]
    legend = ax.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"] and ax.get_xlabel() == "share (%)"


def test_row_profiles_and_curves_plot_the_numbers():
    ax = viz.row_profiles(
        {"a": (torch.tensor([3.0, 1.0]), torch.tensor([0.5, 0.1])), "b": torch.tensor([2.0, 2.0])}
    ).axes[0]
    assert [list(container.lines[0].get_ydata()) for container in ax.containers] == [[3, 1], [2, 2]]
    segments = ax.containers[0].lines[2][0].get_segments()
    assert np.allclose(segments[0][:, 1], [2.5, 3.5]) and ax.get_ylim()[0] == 0
    line = viz.curves({"x": ([0, 2], [5.0, 4.0])}, "step", "loss", "Down?").axes[0].lines[0]
    assert list(line.get_xdata()) == [0, 2] and list(line.get_ydata()) == [5, 4]


def test_ablation_has_bars_spreads_and_numbers():
    ours, theirs = viz.ablation(ROWS, "nats", "nats", "top-1").axes
    assert [bar.get_width() for bar in ours.containers[0]] == [5.41, 4.62, 4.1]
    assert np.allclose([bar.get_width() for bar in theirs.containers[0]], [5.4, 10.7, np.nan], equal_nan=True)
    assert words(ours) == ["5.41 ± 0.12", "4.62 ± 0.08", "4.10"] and words(theirs) == ["5.4", "10.7"]
    whiskers = [container.lines[2][0].get_segments()[0] for container in ours.containers[1:]]
    assert np.allclose(whiskers, [[[5.29, 0], [5.53, 0]], [[4.54, 1], [4.70, 1]]])  # for the two with a spread
    names = [text.get_text().replace("\n", " ") for text in ours.get_yticklabels()]
    assert names[0] == "A: conventional: bidirectional decoder" and ours.yaxis_inverted()
    assert "reported" in theirs.get_xlabel() and len(viz.ablation(ROWS, "nats", "nats").axes) == 1
    assert words(viz.ablation(ROWS, "generation_gap", "gap").axes[0]) == ["-0.200"]
    with pytest.raises(ValueError, match="no row has 'debt'; they have generation_gap, nats, psnr"):
        viz.ablation(ROWS, "debt", "debt")


def test_bars_take_numbers_with_and_without_spread():
    ax = viz.bars({"one": 3.0, "two": (200.0, 10.0)}, "passes", "How many?").axes[0]
    assert words(ax) == ["3", "200 ± 10"] and ax.get_xlabel() == "passes"
    assert [bar.get_width() for bar in ax.containers[0]] == [3, 200]


def test_reported_numbers_are_consistent():
    for row in viz.REPORTED.values():
        assert row["gFID"] - row["rFID"] == pytest.approx(row["gFID - rFID"], abs=0.011)


def test_codebook_usage_counts():
    ax = viz.codebook_usage({"even": torch.full((8,), 5), "dead": torch.tensor([0, 2, 0, 6, 0, 0, 0, 0])}).axes[0]
    assert list(ax.lines[0].get_ydata()) == [12.5] * 8 and list(ax.lines[1].get_ydata()) == [75, 25]
    labels = [line.get_label() for line in ax.lines]
    assert labels[:2] == ["even: 8 of 8 codes, perplexity 8", "dead: 2 of 8 codes, perplexity 2"]  # 1.75


def test_nearest_codes_points_each_latent_to_its_code():
    ax = viz.nearest_codes(torch.tensor([[0.1, 0], [0.9, 1]]), torch.tensor([[0.0, 0], [1, 1]])).axes[0]
    arrows = list(ax.patches)
    assert [tuple(arrow._posA_posB[1]) for arrow in arrows] == [(0, 0), (1, 1)]


def test_guidance_ramp_temperature_and_rope(given):
    lines = viz.guidance_ramps({"B": (16, 1.8)}, 273, 17).axes[0].lines
    assert lines[0].get_ydata()[0] == 1 and 15.9 < lines[0].get_ydata()[-1] < 16
    axes = viz.temperatures(torch.log(torch.tensor([0.5, 0.25, 0.25])), (1.0, 2.0)).axes
    assert [bar.get_height() for bar in axes[0].containers[0]] == pytest.approx([0.5, 0.25, 0.25])
    assert f"{1.5 * math.log(2):.1f} nats" in axes[0].get_title()
    root = math.sqrt(2)
    assert axes[1].containers[0][0].get_height() == pytest.approx(root / (root + 2))
    class_row, prefix, image = viz.rope_phases(rope_table(5, 4, 16), 5, 4).axes[:3]
    assert np.ma.getmaskarray(class_row.images[0].get_array()).all()  # no phase at all
    assert arrays(prefix)[0].shape == (5, 8) and arrays(image)[0].shape == (16, 8)
    first = arrays(image)[0]
    assert np.allclose(first[0, :4], first[1, :4])  # the row half does not
    assert not np.allclose(first[0, 4:], first[1, 4:])  # the column half moves along a row


def test_no_kind_of_tokenizer_has_the_colour_of_tokens():
    """Drawings of ideas use neither the conventional tokenizer's colour nor the causal one's."""
    codes = viz.nearest_codes(torch.zeros(2, 2), torch.eye(2)).axes[0].collections
    drawn = [viz.pipeline(), viz.next_token_shift(torch.tensor([7, 8, 9]), 3)]
    faces = {to_hex(shape.get_facecolor()) for figure in drawn for shape in figure.axes[0].patches}
    faces |= {to_hex(face) for points in codes for face in points.get_facecolor()}
    assert TOKENS.lower() in faces
    assert not {viz.CONVENTIONAL.lower(), viz.CAUSAL.lower()} & faces


def test_next_token_shift_and_drawing(given):
    found = words(viz.next_token_shift(torch.tensor([7, 8, 9]), 3).axes[0])
    assert found == ["class", "7", "7", "8", "8", "9"]  # input, target; input, target; ...
    figure = viz.drawing([(given.pixels[0], given.values[:7])], 21)
    shown = figure.axes[1].images[0].get_array()  # the tokens to come are masked
    assert np.allclose(shown[0, :2], given.values[5:7]) and shown.mask[0, 2:].all() and shown.mask[1:].all()


def test_pictures_and_auxiliary_target_show_the_pictures(given):
    figure = viz.pictures(given.pixels, ["one", "two"])
    assert [ax.get_title() for ax in figure.axes] == ["one", "two"]
    assert np.allclose(arrays(figure.axes[1])[0], given.pixels[1].permute(1, 2, 0))
    axes = viz.auxiliary_target(given.pixels[0], given.aux[0], 4).axes
    corner, first, second = (arrays(axes[i])[0] for i in (1, 2, 3))
    assert np.allclose(corner, given.pixels[0, :, :16, :16].permute(1, 2, 0)) and np.allclose(corner, first)
    assert np.allclose(second, given.pixels[0, :, :16, 16:32].permute(1, 2, 0))


def test_token_grid_writes_each_id(given):
    ids = torch.arange(100, 121)
    found = viz.token_grid(given.pixels[0], ids).axes[0]
    assert {str(i) for i in range(100, 121)} <= set(words(found))


def test_png_and_picture(given):
    figure = viz.two_stages()
    data = viz.to_png(figure)
    assert Image.open(io.BytesIO(data)).size == tuple(map(int, 100 * figure.get_size_inches()))
    shown, place = figure._repr_png_()  # a notebook shows it without pyplot
    width, height = Image.open(io.BytesIO(data)).size
    assert Image.open(io.BytesIO(shown)).size == (2 * width, 2 * height)  # crisp where it is enlarged
    assert place == {"width": width, "height": height}


def test_pixels_are_shown_as_pixels(given):
    """Nothing between two pixels is made up."""
    pixels = given.pixels[0]
    figures = {
        "pictures": viz.pictures([pixels]),
        "change_map": FIGURES["change_map"](given),
        "auxiliary_target": FIGURES["auxiliary_target"](given),
        "attention": FIGURES["attention causal 0"](given),
        "drawing": FIGURES["drawing"](given),
        "latent_queries": FIGURES["latent_queries"](given),
    }
    for name, figure in figures.items():
        for image in (image for ax in figure.axes for image in ax.images):
            assert image.get_interpolation() in ("nearest", "auto"), name
    board = torch.zeros(3, 2, 2)
    board[:, 0, 0] = board[:, 1, 1] = 1
    shown = np.asarray(Image.open(io.BytesIO(viz.to_png(viz.pictures([board])))).convert("L"))
    assert np.isin(shown[60:-60, 60:-60], (0, 255)).all()


def colour_in(ax, name):
    """The colour of what carries a name in a chart."""
    handles, labels = ax.get_legend_handles_labels()
    handle = handles[labels.index(name)]
    drawn = handle.lines[0] if hasattr(handle, "lines") else handle
    drawn = drawn.patches[0] if hasattr(drawn, "patches") else drawn
    return to_hex(drawn.get_facecolor() if hasattr(drawn, "get_facecolor") else drawn.get_color()).upper()


def test_a_kind_of_tokenizer_has_one_colour_everywhere():
    kinds = {"causal": viz.CAUSAL, "with prefix": viz.WITH_PREFIX, "conventional": viz.CONVENTIONAL}
    numbers = {name: torch.rand(4) for name in ("causal", "with prefix", "untouched", "conventional")}
    points = {name: [(1, 2)] for name in numbers}
    charts = [
        viz.row_profiles(numbers),
        viz.curves({name: (range(4), x) for name, x in numbers.items()}, "x", "y", "Which?"),
        viz.codebook_usage(numbers),
        viz.rate_charts({"PSNR": points}),
        viz.stacked({"all": dict.fromkeys(numbers, 1)}, "x", "Which?"),
    ]
    for chart in charts:
        labels = {label.split(":")[0]: label for label in chart.axes[0].get_legend_handles_labels()[1]}
        for name, colour in kinds.items():
            assert colour_in(chart.axes[0], labels[name]) == colour
        assert colour_in(chart.axes[0], labels["untouched"]) not in kinds.values()
    bars = viz.bars({f"500 steps, {name}": 1.0 for name in numbers}, "x", "Which?").axes[0].patches
    for name, bar in zip(numbers, bars, strict=True):
        assert to_hex(bar.get_facecolor()).upper() == kinds.get(name, viz.PLAIN)
    ours, theirs = viz.ablation(ROWS, "nats", "nats", "top-1").axes
    for ax in (ours, theirs):
        assert [to_hex(bar.get_facecolor()).upper() for bar in ax.patches[:2]] == [viz.CONVENTIONAL, viz.CAUSAL]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("conventional, 256 codes", "CONVENTIONAL"),
        ("A: conventional: bidirectional decoder", "CONVENTIONAL"),
        ("scenes-noprefix", "CAUSAL"),
        ("causal with prefix", "WITH_PREFIX"),
        ("prefix, stage 1", "WITH_PREFIX"),
        ("AliTok, stage 2", "STAGE_2"),
        ("causal-encoder: A with a causal encoder", None),
        ("AliTok-B", None),
    ],
)
def test_kinds_by_name(name, kind):
    assert viz.colour_of(name) == (getattr(viz, kind) if kind else "")


def test_no_two_lines_have_one_colour():
    """Also where several are of one kind, or there are many."""
    many = [*(f"causal {n}" for n in range(3)), "a", "b", "c"]
    assert len(set(viz.colours(many))) == len(many)
    assert len(viz.colours([str(n) for n in range(20)])) == 20


def test_latent_queries_are_lines_as_thick_as_attention(given):
    weights = torch.full((2, 37, 37), 0.01)
    weights[:, 16 + 6, 3] = 0.5
    ax = viz.latent_queries(given.pixels[0], weights, given.config, [6]).axes[0]
    thick = [line.get_linewidth() for line in ax.lines]
    assert len(thick) == 16 and np.argmax(thick) == 3 and thick[3] == pytest.approx(50 * thick[0])
    assert "65 %" in words(ax) and len(ax.images) == 16
    assert np.allclose(arrays(ax)[5], given.pixels[0, :, 16:32, 16:32].permute(1, 2, 0))


def test_a_drawing_grows(given):
    moments = [torch.full((3, 64, 64), n / 20) for n in range(21)]
    made = viz.growing(moments, 5, 4)
    shown = Image.open(io.BytesIO(made.data))
    assert shown.n_frames == 21 and shown.format == "WEBP" and made.alt == repr(made) in made._repr_html_()
    first = shown.convert("RGB")  # the finished picture comes first: a still page shows it
    assert first.getpixel((100, 100)) == (255,) * 3 and first.getpixel((480, 230)) == (240, 228, 66)
    shown.seek(1)
    early = shown.convert("RGB")
    assert early.getpixel((100, 100)) == (0, 0, 0) and early.getpixel((480, 230)) == (228, 228, 224)
    assert early.getpixel((300, 30)) == (0, 158, 115) and early.getpixel((350, 30)) == (228, 228, 224)


def test_style_does_not_leak():
    before = dict(rcParams)
    viz.two_stages()
    assert dict(rcParams) == before and rcParams["font.size"] == rcParamsOrig["font.size"]


def test_attention_stands_beside_dependency(given):
    """The row of the token's attention, and the column of the patch; both in per cent."""
    attends, depends, _, free = viz.attention_beside_dependency(looks(given), 6).axes[:4]
    row = 100 * given.maps["causal"][1].mean(0)[1 + 5 + 6]
    row[row == 0] = math.nan  # pale
    assert holds(attends, row[6:].view(4, 4)) and holds(attends, row[None, :1]) and holds(attends, row[None, 2:6])
    column = given.dependency["causal"][:, 6]
    share = 100 * column / column.sum()
    share[share == 0] = math.nan
    assert holds(depends, share[5:].view(4, 4)) and holds(depends, share[None, 1:5])
    assert attends.get_title() == "causal\nattention: 0 % later" and "dependency: 0 % later" in depends.get_title()
    later = arrays(free)[-1].flatten()[7:].sum()
    assert free.get_title() == f"conventional\ndependency: {later:.0f} % later" and later > 10
    assert depends.get_xlim() == free.get_xlim() and depends.get_ylim() == free.get_ylim()


def test_explorer_shows_what_its_twins_show(given):
    pytest.importorskip("ipywidgets")
    pixels, maps = given.pixels[:1], given.maps
    top, figure = viz.attention_explorer({"ours": given.model}, pixels, 1).children
    controls, clicks = top.children
    tokenizer, part, layer, head, token = controls.children
    assert figure.value == viz.to_png(viz.attention(pixels, maps["encoder"][0], given.config, "encoder", 5))
    strip, picture = clicks.children[0].children
    image, cells = picture.children
    assert len(strip.children) == 5 and len(cells.children) == 16
    assert image.layout.grid_area == cells.layout.grid_area  # the buttons lie on the picture
    assert Image.open(io.BytesIO(image.value)).size == (176, 176)

    cells.children[9].click()
    assert token.value == 14
    part.value, layer.value, head.value = "ar", 1, 0
    assert figure.value == viz.to_png(viz.attention(pixels, maps["ar"][1], given.config, "ar", 14, 0))
    part.value, head.value = "causal", -1
    moves = sum(probe.dependency_map(given.model.tokenizer, pixels, 1, seed=seed) for seed in range(3)) / 3
    look = {"ours, causal decoder": viz.Look(maps["causal"][1], moves, given.config, "causal")}
    assert figure.value == viz.to_png(viz.attention_beside_dependency(look, 9))
    strip.children[2].click()  # a prefix token has no patch that could depend
    assert figure.value == viz.to_png(viz.attention(pixels, maps["causal"][1], given.config, "causal", 2))
    marked = [button.layout.border_top.startswith("3px") for button in (*strip.children, *cells.children)]
    assert [index for index, mark in enumerate(marked) if mark] == [2] and tokenizer.value == "ours"


def test_explorer_keeps_the_patch_when_the_tokenizer_changes(given):
    """A conventional one has no causal decoder and no prefix, and other layers and heads."""
    pytest.importorskip("ipywidgets")
    sizes = {"image_size": 64, "prefix": False, "aligned": False, "decoder_depth": 1, "decoder_heads": 4}
    other = small_model((2,), **sizes)
    pixels = given.pixels[:1]
    top, figure = viz.attention_explorer({"ours": given.model, "conventional": other}, pixels, 1).children
    tokenizer, part, layer, head, token = top.children[0].children
    part.value, layer.value, head.value, token.value = "causal", 1, 1, 11
    tokenizer.value = "conventional"
    assert (part.value, layer.value, token.value, token.max) == ("bidirectional", 0, 6, 15)
    assert [name for name, _ in head.options][-1] == "head 3" and "causal" not in dict(part.options).values()
    (picture,) = top.children[1].children[0].children
    picture.children[1].children[3].click()
    moves = sum(probe.dependency_map(other.tokenizer, pixels, 2, seed=seed) for seed in range(3)) / 3
    weights = probe.attention_of(other, pixels, 1)["bidirectional"][0]
    look = {"conventional, bidirectional decoder": viz.Look(weights, moves, other.tokenizer.config, "bidirectional")}
    one = None if head.value < 0 else head.value
    assert figure.value == viz.to_png(viz.attention_beside_dependency(look, 3, one))
    tokenizer.value = "ours"
    assert token.value == 8 and token.max == 20
