"""The exercises of notebook 04: freezing for stage 2, PSNR, which decoder belongs to which stage."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..core.config import TokenizerConfig
from ..core.tokenizer import Tokenizer
from .exercises import as_tensor, exercise, known, randn, require, require_function, require_tensor, shortened


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
    tokenizer.decoder2.requires_grad = True  # type: ignore[union-attr, assignment]


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
        "This is the mean of the PSNRs; asked is one for each picture.": lambda a, b: _psnr(a, b).mean(),
        "This is the absolute error; PSNR has the squared one.": (
            lambda a, b: -20 * (a - b).abs().flatten(1).mean(1).log10()
        ),
        "This is the sum of the squared errors; PSNR has their mean.": (
            lambda a, b: -10 * (a - b).square().flatten(1).sum(1).log10()
        ),
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
    require(right, f"The answer must be a dict with keys 1 and 2; this is {shortened(answer)}.")
    words = {stage: str(word).strip().lower() for stage, word in answer.items()}
    for stage, word in words.items():
        known = word in ("causal", "bidirectional")
        require(known, f'Stage {stage} must be "causal" or "bidirectional"; it is {answer[stage]!r}.')
    taught = "With a bidirectional decoder in stage 1, nothing keeps patches from depending on later tokens."
    require(words[1] == "causal", taught)
    better = "In stage 2 the tokens are frozen; a decoder that attends to all of them can only improve the pixels."
    require(words[2] == "bidirectional", better)


known(
    "4.3",
    lambda answer: answer,
    {
        "Yours is the other way round.": {1: "bidirectional", 2: "causal"},
        "That is the conventional way: one bidirectional decoder teaches the encoder.": {
            1: "bidirectional",
            2: "bidirectional",
        },
        "That works, and leaves pixels behind: the second decoder may read all tokens.": {1: "causal", 2: "causal"},
    },
)
