"""The exercises of notebook 05: shifted inputs, a whole block, temperature, the guidance ramp."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.ar import ARModel
from ..core.config import ARConfig
from ..core.layers import Block, causal_mask, rope_table
from .exercises import as_tensor, exercise, known, randn, require, require_function, require_number, require_tensor


@exercise(
    "5.1",
    "warm-up",
    7,
    why="All positions are trained in one pass, because the causal mask hides from each what it must predict.",
    hint="The inputs begin with the class token and lack the last id; the targets are the ids themselves.",
    stub="""
def shift(ids, class_tokens):
    return ids, ids  # your code
""",
)
def shift(answer: Callable) -> None:
    """Write shift(ids, class_tokens): from ids (B, T) and class tokens (B,) the inputs (B, T) and targets (B, T) of the
    AR model: at each position it reads what came before and must predict the id of that position."""
    require_function(answer)
    ids, classes = torch.arange(10, 18).view(2, 4), torch.tensor([98, 99])
    found = answer(ids.clone(), classes.clone())
    pair = isinstance(found, tuple | list) and len(found) == 2
    require(pair, "shift must return two tensors, inputs and targets.")
    inputs, targets = found
    require(
        tuple(targets.shape) == (2, 4),
        f"There are 4 ids to predict, and your targets have shape {tuple(targets.shape)}.",
    )
    require_tensor(targets, ids, "Every id must be predicted, also the first: the targets must be the ids")
    require(
        not torch.equal(inputs, ids), "Your model reads the very id that it must predict: nothing is left to learn."
    )
    require(
        tuple(inputs.shape) == (2, 4),
        f"There are 4 positions to read, and your inputs have shape {tuple(inputs.shape)}.",
    )
    require_tensor(inputs[:, 0], classes, "What is read before the first id must be the class token")
    require_tensor(inputs[:, 1:], ids[:, :-1], "Behind the class token come the ids, up to the last but one")


known(
    "5.1",
    lambda answer: _shifted(answer),
    {
        "Inputs and targets are the same: each position reads its own answer.": lambda ids, c: (ids, ids),
        "Yours is the shift of a text without a class: the first id is never predicted.": lambda ids, c: (
            ids[:, :-1],
            ids[:, 1:],
        ),
        "You only put the class in front; the last id is never read, so it must go.": (
            lambda ids, c: (torch.cat([c[:, None], ids], 1), ids)
        ),
        "roll puts the last id in front; there the class token belongs.": lambda ids, c: (ids.roll(1, 1), ids),
        "The class took the place of the first id, and each later position still reads its own answer.": (
            lambda ids, c: (torch.cat([c[:, None], ids[:, 1:]], 1), ids)
        ),
        "Inputs and targets are exchanged.": lambda ids, c: (ids, torch.cat([c[:, None], ids[:, :-1]], 1)),
        "The targets are shifted as well: then each position must predict what it reads.": (
            lambda ids, c: (torch.cat([c[:, None], ids[:, :-1]], 1),) * 2
        ),
    },
)


def _shifted(answer: Callable) -> list:
    return list(answer(torch.arange(10, 18).view(2, 4), torch.tensor([98, 99])))


@exercise(
    "5.2",
    "stretch",
    20,
    "core.layers.Block.forward core.layers.Attention.forward core.layers.SwiGLU.forward core.layers.rms_norm"
    " core.layers.rotate",
    why="Five such blocks, an embedding in front, a norm and an output layer behind: that is the whole AR model.",
    hint="Write small functions for norm and rotation first. x + attention(norm1(x)), then x + swiglu(norm2(x)). In"
    " attention: cut into heads, norm q and k, rotate them, scores, causal mask, softmax, values, heads back, out.",
    stub='''
def ar_block(
    x: torch.Tensor, weights: dict[str, torch.Tensor], heads: int, rope: torch.Tensor
) -> torch.Tensor:
    """x (B, t, D) -> (B, t, D); rope (t, d/2, 2): cos and sin for each pair of a head's d numbers.

    weights: norm1.weight (D), attention.qkv.weight (3 D, D) and .bias, attention.q_norm.weight (d),
    attention.k_norm.weight (d), attention.out.weight (D, D) and .bias, norm2.weight (D),
    mlp.gate.weight (hidden, D), mlp.up.weight (hidden, D), mlp.down.weight (D, hidden)
    """
    return x  # your code
''',
)
def ar_block(answer: Callable) -> None:
    """Write ar_block(x, weights, heads, rope): a whole transformer block of the AR model with RMSNorm, causal
    attention with QK-norm and RoPE, SwiGLU, and two residual connections. x (B, t, D) to (B, t, D); weights are those
    of block.state_dict(), rope (t, d/2, 2) holds cos and sin."""
    require_function(answer)
    block, rope, x = _block(), _table(), randn(2, 5, 16)
    weights = block.state_dict()
    found = as_tensor(answer(x.clone(), weights, 2, rope), "ar_block")
    require(found.shape == x.shape, f"The shape must stay (2, 5, 16), and is {tuple(found.shape)}.")
    require(not torch.equal(found, x), "The block must change x, and yours returns it as it is.")
    other = x.clone()
    other[:, 3:] += 1
    later = answer(other, weights, 2, rope)[:, :3]
    same = torch.allclose(found[:, :3], later, atol=1e-4)
    require(same, "Positions 0 to 2 must not depend on positions 3 and 4, and yours do: attention must be causal.")
    silent = weights | {name: 0 * w for name, w in weights.items() if name.startswith(("attention.out", "mlp.down"))}
    kept = as_tensor(answer(x.clone(), silent, 2, rope), "ar_block")
    require_tensor(kept, x, "Where attention and MLP give 0, x must come out as it went in: the residual connections")
    quiet = weights | {"mlp.down.weight": 0 * weights["mlp.down.weight"]}
    block.load_state_dict(quiet)
    require_tensor(answer(x.clone(), quiet, 2, rope), block(x, rope), "With an MLP that gives 0, x + attention must be")
    block.load_state_dict(weights := _block().state_dict())
    require_tensor(
        answer(x.clone(), weights, 2, rope), block(x, rope), "The result must be that of the package's block"
    )


def _block() -> Block:
    """A block of width 16 with two heads, whose weights are the same each time."""
    config = ARConfig(codebook_size=8, grid=2, prefix_tokens=3, classes=2, width=16, depth=1, heads=2, hidden=24)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        (block,) = ARModel(config).blocks
        for name, p in block.named_parameters():
            torch.nn.init.normal_(p, 1.0 if "norm" in name else 0.0, 0.4)
    return block.eval().requires_grad_(False)


def _table() -> Tensor:
    return rope_table(3, 2, 8)[1:6]  # without the class token's row, which is zero


def _turned(x: Tensor, rope: Tensor, halves: bool) -> Tensor:
    """Pairs of x turned: neighbours, or number j of the first half with number j of the second."""
    cos, sin = rope.unbind(-1)
    a, b = x.chunk(2, -1) if halves else x.unflatten(-1, (-1, 2)).unbind(-1)
    both = a * cos - b * sin, b * cos + a * sin
    return torch.cat(both, -1) if halves else torch.stack(both, -1).flatten(-2)


def _ar_block(fault: str = "") -> Callable:
    """The block, or one with a fault."""

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True) if fault == "layer norm" else x
        size = x.square().sum(-1, keepdim=True) if fault == "norm" else x.square().mean(-1, keepdim=True)
        return x * torch.rsqrt(size + 1e-5) * weight

    def turned(x: Tensor, rope: Tensor) -> Tensor:
        return x if fault == "no rope" else _turned(x, rope, fault == "halves")

    def attention(x: Tensor, w: dict[str, Tensor], heads: int, rope: Tensor) -> Tensor:
        rows = F.linear(x, w["attention.qkv.weight"], w["attention.qkv.bias"])
        q, k, v = rows.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        weights = w["attention.q_norm.weight"], w["attention.k_norm.weight"]
        if fault == "rope first":
            q, k = (norm(turned(x, rope), weight) for x, weight in zip((q, k), weights, strict=True))
        elif fault == "no qk norm":
            q, k = turned(q, rope), turned(k, rope)
        else:
            q, k = (norm(x, weight) for x, weight in zip((q, k), weights, strict=True))
            q, k = turned(q, rope), k if fault == "queries only" else turned(k, rope)
        v = turned(v, rope) if fault == "values" else v
        scores = q @ k.transpose(-1, -2) / (1 if fault == "scale" else q.shape[-1] ** 0.5)
        scores = scores if fault == "no mask" else scores.masked_fill(~causal_mask(*scores.shape[-2:]), -torch.inf)
        y = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return F.linear(y, w["attention.out.weight"], None if fault == "bias" else w["attention.out.bias"])

    def mlp(x: Tensor, w: dict[str, Tensor]) -> Tensor:
        gate, up = (F.linear(x, w[f"mlp.{name}.weight"]) for name in ("gate", "up"))
        gate, up = (up, gate) if fault == "gate" else (gate, up)
        return F.linear((F.gelu(gate) if fault == "gelu" else F.silu(gate)) * up, w["mlp.down.weight"])

    def ar_block(x: Tensor, w: dict[str, Tensor], heads: int, rope: Tensor) -> Tensor:
        if fault == "post norm":
            x = norm(x + attention(x, w, heads, rope), w["norm1.weight"])
            return norm(x + mlp(x, w), w["norm2.weight"])
        y = attention(norm(x, w["norm1.weight"]), w, heads, rope)
        x = y if fault == "no residual" else x + y
        return x + mlp(x if fault == "no norm2" else norm(x, w["norm2.weight"]), w)

    return ar_block


known(
    "5.2",
    lambda answer: answer(randn(2, 5, 16), _block().state_dict(), 2, _table()),
    {
        "This is LayerNorm: RMSNorm does not subtract the mean.": _ar_block("layer norm"),
        "The norm divides by the length; RMSNorm divides by the root of the mean square.": _ar_block("norm"),
        "The causal mask is missing.": _ar_block("no mask"),
        "The norms stand behind the sums; this block normalises before attention and before the MLP.": _ar_block(
            "post norm"
        ),
        "The residual around attention is missing.": _ar_block("no residual"),
        "norm2 is missing.": _ar_block("no norm2"),
        "QK-norm is missing.": _ar_block("no qk norm"),
        "Queries and keys are turned before their norm; the norm comes first, because its weights differ.": _ar_block(
            "rope first"
        ),
        "Nothing is turned: RoPE is missing.": _ar_block("no rope"),
        "Only the queries are turned.": _ar_block("queries only"),
        "The values are turned too; RoPE turns queries and keys only.": _ar_block("values"),
        "The pairs are numbers 2j and 2j + 1, not j and j + d/2.": _ar_block("halves"),
        "The scores are not divided by sqrt(d).": _ar_block("scale"),
        "gate and up are exchanged: silu belongs to the gate.": _ar_block("gate"),
        "This is GELU; SwiGLU has silu.": _ar_block("gelu"),
        "The bias of the output projection is missing.": _ar_block("bias"),
    },
)


@exercise(
    "5.3",
    "warm-up",
    5,
    why="A temperature changes how certain the prediction is, and never which code is the likeliest.",
    hint="Divide the logits by the temperature, then softmax over the last dimension.",
    stub="""
def probabilities(logits, temperature):
    return torch.zeros_like(logits)  # your code
""",
)
def probabilities(answer: Callable) -> None:
    """Write probabilities(logits, temperature): from logits (B, V) the probabilities (B, V) of the next id at a
    temperature above 0."""
    require_function(answer)
    logits = 2 * randn(2, 6)
    plain = as_tensor(answer(logits.clone(), 1.0), "probabilities")
    require(plain.shape == (2, 6), "The result must have the shape of the logits, (2, 6).")
    require_tensor(plain.sum(-1), torch.ones(2), "The probabilities of each picture must add up to 1")
    require_tensor(plain, logits.softmax(-1), "At temperature 1 they must be the softmax of the logits")
    found_at = {t: as_tensor(answer(logits.clone(), t), "probabilities") for t in (0.5, 2.0)}
    for t, found in found_at.items():
        require_tensor(found.sum(-1), torch.ones(2), f"At temperature {t:g} they must add up to 1 too")
    low, high = (torch.special.entr(found).sum(-1) for found in found_at.values())
    order = "A higher temperature must be less certain: the entropies at 0.5 and 2 are"
    worst = int((high - low).argmin())
    require((high > low).all(), f"{order} {low[worst]:.2f} and {high[worst]:.2f} in row {worst}.")
    for t, found in found_at.items():
        wanted = "the ratio of two probabilities must be that at temperature 1, to the power 1 / temperature"
        require_tensor(found, (logits / t).softmax(-1), f"At temperature {t:g} {wanted}")


known(
    "5.3",
    lambda answer: [answer(2 * randn(2, 6), t) for t in (0.5, 2.0)],
    {
        "You multiplied by the temperature; divide.": lambda x, t: (x * t).softmax(-1),
        "You divided the probabilities; divide the logits, before the softmax.": lambda x, t: x.softmax(-1) / t,
        "The temperature is not used.": lambda x, t: x.softmax(-1),
        "Your softmax runs over the pictures; it must run over the codes.": lambda x, t: (x / t).softmax(0),
        "These are log probabilities.": lambda x, t: (x / t).log_softmax(-1),
        "These are the logits; the softmax is missing.": lambda x, t: x / t,
        "The exponentials are not divided by their sum.": lambda x, t: (x / t).exp(),
        "The temperature is squared.": lambda x, t: (x / t**2).softmax(-1),
        "The softmax is taken twice.": lambda x, t: (x.softmax(-1) / t).softmax(-1),
        "The sum runs over all pictures; the probabilities of each add up to 1.": (
            lambda x, t: (x / t).flatten().softmax(0).view(x.shape)
        ),
    },
)


@exercise(
    "5.4",
    "core",
    7,
    why="The first tokens stay without guidance, and they settle the scene; the ramp ends just below g.",
    hint="1 + (g - 1) (1 - cos(pi (t / T) ** p)) / 2, for t = 0 .. T - 1.",
    stub="""
def ramp(tokens, guidance, power):
    return torch.full((tokens,), float(guidance))  # your code
""",
)
def ramp(answer: Callable) -> None:
    """Write ramp(tokens, guidance, power): the guidance scale at each of T tokens, (T,): half a cosine from 1 at t = 0
    towards g, which t = T would reach, with t / T raised to the power p."""
    require_function(answer)
    found = as_tensor(answer(100, 5.0, 1.0), "ramp").float()
    require(found.shape == (100,), f"There are 100 tokens, and your ramp has shape {tuple(found.shape)}.")
    require_number(found[0], 1, "At the first token the scale must be 1, no guidance")
    require((found.diff() > 0).all(), "The scale must rise from token to token.")
    last = found[-1].item()
    require(4.9 < last < 5, f"The last token is T - 1, so its scale must stay just under g = 5; yours is {last:.4f}.")
    require_number(found[50], 3, "With power 1 the middle of a ramp to 5 must be 3")
    bent = as_tensor(answer(100, 5.0, 2.0), "ramp").float()
    lower = f"A larger power must rise later: at token 50 power 2 gives {bent[50]:.2f}, power 1 gives {found[50]:.2f}"
    require(bent[50] < found[50], f"{lower}.")
    require_number(bent[50], 1 + 2 * (1 - 0.5**0.5), "With power 2, token 50 must be at a quarter of the cosine")
    require_number(as_tensor(answer(7, 1.0, 1.4), "ramp").max(), 1, "Guidance 1 must be 1 everywhere")


known(
    "5.4",
    lambda answer: [as_tensor(answer(50, 5.0, p), "ramp") for p in (1.0, 2.0)],
    {
        "The power is not used.": lambda n, g, p: _ramp(torch.arange(n) / n, g, 1.0),
        "t / (T - 1) reaches g at the last token; t / T stays just below.": lambda n, g, p: _ramp(
            torch.arange(n) / (n - 1), g, p
        ),
        "You count from 1; the first token has t = 0.": lambda n, g, p: _ramp(torch.arange(1, n + 1) / n, g, p),
        "The 1 in front is missing: no guidance is a scale of 1, not 0.": lambda n, g, p: (
            _ramp(torch.arange(n) / n, g, p) - 1
        ),
        "That is a straight line; the exercise wants half a cosine.": lambda n, g, p: (
            1 + (g - 1) * (torch.arange(n) / n) ** p
        ),
        "The power is the wrong way round: 1 / p.": lambda n, g, p: _ramp(torch.arange(n) / n, g, 1 / p),
        "The power belongs to t / T, inside the cosine.": (
            lambda n, g, p: 1 + (g - 1) * ((1 - torch.cos(torch.pi * torch.arange(n) / n)) / 2) ** p
        ),
        "The division by 2 is missing, so the ramp rises to 2 g - 1.": (
            lambda n, g, p: 2 * _ramp(torch.arange(n) / n, g, p) - 1
        ),
        "The ramp rises from 1 to 1 + g: the factor is g - 1.": lambda n, g, p: _ramp(torch.arange(n) / n, g + 1, p),
        "The scale is constant.": lambda n, g, p: torch.full((n,), float(g)),
        "pi is missing in the cosine.": lambda n, g, p: 1 + (g - 1) * (1 - torch.cos((torch.arange(n) / n) ** p)) / 2,
        "Yours falls from g to 1; the ramp rises.": lambda n, g, p: 1 + g - _ramp(torch.arange(n) / n, g, p),
        "This is a sine; the exercise wants half a cosine.": (
            lambda n, g, p: 1 + (g - 1) * torch.sin(torch.pi / 2 * (torch.arange(n) / n) ** p)
        ),
    },
)


def _ramp(t: Tensor, g: float, p: float) -> Tensor:
    return 1 + (g - 1) * (1 - torch.cos(torch.pi * t**p)) / 2
