"""The GPU kernels of `steps.py`, in Triton; import this where Triton is (it comes with torch for CUDA).

Each computes what lines of `core/layers.py` compute: in float32, rounded to the model's dtype where those round. Behind
each stands the function that launches it. study/techniques.py has the same five functions in plain PyTorch.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..core.layers import Attention
from .steps import StepTensors

FEW_ROWS = 4  # up to so many rows, products are ours; above them cuBLAS's are as fast


@triton.jit
def read(address, inside):
    """Numbers in float32, 0 where they are not inside."""
    return tl.load(address, inside, 0.0).to(tl.float32)


@triton.jit
def rounded(x, address):
    """x in float32, after rounding to the dtype that lies at the address."""
    return x.to(address.dtype.element_ty).to(tl.float32)


@triton.jit
def follow(EARLY: tl.constexpr):
    """Let the next kernel begin, and wait until the last one has ended: what stands before needs nothing of it."""
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


def early(rows: Tensor) -> dict[str, bool]:
    """Options of a launch that may begin before the last kernel ends: of few rows, on a GPU since Hopper."""
    able = len(rows) <= FEW_ROWS and rows.is_cuda and torch.version.cuda and hasattr(tl.extra.cuda, "gdc_wait")
    able = able and torch.cuda.get_device_capability(rows.device) >= (9, 0)
    return {"EARLY": True, "launch_pdl": True} if able else {"EARLY": False}


@triton.jit
def add_norm_kernel(x, y, weight, out, width, WIDTH: tl.constexpr):
    """x += y, out = RMSNorm(x). One program a row; WIDTH is the power of two that holds `width`."""
    columns = tl.arange(0, WIDTH)
    inside = columns < width
    at = tl.program_id(0) * width + columns
    total = rounded(read(x + at, inside) + read(y + at, inside), x)
    tl.store(x + at, total, inside)
    total *= tl.rsqrt(tl.sum(total * total, 0) / width + 1e-5)
    tl.store(out + at, rounded(total, x) * read(weight + columns, inside), inside)


def add_norm(x: Tensor, y: Tensor, weight: Tensor, out: Tensor) -> None:
    """x += y, out = RMSNorm(x), all of (rows, D)."""
    add_norm_kernel[(len(x),)](x, y, weight, out, x.shape[1], triton.next_power_of_2(x.shape[1]))


@triton.jit
def swiglu_kernel(both, out, hidden, BLOCK: tl.constexpr):
    """silu(gate) * up, from rows of [gate, up]. One program a row and block of columns."""
    row, columns = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < hidden
    gate = read(both + row * 2 * hidden + columns, inside)
    up = read(both + row * 2 * hidden + hidden + columns, inside)
    tl.store(out + row * hidden + columns, rounded(gate * tl.sigmoid(gate), both) * up, inside)


def swiglu(both: Tensor, out: Tensor) -> None:
    """silu(gate) * up: both (rows, 2 hidden) are gate and up, out is (rows, hidden)."""
    swiglu_kernel[(len(out), triton.cdiv(out.shape[1], 1024))](both, out, out.shape[1], 1024)


@triton.jit
def turned(own, other, weight, other_weight, cos, sin, out, SIZE: tl.constexpr):
    """QK-norm and RoPE of one head in float32; `other` is of each number the other one of its pair."""
    scale = tl.rsqrt(tl.sum(own * own, 0) / SIZE + 1e-5)
    own = rounded(rounded(own * scale, out) * weight, out)
    other = rounded(rounded(other * scale, out) * other_weight, out)
    return rounded(own * cos + other * sin, out)


@triton.jit
def entries(keys, values, first, now, SIZE: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """A block of the cache: keys and values (BLOCK, COLUMNS), 0 where nothing is written yet."""
    place, column = first + tl.arange(0, BLOCK)[:, None], tl.arange(0, COLUMNS)[None, :]
    seen = (place < now) & (column < SIZE)
    return tl.load(keys + place * SIZE + column, seen, 0.0), tl.load(values + place * SIZE + column, seen, 0.0)


@triton.jit
def mixed_in(key, value, q, left, most, share, mixed):
    """The running softmax of each place of a block, after one more entry at the first `left` places."""
    scores = tl.where(tl.arange(0, key.shape[0]) < left, tl.sum(key.to(tl.float32) * q[None, :], 1), float("-inf"))
    higher = tl.maximum(most, scores)
    weights, fade = tl.exp2(scores - higher), tl.exp2(most - higher)
    return higher, share * fade + weights, mixed * fade[:, None] + value.to(tl.float32) * weights[:, None]


@triton.jit
def attend_kernel(
    qkv, q_weight, k_weight, rope, keys, values, out, position, room, scale, HEADS: tl.constexpr, SIZE: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """QK-norm, RoPE, the cache's new entry, attention over all entries. One program a row and head.

    Two blocks of the cache are on their way before the query is there. Each of BLOCK places keeps a running softmax,
    and they are joined at the end: no warp waits for another before. The new entry comes from registers.
    """
    row, head, now = tl.program_id(0), tl.program_id(1), tl.load(position).to(tl.int32)
    entry = (row.to(tl.int64) * HEADS + head) * room * SIZE
    keys, values = keys + entry, values + entry  # from here on, 32 bits do
    key, value = entries(keys, values, 0, now, SIZE, COLUMNS, BLOCK)
    next_key, next_value = entries(keys, values, BLOCK, now, SIZE, COLUMNS, BLOCK)

    column = tl.arange(0, COLUMNS)
    pair, inside = column ^ 1, column < SIZE
    turn = rope + now * SIZE + (column // 2) * 2
    cos, sin = read(turn, inside), read(turn + 1, inside) * tl.where(column % 2 == 0, -1.0, 1.0)
    q_own, q_pair = read(q_weight + column, inside), read(q_weight + pair, inside)
    k_own, k_pair = read(k_weight + column, inside), read(k_weight + pair, inside)
    follow(EARLY)
    q_at = qkv + (row * 3 * HEADS + head) * SIZE
    k_at, v_at = q_at + HEADS * SIZE, q_at + 2 * HEADS * SIZE
    q, q_other, k = read(q_at + column, inside), read(q_at + pair, inside), read(k_at + column, inside)
    k_other, v = read(k_at + pair, inside), read(v_at + column, inside)
    q = turned(q, q_other, q_own, q_pair, cos, sin, out, SIZE) * (scale * 1.4426950408889634)
    k = turned(k, k_other, k_own, k_pair, cos, sin, out, SIZE)
    tl.store(keys + now * SIZE + column, k, inside)
    tl.store(values + now * SIZE + column, v, inside)

    own = tl.sum(q * k, 0)
    most = tl.zeros([BLOCK], tl.float32) + own  # not minus infinity, from which nothing can be subtracted
    share, mixed = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK, COLUMNS], tl.float32)
    most, share, mixed = mixed_in(key, value, q, now, most, share, mixed)
    most, share, mixed = mixed_in(next_key, next_value, q, now - BLOCK, most, share, mixed)
    for first in tl.range(2 * BLOCK, now, BLOCK, num_stages=STAGES):
        later_key, later_value = entries(keys, values, first, now, SIZE, COLUMNS, BLOCK)
        most, share, mixed = mixed_in(later_key, later_value, q, now - first, most, share, mixed)

    top = tl.max(most, 0)
    fade, weight = tl.exp2(most - top), tl.exp2(own - top)  # of the places, of the new entry
    total = tl.sum(share * fade, 0) + weight
    mixed = tl.sum(mixed * fade[:, None], 0) + v * weight
    tl.store(out + (row * HEADS + head) * SIZE + column, mixed / total, inside)


def attend(
    qkv: Tensor, attention: Attention, tensors: StepTensors, layer: int, out: Tensor,
    cut: tuple[int, int, int] | None = None,
) -> None:  # fmt: skip
    """Attention of a layer between its two products: qkv (rows, 3 D), out (rows, D); `cut` other than `tiles` says."""
    heads, room, size = tensors.keys.shape[2:]
    block, warps, stages = cut or tiles(len(qkv), size)
    attend_kernel[(len(qkv), heads)](
        qkv, attention.q_norm.weight, attention.k_norm.weight, tensors.rope, tensors.keys[layer], tensors.values[layer],
        out, tensors.position, room, size**-0.5,
        heads, size, triton.next_power_of_2(size), block, stages, num_warps=warps, **early(qkv),
    )  # fmt: skip


def tiles(rows: int, size: int) -> tuple[int, int, int]:
    """How `attend` is cut: entries read at once, warps of a program, stages of its loop.

    Measured on an H100 with heads of 48 numbers. The registers of a program decide how many programs read at once, so
    blocks are small. Few rows leave most of the GPU idle: there they are large, which makes a loop shorter.
    """
    return (64, 4, 1) if rows <= 8 else (16, max(1, triton.next_power_of_2(size) // 64), 3)


@triton.jit
def draw_kernel(
    logits, noise, scales, temperature, position, tokens, ids, entropy, codes, room,
    GUIDED: tl.constexpr, CODES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """`sampling.draw_codes` without truncation; guided, rows with the class come first. One program a picture."""
    follow(EARLY)
    picture, pictures, now = tl.program_id(0), tl.num_programs(0), tl.load(position).to(tl.int32)
    code = tl.arange(0, CODES)
    inside = code < codes
    at = picture * codes + code
    x = read(logits + at, inside)
    if GUIDED:
        unconditional = read(logits + pictures * codes + at, inside)
        x = unconditional + tl.load(scales + now) * (x - unconditional)
    x = tl.where(inside, x / tl.load(temperature), float("-inf"))
    below = x - tl.max(x, 0)
    weights = tl.exp(below)
    total = tl.sum(weights, 0)
    mean = tl.sum(tl.where(inside, weights * below, 0.0), 0) / total
    tl.store(entropy + picture, tl.log(total) - mean)
    sampled = tl.argmax(x + read(noise + at, inside), 0)
    sampled = tl.minimum(sampled, codes - 1)  # whatever the logits are, it is a row of the embedding table
    tl.store(ids + picture * room + now, sampled)
    tl.store(tokens + picture, sampled)
    if GUIDED:
        tl.store(tokens + pictures + picture, sampled)


def draw(logits: Tensor, tensors: StepTensors) -> None:
    """Guidance, temperature, entropy and the sampled token of each picture; logits (rows, V)."""
    (pictures, codes), (copies, _) = tensors.noise.shape, tensors.tokens.shape
    draw_kernel[(pictures,)](
        logits, tensors.noise, tensors.scales, tensors.temperature, tensors.position, tensors.tokens, tensors.ids,
        tensors.entropy, codes, tensors.ids.shape[1], copies == 2, triton.next_power_of_2(codes), num_warps=8,
        **early(logits),
    )  # fmt: skip


@triton.jit
def product_kernel(
    x, norm, weight, bias, out, rows, width, columns,
    NORMED: tl.constexpr, BIASED: tl.constexpr, GATED: tl.constexpr, ADDED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A product of few rows, with what stands before and behind it. One program a block of columns, for all rows.

    RMSNorm divides a row by one number, known only when the whole row was read. It divides the sums just as well, so no
    program waits for the norm. Nor does anything that is learned wait for the last kernel, only its rows do.
    """
    row, column, place = tl.arange(0, ROWS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS), tl.arange(0, WIDTH)
    line, other, inside = row[:, None, None], column[None, :, None], place < width  # (ROWS, COLUMNS, WIDTH)
    tile = tl.load(weight + other * width + place, (other < columns) & inside, 0.0)
    if GATED:
        up = tl.load(weight + (columns + other) * width + place, (other < columns) & inside, 0.0)
    gain = read(norm + place, inside) if NORMED else 1.0
    shift = read(bias + column, column < columns) if BIASED else 0.0
    follow(EARLY)
    at, seen = out + row[:, None] * columns + column, (row[:, None] < rows) & (column < columns)
    part = read(x + line * width + place, (line < rows) & inside)
    if ADDED:
        before = read(at, seen)
    scale = 1.0
    if NORMED:
        scale = tl.rsqrt(tl.reshape(tl.sum(part * part, -1), [ROWS]) / width + 1e-5)[:, None]
    part *= gain
    sums = tl.sum(part * tile.to(tl.float32), -1) * scale + shift
    if GATED:
        gate, ups = rounded(sums, out), tl.sum(part * up.to(tl.float32), -1) * scale
        sums = rounded(gate * tl.sigmoid(gate), out) * rounded(ups, out)
    if ADDED:
        sums = rounded(sums, out) + before
    tl.store(at, sums, seen)


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, norm: Tensor | None = None, added: bool = False
) -> None:
    """out = x weight^T + bias, or += if `added`; few rows: x (rows, K), weight (columns, K), out (rows, columns).

    With the weight of a norm, RMSNorm(x) is multiplied; a weight of twice the columns gives silu(gate) * up.
    """
    (rows, width), columns = x.shape, out.shape[1]
    whole = triton.next_power_of_2(width)
    at_once, warps = blocks(rows, whole, norm is not None)
    # Tensors even where nothing is read: a C compiler takes a third of a second for each combination of types.
    product_kernel[(triton.cdiv(columns, at_once),)](
        x, weight if norm is None else norm, weight, weight if bias is None else bias, out, rows, width, columns,
        norm is not None, bias is not None, len(weight) > columns, added,
        triton.next_power_of_2(rows), at_once, whole, num_warps=warps, **early(x),
    )  # fmt: skip


def blocks(rows: int, whole: int, normed: bool) -> tuple[int, int]:
    """How a product is cut: columns of a program and its warps, which share rows of `whole` numbers.

    Measured for B and XL on an H100: each of twelve ways for each product, by the time of a whole step. Few warps leave
    room for the programs of the next kernel; where a norm has to be summed up, they also wait less for each other.
    """
    if rows > 2:
        return 2, max(1, whole // 512)
    return 2, max(1, whole // 1024 if normed else min(whole // 256, max(4, whole // 512)))
