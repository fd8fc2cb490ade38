"""What a rule may ask of a graph: attributes, constants, element types and ranks.

A read-only view over an ONNX graph with shape inference done once. Nested graphs (If, Loop, Scan)
are walked too, because a parser refuses an operator wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node of ``graph`` and of the graphs inside it, outer nodes first."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner)


def describe(node: onnx.NodeProto) -> str:
    """A name to show: the node's own, or its first output where it has none."""
    return node.name or f"(output {node.output[0]})"


class GraphView:
    """Answers about ``model`` after inlining; an unknown thing is None, never a guess."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model

    @cached_property
    def nodes(self) -> tuple[onnx.NodeProto, ...]:
        return tuple(all_nodes(self.model.graph))

    @cached_property
    def inferred(self) -> onnx.ModelProto:
        """The model with shapes and types of intermediate tensors, as far as they can be known."""
        import onnx
        from onnx.shape_inference import InferenceError

        try:
            return onnx.shape_inference.infer_shapes(self.model, data_prop=True)
        except (InferenceError, ValueError):  # above 2 GB, or operators it does not know
            return self.model

    @cached_property
    def _values(self) -> dict[str, onnx.TypeProto]:
        graph = self.inferred.graph
        return {v.name: v.type for v in (*graph.input, *graph.value_info, *graph.output)}

    @cached_property
    def _initializers(self) -> dict[str, onnx.TensorProto]:
        found = {tensor.name: tensor for tensor in self.model.graph.initializer}
        for node in self.nodes:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    found[node.output[0]] = attribute.t
        return found

    def attribute(self, node: onnx.NodeProto, name: str) -> Any:
        import onnx

        for attribute in node.attribute:
            if attribute.name == name:
                return onnx.helper.get_attribute_value(attribute)
        return None

    def constant(self, node: onnx.NodeProto, index: int) -> np.ndarray[Any, Any] | None:
        import onnx

        if index >= len(node.input) or node.input[index] not in self._initializers:
            return None
        return onnx.numpy_helper.to_array(self._initializers[node.input[index]])

    def value_type(self, name: str) -> onnx.TypeProto | None:
        return self._values.get(name)

    def element_type(self, name: str) -> str | None:
        """Element type of a tensor by its ONNX name, ``FLOAT16``."""
        import onnx

        if name in self._initializers:
            return onnx.TensorProto.DataType.Name(self._initializers[name].data_type)
        if name in self._values and self._values[name].HasField("tensor_type"):
            return onnx.TensorProto.DataType.Name(self._values[name].tensor_type.elem_type)
        return None

    def input_type(self, node: onnx.NodeProto, index: int = 0) -> str | None:
        return self.element_type(node.input[index]) if index < len(node.input) else None

    def rank(self, name: str) -> int | None:
        if name in self._initializers:
            return len(self._initializers[name].dims)
        if name in self._values and self._values[name].tensor_type.HasField("shape"):
            return len(self._values[name].tensor_type.shape.dim)
        return None

    def typed_tensors(self) -> Iterator[tuple[str, str]]:
        """``(tensor, element type)`` of every tensor whose type is known."""
        for name in {*self._initializers, *self._values}:
            kind = self.element_type(name)
            if kind is not None and kind != "UNDEFINED":
                yield name, kind
