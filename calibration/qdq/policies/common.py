"""What both policies do alike: pick the weighted nodes, and account for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from calibration.graph.queries import WEIGHTED, Weighted, constant, epilogue_of, weighted
from calibration.qdq.placement import LeftFloat

if TYPE_CHECKING:
    import onnx_ir as ir

FREE = frozenset({"Constant", "Identity", "Shape", "Size"})
"""Operators that compute nothing worth a line in a report."""


def pick_weighted(
    graph: ir.Graph,
    kept: Mapping[str, str],
    refuse: Callable[[Weighted], str | None],
) -> tuple[dict[ir.Node, Weighted], dict[ir.Node, str]]:
    """Split the weighted nodes into those that become INT8 and those that do not, with reasons."""
    chosen: dict[ir.Node, Weighted] = {}
    reasons: dict[ir.Node, str] = {}
    for node in graph:
        if node.op_type not in WEIGHTED or node.domain not in ("", "ai.onnx"):
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
    """One line for every computing node outside ``integer``, in graph order."""
    fused = {epilogue_of(node) for node in integer}
    left = []
    for node in graph:
        if node in integer or node in fused or node.op_type in FREE or _is_folded(node):
            continue
        reason = reasons.get(node) or kept.get(node.name or "") or why_not(node)
        left.append(LeftFloat(node.name or "", node.op_type, reason))
    return left


def _is_folded(node: ir.Node) -> bool:
    """Runtimes evaluate nodes without activations once, when they load the file."""
    return all(value is None or constant(value) is not None for value in node.inputs)
