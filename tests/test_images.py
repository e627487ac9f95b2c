"""User-supplied pictures, PNGs with text, contact sheets."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alitok_lite import images
from alitok_lite.images import load_picture, save_png, sheet


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


def tiny_png(width: int, height: int) -> bytes:
    """A valid one-bit black PNG of any size: a few kB for gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

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
    refused(tmp_path / "folder.png", "folder")


def test_not_a_picture(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "vector.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    quarters().save(tmp_path / "a.gif")
    quarters().save(tmp_path / "disguised.bmp")
    (tmp_path / "disguised.png").write_bytes((tmp_path / "disguised.bmp").read_bytes())
    for name in ("empty.png", "text.png", "vector.svg", "a.gif", "disguised.png"):
        refused(tmp_path / name, "not a picture")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_truncated(tmp_path, suffix):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    refused(path)


def test_damaged_checksum(tmp_path):
    quarters().save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    place = data.index(b"IDAT")
    data[place + 10] ^= 255
    (tmp_path / "bad.png").write_bytes(data)
    refused(tmp_path / "bad.png", "damaged")


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
    monkeypatch.setattr("alitok_lite.model.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
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
