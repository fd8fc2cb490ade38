"""Is there a CUDA device, and if not, what is missing; and the few CUDA calls a session needs.

The question is answered with the driver library alone, so that it can be asked where neither the
toolkit nor cuda-python is installed. The calls go through NVIDIA's cuda-python.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from functools import cache
from typing import Any

from exporters.errors import EdgeportError, MissingRequirementError

_DRIVER = "libcuda.so.1"
_CAPABILITY_ATTRIBUTES = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_MODULES = ("cuda.bindings.runtime", "cuda.cudart")  # since 12.6, and before


@cache
def device_problem() -> str:
    """One sentence why no CUDA device can be used here; empty if one can."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return f"no NVIDIA driver ({_DRIVER} not found)"
    code = driver.cuInit(0)
    if code != 0:
        return f"the NVIDIA driver does not start (cuInit returned {code})"
    count = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(count))
    return "" if count.value > 0 else "the NVIDIA driver sees no CUDA device"


@cache
def device_identity() -> str:
    """Name and compute capability of the first CUDA device, ``Orin (8.7)``; empty without one."""
    capability = compute_capability()
    if not capability:
        return ""
    name = ctypes.create_string_buffer(256)
    ctypes.CDLL(_DRIVER).cuDeviceGetName(name, len(name), 0)
    return f"{name.value.decode(errors='replace')} ({capability})"


@cache
def compute_capability() -> str:
    """Of the first CUDA device, ``8.7``; empty without one."""
    if device_problem():
        return ""
    driver = ctypes.CDLL(_DRIVER)
    parts = []
    for attribute in _CAPABILITY_ATTRIBUTES:
        value = ctypes.c_int(0)
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0)
        parts.append(str(value.value))
    return ".".join(parts)


def require_device() -> None:
    """Raise MissingRequirementError where ``device_problem`` finds one."""
    problem = device_problem()
    if problem:
        raise MissingRequirementError(
            f"an engine needs a CUDA device to run: {problem}",
            fix="Run it on the machine with the GPU; on this one, bench the .onnx file instead",
        )


def import_runtime() -> Any:
    """NVIDIA's CUDA runtime bindings.

    Raises:
        MissingRequirementError: cuda-python is not installed.
    """
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise MissingRequirementError(
        "running an engine needs cuda-python, which is not installed",
        fix="pip install cuda-python (12.x with JetPack 6)",
    )


class Cuda:
    """cuda-python with its error codes turned into exceptions; pointers and streams are ints."""

    def __init__(self) -> None:
        self._api = import_runtime()

    def malloc(self, size_bytes: int) -> int:
        return int(self._call("cudaMalloc", size_bytes))

    def free(self, pointer: int) -> None:
        self._call("cudaFree", pointer)

    def create_stream(self) -> Any:
        return self._call("cudaStreamCreate")

    def destroy_stream(self, stream: Any) -> None:
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: Any) -> None:
        self._call("cudaStreamSynchronize", stream)

    def to_device(self, pointer: int, host: int, size_bytes: int, stream: Any) -> None:
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", pointer, host, size_bytes, kind, stream)

    def to_host(self, host: int, pointer: int, size_bytes: int, stream: Any) -> None:
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", host, pointer, size_bytes, kind, stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._api, name)(*arguments)
        if int(status) != 0:
            raise EdgeportError(f"{name} failed: {status.name}")
        return values[0] if values else None
