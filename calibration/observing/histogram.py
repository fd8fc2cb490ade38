"""A histogram in one pass and fixed memory: its range doubles when a value falls outside.

The range is always ``(-2**e, 2**e)`` and a bin ``w = 2**e / BINS`` wide, so that bin ``k`` holds
``k w <= x < (k+1) w``. Scaling by a power of two is exact in floating point and
``floor(floor(x / w) / 2) == floor(x / 2w)``: doubling the range and merging bins in pairs gives
*exactly* the histogram that the final range would have given from the start. The result therefore
depends on the values alone, not on the order or the grouping of samples, and two histograms can be
added without loss. At least ``BINS / 2`` bins cover the largest magnitude.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 4096
"""Bins on either side of zero."""

SMALLEST_EXPONENT = -64
"""Where the range starts; smaller magnitudes are as good as zero."""


class Histogram:
    """Counts over ``2 * BINS`` equal bins around zero.

    Attributes:
        exponent: ``e`` of the range ``(-2**e, 2**e)``.
        counts: float64 ``[2 * BINS]``; entry ``BINS + k`` counts bin ``k``. Whole numbers until
            ``scaled`` is used; exact up to 2**53.
        zeros: how many of the values were exactly zero (they are in bin 0 as well).
    """

    __slots__ = ("counts", "exponent", "zeros")

    def __init__(
        self,
        exponent: int = SMALLEST_EXPONENT,
        counts: NDArray[np.float64] | None = None,
        zeros: float = 0.0,
    ) -> None:
        self.exponent = exponent
        self.counts = np.zeros(2 * BINS) if counts is None else counts
        self.zeros = zeros

    @property
    def width(self) -> float:
        """Of one bin, in units of the tensor."""
        return math.ldexp(1.0, self.exponent) / BINS

    @property
    def total(self) -> float:
        return float(self.counts.sum())

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of every bin, ``[2 * BINS]``."""
        return np.arange(0.5 - BINS, BINS) * self.width

    @property
    def magnitudes(self) -> NDArray[np.float64]:
        """Histogram of ``|x|`` over ``[0, 2**e)``, ``[BINS]``."""
        return np.add(self.counts[BINS:], self.counts[BINS - 1 :: -1])

    def add(self, values: NDArray[Any]) -> None:
        """Count finite float32 ``values`` of any shape."""
        flat = np.asarray(values, dtype=np.float32).reshape(-1)
        if not flat.size:
            return
        largest = max(float(flat.max()), -float(flat.min()))
        self.grow(exponent_of(largest))
        scaled = flat * np.float32(1.0 / self.width)
        # int16 holds every bin number and is half the traffic of int32
        bins = np.floor(scaled, out=scaled).astype(np.int16)
        bins += np.int16(BINS)
        self.counts += np.bincount(bins, minlength=2 * BINS).astype(np.float64)
        self.zeros += flat.size - np.count_nonzero(flat)

    def grow(self, exponent: int) -> None:
        """Widen the range to at least ``2**exponent``, merging bins."""
        doublings = exponent - self.exponent
        if doublings <= 0:
            return
        numbers = (np.arange(-BINS, BINS) >> min(doublings, 62)) + BINS
        merged = np.bincount(numbers, weights=self.counts, minlength=2 * BINS)
        self.counts = merged.astype(np.float64)
        self.exponent = exponent

    def scaled(self, factor: float) -> Histogram:
        """The same distribution with every count times ``factor``."""
        return Histogram(self.exponent, self.counts * factor, self.zeros * factor)

    def __add__(self, other: Histogram) -> Histogram:
        exponent = max(self.exponent, other.exponent)
        parts = [Histogram(h.exponent, h.counts, h.zeros) for h in (self, other)]
        for part in parts:
            part.grow(exponent)
        counts = parts[0].counts + parts[1].counts
        return Histogram(exponent, counts, self.zeros + other.zeros)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Histogram)
            and self.exponent == other.exponent
            and self.zeros == other.zeros
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]  # mutable


def exponent_of(magnitude: float) -> int:
    """Smallest ``e`` with ``magnitude < 2**e``, never below ``SMALLEST_EXPONENT``.

    >>> exponent_of(0.9), exponent_of(1.0), exponent_of(6.0)
    (0, 1, 3)
    """
    if magnitude <= 0.0:
        return SMALLEST_EXPONENT
    return max(math.frexp(magnitude)[1], SMALLEST_EXPONENT)
