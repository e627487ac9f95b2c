"""The tabs of the app: what their functions compute, show, refuse and print as code; the words and the tour."""

import io
import json
import math
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from test_app import BASELINE, MAIN, app, checkpoints, client, forget, last, played, same  # noqa: F401 (fixtures)

from alitok_lite import scenes
from alitok_lite.core import config
from alitok_lite.data.images import load_picture, sheet
from alitok_lite.demo import (
    boards,
    components,
    drawing,
    edit,
    examples,
    links,
    look,
    models,
    page,
    poke,
    predict,
    reconstruct,
    tell,
    tour,
)
from alitok_lite.demo import words as demo_words
from alitok_lite.measure import board, metrics, probe, repaint
from alitok_lite.model import AliTok
from alitok_lite.store import imagenet
from alitok_lite.study.rows import RESULTS


@pytest.fixture
def upload(tmp_path) -> Path:
    """A picture of one's own."""
    path = tmp_path / "mine.png"
    AliTok.to_pil(examples.scene_pixels("house", 100))[0].save(path)
    return path


def cells(html: str) -> list[str]:
    """The texts of the cells of all boards."""
    return re.findall(r"<b [^>]*>([^<]*)</b>", html)


def run(view: examples.View, checkpoints: Path, monkeypatch) -> dict:
    """What the lines that a tab prints compute."""
    monkeypatch.setattr("alitok_lite.store.find.CHECKPOINTS", checkpoints)  # where they find the models by name
    space = {}
    exec(view.code.removeprefix("```python\n").removesuffix("\n```"), space)
    return space


# ---------------------------------------------------------------- pictures


def test_subjects(upload):
    asked = examples.subject(MAIN, "fish", None)
    assert torch.equal(asked.pixels, scenes.render([7], scenes.TEST_SEED + 7, 64)) and asked.label == 7
    asked = examples.subject(MAIN, "fish", upload)
    assert torch.equal(asked.pixels, load_picture(upload, 64)) and asked.label is asked.scene is None
    assert examples.subject(BASELINE, "fish", "").label is None


@pytest.mark.parametrize(
    "model, scene, picture, words",
    [
        (MAIN, None, None, "choose a picture"),
        (MAIN, "fish", 3, "choose a picture"),
        (MAIN, "dragon", None, "no scene 'dragon'; the scenes are sea,"),
        (MAIN, ["fish"], None, "no scene"),
        (MAIN, "fish", "nowhere.png", "no file 'nowhere.png'"),
        ("other", "fish", None, "no model 'other'"),
        (None, "fish", None, "no model 'None'"),
    ],
)
def test_no_picture(model, scene, picture, words):
    for function in (reconstruct.reconstruct, lambda *asked: look.look(*asked, "encoder", 0, 0, 0)):
        with pytest.raises(ValueError, match=words) as caught:
            function(model, scene, picture)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("name, least", [("lighthouse", "12.5%"), ("suspension_bridge", "15%"), ("red_fox", "12.5%")])
def test_long_words_make_wider_tiles(monkeypatch, name, least):
    """Of ten letters each, those of lighthouse are narrow: seven a row keep the button Draw on the first screen."""
    monkeypatch.setattr(examples, "class_strip", lambda card: b"a picture")
    card = models.models()[MAIN]._replace(classes=["sea", name])
    assert f"minmax(max({'58' if least == '12.5%' else '70'}px, {least})" in examples.class_choice(card)[2]["value"]


def test_classes_are_shown_as_pictures_words_or_a_list(tmp_path):
    card = models.models()[MAIN]
    tiles, found, style = examples.class_choice(card)
    assert (
        tiles["choices"] == [(name, name) for name in card.classes]
        and tiles["visible"] is True
        and not found["visible"]
    )
    assert style["value"].count("nth-of-type") == 14 and "data:image/webp" in style["value"]
    other = card._replace(classes=["cat", "red_fox"], source=str(tmp_path))
    assert examples.class_choice(other)[0]["choices"] == [("cat", "cat"), ("red fox", "red_fox")]
    assert "nth-of-type" not in examples.class_choice(other)[2]["value"]  # no picture of them: words
    sheet([Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")] * 2, 2).save(tmp_path / "samples.png")
    with Image.open(io.BytesIO(examples.class_strip(other))) as strip:
        red, blue = strip.convert("RGB").getpixel((30, 30)), strip.convert("RGB").getpixel((100, 30))
    assert red[0] > 200 > 50 > red[2] and blue[2] > 200 > 50 > blue[0]
    tiles, found, style = examples.class_choice(card._replace(classes=imagenet.names()))
    assert tiles["visible"] == "hidden" and found["visible"] and len(found["choices"]) == 1000


def test_imagenet_classes_are_found():
    card = models.models()[MAIN]._replace(classes=imagenet.names())
    for text in ("golden retriever", "Golden Retriever", "207", 207, "n02099601"):
        assert drawing.find_class(card, text) == 207
    for text in ("crane", "", None, 1000, "x" * 1000):
        with pytest.raises(ValueError):
            drawing.find_class(card, text)


def test_first_pictures_need_no_model(tmp_path):
    forget()
    card = models.models()[MAIN]
    picture, text = examples.first_drawing(card)
    assert "not drawn by this model" in text and examples.first_reconstruction(card).html == ""
    sheet([Image.new("RGB", (64, 64), (i, 0, 0)) for i in range(45)], 15).save(tmp_path / "samples.png")
    sheet([Image.new("RGB", (64, 64), (i, 0, 0)) for i in range(45)], 15).save(tmp_path / "reconstructions.png")
    card = card._replace(source=str(tmp_path))
    picture, text = examples.first_drawing(card)
    assert "Drawn earlier" in text and abs(picture.getpixel((picture.width - 40, picture.height // 2))[0] - 18) < 2
    assert "alt=" in examples.first_reconstruction(card).html
    assert models._load.cache_info().currsize == 0


# ---------------------------------------------------------------- boards


def test_boards():
    picture = Image.new("RGB", (8, 8))
    values = np.array([0.0, 1.0, np.nan, 2.0])
    html = boards.board(boards.heat(values, 2), 2, 'say "hi"', boards.Look(picture, marked=3))
    assert (
        cells(html) == ["0.0", "1.0", "", "2.0"] and 'aria-label="say &quot;hi&quot;: 0.0, 1.0, nothing, 2.0"' in html
    )
    assert "rgb(68 1 84/1.00)" in html and "rgb(253 231 37/1.00)" in html and html.count(" here") == 1
    seven = boards.board(boards.heat(np.arange(7.0), 6), 2, "", boards.Look())
    assert re.findall(r"grid-area:(\d/\d)", seven) == ["1/1", "1/2", "1/3", "2/2", "2/3", "3/2", "3/3"]
    assert cells(boards.board(boards.heat(values, 2, "{:.0f}", least=0.5), 2, "")) == ["", "1", "", "2"]
    assert boards.gradient_colour(-1) == (68, 1, 84) and boards.gradient_colour(9) == (253, 231, 37)


def test_attributes_are_escaped_and_none_leaves_one_out():
    found = boards.tag("img", class_="a", aria_label='say "<hi>"', title=None)
    assert found == '<img class="a" aria-label="say &quot;&lt;hi&gt;&quot;">'
    assert boards.tag("b", "1", "<i>2</i>", data_token=0) == '<b data-token="0">1<i>2</i></b>'


def test_tokens_stand_in_raster_order_below_the_prefix():
    prefix, image = [(-1, -1), (-1, 0), (-1, 1)], [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [board.token_cell(token, 3, 2) for token in range(7)] == prefix + image
    assert [board.token_cell(token, 0, 2) for token in range(4)] == image
    assert board.geometry(7) == (3, 2) and board.geometry(16) == (0, 4)
    with pytest.raises(ValueError, match="8 values are no token sequence"):
        board.geometry(8)
    assert board.overlay_opacity(-1) == 0 and board.overlay_opacity(1) == board.overlay_opacity(2) == 0.95


def test_slider_and_bars():
    a, b = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    html = boards.compare(a, b, ("left & one", "right"))
    assert 'type="range"' in html and "left &amp; one" in html and html.count("data:image/png") == 2
    html = boards.bars({"a": 1.0, "b": 4.0}, "bits")
    assert "* 0.2500" in html and "* 1.0000" in html and 'aria-label="a 1 bits, b 4 bits"' in html


def test_ids_have_colours():
    shown = reconstruct.id_cells([7, 8, 7], 2)
    assert shown[0] == boards.Cell("7", boards.id_colour(7)) and shown[2] == boards.Cell()
    assert boards.id_colour(7) != boards.id_colour(8)


# ---------------------------------------------------------------- Reconstruct


def test_reconstruct(upload, checkpoints, monkeypatch):
    view = reconstruct.reconstruct(MAIN, "fish", upload)
    model, pixels = models.get_model(MAIN), load_picture(upload, 64)
    ids = model.tokenizer.encode(pixels)
    assert (
        view.numbers["prefix"] + sum(view.numbers["grid"], []) == ids[0].tolist() == [int(x) for x in cells(view.html)]
    )
    for stage, name in ((1, "causal"), (2, "bidirectional")):
        decoded = model.tokenizer.decode(ids, stage)
        quality = -10 * math.log10(((decoded - pixels) ** 2).mean())
        assert view.numbers["psnr"][name] == pytest.approx(quality, abs=0.01) and f"{quality:.1f} dB" in view.html
        assert boards.data_uri(model.to_pil(decoded)[0]) in view.html
    assert "21 tokens (27 bytes)" in view.status and view.html.count('type="range"') == 2
    monkeypatch.chdir(upload.parent)
    upload.rename("picture.png")
    assert torch.equal(run(view, checkpoints, monkeypatch)["ids"], ids)


def test_reconstruct_with_one_decoder():
    view = reconstruct.reconstruct(BASELINE, "sea", None)
    assert view.html.count('type="range"') == 1 and view.numbers["prefix"] == [] and len(view.numbers["psnr"]) == 1


# ---------------------------------------------------------------- Look inside


@pytest.mark.parametrize("part, stage", [("encoder", 1), ("causal", 1), ("bidirectional", 2), ("ar", 1)])
def test_look(checkpoints, monkeypatch, part, stage):
    model, token = models.get_model(MAIN), 12
    pixels = examples.scene_pixels("fish", 64)
    view = look.look(MAIN, "fish", None, part, 1, 2, token)
    weights = probe.attention_of(model, pixels, 7)[part][1][2]
    wanted = probe.split(weights[probe.position(model.tokenizer.config, part, token)], model.tokenizer.config, part)
    assert view.numbers["attention"].keys() == wanted.keys()
    for name, values in wanted.items():
        assert np.allclose(view.numbers["attention"][name], 100 * values, atol=0.01)
    moved = probe.dependency_map(model.tokenizer, pixels, stage)[:, token - 5]
    assert np.allclose(view.numbers["dependency"], 100 * moved / moved.sum(), atol=0.01)
    later = sum(view.numbers["dependency"][token + 1 :])
    assert (later > 0) == (stage == 2) and "al-pick" in view.html and "Image token (1, 3)" in view.status
    space = run(view, checkpoints, monkeypatch)
    assert all(np.allclose(100 * space["shares"][name], view.numbers["attention"][name], atol=0.01) for name in wanted)
    assert torch.allclose(space["needs"], moved, atol=1e-6)


def test_look_at_prefix_and_mean_of_heads():
    view = look.look(MAIN, "fish", None, "causal", 0, -1, 2)
    assert len(view.numbers["dependency"]) == 16 and "Prefix token 2" in view.status
    total = sum(sum(values) for values in view.numbers["attention"].values())
    assert total == pytest.approx(100, abs=0.1)
    assert len(look.look(BASELINE, "fish", None, "ar", 0, 0, 0).numbers["dependency"]) == 16


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"part": "brain"}, "no part 'brain'; the parts of this model are encoder, causal, bidirectional, ar"),
        ({"part": None}, "no part"),
        ({"layer": 3}, "layer is 3; it must be a whole number from 0 to 2"),
        ({"layer": True}, "layer is True"),
        ({"head": 4}, "head is 4; it must be a whole number from -1 to 3"),
        ({"head": math.nan}, "head is nan"),
        ({"token": 21}, "token is 21; it must be a whole number from 0 to 20"),
        ({"token": "1"}, "token is '1'"),
        ({"token": math.inf}, "token is inf"),
    ],
)
def test_look_refuses(changes, words):
    arguments = {"part": "causal", "layer": 0, "head": 0, "token": 0} | changes
    with pytest.raises(ValueError, match=re.escape(words)):
        look.look(MAIN, "fish", None, **arguments)


def test_large_decoders_have_no_dependency_map_on_a_cpu(monkeypatch):
    monkeypatch.setattr(look, "_MAX_MAP_WORK", 1)
    view = look.look(MAIN, "fish", None, "causal", 0, 0, 12)
    assert view.numbers["dependency"] is None and "without a GPU" in view.html


def test_controls_fit_the_model():
    part, layer, head, token = look.look_controls(BASELINE, "causal", 2, 3, 20)
    assert part["value"] == "bidirectional" and layer["maximum"] == 0 and head["value"] == -1 and token["value"] < 16
    assert [name for name, _ in part["choices"]] == ["Encoder", "Bidirectional decoder", "AR model"]
    kept = look.look_controls(MAIN, "ar", 1, 2, 20)
    assert [control["value"] for control in kept] == ["ar", 1, 2, 20]
    token, code_id, count, other = poke.poke_controls(BASELINE, "keep", 20, 1000, 3)
    assert (token["value"], code_id["maximum"], count["value"]) == (8, 63, 3)
    assert [control["visible"] for control in (token, code_id, count, other)] == [False, False, True, False]


# ---------------------------------------------------------------- Poke


def test_change_token(checkpoints, monkeypatch):
    view = poke.poke(MAIN, "fish", None, "change", 13, 9)
    model = models.get_model(MAIN)
    ids = model.tokenizer.encode(examples.scene_pixels("fish", 64))
    assert view.numbers["old"] == ids[0, 13]
    for stage, name in ((1, "causal"), (2, "bidirectional")):
        before, after = (model.tokenizer.decode(x, stage) for x in (ids, probe.replace_tokens(ids, 13, 9)))
        wanted = probe.patch_change(before, after, 16).flatten()
        assert np.allclose(view.numbers["change"][name], wanted, atol=1e-3)
    assert max(view.numbers["change"]["causal"][:8]) == 0 < min(view.numbers["change"]["causal"][8:9])
    assert max(view.numbers["change"]["bidirectional"][:8]) > 0 and "0 of them before" in view.status
    change = run(view, checkpoints, monkeypatch)["change"]
    assert np.allclose(change.flatten(), view.numbers["change"]["bidirectional"], atol=1e-4)
    same_id = poke.poke(MAIN, "fish", None, "change", 13, view.numbers["old"])
    assert "nothing moves" in same_id.status and max(same_id.numbers["change"]["causal"]) == 0


def test_keep_tokens(checkpoints, monkeypatch):
    model = models.get_model(MAIN)
    ids = model.tokenizer.encode(examples.scene_pixels("fish", 64))
    filler = probe.keep_first(model.tokenizer, ids, 0)[0, 0]
    count = int((ids[0] != filler).nonzero()[-1])  # one more would make a difference
    view = poke.poke(MAIN, "fish", None, "keep", count=count)
    kept = probe.keep_first(model.tokenizer, ids, count)
    assert view.numbers["ids"] == kept[0].tolist() != ids[0].tolist()
    assert sum(map(bool, cells(view.html))) == count > 5
    for stage in (1, 2):
        assert boards.data_uri(model.to_pil(model.tokenizer.decode(kept, stage))[0]) in view.html
    assert f"5 of the prefix and {count - 5} of the patches" in view.status
    assert torch.equal(run(view, checkpoints, monkeypatch)["kept"], kept)


def test_swap_prefix(checkpoints, monkeypatch):
    view = poke.poke(MAIN, "fish", None, "swap", other="face")
    model = models.get_model(MAIN)
    ids = torch.cat([model.tokenizer.encode(examples.scene_pixels(name, 64)) for name in ("fish", "face")])
    swapped = probe.swap_prefix(ids, 5)
    for stage, name in ((1, "causal"), (2, "bidirectional")):
        change = probe.patch_change(model.tokenizer.decode(ids, stage), model.tokenizer.decode(swapped, stage), 16)
        assert np.allclose(view.numbers["change"][name], change[0].flatten(), atol=1e-3)
    assert torch.equal(run(view, checkpoints, monkeypatch)["swapped"], swapped)
    with pytest.raises(ValueError, match=f"no prefix tokens to swap; those that do are {MAIN}"):
        poke.poke(BASELINE, "fish", None, "swap", other="face")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"experiment": "eat"}, "no experiment 'eat'; the experiments are change, keep, swap"),
        ({"token": -1}, "token is -1"),
        ({"code_id": 1024}, "new id is 1024; it must be a whole number from 0 to 1023"),
        ({"code_id": None}, "new id is None"),
        ({"experiment": "keep", "count": 22}, "how many tokens to keep is 22; it must be a whole number from 0 to 21"),
        ({"experiment": "swap", "other": "dragon"}, "no scene 'dragon'"),
        ({"experiment": "swap", "other": None}, "no scene 'None'"),
    ],
)
def test_poke_refuses(changes, words):
    arguments = {"experiment": "change", "token": 0, "code_id": 0, "count": 0, "other": "sea"} | changes
    with pytest.raises(ValueError, match=re.escape(words)):
        poke.poke(MAIN, "fish", None, **arguments)


# ---------------------------------------------------------------- Predictability


def test_predict(checkpoints, monkeypatch):
    view = predict.predict("fish")
    model = models.get_model(MAIN)
    nats = probe.predictability(model, examples.scene_pixels("fish", 64), torch.tensor([7])).nats[0]
    assert list(view.numbers) == [MAIN]  # the other model knows no scenes
    assert np.allclose(view.numbers[MAIN]["nats"], nats, atol=0.01)
    assert view.numbers[MAIN]["bits"] == pytest.approx(float(nats.sum()) / math.log(2), abs=0.02)
    result = run(view, checkpoints, monkeypatch)["result"]
    assert torch.allclose(result.nats[0], nats, atol=1e-4)
    for wrong in ("dragon", None, 3):
        with pytest.raises(ValueError, match="no scene|choose a picture"):
            predict.predict(wrong)


def test_predict_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(predict, "models", lambda: {BASELINE: models.models()[BASELINE]})
    with pytest.raises(ValueError, match="no model here predicts scenes"):
        predict.predict("fish")


def test_tokenizers_are_compared_in_order(monkeypatch):
    card = models.models()[MAIN]
    plain = card._replace(config=config.TokenizerConfig(prefix=False, aligned=False))
    causal = card._replace(config=config.TokenizerConfig(prefix=False))
    monkeypatch.setattr(predict, "models", lambda: {"full": card, "causal": causal, "plain": plain})
    assert list(predict.comparable()) == ["plain", "causal", "full"]
    assert [predict.kind_of(c) for c in (plain, causal, card)] == ["conventional", "causal", "causal, with prefix"]


def test_what_is_said_to_be_measured_was_measured():
    """Each number of the page is one of the study's pages, or is computed from its files."""
    study = (RESULTS / "matched" / "README.md").read_text()
    every = study + (RESULTS / "README.md").read_text()
    for _, _, conventional, causal, _ in predict.EQUAL_LENGTH:
        assert conventional.removesuffix(" dB") in every and causal.removesuffix(" dB") in every
    for name, of_what, difference, interval, better in predict.EQUAL_BITS:
        low, high = (float(x) for x in interval.split(" to "))
        assert low <= float(difference) <= high and (low > 0) == (high > 0)
        assert (better == "causal") == ((high > 0) != (name == "PSNR"))  # of a PSNR more is better, of a loss less
        digits = [number.lstrip("-") for number in (difference, *interval.split(" to "))]
        assert all(number in study for number in digits), of_what
    shown = re.sub("<[^>]+>", "", demo_words.verdict())
    for words in ("113 ± 6", "103 ± 8", "0.007", "0.003 to 0.011", "0.31 dB", "0.22 to 0.41"):
        assert words in shown and words in study


def test_the_counted_world_is_in_the_page_with_its_exact_numbers():
    """As notebook 10 prints them: bits of each token, first choices, patches of the best decoder."""
    rows = [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row) for row in predict.counted().split("<tr>")[2:]]
    assert rows == [
        ["A: bidirectional decoder", "2 + 2 = 4", "25.0 %", "100 %", "100 %"],
        ["B: causal decoder", "2 + 1 = 3", "37.5 %", "50 %", "100 %"],
        ["C: causal decoder, prefix token", "1 + 2 + 1 = 4", "41.7 %", "100 %", "100 %"],
    ]
    shown = predict.measured()
    assert shown.index("Equal bits") < shown.index("A world of two patches, counted")


@pytest.mark.slow
def test_the_share_of_repainted_patches_is_the_one_shown():
    names = ("lighthouse", "house", "balloon", "face", "butterfly", "car")
    pictures = scenes.render([scenes.CLASSES.index(name) for name in names] * 4, seed=scenes.TEST_SEED + 3, size=64)
    found = []
    for name in tell.SHIPPED:
        tokenizer = AliTok.from_pretrained(name, "cpu").tokenizer
        found.append(repaint.repaint_share(tokenizer, tokenizer.encode(pictures)))
    mean, spread = (round(100 * found[0][key]) for key in ("repainted", "repainted_spread"))
    assert f"{mean} ± {spread} %" in demo_words.verdict() and found[1]["repainted"] == 0


# ---------------------------------------------------------------- Misalignment


@pytest.fixture
def pair(monkeypatch):
    """The two bundled tokenizers in place of the random models."""
    monkeypatch.setenv("ALITOK_MODELS", ",".join(tell.SHIPPED))
    forget()
    yield tell.SHIPPED
    forget()


@pytest.mark.parametrize("sampled", [False, True])
def test_tell(pair, sampled):
    view = tell.tell("house", 5, sampled)
    for row, name in enumerate(pair):
        model = models.get_model(name)
        ids = model.tokenizer.encode(scenes.render([2], 5, 64))
        if sampled:
            *_, step = model.stream([2], 5)
            ids = step.ids
        frames = repaint.told(model.tokenizer, ids)
        assert view.numbers["repainted"][row] == int(repaint.repainted(frames, 16).sum())
        nats = metrics.predictability(model.ar, ids, torch.tensor([2])).nats.sum()
        assert view.numbers["bits"][row] == pytest.approx(float(nats) / math.log(2), abs=0.06)
    assert view.numbers["repainted"][0] > 5 and view.numbers["repainted"][1] == 0
    sides = [json.loads(unescape(side)) for side in re.findall('data-side="([^"]*)"', view.html)]
    assert [len(side["outlined"]) for side in sides] == [17, 17]
    assert sides[0]["outlined"][-1] and not any(sides[1]["outlined"]) and sides[0]["untold"][3] == list(range(3, 16))
    assert ("The scene" in view.html) != sampled
    space = {}
    exec(view.code.removeprefix("```python\n").removesuffix("\n```"), space)
    assert int(repaint.repainted(space["frames"], 16).sum()) == 0


def test_what_is_stored_is_what_the_models_tell_today(pair):
    shown, fresh = tell.stored(), tell.tell(*tell.STORED)
    assert shown.numbers["repainted"] == fresh.numbers["repainted"] == [15, 0]
    assert shown.numbers["bits"] == pytest.approx(fresh.numbers["bits"], abs=0.1) and shown.status == fresh.status
    for one, other in zip(played(shown.html), played(fresh.html), strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1


def test_tell_refuses(pair):
    for arguments, words in (
        (("dragon",), "no scene 'dragon'; the scenes are sea"),
        ((None,), "no scene 'None'"),
        (("sea", -1), "seed is -1; it must be a whole number"),
        (("sea", 1, "yes"), "sampled is 'yes'; it must be true or false"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            tell.tell(*arguments)


def test_tell_says_what_is_missing():
    assert tell.pair() is None
    with pytest.raises(ValueError, match="a conventional and a causal tokenizer of the scenes, and not both are here"):
        tell.tell("sea", 1)


# ---------------------------------------------------------------- Edit


def asked(**changes) -> edit.Asked:
    values = {"model": MAIN, "scene": "fish", "upload": None, "class_name": "fish", "ids": "", "token": 9}
    return edit.Asked(**values | {"temperature": 1.0} | changes)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_the_likeliest_codes(temperature):
    html, status, numbers, _, ids = edit.edit(asked(temperature=temperature))
    model = models.get_model(MAIN)
    wanted = model.tokenizer.encode(examples.scene_pixels("fish", 64))
    assert ids == " ".join(map(str, wanted[0].tolist())) and numbers["ids"] == wanted[0].tolist()
    logits = model.ar(wanted, torch.tensor([7]))[0, 9]
    shares = (logits / max(temperature, 1e-4)).softmax(-1)
    best = shares.topk(6)
    assert numbers["codes"] == best.indices.tolist() or temperature == 0
    assert np.allclose(numbers["probabilities"], best.values.detach(), atol=1e-3)
    assert html.count("data-code=") == 6 and "image token (1, 0)" in status


def test_a_chosen_code_keeps_what_was_before_and_samples_the_rest():
    model = models.get_model(MAIN)
    before = model.tokenizer.encode(examples.scene_pixels("fish", 64))
    *_, numbers, _, text = edit.edit(asked(), 33, 5)
    prompt = torch.cat([before[:, :9], torch.tensor([[33]])], 1)
    *_, step = model.stream([7], 5, prompt)
    assert numbers["ids"] == step.ids[0].tolist() and numbers["ids"][:10] == [*before[0, :9].tolist(), 33]
    again = edit.edit(asked(ids=text, token=20, scene=None))  # the answer's ids are the next question's
    assert again[2]["ids"] == numbers["ids"]
    whole = edit.edit(asked(token=20), 3, 5)[2]["ids"]  # the last token: nothing is left to sample
    assert whole == [*before[0, :20].tolist(), 3]


def test_half_a_picture_is_completed(upload):
    model = models.get_model(MAIN)
    pixels = load_picture(upload, 64)
    before = model.tokenizer.encode(pixels)[0].tolist()
    html, status, numbers, _, _ = edit.complete(asked(upload=upload, class_name="sea"), 5)
    *_, step = model.stream([0], 5, torch.tensor([before[:13]]))
    assert numbers["ids"] == step.ids[0].tolist() and numbers["ids"][:13] == before[:13] != numbers["ids"][13:]
    assert "first 13 of 21 tokens were kept" in status and "Before" in html


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"ids": "1 2 3"}, "ids are '1 2 3'; they must be 21 numbers from 0 to 1023 with spaces between them"),
        ({"ids": " ".join(["1024"] * 21)}, "they must be 21 numbers"),
        ({"ids": "x" * 99}, "they must be 21 numbers"),
        ({"ids": 7}, "they must be 21 numbers"),
        ({"token": 21}, "token is 21; it must be a whole number from 0 to 20"),
        ({"temperature": 9}, "temperature is 9; it must be a number from 0 to 3"),
        ({"class_name": "dragon"}, "no class 'dragon'"),
        ({"model": "other"}, "no model 'other'"),
    ],
)
def test_edit_refuses(changes, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        edit.edit(asked(**changes))


@pytest.mark.parametrize(
    "token, words",
    [
        (20, "no token comes after it. "),
        (19, "the token after it was sampled"),
        (18, "the 2 tokens after it were sampled"),
    ],
)
def test_edit_says_what_became_of_the_rest(token, words):
    _, said, *_ = edit.edit(asked(token=token), 3, 1)
    assert f" became code 3; {words}" in said


def test_edit_refuses_codes_and_seeds():
    for code, seed, words in (
        (1024, 1, "code is 1024"),
        (-2, 1, "code is -2"),
        (True, 1, "code is"),
        (3, -1, "seed is"),
    ):
        with pytest.raises(ValueError, match=words):
            edit.edit(asked(), code, seed)


# ---------------------------------------------------------------- links


def test_a_link_sets_what_it_says(app):
    built = app.demo.alitok
    known = {name: tuple(found.controls) for name, found in built.items()}
    given = links.read({"tab": "look", "model": MAIN, "token": "9", "head": "2", "__theme": "dark"}, known)
    assert given == ("look", {"model": MAIN, "token": "9", "head": "2"}, "")
    updates, said = page.settings(given.tab, given.values, built["look"])
    own = built["look"].controls
    assert said == "" and updates[own["token"]]["value"] == 9 and updates[own["head"]]["value"] == 2
    assert updates[own["model"]]["value"] == MAIN and updates[own["layer"]]["maximum"] == 2
    updates, said = page.settings("draw", {"model": BASELINE, "class": "dog", "seed": "5"}, built["draw"])
    own = built["draw"].controls
    assert updates[own["class"]]["value"] == "dog" and updates[own["seed"]]["value"] == "5" and said == ""
    assert updates[own["guidance"]]["value"] == 2.0


def test_back_empties_what_was_not_set_and_takes_an_upload_away(app):
    built = app.demo.alitok
    found, given = built["edit"], {"model": MAIN, "scene": "fish", "token": "3", "temperature": "0.5"}
    updates, said = page.settings("edit", given, found, MAIN)
    own, parts = found.controls, found.parts
    assert said == "" and updates[own["ids"]]["value"] == updates[own["class"]]["value"] == ""
    assert updates[own["token"]]["value"] == 3 and updates[own["seed"]]["value"] == ""
    assert updates[parts["own"]] is None and updates[parts["code"]] == -1
    assert own["ids"] not in page.settings("edit", given, found)[0]  # a link sets what it says
    found = built["draw"]
    same, other = (page.settings("draw", {"model": MAIN}, found, shown)[0] for shown in (MAIN, BASELINE))
    assert same[found.parts["shown"]] == page.gr.skip() and "Made earlier" in other[found.parts["shown"]]


@pytest.mark.parametrize(
    "tab, values, words",
    [
        ("draw", {"model": "other"}, "model=other"),
        ("draw", {"class": "dragon"}, "class=dragon"),
        ("draw", {"count": "99"}, "count=99"),
        ("draw", {"temperature": "hot"}, "temperature=hot"),
        ("look", {"model": MAIN, "token": "99"}, "token=99"),
        ("look", {"part": "brain"}, "part=brain"),
        ("poke", {"other": "dragon"}, "other=dragon"),
        ("edit", {"ids": "1 2 3"}, "ids=1 2 3"),
        ("edit", {"ids": " ".join(["9999"] * 21)}, "ids=" + "9999 " * 8),
    ],
)
def test_a_link_says_what_this_page_does_not_have(app, tab, values, words):
    _, said = page.settings(tab, values, app.demo.alitok[tab])
    assert said == f"This link asks for {words}, which this page does not have."


def test_links_to_other_tabs_and_names():
    known = {"draw": ("seed",), "look": ()}
    assert links.read({}, known) == ("", {}, "") == links.read({"__theme": "dark"}, known)
    assert "a tab 'sing'; the tabs are draw, look" in links.read({"tab": "sing"}, known).said
    given = links.read({"tab": "draw", "seed": "3", "evil": "<b>"}, known)
    assert given.values == {"seed": "3"} and "asks for evil" in given.said


def test_a_drawings_link_is_read_back():
    link = links.drawn(MAIN, "a&b=c", 5, None, 0.5, 2)
    assert links.read_drawn(link) == (MAIN, "a&b=c", 5, models.models()[MAIN].guidance, 0.5, 2)
    for wrong in ("", None, 3, "tab=draw", link.replace("seed", "sed")):
        with pytest.raises(ValueError, match="draw something first"):
            links.read_drawn(wrong)


def test_the_repositorys_address(monkeypatch):
    """From the package's metadata, where `alitok publish` writes it; without one the page names files."""
    links.repository.cache_clear()
    try:
        monkeypatch.setattr("alitok_lite.demo.links.metadata.metadata", lambda name: Urls(["Paper, https://a"]))
        assert links.repository() == "" and "href" not in demo_words.about("draw")
        links.repository.cache_clear()
        urls = Urls(["Paper, https://a", "Repository, https://b.example/c"])
        monkeypatch.setattr("alitok_lite.demo.links.metadata.metadata", lambda name: urls)
        assert 'href="https://b.example/c/blob/main/notebooks/05' in demo_words.about("draw")
        assert "https://b.example/c/tree/main/notebooks" in demo_words.sources()
        assert 'property="og:image" content="https://b.example/c/raw/main/' in components.preview()
    finally:
        links.repository.cache_clear()


class Urls(list):
    """As much of an installed package's metadata as the page reads."""

    def get_all(self, name: str) -> list:
        return list(self) if name == "Project-URL" else []


# ---------------------------------------------------------------- contrast


def test_numbers_on_every_colour_can_be_read():
    """WCAG AA: 4.5 : 1."""
    colours = [boards.gradient_colour(share / 50) for share in range(51)] + [boards.id_colour(i) for i in range(99)]
    for colour in colours:
        ink = 0.0 if boards._on(colour) == "#000" else 1.0
        low, high = sorted((ink, boards._luminance(colour)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


# ---------------------------------------------------------------- words


def test_drawing_prints_its_code(checkpoints, monkeypatch):
    frame = last(drawing.draw(MAIN, "fish", 7, 3.0, 0.8, 2))
    view = examples.View("", "", {}, examples.draw_script(MAIN, "fish", frame, 3.0, 0.8))
    assert same(run(view, checkpoints, monkeypatch)["pictures"], frame.pictures)
    assert "guidance=2" in examples.draw_script(BASELINE, "cat", last(drawing.draw(BASELINE, "cat", 1)), None, 1.0)


def test_the_tour_visits_every_tab_and_sets_what_is_there(app):
    steps = tour.tour()
    assert [step.tab for step in steps] == sorted((step.tab for step in steps), key=list(demo_words.TABS).index)
    assert all(set(step.settings) <= set(app.demo.alitok[step.tab].controls) for step in steps)
    assert {step.tab for step in steps} == set(demo_words.TABS)
    assert tour.tour_text(steps, 1).startswith(f"**Stop 2 of {len(steps)}.** ")
    for step in steps:  # each stop's settings are ones that the tab's function takes
        told = step.settings
        if step.tab == "look":
            arguments = [told["model"], told["scene"], None]
            look.look(*arguments, told["part"], told["layer"], told["head"], told["token"])
        if step.tab == "poke":
            arguments = [told["model"], told["scene"], None, told["experiment"]]
            poke.poke(*arguments, told.get("token", 0), 5, told.get("keep", 0))


def test_the_tour_leaves_out_what_is_not_there(monkeypatch):
    cards = {BASELINE: models.models()[BASELINE]._replace(ar=None)}
    monkeypatch.setattr(tour, "models", lambda: cards)
    assert [step.tab for step in tour.tour()] == ["tell", "reconstruct", "look"]
    monkeypatch.setattr(tour, "models", dict)
    assert [step.tab for step in tour.tour()] == ["tell"]


# ---------------------------------------------------------------- over the network


def test_endpoints(client, upload):
    picture = handle_file(upload)
    answers = {
        "reconstruct": client.predict(MAIN, None, picture, api_name="/reconstruct"),
        "look": client.predict(MAIN, "fish", None, "causal", 0, -1, 9, api_name="/look"),
        "poke": client.predict(MAIN, "fish", picture, "swap", 0, 0, 0, "sea", api_name="/poke"),
        "predict": client.predict("fish", api_name="/predict"),
        "edit": client.predict(MAIN, "fish", picture, "sea", "", 9, -1, 1, "5", api_name="/edit")[:4],
        "complete": client.predict(MAIN, "fish", picture, "sea", 1, "5", api_name="/complete")[:4],
    }
    wanted = {
        "reconstruct": reconstruct.reconstruct(MAIN, None, upload),
        "look": look.look(MAIN, "fish", None, "causal", 0, -1, 9),
        "poke": poke.poke(MAIN, "fish", upload, "swap", other="sea"),
        "predict": predict.predict("fish"),
        "edit": examples.View(*edit.edit(asked(upload=upload, class_name="sea"), -1, 5)[:4]),
        "complete": examples.View(*edit.complete(asked(upload=upload, class_name="sea"), 5)[:4]),
    }
    for name, (html, status, numbers, code) in answers.items():
        assert (html, status, code) == (wanted[name].html, wanted[name].status, wanted[name].code), name
        assert json.dumps(numbers) == json.dumps(wanted[name].numbers)


@pytest.mark.parametrize(
    "name, arguments, words",
    [
        ("reconstruct", [MAIN, None, None], "choose a picture"),
        ("look", [MAIN, "fish", None, "<b>", 0, 0, 0], "&lt;b&gt;"),
        ("look", [MAIN, "fish", None, "causal", 1e300, 0, 0], "layer is 1e+300"),
        ("look", [MAIN, "fish", None, "causal", 0, 0, -1], "token is -1"),
        ("poke", [MAIN, "fish", None, "change", 0, 10**20, 0, "sea"], "new id is"),
        ("poke", [BASELINE, "fish", None, "swap", 0, 0, 0, "sea"], "no prefix tokens"),
        ("predict", [[1, 2]], "no scene"),
    ],
)
def test_mistakes(client, capfd, name, arguments, words):
    with pytest.raises(AppError) as caught:
        client.predict(*arguments, api_name=f"/{name}")
    assert words in str(caught.value) and "Traceback" not in capfd.readouterr().err
