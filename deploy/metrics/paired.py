"""Is INT8 worse than FP32, by how much, and could this many samples have shown it?

Both models see the same samples, so their *per-sample differences* are compared: what makes a
sample hard for both cancels out, and a few dozen samples detect what hundreds of unpaired ones
would not.

* :func:`paired_interval`: mean difference with a bootstrap interval (BCa: bias-corrected and
  accelerated; Efron, "Better Bootstrap Confidence Intervals", JASA 82, 1987).
* :func:`detectable_loss`: the smallest loss that this many samples show with a given power,
  ``(z_confidence + z_power) sd / sqrt(n)``, one-sided.
* :func:`samples_needed`: the same formula, solved for n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exporters.errors import UserError

RESAMPLES = 9999
_BLOCK = 1 << 22  # numbers drawn at once: bounds memory at 32 MB whatever the sample count

Float = NDArray[np.float64]


@dataclass(frozen=True)
class PairedInterval:
    """Candidate minus reference, in the metric's own unit.

    Attributes:
        mean: of the per-sample differences; negative where the candidate is worse.
        low, high: bootstrap interval of the mean; equal to it where all differences are equal.
        samples: how many pairs.
        detectable: smallest loss that this many samples show with 80 % power.
    """

    mean: float
    low: float
    high: float
    confidence: float
    samples: int
    detectable: float

    @property
    def shows_loss(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0.0


def paired_interval(
    reference: ArrayLike,
    candidate: ArrayLike,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedInterval:
    """Bootstrap interval of the mean difference of one metric value per sample.

    Args:
        reference, candidate: ``[n]``, one value a sample, same order.
        confidence: of the two-sided interval.
        seed: of the resampling; the same input gives the same interval.

    Raises:
        UserError: different lengths, fewer than two pairs, or a value that is not finite.
    """
    differences = _differences(reference, candidate)
    mean = float(differences.mean())
    low, high = _bca(differences, confidence, np.random.default_rng(seed))
    return PairedInterval(
        mean, low, high, confidence, len(differences), detectable_loss(differences)
    )


def detectable_loss(
    differences: ArrayLike, *, confidence: float = 0.95, power: float = 0.8
) -> float:
    """The smallest mean loss that ``len(differences)`` samples show with probability ``power``."""
    values = np.asarray(differences, np.float64)
    return _z_sum(confidence, power) * float(values.std(ddof=1)) / math.sqrt(len(values))


def samples_needed(
    deviation: float, loss: float, *, confidence: float = 0.95, power: float = 0.8
) -> int:
    """How many pairs show a mean loss of ``loss``.

    Args:
        deviation: standard deviation of the per-sample differences, from a pilot run.
        loss: what must not be overlooked, in the metric's unit; positive.
    """
    if loss <= 0:
        raise UserError(f"a loss to detect must be positive, not {loss}")
    return max(2, math.ceil((_z_sum(confidence, power) * deviation / loss) ** 2))


def _z_sum(confidence: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(confidence) + normal.inv_cdf(power)


def _differences(reference: ArrayLike, candidate: ArrayLike) -> Float:
    first, second = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise UserError(f"paired values have shapes {first.shape} and {second.shape}")
    if len(first) < 2:
        raise UserError(
            f"{len(first)} pairs say nothing about spread", fix="Verify on at least two samples"
        )
    differences: Float = second - first
    if not np.isfinite(differences).all():
        raise UserError("a sample's metric is NaN or infinite; no interval can be computed")
    return differences


def _bca(values: Float, confidence: float, random: np.random.Generator) -> tuple[float, float]:
    """Percentiles of the resampled means, shifted for bias and skewness."""
    mean = float(values.mean())
    if np.ptp(values) == 0.0:
        return mean, mean
    means = _resampled_means(values, random)
    normal = NormalDist()
    below = (np.count_nonzero(means < mean) + 0.5 * np.count_nonzero(means == mean)) / len(means)
    bias = normal.inv_cdf(min(max(below, 0.5 / len(means)), 1 - 0.5 / len(means)))
    acceleration = _acceleration(values)

    def percentile(probability: float) -> float:
        z = bias + normal.inv_cdf(probability)
        return normal.cdf(bias + z / (1.0 - acceleration * z))

    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [percentile(tail), percentile(1.0 - tail)])
    return float(low), float(high)


def _resampled_means(values: Float, random: np.random.Generator) -> Float:
    count = len(values)
    means = np.empty(RESAMPLES)
    rows = max(1, _BLOCK // count)
    for start in range(0, RESAMPLES, rows):
        block = means[start : start + rows]
        block[:] = values[random.integers(count, size=(len(block), count))].mean(axis=1)
    return means


def _acceleration(values: Float) -> float:
    """From the jackknife; for a mean, leaving one out shifts it by ``(mean - x) / (n - 1)``."""
    centred = values - values.mean()
    return float((centred**3).sum() / (6.0 * (centred**2).sum() ** 1.5))
