"""Engines, built where they will run: by TensorRT's Python bindings, else by trtexec.

The model is explicitly typed and quantized, so the bindings take no precision flag. Evidence: built
with TensorRT-RTX, else written.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List

from . import trtexec
from .journal import BoardError, Journal
from .wishes import configure, keep_timing_cache

_KEPT_LINES = 8


def build_engine(
    model: str, engine: str, runtime: str, options: Dict[str, Any], log: Journal
) -> None:
    """Write ``engine`` from ``model``; half of one never stands under its final name."""
    partial = engine + ".partial"
    if runtime == "trtexec":
        trtexec.build(model, partial, options, log)
    else:
        _with_bindings(model, partial, runtime, options, log)
    os.replace(partial, engine)


def _with_bindings(
    model: str, engine: str, module: str, options: Dict[str, Any], log: Journal
) -> None:
    import importlib

    trt = importlib.import_module(module)
    logger = _logger(trt, log)
    builder = trt.Builder(logger)
    flags = trt.NetworkDefinitionCreationFlag
    needs_flag = hasattr(flags, "EXPLICIT_BATCH") and hasattr(flags, "STRONGLY_TYPED")
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED) if needs_flag else 0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(model):
        errors = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise BoardError(
            f"TensorRT {trt.__version__} of the board does not take the model: {errors}",
            "List what it refuses: edgeport check MODEL.onnx --target TARGET",
        )
    config = builder.create_builder_config()
    configure(trt, builder, config, options)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BoardError(f"TensorRT {trt.__version__} could not build: {'; '.join(logger.errors)}")
    with open(engine, "wb") as file:
        file.write(plan)
    keep_timing_cache(config, options)


def _logger(trt: Any, log: Journal) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: List[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors = [*self.errors, message][-_KEPT_LINES:]
                log.write("said", text=message)

    return Logger()
