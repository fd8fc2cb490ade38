"""The same computations on the host, in NumPy and float64: what the graphs are tested against.

Written from the definitions, not from the tensor code: loops where the graph has tables, polygons
clipped edge by edge where it has intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exporters.pillarhist.config import AnchorHead, Config, PillarGrid

Array = NDArray[np.float64]
Points = NDArray[np.float32]
Index = NDArray[np.int64]


def histogram(
    points: Points, grid: PillarGrid, bins: int, *, full: float = 1.0, ego_m: float = 0.0
) -> tuple[Index, Index]:
    """Points and summed intensities (0 to 255) of each cell, int64 ``[bins, ny, nx]``."""
    taken, (x, y, height) = cell_indices(points, grid, bins, ego_m)
    levels = np.clip(np.rint(points[taken, 3] * np.float32(255 / full)), 0, 255).astype(np.int64)
    counts = np.zeros((bins, grid.ny, grid.nx), np.int64)
    sums = np.zeros_like(counts)
    np.add.at(counts, (height, y, x), 1)
    np.add.at(sums, (height, y, x), levels)
    return counts, sums


def voxelize(
    points: Points, grid: PillarGrid, *, most_points: int = 32, most_pillars: int = 40_000
) -> tuple[Points, Index, Index]:
    """OpenPCDet's rule: the first points of the first pillars, in order of arrival.

    Returns:
        Points ``[V, most_points, columns]`` with zeros below, how many there are ``[V]``, and the
        pillars' places ``y * nx + x`` ``[V]``.
    """
    taken, (x, y, _) = cell_indices(points, grid, 1, 0.0)
    number = np.full(grid.pillars, -1)
    voxels = np.zeros((most_pillars, most_points, points.shape[1]), np.float32)
    counts, places = np.zeros(most_pillars, np.int64), np.zeros(most_pillars, np.int64)
    found = 0
    for point, place in zip(points[taken], y * grid.nx + x, strict=True):
        pillar = number[place]
        if pillar < 0:
            if found == most_pillars:
                continue
            pillar = number[place] = found
            places[found] = place
            found += 1
        if counts[pillar] < most_points:
            voxels[pillar, counts[pillar]] = point
            counts[pillar] += 1
    return voxels[:found], counts[:found], places[:found]


def cell_indices(
    points: Points, grid: PillarGrid, bins: int, ego_m: float
) -> tuple[NDArray[np.bool_], tuple[Index, Index, Index]]:
    """Which rows count, and x, y and bin of those; float32 arithmetic, as networks are trained."""
    low, step = np.array(grid.low, np.float32), np.array(grid.steps(bins), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        index = np.floor((points[:, :3] - low) / step)
    taken = np.isfinite(points).all(axis=1)
    taken &= ((index >= 0) & (index < (grid.nx, grid.ny, bins))).all(axis=1)
    taken &= (np.abs(points[:, :2]) >= ego_m).any(axis=1)
    x, y, height = index[taken].astype(np.int64).T
    return taken, (x, y, height)


def decode_anchors(cls: Array, box: Array, direction: Array, config: Config) -> tuple[Array, Array]:
    """Boxes and class scores of every anchor.

    Args:
        cls, box, direction: maps ``[channels, H, W]`` of an anchor head.

    Returns:
        ``[H * W * anchors, 7]`` of x, y, z, length, width, height, yaw, and scores of the classes.
    """
    head, grid = config.head, config.grid
    assert isinstance(head, AnchorHead)
    rows, columns = cls.shape[1:]
    boxes, scores = [], []
    for y in range(rows):
        for x in range(columns):
            for anchor in range(head.per_cell):
                kind = head.anchors[anchor // len(head.rotations)]
                length, width, height = kind.size
                along_x = (x + 0.5) / columns if head.middles else x / (columns - 1)
                along_y = (y + 0.5) / rows if head.middles else y / (rows - 1)
                xa = grid.low[0] + along_x * (grid.high[0] - grid.low[0])
                ya = grid.low[1] + along_y * (grid.high[1] - grid.low[1])
                za = kind.bottom + height / 2
                t = box[anchor * 7 : anchor * 7 + 7, y, x]
                diagonal = np.hypot(length, width)
                yaw = t[6] + head.rotations[anchor % len(head.rotations)] - head.direction_offset
                yaw -= np.floor(yaw / np.pi) * np.pi
                away = direction[anchor * 2 + 1, y, x] > direction[anchor * 2, y, x]
                yaw += head.direction_offset + np.pi * away
                place = (t[0] * diagonal + xa, t[1] * diagonal + ya, t[2] * height + za)
                boxes.append((*place, *np.exp(t[3:6]) * kind.size, yaw))
                classes = len(head.anchors)
                logits = cls[anchor * classes : (anchor + 1) * classes, y, x]
                scores.append(1 / (1 + np.exp(-logits)))
    return np.array(boxes), np.array(scores)


def corners(box: Sequence[float] | Array) -> Array:
    """``[4, 2]``, counter-clockwise, of x, y, length, width, yaw."""
    x, y, length, width, yaw = (float(value) for value in box)
    half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * (length / 2, width / 2)
    cos, sin = np.cos(yaw), np.sin(yaw)
    turned: Array = half @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
    return turned


def rotated_iou(a: Sequence[float] | Array, b: Sequence[float] | Array) -> float:
    """Of two rectangles x, y, length, width, yaw: clipped by Sutherland and Hodgman's method."""
    reach = 0.5 * (np.hypot(a[2], a[3]) + np.hypot(b[2], b[3]))
    if np.hypot(a[0] - b[0], a[1] - b[1]) > reach:
        return 0.0
    shared = _area(_clipped(corners(a), corners(b)))
    union = a[2] * a[3] + b[2] * b[3] - shared
    return float(shared / max(union, 1e-8))


def suppress(boxes: Array, scores: Array, iou: float) -> tuple[Index, float]:
    """Greedy suppression.

    Args:
        boxes: ``[n, 5]`` of x, y, length, width, yaw.

    Returns:
        Indices that stay, best first, and how near the closest decision was to the limit.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    nearest = np.inf
    for index in order:
        overlaps = [rotated_iou(boxes[other], boxes[index]) for other in kept]
        nearest = min([nearest, *(abs(value - iou) for value in overlaps)])
        if all(value <= iou for value in overlaps):
            kept.append(int(index))
    return np.array(kept, np.int64), float(nearest)


def _clipped(polygon: Array, by: Array) -> Array:
    """The part of a convex polygon inside another; both counter-clockwise."""
    points = list(polygon)
    for start, end in zip(by, np.roll(by, -1, axis=0), strict=True):
        side = [_cross(end - start, point - start) for point in points]
        result = []
        for index, point in enumerate(points):
            before, last = points[index - 1], side[index - 1]
            if (side[index] >= 0) != (last >= 0):
                result.append(before + (point - before) * (last / (last - side[index])))
            if side[index] >= 0:
                result.append(point)
        points = result
    return np.array(points).reshape(-1, 2)


def _area(polygon: Array) -> float:
    if len(polygon) < 3:
        return 0.0
    x, y = (polygon - polygon[0]).T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _cross(a: Array, b: Array) -> float:
    return float(a[0] * b[1] - a[1] * b[0])
