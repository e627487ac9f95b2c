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


# --- 1.4
def quantize(latents: torch.Tensor, codebook: torch.Tensor) -> tuple[torch.Tensor, ...]:
    B, T, d = latents.shape
    flat = latents.reshape(-1, d)
    distances = (flat[:, None] - codebook[None]).square().sum(-1)  # (B * T, V)
    ids = distances.argmin(1).view(B, T)
    rows = codebook[ids]  # (B, T, d)
    commitment = (latents - rows.detach()).square().mean()
    codebook_loss = (rows - latents.detach()).square().mean()
    loss = 0.25 * commitment + codebook_loss
    codes = latents + (rows - latents).detach()
    return codes, ids, loss


# --- 2.1
def my_mask(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


# --- 2.2
def leaks(mask):
    return [(query, key) for query, key in mask.nonzero().tolist() if key > query]


# --- 2.3
def tokens_it_may_use(row, column, grid, prefix_tokens):
    return prefix_tokens + row * grid + column + 1


# --- 2.4
def attend(x: torch.Tensor, qkv: torch.nn.Linear, out: torch.nn.Linear, heads: int, causal: bool) -> torch.Tensor:
    B, t, D = x.shape
    d = D // heads
    rows = qkv(x).view(B, t, 3, heads, d)
    q, k, v = rows.permute(2, 0, 3, 1, 4)  # (B, heads, t, d) each
    scores = q @ k.transpose(-1, -2) / d**0.5  # (B, heads, t, t)
    if causal:
        allowed = torch.ones(t, t, dtype=torch.bool, device=x.device).tril()
        scores = scores.masked_fill(~allowed, -torch.inf)
    weights = scores.softmax(-1)
    mixed = weights @ v  # (B, heads, t, d)
    return out(mixed.transpose(1, 2).reshape(B, t, D))


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
smallest_grid = next(g for g in range(1, 100) if (1 + g) / (1 + g + g * g) < 0.1)


# --- 3.4
def decode_causally(decoder: torch.nn.Module, codes: torch.Tensor) -> tuple[torch.Tensor, ...]:
    G, K, p = decoder.config.grid, decoder.config.prefix_tokens, decoder.config.patch_size
    start = decoder.extra_tokens.expand(len(codes), -1, -1)  # (B, 1, D)
    x = torch.cat([start, decoder.embed(codes)], 1)  # (B, 1 + T, D)
    x = decoder.norm_in(x + decoder.positions)
    for block in decoder.blocks:
        x = block(x)
    x = decoder.norm_out(x)
    pixels = decoder.head(x[:, -G * G :], G, G)
    strip = decoder.aux_head(x[:, 1 : 1 + K], 1, K)  # (B, 3, p, K * p)
    prefix = torch.stack(strip.split(p, dim=3), 1)  # (B, K, 3, p, p)
    return pixels, prefix


# --- 4.1
def prepare_stage2(tokenizer):
    tokenizer.requires_grad_(False)
    tokenizer.decoder2.requires_grad_(True)


# --- 4.2
def my_psnr(decoded, pixels):
    return -10 * (decoded - pixels).square().flatten(1).mean(1).log10()


# --- 4.3
decoder_of = {1: "causal", 2: "bidirectional"}


# --- 4.4
def stage1_step(tokenizer: torch.nn.Module, pixels: torch.Tensor, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    p = tokenizer.config.patch_size
    latents = tokenizer.encoder(pixels)
    codes, ids, vq_loss = tokenizer.quantizer(latents)
    decoded, prefix = tokenizer.decoder1.outputs(codes)
    row = torch.stack(pixels[:, :, :p].split(p, dim=3), 1)  # (B, G, 3, p, p)
    target = torch.cat([row[:, :1], row], 1)  # (B, K, 3, p, p)
    pixel_error = (decoded - pixels).square().mean()
    auxiliary = (prefix - target).square().mean()
    loss = pixel_error + 0.66 * auxiliary + vq_loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    tokenizer.quantizer.revive(latents, ids)
    return loss.detach()


# --- 5.1
def shift(ids, class_tokens):
    inputs = torch.cat([class_tokens[:, None], ids[:, :-1]], dim=1)
    return inputs, ids


# --- 5.2
def ar_block(x: torch.Tensor, weights: dict[str, torch.Tensor], heads: int, rope: torch.Tensor) -> torch.Tensor:
    def rms_norm(x, name):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weights[f"{name}.weight"]

    def linear(x, name):
        return torch.nn.functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def turn(x):  # (B, heads, t, d), in pairs of neighbours
        (cos, sin), (a, b) = rope.unbind(-1), x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)

    def attention(x):
        t = x.shape[1]
        rows = linear(x, "attention.qkv").unflatten(-1, (3, heads, -1))
        q, k, v = rows.permute(2, 0, 3, 1, 4)  # (B, heads, t, d) each
        q, k = turn(rms_norm(q, "attention.q_norm")), turn(rms_norm(k, "attention.k_norm"))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        later = torch.ones(t, t, dtype=torch.bool, device=x.device).triu(1)
        mixed = scores.masked_fill(later, -torch.inf).softmax(-1) @ v
        return linear(mixed.transpose(1, 2).flatten(2), "attention.out")

    x = x + attention(rms_norm(x, "norm1"))
    y = rms_norm(x, "norm2")
    gated = torch.nn.functional.silu(linear(y, "mlp.gate")) * linear(y, "mlp.up")
    return x + linear(gated, "mlp.down")


# --- 5.3
def probabilities(logits, temperature):
    return (logits / temperature).softmax(-1)


# --- 5.4
def ramp(tokens, guidance, power):
    t = torch.arange(tokens) / tokens
    return 1 + (guidance - 1) * (1 - torch.cos(torch.pi * t**power)) / 2


# --- 6.1
def bits_per_image(nats):
    return nats.sum(1) / torch.log(torch.tensor(2.0))


# --- 6.2
def redundancy(counts, nats):
    shares = counts / counts.sum()
    shares = shares[shares > 0]  # a code that never occurs adds nothing
    entropy = -(shares * shares.log()).sum()
    return (entropy - nats.mean()).item()


# --- 6.3
def is_effect(first, second):
    a, b = torch.tensor(first), torch.tensor(second)
    border = 2 * (a.var() + b.var()) ** 0.5
    return bool((a.mean() - b.mean()).abs() > border)


# --- 6.4
def two_part_code(nats: torch.Tensor, decoded: torch.Tensor, pixels: torch.Tensor, grid: int) -> float:
    values = pixels[0].numel()  # 3 * S * S
    bits_of_tokens = nats.sum(1).mean() / torch.log(torch.tensor(2.0))
    levels = 255 * (decoded - pixels)  # (N, 3, S, S)
    rows = levels.square().unflatten(2, (grid, -1))  # (N, 3, G, p, S)
    v = rows.mean((0, 1, 3, 4))  # (G,)
    v = v.clamp(min=1 / 12)  # pixels are whole levels: rounding alone has this variance
    bits_of_a_value = 0.5 * torch.log2(2 * torch.pi * torch.e * v)  # (G,)
    bits_of_error = (values / grid * bits_of_a_value).sum()
    return ((bits_of_tokens + bits_of_error) / values).item()


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


# --- 7.4
def sample(
    ar: torch.nn.Module,
    labels: torch.Tensor,
    noise: torch.Tensor,
    scales: torch.Tensor,
    temperature: float,
    caches: list,
) -> torch.Tensor:
    null = torch.full_like(labels, ar.config.classes)
    x = ar.embed_class(torch.cat([labels, null]))  # (2 B, 1, D)
    ids = []
    for t in range(noise.shape[1]):
        logits = ar.transform(x, caches)[:, -1]  # (2 B, V)
        given, free = logits.chunk(2)
        guided = free + scales[t] * (given - free)
        new = (guided / temperature + noise[:, t]).argmax(-1, keepdim=True)  # (B, 1)
        ids.append(new)
        x = ar.embedding(torch.cat([new, new]))  # (2 B, 1, D), behind what the caches hold
    return torch.cat(ids, 1)


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
def causal_can_read(tokens, pictures):
    prefix = len(tokens[0]) - len(pictures[0])
    for patch in range(len(pictures[0])):
        told = {}
        for sequence, picture in zip(tokens, pictures, strict=True):
            seen = tuple(sequence[: prefix + patch + 1])
            if told.setdefault(seen, picture[patch]) != picture[patch]:
                return False
    return True


# --- 10.3
def excess_bits(p, q):
    there = p > 0  # a picture that never occurs adds nothing
    return (p[there] * torch.log2(p[there] / q[there])).sum().item()


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


# --- 8.4
def nats_along(ar: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    tokens = ids[:, order]  # in the order of reading
    read = ar.embedding(tokens[:, :-1])  # all but the last
    x = torch.cat([ar.embed_class(labels), read], 1)  # (B, T, D)
    table = ar.rope(ids.device)  # (1 + T, d/2, 2)
    class_row, places = table[:1], table[1:]
    rope = torch.cat([class_row, places[order[:-1]]])  # (T, d/2, 2)
    for block in ar.blocks:
        x = block(x, rope)
    log_p = ar.output(ar.norm(x)).log_softmax(-1)  # (B, T, V)
    return -log_p.gather(-1, tokens[..., None])[..., 0]
