"""Every exercise: its stub runs and fails with help, typical mistakes fail by name, its solution passes."""

import ast
import math
import re
from itertools import combinations

import numpy
import pytest
import torch
import torch.nn.functional as F

from alitok_lite import learn
from alitok_lite.core.config import LossWeights
from alitok_lite.core.layers import Attention, Block, KVCache, RMSNorm, SwiGLU
from alitok_lite.core.losses import reconstruction_losses
from alitok_lite.core.sampling import Sampling, draw_codes, next_logits
from alitok_lite.learn import exercises, predictions, solved
from alitok_lite.measure.metrics import bits_per_dimension

EXERCISES = learn.EXERCISES.values()


@pytest.fixture(autouse=True)
def nothing_solved(monkeypatch):
    """Nobody's own progress is read or written."""
    monkeypatch.setenv("ALITOK_PROGRESS", "")
    monkeypatch.setattr(solved, "_solved", set())
    monkeypatch.setattr(predictions, "_made", {})
    monkeypatch.setattr(predictions, "_fields", {})


@pytest.fixture(scope="module", autouse=True)
def mistakes_made_once():
    """What a known mistake gives is worked out once, not with every answer that is compared with it."""
    real, kept = exercises.outcome, {}
    mistakes = {id(wrong) for exercise in EXERCISES for wrong in exercise.mistakes.values() if callable(wrong)}

    def outcome(tried, answer):
        if id(answer) not in mistakes:
            return real(tried, answer)
        if (tried, answer) not in kept:
            kept[tried, answer] = real(tried, answer)
        return kept[tried, answer]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exercises, "outcome", outcome)
        yield


def answer_of(source, name):
    """What the code defines under that name, run where torch is imported and nothing else."""
    space = {"torch": torch}
    exec(source, space)
    return space[name]


def in_place_swap(ids, k):
    ids[0, :k], ids[1, :k] = ids[1, :k], ids[0, :k]
    return ids


def frozen(*parts):
    """An answer to 4.1 that freezes these parts and wakes all others."""

    def prepare(tokenizer):
        for name, part in tokenizer.named_children():
            part.requires_grad_(name not in parts)

    return prepare


def cosine(latents, codebook):
    unit = [x / x.norm(dim=1, keepdim=True) for x in (latents, codebook)]
    return (unit[0] @ unit[1].T).argmax(1)


def ramp(t, g, p):
    return 1 + (g - 1) * (1 - torch.cos(math.pi * t**p)) / 2


def renamed(*names):
    """An answer to 7.3 by replacements, given as old, new, old, new, ..."""

    def our_name(key):
        for old, new in zip(names[::2], names[1::2], strict=True):
            key = key.replace(old, new)
        return key

    return our_name


def entropy(counts):
    return torch.special.entr(counts / counts.sum()).sum()


def border(width):
    """An answer to 6.3 that calls a difference an effect from some width on."""

    def is_effect(first, second):
        a, b = torch.tensor(first), torch.tensor(second)
        return (a.mean() - b.mean()).abs() > width(a, b)

    return is_effect


def dependent(decode, ids, codes, grid, step=1, modulo=True, copy=True, keep=False):
    """An answer to 9.2, or a wrong one."""
    before, rows, changed = decode(ids), [], ids.clone() if copy else ids
    for token in range(ids.shape[1]):
        changed = changed if keep or not copy else ids.clone()
        changed[:, token] += step
        change = (decode(changed % codes if modulo else changed) - before).abs().mean((0, 1))
        side = len(change) // grid
        rows.append(change.view(grid, side, grid, side).mean((1, 3)).flatten())
    return torch.stack(rows)


def line(a, b, bits):
    return a[1] + (bits - a[0]) / (b[0] - a[0]) * (b[1] - a[1])


def conditional(pairs, share=lambda n, of_all: n / of_all):
    """Conditional entropy in bits; `share` weighs a context that occurs n times."""
    groups = [[v for c, v in pairs if c == context] for context in {c for c, _ in pairs}]
    shares = [torch.tensor([group.count(v) for v in set(group)]) / len(group) for group in groups]
    return sum(share(len(g), len(pairs)) * -(p * p.log2()).sum().item() for g, p in zip(groups, shares, strict=True))


def permuted(a, b, abs_=True, strict=False, sums=False):
    """An answer to 11.1, or a wrong one."""
    both = [*a, *b]

    def difference(chosen):
        rest = [i for i in range(len(both)) if i not in chosen]
        means = [sum(both[i] for i in some) / (1 if sums else len(some)) for some in (chosen, rest)]
        return abs(means[0] - means[1]) if abs_ else means[0] - means[1]

    true, ways = difference(tuple(range(len(a)))), list(combinations(range(len(both)), len(a)))
    return sum(difference(c) > true + 1e-9 if strict else difference(c) >= true - 1e-9 for c in ways) / len(ways)


def welch(a, b, t, n=None, correction=1):
    """An answer to 11.2, or a wrong one."""
    x, y = torch.tensor(a), torch.tensor(b)
    error = (x.var(correction=correction) / (n or len(a)) + y.var(correction=correction) / (n or len(b))) ** 0.5
    middle = x.mean() - y.mean()
    return middle - t * error, middle + t * error


def readable(tokens, pictures, first=False, last=False, shift=None):
    """An answer to 10.2, or a wrong one: of the own token alone, of all tokens, or without the prefix."""
    patches = len(pictures[0])
    shift = len(tokens[0]) - patches if shift is None else shift
    for n in range(patches):
        seen = [s if last else s[n + shift :][:1] if first else s[: n + shift + 1] for s in tokens]
        if len({(tuple(s), p[n]) for s, p in zip(seen, pictures, strict=True)}) > len({tuple(s) for s in seen}):
            return False
    return True


def nearest(latents, codebook):
    return torch.cdist(latents, codebook).argmin(-1)


def losses(latents, rows):
    return F.mse_loss(rows, latents.detach()) + F.mse_loss(latents, rows.detach()) / 4


def fused(x, qkv, out, heads, causal):
    """Attention by torch's kernel."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv(x).chunk(3, -1))
    return out(F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2))


def all_terms(tokenizer, pixels):
    output = tokenizer(pixels, 1)
    return output, sum(reconstruction_losses(output, pixels, LossWeights()).values())


def packaged_step(tokenizer, pixels, optimizer):
    """In the package's order: dead codes move before the optimiser's step."""
    output, loss = all_terms(tokenizer, pixels)
    optimizer.zero_grad(set_to_none=False)
    loss.backward()
    tokenizer.quantizer.revive(output.latents, output.ids)
    optimizer.step()
    return loss.item()


def packaged_block(x, weights, heads, rope):
    width, hidden = x.shape[-1], len(weights["mlp.gate.weight"])
    block = Block(width, Attention(width, heads, True, True), SwiGLU(width, hidden), RMSNorm)
    block.load_state_dict(weights)
    return block.requires_grad_(False)(x, rope)


def packaged_code(nats, decoded, pixels, grid):
    rows = (decoded - pixels).square().unflatten(2, (grid, -1)).mean((0, 1, 3, 4)).tolist()
    return bits_per_dimension(nats.sum(1).mean().item() / math.log(2), rows, pixels.shape[-1])


def packaged_loop(ar, labels, noise, scales, temperature, caches):
    sampling, rows = Sampling(temperature=temperature), torch.cat([labels, torch.full_like(labels, ar.config.classes)])
    ids = torch.empty(len(labels), 0, dtype=torch.long)
    for t in range(noise.shape[1]):
        fresh = [KVCache(16) for _ in ar.blocks] if caches is None else caches
        logits = next_logits(ar, rows, ids, fresh)
        ids = torch.cat([ids, draw_codes(logits, scales[t], noise[:, t], sampling)[0]], 1)
    return ids


def read_along(ar, ids, labels, order):
    """By the model itself, whose table has been put into the order."""
    table, words = ar.rope(ids.device), ids[:, order]
    ar._rope = torch.cat([table[:1], table[1:][order]])
    logits = ar(words, labels)
    ar._rope = table
    return F.cross_entropy(logits.transpose(1, 2), words, reduction="none")


PLACES = ("embeddings.", "embedding.", ".attn.proj.", ".attention.out.", ".attn.", ".attention.")


# number -> wrong answers, each with words of the message that it must get
MISTAKES = {
    "1.1": [
        (lambda s, p, v, k: ((s // p) ** 2 + k * (1 + s // p)) * v, "With two codes a token is one bit"),
        (lambda s, p, v, k: ((s // p) ** 2 + k * (1 + s // p)) * math.log(v), "yours is 11.09"),
        (lambda s, p, v, k: (s // p) ** 2 * math.log2(v), "prefix adds 1 + 4 tokens"),
        (lambda s, p, v, k: ((s // p) ** 2 + k * (s // p)) * math.log2(v), "yours is 4"),
        (lambda s, p, v, k: 16 * math.log2(v), "four times the tokens"),
        (lambda s, p, v, k: 16 if v == 2 else 0, "Twice the codes"),
    ],
    "1.2": [
        (lambda z, e: (z @ e.T).argmax(1), "A latent that is a code"),
        (cosine, "the latents 2 and 3.5"),
        (lambda z, e: torch.cdist(z, e).argmin(0), "its shape must be"),
        (lambda z, e: torch.cdist(z, e).min(1).values, "must get"),
        (lambda z, e: None, "returns nothing"),
        (5, "must be a function"),
    ],
    "1.3": [
        (lambda z, e: e.detach(), "cut off"),
        (lambda z, e: e, "no gradient: the encoder"),
        (lambda z, e: z, "the value must be the codes"),
        (lambda z, e: z + (e - z), "no gradient"),
        (lambda z, e: e + z - z.detach(), "own loss alone"),
        (lambda z, e: 2 * z + (e - 2 * z).detach(), "unchanged"),
    ],
    "1.4": [
        (lambda z, e: (e[torch.cdist(z, e).argmin(-1)], torch.cdist(z, e).argmin(-1), 0.0), "VQ loss of these latents"),
        (lambda z, e: e[torch.cdist(z, e).argmin(-1)], "three things"),
    ],
    "2.1": [
        (lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(), "sees 1"),
        (lambda q, k: torch.ones(q, k, dtype=torch.bool).triu(), "sees later keys"),
        (lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(k - q - 1), "must see itself"),
        (lambda q, k: torch.eye(q, k, dtype=torch.bool), "all earlier ones"),
        (lambda q, k: torch.ones(q, k).tril(k - q).where(torch.tensor(q < k), torch.ones(())), "sees later keys"),
    ],
    "2.2": [
        (lambda m: [(k, q) for q, k in m.nonzero().tolist() if k > q], "(1, 4)"),
        (lambda m: [(q, k) for q in range(len(m)) for k in range(q + 1, len(m))], "must be empty"),
        (lambda m: [(q, k) for q, k in m.nonzero().tolist() if k > q][:1], "both must be listed"),
        (lambda m: m.nonzero().tolist(), "must be empty"),
        (lambda m: [(q, k) for q, k in (~m).nonzero().tolist() if k > q], "must be empty"),
    ],
    "2.3": [
        (lambda r, c, g, k: k + r * g + c, "all 16 tokens; yours is 15"),
        (lambda r, c, g, k: r * g + c + 1, "5 more; yours is 0"),
        (lambda r, c, g, k: k + c * g + r + 1, "next there is one token more"),
        (lambda r, c, g, k: g * g, "its own token"),
    ],
    "2.4": [
        (lambda x, qkv, out, heads, causal: out(x), "With 1 head, without mask"),
        (lambda x, qkv, out, heads, causal: qkv(x), "must be (2, 5, 8), and is (2, 5, 24)"),
        (lambda x, qkv, out, heads, causal: fused(x, qkv, out, heads, False), "must not depend on positions 3 and 4"),
    ],
    "3.1": [
        (lambda x, p: torch.stack(x[:, :p].split(p, 2)), "must be (4, 3, 4, 4), and is (3, 3, 4, 4)"),
        (lambda x, p: torch.stack([x[:, :p, :p], *x[:, :, :p].split(p, 1)]), "first column"),
        (lambda x, p: torch.stack([*x[:, :p].split(p, 2), x[:, :p, :p]]), "corner again"),
        (lambda x, p: torch.stack([x[:, :p, :p], *x[:, -p:].split(p, 2)]), "corner again"),
    ],
    "3.2": [
        (in_place_swap, "Row 1 must begin"),
        (lambda ids, k: ids.flip(0), "image tokens must stay"),
        (lambda ids, k: torch.cat([ids.flip(0)[:, : k - 1], ids[:, k - 1 :]], 1), "Row 0 must begin"),
        (lambda ids, k: ids.copy_(torch.cat([ids.flip(0)[:, :k], ids[:, k:]], 1)), "work on a copy"),
    ],
    "3.3": [
        (9, "At G = 9 the prefix is still 11.0%"),
        (11, "At G = 10 it is 9.9% already"),
        (9.5, "whole number"),
        ("ten", "whole number"),
    ],
    "3.4": [
        (lambda decoder, codes: decoder(codes), "two things"),
        (lambda decoder, codes: [part.flip(2) for part in decoder.outputs(codes)], "in yours it moves the first row"),
        (lambda decoder, codes: [part / 2 for part in decoder.outputs(codes)], "those of the package's decoder"),
        (lambda decoder, codes: (decoder(codes), decoder.outputs(codes)[1].flip(1)), "The prefix outputs must be"),
    ],
    "4.1": [
        (frozen("encoder"), "codebook is still trained"),
        (frozen("quantizer"), "encoder or its latent queries"),
        (frozen("encoder", "quantizer"), "causal decoder (decoder1) is still trained"),
        (frozen("encoder", "quantizer", "decoder1", "decoder2"), "is frozen"),
        (lambda tokenizer: None, "is frozen"),
    ],
    "4.2": [
        (lambda a, b: -20 * (a - b).square().flatten(1).mean(1).log10(), "must be 20 dB; yours is 4"),
        (lambda a, b: -10 * (a - b).square().mean().log10(), "shape (3,); yours has ()"),
        (lambda a, b: -10 * (a - b).square().flatten(1).mean(1).log(), "20 dB"),
        (lambda a, b: -20 * (a - b).abs().flatten(1).mean(1).log10(), "squared error"),
        (lambda a, b: 10 * (a - b).square().flatten(1).mean(1).log10(), "yours is -"),
    ],
    "4.3": [
        ({1: "bidirectional", 2: "bidirectional"}, "nothing keeps patches"),
        ({1: "causal", 2: "causal"}, "cannot spoil them"),
        ({1: "bidirectional", 2: "causal"}, "nothing keeps patches"),
        ("causal", "must be a dict"),
    ],
    "4.4": [
        (lambda t, x, o: None, "returns nothing"),
        (lambda t, x, o: (t(x, 1).pixels - x).square().mean(), "The loss of these pictures must be"),
        (lambda t, x, o: all_terms(t, x)[1], "The causal decoder has not moved"),
    ],
    "5.1": [
        (lambda ids, c: (ids, ids), "nothing is left to learn"),
        (lambda ids, c: (ids[:, :-1], ids[:, 1:]), "4 ids to predict"),
        (lambda ids, c: (torch.cat([c[:, None], ids], 1), ids), "4 positions to read"),
        (lambda ids, c: (ids.roll(1, 1), ids), "class token"),
        (lambda ids, c: (torch.cat([c[:, None], ids[:, 1:]], 1), ids), "last but one"),
        (lambda ids, c: ids, "two tensors"),
    ],
    "5.2": [
        (lambda x, w, heads, rope: x, "returns it as it is"),
        (lambda x, w, heads, rope: packaged_block(x, w, heads, rope) - x, "the residual connections"),
        (lambda x, w, heads, rope: packaged_block(x.flip(1), w, heads, rope).flip(1), "attention must be causal"),
        (lambda x, w, heads, rope: 2 * packaged_block(x, w, heads, rope) - x, "With an MLP that gives 0"),
    ],
    "5.3": [
        (lambda x, t: (x * t).softmax(-1), "less certain"),
        (lambda x, t: x.softmax(-1) / t, "they must add up to 1 too"),
        (lambda x, t: x.softmax(-1), "less certain"),
        (lambda x, t: (x / t).softmax(0), "add up to 1"),
        (lambda x, t: (x / t).log_softmax(-1), "add up to 1"),
        (lambda x, t: (x / t**2).softmax(-1), "1 / temperature"),
    ],
    "5.4": [
        (lambda n, g, p: ramp(torch.arange(n) / n, g, 1.0), "larger power"),
        (lambda n, g, p: ramp(torch.arange(n) / (n - 1), g, p), "just under g = 5; yours is 5.0"),
        (lambda n, g, p: ramp(torch.arange(1, n + 1) / n, g, p), "first token the scale must be 1"),
        (lambda n, g, p: ramp(torch.arange(n) / n, g, p) - 1, "first token the scale must be 1"),
        (lambda n, g, p: 1 + (g - 1) * torch.arange(n) / n, "power 2 gives"),
        (lambda n, g, p: ramp(torch.arange(n) / n, g, 1 / p), "later"),
    ],
    "6.1": [
        (lambda nats: nats.mean(1) / math.log(2), "twice as long"),
        (lambda nats: nats.sum(1), "4 bits; yours is [2.7"),
        (lambda nats: nats.sum() / math.log(2), "yours has ()"),
        (lambda nats: nats.sum(1) * math.log(2), "4 bits"),
        (lambda nats: nats.sum(0) / math.log(2), "yours has (4,)"),
    ],
    "6.2": [
        (lambda counts, nats: math.log(len(counts)) - nats.mean().item(), "must be log(2)"),
        (lambda counts, nats: entropy(counts) / math.log(2) - nats.mean(), "yours is 3.0"),
        (lambda counts, nats: entropy(counts), "must be 1 less"),
        (lambda counts, nats: nats.mean() - entropy(counts), "yours is -2.07"),
        (lambda counts, nats: -(counts / counts.sum() * (counts / counts.sum()).log()).sum() - nats.mean(), "nan"),
        (lambda counts, nats: (counts > 0).sum().log() - nats.mean(), "entropy itself, the redundancy must be 0"),
    ],
    "6.3": [
        (border(lambda a, b: 0), "must be none"),
        (border(lambda a, b: 2 * (a.var() + b.var()).div(3) ** 0.5), "standard errors of the means"),
        (border(lambda a, b: 2 * (a.var(correction=0) + b.var(correction=0)) ** 0.5), "divided by n - 1"),
        (border(lambda a, b: 2 * (a.std() + b.std())), "independent ones add up as squares"),
        (border(lambda a, b: 2 * a.std() * 2**0.5), "wider of the two"),
        (border(lambda a, b: 2 * b.std() * 2**0.5), "first row must count"),
        (lambda first, second: sum(second) - sum(first) > 3 * 2.83, "whichever row comes first"),
        (lambda first, second: None, "returns nothing"),
        (lambda first, second: "yes", "True or False; this is 'yes'"),
    ],
    "6.4": [
        (lambda nats, a, b, grid: 0.0, "Without any error a value must take"),
        (lambda nats, a, b, grid: packaged_code(nats, a, b, grid).item, "Without any error a value must take"),
        (lambda nats, a, b, grid: packaged_code(nats, (a + b) / 2, b, grid), "These pictures must take"),
    ],
    "7.1": [
        (lambda d, h, m: 4 * d * d + 2 * d + 2 * d // h + 3 * d * m, "have biases"),
        (lambda d, h, m: 4 * d * d + 4 * d + 2 * d + 2 * d // h + 2 * d * m, "three matrices"),
        (lambda d, h, m: 4 * d * d + 4 * d + 2 * d + 3 * d * m, "4 heads instead of 2"),
        (lambda d, h, m: 4 * d * d + 4 * d + 4 * d + 3 * d * m, "4 heads instead of 2"),
        (lambda d, h, m: 4 * d * d + 4 * d + 2 * d // h + 3 * d * m, "two norms 16"),
        (lambda d, h, m: 4 * d * d + 4 * d + 2 * d + 2 * d // h + 3 * d * m + 2 * m + d, "3 x width"),
        (lambda d, h, m: None, "returns nothing"),
    ],
    "7.2": [
        (lambda n, d, t, b, s, g: n * d * t * b * s * (1 + g), "a key and a value, 2"),
        (lambda n, d, t, b, s, g: 2 * n * d * t * b * s, "twice the bytes; yours is 960"),
        (lambda n, d, t, b, s, g: 2 * n * d * t * s * (1 + g), "Twice the pictures"),
        (lambda n, d, t, b, s, g: 2 * n * d * t * t * b * s * (1 + g), "Twice the tokens"),
        (lambda n, d, t, b, s, g: 2 * d * t * b * s * (1 + g), "Twice the depth"),
    ],
    "7.3": [
        (renamed(*PLACES, "w1", "gate", "w2", "up", "w3", "down"), "w3.weight is the one that is multiplied"),
        (renamed(*PLACES, "w1", "up", "w2", "down", "w3", "gate"), "w1.weight is the one that goes through silu"),
        (
            renamed(*PLACES[2:], "w1", "gate", "w2", "down", "w3", "up"),
            "embeddings.weight has another name here; yours",
        ),
        (renamed(*PLACES[4:], "embeddings", "embedding", "w1", "gate", "w2", "down", "w3", "up"), "attn.proj.weight"),
        (renamed("norm", "norm1"), "norm.weight has the same name in both"),
        (lambda key: None, "returns nothing"),
    ],
    "7.4": [
        (lambda ar, who, noise, scales, heat, caches: noise.argmax(-1), "must be those of the package"),
        (lambda ar, who, noise, scales, heat, caches: packaged_loop(ar, who, noise, scales, heat, None), "holds 0"),
        (lambda ar, who, noise, scales, heat, caches: noise, "of shape (2, 7); yours have (2, 7, 12)"),
        (lambda ar, who, *_: ar.transform(ar.embed_class(who), None), "four rows in every step, with and without"),
    ],
    "8.1": [
        (lambda counts: entropy(counts), "log(2) + (2 - 1) / (2 * 2)"),
        (lambda counts: entropy(counts) + (len(counts) - 1) / (2 * counts.sum()), "Codes that were never seen"),
        (lambda counts: entropy(counts) - (len(counts) - 1) / (2 * counts.sum()), "yours is 0.44"),
        (lambda counts: entropy(counts) / math.log(2), "log(8) = 2.0794"),
        (lambda counts: -(counts / counts.sum() * (counts / counts.sum()).log()).sum() + 1 / 4, "so 0; yours is 0.25"),
    ],
    "8.2": [
        (lambda g: torch.arange(g * g), "straight down to 7; yours goes to 4"),
        (lambda g: torch.arange(g * g).view(g, g).T.flatten(), "The first row must go"),
        (lambda g: torch.arange(g * g).flip(0), "The first row must go"),
        (lambda g: torch.arange(g * g).view(g, g), "of shape (16,)"),
        (lambda g: torch.zeros(g * g), "visited once"),
        (lambda g: torch.cat([torch.arange(g), torch.arange(g, g * g).flip(0)]), "goes to 15"),
    ],
    "8.3": [
        (lambda t, cache, guided: t * (1 + guided), "1 + 2 + 3 = 6"),
        (lambda t, cache, guided: t if cache else t * (t + 1) // 2, "take 42 with a cache"),
        (lambda t, cache, guided: (t if cache else t * t) * (1 + guided), "1 + 2 + 3 = 6 positions; yours is 9"),
        (lambda t, cache, guided: (t if cache else t * (t - 1) // 2) * (1 + guided), "yours is 3"),
    ],
    "8.4": [
        (lambda ar, ids, who, order: ar(ids, who), "yours have (2, 7, 12)"),
        (
            lambda ar, ids, who, order: read_along(ar, ids, who, torch.arange(7)),
            "token order[0], predicted from the class",
        ),
        (lambda ar, ids, who, order: -read_along(ar, ids, who, order), "those of the model as it is"),
    ],
    "9.1": [
        (lambda d: d.triu(1).sum() / d.sum(), "later tokens, the share must be 0"),
        (lambda d: (d.tril(-1).sum(1) / d.sum(1)).nan_to_num().mean(), "3 patches have 1"),
        (lambda d: d.tril(-1).sum() / d.sum(), "divide in each column"),
        (lambda d: (d.tril().sum(0) / d.sum(0)).mean(), "the share must be 0"),
        (lambda d: d.tril(-1).sum(0) / d.sum(0), "the share must be 0; yours is [0.0"),
    ],
    "9.2": [
        (lambda *given: dependent(*given).T, "row 0 is full"),
        (lambda *given: dependent(*given, step=2), "0.1 on the diagonal"),
        (lambda *given: dependent(*given, modulo=False), "changes by 0.9"),
        (lambda *given: dependent(*given, copy=False), "change a copy"),
        (lambda *given: dependent(*given, keep=True), "0.1 on the diagonal"),
        (lambda *given: dependent(*given).view(-1, 2, 2).mT.flatten(1), "0.1 on the diagonal"),
        (lambda *given: dependent(*given)[:4], "5 tokens and 4 patches"),
    ],
    "9.3": [
        (lambda a, b, bits: a[1] + (bits - a[0]) / (b[0] - a[0]) * (b[1] - a[1]), "must be None; yours is 14.9"),
        (lambda a, b, bits: (a[1] + b[1]) / 2, "a quarter of the way"),
        (lambda a, b, bits: line(a, b, bits) if a[0] < bits < b[0] else None, "at the first point, it must be 15;"),
        (lambda a, b, bits: a[1] if bits < 15 else b[1], "a quarter of the way"),
        (lambda a, b, bits: line(a, b, bits) if a[0] <= bits <= b[0] else None, "must not matter"),
    ],
    "10.1": [
        (lambda pairs: conditional(pairs, lambda n, of_all: 1 / len({c for c, _ in pairs})), "as often as it occurs"),
        (lambda pairs: conditional(pairs, lambda n, of_all: 1), "leaves two open have 1 bit; yours is 2.0"),
        (lambda pairs: math.log(2) * conditional(pairs), "2 bits; yours is 1.38"),
        (lambda pairs: conditional([(0, value) for _, value in pairs]), "that its context tells"),
        (lambda pairs: conditional([(c, v) for c, v in dict.fromkeys(pairs)]), "1 against 3 is 0.8113"),
    ],
    "10.2": [
        (lambda tokens, pictures: readable(tokens, pictures, last=True), "told too late"),
        (lambda tokens, pictures: readable(tokens, pictures, first=True), "together with earlier ones"),
        (lambda tokens, pictures: readable(tokens, pictures, shift=0), "patch 0 may use tokens 0 and 1"),
        (lambda tokens, pictures: len(set(tokens)) == len(tokens), "told too late"),
        (lambda tokens, pictures: None, "returns nothing"),
    ],
    "10.3": [
        (lambda p, q: (q * (q / p).log2()).sum(), "must be 0.2075 bits"),
        (lambda p, q: torch.log2(p / q).mean(), "p weights the sum"),
        (lambda p, q: (p * (p / q).log()).sum(), "must be 0.2075 bits; yours is 0.14"),
        (lambda p, q: -(p * q.log2()).sum(), "the true probabilities needs 0 bits more"),
        (lambda p, q: (p * (p / q).log2()).sum(), "A picture that never occurs must add nothing, and yours makes nan"),
    ],
    "11.1": [
        (lambda a, b: permuted(a, b, abs_=False), "Both directions count"),
        (lambda a, b: permuted(a, b, strict=True), "Both directions count"),
        (lambda a, b: permuted(a, b, sums=True), "Groups may have different sizes"),
        (lambda a, b: permuted(a[:2], b[:2]), "p = 2 / 70; yours is 0.33"),
        (lambda a, b: torch.rand(()).item(), "another p each time: try all divisions"),
    ],
    "11.2": [
        (lambda a, b, t: welch(b, a, t), "first minus second, 3; yours is -3"),
        (lambda a, b, t: welch(a, b, t, n=1), "reaches 1.633; yours is 2.82"),
        (lambda a, b, t: welch(a, b, t, correction=0), "reaches 1.633; yours is 1.33"),
        (lambda a, b, t: welch(a, b, t, n=3), "divided by the number of its own runs"),
        (lambda a, b, t: (sum(a) - sum(b)) / 3, "two numbers"),
    ],
    "11.3": [
        (lambda runs: 1 / math.comb(2 * runs, runs), "2 of them are extreme"),
        (lambda runs: 2 / math.factorial(2 * runs), "yours is 0.08"),
        (lambda runs: 2 / 2 ** (2 * runs), "yours is 0.125"),
    ],
}
# other right answers than the solutions
VARIANTS = {
    "1.1": [lambda s, p, v, k: torch.tensor(((s // p) ** 2 + (1 + s // p) * k) * math.log2(v))],
    "1.2": [
        lambda z, e: (-torch.cdist(z, e)).argmax(1).tolist(),
        lambda z, e: torch.cdist(z, e).argmin(1).int().numpy(),
    ],
    "1.3": [lambda z, e: z - z.detach() + e.detach()],
    "1.4": [
        lambda z, e: [F.embedding((i := nearest(z, e)), e.detach()) - z.detach() + z, i, losses(z, F.embedding(i, e))]
    ],
    "2.1": [
        lambda q, k: torch.arange(k) <= torch.arange(q)[:, None] + k - q,
        lambda q, k: torch.ones(q, k).tril(k - q),
    ],
    "2.2": [lambda m: {(q, k) for q, k in m.nonzero().tolist() if k > q}, lambda m: (m.bool().triu(1)).nonzero()],
    "2.3": [lambda r, c, g, k: torch.tensor(k + r * g + c + 1)],
    "2.4": [lambda *given: fused(*given)],
    "3.1": [lambda x, p: [x[:, :p, :p]] + [x[:, :p, i : i + p] for i in range(0, x.shape[-1], p)]],
    "3.2": [lambda ids, k: torch.stack([torch.cat([ids[1, :k], ids[0, k:]]), torch.cat([ids[0, :k], ids[1, k:]])])],
    "3.3": [10, 10.0, torch.tensor(10)],
    "3.4": [lambda decoder, codes: decoder.outputs(codes)],
    "4.1": [frozen("encoder", "quantizer", "decoder1")],
    "4.2": [lambda a, b: 10 * torch.log10(1 / ((a - b) ** 2).mean(dim=(1, 2, 3)))],
    "4.3": [{1: "Causal", 2: "bidirectional "}],
    "4.4": [packaged_step],
    "5.1": [lambda ids, c: [torch.hstack([c.view(-1, 1), ids])[:, :-1], ids.clone()]],
    "5.2": [lambda *given: packaged_block(*given)],
    "5.3": [lambda x, t: x.softmax(-1) ** (1 / t) / (x.softmax(-1) ** (1 / t)).sum(-1, keepdim=True)],
    "5.4": [lambda n, g, p: [1 + (g - 1) * math.sin(math.pi * (t / n) ** p / 2) ** 2 for t in range(n)]],
    "6.1": [lambda nats: (nats / math.log(2)).sum(1).tolist()],
    "6.2": [lambda counts, nats: entropy(counts) - nats.mean()],
    "6.3": [border(lambda a, b: 2 * (a.std() ** 2 + b.std() ** 2) ** 0.5)],
    "6.4": [lambda *given: packaged_code(*given), lambda *given: torch.tensor(packaged_code(*given))],
    "7.1": [lambda d, h, m: torch.tensor(4 * d * (d + 1) + 2 * d + 2 * (d // h) + 3 * m * d)],
    "7.2": [lambda n, d, t, b, s, g: 2.0 * n * d * t * b * s * (2 if g else 1)],
    "7.3": [renamed(*PLACES, "w1", "gate", "w2", "down", "w3", "up")],
    "7.4": [lambda *given: packaged_loop(*given)],
    "8.1": [
        lambda counts: torch.as_tensor(entropy(counts) + (int((counts > 0).sum()) - 1) / (2.0 * int(counts.sum())))
    ],
    "8.2": [lambda g: [r * g + (g - 1 - c if r % 2 else c) for r in range(g) for c in range(g)]],
    "8.3": [lambda t, cache, guided: torch.tensor((t if cache else sum(range(1, t + 1))) * (1 + guided))],
    "8.4": [lambda *given: read_along(*given)],
    "9.1": [lambda d: sum((d[n + 1 :, n].sum() / d[:, n].sum()).item() for n in range(len(d))) / len(d)],
    "9.2": [lambda *given: dependent(*given).tolist()],
    "9.3": [lambda a, b, bits: torch.tensor(line(a, b, bits)) if min(a, b)[0] <= bits <= max(a, b)[0] else None],
    "10.1": [lambda pairs: torch.tensor(conditional(pairs))],
    "10.2": [lambda tokens, pictures: torch.tensor(readable(tokens, pictures))],
    "10.3": [lambda p, q: (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum() / math.log(2)],
    "11.1": [lambda a, b: torch.tensor(permuted(b, a))],
    "11.2": [lambda a, b, t: list(welch(a, b, t))],
    "11.3": [lambda runs: torch.tensor(2 * math.factorial(runs) ** 2 / math.factorial(2 * runs))],
}


def test_the_exercises_are_complete():
    in_order = sorted(learn.EXERCISES, key=lambda number: [int(part) for part in number.split(".")])
    assert list(learn.EXERCISES) == in_order == list(MISTAKES) == list(VARIANTS)
    for notebook in {number.split(".")[0] for number in learn.EXERCISES}:
        assert 2 <= sum(number.startswith(f"{notebook}.") for number in learn.EXERCISES) <= 4
    for exercise in EXERCISES:
        assert exercise.task.endswith((".", "?")) and exercise.name in exercise.task + exercise.stub
        assert len(exercise.hint) > 30 and exercise.stub.count("your code") + exercise.stub.count("your number") <= 1
    assert all(len(wrong) >= 2 for wrong in MISTAKES.values())


def said(capsys) -> str:
    """What was printed: one paragraph, in lines that a notebook shows whole, put together again."""
    lines = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert all(0 < len(line) <= 100 for line in lines)
    return " ".join(lines)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.number)
def test_stub_runs_and_fails_with_help(exercise, capsys):
    answer = answer_of(exercise.stub, exercise.name)
    assert learn.check(exercise.number, answer) is False
    message = said(capsys)
    assert re.fullmatch(rf"{exercise.number}: not yet\. .{{25,}}", message) and "stopped with" not in message


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.number)
def test_solution_passes(exercise, capsys):
    source = learn.solution_source(exercise.number)
    assert exercise.stub.split("(")[0].split(" =")[0] in source
    assert learn.check(exercise.number, answer_of(source, exercise.name)) is True
    assert said(capsys) == f"{exercise.number}: right! {exercise.why}"


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [pytest.param(n, *wrong, id=f"{n}-{i}") for n, all_ in MISTAKES.items() for i, wrong in enumerate(all_)],
)
def test_typical_mistakes_fail_by_name(number, answer, words, capsys):
    assert learn.check(number, answer) is False
    assert words in said(capsys)


@pytest.mark.parametrize(
    ("exercise", "sentence"),
    [pytest.param(e, s, id=f"{e.number}-{i}") for e in EXERCISES for i, s in enumerate(e.mistakes)],
)
def test_known_mistakes_are_named(exercise, sentence, capsys):
    """In code of any form that gives the same: here in a function around it."""
    wrong = exercise.mistakes[sentence]
    answer = (lambda *given: wrong(*given)) if callable(wrong) else wrong
    assert learn.check(exercise.number, answer) is False
    message = said(capsys)
    assert message.endswith(" ".join(sentence.split())) and len(message) > len(sentence) + 25, message


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.number)
def test_a_mistake_is_not_named_without_need(exercise):
    """Three or more to an exercise, which says why; no right answer and none that raises is called one of them."""
    assert len(exercise.mistakes) >= 3 and exercise.why.endswith(".")
    right = [answer_of(learn.solution_source(exercise.number), exercise.name), *VARIANTS[exercise.number]]
    for answer in [*right, lambda *_: 1 / 0, lambda *_: None]:
        assert exercises.diagnosis(exercise, answer) == ""


@pytest.mark.parametrize(("number", "answer"), [(n, right) for n, all_ in VARIANTS.items() for right in all_])
def test_other_right_answers_pass(number, answer, capsys):
    assert learn.check(number, answer), capsys.readouterr().out


def test_an_exception_is_one_line_and_the_random_numbers_stay(capsys):
    torch.manual_seed(1)
    assert learn.check("2.3", lambda *_: 1 / 0) is False
    learn.check("4.1", lambda tokenizer: None)
    assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(1)))
    assert capsys.readouterr().out.startswith(
        "2.3: not yet. tokens_it_may_use stopped with ZeroDivisionError: division by zero"
    )


USELESS = [None, "text", 5, {}, torch.zeros(0), (torch.zeros(2, 2),), math.nan, object(), numpy.zeros(3)]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.number)
def test_what_cannot_be_used_is_not_called_an_error_of_the_learner(exercise, capsys):
    """The check stumbles over it, not the learner's code: it says what came back, or what is asked."""
    for returned in USELESS:
        assert learn.check(exercise.number, lambda *_, returned=returned: returned) is False
        assert "stopped with" not in said(capsys)
        assert learn.check(exercise.number, returned) is False
        assert "stopped with" not in said(capsys)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.number)
def test_a_forgotten_return_and_a_called_function_are_named(exercise, capsys):
    if not callable(answer_of(exercise.stub, exercise.name)):
        assert not learn.check(exercise.number, lambda: 3) and "; this is a function." in said(capsys)
        assert not learn.check(exercise.number, "3x") and "'3x'" in said(capsys)
        return
    learn.check(exercise.number, print)
    message = said_at_the_end(capsys)
    assert ("is there a return?" in message) == ("return" in exercise.stub), message
    assert not learn.check(exercise.number, 3)
    assert "without brackets after its name; this is 3." in said(capsys)


def test_numbers_are_shown_with_few_digits(capsys):
    learn.check("11.3", lambda runs: 1 / 6)
    learn.check("9.1", lambda dependency: [0.123456789, (1 / 3, 2)])
    told = " ".join(capsys.readouterr().out.split())
    assert "yours is 0.16667." in told and "yours is [0.12346, (0.33333, 2)]." in told


def said_at_the_end(capsys):
    """What `check` printed, behind what the learner's code did."""
    return " ".join(capsys.readouterr().out.split()).rpartition("not yet. ")[2]


def test_an_error_without_a_message_is_shown_without_a_colon(capsys):
    def ramp(tokens, guidance, power):
        raise NotImplementedError

    assert not learn.check("5.4", ramp)
    assert "stopped with NotImplementedError, at: raise NotImplementedError" in said(capsys)


def test_the_line_that_stopped_is_shown(capsys):
    def ramp(tokens, guidance, power):
        steps = torch.arange(tokens)
        return steps.view(3, 5)

    assert not learn.check("5.4", ramp)
    assert said(capsys).endswith("at: return steps.view(3, 5)")


def test_a_prediction_stands_beside_what_was_measured(capsys):
    learn.predict("01a", size=..., worst_row="row 0", leaks=True)
    learn.predict("01b", near=31, far=500, low=torch.tensor(1.0), below=-2, zero=1, word="a few", half=0.7, same=False)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith('01a: put your prediction in place of each "..."') and "kept" in told[1]
    learn.compare("01a", size=torch.tensor(2.5), worst_row="row 1", leaks=True, never_asked=12345)
    learn.compare("01b", near=30.0, far=31.5, low=4, below=2, zero=0, word=3, half=1.0, same=torch.tensor(True))
    assert capsys.readouterr().out.splitlines() == [
        "size: measured 2.5; you made no prediction",
        "worst row: measured row 1; you predicted row 0: not so",
        "leaks: measured yes; you predicted yes: right",
        "never asked: measured 12,345; you made no prediction",
        "near: measured 30; you predicted 31: close",
        "far: measured 31.5; you predicted 500: 15.9 times too high",
        "low: measured 4; you predicted 1: 4 times too low",
        "below: measured 2; you predicted -2: too low",
        "zero: measured 0; you predicted 1: too high",
        "word: measured 3; you predicted a few: not a number",
        "half: measured 1; you predicted 0.7: too low",
        "same: measured yes; you predicted no: not so",
    ]
    learn.compare("01b", near=-0.0)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("near: measured 0;")
    assert told[1] == "You also predicted below, which is not asked here; asked: near." and len(told) == 8
    learn.progress()
    assert "Predictions made in this notebook: 10 of 11." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("guess", "told"),
    [
        ("fewer than 50", ": right"),
        ("<31.4", ": not so"),
        ("More than 30 bytes", ": right"),
        ("> 1,000", ": not so"),
        ("about 31", ": close"),
        ("less than a third", ": not a number"),
        (True, ": not a number"),
    ],
)
def test_a_prediction_may_be_a_bound(guess, told, capsys):
    learn.predict("01a", bytes=guess)
    learn.compare("01a", bytes=31.5)
    assert capsys.readouterr().out.splitlines()[-1].endswith(told)


@pytest.mark.parametrize("wrong", [None, [1, 2], torch.zeros(2)], ids=["None", "list", "tensor"])
def test_a_prediction_is_a_number_or_a_word(wrong):
    with pytest.raises(ValueError, match="the prediction size is .* it must be a number"):
        learn.predict("01a", size=wrong)


BESIDE = [one for one in EXERCISES if one.layer]  # shown beside the package's own code
BUILDS = [one for one in BESIDE if int(one.number.split(".")[0]) <= 8]


def test_each_of_the_first_eight_has_one_to_build():
    """Of 10 to 25 lines, in a stub with types."""
    assert [one.number.split(".")[0] for one in BUILDS] == [str(number) for number in range(1, 9)]
    for exercise in BUILDS:
        tree = ast.parse(learn.solution_source(exercise.number)).body[0]
        lines = [line for line in ast.unparse(tree.body).splitlines() if line.strip()]
        assert 9 <= len(lines) <= 25, (exercise.number, len(lines))
        stub = ast.parse(exercise.stub).body[0]
        assert stub.returns and all(one.annotation for one in stub.args.args), exercise.number
        assert ast.get_docstring(stub)


def test_levels_make_a_ladder():
    for notebook in {one.number.split(".")[0] for one in EXERCISES}:
        levels = {one.level for one in EXERCISES if one.number.split(".")[0] == notebook}
        built = any(one.number.split(".")[0] == notebook for one in BUILDS)
        assert levels == set(exercises.LEVELS) if built else len(levels) >= 2 and levels <= set(exercises.LEVELS)
    assert all(5 <= one.minutes <= 20 for one in EXERCISES)


@pytest.mark.parametrize("exercise", BESIDE, ids=lambda e: e.number)
def test_the_packages_code_stands_beside_a_solved_one(exercise, capsys):
    answer = answer_of(learn.solution_source(exercise.number), exercise.name)
    assert learn.side_by_side(exercise.number, answer) is None  # not solved: it would give the answer away
    assert capsys.readouterr().out.startswith(f"Solve {exercise.number} first")
    learn.check(exercise.number, answer)
    shown = learn.side_by_side(exercise.number, read_along)  # a function whose source is kept
    assert "def read_along" in repr(shown) and learn.layer_source(exercise.number) in repr(shown)
    for name in exercise.layer.split():
        assert f"def {name.split('.')[-1]}(" in repr(shown)
    assert shown._repr_html_().count("<td") == 2 and "-&gt;" in shown._repr_html_()


def test_every_notebook_has_one_beside_the_package():
    assert {one.number.split(".")[0] for one in BESIDE} == {str(number) for number in range(1, 12)}


def test_only_a_layer_stands_beside():
    with pytest.raises(ValueError, match=r"exercise '1\.1' builds no layer"):
        learn.side_by_side("1.1", len)


def test_hint_and_solution_are_printed(capsys):
    learn.hint("2.3")
    assert said(capsys) == learn.EXERCISES["2.3"].hint
    learn.solution("2.3")
    assert capsys.readouterr().out == learn.solution_source("2.3") + "\n"


def test_without_the_solutions_all_else_works(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exercises, "SOLUTIONS", tmp_path / "solutions.py")
    learn.solution("1.1")
    assert "without the solution of 1.1" in capsys.readouterr().out
    assert learn.check("3.3", 10) and not learn.check("3.3", 4)


def test_progress_is_kept_for_the_next_notebook(tmp_path, monkeypatch, capsys):
    path = tmp_path / "new" / "progress.json"
    monkeypatch.setenv("ALITOK_PROGRESS", str(path))
    learn.check("3.3", 4)
    assert not path.exists()  # a wrong answer is nothing to keep
    learn.check("3.3", 10)
    monkeypatch.setattr(solved, "_solved", set())  # another notebook, with its own kernel
    learn.check("4.3", {1: "causal", 2: "bidirectional"})
    capsys.readouterr()
    learn.progress()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("03  1 of") and "3.3" not in lines[2] and "3.1 core 7 min" in lines[2]
    assert lines[3].startswith("04  1 of") and "4.3" not in lines[3]
    assert lines[-1] == f"In all 2 of {len(EXERCISES)} exercises. Kept in {path}."


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b"\xff"])
def test_progress_without_a_file_counts_this_notebook(content, tmp_path, monkeypatch, capsys):
    """No place for it, or a file that is something else: that is said, and the file stays as it is."""
    path = tmp_path / "progress.json"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("ALITOK_PROGRESS", "" if content is None else str(path))
    learn.check("3.3", 10)
    learn.progress()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"In all 1 of {len(EXERCISES)} exercises. ") and "this notebook only" in last
    assert content is None or path.read_bytes() == content and str(path) in last


def test_progress_without_a_name_is_in_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ALITOK_PROGRESS")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    learn.progress()
    learn.check("3.3", 10)
    learn.progress()
    out = capsys.readouterr().out
    assert "Will be kept in ~/.alitok_lite/progress.json." in out and "Kept in ~/.alitok_lite/progress.json." in out


@pytest.mark.parametrize("call", [lambda n: learn.check(n, 1), learn.hint, learn.solution])
def test_unknown_numbers_list_the_known(call):
    with pytest.raises(ValueError, match=r"no exercise '9.9'; there are 1\.1, 1\.2, .*11\.3$"):
        call("9.9")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("31.5", 31.5),
        (" 31,5 ", 31.5),
        ("about 10", 10),
        ("~7 %", 7),
        ("Roughly 0.3 dB", 0.3),
        ("5 times", 5),
        ("3 of 8", "3 of 8"),
        ("2 or 3", "2 or 3"),
        ("1/3", "1/3"),
        ("1.2.3", "1.2.3"),
        ("fewer than 50", "fewer than 50"),
        ("37,401", 37401),
        ("-1,234.5", -1234.5),
        ("45 %", 45),
        ("+.5", 0.5),
        ("Yes", True),
        ("false", False),
        ("'AliTok-L'", "AliTok-L"),
        ("row 0", "row 0"),
        ("", ...),
    ],
)
def test_what_is_typed_into_a_field(typed, meant):
    found = predictions._typed(typed)
    assert found == meant and isinstance(found, bool) == isinstance(meant, bool)


def test_a_field_takes_the_place_of_an_argument(monkeypatch, capsys):
    """In a kernel with ipywidgets; an argument counts more, and an empty field is no prediction."""
    display = pytest.importorskip("IPython.display")
    pytest.importorskip("ipywidgets")
    import IPython

    shown = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: type("Shell", (), {"kernel": None})())
    monkeypatch.setattr(display, "display", shown.append)
    learn.predict("01a", bytes=..., bits=..., size=7)
    (box,) = shown
    _, first, second = box.children
    assert (first.description, second.description) == ("bytes:", "bits:")
    first.value = "31,5"
    learn.compare("01a", bytes=31.5, bits=252, size=7)
    told = capsys.readouterr().out.splitlines()
    assert told[1:] == [
        "bytes: measured 31.5; you predicted 31.5: close",
        "bits: measured 252; you made no prediction",
        "size: measured 7; you predicted 7: close",
    ]
    assert predictions.made() == (2, 3)
    learn.predict("01a", bytes=30, bits=..., size=7)
    learn.compare("01a", bytes=31.5)
    assert "you predicted 30" in capsys.readouterr().out


def test_without_a_kernel_there_is_no_field(capsys):
    learn.predict("01a", bytes=...)
    learn.compare("01a", bytes=31.5)
    assert not predictions._fields["01a"]
    assert capsys.readouterr().out.splitlines()[1] == "bytes: measured 31.5; you made no prediction"
