"""Folders as people have them: every layout that is read, and a word about all that is not."""

import os
import re

import pytest
import torch
from PIL import Image, PngImagePlugin
from test_data import fill, noise
from test_train import add_presets
from tqdm import tqdm

from alitok_lite import machine
from alitok_lite.data import PictureFolder
from alitok_lite.data.folders import find
from alitok_lite.data.pictures import UnfitPictures
from alitok_lite.data.sources import FolderSource, open_source
from alitok_lite.train import run
from alitok_lite.train.settings import TrainSettings

SETTINGS = TrainSettings(steps=1, batch=2)


def source(folder, **options):
    return FolderSource(folder, 16, SETTINGS, torch.device("cpu"), **{"workers": 0} | options)


def names(folder, split):
    return find(folder, split).names


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN"])
@pytest.mark.parametrize("held_out", ["test", "val", "valid", "validation", "TEST", "Val", "Validation"])
def test_splits(tmp_path, train, held_out):
    fill(tmp_path / train, {"a": 3, "b": 2})
    fill(tmp_path / held_out, {"a": 1, "b": 2})
    found = source(tmp_path)
    assert len(found.train) == 5 and len(found.test) == 3
    assert found.test.layout.root == tmp_path / held_out
    assert found.report() == [f"2 classes, 5 pictures to train on, 3 held out (in '{held_out}')"]


def test_first_of_several_is_held_out_and_the_others_are_named(tmp_path):
    for name in ("train", "validation", "val", "test"):
        fill(tmp_path / name, {"a": 2, "b": 2})
    (tmp_path / "extra" / "x").mkdir(parents=True)
    assert source(tmp_path).report() == [
        "2 classes, 4 pictures to train on, 4 held out (in 'test')",
        "left out: the folder 'extra' beside 'train'",
        "left out: the folder 'val', since 'test' is held out",
        "left out: the folder 'validation', since 'test' is held out",
    ]


def test_test_folder_without_classes_is_left_out(tmp_path):
    """Unlabelled test pictures, as competitions have them."""
    for name in ("train", "val"):
        fill(tmp_path / name, {"a": 2, "b": 2})
    (tmp_path / "test").mkdir()
    noise(16).save(tmp_path / "test" / "1.png")
    lines = source(tmp_path).report()
    assert lines[0].endswith("held out (in 'val')") and "the folder 'test', which has no class folders" in lines[1]
    (tmp_path / "val").rename(tmp_path / "test" / "images")  # neither are these classes
    lines = source(tmp_path).report()
    assert lines[0] == (
        "2 classes, 2 pictures to train on, 2 held out"
        " (one in 20 of each class, as there is no folder test, val, valid or validation)"
    )


def test_classes_missing_from_a_split_are_counted(tmp_path):
    fill(tmp_path / "train", {"a": 2, "b": 2, "c": 1})
    fill(tmp_path / "val", {"a": 2})
    assert source(tmp_path).report()[1] == "2 of the classes have no picture held out"


def tiny_imagenet(root):
    """As it comes: train/CLASS/images with boxes beside them, val/images with a list, test without labels."""
    for number, label in enumerate(("n01", "n02")):
        images = fill(root / "train" / label, {"images": 3}) / "images"
        (images.parent / f"{label}_boxes.txt").write_text("0 0 9 9")
        for path in images.iterdir():
            path.rename(images / f"{label}_{path.stem}.JPEG")
        (root / "val" / "images").mkdir(parents=True, exist_ok=True)
        for i in range(2):
            Image.new("RGB", (16, 16), (0, 100 * number, 0)).save(
                root / "val" / "images" / f"val_{number}{i}.JPEG", "JPEG"
            )
    lines = [f"val_{number}{i}.JPEG\tn0{number + 1}\t0\t0\t9\t9\n" for i in range(2) for number in range(2)]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    fill(root / "test", {"images": 2})
    (root / "wnids.txt").write_text("n01\nn02\n")
    return root


def test_tiny_imagenet(tmp_path):
    found = source(tiny_imagenet(tmp_path))
    assert found.classes == ["n01", "n02"]
    assert found.train.names == [f"n0{i}/images/n0{i}_00{j}.JPEG" for i in (1, 2) for j in range(3)]
    assert found.test.names == ["n01/val_00.JPEG", "n01/val_01.JPEG", "n02/val_10.JPEG", "n02/val_11.JPEG"]
    greens = found.test.whole(slice(None)).mean((2, 3))[:, 1]
    assert found.test.labels.tolist() == [0, 0, 1, 1] and (greens[:2] < 0.1).all() and (greens[2:] > 0.3).all()
    assert found.report() == [
        "2 classes, 6 pictures to train on, 4 held out (in 'val')",
        "left out in 'train': .txt (2)",
        f"left out in '{tmp_path.name}': .txt (1)",
        "left out: the folder 'test', which has no class folders",
    ]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("val_00.JPEG n03\n", "val holds the class 'n03', which train lacks"),
        ("val_00.JPEG n01\n\nval_01.JPEG\n", "line 2 of val_annotations.txt in 'val' has no class"),
        ("other.JPEG n01\n", "'val' holds none of the pictures that its val_annotations.txt names"),
        ("\xff\xfe", "line 1 of val_annotations.txt in 'val' has no class"),
    ],
)
def test_wrong_list_of_tiny_imagenet(tmp_path, lines, words):
    (tiny_imagenet(tmp_path) / "val" / "val_annotations.txt").write_text(lines, "latin1")
    with pytest.raises(ValueError, match=words):
        source(tmp_path)


def test_pictures_without_a_line_are_counted(tmp_path):
    (tiny_imagenet(tmp_path) / "val" / "val_annotations.txt").write_text("val_00.JPEG n01\nval_10.JPEG n02\n")
    assert "left out in 'val': pictures without a line in val_annotations.txt (2)" in source(tmp_path).report()


JUNK = ("__MACOSX", "@eaDir", ".ipynb_checkpoints", "Thumbs.db", "desktop.ini", ".DS_Store", "._p.jpg")


@pytest.mark.parametrize("where", ["", "train", "train/a", "test", "test/b"])
def test_what_systems_leave_is_passed_over_and_counted(tmp_path, where):
    for split in ("train", "test"):
        fill(tmp_path / split, {"a": 2, "b": 2})
    for name in JUNK:
        if "." in name[1:] or name == ".DS_Store":
            (tmp_path / where / name).write_text("")
        else:
            (tmp_path / where / name / "a").mkdir(parents=True)
            (tmp_path / where / name / "a" / "._x.jpg").write_text("")
    found = source(tmp_path)
    assert len(found.train) == len(found.test) == 4 and found.classes == ["a", "b"]
    (line,) = found.report()[1:]
    for words in ("folder __MACOSX (1)", "folder @eaDir (1)", "folder .ipynb_checkpoints (1)", "hidden files (2)"):
        assert words in line
    assert "Thumbs.db (1)" in line and "desktop.ini (1)" in line


def test_endings_that_are_not_read_are_counted(tmp_path):
    fill(tmp_path, {"a": 3, "b": 3})
    for number, ending in enumerate((".bmp", ".BMP", ".jfif", ".gif", ".heic", ".txt", "")):
        (tmp_path / "ab"[number % 2] / f"x{number}{ending}").write_text("")
    noise(16).save(tmp_path / "loose.png")
    (tmp_path / "a" / "more").mkdir()
    line = source(tmp_path).report()[1]
    assert line.startswith(f"left out in '{tmp_path.name}': .bmp (2), ")
    assert sorted(line.split(": ")[1].split(", ")) == [
        ".bmp (2)",
        ".gif (1)",
        ".heic (1)",
        ".jfif (1)",
        ".txt (1)",
        "files without an ending (1)",
        "folders inside classes (1)",
        "pictures beside the classes (1)",
    ]
    for number in range(12):
        (tmp_path / "a" / f"x.{number}{number}").write_text("")
    assert source(tmp_path).report()[1].endswith(", and 10 more kinds")


def test_pictures_beside_train_are_counted(tmp_path):
    fill(tmp_path / "train", {"a": 3, "b": 3})
    noise(16).save(tmp_path / "loose.png")
    (tmp_path / "readme.txt").write_text("")
    assert source(tmp_path).report()[1] == f"left out in '{tmp_path.name}': .txt (1), pictures beside 'train' (1)"


def test_links_in_a_circle_and_to_nothing_are_left_out(tmp_path):
    root = fill(tmp_path / "set", {"a": 3, "b": 3})
    (root / "one").symlink_to(root / "two")
    (root / "two").symlink_to(root / "one")
    (root / "a" / "x.png").symlink_to(root / "nothing.png")
    (root / "a" / "y.png").symlink_to(root / "a" / "y.png")
    (root / "b" / "up").symlink_to(root)
    (root / "a" / "good.png").symlink_to(root / "b" / "000.png")
    os.mkfifo(root / "b" / "pipe.png")
    found = source(root)
    assert len(found.train) + len(found.test) == 7
    assert found.report()[1] == "left out in 'set': broken links (4), pipes and devices (1), folders inside classes (1)"
    with pytest.raises(ValueError, match="^there is no folder 'one'"):
        source(root / "one")


def test_folder_that_may_not_be_read(tmp_path, monkeypatch):
    fill(tmp_path / "set", {"a": 3, "b": 3})
    scan = os.scandir

    def refused(folder):
        if str(folder).endswith("b"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(ValueError, match="^the folder 'b' cannot be read: Permission denied$"):
        source(tmp_path / "set")


def test_picture_that_vanishes_is_named_without_its_folder(tmp_path, monkeypatch):
    fill(tmp_path / "set", {"a": 3, "b": 3})
    found = find(tmp_path / "set", "train")
    (found.root / found.paths[0]).unlink()
    monkeypatch.setattr("alitok_lite.data.pictures.find", lambda *args: found)
    with pytest.raises(ValueError) as caught:
        PictureFolder(tmp_path / "set", 16, workers=0)
    name = found.paths[0].split("/")[1]
    assert str(caught.value) == f"the picture {name!r} cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["val/a/1.png", "test/a/1.png"], "has a folder 'test' but no 'train' with class folders in it"),
        (["a/1.png", "b/1.png", "val/a/1.png"], "has a folder 'val' but no 'train' with class folders in it"),
        (["train/a/1.png", "Train/a/1.png"], "has 'Train' and 'train'; leave one of them"),
        (["inner/a/1.png", "inner/b/1.png"], "'set' holds no pictures in class folders (but deeper, in 'inner/a')"),
        (["a/1.png", "b/white/1.png"], "class folder 'b' in 'set' holds no pictures (but its folder 'white' may)"),
        (["a/1.png", "b/1.bmp", "b/2.bmp"], "class folder 'b' in 'set' holds no pictures (there are: .bmp (2))"),
        (
            ["a/1.bmp", "b/1.gif", "c.png"],
            "no pictures in class folders (there are: pictures beside the classes (1), .bmp (1)",
        ),
        (["a/1.png", "a/1.bmp", "b/1.png", "b/2.jfif", "b/3.jfif"], "(left out: .jfif (2), .bmp (1))"),
    ],
)
def test_refusals_say_what_is_there(tmp_path, files, words):
    for name in files:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        noise(16).save(tmp_path / "set" / name, "PNG")
    if "leave one" in words and len(os.listdir(tmp_path / "set")) == 1:
        pytest.skip("capitals make no difference on this disk")
    with pytest.raises(ValueError) as caught:
        source(tmp_path / "set")
    assert words in str(caught.value) and str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


def test_one_readable_picture_a_class_is_said_to_be_that(tmp_path):
    """Thirty files that are not read lie beside each."""
    root = fill(tmp_path / "set", {"a": 1, "b": 1})
    for number in range(30):
        for label in "ab":
            (root / label / f"{number}.{'bmp' if number % 2 else 'jfif'}").write_text("")
    text = refusal(root)
    assert "has one picture a class that can be read, none to hold out; give two or more (left out: " in text
    assert ".bmp (30)" in text and ".jfif (30)" in text


def refusal(folder, **options):
    with pytest.raises(ValueError) as caught:
        source(folder, **options)
    return str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_all_unfit_pictures_are_named_at_once(tmp_path, workers, monkeypatch):
    """Of both splits: damaged headers, damaged data, too small; ten of them, and how many more."""
    monkeypatch.setattr("alitok_lite.data.pictures.BLOCK", 4)
    for split, count in (("train", 9), ("test", 5)):
        fill(tmp_path / split, {"a": count, "b": count}, 24)
    for number in range(3):
        (tmp_path / "train" / "a" / f"{number:03d}.png").write_bytes(b"")
        Image.effect_noise((64, 64), 50).save(tmp_path / "train" / "b" / f"{number:03d}.png")
        path = tmp_path / "train" / "b" / f"{number:03d}.png"
        path.write_bytes(path.read_bytes()[:2000])
    noise((12, 30)).save(tmp_path / "test" / "b" / "small.png")
    text = refusal(tmp_path, workers=workers)
    assert text.startswith("7 pictures cannot be used: in the class folder 'a', '000.png' is not a picture")
    assert text.endswith("; give PNG, JPEG or WEBP pictures of at least 16 x 16 and at most 24 million pixels")
    assert len(re.findall(r"'\d{3}.png' is not a picture that can be read: it is empty;", text)) == 3
    assert len(re.findall(r"'\d{3}.png' is damaged: the file is cut short;", text)) == 3
    assert "'small.png' has 30 x 12 pixels, too small;" in text and "more" not in text and "\n" not in text
    for number in range(3, 9):
        (tmp_path / "train" / "a" / f"{number:03d}.png").write_bytes(b"")
    text = refusal(tmp_path, workers=workers)
    assert text.startswith("13 pictures cannot be used: ") and "; and 3 more; give PNG" in text
    assert text.count("'0") == 10


def test_pictures_that_are_all_unfit(tmp_path):
    fill(tmp_path, {"a": 2, "b": 2}, 12)
    assert refusal(tmp_path).startswith("4 pictures cannot be used: ")
    for memory in (8e9, 0):
        with pytest.raises(UnfitPictures):
            PictureFolder(tmp_path, 16, workers=0, memory=memory)


def test_training_says_what_it_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    add_presets(monkeypatch)
    fill(tmp_path / "set" / "train", {"a": 4, "b": 4}, 32)
    fill(tmp_path / "set" / "val", {"a": 1, "b": 1}, 32)
    (tmp_path / "set" / "train" / "a" / "x.bmp").write_text("")
    run.train("tokenizer", "mini-plain", tmp_path / "run", data=str(tmp_path / "set"), workers=0)
    lines = capsys.readouterr().out.splitlines()
    assert "2 classes, 8 pictures to train on, 2 held out (in 'val')" in lines
    assert "left out in 'train': .bmp (1)" in lines
    monkeypatch.setenv("RANK", "1")
    open_source(str(tmp_path / "set"), 16, SETTINGS, torch.device("cpu"), 0)
    assert capsys.readouterr().out == ""


def test_changed_pictures_are_said_on_resuming(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    add_presets(monkeypatch)
    fill(tmp_path / "set", {"a": 4, "b": 4}, 32)
    for changed in (False, True):
        if changed:
            noise(32).save(tmp_path / "set" / "a" / "new.png")
        options = {"data": str(tmp_path / "set"), "workers": 0}
        if not changed:
            run.train("tokenizer", "mini-plain", tmp_path / "run", **options)
        capsys.readouterr()
        run.train("tokenizer", "mini-plain", tmp_path / "run", True, [("steps", 5 + changed)], **options)
        said = "the pictures have changed since this training began" in capsys.readouterr().out
        assert said is changed


def test_names_that_a_console_cannot_show_are_escaped(monkeypatch):
    written = []

    def write(text):
        if not text.isascii():
            raise UnicodeEncodeError("ascii", text, 0, 1, "ordinal not in range")
        written.append(text)

    monkeypatch.setattr(tqdm, "write", write)
    machine.say("left out: the folder 'é'")
    machine.say("plain")
    assert written == ["left out: the folder '\\xe9'", "plain"]


def test_pictures_with_much_metadata_are_used(tmp_path):
    """As image generators write them: the whole workflow stands in a text chunk."""
    fill(tmp_path, {"a": 3, "b": 3}, 24)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("prompt", "x" * 2_000_000, zip=True)
    noise((24, 24)).save(tmp_path / "a" / "000.png", pnginfo=info)
    assert "a/000.png" in PictureFolder(tmp_path, 16, workers=0).names + PictureFolder(tmp_path, 16, "test").names
