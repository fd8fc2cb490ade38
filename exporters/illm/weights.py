"""Weights as integers: symmetric per output column, dyadic scales with one exponent a matrix.

    w[i, j] = q[i, j] m[j] / 2^K,    |q| <= 127 (8 bits), 31 (6) or 7 (4),    m[j] < 2^15

m[j] is rounded first and q against the rounded one, so that rounding the scale costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporters.illm.source import Array
from exporters.ops.dyadic import MANTISSA_BITS
from exporters.ops.quantize import RowRounding
from exporters.ops.rotary import ROTARY_BITS

LEVELS = {8: 127, 6: 31, 4: 7}
"""Steps on either side of zero, by bits."""

_CUT = {4: RowRounding(7, steps=35, parts=4), 6: RowRounding(31, steps=65, parts=2)}
"""Of rows without outliers: scales end at 0.8 and 0.95 of the largest value, where the error of a
normal distribution is least."""

GAIN_BITS = 15
_INT64_BITS = 62


def row_rounding(bits: int, *, mixed: bool) -> RowRounding:
    """Of activations; ``mixed``: in the rotated basis, where no channel stands out."""
    return _CUT[bits] if mixed and bits in _CUT else RowRounding.whole(LEVELS[bits])


@dataclass(frozen=True)
class Matrix:
    """Attributes: values int8 ``[in, out]``; scale int64 ``[out]`` in units of 2^-exponent."""

    values: NDArray[np.int8]
    scale: NDArray[np.int64]
    exponent: int

    @property
    def real(self) -> NDArray[np.float64]:
        return self.values * (self.scale * 2.0**-self.exponent)


@dataclass(frozen=True)
class Vector:
    """Integers below 2^15 in units of 2^-exponent: a gain, a bias, smoothing factors."""

    values: NDArray[np.int64]
    exponent: int


def quantize_columns(weight: Array, bits: int, clip: Array | None = None) -> Matrix:
    """``weight`` float ``[in, out]`` rounded to nearest with the scale of each column's peak.

    Args:
        clip: ``[out]``, learned: the share of the peak that is the end of the scale.
    """
    return round_columns(weight, clipped_peak(weight, clip) / LEVELS[bits], bits)


def clipped_peak(weight: Array, clip: Array | None) -> NDArray[np.float64]:
    """The end of each column's scale, ``[out]``."""
    peak = np.abs(weight.astype(np.float64)).max(0)
    return np.asarray(np.maximum(peak if clip is None else peak * clip, 1e-8))


def round_columns(weight: Array, scale: NDArray[np.float64], bits: int) -> Matrix:
    """``weight`` rounded to nearest with a given ``scale`` per column; what is beyond is cut."""
    mantissa, exponent = dyadic_scales(weight.shape[0], scale)
    steps = np.round(weight / (mantissa * 2.0**-exponent))
    levels = LEVELS[bits]
    values = np.clip(steps, -levels, levels).astype(np.int8)
    return Matrix(values, mantissa.astype(np.int64), exponent)


def dyadic_scales(depth: int, scale: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """``scale`` as whole numbers of units of 2^-exponent, for matrices of ``depth`` rows."""
    limit = (1 << mantissa_bits(depth)) - 1
    exponent = math.floor(math.log2(limit / scale.max()))
    return np.maximum(np.round(scale * 2.0**exponent), 1.0), exponent


def mantissa_bits(depth: int) -> int:
    """Bits of a column's scale such that the rotated product, times 127, stays below 2^62."""
    product = math.ceil(math.log2(depth * 127 * 127 * math.sqrt(2))) + ROTARY_BITS + 7
    return min(MANTISSA_BITS, _INT64_BITS - product)


def quantize_vector(vector: Array) -> Vector:
    """Rounded to 15 bits of the largest."""
    peak = max(float(np.abs(vector).max()), 1e-12)
    exponent = GAIN_BITS - 1 - math.floor(math.log2(peak))
    values = np.round(vector.astype(np.float64) * 2.0**exponent)
    return Vector(values.astype(np.int64), exponent)
