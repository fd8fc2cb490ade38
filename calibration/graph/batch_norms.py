"""Batch normalisation at inference is a gain and an offset a channel: fold it into the weights.

BN(W x + b) = (g W) x + (g (b - mean) + beta)      with g = gamma / sqrt(variance + epsilon)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import attribute, constant, only_reader

if TYPE_CHECKING:
    import onnx_ir as ir


def fold_batch_norms(graph: ir.Graph) -> int:
    """Into the Conv, ConvTranspose or Gemm whose only reader they are; returns how many were."""
    folded = 0
    for bn in [n for n in graph if n.op_type == "BatchNormalization"]:
        source = bn.inputs[0]
        node = None if source is None else source.producer()
        if node is None or source is None or only_reader(source) is not bn:
            continue
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and node.graph is graph:
            folded += not attribute(bn, "training_mode", 0) and _fold(graph, node, bn)
    return folded


def _fold(graph: ir.Graph, node: ir.Node, bn: ir.Node) -> bool:
    weight = constant(node.inputs[1])
    parameters = [constant(v) for v in bn.inputs[1:5]]
    axis = _output_axis(node)
    if weight is None or axis is None or any(p is None for p in parameters):
        return False
    old_bias: NDArray[Any] | float = 0.0
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        known = constant(node.inputs[2])
        if known is None:
            return False
        old_bias = known
    gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parameters)
    gain = gamma / np.sqrt(variance + attribute(bn, "epsilon", 1e-5))
    shape = [1] * weight.ndim
    shape[axis] = -1
    bias = gain * (old_bias - mean) + beta
    _exchange(graph, node, bn, weight * gain.reshape(shape), bias)
    return True


def _output_axis(node: ir.Node) -> int | None:
    """Of the weight; None where the output is not ``W x + b`` with one row a channel."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if attribute(node, "group", 1) == 1 else None
    if attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0:
        return None
    return 0 if attribute(node, "transB", 0) else 1


def _exchange(
    graph: ir.Graph, node: ir.Node, bn: ir.Node, weight: NDArray[Any], bias: NDArray[Any]
) -> None:
    """Give ``node`` its new parameters and let it make what ``bn`` made."""
    import onnx_ir as ir

    node.resize_inputs(3)
    for slot, role, array in ((1, "weight", weight), (2, "bias", bias)):
        name = f"{bn.name}/folded_{role}"
        value = ir.val(name, const_value=ir.tensor(array.astype(np.float32), name=name))
        graph.register_initializer(value)
        node.replace_input_with(slot, value)
    # keep the name of what the rest of the graph reads
    kept_name = bn.outputs[0].name
    was_output = bn.outputs[0].is_graph_output()
    bn.outputs[0].replace_all_uses_with(node.outputs[0], replace_graph_outputs=was_output)
    node.outputs[0].shape, node.outputs[0].type = bn.outputs[0].shape, bn.outputs[0].type
    graph.remove(bn, safe=True)
    node.outputs[0].name = kept_name
