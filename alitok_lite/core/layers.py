"""Transformer parts shared by tokenizer and AR model: attention, MLPs, norms, rotary positions, blocks."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def causal_mask(queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
    """Who may attend to whom: True where the query may see the key; the last query sees every key.

    Shape: causal_mask(3, 5) -> (3, 5)
    """
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


class KVCache:
    """Keys and values of one layer, in room reserved in advance: `cat` would copy all of them at every token."""

    def __init__(self, length: int) -> None:
        self.room, self.used = length, 0
        self.k = self.v = torch.empty(0)

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k, v (B, H, t, d) behind what is there; return all keys and values so far."""
        if self.used == 0:
            self.k = k.new_empty(*k.shape[:2], self.room, k.shape[-1])
            self.v = torch.empty_like(self.k)
        end = self.used + k.shape[-2]
        self.k[:, :, self.used : end], self.v[:, :, self.used : end] = k, v
        self.used = end
        return self.k[:, :, :end], self.v[:, :, :end]


class Attention(nn.Module):
    """Multi-head self-attention: plain for the tokenizer; with QK-norm, RoPE and a cache for the AR model.

    Scores and softmax are float32 inside, whatever the input: in the fused kernels too, which round the weights only.

    Shape: Attention(16, 4)((2, 5, 16)) -> (2, 5, 16)
    """

    def __init__(self, width: int, heads: int, causal: bool = False, qk_norm: bool = False, dropout: float = 0) -> None:
        super().__init__()
        self.heads, self.causal, self.dropout = heads, causal, dropout
        self.qkv = nn.Linear(width, 3 * width)  # rows in order q, k, v
        self.q_norm = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, rope: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """x (B, t, D) -> (B, t, D); `rope` (t, d/2, 2) turns queries and keys, `cache` holds earlier ones."""
        q, k, v = rearrange(self.qkv(x), "b t (three h d) -> three b h t d", three=3, h=self.heads)
        q, k = self.q_norm(q), self.k_norm(k)  # (B, H, t, d)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, H, keys, d)
        # differs: the official tokenizer attends in float32; in half precision that only spares the weights a rounding
        y = self.attend(q.to(v.dtype), k.to(v.dtype), v)
        return self.out(rearrange(y, "b h t d -> b t (h d)"))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(d)) v, (B, H, t, d); fused, without the weights, for which see measure/probe.py."""
        # SDPA's is_causal is aligned to the upper left, which is wrong with a cache: then the mask is explicit.
        square, mask = q.shape[-2] == k.shape[-2], None
        if self.causal and not square and q.shape[-2] > 1:
            mask = causal_mask(q.shape[-2], k.shape[-2], q.device)
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=self.causal and square)


class MLP(nn.Module):
    """Linear, exact GELU, linear, four times as wide inside (tokenizer).

    Shape: MLP(8)((2, 5, 8)) -> (2, 5, 8)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x), no biases (AR model).

    Shape: SwiGLU(8, 20)((2, 5, 8)) -> (2, 5, 8)
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + 1e-5) * weight along the last dimension, computed in float32 inside."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5)
    return y.to(x.dtype) * weight


class RMSNorm(nn.Module):
    """`rms_norm` with a weight to learn.

    Shape: RMSNorm(8)((2, 5, 8)) -> (2, 5, 8)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Turn pairs of x (..., t, d), numbers 2j and 2j + 1, by the angles whose cos and sin are in rope (t, d/2, 2).

    Shape: rotate((2, 4, 5, 8), (5, 4, 2)) -> (2, 4, 5, 8)
    """
    cos, sin = rope.unbind(-1)  # (t, d/2)
    x0, x1 = rearrange(x.float(), "... (pairs two) -> two ... pairs", two=2)
    return rearrange([x0 * cos - x1 * sin, x1 * cos + x0 * sin], "two ... pairs -> ... (pairs two)").to(x.dtype)


def _angles(positions: Tensor, pairs: int, base: float = 10000.0) -> Tensor:
    """Angle = position * base^(-2j/d) for pair j of d/2. (n,) -> (n, pairs)"""
    return positions[:, None] * base ** (-torch.arange(pairs, device="cpu") / pairs)


def rope_table(prefix_tokens: int, grid: int, head_dim: int) -> Tensor:
    """Cos and sin for class token, prefix (1D) and image (2D: first half of the pairs row, second column).

    The class token's row is (0, 0), not (1, 0): its query and key become exactly zero, so every later query
    scores it 0 before the softmax. Both image axes start at K, not at 0. The official weights need both.

    Shape: rope_table(3, 2, 8) -> (8, 4, 2)
    """
    # Always on the CPU, in float32: a model built on the meta device must not leave this table there.
    pairs = head_dim // 2
    prefix = _angles(torch.arange(prefix_tokens, device="cpu").float(), pairs)  # (K, d/2)
    axis = _angles(prefix_tokens + torch.arange(grid, device="cpu").float(), pairs // 2)  # (G, d/4)
    rows, columns = axis.repeat_interleave(grid, 0), axis.repeat(grid, 1)  # (G*G, d/4) each
    angles = torch.cat([prefix, torch.cat([rows, columns], 1)])  # (T, d/2)
    table = torch.stack([angles.cos(), angles.sin()], -1)  # (T, d/2, 2)
    return torch.cat([torch.zeros(1, pairs, 2, device="cpu"), table])  # (1 + T, d/2, 2)


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm1(x)), then x + mlp(norm2(x)).

    Shape: Block(8, Attention(8, 2), MLP(8), nn.LayerNorm)((2, 5, 8)) -> (2, 5, 8)
    """

    def __init__(
        self, width: int, attention: nn.Module, mlp: nn.Module, norm: type[nn.Module], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1, self.attention = norm(width), attention
        self.norm2, self.mlp = norm(width), mlp
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rope: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), rope, cache))
        return x + self.dropout(self.mlp(self.norm2(x)))


def vit_blocks(width: int, depth: int, heads: int, causal: bool) -> nn.ModuleList:
    """The tokenizer's blocks: LayerNorm (eps 1e-5), attention, GELU MLP."""
    return nn.ModuleList(Block(width, Attention(width, heads, causal), MLP(width), nn.LayerNorm) for _ in range(depth))
