"""EfficientNet-Lite: its weights from files of two kinds, the features term of the loss, and the Lite0 measures."""

import sys

import pytest
import torch
import torch.nn.functional as F
from small_lite import save_weights, stand_in, tensors
from test_perceptual import check_ar_model_without, check_training, no_network  # noqa: F401

from alitok_lite.measure.efficientnet import efficientnet_lite, prepared
from alitok_lite.measure.lite0 import Probe, lite0_features
from alitok_lite.train.perceptual import FeatureLoss

CPU = torch.device("cpu")


@pytest.fixture
def timm(monkeypatch):
    """The stand-in, also where the real one is installed."""
    module = stand_in()
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


@pytest.fixture
def weights(timm, tmp_path, monkeypatch):
    """Files that ALITOK_LITE0 and ALITOK_LITE2 name; the tensors in both."""
    for number in (0, 2):
        made = save_weights(tmp_path / f"lite{number}.safetensors")
        monkeypatch.setenv(f"ALITOK_LITE{number}", str(tmp_path / f"lite{number}.safetensors"))
    return made


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("number", [0, 2])
def test_every_tensor_comes_to_its_place(timm, tmp_path, monkeypatch, old, suffix, number):
    wanted = save_weights(tmp_path / f"weights{suffix}", old)
    monkeypatch.setenv(f"ALITOK_LITE{number}", str(tmp_path / f"weights{suffix}"))
    network = efficientnet_lite(number)
    found = network.state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert timm.asked == [f"tf_efficientnet_lite{number}"]
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    depths = efficientnet_lite(number, features_only=True).state_dict()
    assert depths and all(torch.equal(value, wanted[key]) for key, value in depths.items())


def test_half_precision_becomes_float32(timm, tmp_path, monkeypatch):
    path = tmp_path / "half.safetensors"
    halves = {key: value.half() for key, value in tensors().items() if value.is_floating_point()}
    save_weights(path, **halves)
    monkeypatch.setenv("ALITOK_LITE0", str(path))
    found = efficientnet_lite(0).state_dict()
    assert found["conv_stem.weight"].dtype == torch.float32
    assert torch.equal(found["conv_stem.weight"], halves["conv_stem.weight"].float())


def test_weights_in_the_cache_are_found(timm, tmp_path, monkeypatch):
    monkeypatch.delenv("ALITOK_LITE2", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"not in the Hub's cache: .*hf download timm/tf_efficientnet_lite2.in1k"):
        efficientnet_lite(2)
    repository = tmp_path / "cache" / "models--timm--tf_efficientnet_lite2.in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    wanted = save_weights(repository / "snapshots" / "abc" / "model.safetensors")
    found = efficientnet_lite(2).state_dict()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def sentence(number: int, **options) -> str:
    """The error of loading, which must be one sentence that names the network."""
    with pytest.raises(ValueError) as caught:
        efficientnet_lite(number, **options)
    assert "\n" not in str(caught.value) and f"EfficientNet-Lite{number}" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("number", [0, 2])
def test_missing_file_is_one_sentence(timm, tmp_path, monkeypatch, number):
    monkeypatch.setenv(f"ALITOK_LITE{number}", str(tmp_path))
    error = sentence(number)
    assert str(tmp_path) in error and f"ALITOK_LITE{number}" in error and "hf download" in error


def test_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "needs timm" in sentence(2) and "pip install 'alitok_lite[train]'" in sentence(2)


def test_torchvision_of_another_torch_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert torch.__version__ in sentence(2) and "torchvision::nms" in sentence(2)


@pytest.mark.parametrize("features_only", [False, True])
def test_what_is_no_such_weights_is_one_sentence(timm, tmp_path, monkeypatch, features_only):
    """Damaged, empty, another shape, a tensor too few or too many, unknown names, no tensors, a function."""
    path, other = tmp_path / "weights.safetensors", tmp_path / "weights.pth"
    good = tensors()
    few = {key: value for key, value in good.items() if key != "blocks.1.1.conv_pwl.weight"}
    strange = {"_blocks.0._x.weight": good["bn1.bias"]}
    larger = {"_blocks.9._bn1.bias": good["bn1.bias"]}
    contents = few, good | {"blocks.9.weight": torch.ones(1)}, strange, larger
    for number, content in enumerate(contents):
        torch.save(content, tmp_path / f"{number}.pth")
    save_weights(path, **{"bn1.bias": torch.ones(9)})
    files = [path, *(tmp_path / f"{number}.pth" for number in range(len(contents)))]
    for number, content in enumerate((b"", b"damaged", path.read_bytes()[:100])):
        for suffix in (".pth", ".safetensors"):
            files.append(tmp_path / f"bytes{number}{suffix}")
            files[-1].write_bytes(content)
    for content in ([1, 2], {"conv_stem.weight": 3}, efficientnet_lite):
        files.append(other.with_stem(f"pickle{len(files)}"))
        torch.save(content, files[-1])
    for file in files:
        monkeypatch.setenv("ALITOK_LITE2", str(file))
        assert f"{file} does not hold the weights" in sentence(2, features_only=features_only), file
    reasons = {0: "size mismatch for bn1.bias", 1: "blocks.1.1.conv_pwl.weight is missing", 4: "it has a block 9"}
    for number, words in reasons.items():
        monkeypatch.setenv("ALITOK_LITE2", str(files[number]))
        assert words in sentence(2)


class Code:
    """Makes a file when a pickle that holds it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_runs_no_code(timm, tmp_path, monkeypatch):
    torch.save(tensors() | {"conv_stem.weight": Code(tmp_path / "made")}, tmp_path / "weights.pth")
    monkeypatch.setenv("ALITOK_LITE0", str(tmp_path / "weights.pth"))
    assert "does not hold the weights" in sentence(0)
    assert not (tmp_path / "made").exists()


# ---------------------------------------------------------------- the term of the loss


def test_equal_pictures_cost_nothing_and_others_something(weights):
    loss, pixels = FeatureLoss(), torch.rand(2, 3, 32, 32)
    assert loss(pixels.clone(), pixels) == 0
    near, far = (loss((pixels + amount * torch.randn_like(pixels)).clamp(0, 1), pixels) for amount in (0.02, 0.3))
    assert 0 < near < far


def test_features_are_enlarged_centred_and_of_unit_length(weights):
    loss = FeatureLoss()
    for depth in loss.features(torch.rand(2, 3, 32, 32)):
        torch.testing.assert_close(depth.square().sum(1), torch.ones_like(depth[:, 0]))
    assert loss.network.seen.shape == (2, 3, 160, 160)
    loss.features(torch.rand(1, 3, 192, 192))
    assert loss.network.seen.shape == (1, 3, 192, 192)  # large pictures keep their size
    grey = prepared(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 16, 16))
    torch.testing.assert_close(grey[:, 0, 0, 0], torch.tensor([-1.0, 0.0, 1.0]))


def test_term_by_hand(weights):
    """Cosines of the raw features at each place: a squared difference of unit lengths is 2 - 2 cos."""
    loss, decoded, pixels = FeatureLoss(), torch.rand(2, 3, 160, 160), torch.rand(2, 3, 160, 160)
    network = efficientnet_lite(2, features_only=True)
    pairs = zip(network(2 * decoded - 1), network(2 * pixels - 1), strict=True)
    by_hand = sum((2 - 2 * F.cosine_similarity(mine, theirs, dim=1)).mean() for mine, theirs in pairs)
    torch.testing.assert_close(loss(decoded, pixels), by_hand, rtol=1e-4, atol=1e-5)


def test_gradient_reaches_the_decoded_picture_and_nothing_else(weights):
    loss = FeatureLoss()
    decoded, pixels = (torch.rand(2, 3, 32, 32, requires_grad=True) for _ in range(2))
    loss(decoded, pixels).backward()
    assert (decoded.grad != 0).float().mean() > 0.99 and pixels.grad is None
    assert all(parameter.grad is None for parameter in loss.parameters())
    nearer = (decoded - 1e-3 * decoded.grad / decoded.grad.abs().max()).detach()
    assert loss(nearer, pixels) < loss(decoded, pixels)


def test_gradient_is_that_of_the_value(weights):
    """The slope along a direction, scaled by what follows; twice, as the critic's weight needs it."""
    loss, pixels = FeatureLoss().double(), torch.rand(2, 3, 160, 160, dtype=torch.float64)
    decoded = torch.rand_like(pixels).requires_grad_()
    loss.features = lambda given: [F.normalize(depth, dim=1) for depth in loss.network(2 * given - 1)]  # in float64
    value, along = 3 * loss(decoded, pixels), torch.randn_like(pixels)
    (first,) = torch.autograd.grad(value, decoded, retain_graph=True)
    (second,) = torch.autograd.grad(value, decoded)
    assert torch.equal(first, second)
    with torch.no_grad():
        ahead, behind = (loss(decoded + step * along, pixels) for step in (1e-6, -1e-6))
    torch.testing.assert_close((first * along).sum(), 3 * (ahead - behind) / 2e-6, rtol=1e-3, atol=1e-8)


def test_only_so_many_pictures_of_a_step_are_looked_at(weights, monkeypatch):
    monkeypatch.setattr("alitok_lite.train.perceptual.PICTURES", 3)
    loss, pixels = FeatureLoss(), torch.rand(5, 3, 32, 32)
    decoded = torch.rand(5, 3, 32, 32, requires_grad=True)
    value = loss(decoded, pixels)
    value.backward()
    torch.testing.assert_close(value, loss(decoded[:3], pixels[:3]))
    assert decoded.grad[:3].abs().sum() > 0 and not decoded.grad[3:].any()


@pytest.mark.parametrize("part", ["tokenizer", "decoder"])
def test_training_with_it(weights, tmp_path, monkeypatch, part):
    check_training("features", part, tmp_path, monkeypatch)


def test_ar_model_does_not_load_it(tmp_path, monkeypatch):
    check_ar_model_without("features", "ALITOK_LITE2", tmp_path, monkeypatch)


# ---------------------------------------------------------------- measures


def test_lite0_features_are_those_before_the_classifier(weights, timm):
    extract = lite0_features(CPU)
    assert timm.asked == ["tf_efficientnet_lite0"]  # never the one that trains
    with torch.no_grad():
        pooled = extract(torch.rand(2, 3, 160, 160) * 3 - 1)  # what lies outside [0, 1] is cut off
        assert pooled.shape == (2, 12) and pooled.dtype == torch.float32
        pixels = torch.rand(2, 3, 160, 160)
        logits = F.linear(extract(pixels), weights["classifier.weight"], weights["classifier.bias"])
        torch.testing.assert_close(logits, efficientnet_lite(0)(2 * pixels - 1))
        torch.testing.assert_close(extract(pixels * 4), extract((pixels * 4).clamp(0, 1)))


def test_probe_finds_classes_whatever_the_size_of_a_feature():
    """Three clusters, seen in one small feature beside a large one that says nothing and one that never changes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    noise = torch.randn(300, 2, generator=generator)
    features = torch.stack([1e-3 * (labels + 0.1 * noise[:, 0]), 1e3 * noise[:, 1], torch.full((300,), 7.0)], 1)
    with torch.inference_mode():
        probe = Probe(features[:200], labels[:200], 3)
        assert probe.accuracy(features[200:], labels[200:]) > 0.95
        assert probe(features[:5]).shape == (5, 3)
        right = probe(features).argmax(1) == labels
        assert probe.accuracy(features[:10], labels[:10]) == right[:10].double().mean()
        assert probe.accuracy(features[:10], (labels[:10] + 1) % 3) < 0.1
