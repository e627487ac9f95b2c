"""Classes by name or number, alone and in lists."""

import numpy as np
import pytest
import torch

from alitok_lite.store import imagenet
from alitok_lite.store.class_names import label_of, read_list, write_list

NUMBERED = sorted(str(i) for i in range(12))  # 0, 1, 10, 11, 2, ...
NAMES = ["crane, bird", "sea", 'a "nice" tree', "x y"]


@pytest.mark.parametrize(
    ("entry", "label"), [("10", 2), (10, 10), ("2", 4), (np.int64(2), 2), (torch.tensor(2), 2), (np.str_("2"), 4)]
)
def test_a_name_comes_before_a_number(entry, label):
    assert label_of(entry, NUMBERED) == label


@pytest.mark.parametrize(("entry", "label"), [("sea", 1), ("1", 1), (" 1", 1), (3, 3), ("crane, bird", 0)])
def test_text_may_be_a_number(entry, label):
    assert label_of(entry, NAMES) == label


@pytest.mark.parametrize(
    "entry", ["se", "4", "-1", "1.0", "", "²", "9" * 5000, 4, -1, True, 1.0, None, np.bool_(True), np.float32(1)]
)
def test_unknown_classes(entry):
    with pytest.raises(ValueError, match="^no class .*: give a number from 0 to 3 or one of crane, bird, sea, "):
        label_of(entry, NAMES)


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("sea", ["sea"]),
        (" sea , 2,x y ", ["sea", 2, "x y"]),
        ('"crane, bird",3', ["crane, bird", 3]),
        (' "crane, bird" , sea', ["crane, bird", "sea"]),
        ('"a ""nice"" tree",sea,sea', ['a "nice" tree', "sea", "sea"]),
        ('a "nice" tree', ['a "nice" tree']),
        ('"sea"', ["sea"]),
    ],
)
def test_lists(text, classes):
    assert read_list(text, NAMES) == classes
    assert read_list(write_list(classes), NAMES) == classes


def test_lists_of_names_that_are_numbers():
    assert read_list("10, 2", NUMBERED) == ["10", "2"]
    assert read_list("n02099601,207,Golden retriever", imagenet.names()) == ["n02099601", 207, "Golden retriever"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no class '': the list of classes '' has an empty entry"),
        ("sea,", "no class '': the list of classes 'sea,' has an empty entry"),
        ("sea,,2", "has an empty entry"),
        ('sea,""', "has an empty entry"),
        ("sea,boat", "no class 'boat'"),
        ("sea,4", "no class 4: give a number from 0 to 3"),
        ("-1", "no class '-1'"),
        ("crane, bird", "no class 'crane'"),
        ('"crane, bird', "cannot be read (unexpected end of data): quote a name with commas"),
        ("sea\nx y", "cannot be read"),
    ],
)
def test_wrong_lists(text, words):
    with pytest.raises(ValueError) as error:
        read_list(text, NAMES)
    assert words in str(error.value) and "\n" not in str(error.value)
