"""What a quantized graph costs between its integer nodes: stray Q/DQ pairs and float islands.

From the output of one INT8 convolution to the input of the next there should be *one* rounding, and
in front of it only what a runtime computes in the convolution's epilogue. Two things spoil that:

- a *stray* pair: one that rounds a second time with another scale, that stands between a node and
  its epilogue, that keeps a sum from being fused, or that nothing integer reads;
- an *island*: float nodes between INT8 nodes that no epilogue takes in (a mean, a Softmax, a linear
  Resize, a weighted node left in float), so that the tensors around it are written in float.

Pairs that stand before and behind nodes which only move values, with one scale, are one rounding:
``Q(DQ(q)) = q``. (TensorRT developer guide, "Q/DQ Layer-Placement Recommendations".)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import (
    EPILOGUES,
    constant,
    is_moving,
    is_weighted_type,
    only_reader,
    readers,
)

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

POINTWISE = frozenset(
    {
        *("Abs", "Add", "Cast", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu"),
        *("HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg"),
        *("Pow", "PRelu", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Sqrt", "Sub"),
        *("Tanh", "ThresholdedRelu", "BatchNormalization"),
    }
)
"""Operators that TensorRT's pointwise fusion puts into the epilogue of the node before."""

_BETWEEN = frozenset({"Concat", "Identity"})


@dataclass(frozen=True)
class Stray:
    """A Q/DQ pair that costs time or accuracy for nothing."""

    tensor: str
    reason: str


@dataclass(frozen=True)
class Island:
    """Float nodes, in graph order, that stand together between INT8 nodes.

    Attributes:
        breakers: operators among them that no epilogue takes in, sorted.
    """

    nodes: tuple[str, ...]
    breakers: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Attributes:
        integer_nodes: weighted nodes that read INT8.
        float_nodes: weighted nodes that do not.
    """

    integer_nodes: tuple[str, ...]
    float_nodes: tuple[str, ...]
    strays: tuple[Stray, ...]
    islands: tuple[Island, ...]


def audit(proto: onnx.ModelProto) -> Audit:
    """Look at the top-level graph of a quantized model."""
    import onnx_ir as ir

    graph = ir.from_proto(proto).graph
    view = _View(graph)
    weighted = [node for node in graph if is_weighted_type(node)]
    return Audit(
        tuple(node.name or "" for node in weighted if node in view.integer),
        tuple(node.name or "" for node in weighted if node not in view.integer),
        tuple(view.strays()),
        tuple(view.islands()),
    )


class _View:
    """A quantized graph, seen from its weighted nodes and its pairs."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self.integer = {n for n in graph if is_weighted_type(n) and _reads_integers(n)}

    def strays(self) -> Iterator[Stray]:
        for dequantize in self._graph:
            if dequantize.op_type != "DequantizeLinear":
                continue
            quantize = _producer(dequantize.inputs[0])
            if quantize is None or quantize.op_type != "QuantizeLinear":
                continue
            reason = self._stray(quantize, dequantize)
            if reason:
                yield Stray(_name(quantize.inputs[0]), reason)

    def islands(self) -> Iterator[Island]:
        """Groups of neighbouring float nodes that some operator keeps from being an epilogue."""
        between = self._float_between
        order = {node: index for index, node in enumerate(self._graph)}
        for group in _groups(between):
            breakers = {n.op_type for n in group if not _fuses(n)}
            if breakers:
                nodes = sorted(group, key=order.__getitem__)
                yield Island(tuple(n.name or "" for n in nodes), tuple(sorted(breakers)))

    def _stray(self, quantize: ir.Node, dequantize: ir.Node) -> str:
        maker = _producer(quantize.inputs[0])
        users = readers(dequantize.outputs[0])
        if maker in self.integer and any(n.op_type in EPILOGUES for n in users):
            return "stands between a node and its activation"
        if maker in self.integer and any(self._sums_for(n, dequantize) for n in users):
            return "keeps a sum from being computed in the epilogue"
        if not self._serves(dequantize):
            return "nothing integer reads it"
        for before in _pairs_behind(quantize.inputs[0]):
            if not _same_scale(before, quantize):
                return f"rounds {_name(before.inputs[0])} a second time, with another scale"
        return ""

    def _sums_for(self, node: ir.Node, dequantize: ir.Node) -> bool:
        """Whether an Add reads only pairs, although one of them comes straight from a node.

        Such a sum needs one float operand: the main branch, in whose epilogue it is computed.
        """
        if node.op_type != "Add" or only_reader(dequantize.outputs[0]) is not node:
            return False
        makers = [_producer(value) for value in node.inputs]
        return all(m is not None and m.op_type == "DequantizeLinear" for m in makers)

    def _serves(self, dequantize: ir.Node) -> bool:
        """Whether a pair reaches an INT8 node, or a sum in the epilogue of one."""
        todo, seen = [dequantize], {dequantize}
        while todo:
            node = todo.pop()
            for value in node.outputs:
                for user in readers(value):
                    if user in self.integer or self._is_epilogue_sum(user):
                        return True
                    passes = is_moving(user) or user.op_type in _BETWEEN
                    passes = passes or user.op_type in ("QuantizeLinear", "DequantizeLinear")
                    if passes and user not in seen:
                        seen.add(user)
                        todo.append(user)
        return False

    def _is_epilogue_sum(self, node: ir.Node) -> bool:
        if node.op_type != "Add":
            return False
        return any(
            maker in self.integer or (maker is not None and self._is_epilogue_sum(maker))
            for maker in map(_producer, node.inputs)
        )

    @cached_property
    def _float_between(self) -> set[ir.Node]:
        """Float nodes after an INT8 node and before another."""
        after: set[ir.Node] = set()
        for node in self._graph:
            makers = {_producer(v) for v in node.inputs}
            if makers & (after | self.integer):
                after.add(node)
        before: set[ir.Node] = set()
        for node in reversed(list(self._graph)):
            users = {user for value in node.outputs for user in readers(value)}
            if users & (before | self.integer):
                before.add(node)
        skipped = ("QuantizeLinear", "DequantizeLinear", "Shape", "Size")
        return {
            node
            for node in after & before
            if node not in self.integer and node.op_type not in skipped and _is_float(node)
        }


def _groups(nodes: set[ir.Node]) -> Iterator[set[ir.Node]]:
    """Nodes that read each other's results, together."""
    left = dict.fromkeys(nodes)
    while left:
        todo = [next(iter(left))]
        del left[todo[0]]
        group = set(todo)
        while todo:
            node = todo.pop()
            near = [_producer(v) for v in node.inputs]
            near += [user for value in node.outputs for user in readers(value)]
            for other in near:
                if other is not None and other in left:
                    del left[other]
                    group.add(other)
                    todo.append(other)
        yield group


def _fuses(node: ir.Node) -> bool:
    return is_moving(node) or node.op_type in POINTWISE or node.op_type in _BETWEEN


def _reads_integers(node: ir.Node) -> bool:
    makers = [_producer(value) for value in node.inputs[:2]]
    return len(makers) == 2 and all(
        m is not None and m.op_type == "DequantizeLinear" for m in makers
    )


def _pairs_behind(value: ir.Value | None) -> Iterator[ir.Node]:
    """Q nodes of the pairs that ``value`` comes from through nodes that only move values."""
    node = _producer(value)
    if node is None:
        return
    if node.op_type == "DequantizeLinear":
        before = _producer(node.inputs[0])
        if before is not None and before.op_type == "QuantizeLinear":
            yield before
    elif is_moving(node):
        yield from _pairs_behind(node.inputs[0])
    elif node.op_type in _BETWEEN:
        for inner in node.inputs:
            yield from _pairs_behind(inner)


def _is_float(node: ir.Node) -> bool:
    """False for what computes shapes and indices."""
    types = [v.dtype.name for v in node.outputs if v.dtype is not None]
    return not types or any(name in ("FLOAT", "FLOAT16", "BFLOAT16") for name in types)


def _producer(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def _same_scale(one: ir.Node, other: ir.Node) -> bool:
    first, second = _scale(one), _scale(other)
    return first is not None and second is not None and np.array_equal(first, second)


def _scale(quantize: ir.Node) -> NDArray[Any] | None:
    value = quantize.inputs[1]
    node = _producer(value)
    if node is not None and node.op_type == "Cast":  # a scale in FP16 may be stored in FP32
        value = node.inputs[0]
    return constant(value)


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""
