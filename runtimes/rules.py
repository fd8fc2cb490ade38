"""The conditions that the target table names, and checking a model against a target by them.

``check_table`` is what stands in for a parser that is not on this machine. It can only know what
somebody wrote down or ran before; each finding says which, by its evidence and its source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from runtimes.base import Finding
from runtimes.graphview import GraphView, describe
from runtimes.targets import Rule, Target, Targets

if TYPE_CHECKING:
    import onnx

Condition = Callable[["GraphView", "onnx.NodeProto", int], bool]

_INTEGERS = frozenset({"INT8", "INT32", "INT64", "UINT8"})
_FLOAT8 = frozenset({"FLOAT8E4M3FN", "FLOAT8E5M2"})
_NARROW_TYPES = frozenset({"float8-data", "bfloat16-data"})
_UINT8_ALLOWED = frozenset({"Cast", "Equal", "QuantizeLinear", "DequantizeLinear", "Constant"})


def _always(_view: GraphView, _node: onnx.NodeProto, _limit: int) -> bool:
    return True


def _reduction(view: GraphView, node: onnx.NodeProto, _limit: int) -> bool:
    return view.attribute(node, "reduction") not in (None, b"none")


def _k_above(view: GraphView, node: onnx.NodeProto, limit: int) -> bool:
    k = view.constant(node, 1)
    return k is not None and int(k.max()) > limit


def _antialias(view: GraphView, node: onnx.NodeProto, _limit: int) -> bool:
    return bool(view.attribute(node, "antialias"))


def _rank_1(view: GraphView, node: onnx.NodeProto, _limit: int) -> bool:
    return view.rank(node.input[0]) == 1


def _zero_point_not_zero(view: GraphView, node: onnx.NodeProto, _limit: int) -> bool:
    zero_point = view.constant(node, 2)
    return zero_point is not None and bool(zero_point.astype("float64").any())


def _uint8_arithmetic(view: GraphView, node: onnx.NodeProto, _limit: int) -> bool:
    return node.op_type not in _UINT8_ALLOWED and any(
        view.element_type(name) == "UINT8" for name in node.input
    )


def _data_type(names: frozenset[str]) -> Condition:
    def condition(view: GraphView, node: onnx.NodeProto, _limit: int) -> bool:
        return view.input_type(node) in names

    return condition


CONDITIONS: dict[str, Condition] = {
    "always": _always,
    "reduction": _reduction,
    "k-above": _k_above,
    "antialias": _antialias,
    "rank-1": _rank_1,
    "zero-point-not-zero": _zero_point_not_zero,
    "uint8-arithmetic": _uint8_arithmetic,
    "integer-data": _data_type(_INTEGERS),
    "int32-data": _data_type(frozenset({"INT32"})),
    "float32-data": _data_type(frozenset({"FLOAT"})),
    "float8-data": _data_type(_FLOAT8),
    "bfloat16-data": _data_type(frozenset({"BFLOAT16"})),
}


def check_table(view: GraphView, target: Target, table: Targets) -> Iterator[Finding]:
    """Findings of the rules and the type list of ``target``; advice is added by the runtime."""
    yield from _check_types(view, target, table)
    rules = table.rules_of(target)
    for node in view.nodes:
        for rule in rules:
            if _applies(rule, view, node):
                yield Finding(
                    severity="error" if rule.severity == "error" else "note",
                    message=rule.message,
                    node=describe(node),
                    op_type=node.op_type,
                    source=_cite(table, rule.key, rule.source),
                    evidence=rule.evidence,
                )


def check_types(view: GraphView, target: Target, table: Targets) -> Iterator[Finding]:
    """The findings of ``check_table`` about number formats, which no rewriting of a node mends."""
    kinds = {rule.message for rule in table.rules_of(target) if rule.when in _NARROW_TYPES}
    for finding in check_table(view, target, table):
        if finding.severity == "error" and (not finding.op_type or finding.message in kinds):
            yield finding


def _applies(rule: Rule, view: GraphView, node: onnx.NodeProto) -> bool:
    concerned = "*" in rule.op_types or node.op_type in rule.op_types
    return concerned and CONDITIONS[rule.when](view, node, rule.limit)


def _check_types(view: GraphView, target: Target, table: Targets) -> Iterator[Finding]:
    stack = table.stack_of(target)
    first: dict[str, str] = {}
    for name, kind in sorted(view.typed_tensors()):
        if kind not in stack.types:
            first.setdefault(kind, name)
    for kind, name in sorted(first.items()):
        yield Finding(
            severity="error",
            message=f"{stack.name} has no tensors of type {kind}; the first one is {name!r}",
            fix="Cast to a type it has: " + ", ".join(stack.types),
            source=_cite(table, stack.key, stack.source),
            evidence=stack.evidence,
        )


def _cite(table: Targets, row: str, source: str) -> str:
    return f"targets.toml {row}: {table.sources[source].document}"
