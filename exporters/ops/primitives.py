"""Canonical integer arithmetic, from which every operator of this package is built.

| name                    | meaning                                                          |
|-------------------------|------------------------------------------------------------------|
| ``rounded(a, d)``       | a / d, halves away from zero: trunc((a + sgn(a) floor(d/2)) / d) |
| ``rounded_up(a, d)``    | the same for a >= 0, without the sign                            |
| ``log2_floor(x)``       | floor(log2 x) of x >= 1                                          |
| ``power_of_two(s)``     | 2^s; s is clipped to 0 .. 62                                     |
| ``shifted(x, s)``       | x 2^s where s >= 0, x / 2^-s rounded where s < 0                 |
| ``maximum``, ``clip``   | exact over the whole int64 range, unlike ONNX Runtime's Max/Clip |

``rounded`` needs ``|a| + d/2 < 2^63``.
"""

from __future__ import annotations

import numpy as np

from exporters.ops.algebra import Value, where

MAX_SHIFT = 62

_POWERS = np.left_shift(np.int64(1), np.arange(MAX_SHIFT + 1, dtype=np.int64))


def rounded(a: Value, divisor: Value | int) -> Value:
    """``a / divisor`` rounded, halves away from zero; ``divisor`` is positive."""
    if isinstance(divisor, int):
        half = where(a >= 0, divisor // 2, -(divisor // 2))
    else:
        positive = divisor.div(2)
        half = where(a >= 0, positive, -positive)
    return (a + half).div(divisor)


def rounded_up(a: Value, divisor: Value | int) -> Value:
    """``a / divisor`` rounded, halves upwards; ``a`` >= 0, ``divisor`` positive."""
    half = divisor // 2 if isinstance(divisor, int) else divisor.div(2)
    return (a + half).div(divisor)


def log2_floor(x: Value) -> Value:
    """Position of the highest set bit; ``x`` >= 1, and 0 for anything smaller."""
    reached = x.unsqueeze(-1) >= x.backend.constant(_POWERS[1:])
    total = reached.cast("int64").row_sum()
    return total.backend.apply("Squeeze", total, total.backend.constant([-1]))


def power_of_two(shift: Value) -> Value:
    """``2^shift``; counts outside 0 .. 62 are taken to the nearer end."""
    return shift.backend.constant(_POWERS).gather(shift.small_clip(0, MAX_SHIFT))


def shifted(x: Value, shift: Value) -> Value:
    """``x 2^shift``, rounded where ``shift`` is negative."""
    return rounded(x * power_of_two(shift), power_of_two(-shift))


def maximum(a: Value, b: Value | int) -> Value:
    return where(a > b, a, b)


def minimum(a: Value, b: Value | int) -> Value:
    return where(a < b, a, b)


def clip(x: Value, low: Value | int, high: Value | int) -> Value:
    return minimum(maximum(x, low), high)


def row_peak(x: Value) -> Value:
    """Largest magnitude of the last axis, at least 1, kept as an axis of 1."""
    return maximum(abs(x).row_max(), 1)
