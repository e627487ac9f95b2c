"""Misalignment seen: a picture is told token by token, and patches that were told already change again.

A causal decoder makes each patch from its own token and earlier ones, so a patch is final when its token is there. A
bidirectional decoder repaints it as long as later tokens come in. Tokens that are not told yet are replaced by the code
nearest to the mean of the codebook (`probe.keep_first`), which is an unusual input for a bidirectional decoder: the
numbers say how far a told patch depends on what was not told, not how good the final picture is.
"""

import torch
from einops import rearrange
from torch import Tensor

from ..core.tokenizer import Tokenizer
from ..packed import packed
from .probe import keep_first

VISIBLE = 0.02  # mean absolute change of a patch, of a range of 1, from which on it counts as repainted


def told(tokenizer: Tokenizer, ids: Tensor, stage: int | None = None) -> Tensor:
    """What the decoder shows when 0, 1, ... T tokens of ids (B, T) are told: (B, T + 1, 3, S, S) in [0, 1].

    `stage` 1 is the causal decoder, 2 the bidirectional one, None the best there is.

    Shape: told(tokenizer, ids) -> (2, 8, 3, 32, 32)
    """
    steps, tokenizer = range(tokenizer.config.tokens + 1), packed(tokenizer)
    return torch.stack([tokenizer.decode(keep_first(tokenizer, ids, step), stage) for step in steps], 1)


def changes(frames: Tensor, patch: int) -> Tensor:
    """How far each patch is, after each token, from what it was when its own token was told.

    frames (B, T + 1, 3, S, S) as `told` gives them, patch in pixels -> mean absolute change (B, T + 1, G*G), patches in
    raster order; 0 before a patch is told. The last G*G tokens are those of the patches.

    Shape: changes((2, 8, 3, 32, 32), 16) -> (2, 8, 4)
    """
    blocks = rearrange(frames.float(), "b t c (r p) (k q) -> b t (r k) (p q c)", p=patch, q=patch)
    steps, patches = blocks.shape[1:3]
    index = torch.arange(patches, device=frames.device)
    first = steps - patches + index  # the frame after each patch's own token
    change = (blocks - blocks[:, first, index][:, None]).abs().mean(-1)
    return change * (torch.arange(steps, device=frames.device)[:, None] >= first)


def repainted(frames: Tensor, patch: int) -> Tensor:
    """Whether each patch of the finished picture differs visibly from what it was when it was told: bool (B, G*G).

    Shape: repainted((2, 8, 3, 32, 32), 16) -> (2, 4)
    """
    return changes(frames, patch)[:, -1] > VISIBLE


@torch.no_grad()
def repaint_share(tokenizer: Tokenizer, ids: Tensor, stage: int | None = None, batch: int = 16) -> dict[str, float]:
    """The share of patches of pictures with ids (N, T) that change visibly after their own token was told.

    repainted: the mean over pictures; repainted_spread: their standard deviation; repaint_change: the mean absolute
    change of a patch. All are exactly 0 for a causal decoder.
    """
    parts = (changes(told(tokenizer, part, stage), tokenizer.config.patch_size)[:, -1] for part in ids.split(batch))
    change = torch.cat(list(parts))  # (N, G*G)
    shares = (change > VISIBLE).float().mean(1)  # Apple GPUs have no float64
    spread = float(shares.std()) if len(shares) > 1 else 0.0
    return {"repainted": float(shares.mean()), "repaint_change": float(change.mean()), "repainted_spread": spread}
