from __future__ import annotations

import pytest

from exporters.errors import EdgeportError, MissingRequirementError
from runtimes import cuda
from runtimes.cuda import device_problem, import_runtime, require_device


@pytest.mark.skipif(not device_problem(), reason="a CUDA device is here")
def test_without_a_device_the_reason_is_said() -> None:
    with pytest.raises(
        MissingRequirementError, match="an engine needs a CUDA device to run: "
    ) as error:
        require_device()
    assert "bench the .onnx file instead" in error.value.fix


def test_without_cuda_python_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_MODULES", ("no_such_cuda",))
    with pytest.raises(MissingRequirementError, match="needs cuda-python") as error:
        import_runtime()
    assert "pip install cuda-python" in error.value.fix


def test_an_error_code_becomes_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuda-python returns ``(status, value)`` tuples; a status that is not 0 must not pass."""
    from enum import IntEnum
    from types import SimpleNamespace

    good, bad = IntEnum("Status", {"cudaSuccess": 0, "cudaErrorMemoryAllocation": 2})
    api = SimpleNamespace(
        cudaMalloc=lambda size: (good, 4096) if size < 10 else (bad, None),
        cudaFree=lambda _pointer: (good,),
    )
    monkeypatch.setattr(cuda, "import_runtime", lambda: api)
    device = cuda.Cuda()
    assert device.malloc(1) == 4096
    device.free(4096)
    with pytest.raises(EdgeportError, match="cudaMalloc failed: cudaErrorMemoryAllocation"):
        device.malloc(100)
