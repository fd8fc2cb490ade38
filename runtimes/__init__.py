"""Runtimes: from a model file to an engine to a time.

    from runtimes import Case, Plan, bench, build, preflight

    preflight("m.onnx", "rtx-ada/trt-rtx1.7")            # findings, node by node
    build("m.onnx", "m.engine", options=BuildOptions(target="rtx-ada/trt-rtx1.7"))
    bench([Case("fp32", Path("m.onnx"), samples), Case("int8", Path("m.int8.onnx"), samples)])

Names are imported when they are first used; importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtimes.base import (
        Availability,
        BuildOptions,
        Engine,
        Evidence,
        Finding,
        Passport,
        Runtime,
        Session,
        TensorInfo,
    )
    from runtimes.benchmark import BenchResult, Case, CaseResult, bench
    from runtimes.machine import environment
    from runtimes.passport import read_passport
    from runtimes.registry import build, get, names, preflight
    from runtimes.timing import Interval, Percentile, Plan, Timing

_HOMES = {
    # vocabulary
    "Availability": "base",
    "BuildOptions": "base",
    "Engine": "base",
    "Evidence": "base",
    "Finding": "base",
    "Passport": "base",
    "Runtime": "base",
    "Session": "base",
    "TensorInfo": "base",
    # building
    "build": "registry",
    "get": "registry",
    "names": "registry",
    "preflight": "registry",
    "read_passport": "passport",
    # timing
    "BenchResult": "benchmark",
    "Case": "benchmark",
    "CaseResult": "benchmark",
    "Interval": "timing",
    "Percentile": "timing",
    "Plan": "timing",
    "Timing": "timing",
    "bench": "benchmark",
    "environment": "machine",
}

__all__ = [
    "Availability",
    "BenchResult",
    "BuildOptions",
    "Case",
    "CaseResult",
    "Engine",
    "Evidence",
    "Finding",
    "Interval",
    "Passport",
    "Percentile",
    "Plan",
    "Runtime",
    "Session",
    "TensorInfo",
    "Timing",
    "bench",
    "build",
    "environment",
    "get",
    "names",
    "preflight",
    "read_passport",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'runtimes' has no attribute {name!r}")
    return getattr(importlib.import_module(f"runtimes.{_HOMES[name]}"), name)
