"""The GPU kernels of `steps.py`, in Triton; import this where Triton is (it comes with torch for CUDA).

Each computes what lines of `core/layers.py` compute: in float32, rounded to the model's dtype where those round. Behind
each stands the function that launches it, with the order of its arguments: `add_norm`, `swiglu`, `attend`, `draw`,
`product`. study/techniques.py has the same five functions in plain PyTorch.
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
    rows, hidden = out.shape
    swiglu_kernel[(rows, triton.cdiv(hidden, 1024))](both, out, hidden, 1024)


@triton.jit
def turned(x, weight, column, inside, cos, sin, SIZE: tl.constexpr):
    """QK-norm and RoPE of one head in float32; sin has a minus where a number is the first of its pair."""
    own, other = read(x + column, inside), read(x + (column ^ 1), inside)  # a number and the other one of its pair
    scale = tl.rsqrt(tl.sum(own * own, 0) / SIZE + 1e-5)
    own = rounded(rounded(own * scale, x) * read(weight + column, inside), x)
    other = rounded(rounded(other * scale, x) * read(weight + (column ^ 1), inside), x)
    return rounded(own * cos + other * sin, x)


@triton.jit
def angles(rope, column, inside):
    """Cosine and sine for each number of a head, as `turned` wants them."""
    turn = rope + (column // 2) * 2
    cos, sin = read(turn, inside), read(turn + 1, inside)
    return cos, tl.where(column % 2 == 0, -sin, sin)


@triton.jit
def attend_kernel(
    qkv, q_weight, k_weight, rope, keys, values, out, position, room, scale,
    HEADS: tl.constexpr, SIZE: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """QK-norm, RoPE, the cache's new entry, attention over all entries. One program a row and head.

    Each of BLOCK places keeps a running softmax of its own, and they are joined after the loop: inside it no warp waits
    for another. The new entry comes from registers: other threads might not see it in memory yet.
    """
    follow(EARLY)
    row, head, now = tl.program_id(0), tl.program_id(1), tl.load(position).to(tl.int32)
    column = tl.arange(0, COLUMNS)
    inside = column < SIZE
    cos, sin = angles(rope + now * SIZE, column, inside)
    start = qkv + (row * 3 * HEADS + head) * SIZE
    q = turned(start, q_weight, column, inside, cos, sin, SIZE) * (scale * 1.4426950408889634)
    k = turned(start + HEADS * SIZE, k_weight, column, inside, cos, sin, SIZE)
    v = read(start + 2 * HEADS * SIZE + column, inside)

    entry = (row.to(tl.int64) * HEADS + head) * room * SIZE  # within it, 32 bits do
    tl.store(keys + entry + now * SIZE + column, k, inside)
    tl.store(values + entry + now * SIZE + column, v, inside)

    own = tl.sum(q * k, 0)
    places = tl.arange(0, BLOCK)
    tile = places[:, None] * SIZE + column[None, :]
    most = tl.zeros([BLOCK], tl.float32) + own  # not minus infinity, from which nothing can be subtracted
    share, mixed = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK, COLUMNS], tl.float32)
    for first in tl.range(0, now, BLOCK, num_stages=STAGES):
        old = first + places < now
        seen = old[:, None] & inside[None, :]
        key = tl.load(keys + entry + first * SIZE + tile, seen, 0.0)
        value = tl.load(values + entry + first * SIZE + tile, seen, 0.0)  # on its way while the scores are summed up
        scores = tl.where(old, tl.sum(key.to(tl.float32) * q[None, :], 1), float("-inf"))
        higher = tl.maximum(most, scores)
        weights, fade = tl.exp2(scores - higher), tl.exp2(most - higher)
        mixed = mixed * fade[:, None] + value.to(tl.float32) * weights[:, None]
        share, most = share * fade + weights, higher

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

    Measured on an H100 with heads of 48 numbers. A program's registers decide how many programs read at once, so blocks
    are small. Very few rows leave most of the GPU idle: there more warps make a loop shorter.
    """
    share = 512 if rows <= 4 else 2048  # numbers of a block that a warp holds
    return 32, max(1, 32 * triton.next_power_of_2(size) // share), 1 if rows <= 4 else 3


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
    GATED: tl.constexpr, ADDED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A product of few rows, with what stands before and behind it. One program a block of columns, for all rows.

    RMSNorm divides a row by one number, known only when the whole row was read. It divides the sums just as well, so no
    program waits for the norm. Nor do the weights wait for the last kernel, only its rows do.
    """
    row, column = tl.arange(0, ROWS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    line, other = row[:, None, None], column[None, :, None]  # (ROWS, COLUMNS, BLOCK)
    sums, ups = tl.zeros([ROWS, COLUMNS], tl.float32), tl.zeros([ROWS, COLUMNS], tl.float32)
    squares = tl.zeros([ROWS], tl.float32)
    for first in tl.range(0, width, BLOCK, num_stages=STAGES):
        place = first + tl.arange(0, BLOCK)
        inside = place < width
        seen = (other < columns) & inside
        tile = tl.load(weight + other * width + place, seen, 0.0)
        if GATED:
            up = tl.load(weight + (columns + other) * width + place, seen, 0.0)
        follow(EARLY)
        part = read(x + line * width + place, (line < rows) & inside)
        if norm is not None:
            squares += tl.reshape(tl.sum(part * part, -1), [ROWS])
            part *= read(norm + place, inside)
        sums += tl.sum(part * tile.to(tl.float32), -1)
        if GATED:
            ups += tl.sum(part * up.to(tl.float32), -1)
    scale = 1.0 if norm is None else tl.rsqrt(squares / width + 1e-5)[:, None]
    sums *= scale
    if bias is not None:
        sums += read(bias + column, column < columns)
    if GATED:
        gate = rounded(sums, out)
        sums = rounded(gate * tl.sigmoid(gate), out) * rounded(ups * scale, out)
    at, seen = out + row[:, None] * columns + column, (row[:, None] < rows) & (column < columns)
    if ADDED:
        sums = rounded(sums, out) + read(at, seen)
    tl.store(at, sums, seen)


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, norm: Tensor | None = None, added: bool = False
) -> None:
    """out = x weight^T + bias, or += if `added`; few rows: x (rows, K), weight (columns, K), out (rows, columns).

    With the weight of a norm, RMSNorm(x) is multiplied; a weight of twice the columns gives silu(gate) * up.
    """
    (rows, width), columns = x.shape, out.shape[1]
    padded, at_once, block, warps, stages = blocks(rows, width, columns)
    product_kernel[(triton.cdiv(columns, at_once),)](
        x, norm, weight, bias, out, rows, width, columns, len(weight) > columns, added,
        padded, at_once, block, stages, num_warps=warps, **early(x),
    )  # fmt: skip


def blocks(rows: int, width: int, columns: int) -> tuple[int, int, int, int, int]:
    """How a product is cut: rows with padding, columns of a program, numbers read at once, warps, stages of its loop.

    A warp reads 256 numbers of each of two columns, so that all weights are on their way: the best of 25 ways for B.
    """
    whole = triton.next_power_of_2(width)
    return triton.next_power_of_2(rows), 2, whole, max(1, whole // 256), 1
