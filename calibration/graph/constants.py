"""Weights that a file computes from constants become initializers.

Exporters put Constant, Identity, Cast, Transpose, Reshape or a weight norm's products between a
stored array and the node that uses it; what depends on constants alone is evaluated here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.opsets import RAISED_OPSET
from calibration.graph.queries import WEIGHTED, constant

if TYPE_CHECKING:
    import onnx_ir as ir

_MAX_CHAIN = 32
_RANDOM = frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomUniform"})


def lift_constants(graph: ir.Graph) -> None:
    """``Constant`` nodes become initializers of the same name."""
    import onnx_ir as ir

    for node in [n for n in graph if n.op_type == "Constant"]:
        tensor = ir.convenience.get_const_tensor(node.outputs[0])
        if tensor is not None and not node.outputs[0].is_graph_output():
            _replace_by_constant(graph, node, tensor.numpy())


def evaluate_parameters(graph: ir.Graph) -> int:
    """Make initializers of weights and biases that are computed from constants.

    Returns:
        How many were.
    """
    evaluated = 0
    for node in graph:
        if node.op_type in WEIGHTED or node.op_type == "BatchNormalization":
            first = 0 if node.op_type == "MatMul" else 1
            for value in node.inputs[first:]:
                if value is not None and constant(value) is None:
                    evaluated += _evaluate(graph, value, _MAX_CHAIN)
    return evaluated


def _evaluate(graph: ir.Graph, value: ir.Value, budget: int) -> bool:
    """Replace ``value`` by its array where it depends on constants alone."""
    if constant(value) is not None:
        return True
    node = value.producer()
    if node is None or budget == 0 or len(node.outputs) != 1 or value.is_graph_output():
        return False
    if node.graph is not graph or node.domain not in ("", "ai.onnx") or node.op_type in _RANDOM:
        return False
    if not all(v is None or _evaluate(graph, v, budget - 1) for v in node.inputs):
        return False
    feeds = {v.name: constant(v) for v in node.inputs if v is not None and v.name}
    array = _run_node(graph, node, feeds)
    if array is None:
        return False
    _replace_by_constant(graph, node, array)
    return True


def _run_node(graph: ir.Graph, node: ir.Node, feeds: dict[str, Any]) -> NDArray[Any] | None:
    """What ``node`` makes of constants; None if the reference implementation cannot."""
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    proto = ir.serde.serialize_node(node)
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    output = onnx.helper.make_empty_tensor_value_info(proto.output[0])
    tiny = onnx.helper.make_graph([proto], "constant", inputs, [output])
    opset = onnx.helper.make_opsetid("", graph.opset_imports.get("", RAISED_OPSET))
    model = onnx.helper.make_model(tiny, opset_imports=[opset])
    try:
        result = ReferenceEvaluator(model).run(None, feeds)
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return None  # the weight then counts as computed, and its node stays in float
    return np.asarray(result[0])  # type: ignore[index]


def _replace_by_constant(graph: ir.Graph, node: ir.Node, array: NDArray[Any]) -> None:
    import onnx_ir as ir

    old = node.outputs[0]
    name = old.name
    new = ir.val(name, const_value=ir.tensor(array, name=name))
    old.replace_all_uses_with(new)
    graph.remove(node, safe=True)
    graph.register_initializer(new)
