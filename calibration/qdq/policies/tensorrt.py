"""Q/DQ as TensorRT fuses best: symmetric int8 on the inputs of weighted nodes, little else.

- Pairs stand on the data input of every weighted node; nothing stands between a convolution and its
  activation or addition, so Conv + Add + ReLU stays one kernel with a float epilogue.
- A residual Add gets its *skip* branch quantized (8 bit are read instead of 32) while the main
  convolution's output stays float. Where both branches are convolutions, the skip is the shallower
  one, the projection.
- Both branches of a split convolution stay float, and so does their sum: it is computed in the
  second one's epilogue.
- Inputs of a Concat that feeds a weighted node share one scale, so that it only copies bytes.
- Across nodes that only move values (MaxPool, nearest Resize, Transpose, Reshape) the scale is
  shared, so that TensorRT may move the pair to either side.

Biases stay float, zero points are 0. (TensorRT developer guide, "Working with Quantized Types".)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration.cfws.plan import is_split_sum
from calibration.graph.functions import OWN_DOMAIN
from calibration.graph.hard_swish import drop_floors
from calibration.graph.queries import (
    STANDARD_DOMAINS,
    Weighted,
    constant,
    data_inputs,
    depths,
    is_moving,
    maker_of,
    only_reader,
    result_of,
)
from calibration.qdq.placement import FloatRules, Placement
from calibration.qdq.policies.common import account, pick_weighted
from calibration.scales.methods import IntegerForm
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx_ir as ir


class TensorRTPolicy:
    """See the module docstring."""

    name = "tensorrt"
    form = IntegerForm.INT8_SYMMETRIC
    integer_bias = False
    integer_results = False

    def require(self, graph: ir.Graph, name: str) -> None:
        for node in graph.all_nodes():
            if node.domain not in (*STANDARD_DOMAINS, OWN_DOMAIN):
                raise UserError(
                    f"TensorRT does not know {node.domain}::{node.op_type}, node {node.name!r} of "
                    f"{name}",
                    fix="Export the model with standard operators only, before ONNX Runtime's "
                    "optimizer, or choose --policy onnxruntime",
                )

    def place(self, graph: ir.Graph, floats: FloatRules) -> Placement:
        kept = floats.reasons(node.name or "" for node in graph)
        chosen, reasons = pick_weighted(graph, kept, lambda _: None)
        placement = Placement(weighted=list(chosen.values()))
        for item in chosen.values():
            placement.quantize(item.data, item.node, 0)
        fused_adds = _quantize_skips(graph, chosen, kept, placement)
        _quantize_concats(graph, kept, placement)
        _share_over_moves(graph, placement)
        integer = set(chosen) | fused_adds | _between_integers(graph, placement)
        placement.left = account(graph, reasons, kept, integer, _why_not)
        return placement

    def finish(self, graph: ir.Graph) -> list[dict[str, Any]]:
        drop_floors(graph)
        return []


def _quantize_skips(
    graph: ir.Graph,
    chosen: dict[ir.Node, Weighted],
    kept: dict[str, str],
    placement: Placement,
) -> set[ir.Node]:
    """Quantize the skip branch of every Add that fuses into an INT8 node; returns these Adds."""
    depth = depths(graph)
    sums = {node for node in graph if is_split_sum(node)}
    fused = set()
    for add in graph:
        if add.op_type != "Add" or add.name in kept or len(data_inputs(add)) != 2:
            continue
        if add in sums:
            fused.add(add)
            continue
        mains = [
            (depth[maker], -slot, slot)
            for slot, value in data_inputs(add)
            if ((maker := value.producer()) in chosen or maker in sums)
            and only_reader(value) is add
        ]
        if mains:
            main = max(mains)[2]
            skip = 1 - main
            value = add.inputs[skip]
            if value is not None and value is not add.inputs[main]:
                placement.quantize(value, add, skip)
            fused.add(add)
    return fused


def _quantize_concats(graph: ir.Graph, kept: dict[str, str], placement: Placement) -> None:
    """Give all inputs of a Concat whose output is quantized a pair with one scale."""
    for concat in reversed(list(graph)):  # a Concat of Concats passes the scale upwards
        output = concat.outputs[0]
        if concat.op_type != "Concat" or output not in placement.tensors or concat.name in kept:
            continue
        inputs = data_inputs(concat)
        if any(constant(value) is not None for value in concat.inputs):
            continue  # a constant part has no pair to share the scale with
        for slot, value in inputs:
            placement.quantize(value, concat, slot)
        placement.share_scale([output, *(value for _, value in inputs)])


def _share_over_moves(graph: ir.Graph, placement: Placement) -> None:
    for node in graph:
        if is_moving(node) and node.inputs[0] in placement.tensors:
            moved = [value for value in node.outputs if value in placement.tensors]
            source = node.inputs[0]
            if moved and source is not None:
                placement.share_scale([source, *moved])


def _between_integers(graph: ir.Graph, placement: Placement) -> set[ir.Node]:
    """Moving and Concat nodes that lie between quantized values and so run on int8."""
    found = set()
    for node in graph:
        if not (is_moving(node) or node.op_type == "Concat"):
            continue
        if all(value in placement.tensors for value in node.outputs):
            found.add(node)
    return found


def _why_not(node: ir.Node) -> str:
    source = node.inputs[0] if node.inputs else None
    maker = None if source is None else maker_of(source)
    if maker is not None and result_of(maker) is source and node.op_type in ("Add", "Mul"):
        return "elementwise: fuses into its neighbours in float"
    if is_moving(node):
        return "only moves values, in the type they have"
    return "has no weights: INT8 would cost accuracy and win nothing"
