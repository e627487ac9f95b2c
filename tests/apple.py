"""A stand-in for an Apple GPU, run as a program: training, painting, sampling and evaluation on a device "apple".

Its tensors lie on the CPU, say that they do not, and refuse what Metal (MPS) lacks in torch 2.8: the operations in
LACKING, padding modes of grid_sample, float64, and company with tensors of the CPU. The names are those that
native_functions.yaml of torch 2.8.0 gives a CPU kernel but none for MPS, less the unlikely ones.
"""

import os
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

LACKING = set(
    """_adaptive_avg_pool3d _aminmax _assert_async _cdist_backward _embedding_bag _linalg_eigh _linalg_eigvals
    _linalg_svd _logcumsumexp _masked_softmax _pdist_forward _sample_dirichlet _standard_gamma _unique
    _upsample_bicubic2d_aa_backward _upsample_bilinear2d_aa_backward avg_pool3d binomial cauchy_ channel_shuffle
    cholesky_inverse embedding_renorm_ fractional_max_pool2d frexp gcd geometric_ geqrf grid_sampler_2d_backward
    grid_sampler_3d heaviside igamma igammac index_reduce kthvalue lcm linalg_eig linalg_householder_product
    linalg_ldl_solve linalg_lstsq linalg_lu linalg_lu_solve linalg_matrix_exp linalg_qr log_normal_ logit_ logspace
    max_pool3d_with_indices max_unpool2d mode multi_margin_loss multilabel_margin_loss_forward mvlgamma narrow_copy
    nonzero_static ormqr poisson put_ rrelu_with_noise segment_reduce slow_conv3d_forward special_airy_ai
    special_erfcx special_log_ndtr special_ndtri take unique_dim vdot""".split()  # noqa: SIM905
)
EITHER = {"_to_copy", "copy_", "index", "index_put_", "index_put", "_index_put_impl_"}  # these take tensors of the CPU
COUNTS: dict[str, int] = {}


class Apple(torch.Tensor):
    """A tensor of the device; `inner` is where its numbers are."""

    @staticmethod
    def __new__(cls, inner):
        if inner.dtype == torch.float64:
            raise TypeError("Cannot convert a float64 Tensor to MPS")
        places = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, device="apple:0", **places)
        made.inner = inner
        return made

    def __repr__(self):
        return f"Apple({self.inner})"

    def new_tensor(self, data):
        return torch.tensor(data, dtype=self.dtype, device=self.device)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return call(function, args, kwargs or {})


class Device(TorchDispatchMode):
    """Sees what is made on the device out of nothing, too."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return call(function, args, kwargs or {})


def call(function, args, kwargs):
    flat = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    mine = [value for value in flat if isinstance(value, Apple)]
    asked = kwargs.get("device")
    wanted = torch.device(asked).type if asked is not None else "apple" if mine else "cpu"
    if not mine and wanted != "apple":
        return function(*args, **kwargs)
    name = function._schema.name.split("::")[1]
    COUNTS[name] = COUNTS.get(name, 0) + 1
    check(name, args, flat, mine)
    real = lambda value: value.inner if isinstance(value, Apple) else value  # noqa: E731
    plain = kwargs | ({"device": torch.device("cpu")} if asked is not None else {})
    with torch._C._DisableTorchDispatch():
        found = function(*tree_map(real, args), **tree_map(real, plain))
    known = {id(value.inner): value for value in mine}
    known |= {id(value): value for value in flat if not isinstance(value, Apple)}
    if name == "copy_" and not isinstance(args[0], Apple):
        wanted = "cpu"

    def wrapped(value):
        if not isinstance(value, torch.Tensor):
            return value
        return known.get(id(value)) if id(value) in known else Apple(value) if wanted == "apple" else value

    return tree_map(wrapped, found)


def check(name, args, flat, mine):
    """Raise what the real device would."""
    if name in LACKING:
        raise NotImplementedError(f"The operator 'aten::{name}' is not currently implemented for the MPS device")
    if name == "grid_sampler_2d" and args[3] != 0:
        raise RuntimeError("MPS: Unsupported Border padding mode")
    others = [value for value in flat if not isinstance(value, Apple) and value.ndim]
    if others and mine and name not in EITHER:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")


class Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


def install():
    import torch._dynamo  # which a dispatch mode needs; before the next lines, since it looks at what they change

    backend_registration._setup_privateuseone_for_python_backend("apple", Module())

    class Generator(torch.Generator):
        """The real device has generators."""

        def __new__(cls, device="cpu"):
            return super().__new__(cls, device="cpu")

    torch.Generator = Generator
    tensor = torch.tensor  # not among what a dispatch mode sees
    torch.tensor = lambda data, dtype=None, device=None: tensor(data, dtype=dtype).to(device or "cpu")
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else nullcontext()  # has no views of wrappers
    from alitok_lite import machine, model
    from alitok_lite.train import run

    machine.choose_device = model.choose_device = lambda device: torch.device("apple:0" if device == "auto" else device)

    def accelerator(device="auto", **tracking):
        from accelerate import Accelerator

        made = Accelerator(cpu=True, mixed_precision="no")
        made.state.device = torch.device("apple:0")
        return made

    run.accelerator_front = accelerator


def paths(folder: Path):
    """Name and function of each path through the package."""
    import pytest
    import test_train
    from test_data import fill

    from alitok_lite import AliTok, scenes, train
    from alitok_lite.core.losses import LossWeights
    from alitok_lite.data.sources import FolderSource, whole_pictures
    from alitok_lite.measure import evaluation, metrics
    from alitok_lite.measure.judge import stored_judge
    from alitok_lite.train import loop

    device = torch.device("apple:0")
    patch = pytest.MonkeyPatch()
    test_train.add_presets(patch)
    pictures = fill(folder / "pictures", {"a": 4, "b": 4}, 60)
    run, options = folder / "run", {"data": str(pictures), "workers": 0}

    def paint():
        found = scenes.render(list(range(14)), 3, 32, device)
        assert isinstance(found, Apple)
        assert (found.cpu() - scenes.render(list(range(14)), 3, 32)).abs().max() < 1e-5

    def part(kind, preset="mini", out=run, **more):
        return lambda: train.train(kind, preset, out, **options, **more)

    def draw():
        model = AliTok.from_pretrained(run, "auto")
        ids = model.tokenizer.encode(torch.rand(2, 3, 32, 32, device=device))
        for stage in (1, 2):
            assert isinstance(model.tokenizer.decode(ids, stage), Apple)
        drawn = model.sample(["a", 1], seed=3, guidance=2.0, top_k=5, top_p=0.9)
        assert len(model.to_pil(drawn)) == 2

    def evaluate():
        model = AliTok.from_pretrained(run, "auto")
        source = FolderSource(pictures, 32, train.SETTINGS["mini"]["tokenizer"], device, 0)
        judge = stored_judge(folder / "judge", source.batch, source.classes, 2, device)
        whole = [list(whole_pictures(split, 8)) for split in (source.test, source.train)]
        results = evaluation.evaluate(model, judge, *whole)
        assert results["nats"] > 0 and metrics.unigram_entropy(model.tokenizer.encode(whole[0][0][0]), 16) >= 0

    def perceptual():
        import transformers

        from alitok_lite.train.perceptual import PerceptualLoss

        config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=5)
        with torch._C._DisableTorchDispatch():
            transformers.ConvNextForImageClassification(config).save_pretrained(folder / "convnext")
        os.environ["ALITOK_CONVNEXT"] = str(folder / "convnext")
        loss = PerceptualLoss().to(device)
        decoded = torch.rand(2, 3, 32, 32, device=device).requires_grad_()
        loss(decoded, torch.rand(2, 3, 32, 32, device=device)).backward()
        assert isinstance(decoded.grad, Apple)

    patch.setattr(loop, "_save_sheet", lambda *_: None)
    losses = [("losses", LossWeights(l1=0.2, adversarial=0.5, adversarial_start=0.0))]
    yield "scenes", paint
    yield "scenes to train on", lambda: train.train("tokenizer", "mini-plain", folder / "scenes")
    yield "tokenizer", part("tokenizer", overrides=[("ema", 0.5), *losses])
    yield "decoder", part("decoder", overrides=[("accumulate", 2), *losses])
    yield "ar", part("ar", overrides=[("keep_best", True), ("ema", 0.5)])
    yield "resumed", part("ar", resume=True, overrides=[("keep_best", True), ("ema", 0.5), ("steps", 6)])
    yield "draw", draw
    yield "evaluate", evaluate
    yield "perceptual", perceptual


def refused():
    """The stand-in does refuse."""
    x = torch.rand(1, 3, 8, 8, device="apple")
    grid = torch.rand(1, 4, 4, 2, device="apple")
    sample = torch.nn.functional.grid_sample
    for wrong in (
        lambda: sample(x, grid, padding_mode="border", align_corners=False),
        lambda: x.double(),
        lambda: torch.rand(3, dtype=torch.float64).to("apple"),
        lambda: torch.vdot(x.flatten(), x.flatten()),
        lambda: x + torch.rand(1, 3, 8, 8),
        lambda: torch.linalg.eigh(x[0, 0]),
    ):
        try:
            wrong()
        except (RuntimeError, TypeError):
            continue
        raise SystemExit(f"not refused: line {wrong.__code__.co_firstlineno}")


def main(folder: Path) -> None:
    install()
    with Device():
        refused()
        for name, run in paths(folder):
            try:
                run()
                print("passed:", name, flush=True)
            except Exception:
                traceback.print_exc()
                print("FAILED:", name, flush=True)
    os._exit(0)  # the backend's threads do not end well


if __name__ == "__main__":
    main(Path(sys.argv[1]))
