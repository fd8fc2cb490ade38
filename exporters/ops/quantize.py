"""Dynamic requantisation of rows, symmetric: q = RD(z Q, max|z|), scale max|z| / Q.

The paper quantizes with two independent roundings, of values and of the zero point; the r.m.s.
error is then 0.40 steps in place of 1 / sqrt(12) = 0.289. One symmetric rounding has 0.289.
Stored as uint8 with zero point 128: ONNX Runtime's product of uint8 and int8 has fast kernels on
every CPU, that of two int8 has none on most.

With few bits most of a row's error is the size of its step, and it pays to cut its largest values
(`di_quantize_cut`): q = RD(z steps, max|z| parts) within +-Q, scale max|z| parts / steps, for a
row whose end is at Q parts / steps of its largest.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporters.ops.algebra import Value, lift, operator
from exporters.ops.dyadic import dyadic_fit
from exporters.ops.primitives import clip, rounded, row_peak

ZERO_POINT = 128


@dataclass(frozen=True)
class RowRounding:
    """How rows are rounded.

    Attributes:
        levels: steps on either side of zero.
        steps, parts: a row's largest value is at steps / parts of them; no less than ``levels``.
    """

    levels: int
    steps: int
    parts: int = 1

    @classmethod
    def whole(cls, levels: int) -> RowRounding:
        """Nothing is cut."""
        return cls(levels, levels)

    @property
    def cuts(self) -> bool:
        return self.steps > self.levels * self.parts


def quantized_rows(z: Value, rounding: RowRounding) -> tuple[Value, Value, Value]:
    """`di_quantize`, or `di_quantize_cut` where ``rounding`` cuts."""
    if not rounding.cuts:
        return di_quantize(z, levels=rounding.levels)
    return di_quantize_cut(z, levels=rounding.levels, steps=rounding.steps, parts=rounding.parts)


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


@operator("DIQuantizeCut")
def di_quantize_cut(
    z: Value, *, levels: Value | int, steps: Value | int, parts: Value | int
) -> tuple[Value, Value, Value]:
    """As `di_quantize`, with scales that end before a row's largest value.

    Args:
        z: int64 ``[..., N]``, |z| < 2^62 / steps and < 2^61 / parts.
        levels: 127 for 8 bits, 31 for 6, 7 for 4.
        steps, parts: the scale is max|z| parts / steps; what is beyond ``levels`` of them is cut.

    Returns:
        As `di_quantize`; values up to max|z| levels parts / steps are within half a step.
    """
    divisor = row_peak(z) * parts
    quantized = clip(rounded(z * steps, divisor), -lift(z.backend, levels), levels) + ZERO_POINT
    mantissa, exponent = dyadic_fit(divisor, lift(z.backend, steps))
    return quantized.cast("uint8"), mantissa, exponent
