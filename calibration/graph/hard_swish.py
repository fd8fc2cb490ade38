"""One spelling for HardSwish: ``x * HardSigmoid(x)``, where HardSigmoid is clip(x / 6 + 1/2, 0, 1).

Exporters write four nodes, ``x * clip(x + 3, 0, 6) / 6``, or one that older runtimes lack. ONNX
Runtime reads neither well: between convolutions whose tensors it keeps in blocks of channels, the
four leave the blocks and come back, 2.1 times the whole frame on a float PP-PicoDet. The two nodes
are standard since opset 6, stay in the blocks, and each has an integer form
(``calibration.qdq.policies.onnxruntime``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.graph.queries import constant, fresh_name, only_reader, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

ALPHA, BETA = 1 / 6, 0.5


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
