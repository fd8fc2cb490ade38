"""Integer matrix products: 8-bit rows times 8-bit (or 4-bit) weights, per-column dyadic scales.

The paper requantises inside its DI-MatMul; here that is a step of its own (`DIQuantize`), since
between two products there is always something to do at full width: rotary embedding, residual
addition, the gate.
"""

from __future__ import annotations

from exporters.ops.algebra import Value, concat, operator
from exporters.ops.primitives import power_of_two, rounded
from exporters.ops.quantize import ZERO_POINT


@operator("DIMatMul")
def di_matmul(x: Value, weight: Value, column_scale: Value) -> Value:
    """``(x - 128) @ weight`` in int32, times ``column_scale`` in int64; exact.

    Args:
        x: uint8 ``[..., K]`` with zero point 128.
        weight: int8 ``[K, N]``, |w| <= 127.
        column_scale: int64 ``[N]``, mantissas that share one exponent, below 2^15.

    Returns:
        int64 ``[..., N]``: |z| <= K 127^2 2^15, which is below 2^41 for K = 4096; K may be as
        large as 133,000 before int32 overflows.
    """
    product = x.backend.apply("MatMulInteger", x, weight, x.backend.constant(ZERO_POINT, "uint8"))
    return product.cast("int64") * column_scale


def di_matmul_wide(high: Value, low: Value, weight: Value, column_scale: Value) -> Value:
    """`di_matmul` of rows ``[1, T, K]`` of 16 bits in two halves; exact.

    The halves stand one after the other in one product, so that weights are read once.
    """
    both = di_matmul(concat([high, low], 1), weight, column_scale)
    upper, lower = both.split(2, 1)
    return upper * 256 + lower


@operator("DIBias")
def di_bias(
    z: Value, bias: Value, mantissa: Value, exponent: Value, *, offset: Value | int
) -> Value:
    """Add a bias to a product whose scale is dynamic: z + RD(bias 2^(exponent + offset), m).

    Args:
        z: int64 ``[..., N]`` in units of m / 2^(exponent + weights' exponent).
        bias: int64 ``[N]``, below 2^15, in units of 2^-e.
        mantissa, exponent: of the rows' scale, int64 ``[..., 1]``.
        offset: the weights' exponent minus e.

    Returns:
        int64 ``[..., N]``, within half a unit of z. Shifts are cut at 2^46, where a bias would be
        2^31 times larger than the row's scale.
    """
    shift = (exponent + offset).small_clip(-MAX_BIAS_SHIFT, MAX_BIAS_SHIFT)
    return z + rounded(bias * power_of_two(shift), mantissa * power_of_two(-shift))


MAX_BIAS_SHIFT = 46
