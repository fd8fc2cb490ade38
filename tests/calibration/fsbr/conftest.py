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
    random, words = np.random.default_rng(0), sorted(set(sample_text().split()))
    path = tmp_path_factory.mktemp("text") / "prose.txt"
    path.write_text(" ".join(random.choice(words, 1500)), encoding="utf-8")
    return path
