"""Packed weights on a CPU: the same pictures, of the weights that the model has now."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from alitok_lite import AliTok
from alitok_lite import packed as fast
from alitok_lite.core.ar import ARModel
from alitok_lite.core.config import PRESETS
from alitok_lite.packed import PackedLinear, packed

pytestmark = pytest.mark.skipif(not fast._applies(nn.Linear(2, 2)), reason="weights are packed on x86 CPUs alone")


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(24, 40)


def all_ids(model, fast):
    for step in model.stream([0, 1, 2], seed=5, guidance=3.0, fast=fast):
        ids = step.ids
    return ids, step.entropy


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [(1,), (2, 1), (3, 5, 7)])
def test_a_packed_linear_computes_what_the_linear_does(dtype, bias, rows):
    torch.manual_seed(0)
    plain = nn.Linear(24, 40, bias=bias, dtype=dtype)
    if not fast._applies(plain):
        pytest.skip(f"{dtype} is not packed on this CPU")
    x = torch.randn(*rows, 24, dtype=dtype)
    found = packed(plain)(x)
    assert isinstance(packed(plain), PackedLinear) and found.dtype == dtype
    assert torch.allclose(found, plain(x), atol=1e-6 if dtype == torch.float32 else 2e-2, rtol=1e-5)


def test_sampled_tokens_and_pictures_are_those_of_the_plain_model(monkeypatch):
    model = AliTok.from_pretrained("scenes", "cpu")
    (plain, plain_entropy), (ids, entropy) = all_ids(model, False), all_ids(model, True)
    assert torch.equal(ids, plain) and torch.allclose(entropy, plain_entropy, atol=1e-4)
    picture = model.sample([0, 1, 2], seed=5, guidance=3.0)
    assert torch.allclose(picture, model.tokenizer.decode(plain), atol=1e-5)
    packs = []
    monkeypatch.setattr(fast, "_twin", lambda module: packs.append(module) or module)
    all_ids(model, False)
    model.sample([0])
    assert packs == []  # once a model, and never on the plain path


@pytest.mark.parametrize("changed", ["in place", "loaded", "bias", "replaced", "trains"])
def test_changed_weights_are_packed_anew(linear, changed):
    model = nn.Sequential(linear, nn.Dropout(0.5)).eval()
    x = torch.randn(2, 24)
    with torch.inference_mode():
        before = packed(model)(x)
        assert packed(model) is packed(model)
    if changed == "loaded":
        model.load_state_dict({key: 2 * value for key, value in model.state_dict().items()})
    elif changed == "replaced":
        other = nn.Linear(24, 40)  # changed as often as the first one since it was made
        assert other.weight._version == linear.weight._version
        linear.weight = other.weight
    elif changed == "trains":
        model.train()
    else:
        with torch.no_grad():
            (linear.bias if changed == "bias" else linear.weight).add_(1)
    with torch.inference_mode():
        torch.manual_seed(0)
        after = packed(model)(x)
        torch.manual_seed(0)
        assert torch.allclose(after, model(x), atol=1e-6) and not torch.allclose(after, before, atol=0.1)


def test_the_module_itself_stays_as_it_is_and_can_be_let_go(linear):
    model = nn.Sequential(linear, nn.LayerNorm(40))
    keys = list(model.state_dict())
    twin = packed(model)
    assert type(model[0]) is nn.Linear and list(model.state_dict()) == keys and twin[1] is not model[1]
    assert twin[1].weight is model[1].weight  # only products are packed
    gone = weakref.ref(model)
    del model, linear, twin
    gc.collect()
    assert gone() is None and not [kept for kept in fast._packed if isinstance(kept, nn.Sequential)]


@pytest.mark.parametrize(
    ("dtype", "machine"), [(torch.float16, "x86_64"), (torch.float64, "x86_64"), (torch.float32, "arm64")]
)
def test_what_does_not_apply_stays_plain(linear, monkeypatch, dtype, machine):
    monkeypatch.setattr(fast.platform, "machine", lambda: machine)
    other = copy.deepcopy(linear).to(dtype)
    assert packed(other) is other


def test_layers_without_products_and_other_kinds_of_linear_stay_plain():
    class Own(nn.Linear):
        pass

    for module in (nn.LayerNorm(3), Own(3, 3), nn.Linear(3, 3, device="meta")):
        assert packed(module) is module
    both = nn.Sequential(nn.Linear(3, 3), Own(3, 3))
    assert type(packed(both)[0]) is PackedLinear and packed(both)[1]._parameters is both[1]._parameters
    assert type(packed(both)[1]) is Own


def test_an_ar_model_in_half_precision_keeps_its_distribution():
    torch.manual_seed(0)
    ar = ARModel(PRESETS["tiny"].ar).to(torch.bfloat16).eval()
    nn.init.normal_(ar.output.weight, std=0.1)
    ids, labels = torch.randint(1024, (2, 9)), torch.tensor([1, 2])
    with torch.inference_mode():
        plain, other = ar(ids, labels).float().softmax(-1), packed(ar)(ids, labels).float().softmax(-1)
    assert (plain - other).abs().sum(-1).max() < 0.02
