"""The compiled kernels, once a session; skipped where there is nothing to compile them with."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporters.errors import MissingRequirementError
from runtimes.kernels import library


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return library(cache=tmp_path_factory.getbasetemp().parent / "kernels")
    except MissingRequirementError as missing:
        pytest.skip(str(missing))
