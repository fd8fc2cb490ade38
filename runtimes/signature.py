"""What a model file takes and gives, read from its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtimes.base import TensorInfo

if TYPE_CHECKING:
    import onnx


def input_infos(proto: onnx.ModelProto) -> tuple[TensorInfo, ...]:
    weights = {tensor.name for tensor in proto.graph.initializer}
    return tuple(_tensor_info(v) for v in proto.graph.input if v.name not in weights)


def output_infos(proto: onnx.ModelProto) -> tuple[TensorInfo, ...]:
    return tuple(_tensor_info(value) for value in proto.graph.output)


def _tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    import onnx

    kind = value.type.tensor_type
    dims = tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim
    )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return TensorInfo(value.name, dtype, dims)
