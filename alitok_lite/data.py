"""Training on a folder of pictures: `FOLDER/[train/|test/]CLASS/*.jpg|jpeg|png|webp`.

Where train/ and test/ both hold class folders, they are the two splits. With train/ alone, or with the classes
directly in FOLDER, a fixed twentieth of each class, chosen by a hash of the file names, is held out as the test split.

A picture is decoded to the same uint8 square every time; all randomness comes after that, on the device.
"""

import hashlib
import itertools
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from . import images

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
STORED = 1.25  # side of the stored squares, as a multiple of `size`, where the pictures are large enough
RESIZED = 1.1  # the same for the pictures that the ten crops are taken from
HELD_OUT = 20  # one picture in so many is held out when there is no test/
BLOCK = 64  # pictures that a worker decodes at once outside `batch`
_LAYOUT = "give a folder with one subfolder of JPEG, PNG or WEBP pictures for each of two or more classes"


class PictureFolder:
    """Pictures of a folder with one subfolder for each class, decoded once where they fit `memory` bytes.

    `split` is "train" or "test"; `workers` processes decode (0: this one does; None: one for each CPU, at most 16).
    Where they do not fit, they are decoded again whenever they are drawn. ImageNet at 256 pixels would be 390 GB;
    it also has pictures with a side below 256 pixels, which are refused: leave them out.

    Raises ValueError, in one sentence without absolute paths, for a missing or empty folder, fewer than two classes,
    a class without pictures, and a picture that is damaged, too large (24 million pixels) or smaller than `size`.

    classes: sorted names of the class folders, those of train/ for both splits.
    names:   "CLASS/FILE" of every picture, sorted by class, then by file.
    labels:  (N,) int64, on the device.
    side:    side of the stored squares, 1.25 x size or the shortest side among the pictures.
    """

    def __init__(
        self,
        folder: str | Path,
        size: int,
        split: str = "train",
        device: torch.device | str = "cpu",
        memory: float = 8e9,
        workers: int | None = None,
    ) -> None:
        self.size, self.split, self.device = size, split, torch.device(device)
        self.workers = min(16, _cpus()) if workers is None else workers
        root, self.classes, self.names = _find(Path(folder), split)
        places = {name: number for number, name in enumerate(self.classes)}
        self.labels = torch.tensor([places[name.split("/")[0]] for name in self.names]).to(self.device)
        self.stamps = [(stat.st_size, stat.st_mtime_ns) for stat in (os.stat(root / name) for name in self.names)]
        with tqdm(self.names, desc="checking", unit="picture") as bar:
            self.side = min(round(STORED * size), *(_shorter_side(root, name, size) for name in bar))
        self.files = _Files(root, self.names, self.side, size)
        self.pool: Tensor | None = None
        self._ahead: Iterator[Tensor] = iter(())
        self._next: tuple | None = None  # (step, batch, seed) of the batch that comes out of _ahead next
        if len(self) * 3 * self.side**2 <= memory:
            self.pool = self._decode_all()

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, step: int, batch: int, seed: int) -> tuple[Tensor, Tensor]:
        """Augmented pictures (B, 3, size, size) float32 in [0, 1] and labels (B,), from (seed, step) alone.

        Pictures are drawn with replacement. Calls for one step after the other are fastest when the pictures are
        not in memory: then workers decode ahead. Raises ValueError for a file that turns out to be damaged.
        """
        rows, numbers = _draw(len(self), step, batch, seed)
        if self.pool is not None:
            pixels = self.pool[rows.to(self.device)]
        else:
            if self._next != (step, batch, seed):
                coming = (_draw(len(self), later, batch, seed)[0] for later in itertools.count(step))
                self._ahead = self._stream(coming, self.workers)
            self._next = None  # should the next line raise, a repeated call starts afresh
            pixels = next(self._ahead).to(self.device)
            self._next = (step + 1, batch, seed)
        return augment(pixels, numbers.to(self.device), self.size), self.labels[rows.to(self.device)]

    def crops(self, index: slice | Tensor, crop: int) -> Tensor:
        """One of ten crops (n, 3, size, size) in [0, 1] of the pictures resized to 1.1 x size.

        0 to 4: top left, top right, bottom left, bottom right, centre; 5 to 9: the mirror images of these crops.
        Raises ValueError for another number.
        """
        if not 0 <= crop < 10:
            raise ValueError(f"there is no crop {crop}: the ten crops are 0 to 9")
        return _cut(_resize(self._stored(index), int(RESIZED * self.size)), self.size, crop)

    def ten_crops(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All pictures in all ten crops, for the id cache, each decoded once: blocks of pixels and labels."""
        blocks = torch.arange(len(self)).split(BLOCK)
        kept = None if self.pool is None else (self.pool[rows.to(self.device)] for rows in blocks)
        with tqdm(total=len(self), desc="cropping", unit="picture") as bar:
            for rows, stored in zip(blocks, kept or self._stream(blocks, self.workers), strict=True):
                large = _resize(stored.to(self.device), int(RESIZED * self.size))
                pixels = torch.cat([_cut(large, self.size, crop) for crop in range(10)])
                yield pixels, self.labels[rows.to(self.device)].repeat(10)
                bar.update(len(rows))

    def whole(self, index: slice | Tensor) -> Tensor:
        """Centre squares (n, 3, size, size) in [0, 1] without augmentation, for evaluation."""
        return _resize(self._stored(index), self.size)

    def _stored(self, index: slice | Tensor) -> Tensor:
        """Stored squares (n, 3, side, side) uint8 on the device."""
        if self.pool is not None:
            return self.pool[index if isinstance(index, slice) else index.to(self.device)]
        blocks = torch.arange(len(self))[index if isinstance(index, slice) else index.cpu()].split(BLOCK)
        return torch.cat(list(self._stream(blocks, self.workers if len(blocks) > 1 else 0))).to(self.device)

    def _decode_all(self) -> Tensor:
        """All stored squares (N, 3, side, side) uint8 on the device."""
        pool = torch.empty(len(self), 3, self.side, self.side, dtype=torch.uint8, device=self.device)
        blocks = torch.arange(len(self)).split(BLOCK)
        with tqdm(total=len(self), desc="decoding", unit="picture") as bar:
            for rows, pixels in zip(blocks, self._stream(blocks, self.workers), strict=True):
                pool[rows[0] : rows[-1] + 1] = pixels
                bar.update(len(rows))
        return pool

    def _stream(self, rows: Iterable[Tensor], workers: int) -> Iterator[Tensor]:
        """Stored squares of one tensor of rows after the other, decoded by processes.

        Processes, since most of the work on a small picture holds the interpreter's lock: threads were slower than
        a single one. The generator keeps the loader off the global random numbers.
        """
        loader = DataLoader(self.files, batch_size=None, sampler=rows, num_workers=workers, generator=torch.Generator())
        for pixels in loader:
            if isinstance(pixels, str):
                raise ValueError(pixels)
            yield pixels


class _Files(Dataset):
    """Rows (n,) -> decoded squares (n, 3, side, side) uint8, or what is wrong with one of the files.

    Errors travel as text: a loader would raise them with the whole traceback of the worker in the message.
    """

    def __init__(self, root: Path, names: list[str], side: int, size: int) -> None:
        self.root, self.names, self.side, self.size = root, names, side, size

    def __getitem__(self, rows: Tensor) -> Tensor | str:
        try:
            return torch.cat([self._decode(self.names[row]) for row in rows.tolist()])
        except ValueError as error:
            return str(error)

    def _decode(self, name: str) -> Tensor:
        return _load(self.root, name, self.side, self.size).mul_(255).round_().byte()


def fingerprint(pictures: PictureFolder) -> str:
    """Hex digest over names, sizes and times of the files, size and split: another one means other pictures."""
    text = repr((pictures.size, pictures.split, pictures.classes, pictures.names, pictures.stamps))
    return hashlib.sha256(text.encode()).hexdigest()


def augment(pixels: Tensor, numbers: Tensor, size: int) -> Tensor:
    """Random resized crop, flip and colour: uint8 (B, 3, s, s) -> float32 (B, 3, size, size) in [0, 1].

    `numbers` (B, 8) in [0, 1): area (0.6 to 1), ratio (0.8 to 1.25), place across and down, flip, brightness,
    contrast, saturation (each 0.9 to 1.1).
    """
    area, ratio, across, down, flip, *colour = numbers[:, :, None].unbind(1)  # each (B, 1)
    area, ratio = 0.6 + 0.4 * area, torch.exp((2 * ratio - 1) * math.log(1.25))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    # The grid is made by hand: affine_grid multiplies matrices, in bfloat16 under the autocast of a training step.
    line = (torch.arange(size, device=pixels.device) * 2 + 1) / size - 1
    x = (1 - width) * (2 * across - 1) + torch.where(flip < 0.5, -width, width) * line  # (B, size)
    y = (1 - height) * (2 * down - 1) + height * line
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), 3)  # (B, size, size, 2)
    cut = F.grid_sample(pixels.float() / 255, grid, padding_mode="border", align_corners=False)
    brightness, contrast, saturation = (0.9 + 0.2 * number[:, :, None, None] for number in colour)
    cut = cut * brightness
    grey = _grey(cut)
    cut = grey + (cut - grey) * saturation  # leaves the grey values as they are
    mean = grey.mean((2, 3), keepdim=True)
    return (mean + (cut - mean) * contrast).clamp(0, 1)


def _grey(pixels: Tensor) -> Tensor:
    """Luma (B, 1, H, W)."""
    return 0.299 * pixels[:, :1] + 0.587 * pixels[:, 1:2] + 0.114 * pixels[:, 2:]


def _draw(pictures: int, step: int, batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows (B,) and numbers (B, 8) of `augment`; drawn on the CPU, so that every device gets the same."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**32)
    return torch.randint(pictures, (batch,), generator=generator), torch.rand(batch, 8, generator=generator)


def _cut(large: Tensor, size: int, crop: int) -> Tensor:
    """Crop 0 to 9 (see `PictureFolder.crops`) of pictures (n, 3, s, s) -> (n, 3, size, size)."""
    end = large.shape[-1] - size
    top, left = ((0, 0), (0, end), (end, 0), (end, end), (end // 2, end // 2))[crop % 5]
    pixels = large[:, :, top : top + size, left : left + size]
    return pixels.flip(3) if crop >= 5 else pixels.contiguous()


def _resize(pixels: Tensor, size: int) -> Tensor:
    """uint8 (n, 3, s, s) -> float32 (n, 3, size, size) in [0, 1], as Pillow's bicubic filter does it."""
    pixels = pixels.float() / 255
    return F.interpolate(pixels, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def _load(root: Path, name: str, side: int, size: int) -> Tensor:
    """`images.load_picture` (1, 3, side, side), with errors that name the class folder and the size wanted here."""
    try:
        return images.load_picture(root / name, side)
    except ValueError as error:
        found = str(error).removesuffix(images._ALLOWED)
        raise ValueError(f"in the class folder {name.split('/')[0]!r}, {found}{_allowed(size)}") from None


def _cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _allowed(size: int) -> str:
    return f"give PNG, JPEG or WEBP pictures of at least {size} x {size} and at most 24 million pixels"


def _shorter_side(root: Path, name: str, size: int) -> int:
    """The shorter side of a picture, from its header alone. Raises ValueError for an unfit one."""
    width = height = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            with Image.open(root / name, formats=images.FORMATS) as image:
                width, height = image.size
    except Exception:  # Pillow's plugins raise many kinds for damaged headers
        _load(root, name, size, size)  # says what is wrong
    if width * height > images.MAX_PIXELS:
        _load(root, name, size, size)  # likewise, before anything is decoded
    if min(width, height) < size:
        label, file = name.split("/")
        raise ValueError(
            f"in the class folder {label!r}, {file!r} has {width} x {height} pixels, too small; {_allowed(size)}"
        )
    return min(width, height)


def _find(folder: Path, split: str) -> tuple[Path, list[str], list[str]]:
    """The folder that holds a split's class folders, the classes, and "CLASS/FILE" of the split's pictures."""
    if split not in ("train", "test"):
        raise ValueError(f"there is no split {split!r}: give 'train' or 'test'")
    folder = folder.resolve()  # so that "." has a name too
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder.name!r}; {_LAYOUT}")
    # A folder called "train" with pictures but no folders in it is a class of trains.
    train, test = (folder / name if _subfolders(folder / name) else None for name in ("train", "test"))
    root = train or folder
    classes, files = _classes(root)
    if len(classes) < 2:
        raise ValueError(f"the folder {root.name!r} holds only the class {classes[0]!r}; {_LAYOUT}")
    if train and test:
        if split == "test":
            root = test
            labels, files = _classes(test)
            if extra := sorted(set(labels) - set(classes)):
                raise ValueError(f"test holds the class {extra[0]!r}, which train lacks; give both the same classes")
    else:
        files = {label: _split(label, files[label], split) for label in classes}
    names = [f"{label}/{file}" for label in sorted(files) for file in files[label]]
    if not names:
        raise ValueError(f"the folder {root.name!r} has one picture a class, none to hold out; give two or more")
    return root, classes, names


def _classes(root: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Sorted class folders and the sorted picture files in each; at least one, none of them empty."""
    files = {label: _pictures(root / label) for label in _subfolders(root)}
    if not any(files.values()):
        raise ValueError(f"the folder {root.name!r} holds no pictures in class folders; {_LAYOUT}")
    if empty := [label for label in files if not files[label]]:
        raise ValueError(f"the class folder {empty[0]!r} in {root.name!r} holds no pictures; {_LAYOUT}")
    return list(files), files


def _subfolders(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder, without hidden ones; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _pictures(folder: Path) -> list[str]:
    """Sorted names of the picture files in a folder, without hidden ones."""
    wanted = (entry for entry in os.scandir(folder) if entry.name.lower().endswith(SUFFIXES) and entry.is_file())
    return sorted(entry.name for entry in wanted if not entry.name.startswith("."))


def _split(label: str, files: list[str], split: str) -> list[str]:
    """The files of a class that belong to a split when there is no test/.

    A file's place depends on its own name alone, unless that would leave the class without a picture on one side.
    """
    hashes = {file: hashlib.sha256(os.fsencode(f"{label}/{file}")).digest() for file in files}
    low = sum(digest[0] * HELD_OUT < 256 for digest in hashes.values())
    held_out = set(sorted(files, key=hashes.__getitem__)[: min(max(low, 1), len(files) - 1)])
    return [file for file in files if (file in held_out) == (split == "test")]
