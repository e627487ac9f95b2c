"""The autoregressive (AR) model: a plain LLaMA-style transformer over [class token, ids]."""

import torch
from torch import Tensor, nn

from .config import ARConfig
from .layers import Attention, Block, KVCache, RMSNorm, SwiGLU, rope_table


class ARModel(nn.Module):
    """Predicts every id from the class and the ids before it.

    RMSNorm (eps 1e-5), SwiGLU, QK-norm before RoPE (1D on the prefix, 2D on the image); a class is an ordinary
    embedding row in front.

    Shape: ARModel(config)((2, 5), (2,)) -> (2, 5, 16)
    """

    def __init__(self, config: ARConfig) -> None:
        super().__init__()
        self.config = config
        # Rows: V codes, one row that the official table leaves unused, C classes, the null class.
        self.embedding = nn.Embedding(config.codebook_size + config.classes + 2, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(self._block(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.width)
        self.output = nn.Linear(config.width, config.codebook_size)
        # A plain attribute, not a buffer: it must stay float32 and off the meta device, and out of checkpoints.
        self._rope = rope_table(config.prefix_tokens, config.grid, config.width // config.heads)
        self.apply(self._initialise)
        nn.init.zeros_(self.output.weight)  # a fresh model predicts all codes alike: its loss begins at log V

    @staticmethod
    def _block(config: ARConfig) -> Block:
        attention = Attention(config.width, config.heads, causal=True, qk_norm=True, dropout=config.dropout)
        return Block(config.width, attention, SwiGLU(config.width, config.hidden), RMSNorm, config.dropout)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def rope(self, device: torch.device) -> Tensor:
        """Cos and sin of every position, (1 + T, d/2, 2) float32 on the device."""
        if self._rope.device != device:
            with torch.inference_mode(False):  # a table first needed while sampling must serve training too
                self._rope = self._rope.to(device)
        return self._rope

    def embed_class(self, labels: Tensor) -> Tensor:
        """Class tokens. labels (B,) ints in 0..C, C = the null class -> (B, 1, D).

        Shape: embed_class((2,)) -> (2, 1, 8)
        """
        return self.embedding(labels[:, None] + self.config.codebook_size + 1)

    def transform(self, x: Tensor, caches: list[KVCache] | None = None) -> Tensor:
        """Embedded tokens (B, t, D) to logits (B, t, V); with caches, x continues what they hold."""
        start = caches[0].used if caches else 0
        rope = self.rope(x.device)[start : start + x.shape[1]]  # (t, d/2, 2)
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            x = block(x, rope, caches[i] if caches else None)
        return self.output(self.norm(x))  # (B, t, V)

    def forward(self, ids: Tensor, labels: Tensor | None = None) -> Tensor:
        """Teacher-forced logits: position i predicts token i from the class and ids[:, :i].

        ids (B, t) with 1 <= t <= T; labels (B,) in 0..C, None = all null. Returns (B, t, V).
        """
        if not 1 <= ids.shape[1] <= self.config.tokens:
            raise ValueError(f"ids have {ids.shape[1]} tokens; this model takes 1 to {self.config.tokens}")
        if labels is None:
            labels = torch.full((len(ids),), self.config.classes, device=ids.device)
        # The class token predicts the first id, so the last one is predicted but never read.
        return self.transform(torch.cat([self.embed_class(labels), self.embedding(ids[:, :-1])], 1))
