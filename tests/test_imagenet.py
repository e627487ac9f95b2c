"""ImageNet's classes by name, number or synset."""

import pytest
import torch
from conftest import small_ar, small_model

from alitok_lite.__main__ import main
from alitok_lite.core.ar import ARModel
from alitok_lite.store import imagenet


def test_there_are_a_thousand_names_each_once():
    assert len(imagenet.classes()) == len(set(imagenet.names())) == len({s for s, _ in imagenet.classes()}) == 1000
    assert len({name.lower() for name in imagenet.names()}) == 1000
    assert not any("," in name for name in imagenet.names())  # the command line separates classes by commas


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("tench", 0),
        ("toilet tissue", 999),
        ("golden retriever", 207),
        ("GOLDEN  Retriever", 207),
        ("golden_retriever", 207),
        ("jack-o'-lantern", 607),
        ("jack o' lantern", 607),
        ("n02099601", 207),
        ("207", 207),
        (207, 207),
        ("crane (bird)", 134),
        ("crane machine", 517),
    ],
)
def test_find(text, label):
    assert imagenet.find_class(text) == label


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("crane", "class 'crane' may be any of crane (bird) (134), crane (machine) (517): give one"),
        ("Cardigan", "may be any of Cardigan (dog) (264), cardigan (garment) (474)"),
        ("shark", "no class 'shark' in ImageNet: near it are great white shark (2), tiger shark (3)"),
        ("retriev", "near it are flat-coated retriever (205)"),
        ("terrier", "and 1"),
        ("unicorn", "no class 'unicorn' in ImageNet: give a name, a synset or a number from 0 to 999"),
        ("1000", "no class '1000'"),
        ("n00000000", "no class 'n00000000'"),
        ("", "no class ''"),
        pytest.param("9" * 5000, "no class '999", id="a very long number"),
        (-1, "no class -1"),
    ],
)
def test_not_found(text, words):
    with pytest.raises(ValueError) as error:
        imagenet.find_class(text)
    assert words in str(error.value)


def test_search_finds_whole_words_first():
    assert imagenet.search("white shark") == [2]
    assert imagenet.names()[imagenet.search("labr")[0]] == "Labrador retriever"
    assert imagenet.search("???") == []


def test_models_with_these_classes_take_them_in_any_form():
    model = small_model()
    assert model.labels(["sea", 2]).tolist() == [0, 2]
    with pytest.raises(ValueError, match="no class 'Sea'"):
        model.labels(["Sea"])
    model.classes = imagenet.names()
    assert torch.equal(model.labels(["goldfish", "Hen", "n01440764", "999", 5]), torch.tensor([1, 8, 0, 999, 5]))
    with pytest.raises(ValueError, match="may be any of crane"):
        model.labels(["crane"])
    with pytest.raises(ValueError, match="no class 1000"):
        model.labels([1000])


def test_sample_takes_eight_of_a_thousand_classes(tmp_path, capsys):
    model = small_model()
    model.ar = ARModel(small_ar(model.tokenizer.config, classes=1000))
    model.classes = imagenet.names()
    model.save_pretrained(tmp_path / "model")
    arguments = ["sample", "--model", str(tmp_path / "model"), "--device", "cpu", "--out", str(tmp_path / "a.png")]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("8 pictures")
    assert main([*arguments, "--classes", "tench, Goldfish ,n02099601,crane (bird),999"]) == 0
    assert capsys.readouterr().out.startswith("5 pictures")
    assert main([*arguments, "--classes", "crane"]) == 2
    assert "class 'crane' may be any of" in capsys.readouterr().err
