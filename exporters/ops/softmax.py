"""Softmax of integer scores, ready to be multiplied with cached integer values.

DI-ClippedSoftmax of I-LLM (section 3.3) clips scores at c = 15 below the row's maximum, because it
then requantises them to 8 bits. Here scores stay at full width, so the clip costs nothing and sits
where the exponential ends, at 31 octaves = 21.5 below the maximum.

Values in a cache have a scale per token. Such a scale cannot be taken out of the product with the
probabilities, since it varies along the reduced axis: it is absorbed into them,

    w_j = e_j G_j,   p_j = RD(65535 w_j, max w),   scale = max w / (65535 sum e).

Probabilities have 16 bits, as two uint8 tensors. With 8 bits relative to the largest, attention
over many equal keys loses its tail; 7 bits cost two points of perplexity in small models.
"""

from __future__ import annotations

from exporters.ops.algebra import Value, operator, where
from exporters.ops.dyadic import dyadic_fit
from exporters.ops.exponential import di_exp
from exporters.ops.primitives import maximum, rounded_up

PROBABILITY_LEVELS = 65535
_KEPT_SHIFT = 10  # of the exponential's 30 bits 20 are kept beside 26 bits of scale and 16 of p


@operator("DIClippedSoftmax")
def di_clipped_softmax(
    scores: Value, mantissa: Value, exponent: Value, visible: Value, value_scale: Value
) -> tuple[Value, Value, Value, Value]:
    """Probabilities times value scales, row by row.

    Args:
        scores: int64 ``[..., S]``, |score| < 2^60.
        mantissa, exponent: int64 ``[..., 1]``, log2 e times the scores' scale.
        visible: bool, broadcastable to the scores; at least one True a row. Others weigh exactly 0.
        value_scale: int64, broadcastable to the scores, in 0 .. 2^26 - 1.

    Returns:
        high, low uint8 ``[..., S]`` and mantissa, exponent int64 ``[..., 1]``:
        probability x value_scale = (256 high + low) m / 2^k, within 0.14 % of the exponential, half
        a step of the row's largest / 65535 and the 2^-20 that is cut off each exponential.
    """
    masked = where(visible, scores, -(1 << 61))
    weights = di_exp(masked.row_max() - masked, mantissa, exponent)
    weights = where(visible, weights, 0)
    kept = weights.div(1 << _KEPT_SHIFT)
    scaled = kept * value_scale
    largest = maximum(scaled.row_max(), 1)
    p = rounded_up(scaled * PROBABILITY_LEVELS, largest)
    total = weights.row_sum().div(1 << _KEPT_SHIFT)
    row_mantissa, row_exponent = dyadic_fit(largest, total * PROBABILITY_LEVELS)
    high = p.div(256)
    low = p - high * 256
    return high.cast("uint8"), low.cast("uint8"), row_mantissa, row_exponent
