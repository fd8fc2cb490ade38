"""Providers from libraries of their own: what is missing is said, and no CPU steps in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest

from exporters.errors import MissingRequirementError
from runtimes import ort_plugins, registry
from runtimes.ort_plugins import Plugin
from tests.runtimes import models


def test_the_provider_for_rtx_says_what_it_lacks(tmp_path: Path) -> None:
    runtime = registry.get("onnxruntime-tensorrt-rtx")
    found = runtime.probe()
    if found.can_run:
        pytest.skip("this machine has the provider and a GPU")
    assert found.reason
    assert found.fix == "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13"
    with pytest.raises(MissingRequirementError, match="onnxruntime-tensorrt-rtx cannot run here"):
        runtime.load(models.save(models.conv(), tmp_path / "m.onnx"))


def test_a_package_that_is_not_there_is_named() -> None:
    assert "no_such_provider" in ort_plugins.problem(Plugin("XProvider", "no_such_provider"))


def test_a_library_that_is_none_is_refused_in_onnx_runtimes_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real registration; only the driver is said to be there."""
    library = tmp_path / "libprovider.so"
    library.write_bytes(b"no library")
    module = SimpleNamespace(get_library_path=lambda: str(library))
    monkeypatch.setattr(ort_plugins, "device_problem", lambda: "")
    monkeypatch.setattr(ort_plugins.importlib, "import_module", lambda _name: module)
    said = ort_plugins.problem(Plugin("BrokenProvider", "broken_provider"))
    assert "ONNX Runtime does not take its library" in said
    assert "libprovider.so" in said


def test_onnx_runtime_has_what_plugins_need() -> None:
    for name in ("register_execution_provider_library", "get_ep_devices"):
        assert hasattr(onnxruntime, name)
    assert hasattr(onnxruntime.SessionOptions, "add_provider_for_devices")
