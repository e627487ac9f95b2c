"""The exercises of notebook 07: parameters, the KV cache, names of the official weights."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.ar import ARModel
from ..core.config import ARConfig
from ..core.layers import KVCache
from ..core.sampling import Sampling, generate, guidance_ramp, gumbel_noise
from ..store import official
from .exercises import as_tensor, exercise, known, require, require_function, require_number, require_tensor, shortened


@exercise(
    "7.1",
    "core",
    10,
    why="Attention has 4 D x D weights and SwiGLU 3 D x hidden: the MLP is the larger part.",
    hint="qkv D x 3D + 3D, out D x D + D, two norms of D, two QK-norms of D / heads, three matrices D x hidden.",
    stub="""
def block_parameters(width, heads, hidden):
    return 0  # your code
""",
)
def block_parameters(answer: Callable) -> None:
    """Write block_parameters(width, heads, hidden): how many parameters one block of the AR model has: attention with
    biases and with a norm for queries and one for keys, SwiGLU without biases, and two RMSNorms of one weight for each
    number."""
    require_function(answer)
    more = answer(8, 2, 11) - answer(8, 2, 10)
    require_number(
        more, 24, "SwiGLU has three matrices, so each hidden number must add 3 x width parameters, 24 at width 8"
    )
    fewer = answer(8, 2, 10) - answer(8, 4, 10)
    norms = "The norms of queries and keys have width / heads weights each: 4 heads instead of 2 at width 8 are 4 fewer"
    require_number(fewer, 4, norms)
    plain = answer(8, 8, 0)
    require(plain != 4 * 64 + 2 * 8 + 2, "The linear layers of attention have biases, 3 x width and width of them.")
    require_number(plain, 306, "Width 8, 8 heads, no SwiGLU: qkv 216, out 72, two norms 16, two QK-norms 2, in all 306")
    for sizes in ((16, 2, 24), (24, 3, 64)):
        with torch.device("meta"):
            (block,) = ARModel(ARConfig(width=sizes[0], depth=1, heads=sizes[1], hidden=sizes[2])).blocks
        count = sum(p.numel() for p in block.parameters())
        require_number(answer(*sizes), count, f"A block of width, heads, hidden {sizes} has {count:,} parameters")


known(
    "7.1",
    lambda answer: [answer(16, 2, 24), answer(24, 3, 64)],
    {
        "The biases of attention are missing: 3 D and D.": lambda d, h, m: _parameters(d, h, m) - 4 * d,
        "SwiGLU has three matrices, and you counted two.": lambda d, h, m: _parameters(d, h, m) - d * m,
        "The norms of queries and keys are missing.": lambda d, h, m: _parameters(d, h, m) - 2 * (d // h),
        "A QK-norm has D / heads weights, shared by all heads; you counted D each.": (
            lambda d, h, m: _parameters(d, h, m) - 2 * (d // h) + 2 * d
        ),
        "A QK-norm has D / heads weights, not as many as there are heads.": lambda d, h, m: (
            _parameters(d, h, m) - 2 * (d // h) + 2 * h
        ),
        "All biases and norms are missing.": lambda d, h, m: 4 * d * d + 3 * d * m,
        "The three matrices of SwiGLU lie between D and hidden; none is hidden x hidden.": lambda d, h, m: (
            _parameters(d, h, m) - d * m + m * m
        ),
        "The two RMSNorms are missing.": lambda d, h, m: _parameters(d, h, m) - 2 * d,
        "An RMSNorm has no bias: one weight for each number.": lambda d, h, m: _parameters(d, h, m) + 2 * d,
        "SwiGLU has no biases here.": lambda d, h, m: _parameters(d, h, m) + 2 * m + d,
        "The output projection of attention is missing, D x D and its bias.": lambda d, h, m: (
            _parameters(d, h, m) - d * d - d
        ),
        "The heads share one matrix: do not multiply by their number.": (
            lambda d, h, m: _parameters(d, h, m) + (h - 1) * (4 * d * d + 4 * d)
        ),
    },
)


def _parameters(d: int, h: int, m: int) -> int:
    return 4 * d * d + 4 * d + 2 * d + 2 * (d // h) + 3 * d * m


@exercise(
    "7.2",
    "warm-up",
    7,
    why="Weights are shared by all pictures, and keys and values by none: a large batch is limited by its cache.",
    hint="Each layer keeps a key and a value of `width` numbers for every token of every row; guidance has two rows.",
    stub="""
def cache_bytes(depth, width, tokens, pictures, number_bytes, guided):
    return 0  # your code
""",
)
def cache_bytes(answer: Callable) -> None:
    """Write cache_bytes(depth, width, tokens, pictures, number_bytes, guided): how many bytes the KV cache of the AR
    model takes. number_bytes is 4 for float32 and 2 for bfloat16; guided is True or False."""
    require_function(answer)
    require_number(
        answer(1, 1, 1, 1, 1, False),
        2,
        "One layer, one token and width 1 with one byte a number: a key and a value, 2 bytes",
    )
    base = {"depth": 3, "width": 8, "tokens": 5, "pictures": 2, "number_bytes": 2}
    once = answer(*base.values(), False)
    for name, value in base.items():
        twice = answer(*(base | {name: 2 * value}).values(), False)
        require_number(twice, 2 * once, f"Twice the {name} must take twice the bytes, {2 * once} instead of {once}")
    require_number(once, 960, "3 layers of width 8 with 5 tokens of 2 pictures in 2 bytes take 960")
    guided = "Guidance reads every picture with class and without, so it must take twice the bytes"
    require_number(answer(*base.values(), True), 2 * once, guided)


known(
    "7.2",
    lambda answer: [answer(3, 8, 5, 2, 2, guided) for guided in (False, True)] + [answer(2, 4, 7, 1, 4, True)],
    {
        "This counts keys or values; the cache holds both.": lambda n, d, t, b, s, g: n * d * t * b * s * (1 + g),
        "Guidance has two rows for each picture.": lambda n, d, t, b, s, g: 2 * n * d * t * b * s,
        "The pictures are missing.": lambda n, d, t, b, s, g: 2 * n * d * t * s * (1 + g),
        "The cache grows with T, not with its square: scores are not kept.": (
            lambda n, d, t, b, s, g: 2 * n * d * t * t * b * s * (1 + g)
        ),
        "The layers are missing.": lambda n, d, t, b, s, g: 2 * d * t * b * s * (1 + g),
        "These are numbers, not bytes.": lambda n, d, t, b, s, g: 2 * n * d * t * b * (1 + g),
        "Queries are not kept: two tensors a layer, not three.": lambda n, d, t, b, s, g: (
            3 * n * d * t * b * s * (1 + g)
        ),
        "the answer must be in bytes, and these are bits.": lambda n, d, t, b, s, g: 16 * n * d * t * b * s * (1 + g),
        "A key has D numbers, not D squared.": lambda depth, width, t, n, size, guided: (
            2 * depth * width**2 * t * n * size * (1 + guided)
        ),
        "Guidance has twice the rows, not half of them.": lambda n, d, t, b, s, g: 2 * n * d * t * b * s / (1 + g),
        "The class is one of the T positions: the last token is drawn, and never read.": lambda n, d, t, b, s, g: (
            2 * n * d * (t + 1) * b * s * (1 + g)
        ),
        "Keys and values are counted twice.": lambda depth, width, t, n, size, guided: (
            4 * depth * width * t * n * size * (1 + guided)
        ),
    },
)


@exercise(
    "7.3",
    "stretch",
    10,
    why="gate and up have the same shape, so no loader can notice when they are exchanged; only the outputs tell.",
    hint="A chain of key.replace(old, new). w1 goes through silu, w3 is multiplied with it, w2 leads back to width D.",
    stub="""
def our_name(key):
    return key  # your code
""",
)
def our_name(answer: Callable) -> None:
    """Write our_name(key): the name in this package of a tensor of an official AR model, such as
    "blocks.0.mlp.w1.weight"."""
    require_function(answer)
    sizes = ARConfig(codebook_size=8, grid=2, prefix_tokens=3, classes=2, width=8, depth=12, heads=2, hidden=8)
    with torch.device("meta"):
        wanted = {official.official_ar_name(name): name for name in ARModel(sizes).state_dict()}
    for same in ("norm.weight", "output.bias", "blocks.0.norm1.weight"):
        require(answer(same) == same, f"{same} has the same name in both; yours is {shortened(answer(same))}.")
    for key, name in wanted.items():
        found = answer(key)
        require(isinstance(found, str), f"our_name must return a string; for {key} it returns {shortened(found)}.")
        swapped = ".mlp." in key and found != name and found in wanted.values()
        told = f"{key} has another name here; yours is {found}."
        if swapped:
            told = f"{key} is {_SWIGLU_ROLES[name.split('.')[3]]}: {found} is not its name here."
        require(found == name, told)


_SWIGLU_ROLES = {
    "gate": "the one that goes through silu",
    "up": "the one that is multiplied with the gate",
    "down": "the one that leads back to the width",
}


_KEYS = ("norm.weight", "embeddings.weight", "blocks.0.attn.qkv.bias", "blocks.11.attn.proj.weight") + tuple(
    f"blocks.1.mlp.w{n}.weight" for n in (1, 2, 3)
)


def _renamed(w1: str, w2: str, w3: str, out: str = "out", **others: str) -> Callable:
    """An answer by replacements."""
    names = {"embeddings.": f"{others.get('embedding', 'embedding')}.", ".w1.": f".{w1}.", ".w2.": f".{w2}."}
    names |= {".w3.": f".{w3}.", ".proj.": f".{out}.", ".attn.": f".{others.get('attention', 'attention')}."}

    def our_name(key: str) -> str:
        for old, new in names.items():
            key = key.replace(old, new)
        return key

    return our_name


known(
    "7.3",
    lambda answer: [answer(key) for key in _KEYS],
    {
        "w1, w2, w3 do not stand in the order gate, up, down: w2 leads back to the width.": _renamed(
            "gate", "up", "down"
        ),
        "gate and up are exchanged: silu is applied to w1 x. Their shapes are equal, so a loader would not notice.": (
            _renamed("up", "down", "gate")
        ),
        "Nothing is renamed.": lambda key: key,
        "proj must become out, and not only attn attention.": _renamed("gate", "down", "up", out="proj"),
        "embeddings must lose its s.": _renamed("gate", "down", "up", embedding="embeddings"),
        "attn must become attention.": _renamed("gate", "down", "up", attention="attn"),
    },
)


@exercise(
    "7.4",
    "stretch",
    15,
    "core.sampling.generate core.sampling.next_logits core.sampling.draw_codes",
    why="Each step runs two rows and one position; everything else stands in the cache.",
    hint="Begin with x = embed_class of labels and of null labels, 2 B rows. In each step: logits of the last position,"
    " chunk(2), guidance, temperature, + noise[:, t], argmax; then x is the embedding of the new ids, twice.",
    stub='''
def sample(
    ar: torch.nn.Module,
    labels: torch.Tensor,
    noise: torch.Tensor,
    scales: torch.Tensor,
    temperature: float,
    caches: list,
) -> torch.Tensor:
    """Ids (B, T) of pictures with labels (B,). noise (B, T, V) is Gumbel, scales (T,) the guidance.

    ar.embed_class(labels) -> (B, 1, D); ar.embedding(ids) -> (B, t, D); ar.config.classes is the
    null class; ar.transform(x, caches) -> logits (B, t, V) reads x behind what the caches hold,
    and adds x to them
    """
    B, T, V = noise.shape
    return torch.zeros(B, T, dtype=torch.long)  # your code
''',
)
def sample(answer: Callable) -> None:
    """Write sample(ar, labels, noise, scales, temperature, caches): the sampling loop with KV cache and classifier-free
    guidance, from labels (B,) to ids (B, T). noise (B, T, V) is added to the logits divided by the temperature, and the
    argmax is the id; scales (T,) is the guidance at each token."""
    require_function(answer)
    for guidance, temperature in ((1.0, 1.0), (1.0, 0.5), (4.0, 1.0), (4.0, 0.5)):
        found, caches, ar, sampling = _sampled(answer, guidance, temperature)
        found = as_tensor(found, "sample")
        require(
            found.shape == (2, 7),
            f"Two pictures of 7 tokens have ids of shape (2, 7); yours have {tuple(found.shape)}.",
        )
        *_, last = generate(ar, torch.tensor([0, 1]), [3, 4], sampling)
        what = f"With guidance {guidance:g} and temperature {temperature:g} the ids must be those of the package"
        require_tensor(found, last.ids, what)
        used = caches[0].used
        require(used == 7, f"With a cache each of 7 tokens runs one position; your cache holds {used} afterwards.")


def little_ar() -> ARModel:
    """A small AR model with random weights, always the same: 12 codes, 3 prefix tokens and 2 x 2 image tokens."""
    config = ARConfig(
        codebook_size=12, grid=2, prefix_tokens=3, classes=3, width=16, depth=2, heads=2, hidden=24, dropout=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ar = ARModel(config).eval().requires_grad_(False)
        for p in ar.parameters():
            torch.nn.init.normal_(p, 0.2, 0.5)
    return ar


def _sampled(answer: Callable, guidance: float, temperature: float) -> tuple:
    """What an answer samples from a small random model, its caches, the model and the settings."""
    ar = little_ar()
    sampling = Sampling(guidance=guidance, power=0.5, temperature=temperature)
    noise, scales = gumbel_noise([3, 4], 7, 12, torch.device("cpu")), guidance_ramp(7, guidance, 0.5)
    caches, transform = [KVCache(16) for _ in ar.blocks], ar.transform

    def watched(x: Tensor, *given: object, **named: object) -> Tensor:
        told = "Two guided pictures need four rows in every step, with and without class"
        require(len(x) == 4, f"{told}; yours runs {len(x)}.")
        return transform(x, *given, **named)

    ar.transform = watched
    ids = answer(ar, torch.tensor([0, 1]), noise, scales, temperature, caches)
    del ar.transform
    return ids, caches, ar, sampling


def _sample(fault: str = "") -> Callable:
    """The loop, or one with a fault."""

    def sample(
        ar: ARModel, labels: Tensor, noise: Tensor, scales: Tensor, temperature: float, caches: list[KVCache]
    ) -> Tensor:
        null = torch.full_like(labels, 0 if fault == "null" else ar.config.classes)
        rows = torch.cat([null, labels] if fault == "rows" else [labels, null])
        x, ids = ar.embed_class(rows), torch.zeros(len(labels), 0, dtype=torch.long)
        for t in range(noise.shape[1]):
            kept = None if fault == "no cache" else caches
            given, free = ar.transform(x, kept)[:, -1].chunk(2)
            scale = scales[-1] if fault == "constant" else scales[t]
            if fault == "no guidance":
                scale = torch.ones(())
            logits = given + scale * (given - free) if fault == "from given" else free + scale * (given - free)
            logits = scale * given if fault == "given alone" else logits
            logits = logits * temperature if fault == "times" else logits / temperature
            logits = given + scale * (given / temperature - free) if fault == "half" else logits
            step = noise[:, 0] if fault == "same noise" else noise[:, t]
            mixed = (logits * temperature + step) / temperature if fault == "noise too" else logits + step
            new = (logits if fault == "greedy" else mixed).argmax(-1, keepdim=True)
            ids = torch.cat([ids, new], 1)
            x = ar.embedding(torch.cat([new, new]))
            if fault == "no cache":
                x = torch.cat([ar.embed_class(rows), ar.embedding(torch.cat([ids, ids]))], 1)
            if fault == "whole":
                x = ar.embedding(torch.cat([ids, ids]))
        return ids

    return sample


def _drawn(answer: Callable) -> list:
    """Ids in three settings, and how much the caches hold."""
    found = []
    for guidance, temperature in ((1.0, 0.5), (4.0, 1.0), (4.0, 0.5)):
        ids, caches, *_ = _sampled(answer, guidance, temperature)
        found += [ids, caches[0].used]
    return found


known(
    "7.4",
    _drawn,
    {
        "The cache is not used: every step runs the whole sequence again.": _sample("no cache"),
        "Guidance starts from the prediction with class; it must start from the one without.": _sample("from given"),
        "The scale is not used.": _sample("no guidance"),
        "The prediction without class is not used: free + scale * (given - free).": _sample("given alone"),
        "The scale is that of the last token throughout; take scales[t].": _sample("constant"),
        "The two halves are exchanged: the first rows are those with class.": _sample("rows"),
        "The null class is number ar.config.classes; 0 is an ordinary class.": _sample("null"),
        "The logits are multiplied by the temperature.": _sample("times"),
        "The noise is divided by the temperature, too; it is added afterwards.": _sample("noise too"),
        "The noise of the first token is used at every token.": _sample("same noise"),
        "The noise is not used: this is greedy sampling.": _sample("greedy"),
    },
)
