"""The model as TensorRT may see it.

TensorRT's parser imports a node by its operator name alone: ``my.domain::Gelu`` becomes the
built-in Gelu and its own body is ignored, without a word. So functions are inlined here first,
and whatever still stands in a foreign domain is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporters.errors import UserError
from exporters.modelfile import ModelFile
from runtimes.base import TensorInfo
from runtimes.graphview import all_nodes, describe

if TYPE_CHECKING:
    import onnx

_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_PROTOBUF_LIMIT_BYTES = 2**31 - 2**24  # protobuf's 2 GiB with room for the graph


def prepare(model: ModelFile, directory: Path) -> tuple[onnx.ModelProto, Path]:
    """Inline the functions of ``model``; return the graph and a file that the parser can read.

    The file is the model's own where there was nothing to inline, else it is in ``directory``.

    Raises:
        UserError: a foreign operator is left, or an input has a dynamic axis.
    """
    proto = model.proto
    path = model.path
    if proto.functions:
        proto = _inlined(proto)
        path = save(proto, directory / "inlined.onnx")
    _refuse_foreign(proto)
    return proto, path


def save(proto: onnx.ModelProto, path: Path) -> Path:
    """Write ``proto``; weights beside it where one file cannot hold them."""
    import onnx

    external = proto.ByteSize() > _PROTOBUF_LIMIT_BYTES
    onnx.save(proto, path, save_as_external_data=external)
    return path


def input_infos(proto: onnx.ModelProto) -> tuple[TensorInfo, ...]:
    weights = {tensor.name for tensor in proto.graph.initializer}
    return tuple(_tensor_info(v) for v in proto.graph.input if v.name not in weights)


def output_infos(proto: onnx.ModelProto) -> tuple[TensorInfo, ...]:
    return tuple(_tensor_info(value) for value in proto.graph.output)


def require_fixed_inputs(proto: onnx.ModelProto) -> None:
    """Refuse dynamic axes: an engine here is built for exactly one shape.

    Raises:
        UserError: the first dynamic input, with its shape.
    """
    for info in input_infos(proto):
        if any(isinstance(size, str) for size in info.shape):
            raise UserError(
                f"input {info.name!r} has dynamic axes {list(info.shape)}; "
                "engines are built for fixed sizes",
                fix="Export the model with fixed sizes",
            )


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    import onnx.inliner

    inlined = onnx.inliner.inline_local_functions(proto, convert_version=True)
    used = {node.domain for node in all_nodes(inlined.graph)} | _STANDARD_DOMAINS
    for opset in [o for o in inlined.opset_import if o.domain not in used]:
        inlined.opset_import.remove(opset)
    return inlined


def _refuse_foreign(proto: onnx.ModelProto) -> None:
    for node in all_nodes(proto.graph):
        if node.domain not in _STANDARD_DOMAINS:
            raise UserError(
                f"node {describe(node)!r} is {node.domain}::{node.op_type}, an operator of a "
                "foreign domain without a function body; TensorRT would refuse it or take it "
                "for a built-in of the same name",
                fix="Export it as standard ONNX operators or as a model-local function",
            )


def _tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    import onnx

    kind = value.type.tensor_type
    dims = tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim
    )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return TensorInfo(value.name, dtype, dims)
