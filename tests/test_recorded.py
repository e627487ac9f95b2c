"""A recorded pass of a decoder makes the pictures of the plain one; most of this needs a CUDA GPU."""

import threading
import warnings
from types import SimpleNamespace

import pytest
import torch
from conftest import small_tokenizer

from alitok_lite import AliTok
from alitok_lite.core.tokenizer import Decoder, Tokenizer
from alitok_lite.measure import probe
from alitok_lite.recorded import FEW, RecordedDecoder, at_once, noting, recorded

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def tokenizer(device="cuda", dtype=torch.float32):
    torch.manual_seed(0)
    return Tokenizer(small_tokenizer(), (1, 2)).eval().to(device, dtype)


def ids(count, device="cuda"):
    return torch.randint(small_tokenizer().codebook_size, (count, small_tokenizer().tokens), device=device)


def test_noted_calls_are_carried_out_later():
    found = []
    functions = SimpleNamespace(FEW_ROWS=3, keep=lambda *given, **more: found.append((given, more)))
    noted, calls = noting(functions)
    assert noted.FEW_ROWS == 3 and noted.keep(1, b=2) is None and noted.keep(4) is None
    assert not found and len(calls) == 2
    for call in calls:
        call()
    assert found == [((1,), {"b": 2}), ((4,), {})]


@on_gpu
def test_calls_at_once_run_at_the_same_time_on_the_present_stream():
    stream, meeting = torch.cuda.Stream(), threading.Barrier(3, timeout=20)  # which one thread alone never passes
    found = []

    def call():
        meeting.wait()
        found.append((torch.cuda.current_stream(), torch.is_inference_mode_enabled()))

    with torch.cuda.stream(stream):
        at_once([call] * 3)
    assert found == [(stream, True)] * 3
    with pytest.raises(ZeroDivisionError):
        at_once([lambda: 1 / 0])


def test_a_cpu_decodes_plainly():
    plain = tokenizer("cpu")
    assert recorded(plain) is plain


def test_few_pictures_are_replayed_and_many_are_not(monkeypatch):
    """By a stand-in for the recording, which works without a GPU."""
    replayed = []

    def stand_in(self, codes):
        replayed.append(len(codes))
        return self.decoder(codes)

    monkeypatch.setattr(RecordedDecoder, "_replayed", stand_in)
    decoder = tokenizer("cpu").decoder2
    ours = RecordedDecoder(decoder)
    for count in (1, FEW, FEW + 1):
        codes = torch.randn(count, small_tokenizer().tokens, small_tokenizer().code_dim)
        with torch.no_grad():
            assert torch.equal(ours(codes), decoder(codes)) and not ours.busy.locked()
    assert replayed == [1, FEW]
    ours.busy.acquire()  # somebody else's pass is under way
    with torch.no_grad():
        ours(codes[:1])
    assert replayed == [1, FEW]


def test_a_failure_decodes_plainly_with_one_warning(monkeypatch):
    monkeypatch.setattr(RecordedDecoder, "_replayed", lambda *_: 1 / 0)
    ours, codes = RecordedDecoder(tokenizer("cpu").decoder2), torch.randn(1, 7, small_tokenizer().code_dim)
    with torch.no_grad():
        with pytest.warns(RuntimeWarning, match="without a recorded pass, which failed: .*division"):
            first = ours(codes)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(ours(codes), first) and not ours.busy.locked()


@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stage", [1, 2])
def test_same_pictures(dtype, stage):
    plain = tokenizer(dtype=dtype)
    for count in (1, 3, FEW, FEW + 1, 1, 3):
        some = ids(count)
        found = recorded(plain).decode(some, stage)
        assert torch.allclose(found, plain.decode(some, stage), atol=1e-6 if dtype == torch.float32 else 1e-2)
        assert not found.is_inference()
    kept = recorded(plain).decode(some, stage)
    before = kept.clone()
    recorded(plain).decode(ids(3), stage)
    assert torch.equal(kept, before)  # a later pass does not write into earlier pictures


@on_gpu
def test_other_weights_and_other_decoders_are_noticed():
    plain, some = tokenizer(), ids(2)
    first = recorded(plain).decode(some)
    with torch.no_grad():
        plain.decoder2.head.linear.bias.add_(1.0)
    second = recorded(plain).decode(some)
    assert torch.allclose(second, plain.decode(some), atol=1e-6) and not torch.allclose(first, second)
    plain.to(torch.bfloat16).to(torch.float32)  # the weights lie elsewhere
    assert torch.allclose(recorded(plain).decode(some), plain.decode(some), atol=1e-6)
    torch.manual_seed(1)
    plain.decoder2 = Decoder(plain.config, causal=False).eval().cuda()
    assert torch.allclose(recorded(plain).decode(some), plain.decode(some), atol=1e-6)


@on_gpu
def test_several_threads_and_attention_maps():
    plain, some = tokenizer(), ids(1)
    wanted, found = plain.decode(some), []
    threads = [threading.Thread(target=lambda: found.append(recorded(plain).decode(some))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4 and all(torch.allclose(pixels, wanted, atol=1e-6) for pixels in found)
    with probe.record_attention(AliTok(plain, None)) as maps:
        recorded(plain).decode(some)
    assert maps
