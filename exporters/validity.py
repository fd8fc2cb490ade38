"""Is a model valid? ONNX's checker, asked before anything is built on it and before it is written.

It demands a shape of every input and output, which no runtime does. Files from elsewhere may lack
it, where a result is known to their own runtime only; for the check it is made up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    from google.protobuf.message import Message


def check_graph(proto: onnx.ModelProto) -> None:
    """Of a model that fits into one message.

    Raises:
        onnx.checker.ValidationError: the graph is invalid.
    """
    import onnx

    with _shapes(proto):
        onnx.checker.check_model(proto, full_check=False)


def problem_of(proto: onnx.ModelProto) -> str | None:
    """The first thing that is wrong with a model, in one line; of any size, without copying it."""
    import onnx

    for tensor in tensors_of(proto):
        problem = _problem_of_tensor(tensor)
        if problem:
            return problem
        if _is_broken(tensor.name):
            return f"the name of tensor {tensor.name!r} is not UTF-8"
    try:
        plain = _without_weights(proto)
        broken = _broken_text(plain)
        if broken is not None:
            return broken
        check_graph(plain)
    except (onnx.checker.ValidationError, ValueError, TypeError) as error:
        text = str(error).strip()
        return text.splitlines()[0] if text else repr(error)
    return None


def needed_bytes(tensor: onnx.TensorProto) -> int:
    """What the values of a tensor take by its shape and type."""
    import onnx

    bits = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    if name not in bits:
        bits[name] = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return -(-math.prod(tensor.dims) * bits[name] // 8)


def tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: initializers and attributes, in bodies and functions too."""
    for graph in _graphs_of(proto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
    for node in nodes_of(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def nodes_of(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model, in bodies and functions too."""
    for graph in _graphs_of(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def _graphs_of(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    todo = [proto.graph]
    nodes = [node for function in proto.functions for node in function.node]
    while todo or nodes:
        for node in nodes:
            for attribute in node.attribute:
                todo += [attribute.g] if attribute.HasField("g") else attribute.graphs
        nodes = []
        if todo:
            graph = todo.pop()
            yield graph
            nodes = list(graph.node)


def _problem_of_tensor(tensor: onnx.TensorProto) -> str | None:
    what = f"tensor {tensor.name!r}"
    if min(tensor.dims, default=1) < 0:
        return f"{what} has shape {list(tensor.dims)}"
    try:
        needed = needed_bytes(tensor)
    except (KeyError, TypeError, ValueError):  # strings have no size, unknown types none either
        return None if tensor.data_type == tensor.STRING else f"{what} has an unknown type"
    if tensor.raw_data and len(tensor.raw_data) != needed:
        return f"{what} has {len(tensor.raw_data)} bytes, {list(tensor.dims)} needs {needed}"
    return None


def _broken_text(message: Message) -> str | None:
    """Protobuf reads text that is not UTF-8 as bytes, and everything after stumbles over it."""
    for field, value in message.ListFields():
        values = value if isinstance(value, MutableSequence) else [value]
        if field.type == field.TYPE_MESSAGE:
            found = next((text for item in values if (text := _broken_text(item))), None)
            if found is not None:
                return found
        elif field.type == field.TYPE_STRING and any(map(_is_broken, values)):
            return f"{field.full_name} {value!r} is not UTF-8"
    return None


def _is_broken(text: object) -> bool:
    return isinstance(text, bytes)


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose initializers are inputs."""
    import onnx

    graph = onnx.GraphProto(name=proto.graph.name, node=proto.graph.node)
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    graph.value_info.extend(proto.graph.value_info)
    known = {value.name for value in graph.input}
    for tensor in proto.graph.initializer:
        if tensor.name not in known:
            shape = list(tensor.dims)
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, shape)
            graph.input.append(info)
    return onnx.ModelProto(
        ir_version=proto.ir_version,
        opset_import=proto.opset_import,
        functions=proto.functions,
        graph=graph,
    )


def write_checked(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model whose weights lie in other files, which only a file can be checked with.

    Raises:
        onnx.checker.ValidationError: the graph is invalid.
    """
    import onnx

    with _shapes(proto):
        path.write_bytes(proto.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path))
    path.write_bytes(proto.SerializeToString(deterministic=True))


@contextmanager
def _shapes(proto: onnx.ModelProto) -> Iterator[None]:
    """Within the block inputs and outputs have a shape, of rank 0 where there was none."""
    bare = [
        value.type.tensor_type
        for value in (*proto.graph.input, *proto.graph.output)
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
    ]
    for tensor_type in bare:
        tensor_type.shape.SetInParent()
    try:
        yield
    finally:
        for tensor_type in bare:
            tensor_type.ClearField("shape")
