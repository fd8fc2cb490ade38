"""Two models, each right or wrong on every sample: McNemar's test and Tango's interval.

Samples on which both are right, or both wrong, say nothing of the difference. Of n samples, b are
right with the reference alone and c with the candidate alone:

    difference   d = (c - b) / n
    exact test   b ~ Binomial(b + c, 1/2); the mid-p value counts what was seen half
                 (Fagerland, Lydersen, Laake, BMC Medical Research Methodology 13:91, 2013)
    interval     all d that the score test does not reject, z(d)² <= z²:
                 z(d) = (c - b - n d) / sqrt(n (2 q(d) + d (1 - d)))
                 (Tango, "Equivalence test and confidence interval for the difference in
                 proportions for the paired-sample design", Statistics in Medicine 17, 1998)

Here q(d) is the most likely probability of "right with the reference alone" if the difference is d,
the larger root of ``2n q² + ((2n + b - c) d - b - c) q - b d (1 - d) = 0``. The interval keeps its
level where a bootstrap has nothing to draw from: with b = c = 0 it is ``±z² / (n + z²)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from deploy.metrics.paired import CONFIDENCE, POWER, TANGO, PairedInterval, detectable_share
from exporters.errors import UserError

_HALVINGS = 200


@dataclass(frozen=True)
class McNemar:
    """The outcome of a paired comparison of right and wrong.

    Attributes:
        reference_only: b, right with the reference alone.
        candidate_only: c, right with the candidate alone.
        samples: n.
        difference: share right with the candidate minus share right with the reference.
        low, high: Tango's interval of it.
        p_exact, p_mid: two-sided; 1 where no sample differs.
    """

    reference_only: int
    candidate_only: int
    samples: int
    difference: float
    low: float
    high: float
    p_exact: float
    p_mid: float


def mcnemar(
    reference_only: int, candidate_only: int, samples: int, confidence: float = 0.95
) -> McNemar:
    """Test and interval from the counts.

    Raises:
        UserError: the counts are negative, or more than there are samples.
    """
    if min(reference_only, candidate_only) < 0 or reference_only + candidate_only > samples:
        raise UserError(
            f"{reference_only} and {candidate_only} samples cannot differ among {samples}"
        )
    low, high = difference_bounds(reference_only, candidate_only, samples, confidence)
    exact, mid = p_values(reference_only, candidate_only)
    return McNemar(
        reference_only=reference_only,
        candidate_only=candidate_only,
        samples=samples,
        difference=(candidate_only - reference_only) / samples,
        low=low,
        high=high,
        p_exact=exact,
        p_mid=mid,
    )


def right_or_wrong_interval(
    reference: ArrayLike, candidate: ArrayLike, *, confidence: float = CONFIDENCE
) -> PairedInterval:
    """Interval of the share that the candidate has right minus the reference's.

    Args:
        reference, candidate: ``[n]`` of ones (right) and zeros, same order.

    Raises:
        UserError: different lengths, or fewer than two samples.
    """
    first, second = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise UserError(f"paired values have shapes {first.shape} and {second.shape}")
    count = len(first)
    if count < 2:
        raise UserError(
            f"{count} pairs say nothing about spread", fix="Verify on at least two samples"
        )
    differences = second - first
    lost, won = int((differences < 0).sum()), int((differences > 0).sum())
    low, high = difference_bounds(lost, won, count, confidence)
    deviation = float(differences.std(ddof=1))
    normal = NormalDist()
    quantiles = normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(POWER)
    return PairedInterval(
        value=(won - lost) / count,
        low=low,
        high=high,
        confidence=confidence,
        samples=count,
        detectable=quantiles * deviation / math.sqrt(count)
        if deviation
        else detectable_share(count),
        deviation=deviation,
        method=TANGO,
    )


def p_values(reference_only: int, candidate_only: int) -> tuple[float, float]:
    """Two-sided p-values, exact and mid-p.

    >>> [round(p, 4) for p in p_values(12, 2)]
    [0.0129, 0.0074]
    """
    count, fewer = reference_only + candidate_only, min(reference_only, candidate_only)
    if count == 0:
        return 1.0, 1.0
    tail = sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count
    seen = math.comb(count, fewer) / 2**count
    if reference_only == candidate_only:  # both tails hold the middle
        return 1.0, 1.0 - seen / 2
    return min(1.0, 2 * tail), 2 * tail - seen


def difference_bounds(
    reference_only: int, candidate_only: int, samples: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Tango's bounds of the candidate's share minus the reference's.

    >>> [round(bound, 4) for bound in difference_bounds(2, 12, 50)]
    [0.0611, 0.3447]
    """
    if samples < 1:
        raise UserError("no samples: no interval")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (candidate_only - reference_only) / samples

    def inside(difference: float) -> bool:
        return abs(_score(difference, reference_only, candidate_only, samples)) <= z

    return _edge(middle, -1.0, inside), _edge(middle, 1.0, inside)


def _score(difference: float, b: int, c: int, n: int) -> float:
    """The z of the hypothesis that the true difference is ``difference``."""
    q = _most_likely(difference, b, c, n)
    variance = n * (2 * q + difference * (1 - difference))
    gap = c - b - n * difference
    if variance <= 0:
        return 0.0 if abs(gap) < 1e-12 else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)


def _most_likely(difference: float, b: int, c: int, n: int) -> float:
    """The q that maximises ``b log q + c log(q + d) + (n - b - c) log(1 - 2q - d)``."""
    d = difference
    square = 2.0 * n
    linear = (2 * n + b - c) * d - (b + c)
    constant = -b * d * (1 - d)
    root = math.sqrt(max(0.0, linear * linear - 4 * square * constant))
    q = (root - linear) / (2 * square)
    return min(max(q, 0.0, -d), (1 - d) / 2)


def _edge(inside_at: float, outside_at: float, inside: Callable[[float], bool]) -> float:
    """Where ``inside`` ends between a place that is and one that may not be."""
    if inside(outside_at):
        return outside_at
    low, high = inside_at, outside_at
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if inside(middle) else (low, middle)
    return low
