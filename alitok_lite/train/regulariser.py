"""Another way to align: a term that asks a tokenizer for codes that follow from earlier ones.

Causally Regularized Tokenization (CRT) keeps the decoder bidirectional. Source: Ramanujan et al., arXiv 2412.16326.
"""

import torch
from torch import Tensor, nn

from ..core.layers import vit_blocks

WIDTH, DEPTH, HEADS = 128, 2, 4


class NextCode(nn.Module):
    """A small causal transformer that predicts each code from those before it; it is trained beside the tokenizer.

    Shape: NextCode(7, 4)((2, 7, 4)) -> ()
    """

    def __init__(self, tokens: int, code_dim: int) -> None:
        super().__init__()
        self.embed, self.output = nn.Linear(code_dim, WIDTH), nn.Linear(WIDTH, code_dim)
        self.start = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(tokens, WIDTH) * WIDTH**-0.5)
        self.blocks, self.norm = vit_blocks(WIDTH, DEPTH, HEADS, True), nn.LayerNorm(WIDTH)

    def forward(self, codes: Tensor) -> Tensor:
        """The share of the variance between pictures that the predictions leave unexplained. codes (B, T, d)

        Its gradient reaches the codes as what is read and as what is predicted.
        """
        codes = codes.float()
        first = self.start.expand(len(codes), -1, -1)
        x = torch.cat([first, self.embed(codes[:, :-1])], 1) + self.positions  # (B, T, WIDTH)
        for block in self.blocks:
            x = block(x)
        error = (self.output(self.norm(x)).float() - codes).square().mean()
        # differs: as a share of the variance; VQ leaves the scale of the codes free, so smaller ones would be a way out
        return error / (codes - codes.mean(0)).square().mean().clamp_min(1e-8)
