"""How much two turned rectangles have in common: one is clipped by the edges of the other.

Sutherland and Hodgman, "Reentrant Polygon Clipping", CACM 17, 1974: of a convex polygon and the
half-plane left of an edge, every corner inside stays and every crossing edge gives a new corner.
After four edges the area of what is left (shoelace formula) is the intersection, in float64 and
around the first rectangle's centre, so that far boxes lose nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.compiled import compiled

Float = NDArray[np.float64]


def intersection_areas(first: NDArray[Any], second: NDArray[Any]) -> Float:
    """Areas ``[n, m]`` that rectangles ``[n, 5]`` and ``[m, 5]`` have in common.

    A rectangle is x, y, length, width, and the angle of its length from x to y in radians.
    """
    rows = [np.ascontiguousarray(r, np.float64).reshape(-1, 5) for r in (first, second)]
    areas: Float = compiled(clip)(*rows)
    return areas


def rotated_iou(first: NDArray[Any], second: NDArray[Any]) -> Float:
    """Intersection over union ``[n, m]`` of the same; 0 where both are empty."""
    common = intersection_areas(first, second)
    areas = [np.asarray(r, np.float64).reshape(-1, 5)[:, 2:4].prod(axis=1) for r in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - common
    iou: Float = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return iou


def clip(first: Float, second: Float) -> Any:
    """`intersection_areas` of float64 arrays."""
    areas = np.zeros((len(first), len(second)))
    # a convex polygon gains at most one corner from each of four edges
    xs, ys = np.empty((2, 8)), np.empty((2, 8))
    for i in range(len(first)):
        half_l, half_w = first[i, 2] / 2, first[i, 3] / 2
        for j in range(len(second)):
            far_x, far_y = second[j, 0] - first[i, 0], second[j, 1] - first[i, 1]
            reach = np.hypot(first[i, 2], first[i, 3]) + np.hypot(second[j, 2], second[j, 3])
            if 2 * np.hypot(far_x, far_y) >= reach:
                continue
            # the second rectangle as the first one sees it, where the first lies along the axes
            cos, sin = np.cos(first[i, 4]), np.sin(first[i, 4])
            centre_x, centre_y = cos * far_x + sin * far_y, -sin * far_x + cos * far_y
            turn = second[j, 4] - first[i, 4]
            cos, sin = np.cos(turn), np.sin(turn)
            for corner in range(4):
                along = second[j, 2] / 2 * (1.0 if corner in (0, 3) else -1.0)
                across = second[j, 3] / 2 * (1.0 if corner in (0, 1) else -1.0)
                xs[0, corner] = centre_x + cos * along - sin * across
                ys[0, corner] = centre_y + sin * along + cos * across
            count, old = 4, 0
            for edge in range(4):
                sign = 1.0 if edge < 2 else -1.0
                limit = half_l if edge % 2 == 0 else half_w
                kept, new = 0, 1 - old
                for corner in range(count):
                    after = (corner + 1) % count
                    ax, ay, bx, by = (
                        xs[old, corner],
                        ys[old, corner],
                        xs[old, after],
                        ys[old, after],
                    )
                    # how far inside of the edge both ends lie
                    a = limit - sign * (ax if edge % 2 == 0 else ay)
                    b = limit - sign * (bx if edge % 2 == 0 else by)
                    if a >= 0:
                        xs[new, kept], ys[new, kept] = ax, ay
                        kept += 1
                    if (a > 0 and b < 0) or (a < 0 and b > 0):
                        share = a / (a - b)
                        xs[new, kept], ys[new, kept] = (
                            ax + share * (bx - ax),
                            ay + share * (by - ay),
                        )
                        kept += 1
                count, old = kept, new
            area = 0.0
            for corner in range(count):
                after = (corner + 1) % count
                area += xs[old, corner] * ys[old, after] - xs[old, after] * ys[old, corner]
            areas[i, j] = abs(area) / 2
    return areas
