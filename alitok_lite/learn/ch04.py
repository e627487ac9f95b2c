"""The exercises of notebook 04: freezing for stage 2, PSNR, which decoder belongs to which stage."""

from collections.abc import Callable

import torch

from ..core.config import TokenizerConfig
from ..core.tokenizer import Tokenizer
from .exercises import as_tensor, exercise, randn, require, require_function, require_tensor, shortened


@exercise(
    "4.1",
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
    sizes = {f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in _SMALL_SIZES}
    tokenizer = Tokenizer(TokenizerConfig(image_size=32, codebook_size=8, code_dim=4, **sizes), (1, 2))
    tokenizer.decoder2.requires_grad_(False)  # stage 2 trains it, whatever it was before
    answer(tokenizer)
    learns = {name: {p.requires_grad for p in part.parameters()} for name, part in tokenizer.named_children()}
    require(False not in learns["decoder2"], "The bidirectional decoder (decoder2) is frozen, but stage 2 trains it.")
    require(True not in learns["encoder"], "The encoder or its latent queries are still trained: the ids would change.")
    require(True not in learns["quantizer"], "The codebook is still trained: the same ids would stand for other codes.")
    require(True not in learns["decoder1"], "The causal decoder (decoder1) is still trained; it belongs to stage 1.")


_SMALL_SIZES = (("width", 16), ("depth", 1), ("heads", 2))


@exercise(
    "4.2",
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


@exercise(
    "4.3",
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
