"""Sums over any run of a histogram's bins in one subtraction; logarithms that know empty bins.

A search for a range asks the same sums of hundreds of candidates: with prefix sums a candidate
costs as many operations as it has levels, not bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def prefix_sum(values: NDArray[np.generic]) -> Floats:
    """``[n + 1]``: entry ``k`` is the sum of the first ``k`` values."""
    return np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))


def x_log(x: Floats) -> Floats:
    """``x ln x``, zero at zero."""
    return x_log_y(x, x)


def x_log_y(x: Floats, y: Floats) -> Floats:
    """``x ln y``; zero where ``x`` or ``y`` is."""
    safe = np.where(x > 0, y, 1.0)
    return np.asarray(x * np.log(np.where(safe > 0, safe, 1.0)))
