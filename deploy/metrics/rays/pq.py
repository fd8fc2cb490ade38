"""RayPQ: panoptic quality of what the rays meet.

A segment is what the rays of one class and one id meet: an instance of the things, all of the other
classes. A pair of segments is found (TP) where its IoU is over one half; rays count as common where
both classes agree and the distances differ by less than t, areas are not cut by t. What is left
over is FN or FP, unless fewer than ten rays meet it. The prediction's ids are taken as they are:
whoever tells barriers apart has more than one segment of them, the truth has one. Over a whole set,
for class c:

    PQ_c@t = (sum of IoU over TP / TP) * TP / (TP + FP / 2 + FN / 2)

RayPQ@t is the mean over the classes that occur, RayPQ the mean over all of 1, 2 and 4 m; in
percent. Kirillov et al., "Panoptic Segmentation", CVPR 2019; SparseOcc, upstream commit af4d9df.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.rays.casting import OCC3D_GRID, VoxelGrid
from deploy.metrics.rays.iou import THRESHOLDS_M, SeenRays, mean_of_table, see

Array = NDArray[Any]
Float = NDArray[np.float64]

THINGS = (2, 3, 4, 5, 6, 7, 9, 10)
"""Occ3D labels of bicycle, bus, car, construction vehicle, motorcycle, pedestrian, trailer, truck:
barriers and traffic cones are no things here."""

LEAST_RAYS = 10
"""Of a segment that was not found, to be held against anybody."""

_MATCH = 0.5
_ID_BITS = 32  # of the predicted id in the key of a pair
SEGMENT_KINDS = 4  # sum of IoU, TP, FP, FN
_LEAST = 1e-5  # upstream divides by at least this


def segment_counts(
    seen: SeenRays,
    truth_ids: Array,
    prediction_ids: Array,
    classes: int,
    things: Collection[int] = THINGS,
) -> Float:
    """What one sample adds to a set.

    Args:
        truth_ids, prediction_ids: instances ``[x, y, z]``; 0 is none.
        classes: occupied ones.
        things: labels whose instances are told apart in the ground truth.

    Returns:
        ``[thresholds, classes, 4]``: sum of IoU over TP, TP, FP, FN.
    """
    theirs = _true_segments(seen.truth, truth_ids.ravel()[seen.truth_voxel], things)
    ours = prediction_ids.ravel()[seen.prediction_voxel].astype(np.int64)
    counts = np.zeros((len(THRESHOLDS_M), classes, SEGMENT_KINDS))
    present = np.union1d(np.unique(seen.truth), np.unique(seen.prediction))
    for label in present[present < classes]:
        true, predicted = seen.truth == label, seen.prediction == label
        areas = _areas(theirs[true]), _areas(ours[predicted])
        both = true & predicted
        for index, threshold in enumerate(THRESHOLDS_M):
            common = both & (seen.apart_m < np.float32(threshold))
            counts[index, label] = _matched(*areas, theirs[common], ours[common])
    return counts


def _true_segments(labels: Array, ids: Array, things: Collection[int]) -> NDArray[np.int64]:
    """Ids of the true segments: of an instance where all its rays have one class, else 0."""
    segments = np.zeros(len(labels), np.int64)
    ids = ids.astype(np.int64)
    is_thing = np.isin(labels, list(things)) & (ids > 0)
    # an instance is torn where some ray of it, of any class, has another class than the first
    found, first, place = np.unique(ids, return_index=True, return_inverse=True)
    torn = np.zeros(len(found), bool)
    np.logical_or.at(torn, place, labels != labels[first][place])
    whole = is_thing & ~torn[place]
    segments[whole] = ids[whole]
    return segments


def _areas(ids: NDArray[np.int64]) -> dict[int, int]:
    found, counts = np.unique(ids, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _matched(
    true: dict[int, int],
    predicted: dict[int, int],
    true_ids: NDArray[np.int64],
    predicted_ids: NDArray[np.int64],
) -> tuple[float, int, int, int]:
    """Sum of IoU over TP, TP, FP, FN of one class."""
    pairs, common = np.unique(true_ids << _ID_BITS | predicted_ids, return_counts=True)
    total, found_true, found_predicted = 0.0, set[int](), set[int]()
    for pair, shared in zip(pairs.tolist(), common.tolist(), strict=True):
        theirs, ours = pair >> _ID_BITS, pair & (1 << _ID_BITS) - 1
        iou = shared / (true[theirs] + predicted[ours] - shared)
        if iou > _MATCH:  # so that no segment is found twice
            total += iou
            found_true.add(theirs)
            found_predicted.add(ours)
    missed = sum(area >= LEAST_RAYS and i not in found_true for i, area in true.items())
    extra = sum(area >= LEAST_RAYS and i not in found_predicted for i, area in predicted.items())
    return total, len(found_true), extra, missed


def panoptic_quality(counts: Float) -> Float:
    """PQ in percent, ``[..., thresholds, classes]``, of counts ``[..., thresholds, classes, 4]``.

    NaN where a class has neither TP nor FP nor FN.
    """
    iou, tp, fp, fn = (counts[..., kind] for kind in range(SEGMENT_KINDS))
    quality = iou / np.maximum(tp, _LEAST) * tp / np.maximum(tp + fp / 2 + fn / 2, _LEAST)
    return np.where(tp + fp + fn > 0, 100 * quality, np.nan)


class RayPQ:
    """Streaming RayPQ.

    Args:
        classes: all of them, the free one, the last, included.
        things: labels whose instances are told apart.
    """

    unit = "%"

    def __init__(
        self,
        classes: int = 18,
        things: Collection[int] = THINGS,
        grid: VoxelGrid = OCC3D_GRID,
    ) -> None:
        self._free = classes - 1
        self._things = tuple(things)
        self._grid = grid
        self.counts: Float = np.zeros((len(THRESHOLDS_M), classes - 1, SEGMENT_KINDS))

    def update(
        self,
        prediction: tuple[Array, Array],
        truth: tuple[Array, Array],
        origins_m: Array,
    ) -> None:
        """Add one sample.

        Args:
            prediction, truth: labels and instance ids, ``[x, y, z]`` each.
            origins_m: ``[n, 3]`` in the frame of the grid.
        """
        seen = see(prediction[0], truth[0], origins_m, free=self._free, grid=self._grid)
        self.counts += segment_counts(seen, truth[1], prediction[1], self._free, self._things)

    @property
    def quality(self) -> Float:
        """``[thresholds, classes]`` in percent; NaN where a class was never seen."""
        return panoptic_quality(self.counts)

    def value(self) -> float:
        """The mean of the table in percent; NaN where nothing was seen."""
        return float(mean_of_table(self.quality))
