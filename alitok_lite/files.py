"""Files: written whole or not at all, and their checksums."""

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_REFUSED = {  # what a name may stand for that is neither replaced nor written into
    "a folder": stat.S_ISDIR,
    "a block device": stat.S_ISBLK,
    "a pipe": stat.S_ISFIFO,
    "a socket": stat.S_ISSOCK,
}


def write_atomically(path: str | Path, data: bytes | Iterable[bytes | memoryview], replace: bool = True) -> None:
    """Write bytes, or pieces of them, as `writing` does: a crash leaves the old file or the new one."""
    with writing(path, replace) as file:
        file.writelines([data] if isinstance(data, bytes) else data)


@contextmanager
def writing(path: str | Path, replace: bool = True) -> Iterator[BinaryIO]:
    """A new binary file that takes the place of `path` when the block ends; after a failure all is as before.

    Behind a symbolic link the file that it points to is replaced, and the link stays. A character device, such as a
    null device, is written into. Where `replace` is False, a file that another process has written meanwhile stays.
    Raises ValueError for a folder, a block device, a pipe and a socket; an OSError names `path`.
    """
    path = Path(path)
    target = _target(path)
    if target is None:
        with _naming(path), open(path, "wb") as file:
            yield file
        return
    # Cut, because a name as long as the file system allows leaves no room for more.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        with _naming(path, temporary):
            with open(temporary, "xb") as file:
                with suppress(OSError):  # no file yet, or a file system without modes
                    shutil.copymode(target, temporary)
                yield file
                file.flush()
                os.fsync(file.fileno())
            _move(temporary, target, replace)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """An OSError of the block names the path that was given."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _move(temporary: Path, target: Path, replace: bool) -> None:
    if replace:
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not target.exists():
            os.replace(temporary, target)


def _target(path: Path) -> Path | None:
    """The regular file that a path stands for, there or not, behind symbolic links; None for a character device.

    Raises ValueError for anything else, and for the file that this program prints to.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        found = path.stat()
    except FileNotFoundError:
        return target
    kind = next((name for name, holds in _REFUSED.items() if holds(found.st_mode)), None)
    if kind:
        raise ValueError(f"{str(path)!r} is {kind}; give the name of a file")
    if stat.S_ISCHR(found.st_mode):
        return None
    if any(os.path.samestat(found, printed) for printed in _printed()):
        raise ValueError(f"{str(path)!r} is where this program prints; give another file")
    return target


def _printed() -> Iterator[os.stat_result]:
    """What stdout and stderr are, where they are open."""
    for number in (1, 2):
        with suppress(OSError):
            yield os.fstat(number)


def check_output(option: str, given: str, suffix: str = "") -> None:
    """Raise a ValueError, before any work is done, if no file could be written to what was given as an option.

    With a `suffix` such as ".png", a file name must end in it or have no ending.
    """
    path = Path(given)
    if not given.strip() or given.endswith(("/", os.sep)) or path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{option} is {given!r}; it must be a file in a folder that exists")
    target = _target(path)
    if target is not None and suffix and path.suffix.lower() not in ("", suffix):
        raise ValueError(f"{option} is {given!r}; its name must end in {suffix}, because that is what is written")
    if target is not None and not target.parent.is_dir():
        raise ValueError(f"{option} is {given!r}, a link into a folder that does not exist")
    places = [path] if target is None else [target.parent, target]
    if not all(os.access(place, os.W_OK) for place in places if place.exists()):
        raise ValueError(f"{option} is {given!r}; you may not write there")


def check_folder(option: str, given: str) -> None:
    """Raise a ValueError, before any work is done, unless an option names a folder, or one that could be made."""
    path = Path(given)
    there = next(folder for folder in (path, *path.parents, Path()) if folder.exists())
    if not given.strip() or not there.is_dir():
        raise ValueError(f"{option} is {given!r}; it must be a folder, or the name of a new one")
    if not os.access(there, os.W_OK):
        raise ValueError(f"{option} is {given!r}; you may not write there")


def file_sha256(path: Path) -> str:
    """Checksum of a file of any size."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is the few lines that git leaves in place of a large one where git-lfs is missing."""
    with open(path, "rb") as file:
        return file.read(64).startswith(b"version https://git-lfs")
