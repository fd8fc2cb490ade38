"""Engines, built where they will run: by TensorRT's Python bindings, else by trtexec.

The model is explicitly typed and quantized, so neither takes a precision flag, except a TensorRT
10 trtexec, which has to be told so. Evidence: built with TensorRT-RTX, else written.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any, Dict, List

from .journal import BoardError, Journal
from .probing import find_trtexec
from .wishes import configure, keep_timing_cache, trtexec_arguments

_KEPT_LINES = 8


def build_engine(
    model: str, engine: str, runtime: str, options: Dict[str, Any], log: Journal
) -> None:
    """Write ``engine`` from ``model``; half of one never stands under its final name."""
    partial = engine + ".partial"
    if runtime == "trtexec":
        _with_trtexec(model, partial, options, log)
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


def trtexec_command(trtexec: str, model: str, engine: str, options: Dict[str, Any]) -> List[str]:
    command = [trtexec, f"--onnx={model}", f"--saveEngine={engine}", "--skipInference"]
    command += trtexec_arguments(options)
    if options.get("strongly_typed", True):
        command.append("--stronglyTyped")
    return command


def _with_trtexec(model: str, engine: str, options: Dict[str, Any], log: Journal) -> None:
    trtexec = find_trtexec()
    if trtexec is None:
        raise BoardError(
            "the board has neither TensorRT's Python bindings nor trtexec",
            "sudo apt-get install nvidia-jetpack",
        )
    command = trtexec_command(trtexec, model, engine, options)
    log.write("said", text=" ".join(command))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0 or not os.path.exists(engine):
        text = done.stdout.decode("utf-8", "replace")
        errors = re.findall(r"\[E\] (.+)", text)[-_KEPT_LINES:]
        raise BoardError(f"trtexec failed ({done.returncode}): {'; '.join(errors) or text[-400:]}")
