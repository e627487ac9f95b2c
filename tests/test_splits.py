"""What is learned from and what is measured on: pairs that belong together, and pictures that never meet."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_ar, small_tokenizer
from PIL import Image
from small_training import Grey, Numbered, ar_task, digits, on_the_cpu, tokenizer_task  # noqa: F401

from alitok_lite import PRESETS, AliTok, scenes
from alitok_lite.__main__ import main
from alitok_lite.core.ar import ARModel
from alitok_lite.core.config import Preset
from alitok_lite.core.losses import LossWeights
from alitok_lite.core.tokenizer import Tokenizer
from alitok_lite.data import PictureFolder, sources
from alitok_lite.data.sources import FolderSource, SceneSource
from alitok_lite.measure.evaluation import evaluate
from alitok_lite.measure.judge import train_judge
from alitok_lite.study import ablation
from alitok_lite.train import tasks
from alitok_lite.train.settings import ABLATIONS, AblationSettings, TrainSettings

CPU = torch.device("cpu")
SETTINGS = TrainSettings(steps=2, batch=16, warmup=1, pictures=8, save_every=100)
DARK, BRIGHT = 60, 200  # of training pictures and of unseen ones; an augmented picture stays on its side of 128


def numbers_of(ids: torch.Tensor) -> torch.Tensor:
    """The numbers whose `digits` these ids are."""
    return ids[:, 0] * 16 + ids[:, 1]


# ---------------------------------------------------------------- pairs of the AR model


@pytest.mark.parametrize("read", ["encoded", "from the file"])
def test_ids_of_a_batch_belong_to_their_labels(tmp_path, read):
    """They are the pairs of the cache, all of them in their turn. A label is its picture's, or the null class."""
    task = ar_task(tmp_path, batch=500)
    if read == "from the file":
        task = ar_task(tmp_path, batch=500)
    null, seen = task.model.ar.config.classes, set()
    assert null == 3
    for step in range(2):
        torch.manual_seed(step)
        ids, labels = task.batch(step)
        numbers = numbers_of(ids)
        assert torch.equal(ids[:, 1:], (numbers % 16)[:, None].expand(-1, 6))
        assert ((labels == numbers % 3) | (labels == null)).all()
        assert 0.05 < (labels == null).float().mean() < 0.16  # a tenth of them
        assert {0, 1, 2} <= set(labels.tolist())
        seen |= set(numbers.tolist())
    assert seen == set(range(48))


def test_labels_are_dropped_independently_of_class_and_picture(tmp_path):
    task = ar_task(tmp_path, batch=6000, class_dropout=0.5)
    torch.manual_seed(0)
    ids, labels = task.batch(0)
    for label in range(3):
        rows = numbers_of(ids) % 3 == label
        assert (labels[rows] == 3).float().mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 1900))
    assert not torch.equal(task.batch(1)[1], labels)


def test_ar_loss_is_the_cross_entropy_of_every_token(tmp_path):
    """Of logits that are 2 at the right code of 16 and 0 elsewhere; the network gets the batch as it is."""
    task, seen = ar_task(tmp_path, batch=6), []
    ids, labels = task.batch(0)

    def network(*given):
        seen.append(given)
        return 2 * torch.nn.functional.one_hot(ids, 16).float()

    loss, terms = task.loss(network, (ids, labels), 0)
    assert loss.item() == pytest.approx(math.log(math.exp(2) + 15) - 2) and terms["loss"] is loss
    assert seen[0][0] is ids and seen[0][1] is labels


def test_ar_model_learns_its_tokens(tmp_path):
    """One gradient step on the loss makes the tokens likelier."""
    task = ar_task(tmp_path, batch=48)
    batch = task.batch(0)
    loss, _ = task.loss(task.network.eval(), batch, 0)
    loss.backward()
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter -= 0.01 * parameter.grad / parameter.grad.norm()
    assert task.loss(task.network, batch, 0)[0] < loss


def test_train_and_test_nats_are_those_of_their_pictures(tmp_path):
    """A model with one prediction for every token, codes 0 to 2, with which only training pictures begin."""
    task = ar_task(tmp_path)
    bias = torch.tensor([12.0, 10.0, 10.0] + [0.0] * 13)
    with torch.no_grad():
        task.model.ar.output.weight.zero_()
        task.model.ar.output.bias.copy_(bias)
    found = task.diagnose()
    for name, first in (("train nats", 0), ("test nats", 48)):
        ids = digits(Numbered().pictures(first)[0])
        assert found[name] == pytest.approx((bias.logsumexp(0) - bias[ids]).mean().item(), rel=1e-5), name
    unseen = digits(Numbered().unseen(48)[0])
    assert found["top1"] == pytest.approx((unseen == 0).float().mean().item())
    assert found["train nats"] < found["test nats"] - 1


# ---------------------------------------------------------------- pictures of the tokenizer


def test_tokenizer_learns_from_the_data_and_is_measured_on_unseen_pictures(monkeypatch):
    """Training pictures of 0.9, unseen ones of 0.5; what is decoded is 0.4: an error of 0.1, 20 dB."""
    source = Grey(0.9)
    source.unseen = lambda count: (torch.full((3, 3, 32, 32), 0.5), torch.zeros(3))
    task = tokenizer_task(LossWeights(), source=source)
    (pixels,) = task.batch(0)
    assert torch.equal(pixels, source.pixels)
    monkeypatch.setattr(task.tokenizer, "decode", lambda ids, stage: torch.full((len(ids), 3, 32, 32), 0.4))
    assert task.diagnose()["psnr"] == pytest.approx(20, abs=1e-3)
    assert len(task.sheet()[0]) == 3 and task.sheet()[0].unique().item() == 0.5


# ---------------------------------------------------------------- scenes


@pytest.fixture
def painted(monkeypatch):
    """Seeds of the scenes that are painted; nothing is painted."""
    seeds = []

    def render(labels, seed, size=64, device="cpu"):
        seeds.append(seed)
        return torch.zeros(len(labels), 3, size, size, device=device)

    monkeypatch.setattr(scenes, "render", render)
    return seeds


@pytest.mark.parametrize("seed", [0, 1, 77, 1073, 1074, 2**30, 2**31 - 1, 2**32 - 1])
def test_training_scenes_and_unseen_ones_have_other_seeds(painted, seed):
    """Drawn afresh or painted once, at any step; unseen ones of a training and of an evaluation."""
    settings = replace(SETTINGS, batch=1, seed=seed, pictures=1_000_000)
    source = SceneSource(8, settings, CPU)
    for step in (0, 1, 29_999, 500_000, 2**31):
        source.batch(step)
    for _ in SceneSource(8, replace(settings, pictures=40_000), CPU).blocks():
        pass
    training = set(painted)
    assert min(training) >= 0 and max(training) < scenes.TEST_SEED and len(training) > 300
    painted.clear()
    source.unseen(4)
    assert min(painted) > scenes.TEST_SEED + 2**32 * 1_000_003 + 10**6  # no evaluation measures what chose the weights
    for evaluation in (0, seed, 54_321):
        for _ in sources.unseen_scenes(300, evaluation, 8, CPU):
            pass
    assert min(painted) >= scenes.TEST_SEED and max(painted) < 2**63


def test_blocks_of_scenes_are_different_scenes(painted):
    for _ in SceneSource(8, replace(SETTINGS, pictures=1000), CPU).blocks():
        pass
    assert len(set(painted)) == len(painted) == 8


def test_labels_of_scenes_are_what_was_painted(monkeypatch):
    """A picture of each class is as grey as its number, whichever way it comes."""
    grey = lambda labels, seed, size, device: (labels / 100).view(-1, 1, 1, 1).expand(-1, 3, size, size)  # noqa: E731
    monkeypatch.setattr(scenes, "render", grey)
    for pictures in (300, 30_000):
        source = SceneSource(8, replace(SETTINGS, batch=200, pictures=pictures), CPU)
        for pixels, labels in (source.batch(3), source.unseen(50), next(source.blocks())):
            assert torch.equal((pixels[:, 0, 0, 0] * 100).round().long(), labels)
            assert len(labels.unique()) == len(scenes.CLASSES)  # all classes come


# ---------------------------------------------------------------- folders


def held_out(label: str, file: str) -> bool:
    """One picture in twenty, by the first byte of a hash of its name."""
    return hashlib.sha256(f"{label}/{file}".encode()).digest()[0] < 256 / 20


@pytest.fixture(params=["hash", pytest.param("folders", marks=pytest.mark.slow)])
def folder(tmp_path, request):
    """Two classes, dark training pictures and bright unseen ones, split by a hash or by folders train/ and test/."""
    root = tmp_path / "pictures"
    for place, label in enumerate("ab"):
        for number in range(60):
            unseen = held_out(label, f"{number}.png") if request.param == "hash" else number < 5
            split = "" if request.param == "hash" else "test" if unseen else "train"
            pixels = np.full((32, 32, 3), BRIGHT if unseen else DARK, np.uint8)
            pixels[:, :, 2 * place] += 40
            (root / split / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / split / label / f"{number}.png")
    return root


def sides(pixels: torch.Tensor) -> set[str]:
    """Of which splits these pictures are."""
    return {"unseen" if bright else "training" for bright in (pixels[:, 1].mean((1, 2)) > 0.5).tolist()}


def classes(pixels: torch.Tensor) -> torch.Tensor:
    """The classes that these pictures show: 0 is reddish, 1 bluish."""
    return (pixels[:, 2] > pixels[:, 0]).flatten(1).all(1).long()


def test_training_never_meets_the_unseen_pictures_of_a_folder(folder):
    source = FolderSource(folder, 32, replace(SETTINGS, batch=200), CPU)
    assert source.classes == ["a", "b"]
    batches = [source.batch(step) for step in range(3)]
    blocks = list(source.blocks())
    assert sum(len(labels) for _, labels in blocks) == 10 * len(source.train)
    for pixels, labels in [*batches, *blocks]:
        assert sides(pixels) == {"training"} and torch.equal(classes(pixels), labels)
    pixels, labels = source.unseen(1000)
    assert len(pixels) == len(source.test) and len(source.train) + len(source.test) == 120
    assert sides(pixels) == {"unseen"} and torch.equal(classes(pixels), labels) and set(labels.tolist()) == {0, 1}
    some, labels = source.unseen(2)
    assert len(some) == 2 and set(labels.tolist()) == {0, 1}  # spread over the classes


def test_folders_follow_seed_step_and_batch(folder):
    one, two = (FolderSource(folder, 32, replace(SETTINGS, batch=7, seed=seed), CPU) for seed in (1, 2))
    wanted = PictureFolder(folder, 32).batch(5, 7, 1)
    assert all(map(torch.equal, one.batch(5), wanted))
    assert not torch.equal(one.batch(5)[0], two.batch(5)[0]) and not torch.equal(one.batch(5)[0], one.batch(6)[0])
    assert one.stamp == two.stamp


def test_held_out_pictures_are_those_of_the_hash(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(150):
            Image.new("RGB", (8, 8)).save(tmp_path / label / f"{number}.png")
    found = {split: PictureFolder(tmp_path, 8, split, workers=0).names for split in ("train", "test")}
    names = {f"{label}/{number}.png" for label in "ab" for number in range(150)}
    assert set(found["test"]) == {name for name in names if held_out(*name.split("/"))}
    assert set(found["train"]) == names - set(found["test"]) and 5 <= len(found["test"]) <= 30


# ---------------------------------------------------------------- the judge


@pytest.fixture
def watched(monkeypatch):
    """Pictures that the judge learns from, those measured on, and those of training that `evaluate` may compare."""
    seen = {"judge": [], "measured": [], "training": []}

    def train(batches, *args, **options):
        def watch(step):
            pixels, labels = batches(step)
            seen["judge"].append(pixels)
            return pixels, labels

        return train_judge(watch, *args, **options)

    def measure(model, its_judge, pictures, training=None, *args, **options):
        pictures, training = list(pictures), None if training is None else list(training)
        seen["measured"] += [pixels for pixels, _ in pictures]
        seen["training"] += [pixels for pixels, _ in training or []]
        return evaluate(model, its_judge, pictures, training, *args, **options)

    monkeypatch.setattr("alitok_lite.measure.judge.train_judge", train)
    monkeypatch.setattr("alitok_lite.measure.evaluation.evaluate", measure)
    monkeypatch.setattr(ablation, "evaluate", measure)
    return seen


def checkpoint(folder, names):
    config = small_tokenizer()
    torch.manual_seed(0)
    AliTok(Tokenizer(config, (1,)), ARModel(small_ar(config, classes=len(names))), names).save_pretrained(folder)
    return str(folder)


def test_judge_of_an_evaluation_learns_from_other_pictures_than_it_measures(tmp_path, folder, watched):
    model = checkpoint(tmp_path / "model", ["a", "b"])
    options = ["--data", str(folder), "--pictures", "50", "--judge-steps", "2", "--device", "cpu"]
    assert main(["evaluate", "--model", model, *options]) == 0
    assert {name: sides(torch.cat(pixels)) for name, pixels in watched.items()} == {
        "judge": {"training"},
        "measured": {"unseen"},
        "training": {"training"},
    }


def test_judge_of_an_evaluation_learns_from_training_scenes(tmp_path, watched, painted):
    """By their seeds: first those that the judge learns from, then those that are measured."""
    model = checkpoint(tmp_path / "model", list(scenes.CLASSES))
    options = ["--pictures", "6", "--judge-steps", "3", "--device", "cpu", "--seed", "3"]
    assert main(["evaluate", "--model", model, *options]) == 0
    assert len(watched["judge"]) == 3 and len(watched["measured"]) >= 1
    assert max(painted[:3]) < scenes.TEST_SEED <= min(painted[3:])


def study_of(data, monkeypatch, tmp_path):
    """A study of the smallest models."""
    tokenizer = small_tokenizer()
    monkeypatch.setitem(PRESETS, "mini", Preset(tokenizer, small_ar(tokenizer, classes=2)))
    part = replace(SETTINGS, batch=4)
    monkeypatch.setitem(ABLATIONS, "mini", AblationSettings(part, part, part, judge_steps=2, pictures=6, lookahead=0))
    monkeypatch.setattr(tasks.ARTask, "sheet", lambda task: [torch.zeros(1, 3, 8, 8)])
    return ablation.open_study(tmp_path / "study", "mini", str(data))


def test_judge_of_an_ablation_learns_from_other_pictures_than_it_measures(tmp_path, monkeypatch, watched, folder):
    ablation.run_row(study_of(folder, monkeypatch, tmp_path), "A", 0)
    assert sides(torch.cat(watched["judge"])) == {"training"} and sides(torch.cat(watched["measured"])) == {"unseen"}


def test_rows_of_an_ablation_have_one_judge_and_the_same_unseen_scenes(tmp_path, monkeypatch, watched):
    study = study_of("scenes", monkeypatch, tmp_path)
    for row in ("A", "B"):
        ablation.run_row(study, row, 0)
    first, second = watched["measured"]
    assert torch.equal(first, second)
    assert torch.equal(first, next(sources.unseen_scenes(6, ablation.TEST_SEED, 32, CPU))[0])
    assert len(watched["judge"]) == study.settings.judge_steps  # the second row reads it
    learned = torch.cat(watched["judge"])
    assert torch.cdist(learned.flatten(1), first.flatten(1)).min() > 1
