"""mIoU of semantic occupancy as Occ3D-nuScenes and FlashOcc (upstream commit 4084861) define it.

Only voxels that some camera sees (``mask_camera`` = 1) count. One confusion matrix over the whole
set, rows ground truth; IoU of every class; the mean over all classes but the free one, leaving out
classes that never occur; times 100.

The same numbers without ground truth, the candidate's labels against the reference's, come from
``deploy.metrics.labels``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.labels import ConfusionMatrix
from exporters.errors import UserError

Array = NDArray[Any]

SEMANTICS = "semantics"
MASK_CAMERA = "mask_camera"
OCC3D_CLASS_COUNT = 18


class OccupancyMIoU:
    """Streaming mIoU with the camera mask.

    Args:
        classes: all of them, the free one included.
        free: index of the class that means empty space; it is counted but not averaged.
    """

    unit = "%"

    def __init__(self, classes: int = OCC3D_CLASS_COUNT, free: int | None = None) -> None:
        self.confusion = ConfusionMatrix(classes)
        self.free = classes - 1 if free is None else free

    def update(self, prediction: Array, labels: Mapping[str, Array]) -> None:
        """Add one sample.

        Args:
            prediction: labels ``[x, y, z]``.
            labels: ``semantics`` and ``mask_camera``, uint8 of the same shape.

        Raises:
            UserError: ground truth or its mask is missing, or of another shape.
        """
        for key in (SEMANTICS, MASK_CAMERA):
            if key not in labels:
                raise UserError(
                    f"the sample has no ground truth {key!r} (it has {sorted(labels) or 'none'})",
                    fix="mIoU needs Occ3D labels: semantics and mask_camera",
                )
        self.confusion.update(labels[SEMANTICS], prediction, labels[MASK_CAMERA])

    @property
    def iou(self) -> NDArray[np.float64]:
        """Per class, percent; NaN where a class occurs in neither."""
        return self.confusion.iou * 100

    def value(self) -> float:
        """The mean over occupied classes in percent; NaN where none of them was seen."""
        return float(mean_iou(self.confusion.counts, self.free))


def mean_iou(counts: NDArray[Any], free: int) -> NDArray[np.float64]:
    """Of confusion matrices ``[..., classes, classes]`` the mIoU in percent; NaN as above."""
    hits, union = (np.delete(part, free, -1) for part in np.moveaxis(iou_parts(counts), -1, 0))
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=union != 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(100 * iou.sum(axis=-1) / (union != 0).sum(axis=-1))


def iou_parts(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Hits and union of every class: ``[..., classes, 2]`` of ``[..., classes, classes]``."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    return np.stack([hits, counts.sum(axis=-1) + counts.sum(axis=-2) - hits], axis=-1)


def percent_of(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU in percent of sums ``[..., 2]``, hits and union; NaN where the class never occurs."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(100 * parts[..., 0] / parts[..., 1])
