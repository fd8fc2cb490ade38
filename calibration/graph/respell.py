"""Spell a function so that ONNX Runtime's CPU kernels are fast, where calibration proves it safe.

A MatMul with a bias, as every linear layer of a transformer has, is fused into a Gemm before Q/DQ
are looked for, and that Gemm then runs in float on weights dequantized again in every call.
``y + b = y - (-b)``, bit by bit, and Sub is not fused.

``Softplus(x) = ln(1 + e^x)``: the Softplus kernel is scalar, Exp and Log are vectorised, which is
2.8 times faster on FlashOcc's head (10 million values, an eighth of the INT8 frame). Written out it
overflows for x > 88; behind a DequantizeLinear the largest x is known: (255 - zero point) * scale.
Below, 1 + e^x rounds with an absolute error of 6e-8, far under one step of any 8-bit input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import constant, fresh_name, only_reader, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

LARGEST_EXPONENT = 80.0


def respell_softplus(graph: ir.Graph) -> list[dict[str, Any]]:
    """Replace Softplus on dequantized 8-bit values in place; the tensor it makes keeps its name.

    Returns:
        One ``{"node", "op_type", "reason"}`` a replaced node.
    """
    done = []
    for node in [n for n in graph if n.op_type == "Softplus"]:
        largest = _largest_input(node)
        if largest is not None and largest < LARGEST_EXPONENT:
            _write_out(graph, node)
            done.append(
                {
                    "node": node.name,
                    "op_type": node.op_type,
                    "reason": f"written as ln(1 + e^x), which is faster: x ends at {largest:.3g}",
                }
            )
    return done


def respell_biases(graph: ir.Graph) -> list[dict[str, Any]]:
    """Write ``MatMul + bias`` of integer weights as ``MatMul - (-bias)`` in place; names stay.

    Returns:
        One ``{"node", "op_type", "reason"}`` a replaced node.
    """
    done = []
    for product in [n for n in graph if n.op_type == "MatMul"]:
        weight = product.inputs[1]
        dequantize = None if weight is None else weight.producer()
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        add = only_reader(product.outputs[0])
        if add is None or add.op_type != "Add":
            continue
        slot = 1 if add.inputs[0] is product.outputs[0] else 0
        bias = constant(add.inputs[slot])
        if bias is not None:
            _subtract(graph, add, product.outputs[0], add.inputs[slot], bias)
            done.append(
                {
                    "node": add.name,
                    "op_type": add.op_type,
                    "reason": "written as y - (-b), which ONNX Runtime does not fuse into a "
                    "product in float",
                }
            )
    return done


def _subtract(
    graph: ir.Graph, add: ir.Node, y: ir.Value, bias: ir.Value | None, array: NDArray[Any]
) -> None:
    import onnx_ir as ir

    assert bias is not None  # it has an array
    name = fresh_name(value_names(graph), f"{bias.name}/negated")
    negated = ir.val(name, const_value=ir.tensor(-array, name=name))
    graph.register_initializer(negated)
    node = ir.node("Sub", [y, negated], name=add.name)
    old = add.outputs[0]
    node.outputs[0].shape, node.outputs[0].type = old.shape, old.type
    graph.insert_before(add, node)
    old.replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)
    graph.remove(add, safe=True)
    node.outputs[0].name = old.name
    if not bias.uses() and not bias.is_graph_output():
        graph.initializers.pop(bias.name or "", None)


def _largest_input(node: ir.Node) -> float | None:
    """What the integers in front of ``node`` can stand for at most."""
    source = node.inputs[0]
    dequantize = None if source is None else source.producer()
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    scale, zero = constant(dequantize.inputs[1]), constant(dequantize.inputs[2])
    if scale is None or zero is None or zero.dtype not in (np.int8, np.uint8):
        return None
    top = np.iinfo(zero.dtype).max
    return float(((top - zero.astype(np.int64)) * scale).max())


def _write_out(graph: ir.Graph, node: ir.Node) -> None:
    import onnx_ir as ir

    taken = value_names(graph)
    old = node.outputs[0]
    name = fresh_name(taken, f"{node.name}/one")
    one = ir.val(name, const_value=ir.tensor(np.asarray(1.0, np.float32), name=name))
    graph.register_initializer(one)
    exp = ir.node("Exp", [node.inputs[0]], name=f"{node.name}/Exp")
    add = ir.node("Add", [exp.outputs[0], one], name=f"{node.name}/Add")
    log = ir.node("Log", [add.outputs[0]], name=f"{node.name}/Log")
    for step in (exp, add, log):
        step.outputs[0].name = fresh_name(taken, step.name or "")
        step.outputs[0].shape, step.outputs[0].type = old.shape, old.type
    graph.insert_before(node, [exp, add, log])
    old.replace_all_uses_with(log.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    log.outputs[0].name = old.name
