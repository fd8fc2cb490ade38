"""Fixtures: an integer and a float file of one tiny checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.language.stepping import LanguageModel
from exporters.illm import export
from tests.exporters.illm.checkpoints import make

pytest.importorskip("transformers", reason="makes the tiny checkpoint")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model files ``integer`` and ``float``, context 128."""
    folder = tmp_path_factory.mktemp("language")
    make("llama-tied", folder / "checkpoint")
    made = {}
    for precision in ("integer", "float"):
        path = folder / f"{precision}.onnx"
        export("illm", path, checkpoint=folder / "checkpoint", precision=precision)
        made[precision] = path
    return made


@pytest.fixture(scope="session")
def models(files: dict[str, Path]) -> Iterator[dict[str, LanguageModel]]:
    opened = {name: LanguageModel.open(path, threads=1) for name, path in files.items()}
    yield opened
    for model in opened.values():
        model.close()
