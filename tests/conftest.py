"""Small models and the device that the core tests run on (a GPU when there is one)."""

import gc
import os
import shutil
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alitok_lite import AliTok, ARConfig, TokenizerConfig, scenes
from alitok_lite.core.ar import ARModel
from alitok_lite.core.tokenizer import Tokenizer
from alitok_lite.data import pictures, sources

CLASSES = ["sea", "house", "tree"]
torch.set_num_threads(1)  # everything here is small: several threads would only wait for each other


def pytest_collection_finish() -> None:
    """What the tests import stays to the end: it is not searched for garbage again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 50)


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session", autouse=True)
def seeds_for_the_cpu_alone():
    """Without a GPU, torch keeps the stack of every `manual_seed` for later, which takes longer than many a test."""
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            patch.setattr(torch.cuda, "manual_seed_all", lambda seed: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk():
    """What is written is there at once for every reader; `fsync` only helps when the power fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def pictures_read_here():
    """Without a word on workers a test's own process reads its few pictures; starting others would take longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "_cpus", lambda: 0)
        yield


@pytest.fixture(scope="session", autouse=True)
def painted_once():
    """Trainings need the same few scenes again and again: painted once, handed out as copies."""
    real = sources.random_scenes

    @lru_cache(maxsize=256)
    def paint(render, *asked):  # a test may put another `render` in its place
        return real(*asked)

    def copies(*asked):
        return tuple(tensor.clone() for tensor in paint(scenes.render, *asked))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "random_scenes", copies)
        yield


def small_tokenizer(**changes) -> TokenizerConfig:
    """32 px, patch 16 unless changed: G = 2, K = 3, T = 7."""
    sizes = {"image_size": 32, "codebook_size": 16, "code_dim": 4, "buffer_tokens": 4}
    sizes |= {
        f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in (("width", 16), ("depth", 2), ("heads", 2))
    }
    return TokenizerConfig(**sizes | changes)


def small_ar(tokenizer: TokenizerConfig, **changes) -> ARConfig:
    sizes = {"codebook_size": tokenizer.codebook_size, "grid": tokenizer.grid, "classes": len(CLASSES)}
    sizes |= {"prefix_tokens": tokenizer.prefix_tokens, "width": 16, "depth": 2, "heads": 2, "hidden": 24}
    return ARConfig(**sizes | changes)


def small_model(stages=(1, 2), **changes) -> AliTok:
    """Random weights that differ enough for every token to matter."""
    torch.manual_seed(0)
    config = small_tokenizer(**changes)
    model = AliTok(Tokenizer(config, stages), ARModel(small_ar(config)), CLASSES)
    for module in (model.tokenizer, model.ar):
        for parameter in module.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
    return model.to("cpu")


@pytest.fixture
def model(device) -> AliTok:
    return small_model().to(device)


@pytest.fixture(scope="session")
def fixture() -> dict[str, torch.Tensor]:
    """Values of the official code with small widths and random weights."""
    return load_file(Path(__file__).parent / "data" / "parity_small.safetensors")


@pytest.fixture(scope="session")
def saved_once(tmp_path_factory) -> Path:
    """A checkpoint to copy."""
    path = tmp_path_factory.mktemp("saved") / "small"
    small_model().save_pretrained(path)
    return path


@pytest.fixture
def folder(saved_once, tmp_path) -> Path:
    """A saved checkpoint of one's own."""
    return shutil.copytree(saved_once, tmp_path / "small")
