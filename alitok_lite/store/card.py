"""The model card of a checkpoint: README.md with the metadata that the Hub reads, and the terms of what it has seen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .. import scenes
from ..core.config import ARConfig, TokenizerConfig
from ..files import write_atomically
from .find import checkpoint_folder
from .folder import read_config

MARK = "<!-- Written by alitok_lite with every save; remove this line to keep words of your own. -->"
TAGS = ("image-generation", "image-tokenizer", "autoregressive", "vector-quantization", "alitok", "arxiv:2506.05289")
TEXT = """
{mark}

# An AliTok model

{size} x {size} pixels in {tokens} tokens ({prefix} prefix tokens, {grid} x {grid} image tokens), {codes:,} codes.
{parts}

```python
from alitok_lite import AliTok

model = AliTok.from_pretrained("owner/name")  # this repository, or a folder
```

## What it has seen, and the terms

{seen}

## Classes

{classes}
"""


class Seen(NamedTuple):
    """Training pictures and their terms; an entry of `info["seen"]` in config.json has these keys."""

    data: str
    license: str  # as the Hub names it, such as mit or other; "" if it is not known
    terms: str  # one line for people
    link: str = ""  # to the terms


SCENES = Seen("painted scenes", "mit", "MIT; no picture from anywhere else")
OFFICIAL = Seen("ImageNet, by the authors of AliTok", "", "the official weights state no licence: do not publish them")
OWN = Seen("a folder of pictures", "", "those of these pictures, which are not recorded here")
UNKNOWN = Seen("pictures that are not recorded", "", "those of the pictures that it was trained on")


def seen_in(info: dict | None, classes: list[str]) -> list[Seen]:
    """What a model has seen: the entries of its `info["seen"]`, or what can be told without them."""
    info = info or {}
    if info.get("seen"):
        return [Seen(*(str(entry.get(key, "")) for key in Seen._fields)) for entry in info["seen"]]
    if any("official weights" in str(info.get(part)) for part in ("tokenizer", "ar")):
        return [OFFICIAL]
    return [SCENES if classes == list(scenes.CLASSES) else UNKNOWN]


def with_seen(info: dict, *entries: Seen) -> None:
    """Add what a model has seen to its `info["seen"]`, each once."""
    found = info.setdefault("seen", [])
    found += [entry._asdict() for entry in dict.fromkeys(entries) if entry._asdict() not in found]


def seen_by(name: str | Path) -> list[Seen]:
    """As `seen_in`, of a checkpoint by its name or folder. CheckpointError if there is none."""
    config = read_config(checkpoint_folder(name))
    return seen_in(config.get("info"), config["classes"])


def _metadata(seen: list[Seen], draws: bool) -> str:
    """The YAML block. The licence is that of all that was seen; where they differ, the one that is not plainly MIT."""
    from huggingface_hub import ModelCardData  # slow to import

    strictest = next((entry for entry in seen if entry.license != "mit"), seen[0])
    data = ModelCardData(library_name="alitok_lite", tags=[*TAGS, *([] if draws else ["image-to-image"])])
    if draws:
        data.pipeline_tag = "unconditional-image-generation"
    if strictest.license:
        data.license = strictest.license
    if strictest.license == "other":
        data.license_name, data.license_link = "terms-of-the-training-pictures", strictest.link or None
    return f"---\n{data.to_yaml()}\n---\n"


def card(tokenizer: TokenizerConfig, ar: ARConfig | None, classes: list[str], info: dict | None) -> str:
    """The whole text of a model card."""
    seen = seen_in(info, classes)
    parts = (
        f"An AR model of {ar.depth} layers x {ar.width} samples them." if ar else "It is a tokenizer, without AR model."
    )
    sizes = {"size": tokenizer.image_size, "tokens": tokenizer.tokens, "prefix": tokenizer.prefix_tokens}
    links = [f" ([terms]({entry.link}))" if entry.link else "" for entry in seen]
    lines = [f"- {entry.data}: {entry.terms}{link}" for entry, link in zip(seen, links, strict=True)]
    text = TEXT.format(
        mark=MARK,
        **sizes,
        grid=tokenizer.grid,
        codes=tokenizer.codebook_size,
        parts=parts,
        seen="\n".join(lines),
        classes=", ".join(classes[:200]) + (" ..." if len(classes) > 200 else "") or "none",
    )
    return _metadata(seen, ar is not None) + text


def write_card(folder: Path, config: dict) -> None:
    """Write README.md into a checkpoint folder, from what its config.json holds; a card in other words stays."""
    path = folder / "README.md"
    if os.path.lexists(path) and not (path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace")):
        return
    text = card(config["tokenizer"], config["ar"], config["classes"], config["info"])
    write_atomically(path, text.encode("utf-8", "backslashreplace"))  # folders may have other names
