"""RMSNorm and LayerNorm of integer rows, quantized at once (DI-Norm of I-LLM, section 3.4).

The scale of the input cancels, so the norm of a row is a property of its integers:

    ss  = sum (h 2^-t)^2          t brings the largest |h| to 20 bits
    r   = isqrt(ss / n 2^16)      2^8 times the root mean square of h 2^-t
    z   = h g                     g = round(gamma 2^e), 15 bits, learned smoothing folded in
    out = z / (2^e rms h)         never divided: 1 / rms goes into the row's scale

The constant epsilon of the float norm is dropped; the root is at least one unit.
"""

from __future__ import annotations

from exporters.ops.algebra import Value, lift, operator
from exporters.ops.dyadic import dyadic_fit
from exporters.ops.primitives import clip, log2_floor, maximum, rounded, row_peak, shifted
from exporters.ops.quantize import ZERO_POINT, RowRounding
from exporters.ops.square_root import isqrt

_SQUARE_BITS = 20  # of a value that is squared: 2^13 of them sum up to 2^53, exact in ReduceSum
_ROOT_BITS = 8

MAX_CHANNELS = 1 << 13

WIDE_LEVELS = 127 << 8
_HALF = 1 << 15


@operator("DIRmsNorm")
def di_rms_norm(
    h: Value, gain: Value, *, channels: Value | int, gain_exponent: Value | int, levels: Value | int
) -> tuple[Value, Value, Value]:
    """Rows divided by their root mean square, times a gain, quantized.

    Args:
        h: int64 ``[..., n]``, |h| < 2^31, in any unit; n <= 8192.
        gain: int64 ``[n]``, below 2^15, in units of 2^-gain_exponent.
        channels: n.
        levels: 127 for 8 bits, 31 for 6, 7 for 4.

    Returns:
        q uint8 ``[..., n]`` and mantissa, exponent int64 ``[..., 1]``:
        the norm is (q - 128) m / 2^k within half a step; the scale m / 2^k is within 1e-4. A row of
        zeros gives q = 128.
    """
    root, shift = _root_mean_square(h, channels)
    return _quantized(h * gain, root, shift + gain_exponent, levels)


@operator("DIRmsNormCut")
def di_rms_norm_cut(
    h: Value,
    gain: Value,
    *,
    channels: Value | int,
    gain_exponent: Value | int,
    levels: Value | int,
    steps: Value | int,
    parts: Value | int,
) -> tuple[Value, Value, Value]:
    """As `di_rms_norm`, rows rounded as by `exporters.ops.quantize.di_quantize_cut`.

    ``steps`` is below 2^16, ``parts`` below 2^14.
    """
    root, shift = _root_mean_square(h, channels)
    z = h * gain
    divisor = row_peak(z) * parts
    quantized = clip(rounded(z * steps, divisor), -lift(h.backend, levels), levels) + ZERO_POINT
    mantissa, fitted = dyadic_fit(divisor, root * steps)
    exponent = fitted + (shift + gain_exponent) - _ROOT_BITS
    return quantized.cast("uint8"), mantissa, exponent


@operator("DIRmsNormWide")
def di_rms_norm_wide(
    h: Value, gain: Value, *, channels: Value | int, gain_exponent: Value | int
) -> tuple[Value, Value, Value, Value]:
    """As `di_rms_norm` with 16 bits, for where 8 lose too much: rows before the output matrix.

    Returns:
        high, low uint8 ``[..., n]`` and mantissa, exponent int64 ``[..., 1]``: the norm is
        (256 (high - 128) + low - 128) m / 2^k within half a step, of which there are 32512 on
        either side. Both halves have zero point 128, as rows of 8 bits do, so that one integer
        product serves both.
    """
    root, shift = _root_mean_square(h, channels)
    z = h * gain
    peak = row_peak(z)
    steps = rounded(z * WIDE_LEVELS, peak)
    high = (steps + (_HALF + ZERO_POINT)).div(256)  # never negative: div is the floor
    low = steps - high * 256 + (_HALF + ZERO_POINT)
    mantissa, fitted = dyadic_fit(peak, root * WIDE_LEVELS)
    exponent = fitted + (shift + gain_exponent) - _ROOT_BITS
    return high.cast("uint8"), low.cast("uint8"), mantissa, exponent


def normed_rows(
    h: Value, gain: Value, channels: int, gain_exponent: int | Value, rounding: RowRounding
) -> tuple[Value, Value, Value]:
    """`di_rms_norm`, or `di_rms_norm_cut` where ``rounding`` cuts."""
    if not rounding.cuts:
        return di_rms_norm(
            h, gain, channels=channels, gain_exponent=gain_exponent, levels=rounding.levels
        )
    return di_rms_norm_cut(
        h,
        gain,
        channels=channels,
        gain_exponent=gain_exponent,
        levels=rounding.levels,
        steps=rounding.steps,
        parts=rounding.parts,
    )


@operator("DILayerNorm")
def di_layer_norm(
    h: Value,
    gain: Value,
    bias: Value,
    *,
    channels: Value | int,
    gain_exponent: Value | int,
    levels: Value | int,
) -> tuple[Value, Value, Value]:
    """As `di_rms_norm`, of rows less their mean, plus a bias in the unit of the gain.

    The mean is rounded to one unit of h, so h should carry some bits below what matters.
    """
    centred = h - rounded(h.row_sum(), channels)
    root, shift = _root_mean_square(centred, channels)
    z = centred * gain + shifted(bias * root, shift - _ROOT_BITS)
    return _quantized(z, root, shift + gain_exponent, levels)


def _root_mean_square(h: Value, channels: Value | int) -> tuple[Value, Value]:
    """``(r, t)``: the root mean square is r 2^(t - 8), r within one of its last bit and >= 1."""
    shift = log2_floor(row_peak(h)) - (_SQUARE_BITS - 1)
    scaled = shifted(h, -shift)
    square = (scaled * scaled).row_sum().div(channels)
    return maximum(isqrt(square * (1 << 2 * _ROOT_BITS)), 1), shift


def _quantized(
    z: Value, root: Value, exponent: Value, levels: Value | int
) -> tuple[Value, Value, Value]:
    """Quantized rows of z / root 2^(8 - exponent)."""
    peak = row_peak(z)
    quantized = rounded(z * levels, peak) + ZERO_POINT
    mantissa, fitted = dyadic_fit(peak, root * levels)
    return quantized.cast("uint8"), mantissa, fitted + exponent - _ROOT_BITS
