"""PNG, JPEG and WEBP files without their metadata: what a decoder gets is what its pixels need.

Metadata may be damaged or huge (a text of 60 MB, an embedded profile), and a picture is sound all the same. Nothing of
it is read but Exif, for the orientation.
"""

from __future__ import annotations

import io
import os
import struct
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_EXIF = 1 << 16  # bytes that are read; the orientation stands among the first
_NUMBERS = {1: "B", 3: "H", 4: "I"}  # types of Exif that hold a whole number
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_OTHERS = {b"GIF8": "a GIF, which may be an animation", b"BM": "a BMP", b"%PDF": "a PDF"}
_OTHERS |= dict.fromkeys((b"II*\0", b"MM\0*"), "a TIFF")


class Bare(NamedTuple):
    """A file without its metadata."""

    file: BinaryIO
    exif: bytes  # its beginning; empty if there is none
    whole: bool  # False: the file ends too early


class _Parts(io.RawIOBase):
    """Ranges (start, end) of a file, read as one file without being copied."""

    def __init__(self, file: BinaryIO, parts: list[tuple[int, int]]) -> None:
        super().__init__()
        self._file, self._parts, self._place = file, parts, 0
        self._starts = [0, *accumulate(end - start for start, end in parts)]  # of each part, and the end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = (0, self._place, self._starts[-1])[whence] + offset
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        part = bisect_right(self._starts, self._place) - 1
        if part >= len(self._parts):
            return 0
        start, end = self._parts[part]
        start += self._place - self._starts[part]
        self._file.seek(start)
        room = memoryview(buffer)
        data = self._file.read(min(len(room), end - start))
        room[: len(data)] = data
        self._place += len(data)
        return len(data)


def bare(file: BinaryIO) -> Bare:
    """A PNG, JPEG or WEBP file without its metadata; it is read while the result is. ValueError for other files,
    whose message says what they are."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16) or b""  # None from some files of the system
    if head.startswith(_PNG):
        return _bare_png(file, size)
    if head.startswith(_JPEG):
        return _bare_jpeg(file, size)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _bare_webp(file, size)
    other = next((name for start, name in _OTHERS.items() if head.startswith(start)), None)
    other = "a HEIC, an AVIF or a video" if head[4:8] == b"ftyp" else other
    raise ValueError("it is empty" if not size else f"it is {other}" if other else "its format is unknown")


def orientation(exif: bytes) -> int:
    """How a picture is to be turned, 1 to 8 as Exif numbers it; 1, not at all, where Exif is damaged or silent."""
    while exif.startswith(b"Exif\0\0"):  # some writers put the header twice
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, place)
            if tag == 0x0112 and kind in _NUMBERS:
                (value,) = struct.unpack_from(order + _NUMBERS[kind], exif, place + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:  # it ends too early
        pass
    return 1


def _keep(parts: list[tuple[int, int]], start: int, end: int) -> None:
    """Add a range, joined to the last one if they touch."""
    if parts and parts[-1][1] == start:
        start, _ = parts.pop()
    parts.append((start, end))


def _bare_png(file: BinaryIO, size: int) -> Bare:
    """Critical chunks and transparency; of an animation the picture for those who show none."""
    parts, exif, place = [(0, 8)], b"", 8
    while place + 8 <= size:
        file.seek(place)
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        end = place + 12 + length
        if not kind.isalpha():
            _keep(parts, place, size)  # broken, as the decoder will say
            break
        if kind[:1].isupper() or kind == b"tRNS":
            _keep(parts, place, min(end, size))
        if kind == b"eXIf" and not exif:
            exif = file.read(min(length, MAX_EXIF))
        if kind == b"IEND":
            return Bare(io.BufferedReader(_Parts(file, parts)), exif, True)
        place = end
    return Bare(io.BufferedReader(_Parts(file, parts)), exif, False)


def _bare_jpeg(file: BinaryIO, size: int) -> Bare:
    """Everything but comments and what applications add; the headers of JFIF and Adobe say what the colours are."""
    parts, exif, place = [(0, 2)], b"", 2
    while True:
        file.seek(place)
        head = file.read(10)
        length = int.from_bytes(head[2:4], "big")
        if head[:1] != b"\xff" or length < 2 or not 0xC0 <= head[1] < 0xFF or head[1] == 0xDA:
            _keep(parts, place, size)  # the pixels, or something unusual, which the decoder may know
            break
        if head[1] == 0xE1 and head[4:] == b"Exif\0\0" and not exif:
            exif = file.read(max(length - 8, 0))
        if head[1] in (0xE0, 0xEE) or not (0xE0 <= head[1] <= 0xEF or head[1] == 0xFE):
            _keep(parts, place, place + 2 + length)
        place += 2 + length
    file.seek(max(size - MAX_EXIF, 0))
    return Bare(io.BufferedReader(_Parts(file, parts)), exif, b"\xff\xd9" in file.read())


def _bare_webp(file: BinaryIO, size: int) -> Bare:
    """Pictures, transparency and frames."""
    chunks, exif, place = [], b"", 12
    file.seek(4)
    whole = 8 + int.from_bytes(file.read(4), "little") <= size
    while place + 8 <= size:
        file.seek(place)
        head = file.read(8)
        kind, length = head[:4], int.from_bytes(head[4:], "little")
        if kind == b"EXIF" and not exif:
            exif = file.read(min(length, MAX_EXIF))
        if kind in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            chunks.append(head + file.read(length + length % 2))
        place += 8 + length + length % 2
    body = b"WEBP" + b"".join(chunks)
    return Bare(io.BytesIO(b"RIFF" + len(body).to_bytes(4, "little") + body), exif, whole)
