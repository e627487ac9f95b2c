"""Recorded steps draw what the plain path draws. Most of this needs a CUDA GPU."""

import gc
import threading
import warnings
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from conftest import small_ar, small_tokenizer

from alitok_lite import AliTok
from alitok_lite.core.ar import ARModel
from alitok_lite.core.sampling import Sampling
from alitok_lite.core.sampling import generate as generate_plainly
from alitok_lite.core.tokenizer import Tokenizer
from alitok_lite.fast import steps as fast_steps
from alitok_lite.measure import probe
from alitok_lite.study import techniques

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
SETTINGS = [Sampling(), Sampling(3.0, 1.5), Sampling(1.0, temperature=0), Sampling(2.0, top_k=5, top_p=0.8)]


def model(device="cuda", dtype=torch.float32, heads=4, size=8, prefix=True):
    """A small AR model whose predictions depend on everything before them."""
    torch.manual_seed(0)
    ar = ARModel(small_ar(small_tokenizer(prefix=prefix), width=heads * size, heads=heads, classes=5)).eval()
    for parameter in ar.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return ar.to(device, dtype)


def drawn(generate, ar, labels, sampling, prompt=None):
    labels = torch.tensor(labels, device=ar.output.weight.device)
    return list(generate(ar, labels, list(range(7, 7 + len(labels))), sampling, prompt))


def both(ar, *arguments):
    """Pairs of steps, from recorded steps and from the plain path."""
    return list(zip(*(drawn(f, ar, *arguments) for f in (fast_steps.generate, generate_plainly)), strict=True))


def test_a_cpu_draws_plainly():
    ar = model("cpu")
    assert not fast_steps.applies(ar, 2)
    assert all(torch.equal(ours.ids, plain.ids) for ours, plain in both(ar, [1, 2], Sampling(2.0)))


def test_a_failure_draws_plainly_with_one_warning(monkeypatch):
    ar = model("cpu")
    monkeypatch.setattr("alitok_lite.fast.steps.applies", lambda ar, rows: ar not in fast_steps._broken)
    monkeypatch.setattr("alitok_lite.fast.steps._drawer", lambda *_: 1 / 0)
    with pytest.warns(RuntimeWarning, match="without recorded steps, which failed: .*division"):
        first = drawn(fast_steps.generate, ar, [1], Sampling())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = drawn(fast_steps.generate, ar, [1], Sampling())
    assert torch.equal(first[-1].ids, second[-1].ids)


def stand_in(ar, pictures, guided, few_rows=0):
    """A step in plain PyTorch in place of the recorded one."""
    kernels = SimpleNamespace(**vars(techniques.PLAIN) | {"FEW_ROWS": few_rows})
    return fast_steps.Drawer(ar, pictures, guided, fast_steps.joined_weights(ar), kernels, graph=False)


@pytest.mark.parametrize("sampling", SETTINGS)
@pytest.mark.parametrize("prompted", [0, 3])
@pytest.mark.parametrize("few_rows", [0, 8])
def test_same_tokens_with_kernels_in_plain_pytorch(device, monkeypatch, sampling, prompted, few_rows):
    ar = model(device)
    monkeypatch.setattr("alitok_lite.fast.steps._claim", lambda ar, pictures, guided: claimed[0])
    with torch.inference_mode():
        claimed = [stand_in(ar, 4, sampling.guidance != 1, few_rows)]
    prompt = torch.randint(ar.config.codebook_size, (3, prompted), device=device)
    for _ in range(2):  # a second time over what the first one left
        claimed[0].busy.acquire(blocking=False)
        steps = both(ar, [1, 4, 2], sampling, prompt)
        assert [ours.index for ours, _ in steps] == list(range(prompted, ar.config.tokens))
        assert all(torch.equal(ours.ids, plain.ids) for ours, plain in steps)
        assert all(torch.allclose(ours.entropy, plain.entropy, atol=1e-4) for ours, plain in steps)


def counting(kernels, few_rows, calls):
    """The kernels, which note in `calls` which of them are called."""

    def noting(name, function):
        return lambda *arguments, **options: calls.update([name]) or function(*arguments, **options)

    noted = {name: noting(name, function) for name, function in vars(kernels).items() if callable(function)}
    return SimpleNamespace(**noted, FEW_ROWS=few_rows)


@pytest.mark.parametrize(
    "few_rows, wanted",
    [(8, {"product": 9, "attend": 2, "draw": 1}), (7, {"add_norm": 5, "swiglu": 2, "attend": 2, "draw": 1})],
)
def test_few_rows_take_five_kernels_a_layer(few_rows, wanted):
    """Of two layers, for eight rows; the products of many rows are PyTorch's."""
    ar, calls = model("cpu"), Counter()
    with torch.inference_mode():
        kernels = counting(techniques.PLAIN, few_rows, calls)
        fast_steps.Drawer(ar, 4, True, fast_steps.joined_weights(ar), kernels, graph=False)
    assert calls == wanted


@on_gpu
@pytest.mark.parametrize("heads, size", [(4, 8), (2, 48), (2, 64), (1, 80)])
@pytest.mark.parametrize("prefix", [True, False])
def test_same_tokens_in_float32(heads, size, prefix):
    ar = model(heads=heads, size=size, prefix=prefix)
    for labels in ([1], [1, 4, 2], [1, 4, 2, 0, 3, 1, 1], [1, 4, 2] * 4):  # up to 2, 8, 16 and 32 rows
        for sampling in SETTINGS:
            steps = both(ar, labels, sampling)
            assert [ours.index for ours, _ in steps] == list(range(ar.config.tokens))
            assert all(torch.equal(ours.ids, plain.ids) for ours, plain in steps)
            assert all(torch.allclose(ours.entropy, plain.entropy, atol=1e-4) for ours, plain in steps)


@on_gpu
def test_same_tokens_behind_every_prompt():
    ar = model()
    ids = torch.randint(ar.config.codebook_size, (2, ar.config.tokens), device="cuda")
    for length in range(ar.config.tokens + 1):
        steps = both(ar, [1, 2], SETTINGS[1], ids[:, :length])
        assert [ours.index for ours, _ in steps] == list(range(length, ar.config.tokens))
        assert all(torch.equal(ours.ids, plain.ids) for ours, plain in steps)


@on_gpu
def test_steps_stay_what_they_were():
    ar, labels = model(), torch.tensor([1, 2, 3], device="cuda")
    kept = [
        (step, step.ids.clone(), step.entropy.clone())
        for step in fast_steps.generate(ar, labels, [0, 1, 2], SETTINGS[1])
    ]
    drawn(fast_steps.generate, ar, [4, 0, 1], SETTINGS[3])  # with the same recorded steps
    assert all(torch.equal(step.ids, ids) and torch.equal(step.entropy, entropy) for step, ids, entropy in kept)


@on_gpu
def test_one_recording_serves_all_settings():
    ar = model()
    guided = [Sampling(3.0, 1.5), Sampling(2.0, 0.7, temperature=0.6), Sampling(4.0, temperature=0)]
    guided += [Sampling(3.0, top_k=3), Sampling(2.0, top_p=0.5), Sampling(0.0), Sampling(3.0, 1.5)]
    for labels in ([1, 4, 2], [3, 0, 1, 2]):
        for sampling in guided:
            assert all(torch.equal(ours.ids, plain.ids) for ours, plain in both(ar, labels, sampling))
    assert list(fast_steps._recorded[ar].drawers) == [(4, True)]


@on_gpu
@pytest.mark.parametrize("tiles", [(2, 1, 1), (4, 2, 2), (16, 1, 1), (64, 2, 3)])
def test_tiles_do_not_matter(monkeypatch, tiles):
    monkeypatch.setattr(fast_steps._kernels(), "tiles", lambda rows, size: tiles)
    steps = both(model(heads=2, size=48), [1, 2], SETTINGS[1])
    assert all(torch.equal(ours.ids, plain.ids) for ours, plain in steps)


@on_gpu
@pytest.mark.parametrize("pictures", [1, 3, 9, 17])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_logits(dtype, tolerance, pictures):
    """Against the teacher-forced pass; the tolerance is in standard deviations of the logits."""
    ar = model(dtype=dtype, heads=2, size=48)
    ids = torch.randint(ar.config.codebook_size, (pictures, ar.config.tokens), device="cuda")
    labels = torch.arange(pictures, device="cuda") % ar.config.classes
    with torch.inference_mode():
        wanted = ar(ids, labels).float()
        drawer = fast_steps._drawer(ar, pictures, False)
        drawer.begin(labels, ids[:, :0], Sampling())
        found = []
        for token in ids.unbind(1):
            found.append(drawer.step()[0, :pictures].float().clone())
            drawer.put(token)
        found = torch.stack(found, 1)
    assert (found - wanted).abs().max() <= tolerance * wanted.std()


@on_gpu
def test_other_weights_are_noticed():
    ar = model()
    before = drawn(fast_steps.generate, ar, [1], Sampling())[-1].ids
    with torch.no_grad():
        ar.blocks[0].mlp.gate.weight.mul_(-3)
        ar.output.weight.mul_(-1)
    steps = both(ar, [1], Sampling())
    assert torch.equal(*(step.ids for step in steps[-1])) and not torch.equal(before, steps[-1][0].ids)


@on_gpu
def test_threads_and_dropped_streams():
    ar, labels = model(), torch.tensor([1, 2], device="cuda")
    wanted = drawn(generate_plainly, ar, [1, 2], SETTINGS[1])[-1].ids
    dropped = fast_steps.generate(ar, labels, [0, 1], SETTINGS[1])
    next(dropped)  # holds the recorded steps: whoever comes now draws plainly
    results = []

    def draw():
        results.append(drawn(fast_steps.generate, ar, [1, 2], SETTINGS[1])[-1].ids)

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 4 and all(torch.equal(ids, wanted) for ids in results)
    dropped.close()
    drawer = fast_steps._claim(ar, 2, True)
    assert drawer is not None
    drawer.busy.release()


@on_gpu
def test_memory_is_bounded_and_given_back(monkeypatch):
    monkeypatch.setattr("alitok_lite.fast.steps.MAX_ROWS", 8)
    ar = model()
    for count in (1, 2, 3, 8):
        drawn(fast_steps.generate, ar, [1] * count, Sampling())
        assert sum(drawer.rows for drawer in fast_steps._recorded[ar].drawers.values()) <= 8
    assert not fast_steps.applies(ar, 9)
    count = len(fast_steps._recorded)
    del ar
    gc.collect()
    assert len(fast_steps._recorded) == count - 1


@on_gpu
def test_attention_maps_need_the_plain_path():
    ar = model()
    assert fast_steps.applies(ar, 2)
    with probe.record_attention(AliTok(Tokenizer(small_tokenizer()), ar)):
        assert not fast_steps.applies(ar, 2)
    assert fast_steps.applies(ar, 2)


@on_gpu
def test_each_technique_draws_the_same():
    ar = model(heads=2, size=48)
    drawn_ids = [techniques.measure(ar, stage, 3, 1)[1] for stage in techniques.stages()]
    assert len(drawn_ids) == 6 and all(torch.equal(ids, drawn_ids[0]) for ids in drawn_ids)
