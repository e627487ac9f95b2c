"""Printing fails nothing: any encoding, a closed pipe, a full disk."""

import io
import os
import subprocess
import sys

import pytest
from tqdm import tqdm

from alitok_lite.__main__ import main
from alitok_lite.console import lenient_console


@pytest.mark.parametrize(
    ("encoding", "expected"), [("ascii", rb"\u0416\xe9 \ud800"), ("cp1252", b"\\u0416\xe9 \\ud800")]
)
def test_letters_that_a_console_lacks_are_escaped(monkeypatch, encoding, expected):
    for name in ("stdout", "stderr"):
        out = io.TextIOWrapper(io.BytesIO(), encoding, "strict")
        monkeypatch.setattr(sys, name, out)
        with lenient_console():
            print("Жé \ud800", file=getattr(sys, name))
        assert out.buffer.getvalue() == expected + b"\n"
        assert getattr(sys, name) is out


@pytest.fixture
def broken(monkeypatch):
    """A stream into a pipe that nobody reads, in place of stdout or stderr."""
    opened = []

    def put(name):
        read, write = os.pipe()
        os.close(read)
        opened.append(os.fdopen(write, "w"))
        monkeypatch.setattr(sys, name, opened[-1])
        return opened[-1]

    yield put
    for stream in opened:
        stream.close()  # raises if something is left that cannot be written


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_nobody_reads(broken, name):
    stream = broken(name)
    with lenient_console():
        for _ in range(3):
            print("much " * 10_000, file=getattr(sys, name))
        assert list(tqdm(range(5), mininterval=0)) == [0, 1, 2, 3, 4]
        print("little", file=getattr(sys, name))
    assert getattr(sys, name) is stream


def test_a_closed_and_a_missing_console(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stdout", stream)
        with lenient_console():
            print("lost")


class Full(io.StringIO):
    def flush(self):
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_told_on_the_other_stream(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Full())
    with lenient_console():
        print("lost")
    assert capsys.readouterr().err == (
        "alitok_lite: not everything could be printed: [Errno 28] No space left on device\n"
    )


def test_an_error_passes_through(capsys):
    with pytest.raises(ZeroDivisionError), lenient_console():
        print("before")
        1 / 0  # noqa: B018
    assert capsys.readouterr().out == "before\n"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_command_ends_well_where_nobody_reads(folder, tmp_path, broken, name):
    broken(name)
    out = tmp_path / "é.png"
    assert main(["sample", "--model", str(folder), "--device", "cpu", "--num", "1", "--out", str(out)]) == 0
    assert out.exists()


def test_a_program_ends_well_where_nobody_reads(folder, tmp_path):
    """Python flushes once more at its end, and would say so and exit with status 120."""
    out = tmp_path / "é.png"
    command = [sys.executable, "-m", "alitok_lite", "sample", "--model", str(folder), "--device", "cpu", "--num", "1"]
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    error = process.stderr.read()
    assert (process.wait(timeout=120), error) == (0, b"")
    process.stderr.close()
    assert out.exists()
