"""A set of samples cut in two: most to learn from, some held back to judge by."""

from __future__ import annotations

import math

from calibration.samples.base import Samples
from calibration.samples.subset import Subset, spread

_TINY = 1e-30

HELD_BACK = 4
"""One sample in so many is held back."""


def learn_and_judge(samples: Samples, count: int) -> tuple[Subset, Subset]:
    """``count`` samples spread over the set, every fourth of them held back, at least one.

    A set of one sample is both.
    """
    both = spread(samples, count)
    if len(both) == 1:
        return both, both
    chosen = both.indices
    back = chosen[1::HELD_BACK]
    return Subset(samples, [i for i in chosen if i not in back]), Subset(samples, back)


def decibels(energy: float, noise: float) -> float:
    """SQNR, within ±200 dB: a report has no word for infinity."""
    ratio = max(energy, _TINY) / max(noise, _TINY)
    return min(max(10.0 * math.log10(ratio), -200.0), 200.0)
