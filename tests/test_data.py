"""Folders of pictures: layouts, splits, decoding, augmentation, crops, errors."""

import itertools
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from alitok_lite.data import PictureFolder, fingerprint, folders, pictures
from alitok_lite.data.augment import augment, cut_crop, resized
from alitok_lite.data.pictures import UnfitPictures


def noise(side: int | tuple[int, int], seed: int = 0) -> Image.Image:
    """Smooth random colours; `side` is the height and width, or both."""
    height, width = (side, side) if isinstance(side, int) else side
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def fill(root: Path, counts: dict[str, int], side: int = 16) -> Path:
    """A folder of `counts[class]` PNGs for each class."""
    seeds = itertools.count()
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for number in range(count):
            noise(side, next(seeds)).save(root / label / f"{number:03d}.png")
    return root


def complete(root: Path, counts: dict[str, int], side: int = 16) -> Path:
    """The same in root/train, with one test picture, so that nothing is held out; returns root/train."""
    fill(root / "test", {next(iter(counts)): 1}, side)
    return fill(root / "train", counts, side)


def load(folder: Path, size: int = 16, split: str = "train", **options) -> PictureFolder:
    return PictureFolder(folder, size, split, **{"workers": 0} | options)


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Equal to what Pillow made, which rounds twice, after either direction."""
    error = (found * 255 - wanted).abs()
    return error.max() <= 1.2 and error.mean() <= 0.4


def refused(folder: Path, *words: str, size: int = 16, split: str = "train") -> None:
    """PictureFolder raises a single sentence that holds `words` but no path."""
    with pytest.raises(ValueError) as caught:
        load(folder, size, split)
    text = str(caught.value)
    assert type(caught.value) in (ValueError, UnfitPictures) and str(folder.parent) not in text and "\n" not in text
    assert all(word in text for word in words), text


# ---------------------------------------------------------------- layouts and splits


def test_train_and_test_folders(tmp_path):
    fill(tmp_path / "train", {"b": 3, "a": 2})
    fill(tmp_path / "test", {"b": 2})
    first = noise(16, 99)
    first.save(tmp_path / "test" / "b" / "000.png")
    train, test = load(tmp_path), load(tmp_path, split="test")
    assert train.classes == test.classes == ["a", "b"]
    assert train.names == ["a/000.png", "a/001.png", "b/000.png", "b/001.png", "b/002.png"]
    assert test.names == ["b/000.png", "b/001.png"]
    assert train.labels.tolist() == [0, 0, 1, 1, 1] and train.labels.dtype == torch.int64
    assert test.labels.tolist() == [1, 1]  # the class's number in train, though test lacks class a
    assert len(train) == 5 and len(test) == 2
    assert torch.equal(test.whole(slice(0, 1))[0], tensor(first) / 255)


@pytest.mark.parametrize("inside", ["", "train"])
def test_held_out(tmp_path, inside):
    root = fill(tmp_path / inside, {"a": 400, "b": 2, "c": 1})
    train, test = set(load(tmp_path).names), set(load(tmp_path, split="test").names)
    assert not train & test and len(train | test) == 403
    shares = [sum(name.startswith(label) for name in test) for label in "abc"]
    assert 8 <= shares[0] <= 40 and shares[1:] == [1, 0]  # 20 are expected of the first
    for number in range(50):
        noise(16).save(root / "a" / f"new{number}.png")
    more = set(load(tmp_path, split="test").names)
    assert {name for name in more if "new" not in name} == test  # no old picture changed sides
    assert 0 < len(more - test) < 15


def test_some_of_every_class_on_both_sides():
    for count, first in itertools.product((2, 3, 40), range(200)):
        files = [f"{first * 100 + number}.png" for number in range(count)]
        entries = [(file, f"a/{file}") for file in files]
        train, test = (folders._share("a", entries, split) for split in ("train", "test"))
        assert train and test and sorted(train + test) == sorted(entries)


def test_a_class_called_train(tmp_path):
    fill(tmp_path, {"bus": 2, "train": 3})
    pictures = load(tmp_path)
    assert pictures.classes == ["bus", "train"] and len(pictures) == 3


def test_suffixes_and_other_files(tmp_path):
    fill(tmp_path, {"a": 1, "b": 1})
    for name in ("x.JPG", "x.jpeg", "x.WebP"):
        noise(16).save(tmp_path / "a" / name)
    for name in (".hidden.png", ".DS_Store", "notes.txt", "x.gif"):
        (tmp_path / "a" / name).write_bytes(b"no picture")
    (tmp_path / "a" / "folder.png").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "readme.txt").write_text("no class")
    names = load(tmp_path).names + load(tmp_path, split="test").names
    assert sorted(names) == ["a/000.png", "a/x.JPG", "a/x.WebP", "a/x.jpeg", "b/000.png"]


# ---------------------------------------------------------------- decoding


def odd_pictures() -> dict[str, tuple[Image.Image, dict]]:
    """Pictures of one colour, (200, 100, 50) or grey 128, in odd modes, and how to save them."""
    colour = Image.new("RGB", (40, 30), (200, 100, 50))
    half = Image.new("RGBA", (40, 30), (145, 0, 0, 255))
    half.putalpha(Image.new("L", (40, 30), 128))
    depth16 = Image.fromarray(np.full((30, 40), 128 * 257, dtype=np.uint16))
    clear = {"transparency": 0}
    return {
        "palette.png": (colour.convert("P", palette=Image.Palette.ADAPTIVE), {}),
        "cmyk.jpg": (colour.convert("CMYK"), {"quality": 95}),
        "grey.png": (Image.new("L", (40, 30), 128), {}),
        "greyalpha.png": (Image.new("LA", (40, 30), (128, 255)), {}),
        "deep.png": (depth16, {}),
        "alpha.webp": (half, {"lossless": True}),
        "clear.png": (Image.new("P", (40, 30), 0), clear),
    }


@pytest.mark.parametrize("name", sorted(odd_pictures()))
def test_odd_modes(tmp_path, name):
    image, options = odd_pictures()[name]
    image.save(complete(tmp_path, {"a": 1, "b": 1}) / "a" / name, **options)
    train = load(tmp_path)
    found = train.whole(slice(None))[train.names.index(f"a/{name}")].mul(255).mean((1, 2))
    wanted = {"alpha.webp": (200, 127, 127), "clear.png": (255, 255, 255)}
    wanted |= dict.fromkeys(("palette.png", "cmyk.jpg"), (200, 100, 50))
    assert (found - torch.tensor(wanted.get(name, (128, 128, 128)))).abs().max() <= 3


def test_exif_rotation(tmp_path):
    root = complete(tmp_path, {"a": 1, "b": 1}, 32)
    image = Image.new("RGB", (32, 32), "blue")
    image.paste("red", (0, 0, 32, 16))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: what was above is on the right
    image.save(root / "a" / "turned.jpg", quality=95, exif=exif)
    train = load(tmp_path, 32)
    found = train.whole(slice(None))[train.names.index("a/turned.jpg")]
    assert found[0, :, 20:].min() > 0.8 and found[0, :, :12].max() < 0.2
    assert found[2, :, :12].min() > 0.8 and found[2, :, 20:].max() < 0.2


@pytest.mark.parametrize(("sides", "side"), [((16, 40), 16), ((18, 40), 18), ((30, 40), 20)])
def test_stored_side(tmp_path, sides, side):
    """1.25 x size, or less when a picture is smaller; every stored picture has this one shape."""
    root = complete(tmp_path, {"a": 1, "b": 1}, 50)
    noise((sides[0], 60)).save(root / "a" / "wide.png")
    noise((60, sides[1])).save(root / "a" / "tall.png")
    train = load(tmp_path, 16)
    assert train.side == side and train.pool.shape == (4, 3, side, side) and train.pool.dtype == torch.uint8


def test_whole_is_a_plain_resize(tmp_path):
    root = complete(tmp_path, {"a": 2, "b": 1}, 40)
    wide = noise((40, 60), 9)
    wide.save(root / "b" / "wide.png")
    train = load(tmp_path, 32)
    whole = train.whole(torch.tensor([3, 0]))
    assert whole.shape == (2, 3, 32, 32) and whole.dtype == torch.float32
    first = Image.open(root / "a" / "000.png")
    for found, image in zip(whole, (wide.crop((10, 0, 50, 40)), first), strict=True):
        wanted = tensor(image.resize((32, 32), Image.Resampling.BICUBIC))
        assert close(found, wanted)
    assert torch.equal(train.whole(slice(0, 1))[0], whole[1])


def test_large_pictures_are_resized(tmp_path):
    """The stored square of a large picture looks like a direct resize to the model's size."""
    root = complete(tmp_path, {"a": 1, "b": 1}, 200)
    image = noise((300, 500), 4)
    image.save(root / "a" / "large.jpg", quality=95)
    found = load(tmp_path, 32).whole(slice(1, 2))[0]
    wanted = tensor(image.crop((100, 0, 400, 300)).resize((32, 32), Image.Resampling.BICUBIC)) / 255
    assert (found - wanted).abs().max() < 0.04


# ---------------------------------------------------------------- crops


def crops(pictures):
    """All pictures in all ten crops: (10, N, 3, size, size)."""
    return torch.cat([pixels.unflatten(0, (10, -1)) for pixels, _ in pictures.ten_crops()], 1)


@pytest.mark.parametrize("crop", range(10))
def test_ten_crops(tmp_path, crop):
    """Pictures whose stored side is 1.1 x size: every crop is a slice."""
    root = complete(tmp_path, {"a": 2, "b": 1}, 44)
    train = load(tmp_path, 40)
    assert train.side == 44
    picture = tensor(Image.open(root / "b" / "000.png")) / 255
    corners = (picture[:, :40, :40], picture[:, :40, 4:], picture[:, 4:, :40], picture[:, 4:, 4:])
    wanted = (*corners, picture[:, 2:42, 2:42])[crop % 5]
    if crop >= 5:
        wanted = torch.from_numpy(np.ascontiguousarray(wanted.numpy()[:, :, ::-1]))
    assert torch.allclose(crops(train)[crop, 2], wanted, atol=1e-5)


def test_crops_are_resized(tmp_path):
    complete(tmp_path, {"a": 2, "b": 1}, 64)
    train = load(tmp_path, 32)
    assert train.side == 40
    picture = Image.fromarray(train.pool[0].permute(1, 2, 0).numpy())
    wanted = tensor(picture.resize((35, 35), Image.Resampling.BICUBIC))[:, 3:, 3:]
    assert close(crops(train)[3, 0], wanted)


# ---------------------------------------------------------------- batches and augmentation


def test_batch_follows_seed_and_step(tmp_path):
    fill(tmp_path, {"a": 6, "b": 5}, 20)
    train, again = load(tmp_path), load(tmp_path)
    pixels, labels = train.batch(3, 8, 1)
    assert pixels.shape == (8, 3, 16, 16) and pixels.dtype == torch.float32
    assert labels.shape == (8,) and labels.dtype == torch.int64
    assert pixels.min() >= 0 and pixels.max() <= 1
    train.batch(0, 8, 0)
    torch.rand(5)
    for other in (train, again):
        assert all(map(torch.equal, other.batch(3, 8, 1), (pixels, labels)))
    for step, seed in ((4, 1), (3, 2), (3 + 2**16, 1), (3, 10**9)):
        assert not torch.equal(train.batch(step, 8, seed)[0], pixels)


def test_batch_leaves_the_global_random_numbers_alone(tmp_path):
    fill(tmp_path, {"a": 3, "b": 3})
    for memory in (8e9, 0):
        torch.manual_seed(5)
        load(tmp_path, memory=memory).batch(0, 4, 0)
        assert torch.initial_seed() == 5
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))


def test_every_picture_comes_up_with_its_label(tmp_path):
    for number, label in itertools.product(range(8), "ab"):
        (tmp_path / "train" / label).mkdir(parents=True, exist_ok=True)
        value = 16 * number + (128 if label == "b" else 8)
        Image.new("RGB", (16, 16), (value,) * 3).save(tmp_path / "train" / label / f"{number}.png")
    fill(tmp_path / "test", {"b": 1})
    train, seen = load(tmp_path), torch.zeros(16)
    plain = train.whole(slice(None)).mean((1, 2, 3))
    for step in range(20):
        rows, _ = pictures._draw(16, step, 16, 0)
        pixels, labels = train.batch(step, 16, 0)
        assert torch.equal(labels, train.labels[rows])
        assert ((pixels.mean((1, 2, 3)) - plain[rows]).abs() <= 0.11 * plain[rows]).all()
        seen += torch.bincount(rows, minlength=16)
    assert seen.min() >= 5 and seen.max() <= 50  # 20 are expected


@pytest.mark.parametrize("workers", [0, 2])
def test_on_demand_equals_in_memory(tmp_path, workers, monkeypatch):
    fill(tmp_path, {"a": 6, "b": 5}, 20)
    monkeypatch.setattr("alitok_lite.data.pictures.BLOCK", 4)  # several blocks
    kept, files = load(tmp_path, workers=workers), load(tmp_path, memory=0, workers=workers)
    assert kept.pool is not None and files.pool is None and fingerprint(kept) == fingerprint(files)
    for step, batch, seed in ((0, 5, 0), (1, 5, 0), (2, 5, 0), (7, 5, 0), (8, 5, 1), (9, 3, 1), (0, 5, 0)):
        for wanted, found in zip(kept.batch(step, batch, seed), files.batch(step, batch, seed), strict=True):
            assert torch.equal(wanted, found)
    for index in (slice(1, 10, 2), slice(0, 3), torch.tensor([7, 7, 2])):
        assert torch.equal(kept.whole(index), files.whole(index))
    passes = [torch.cat(parts) for folder in (kept, files) for parts in zip(*folder.ten_crops(), strict=True)]
    assert torch.equal(passes[0], passes[2]) and torch.equal(passes[1], passes[3])
    files._ahead.close()  # left to the search for garbage, the end of its processes takes ten seconds


def test_as_many_processes_read_as_there_are_cpus(tmp_path, monkeypatch):
    fill(tmp_path, {"a": 3, "b": 3}, 20)
    for cpus, wanted in ((2, 2), (16, 16), (64, 16)):
        monkeypatch.setattr(pictures, "_cpus", lambda cpus=cpus: cpus)
        assert pictures.reading_workers(None) == wanted and pictures.reading_workers(1) == 1
    monkeypatch.setattr(pictures, "_cpus", lambda: 2)
    several = load(tmp_path, workers=None)
    assert several.workers == 2 and torch.equal(several.pool, load(tmp_path).pool)


def test_a_pass_gives_every_crop_and_decodes_once(tmp_path, monkeypatch):
    fill(tmp_path, {"a": 6, "b": 5}, 20)
    monkeypatch.setattr("alitok_lite.data.pictures.BLOCK", 4)
    decoded = []
    decode = pictures._Files._decode
    monkeypatch.setattr(pictures._Files, "_decode", lambda self, place: decoded.append(place) or decode(self, place))
    train = load(tmp_path, memory=0)
    found = list(train.ten_crops())
    assert sorted(decoded) == sorted(tmp_path / name for name in train.names)
    stored = load(tmp_path).pool
    for start, (pixels, labels) in zip(range(0, len(train), 4), found, strict=True):
        rows = slice(start, start + 4)
        large = resized(stored[rows], int(pictures.RESIZED * train.size))
        assert torch.equal(pixels, torch.cat([cut_crop(large, train.size, crop) for crop in range(10)]))
        assert torch.equal(labels, train.labels[rows].repeat(10))


def test_memory_limit(tmp_path):
    complete(tmp_path, {"a": 3, "b": 2})
    assert load(tmp_path, memory=5 * 3 * 16 * 16).pool is not None
    assert load(tmp_path, memory=5 * 3 * 16 * 16 - 1).pool is None


def test_steps_in_order_share_one_loader(tmp_path, monkeypatch):
    fill(tmp_path, {"a": 3, "b": 3})
    started, real = [], DataLoader
    monkeypatch.setattr(
        "alitok_lite.data.pictures.DataLoader", lambda *args, **options: started.append(1) or real(*args, **options)
    )
    files = load(tmp_path, memory=0)
    for step in range(5):
        files.batch(step, 4, 1)
    assert len(started) == 1
    files.batch(3, 4, 1)
    assert len(started) == 2


def numbers(**changes: float) -> torch.Tensor:
    """Numbers of `augment` for one picture: nothing changes but what is given."""
    names = ("area", "ratio", "across", "down", "flip", "brightness", "contrast", "saturation")
    plain = dict.fromkeys(names, 0.5) | {"area": 1.0}
    return torch.tensor([[(plain | changes)[name] for name in names]])


def ramp(side: int = 40) -> torch.Tensor:
    """uint8 (1, 3, side, side): red grows to the right, green downwards, blue is constant."""
    line = (torch.arange(side) * 5 + 20).byte()
    parts = line.expand(side, side), line[:, None].expand(side, side), torch.full((side, side), 90)
    return torch.stack([part.byte() for part in parts])[None]


def test_augment_can_leave_a_picture_as_it_is():
    assert torch.allclose(augment(ramp(), numbers(), 40), ramp() / 255, atol=1e-5)


def test_flip():
    flipped = augment(ramp(), numbers(flip=0.49), 40)
    assert torch.allclose(flipped, (ramp() / 255).flip(3), atol=1e-5)


@pytest.mark.parametrize(("across", "down"), [(0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5)])
def test_cut(across, down):
    """A cut of area 0.64, whose sides are 0.8 x 40 = 32, is a slice at either end."""
    found = augment(ramp(), numbers(area=0.1, across=across, down=down), 32)
    left, top = round(8 * across), round(8 * down)
    assert torch.allclose(found, ramp()[:, :, top : top + 32, left : left + 32] / 255, atol=1e-5)


@pytest.mark.parametrize("ratio", [0, 1])
def test_cut_ratio(ratio):
    """The slopes of the ramps tell the sides of the cut."""
    found = augment(ramp(), numbers(area=0.0, ratio=ratio), 40)[0] * 255
    width = (found[0, 20, 30] - found[0, 20, 10]) / 100
    height = (found[1, 30, 20] - found[1, 10, 20]) / 100
    assert width * height == pytest.approx(0.6, abs=1e-3)
    assert width / height == pytest.approx(1.25 if ratio else 0.8, abs=1e-3)


@pytest.mark.parametrize("ratio", [0, 1])
def test_cut_is_not_wider_than_the_picture(ratio):
    found = augment(ramp(), numbers(area=1.0, ratio=ratio), 40)[0]
    across, down = found[0, 0], found[1, :, 0]
    long, short = (across, down) if ratio else (down, across)
    assert torch.allclose(long, ramp()[0, 0, 0] / 255, atol=1e-5)
    assert (short[30] - short[10]) * 255 == pytest.approx(100 * 0.8**0.5, abs=1e-2)


def test_cut_stays_inside():
    """Every pixel of every cut lies in the picture; the cuts reach its edges and differ in place and size."""
    draws = torch.rand(500, 8, generator=torch.Generator().manual_seed(0))
    draws[:, 5:] = 0.5
    found = augment(ramp().expand(500, -1, -1, -1), draws, 40) * 255
    for channel in (0, 1):
        values = found[:, channel]
        assert values.min() >= 20 - 1e-3 and values.max() <= 215 + 1e-3
        assert values.min() < 22 and values.max() > 213
        lengths = values.amax((1, 2)) - values.amin((1, 2))
        assert lengths.min() < 150 and lengths.max() > 190 and lengths.min() > 0.69 * 195 - 5
    rising = found[:, 0, 20, 30] > found[:, 0, 20, 10]
    assert 200 < rising.sum() < 300  # half of them are flipped
    assert torch.equal(rising, draws[:, 4] >= 0.5)


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_colours(end):
    factor = 0.9 + 0.2 * end
    picture = ramp().double().numpy()[0] / 255
    grey = (picture * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdims=True)
    wanted = {
        "brightness": picture * factor,
        "contrast": grey.mean() + (picture - grey.mean()) * factor,
        "saturation": grey + (picture - grey) * factor,
    }
    for name, values in wanted.items():
        found = augment(ramp(), numbers(**{name: end}), 40)[0]
        assert np.abs(found.numpy() - values.clip(0, 1)).max() < 1e-5, name
    bright = augment(torch.full((1, 3, 8, 8), 250, dtype=torch.uint8), numbers(brightness=end), 8)
    assert bright.max() <= 1


def test_every_picture_has_its_own_augmentation(tmp_path):
    """Two classes of the same picture: no two rows of a batch are equal, nor mirror images."""
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(2):
            noise(20, 1).save(tmp_path / label / f"{number}.png")
    pixels = load(tmp_path).batch(0, 16, 0)[0]
    both = torch.cat([pixels, pixels.flip(3)])
    difference = (both[:, None] - both[None]).abs().amax((2, 3, 4))
    assert (difference + torch.eye(32)).min() > 0.01


def test_autocast_changes_nothing(tmp_path):
    fill(tmp_path, {"a": 3, "b": 3}, 20)
    train = load(tmp_path)
    plain = train.batch(0, 8, 0)[0], train.whole(slice(None)), crops(train)
    with torch.autocast("cpu", torch.bfloat16):
        cast = train.batch(0, 8, 0)[0], train.whole(slice(None)), crops(train)
    assert all(map(torch.equal, plain, cast))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices_agree(tmp_path):
    fill(tmp_path, {"a": 3, "b": 3}, 20)
    for memory in (8e9, 0):
        cpu, gpu = load(tmp_path, memory=memory), load(tmp_path, memory=memory, device="cuda")
        pixels, labels = gpu.batch(0, 8, 0)
        assert pixels.is_cuda and labels.is_cuda and gpu.labels.is_cuda
        assert torch.equal(cpu.batch(0, 8, 0)[1], labels.cpu())
        assert (cpu.batch(0, 8, 0)[0] - pixels.cpu()).abs().max() < 1e-3
        assert (crops(cpu) - crops(gpu).cpu()).abs().max() < 1e-3


# ---------------------------------------------------------------- fingerprint


def test_fingerprint(tmp_path):
    fill(tmp_path / "one", {"a": 4, "b": 4}, 20)
    first = fingerprint(load(tmp_path / "one"))
    assert len(first) == 64 and first == fingerprint(load(tmp_path / "one"))
    assert first != fingerprint(load(tmp_path / "one", 17)) != fingerprint(load(tmp_path / "one", split="test"))
    (tmp_path / "one").rename(tmp_path / "two")  # where the folder lies does not matter
    assert fingerprint(load(tmp_path / "two")) == first
    train = load(tmp_path / "two")
    path = tmp_path / "two" / train.names[0]
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    touched = fingerprint(load(tmp_path / "two"))
    assert touched != first and fingerprint(train) == first  # `train` holds the old picture
    path.write_bytes(path.read_bytes() + b"more")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    longer = fingerprint(load(tmp_path / "two"))
    path.rename(path.with_name("renamed.png"))
    assert len({first, touched, longer, fingerprint(load(tmp_path / "two"))}) == 4


def test_fingerprint_follows_names_and_split(tmp_path):
    root = complete(tmp_path, {"a": 1, "b": 1})
    for path in tmp_path.glob("*/*/*.png"):
        path.write_bytes((root / "a" / "000.png").read_bytes())
        os.utime(path, ns=(10**18, 10**18))
    first = fingerprint(load(tmp_path))
    (root / "b" / "000.png").rename(root / "b" / "001.png")
    assert fingerprint(load(tmp_path)) != first
    noise(16).save(root.parent / "test" / "a" / "more.png")
    assert fingerprint(load(tmp_path)) != fingerprint(load(tmp_path, split="test"))


# ---------------------------------------------------------------- errors


def test_missing_folder(tmp_path):
    refused(tmp_path / "nowhere", "no folder 'nowhere'", "one subfolder")
    (tmp_path / "file.txt").write_text("")
    refused(tmp_path / "file.txt", "no folder 'file.txt'")


def test_unknown_split(tmp_path):
    refused(fill(tmp_path / "set", {"a": 1, "b": 1}), "'valid'", "'train' or 'test'", split="valid")


def test_no_pictures(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    refused(root, "the folder 'set' holds no pictures", "JPEG, PNG or WEBP")
    noise(16).save(root / "loose.png")
    refused(root, "the folder 'set' holds no pictures", "one subfolder")
    (root / "a").mkdir()
    (root / "b").mkdir()
    refused(root, "the folder 'set' holds no pictures")


def test_one_class(tmp_path):
    refused(fill(tmp_path / "set", {"cats": 3}), "'set'", "only the class 'cats'", "two or more")
    refused(fill(tmp_path / "other" / "train", {"cats": 3}).parent, "'train'", "only the class 'cats'")


def test_empty_class(tmp_path):
    root = fill(tmp_path / "set", {"cats": 2, "dogs": 2})
    (root / "owls").mkdir()
    (root / "owls" / "notes.txt").write_text("")
    refused(root, "class folder 'owls' in 'set' holds no pictures", "JPEG, PNG or WEBP")


def test_test_folder_errors(tmp_path):
    root = fill(tmp_path / "set" / "train", {"a": 1, "b": 1}).parent
    refused(root, "none to hold out", "two or more", split="test")
    fill(root / "test", {"a": 1, "c": 1})
    refused(root, "test holds the class 'c', which train lacks", split="test")
    assert len(load(root)) == 2
    (root / "test" / "c" / "000.png").unlink()
    refused(root, "class folder 'c' in 'test' holds no pictures", split="test")


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "gif"])
@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_picture(tmp_path, damage, workers):
    """The same sentence with and without worker processes."""
    path = complete(tmp_path, {"a": 1, "cats": 1}, 32) / "cats" / "bad.png"
    Image.effect_noise((64, 64), 50).save(path, "GIF" if damage == "gif" else "PNG")
    content = {"text": b"hello", "empty": b"", "cut": path.read_bytes()[:2000], "gif": path.read_bytes()}
    path.write_bytes(content[damage])
    with pytest.raises(ValueError) as caught:
        load(tmp_path, workers=workers)
    text = str(caught.value)
    assert text.startswith("in the class folder 'cats', 'bad.png' is ") and str(tmp_path) not in text
    assert text.endswith("give PNG, JPEG or WEBP pictures of at least 16 x 16 and at most 24 million pixels")
    assert (
        "\n" not in text and text.count("give") == 1 and ("cut short" if damage == "cut" else "not a picture") in text
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_found_on_demand(tmp_path, workers):
    """A damaged file is reported each time that it is drawn; other batches come as ever."""
    path = complete(tmp_path, {"a": 1, "cats": 1}) / "cats" / "bad.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    files = load(tmp_path, memory=0, workers=workers)
    damaged = [2 in pictures._draw(3, step, 2, 0)[0] for step in range(30)]
    good = next(step for step in range(29) if not damaged[step] and damaged[step + 1])
    for _ in range(2):
        files.batch(good, 2, 0)
        for _ in range(2):
            with pytest.raises(ValueError, match=r"^in the class folder 'cats', 'bad.png' is damaged[^\n]*$"):
                files.batch(good + 1, 2, 0)
    with pytest.raises(ValueError, match="'bad.png'"):
        files.whole(slice(None))
    files._ahead.close()


def test_too_small(tmp_path):
    noise((20, 30)).save(complete(tmp_path, {"cats": 2, "dogs": 2}, 24) / "dogs" / "small.png")
    assert load(tmp_path, 20).side == 20
    refused(tmp_path, "'dogs'", "'small.png' has 30 x 20 pixels, too small", "at least 21 x 21", size=21)


def test_bomb(tmp_path, monkeypatch, recwarn):
    """Refused from the header alone, at our own limit, at Pillow's warning and at Pillow's error."""
    path = complete(tmp_path, {"cats": 2, "dogs": 2}) / "dogs" / "bomb.png"
    load, small = Image.Image.load, 16 * 16
    monkeypatch.setattr(
        Image.Image,
        "load",
        lambda image: load(image) if image.width * image.height == small else pytest.fail("decoded"),
    )
    for width, height in ((6001, 4000), (12_000, 10_000), (30_000, 30_000)):
        header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        body = b"IDAT" + zlib.compress(b"\0")
        chunk += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
        refused(tmp_path, "'dogs', 'bomb.png' has", "too many", "24 million pixels")
    assert not [warning for warning in recwarn if "ecompression" in str(warning.message)]
