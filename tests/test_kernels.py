"""The Triton kernels one by one, against their lines of plain PyTorch: on a GPU, or interpreted on a CPU.

On a CPU: `TRITON_INTERPRET=1 pytest tests/test_kernels.py`, with Triton installed; otherwise they are skipped.
"""

import os
from types import SimpleNamespace

import pytest
import torch
from test_fast import SETTINGS, both, model

from alitok_lite.fast import steps as fast_steps
from alitok_lite.study import techniques

GPU = torch.cuda.is_available()
if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a CUDA GPU, or TRITON_INTERPRET=1", allow_module_level=True)
pytest.importorskip("triton")
from alitok_lite.fast import kernels  # noqa: E402

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
CASES = ["norm", "norm, bias", "norm, gate and up", "bias, added", "added"]


def operands(case, rows, width, columns, device, dtype):
    """Random arguments of `product`, `out` with rows too many; before a norm x is so small that its 1e-5 counts."""

    def random(*shape):
        return torch.randn(*shape).to(device, dtype)

    torch.manual_seed(0)
    x, norm = random(rows, width) * (0.01 if "norm" in case else 1), 1 + 0.3 * random(width) if "norm" in case else None
    weight = random(columns * (2 if "gate" in case else 1), width) / width**0.5
    bias = random(columns) if "bias" in case else None
    return x, weight, bias, random(2 * rows + 16, columns), norm, "added" in case


def check(case, rows, width, columns, device, dtype):
    x, weight, bias, out, norm, added = operands(case, rows, width, columns, device, dtype)
    wide = [None if t is None else t.double() for t in (x, weight, bias, out, norm)]
    kernels.product(x, weight, bias, out[:rows], norm, added)
    x, weight, bias, wanted, norm = wide
    assert torch.equal(out[rows:].double(), wanted[rows:])  # what lies behind the rows is not ours
    out, wanted = out[:rows], wanted[:rows]
    if norm is not None:
        x, norm = x * torch.rsqrt(x.square().mean(1, True) + 1e-5) * norm, None
    techniques.product(x, weight, bias, wanted, norm, added)
    error = (out - wanted).abs() / (wanted.abs() + wanted.std())
    assert error.max() < TOLERANCE[dtype]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rows, width, columns", [(1, 20, 35), (2, 96, 48), (3, 40, 17), (5, 20, 35), (16, 200, 24)])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_product(device, case, rows, width, columns, dtype):
    """Sizes that fill no block among them."""
    check(case, rows, width, columns, device, dtype)


@pytest.mark.parametrize("rows, cut", [(2, (4, 1)), (2, (1, 8)), (2, (16, 4)), (9, (8, 2))])
def test_blocks_do_not_matter(device, monkeypatch, rows, cut):
    monkeypatch.setattr(kernels, "blocks", lambda rows, whole, normed: cut)
    for case in CASES:
        check(case, rows, 40, 35, device, torch.float32)


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("rows, width", [(1, 256), (2, 4096), (4, 1024), (5, 4096), (16, 32)])
def test_blocks_can_be_launched(rows, width, normed):
    columns, warps = kernels.blocks(rows, width, normed)
    assert all(number > 0 and number & (number - 1) == 0 for number in (columns, warps)) and warps <= 32


@pytest.mark.skipif(not GPU or torch.cuda.get_device_capability() < (9, 0), reason="needs a GPU since Hopper")
def test_few_rows_begin_early():
    """And many do not."""
    few, many = (torch.zeros(rows, 8, device="cuda") for rows in (kernels.FEW_ROWS, kernels.FEW_ROWS + 1))
    assert kernels.early(few) == {"EARLY": True, "launch_pdl": True} and kernels.early(many) == {"EARLY": False}


def test_nothing_begins_early_on_a_cpu():
    assert kernels.early(torch.zeros(1, 8)) == {"EARLY": False}


@pytest.mark.parametrize("pictures, guided", [(1, False), (1, True), (3, True), (9, True)])
def test_same_tokens(device, monkeypatch, pictures, guided):
    """1, 2, 6 and 18 rows: few rows, as many as ours can be, and many rows."""
    ar = model(device, heads=2, size=12)
    with torch.inference_mode():
        joined = fast_steps.joined_weights(ar)
        ours = SimpleNamespace(**vars(kernels) | {"FEW_ROWS": 16})
        drawer = fast_steps.Drawer(ar, pictures, guided, joined, ours, graph=GPU)
    drawer.busy.acquire()
    monkeypatch.setattr("alitok_lite.fast.steps._claim", lambda *_: drawer)
    steps = both(ar, [number % 5 for number in range(pictures)], SETTINGS[1 if guided else 0])
    assert len(steps) == ar.config.tokens
    assert all(torch.equal(ours.ids, plain.ids) for ours, plain in steps)
    assert all(torch.allclose(ours.entropy, plain.entropy, atol=1e-4) for ours, plain in steps)
