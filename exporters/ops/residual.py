"""The residual stream: int64 with one fixed exponent for the whole model, saturating at 30 bits.

The paper requantises both operands of a residual addition to 16 bits per channel, with scales over
the token axis; in decoding there is one token, and such scales degenerate. A static power of two
needs no scale at all, and 30 bits hold even the massive activations of small models.
"""

from __future__ import annotations

from exporters.ops.algebra import Value, operator
from exporters.ops.primitives import clip, power_of_two, rounded

RESIDUAL_BITS = 30
RESIDUAL_LIMIT = (1 << RESIDUAL_BITS) - 1


@operator("DIResidualAdd")
def di_residual_add(
    h: Value, z: Value, mantissa: Value, exponent: Value, *, offset: Value | int
) -> Value:
    """``h + RD(z m, 2^(exponent + offset))``, cut to +-(2^30 - 1).

    Args:
        h: int64 ``[..., n]``, the stream.
        z: int64 ``[..., n]``, |z| < 2^46, in units of m / 2^(exponent + weights' exponent).
        mantissa, exponent: int64 ``[..., 1]``; m <= 2^16.
        offset: the weights' exponent minus that of the stream.

    Returns:
        int64 ``[..., n]``, within half a unit of the sum unless it saturates. Shifts are cut to
        0 .. 62: smaller ones belong to rows that saturate anyway.
    """
    added = rounded(z * mantissa, power_of_two(exponent + offset))
    return clip(h + added, -RESIDUAL_LIMIT, RESIDUAL_LIMIT)
