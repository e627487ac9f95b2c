"""Which files of a folder belong to a split: classes, picture files, and what is held out."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
HELD_OUT = ("test", "val", "valid", "validation")  # the first of these that has classes is held out
SHARE = 20  # one picture in so many is held out where there is none of them
INNER = "images"  # Tiny ImageNet has the pictures of a class in a folder of this name
LABELS = "val_annotations.txt"  # and the classes of its validation pictures in this file
_SYSTEM = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini", "icon\r"}
_LAYOUT = "give a folder with one subfolder of JPEG, PNG or WEBP pictures for each of two or more classes"

Files = dict[str, list[tuple[str, str]]]  # of each class: the name of a picture, and its path under the split's folder


@dataclass
class Layout:
    """One split of a folder, its pictures sorted by class, then by file."""

    root: Path  # holds the files
    classes: list[str]  # sorted; those of the training pictures, for both splits
    names: list[str]  # "CLASS/FILE"
    paths: list[str]  # of the same pictures, under root
    held_out: str  # which pictures are held out, in words
    notes: list[str]  # what is left out, in words


@dataclass
class _Content:
    """What lies in a folder, sorted; hidden entries, those of the system and unknown kinds are only counted."""

    folders: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


def find(folder: Path, split: str) -> Layout:
    """The pictures of a split, "train" or "test". ValueError, in one sentence, for a folder that cannot be used."""
    if split not in ("train", "test"):
        raise ValueError(f"there is no split {split!r}: give 'train' or 'test'")
    folder = _resolved(folder)
    top = _content(folder)
    train = _train_folder(folder, top)
    root = folder / train if train else folder
    files, left = _classes(root)
    classes = list(files)
    if len(classes) < 2:
        raise ValueError(f"the folder {root.name!r} holds only the class {classes[0]!r}; {_LAYOUT}")
    notes: list[str] = []
    chosen: str | None = None
    if train:
        chosen, notes = _held_out_folder(folder, top, train, classes)
    if chosen is None:
        files = {label: _share(label, files[label], split) for label in classes}
    elif split == "test":
        root = folder / chosen
        files, left = _test_classes(root, classes)
    if not any(files.values()):
        hint = f" (left out: {_listed(left)})" if left else ""
        raise ValueError(
            f"the folder {root.name!r} has one picture a class that can be read, none to hold out;"
            f" give two or more{hint}"
        )
    entries = [(f"{label}/{name}", path) for label in sorted(files) for name, path in files[label]]
    where = f"in {chosen!r}" if chosen else f"one in {SHARE} of each class, as there is no folder {_or(HELD_OUT)}"
    if left:
        notes = [f"left out in {root.name!r}: {_listed(left)}", *notes]
    return Layout(root, classes, [name for name, _ in entries], [path for _, path in entries], where, notes)


def _resolved(folder: Path) -> Path:
    """The folder as an absolute path, since "." has no name."""
    try:
        found = folder.resolve()
    except (OSError, RuntimeError):  # links in a circle
        found = folder
    if not found.is_dir():
        raise ValueError(f"there is no folder {found.name!r}; {_LAYOUT}")
    return found


def _content(folder: Path) -> _Content:
    """The entries of a folder. Raises ValueError for one that cannot be read."""
    found = _Content()
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"the folder {folder.name!r} cannot be read: {error.strerror}") from error
    for entry in entries:
        name = entry.name
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # links in a circle
            is_folder = is_file = False
        if name.lower() in _SYSTEM or (name.startswith(".") and is_folder):
            found.left[f"folder {name.strip()}" if is_folder else name.strip()] += 1
        elif name.startswith("."):
            found.left["hidden files"] += 1
        elif is_folder:
            found.folders.append(name)
        elif not is_file:
            found.left["broken links" if entry.is_symlink() else "pipes and devices"] += 1
        elif name.lower().endswith(SUFFIXES):
            found.pictures.append(name)
        else:
            found.left[os.path.splitext(name)[1].lower() or "files without an ending"] += 1
    return found


def _train_folder(folder: Path, top: _Content) -> str | None:
    """The folder with the classes to train on; None where the classes lie in `folder` itself."""
    # A folder called "train" with pictures but no folders in it is a class of trains.
    found = [name for name in top.folders if name.lower() == "train" and _content(folder / name).folders]
    if len(found) > 1:
        raise ValueError(f"the folder {folder.name!r} has {found[0]!r} and {found[1]!r}; leave one of them")
    if found:
        return found[0]
    splits = [name for name in top.folders if name.lower() in HELD_OUT and not _content(folder / name).pictures]
    if splits:
        raise ValueError(
            f"the folder {folder.name!r} has a folder {splits[0]!r} but no 'train' with class folders in it;"
            " put the classes to train on there"
        )
    return None


def _classes(root: Path) -> tuple[Files, Counter[str]]:
    """The pictures of each class folder, two or more classes or one, none empty; and what is left out."""
    inside = _content(root)
    files, left = {}, inside.left
    left["pictures beside the classes"] += len(inside.pictures)
    for label in inside.folders:
        files[label], more = _class(root / label)
        left += more  # which drops what is zero
    left = +left
    if not any(files.values()):
        deeper = next((place for label in inside.folders if (place := _deeper(root / label))), None)
        hint = f" (but deeper, in {f'{deeper.parent.name}/{deeper.name}'!r})" if deeper else ""
        hint = hint or (f" (there are: {_listed(left)})" if left else "")
        raise ValueError(f"the folder {root.name!r} holds no pictures in class folders{hint}; {_LAYOUT}")
    if empty := [label for label in files if not files[label]]:
        content = _content(root / empty[0])
        hint = f" (but its folder {content.folders[0]!r} may)" if content.folders else ""
        hint = hint or (f" (there are: {_listed(content.left)})" if content.left else "")
        raise ValueError(f"the class folder {empty[0]!r} in {root.name!r} holds no pictures{hint}; {_LAYOUT}")
    return files, left


def _class(folder: Path) -> tuple[list[tuple[str, str]], Counter[str]]:
    """The pictures of a class folder, or of the folder "images" in it; and what is left out."""
    inside, label = _content(folder), folder.name
    files = [(name, f"{label}/{name}") for name in inside.pictures]
    others = len(inside.folders)
    inner = [name for name in inside.folders if name.lower() == INNER]
    if not files and len(inner) == 1:
        within = _content(folder / inner[0])
        files = [(f"{inner[0]}/{name}", f"{label}/{inner[0]}/{name}") for name in within.pictures]
        others += len(within.folders) - 1
        inside.left += within.left
    inside.left["folders inside classes"] += others
    return files, inside.left


def _deeper(folder: Path) -> Path | None:
    """A folder in this one that holds pictures, itself or in its folders."""
    for name in _content(folder).folders:
        inside = _content(folder / name)
        if inside.pictures or any(_content(folder / name / inner).pictures for inner in inside.folders):
            return folder / name
    return None


def _held_out_folder(folder: Path, top: _Content, train: str, classes: list[str]) -> tuple[str | None, list[str]]:
    """The folder of the held-out pictures, if there is one, and what else beside "train" is left out."""
    candidates = [name for wanted in HELD_OUT for name in top.folders if name.lower() == wanted]
    usable = [name for name in candidates if _has_classes(folder / name, classes)]
    chosen = usable[0] if usable else None
    notes = []
    for name in top.folders:
        if name in usable[1:]:
            notes.append(f"left out: the folder {name!r}, since {chosen!r} is held out")
        elif name in candidates and name != chosen:
            notes.append(f"left out: the folder {name!r}, which has no class folders")
        elif name not in (train, chosen):
            notes.append(f"left out: the folder {name!r} beside {train!r}")
    left = top.left + Counter({f"pictures beside {train!r}": len(top.pictures)})
    if left:
        notes = [f"left out in {folder.name!r}: {_listed(left)}", *notes]
    return chosen, notes


def _has_classes(folder: Path, classes: list[str]) -> bool:
    """Whether a folder has pictures of classes: of the given ones, or of others, which is a mistake to report."""
    inside = _content(folder)
    if (folder / LABELS).is_file():
        return True
    return any(name in classes or (name.lower() != INNER and _class(folder / name)[0]) for name in inside.folders)


def _test_classes(root: Path, classes: list[str]) -> tuple[Files, Counter[str]]:
    """The held-out pictures of each class, and what is left out."""
    if (root / LABELS).is_file() and not set(_content(root).folders) & set(classes):
        files, left = _labelled(root)
    else:
        files, left = _classes(root)
    if extra := sorted(set(files) - set(classes)):
        raise ValueError(f"{root.name} holds the class {extra[0]!r}, which train lacks; give both the same classes")
    return files, left


def _labelled(root: Path) -> tuple[Files, Counter[str]]:
    """Tiny ImageNet's validation pictures: `images/FILE`, and lines of FILE and CLASS in a text file."""
    inside = _content(root)
    inner = next((name for name in inside.folders if name.lower() == INNER), None)
    within = _content(root / inner) if inner else _Content()
    lines = (root / LABELS).read_text(errors="replace").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    if wrong := [number for number, row in enumerate(rows, 1) if len(row) < 2]:
        raise ValueError(f"line {wrong[0]} of {LABELS} in {root.name!r} has no class")
    labels = {row[0]: row[1] for row in rows}
    files: Files = {}
    for name in within.pictures:
        if name in labels:
            files.setdefault(labels[name], []).append((name, f"{inner}/{name}"))
    unknown = sum(name not in labels for name in within.pictures)
    left = inside.left + within.left + Counter({f"pictures without a line in {LABELS}": unknown})
    left.subtract({".txt": 1})
    if not files:
        raise ValueError(f"the folder {root.name!r} holds none of the pictures that its {LABELS} names")
    return files, +left


def _share(label: str, files: list[tuple[str, str]], split: str) -> list[tuple[str, str]]:
    """The files of a class that belong to a split when no folder is held out.

    A file's place depends on its own name alone, unless that would leave the class without a picture on one side.
    """
    hashes = {name: hashlib.sha256(os.fsencode(f"{label}/{name}")).digest() for name, _ in files}
    low = sum(digest[0] * SHARE < 256 for digest in hashes.values())
    held_out = set(sorted(hashes, key=hashes.__getitem__)[: min(max(low, 1), len(files) - 1)])
    return [file for file in files if (file[0] in held_out) == (split == "test")]


def _listed(counts: Counter[str], most: int = 10) -> str:
    """Counts in words, the largest first."""
    found = [f"{name} ({count:,})" for name, count in counts.most_common()]
    more = [f"and {len(found) - most} more kinds"] if len(found) > most else []
    return ", ".join(found[:most] + more)


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
