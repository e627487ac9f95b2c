"""The picture of the course: the shares that the pages name, and that they are read off the right tokens."""

import pytest
import torch
from PIL import Image

from alitok_lite import viz
from alitok_lite.measure.probe import later_share


@pytest.mark.slow
def test_the_shares_that_the_pages_name():
    """38 %, 0 and 5.5 % on later tokens, and what the bars say."""
    found = {name: viz.sources(rows) for name, rows in viz.shipped_maps().items()}
    assert found["conventional"] == pytest.approx({"prefix": 0, "earlier": 0.40, "own": 0.22, "later": 0.38}, abs=0.01)
    assert found["causal"] == pytest.approx({"prefix": 0, "earlier": 0.76, "own": 0.24, "later": 0}, abs=0.01)
    second = {"prefix": 0.42, "earlier": 0.39, "own": 0.14, "later": 0.055}
    assert found["second stage"] == pytest.approx(second, abs=0.005)
    assert found["causal"]["later"] == 0  # exactly


@pytest.mark.parametrize("prefix", [0, 3])
def test_sources_add_up_and_agree_with_the_probe(prefix):
    rows = torch.rand(prefix + 4, 4, generator=torch.Generator().manual_seed(prefix))
    found = viz.sources(rows)
    assert sum(found.values()) == pytest.approx(1)
    assert found["later"] == pytest.approx(later_share(rows).mean().item())
    assert (found["prefix"] > 0) == (prefix > 0)


def test_sources_by_hand():
    rows = torch.tensor([[4.0, 0], [1, 1], [3, 1]])  # a prefix token, two image tokens
    assert viz.sources(rows) == pytest.approx({"prefix": 0.25, "earlier": 0.25, "own": 0.3125, "later": 0.1875})


def test_the_page_shows_it():
    with Image.open(viz.__path__[0] + "/../sheets/dependency.png") as picture:
        assert picture.width == 1800 and picture.height > 900
