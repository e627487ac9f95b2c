"""The look-ahead share and the repaint share during a training, as measured, as published and as drawn."""

import json

import pytest
from conftest import small_ar, small_tokenizer

from alitok_lite import PRESETS, viz
from alitok_lite.core.config import Preset
from alitok_lite.core.losses import LossWeights
from alitok_lite.core.quantizer import VectorQuantizer
from alitok_lite.study import course
from alitok_lite.train.settings import TrainSettings

SETTINGS = TrainSettings(steps=1, batch=8, lr=3e-3, warmup=5, pictures=64, losses=LossWeights(l1=0.2))


@pytest.fixture
def mini(monkeypatch):
    """The preset "mini", wide enough to learn something in a few steps."""
    wide = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in (("width", 32), ("heads", 2))}
    tokenizer = small_tokenizer(patch_size=8, **wide)
    monkeypatch.setitem(PRESETS, "mini", Preset(tokenizer, small_ar(tokenizer, classes=14)))


def test_a_conventional_tokenizer_comes_to_depend_on_later_tokens_and_a_causal_one_does_not(mini):
    found = {row: course.course(row, 0, (0, 20, 40), "mini", SETTINGS) for row in "AB"}
    assert all(one["steps"] == [0, 20, 40] and len(one["psnr"]) == 3 for one in found.values())
    assert found["B"]["look_ahead"] == found["B"]["repainted"] == [0.0, 0.0, 0.0]
    assert min(found["A"]["look_ahead"][1:]) > 2 * found["A"]["look_ahead"][0] > 0
    assert all(one["psnr"][-1] > one["psnr"][0] + 0.3 for one in found.values())  # they have learned


@pytest.mark.parametrize("steps", [(), (0, 5, 5), (3, 1), (-1, 2), (0,)])
def test_steps_rise(mini, steps):
    with pytest.raises(ValueError, match="must rise"):
        course.course("A", 0, steps, "mini", SETTINGS)


def test_dead_codes_move_during_the_course(mini, monkeypatch):
    calls = []
    real = VectorQuantizer.revive
    monkeypatch.setattr(VectorQuantizer, "revive", lambda self, *given: calls.append(len(given)) or real(self, *given))
    course.course("B", 0, (0, 3), "mini", SETTINGS)
    assert calls == [2, 2, 2]


def test_the_published_course():
    made = json.loads(course.COURSE.read_text())
    found = {(one["row"], one["seed"]): one for one in made["courses"]}
    assert set(found) == {(row, seed) for row in "AB" for seed in range(3)}
    for (row, _), one in found.items():
        assert one["steps"] == list(course.STEPS)
        if row == "B":
            assert set(one["look_ahead"]) == set(one["repainted"]) == {0.0}
        else:
            assert one["look_ahead"][0] < 0.1 and one["look_ahead"][-1] > 0.25
            assert one["repainted"][0] == 0 and one["repainted"][-1] > 0.2


def test_the_course_is_drawn_with_its_spread():
    courses = [
        {"row": row, "steps": [0, 10], "look_ahead": [0.0, high], "repainted": [0.0, high / 2]}
        for row, high in (("A", 0.2), ("A", 0.4), ("B", 0.0))
    ]
    figure = viz.dependence_courses(courses)
    for ax, last in zip(figure.axes, (0.3, 0.15), strict=True):
        means = {line.get_label(): line.get_ydata()[-1] for line in ax.lines}
        assert means == {"conventional tokenizer (seeds: 2)": pytest.approx(last), "causal tokenizer (seeds: 1)": 0}
        (band, _) = (shape.get_paths()[0].vertices[:, 1] for shape in ax.collections)
        assert (band.min(), band.max()) == (0, pytest.approx(last * 4 / 3))
