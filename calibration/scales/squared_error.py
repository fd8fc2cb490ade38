"""What rounding costs a tensor in squared error, from its histogram, for many scales at once.

The bins that round to one level ``v`` lie side by side, and with c their counts and x their centres

    sum c (x - v)² = sum c x² - 2 v sum c x + v² sum c,

so three prefix sums make a scale cost as many operations as it has levels. Cancellation costs
about six of float64's sixteen digits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from calibration.scales.prefix_sums import Floats, prefix_sum


class SquaredErrors:
    """Of one distribution.

    Args:
        counts: ``[n]`` values by bin; bin ``k`` is taken for its centre ``(k + 1/2 - zero) width``.
        width: of a bin, in units of the tensor.
        zero: the bin that starts at 0.
    """

    def __init__(self, counts: Floats, width: float, zero: int) -> None:
        self._bins, self._width, self._zero = len(counts), width, zero
        centres = (np.arange(len(counts)) + 0.5 - zero) * width
        self._moments = [prefix_sum(counts * centres**power) for power in range(3)]

    def of(self, steps: ArrayLike, zero_points: ArrayLike, low: int, high: int) -> Floats:
        """``[n]``: sum of counts times ``(Q(centre) - centre)²`` for n scales.

        Args:
            steps, zero_points: ``[n]``; an integer q stands for ``(q - zero_point) * step``.
            low, high: the smallest and the largest integer.
        """
        step, zero_point = np.asarray(steps)[:, None], np.asarray(zero_points)[:, None]
        values = (np.arange(low, high + 1) - zero_point) * step
        halfway = (values[:, 1:] + values[:, :-1]) / 2
        # a centre halfway may go up or down, the error is the same
        inner = np.ceil(np.clip(halfway / self._width + self._zero - 0.5, 0, self._bins))
        edges = np.pad(inner.astype(np.int64), ((0, 0), (1, 1)))
        edges[:, -1] = self._bins
        count, first, second = (np.diff(moment[edges], axis=1) for moment in self._moments)
        errors = (second - 2 * values * first + values * values * count).sum(axis=1)
        return np.asarray(np.maximum(errors, 0.0))
