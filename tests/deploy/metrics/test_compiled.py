"""Kernels where numba is missing, and where nothing may be written beside the source."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from deploy.metrics import compiled as module
from exporters.errors import MissingRequirementError


def doubled(values):
    return values * 2


@pytest.fixture(autouse=True)
def _forget():
    module._compiled.cache_clear()
    yield
    module._compiled.cache_clear()


def test_a_missing_numba_brings_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingRequirementError, match=r"numba.*pip install 'edgeport\[metrics\]'"):
        module.compiled(doubled)


def test_without_a_folder_for_it_a_kernel_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function without a source file, as from a zip archive, is what numba cannot keep."""
    scope: dict = {}
    exec(compile("def tripled(values):\n    return values * 3\n", "<nowhere>", "exec"), scope)
    assert module.compiled(scope["tripled"])(np.arange(3)).tolist() == [0, 3, 6]
