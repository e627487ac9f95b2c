"""PSNR, SSIM, rows, codes, nats, Frechet distances, a judge that learns, and all of it together."""

import hashlib
import math
import socket
import sys
import types

import numpy as np
import pytest
import torch
from conftest import small_model
from PIL import Image

from alitok_lite import scenes
from alitok_lite.data import PictureFolder, sources
from alitok_lite.measure import evaluation, metrics
from alitok_lite.measure.judge import DetailJudge, Details, Judge, stored_judge, train_judge


def test_psnr_of_a_known_error():
    pixels = torch.rand(3, 3, 8, 8) / 2
    torch.testing.assert_close(metrics.psnr(pixels + 0.1, pixels), torch.full((3,), 20.0), atol=1e-3, rtol=0)


def reference_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of one picture (3, H, W), by scipy."""
    ndimage = pytest.importorskip("scipy.ndimage")

    def blurred(x):
        window = {"sigma": 1.5, "truncate": 3.4, "axes": (1, 2)}  # 5 pixels to each side
        return ndimage.gaussian_filter(x, **window)[:, 5:-5, 5:-5]

    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    both = blurred(a * b) - mean_a * mean_b
    upper = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
    return (upper / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))).mean()


def test_ssim_equals_an_independent_computation(device):
    pixels = scenes.render([0, 5, 9], 3, 32)
    noisy = (pixels + 0.1 * torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    for other in (noisy, pixels.flip(3), pixels * 0.5, 1 - pixels):
        expected = [reference_ssim(a.numpy(), b.numpy()) for a, b in zip(other, pixels, strict=True)]
        found = metrics.ssim(other.to(device), pixels.to(device)).cpu()
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), atol=2e-5, rtol=0)


def test_ssim_of_flat_pictures_and_its_order(device):
    """Flat pictures a, b have (2ab + c1) / (a^2 + b^2 + c1); equal ones 1; more noise means less; sides are equal."""
    a, b = torch.full((1, 3, 12, 16), 0.2, device=device), torch.full((1, 3, 12, 16), 0.6, device=device)
    assert metrics.ssim(a, b).item() == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4), abs=1e-4)
    pixels = scenes.render([1, 2], 3, 32, device)
    noise = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    torch.testing.assert_close(metrics.ssim(pixels, pixels), torch.ones(2, device=device))
    little, much = (metrics.ssim(pixels + share * noise, pixels) for share in (0.05, 0.2))
    assert (much < little).all() and (little < 1).all()
    torch.testing.assert_close(metrics.ssim(pixels, pixels + noise), metrics.ssim(pixels + noise, pixels))
    with pytest.raises(ValueError, match="10 x 32 pixels; SSIM needs 11 x 11"):
        metrics.ssim(pixels[:, :, :10], pixels[:, :, :10])


def test_row_errors_stand_in_their_rows():
    pixels, decoded = torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 32)
    decoded[0, 1, 17, 5] = 0.5  # row 2 of 4
    decoded[1] = 0.1
    rows = metrics.row_errors(decoded, pixels, 8)
    expected = torch.tensor([[0, 0, 0.25 / (3 * 8 * 32), 0], [0.01] * 4])
    torch.testing.assert_close(rows, expected)


def test_unigram_entropy_of_known_shares():
    assert metrics.unigram_entropy(torch.arange(16).view(2, 8), 16) == pytest.approx(math.log(16))
    assert metrics.unigram_entropy(torch.full((3, 4), 5), 16) == 0
    assert metrics.unigram_entropy(torch.tensor([[0, 0], [1, 2]]), 3) == pytest.approx(1.5 * math.log(2))


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
    with pytest.raises(ValueError, match="not 500 and 1"):
        metrics.frechet_distance(a, b[:1])


def test_predictability_is_that_of_the_logits(model, device):
    ids, labels = torch.randint(16, (5, 7), device=device), torch.randint(3, (5,), device=device)
    nats, top1, top5, _ = metrics.predictability(model.ar, ids, labels, batch=2)
    probabilities = model.ar(ids, labels).softmax(-1)
    own = probabilities.gather(-1, ids[..., None])  # (5, 7, 1)
    torch.testing.assert_close(nats, -own[..., 0].log().detach().cpu(), atol=1e-4, rtol=1e-4)
    likelier = (probabilities > own).sum(-1).cpu()
    assert torch.equal(top1.bool(), likelier == 0)
    assert torch.equal(top5.bool(), likelier < 5)
    assert 0 < top1.sum() < top5.sum() < top5.numel()
    for short, long in zip(metrics.nats_per_token(model.ar, ids, labels), (nats, top1), strict=True):
        torch.testing.assert_close(short, long, atol=1e-5, rtol=1e-5)


def test_judge_learns(device):
    """Two classes that a glance tells apart; the same judge twice."""
    labels = torch.arange(16) % 2

    def batches(step):
        return scenes.render(labels * 8, step, 32, device), labels.to(device)  # sea and planet

    judge, again = (train_judge(batches, 2, 25, device) for _ in range(2))
    pixels, wanted = batches(scenes.TEST_SEED)
    assert (judge(pixels).argmax(1) == wanted).float().mean() >= 0.9
    assert all(torch.equal(a, b) for a, b in zip(judge.parameters(), again.parameters(), strict=True))


def test_details_learn_beside_a_judge_that_stays_the_same(device):
    labels, looks = torch.arange(8) % 2, []

    def batches(step):
        return scenes.render(labels * 8, step, 32, device), labels.to(device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Details, "forward", lambda self, x, real=Details.forward: looks.append(x) or real(self, x))
        judge = train_judge(batches, 2, 25, device, 0, DetailJudge)
    alone = train_judge(batches, 2, 25, device)
    state = judge.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in alone.state_dict().items())
    assert len(looks) == 9 and torch.equal(looks[1], batches(3)[0])  # every third step
    pixels, wanted = batches(scenes.TEST_SEED)
    assert not judge.details.training and (judge.details(pixels).argmax(1) == wanted).float().mean() >= 0.9


def test_a_judge_with_details_is_kept_and_an_earlier_one_is_read(tmp_path, device):
    labels = torch.arange(8) % 2

    def batches(step):
        return scenes.render(labels * 8, step, 32, device), labels.to(device)

    asked = batches, ["sea", "planet"], 2, device
    first = stored_judge(tmp_path / "new", *asked, DetailJudge)
    again = stored_judge(tmp_path / "new", None, *asked[1:], DetailJudge)
    assert isinstance(first, DetailJudge) and isinstance(again, DetailJudge) and not again.details.training
    assert first.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())
    plain = stored_judge(tmp_path / "earlier", *asked)
    read = stored_judge(tmp_path / "earlier", None, *asked[1:], DetailJudge)
    assert type(read) is type(plain) is Judge
    assert all(torch.equal(a, b) for a, b in zip(read.parameters(), plain.parameters(), strict=True))
    with pytest.raises(ValueError, match="not hold a judge of these"):
        stored_judge(tmp_path / "new", *asked)


def test_details_are_windows_of_17_pixels(device):
    """What a window shows does not depend on pixels outside of it; the smallest picture has 16 pixels."""
    details = Details(3).to(device).eval()
    pixels = torch.rand(1, 3, 64, 64, device=device, requires_grad=True)
    details.windows(pixels.mean(1, keepdim=True))[0, :, 6, 6].sum().backward()
    rows, columns = (pixels.grad.abs().sum((0, 1)) > 0).nonzero().unbind(1)
    assert len(rows.unique()) == len(columns.unique()) == rows.max() - rows.min() + 1 == 17
    assert details(torch.rand(2, 3, 16, 16, device=device)).shape == (2, 3)


def test_details_have_no_colour(device):
    """Equal sums of the channels are equal pictures; brighter ones are not."""
    details = Details(3).to(device).eval()
    pixels = torch.rand(2, 3, 32, 32, device=device)
    torch.testing.assert_close(details(pixels.flip(1)), details(pixels))
    assert not torch.allclose(details(pixels), details(0.5 * pixels))


def test_a_stored_judge_is_trained_once(tmp_path, device, monkeypatch):
    labels = torch.arange(8) % 2

    def batches(step):
        return scenes.render(labels * 8, step, 32, device), labels.to(device)

    path = tmp_path / "judge.safetensors"
    judge = stored_judge(path, batches, ["sea", "planet"], 2, device)
    assert not judge.training and [file.name for file in tmp_path.iterdir()] == [path.name]
    trained = train_judge(batches, 2, 2, device)
    assert all(torch.equal(a, b) for a, b in zip(judge.parameters(), trained.parameters(), strict=True))

    def first_come(*arguments):
        """While this process trains, another one has finished."""
        (tmp_path / "theirs").rename(path)
        return Judge(2).to(device)

    path.rename(tmp_path / "theirs")
    monkeypatch.setattr("alitok_lite.measure.judge.train_judge", first_come)
    for _ in range(2):  # the second time nothing is trained, or the renaming would fail
        again = stored_judge(path, batches, ["sea", "planet"], 2, device)
        assert all(torch.equal(a, b) for a, b in zip(judge.parameters(), again.parameters(), strict=True))
    for classes, steps in ((["planet", "sea"], 2), (["sea", "planet", "fish"], 2), (["sea", "planet"], 3)):
        with pytest.raises(ValueError, match="not hold a judge of these"):
            stored_judge(path, batches, classes, steps, device)
    for damage in (b"", path.read_bytes()[:-100]):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match="does not hold a judge: "):
            stored_judge(path, batches, ["sea", "planet"], 2, device)


def test_unseen_scenes_are_test_scenes_in_batches(monkeypatch):
    monkeypatch.setattr(sources, "BATCH", 4)
    monkeypatch.setattr(metrics, "BATCH", 4)
    batches = list(sources.unseen_scenes(10, 1, 16, torch.device("cpu")))
    assert [labels.tolist() for _, labels in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    pixels = torch.cat([pixels for pixels, _ in batches])
    assert torch.equal(pixels[4:8], scenes.render([4, 5, 6, 7], scenes.TEST_SEED + 1_000_003 + 4, 16))
    assert len(pixels.flatten(1).unique(dim=0)) == 10  # the batches differ
    again, other = (next(sources.unseen_scenes(10, seed, 16, torch.device("cpu"))) for seed in (1, 2))
    assert torch.equal(again[0], pixels[:4])
    assert not torch.equal(other[0], pixels[:4])
    seeds = []
    monkeypatch.setattr(scenes, "render", lambda labels, seed, size, device: seeds.append(seed))
    for seed in (0, 2**32 - 1):
        list(sources.unseen_scenes(10, seed, 16, torch.device("cpu")))
    assert len(set(seeds)) == 6 and min(seeds) >= scenes.TEST_SEED and max(seeds) < 2**63


def test_whole_pictures_are_spread_over_the_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BATCH", 3)
    monkeypatch.setattr(metrics, "BATCH", 3)
    for number, name in enumerate(("a", "b", "c", "d")):
        for split in ("train", "test"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(5):
                Image.new("RGB", (16, 16), (60 * number, 20 * i, 0)).save(tmp_path / split / name / f"{i}.png")
    folder = PictureFolder(tmp_path, 16, "test", workers=0)
    batches = list(sources.whole_pictures(folder, 8))
    assert [len(labels) for _, labels in batches] == [3, 3, 2]
    labels = torch.cat([labels for _, labels in batches])
    assert labels.bincount().tolist() == [2, 2, 2, 2]
    pixels = torch.cat([pixels for pixels, _ in batches])
    assert torch.equal((pixels[:, 0, 0, 0] * 255 / 60).round().long(), labels)
    assert sum(len(labels) for _, labels in sources.whole_pictures(folder, 100)) == 20


@pytest.fixture
def judge(device):
    torch.manual_seed(1)
    return Judge(3).to(device).eval()


@pytest.fixture
def pictures(device):
    """24 pictures and their labels."""
    pixels = scenes.render([0, 5, 9] * 8, scenes.TEST_SEED, 32, device)
    return pixels, torch.tensor([0, 1, 2] * 8, device=device)


def close(a: dict, b: dict) -> bool:
    """Equal up to the rounding of sums over other batches."""
    return a.keys() == b.keys() and all(b[key] == pytest.approx(a[key], rel=1e-3, abs=1e-4) for key in a)


def test_evaluate_of_identical_pictures_is_perfect(device, judge, monkeypatch):
    """A tokenizer that copies: infinite PSNR up to its cap, no distance, every code counted."""
    model = small_model((2,)).to(device)
    model.ar = None
    pixels, labels = torch.rand(20, 3, 32, 32, device=device), torch.zeros(20, dtype=torch.long, device=device)
    ids = torch.arange(140, device=device).view(20, 7) % 8
    monkeypatch.setattr(model.tokenizer, "encode", lambda p: ids)
    monkeypatch.setattr(model.tokenizer, "decode", lambda i, stage: pixels)
    results = evaluation.evaluate(model, judge, [(pixels, labels)])
    assert results["pictures"] == 20
    assert results["psnr_stage2"] == pytest.approx(100)
    assert results["ssim_stage2"] == pytest.approx(1)
    assert results["row_mse_stage2"] == [0, 0]
    assert "row_ratio_stage2" not in results  # 0 over 0
    assert results["rfd_stage2"] == pytest.approx(0, abs=1e-6)
    assert results["active_codes"] == 8 / 16
    assert results["unigram_perplexity"] == pytest.approx(8, abs=0.05)
    assert "gfd" not in results
    assert math.isfinite(results["judge_real"])


def test_evaluate_reports_each_decoder(model, judge, pictures, monkeypatch):
    """Stage 1 errs in row 0 twice as much as in row 1, stage 2 in row 1 alone."""
    pixels, labels = pictures
    errors = {1: torch.tensor([0.2, 0.1]), 2: torch.tensor([0.0, 0.1])}

    def decode(ids, stage=None):
        return pixels + errors[stage or 2].to(pixels.device).repeat_interleave(16).view(1, 1, 32, 1)

    monkeypatch.setattr(model.tokenizer, "decode", decode)
    monkeypatch.setattr(evaluation, "_later_tokens", lambda tokenizer, ids, stage: {})  # this one ignores its ids
    results = evaluation.evaluate(model, judge, [(pixels, labels)])
    assert results["row_mse_stage1"] == pytest.approx([0.04, 0.01], rel=1e-3)
    assert results["row_ratio_stage1"] == pytest.approx(4, rel=1e-3)
    assert results["row_ratio_stage2"] == pytest.approx(0, abs=1e-3)
    assert results["psnr_stage1"] == pytest.approx(-10 * math.log10(0.025), abs=1e-2)
    assert results["psnr_stage2"] == pytest.approx(-10 * math.log10(0.005), abs=1e-2)
    for stage in (1, 2):
        expected = metrics.ssim(decode(None, stage), pixels).mean().item()
        assert results[f"ssim_stage{stage}"] == pytest.approx(expected, rel=1e-4)
    assert results["rfd_stage2"] < results["rfd_stage1"]
    assert results["gfd"] == pytest.approx(results["rfd_stage2"])  # every sample is one of the reconstructions
    assert results["generation_gap"] == pytest.approx(0, abs=1e-4)


def test_evaluate_reports_tokens(model, judge, pictures):
    pixels, labels = pictures
    results = evaluation.evaluate(model, judge, [(pixels, labels)])
    nats, top1, top5, _ = metrics.predictability(model.ar, model.tokenizer.encode(pixels), labels)
    for name, values in (("nats", nats), ("top1", top1), ("top5", top5)):
        assert results[name] == pytest.approx(values.mean().item(), rel=1e-4)
        assert results[f"{name}_prefix"] == pytest.approx(values[:, :3].mean().item(), rel=1e-4)
        assert results[f"{name}_image"] == pytest.approx(values[:, 3:].mean().item(), rel=1e-4)
        assert results[f"{name}_positions"] == pytest.approx(values.mean(0).tolist(), rel=1e-4)
    assert results["bits_per_image"] == pytest.approx(nats.sum(1).mean().item() / math.log(2), rel=1e-4)
    assert not any(key.endswith("_train") or "inception" in key for key in results)


def test_evaluate_reports_samples(model, judge, pictures, device):
    """Samples have the labels of the pictures; another seed draws others."""
    pixels, labels = pictures
    results = evaluation.evaluate(model, judge, [(pixels, labels)])
    drawn = judge.features(model.sample(labels.tolist(), seed=0))
    assert results["gfd"] == pytest.approx(metrics.frechet_distance(judge.features(pixels), drawn), rel=1e-3)
    assert results["generation_gap"] == pytest.approx(results["gfd"] - results["rfd_stage2"])
    assert results["judge_samples"] == pytest.approx((judge.output(drawn).argmax(1) == labels).float().mean().item())
    assert evaluation.evaluate(model, judge, [(pixels, labels)]) == results
    other = evaluation.evaluate(model, judge, [(pixels, labels)], seed=1)
    assert {key for key in results if other[key] != results[key]} <= {"gfd", "generation_gap", "judge_samples"}
    assert other["gfd"] != results["gfd"]


def test_evaluate_asks_for_details_too(model, pictures, device):
    """And all other numbers are those of the judge alone."""
    pixels, labels = pictures
    torch.manual_seed(0)
    judge, alone = DetailJudge(3).to(device).eval(), Judge(3).to(device).eval()
    alone.load_state_dict({key: value for key, value in judge.state_dict().items() if not key.startswith("details.")})
    found, plain = (evaluation.evaluate(model, one, [(pixels, labels)]) for one in (judge, alone))
    assert plain == {key: found[key] for key in plain}
    places = ("real", "stage1", "stage2", "samples")
    beside = {f"details{kind}_{place}" for place in places for kind in ("", "_lowest", "_classes")}
    assert found.keys() - plain.keys() == beside | {"judge_stage1", "judge_stage2"}
    ids = model.tokenizer.encode(pixels)
    shown = [pixels, *(model.tokenizer.decode(ids, stage) for stage in (1, 2)), model.sample(labels.tolist(), seed=0)]
    for place, looked_at in zip(places, shown, strict=True):
        hits = (judge.details(looked_at).argmax(1) == labels).float()
        classes = [hits[labels == label].mean().item() for label in range(3)]
        assert found[f"details_{place}"] == pytest.approx(hits.mean().item())
        assert found[f"details_classes_{place}"] == pytest.approx(classes)
        assert found[f"details_lowest_{place}"] == pytest.approx(min(classes))
        whole = (judge(looked_at).argmax(1) == labels).float().mean().item()
        assert found[f"judge_{place}"] == pytest.approx(whole)
    assert len({str(found[f"details_classes_{place}"]) for place in places}) > 1


def test_evaluate_in_batches_gives_the_same(model, judge, pictures, monkeypatch):
    pixels, labels = pictures
    whole = evaluation.evaluate(model, judge, [(pixels, labels)])
    monkeypatch.setattr(metrics, "LOGITS", 5 * 7 * 16)  # five pictures at once for the AR model
    at_once = []
    model.ar.norm.register_forward_hook(lambda norm, inputs, output: at_once.append(len(output)))
    batches = zip(pixels.split(7), labels.split(7), strict=True)  # an iterator: the pictures are gone over once
    assert close(evaluation.evaluate(model, judge, batches), whole)
    assert max(at_once) == 5


def test_evaluate_without_prefix_or_causal_decoder(device, judge, pictures):
    model = small_model((2,), aligned=False, prefix=False).to(device)
    results = evaluation.evaluate(model, judge, [pictures])
    assert len(results["nats_positions"]) == 4
    assert results["nats_image"] == results["nats"]
    assert "nats_prefix" not in results
    assert not any("stage1" in key for key in results)
    assert results["generation_gap"] == pytest.approx(results["gfd"] - results["rfd_stage2"])


def test_evaluate_on_training_pictures_too(model, judge, pictures, device):
    pixels, labels = pictures
    training = scenes.render([3, 4, 6] * 5, 1, 32, device), torch.tensor([0, 1, 2] * 5, device=device)
    results = evaluation.evaluate(model, judge, [(pixels, labels)], [training])
    swapped = evaluation.evaluate(model, judge, [training], [(pixels, labels)])
    assert results["pictures"] == 24
    for name, unseen in (("nats_train", "nats"), ("top1_train", "top1"), ("judge_train", "judge_real")):
        assert results[name] == pytest.approx(swapped[unseen])
        assert swapped[name] == pytest.approx(results[unseen])
    assert results["nats_train"] != results["nats"]


def test_the_floor_is_the_distance_of_real_pictures_to_others(model, judge, pictures, device):
    pixels, labels = pictures
    more = scenes.render([0, 5, 9] * 8, scenes.TEST_SEED + 100, 32, device), labels
    features, others = judge.features(pixels), judge.features(more[0])
    given = evaluation.evaluate(model, judge, [pictures], others=[more])
    assert given["fd_floor"] == pytest.approx(metrics.frechet_distance(features, others), rel=1e-3)
    assert given["fd_floor_pictures"] == 24
    halves = evaluation.evaluate(model, judge, [pictures])
    order = [i for c in range(3) for i in range(c, 24, 3)]  # eight of each class: four of each in a half
    expected = metrics.frechet_distance(features[order[::2]], features[order[1::2]])
    assert halves["fd_floor"] == pytest.approx(expected, rel=1e-3) and halves["fd_floor_pictures"] == 12
    assert {key: value for key, value in halves.items() if "floor" not in key} == {
        key: value for key, value in given.items() if "floor" not in key
    }


@pytest.mark.parametrize(("count", "halves"), [(2, None), (3, None), (4, 2), (5, 2)])
def test_few_pictures_have_no_floor(model, judge, pictures, count, halves):
    results = evaluation.evaluate(model, judge, [(pictures[0][:count], pictures[1][:count])])
    assert results.get("fd_floor_pictures") == halves and ("fd_floor" in results) == (halves is not None)


def test_chance_is_the_share_of_the_largest_class(model, judge, pictures):
    labels = torch.tensor([0] * 12 + [1] * 8 + [2] * 4, device=pictures[1].device)
    assert evaluation.evaluate(model, judge, [(pictures[0], labels)])["judge_chance"] == 0.5


def test_a_stored_judge_lies_behind_links_too(tmp_path, device):
    labels = torch.arange(8) % 2

    def batches(step):
        return scenes.render(labels * 8, step, 32, device), labels.to(device)

    (tmp_path / "link").symlink_to("judge")
    stored_judge(tmp_path / "link", batches, ["sea", "planet"], 2, device)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["judge", "link"]
    assert (tmp_path / "link").is_symlink()


def test_evaluate_refuses_a_broken_model(model, judge, pictures):
    model.ar.output.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="logits are not finite"):
        evaluation.evaluate(model, judge, [pictures])


@pytest.fixture
def offline(monkeypatch):
    """Whatever connects to the network fails."""

    def refused(*arguments, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refused)


class StubInception(torch.nn.Module):
    """Takes the arguments of torch-fidelity's network; its features are colours."""

    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        assert name == "inception-v3-compat" and features_list == ["2048"]
        assert feature_extractor_weights_path  # without a path it would download

    def forward(self, pixels):
        assert pixels.dtype == torch.uint8
        return (pixels.float().mean((2, 3)),)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """torch-fidelity installed, as a stub, and the place of its weights, where nothing is yet."""
    module = types.ModuleType("torch_fidelity")
    module.FeatureExtractorInceptionV3 = StubInception
    monkeypatch.setitem(sys.modules, "torch_fidelity", module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"


def test_inception_says_what_is_missing(weights, device, offline, monkeypatch):
    with pytest.raises(ValueError, match="needs its weights") as missing:
        metrics.inception_features(device)
    assert str(weights) in str(missing.value) and "https://" in str(missing.value)
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"half a file")
    with pytest.raises(ValueError, match="damaged"):
        metrics.inception_features(device)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match="needs torch-fidelity .* pip install"):
        metrics.inception_features(device)


def test_inception_says_when_torchvision_does_not_fit(device, offline, monkeypatch):
    """A torchvision made for another torch raises RuntimeError when torch-fidelity imports it."""

    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setitem(sys.modules, "torch_fidelity", Broken("torch_fidelity"))
    with pytest.raises(ValueError, match="a torchvision that fits torch .*nms does not exist"):
        metrics.inception_features(device)


def test_inception_measures_beside_the_judge(weights, model, judge, pictures, device, offline, monkeypatch):
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    monkeypatch.setattr(metrics, "INCEPTION_SHA256", hashlib.sha256(b"weights").hexdigest())
    inception = metrics.inception_features(device)
    half = torch.full((1, 3, 4, 4), 0.5, device=device)
    assert inception(half * 2.2).tolist() == [[255.0] * 3]  # clamped
    assert inception(half).tolist() == [[128.0] * 3]  # rounded, not cut off
    results = evaluation.evaluate(model, judge, [pictures], inception=inception)
    plain = evaluation.evaluate(model, judge, [pictures])
    names = ("rfd_stage1", "rfd_stage2", "gfd", "generation_gap", "fd_floor", "sampling_loss", "sampling_loss_floor")
    extra = {f"inception_{name}" for name in names}
    assert results.keys() - plain.keys() == extra
    assert all(results[key] == plain[key] for key in plain)
    colours = [inception(p) for p in (pictures[0], model.tokenizer.decode(model.tokenizer.encode(pictures[0]), 1))]
    assert results["inception_rfd_stage1"] == pytest.approx(metrics.frechet_distance(*colours), rel=1e-3)
    assert results["inception_generation_gap"] == results["inception_gfd"] - results["inception_rfd_stage2"]
