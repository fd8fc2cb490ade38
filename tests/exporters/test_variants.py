from __future__ import annotations

import sys
from pathlib import Path

import pytest

from exporters import export, find_variant
from exporters.errors import MissingRequirementError, UserError
from exporters.flashocc.config import CONFIGS
from exporters.variants import family, variants


def test_every_configuration_is_a_variant() -> None:
    assert set(CONFIGS) <= set(variants())
    assert all(item.summary for item in variants().values())


def test_unknown_names() -> None:
    with pytest.raises(UserError, match=r"unknown variant 'flashocc-mo'\. Did you mean"):
        find_variant("flashocc-mo")
    with pytest.raises(UserError, match="unknown model family 'flashoc'"):
        family("flashoc")


def test_options_are_those_of_the_family(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown export option 'sed'"):
        export("flashocc-nano", tmp_path / "m.onnx", sed=1)


@pytest.mark.parametrize("name", ["torch", "onnxscript"])
def test_a_missing_library_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # what Python sees where it is not installed
    with pytest.raises(MissingRequirementError) as caught:
        export("flashocc-nano", tmp_path / "m.onnx")
    assert f"{name} is not installed" in str(caught.value)
    assert "pip install 'edgeport[export]'" in str(caught.value)
