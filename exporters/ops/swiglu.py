"""The gated activation g sigmoid(g) u in integers (DI-SwiGLU of I-LLM, section 3.3).

The paper forms sigmoid as a / (a + b) with exponentials below a shared maximum, which underflows
when the row's largest gate is large. The two-sided form does not: sigmoid of |x| from a table of
1/256 octaves, mirrored for negative x.

Smoothing of a nonlinear activation (FSBR) evaluates sigmoid(g / s) with s per channel. Nothing is
divided at run time: the argument comes as a tensor of its own, the same integer product with other
column scales.
"""

from __future__ import annotations

import numpy as np

from exporters.ops.algebra import Value, operator, where
from exporters.ops.exponential import FRACTION_BITS, LAST, octave_index
from exporters.ops.primitives import log2_floor, power_of_two, rounded, row_peak

SIGMOID_BITS = 15
_FACTOR_BITS = 18

_octaves = np.arange(LAST + 1) / (1 << FRACTION_BITS)
SIGMOID_TABLE = np.round((1 << SIGMOID_BITS) / (1 + 2.0**-_octaves)).astype(np.int64)


@operator("DISwiGLU")
def di_swiglu(
    gate: Value, argument: Value, up: Value, mantissa: Value, exponent: Value
) -> tuple[Value, Value]:
    """``gate x sigmoid(argument) x up``.

    Args:
        gate, up: int64 ``[..., F]``, below 2^55.
        argument: int64 ``[..., F]``, below 2^62; the gate itself where nothing is smoothed.
        mantissa, exponent: int64 ``[..., 1]``, log2 e times the argument's scale.

    Returns:
        y int64 ``[..., F]``, |y| <= 2^51, and shift int64 ``[..., 1]``: the result is
        y 2^(shift - 15) in units of gate times units of up. Sigmoid is within 2^-15 and 1/512 of an
        octave (7e-4 absolute, measured 3.6e-4); gate and up keep 18 bits.
    """
    table = gate.backend.constant(SIGMOID_TABLE)
    positive = table.gather(octave_index(abs(argument), mantissa, exponent))
    sigmoid = where(argument >= 0, positive, (1 << SIGMOID_BITS) - positive)
    gate, gate_shift = _leading_bits(gate)
    up, up_shift = _leading_bits(up)
    return gate * sigmoid * up, gate_shift + up_shift


def _leading_bits(z: Value) -> tuple[Value, Value]:
    """Rows shifted right, rounded, so that their largest has 18 bits; and by how much."""
    shift = (log2_floor(row_peak(z)) - (_FACTOR_BITS - 1)).small_clip(0, 62)
    return rounded(z, power_of_two(shift)), shift
