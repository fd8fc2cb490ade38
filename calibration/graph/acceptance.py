"""What a file must be before it can be quantized; a refusal says what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.graph.queries import RECURRENT, WEIGHTED, inner_nodes, is_weighted_type
from exporters.errors import UserError
from exporters.validity import problem_of

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_QUANTIZED = (
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantize",
    "MatMulInteger",
    "MatMulNBits",
    "QAttention",
    "QGemm",
    "QLinear",
    "QuantizeLinear",
)


def require_valid(proto: onnx.ModelProto, name: str) -> None:
    """Refuse what is no valid ONNX, and sparse initializers, which nothing here reads.

    Raises:
        UserError: with the first problem.
    """
    problem = problem_of(proto)
    if problem is not None:
        raise UserError(
            f"{name} is no valid ONNX model: {problem}",
            fix="It may be damaged: export or copy it again",
        )
    if proto.graph.sparse_initializer:
        raise UserError(
            f"{name} has sparse initializers, first "
            f"{proto.graph.sparse_initializer[0].values.name!r}",
            fix="Write its weights as dense initializers",
        )


def require_quantizable(graph: ir.Graph, name: str) -> None:
    """Refuse what is quantized already, what computes in FP16, and what has no weighted node.

    Raises:
        UserError: with the first such node.
    """
    for node in graph.all_nodes():
        if node.op_type.startswith(_QUANTIZED):
            raise UserError(
                f"{name} is quantized already: node {node.name!r} is {node.op_type}",
                fix="Quantize the float model that it was made from",
            )
    nodes = [node for node in graph if is_weighted_type(node)]
    if not nodes:
        raise _nothing_to_quantize(graph, name)
    half = [node for node in nodes if any(map(_is_half, node.inputs))]
    if len(half) == len(nodes):
        raise UserError(
            f"{name} holds FP16 weights, first in node {half[0].name!r}",
            fix="Quantize the FP32 model that it was cast from, and say --rest fp16",
        )


def _nothing_to_quantize(graph: ir.Graph, name: str) -> UserError:
    inner = [pair for pair in inner_nodes(graph) if is_weighted_type(pair[0])]
    if inner:
        node, owner = inner[0]
        return UserError(
            f"all {len(inner)} weighted nodes of {name} are in bodies of control flow (first "
            f"{node.name!r} in {owner.op_type} {owner.name!r}), where no Q/DQ are placed",
            fix="Export it for the one case you use, without If, Loop or Scan around its layers",
        )
    recurrent = next((node for node in graph.all_nodes() if node.op_type in RECURRENT), None)
    if recurrent is not None:
        return UserError(
            f"{name} has its weights in {recurrent.op_type} {recurrent.name!r}, which stays float: "
            "there is nothing to quantize",
            fix="Cast it instead: edgeport cast FILE --to fp16 -o OUT",
        )
    return UserError(
        f"{name} has no {', '.join(sorted(WEIGHTED))}: there is nothing to quantize",
        fix="Check that this is the model you mean: edgeport inspect FILE",
    )


def _is_half(value: ir.Value | None) -> bool:
    if value is None or value.dtype is None:
        return False
    return value.dtype.name in ("FLOAT16", "BFLOAT16")
