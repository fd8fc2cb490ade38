"""Running an engine on a CUDA device. Evidence: written; nobody here had a GPU to execute it on.

Buffers are allocated once, for the largest shapes that the engine's profile allows. ``execute``
copies inputs to the device, runs, copies outputs back and waits, all on one stream of its own, so
what a benchmark times includes both copies.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import MissingRequirementError, UserError
from exporters.spans import COPIES, is_heard, span
from runtimes.base import Array, Feeds, TensorInfo
from runtimes.cuda import Cuda, require_device
from runtimes.feeds import check_feeds
from runtimes.tensorrt.dialects import Dialect, dialect_for
from runtimes.tensorrt.worker import import_backend, make_logger


class TensorRTSession:
    """A deserialized engine with its buffers.

    Raises:
        MissingRequirementError: no CUDA device, no cuda-python, or the engine does not load here.
    """

    def __init__(self, path: Path, dialect: Dialect, logger: Any) -> None:
        require_device()
        self._cuda = Cuda()
        self._trt = dialect.module
        self.runtime = dialect.name
        self._runtime = self._trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise MissingRequirementError(
                f"{path} does not load on this device",
                fix="Build it for this device: edgeport build MODEL.onnx --runtime tensorrt",
            )
        self._context = self._engine.create_execution_context()
        self._stream = self._cuda.create_stream()
        self.inputs, self.outputs = self._tensors()
        self._dynamic = [t.name for t in self.inputs if any(isinstance(s, str) for s in t.shape)]
        self._host = self._largest_arrays()
        self._device = {name: self._cuda.malloc(a.nbytes) for name, a in self._host.items()}
        for name, pointer in self._device.items():
            self._context.set_tensor_address(name, pointer)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        check_feeds(self.inputs, feeds)
        return self.execute(feeds)

    def execute(self, feeds: Feeds) -> dict[str, Array]:
        with span(COPIES):
            self._copy_in(feeds)
            self._wait_if_heard()
        self._context.execute_async_v3(int(self._stream))
        self._wait_if_heard()
        with span(COPIES):
            return self._copy_out()

    def _copy_in(self, feeds: Feeds) -> None:
        for info in self.inputs:
            host = np.ascontiguousarray(feeds[info.name])
            self._host[info.name] = host  # referenced until the stream has read it
            if info.name in self._dynamic:
                self._set_shape(info.name, host.shape)
            pointer = self._device[info.name]
            self._cuda.to_device(pointer, host.ctypes.data, host.nbytes, self._stream)

    def _copy_out(self) -> dict[str, Array]:
        for info in self.outputs:
            if self._dynamic:
                shape = tuple(self._context.get_tensor_shape(info.name))
                self._host[info.name] = np.empty(shape, info.dtype)
            host = self._host[info.name]
            pointer = self._device[info.name]
            self._cuda.to_host(host.ctypes.data, pointer, host.nbytes, self._stream)
        self._cuda.synchronize(self._stream)
        return {info.name: self._host[info.name].copy() for info in self.outputs}

    def _wait_if_heard(self) -> None:
        """Let the GPU finish a step that somebody takes the time of."""
        if is_heard():
            self._cuda.synchronize(self._stream)

    def layer_information(self) -> str:
        """The engine's layers as JSON, in the schema of ``trtexec --exportLayerInfo``."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def time_layers(self, feeds: Feeds, runs: int) -> dict[str, list[float]]:
        """Milliseconds of each layer, one value a run; timing layers slows the whole down."""
        self.run(feeds)  # the first run also loads kernels
        clock = _make_layer_clock(self._trt)
        self._context.profiler = clock
        for _ in range(runs):
            self.execute(feeds)
        times_ms: dict[str, list[float]] = clock.times_ms
        return times_ms

    def close(self) -> None:
        for pointer in self._device.values():
            self._cuda.free(pointer)
        self._device = {}
        self._cuda.destroy_stream(self._stream)

    def _tensors(self) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        inputs: list[TensorInfo] = []
        outputs: list[TensorInfo] = []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name))).name
            sizes = enumerate(self._engine.get_tensor_shape(name))
            shape = tuple(f"axis {axis}" if size < 0 else size for axis, size in sizes)
            info = TensorInfo(name, dtype, shape)
            is_input = self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
            (inputs if is_input else outputs).append(info)
        return tuple(inputs), tuple(outputs)

    def _largest_arrays(self) -> dict[str, Array]:
        """An array for each tensor, of the largest shape that the profile allows."""
        for name in self._dynamic:
            _smallest, _likely, largest = self._engine.get_tensor_profile_shape(name, 0)
            self._set_shape(name, largest)
        arrays = {}
        for info in (*self.inputs, *self.outputs):
            shape = tuple(self._context.get_tensor_shape(info.name))
            if any(size < 0 for size in shape):
                raise UserError(
                    f"the size of output {info.name!r} depends on the data, not on the inputs' "
                    "shapes alone",
                    fix="Export the model with outputs of fixed size, padded to the largest",
                )
            arrays[info.name] = np.empty(shape, info.dtype)
        return arrays

    def _set_shape(self, name: str, shape: Any) -> None:
        if not self._context.set_input_shape(name, tuple(shape)):
            smallest, _likely, largest = self._engine.get_tensor_profile_shape(name, 0)
            raise UserError(
                f"input {name!r} has shape {tuple(shape)}; the engine takes {tuple(smallest)} to "
                f"{tuple(largest)}",
                fix="Build it for this shape: edgeport build --min-shapes ... --max-shapes ...",
            )


def load_session(path: Path, module: str) -> TensorRTSession:
    dialect, logger = _library(module)
    return TensorRTSession(path, dialect, logger)


@cache
def _library(module: str) -> tuple[Dialect, Any]:
    """TensorRT keeps the first logger of a process for good, so all sessions share one."""
    backend = import_backend([module])
    return dialect_for(backend), make_logger(backend, _quiet)


def _make_layer_clock(module: Any) -> Any:
    class LayerClock(module.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProfiler.__init__(self)
            self.times_ms: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times_ms.setdefault(layer_name, []).append(ms)

    return LayerClock()


def _quiet(_severity: str, _text: str) -> None:
    """A failed load is told by its result; the library's chatter is not for the user."""
