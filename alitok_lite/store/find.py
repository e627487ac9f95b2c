"""Where a checkpoint is: a folder, one that came with the package, or on the Hub."""

from pathlib import Path

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"


def bundled() -> list[str]:
    """Names of the checkpoints that came with the package: those with an AR model first, among them "scenes".

    The first is the default.
    """
    found = [path.parent for path in CHECKPOINTS.glob("*/config.json")]
    order = {folder.name: (not (folder / "ar.safetensors").exists(), folder.name != "scenes") for folder in found}
    return sorted(order, key=lambda name: (order[name], name))


def checkpoint_folder(name: str | Path) -> Path:
    """The folder of a checkpoint, given as a folder, a bundled name, or the Hub's owner/name as a string.

    What lies on the Hub is looked up in the local cache first. CheckpointError if there is no such checkpoint.
    """
    for folder in (Path(name), CHECKPOINTS / str(name)):
        if str(name) and (folder / "config.json").is_file():
            return folder
    from . import hub  # needed only here, and slow to import
    from .folder import CheckpointError

    if isinstance(name, str) and hub.is_id(name):
        return hub.download(name)
    known = ", ".join(bundled()) or "none"
    allowed = f"a folder with a config.json, a bundled name ({known}) or the Hub's owner/name"
    raise CheckpointError(f"no checkpoint {str(name)!r}: give {allowed}")
