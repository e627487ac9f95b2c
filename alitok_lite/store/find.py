"""Where a checkpoint is: a folder, one that came with the package, or on the Hub."""

from pathlib import Path
from typing import NamedTuple

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"


def bundled() -> list[str]:
    """Names of the checkpoints that came with the package: those with an AR model first, among them "scenes".

    The first is the default.
    """
    found = [path.parent for path in CHECKPOINTS.glob("*/config.json")]
    order = {folder.name: (not (folder / "ar.safetensors").exists(), folder.name != "scenes") for folder in found}
    return sorted(order, key=lambda name: (order[name], name))


class Access(NamedTuple):
    """How a repository on the Hub is fetched; the names are those of huggingface_hub."""

    revision: str | None = None  # branch, tag or commit; None is the branch main
    token: str | bool | None = None  # None is that of `hf auth login`, if there is one
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    force_download: bool = False


def checkpoint_folder(name: str | Path, access: Access | None = None) -> Path:
    """The folder of a checkpoint, given as a folder, a bundled name, or the Hub's owner/name as a string.

    CheckpointError if there is no such checkpoint; ValueError if a revision is asked of one that is on this disk.
    """
    access = access or Access()
    for folder in (Path(name), CHECKPOINTS / str(name)):
        if str(name) and (folder / "config.json").is_file():
            if access.revision is not None or access.force_download:
                wish = "force_download" if access.revision is None else f"revision {access.revision!r}"
                raise ValueError(f"{wish} is for a repository on the Hub; {str(name)!r} is a checkpoint on this disk")
            return folder
    from . import hub  # needed only here, and slow to import
    from .folder import CheckpointError

    if isinstance(name, str) and hub.is_id(name):
        return hub.download(name, access)
    known = ", ".join(bundled()) or "none"
    allowed = f"a folder with a config.json, a bundled name ({known}) or the Hub's owner/name"
    raise CheckpointError(f"no checkpoint {str(name)!r}: give {allowed}")
