"""Solutions of the exercises, for teachers; the package works without this file.

Each section begins with its number and needs torch alone.
"""

import torch


# --- 1.1
def bits_per_picture(image_size, patch_size, codebook_size, prefix):
    grid = image_size // patch_size
    tokens = grid * grid + (1 + grid if prefix else 0)
    return tokens * torch.log2(torch.tensor(codebook_size)).item()


# --- 1.2
def nearest_code(latents, codebook):
    distances = (latents[:, None] - codebook[None]).square().sum(-1)  # (N, V)
    return distances.argmin(1)


# --- 1.3
def straight_through(latents, codes):
    return latents + (codes - latents).detach()


# --- 2.1
def my_mask(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


# --- 2.2
def leaks(mask):
    return [(query, key) for query, key in mask.nonzero().tolist() if key > query]


# --- 2.3
def tokens_heard(row, column, grid, prefix_tokens):
    return prefix_tokens + row * grid + column + 1


# --- 3.1
def my_target(picture, patch):
    row = picture[:, :patch].split(patch, dim=2)  # G patches (3, p, p)
    return torch.stack([row[0], *row])


# --- 3.2
def swap(ids, prefix_tokens):
    swapped = ids.clone()
    swapped[:, :prefix_tokens] = ids.flip(0)[:, :prefix_tokens]
    return swapped


# --- 3.3
cheap_from = next(g for g in range(1, 100) if (1 + g) / (1 + g + g * g) < 0.1)


# --- 4.1
def prepare_stage2(tokenizer):
    tokenizer.requires_grad_(False)
    tokenizer.decoder2.requires_grad_(True)


# --- 4.2
def my_psnr(decoded, pixels):
    return -10 * (decoded - pixels).square().flatten(1).mean(1).log10()


# --- 4.3
decoder_of = {1: "causal", 2: "bidirectional"}


# --- 5.1
def shift(ids, class_tokens):
    inputs = torch.cat([class_tokens[:, None], ids[:, :-1]], dim=1)
    return inputs, ids


# --- 5.2
def ramp(tokens, guidance, power):
    t = torch.arange(tokens) / tokens
    return 1 + (guidance - 1) * (1 - torch.cos(torch.pi * t**power)) / 2


# --- 5.3
def probabilities(logits, temperature):
    return (logits / temperature).softmax(-1)


# --- 6.1
def bits_per_image(nats):
    return nats.sum(1) / torch.log(torch.tensor(2.0))


# --- 6.2
def gain(counts, nats):
    shares = counts / counts.sum()
    shares = shares[shares > 0]  # a code that never occurs adds nothing
    entropy = -(shares * shares.log()).sum()
    return (entropy - nats.mean()).item()


# --- 6.3
def is_effect(first, second):
    a, b = torch.tensor(first), torch.tensor(second)
    border = 2 * (a.var() + b.var()) ** 0.5
    return bool((a.mean() - b.mean()).abs() > border)


# --- 7.1
def block_parameters(width, heads, hidden):
    attention = width * 3 * width + 3 * width + width * width + width  # qkv and out, with biases
    norms = 2 * width + 2 * (width // heads)  # before attention and SwiGLU; of queries and keys
    return attention + norms + 3 * width * hidden  # gate, up, down


# --- 7.2
def cache_bytes(depth, width, tokens, pictures, number_bytes, guided):
    rows = pictures * (2 if guided else 1)
    return 2 * depth * width * tokens * rows * number_bytes  # a key and a value


# --- 7.3
def our_name(key):
    names = {
        "embeddings.": "embedding.",
        ".attn.proj.": ".attention.out.",
        ".attn.": ".attention.",
        ".mlp.w1.": ".mlp.gate.",
        ".mlp.w2.": ".mlp.down.",
        ".mlp.w3.": ".mlp.up.",
    }
    for old, new in names.items():
        key = key.replace(old, new)
    return key


# --- 8.1
def corrected(counts):
    total, seen = counts.sum(), counts[counts > 0]
    p = seen / total
    return -(p * p.log()).sum() + (len(seen) - 1) / (2 * total)


# --- 8.2
def snake(grid):
    rows = torch.arange(grid**2).view(grid, grid)
    return torch.cat([row.flip(0) if number % 2 else row for number, row in enumerate(rows)])


# --- 8.3
def positions(tokens, cache, guided):
    once = tokens if cache else tokens * (tokens + 1) // 2
    return once * (2 if guided else 1)


# --- 9.1
def later_share(dependency):
    later = dependency.tril(-1).sum(0)  # (T,): for each patch, what comes from tokens below the diagonal
    return (later / dependency.sum(0)).mean().item()


# --- 9.2
def dependencies(decode, ids, codes, grid):
    before, rows = decode(ids), []
    for token in range(ids.shape[1]):
        changed = ids.clone()
        changed[:, token] = (changed[:, token] + 1) % codes
        change = (decode(changed) - before).abs()  # (N, 3, S, S)
        side = change.shape[-1] // grid
        cut = change.view(len(ids), 3, grid, side, grid, side)
        rows.append(cut.mean((0, 1, 3, 5)).flatten())  # (G*G,)
    return torch.stack(rows)


# --- 9.3
def at_equal_bits(first, second, bits):
    (low, start), (high, end) = sorted([first, second])
    if not low <= bits <= high:
        return None
    return start + (bits - low) / (high - low) * (end - start)


# --- 10.1
def conditional_entropy(pairs):
    from collections import Counter, defaultdict
    from math import log2

    contexts = defaultdict(Counter)
    for context, value in pairs:
        contexts[context][value] += 1
    bits = 0.0
    for values in contexts.values():
        total = sum(values.values())
        entropy = -sum(n / total * log2(n / total) for n in values.values())
        bits += total / len(pairs) * entropy
    return bits


# --- 10.2
def excess_bits(p, q):
    there = p > 0  # a picture that never occurs adds nothing
    return (p[there] * torch.log2(p[there] / q[there])).sum().item()


# --- 10.3
def causal_can_read(tokens, pictures):
    prefix = len(tokens[0]) - len(pictures[0])
    for patch in range(len(pictures[0])):
        told = {}
        for sequence, picture in zip(tokens, pictures, strict=True):
            seen = tuple(sequence[: prefix + patch + 1])
            if told.setdefault(seen, picture[patch]) != picture[patch]:
                return False
    return True


# --- 11.1
def permutation_p(first, second):
    from itertools import combinations

    both = [*first, *second]

    def difference(chosen):
        one = [both[i] for i in chosen]
        other = [both[i] for i in range(len(both)) if i not in chosen]
        return abs(sum(one) / len(one) - sum(other) / len(other))

    true = difference(range(len(first)))
    ways = list(combinations(range(len(both)), len(first)))
    return sum(difference(chosen) >= true - 1e-9 for chosen in ways) / len(ways)


# --- 11.2
def interval(first, second, t):
    from statistics import mean, variance

    difference = mean(first) - mean(second)
    error = (variance(first) / len(first) + variance(second) / len(second)) ** 0.5
    return difference - t * error, difference + t * error


# --- 11.3
def smallest_p(runs):
    from math import comb

    return 2 / comb(2 * runs, runs)
