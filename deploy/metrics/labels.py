"""How often two label tensors agree, from their confusion matrix, streamed over samples.

With ``n[i, j]`` the number of elements that the reference (or the ground truth) labels i and the
candidate labels j:

    agreement  = sum_i n[i, i] / sum n
    flip rate  = 1 - agreement; of class i: 1 - n[i, i] / sum_j n[i, j]
    IoU of i   = n[i, i] / (sum_j n[i, j] + sum_j n[j, i] - n[i, i]), NaN where i never occurs
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError

Array = NDArray[Any]


class ConfusionMatrix:
    """Counts of label pairs.

    Args:
        classes: number of classes; labels are 0 … classes - 1.
    """

    def __init__(self, classes: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros((classes, classes), np.int64)

    def update(self, reference: Array, candidate: Array, mask: Array | None = None) -> None:
        """Add one sample.

        Args:
            reference: integer labels; those outside the classes mean "unknown" and are left out.
            candidate: integer labels of the same shape.
            mask: same shape; only elements where it is nonzero count.

        Raises:
            UserError: shapes differ, or the candidate has a label that is no class.
        """
        for name, array in (("candidate", candidate), ("mask", mask)):
            if array is not None and array.shape != reference.shape:
                raise UserError(
                    f"the labels have shape {list(reference.shape)}, "
                    f"the {name} {list(array.shape)}",
                    fix="Compare files, and ground truth, of the same grid",
                )
        classes = len(self.counts)
        known = (reference >= 0) & (reference < classes)
        if mask is not None:
            known &= mask != 0
        rows, columns = reference[known].astype(np.int64), candidate[known].astype(np.int64)
        if columns.size and (columns.min() < 0 or columns.max() >= classes):
            raise UserError(
                f"the candidate has label {int(columns.max())}, there are {classes} classes",
                fix="Compare files with the same class list",
            )
        pairs = np.bincount(rows * classes + columns, minlength=classes * classes)
        self.counts += pairs.reshape(classes, classes)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add what another one of the same classes has counted."""
        self.counts += other.counts

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def agreement(self) -> float:
        """Share of elements with equal labels, 0 to 1; NaN where nothing was counted."""
        return float(np.trace(self.counts)) / self.total if self.total else float("nan")

    @property
    def flip_rates(self) -> NDArray[np.float64]:
        """Per class, share of the reference's elements that the candidate labels otherwise."""
        return 1.0 - _ratio(np.diagonal(self.counts), self.counts.sum(axis=1))

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union per class, 0 to 1; NaN where a class never occurs."""
        hits = np.diagonal(self.counts)
        return _ratio(hits, self.counts.sum(axis=1) + self.counts.sum(axis=0) - hits)


class SliceAgreement:
    """Share of equal labels for each index of one axis (a height slice).

    Args:
        axis: of the label tensors.
    """

    def __init__(self, axis: int) -> None:
        self._axis = axis
        self._equal: NDArray[np.int64] | None = None
        self._size = 0

    def update(self, reference: Array, candidate: Array) -> None:
        """Add one sample of integer labels of the same shape."""
        slices = np.moveaxis(reference == candidate, self._axis, 0)
        self._add(slices.reshape(slices.shape[0], -1).sum(axis=1), slices[0].size)

    def merge(self, other: SliceAgreement) -> None:
        """Add what another one of the same axis has counted."""
        if other._equal is not None:
            self._add(other._equal, other._size)

    def _add(self, equal: NDArray[np.int64], size: int) -> None:
        self._equal = equal.copy() if self._equal is None else self._equal + equal
        self._size += size

    @property
    def agreement(self) -> NDArray[np.float64]:
        """``[slices]``, 0 to 1; empty before the first sample."""
        if self._equal is None:
            return np.zeros(0)
        return _ratio(self._equal, np.full_like(self._equal, self._size))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """``part / whole``, NaN where whole is zero."""
    ratio = np.full(part.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole != 0)
    return ratio
