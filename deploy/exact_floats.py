"""Do float tensors of a file hold integers only, so small that no product of them is rounded?

TensorRT multiplies no integers but as float32 (`exporters.ops.tensorrt_backend`). Such a file is
not integer-only by its types. What can be proved instead, by interval arithmetic over the graph:

    every float value is an integer of magnitude of at most 2^24, sums in between included,

so that float32 has each of them exactly, in whatever order a kernel adds. Floats come from a cast
of a bounded integer or from 8-bit constants with scale 1, meet in ``MatMul`` alone, and leave by a
cast to an integer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deploy.integer_audit import Audit, inferred_types, without_weights
from exporters.ops.tensorrt_backend import MAX_KEYS

if TYPE_CHECKING:
    import onnx

Interval = tuple[int, int]

EXACT = 1 << 24
"""Float32 has every integer up to here."""

_MOVES = ("Transpose", "Reshape", "Split", "Slice", "Unsqueeze", "Squeeze", "Identity", "Gather")
_RANGES = {"int8": (-128, 127), "int4": (-8, 7)}
_FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, kw_only=True)
class ExactFloats(Audit):
    """Float values of which it cannot be proved, each with why.

    Attributes:
        values: floats that were looked at.
        products: MatMuls of floats.
        largest: bound of the largest magnitude that any of them can reach, in between too.
    """

    values: int
    products: int
    largest: int
    is_not: ClassVar[str] = "has floats that need not be integers"
    export_with: ClassVar[str] = "--runtime tensorrt"


def audit_exact_floats(proto: onnx.ModelProto, longest: int = MAX_KEYS) -> ExactFloats:
    """Bound every float value of ``proto``.

    Args:
        longest: of any inner axis whose length is not in the graph: the file's context.
    """
    from onnx import inliner

    flat = inliner.inline_local_functions(proto) if proto.functions else proto
    walk = _Walk(flat, longest)
    for node in flat.graph.node:
        walk.see(node)
    return walk.found()


class _Walk:
    """Intervals, value by value in the order of execution."""

    def __init__(self, flat: onnx.ModelProto, longest: int) -> None:
        from onnx import numpy_helper

        bare = without_weights(flat)
        self._types, self._longest = inferred_types(bare), longest
        self._shapes = _shapes(bare)
        self._constants: dict[str, float] = {
            tensor.name: numpy_helper.to_array(tensor).item()
            for tensor in flat.graph.initializer
            if math.prod(tensor.dims) == 1
        }
        self._intervals: dict[str, Interval] = {}
        self._offences: list[str] = []
        self._floats = self._products = self._largest = 0

    def see(self, node: onnx.NodeProto) -> None:
        interval, why = self._interval(node)
        for output in filter(None, node.output):
            if interval is not None:
                self._intervals[output] = interval
            if self._types.get(output) not in _FLOATS:
                continue
            self._floats += 1
            if interval is None or _magnitude(interval) > EXACT:
                self._offences.append(f"{output} ({node.op_type}): {why}")
            else:
                self._largest = max(self._largest, _magnitude(interval))

    def found(self) -> ExactFloats:
        return ExactFloats(
            values=self._floats,
            products=self._products,
            largest=self._largest,
            offences=tuple(self._offences),
        )

    def _interval(self, node: onnx.NodeProto) -> tuple[Interval | None, str]:
        """Of a node's outputs, or why there is none."""
        kind, first = node.op_type, self._known(node.input[0]) if node.input else None
        second = self._constants.get(node.input[1]) if len(node.input) > 1 else None
        if kind == "Cast" or kind in _MOVES:
            return first, f"{node.input[0]} has no bound"
        if kind == "Concat":
            parts = [self._known(name) for name in node.input]
            bounds = [part for part in parts if part is not None]
            if len(bounds) == len(parts):
                return (min(low for low, _ in bounds), max(high for _, high in bounds)), ""
        if kind == "Mod" and second is not None:
            return (0, int(second) - 1), ""  # the sign of the divisor
        if kind == "Sub" and second is not None and first is not None:
            return (first[0] - int(second), first[1] - int(second)), ""
        if kind == "DequantizeLinear":
            whole = second == 1.0 and len(node.input) == 2
            return (first, "no 8-bit constant") if whole else (None, "its scale is not 1")
        if kind == "MatMul":
            return self._product(node)
        return None, f"{kind} of floats"

    def _known(self, name: str) -> Interval | None:
        return self._intervals.get(name) or _RANGES.get(self._types.get(name, ""))

    def _product(self, node: onnx.NodeProto) -> tuple[Interval | None, str]:
        left, right = (self._known(name) for name in node.input)
        if left is None or right is None:
            return None, "a factor has no bound"
        self._products += 1
        inner = self._shapes.get(node.input[1], ())[-2:-1]
        depth = inner[0] if inner and inner[0] else self._longest
        most = depth * _magnitude(left) * _magnitude(right)
        return (-most, most), f"{depth} products can add up to {most}, beyond 2^24"


def _magnitude(interval: Interval) -> int:
    return max(-interval[0], interval[1])


def _shapes(proto: onnx.ModelProto) -> Mapping[str, tuple[int | None, ...]]:
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
    return {
        port.name: tuple(
            d.dim_value if d.HasField("dim_value") else None
            for d in port.type.tensor_type.shape.dim
        )
        for port in (*inferred.input, *inferred.value_info, *inferred.output)
    }
