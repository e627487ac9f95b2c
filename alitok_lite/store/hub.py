"""Checkpoints on the Hugging Face Hub: fetched into the local cache, which is always looked at first."""

import re
from pathlib import Path

from .folder import CheckpointError, read_config

TIMEOUT = 5  # seconds to wait for a first sign of the Hub


def is_id(name: str) -> bool:
    """Whether a name may be that of a repository, owner/name, or of a folder in one, owner/name/folder.

    It may not if it starts with the name of a folder that exists here: then it is a local path with a mistake in it.
    """
    part = r"[A-Za-z0-9_-][\w.-]*"
    return bool(re.fullmatch(f"{part}/{part}(/{part})*", name)) and not Path(name.split("/")[0]).is_dir()


def download(name: str) -> Path:
    """The folder in the local cache with the checkpoint of a name for which `is_id` holds.

    Only what is missing there is fetched, so a checkpoint that is complete needs no network, and stays what it is
    until it is removed from the cache. The folder that a shared tokenizer lies in is fetched too. Raises
    CheckpointError, in one sentence and within seconds where there is no network.
    """
    owner, repository, *inside = name.split("/")
    repository = f"{owner}/{repository}"
    path = _fetch(repository, [*inside, "config.json"], None)
    config = read_config(path.parent)
    sibling, commit = config["tokenizer_folder"], path.parents[len(inside)].name
    if sibling and not inside:
        raise CheckpointError(f"{name} points to a tokenizer outside its repository: upload it with push_to_hub")
    for part, entry in config["files"].items():
        folder = [*inside[:-1], sibling] if sibling and part != "ar" else inside
        _fetch(repository, [*folder, entry["name"]], commit)  # not of "main": it must belong to this config.json
    return path.parent


def _fetch(repository: str, names: list[str], commit: str | None) -> Path:
    """A file of a repository, given as folders and name, in the cache; from the network if it is not there yet."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    file = "/".join(names)
    cached = try_to_load_from_cache(repository, file, revision=commit)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # The download itself would try again for minutes before it believes that there is no network.
        get_hf_file_metadata(hf_hub_url(repository, file, revision=commit), timeout=TIMEOUT)
        return Path(hf_hub_download(repository, file, revision=commit))
    except Exception as error:  # errors of the library, of its HTTP client (which changed), of the disk
        raise CheckpointError(f"cannot fetch {file} of {repository} from the Hub: {_reason(error)}") from error


def upload(folder: Path, repository: str, private: bool) -> str:
    """Upload the files of a folder to a repository, made where there is none; returns its address.

    Raises CheckpointError, in one sentence.
    """
    from huggingface_hub import HfApi

    try:
        address = HfApi().create_repo(repository, private=private, exist_ok=True)
        HfApi().upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload an alitok_lite checkpoint")
    except Exception as error:  # as above
        raise CheckpointError(f"cannot upload to {repository}: {_reason(error)}") from error
    return str(address)


def _reason(error: Exception) -> str:
    """What went wrong, and what to do about it."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "RepositoryNotFoundError" in names or "GatedRepoError" in names:
        return "there is no such repository, or you may not read it (`hf auth login` if it is yours)"
    if "EntryNotFoundError" in names and "LocalEntryNotFoundError" not in names:
        return "the repository has no such file"
    if names & {"ConnectError", "ConnectionError", "TimeoutException", "Timeout", "LocalEntryNotFoundError"}:
        return "there is no connection to it, and the file is not in the local cache"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no more is known'}"
