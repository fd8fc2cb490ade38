"""The oracle: ONNX's integer operators in NumPy.

quantized, mantissa, exponent = di_quantize(NUMPY.constant(rows), levels=127)
quantized.raw          # uint8 array
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from exporters.ops.algebra import Value
from exporters.ops.eager import EagerBackend

Array = NDArray[Any]


class NumpyBackend(EagerBackend):
    """Computes with NumPy arrays."""

    def constant(self, value: Any, dtype: str = "int64") -> Value:
        return Value(self, np.asarray(value, dtype))

    def _parts(self, raw: Array, sizes: list[int], axis: int) -> Sequence[Array]:
        return np.split(raw, np.cumsum(sizes)[:-1], axis)

    kernels: ClassVar[Mapping[str, Any]] = {
        "Add": lambda a, b: np.asarray(a + b),
        "Sub": lambda a, b: np.asarray(a - b),
        "Mul": lambda a, b: np.asarray(a * b),
        "Div": lambda a, b: _truncated_division(a, b),
        "Neg": lambda a: np.asarray(-a),
        "Abs": lambda a: np.asarray(np.abs(a)),
        "GreaterOrEqual": np.greater_equal,
        "Greater": np.greater,
        "Less": np.less,
        "Where": np.where,
        "Cast": lambda a, *, to: np.asarray(a).astype(to),
        "Clip": lambda a, low, high: np.clip(a, low, high),
        "Gather": lambda a, index, *, axis: np.asarray(np.take(a, index, axis)),
        "GatherElements": lambda a, index, *, axis: np.take_along_axis(a, index, axis),
        "ArgMax": lambda a, *, axis, keepdims: np.asarray(
            np.argmax(a, axis, keepdims=bool(keepdims))
        ),
        "ReduceSum": lambda a, axes, *, keepdims: np.sum(a, tuple(axes), keepdims=bool(keepdims)),
        "ReduceMin": lambda a, axes, *, keepdims: np.min(a, tuple(axes), keepdims=bool(keepdims)),
        "Unsqueeze": lambda a, axes: np.expand_dims(a, tuple(axes)),
        "Reshape": lambda a, shape: a.reshape(
            [a.shape[i] if size == 0 else size for i, size in enumerate(shape)]
        ),
        "Transpose": lambda a, *, perm: np.transpose(a, perm),
        "Concat": lambda *values, axis: np.concatenate(values, axis),
        "Shape": lambda a, *, start, end: np.asarray(a.shape[start:end], np.int64),
        "Range": lambda start, stop, step: np.arange(start, stop, step),
        "Slice": lambda a, start, end, axis: _slice(a, int(start[0]), int(end[0]), int(axis[0])),
        "Squeeze": lambda a, axes: np.squeeze(a, tuple(axes)),
        "MatMulInteger": lambda a, b, zero=0: _matmul_integer(a, b, zero),
    }


def _truncated_division(a: Array, b: Array) -> Array:
    quotient = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -quotient, quotient)


def _matmul_integer(a: Array, b: Array, zero: Any) -> Array:
    """Exact: products and sums of 8-bit integers are far below float64's 2^53."""
    product = np.matmul(a.astype(np.float64) - float(zero), b.astype(np.float64))
    return np.asarray(product, np.int32)


def _slice(a: Array, start: int, end: int, axis: int) -> Array:
    index = [slice(None)] * a.ndim
    index[axis] = slice(start, end)
    return a[tuple(index)]


NUMPY = NumpyBackend()
