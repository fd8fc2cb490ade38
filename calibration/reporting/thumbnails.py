"""Distributions small enough to be drawn beside a name: a few dozen bars.

Heights are the square roots of the counts, so that a tail that holds a thousandth of the values is
still seen, in whole per cent of the tallest bar.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.observing.histogram import Histogram

BARS = 40
_COUNTED = 1 << 16  # of a weight's elements: enough for bars, and done in a millisecond


def of_histogram(histogram: Histogram, low: float, high: float) -> list[int]:
    """Bars over ``[low, high]``, what a tensor was seen to hold.

    A bin of the histogram that lies across two bars is shared out between them.
    """
    if not high > low:
        return []
    edges = (np.arange(len(histogram.counts) + 1) - len(histogram.counts) / 2) * histogram.width
    below = np.concatenate(([0.0], np.cumsum(histogram.counts)))
    return _heights(np.diff(np.interp(np.linspace(low, high, BARS + 1), edges, below)))


def of_array(array: NDArray[Any], low: float, high: float) -> list[int]:
    """Bars over ``[low, high]`` of an array of any shape, or of an even choice of a large one."""
    if not high > low:
        return []
    step = -(-array.size // _COUNTED) | 1  # odd, so that it visits every column of an even size
    return _heights(np.histogram(array.reshape(-1)[::step], bins=BARS, range=(low, high))[0])


def _heights(counts: NDArray[Any]) -> list[int]:
    largest = float(counts.max())
    if largest <= 0:
        return []
    heights: list[int] = np.ceil(100 * np.sqrt(counts / largest)).astype(int).tolist()
    return heights
