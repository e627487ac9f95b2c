"""What a fresh tokenizer may know of its pictures before the first step: their colours' mean and contrast."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.tokenizer import Tokenizer

LEAST = 0.02  # of a standard deviation, for pictures that hardly differ


@torch.no_grad()
def standardise(tokenizer: Tokenizer, pixels: Tensor) -> None:
    """Let a fresh tokenizer see standardised pixels and paint the mean colour. pixels (B, 3, S, S) in [0, 1]

    The mean and the standard deviation of each colour become part of the patch embedding, so the tokenizer still takes
    pixels in [0, 1]; the logits of the means become the biases of the pixel heads. Otherwise the first steps learn the
    mean picture with all weights at once. On pictures of low contrast little of what differs between pictures is left
    in the latents afterwards, and the training stays at the mean picture.
    """
    # differs: the official code starts from random weights alone; its perceptual loss is a thousand times as steep
    mean, deviation = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp_min(LEAST)  # (3,)
    embed = tokenizer.encoder.patch_embed
    embed.weight.div_(deviation[:, None, None])
    assert embed.bias is not None
    embed.bias.sub_((embed.weight.sum((2, 3)) * mean).sum(1))
    for decoder in filter(None, (tokenizer.decoder1, tokenizer.decoder2)):
        for head in filter(None, (decoder.head, decoder.aux_head)):
            assert head.conv.bias is not None
            head.conv.bias.copy_(mean.clamp(0.01, 0.99).logit())
