"""Dyadic numbers m / 2^k: scales without floating point (I-LLM, arXiv:2405.17849, section 3.2).

The paper keeps 8 bits of the mantissa. Here it has 15, always normalised: 2^14 <= m <= 2^16 out of
`dyadic_fit`, 2^14 <= m <= 2^15 out of `dyadic_product`. Exponents are int64 and may be negative.

| operator        | computes                              | relative error             |
|-----------------|---------------------------------------|----------------------------|
| `DyadicFit`     | num / den as m / 2^k                  | <= 2^-15 + 2^-29           |
| `DyadicProduct` | (m1 / 2^k1) (m2 / 2^k2)               | <= 2^-15                   |
| `DyadicAlign`   | m / 2^k as an integer multiple of 2^-b | half a unit of 2^-b        |
| `DyadicCommon`  | m / 2^k along axis 1 with one exponent | one unit of 2^-(k_min + 8) |
"""

from __future__ import annotations

import math

from exporters.ops.algebra import Value, operator
from exporters.ops.primitives import log2_floor, minimum, power_of_two, rounded_up

MANTISSA_BITS = 15
ALIGNED_BITS = 26
"""Of what `dyadic_align` returns; larger scales saturate."""

_COMMON_SHIFT = 8
_MAX_DISTANCE = 40


@operator("DyadicFit")
def dyadic_fit(numerator: Value, denominator: Value) -> tuple[Value, Value]:
    """``(m, k)`` with m / 2^k = numerator / denominator; both int64 in 1 .. 2^62 - 1.

    Both are brought to 31 significant bits, so that the quotient of 46 by 31 bits has at least 15:
    m = RD(num' 2^15, den'), k = 15 - log2(num) + log2(den). Relative error at most 2^-15 + 2^-29.
    """
    top, log_top = _leading_31_bits(numerator)
    bottom, log_bottom = _leading_31_bits(denominator)
    mantissa = rounded_up(top * (1 << MANTISSA_BITS), bottom)
    return mantissa, MANTISSA_BITS - log_top + log_bottom


@operator("DyadicProduct")
def dyadic_product(
    mantissa: Value, exponent: Value, other_mantissa: Value, other_exponent: Value
) -> tuple[Value, Value]:
    """``(m, k)`` of the product of two dyadic numbers; mantissas below 2^31.

    m = RD(m1 m2, 2^l) with l such that m has 15 bits, k = k1 + k2 - l; relative error <= 2^-15.
    """
    product = mantissa * other_mantissa
    excess = (log2_floor(product) - (MANTISSA_BITS - 1)).small_clip(0, 62)
    scaled = rounded_up(product, power_of_two(excess))
    return scaled, exponent + other_exponent - excess


@operator("DyadicAlign")
def dyadic_align(mantissa: Value, exponent: Value, base: Value) -> Value:
    """A number m / 2^k as an integer number of units 2^-base, saturating at 2^26 - 1.

    ``base`` is a constant of the model, never the extreme of what happens to be in a cache: so a
    token's scale is the same in a prompt and in a step of decoding.
    """
    up = base - exponent
    value = mantissa * power_of_two(minimum(up, ALIGNED_BITS))
    return minimum(rounded_up(value, power_of_two(-up)), (1 << ALIGNED_BITS) - 1)


@operator("DyadicCommon")
def dyadic_common(mantissa: Value, exponent: Value) -> tuple[Value, Value]:
    """Numbers along axis 1 with one exponent: m 2^8 / 2^(k - k_min) truncated, and k_min + 8.

    Relative to the largest of the numbers the error is below 2^-22.
    """
    smallest = exponent.small_min(1)
    distance = (exponent - smallest).small_clip(0, _MAX_DISTANCE)
    return (mantissa * (1 << _COMMON_SHIFT)).div(power_of_two(distance)), smallest + _COMMON_SHIFT


def dyadic(value: float, bits: int = MANTISSA_BITS) -> tuple[int, int]:
    """The nearest m / 2^k of a positive constant, m of ``bits`` bits."""
    exponent = bits - 1 - math.floor(math.log2(value))
    return round(math.ldexp(value, exponent)), exponent


def _leading_31_bits(x: Value) -> tuple[Value, Value]:
    log = log2_floor(x)
    return x.div(power_of_two(log - 30)) * power_of_two(30 - log), log
