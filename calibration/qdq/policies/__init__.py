"""Where Q/DQ go, one policy a runtime: ``tensorrt`` and ``onnxruntime``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.qdq.placement import FloatRules, Policy
from calibration.qdq.policies.onnxruntime import OnnxRuntimePolicy
from calibration.qdq.policies.tensorrt import TensorRTPolicy
from calibration.registry import Registry

if TYPE_CHECKING:
    import onnx_ir as ir

POLICIES: Registry[Policy] = Registry("policy")
POLICIES.add("tensorrt", TensorRTPolicy())
POLICIES.add("onnxruntime", OnnxRuntimePolicy())

__all__ = ["POLICIES", "OnnxRuntimePolicy", "TensorRTPolicy", "all_tensors"]


def all_tensors(graph: ir.Graph) -> list[str]:
    """Names of all tensors that some policy would quantize if nothing had to stay in float."""
    names: dict[str, None] = {}
    for name in POLICIES:
        placement = POLICIES.get(name).place(graph, FloatRules())
        names.update(dict.fromkeys(value.name or "" for value in placement.tensors))
    return list(names)
