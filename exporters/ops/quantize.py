"""Dynamic requantisation of rows, symmetric: q = RD(z Q, max|z|), scale max|z| / Q.

The paper quantizes with two independent roundings, of values and of the zero point; the r.m.s.
error is then 0.40 steps in place of 1 / sqrt(12) = 0.289. One symmetric rounding has 0.289.
Stored as uint8 with zero point 128: ONNX Runtime's product of uint8 and int8 has fast kernels on
every CPU, that of two int8 has none on most.
"""

from __future__ import annotations

from exporters.ops.algebra import Value, lift, operator
from exporters.ops.dyadic import dyadic_fit
from exporters.ops.primitives import rounded, row_peak

ZERO_POINT = 128


@operator("DIQuantize")
def di_quantize(z: Value, *, levels: Value | int) -> tuple[Value, Value, Value]:
    """Rows of int64 as ``levels`` steps on either side of zero.

    Args:
        z: int64 ``[..., N]``, |z| < 2^56.
        levels: 127 for 8 bits, 31 for 6, 7 for 4.

    Returns:
        q uint8 ``[..., N]`` and mantissa, exponent int64 ``[..., 1]``:
        z = (q - 128) m / 2^k within half a step (of max|z| / levels) and 2^-15 of max|z|.
        A row of zeros gives q = 128.
    """
    peak = row_peak(z)
    quantized = rounded(z * levels, peak) + ZERO_POINT
    mantissa, exponent = dyadic_fit(peak, lift(z.backend, levels))
    return quantized.cast("uint8"), mantissa, exponent
