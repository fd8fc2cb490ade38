"""Products with Hadamard matrices, by sums and differences alone: exact in integers.

A Hadamard matrix H of 2^p rows has entries of 1 and -1 and H H^T = 2^p. So x H spreads an outlier
of x over all 2^p channels, and a matrix that reads x H / 2^p undoes it: W' = H^T W. Where nothing
can be folded into weights, behind a rotary embedding or a gate, rows are multiplied at run time, as
QuaRot does (arXiv:2404.00456); there in floating point.

Sylvester's matrix takes p steps, each a sum and a difference of halves:

    [a b] -> [a + b, a - b]        of neighbours at distance 1, 2, 4, ..., 2^(p-1)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporters.ops.algebra import Value, concat
from exporters.ops.primitives import rounded


def block_bits(size: int) -> int:
    """The largest p such that 2^p divides ``size``: rows of that size are mixed in such blocks."""
    return (size & -size).bit_length() - 1


def mixed(x: Value, *, bits: int, rank: int) -> Value:
    """Blocks of 2^bits neighbours of the last axis: ``RD(x / 2^bits) H``.

    Args:
        x: int64 with ``rank`` axes, |x| < 2^62.
        bits: p of the blocks; 0 leaves x as it is.

    Returns:
        int64 like x, no larger than the largest magnitude of x plus 2^(p-1); within 2^(p-1) of the
        product with the real x / 2^p, from rounding before.
    """
    if not bits:
        return x
    lead = (0,) * (rank - 1)
    x = rounded(x, 1 << bits)
    for step in range(bits):
        first, second = x.reshape(*lead, -1, 2, 1 << step).split(2, -2)
        x = concat([first + second, first - second], -2)
    return x.reshape(*lead, -1)


def block_hadamard(size: int) -> NDArray[np.float32]:
    """Sylvester's matrix of 2^`block_bits` rows."""
    found = np.ones((1, 1), np.float32)
    for _ in range(block_bits(size)):
        found = np.block([[found, found], [found, -found]])
    return found
