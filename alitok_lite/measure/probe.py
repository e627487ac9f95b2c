"""Looking inside a model without changing it: attention maps, dependency maps, token surgery, predictability.

A *part* of a model is "encoder", "causal" or "bidirectional" (its decoders of stage 1 and 2), or "ar". An attention
map says what a position attends to; a dependency map says what really moves when a token is changed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from ..core.config import TokenizerConfig, plain
from ..core.layers import Attention, causal_mask
from ..core.tokenizer import Tokenizer
from ..model import AliTok
from . import metrics

PARTS = ("encoder", "causal", "bidirectional", "ar")
BATCH = 64  # pictures at once where the logits of all tokens are needed


# ---------------------------------------------------------------- who stands where


def sequence(config: TokenizerConfig, part: str) -> dict[str, int]:
    """What stands in the sequence of a part, in order, and how many of each.

    The AR model's last image token is predicted but never read, so it reads one less. A conventional decoder has one
    extra token, called buffer here. Raises ValueError for an unknown part.
    """
    if part not in PARTS:
        raise ValueError(f"no part {part!r}; the parts are {', '.join(PARTS)}")
    prefix, image = config.prefix_tokens, config.grid**2
    buffer = config.buffer_tokens if config.aligned else 1
    lengths = {
        "encoder": {"patch": image, "prefix": prefix, "image": image},
        "causal": {"start": 1, "prefix": prefix, "image": image},
        "bidirectional": {"buffer": buffer, "prefix": prefix, "image": image},
        "ar": {"class": 1, "prefix": prefix, "image": image - 1},
    }[part]
    return {name: length for name, length in lengths.items() if length}


def mask(config: TokenizerConfig, part: str) -> Tensor:
    """Who may attend to whom in a part: bool (t, t), True where the query (row) may see the key (column)."""
    length = sum(sequence(config, part).values())
    if part in ("causal", "ar") or (part == "encoder" and config.encoder_causal):
        return causal_mask(length, length)
    return torch.ones(length, length, dtype=torch.bool)


def token_name(config: TokenizerConfig, token: int) -> str:
    """What people call a token."""
    if token < config.prefix_tokens:
        return f"prefix token {token}"
    return "image token ({}, {})".format(*divmod(token - config.prefix_tokens, config.grid))


def position(config: TokenizerConfig, part: str, token: int) -> int:
    """Where the token 0..T-1 acts in the sequence of a part: at its latent query (encoder), where it is read
    (decoders), where it is predicted (AR model, which sees the class and the tokens before it).

    Raises ValueError for an unknown part or token.
    """
    lengths = sequence(config, part)
    if not 0 <= token < config.tokens:
        raise ValueError(f"token is {token}; it must be a whole number from 0 to {config.tokens - 1}")
    return token if part == "ar" else next(iter(lengths.values())) + token


def split(values: Tensor, config: TokenizerConfig, part: str) -> dict[str, Tensor]:
    """Values (..., t) at the positions of a part, by what stands there (see `sequence`).

    The image's are always (..., G*G): the token that the AR model never reads gets 0.
    """
    lengths = sequence(config, part)
    pieces = dict(zip(lengths, values.split(list(lengths.values()), -1), strict=True))
    if part == "ar":
        pieces["image"] = nn.functional.pad(pieces["image"], (0, 1))
    return pieces


# ---------------------------------------------------------------- attention


def _attentions(model: AliTok) -> dict[str, list[Attention]]:
    """The attention layers of every part that the model has."""
    tokenizer = model.tokenizer
    parts = dict(zip(PARTS, (tokenizer.encoder, tokenizer.decoder1, tokenizer.decoder2, model.ar), strict=True))
    return {
        name: [layer for layer in part.modules() if isinstance(layer, Attention)]
        for name, part in parts.items()
        if part is not None
    }


def manual_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """Attention written out, for when the weights are wanted; equals the fused form of `Attention.attend`.

    Returns the output (B, H, t, d) and the weights (B, H, t, keys), each row a distribution over keys.

    Shape: manual_attention((2, 4, 3, 8), (2, 4, 5, 8), (2, 4, 5, 8), True) -> (2, 4, 3, 8), (2, 4, 3, 5)
    """
    scores = q.float() @ k.float().transpose(-2, -1) * q.shape[-1] ** -0.5  # (B, H, t, keys)
    if causal:
        scores = scores.masked_fill(~causal_mask(q.shape[-2], k.shape[-2], q.device), float("-inf"))
    weights = scores.softmax(-1)
    return weights.to(v.dtype) @ v, weights


@contextmanager
def record_attention(model: AliTok) -> Iterator[dict[str, list[Tensor]]]:
    """Records the attention weights of whatever runs inside the `with` block.

    Gives a dict that fills up: part -> one tensor (B, H, t, keys) for each layer, on the CPU, of the last call. Each
    row is a distribution over keys. Parts that did not run are absent. The layers compute by `manual_attention`, which
    equals the fused form up to rounding; afterwards, also after an exception, the model is as it was before.
    """
    maps: dict[str, list[Tensor]] = {}
    parts = _attentions(model)

    def recorder(part: str, index: int, layer: Attention) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        outer = vars(layer).get("attend")

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            y, weights = manual_attention(q, k, v, layer.causal)
            maps.setdefault(part, [torch.empty(0)] * len(parts[part]))[index] = weights.detach().cpu()
            return y if outer is None else outer(q, k, v)  # a block around this one records too

        return attend

    places = [(part, index, layer) for part, layers in parts.items() for index, layer in enumerate(layers)]
    recorders = [recorder(*place) for place in places]
    before = [vars(layer).get("attend") for *_, layer in places]
    try:
        for (*_, layer), recording in zip(places, recorders, strict=True):
            vars(layer)["attend"] = recording  # what a layer has itself goes before the method of its class
        yield maps
    finally:
        for (*_, layer), own in zip(places, before, strict=True):
            vars(layer).pop("attend", None)
            if own is not None:
                vars(layer)["attend"] = own


@torch.inference_mode()
def attention_of(model: AliTok, pixels: Tensor, label: int | None = None) -> dict[str, list[Tensor]]:
    """Attention of every part on one picture: part -> one (H, t, keys) for each layer, on the CPU.

    pixels (1, 3, S, S) in [0, 1]; the AR model reads the picture's ids with the label 0..C-1, None = the null class.
    """
    if len(pixels) != 1:
        raise ValueError(f"pixels hold {len(pixels)} pictures; give one, (1, 3, S, S)")
    with record_attention(model) as maps:
        ids = model.tokenizer.encode(pixels.to(model.device))
        for stage in model.tokenizer.stages:
            model.tokenizer.decode(ids, stage)
        if model.ar is not None:
            model.ar(ids, None if label is None else model.labels([label]))
    return {part: [layer[0].float() for layer in layers] for part, layers in maps.items()}


# ---------------------------------------------------------------- dependency


@torch.inference_mode()
def influence(function: Callable[[Tensor], Tensor], x: Tensor, seed: int = 0) -> Tensor:
    """How much each output of a function over sequences moves when one input does.

    function takes (B, t, D) and gives (B, outputs, ...). One input at a time gets noise of its own size added; the
    result (outputs, t) is the mean absolute change. `find_leaks` tells whether any of it comes from the future.

    Shape: influence(abs, (2, 5, 8)) -> (5, 5)
    """
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x) * x.std()
    before, columns = function(x), []
    for position in range(x.shape[1]):
        changed = x.clone()
        changed[:, position] += noise[:, position]
        columns.append((function(changed) - before).abs().float().transpose(0, 1).flatten(1).mean(1))
    return torch.stack(columns, 1)


def find_leaks(seen: Tensor) -> list[tuple[int, int]]:
    """The (query, key) pairs in which a query sees a later key, [] for a causal mask.

    seen (queries, keys), bool or numbers (not zero = sees), the last query standing at the last key: a mask, what
    `influence` gives, or the transposed map of a causal decoder, `dependency_map(...).T`, whose patch n stands at
    token K + n.
    """
    queries, keys = seen.shape
    leaks = seen.bool() & ~causal_mask(queries, keys, seen.device)
    return [(query, key) for query, key in leaks.nonzero().tolist()]


def dependency_map(
    tokenizer: Tokenizer, pixels: Tensor, stage: int = 1, method: str = "perturbation", seed: int = 0
) -> Tensor:
    """Which patch moves when which token is changed: (T, G*G) on the CPU, averaged over pictures (N, 3, S, S).

    "perturbation": each token in turn becomes another code at random; the mean absolute change of each patch's
    pixels, which are in [0, 1]. "jacobian": the token's code moves by a tiny step in a random direction; the root mean
    square change of the patch's pixels for each unit of the step's length.
    For a causal decoder (stage 1) the dependency on later tokens is exactly 0: patch n attends to tokens 0..K+n only.
    Raises ValueError for an unknown method or a decoder that is not there.

    Shape: dependency_map(tokenizer, (2, 3, 32, 32)) -> (7, 4)
    """
    if stage not in tokenizer.stages:
        raise ValueError(f"no decoder of stage {stage}; this tokenizer has stages {list(tokenizer.stages)}")
    if method not in ("perturbation", "jacobian"):
        raise ValueError(f"method is {method!r}; it must be 'perturbation' or 'jacobian'")
    ids = tokenizer.encode(pixels)
    generator = torch.Generator().manual_seed(seed)
    return (_by_perturbation if method == "perturbation" else _by_jacobian)(tokenizer, ids, stage, generator).cpu()


@torch.inference_mode()
def _by_perturbation(tokenizer: Tokenizer, ids: Tensor, stage: int, generator: torch.Generator) -> Tensor:
    codes = tokenizer.config.codebook_size
    others = (ids + torch.randint(1, codes, ids.shape, generator=generator).to(ids.device)) % codes  # never the same
    before, rows = tokenizer.decode(ids, stage), []
    for token in range(ids.shape[1]):
        after = tokenizer.decode(replace_tokens(ids, token, others[:, token]), stage)
        rows.append(patch_change(before, after, tokenizer.config.patch_size).mean(0).flatten())
    return torch.stack(rows)


def _by_jacobian(
    tokenizer: Tokenizer, ids: Tensor, stage: int, generator: torch.Generator, directions: int = 4
) -> Tensor:
    """Frobenius norm of each (patch, token) block of the Jacobian, estimated by random signs on the patch's pixels:
    the expected squared length of block^T signs is the squared norm. Each row of a batch asks about one patch."""
    config, decoder = tokenizer.config, tokenizer.decoder(stage)
    patches, sides = config.grid**2, {"p": config.patch_size, "q": config.patch_size}
    total = torch.zeros(patches, config.tokens, device=ids.device)
    with torch.inference_mode(False), torch.enable_grad():
        for picture in ids.repeat_interleave(directions, 0):
            codes = tokenizer.quantizer.lookup(picture.clone()).detach().to(decoder.positions.dtype)
            codes = codes.expand(patches, -1, -1).clone().requires_grad_()  # (G*G, T, d)
            patchwise = rearrange(decoder(codes), "n c (row p) (column q) -> n (row column) (c p q)", **sides)
            own = patchwise.diagonal().T  # (G*G, 3pp): row n of the batch is asked about patch n
            signs = torch.randint(0, 2, own.shape, generator=generator).to(own) * 2 - 1
            (gradient,) = torch.autograd.grad((own * signs).sum(), codes)
            total = total + gradient.float().square().sum(-1)  # (G*G, T)
    numbers = len(ids) * directions * signs.shape[1] * codes.shape[-1]
    return (total / numbers).sqrt().T


def later_share(dependency: Tensor) -> Tensor:
    """The share of each patch's dependency that comes from tokens after its own: (T, G*G) -> (G*G,) in [0, 1].

    0 for a causal decoder, 1 for a patch that depends on none of its own and the earlier tokens.

    Shape: later_share((7, 4)) -> (4,)
    """
    tokens, patches = dependency.shape
    later = ~causal_mask(patches, tokens, dependency.device).T  # (T, G*G)
    return (dependency * later).sum(0) / dependency.sum(0).clamp_min(1e-12)


# ---------------------------------------------------------------- token surgery


def replace_tokens(ids: Tensor, positions: int | Sequence[int], codes: int | Tensor) -> Tensor:
    """A copy of ids (B, T) with other codes at one or several positions; raises ValueError for no such position.

    codes: one code for all, or a tensor that broadcasts to (B, number of positions), or (B,) for one position.

    Shape: replace_tokens(ids, 3, 0) -> (2, 7)
    """
    given: Any = plain(positions)
    places = [given] if isinstance(given, int) else list(given)
    wrong = [p for p in places if not 0 <= p < ids.shape[1]]
    if wrong:
        raise ValueError(f"no token {wrong[0]}; a picture has tokens 0 to {ids.shape[1] - 1}")
    index = torch.tensor(places, dtype=torch.long, device=ids.device).expand(len(ids), -1)  # (B, n)
    codes = (codes if isinstance(codes, Tensor) else torch.tensor(codes)).to(ids.device, ids.dtype)
    codes = codes[:, None] if codes.ndim == 1 and len(places) == 1 else codes
    return ids.scatter(1, index, codes.expand(len(ids), len(places)))


def swap_prefix(ids: Tensor, prefix_tokens: int) -> Tensor:
    """Two pictures with exchanged prefix tokens: (2, T) -> (2, T); row 0 has the image tokens of picture 0.

    Shape: swap_prefix(ids, 3) -> (2, 7)
    """
    if len(ids) != 2:
        raise ValueError(f"ids hold {len(ids)} pictures; give two, (2, T)")
    if not 0 < prefix_tokens < ids.shape[1]:
        raise ValueError(f"prefix_tokens is {prefix_tokens}; there must be 1 to {ids.shape[1] - 1} of them to swap")
    return torch.cat([ids.flip(0)[:, :prefix_tokens], ids[:, prefix_tokens:]], 1)


def keep_first(tokenizer: Tokenizer, ids: Tensor, count: int, filler: int | None = None) -> Tensor:
    """The first `count` tokens of (B, T), all later ones replaced by one code: (B, T), to be decoded.

    filler None is the code nearest to the mean of the codebook. A causal decoder leaves the first count - K patches as
    they are; a bidirectional one may change them too.

    Shape: keep_first(tokenizer, ids, 4) -> (2, 7)
    """
    if not 0 <= count <= ids.shape[1]:
        raise ValueError(f"count is {count}; it must be a whole number from 0 to {ids.shape[1]}")
    if filler is None:
        codebook = tokenizer.quantizer.codebook.detach()
        filler = int(tokenizer.quantizer.distances(codebook.mean(0, keepdim=True)).argmin())
    return replace_tokens(ids, range(count, ids.shape[1]), filler)


def patch_change(before: Tensor, after: Tensor, patch: int) -> Tensor:
    """Mean absolute change of the pixels of each patch.

    Shape: patch_change((2, 3, 32, 32), (2, 3, 32, 32), 16) -> (2, 2, 2)
    """
    change = (after.float() - before.float()).abs()
    return reduce(change, "b c (row p) (column q) -> b row column", "mean", p=patch, q=patch)


def changed_pixels(before: Tensor, after: Tensor, patch: int, threshold: float = 8 / 255) -> Tensor:
    """The share of the pixels in each row of patches that changed by more than the threshold in some channel.

    Shape: changed_pixels((2, 3, 32, 32), (2, 3, 32, 32), 16) -> (2, 2)
    """
    changed = (after - before).abs().amax(1) > threshold  # (B, S, S)
    return reduce(changed.float(), "b (row p) side -> b row", "mean", p=patch)


# ---------------------------------------------------------------- numbers at every position


def predictability(model: AliTok, pixels: Tensor, labels: Tensor) -> metrics.Predictability:
    """How well the AR model predicts each token of pictures (N, 3, S, S) with labels (N,), given the true ones before.

    Bits per image are `nats.sum(1) / log(2)`. Raises ValueError for a model without an AR model.

    Shape: predictability(model, (2, 3, 32, 32), (2,)) -> (2, 7), (2, 7), (2, 7), (2, 7)
    """
    if model.ar is None:
        raise ValueError("this checkpoint has no AR model, so it predicts nothing")
    ids = torch.cat([model.tokenizer.encode(part.to(model.device)) for part in pixels.split(BATCH)])
    return metrics.predictability(model.ar, ids, labels.to(model.device))


def row_profile(tokenizer: Tokenizer, pixels: Tensor, stage: int | None = None) -> Tensor:
    """Mean squared error of each row of patches over pictures (N, 3, S, S): (G,) on the CPU.

    Without prefix tokens, the first row of a causal decoder is the worst, as the paper says.

    Shape: row_profile(tokenizer, (2, 3, 32, 32)) -> (2,)
    """
    rows = []
    for part in pixels.split(BATCH):
        decoded = tokenizer.decode(tokenizer.encode(part), stage)
        rows.append(metrics.row_errors(decoded, part, tokenizer.config.patch_size).cpu())
    return torch.cat(rows).mean(0)
