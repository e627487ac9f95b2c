"""Which numbers of `evaluate` mean little, and that this is said."""

import pytest
from conftest import small_tokenizer

from alitok_lite import TokenizerConfig
from alitok_lite.measure.report import table, warnings

SOUND = {
    "model": "m",
    "data": "d",
    "pictures": 5000,
    "judge_real": 0.75,
    "judge_chance": 1 / 24,
    "active_codes": 0.68,
    "rfd_stage2": 1.2,
    "gfd": 1.3,
    "fd_floor": 0.1,
    "fd_floor_pictures": 2500,
    "generation_gap": 0.1,
}
INCEPTION = {"inception_rfd_stage2": 2.0, "inception_gfd": 3.0, "inception_fd_floor": 0.5}
CONFIG = TokenizerConfig()  # 4,096 codes, 273 tokens


def test_sound_numbers_are_left_alone():
    assert warnings(SOUND, CONFIG) == []
    assert warnings(SOUND | INCEPTION, CONFIG) == []
    assert warnings(SOUND | {"active_codes": 1.0, "judge_real": 1.0, "fd_floor": 0.0}, CONFIG) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"active_codes": 16 / 4096}, "only 16 of 4,096 codes are in use"),
        ({"active_codes": 0.2}, "only 819 of 4,096 codes are in use"),
        (
            {"judge_real": 0.5},
            "the judge puts only 50.0% of the real pictures into their class (4.2% if it named always",
        ),
        ({"details_real": 0.3}, "the judge of details puts only 30.0% of the real pictures into their class (4.2% if"),
        ({"judge_chance": 0.7}, "the judge puts only 75.0% of the real pictures into their class (70.0% if"),
        ({"judge_chance": 1.0, "judge_real": 1.0}, "all pictures are of one class"),
        ({"pictures": 128}, "128 pictures are few for the 128 features of the judge: rFD and gFD mean little"),
        ({"fd_floor": 0.9}, "of the gFD in the features of the judge, 69% is the floor: rFD and gFD mean little"),
        (INCEPTION | {"pictures": 2048}, "2,048 pictures are few for the 2,048 features of Inception: rFID and gFID"),
        (INCEPTION | {"inception_fd_floor": 2.0}, "of the gFD in the features of Inception, 67% is the floor"),
    ],
)
def test_what_means_little(changes, words):
    (found,) = warnings(SOUND | changes, CONFIG)
    assert words in found


def test_few_pictures_cannot_show_all_codes():
    """40 pictures have 280 tokens: at most 280 of 4,096 codes, so 100 of them are many."""
    few = {"pictures": 40, "active_codes": 100 / 4096}
    config = small_tokenizer(codebook_size=4096)
    assert not any("in use" in text for text in warnings(SOUND | few, config))
    assert any("in use" in text for text in warnings(SOUND | few | {"active_codes": 60 / 4096}, config))


def test_a_tokenizer_alone_has_no_gfd():
    results = {key: value for key, value in SOUND.items() if key not in ("gfd", "generation_gap")}
    assert warnings(results | {"fd_floor": 5.0}, CONFIG) == []


def test_warnings_stand_below_the_table():
    lines = table(SOUND | {"warnings": ["this", "that"]}).splitlines()
    assert lines[-4:] == [
        "",
        "Floor: 2,500 real pictures to 2,500 other real ones. A smaller generation gap says little.",
        "Warning: this.",
        "Warning: that.",
    ]
    assert any(line.split() == ["codebook", "usage", "68.0%"] for line in lines)
    assert any(line.split() == ["floor:", "real", "to", "other", "real", "0.10"] for line in lines)
    assert not table(SOUND | {"warnings": []}).endswith("\n")
