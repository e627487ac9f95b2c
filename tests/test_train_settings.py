"""Every field of TrainSettings does what it says, by hand on a weight and a bias, or on the smallest of models."""

import copy
import math
from dataclasses import dataclass, fields, replace

import pytest
import torch
from conftest import small_ar, small_model, small_tokenizer
from small_training import Numbered, Toy, ar_task, fit, on_the_cpu, tokenizer_task  # noqa: F401
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from alitok_lite import AliTok, scenes, train
from alitok_lite.core.config import Preset
from alitok_lite.core.losses import LossWeights
from alitok_lite.core.tokenizer import Tokenizer
from alitok_lite.data.scan import scanned
from alitok_lite.data.sources import SceneSource
from alitok_lite.train import tasks
from alitok_lite.train.fresh import standardise
from alitok_lite.train.regulariser import NextCode
from alitok_lite.train.run import accelerator_front
from alitok_lite.train.settings import TrainSettings, learning_rate

COVERED: dict[str, list[str]] = {}
BASE = TrainSettings(
    steps=5, batch=4, lr=0.1, final_lr=0.02, warmup=2, betas=(0.8, 0.95), weight_decay=0.5, clip=0.5, save_every=100
)
ROWS = [[0.9, -0.1, 0.2, 0.6], [-0.3, 0.1, 0.1, -0.1], [2.0, 1.0, 0.0, 1.0], [-0.2, 0.0, 0.1, 0.3], [0.5] * 4]
ROWS += [[-0.4] * 4, [0.1] * 4]


def about(*names):
    """Marks a test as one of these fields'."""

    def register(test):
        for name in names:
            COVERED.setdefault(name, []).append(test.__name__)
        return test

    return register


def test_every_setting_is_tested():
    """A new field needs a test in this file, marked with `about`."""
    assert {field.name for field in fields(TrainSettings)} == COVERED.keys()


# ---------------------------------------------------------------- the loop, by hand


@dataclass
class Number:
    """One number under AdamW (Loshchilov and Hutter), written out."""

    value: float = 1.0
    first: float = 0.0
    second: float = 0.0

    def step(self, gradient: float, rate: float, decay: float, betas: tuple[float, float], count: int) -> None:
        self.value *= 1 - rate * decay
        self.first = betas[0] * self.first + (1 - betas[0]) * gradient
        self.second = betas[1] * self.second + (1 - betas[1]) * gradient**2
        mean, square = self.first / (1 - betas[0] ** count), self.second / (1 - betas[1] ** count)
        self.value -= rate * mean / (math.sqrt(square) + 1e-8)


def by_hand(settings: TrainSettings, rows: list[list[float]] = ROWS) -> list[tuple[float, float]]:
    """Weight and bias after each step, or their moving averages."""
    weight, bias, average, found = Number(), Number(), (1.0, 1.0), []
    for step in range(settings.steps):
        gradient = sum(rows[step]) / len(rows[step])
        gradient *= min(1, settings.clip / (math.sqrt(2) * abs(gradient)))  # both have this gradient
        rate = settings.lr * (step + 1) / settings.warmup
        if step >= settings.warmup:
            turn = math.pi * (step - settings.warmup) / (settings.steps - settings.warmup)
            rate = settings.final_lr + (settings.lr - settings.final_lr) * (1 + math.cos(turn)) / 2
        weight.step(gradient, rate, settings.weight_decay, settings.betas, step + 1)
        bias.step(gradient, rate, 0.0, settings.betas, step + 1)
        keep = min(settings.ema, (1 + step) / (10 + step)) if step else 0.0
        average = tuple(keep * a + (1 - keep) * b for a, b in zip(average, (weight.value, bias.value), strict=True))
        found.append(average if settings.ema else (weight.value, bias.value))
    return found


CHANGES = {
    "steps": 7,
    "accumulate": 2,
    "lr": 0.3,
    "final_lr": 0.09,
    "warmup": 3,
    "betas": (0.1, 0.5),
    "weight_decay": 0.1,
    "clip": 0.1,
    "ema": 0.15,
}


@about(*CHANGES)
@pytest.mark.parametrize("name", ["nothing", *CHANGES])
def test_training_is_the_loop_written_out(tmp_path, name):
    settings = BASE if name == "nothing" else replace(BASE, **{name: CHANGES[name]})
    task = fit(Toy(ROWS), settings, tmp_path)
    assert task.values == pytest.approx(by_hand(settings)[-1], rel=1e-5)
    if name not in ("nothing", "accumulate"):  # parts of a step are a matter of memory alone
        assert task.values != pytest.approx(by_hand(BASE)[-1], rel=1e-3)


@about("ema")
@pytest.mark.parametrize("ema", [0.05, 0.15, 0.999])
def test_run_ends_with_the_moving_average(tmp_path, ema):
    """Its decay at first is that of few steps, so that the random start is soon forgotten."""
    settings = replace(BASE, ema=ema)
    task = fit(Toy(ROWS), settings, tmp_path)
    assert task.values == task.written[-1] == pytest.approx(by_hand(settings)[-1], rel=1e-5)


@about("weight_decay")
def test_without_a_gradient_only_the_decay_moves_a_weight(tmp_path):
    settings = replace(BASE, steps=2, warmup=0, final_lr=0.1)  # a rate of 0.1
    task = fit(Toy([[0.0]] * 2), settings, tmp_path)
    assert task.values == pytest.approx(((1 - 0.1 * 0.5) ** 2, 1.0), rel=1e-6)


@about("accumulate")
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_step_comes_in_equal_parts(tmp_path, parts):
    task = fit(Toy(ROWS), replace(BASE, accumulate=parts), tmp_path)
    assert task.sizes == [4 // parts] * parts * BASE.steps


@about("clip")
def test_gradient_of_a_step_is_clipped_to_this_norm(tmp_path):
    found = []

    def see(optimizer, *_):
        grads = [value.grad for group in optimizer.param_groups for value in group["params"]]
        found.append(math.hypot(*(grad.item() for grad in grads)))

    handle = register_optimizer_step_pre_hook(see)
    try:
        fit(Toy(ROWS), BASE, tmp_path)
    finally:
        handle.remove()
    free = [math.sqrt(2) * abs(sum(row) / len(row)) for row in ROWS[:5]]
    assert found == pytest.approx([min(norm, 0.5) for norm in free], rel=1e-4)
    assert max(free) > 0.5 > min(free)


@about("steps", "lr", "betas", "weight_decay")
def test_optimiser_gets_the_settings(tmp_path):
    seen = []

    def see(optimizer, *_):
        groups = [(group["lr"], group["betas"], group["weight_decay"]) for group in optimizer.param_groups]
        seen.append((type(optimizer), groups))

    handle = register_optimizer_step_pre_hook(see)
    try:
        fit(Toy(ROWS), BASE, tmp_path)
    finally:
        handle.remove()
    assert len(seen) == BASE.steps
    for step, (kind, groups) in enumerate(seen):
        rate = learning_rate(BASE, step)
        assert kind is torch.optim.AdamW
        assert groups == [(rate, BASE.betas, 0.5), (rate, BASE.betas, 0.0)]


@about("steps", "lr", "final_lr", "warmup")
def test_learning_rate_at_given_steps():
    settings = TrainSettings(steps=6, lr=1.0, final_lr=0.2, warmup=2)
    middle = [0.2 + 0.8 * (1 + math.cos(math.pi * part)) / 2 for part in (0.25, 0.5, 0.75)]
    assert middle[1] == pytest.approx(0.6)
    assert [learning_rate(settings, step) for step in range(7)] == pytest.approx([0.5, 1.0, 1.0, *middle, 0.2])
    without = replace(settings, warmup=0)
    assert learning_rate(without, 0) == 1.0 and learning_rate(without, 3) == pytest.approx(0.6)
    assert learning_rate(replace(settings, warmup=6), 5) == 1.0  # nothing but warm-up


@about("save_every")
@pytest.mark.parametrize(("every", "wanted"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (5, [4]), (100, [4])])
def test_run_is_saved_every_so_many_steps_and_at_the_end(tmp_path, every, wanted):
    task = fit(Toy(ROWS), replace(BASE, save_every=every), tmp_path)
    whole = by_hand(BASE)
    assert [pair for saved in task.written for pair in saved] == pytest.approx(
        [number for step in wanted for number in whole[step]], rel=1e-5
    )
    assert task.model.info["training"]["toy"]["steps"] == BASE.steps


@about("keep_best")
@pytest.mark.parametrize("ema", [0.0, 0.15])
def test_best_weights_are_those_of_the_lowest_test_nats(tmp_path, ema):
    settings = replace(BASE, keep_best=True, save_every=1, ema=ema)
    task = fit(Toy(ROWS, nats=[3.0, 2.5, 2.0, 2.0, 4.0]), settings, tmp_path)
    whole = by_hand(settings)
    assert task.values == pytest.approx(whole[2], rel=1e-5)
    kept = [number for step in (0, 1, 2, 2, 2) for number in whole[step]]
    assert [number for pair in task.written for number in pair] == pytest.approx(kept, rel=1e-5)
    last = fit(Toy(ROWS, nats=[3.0, 2.5, 2.0, 2.0, 4.0]), replace(settings, keep_best=False), tmp_path / "last")
    assert last.values == pytest.approx(whole[4], rel=1e-5)


class Watched(Toy):
    """Records the mode of the network and, before each update, weight and bias and whether they have gradients."""

    def __init__(self) -> None:
        super().__init__(ROWS)
        self.modes: list[bool] = []
        self.before: list[tuple] = []

    def loss(self, network, batch, step):
        self.modes.append(self.network.training)
        return super().loss(network, batch, step)

    def diagnose(self):
        self.network.train()  # as the tasks of models do, whose dropout is for training
        return {}

    def before_update(self):
        self.before.append((*self.values, self.network.weight.grad is not None))


def test_codebook_and_critic_learn_once_a_step_between_gradients_and_update(tmp_path):
    task = Watched()
    task.network.eval()
    fit(task, replace(BASE, accumulate=2), tmp_path)
    assert task.modes == [True] * 2 * BASE.steps
    start = [(1.0, 1.0), *by_hand(BASE)[:-1]]
    assert [number for *values, _ in task.before for number in values] == pytest.approx(
        [number for pair in start for number in pair], rel=1e-5
    )
    assert all(there for *_, there in task.before)


class Random(Toy):
    """Its rows are random numbers, which a seed decides."""

    def __init__(self) -> None:
        super().__init__([])
        self.drawn: list[float] = []

    def batch(self, step):
        row = torch.rand(4)
        self.drawn += row.tolist()
        return (row,)


@about("seed")
def test_seed_decides_the_random_numbers_of_every_step(tmp_path):
    """Whatever came before: the same seed repeats them; another seed, and another step, has its own."""
    drawn = {}
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        torch.manual_seed(len(drawn))
        drawn[name] = fit(Random(), replace(BASE, seed=seed), tmp_path / name).drawn
    assert drawn["one"] == drawn["again"]
    assert len(set(drawn["one"] + drawn["two"])) == 2 * 4 * BASE.steps


# ---------------------------------------------------------------- the trainings themselves


SIZES = small_tokenizer()
PRESET = Preset(SIZES, small_ar(SIZES, classes=len(scenes.CLASSES)), guidance=2.5, power=1.5)
SHORT = TrainSettings(steps=2, batch=4, lr=1e-3, warmup=1, pictures=8, save_every=100)


@pytest.fixture(autouse=True)
def no_sheets(monkeypatch):
    """Drawing them takes most of the time of so short a training."""
    monkeypatch.setattr(tasks.ARTask, "sheet", lambda task: [torch.zeros(1, 3, 8, 8)])


def weights(model: AliTok) -> torch.Tensor:
    parts = [model.tokenizer, model.ar] if model.ar else [model.tokenizer]
    return torch.cat([value.detach().flatten() for part in parts for value in part.state_dict().values()])


@about("seed")
def test_two_seeds_train_two_models_and_one_seed_the_same(tmp_path):
    found = {}
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        for part in ("tokenizer", "decoder", "ar"):
            model = train.train_part(part, PRESET, replace(SHORT, seed=seed), tmp_path / name)
        found[name] = model
    assert torch.equal(weights(found["one"]), weights(found["again"]))
    for name in ("encoder.queries", "decoder1.positions", "decoder2.extra_tokens"):
        one, two = (found[run].tokenizer.get_parameter(name) for run in ("one", "two"))
        assert (one - two).abs().mean() > 0.05, name
    assert (found["one"].ar.embedding.weight - found["two"].ar.embedding.weight).abs().mean() > 0.01


@about("seed", "batch", "pictures")
@pytest.mark.parametrize("pictures", [8, 30_000])
def test_scenes_follow_seed_batch_and_pictures(pictures):
    """Few are painted once and drawn from, many afresh for each batch."""
    device = torch.device("cpu")
    source = SceneSource(16, replace(SHORT, batch=20, pictures=pictures), device)
    first, labels = source.batch(0)
    assert len(first) == len(labels) == 20
    different = len(first.flatten(1).unique(dim=0))
    assert (different == 20) if pictures > 20 else (different <= 8)
    other = SceneSource(16, replace(SHORT, batch=20, pictures=pictures, seed=1), device)
    assert not torch.equal(other.batch(0)[0], first) and not torch.equal(source.batch(1)[0], first)
    if pictures == 8:
        assert [len(labels) for _, labels in source.blocks()] == [8]
        assert source.stamp != other.stamp != SceneSource(16, replace(SHORT, pictures=9, seed=1), device).stamp


@about("pictures", "batch")
def test_ar_model_knows_as_many_pictures_and_draws_batches_of_them(tmp_path):
    train.train_part("tokenizer", PRESET, SHORT, tmp_path)
    model = AliTok.from_pretrained(tmp_path, "cpu")
    settings = replace(SHORT, pictures=11, batch=6)
    source = SceneSource(32, settings, torch.device("cpu"))
    model.ar = small_model().ar
    task = tasks.ARTask(model, settings, accelerator_front(), source, tmp_path)
    assert len(task.ids) == len(task.labels) == 11
    assert [len(rows) for rows in task.batch(0)] == [6, 6]


@about("batch", "scan")
@pytest.mark.parametrize("scan", ["raster", "column"])
def test_tokenizer_learns_from_batches_in_the_order_of_the_scan(tmp_path, monkeypatch, scan):
    seen, batch = [], tasks.TokenizerTask.batch
    monkeypatch.setattr(tasks.TokenizerTask, "batch", lambda task, step: seen.append(batch(task, step)) or seen[-1])
    settings = replace(SHORT, scan=scan, batch=6)
    train.train_part("tokenizer", PRESET, settings, tmp_path)
    source = SceneSource(32, settings, torch.device("cpu"))
    assert len(seen) == 2
    for step, (pixels,) in enumerate(seen):
        assert torch.equal(pixels, scanned(source.batch(step)[0], scan, 16))
        assert torch.equal(pixels, source.batch(step)[0]) is (scan == "raster")


@pytest.mark.parametrize("sizes", [SIZES, replace(SIZES, prefix=False, aligned=False)])
def test_standardised_tokenizer_sees_contrast_and_paints_the_mean_colour(sizes):
    """By a formula: its patch embedding of pixels is the plain one of (pixels - mean) / deviation."""
    torch.manual_seed(0)
    pixels = 0.5 + 0.05 * torch.randn(40, 3, 32, 32) + torch.tensor([0.3, 0.0, -0.2])[:, None, None]
    fresh = Tokenizer(sizes, (1,) if sizes.aligned else (2,))
    embed = fresh.encoder.patch_embed
    plain = copy.deepcopy(embed)
    standardise(fresh, pixels)
    seen = (pixels - pixels.mean((0, 2, 3))[:, None, None]) / pixels.std((0, 2, 3))[:, None, None]
    assert torch.allclose(embed(pixels), plain(seen), atol=2e-3)
    output = fresh(pixels, fresh.stages[-1])
    painted = [output.pixels, *([output.aux] if output.aux is not None else [])]
    for some in painted:
        colours = some.transpose(0, -3).flatten(1).mean(1)
        assert torch.allclose(colours, torch.tensor([0.8, 0.5, 0.3]), atol=0.02)
    standardise(fresh, torch.ones(2, 3, 32, 32))  # one colour: no division by zero, no infinite bias
    assert all(value.isfinite().all() for value in fresh.state_dict().values())


@about("standardise")
@pytest.mark.parametrize("wanted", [False, True])
def test_standardised_tokenizer_begins_with_its_pictures_once(tmp_path, wanted):
    """Without learning rate the weights stay those of the start, also of a training that goes on."""
    settings = replace(SHORT, steps=1, lr=0.0, final_lr=0.0, batch=8, standardise=wanted)
    source = SceneSource(32, settings, torch.device("cpu"))
    torch.manual_seed(settings.seed)
    fresh = Tokenizer(SIZES, (1,))
    if wanted:
        standardise(fresh, source.batch(0)[0])
    for steps in (1, 2):
        model = train.train_part("tokenizer", PRESET, replace(settings, steps=steps), tmp_path, resume=steps > 1)
        for name in ("encoder.patch_embed.weight", "encoder.patch_embed.bias", "decoder1.head.conv.bias"):
            assert torch.allclose(model.tokenizer.get_parameter(name), fresh.get_parameter(name), atol=1e-6), name


@pytest.mark.slow
def test_next_code_is_the_share_that_earlier_codes_do_not_explain():
    torch.manual_seed(0)
    codes = torch.randn(64, 7, 4)
    follows = codes[:, :1].expand(-1, 7, -1)  # all of a picture's codes are its first
    found = {}
    for name, given in (("independent", codes), ("follows", follows), ("only positions", codes[:1] + 0.1 * codes)):
        torch.manual_seed(1)
        network = NextCode(7, 4)
        assert network(3 * given + 1).item() > 0
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            network(given).backward()
            optimizer.step()
        found[name] = network(given).item()
    assert found["follows"] < 0.35 < 0.6 < found["independent"] < 1.1
    assert 0.5 < found["only positions"] < 1.5  # what every picture has in common is not counted


def test_next_code_reads_only_earlier_codes_and_has_no_scale():
    torch.manual_seed(0)
    network, codes = NextCode(7, 4), torch.randn(5, 7, 4)
    read = torch.zeros(5, 7, 4, requires_grad=True)
    seen = []
    network.output.register_forward_hook(lambda module, given, made: seen.append(made))
    network(codes + read)
    for place in range(7):
        (gradient,) = torch.autograd.grad(seen[0][:, place].sum(), read, retain_graph=True)
        assert gradient[:, place:].abs().sum() == 0 and (place == 0 or gradient[:, :place].abs().sum() > 0)
    with torch.no_grad():  # codes of ten times the size, for a network whose weights make up for it
        small = network(codes).item()
        network.embed.weight /= 10
        network.output.weight *= 10
        network.output.bias *= 10
        assert network(10 * codes).item() == pytest.approx(small, rel=1e-4)


@about("next_code")
@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_weight_of_the_next_code_reaches_the_encoder_and_its_network_learns(tmp_path, weight):
    task = tokenizer_task(LossWeights(mse=0, aux=0, vq=0), source=Numbered(), next_code=weight)
    before = copy.deepcopy(task.next_code.state_dict())
    loss, terms = task.loss(task.network, task.batch(0), 0)
    loss.backward()
    assert terms["next code"].item() == pytest.approx(loss.item()) and loss.item() > 0
    assert task.tokenizer.encoder.queries.grad.abs().sum() > 0
    latents, codes = task.quantized[0][0], task.tokenizer.quantizer.lookup(task.quantized[0][1])
    assert terms["next code"].item() == pytest.approx(weight * task.next_code(codes).item(), rel=1e-4)
    assert latents.shape == codes.shape
    task.before_update()
    assert all(p.grad is None for p in task.next_code.parameters())
    assert any(not torch.equal(value, before[name]) for name, value in task.next_code.state_dict().items())
    assert {"next_code"} == task.extra.keys() and {"next_code_optimizer"} == task.extra_optimizers.keys()
    assert tokenizer_task(LossWeights(), "decoder", next_code=weight).next_code is None
    assert "next code" not in tokenizer_task(LossWeights()).loss(task.network, task.batch(0), 0)[1]


@about("class_dropout")
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_share_of_labels_becomes_the_null_class(tmp_path, share):
    """Twelve thousand labels; the band is four standard deviations of a binomial share."""
    task = ar_task(tmp_path, batch=12_000, class_dropout=share)
    torch.manual_seed(0)
    dropped = (task.batch(0)[1] == task.model.ar.config.classes).float().mean().item()
    assert abs(dropped - share) <= 4 * math.sqrt(share * (1 - share) / 12_000)


@about("further")
@pytest.mark.parametrize("further", [False, True])
def test_decoder_is_a_second_one_or_the_only_one_trained_further(tmp_path, further):
    train.train_part("tokenizer", PRESET, SHORT, tmp_path)
    before = AliTok.from_pretrained(tmp_path, "cpu").tokenizer
    after = train.train_part("decoder", PRESET, replace(SHORT, further=further), tmp_path).tokenizer
    assert after.stages == ((1,) if further else (1, 2))
    assert torch.equal(after.decoder1.positions, before.decoder1.positions) is not further
    for part in ("tokenizer", "ar"):
        with pytest.raises(ValueError, match="further is for the decoder, not for the"):
            train.train_part(part, PRESET, replace(SHORT, further=True), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@about("losses")
@pytest.mark.parametrize("part", ["tokenizer", "decoder"])
def test_weights_of_the_losses_reach_the_training(tmp_path, part):
    """The first step's terms are twice as large with twice the weights; the critic is there from its start on."""
    terms, found = ("mse", "l1", "aux", "vq") if part == "tokenizer" else ("mse", "l1"), []
    for factor in (1.0, 2.0):
        run = tmp_path / f"{factor}"
        if part == "decoder":
            train.train_part("tokenizer", PRESET, SHORT, run)
        losses = LossWeights(mse=factor, l1=factor, aux=factor, vq=factor, adversarial=0.1)
        settings = replace(SHORT, steps=1, losses=replace(losses, adversarial_start=0.0))
        found.append(train.train_part(part, PRESET, settings, run).info["training"][part])
    for name in terms:
        assert found[1][name] == pytest.approx(2 * found[0][name], rel=1e-4) and found[0][name] > 0, name
    assert found[0]["gan"] != 0 and found[1]["gan"] == pytest.approx(2 * found[0]["gan"], rel=1e-3)


def test_guidance_of_the_preset_comes_with_the_run(tmp_path):
    model = train.train_part("tokenizer", PRESET, SHORT, tmp_path)
    assert (model.sampling.guidance, model.sampling.power) == (2.5, 1.5)


@pytest.mark.parametrize("part", ["tokenizer", "decoder", "ar"])
def test_decay_is_on_the_matrices_of_linear_layers_and_convolutions_alone(tmp_path, part):
    groups = []

    def see(optimizer, *_):
        if type(optimizer) is torch.optim.AdamW:
            groups.append(
                [(group["weight_decay"], {id(p) for p in group["params"]}) for group in optimizer.param_groups]
            )

    if part != "tokenizer":
        train.train_part("tokenizer", PRESET, SHORT, tmp_path)
    handle = register_optimizer_step_pre_hook(see)
    try:
        model = train.train_part(part, PRESET, replace(SHORT, weight_decay=0.07), tmp_path)
    finally:
        handle.remove()
    network = {"tokenizer": model.tokenizer, "decoder": model.tokenizer.decoder2, "ar": model.ar}[part]
    decayed = {id for decay, ids in groups[0] if decay for id in ids}
    names = {name for name, value in network.named_parameters() if id(value) in decayed}
    layers = {name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    assert names == {f"{name}.weight" for name in layers}
    assert {decay for decay, _ in groups[0]} == {0.07, 0.0}
    assert {id for _, ids in groups[0] for id in ids} == {id(value) for value in network.parameters()}
    still = ("embedding", "norm", "bias", "codebook", "positions", "queries", "extra_tokens")
    assert not any(word in name.removesuffix("weight") for name in names for word in still)


def test_only_the_part_in_training_moves(tmp_path):
    train.train_part("tokenizer", PRESET, SHORT, tmp_path)
    before = AliTok.from_pretrained(tmp_path, "cpu").tokenizer.state_dict()
    for part in ("decoder", "ar"):
        model = train.train_part(part, PRESET, replace(SHORT, lr=0.1), tmp_path)
        after = model.tokenizer.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.items())
        before = {
            key: value.clone() for key, value in AliTok.from_pretrained(tmp_path, "cpu").tokenizer.state_dict().items()
        }
