"""What both policies do alike: pick the weighted nodes, and account for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from calibration.graph.hard_swish import is_floor
from calibration.graph.queries import (
    RECURRENT,
    STANDARD_DOMAINS,
    Weighted,
    constant,
    epilogue_of,
    inner_nodes,
    is_weighted_type,
    weighted,
)
from calibration.qdq.placement import LeftFloat

if TYPE_CHECKING:
    import onnx_ir as ir

FREE = frozenset({"Constant", "Identity", "Shape", "Size"})
"""Operators that compute nothing worth a line in a report."""

_RECURRENT = "recurrent weights have no Q/DQ form that runtimes fuse"
_WITHOUT_INTEGER_FORM = {
    "BatchNormalization": "normalises in float: no weighted node before it takes it in",
    "DeformConv": "has no Q/DQ form that runtimes fuse",
    "Einsum": "has no Q/DQ form that runtimes fuse: MatMul would",
    "Gather": "looks values up, in the type they have",
    "GroupNormalization": "normalises in float",
    "InstanceNormalization": "normalises in float",
    "LayerNormalization": "normalises in float",
    **dict.fromkeys(RECURRENT, _RECURRENT),
}
"""Operators with parameters of their own that no policy quantizes."""


def pick_weighted(
    graph: ir.Graph,
    kept: Mapping[str, str],
    refuse: Callable[[Weighted], str | None],
) -> tuple[dict[ir.Node, Weighted], dict[ir.Node, str]]:
    """Split the weighted nodes into those that become INT8 and those that do not, with reasons."""
    chosen: dict[ir.Node, Weighted] = {}
    reasons: dict[ir.Node, str] = {}
    for node in graph:
        if not is_weighted_type(node):
            continue
        described = weighted(node)
        if node.name in kept:
            reasons[node] = kept[node.name or ""]
        elif isinstance(described, str):
            reasons[node] = described
        elif (refusal := refuse(described)) is not None:
            reasons[node] = refusal
        else:
            chosen[node] = described
    return chosen, reasons


def account(
    graph: ir.Graph,
    reasons: Mapping[ir.Node, str],
    kept: Mapping[str, str],
    integer: set[ir.Node],
    why_not: Callable[[ir.Node], str],
) -> list[LeftFloat]:
    """One line for every computing node outside ``integer``, in graph order.

    Weighted nodes in bodies of control flow come last.
    """
    fused = {epilogue_of(node) for node in integer}
    left = []
    for node in graph:
        if node in integer or node in fused or node.op_type in FREE:
            continue
        if _is_folded(node) or is_floor(node):
            continue
        reason = reasons.get(node) or kept.get(node.name or "") or _general(node) or why_not(node)
        left.append(LeftFloat(node.name or "", node.op_type, reason))
    for node, owner in inner_nodes(graph):
        if is_weighted_type(node) or node.op_type in RECURRENT:
            reason = f"in a body of {owner.op_type} {owner.name!r}, where no Q/DQ are placed"
            left.append(LeftFloat(node.name or "", node.op_type, reason))
    return left


def _general(node: ir.Node) -> str | None:
    """A reason that holds for every runtime."""
    if node.domain not in STANDARD_DOMAINS:
        return f"{node.domain}::{node.op_type} is no standard operator"
    if any(attr.type.name in ("GRAPH", "GRAPHS") for attr in node.attributes.values()):
        return "control flow stays float, with all that is in its bodies"
    return _WITHOUT_INTEGER_FORM.get(node.op_type)


def _is_folded(node: ir.Node) -> bool:
    """Runtimes evaluate nodes without activations once, when they load the file."""
    return all(value is None or constant(value) is not None for value in node.inputs)
