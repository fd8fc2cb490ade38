"""RayIoU: is the first thing that a ray meets of the right class, and at the right distance?

Over all rays of a set whose *ground truth* is no free space, for class c and threshold t:

    TP = rays where both are c and |distance - true distance| < t
    RayIoU_c@t = TP / (rays of truth c + rays of prediction c - TP)

RayIoU@t is the mean over the classes that occur, RayIoU the mean over all of 1, 2 and 4 m; both in
percent. SparseOcc (ECCV 2024), upstream commit af4d9df.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.rays.casting import OCC3D_GRID, VoxelGrid, cast_rays
from exporters.errors import UserError

Array = NDArray[Any]
Float = NDArray[np.float64]

THRESHOLDS_M = (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class SeenRays:
    """The rays of one sample whose ground truth is no free space, ``[rays]``.

    Attributes:
        truth, prediction: labels where they stop.
        apart_m: float32, between the two distances.
        truth_voxel, prediction_voxel: flat indices of where they stop.
    """

    truth: Array
    prediction: Array
    apart_m: NDArray[np.float32]
    truth_voxel: NDArray[np.int64]
    prediction_voxel: NDArray[np.int64]


def see(
    prediction: Array,
    truth: Array,
    origins_m: Array,
    *,
    free: int,
    grid: VoxelGrid = OCC3D_GRID,
    rays: NDArray[np.float32] | None = None,
) -> SeenRays:
    """Cast the same rays into both.

    Args:
        prediction, truth: integer labels ``[x, y, z]``.
        origins_m: ``[n, 3]`` in the frame of the grid.
        free: label of empty space, the last of the classes.
        rays: unit vectors; those of a LiDAR by default.

    Raises:
        UserError: different shapes, or origins that are none.
    """
    if prediction.shape != truth.shape or truth.ndim != 3:
        raise UserError(
            f"the prediction has shape {list(prediction.shape)}, the truth {list(truth.shape)}",
            fix="Compare labels [x, y, z] of the same grid",
        )
    origins = np.asarray(origins_m, np.float64)
    if origins.ndim != 2 or origins.shape[1] != 3 or not np.isfinite(origins).all():
        raise UserError(
            f"ray origins of shape {list(origins.shape)} are no finite points [n, 3]",
            fix="Give x, y, z in metres in the frame of the grid",
        )
    theirs = cast_rays(truth, origins, free=free, grid=grid, rays=rays)
    ours = cast_rays(prediction, origins, free=free, grid=grid, rays=rays)
    labels = truth.ravel()[theirs.voxel]
    kept = labels < free
    return SeenRays(
        truth=labels[kept],
        prediction=prediction.ravel()[ours.voxel[kept]],
        apart_m=np.abs(ours.distance_m[kept] - theirs.distance_m[kept]),
        truth_voxel=theirs.voxel[kept],
        prediction_voxel=ours.voxel[kept],
    )


def ray_counts(seen: SeenRays, classes: int) -> Float:
    """What one sample adds: rays of the truth, of the prediction, and TP at each threshold.

    Args:
        classes: occupied ones, labels 0 … classes - 1.

    Returns:
        ``[2 + thresholds, classes]``.
    """
    same = seen.truth == seen.prediction
    kinds = [seen.truth, seen.prediction[seen.prediction < classes]]
    kinds += [seen.truth[same & (seen.apart_m < np.float32(t))] for t in THRESHOLDS_M]
    return np.stack([np.bincount(kind, minlength=classes) for kind in kinds]).astype(np.float64)


def ray_iou(counts: Float) -> Float:
    """IoU in percent, ``[..., thresholds, classes]``, of counts ``[..., 2 + thresholds, classes]``.

    NaN where a class occurs in neither.
    """
    truth, prediction, hits = counts[..., :1, :], counts[..., 1:2, :], counts[..., 2:, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        iou: Float = 100 * hits / (truth + prediction - hits)
    return iou


class RayIoU:
    """Streaming RayIoU.

    Args:
        classes: all of them, the free one, the last, included.
    """

    unit = "%"

    def __init__(self, classes: int = 18, grid: VoxelGrid = OCC3D_GRID) -> None:
        self._free = classes - 1
        self._grid = grid
        self.counts: Float = np.zeros((2 + len(THRESHOLDS_M), classes - 1))

    def update(self, prediction: Array, truth: Array, origins_m: Array) -> None:
        """Add one sample; arguments and errors as of `see`."""
        seen = see(prediction, truth, origins_m, free=self._free, grid=self._grid)
        self.counts += ray_counts(seen, self._free)

    @property
    def iou(self) -> Float:
        """``[thresholds, classes]`` in percent; NaN where a class was never seen."""
        return ray_iou(self.counts)

    def value(self) -> float:
        """The mean of the table in percent; NaN where nothing was seen."""
        return float(mean_of_table(self.iou))


def mean_of_table(table: Float) -> Float:
    """Mean over the last two axes, without what is NaN; NaN where all is."""
    known = ~np.isnan(table)
    total = np.where(known, table, 0.0).sum(axis=(-2, -1))
    count = known.sum(axis=(-2, -1))
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count)
