"""The app as a Space on the Hugging Face Hub: which files it is made of, its own README, and how they get there.

A Space is a repository of its own. `git push` of this one would be refused, because the Hub takes binary files only
through its own storage; `upload` sends the files through `huggingface_hub`, which does that.
"""

import re
from pathlib import Path

from .card import seen_by
from .find import bundled
from .hub import check_id, send

ROOT = Path(__file__).resolve().parents[2]  # of the clone
NEEDED = ("app.py", "requirements.txt", "LICENSE")
LEFT = ("__pycache__", "learn", "results")  # folders of the package that the app does not need
README = """---
title: AliTok lite
emoji: 🧩
colorFrom: green
colorTo: indigo
sdk: gradio
sdk_version: {gradio}
python_version: "3.12"
app_file: app.py
pinned: false
license: mit
short_description: Image tokens that a language model can predict
thumbnail: {endpoint}/spaces/{repository}/resolve/main/alitok_lite/sheets/repaint.png
suggested_hardware: zero-a10g
tags:
  - image-generation
  - image-tokenizer
  - autoregressive
  - alitok
  - education
---

# AliTok lite

Watch a small autoregressive model draw token by token, look inside it, and change its tokens. The idea is that of
[AliTok](https://arxiv.org/abs/2506.05289): tokens that depend on earlier tokens only.

![One scene, told by a conventional and by a causal tokenizer](alitok_lite/sheets/repaint.png)

| checkpoint | has seen | terms |
|---|---|---|
{checkpoints}

The app needs no GPU for these. Set the variable `ALITOK_MODELS` to offer other models (folders, bundled names or
`owner/name` on the Hub, with commas between them); for private ones add the secret `HF_TOKEN`.
"""


def files(repository: str, root: Path = ROOT) -> dict[str, Path | bytes]:
    """The files of the Space by their names in it: on this disk, or as bytes.

    ValueError if `root` is no clone of the repository: a wheel has no app.py.
    """
    missing = [name for name in NEEDED if not (root / name).is_file()]
    if missing:
        raise ValueError(f"there is no {missing[0]} in {str(root)!r}: upload a Space from a clone of the repository")
    found: dict[str, Path | bytes] = {name: root / name for name in NEEDED}
    for path in sorted((root / "alitok_lite").rglob("*")):
        inside = path.relative_to(root)
        if path.is_file() and not any(part in LEFT or part.startswith(".") for part in inside.parts):
            found[inside.as_posix()] = path
    return {"README.md": readme(repository, root).encode()} | found


def readme(repository: str, root: Path = ROOT) -> str:
    """The Space's README: metadata for the Hub, a few words, the terms of each checkpoint."""
    from huggingface_hub.constants import ENDPOINT

    lowest = re.search(r"^gradio>=([\d.]+)", (root / "requirements.txt").read_text(encoding="utf-8"), re.M)
    if lowest is None:
        raise ValueError("requirements.txt names no lowest version of gradio")
    gradio = ".".join((lowest[1].split(".") + ["0", "0"])[:3])
    rows = [f"| `{name}` | {seen.data} | {seen.terms} |" for name in bundled() for seen in seen_by(name)]
    return README.format(gradio=gradio, endpoint=ENDPOINT, repository=repository, checkpoints="\n".join(rows))


def upload(repository: str, dry: bool = True, private: bool = False) -> str:
    """Upload the app to the Space owner/name, made where there is none; returns its address.

    A dry run only prints the files. What is in the Space and not among them stays. Needs `hf auth login` once.
    ValueError for a wrong name or outside a clone, CheckpointError when the Hub refuses or cannot be reached.
    """
    check_id(repository)
    chosen, total = files(repository), 0
    for name, content in chosen.items():
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        total += size
        if dry:
            print(f"{size:>12,}  {name}")
    if dry:
        print(f"{len(chosen)} files, {total / 1e6:.0f} MB for the Space {repository}. A dry run: nothing was sent.")
        return ""
    return send(repository, chosen, "space", private, "Upload the alitok_lite app")
