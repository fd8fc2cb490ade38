"""Running a file on the board. A session checks its feeds once and is then only timed.

``time`` gives milliseconds: ``wall_ms`` on the host's clock from feeds to outputs, and for an
engine also ``h2d_ms``, ``compute_ms`` and ``d2h_ms`` between CUDA events on the stream, and
``enqueue_ms``, what the host needs to hand the computation over.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from .cudart import Cuda
from .journal import BoardError
from .trtexec import TrtexecSession

Feeds = Dict[str, Any]
Milliseconds = Dict[str, float]


def open_session(runtime: str, path: str, options: Dict[str, Any]) -> Any:
    if runtime == "onnxruntime":
        return OrtSession(path, options.get("threads"))
    if runtime == "trtexec":
        return TrtexecSession(path, options)
    switches = {name: bool(options.get(name)) for name in ("cuda_graph", "spin_wait")}
    return TensorRTSession(path, runtime, refit_from=options.get("refit_from", ""), **switches)


class OrtSession:
    """ONNX Runtime on the board's CPU."""

    switches: Dict[str, bool] = {}

    def __init__(self, path: str, threads: Optional[int]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no public base class
            words = " ".join(str(error).split())
            raise BoardError(
                f"ONNX Runtime {onnxruntime.__version__} of the board does not take it: {words}",
                "Upgrade onnxruntime on the board, or export with an older opset",
            ) from error
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Feeds) -> Dict[str, Any]:
        return dict(zip(self._names, self._session.run(self._names, feeds)))

    def time(self, feeds: Feeds) -> Milliseconds:
        started = time.perf_counter()
        self._session.run(self._names, feeds)
        return {"wall_ms": 1e3 * (time.perf_counter() - started)}

    def answer(self, feeds: Feeds) -> Tuple[Dict[str, Any], Milliseconds]:
        """Outputs, and what they took by step of the frame."""
        started = time.perf_counter()
        outputs = self.run(feeds)
        return outputs, {"engine": 1e3 * (time.perf_counter() - started)}


class TensorRTSession:
    """An engine, with page-locked buffers and one stream. Evidence: written."""

    def __init__(
        self, path: str, module: str, *, refit_from: str, cuda_graph: bool, spin_wait: bool
    ) -> None:
        import importlib

        trt = importlib.import_module(module)
        self._trt = trt
        self._cuda = Cuda()
        self._cuda.require_device()
        self._cuda.wait_by(spinning=spin_wait)
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        with open(path, "rb") as file:
            self._engine = self._runtime.deserialize_cuda_engine(file.read())
        if self._engine is None:
            raise BoardError(
                f"the engine does not load in {module} {trt.__version__} of this board",
                "Give the model file: it is built on the board",
            )
        if refit_from:
            self._refit(refit_from)
        self._context = self._engine.create_execution_context()
        self._stream = self._cuda.create_stream()
        self._events = [self._cuda.create_event() for _ in range(4)]
        self._dynamic: List[str] = []
        self._inputs: List[str] = []
        self._outputs: List[str] = []
        self._host: Dict[str, Any] = {}
        self._device: Dict[str, int] = {}
        self._allocate()
        self._graph: Optional[int] = None
        self.switches = {"cuda_graph": cuda_graph, "spin_wait": spin_wait}
        self._enqueue_ms = 0.0

    def _refit(self, model: str) -> None:
        """Give an engine that was built without weights those of its model file."""
        refitter = self._trt.Refitter(self._engine, self._logger)
        parser = self._trt.OnnxParserRefitter(refitter, self._logger)
        if not parser.refit_from_file(model) or not refitter.refit_cuda_engine():
            raise BoardError(
                "the engine was built without weights and cannot be given those of its model",
                "Build it with them: leave --strip-weights away",
            )

    def _allocate(self) -> None:
        """Memory for every tensor, of the largest shape where sizes are dynamic."""
        import ctypes

        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        for name in names:
            if -1 in tuple(self._engine.get_tensor_shape(name)) and self._is_input(name):
                largest = tuple(self._engine.get_tensor_profile_shape(name, 0)[2])
                self._context.set_input_shape(name, largest)
                self._dynamic.append(name)
        for name in names:
            dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
            shape = tuple(self._context.get_tensor_shape(name))
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            memory = (ctypes.c_char * max(size, 1)).from_address(self._cuda.malloc_host(size))
            self._host[name] = np.frombuffer(memory, dtype, count=size // dtype.itemsize).reshape(
                shape
            )
            self._device[name] = self._cuda.malloc(size)
            self._context.set_tensor_address(name, self._device[name])
            (self._inputs if self._is_input(name) else self._outputs).append(name)

    def _is_input(self, name: str) -> bool:
        return bool(self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT)

    def run(self, feeds: Feeds) -> Dict[str, Any]:
        self._fill(feeds)
        self._step()
        return {name: self._view(name).copy() for name in self._outputs}

    def time(self, feeds: Feeds) -> Milliseconds:
        if self.switches["cuda_graph"] and self._graph is None:
            self._graph = self._cuda.capture(self._stream, self._enqueue)  # after one plain run
        started = time.perf_counter()
        self._fill(feeds)
        self._step()
        wall_ms = 1e3 * (time.perf_counter() - started)
        marks = self._events
        spans = [self._cuda.elapsed_ms(a, b) for a, b in zip(marks, marks[1:])]
        found = dict(zip(("h2d_ms", "compute_ms", "d2h_ms"), spans))
        return dict(found, wall_ms=wall_ms, enqueue_ms=self._enqueue_ms)

    def answer(self, feeds: Feeds) -> Tuple[Dict[str, Any], Milliseconds]:
        """Outputs, and what they took by step of the frame: all but the computation is copies."""
        started = time.perf_counter()
        outputs = self.run(feeds)
        whole_ms = 1e3 * (time.perf_counter() - started)
        engine_ms = self._cuda.elapsed_ms(self._events[1], self._events[2])
        return outputs, {"copies": whole_ms - engine_ms, "engine": engine_ms}

    def _fill(self, feeds: Feeds) -> None:
        for name in self._dynamic:
            if not self._context.set_input_shape(name, feeds[name].shape):
                raise BoardError(
                    f"input {name!r} has shape {feeds[name].shape}, which the engine was not "
                    "built for",
                    "Build it for this shape: --min-shapes, --opt-shapes and --max-shapes",
                )
        for name in self._inputs:
            self._view(name)[...] = feeds[name]

    def _view(self, name: str) -> Any:
        """The part of the host's memory that a tensor of today's shape takes."""
        if not self._dynamic:
            return self._host[name]
        shape = tuple(self._context.get_tensor_shape(name))
        return self._host[name].reshape(-1)[: int(np.prod(shape, dtype=np.int64))].reshape(shape)

    def _step(self) -> None:
        self._cuda.record(self._events[0], self._stream)
        for name in self._inputs:
            host = self._view(name)
            self._cuda.to_device(self._device[name], host.ctypes.data, host.nbytes, self._stream)
        self._cuda.record(self._events[1], self._stream)
        started = time.perf_counter()
        if self._graph is None:
            self._enqueue()
        else:
            self._cuda.launch(self._graph, self._stream)
        self._enqueue_ms = 1e3 * (time.perf_counter() - started)
        self._cuda.record(self._events[2], self._stream)
        for name in self._outputs:
            host = self._view(name)
            self._cuda.to_host(host.ctypes.data, self._device[name], host.nbytes, self._stream)
        self._cuda.record(self._events[3], self._stream)
        self._cuda.synchronize(self._stream)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise BoardError("TensorRT could not run the engine")
