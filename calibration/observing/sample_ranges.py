"""The range of one activation in every single sample, for asking how much one more would change."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from calibration.observing.thinned import Thinned

LIMIT = 512
"""Samples of which ranges are kept, an even choice of more: 4 kB a tensor."""


class SampleRanges:
    """Minimum and maximum of one tensor by sample.

    Args:
        pairs: what `array` of an earlier one returned.
    """

    def __init__(self, pairs: Iterable[tuple[float, float]] = ()) -> None:
        self._kept = Thinned[tuple[float, float]](LIMIT, [(low, high) for low, high in pairs])

    def add(self, low: float, high: float) -> None:
        self._kept.add((low, high))

    @property
    def array(self) -> NDArray[np.float32]:
        """``[samples, 2]``."""
        return np.array(self._kept.items, np.float32).reshape(-1, 2)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SampleRanges) and np.array_equal(self.array, other.array)

    __hash__ = None  # type: ignore[assignment]  # mutable
