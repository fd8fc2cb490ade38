"""mAP and NDS of nuScenes, from the ranked boxes of a whole set.

By falling score, precision TP / (TP + FP) and the score are interpolated at recall 0, 0.01, … 1
(zero beyond what is reached). For each class and distance, without the lowest tenth of either:

    AP = mean over recall 0.11 … 1 of max(precision - 0.1, 0) / 0.9

Each error is a running mean over the boxes right at 2 m, looked up at the scores of those recalls,
and averaged from recall 0.11 to the highest that is reached; 1 where that is below. With mTP the
mean of an error over the classes:

    NDS = (5 mAP + sum over 5 errors of max(0, 1 - mTP)) / 10

Cones have no yaw; cones and barriers have neither velocity nor attribute. A class of which a set
holds no object is left out of every mean (the devkit, written for whole splits that hold all of
them, would count it as zero). In percent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.boxes.nuscenes_matching import (
    DISTANCES_M,
    ERROR_DISTANCE_M,
    ERRORS,
    NuScenesObjects,
    SampleEvidence,
    sample_evidence,
)
from deploy.metrics.compiled import compiled
from deploy.metrics.paired import Float, Pool

_WITHOUT = {
    ("traffic_cone", "yaw"),
    ("traffic_cone", "velocity"),
    ("traffic_cone", "attribute"),
    ("barrier", "velocity"),
    ("barrier", "attribute"),
}
_MAP_WEIGHT = 5
SUMMARY = ("map", *ERRORS, "nds")
"""Of a set, in this order."""

_FIRST = 11  # point of recall 0.11
_LEAST_PRECISION = 0.1
_AT = DISTANCES_M.index(ERROR_DISTANCE_M)


def class_pool(evidence: Sequence[SampleEvidence]) -> Pool:
    """AP at each distance and the errors of one class, ``[sets, 9]``: 0 to 1; m, 1, rad, m/s, 1.

    NaN where a set holds no object of the class.
    """
    wanted = np.array([sample.wanted for sample in evidence], np.float64)
    samples = np.repeat(np.arange(len(evidence)), [len(sample.scores) for sample in evidence])
    scores = np.concatenate([np.zeros(0), *(sample.scores for sample in evidence)])
    right = np.concatenate([np.zeros((0, 4)), *(sample.right for sample in evidence)])
    errors = np.concatenate([np.zeros((0, 5)), *(sample.errors for sample in evidence)])
    # of equal scores the later sample goes first; within one the order is already that
    order = np.lexsort((-np.arange(len(scores)), samples, scores))[::-1]
    scores, samples, right = scores[order], samples[order], right[order]
    at = right[:, _AT] == 1
    matched = scores[at], samples[at], errors[order][at]

    def pool(times: Float) -> Float:
        times = np.ascontiguousarray(times)
        totals = times @ wanted
        columns = []
        for limit in range(len(DISTANCES_M)):
            hits = np.ascontiguousarray(right[:, limit])
            precision, confidence = compiled(curves)(times, totals, scores, samples, hits)
            over = np.maximum(precision[:, _FIRST:] - _LEAST_PRECISION, 0)
            columns.append(over.mean(axis=1) / (1 - _LEAST_PRECISION))
            if limit == _AT:
                means = compiled(mean_errors)(times, confidence, *matched, _FIRST)
        found: Float = np.concatenate([np.stack(columns, axis=1), means], axis=1)
        found[totals == 0] = np.nan
        return found

    return pool


def summary_pool(evidence: Mapping[str, Sequence[SampleEvidence]]) -> Pool:
    """mAP, the five mean errors and NDS, ``[sets, 7]``: percent, m, 1, rad, m/s, 1, percent."""
    pools = {name: class_pool(samples) for name, samples in evidence.items()}

    def pool(times: Float) -> Float:
        table = np.stack([of_class(times) for of_class in pools.values()], axis=-2)
        for row, name in enumerate(pools):
            for column, error in enumerate(ERRORS):
                if (name, error) in _WITHOUT:
                    table[..., row, 4 + column] = np.nan
        precision = _mean(table[..., :4].mean(axis=-1))
        errors = np.stack([_mean(table[..., 4 + k]) for k in range(len(ERRORS))], axis=-1)
        scores = np.maximum(0.0, 1.0 - np.where(np.isnan(errors), 1.0, errors)).sum(axis=-1)
        nds = (_MAP_WEIGHT * precision + scores) / (2 * _MAP_WEIGHT)
        return np.concatenate([100 * precision[..., None], errors, 100 * nds[..., None]], axis=-1)

    return pool


def _mean(values: Float) -> Float:
    """Over the last axis, without NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1))


def curves(
    times: Float,
    totals: Float,
    scores: Float,
    samples: NDArray[np.int64],
    hits: Float,
) -> Any:
    """Precision and score at recall 0, 0.01 … 1, ``[sets, 101]`` each.

    Args:
        times: how often each sample stands in a set, ``[sets, samples]``.
        totals: objects in each set.
        scores, samples, hits: of all boxes, by falling score: where from, 1 if right.
    """
    points = 101
    precision, confidence = np.zeros((len(times), points)), np.zeros((len(times), points))
    for row in range(len(times)):
        size, found = 0, 0.0
        for box in range(len(scores)):
            size += int(times[row, samples[box]])
            found += times[row, samples[box]] * hits[box]
        if found == 0:
            continue
        recall, share, score = np.empty(size), np.empty(size), np.empty(size)
        size, right = 0, 0.0
        for box in range(len(scores)):
            for _ in range(int(times[row, samples[box]])):
                right += hits[box]
                recall[size], share[size] = right / totals[row], right / (size + 1)
                score[size] = scores[box]
                size += 1
        at = 0
        for point in range(points):
            x = point * 0.01
            if x > recall[size - 1]:
                break
            while at + 1 < size and recall[at + 1] <= x:
                at += 1
            part = 0.0
            if x > recall[at] and at + 1 < size:
                part = (x - recall[at]) / (recall[at + 1] - recall[at])
            after = min(at + 1, size - 1)
            precision[row, point] = share[at] + part * (share[after] - share[at])
            confidence[row, point] = score[at] + part * (score[after] - score[at])
    return precision, confidence


def mean_errors(
    times: Float,
    confidence: Float,
    scores: Float,
    samples: NDArray[np.int64],
    errors: Float,
    first: int,
) -> Any:
    """Errors ``[sets, kinds]`` at the scores ``confidence`` ``[sets, 101]``, averaged over them.

    Args:
        scores, samples, errors: of the boxes that are right, by falling score.
        first: point from which on the average is taken.
    """
    kinds = errors.shape[1]
    result = np.ones((len(times), kinds))
    for row in range(len(times)):
        last, size = 0, 0
        for point in range(confidence.shape[1]):
            if confidence[row, point] != 0:
                last = point
        for box in range(len(scores)):
            size += int(times[row, samples[box]])
        if last < first or size == 0:
            continue
        at_score, running = np.empty(size), np.zeros((size, kinds))
        for kind in range(kinds):
            place, total, known = 0, 0.0, 0.0
            for box in range(len(scores)):
                for _ in range(int(times[row, samples[box]])):
                    if not np.isnan(errors[box, kind]):
                        total += errors[box, kind]
                        known += 1
                    running[place, kind] = total / known if known > 0 else 0.0
                    at_score[place] = scores[box]
                    place += 1
            if known == 0:
                continue  # of nothing that is known the error is 1
            total, at = 0.0, 0
            for point in range(last + 1):
                x = confidence[row, point]
                while at < size - 1 and at_score[at] > x:
                    at += 1
                value = running[at, kind]
                if at > 0 and at_score[at] < x:
                    part = (x - at_score[at]) / (at_score[at - 1] - at_score[at])
                    value += part * (running[at - 1, kind] - running[at, kind])
                if point >= first:
                    total += value
            result[row, kind] = total / (last + 1 - first)
    return result


class NuScenesNDS:
    """Streaming mAP and NDS."""

    unit = "%"

    def __init__(self) -> None:
        self._evidence: dict[str, list[SampleEvidence]] = defaultdict(list)
        self._samples = 0

    def update(self, truth: NuScenesObjects, found: NuScenesObjects) -> None:
        """Add one sample.

        Raises:
            UserError: more than 500 boxes.
        """
        for name, evidence in sample_evidence(truth, found):
            self._evidence[name].append(evidence)
        self._samples += 1

    def value(self) -> float:
        """NDS in percent; NaN where there is nothing to find."""
        return self.summary()["nds"]

    def summary(self) -> dict[str, float]:
        """``map`` and ``nds`` in percent, and the five mean errors by their names."""
        values = summary_pool(self._evidence)(np.ones((1, self._samples)))[0]
        return dict(zip(SUMMARY, values.tolist(), strict=True))

    def class_table(self) -> dict[str, dict[str, float]]:
        """By class: AP in percent at each distance, ``ap@0.5`` …, and the five errors."""
        names = (*(f"ap@{d:g}" for d in DISTANCES_M), *ERRORS)
        scale = np.array([100.0] * len(DISTANCES_M) + [1.0] * len(ERRORS))
        return {
            name: dict(
                zip(names, (class_pool(e)(np.ones((1, len(e))))[0] * scale).tolist(), strict=True)
            )
            for name, e in self._evidence.items()
        }
