"""Functions that a model file carries in two forms, and the one that a runtime can compute.

A function may add with ``ScatterElements``, which TensorRT-RTX refuses, TensorRT before 10 ignores
(and so gives wrong numbers without a word), and later versions do by a plugin. Beside a function
``X`` of that kind the file carries ``XSorted``: the same values from a sort and running sums, with
operators that every version has. Inlining then takes the one that is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

SUFFIX = "Sorted"


def without_reductions(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """``proto`` with calls of ``X`` turned into calls of ``XSorted`` where it carries both.

    Returns:
        A copy and the names of the functions that were exchanged; ``proto`` itself and none where
        there is nothing to exchange.
    """
    names = {(function.domain, function.name) for function in proto.functions}
    forms = {(d, n): n + SUFFIX for d, n in names if (d, n + SUFFIX) in names}
    used = {(node.domain, node.op_type) for node in proto.graph.node} & forms.keys()
    if not used:
        return proto, ()
    copy = type(proto)()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        node.op_type = forms.get((node.domain, node.op_type), node.op_type)
    return copy, tuple(sorted(f"{domain}::{name}" for domain, name in used))
