"""Writing: whole or not at all, through links and into devices, and never over what is no regular file."""

import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from alitok_lite import files
from alitok_lite.files import check_folder, check_output, write_atomically, writing

PACKAGE = Path(files.__file__).parent


def device(path, kind=stat.S_IFCHR, major=1, minor=3):
    """A device node of our own, by default a null device."""
    try:
        os.mknod(path, kind | 0o666, os.makedev(major, minor))
        if kind == stat.S_IFCHR:
            os.close(os.open(path, os.O_WRONLY))
    except (PermissionError, AttributeError):
        pytest.skip("device nodes cannot be made or used here")
    return path


@pytest.fixture
def null(tmp_path):
    return device(tmp_path / "null")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("link", [False, True])
def test_a_null_device_takes_everything_and_stays(tmp_path, null, link):
    path = null
    if link:
        path = tmp_path / "link"
        path.symlink_to("null")
    write_atomically(path, b"much")
    assert stat.S_ISCHR(null.stat().st_mode) and path.is_symlink() == link
    assert names(tmp_path) == (["link", "null"] if link else ["null"])


def test_a_device_is_written_into(tmp_path):
    """A node of the device that is always full."""
    full = device(tmp_path / "full", minor=7)
    with pytest.raises(OSError, match="No space left.*full"):
        write_atomically(full, b"much")
    assert stat.S_ISCHR(full.stat().st_mode)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)  # in the current folder: a long path does not fit


REFUSED = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a socket": make_socket,
    "a block device": lambda path: device(path, stat.S_IFBLK, 7, 250),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("link", [False, True])
def test_what_is_no_file_is_refused_and_stays(tmp_path, monkeypatch, kind, link):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "thing"
    REFUSED[kind](path)
    before = path.stat()
    if link:
        path = tmp_path / "link"
        path.symlink_to("thing")
    with pytest.raises(ValueError, match=f"{path.name}' is {kind}; give the name of a file"):
        write_atomically(path, b"new")
    with pytest.raises(ValueError):
        check_output("--out", str(path))
    assert path.stat() == before and names(tmp_path) == ["link", "thing"][not link :]


@pytest.mark.parametrize("there", [True, False])
def test_behind_links_the_file_is_replaced_and_the_links_stay(tmp_path, there):
    (tmp_path / "data").mkdir()
    target = tmp_path / "data" / "real"
    if there:
        target.write_bytes(b"old")
        os.link(target, tmp_path / "another name")
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to("data/real")
    write_atomically(tmp_path / "first", b"new")
    assert target.read_bytes() == b"new" and not target.is_symlink()
    assert os.readlink(tmp_path / "first") == "second" and os.readlink(tmp_path / "second") == "data/real"
    assert names(tmp_path / "data") == ["real"]
    if there:
        assert (tmp_path / "another name").read_bytes() == b"old"  # replaced, not written into


def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links.*/a'"):
        write_atomically(tmp_path / "a", b"new")
    with pytest.raises(OSError, match="symbolic links"):
        check_output("--out", str(tmp_path / "a"))
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("name", ["file", "é" * 127, "x" * 255])
def test_a_failure_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch, name):
    path = tmp_path / name
    write_atomically(path, [b"o", b"ld"])
    for where in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, where, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError) as error:
                write_atomically(path, b"new")
        assert error.value.filename == str(path) and error.value.errno == 28
        assert path.read_bytes() == b"old" and names(tmp_path) == [name]
    with pytest.raises(FileNotFoundError) as error:
        write_atomically(tmp_path / "none" / "file", b"new")
    assert error.value.filename == str(tmp_path / "none" / "file")  # and not the temporary one


def test_a_block_that_breaks_off_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / "file") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_private_file_stays_private(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_bytes() == b"new"


@pytest.mark.parametrize("links", [True, False])
def test_the_first_of_several_processes_decides(tmp_path, monkeypatch, links):
    if not links:  # as on some network drives
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "not permitted")))
    path = tmp_path / "file"
    for data in (b"first", b"second"):
        write_atomically(path, data, replace=False)
        assert path.read_bytes() == b"first" and names(tmp_path) == ["file"]


def test_no_other_module_writes_files():
    """All go through `writing`; convert moves whole folders, and the .npz is an archive in a file of `writing`."""
    way = re.compile(r"os\.(?:replace|rename|link)\(|open\([^)\n]*\"[wax]b?\"|write_bytes|write_text|save_file\(|savez")
    found = {path.name: way.findall(path.read_text()) for path in PACKAGE.rglob("*.py")}
    assert {name: set(calls) for name, calls in found.items() if calls and name != "files.py"} == {
        "convert.py": {"os.replace("},
        "fid.py": {'open("arr_0.npy", "w"'},
    }


GOOD = ["a.png", "a.PNG", "a", "there.png", "link.png", "null", "nulls", "sub/a.png"]
BAD = {
    "": "it must be a file in a folder that exists",
    " ": "it must be a file",
    ".": "it must be a file",
    "sub": "it must be a file",
    "sub/": "it must be a file",
    "new/": "it must be a file",
    "none/a.png": "in a folder that exists",
    "there.png/a.png": "in a folder that exists",
    "a.jpg": "its name must end in .png",
    "lost.png": "a link into a folder that does not exist",
    "pipe.png": "'pipe.png' is a pipe",
}


@pytest.fixture
def place(tmp_path, null, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("there.png").write_bytes(b"old")
    Path("link.png").symlink_to("sub/a.png")
    Path("lost.png").symlink_to("none/a.png")
    Path("nulls").symlink_to("null")
    os.mkfifo("pipe.png")
    return tmp_path


def test_what_can_be_written_is_known_before(place):
    before = sorted(place.rglob("*"))
    for given in GOOD:
        check_output("--out", given, ".png")
    check_output("--json", "a.txt")
    for given, words in BAD.items():
        with pytest.raises(ValueError) as error:
            check_output("--out", given, ".png")
        assert words in str(error.value) and repr(given) in str(error.value)
    assert sorted(place.rglob("*")) == before
    for given in GOOD:
        write_atomically(given, b"new")


@pytest.mark.parametrize("locked", ["there.png", ".", "null"])
def test_what_may_not_be_written_is_known_before(place, monkeypatch, locked):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and str(path) != locked)
    with pytest.raises(ValueError, match="--out is '(there.png|null)'; you may not write there"):
        check_output("--out", "null" if locked == "null" else "there.png")


def test_the_file_that_is_printed_to_is_not_replaced(place):
    load = f"import sys; sys.path.append({str(PACKAGE)!r}); from files import write_atomically"  # without torch
    code = f"{load}; print('results', flush=True); write_atomically('log', b'other')"
    with open("log", "w") as log:
        run = [sys.executable, "-c", code]
        error = subprocess.run(run, stdout=log, stderr=subprocess.PIPE, text=True, timeout=120).stderr
    assert "ValueError: 'log' is where this program prints" in error
    assert Path("log").read_text() == "results\n"


def test_folders_are_checked_before(place):
    for given in ("sub", "sub/", "new", "new/deep/er", str(place)):
        check_folder("--out", given)
    for given in ("", " ", "there.png", "there.png/sub", "null"):
        with pytest.raises(ValueError, match="must be a folder, or the name of a new one"):
            check_folder("--out", given)
    assert not Path("new").exists()
