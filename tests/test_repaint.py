"""Told patches that change again: the measure, and the shipped pictures of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_model
from PIL import Image

from alitok_lite import AliTok, scenes
from alitok_lite.measure import repaint
from alitok_lite.viz import repaint as view

SHEETS = Path(view.__file__).parents[1] / "sheets"


def test_changes_are_counted_from_its_own_token():
    """One prefix token, then 2 x 2 patches of one pixel: patch 0 moves by 0.5 with the last token."""
    frames = torch.zeros(1, 6, 3, 2, 2)
    frames[0, :2] = 9  # before any patch is told: counts for nobody
    frames[0, 2, :, 0, 1] = 9  # patch 1 is not told yet
    frames[0, 5, :, 0, 0] = 0.5
    expected = torch.zeros(1, 6, 4)
    expected[0, 5, 0] = 0.5
    assert torch.equal(repaint.changes(frames, 1), expected)
    assert repaint.repainted(frames, 1).tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("stage", [1, 2])
def test_only_a_bidirectional_decoder_repaints(stage):
    model = small_model()
    frames = repaint.told(model.tokenizer, torch.randint(0, 16, (2, 7)), stage)
    change = repaint.changes(frames, 16)[:, -1]
    assert (change.max() == 0) == (stage == 1)
    assert (change[:, -1] == 0).all()  # the last patch is told last


@pytest.mark.slow
def test_the_share_that_the_pages_name():
    """86 % and none, on 24 unseen scenes of six classes."""
    names = ("lighthouse", "house", "balloon", "face", "butterfly", "car")
    kinds = [scenes.CLASSES.index(name) for name in names] * 4
    pictures = scenes.render(kinds, seed=scenes.TEST_SEED + 3, size=64)
    share = {}
    for name in view.SHIPPED:
        tokenizer = AliTok.from_pretrained(name, "cpu").tokenizer
        share[name] = repaint.repainted(repaint.told(tokenizer, tokenizer.encode(pictures)), 16).float().mean().item()
    assert 0.84 <= share["scenes-baseline"] <= 0.88 and share["scenes-noprefix"] == 0


def near(picture, path, frame=0):
    with Image.open(path) as stored:
        stored.seek(frame)
        pixels = np.asarray(stored.convert("RGB"), float)
    assert pixels.shape == np.asarray(picture).shape
    return np.abs(pixels - np.asarray(picture)).mean() < 1


def test_shipped_pictures_are_what_the_functions_make(tmp_path):
    picture, tellings = view.tell()
    frames = view.animation(tellings)
    assert near(view.strip(picture, tellings), SHEETS / "repaint.png")
    with Image.open(SHEETS / "repaint.webp") as stored:
        assert stored.n_frames == len(frames) == 16 and stored.info["loop"] == 0
    assert all(
        near(frames[number - 1], SHEETS / "repaint.webp", number) for number in range(16)
    )  # the last comes first
    assert (SHEETS / "repaint.webp").stat().st_size < 1.5e6
    view.save_animation(frames[:2], tmp_path / "two.webp")
    assert near(frames[0], tmp_path / "two.webp", 1)


def test_counts_and_outlines():
    """Seven of the first eight patches, as the page's picture shows them."""
    _, (conventional, causal) = view.tell()
    assert view.cell(conventional, 8, 2)[1] == 7 and view.cell(causal, 8, 2)[1] == 0
    outline = Image.new("RGB", (1, 1), view.RED).getpixel((0, 0))
    assert view.cell(conventional, 8, 2)[0].getpixel((0, 0)) == outline
    assert view.cell(causal, 8, 2)[0].getpixel((0, 0)) != outline
