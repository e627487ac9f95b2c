"""Look-ahead debt: how much a token would give away if the tokens after it could be seen.

An AR model predicts token i from the tokens before it. A masked model of the same size predicts it from all the
others. What the second saves, in nats per token, is the debt that a tokenizer leaves to a model that draws from left to
right. Its mean over the tokens counts what they repeat of each other, whatever the order, since perfect models pay the
same for a sentence read in any order; which places owe it does depend on the order. Never negative, unless the masked
model has learned too little.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.ar import ARModel
from ..core.config import ARConfig
from ..train.run import accelerator_front
from ..train.settings import TrainSettings, learning_rate


class MaskedModel(ARModel):
    """The AR model without its causal mask: every token sees all the others, and itself hidden.

    Shape: MaskedModel(config)((2, 7), (2,)) -> (2, 7, 16)
    """

    def __init__(self, config: ARConfig) -> None:
        super().__init__(config)
        for block in self.blocks:
            block.attention.causal = False

    def forward(self, ids: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits of every token. ids (B, T), where V stands for a hidden token; labels (B,) -> (B, T, V)."""
        tokens = self.embedding(ids)  # row V, which the AR model leaves unused, is the mask token
        return self.transform(torch.cat([self.embed_class(labels), tokens], 1))[:, 1:]


def train_masked(ids: Tensor, labels: Tensor, config: ARConfig, settings: TrainSettings) -> MaskedModel:
    """A masked model of ids (N, T) and labels (N,), trained on their device; on a GPU in mixed precision, compiled.

    It needs several times the steps of an AR model, which learns from every token of a picture at once. Half of the
    pictures of a batch have one hidden token, as in measuring; the others between one and all, which teaches the same
    with more to predict.
    """
    torch.manual_seed(settings.seed)
    device = ids.device
    model = MaskedModel(config).to(device).train()
    model.rope(device)  # moved now, so that compiled code finds it there
    accelerator = accelerator_front() if device.type == "cuda" else None
    network = accelerator.prepare(model) if accelerator else model
    options = {"betas": settings.betas, "weight_decay": settings.weight_decay, "fused": device.type == "cuda"}
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, **options)
    for step in range(settings.steps):
        rows = torch.randint(len(ids), (settings.batch,), device=device)
        wanted = ids[rows].long()  # (B, T)
        hidden = _hidden(*wanted.shape, device)
        logits = network(wanted.masked_fill(hidden, config.codebook_size), labels[rows])
        loss = F.cross_entropy(logits[hidden].float(), wanted[hidden])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
    if accelerator:
        accelerator.unwrap_model(network, keep_fp32_wrapper=False)  # the model itself, in float32 again
    return model.eval()


def _hidden(pictures: int, tokens: int, device: torch.device) -> Tensor:
    """Which tokens are hidden, (B, T): one each in the first half of the pictures, from one to all in the others."""
    count = torch.randint(1, tokens + 1, (pictures, 1), device=device)
    count[: pictures // 2] = 1
    order = torch.rand(pictures, tokens, device=device).argsort(1).argsort(1)  # a random rank for each token
    return order < count


@torch.inference_mode()
def nats_given_others(model: MaskedModel, ids: Tensor, labels: Tensor, batch: int = 500) -> Tensor:
    """Nats of every token given all the others. ids (N, T), labels (N,) -> (N, T), on the CPU."""
    columns = []
    for position in range(ids.shape[1]):
        hidden = ids.clone()
        hidden[:, position] = model.config.codebook_size
        parts = []
        for i in range(0, len(ids), batch):
            logits = model(hidden[i : i + batch], labels[i : i + batch])[:, position].float()  # (B, V)
            parts.append(F.cross_entropy(logits, ids[i : i + batch, position], reduction="none").cpu())
        columns.append(torch.cat(parts))
    return torch.stack(columns, 1)
