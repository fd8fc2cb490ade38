"""Execution providers that ONNX Runtime loads from libraries of their own (since 1.23).

NVIDIA's for TensorRT-RTX is such a one: ``onnxruntime-ep-nv-tensorrt-rtx-cu13`` brings the library,
ONNX Runtime takes it by name and path and then knows the devices that it serves. Evidence: written;
registering it without a driver was tried, and its refusal becomes a sentence.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from runtimes.cuda import device_problem


@dataclass(frozen=True)
class Plugin:
    """A provider in a Python package.

    Attributes:
        provider: its name in ONNX Runtime.
        module: has ``get_library_path``.
    """

    provider: str
    module: str


RTX = Plugin("NvTensorRTRTXExecutionProvider", "onnxruntime_ep_nv_tensorrt_rtx")


def devices(plugin: Plugin) -> list[Any]:
    """The devices that ``plugin`` serves, once it is registered; what a session is opened with."""
    import onnxruntime

    return [d for d in onnxruntime.get_ep_devices() if d.ep_name == plugin.provider]


@cache
def problem(plugin: Plugin) -> str:
    """Why ``plugin`` cannot run here; empty where it can, and is registered then."""
    import onnxruntime

    register = getattr(onnxruntime, "register_execution_provider_library", None)
    if register is None:
        return (
            f"onnxruntime {onnxruntime.__version__} takes no plugins, 1.23 is the first that does"
        )
    try:
        module = importlib.import_module(plugin.module)
    except (ImportError, OSError) as error:
        return f"its library is not there: {error}"
    without = device_problem()
    if without:
        return without
    try:
        register(plugin.provider, str(module.get_library_path()))
    except Exception as error:  # its exceptions share no public base class
        return f"ONNX Runtime does not take its library: {' '.join(str(error).split())}"
    return "" if devices(plugin) else f"{plugin.provider} serves no device of this machine"
