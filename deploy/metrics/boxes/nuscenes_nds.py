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


def class_pool(evidence: Sequence[SampleEvidence], *, errors: bool = True) -> Pool:
    """AP at each distance and the errors of one class, ``[sets, 9]``: 0 to 1; m, 1, rad, m/s, 1.

    NaN where a set holds no object of the class.

    Args:
        errors: False for AP alone, ``[sets, 4]``.
    """
    wanted = np.array([sample.wanted for sample in evidence], np.float64)
    samples = np.repeat(np.arange(len(evidence)), [len(sample.scores) for sample in evidence])
    scores = np.concatenate([np.zeros(0), *(sample.scores for sample in evidence)])
    right = np.concatenate([np.zeros((0, 4)), *(sample.right for sample in evidence)])
    wrong = np.concatenate([np.zeros((0, 5)), *(sample.errors for sample in evidence)])
    # of equal scores the later sample goes first; within one the order is already that
    order = np.lexsort((-np.arange(len(scores)), samples, scores))[::-1]
    scores, samples, right = scores[order], samples[order], np.ascontiguousarray(right[order])
    at = right[:, _AT] == 1
    matched = scores[at], samples[at], wrong[order][at]

    def pool(times: Float) -> Float:
        times = np.ascontiguousarray(times)
        totals = times @ wanted
        precision, confidence = compiled(curves)(times, totals, scores, samples, right, _AT)
        over = np.maximum(precision[..., _FIRST:] - _LEAST_PRECISION, 0)
        columns = [over.mean(axis=-1) / (1 - _LEAST_PRECISION)]
        if errors:
            columns.append(compiled(mean_errors)(times, confidence, *matched, _FIRST))
        found: Float = np.concatenate(columns, axis=1)
        found[totals == 0] = np.nan
        return found

    return pool


def map_pool(evidence: Mapping[str, Sequence[SampleEvidence]]) -> Pool:
    """The mAP in percent, first of `summary_pool`, in a fraction of its time."""
    pools = [class_pool(samples, errors=False) for samples in evidence.values()]

    def pool(times: Float) -> Float:
        table = np.stack([of_class(times).mean(axis=-1) for of_class in pools], axis=-1)
        return 100 * mean_of_known(table)

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
        precision = mean_of_known(table[..., :4].mean(axis=-1))
        errors = np.stack([mean_of_known(table[..., 4 + k]) for k in range(len(ERRORS))], axis=-1)
        scores = np.maximum(0.0, 1.0 - np.where(np.isnan(errors), 1.0, errors)).sum(axis=-1)
        nds = (_MAP_WEIGHT * precision + scores) / (2 * _MAP_WEIGHT)
        return np.concatenate([100 * precision[..., None], errors, 100 * nds[..., None]], axis=-1)

    return pool


def nds_pool(evidence: Mapping[str, Sequence[SampleEvidence]]) -> Pool:
    """NDS in percent; the last of `summary_pool`."""
    of_sets = summary_pool(evidence)
    return lambda times: of_sets(times)[..., -1]


def mean_of_known(values: Float) -> Float:
    """Over the last axis, without NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1))


def curves(
    times: Float,
    totals: Float,
    scores: Float,
    samples: NDArray[np.int64],
    right: Float,
    error_at: int,
) -> Any:
    """Precision at recall 0, 0.01 … 1, ``[sets, limits, 101]``, and the scores there at one limit.

    Recall only grows at a box that is right. So the curve between two of them is a line from the
    box before the second one, wherever that is in the ranking, to the second.

    Args:
        times: how often each sample stands in a set, ``[sets, samples]``.
        totals: objects in each set.
        scores, samples, right: of all boxes, by falling score: where from; ``[p, limits]``.
        error_at: the limit of which scores ``[sets, 101]`` are asked.
    """
    points, limits, count = 101, right.shape[1], len(samples)
    precision = np.zeros((len(times), limits, points))
    confidence = np.zeros((len(times), points))
    places, before = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for row in range(len(times)):
        size, last = 0, -1
        for box in range(count):  # its first place in the ranking, and which box stands before it
            places[box], before[box] = size, last
            if times[row, samples[box]] > 0:
                size += int(times[row, samples[box]])
                last = box
        for limit in range(limits):
            hits, box, copies = 0, -1, 0  # the next hit is a copy of ``box``, if there is one
            total = totals[row]
            for point in range(points):
                x = point * 0.01
                while box < count and (copies == 0 or (hits + 1) / total <= x):
                    if copies > 0:
                        hits, copies = hits + 1, copies - 1
                    while copies == 0 and box < count:
                        box += 1
                        if box < count and right[box, limit] == 1:
                            copies = int(times[row, samples[box]])
                if box == count:  # no hit is left: what is not reached stays zero
                    if hits == 0 or x > hits / total:
                        break
                    precision[row, limit, point] = hits / size
                    if limit == error_at:
                        confidence[row, point] = scores[last]
                    continue
                copy = int(times[row, samples[box]]) - copies
                place = places[box] + copy
                other = box if copy > 0 or place == 0 else before[box]
                there, part = (hits + 1) / (place + 1), 1.0
                here = there
                if place > 0:
                    here, part = hits / place, x * total - hits
                precision[row, limit, point] = here + part * (there - here)
                if limit == error_at:
                    score = scores[other]
                    confidence[row, point] = score + part * (scores[box] - score)
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
