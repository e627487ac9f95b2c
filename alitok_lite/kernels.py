"""The GPU kernels of `fast.py`, in Triton; import this where Triton is (it comes with torch for CUDA).

Each computes what lines of `layers.py` compute: in float32, rounded to the model's dtype where those round.
"""

import triton
import triton.language as tl


@triton.jit
def read(address, inside):
    """Numbers in float32, 0 where they are not inside."""
    return tl.load(address, inside, 0.0).to(tl.float32)


@triton.jit
def rounded(x, address):
    """x in float32, after rounding to the dtype that lies at the address."""
    return x.to(address.dtype.element_ty).to(tl.float32)


@triton.jit
def add_norm(x, y, weight, out, width, WIDTH: tl.constexpr):
    """x += y, out = RMSNorm(x). One program a row; WIDTH is the power of two that holds `width`."""
    columns = tl.arange(0, WIDTH)
    inside = columns < width
    at = tl.program_id(0) * width + columns
    total = rounded(read(x + at, inside) + read(y + at, inside), x)
    tl.store(x + at, total, inside)
    total *= tl.rsqrt(tl.sum(total * total, 0) / width + 1e-5)
    tl.store(out + at, rounded(total, x) * read(weight + columns, inside), inside)


@triton.jit
def swiglu(both, out, hidden, BLOCK: tl.constexpr):
    """silu(gate) * up, from rows of [gate, up]. One program a row and block of columns."""
    row, columns = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < hidden
    gate = read(both + row * 2 * hidden + columns, inside)
    up = read(both + row * 2 * hidden + hidden + columns, inside)
    tl.store(out + row * hidden + columns, rounded(gate * tl.sigmoid(gate), both) * up, inside)


@triton.jit
def turned(x, weight, cos, sin, pair, inside, SIZE: tl.constexpr):
    """QK-norm and RoPE of one head: the first and the second numbers of its pairs, float32."""
    x0, x1 = read(x + 2 * pair, inside), read(x + 2 * pair + 1, inside)
    scale = tl.rsqrt((tl.sum(x0 * x0, 0) + tl.sum(x1 * x1, 0)) / SIZE + 1e-5)
    x0 = rounded(rounded(x0 * scale, x) * read(weight + 2 * pair, inside), x)
    x1 = rounded(rounded(x1 * scale, x) * read(weight + 2 * pair + 1, inside), x)
    return rounded(x0 * cos - x1 * sin, x), rounded(x1 * cos + x0 * sin, x)


@triton.jit
def attend(
    qkv, q_weight, k_weight, rope, keys, values, out, position,
    room, scale, HEADS: tl.constexpr, SIZE: tl.constexpr, PAIRS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """QK-norm, RoPE, the cache's new entry, attention over all entries. One program a row and head.

    A key lies in the cache as the first numbers of all its pairs, then the second ones. The new entry takes part
    from registers: other threads might not see it in memory yet.
    """
    row, head, now = tl.program_id(0), tl.program_id(1), tl.load(position)
    pair, column = tl.arange(0, PAIRS), tl.arange(0, 2 * PAIRS)
    inside, within = pair < SIZE // 2, column < SIZE
    turn = rope + (now * (SIZE // 2) + pair) * 2
    cos, sin = read(turn, inside), read(turn + 1, inside)
    start = qkv + (row * 3 * HEADS + head) * SIZE
    q0, q1 = turned(start, q_weight, cos, sin, pair, inside, SIZE)
    k0, k1 = turned(start + HEADS * SIZE, k_weight, cos, sin, pair, inside, SIZE)
    v = read(start + 2 * HEADS * SIZE + column, within)

    entry = (row.to(tl.int64) * HEADS + head) * room * SIZE
    tl.store(keys + entry + now * SIZE + pair, k0, inside)
    tl.store(keys + entry + now * SIZE + SIZE // 2 + pair, k1, inside)
    tl.store(values + entry + now * SIZE + column, v, within)

    most = (tl.sum(q0 * k0, 0) + tl.sum(q1 * k1, 0)) * scale
    share, mixed = most * 0 + 1.0, v  # of the new entry alone
    for first in range(0, now, BLOCK):
        places = first + tl.arange(0, BLOCK)
        old = places < now
        at = keys + entry + places[:, None] * SIZE + pair[None, :]
        seen = old[:, None] & inside[None, :]
        scores = tl.sum(read(at, seen) * q0[None, :], 1) + tl.sum(read(at + SIZE // 2, seen) * q1[None, :], 1)
        scores = tl.where(old, scores * scale, float("-inf"))
        higher = tl.maximum(most, tl.max(scores, 0))
        weights, fade = tl.exp(scores - higher), tl.exp(most - higher)
        block = read(values + entry + places[:, None] * SIZE + column[None, :], old[:, None] & within[None, :])
        mixed = mixed * fade + tl.sum(weights[:, None] * block, 0)
        share, most = share * fade + tl.sum(weights, 0), higher
    tl.store(out + (row * HEADS + head) * SIZE + column, mixed / share, within)
