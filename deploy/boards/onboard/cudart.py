"""The CUDA runtime through ctypes: memory, one stream, events, graphs. JetPack brings the library.

Evidence: written; no device was there to execute it on.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any, Callable

from .journal import BoardError

_LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
_TO_DEVICE, _TO_HOST = 1, 2
_RELAXED = 2  # cudaStreamCaptureModeRelaxed
_SPIN, _BLOCK = 1, 4  # cudaDeviceScheduleSpin, cudaDeviceScheduleBlockingSync


class Cuda:
    """Calls with their error codes turned into exceptions; pointers are ints."""

    def __init__(self) -> None:
        self._library = _load()

    def require_device(self) -> None:
        count = ctypes.c_int(0)
        code = self._library.cudaGetDeviceCount(ctypes.byref(count))
        if code != 0 or count.value == 0:
            raise BoardError(
                f"no CUDA device on the board (code {code}): an engine cannot run there",
                "Bench the model file in ONNX Runtime there: --runtime onnxruntime",
            )

    def wait_by(self, *, spinning: bool) -> None:
        """How the host waits for the device: by asking all the time, or asleep."""
        self._call("cudaSetDeviceFlags", ctypes.c_uint(_SPIN if spinning else _BLOCK))

    def malloc(self, size_bytes: int) -> int:
        return self._made("cudaMalloc", ctypes.c_size_t(max(size_bytes, 1)))

    def malloc_host(self, size_bytes: int) -> int:
        """Page-locked memory of the host."""
        return self._made("cudaMallocHost", ctypes.c_size_t(max(size_bytes, 1)))

    def create_stream(self) -> int:
        return self._made("cudaStreamCreate")

    def create_event(self) -> int:
        return self._made("cudaEventCreate")

    def record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def elapsed_ms(self, start: int, end: int) -> float:
        value = ctypes.c_float()
        self._call(
            "cudaEventElapsedTime",
            ctypes.byref(value),
            ctypes.c_void_p(start),
            ctypes.c_void_p(end),
        )
        return float(value.value)

    def to_device(self, pointer: int, host: int, size_bytes: int, stream: int) -> None:
        self._copy(pointer, host, size_bytes, _TO_DEVICE, stream)

    def to_host(self, host: int, pointer: int, size_bytes: int, stream: int) -> None:
        self._copy(host, pointer, size_bytes, _TO_HOST, stream)

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """What ``enqueue`` puts on ``stream``, as an executable graph."""
        self._call("cudaStreamBeginCapture", ctypes.c_void_p(stream), ctypes.c_int(_RELAXED))
        graph = ctypes.c_void_p()
        try:
            enqueue()
        finally:
            self._call("cudaStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        return self._made("cudaGraphInstantiate", graph, ctypes.c_ulonglong(0))

    def launch(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def _copy(self, to: int, source: int, size_bytes: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(to),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size_bytes),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )

    def _made(self, name: str, *arguments: Any) -> int:
        """A call that fills the handle or pointer which is its first argument."""
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            describe = self._library.cudaGetErrorString
            describe.restype = ctypes.c_char_p
            raise BoardError(f"{name} failed: {describe(code).decode()} ({code})")


def _load() -> Any:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise BoardError(
        f"no CUDA runtime on the board (tried {', '.join(_LIBRARIES)})",
        "On a Jetson: sudo apt-get install nvidia-jetpack",
    )
