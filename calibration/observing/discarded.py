"""What a ReLU throws away needs no levels: which values of a summand are worth representing.

In ``y = relu(a + b)`` a summand may be far below zero wherever the sum is negative, and a channel
that is silent most of the time makes it so. Both summands are rounded where a runtime adds in
integers (the two halves of a split convolution, a residual branch), and a range that reaches down
to such values has few levels left for those that count. Instead of ``a`` this is observed:

    a* = a            where a + b > 0
    a* = -relu(b)     elsewhere: the largest value that keeps the sum from becoming positive

Clipping ``a`` to the range of ``a*`` and ``b`` to that of ``b*`` leaves ``y`` exactly as it was:
where the sum is negative, either both are clipped at zero or above the other's opposite.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from calibration.graph.queries import data_inputs, fresh_name, only_reader, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

WHOLE = "/whole"


def observe_what_counts(graph: ir.Graph, names: Iterable[str]) -> None:
    """Give the names of summands before a ReLU to what counts of them, in place.

    The summands themselves are called ``name/whole`` afterwards; nothing else changes.

    Args:
        names: tensors to look at; those with another reader than the sum stay as they are.
    """
    wanted = set(names)
    taken = value_names(graph)
    for add in [node for node in graph if _is_discarding(node)]:
        first, second = (value for _, value in data_inputs(add))
        found = [
            (value, other)
            for value, other in ((first, second), (second, first))
            if value.name in wanted and only_reader(value) is add
        ]
        for value, other in found:
            _replace(graph, add, value, other, taken)


def _is_discarding(node: ir.Node) -> bool:
    """A sum of two equally shaped tensors that nothing but a ReLU reads."""
    if node.op_type != "Add" or len(data_inputs(node)) != 2:
        return False
    (_, first), (_, second) = data_inputs(node)
    if first is second or first.shape is None or first.shape != second.shape:
        return False
    reader = only_reader(node.outputs[0])
    return reader is not None and reader.op_type == "Relu"


def _replace(
    graph: ir.Graph, add: ir.Node, value: ir.Value, other: ir.Value, taken: set[str]
) -> None:
    import onnx_ir as ir

    name = value.name or ""
    value.name = fresh_name(taken, name + WHOLE)
    # a + b > 0 exactly where a > -b, and the sum's recorded shape, which may be wrong, is not asked
    limit = ir.node("Neg", [other])
    positive = ir.node("Greater", [value, limit.outputs[0]])
    rectified = ir.node("Relu", [other])
    opposite = ir.node("Neg", [rectified.outputs[0]])
    kept = ir.node("Where", [positive.outputs[0], value, opposite.outputs[0]])
    roles = {"limit": limit, "positive": positive, "rectified": rectified, "opposite": opposite}
    for role, node in roles.items():
        node.outputs[0].name = fresh_name(taken, f"{name}/{role}")
    kept.outputs[0].name = name
    kept.outputs[0].shape, kept.outputs[0].type = value.shape, value.type
    graph.insert_after(add, [*roles.values(), kept])
