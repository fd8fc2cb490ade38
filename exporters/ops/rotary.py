"""Rotary position embedding in integers, for the half-split layout of LLaMA checkpoints.

Not in the paper. Cosine and sine have 14 fractional bits (off by at most 3.1e-5), the rotation
happens at full width before quantisation, and the 14 bits stay in the exponent: nothing is rounded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporters.ops.algebra import Value, concat, operator

ROTARY_BITS = 14


@operator("DIRotary")
def di_rotary(z: Value, cosine: Value, sine: Value) -> Value:
    """``(z1 cos - z2 sin, z2 cos + z1 sin)`` of the two halves of the last axis; exact.

    Args:
        z: int64 ``[..., T, D]``, |z| < 2^47.
        cosine, sine: int64 ``[T, D/2]`` with 14 fractional bits.

    Returns:
        int64 ``[..., T, D]`` with 14 more fractional bits: |out| <= sqrt(2) 2^14 |z|.
    """
    first, second = z.split(2, -1)
    return concat([first * cosine - second * sine, second * cosine + first * sine], -1)


def rotary_tables(angles: NDArray[np.float64]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Cosine and sine of ``angles`` as int16 with 14 fractional bits."""
    one = 1 << ROTARY_BITS
    return (
        np.round(np.cos(angles) * one).astype(np.int16),
        np.round(np.sin(angles) * one).astype(np.int16),
    )
