"""One spelling for HardSwish: ``x * HardSigmoid(x)``, where HardSigmoid is clip(x / 6 + 1/2, 0, 1).

Exporters write four nodes, ``x * clip(x + 3, 0, 6) / 6``, or one that older runtimes lack. ONNX
Runtime reads neither well: between convolutions whose tensors it keeps in blocks of channels, the
four leave the blocks and come back, 2.1 times the whole frame on a float PP-PicoDet. The two nodes
are standard since opset 6, stay in the blocks, and each has an integer form
(``calibration.qdq.policies.onnxruntime``).

What is below -3 is all the same: its HardSwish is 0. A *floor*, ``x = max(x, -3)`` behind the node
that makes x, says so while ranges are chosen, so that no level is spent there; an integer result
saturates by itself, and the floor is taken out again before the file is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calibration.graph.queries import attribute, constant, fresh_name, only_reader, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

ALPHA, BETA = 1 / 6, 0.5
LOWEST = -3.0
FLOOR = "/floor"


def spell_hard_swish(graph: ir.Graph) -> int:
    """Respell in place; results keep their names. Returns how many were found."""
    count = 0
    for node in list(graph):
        if node.graph is None:
            continue
        if node.op_type == "HardSwish":
            source, parts = node.inputs[0], [node]
        else:
            source, parts = _written_out(node)
        if source is not None and parts:
            _write(graph, source, parts)
            count += 1
    return count


def add_floors(graph: ir.Graph) -> None:
    """Bound what a convolution makes for a HardSwish, where nothing else reads it."""
    import onnx_ir as ir

    taken = value_names(graph)
    for node in [n for n in graph if n.op_type == "HardSigmoid"]:
        source = node.inputs[0]
        product = only_reader(node.outputs[0])
        numbers = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
        if source is None or product is None or product.op_type != "Mul":
            continue
        alone = {use.node for use in source.uses()} == {node, product}
        maker = source.producer()
        convolved = maker is not None and maker.op_type == "Conv" and not source.is_graph_output()
        if not (alone and convolved and np.allclose(numbers, (ALPHA, BETA), rtol=1e-6)):
            continue
        lowest = fresh_name(taken, f"{product.name}/lowest")
        bound = ir.val(lowest, const_value=ir.tensor(np.asarray(LOWEST, np.float32), name=lowest))
        graph.register_initializer(bound)
        floor = ir.node("Clip", [source, bound], name=f"{product.name}{FLOOR}")
        result = floor.outputs[0]
        result.name = fresh_name(taken, f"{product.name}{FLOOR}")
        result.shape, result.type = source.shape, source.type
        graph.insert_before(node, floor)
        for reader in (node, product):
            for slot, value in enumerate(reader.inputs):
                if value is source:
                    reader.replace_input_with(slot, result)


def is_floor(node: ir.Node) -> bool:
    return node.op_type == "Clip" and (node.name or "").endswith(FLOOR)


def drop_floors(graph: ir.Graph) -> None:
    for node in [n for n in graph if is_floor(n)]:
        source, bound = node.inputs[:2]
        assert source is not None
        node.outputs[0].replace_all_uses_with(source)
        graph.remove(node, safe=True)
        if bound is not None and not bound.uses():
            graph.initializers.pop(bound.name or "", None)


def _written_out(clip: ir.Node) -> tuple[ir.Value | None, list[ir.Node]]:
    """Source and nodes of ``x * clip(x + 3, 0, 6) / 6``, which all serve it alone."""
    nothing: tuple[None, list[ir.Node]] = (None, [])
    if clip.op_type != "Clip" or len(clip.inputs) != 3 or clip.inputs[0] is None:
        return nothing
    add = clip.inputs[0].producer()
    bounds = _number(clip.inputs[1]), _number(clip.inputs[2])
    if bounds != (0.0, 6.0) or add is None or add.op_type != "Add":
        return nothing
    source = _other(add, 3.0)
    product = only_reader(clip.outputs[0])
    if source is None or only_reader(add.outputs[0]) is not clip or product is None:
        return nothing
    if product.op_type != "Mul" or set(product.inputs) != {source, clip.outputs[0]}:
        return nothing
    scaled = only_reader(product.outputs[0])
    if scaled is None or not _is_sixth(scaled, product.outputs[0]):
        return nothing
    return source, [add, clip, product, scaled]


def _is_sixth(node: ir.Node, value: ir.Value) -> bool:
    if node.op_type == "Div":
        return node.inputs[0] is value and _number(node.inputs[1]) == 6.0
    if node.op_type != "Mul":
        return False
    (factor,) = [_number(v) for v in node.inputs if v is not value] or [None]
    return factor is not None and abs(6 * factor - 1) < 1e-6


def _other(node: ir.Node, number: float) -> ir.Value | None:
    """The input beside the constant ``number``."""
    for slot in (0, 1):
        if _number(node.inputs[1 - slot]) == number and constant(node.inputs[slot]) is None:
            return node.inputs[slot]
    return None


def _number(value: ir.Value | None) -> float | None:
    array = constant(value)
    return float(array.item()) if array is not None and array.size == 1 else None


def _write(graph: ir.Graph, source: ir.Value, parts: list[ir.Node]) -> None:
    import onnx_ir as ir

    last = parts[-1]
    old = last.outputs[0]
    taken = value_names(graph)
    gate = ir.node(
        "HardSigmoid", [source], {"alpha": ALPHA, "beta": BETA}, name=f"{last.name}/gate"
    )
    gate.outputs[0].name = fresh_name(taken, f"{old.name}/gate")
    product = ir.node("Mul", [source, gate.outputs[0]], name=last.name)
    result = product.outputs[0]
    for value in (gate.outputs[0], result):
        value.shape, value.type = old.shape, old.type
    graph.insert_before(last, [gate, product])
    name = old.name
    old.replace_all_uses_with(result, replace_graph_outputs=old.is_graph_output())
    for part in reversed(parts):
        graph.remove(part, safe=True)
    result.name = name
