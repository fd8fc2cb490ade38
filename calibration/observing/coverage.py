"""Has the set seen the tails? How much one more sample would widen the range of each activation.

A bootstrap over samples, out of bag: from ``n`` samples ``n`` are drawn with replacement; each that
was not drawn plays "one more sample" for those that were. Its widening is how far it reaches beyond
their common range, as a share of that range. A draw holds only 63 % of the samples, so the answer
is that of a somewhat smaller set: on the safe side.

The largest of a bootstrap sample is a poor estimate of an extreme itself (Bickel and Freedman
1981); the widening by a sample left out needs no such estimate.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibration.observing.statistics import Statistics
from calibration.samples.findings import UNSTABLE_RANGES, Finding

UNSTABLE = 0.02
"""Mean widening that is told: five steps of an INT8 scale."""

_DRAWS = 200
_TOLD = 5


def widening(ranges: NDArray[np.float32]) -> tuple[float, float]:
    """By one more sample, as a share of the range.

    Args:
        ranges: minimum and maximum by sample, ``[n, 2]``, ``n`` at least 2.

    Returns:
        The mean, and the 95th percentile.
    """
    lows, highs = ranges.astype(np.float64).T
    held = _draws(len(ranges))
    low = np.where(held, lows, np.inf).min(axis=1, keepdims=True)
    high = np.where(held, highs, -np.inf).max(axis=1, keepdims=True)
    beyond = np.maximum(low - lows, 0) + np.maximum(highs - high, 0)  # 0 for what a draw holds
    wide = high > low
    shares = np.where(wide, beyond / np.where(wide, high - low, 1.0), beyond > 0)
    told = ~held & (wide | beyond.any(axis=1, keepdims=True))
    found = shares[told]
    return (float(found.mean()), float(np.quantile(found, 0.95))) if found.size else (0.0, 0.0)


@lru_cache(maxsize=1)
def _draws(samples: int) -> NDArray[np.bool_]:
    """Which samples each draw holds, the same for every tensor: ``[draws, samples]``."""
    drawn = np.random.default_rng(0).integers(0, samples, (_DRAWS, samples))
    held = np.zeros(drawn.shape, np.bool_)
    np.put_along_axis(held, drawn, True, axis=1)
    return held


def coverage_findings(statistics: Statistics, tensors: Iterable[str]) -> list[Finding]:
    """A note that names the ``tensors`` whose range is not settled; nothing where all are."""
    found: dict[str, tuple[float, float]] = {}
    count = 0
    for name in tensors:
        ranges = statistics.tensors[name].ranges.array
        count += 1
        if len(ranges) > 1:
            mean, rare = widening(ranges)
            if mean > UNSTABLE:
                found[name] = (mean, rare)
    if not found:
        return []
    worst = sorted(found, key=lambda name: -found[name][0])
    told = ", ".join(
        f"{name} by {found[name][0]:.1%} on average and {found[name][1]:.0%} one time in twenty"
        for name in worst[:_TOLD]
    )
    more = f" and {len(worst) - _TOLD} more" if len(worst) > _TOLD else ""
    return [
        Finding(
            UNSTABLE_RANGES,
            "note",
            f"one more sample would widen the ranges of {len(found)} of {count} activations: "
            f"{told}{more}",
            "Give more samples, or more varied ones",
            numbers={"tensors": float(len(found)), "of": float(count), "worst": found[worst[0]][0]},
        )
    ]
