"""The tab Reconstruct: a picture through the tokenizer and each decoder."""

import math

from ..core.config import TokenizerConfig
from ..measure.metrics import psnr
from ..model import AliTok
from ..packed import packed
from . import boards
from .examples import DECODERS, Upload, View, subject
from .models import running
from .words import code


def reconstruct(model_name: str, scene: str | None, upload: Upload) -> View:
    """A picture through the tokenizer and every decoder that there is."""
    asked = subject(model_name, scene, upload)
    tokenizer, config = asked.model.tokenizer, asked.model.tokenizer.config
    with running():
        ids = tokenizer.encode(asked.pixels.to(asked.model.device))
        decoded = {stage: packed(tokenizer).decode(ids, stage).float().cpu() for stage in tokenizer.stages}
    quality = {stage: psnr(result, asked.pixels).item() for stage, result in decoded.items()}
    original, figures = AliTok.to_pil(asked.pixels)[0], []
    for stage, result in reversed(decoded.items()):
        slider = boards.compare(original, AliTok.to_pil(result)[0], ("original", DECODERS[stage].lower()))
        figures.append(boards.figure(slider, DECODERS[stage], f"{quality[stage]:.1f} dB PSNR"))
    tokens = ids[0].tolist()
    grid = boards.board(id_cells(tokens), config.grid, "The ids of the tokens", boards.Look(size=0.27))
    figures.append(boards.figure(grid, "All that the decoders get", _of_which(config)))
    prefix = config.prefix_tokens
    rows = [tokens[i : i + config.grid] for i in range(prefix, config.tokens, config.grid)]
    numbers = {"prefix": tokens[:prefix], "grid": rows}
    numbers["psnr"] = {DECODERS[stage].split()[0].lower(): round(value, 2) for stage, value in quality.items()}
    lines = [f"decoded{stage} = model.tokenizer.decode(ids, stage={stage})" for stage in tokenizer.stages]
    lines += [f"print(metrics.psnr(decoded{stage}, pixels))" for stage in tokenizer.stages]
    script = code(*asked.code, "ids = model.tokenizer.encode(pixels)", *lines)
    return View(boards.page(boards.row(figures, 250, 360)), _squeezed(config), numbers, script)


def id_cells(ids: list[int], known: int | None = None) -> list[boards.Cell]:
    """Numbered tiles; the same id has the same colour; those from `known` on are pale."""
    shown = len(ids) if known is None else known
    return [boards.Cell(str(id_), boards.id_colour(id_)) if i < shown else boards.Cell() for i, id_ in enumerate(ids)]


def _of_which(config: TokenizerConfig) -> str:
    patches = f"{config.grid} x {config.grid} for the patches"
    return f"{config.prefix_tokens} of the prefix above, {patches}" if config.prefix_tokens else patches


def _squeezed(config: TokenizerConfig) -> str:
    side, size = config.image_size, math.ceil(config.tokens * math.log2(config.codebook_size) / 8)
    pixels = f"{side} x {side} pixels ({3 * side * side:,} bytes)"
    return f"{pixels} became **{config.tokens} tokens ({size} bytes)**: 1/{round(3 * side * side / size)} of the size."
