"""Runtimes by name. A runtime's module is imported when it is first asked for."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from exporters.errors import UserError, did_you_mean
from exporters.modelfile import ModelFile
from runtimes.base import BuildOptions, Engine, Finding, Progress, Runtime

_FACTORIES = {
    "onnxruntime": "runtimes.ort:cpu",
    "onnxruntime-cuda": "runtimes.ort:cuda",
    "onnxruntime-tensorrt": "runtimes.ort:tensorrt",
    "onnxruntime-tensorrt-rtx": "runtimes.ort:tensorrt_rtx",
    "openvino": "runtimes.openvino:OpenVino",
    "tensorrt": "runtimes.tensorrt.adapter:TensorRT",
}


def names() -> tuple[str, ...]:
    return tuple(_FACTORIES)


@cache
def get(name: str) -> Runtime:
    """The runtime called ``name``.

    Raises:
        UserError: there is none; the nearest name or all of them are listed.
    """
    if name not in _FACTORIES:
        raise UserError(f"unknown runtime {name!r}", fix=did_you_mean(name, _FACTORIES))
    module, factory = _FACTORIES[name].split(":")
    runtime: Runtime = getattr(importlib.import_module(module), factory)()
    return runtime


def runtime_for(path: Path) -> str:
    """The runtime that a file is for: model files run in ONNX Runtime, engines in TensorRT."""
    return "onnxruntime" if path.suffix == ".onnx" else "tensorrt"


def build(
    model: Path | str,
    output: Path | str,
    runtime: str = "tensorrt",
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Engine:
    """Build an engine from a model file; ``runtimes.base.BuildOptions`` has the options."""
    return get(runtime).build(ModelFile(model), Path(output), options, progress)


def preflight(model: Path | str, target: str) -> list[Finding]:
    """Check a model file against a target; no finding of severity ``error`` means it should build.

    Raises:
        UserError: unknown target, unreadable model, or an operator no runtime could take.
    """
    from runtimes import targets

    table = targets.load()
    return get(table.stack_of(table.get(target)).runtime).preflight(ModelFile(model), target)
