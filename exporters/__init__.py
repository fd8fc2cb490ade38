"""Exporters: from a checkpoint to a model file, one ONNX that says of itself what it is.

    from exporters import export

    result = export("flashocc-m0", "m0.onnx", checkpoint="flashocc-r50-M0.pth", rig="rig.json")
    result.model.spec       # inputs, outputs, classes, geometry, weights
    result.report           # what became of every key, agreement with PyTorch

Names are imported when they are first used; importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporters.errors import EdgeportError, MissingRequirementError, UserError
    from exporters.modelfile import (
        InputSpec,
        ModelFile,
        ModelSpec,
        OutputSpec,
        StateSpec,
        WeightsSource,
    )
    from exporters.variants import ExportResult, Variant, export, find_variant

_HOMES = {
    # exporting
    "ExportResult": "variants",
    "Variant": "variants",
    "export": "variants",
    "find_variant": "variants",
    # the model file
    "InputSpec": "modelfile",
    "ModelFile": "modelfile",
    "ModelSpec": "modelfile",
    "OutputSpec": "modelfile",
    "StateSpec": "modelfile",
    "WeightsSource": "modelfile",
    # errors
    "EdgeportError": "errors",
    "MissingRequirementError": "errors",
    "UserError": "errors",
}

__all__ = [
    "EdgeportError",
    "ExportResult",
    "InputSpec",
    "MissingRequirementError",
    "ModelFile",
    "ModelSpec",
    "OutputSpec",
    "StateSpec",
    "UserError",
    "Variant",
    "WeightsSource",
    "export",
    "find_variant",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'exporters' has no attribute {name!r}")
    return getattr(importlib.import_module(f"exporters.{_HOMES[name]}"), name)
