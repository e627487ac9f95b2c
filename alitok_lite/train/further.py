"""The decoder with which the tokens were learned, trained further over the same tokens (`further` of TrainSettings).

It takes the place of the decoder that the training of the tokenizer left. That one stays in RUN/state, so that
`--replace` begins with it again.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ..core.config import TokenizerConfig
from ..core.tokenizer import Decoder, Tokenizer
from ..model import AliTok
from ..store.folder import CheckpointError
from .state import encoder_sha256, further_in, furthered, load_tensors, name_of, save_tensors


class Outputs(nn.Module):
    """A decoder whose forward pass gives the prefix outputs too, for the auxiliary loss."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.decoder.outputs(codes)


def learned_stage(config: TokenizerConfig) -> int:
    """The stage of the decoder with which the tokens are learned: 1 (causal), or 2 of a conventional tokenizer."""
    return 1 if config.aligned else 2


def decoder_alone(tokenizer: Tokenizer, further: bool) -> tuple[int, nn.Module]:
    """The stage of the decoder that is trained over frozen tokens, and the network to train.

    Raises ValueError where there is no such decoder.
    """
    stage = learned_stage(tokenizer.config) if further else 2
    if stage not in tokenizer.stages:
        raise ValueError(f"the model has no {name_of('decoder', further)} to train")
    decoder = tokenizer.decoder(stage)
    return stage, Outputs(decoder) if further else decoder


def train_further(tokenizer: Tokenizer) -> None:
    """Make the decoder with which the tokens were learned the only one, and trainable.

    Raises CheckpointError for a tokenizer without it.
    """
    stage = learned_stage(tokenizer.config)
    if stage not in tokenizer.stages:
        raise CheckpointError("there is no causal decoder, with which the tokens were learned, to train further")
    if stage == 1:
        tokenizer.decoder2 = None
    tokenizer.decoder(stage).requires_grad_(True)


def learned_path(folder: Path) -> Path:
    """Where a RUN keeps the decoder that the training of its tokenizer left."""
    return folder / "state" / "learned-decoder.safetensors"


def keep_learned(folder: Path) -> None:
    """Keep a RUN's decoder before its file is replaced by that of one trained further; later nothing is done."""
    if not (folder / "config.json").exists() or further_in(folder):
        return
    model = AliTok.from_pretrained(folder, "cpu")
    stage = learned_stage(model.tokenizer.config)
    if stage in model.tokenizer.stages:
        tensors = model.tokenizer.decoder(stage).state_dict()
        save_tensors(learned_path(folder), tensors, {"encoder": encoder_sha256(model)})


def restore_learned(model: AliTok, folder: Path) -> None:
    """Give the model of a RUN whose decoder was trained further the decoder from before that.

    Raises CheckpointError where it was not kept, or is damaged.
    """
    if not furthered(model.info):
        return
    try:
        tensors, origin = load_tensors(learned_path(folder))
        if origin != {"encoder": encoder_sha256(model)}:
            raise ValueError("it belongs to another tokenizer")
        model.tokenizer.decoder(learned_stage(model.tokenizer.config)).load_state_dict(tensors)
    except (ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise CheckpointError(
            f"{learned_path(folder)}, the decoder before it was trained further, cannot be read ({why}): give --from"
            " CHECKPOINT, or train the tokenizer anew"
        ) from error
