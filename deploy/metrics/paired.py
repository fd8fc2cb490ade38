"""Is INT8 worse than FP32, by how much, and could this many samples have shown it?

Both models see the same samples, so they are compared *sample by sample*: what makes a sample hard
for both cancels out, and a few dozen samples detect what hundreds of unpaired ones would not.

A metric of a set is a function of how many times each sample is in it. Most are of sums: the mean
difference of ``sum d`` and n, agreement of equal and all elements, mIoU of two confusion matrices,
so that every sample is one *row* of numbers that add up; average precision is of a ranking in which
every detection stands that many times. All of this holds for any of them:

* interval, 20 samples or more: bootstrap over the rows, BCa (bias-corrected and accelerated; Efron,
  "Better Bootstrap Confidence Intervals", JASA 82, 1987);
* fewer samples: Student's t around the value, with the jackknife's standard error. Resampling a
  handful cannot reach beyond it and comes out too narrow (Hesterberg, "What Teachers Should Know
  about the Bootstrap", The American Statistician 69, 2015);
* yes or no for each sample (one label a sample): the exact binomial bound (Clopper-Pearson), since
  100 of 100 alike do not prove that all are;
* right or wrong for each sample, for either model: Tango's score interval (`.mcnemar`);
* AUROC: DeLong's (`.delong`);
* `detectable`: the smallest loss that this many samples show, its interval all below zero, with a
  probability of 80 %: ``(t_confidence + t_power) * standard error``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deploy.metrics.quantiles import share_bounds, student_t
from exporters.errors import UserError

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 9999
ENOUGH_TO_RESAMPLE = 20
_BLOCK = 1 << 22  # numbers drawn at once: bounds memory at 32 MB whatever the sample count

BCA, STUDENT, BINOMIAL = "BCa bootstrap", "Student's t", "Clopper-Pearson"
TANGO, DELONG = "Tango score", "DeLong"

Float = NDArray[np.float64]
Statistic = Callable[[Float], Float]
"""From sums ``[..., k]`` over samples to values ``[...]``."""

Pool = Callable[[Float], Float]
"""From how many times each sample is in a set, ``[sets, n]``, to the value of each, ``[sets]``."""


@dataclass(frozen=True)
class PairedInterval:
    """A value over a set of samples, and between which bounds it would be on many more of them.

    Attributes:
        value: in the metric's own unit; of a difference, negative where the candidate is worse.
        low, high: of the two-sided interval; equal to the value where all samples are alike.
        samples: how many pairs.
        detectable: smallest loss that this many samples show with 80 % power; NaN where all are
            alike and nothing is known of their spread.
        deviation: standard deviation of what one sample contributes.
        method: how the interval was found.
    """

    value: float
    low: float
    high: float
    confidence: float
    samples: int
    detectable: float
    deviation: float
    method: str

    @property
    def shows_loss(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0.0

    def samples_to_decide(self, threshold: float) -> int:
        """About how many samples would tell on which side of ``threshold`` the value is."""
        margin = abs(self.value - threshold)
        if margin == 0.0:
            return 0  # it lies on the threshold: no number of samples will do
        if self.method == TANGO and self.deviation == 0.0:  # ±z² / (n + z²)
            z2 = NormalDist().inv_cdf((1 + self.confidence) / 2) ** 2
            needed = math.ceil(z2 * (1 / margin - 1))
        elif self.method == BINOMIAL and self.deviation == 0.0:
            needed = math.ceil(math.log((1 - self.confidence) / 2) / math.log1p(-margin))
        else:
            confidence = (1 + self.confidence) / 2
            needed = samples_needed(self.deviation, margin, confidence=confidence)
        return max(needed, self.samples + 1)


def paired_interval(
    reference: ArrayLike,
    candidate: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> PairedInterval:
    """Interval of the mean difference, candidate minus reference, of one value per sample.

    Args:
        reference, candidate: ``[n]``, one value a sample, same order.
        confidence: of the two-sided interval.
        seed: of the resampling; the same input gives the same interval.

    Raises:
        UserError: different lengths, fewer than two pairs, or a value that is not finite.
    """
    differences = _differences(reference, candidate)
    rows = np.stack([differences, np.ones(len(differences))], axis=1)
    interval = pooled_interval(rows, mean, confidence=confidence, seed=seed)
    both = np.concatenate([np.asarray(reference).ravel(), np.asarray(candidate).ravel()])
    if np.ptp(differences) == 0.0 and np.isin(both, (0.0, 1.0)).all():
        return _all_alike(differences, confidence)
    return interval


def pooled_interval(
    rows: Float, statistic: Statistic, *, confidence: float = CONFIDENCE, seed: int = 0
) -> PairedInterval:
    """Interval of a value that is a function of sums over the samples.

    Args:
        rows: ``[n, k]``, what each sample adds to the sums.
        statistic: finite wherever at least one of these samples is in the sums.

    Raises:
        UserError: fewer than two samples, or the statistic is not finite.
    """
    return set_interval(len(rows), sums_of(rows, statistic), confidence=confidence, seed=seed)


def sums_of(rows: Float, statistic: Statistic) -> Pool:
    """The statistic of the sums over a set, of what each sample adds, ``[n, k]``."""
    return lambda times: statistic(times @ rows)


def set_interval(
    count: int, pool: Pool, *, confidence: float = CONFIDENCE, seed: int = 0
) -> PairedInterval:
    """Interval of any value of a set of samples.

    Args:
        count: samples.
        pool: finite wherever at least one of the samples is in the set.

    Raises:
        UserError: fewer than two samples, or a value is not finite.
    """
    if count < 2:
        raise UserError(
            f"{count} pairs say nothing about spread", fix="Verify on at least two samples"
        )
    value = float(pool(np.ones((1, count)))[0])
    without_one = _of_sets(pool, count, lambda start, size: 1.0 - np.eye(size, count, start))
    if not (math.isfinite(value) and np.isfinite(without_one).all()):
        raise UserError("a metric is NaN or infinite; no interval can be computed")
    pull = without_one.mean() - without_one  # where each sample pulls the value to
    error = math.sqrt((count - 1) / count * float(pull @ pull))
    upper = (1 + confidence) / 2
    low, high, method = value, value, STUDENT if count < ENOUGH_TO_RESAMPLE else BCA
    if error > 0 and count < ENOUGH_TO_RESAMPLE:
        reach = student_t(upper, count - 1) * error
        low, high = value - reach, value + reach
    elif error > 0:
        values = _resampled(count, pool, np.random.default_rng(seed))
        low, high = _bca(value, values, pull, confidence)
    detectable = (student_t(upper, count - 1) + student_t(POWER, count - 1)) * error
    return PairedInterval(
        value=value,
        low=low,
        high=high,
        confidence=confidence,
        samples=count,
        detectable=detectable if error > 0 else math.nan,
        deviation=error * math.sqrt(count),
        method=method,
    )


def each_alone(count: int, pool: Pool) -> Float:
    """The value of every sample as a set of its own: ``[count]``."""
    return _of_sets(pool, count, lambda start, size: np.eye(size, count, start))


def share_interval(hits: ArrayLike, *, confidence: float = CONFIDENCE) -> PairedInterval:
    """Interval of the share of samples that say yes; ``hits`` is ``[n]`` of zeros and ones."""
    values = np.asarray(hits, np.float64)
    count, yes = len(values), int(values.sum())
    low, high = share_bounds(yes, count, confidence)
    return PairedInterval(
        value=yes / count,
        low=low,
        high=high,
        confidence=confidence,
        samples=count,
        detectable=detectable_share(count),
        deviation=math.sqrt(yes / count * (1 - yes / count)),
        method=BINOMIAL,
    )


def detectable_loss(
    differences: ArrayLike, *, confidence: float = CONFIDENCE, power: float = POWER
) -> float:
    """The smallest mean loss that ``len(differences)`` samples show with probability ``power``."""
    values = np.asarray(differences, np.float64)
    freedom = len(values) - 1
    quantiles = student_t((1 + confidence) / 2, freedom) + student_t(power, freedom)
    return quantiles * float(values.std(ddof=1)) / math.sqrt(len(values))


def samples_needed(
    deviation: float, loss: float, *, confidence: float = (1 + CONFIDENCE) / 2, power: float = POWER
) -> int:
    """How many pairs show a mean loss of ``loss``: ``((z_confidence + z_power) sd / loss)²``.

    Args:
        deviation: standard deviation of the per-sample differences, from a pilot run.
        loss: what must not be overlooked, in the metric's unit; positive.
        confidence: one-sided; by default that of a two-sided interval of 95 %.
    """
    if loss <= 0:
        raise UserError(f"a loss to detect must be positive, not {loss}")
    normal = NormalDist()
    quantiles = normal.inv_cdf(confidence) + normal.inv_cdf(power)
    return max(2, math.ceil((quantiles * deviation / loss) ** 2))


def mean(sums: Float) -> Float:
    """The statistic of rows ``[number, 1]``."""
    average: Float = sums[..., 0] / sums[..., 1]
    return average


def _differences(reference: ArrayLike, candidate: ArrayLike) -> Float:
    first, second = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise UserError(f"paired values have shapes {first.shape} and {second.shape}")
    differences: Float = second - first
    if not np.isfinite(differences).all():
        raise UserError("a sample's metric is NaN or infinite; no interval can be computed")
    return differences


def _all_alike(differences: Float, confidence: float) -> PairedInterval:
    """Of yes-or-no scores that all changed alike: another sample could still change otherwise."""
    count, value = len(differences), float(differences[0])
    reach = 1 - share_bounds(count, count, confidence)[0]
    return PairedInterval(
        value=value,
        low=max(value - reach, -1.0),
        high=min(value + reach, 1.0),
        confidence=confidence,
        samples=count,
        detectable=detectable_share(count),
        deviation=0.0,
        method=BINOMIAL,
    )


def detectable_share(count: int) -> float:
    """The share of changed samples of which ``count`` samples hold at least one, with 80 %."""
    return float(1 - (1 - POWER) ** (1 / count))


def _bca(value: float, means: Float, pull: Float, confidence: float) -> tuple[float, float]:
    """Percentiles of the resampled values, shifted for bias and skewness."""
    normal = NormalDist()
    means = means[np.isfinite(means)]  # a draw may miss every sample that has something to judge
    below = (np.count_nonzero(means < value) + 0.5 * np.count_nonzero(means == value)) / len(means)
    bias = normal.inv_cdf(min(max(below, 0.5 / len(means)), 1 - 0.5 / len(means)))
    acceleration = float((pull**3).sum() / (6.0 * (pull**2).sum() ** 1.5))

    def percentile(probability: float) -> float:
        z = bias + normal.inv_cdf(probability)
        return normal.cdf(bias + z / (1.0 - acceleration * z))

    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [percentile(tail), percentile(1.0 - tail)])
    return float(low), float(high)


def _resampled(count: int, pool: Pool, random: np.random.Generator) -> Float:
    """The value of ``RESAMPLES`` sets, each drawn with replacement: ``[RESAMPLES]``."""
    values = np.empty(RESAMPLES)
    size = max(1, _BLOCK // count)
    for start in range(0, RESAMPLES, size):
        block = values[start : start + size]
        drawn = random.integers(count, size=(len(block), count))
        drawn += np.arange(len(block))[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=len(block) * count).reshape(-1, count)
        block[:] = pool(times.astype(np.float64))
    return values


def _of_sets(pool: Pool, count: int, sets: Callable[[int, int], Float]) -> Float:
    """The value of ``count`` sets; ``sets`` makes so many of them from a first one on."""
    size = max(1, _BLOCK // count)
    starts = range(0, count, size)
    return np.concatenate([pool(sets(first, min(size, count - first))) for first in starts])
