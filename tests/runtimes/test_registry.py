from __future__ import annotations

import pytest

import runtimes
from exporters.errors import UserError
from runtimes import registry
from runtimes.base import Runtime
from runtimes.survey import survey


def test_every_runtime_is_found_by_its_name() -> None:
    for name in registry.names():
        found: Runtime = registry.get(name)
        assert found.name == name
        assert found.probe().runtime == name


def test_an_unknown_runtime_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown runtime 'tensorr'\. Did you mean 'tensorrt'"):
        registry.get("tensorr")


def test_the_public_names_are_there_and_say_where_they_live() -> None:
    for name in runtimes.__all__:
        assert getattr(runtimes, name).__module__.startswith("runtimes.")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = runtimes.nonsense


def test_the_survey_judges_every_target() -> None:
    found = {status.target: status for status in survey().targets}
    assert found["cpu/onnxruntime"].build
    assert found["cpu/onnxruntime"].run
    assert found["cpu/onnxruntime"].fix == ""
    orin = found["jetson-orin-agx/jp6.2/trt10.3"]
    assert not orin.build
    assert "on the device: sudo apt-get install nvidia-jetpack" in orin.fix


def test_without_a_gpu_rtx_is_built_and_not_run() -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")
    ada = next(s for s in survey().targets if s.target == "rtx-ada/trt-rtx1.7")
    assert ada.build
    assert ada.evidence.value == "built"
