"""PSNR, Frechet distance, nats, and a judge that learns."""

import math

import pytest
import torch
from conftest import small_model

from alitok_lite import metrics, scenes


def test_psnr_of_a_known_error():
    pixels = torch.rand(3, 3, 8, 8) / 2
    torch.testing.assert_close(metrics.psnr(pixels + 0.1, pixels), torch.full((3,), 20.0), atol=1e-3, rtol=0)


def test_frechet_distance_equals_the_formula():
    linalg = pytest.importorskip("scipy.linalg")
    torch.manual_seed(0)
    a, b = torch.randn(500, 6) @ torch.randn(6, 6), torch.randn(400, 6) @ torch.randn(6, 6) + 1
    cov_a, cov_b = a.double().T.cov(), b.double().T.cov()
    root = torch.from_numpy(linalg.sqrtm((cov_a @ cov_b).numpy()).real)
    expected = (a.double().mean(0) - b.double().mean(0)).square().sum() + (cov_a + cov_b - 2 * root).trace()
    assert metrics.frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-6)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    with pytest.raises(ValueError, match="not finite"):
        metrics.frechet_distance(a, b * float("nan"))


def test_nats_are_those_of_the_logits(model, device):
    ids, labels = torch.randint(16, (5, 7), device=device), torch.randint(3, (5,), device=device)
    nats, hits = metrics.nats_per_token(model.ar, ids, labels, batch=2)
    probabilities = model.ar(ids, labels).softmax(-1)
    expected = -probabilities.gather(-1, ids[..., None])[..., 0].log()
    torch.testing.assert_close(nats, expected.detach().cpu(), atol=1e-4, rtol=1e-4)
    assert torch.equal(hits.bool(), (probabilities.argmax(-1) == ids).cpu())


def test_judge_learns(device):
    """Two classes that a glance tells apart."""
    labels = torch.arange(16) % 2

    def batches(step):
        return scenes.render(labels * 8, step, 32, device), labels.to(device)  # sea and planet

    judge = metrics.train_judge(batches, 2, 25, device)
    pixels, wanted = batches(scenes.TEST_SEED)
    assert (judge(pixels).argmax(1) == wanted).float().mean() >= 0.9


def test_evaluate_of_identical_pictures_is_perfect(device, monkeypatch):
    """A tokenizer that copies: infinite PSNR up to its cap, no distance, every code counted."""
    model = small_model((2,)).to(device)
    model.ar = None
    pixels, labels = torch.rand(20, 3, 32, 32, device=device), torch.zeros(20, dtype=torch.long, device=device)
    ids = torch.arange(140, device=device).view(20, 7) % 8
    monkeypatch.setattr(model.tokenizer, "encode", lambda p: ids)
    monkeypatch.setattr(model.tokenizer, "decode", lambda i, stage: pixels)
    results = metrics.evaluate(model, metrics.Judge(3).to(device), pixels, labels)
    assert results["psnr_stage2"] == pytest.approx(100)
    assert results["rfd_stage2"] == pytest.approx(0, abs=1e-6)
    assert results["active_codes"] == 8 / 16
    assert "gfd" not in results
    assert math.isfinite(results["judge_real"])
