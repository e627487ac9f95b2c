"""User-supplied pictures, PNGs with text, contact sheets."""

import io
import os
import random
import socket
import stat
import struct
import threading
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, PngImagePlugin

from alitok_lite.data import images
from alitok_lite.data.images import load_picture, save_png, sheet


def colours(pixels: torch.Tensor) -> list[tuple[int, int, int]]:
    """The colours at the centre of the four quarters: top left, top right, bottom left, bottom right."""
    size = pixels.shape[-1]
    near, far = size // 4, 3 * size // 4
    values = (pixels[0] * 255).round().int()
    return [tuple(values[:, y, x].tolist()) for y in (near, far) for x in (near, far)]


def quarters(mode: str = "RGB", size: int = 32) -> Image.Image:
    """Red, green / blue, white."""
    image = Image.new("RGB", (size, size), "white")
    half = size // 2
    for place, colour in zip(((0, 0), (half, 0), (0, half)), ("red", "lime", "blue"), strict=True):
        image.paste(colour, (*place, place[0] + half, place[1] + half))
    return image.convert(mode)


RED, LIME, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def close(found: list[tuple[int, int, int]], wanted: list[tuple[int, int, int]], tolerance: int = 3) -> bool:
    return np.abs(np.array(found) - np.array(wanted)).max() <= tolerance


def refused(path: Path, *words: str) -> None:
    """load_picture raises a single sentence that names the file but no folder."""
    with pytest.raises(ValueError) as caught:
        load_picture(path, 16)
    text = str(caught.value)
    assert path.name in text and str(path.parent) not in text and "\n" not in text
    assert "PNG, JPEG or WEBP" in text
    for word in words:
        assert word in text
    assert type(caught.value) is ValueError


@pytest.mark.parametrize("name", ["a.png", "a.webp", "A.JPEG"])
def test_formats(tmp_path, name):
    quarters(size=64).save(tmp_path / name, quality=95)
    pixels = load_picture(tmp_path / name, 16)
    assert pixels.shape == (1, 3, 16, 16) and pixels.dtype == torch.float32
    assert pixels.min() >= 0 and pixels.max() <= 1
    assert close(colours(pixels), [RED, LIME, BLUE, WHITE], 12)


def test_same_size_is_exact(tmp_path):
    data = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(data).save(tmp_path / "a.png")
    pixels = load_picture(str(tmp_path / "a.png"), 16)
    assert np.array_equal((pixels[0] * 255).round().permute(1, 2, 0).numpy().astype(np.uint8), data)


def test_centre_square(tmp_path):
    wide = Image.new("RGB", (96, 32), "black")
    wide.paste(quarters(), (32, 0))
    wide.save(tmp_path / "wide.png")
    assert close(colours(load_picture(tmp_path / "wide.png", 16)), [RED, LIME, BLUE, WHITE])


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_exif_orientation(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    quarters(size=64).save(tmp_path / f"turned.{suffix}", exif=exif, quality=95)
    assert close(colours(load_picture(tmp_path / f"turned.{suffix}", 16)), [BLUE, RED, WHITE, LIME], 12)


def test_cmyk_jpeg(tmp_path):
    quarters("CMYK", 64).save(tmp_path / "cmyk.jpg", quality=95)
    assert Image.open(tmp_path / "cmyk.jpg").mode == "CMYK"
    assert close(colours(load_picture(tmp_path / "cmyk.jpg", 16)), [RED, LIME, BLUE, WHITE], 12)


def test_sixteen_bit_grey_is_scaled(tmp_path):
    data = np.full((16, 16), 65535, np.uint16)
    data[:8], data[:, :8] = 32768, 2550  # rounds to 10; the bottom right stays white
    Image.fromarray(data).save(tmp_path / "deep.png")
    assert colours(load_picture(tmp_path / "deep.png", 16)) == [(10,) * 3, (128,) * 3, (10,) * 3, WHITE]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_modes(tmp_path, mode):
    image = quarters()
    image.convert(mode).save(tmp_path / "a.png")
    wanted = [RED, LIME, BLUE, WHITE]
    if mode in ("L", "LA"):
        wanted = [(76,) * 3, (150,) * 3, (29,) * 3, WHITE]
    pixels = load_picture(tmp_path / "a.png", 32)
    if mode == "1":  # dithered
        assert set(pixels.unique().tolist()) <= {0.0, 1.0} and colours(pixels)[3] == WHITE
    else:
        assert close(colours(pixels), wanted)


def test_transparency_is_white(tmp_path):
    image = quarters("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 16, 16))
    image.paste((255, 0, 0, 128), (16, 0, 32, 16))
    image.save(tmp_path / "a.png")
    assert close(colours(load_picture(tmp_path / "a.png", 32)), [WHITE, (255, 127, 127), BLUE, WHITE])
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "p.png", transparency=1)
    assert close(colours(load_picture(tmp_path / "p.png", 16)), [WHITE] * 4)


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    for name in ("a.webp", "a.png"):
        assert getattr(Image.open(tmp_path / name), "n_frames", 1) == 2
        assert close(colours(load_picture(tmp_path / name, 16)), [RED] * 4)


def test_jpeg_is_not_decoded_whole(tmp_path, monkeypatch):
    Image.new("RGB", (1024, 1024), "red").save(tmp_path / "big.jpg")
    sizes = []
    real = images._to_rgb
    monkeypatch.setattr(images, "_to_rgb", lambda image: sizes.append(image.size) or real(image))
    assert close(colours(load_picture(tmp_path / "big.jpg", 64)), [RED] * 4)
    assert sizes == [(128, 128)]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiny_png(width: int, height: int) -> bytes:
    """A valid one-bit black PNG of any size: a few kB for gigapixels."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(height * (1 + (width + 7) // 8)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_bombs(tmp_path, recwarn, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("decoded")

    (tmp_path / "ok.png").write_bytes(tiny_png(4000, 3000))
    assert load_picture(tmp_path / "ok.png", 16).max() == 0
    monkeypatch.setattr(Image.Image, "load", never)
    for side in (5000, 13000, 20000):
        (tmp_path / f"{side}.png").write_bytes(tiny_png(side, side))
        assert (tmp_path / f"{side}.png").stat().st_size < 60_000
        refused(tmp_path / f"{side}.png", "too many", "24 million")
    assert not list(recwarn)


@pytest.mark.parametrize("size", [(7, 100), (100, 7), (1, 1)])
def test_too_small(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "small.png")
    refused(tmp_path / "small.png", f"{size[0]} x {size[1]}", "too few")


def test_smallest(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "eight.png")
    assert close(colours(load_picture(tmp_path / "eight.png", 64)), [RED] * 4)


def test_not_a_file(tmp_path):
    refused(tmp_path / "missing.png", "no file")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", "is a folder")
    (tmp_path / "loop.png").symlink_to("loop.png")
    refused(tmp_path / "loop.png", "cannot be opened")
    with pytest.raises(ValueError, match="'a.x00b.png' cannot be opened: (stat: )?embedded null"):
        load_picture("a\0b.png", 16)


def special(path: Path, kind: str) -> None:
    """A pipe that nobody writes to, a socket, or a device that has no driver."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(path))  # whole paths may be too long
    else:
        try:
            os.mknod(path, 0o600 | (stat.S_IFCHR if kind == "device" else stat.S_IFBLK), os.makedev(255, 255))
        except PermissionError:
            pytest.skip("needs the right to make devices")


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "block device"])
@pytest.mark.parametrize("linked", [False, True])
def test_pipes_sockets_and_devices_are_refused_unopened(tmp_path, monkeypatch, kind, linked):
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
    special(tmp_path / "a.png", kind)
    path = tmp_path / "b.png" if linked else tmp_path / "a.png"
    if linked:
        path.symlink_to("a.png")
    thread = threading.Thread(target=refused, args=(path, "a device, a pipe or a socket"), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    refused(path, "a device, a pipe or a socket")  # once more, where a failure is seen


def test_a_file_that_turns_into_a_pipe(tmp_path, monkeypatch):
    """Between the look at it and its opening."""
    os.mkfifo(tmp_path / "pipe")
    quarters().save(tmp_path / "a.png")
    opened, real = [], os.open
    monkeypatch.setattr(os, "open", lambda _, flags: opened.append(real(tmp_path / "pipe", flags)) or opened[0])
    refused(tmp_path / "a.png", "a pipe")
    with pytest.raises(OSError):
        os.fstat(opened[0])  # closed


def test_open_files(tmp_path):
    quarters().save(tmp_path / "a.png")
    wanted = load_picture(tmp_path / "a.png", 16)
    memory = io.BytesIO((tmp_path / "a.png").read_bytes())
    assert torch.equal(load_picture(memory, 16), wanted)
    with open(tmp_path / "a.png", "rb") as file:
        assert torch.equal(load_picture(file, 16), wanted) and not file.closed
    memory = io.BytesIO(b"no")
    memory.name = "/somewhere/b.png"
    with pytest.raises(ValueError, match="^'b.png' is not a picture"):
        load_picture(memory, 16)
    with pytest.raises(ValueError, match="^'picture' is not a picture"):
        load_picture(io.BytesIO(b"no"), 16)


def test_headers_alone(tmp_path, monkeypatch):
    quarters(size=40).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with images.open_picture(tmp_path / "a.png") as picture:
        assert picture.image.size == (40, 40) and picture.turn is None and picture.whole


def test_not_a_picture(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "vector.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    for suffix in ("gif", "bmp", "tiff", "pdf"):
        quarters().save(tmp_path / f"a.{suffix}")
    (tmp_path / "disguised.png").write_bytes((tmp_path / "a.bmp").read_bytes())
    reasons = {"empty.png": "it is empty", "text.png": "its format is unknown", "vector.svg": "its format is unknown"}
    reasons |= {"phone.heic": "it is a HEIC", "a.gif": "it is a GIF, which may be an animation", "a.pdf": "it is a PDF"}
    reasons |= {"a.bmp": "it is a BMP", "disguised.png": "it is a BMP", "a.tiff": "it is a TIFF"}
    for name, reason in reasons.items():
        refused(tmp_path / name, f"is not a picture that can be read: {reason}")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_truncated(tmp_path, suffix):
    """Wherever a file is cut: said to be cut short, not to be damaged otherwise."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    path, data = tmp_path / f"cut.{suffix}", buffer.getvalue()
    for size in (16, 20, 30, 100, 600, len(data) // 2, len(data) - 1000):
        path.write_bytes(data[:size])
        refused(path, "is damaged: the file is cut short")


def test_damaged_checksum(tmp_path):
    quarters().save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    place = data.index(b"IDAT")
    data[place + 10] ^= 255
    (tmp_path / "bad.png").write_bytes(data)
    refused(tmp_path / "bad.png", "is damaged and cannot be decoded")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_random_damage_is_one_sentence_or_none(tmp_path, suffix):
    buffer, chance, path = io.BytesIO(), random.Random(0), tmp_path / f"odd.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6
    name = {"jpg": "JPEG"}.get(suffix, suffix.upper())
    quarters(size=48).save(buffer, name, exif=exif, icc_profile=bytes(300))
    for _ in range(300):
        data = bytearray(buffer.getvalue())
        for _ in range(chance.choice((1, 3, 30))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
        try:
            assert load_picture(path, 16).shape == (1, 3, 16, 16)
        except ValueError as error:
            assert str(error).startswith(f"'odd.{suffix}'") and "PNG, JPEG or WEBP" in str(error)


# ---------------------------------------------------------------- metadata


def chunked(add) -> PngImagePlugin.PngInfo:
    """Text for a PNG."""
    text = PngImagePlugin.PngInfo()
    add(text)
    return text


def with_segments(data: bytes, marker: int, start: bytes, content: bytes) -> bytes:
    """A JPEG with segments of an application, 65 kB each, behind its first two bytes."""
    pieces = [start + content[i : i + 65000] for i in range(0, len(content), 65000)]
    return data[:2] + b"".join(struct.pack(">BBH", 255, marker, len(p) + 2) + p for p in pieces) + data[2:]


TEXT, BYTES = "x" * 60_000_000, random.Random(0).randbytes(1000) * 60_000  # the latter for profiles
PNGS = {
    "zTXt": lambda size: {"pnginfo": chunked(lambda text: text.add_text("a", TEXT[:size], zip=True))},
    "iTXt": lambda size: {"pnginfo": chunked(lambda text: text.add_itxt("prompt", TEXT[:size], zip=True))},
    "tEXt": lambda size: {"pnginfo": chunked(lambda text: text.add_text("a", TEXT[:size]))},
    "plain iTXt": lambda size: {"pnginfo": chunked(lambda text: text.add_itxt("a", TEXT[:size]))},
    "profile": lambda size: {"icc_profile": BYTES[:size]},
    "Exif": lambda size: {"exif": b"Exif\0\0" + BYTES[:size]},
}
WEBPS = {"profile": "icc_profile", "Exif": "exif", "XMP": "xmp"}
JPEGS = {"Exif": (0xE1, b"Exif\0\0"), "XMP": (0xE1, b"http://ns.adobe.com/xap/1.0/\0"), "comment": (0xFE, b"")}
JPEGS |= {"profile": (0xE2, b"ICC_PROFILE\0\1\1"), "Photoshop": (0xED, b"Photoshop 3.0\0"), "MPF": (0xE2, b"MPF\0")}
CASES = [("png", kind) for kind in PNGS] + [("webp", kind) for kind in WEBPS] + [("jpg", kind) for kind in JPEGS]


@pytest.mark.parametrize("size", [2_000_000, pytest.param(60_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix, kind", CASES)
def test_metadata_does_not_matter(tmp_path, suffix, kind, size):
    """However large, or no metadata at all but noise: the same picture, and none of it in memory."""
    path, plain = tmp_path / f"a.{suffix}", tmp_path / f"plain.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    quarters().save(plain, **options)
    if suffix == "png":
        quarters().save(path, **PNGS[kind](size))
    elif suffix == "webp":
        quarters().save(path, **options, **{WEBPS[kind]: BYTES[:size]})
    else:
        path.write_bytes(with_segments(plain.read_bytes(), *JPEGS[kind], BYTES[:size]))
    wanted = load_picture(plain, 16)
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = load_picture(path, 16)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
        path.unlink()
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_metadata_before_exif_and_a_doubled_header(tmp_path, suffix):
    """The orientation is found behind a large profile, and with the header of Exif written several times."""
    exif, path = Image.Exif(), tmp_path / f"turned.{suffix}"
    exif[0x0112] = 6
    for header in (b"", b"Exif\0\0", b"Exif\0\0" * 2, b"Exif\0\0" * 4):
        content = header + exif.tobytes().removeprefix(b"Exif\0\0")
        if suffix == "jpg":
            quarters(size=64).save(path, quality=95)
            content = content if header else b"Exif\0\0" + content
            path.write_bytes(with_segments(path.read_bytes(), 0xE1, b"", content))
            path.write_bytes(with_segments(path.read_bytes(), 0xE2, b"ICC_PROFILE\0\1\1", BYTES[:2_000_000]))
        else:
            quarters(size=64).save(path, exif=content, icc_profile=BYTES[:900_000])
        assert close(colours(load_picture(path, 16)), [BLUE, RED, WHITE, LIME], 12)


@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation(tmp_path, value):
    """As Pillow turns it."""
    exif = Image.Exif()
    exif[0x0112] = value
    quarters().save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        ImageOps.exif_transpose(image).save(tmp_path / "upright.png")
    assert torch.equal(load_picture(tmp_path / "a.png", 32), load_picture(tmp_path / "upright.png", 32))


def test_only_exif_turns(tmp_path):
    """Some versions of Pillow also look into XMP: here every version gives the same picture."""
    text = chunked(lambda text: text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>'))
    quarters().save(tmp_path / "a.png", pnginfo=text)
    assert close(colours(load_picture(tmp_path / "a.png", 16)), [RED, LIME, BLUE, WHITE])


def test_segments_that_say_what_the_colours_are_stay(tmp_path):
    """Adobe's segment here calls three channels RGB that are YCbCr elsewhere."""
    quarters(size=64).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    data = data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]  # without the segment of JFIF
    (tmp_path / "b.jpg").write_bytes(with_segments(data, 0xEE, b"Adobe", bytes([0, 100, 0, 0, 0, 0, 0])))
    with Image.open(tmp_path / "b.jpg") as image:
        image.save(tmp_path / "b.png")
    found = colours(load_picture(tmp_path / "b.jpg", 64))
    assert close(found, colours(load_picture(tmp_path / "b.png", 64))) and not close(
        found, [RED, LIME, BLUE, WHITE], 50
    )


def test_many_small_pieces(tmp_path):
    """Pixels in a thousand chunks with text between them."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8))
    noise.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    place = data.index(b"IDAT") - 4
    length = int.from_bytes(data[place : place + 4], "big")
    pixels, rest = data[place + 8 : place + 8 + length], data[place + 12 + length :]
    pieces = [chunk(b"IDAT", pixels[i : i + 20]) + chunk(b"tEXt", b"a\0b") for i in range(0, length, 20)]
    (tmp_path / "b.png").write_bytes(data[:place] + b"".join(pieces) + rest)
    assert len(pieces) > 1000
    assert torch.equal(load_picture(tmp_path / "a.png", 100), load_picture(tmp_path / "b.png", 100))


def test_names_with_control_characters_stay_on_one_line(tmp_path):
    path = tmp_path / "a\nb.png"
    path.write_text("no")
    with pytest.raises(ValueError) as caught:
        load_picture(path, 16)
    assert "\n" not in str(caught.value)


def test_save_png(tmp_path):
    text = {"class": "sea", "seed": "7", "note": "čaj 茶"}
    save_png(quarters(), tmp_path / "a.png", text)
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.format == "PNG" and {key: str(value) for key, value in image.text.items()} == text
        assert image.tobytes() == quarters().tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_save_png_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    save_png(quarters(), tmp_path / "a.png", {})
    before = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        save_png(Image.new("RGB", (9, 9)), tmp_path / "a.png", {})
    assert (tmp_path / "a.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_sheet():
    tiles = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    paper = sheet(tiles, 2, gap=1, scale=3)
    assert paper.size == (1 + 13 * 2, 1 + 13 * 2)
    assert paper.getpixel((0, 0)) == paper.getpixel((20, 20)) == images.PAPER
    assert [paper.getpixel(place) for place in ((6, 6), (20, 6), (6, 20))] == [RED, LIME, BLUE]
    assert sheet(tiles[:1], 4, gap=5, scale=2).size == (8, 8)
    for wrong in ([], [tiles[0], Image.new("RGB", (5, 4))]):
        with pytest.raises(ValueError, match="one size"):
            sheet(wrong, 2)
