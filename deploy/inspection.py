"""What a file is: the passport of a model file, from its graph, or of an engine, its sidecar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import UserError
from exporters.modelfile import ModelFile, ModelSpec

if TYPE_CHECKING:
    import onnx

    from runtimes.base import Passport
    from runtimes.tensorrt.foreign import ForeignEngine

_QDQ = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Tensor:
    """A graph input or output. ``shape``: fixed sizes; a string names a dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class ModelPassport:
    """What a model file is.

    Attributes:
        opsets: version per operator domain; ``ai.onnx`` is ONNX's own.
        operators: how often each occurs, most frequent first.
        quantized: operators with int8 weights or inputs, how many of how many.
        weights_bytes: bytes of constants per element type.
        functions: model-local functions, ``domain::name``.
        spec: self-description; None for an ONNX from elsewhere.
    """

    path: Path
    sha256: str
    size_bytes: int
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    nodes: int
    operators: Mapping[str, int]
    quantized: Mapping[str, tuple[int, int]]
    weights_bytes: Mapping[str, int]
    parameters: int
    functions: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    spec: ModelSpec | None


def inspect(path: Path | str) -> ModelPassport | Passport | ForeignEngine:
    """Read what ``path`` says of itself; whether it is an engine or an ONNX shows in the file.

    Raises:
        UserError: no such file, neither of the two, or damaged.
    """
    from runtimes.passport import passport_path, read_passport
    from runtimes.tensorrt.foreign import SUFFIXES, read_foreign

    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file at {path}", fix="Name a model file or an engine")
    if path.suffix != ".onnx" and passport_path(path).is_file():
        return read_passport(path)
    if path.suffix in SUFFIXES:
        return read_foreign(path)
    return inspect_model(ModelFile(path))


def inspect_model(model: ModelFile) -> ModelPassport:
    """The passport of an ONNX, with or without self-description."""
    proto = model.proto
    constants = list(_constants(proto.graph))
    counts = Counter(node.op_type for node in proto.graph.node)
    return ModelPassport(
        path=model.path,
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        ir_version=proto.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        nodes=len(proto.graph.node),
        operators=dict(counts.most_common()),
        quantized=_quantized(proto),
        weights_bytes=_bytes_by_dtype(constants),
        parameters=sum(_elements(tensor) for tensor in constants if _is_weight(tensor)),
        functions=tuple(f"{item.domain}::{item.name}" for item in proto.functions),
        inputs=tuple(_tensor(value) for value in proto.graph.input),
        outputs=tuple(_tensor(value) for value in proto.graph.output),
        spec=model.spec,
    )


def _constants(graph: onnx.GraphProto) -> Iterable[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        if node.op_type == "Constant":
            yield from (item.t for item in node.attribute if item.name == "value")


def _quantized(proto: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Per operator type: nodes of which every float input is dequantized, and nodes in all."""
    made_by = {output: node.op_type for node in proto.graph.node for output in node.output}
    if not any(kind in _QDQ for kind in made_by.values()):
        return {}
    found: dict[str, tuple[int, int]] = {}
    for node in proto.graph.node:
        if node.op_type in _QDQ or not node.input:
            continue
        weighted = node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        read = [made_by.get(name) for name in (node.input[:2] if weighted else node.input)]
        quantized = bool(read) and all(kind == "DequantizeLinear" for kind in read)
        done, total = found.get(node.op_type, (0, 0))
        found[node.op_type] = (done + quantized, total + 1)
    return {kind: counts for kind, counts in found.items() if counts[0]}


def _bytes_by_dtype(tensors: Iterable[onnx.TensorProto]) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        name, bits = _dtype(tensor.data_type)
        sizes[name] += -(-_elements(tensor) * bits // 8)
    return dict(sizes.most_common())


def _is_weight(tensor: onnx.TensorProto) -> bool:
    """Tables and shapes are int32 or int64; weights are float or quantized to 8 bits or fewer."""
    name, _ = _dtype(tensor.data_type)
    return name not in ("int64", "int32", "bool", "string")


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _dtype(code: int) -> tuple[str, int]:
    """Numpy-like name and bits per element."""
    import onnx

    name = onnx.TensorProto.DataType.Name(code).lower()
    name = {"float": "float32", "double": "float64"}.get(name, name)
    digits = "".join(char if char.isdigit() else " " for char in name).split()
    return name, int(digits[0]) if digits else 8


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    shape: list[int | str] = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
        for dim in kind.shape.dim
    ]
    return Tensor(value.name, _dtype(kind.elem_type)[0], tuple(shape))


def describe_geometry(geometry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The geometry of a model file in a few lines; numbers only, long matrices left out."""
    rows = []
    for key, value in geometry.items():
        if key == "rig":
            value = f"{len(value['cameras'])} cameras, baked in"
        elif isinstance(value, Mapping):
            value = ", ".join(f"{name} {item}" for name, item in value.items())
        rows.append((key, str(value)))
    return rows
