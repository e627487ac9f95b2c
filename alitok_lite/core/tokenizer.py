"""The image tokenizer: a bidirectional encoder, a quantizer, and two decoders over the same tokens.

Stage 1 trains encoder, latent queries and codebook against a *causal* decoder: patch i must come from tokens 0..i,
so the encoder learns tokens that depend on earlier ones only, which is what an autoregressive model can use.
Stage 2 freezes all that and trains a *bidirectional* decoder on the same ids, for better pictures.
A conventional tokenizer (config.aligned False) trains the encoder against a bidirectional decoder at once.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from .config import TokenizerConfig
from .layers import vit_blocks
from .quantizer import VectorQuantizer


class TokenizerOutput(NamedTuple):
    """What a training step needs: reconstruction, prefix outputs (or None), latents, ids, VQ loss."""

    pixels: Tensor  # (B, 3, S, S)
    aux: Tensor | None  # (B, K, 3, p, p)
    latents: Tensor  # (B, T, d), before quantisation
    ids: Tensor  # (B, T)
    vq_loss: Tensor  # ()


def _table(rows: int, width: int) -> nn.Parameter:
    """A learned table of positions, queries or extra tokens: normal with std width^-0.5."""
    table = torch.empty(rows, width)  # on the meta device, random numbers import torch's compiler, for seconds
    return nn.Parameter(table if table.is_meta else torch.randn(rows, width) * width**-0.5)


def _initialise(module: nn.Module) -> None:
    """Linear and convolution weights truncated normal 0.02, biases 0."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Encoder(nn.Module):
    """ViT over patches and latent queries; what stands at the queries afterwards is the latent sequence.

    Shape: Encoder(config)((2, 3, 32, 32)) -> (2, 7, 4)
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        width, patches = config.encoder_width, config.grid**2
        self.patch_embed = nn.Conv2d(3, width, config.patch_size, config.patch_size)
        self.patch_positions = _table(patches, width)
        self.queries = _table(config.tokens, width)
        self.query_positions = _table(config.tokens, width)
        self.norm_in = nn.LayerNorm(width)
        self.blocks = vit_blocks(width, config.encoder_depth, config.encoder_heads, config.encoder_causal)
        self.norm_out = nn.LayerNorm(width)
        self.bottleneck = nn.Linear(width, config.code_dim)
        self.apply(_initialise)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, S, S) in [0, 1], not standardised -> latents (B, T, d): prefix, then image in raster order."""
        patches = rearrange(self.patch_embed(pixels), "b d h w -> b (h w) d") + self.patch_positions
        queries = (self.queries + self.query_positions).expand(len(pixels), -1, -1)  # (B, T, D)
        x = self.norm_in(torch.cat([patches, queries], 1))  # (B, G*G + T, D)
        for block in self.blocks:
            x = block(x)
        return self.bottleneck(self.norm_out(x[:, patches.shape[1] :]))  # (B, T, d)


class PixelHead(nn.Module):
    """One patch of pixels from each position: linear, rearranged to a picture, 1x1 convolution, sigmoid.

    Shape: PixelHead(8, 4)((2, 6, 8), 2, 3) -> (2, 3, 8, 12)
    """

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.linear = nn.Linear(width, 3 * patch**2)
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """x (B, rows * columns, D) -> (B, 3, rows * p, columns * p) in [0, 1]."""
        grid = {"h": rows, "w": columns, "p1": self.patch, "p2": self.patch}
        x = rearrange(self.linear(x), "b (h w) (p1 p2 c) -> b c (h p1) (w p2)", **grid)
        return self.conv(x).sigmoid()


class Decoder(nn.Module):
    """ViT from codes to pixels: causal behind one start token, or bidirectional behind buffer tokens.

    The causal form has no shift: output i has seen the start token and codes 0..i. With a prefix it has a second
    pixel head, whose K outputs the auxiliary loss compares with the top-left patch and the first row.

    Shape: Decoder(config, causal=True)((2, 7, 4)) -> (2, 3, 32, 32)
    """

    def __init__(self, config: TokenizerConfig, causal: bool) -> None:
        super().__init__()
        self.config, self.causal, width = config, causal, config.decoder_width
        # A conventional decoder has one extra token too, so that only the mask separates it from a causal one.
        extra = 1 if causal or not config.aligned else config.buffer_tokens
        self.extra_tokens = _table(extra, width)  # start token or buffer tokens
        self.positions = _table(extra + config.tokens, width)
        self.embed = nn.Linear(config.code_dim, width)
        self.norm_in = nn.LayerNorm(width)
        self.blocks = vit_blocks(width, config.decoder_depth, config.decoder_heads, causal)
        self.norm_out = nn.LayerNorm(width)
        self.head = PixelHead(width, config.patch_size)
        self.aux_head = PixelHead(width, config.patch_size) if causal and config.prefix else None
        self.apply(_initialise)

    def forward(self, codes: Tensor) -> Tensor:
        """codes (B, T, d) -> pixels (B, 3, S, S) in [0, 1]."""
        return self.outputs(codes)[0]

    def outputs(self, codes: Tensor) -> tuple[Tensor, Tensor | None]:
        """The pixels, and the prefix outputs (B, K, 3, p, p) of the same pass, None for a decoder without them."""
        grid, prefix = self.config.grid, self.config.prefix_tokens
        extra = self.extra_tokens.expand(len(codes), -1, -1)
        x = self.norm_in(torch.cat([extra, self.embed(codes)], 1) + self.positions)  # (B, extra + T, D)
        for block in self.blocks:
            x = block(x)
        x = self.norm_out(x)
        pixels = self.head(x[:, -(grid**2) :], grid, grid)  # the image tokens are the last G*G positions
        if self.aux_head is None:
            return pixels, None
        strip = self.aux_head(x[:, 1 : 1 + prefix], 1, prefix)  # (B, 3, p, K * p)
        return pixels, rearrange(strip, "b c h (k w) -> b k c h w", k=prefix)


class Tokenizer(nn.Module):
    """Encoder, quantizer and the decoders that exist: stage 1 (causal), stage 2 (bidirectional), or both.

    Shape: Tokenizer(config)((2, 3, 32, 32), 1) -> (2, 3, 32, 32), (2, 3, 3, 16, 16), (2, 7, 4), (2, 7), ()
    """

    def __init__(self, config: TokenizerConfig, stages: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        if not config.aligned and 1 in stages:
            raise ValueError("a conventional tokenizer (aligned False) has no causal decoder: stages must be (2,)")
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = VectorQuantizer(config.codebook_size, config.code_dim)
        self.decoder1 = Decoder(config, causal=True) if 1 in stages else None
        self.decoder2 = Decoder(config, causal=False) if 2 in stages else None

    @property
    def stages(self) -> tuple[int, ...]:
        """The decoders present: 1 = causal, 2 = bidirectional."""
        return tuple(stage for stage, decoder in ((1, self.decoder1), (2, self.decoder2)) if decoder is not None)

    def decoder(self, stage: int | None = None) -> Decoder:
        """The decoder of a stage, None = the best there is; ValueError for one that is missing."""
        decoders = (1, self.decoder1), (2, self.decoder2)
        found = [decoder for number, decoder in decoders if decoder is not None and (not stage or stage == number)]
        if not found:
            raise ValueError(f"no decoder of stage {stage}; this tokenizer has stages {list(self.stages)}")
        return found[-1]

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Ids of pictures. pixels (B, 3, S, S) in [0, 1] -> (B, T) int64, prefix tokens first.

        Raises ValueError for another shape or for values outside [0, 1].

        Shape: encode((2, 3, 32, 32)) -> (2, 7)
        """
        side = self.config.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, side, side):
            raise ValueError(f"pixels have shape {tuple(pixels.shape)}; this tokenizer takes (B, 3, {side}, {side})")
        if pixels.numel() and not (pixels.min() >= -1e-4 and pixels.max() <= 1 + 1e-4):
            raise ValueError("pixels must be numbers in [0, 1]")
        return self.quantizer(self.encoder(pixels.to(self.encoder.queries.dtype)))[1]

    @torch.no_grad()
    def decode(self, ids: Tensor, stage: int | None = None) -> Tensor:
        """Pictures of ids. (B, T) ints in 0..V-1 -> (B, 3, S, S) in [0, 1].

        `stage` 1: causal decoder, 2: bidirectional decoder, None: the best there is. ValueError for wrong ids or stage.

        Shape: decode((2, 7)) -> (2, 3, 32, 32)
        """
        decoder = self.decoder(stage)
        return decoder(self._codes(ids, decoder))

    @torch.no_grad()
    def decode_with_prefix(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures by the causal decoder, and its prefix outputs (B, K, 3, p, p), which should show the first row.

        Raises ValueError for wrong ids, and without a causal decoder or prefix tokens.

        Shape: decode_with_prefix((2, 7)) -> (2, 3, 32, 32), (2, 3, 3, 16, 16)
        """
        decoder = self.decoder(1)
        pixels, prefix = decoder.outputs(self._codes(ids, decoder))
        if prefix is None:
            raise ValueError("this tokenizer has no prefix tokens, and so no prefix outputs")
        return pixels, prefix

    def _codes(self, ids: Tensor, decoder: Decoder) -> Tensor:
        """Codes (B, T, d) of ids (B, T), in the decoder's dtype; ValueError for wrong ids."""
        wanted, size = self.config.tokens, self.config.codebook_size
        if ids.ndim != 2 or ids.shape[1] != wanted:
            raise ValueError(f"ids have shape {tuple(ids.shape)}; this tokenizer takes (B, {wanted})")
        if ids.is_floating_point() or (ids.numel() and not (ids.min() >= 0 and ids.max() < size)):
            raise ValueError(f"ids must be whole numbers from 0 to {size - 1}")
        return self.quantizer.lookup(ids.long()).to(decoder.positions.dtype)

    def forward(self, pixels: Tensor, stage: int) -> TokenizerOutput:
        """The differentiable path through the decoder of one stage, for training: one pass through each part."""
        latents = self.encoder(pixels)
        codes, ids, vq_loss = self.quantizer(latents)
        decoded, aux = self.decoder(stage).outputs(codes)
        return TokenizerOutput(decoded, aux, latents, ids, vq_loss)
