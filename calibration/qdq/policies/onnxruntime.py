"""Q/DQ as ONNX Runtime's CPU provider turns into integer kernels: QLinearConv and its neighbours.

ONNX Runtime replaces ``DQ -> node -> Q`` by an integer kernel, so whole regions must be quantized,
results included, or every border costs a conversion:

- activations uint8 with a zero point, taken after the fused ReLU (whose clipping Q then does),
  weights int8 per output channel, bias int32 at the scale of the accumulator;
- a convolution has an integer kernel only with a quantized result; MatMul and Gemm return float
  just as well, but a Gemm before an activation would be fused with it into a float kernel first;
- Add, Mul, Concat, pooling, Resize and nodes that only move values join where they stand between
  integer nodes: all their inputs come from integer kernels and some result goes to one;
- where a node copies or selects bytes, input and output share one scale;
- adding or multiplying one number needs no kernel: `calibration.qdq.rereading`.

ConvTranspose has no integer kernel and stays float, and so does a convolution whose result is a
graph output, which would otherwise be rounded to 256 levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration.graph.hard_swish import drop_floors
from calibration.graph.queries import (
    Weighted,
    attribute,
    constant,
    data_inputs,
    epilogue_of,
    is_moving,
    maker_of,
    result_of,
)
from calibration.graph.respell import respell_biases, respell_softplus
from calibration.qdq.gates import spell_integer_gates
from calibration.qdq.placement import FloatRules, Placement
from calibration.qdq.policies.common import account, pick_weighted
from calibration.qdq.rereading import rereading_of
from calibration.scales.methods import IntegerForm

if TYPE_CHECKING:
    import onnx_ir as ir

ARITHMETIC = frozenset(
    {
        *("Add", "AveragePool", "Concat", "GlobalAveragePool", "HardSigmoid", "LeakyRelu"),
        *("Mul", "Sigmoid"),
    }
)
"""Operators with an integer kernel that brings its own output scale; HardSigmoid is spelled as an
addition for it (`calibration.qdq.gates`)."""

BRIDGES = frozenset({"Resize"})
"""Linear Resize computes in float, but between 8-bit borders, so that its neighbours stay integer;
nearest Resize moves values."""


class OnnxRuntimePolicy:
    """See the module docstring."""

    name = "onnxruntime"
    form = IntegerForm.UINT8_ASYMMETRIC
    integer_bias = True
    integer_results = True

    def require(self, graph: ir.Graph, name: str) -> None:
        """ONNX Runtime runs the samples, and says then what it cannot load."""

    def place(self, graph: ir.Graph, floats: FloatRules) -> Placement:
        kept = floats.reasons(node.name or "" for node in graph)
        chosen, reasons = pick_weighted(graph, kept, _refusal)
        support = _supporting(graph, set(chosen), kept)
        integer = set(chosen) | support
        placement = Placement(weighted=list(chosen.values()))
        for node in graph:
            if node in integer:
                _place_node(node, placement)
        placement.left = account(graph, reasons, kept, integer, _why_not)
        return placement

    def finish(self, graph: ir.Graph) -> list[dict[str, Any]]:
        drop_floors(graph)
        return [
            *respell_softplus(graph),
            *respell_biases(graph),
            *spell_integer_gates(graph),
        ]


def _refusal(item: Weighted) -> str | None:
    node = item.node
    if node.op_type == "ConvTranspose":
        return "ONNX Runtime has no integer ConvTranspose"
    if node.op_type == "Conv" and _is_final(result_of(node)):
        return "its result is a graph output, an integer convolution would round it to 256 levels"
    if node.op_type == "Gemm" and attribute(node, "beta", 1.0) != 1.0:
        return "Gemm with beta has no integer form"
    if item.bias_slot is not None and not _is_plain_bias(item):
        return "its bias is computed, or not one number an output channel"
    return None


def _is_plain_bias(item: Weighted) -> bool:
    bias, axis = item.bias, item.channel_axis
    return bias is not None and axis is not None and bias.shape == (item.weight.shape[axis],)


def _is_final(value: ir.Value) -> bool:
    """A graph output, directly or through nodes that only move values."""
    if value.is_graph_output():
        return True
    users = [use.node for use in value.uses()]
    return bool(users) and all(_moves_on(node) for node in users)


def _moves_on(node: ir.Node) -> bool:
    moves = is_moving(node) or node.op_type == "Concat"
    return moves and all(_is_final(value) for value in node.outputs)


def _supporting(graph: ir.Graph, chosen: set[ir.Node], kept: dict[str, str]) -> set[ir.Node]:
    """Largest set of other nodes that lie between integer nodes."""
    support = {node for node in graph if _may_support(node) and node.name not in kept}
    while True:
        integer = chosen | support
        outside = {node for node in support if not _lies_between(node, integer)}
        if not outside:
            return support
        support -= outside


def _may_support(node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx") or (len(node.outputs) != 1 and node.op_type != "Split"):
        return False
    if rereading_of(node) is not None:
        return True
    if node.op_type in ("Add", "Mul", "Concat") and any(
        constant(v) is not None for v in node.inputs
    ):
        return False
    if node.op_type == "Resize":
        return attribute(node, "mode", "nearest") in ("nearest", "linear")
    if node.op_type == "AveragePool" and attribute(node, "ceil_mode", 0):
        return False
    return node.op_type in ARITHMETIC or node.op_type in BRIDGES or is_moving(node)


def _lies_between(node: ir.Node, integer: set[ir.Node]) -> bool:
    comes = all(_makes_integers(value, integer) for _, value in data_inputs(node))
    goes = any(use.node in integer for value in _results(node) for use in value.uses())
    return bool(data_inputs(node)) and comes and goes


def _makes_integers(value: ir.Value, integer: set[ir.Node]) -> bool:
    maker = maker_of(value)
    return maker is not None and maker in integer and value in _results(maker)


def _results(node: ir.Node) -> list[ir.Value]:
    """What ``node`` hands on: past its epilogue, or the parts of a Split that are used."""
    if len(node.outputs) == 1:
        return [result_of(node)]
    return [v for v in node.outputs if v.uses() or v.is_graph_output()]


def _place_node(node: ir.Node, placement: Placement) -> None:
    for slot, value in data_inputs(node):
        if slot == 0 or node.op_type in ("Add", "Mul", "Concat"):
            placement.quantize(value, node, slot)
    reading = rereading_of(node)
    if reading is not None:
        placement.rereadings[node.outputs[0]] = reading
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and epilogue_of(node) is None):
        return  # float result unless an integer node reads it, which then says so itself
    results = _results(node)
    for result in results:
        placement.quantize_whole(result)
    source = node.inputs[0]
    if is_moving(node) and source is not None:
        placement.share_scale([source, *results])


def _why_not(node: ir.Node) -> str:
    if _may_support(node):
        return "does not lie between integer kernels"
    return "ONNX Runtime has no integer kernel for it that pays here"
