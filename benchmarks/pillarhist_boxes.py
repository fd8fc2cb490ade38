"""Boxes out of the tiny PillarHist car detector, and how alike two sets of them are.

    heatmap [1, 1, H, W]  score of a car with its centre in that cell of 0.64 m
    box     [1, 8, H, W]  centre in the cell x, y | z | log of length, width, height | cos, sin

A box is a peak of the heatmap (largest of its 3 x 3 cells) above a threshold. Boxes are compared by
the IoU of their rotated rectangles seen from above, by clipping one against the other (Sutherland
and Hodgman, CACM 1974).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]

CELL_M, ORIGIN_M = 0.64, (0.0, -39.68)
OVERLAP = 0.1  # of two boxes of one frame, above which the lower score goes


@dataclass(frozen=True)
class Agreement:
    """Boxes of a candidate against those of its reference.

    Attributes:
        matched: the reference's boxes that the candidate has too, at BEV IoU 0.5.
        extra: the candidate's boxes that match none.
    """

    matched: int
    reference: int
    extra: int

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.matched + other.matched, self.reference + other.reference, self.extra + other.extra
        )


def boxes(outputs: Arrays, threshold: float) -> Array:
    """Rows of x, y, z, length, width, height (metres), yaw (radians), score; best first."""
    heatmap, maps = outputs["heatmap"][0, 0], outputs["box"][0]
    padded = np.pad(heatmap, 1, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    rows, columns = np.nonzero((heatmap == windows.max(axis=(2, 3))) & (heatmap >= threshold))
    order = np.argsort(-heatmap[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    dx, dy, z, *logs, cos, sin = maps[:, rows, columns]
    x = ORIGIN_M[0] + CELL_M * (columns + dx)
    y = ORIGIN_M[1] + CELL_M * (rows + dy)
    found = np.stack([x, y, z, *np.exp(logs), np.arctan2(sin, cos), heatmap[rows, columns]], axis=1)
    return _without_overlaps(found)


def bev_iou(a: Array, b: Array) -> float:
    """Of two boxes as ``boxes`` has them; 0 for boxes of no area."""
    inside = corners(a)
    edges = corners(b)
    for start, end in zip(edges, np.roll(edges, -1, axis=0), strict=True):
        inside = _clipped(inside, start, end)
    shared = _area(inside)
    union = a[3] * a[4] + b[3] * b[4] - shared
    return float(shared / union) if union > 0 else 0.0


def corners(box: Array) -> Array:
    """[4, 2], counter-clockwise."""
    half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * box[3:5] / 2
    cos, sin = np.cos(box[6]), np.sin(box[6])
    return half @ np.array([[cos, sin], [-sin, cos]]) + box[:2]


def compare(reference: Array, candidate: Array, iou: float = 0.5) -> Agreement:
    """Each box of the candidate, best score first, takes the nearest free one of the reference."""
    free = list(range(len(reference)))
    matched = 0
    for box in candidate:
        overlaps = [bev_iou(box, reference[i]) for i in free]
        if overlaps and max(overlaps) >= iou:
            del free[int(np.argmax(overlaps))]
            matched += 1
    return Agreement(matched, len(reference), len(candidate) - matched)


def closeness(reference: Arrays, candidate: Arrays, _sample: Arrays) -> float | None:
    """How close the candidate is at every box of the reference that has a score of 0.1 or more.

    The mean of IoU times one minus the difference of the scores; 1 for an equal network. Unlike
    counted boxes it moves with every bit of error, so that few frames are enough to search by.
    """
    wanted, there = boxes(reference, 0.1), boxes(candidate, 0.02)
    if not len(wanted):
        return None
    return float(np.mean([_closest(box, there) for box in wanted]))


def _closest(box: Array, others: Array) -> float:
    alike = [bev_iou(box, other) * (1 - abs(box[7] - other[7])) for other in others]
    return max(alike, default=0.0)


def _without_overlaps(found: Array) -> Array:
    kept: list[Array] = []
    for box in found:
        if all(bev_iou(box, other) <= OVERLAP for other in kept):
            kept.append(box)
    return np.array(kept).reshape(-1, 8)


def _clipped(polygon: Array, start: Array, end: Array) -> Array:
    """The part of a polygon to the left of the line from ``start`` to ``end``."""
    if not len(polygon):
        return polygon
    along = end - start
    side = along[0] * (polygon[:, 1] - start[1]) - along[1] * (polygon[:, 0] - start[0])
    kept = []
    for index, point in enumerate(polygon):
        before, last = polygon[index - 1], side[index - 1]
        if (side[index] >= 0) != (last >= 0):
            kept.append(before + (point - before) * (last / (last - side[index])))
        if side[index] >= 0:
            kept.append(point)
    return np.array(kept).reshape(-1, 2)


def _area(polygon: Array) -> float:
    if len(polygon) < 3:
        return 0.0
    x, y = polygon.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
