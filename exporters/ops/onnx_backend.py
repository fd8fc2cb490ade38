"""Writing algorithms down as ONNX: nodes, shared constants, and functions of domain ``edgeport``.

graph = GraphBackend()
rows = graph.input("rows", "int64", [1, "tokens", 64])
quantized, mantissa, exponent = di_quantize(rows, levels=127)
graph.output(quantized, "quantized", "uint8", [1, "tokens", 64])
model = graph.model("example")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from exporters.ops.algebra import DOMAIN, VERSION, Operator, Value, lift

if TYPE_CHECKING:
    import onnx

OPSET = 21
"""INT4 tensors are from here on; ``Split`` into equal parts from 18."""

IR_VERSION = 10

Shape = Sequence[int | str | None]


class _Emitter:
    """Nodes in order, of a graph or of a function body."""

    def __init__(self, functions: dict[str, onnx.FunctionProto], *, inline: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.functions = functions
        self._inline = inline
        self._scope: list[str] = []
        self._counts: dict[str, int] = {}
        self._attributes: set[str] = set()  # of the function that is written

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names of nodes written inside begin with ``name/``."""
        self._scope.append(name)
        yield
        self._scope.pop()

    def apply(self, kind: str, *inputs: Value, **attributes: Any) -> Value:
        if kind == "Cast":
            attributes["to"] = _element_type(attributes["to"])
        return self._node(kind, inputs, 1, attributes)[0]

    def split(self, value: Value, sizes: Sequence[int] | int, axis: int) -> tuple[Value, ...]:
        if isinstance(sizes, int):
            return self._node("Split", [value], sizes, {"axis": axis, "num_outputs": sizes})
        given = [value, self.constant(list(sizes))]
        return self._node("Split", given, len(sizes), {"axis": axis})

    def call(
        self, called: Operator, inputs: Sequence[Value], attributes: Mapping[str, Value | int]
    ) -> Any:
        passed = {key: v.raw for key, v in attributes.items() if isinstance(v, Value)}
        if self._inline or not self._attributes.issuperset(passed.values()):
            given = {key: lift(self, value) for key, value in attributes.items()}
            with self.scope(called.name):
                return called.body(*inputs, **given)
        if called.name not in self.functions:
            self.functions[called.name] = _write_function(called, self.functions)
        outputs = len(self.functions[called.name].output)
        numbers = {key: value for key, value in attributes.items() if key not in passed}
        results = self._node(called.name, inputs, outputs, numbers, DOMAIN)
        for key, name in passed.items():  # on from the function around this call
            self.nodes[-1].attribute.append(_reference(key, name))
        return results[0] if outputs == 1 else results

    def _node(
        self,
        kind: str,
        inputs: Sequence[Value],
        outputs: int,
        attributes: Mapping[str, Any],
        domain: str = "",
    ) -> tuple[Value, ...]:
        from onnx import helper

        name = self._unique(kind)
        produced = [name] if outputs == 1 else [f"{name}:{i}" for i in range(outputs)]
        names = [value.raw for value in inputs]
        node = helper.make_node(kind, names, produced, name=name, domain=domain, **attributes)
        self.nodes.append(node)
        return tuple(Value(self, output) for output in produced)

    def _unique(self, kind: str) -> str:
        stem = "/".join([*self._scope, kind])
        count = self._counts[stem] = self._counts.get(stem, 0) + 1
        return stem if count == 1 else f"{stem}_{count}"

    def constant(self, value: Any, dtype: str = "int64") -> Value:
        raise NotImplementedError


class GraphBackend(_Emitter):
    """Writes a graph; equal constants are one initializer.

    Args:
        inline: write the operators' bodies in place of calls of functions.
    """

    def __init__(self, *, inline: bool = False) -> None:
        super().__init__({}, inline=inline)
        self._initializers: dict[tuple[bytes, tuple[int, ...], str], onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def constant(self, value: Any, dtype: str = "int64") -> Value:
        array = np.asarray(value, dtype)
        key = (array.tobytes(), array.shape, dtype)
        if key not in self._initializers:
            small = f"{array.item()}" if array.size == 1 else str(len(self._initializers))
            name = f"constant/{dtype}/{'x'.join(map(str, array.shape))}/{small}"
            self._initializers[key] = _tensor(array, name)
        return Value(self, self._initializers[key].name)

    def weight(self, name: str, array: Any, dtype: str | None = None) -> Value:
        """A named initializer; ``dtype`` ``int4`` packs two values a byte."""
        tensor = _tensor(np.asarray(array), name, dtype)
        self._initializers[(name.encode(), (), "weight")] = tensor
        return Value(self, name)

    def input(self, name: str, dtype: str, shape: Shape) -> Value:
        from onnx import helper

        self._inputs.append(helper.make_tensor_value_info(name, _element_type(dtype), shape))
        return Value(self, name)

    def output(self, value: Value, name: str, dtype: str, shape: Shape) -> None:
        """Declare ``value`` a graph output under ``name``."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value.raw], [name], name=f"out/{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, _element_type(dtype), shape))

    def model(self, name: str) -> onnx.ModelProto:
        from onnx import helper

        graph = helper.make_graph(
            self.nodes, name, self._inputs, self._outputs, list(self._initializers.values())
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if self.functions:
            opsets.append(helper.make_opsetid(DOMAIN, VERSION))
        return helper.make_model(
            graph,
            opset_imports=opsets,
            functions=list(self.functions.values()),
            ir_version=IR_VERSION,
            producer_name="edgeport",
        )


class _FunctionBackend(_Emitter):
    """Writes a function body; constants are nodes in it."""

    def __init__(self, functions: dict[str, onnx.FunctionProto]) -> None:
        super().__init__(functions, inline=False)
        self._constants: dict[tuple[bytes, tuple[int, ...], str], Value] = {}

    def constant(self, value: Any, dtype: str = "int64") -> Value:
        array = np.asarray(value, dtype)
        key = (array.tobytes(), array.shape, dtype)
        if key not in self._constants:
            self._constants[key] = self._node("Constant", [], 1, {"value": _tensor(array, "")})[0]
        return self._constants[key]

    def attribute(self, name: str) -> Value:
        """The function's integer attribute as a scalar tensor."""
        from onnx import helper

        node = helper.make_node("Constant", [], [name], name=name)
        node.attribute.append(_reference("value_int", name))
        self.nodes.append(node)
        self._attributes.add(name)
        return Value(self, name)


def _write_function(
    called: Operator, functions: dict[str, onnx.FunctionProto]
) -> onnx.FunctionProto:
    from onnx import helper

    body = _FunctionBackend(functions)
    attributes = {name: body.attribute(name) for name in called.attributes}
    result = called.body(*(Value(body, name) for name in called.inputs), **attributes)
    results = result if isinstance(result, tuple) else (result,)
    used = {node.domain for node in body.nodes}
    opsets = [helper.make_opsetid("", OPSET)]
    if DOMAIN in used:
        opsets.append(helper.make_opsetid(DOMAIN, VERSION))
    return helper.make_function(
        DOMAIN,
        called.name,
        list(called.inputs),
        [value.raw for value in results],
        body.nodes,
        opsets,
        list(called.attributes),
    )


def _reference(name: str, outer: str) -> onnx.AttributeProto:
    """An integer attribute whose value is that of the function's attribute ``outer``."""
    from onnx import AttributeProto

    return AttributeProto(name=name, type=AttributeProto.INT, ref_attr_name=outer)


def _element_type(dtype: str) -> int:
    from onnx import TensorProto, helper

    if dtype == "int4":
        return int(TensorProto.INT4)
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _tensor(array: Any, name: str, dtype: str | None = None) -> onnx.TensorProto:
    from onnx import TensorProto, numpy_helper

    if dtype != "int4":
        return numpy_helper.from_array(np.ascontiguousarray(array, dtype), name)
    low_first = np.append(array.ravel(), np.zeros(array.size % 2, array.dtype)).reshape(-1, 2)
    nibbles = (low_first & 15).astype(np.uint8)
    packed = nibbles[:, 0] | (nibbles[:, 1] << 4)
    tensor = TensorProto(name=name, data_type=TensorProto.INT4, dims=array.shape)
    tensor.raw_data = packed.tobytes()
    return tensor
