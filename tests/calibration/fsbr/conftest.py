"""Fixtures: tiny random checkpoints, and a text that they have a tokenizer for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exporters.illm.sample_text import sample_text
from tests.exporters.illm.checkpoints import make


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``folder(kind)``: a Hugging Face directory."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            make(kind, made[kind])
        return made[kind]

    return get


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 1500 words: random networks care for no order."""
    path = tmp_path_factory.mktemp("text") / "prose.txt"
    path.write_text(random_words(np.random.default_rng(0), 1500), encoding="utf-8")
    return path


def random_words(random: np.random.Generator, count: int) -> str:
    """Words of the sample text in no order."""
    return " ".join(random.choice(sorted(set(sample_text().split())), count))
