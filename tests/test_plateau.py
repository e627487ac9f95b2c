"""How long a tokenizer paints only the mean picture: as measured, as published and as drawn."""

import json

import pytest
import torch
from conftest import small_model

from alitok_lite import viz
from alitok_lite.core.quantizer import VectorQuantizer
from alitok_lite.study import plateau


@pytest.fixture
def short(monkeypatch):
    """Four pictures a step, and four to measure on."""
    monkeypatch.setattr(plateau, "SETTINGS", plateau.replace(plateau.SETTINGS, batch=4, pictures=8))
    monkeypatch.setattr(plateau, "PICTURES", 4)


def test_explained_variance_is_0_for_the_mean_picture_and_1_for_perfect_ones(monkeypatch):
    tokenizer, pixels = small_model().tokenizer, torch.rand(6, 3, 32, 32)
    for decoded, wanted in ((pixels.mean(0).expand(6, -1, -1, -1), 0.0), (pixels, 1.0), (1 - pixels, -3.0)):
        monkeypatch.setattr(tokenizer, "decode", lambda ids, decoded=decoded: decoded)
        assert plateau.explained(tokenizer, pixels) == pytest.approx(wanted, abs=0.9 if wanted < 0 else 1e-5)


def test_a_training_is_measured_at_its_steps_and_keeps_its_codebook_up(short, monkeypatch):
    calls, real = [], VectorQuantizer.revive
    monkeypatch.setattr(VectorQuantizer, "revive", lambda self, *given: calls.append(len(given)) or real(self, *given))
    plain, again, ready = (plateau.plateau(0.2, standardised, 3, (0, 2)) for standardised in (False, False, True))
    assert calls == [2] * 6 and plain == again
    assert plain["explained"][1] != plain["explained"][0]
    assert (ready["contrast"], ready["standardised"], ready["seed"], ready["steps"]) == (0.2, True, 3, [0, 2])
    assert ready["explained"] != plain["explained"]


def test_latents_that_differ_only_between_positions_do_not_differ_between_pictures(monkeypatch):
    tokenizer, pixels = small_model().tokenizer, torch.rand(6, 3, 32, 32)
    torch.manual_seed(0)
    for latents, wanted in (
        (torch.randn(1, 7, 4).expand(6, -1, -1), 0.0),
        (torch.randn(500, 7, 4), 1.0),
        (torch.randn(500, 7, 4) + 2 * torch.randn(1, 7, 4), 0.45),
    ):
        monkeypatch.setattr(tokenizer.encoder, "forward", lambda pixels, latents=latents: latents)
        assert plateau.between(tokenizer, pixels) == pytest.approx(wanted, abs=0.1)


def test_contrast_is_around_grey():
    assert torch.allclose(plateau.faded(torch.tensor([0.0, 0.5, 1.0]), 0.2), torch.tensor([0.4, 0.5, 0.6]))


def test_the_published_runs():
    """At every contrast the plain tokenizers leave the mean picture later, and the later the lower the contrast."""
    made = json.loads(plateau.PLATEAU.read_text())
    found = {(one["contrast"], one["standardised"], one["seed"]): one for one in made["runs"]}
    assert set(found) == {(c, s, n) for c in plateau.CONTRASTS for s in (False, True) for n in range(3)}

    def left(contrast: float, standardised: bool) -> list[int]:
        """The first step of each seed at which a tenth of the variance is explained."""
        runs = [found[contrast, standardised, seed] for seed in range(3)]
        return sorted(next((s for s, x in zip(r["steps"], r["explained"], strict=True) if x > 0.1), 999) for r in runs)

    for contrast in plateau.CONTRASTS:
        assert max(left(contrast, True)) <= 200 and left(contrast, True)[1] < left(contrast, False)[1]
        first = plateau.STEPS.index(100)
        shares = [[found[contrast, s, seed]["between"][first] for seed in range(3)] for s in (False, True)]
        assert sorted(shares[0])[1] < min(shares[1])  # more of what differs between pictures is in the latents
    plain = [left(contrast, False)[1] for contrast in plateau.CONTRASTS]
    assert plain == sorted(plain) and plain[0] < plain[-1]


def test_the_runs_are_drawn_with_their_spread():
    runs = [
        {"contrast": c, "standardised": s, "steps": [0, 10], "explained": [0.0, high]}
        for c, s, high in ((1.0, False, 0.1), (1.0, False, 0.3), (1.0, True, 0.4), (0.2, True, 0.5))
    ]
    figure = viz.plateaus(runs)
    assert [ax.get_title() for ax in figure.axes] == ["contrast x 1", "contrast x 0.2"]
    means = [
        {
            line.get_label(): line.get_ydata()[-1]
            for line in ax.lines
            if len(line.get_ydata()) == 2 and line.get_marker() == "o"
        }
        for ax in figure.axes
    ]
    assert [sorted(found.values()) for found in means] == [[pytest.approx(0.2), 0.4], [0.5]]
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0, pytest.approx(0.3))
