"""The exercises of notebook 03: the auxiliary target, swapped prefixes, the prefix's share."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.config import TokenizerConfig
from ..core.tokenizer import Decoder
from .exercises import (
    as_tensor,
    exercise,
    known,
    plain_number,
    randn,
    require,
    require_function,
    require_tensor,
    shortened,
)


@exercise(
    "3.1",
    "core",
    7,
    why="The corner is shown by two outputs, so there is a prefix token more than patches in the row.",
    hint="The first row of patches is picture[:, :patch]; cut it every `patch` columns. The corner comes first, too.",
    stub="""
def my_target(picture, patch):
    grid = picture.shape[-1] // patch
    return torch.zeros(1 + grid, 3, patch, patch)  # your code
""",
)
def my_target(answer: Callable) -> None:
    """Write my_target(picture, patch): the target of the 1 + G prefix outputs for a picture (3, S, S), as
    (1 + G, 3, p, p): the top-left patch, then the G patches of the first row."""
    require_function(answer)
    picture = _picture()
    found = as_tensor(answer(picture.clone(), 4), "my_target")
    shape = f"For a 12 x 12 picture and patches of 4, the shape must be (4, 3, 4, 4), and is {tuple(found.shape)}"
    require(found.shape == (4, 3, 4, 4), f"{shape}: 1 + 3 patches.")
    require(torch.equal(found[0], picture[:, :4, :4]), "Patch 0 must be the top-left patch.")
    require(torch.equal(found[1], picture[:, :4, :4]), "Patch 1 must be the first of the first row: the corner again.")
    across = torch.equal(found[2], picture[:, :4, 4:8])
    down = torch.equal(found[2], picture[:, 4:8, :4])
    require(not down or across, "Patch 2 stands below the corner: yours is the first column, not the first row.")
    require(across, "Patch 2 must be the second of the first row: rows 0 to 3, columns 4 to 7.")
    require(torch.equal(found[3], picture[:, :4, 8:]), "The last patch must be the last of the first row.")


known(
    "3.1",
    lambda answer: as_tensor(answer(_picture(), 4), "my_target"),
    {
        "The corner is missing: it comes first, and again as the first of the row.": lambda x, p: _row(x, p),
        "This is the first column; the exercise wants the first row.": lambda x, p: torch.stack(
            [x[:, :p, :p], *x[:, :, :p].split(p, 1)]
        ),
        "The corner must come first, not last.": lambda x, p: torch.cat([_row(x, p), _row(x, p)[:1]]),
        "This is the last row of the picture.": lambda x, p: torch.cat(
            [_row(x, p)[:1], torch.stack(x[:, -p:].split(p, 2))]
        ),
        "This lacks the corner in the row: it belongs there again.": (
            lambda x, p: torch.cat([_row(x, p), _row(x, p)[-1:]])
        ),
        "view cuts along the memory, not along the picture: rows of pixels from different patches are mixed.": (
            lambda x, p: torch.cat([x[None, :, :p, :p], x[:, :p].reshape(-1, 3, p, p)])
        ),
        "This begins with the top-right corner; the exercise wants the top-left one.": (
            lambda x, p: torch.cat([_row(x, p)[-1:], _row(x, p)])
        ),
        "The patches are right; leave them as pictures, without flatten.": (
            lambda x, p: torch.cat([_row(x, p)[:1], _row(x, p)]).flatten(1)
        ),
    },
)


def _picture() -> Tensor:
    return torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))


def _row(picture: Tensor, patch: int) -> Tensor:
    return torch.stack(picture[:, :patch].split(patch, 2))


@exercise(
    "3.2",
    "warm-up",
    5,
    why="With a copy the originals can be compared afterwards; a swap of slices overwrites what it reads.",
    hint="a[:k], b[:k] = b[:k], a[:k] fails, because slices are views; start from ids.clone(), or use ids.flip(0).",
    stub="""
def swap(ids, prefix_tokens):
    return ids  # your code
""",
)
def swap(answer: Callable) -> None:
    """Write swap(ids, prefix_tokens): the ids (2, T) of two pictures with exchanged prefixes; row 0 keeps the image
    tokens of picture 0. The ids that were given stay as they are."""
    require_function(answer)
    ids = torch.arange(14).view(2, 7)
    given = ids.clone()
    found = as_tensor(answer(given, 3), "swap")
    require(found.shape == (2, 7), f"The result must have shape (2, 7), and has {tuple(found.shape)}.")
    require_tensor(found[:, 3:], ids[:, 3:], "The image tokens must stay where they are")
    require_tensor(found[0, :3], ids[1, :3], "Row 0 must begin with the prefix of picture 1")
    require_tensor(found[1, :3], ids[0, :3], "Row 1 must begin with the prefix of picture 0")
    require(torch.equal(given, ids), "The ids that were given have been changed; work on a copy.")


def _in_place(ids: Tensor, k: int) -> Tensor:
    ids[0, :k], ids[1, :k] = ids[1, :k], ids[0, :k]
    return ids


known(
    "3.2",
    lambda answer: _swapped(answer),
    {
        "Slices are views: the first assignment has overwritten what the second one reads, so both prefixes are alike."
        " Start from ids.clone().": _in_place,
        "This swaps whole pictures; only the prefix moves.": lambda ids, k: ids.flip(0),
        "This swaps the image tokens. Compare: row 0 must keep the image tokens of picture 0.": (
            lambda ids, k: torch.cat([ids[:, :k], ids.flip(0)[:, k:]], 1)
        ),
        "Nothing has been swapped.": lambda ids, k: ids,
        "The result is right, but it was written into the ids that were given.": (
            lambda ids, k: ids.copy_(torch.cat([ids.flip(0)[:, :k], ids[:, k:]], 1))
        ),
        "One prefix token is left where it was: a slice [:k] has k tokens.": (
            lambda ids, k: torch.cat([ids.flip(0)[:, : k - 1], ids[:, k - 1 :]], 1)
        ),
        "An image token has moved with the prefix: a slice [:k] has k tokens.": (
            lambda ids, k: torch.cat([ids.flip(0)[:, : k + 1], ids[:, k + 1 :]], 1)
        ),
        "Only picture 0 has got another prefix; picture 1 has kept its own.": (
            lambda ids, k: torch.cat([ids[1:].expand(2, -1)[:, :k], ids[:, k:]], 1)
        ),
        "This is one picture; the exercise wants both, each with the prefix of the other.": (
            lambda ids, k: torch.cat([ids[1, :k], ids[0, k:]])
        ),
    },
)


def _swapped(answer: Callable) -> list:
    """What the answer returns, and what it has made of the ids that were given."""
    ids = torch.arange(14).view(2, 7)
    return [answer(ids, 3), ids]


@exercise(
    "3.3",
    "warm-up",
    5,
    why="The prefix grows with G, the picture with G x G: on large grids the prefix is nearly free.",
    hint="The share is (1 + G) / (1 + G + G*G). Try G = 1, 2, 3, ... in a loop.",
    stub="""
smallest_grid = 1  # your number
""",
)
def smallest_grid(answer: int) -> None:
    """From which grid side G on are the 1 + G prefix tokens less than a tenth of all tokens? Give the smallest such G
    as a whole number."""
    answer = plain_number(answer)
    right = isinstance(answer, int | float) and answer == int(answer) and answer >= 1
    require(right, f"The answer must be a whole number of 1 or more; this is {shortened(answer)}.")
    grid = int(answer)
    here, before = ((1 + g) / (1 + g + g * g) for g in (grid, grid - 1))
    require(here < 0.1, f"At G = {grid} the prefix is still {here:.1%} of the tokens.")
    require(before >= 0.1, f"At G = {grid - 1} it is {before:.1%} already, so {grid} is not the smallest.")


known(
    "3.3",
    plain_number,
    {
        "At 9 it is one part in 9, 11 %.": 9,
        "That is the grid of the paper; the share is small enough long before.": 16,
        "This is from where the share 1 / G is less than a tenth; the corner and the prefix itself count too.": 11,
        "This is a number of tokens, or a share; the exercise wants the side G.": 0.1,
    },
)


@exercise(
    "3.4",
    "stretch",
    15,
    "core.tokenizer.Decoder.outputs",
    why="There is no shift: output i has read the start token and the codes up to i, so its own code, too.",
    hint="Put extra_tokens in front of embed(codes), add positions, then norm_in, all blocks, norm_out. The last G*G"
    " outputs go to head(x, G, G); outputs 1 to K, behind the start token, to aux_head(x, 1, K), cut every p columns.",
    stub='''
def decode_causally(decoder: torch.nn.Module, codes: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """codes (B, T, d) -> pixels (B, 3, S, S) and prefix outputs (B, K, 3, p, p).

    Its parts: extra_tokens (1, D), the start token; positions (1 + T, D); embed, d -> D;
    norm_in; blocks; norm_out; head(x, G, G) -> (B, 3, S, S);
    aux_head(x, 1, K) -> a strip (B, 3, p, K * p)
    """
    G, K, p = decoder.config.grid, decoder.config.prefix_tokens, decoder.config.patch_size
    B = len(codes)
    return torch.zeros(B, 3, G * p, G * p), torch.zeros(B, K, 3, p, p)  # your code
''',
)
def decode_causally(answer: Callable) -> None:
    """Write decode_causally(decoder, codes): the forward pass of the causal decoder with its start token, from codes
    (B, T, d) to the pixels (B, 3, S, S) and the prefix outputs (B, K, 3, p, p)."""
    require_function(answer)
    decoder, codes = _decoder(), randn(2, 7, 4)
    found = answer(decoder, codes.clone())
    pair = isinstance(found, tuple | list) and len(found) == 2
    require(pair, "decode_causally must return two things: the pixels and the prefix outputs.")
    pixels, prefix = (part.detach() for part in decoder.outputs(codes))
    require(
        tuple(found[0].shape) == (2, 3, 16, 16),
        f"The pixels must have shape (2, 3, 16, 16), and have {tuple(found[0].shape)}.",
    )
    other = codes.clone()
    other[:, -1] += 1
    moved = (answer(decoder, other)[0] - found[0]).abs().amax((0, 1))
    require(not moved[:8].any(), "The last code must move the last patch only, and in yours it moves the first row.")
    require(moved[8:, 8:].any(), "The last code must move the last patch, and in yours it does not.")
    require_tensor(found[0], pixels, "The pixels must be those of the package's decoder")
    require_tensor(found[1], prefix, "The prefix outputs must be those of the package's decoder")


def _decoder() -> Decoder:
    """A causal decoder for pictures of 16 pixels in 2 x 2 patches, whose weights are the same each time."""
    sizes = {f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in _SMALL_SIZES}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = Decoder(
            TokenizerConfig(image_size=16, patch_size=8, codebook_size=8, code_dim=4, **sizes), causal=True
        )
        for p in decoder.parameters():
            torch.nn.init.normal_(p, 0.1, 0.3)
    return decoder.requires_grad_(False)


_SMALL_SIZES = (("width", 8), ("depth", 2), ("heads", 2))


def _decode(fault: str = "") -> Callable:
    """The forward pass, or one with a fault."""

    def decode_causally(decoder: Decoder, codes: Tensor) -> tuple[Tensor, Tensor]:
        grid, prefix, patch = decoder.config.grid, decoder.config.prefix_tokens, decoder.config.patch_size
        start, image = decoder.extra_tokens.expand(len(codes), -1, -1), decoder.embed(codes)
        parts = {"start last": [image, start], "no start": [image]}.get(fault, [start, image])
        x = torch.cat(parts, 1)
        if fault not in ("no positions", "positions after"):
            x = x + decoder.positions[-x.shape[1] :]
        x = x if fault == "no norm" else decoder.norm_in(x)
        x = x + decoder.positions if fault == "positions after" else x
        for block in decoder.blocks[: 1 if fault == "one block" else None]:
            x = block(x)
        x = x if fault == "no last norm" else decoder.norm_out(x)
        places = {"shifted": slice(-(grid**2) - 1, -1), "first": slice(0, grid**2), "behind": slice(1, 1 + grid**2)}
        pixels = decoder.head(x[:, places.get(fault, slice(-(grid**2), None))], grid, grid)
        begin = {"prefix shifted": 0, "no start": 0}.get(fault, 1)
        head = decoder.head if fault == "wrong head" else decoder.aux_head
        strip = head(x[:, begin : begin + prefix], 1, prefix)
        if fault == "strip":
            return pixels, strip
        if fault == "view":
            return pixels, strip.reshape(len(codes), prefix, 3, patch, patch)
        return pixels, torch.stack(strip.split(patch, 3), 1)

    return decode_causally


known(
    "3.4",
    lambda answer: list(answer(_decoder(), randn(2, 7, 4))),
    {
        "The start token is missing: extra_tokens, in front of the codes.": _decode("no start"),
        "The prefix outputs are still one strip; cut it every p columns into K patches.": _decode("strip"),
        "The start token stands at the end; it belongs in front of the codes.": _decode("start last"),
        "The positions are missing.": _decode("no positions"),
        "The positions are added after norm_in; they belong before it.": _decode("positions after"),
        "norm_in is missing.": _decode("no norm"),
        "norm_out is missing.": _decode("no last norm"),
        "Only one block has run.": _decode("one block"),
        "The pixels are read one output too early, as in a language model; here output i paints patch i.": _decode(
            "shifted"
        ),
        "The pixels are read from the first outputs, which belong to start and prefix.": _decode("first"),
        "The pixels are read behind the start token, from the prefix; they are the last G*G outputs.": _decode(
            "behind"
        ),
        "The prefix outputs are read one too early: output 0 is that of the start token.": _decode("prefix shifted"),
        "The prefix has a pixel head of its own, aux_head.": _decode("wrong head"),
        "The strip must be cut every p columns; reshape cuts along the memory.": _decode("view"),
    },
)
