"""AUROC of two models on the same samples: DeLong's interval of the difference.

With scores x of the m positive and y of the n negative samples, the area under the ROC curve is the
chance that a positive stands above a negative, a tie counting half:

    AUROC   = sum_ij psi(x_i, y_j) / (m n),     psi = 1, 1/2, 0 for x > y, x = y, x < y
    V10_i   = sum_j psi(x_i, y_j) / n           what positive i says;   S10 = covariance of V10
    V01_j   = sum_i psi(x_i, y_j) / m           what negative j says;   S01 = covariance of V01
    var     = (S10 / m + S01 / n)               of both models at once, so that their correlation,
                                                which a paired comparison lives from, is in it

(DeLong, DeLong, Clarke-Pearson, Biometrics 44, 1988.) All psi come from midranks in O(N log N)
(Sun and Xu, IEEE Signal Processing Letters 21, 2014).

    class auroc(AUROC):                          # a metric of your own: --metric mine:auroc
        def score(self, outputs, sample):
            return outputs["probability"][0], sample["label.ill"]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deploy.metrics.paired import CONFIDENCE, DELONG, POWER, PairedInterval
from deploy.metrics.pooled import PairedMetric
from exporters.errors import UserError

Float = NDArray[np.float64]


class AUROC:
    """A metric over the whole set; derive from it and say what one sample is."""

    unit = ""

    def __init__(self) -> None:
        self.labels: list[bool] = []
        self.scores: list[float] = []

    def score(
        self, outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]
    ) -> tuple[float, bool]:
        """The score that the model gives a sample, and whether the sample is a positive one."""
        raise NotImplementedError

    def update(
        self, outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]
    ) -> None:
        score, label = self.score(outputs, sample)
        self.scores.append(float(score))
        self.labels.append(bool(label))

    def value(self) -> float:
        """0 to 1; NaN where one of the two sorts was never seen."""
        if len(set(self.labels)) < 2:
            return math.nan
        return float(_placements(np.array(self.labels), np.array(self.scores))[0].mean())


def auroc_metric(title: str, reference: AUROC, candidate: AUROC) -> PairedMetric:
    """Both models' areas with DeLong's interval of their difference."""
    interval, why_not = None, ""
    try:
        interval = auroc_interval(reference.labels, reference.scores, candidate.scores)
    except UserError as error:
        why_not = error.message
    return PairedMetric(
        name=title,
        output="",
        unit=reference.unit,
        reference=reference.value(),
        candidate=candidate.value(),
        interval=interval,
        sample_names=(),
        values=(),
        why_not=why_not,
        note=f"{len(reference.labels)} samples, {sum(reference.labels)} of them positive",
    )


def auroc_interval(
    labels: ArrayLike,
    reference: ArrayLike,
    candidate: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
) -> PairedInterval:
    """Interval of the candidate's AUROC minus the reference's.

    Args:
        labels: ``[n]``, true or 1 for a positive sample.
        reference, candidate: ``[n]`` scores, higher for positive.

    Raises:
        UserError: other lengths, a score that is not finite, or fewer than two samples of a sort.
    """
    truth, scores = _checked(labels, reference, candidate)
    positive, negative = zip(*(_placements(truth, one) for one in scores), strict=True)
    areas = [float(one.mean()) for one in positive]
    # of the two models' placements their difference: the same variance as from the 2 x 2 matrix
    of_positive, of_negative = positive[1] - positive[0], negative[1] - negative[0]
    variance = of_positive.var(ddof=1) / len(of_positive)
    variance += of_negative.var(ddof=1) / len(of_negative)
    error = math.sqrt(float(variance))
    normal = NormalDist()
    upper = normal.inv_cdf((1 + confidence) / 2)
    value = areas[1] - areas[0]
    return PairedInterval(
        value=value,
        low=max(value - upper * error, -1.0),
        high=min(value + upper * error, 1.0),
        confidence=confidence,
        samples=len(truth),
        detectable=(upper + normal.inv_cdf(POWER)) * error if error > 0 else math.nan,
        deviation=error * math.sqrt(len(truth)),
        method=DELONG,
    )


def _checked(
    labels: ArrayLike, reference: ArrayLike, candidate: ArrayLike
) -> tuple[NDArray[np.bool_], list[Float]]:
    truth = np.asarray(labels).astype(bool)
    scores = [np.asarray(one, np.float64) for one in (reference, candidate)]
    if truth.ndim != 1 or any(one.shape != truth.shape for one in scores):
        shapes = [truth.shape, *(one.shape for one in scores)]
        raise UserError(f"labels and scores have shapes {shapes}", fix="Give one of each a sample")
    if not all(np.isfinite(one).all() for one in scores):
        raise UserError("a sample's score is NaN or infinite; no interval can be computed")
    for kind, count in (("positive", truth.sum()), ("negative", (~truth).sum())):
        if count < 2:
            raise UserError(
                f"{count} {kind} samples say nothing about spread",
                fix=f"Verify on at least two {kind} samples",
            )
    return truth, scores


def _placements(truth: NDArray[np.bool_], scores: Float) -> tuple[Float, Float]:
    """V10 of the positives and V01 of the negatives, each in the order of the samples."""
    all_ranks = midranks(scores)
    positives, negatives = scores[truth], scores[~truth]
    v10 = (all_ranks[truth] - midranks(positives)) / len(negatives)
    v01 = 1.0 - (all_ranks[~truth] - midranks(negatives)) / len(positives)
    return v10, v01


def midranks(values: Float) -> Float:
    """Ranks from 1, ties sharing the mean of theirs.

    >>> midranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Float = (ends - (counts - 1) / 2)[inverse]
    return ranks
