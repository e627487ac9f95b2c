"""Checkpoints on the Hugging Face Hub: fetched into its local cache, and uploaded."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from .find import Access
from .folder import CheckpointError, read_config

TIMEOUT = 5  # seconds to wait for a first sign of the Hub
_SILENT = {  # errors of somebody who gets no answer
    "ConnectError",
    "ConnectionError",
    "TimeoutException",
    "Timeout",
    "LocalEntryNotFoundError",
    "OfflineModeIsEnabled",
}
_PART = r"[A-Za-z0-9_-][\w.-]*"


def is_id(name: str) -> bool:
    """Whether a name may be that of a repository, owner/name, or of a folder in one, owner/name/folder.

    It may not if it starts with the name of a folder that exists here: then it is a local path with a mistake in it.
    """
    return bool(re.fullmatch(f"{_PART}/{_PART}(/{_PART})*", name)) and not Path(name.split("/")[0]).is_dir()


def check_id(name: str) -> None:
    """Raise a ValueError unless a name is owner/name."""
    if not re.fullmatch(f"{_PART}/{_PART}", name):
        raise ValueError(f"the repository is {name!r}; it must be owner/name as on the Hub")


def download(name: str, access: Access = Access()) -> Path:  # noqa: B008  it is a tuple
    """The folder in the local cache with the checkpoint of a name for which `is_id` holds.

    The Hub is asked which commit the revision is at; only files of that commit that the cache lacks are fetched, and
    those of a folder that a shared tokenizer lies in. A revision that is a whole commit needs no question. Where the
    Hub does not answer, the commit in the cache serves, and a line on stderr says so. Raises CheckpointError, in one
    sentence and within seconds where there is no network.
    """
    owner, repository, *inside = name.split("/")
    repository = f"{owner}/{repository}"
    path = _fetch(repository, [*inside, "config.json"], access)
    config = read_config(path.parent)
    sibling, commit = config["tokenizer_folder"], path.parents[len(inside)].name
    if sibling and not inside:
        raise CheckpointError(f"{name} points to a tokenizer outside its repository: upload it with push_to_hub")
    pinned = access._replace(revision=commit)  # not "main": files must belong to this config.json
    for part, entry in config["files"].items():
        folder = [*inside[:-1], sibling] if sibling and part != "ar" else inside
        _fetch(repository, [*folder, entry["name"]], pinned)
    return path.parent


def _fetch(repository: str, names: list[str], access: Access) -> Path:
    """A file of a repository, given as folders and name, in the cache; from the network if it is not there yet."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    file = "/".join(names)
    cached = try_to_load_from_cache(repository, file, access.cache_dir, access.revision)
    fixed = access.local_files_only or bool(re.fullmatch(r"[0-9a-f]{40}", access.revision or ""))
    if isinstance(cached, str) and fixed and not access.force_download:
        return Path(cached)
    try:
        if not access.local_files_only:  # a download would try again for minutes before it believes in no network
            address = hf_hub_url(repository, file, revision=access.revision)
            get_hf_file_metadata(address, token=access.token, timeout=TIMEOUT)
        return Path(hf_hub_download(repository, file, etag_timeout=TIMEOUT, **access._asdict()))
    except Exception as error:  # errors of the library, of its HTTP client (which changed), of the disk
        if isinstance(cached, str) and _names(error) & _SILENT and not access.force_download:
            if "OfflineModeIsEnabled" not in _names(error):
                print(f"alitok_lite: the Hub does not answer; {repository} is as it was fetched last", file=sys.stderr)
            return Path(cached)
        raise CheckpointError(f"cannot fetch {file} of {repository} from the Hub: {_reason(error)}") from error


def upload(folder: Path, repository: str, private: bool) -> str:
    """Upload the files of a folder to a repository for a model, made where there is none; returns its address.

    Raises CheckpointError, in one sentence.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return send(repository, files, "model", private, "Upload an alitok_lite checkpoint")


def send(repository: str, files: Mapping[str, Path | bytes], kind: str, private: bool, message: str) -> str:
    """Upload files in one commit to a "model" or "space", made where there is none; returns its address.

    Raises CheckpointError, in one sentence, when the Hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    sdk = "gradio" if kind == "space" else None
    try:
        address = HfApi().create_repo(repository, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        HfApi().create_commit(repository, operations, commit_message=message, repo_type=kind)
    except Exception as error:  # as above
        raise CheckpointError(f"cannot upload to {repository}: {_reason(error)}") from error
    return str(address)


def _names(error: Exception) -> set[str]:
    """Names of an error's classes."""
    return {kind.__name__ for kind in type(error).__mro__}


def _reason(error: Exception) -> str:
    """What went wrong, and what to do about it."""
    names = _names(error)
    if "RepositoryNotFoundError" in names or "GatedRepoError" in names:
        return "there is no such repository, or you may not read it (`hf auth login` if it is yours)"
    if "EntryNotFoundError" in names and "LocalEntryNotFoundError" not in names:
        return "the repository has no such file"
    if "RevisionNotFoundError" in names:
        return "the repository has no such revision"
    if names & _SILENT:
        return "there is no connection to it, and the file is not in the local cache"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no more is known'}"
