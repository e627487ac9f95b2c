"""The exercises of notebook 04: freezing for stage 2, PSNR, which decoder belongs to which stage."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.config import TokenizerConfig
from ..core.tokenizer import Tokenizer
from .exercises import (
    as_tensor,
    exercise,
    known,
    randn,
    require,
    require_function,
    require_number,
    require_tensor,
    shortened,
)


@exercise(
    "4.1",
    "core",
    7,
    why="The ids stay the same because nothing that makes them is trained; only their pixels get better.",
    hint="tokenizer.requires_grad_(False) freezes everything; then set True for the one module that stage 2 trains.",
    stub="""
def prepare_stage2(tokenizer):
    pass  # your code
""",
)
def prepare_stage2(answer: Callable) -> None:
    """Write prepare_stage2(tokenizer): set requires_grad so that stage 2 trains what it should and nothing else. The
    parts are tokenizer.encoder, .quantizer, .decoder1 (causal) and .decoder2 (bidirectional)."""
    require_function(answer)
    tokenizer = _small_tokenizer()
    answer(tokenizer)
    learns = {name: {p.requires_grad for p in part.parameters()} for name, part in tokenizer.named_children()}
    require(False not in learns["decoder2"], "The bidirectional decoder (decoder2) is frozen, but stage 2 trains it.")
    require(True not in learns["encoder"], "The encoder or its latent queries are still trained: the ids would change.")
    require(True not in learns["quantizer"], "The codebook is still trained: the same ids would stand for other codes.")
    require(True not in learns["decoder1"], "The causal decoder (decoder1) is still trained; it belongs to stage 1.")


_SMALL_SIZES = (("width", 16), ("depth", 1), ("heads", 2))


def _small_tokenizer() -> Tokenizer:
    sizes = {f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in _SMALL_SIZES}
    tokenizer = Tokenizer(TokenizerConfig(image_size=32, codebook_size=8, code_dim=4, **sizes), (1, 2))
    tokenizer.decoder(2).requires_grad_(False)  # stage 2 trains it, whatever it was before
    return tokenizer


def _freeze(*parts: str) -> Callable:
    """An answer that freezes these parts and trains all others."""

    def prepare(tokenizer: Tokenizer) -> None:
        for name, part in tokenizer.named_children():
            part.requires_grad_(name not in parts)

    return prepare


def _only_attributes(tokenizer: Tokenizer) -> None:
    tokenizer.requires_grad_(False)
    tokenizer.decoder2.requires_grad = True


known(
    "4.1",
    lambda answer: _prepared(answer),
    {
        "tokenizer.decoder2.requires_grad = True only sets an attribute of the module and changes no parameter; call"
        " requires_grad_(True).": _only_attributes,
        "Everything is frozen: stage 2 would train nothing.": lambda t: t.requires_grad_(False),
        "Nothing is frozen.": lambda t: t.requires_grad_(True),
        "Only the encoder is frozen; the codebook gives the ids their meaning, so it must stay as well.": _freeze(
            "encoder"
        ),
        "Only the codebook is frozen: the encoder would choose other ids.": _freeze("quantizer"),
        "You trained the decoder of stage 1.": _freeze("encoder", "quantizer", "decoder2"),
        "decoder1 is still trained: an optimiser with weight decay would change it without any gradient.": (
            _freeze("encoder", "quantizer")
        ),
    },
)


def _prepared(answer: Callable) -> dict[str, bool]:
    tokenizer = _small_tokenizer()
    answer(tokenizer)
    return {name: p.requires_grad for name, p in tokenizer.named_parameters()} | {
        name: "requires_grad" in vars(part) for name, part in tokenizer.named_children()
    }


@exercise(
    "4.2",
    "warm-up",
    7,
    why="PSNR is a logarithm, so the mean of the PSNRs is not the PSNR of the mean error: say which one you report.",
    hint="Mean squared error of each picture: (a - b).square().flatten(1).mean(1); then -10 times its log10.",
    stub="""
def my_psnr(decoded, pixels):
    return torch.zeros(len(pixels))  # your code
""",
)
def my_psnr(answer: Callable) -> None:
    """Write my_psnr(decoded, pixels): the peak signal-to-noise ratio in dB of each picture, (B, 3, S, S) in [0, 1] to
    (B,): -10 log10 of its mean squared error."""
    require_function(answer)
    pixels = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 2
    error = torch.tensor([0.1, 0.01, 0.1]).view(3, 1, 1, 1)
    found = as_tensor(answer(pixels + error, pixels), "my_psnr")
    shape = tuple(found.shape)
    require(shape == (3,), f"Three pictures have three values, of shape (3,); yours has {shape}.")
    require_tensor(found[0], torch.tensor(20.0), "An error of 0.1 at every pixel must be 20 dB")
    require_tensor(found[1] - found[0], torch.tensor(20.0), "A tenth of the error must be 20 dB more")
    noise = randn(3, 3, 8, 8) * error
    wanted = -10 * noise.square().flatten(1).mean(1).log10()
    require_tensor(
        answer(pixels + noise, pixels), wanted, "The mean must be of the squared error of each picture by itself"
    )


known(
    "4.2",
    lambda answer: answer(*_pictures()),
    {
        "-20 log10 belongs to the root of the error; for the squared error it is -10 log10.": lambda a, b: (
            2 * _psnr(a, b)
        ),
        "This is the natural logarithm; decibels use log10.": lambda a, b: _psnr(a, b) * math.log(10),
        "The sign is the other way round: a smaller error is a higher PSNR.": lambda a, b: -_psnr(a, b),
        "This is one number for all pictures: the mean must not run over the first dimension.": (
            lambda a, b: -10 * (a - b).square().mean().log10()
        ),
        "This is the mean of the PSNRs; the exercise wants one for each picture.": lambda a, b: _psnr(a, b).mean(),
        "This is the absolute error; PSNR has the squared one.": (
            lambda a, b: -20 * (a - b).abs().flatten(1).mean(1).log10()
        ),
        "This is the sum of the squared errors; PSNR has their mean.": (
            lambda a, b: -10 * (a - b).square().flatten(1).sum(1).log10()
        ),
        "This is the logarithm to base 2; decibels use log10.": lambda a, b: _psnr(a, b) * math.log2(10),
        "The pixels are in [0, 1], so the peak is 1, not 255.": lambda a, b: _psnr(a, b) + 20 * math.log10(255),
    },
)


def _pictures() -> tuple[Tensor, Tensor]:
    pixels = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 2
    return pixels + randn(3, 3, 8, 8) * torch.tensor([0.1, 0.01, 0.1]).view(3, 1, 1, 1), pixels


def _psnr(decoded: Tensor, pixels: Tensor) -> Tensor:
    return -10 * (decoded - pixels).square().flatten(1).mean(1).log10()


@exercise(
    "4.3",
    "warm-up",
    5,
    why="The decoder of stage 1 shapes the tokens; that of stage 2 only reads them.",
    hint="With which decoder does the loss rise if the encoder puts something about patch 0 into a later token?",
    stub="""
decoder_of = {1: "?", 2: "?"}  # "causal" or "bidirectional"
""",
)
def decoder_of(answer: dict) -> None:
    """Should the decoder be causal or bidirectional? Give a dict: stage 1 and stage 2, each "causal" or
    "bidirectional"."""
    right = isinstance(answer, dict) and set(answer) == {1, 2}
    require(right, f"The answer must be a dict with the numbers 1 and 2 as keys; this is {shortened(answer)}.")
    named = {stage: str(kind).strip().lower() for stage, kind in answer.items()}
    for stage, kind in named.items():
        known = kind in ("causal", "bidirectional")
        require(known, f'Stage {stage} must be "causal" or "bidirectional"; it is {answer[stage]!r}.')
    taught = "With a bidirectional decoder in stage 1, nothing keeps patches from depending on later tokens."
    require(named[1] == "causal", taught)
    free = "In stage 2 the tokens are frozen: a decoder that attends to all of them cannot spoil them, and knows more."
    require(named[2] == "bidirectional", free)


known(
    "4.3",
    lambda answer: answer,
    {
        "Yours is the other way round.": {1: "bidirectional", 2: "causal"},
        "That is the conventional way: one bidirectional decoder teaches the encoder.": {
            1: "bidirectional",
            2: "bidirectional",
        },
        "That works, and gives something away: the second decoder may read all tokens.": {1: "causal", 2: "causal"},
    },
)


@exercise(
    "4.4",
    "stretch",
    15,
    "train.tasks.TokenizerTask.loss train.tasks.TokenizerTask.before_update core.losses.reconstruction_losses",
    why="All three parts learn from one loss: here a decoder that cannot look ahead shapes the tokens.",
    hint="latents, then codes, ids and VQ loss, then decoder1.outputs. The auxiliary target is that of exercise"
    " 3.1, for a batch. zero_grad, backward, step, and quantizer.revive(latents, ids), which needs no gradient.",
    stub='''
def stage1_step(
    tokenizer: torch.nn.Module, pixels: torch.Tensor, optimizer: torch.optim.Optimizer
) -> torch.Tensor:
    """One training step of stage 1 on pixels (B, 3, S, S). Returns the loss, a scalar.

    loss = pixel error + 0.66 * auxiliary error + VQ loss; errors are means of squares
    tokenizer.encoder(pixels) -> latents; .quantizer(latents) -> codes, ids, VQ loss
    tokenizer.decoder1.outputs(codes) -> decoded pixels, prefix outputs (B, K, 3, p, p)
    tokenizer.quantizer.revive(latents, ids) moves dead codes (CVQ); tokenizer.config.patch_size
    """
    return torch.zeros(())  # your code
''',
)
def stage1_step(answer: Callable) -> None:
    """Write stage1_step(tokenizer, pixels, optimizer): one training step of stage 1, from pixels (B, 3, S, S) to new
    weights: pixel error, auxiliary error with weight 0.66, VQ loss, gradients, the optimiser's step and the move of
    dead codes. Returns the loss."""
    require_function(answer)
    mine, theirs = _stepped(answer), _stepped(_stage1())
    require_number(mine["loss"], theirs["loss"].item(), f"The loss of these pictures must be {theirs['loss']:.4f}")
    for part, name in (("decoder1", "causal decoder"), ("encoder", "encoder")):
        still = torch.equal(mine[part], _stepped(_nothing)[part])
        require(not still, f"The {name} has not moved: it gets no gradient, or the optimiser takes no step.")
        right = torch.allclose(mine[part], theirs[part], atol=1e-5)
        require(right, f"The {name} moves otherwise than it should. Gradients that were there before must not count.")
    require(mine["usage"] > 0, "Dead codes do not move: quantizer.revive has not been called.")
    before = _stepped(_stage1("revive first"))  # as the package does; either order is right
    close = (torch.allclose(mine["codebook"], other["codebook"], atol=1e-4) for other in (theirs, before))
    require(any(close), "The codebook moves otherwise than it should.")
    require(torch.equal(mine["decoder2"], _stepped(_nothing)["decoder2"]), "Stage 1 must leave decoder2 as it is.")


def _nothing(tokenizer: Tokenizer, pixels: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    return torch.zeros(())


def _stepped(answer: Callable) -> dict[str, Tensor]:
    """The loss, and the weights of each part after one step, in which stale gradients are there at first.

    The decoders are no fresh ones: those hardly depend on their codes, so no gradient to speak of reaches the encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = _small_tokenizer().requires_grad_(True)
        tokenizer.quantizer.codebook.data.normal_()
        for p in (p for stage in (1, 2) for p in tokenizer.decoder(stage).parameters()):
            p.data.normal_(std=0.3)
        pixels = torch.rand(3, 3, 32, 32)
        optimizer = torch.optim.SGD(tokenizer.parameters(), 0.5)
        for part in (tokenizer.encoder, tokenizer.quantizer, tokenizer.decoder(1)):
            for p in part.parameters():
                p.grad = torch.full_like(p, 0.01)
        loss = answer(tokenizer, pixels, optimizer)
    weights = {
        name: torch.cat([p.detach().flatten() for p in part.parameters()]) for name, part in tokenizer.named_children()
    }
    weights["codebook"] = weights.pop("quantizer")
    left = any(p.grad is not None for p in tokenizer.encoder.parameters())
    return weights | {"loss": loss, "usage": tokenizer.quantizer.usage.sum(), "gradients left": left}


def _stage1(fault: str = "") -> Callable:
    """The step, or one with a fault."""

    def stage1_step(tokenizer: Tokenizer, pixels: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        latents = tokenizer.encoder(pixels)
        codes, ids, vq_loss = tokenizer.quantizer(latents.detach() if fault == "detached" else latents)
        decoder = tokenizer.decoder(2 if fault == "stage 2" else 1)
        decoded, prefix = decoder.outputs(codes.detach() if fault == "codes detached" else codes)
        size = tokenizer.config.patch_size
        row = torch.stack(pixels[:, :, :size].split(size, 3), 1)
        column = torch.stack(pixels[:, :, :, :size].split(size, 2), 1)
        target = torch.cat([row[:, :1], column if fault == "column" else row], 1)
        loss = F.l1_loss(decoded, pixels) if fault == "l1" else F.mse_loss(decoded, pixels)
        if fault == "no corner":
            prefix, target = prefix[:, 1:], target[:, 1:]
        if prefix is not None and fault != "no aux":
            loss = loss + (1.0 if fault == "aux weight" else 0.66) * F.mse_loss(prefix, target)
        loss = loss + {"no vq": 0, "vq weight": 0.25}.get(fault, 1) * vq_loss
        if fault != "no zero_grad":
            optimizer.zero_grad()
        loss.backward()
        if fault == "zero_grad last":
            optimizer.zero_grad()
        if fault == "revive first":
            tokenizer.quantizer.revive(latents, ids)
        if fault != "no step":
            optimizer.step()
        if fault not in ("no revive", "revive first"):
            tokenizer.quantizer.revive(latents, ids)
        return loss.detach()

    return stage1_step


known(
    "4.4",
    _stepped,
    {
        "The auxiliary error is missing: the prefix would learn nothing of the first row.": _stage1("no aux"),
        "The weight of the auxiliary error is 0.66.": _stage1("aux weight"),
        "The auxiliary target is the first row of patches, and yours is the first column.": _stage1("column"),
        "The corner is missing from the auxiliary error: output 0 has a target, too.": _stage1("no corner"),
        "The VQ loss counts in full: the 0.25 of the commitment is in it already.": _stage1("vq weight"),
        "The codes are detached: the pixel error no longer reaches the encoder.": _stage1("codes detached"),
        "The VQ loss is missing: the codebook would get no gradient.": _stage1("no vq"),
        "The pixel error is a mean of absolute values; the exercise wants that of squares.": _stage1("l1"),
        "The latents are detached: no gradient reaches the encoder.": _stage1("detached"),
        "zero_grad() is missing: gradients of earlier steps are added.": _stage1("no zero_grad"),
        "zero_grad() comes between backward() and step(): nothing is left to step with.": _stage1("zero_grad last"),
        "optimizer.step() is missing.": _stage1("no step"),
        "quantizer.revive is missing: dead codes stay dead.": _stage1("no revive"),
        "That is the decoder of stage 2; stage 1 trains against decoder1.": _stage1("stage 2"),
    },
)
