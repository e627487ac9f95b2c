"""What stands after a failure, and who waits for whom."""

import os

import pytest
from conftest import small_model

from alitok_lite.demo import drawing, models
from alitok_lite.store import convert


def test_a_failed_replacement_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    """The old folder has been moved aside, and then the new one cannot take its place."""
    out, real = tmp_path / "model", os.replace
    out.mkdir()
    (out / "config.json").write_text("old")

    def replace(source, target):
        if str(source).endswith(".tmp"):
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="Input/output"), convert._appearing(out) as folder:
        (folder / "config.json").write_text("new")
    assert (out / "config.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_drawing_holds_the_lock_for_each_step_and_lets_go_between_them():
    model, held = small_model(), []

    def steps():
        for step in model.stream(["sea"], seed=1):
            held.append(models._running.locked())
            yield step

    for _ in drawing._frames(model, steps(), 1):
        assert not models._running.locked()
    assert held == [True] * model.tokenizer.config.tokens
