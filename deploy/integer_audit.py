"""Is a model integer-only? Every value's type is looked at, from the token ids to the logits.

Functions are inlined first, so that nothing hides in a body; then ONNX's own type inference walks
the graph. A value whose type cannot be inferred is no evidence, and the audit fails on it as on a
float. Booleans are comparisons of integers and count as integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Offence:
    """A value that is not an integer.

    Attributes:
        made_by: node name and operator, or ``graph input``, ``initializer``.
        dtype: numpy name, or ``unknown``.
    """

    value: str
    dtype: str
    made_by: str

    def __str__(self) -> str:
        return f"{self.value} is {self.dtype}, made by {self.made_by}"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a walk over a graph found: nothing, or what offends against the claim.

    Attributes:
        offences: in the order of execution; each says in words what it is.
    """

    offences: tuple[object, ...]
    is_not: ClassVar[str]
    export_with: ClassVar[str]

    @property
    def passed(self) -> bool:
        return not self.offences

    def require(self, path: Path) -> None:
        """Fail unless nothing offends.

        Raises:
            UserError: names the first that does.
        """
        if self.passed:
            return
        more = f" (and {len(self.offences) - 1} more)" if len(self.offences) > 1 else ""
        raise UserError(
            f"{path} {self.is_not}: {self.offences[0]}{more}",
            fix=f"Export it with: edgeport export illm {self.export_with}",
        )


@dataclass(frozen=True, kw_only=True)
class IntegerAudit(Audit):
    """Values that are no integers.

    Attributes:
        values: number of values looked at, by type.
        nodes: of the graph with its functions inlined.
    """

    values: Mapping[str, int]
    nodes: int
    offences: tuple[Offence, ...]
    is_not: ClassVar[str] = "is not integer-only"
    export_with: ClassVar[str] = "--precision integer"


def audit_integers(proto: onnx.ModelProto) -> IntegerAudit:
    """Walk every value of ``proto``; its weights are not looked at, only their types.

    Raises:
        UserError: the graph has control flow, whose bodies nobody looked at.
    """
    from onnx import inliner

    bare = without_weights(proto)
    flat = inliner.inline_local_functions(bare) if bare.functions else bare
    _refuse_control_flow(flat)
    types = inferred_types(flat)
    seen: Counter[str] = Counter()
    offences = []
    for value, made_by in _values_in_order(flat):
        dtype = types.get(value, _UNKNOWN)
        seen[dtype] += 1
        if not _is_integer(dtype):
            offences.append(Offence(value, dtype, made_by))
    return IntegerAudit(
        values=dict(seen.most_common()), nodes=len(flat.graph.node), offences=tuple(offences)
    )


def _values_in_order(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Every value with what makes it: inputs (weights among them), then node by node."""
    for port in proto.graph.input:
        yield port.name, "graph input or weight"
    for node in proto.graph.node:
        for output in filter(None, node.output):
            yield output, f"{node.name or 'a node without a name'} ({node.op_type})"


def without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large initializers are inputs of the same type: types flow, bytes do not."""
    import onnx
    from onnx import helper

    bare = onnx.ModelProto(
        ir_version=proto.ir_version,
        opset_import=proto.opset_import,
        functions=proto.functions,
    )
    graph = bare.graph
    graph.name = proto.graph.name
    graph.node.extend(proto.graph.node)
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    given = {port.name for port in graph.input}
    for tensor in proto.graph.initializer:
        if tensor.name not in given:
            dims = list(tensor.dims)
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, dims))
    return bare


def inferred_types(proto: onnx.ModelProto) -> dict[str, str]:
    """Value name to numpy name of its element type."""
    from onnx import TensorProto, shape_inference

    inferred = shape_inference.infer_shapes(proto).graph
    names = {code: _numpy_name(name) for name, code in TensorProto.DataType.items()}
    return {
        port.name: names[port.type.tensor_type.elem_type]
        for port in (*inferred.input, *inferred.value_info, *inferred.output)
        if port.type.tensor_type.elem_type
    }


def _numpy_name(name: str) -> str:
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower())


def _is_integer(dtype: str) -> bool:
    return dtype.startswith(("int", "uint")) or dtype == "bool"


def _refuse_control_flow(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise UserError(
                f"{node.name} ({node.op_type}) has a sub-graph, which the audit does not enter",
                fix="Write the model without If, Loop and Scan",
            )
