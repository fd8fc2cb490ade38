"""Questions about an ONNX graph that every pass here asks, over onnx-ir's values and nodes.

The words: a *weighted* node multiplies by constant weights (Conv, ConvTranspose, Gemm, MatMul); a
*moving* node only moves or selects values, so that it commutes with quantization; an *epilogue* is
the activation that runtimes fuse into the node before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx_ir as ir

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

RECURRENT = frozenset({"GRU", "LSTM", "RNN"})

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})

MOVING = frozenset(
    {
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Identity",
        "MaxPool",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)

EPILOGUES = frozenset({"Relu", "Clip"})


@dataclass(frozen=True)
class Weighted:
    """A node with constant weights, in terms of its input slots.

    Attributes:
        channel_axis: axis of the weight that counts output channels; None for one scale a tensor.
    """

    node: ir.Node
    weight_slot: int
    channel_axis: int | None
    bias_slot: int | None

    @property
    def data(self) -> ir.Value:
        value = self.node.inputs[0]
        assert value is not None  # ONNX requires the first input of every weighted operator
        return value

    @property
    def weight(self) -> NDArray[Any]:
        array = constant(self.node.inputs[self.weight_slot])
        assert array is not None  # checked when this was made
        return array

    @property
    def weight_name(self) -> str:
        """Of the initializer."""
        value = self.node.inputs[self.weight_slot]
        return "" if value is None else value.name or ""

    @property
    def bias(self) -> NDArray[Any] | None:
        return None if self.bias_slot is None else constant(self.node.inputs[self.bias_slot])


def weighted(node: ir.Node) -> Weighted | str:
    """Describe a weighted node, or say why its weights cannot be quantized."""
    weight = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    left = constant(node.inputs[0]) is not None
    if weight is None:
        if node.op_type != "MatMul":
            return "its weights are computed"
        return "its weights stand on the left" if left else "both inputs are activations"
    if left:
        return "its data input is a constant"
    if weight.dtype != np.float32:
        return f"weights are {weight.dtype}, not float32"
    if not np.isfinite(weight).all():
        return "weights hold NaN or infinity"
    axis: int | None = 0
    if node.op_type == "ConvTranspose":
        axis = 1
    elif node.op_type == "MatMul":
        axis = 1 if weight.ndim == 2 else None
    elif node.op_type == "Gemm":
        if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0:
            return "Gemm with transA or alpha has no integer form"
        axis = 0 if attribute(node, "transB", 0) else 1
    bias = 2 if len(node.inputs) > 2 and node.inputs[2] is not None else None
    return Weighted(node, 1, axis, bias)


def inner_nodes(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Nodes in the bodies of control flow, at any depth, each with the node that has the body."""
    for node in graph:
        for attr in node.attributes.values():
            if attr.type.name not in ("GRAPH", "GRAPHS"):
                continue
            for body in [attr.value] if attr.type.name == "GRAPH" else attr.value:
                yield from ((inner, node) for inner in body)
                yield from inner_nodes(body)


def is_weighted_type(node: ir.Node) -> bool:
    return node.op_type in WEIGHTED and node.domain in STANDARD_DOMAINS


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The array of an initializer; None for anything that is computed or fed."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    found = node.attributes.get(name)
    return default if found is None else found.value


def data_inputs(node: ir.Node) -> list[tuple[int, ir.Value]]:
    """Slots and values of a node's float activations: no constants, no shapes, no indices."""
    return [
        (slot, value)
        for slot, value in enumerate(node.inputs)
        if value is not None and constant(value) is None and is_float(value)
    ]


def is_float(value: ir.Value) -> bool:
    """float32, or a type that shape inference could not tell."""
    return value.dtype is None or value.dtype.name == "FLOAT"


def readers(value: ir.Value) -> list[ir.Node]:
    return [use.node for use in value.uses()]


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone uses ``value``; None if there are more or it is a graph output."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def as_read(value: ir.Value) -> ir.Value:
    """``value``, or its rounded self behind a Q/DQ pair where nothing reads it without."""
    quantize = only_reader(value)
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return value
    dequantize = only_reader(quantize.outputs[0])
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return value
    result: ir.Value = dequantize.outputs[0]
    return result


def result_of(node: ir.Node) -> ir.Value:
    """What ``node`` hands on once its epilogue is fused into it.

    >>> # Conv -> Relu -> …: the output of Relu
    """
    value: ir.Value = node.outputs[0]
    reader = only_reader(value)
    if reader is not None and reader.op_type in EPILOGUES and reader.inputs[0] is value:
        return reader.outputs[0]
    return value


def epilogue_of(node: ir.Node) -> ir.Node | None:
    """The activation that runtimes fuse into ``node``, if there is one."""
    return None if result_of(node) is node.outputs[0] else result_of(node).producer()


def maker_of(value: ir.Value) -> ir.Node | None:
    """The node whose result ``value`` is, seen through a fused epilogue."""
    producer = value.producer()
    if producer is None:
        return None
    if producer.op_type in EPILOGUES and producer.inputs[0] is not None:
        before = producer.inputs[0].producer()
        if before is not None and result_of(before) is value:
            return before
    return producer


def is_moving(node: ir.Node) -> bool:
    """Whether quantization commutes with ``node``: nearest Resize moves, linear Resize mixes."""
    if node.op_type == "Resize":
        return bool(attribute(node, "mode", "nearest") == "nearest")
    return node.op_type in MOVING


def derived_from_inputs_only(graph: ir.Graph) -> set[ir.Value]:
    """Values that no weighted node has touched yet: the graph inputs, normalised and moved."""
    fresh: set[ir.Value] = set(graph.inputs)
    for node in graph:
        activations = [v for v in node.inputs if v is not None and constant(v) is None]
        weighs = node.op_type in WEIGHTED
        if activations and not weighs and all(v in fresh for v in activations):
            fresh.update(node.outputs)
    return fresh


def depths(graph: ir.Graph) -> dict[ir.Node, int]:
    """Longest path from the graph inputs, in weighted nodes, up to and including each node."""
    depth: dict[ir.Node, int] = {}
    for node in graph:
        before = [depth[p] for v in node.inputs if v is not None and (p := v.producer()) in depth]
        depth[node] = max(before, default=0) + (node.op_type in WEIGHTED)
    return depth


def element_count(value: ir.Value) -> int | None:
    """Number of elements where the shape is static."""
    if value.shape is None or not value.shape.is_static():
        return None
    return int(np.prod(value.shape.numpy(), dtype=np.int64))


def multiply_adds(item: ir.Node) -> int:
    """Multiply-accumulate operations of a weighted node; 0 where shapes are unknown."""
    output = element_count(item.outputs[0])
    weight = constant(item.inputs[1]) if len(item.inputs) > 1 else None
    if output is None or weight is None:
        return 0
    if item.op_type == "Conv":
        return output * int(np.prod(weight.shape[1:]))
    if item.op_type == "ConvTranspose":
        data = item.inputs[0]
        size = None if data is None else element_count(data)
        return (size or 0) * int(np.prod(weight.shape[1:]))
    if item.op_type == "MatMul" and weight.ndim == 1:
        return output * len(weight)
    contracted = weight.shape[1] if attribute(item, "transB", 0) else weight.shape[-2]
    return output * int(contracted)


def fresh_name(taken: set[str], wanted: str) -> str:
    """``wanted``, or ``wanted_1`` and so on where it is taken; the result is taken afterwards."""
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name


def value_names(graph: ir.Graph) -> set[str]:
    return {value.name for value in _values(graph) if value.name}


def values_by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    """Inputs, constants and what nodes make."""
    return {value.name: value for value in _values(graph) if value.name}


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs
