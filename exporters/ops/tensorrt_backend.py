"""The same algorithms in what TensorRT takes: float-typed products of integers, exact by a bound.

TensorRT has no ``MatMulInteger`` and computes nothing in uint8, but all other integer arithmetic.
So in place of both:

    uint8 u           int32, u mod 256: what a cast to uint8 leaves, and in 0 .. 255 for a reader
    A B               MatMul of float32 over parts of at most 1024 of the inner axis, each part cast
                      to int32, and the parts added

A float32 sum of integers is exact in any order while no partial sum can exceed 2^24. Rows are
within 128 and weights within 127: 1024 x 128 x 127 < 2^24. Probabilities are within 255, and their
inner axis is the keys: 518 x 255 x 127 < 2^24, so such a file is for at most 512 positions.
`deploy.exact_floats` proves the bounds of a file. Half precision is excluded by building strongly
typed, as edgeport does. TF32, which TensorRT allows itself by default, keeps the factors (8 of its
11 bits), but what its accumulators keep of a sum of 24 bits is not documented: `edgeport build`
turns it off for such a file.

Left as it is: everything else. Int64 division, comparison, table lookup and reduction parse and
build as they stand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from exporters.ops.algebra import Value
from exporters.ops.onnx_backend import GraphBackend

PART = 1024
"""Of the inner axis, at most: 1024 x 128 x 127 < 2^24."""

MAX_KEYS = 512
"""Of one query: 512 x 255 x 127 < 2^24."""

_STORED = {"uint8": "int32", "int16": "int32"}
_UNSIGNED_END = 256


class TensorRtBackend(GraphBackend):
    """Writes a flat graph; see the module."""

    def __init__(self) -> None:
        super().__init__(inline=True)
        self._depths: dict[str, int] = {}  # of weights of 8 or 4 bits, by name

    def apply(self, kind: str, *inputs: Value, **attributes: Any) -> Value:
        if kind == "MatMulInteger":
            return self._product(*inputs)
        if kind == "Cast" and attributes["to"] == "uint8":
            return super().apply("Mod", inputs[0], self.constant(_UNSIGNED_END)).cast("int32")
        if kind == "Cast" and attributes["to"] == "int8" and inputs[0].raw in self._depths:
            return inputs[0]  # 4 bits: they are widened where they are used
        used = [self._widened(value) if v in self._depths else value for value, v in _raws(inputs)]
        return super().apply(kind, *used, **attributes)

    def constant(self, value: Any, dtype: str = "int64") -> Value:
        return super().constant(value, _STORED.get(dtype, dtype))

    def weight(self, name: str, array: Any, dtype: str | None = None) -> Value:
        kind = dtype or str(np.asarray(array).dtype)
        if kind in ("int8", "int4"):
            self._depths[name] = np.asarray(array).shape[0]
        return super().weight(name, array, _STORED.get(kind, kind))

    def _widened(self, weight: Value) -> Value:
        """A constant of 8 bits may only feed a ``DequantizeLinear``."""
        return self._as_float(weight).cast("int32")

    def _as_float(self, value: Value) -> Value:
        if value.raw in self._depths:
            return super().apply("DequantizeLinear", value, self.constant(1.0, "float32"))
        return value.cast("float32")

    def _product(self, left: Value, right: Value, zero: Value | None = None) -> Value:
        if zero is not None:
            left = left - zero
        depth = self._depths.get(right.raw)
        a, b = self._as_float(left), self._as_float(right)
        if depth is None or depth <= PART:  # keys and values: the head's size, and the context
            return super().apply("MatMul", a, b).cast("int32")
        sizes = [min(PART, depth - start) for start in range(0, depth, PART)]
        parts = zip(a.split(sizes, -1), b.split(sizes, 0), strict=True)
        first, *others = (super(TensorRtBackend, self).apply("MatMul", *p) for p in parts)
        total = first.cast("int32")
        for part in others:
            total = total + part.cast("int32")
        return total


def _raws(values: tuple[Value, ...]) -> list[tuple[Value, Any]]:
    return [(value, value.raw) for value in values]
