"""What the measuring instruments are themselves: the judge, the masked model, the rows of an ablation."""

import pytest
import torch
import torch.nn.functional as F
from conftest import small_ar, small_model, small_tokenizer
from small_training import on_the_cpu  # noqa: F401
from torch.optim.optimizer import register_optimizer_step_pre_hook

from alitok_lite import scenes
from alitok_lite.core.config import Preset
from alitok_lite.core.tokenizer import Decoder
from alitok_lite.data import sources
from alitok_lite.data.scan import scanned
from alitok_lite.measure import evaluation
from alitok_lite.measure.judge import Judge, train_judge
from alitok_lite.study import ablation, claims, lookahead
from alitok_lite.train.settings import AblationSettings, TrainSettings

CPU = torch.device("cpu")


def test_gradients_of_the_judge_are_those_of_its_step():
    """Cross-entropy of this batch alone, smoothed by 0.05, downhill, with a norm of at most 1."""
    made = []
    pixels, labels, checked = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 1, 0]), []

    def check(optimizer, *_):
        parameters = list(made[0].parameters())
        with torch.enable_grad():
            loss = F.cross_entropy(made[0](pixels), labels, label_smoothing=0.05)
            wanted = torch.autograd.grad(loss, parameters)
        norm = torch.stack([gradient.norm() for gradient in wanted]).norm()
        for parameter, gradient in zip(parameters, wanted, strict=True):
            torch.testing.assert_close(parameter.grad, gradient / norm.clamp_min(1), atol=1e-5, rtol=1e-3)
        checked.append(optimizer)

    handle = register_optimizer_step_pre_hook(check)
    try:
        train_judge(lambda step: (pixels, labels), 2, 3, CPU, 0, lambda *sizes: made.append(Judge(*sizes)) or made[0])
    finally:
        handle.remove()
    assert len(checked) == 3


def test_masked_model_learns_hidden_tokens_alone(monkeypatch):
    """Token 0 is hidden and always code 3; the others are there to see, and always code 5."""
    ids = torch.full((8, 7), 5)
    ids[:, 0] = 3
    hidden = torch.zeros(4, 7, dtype=torch.bool)
    hidden[:, 0] = True
    monkeypatch.setattr(lookahead, "_hidden", lambda *_: hidden)
    settings = TrainSettings(steps=3, batch=4, lr=0.1, warmup=1)
    model = lookahead.train_masked(ids, torch.zeros(8, dtype=torch.long), small_ar(small_tokenizer()), settings)
    assert model.output.bias[3] > 0.1 and model.output.bias[5] < -0.1


def test_conventional_decoder_differs_from_a_causal_one_by_its_mask_alone():
    """One extra token in front as well; buffer tokens are for the second decoder of an aligned tokenizer."""
    sizes = {"prefix": False, "buffer_tokens": 4}
    plain = Decoder(small_tokenizer(aligned=False, **sizes), causal=False)
    causal = Decoder(small_tokenizer(**sizes), causal=True)
    shapes = [{key: value.shape for key, value in decoder.state_dict().items()} for decoder in (plain, causal)]
    assert shapes[0] == shapes[1]
    assert len(Decoder(small_tokenizer(**sizes), causal=False).extra_tokens) == 4
    plain.load_state_dict(causal.state_dict())
    codes = torch.randn(1, 4, 4)
    assert not torch.allclose(plain(codes), causal(codes))
    for block in plain.blocks:
        block.attention.causal = True
    assert torch.equal(plain(codes), causal(codes))


@pytest.mark.parametrize(("difference", "holds"), [(0.7, False), (1.01, True), (-2.0, False)])
def test_claim_holds_beyond_two_standard_deviations_of_the_difference(difference, holds):
    """Spreads of 0.3 and 0.4 over four and sixteen seeds: deviation 0.5, standard error sqrt(0.09 / 4 + 0.16 / 16)."""
    row = lambda nats, spread, seeds: {"mean": {"nats": nats}, "spread": {"nats": spread}, "seeds": range(seeds)}  # noqa: E731
    (entry,) = claims.verdicts({"A": row(5.0 + difference, 0.3, 4), "B": row(5.0, 0.4, 16)})
    assert entry["holds"] is holds
    assert entry["difference"] == pytest.approx(difference) and entry["two_deviations"] == pytest.approx(1.0)
    assert entry["standard_errors"] == pytest.approx(difference / (0.0225 + 0.01) ** 0.5)


def test_scanned_row_is_measured_in_its_order_by_a_judge_that_sees_pictures_as_they_are(tmp_path, monkeypatch):
    """Nothing is trained: the run holds random weights, and the numbers are zeros."""
    seen, judge, sizes = [], Judge(len(scenes.CLASSES)).eval(), small_tokenizer()
    numbers = dict.fromkeys(("psnr_stage2", "ssim_stage2", "rfd_stage2", "row_ratio_stage2", "row_mse_stage2"), 0.0)
    part = TrainSettings(steps=1)
    settings = AblationSettings(part, part, part, judge_steps=1, pictures=4, lookahead=0)
    study = ablation.Study(tmp_path, Preset(sizes, small_ar(sizes)), settings)

    def train_part(kind, sizes, settings, run, *rest):
        model = small_model((2,))
        model.info = {"training": {"tokenizer": {}, "ar": {}}}
        model.save_pretrained(run)

    monkeypatch.setattr(ablation, "train_part", train_part)
    monkeypatch.setattr("alitok_lite.train.run.train_part", train_part)
    monkeypatch.setattr("alitok_lite.measure.judge.stored_judge", lambda *_: judge)
    monkeypatch.setattr(ablation, "stored_judge", lambda *_: judge)
    monkeypatch.setattr(evaluation, "evaluate", lambda *args, **_: seen.append(args) or numbers)
    monkeypatch.setattr(ablation, "evaluate", lambda *args, **_: seen.append(args) or numbers)
    ablation.run_row(study, "A-column", 0)
    (_, its_judge, pictures), wanted = seen[0], next(sources.unseen_scenes(4, ablation.TEST_SEED, 32, CPU))
    pixels, labels = next(iter(pictures))
    assert torch.equal(pixels, scanned(wanted[0], "column", 16)) and torch.equal(labels, wanted[1])
    assert not torch.equal(pixels, wanted[0])
    torch.testing.assert_close(its_judge.features(pixels), judge.features(wanted[0]))
