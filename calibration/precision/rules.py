"""Which nodes stay in FP32 when a graph is cast to a 16-bit type, and why.

FP16 has 11 significant bits, ends at 65504 and rounds to zero below 6e-8; BF16 has FP32's range and
8 bits. What they cannot hold stays FP32: constants that overflow or vanish, squares and
exponentials (FP16), long sums, coordinates, choices between close values, and the normalisation of
integer inputs, which is cheap and meets the full range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.graph.queries import WEIGHTED, constant, is_moving

if TYPE_CHECKING:
    import onnx_ir as ir

FP16_LARGEST = 65504.0
FP16_SMALLEST = 2.0**-24

_EITHER = {
    "CumSum": "a running sum loses its small terms in 16 bits",
    "GridSample": "coordinates need more bits than 16-bit floats have",
    "NonMaxSuppression": "choices between close scores would change",
    "RoiAlign": "coordinates need more bits than 16-bit floats have",
    "TopK": "choices between close scores would change",
}
_FP16_ONLY = {
    "Exp": "overflows FP16 from 11.1 on",
    "Pow": "powers overflow FP16, squares from 256 on",
    "ReduceL2": "squares overflow FP16 from 256 on",
    "ReduceLogSumExp": "exponentials overflow FP16 from 11.1 on",
    "ReduceSumSquare": "squares overflow FP16 from 256 on",
}
_BF16_ONLY = {"ConvTranspose": "TensorRT-RTX 1.7 does not build it in BF16"}
_NORMALISING = frozenset({"Add", "Cast", "Clip", "Concat", "Div", "Floor", "Gather", "Mul", "Sub"})


@dataclass(frozen=True)
class Target:
    """A 16-bit type.

    Attributes:
        opset: the first in which convolutions of this type exist.
        quantized: whether Q/DQ may have scales of this type.
    """

    name: str
    opset: int
    quantized: bool

    @property
    def datatype(self) -> ir.DataType:
        import onnx_ir as ir

        return ir.DataType.FLOAT16 if self.name == "fp16" else ir.DataType.BFLOAT16

    @property
    def onnx_type(self) -> str:
        return "tensor(float16)" if self.name == "fp16" else "tensor(bfloat16)"


def float_nodes(
    graph: ir.Graph, target: Target, asked: Mapping[str, str], largest: Mapping[str, float]
) -> dict[ir.Node, str]:
    """Nodes that stay FP32, with reasons.

    Args:
        asked: node name to reason, from the caller.
        largest: tensor name to the largest magnitude seen, where known.
    """
    normalising = _normalising_nodes(graph)
    found: dict[ir.Node, str] = {}
    for node in graph:
        reason = (
            asked.get(node.name or "")
            or ("normalises an integer input" if node in normalising else "")
            or _structural_reason(graph, node, target)
            or _EITHER.get(node.op_type, "")
            or (_half_reason(node, largest) if target.name == "fp16" else "")
            or (_BF16_ONLY.get(node.op_type, "") if target.name == "bf16" else "")
        )
        if reason:
            found[node] = reason
    for node in [node for node in found if _belongs_to_half(node, found, target, largest)]:
        del found[node]
    return found


def _belongs_to_half(
    node: ir.Node, found: Mapping[ir.Node, str], target: Target, largest: Mapping[str, float]
) -> bool:
    """Whether integers become floats here for readers that are cast.

    The pair is named after what was quantized, which may have been asked to stay; what it gives
    belongs to its readers. With a scale in FP32 and a Cast behind it TensorRT-RTX 1.7 fails.
    """
    if node.op_type != "DequantizeLinear" or not target.quantized:
        return False
    readers = [use.node for use in node.outputs[0].uses()]
    apart = bool(readers) and not any(reader in found for reader in readers)
    return apart and not _half_reason(node, largest) and not node.outputs[0].is_graph_output()


def input_types(node: ir.Node, opset: int) -> list[tuple[str, frozenset[str]]] | None:
    """Type variable and allowed types of every input slot, from the ONNX schema; None: unknown."""
    schema = _schema(node, opset)
    return None if schema is None else _formal_types(schema.inputs, len(node.inputs))


def output_types(node: ir.Node, opset: int) -> list[tuple[str, frozenset[str]]] | None:
    schema = _schema(node, opset)
    return None if schema is None else _formal_types(schema.outputs, len(node.outputs))


def _schema(node: ir.Node, opset: int) -> Any:
    import onnx

    if node.domain not in ("", "ai.onnx"):
        return None
    try:
        return onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


def _formal_types(formals: Any, count: int) -> list[tuple[str, frozenset[str]]]:
    """The last formal parameter may be variadic and repeats."""
    picked = [formals[min(i, len(formals) - 1)] for i in range(count)]
    return [(formal.type_str, frozenset(formal.types)) for formal in picked]


def _structural_reason(graph: ir.Graph, node: ir.Node, target: Target) -> str:
    if any(use.node.graph is not graph for value in node.outputs for use in value.uses()):
        return "read inside a subgraph"
    if any(attr.type.name in ("GRAPH", "GRAPHS") for attr in node.attributes.values()):
        return "holds a subgraph"
    opset = graph.opset_imports.get("", 1)
    types = input_types(node, opset)
    if types is None:
        return f"types of {node.domain or 'default domain'}::{node.op_type} are unknown"
    for value, (variable, allowed) in zip(node.inputs, types, strict=True):
        generic = "(" not in variable  # a type variable, not a fixed type like tensor(float)
        is_float32 = value is not None and value.dtype is not None and value.dtype.name == "FLOAT"
        if is_float32 and generic and target.onnx_type not in allowed:
            return f"{node.op_type} has no {target.name} form in opset {opset}"
    return ""


def _half_reason(node: ir.Node, largest: Mapping[str, float]) -> str:
    """What FP16's range forbids."""
    if node.op_type in _FP16_ONLY:
        return _FP16_ONLY[node.op_type]
    for value in node.outputs:
        if largest.get(value.name or "", 0.0) > FP16_LARGEST / 2:
            return f"reached {largest[value.name or '']:.3g} during calibration, FP16 ends at 65504"
    for array in map(constant, node.inputs):
        if array is None or array.dtype != np.float32 or not array.size:
            continue  # not a float constant
        magnitude = float(np.abs(array).max())
        if magnitude > FP16_LARGEST:
            return f"constant {magnitude:.3g} overflows FP16, which ends at 65504"
        if 0 < magnitude < FP16_SMALLEST:
            return f"constant {magnitude:.3g} is zero in FP16"
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and not _scale_fits(node):
        return "scale is too small for FP16 to keep its precision"
    return ""


def _scale_fits(node: ir.Node) -> bool:
    scale = constant(node.inputs[1])
    if scale is None:
        return False
    error = np.abs(scale.astype(np.float16).astype(np.float64) - scale)
    return bool((error <= 2.0**-10 * np.abs(scale)).all())


def _normalising_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Elementwise and moving nodes between an integer graph input and the first real layer.

    A product with whole numbers is no layer: it resizes pictures exactly, in FP32 only.
    """
    integer_inputs = {v for v in graph.inputs if v.dtype is not None and v.dtype.is_integer()}
    fresh: set[ir.Value] = set(integer_inputs)
    found: set[ir.Node] = set()
    for node in graph:
        activations = [v for v in node.inputs if v is not None and constant(v) is None]
        if not activations or any(v not in fresh for v in activations):
            continue
        # Gather(table, ids) looks weights up: there the first input is the constant
        starts = constant(node.inputs[0]) is None
        normalises = starts and node.op_type not in WEIGHTED and _normalises(node)
        if normalises or _multiplies_whole_numbers(node):
            found.add(node)
            fresh.update(node.outputs)
    return found


def _multiplies_whole_numbers(node: ir.Node) -> bool:
    if node.op_type != "MatMul":
        return False
    factors = [constant(value) for value in node.inputs if value is not None]
    known = [factor for factor in factors if factor is not None]
    return bool(known) and all(bool(np.all(np.rint(f) == f)) for f in known)


def _normalises(node: ir.Node) -> bool:
    return node.op_type in _NORMALISING or (is_moving(node) and node.op_type != "MaxPool")
