"""Change the type of a graph's float values and insert the casts that this asks for.

Nodes are visited in order. A node that changes gets every float32 input in the new type: constants
are converted, anything else passes a Cast (one a value, shared). A node that stays gets its inputs
back in float32 the same way. Slots whose type ONNX fixes (the scales of Resize) are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from calibration.graph.prepare import infer_shapes
from calibration.graph.queries import attribute, constant, fresh_name, value_names
from calibration.precision.rules import Target, input_types, output_types

if TYPE_CHECKING:
    import onnx_ir as ir


def retype(
    model: ir.Model, target: Target, kept: Mapping[ir.Node, str]
) -> tuple[list[ir.Node], int]:
    """Cast everything but ``kept`` in place; returns the changed nodes and the number of Casts."""
    editor = _Retyper(model.graph, target)
    done = []
    for node in list(model.graph):
        if node in kept:
            editor.restore_inputs(node)
        elif editor.change(node):
            done.append(node)
    editor.restore_outputs()
    for name in [n for n, v in model.graph.initializers.items() if not v.uses()]:
        if not model.graph.initializers[name].is_graph_output():
            del model.graph.initializers[name]
    infer_shapes(model)
    return done, editor.casts


class _Retyper:
    def __init__(self, graph: ir.Graph, target: Target) -> None:
        import onnx_ir as ir

        self.casts = 0
        self._graph = graph
        self._target = target
        self._float = ir.DataType.FLOAT
        self._opset = graph.opset_imports.get("", 1)
        self._taken = value_names(graph)
        self._nodes = {node.name for node in graph if node.name}
        self._converted: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def change(self, node: ir.Node) -> bool:
        """Give ``node`` the new type; returns whether there was anything to change."""
        inputs, outputs = input_types(node, self._opset), output_types(node, self._opset)
        if inputs is None or outputs is None:
            return False
        changed = False
        for slot, (variable, _) in enumerate(inputs):
            value = node.inputs[slot]
            if value is not None and value.dtype == self._float and _is_generic(variable):
                node.replace_input_with(slot, self._as(value, self._target.datatype))
                changed = True
        for value, (variable, _) in zip(node.outputs, outputs, strict=True):
            if value.dtype == self._float and _is_generic(variable):
                value.dtype = self._target.datatype
                changed = True
        if changed:
            self._change_attribute(node)
        return changed

    def restore_inputs(self, node: ir.Node) -> None:
        """Give a node that stays its inputs in float32."""
        for slot, value in enumerate(node.inputs):
            if value is not None and value.dtype == self._target.datatype:
                node.replace_input_with(slot, self._as(value, self._float))

    def restore_outputs(self) -> None:
        """Graph outputs keep name and type: a Cast makes them."""
        for index, value in enumerate(self._graph.outputs):
            producer = value.producer()
            if value.dtype != self._target.datatype or producer is None:
                continue
            name = value.name
            value.name = fresh_name(self._taken, f"{name}/{self._target.name}")
            cast = self._cast(value, self._float, name or "")
            self._graph.outputs[index] = cast

    def _as(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """``value`` in ``dtype``: a converted constant, or the output of a shared Cast."""
        key = (value, dtype)
        if key not in self._converted:
            suffix = "fp32" if dtype == self._float else self._target.name
            name = fresh_name(self._taken, f"{value.name}/{suffix}")
            is_constant = constant(value) is not None
            self._converted[key] = (
                self._constant(value, dtype, name)
                if is_constant
                else self._cast(value, dtype, name)
            )
            self._converted[self._converted[key], value.dtype or self._float] = value
        return self._converted[key]

    def _constant(self, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
        import onnx_ir as ir

        array = constant(value)
        assert array is not None  # the caller looked
        tensor = ir.tensor(array.astype(dtype.numpy()), dtype=dtype, name=name)
        new = ir.val(name, const_value=tensor, type=ir.TensorType(dtype), shape=value.shape)
        self._graph.register_initializer(new)
        return new

    def _cast(self, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
        import onnx_ir as ir

        node = ir.node(
            "Cast", [value], {"to": int(dtype)}, name=fresh_name(self._nodes, f"{name}/Cast")
        )
        result: ir.Value = node.outputs[0]
        result.name, result.shape, result.type = name, value.shape, ir.TensorType(dtype)
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            self._graph.insert_after(producer, node)
        self.casts += 1
        return result

    def _change_attribute(self, node: ir.Node) -> None:
        """Operators that name their output type in an attribute."""
        import onnx_ir as ir

        dtype = self._target.datatype
        if node.op_type == "Cast" and node.outputs[0].dtype == dtype:
            node.attributes["to"] = ir.AttrInt64("to", int(dtype))
        elif node.op_type == "ConstantOfShape" and node.outputs[0].dtype == dtype:
            given = attribute(node, "value", None)
            array = np.zeros(1) if given is None else given.numpy()
            array = array.astype(dtype.numpy())
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(array, dtype=dtype))


def _is_generic(variable: str) -> bool:
    """A type variable, not a fixed type such as ``tensor(float)``."""
    return "(" not in variable
