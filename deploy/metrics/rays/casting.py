"""Where rays meet the first occupied voxel: the grid is walked voxel by voxel.

Amanatides and Woo, "A Fast Voxel Traversal Algorithm for Ray Tracing", Eurographics 1987. Per axis
the walk keeps the length at which the ray crosses the next voxel boundary, and takes the nearest:

    t_max   = (boundary - origin) / direction     t_delta = step / direction     (inf where 0)

As the published numbers were computed: coordinates are rounded to float32 and walked in float64,
the first voxel is the origin's *truncated* coordinate, a tie goes to z, then to y, and the distance
of a voxel is that at which the ray **leaves** it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.compiled import compiled
from deploy.metrics.rays.directions import directions

Float = NDArray[np.float64]

MOST_STEPS = 1000


@dataclass(frozen=True)
class VoxelGrid:
    """Where a grid lies.

    Attributes:
        corner_m: of the first voxel, x, y, z.
        voxel_m: edge length of its cubes.
    """

    corner_m: tuple[float, float, float] = (-40.0, -40.0, -1.0)
    voxel_m: float = 0.4


OCC3D_GRID = VoxelGrid()


@dataclass(frozen=True)
class Hits:
    """Of every ray, ``[rays]``.

    Attributes:
        distance_m: float32, along the ray to where it leaves the first occupied voxel, or the last
            voxel of the grid; minus one voxel for a ray that never meets the grid.
        voxel: int64, flat index of that voxel; 0 for a ray that never meets the grid.
    """

    distance_m: NDArray[np.float32]
    voxel: NDArray[np.int64]


def cast_rays(
    labels: NDArray[Any],
    origins_m: NDArray[Any],
    *,
    free: int,
    grid: VoxelGrid = OCC3D_GRID,
    rays: NDArray[np.float32] | None = None,
) -> Hits:
    """The rays of every origin, one origin after the other.

    Args:
        labels: integers ``[x, y, z]``; occupied is what is below ``free``.
        origins_m: ``[n, 3]``, in the frame of the grid.
        free: label of empty space, the last of the classes.
        rays: unit vectors ``[m, 3]``; `directions` by default.
    """
    rays = directions() if rays is None else rays
    corner = np.asarray(grid.corner_m, np.float64)
    starts_m = np.repeat(np.asarray(origins_m, np.float64).reshape(-1, 3), len(rays), axis=0)
    ends_m = starts_m + np.tile(rays.astype(np.float64), (len(starts_m) // len(rays), 1))
    starts, ends = (((p - corner) / grid.voxel_m).astype(np.float32) for p in (starts_m, ends_m))
    occupied = np.ascontiguousarray(np.asarray(labels) < free)
    distance, voxel = compiled(walk)(
        occupied, starts.astype(np.float64), ends.astype(np.float64), MOST_STEPS
    )
    return Hits(distance.astype(np.float32) * np.float32(grid.voxel_m), voxel)


def walk(
    occupied: NDArray[np.bool_], starts: Float, ends: Float, most_steps: int
) -> tuple[Float, NDArray[np.int64]]:
    """Distance in voxels and flat index of the voxel at which each ray stops.

    Args:
        occupied: ``[x, y, z]``.
        starts, ends: ``[n, 3]`` in voxels; a ray goes from one through the other and on.
    """
    size_x, size_y, size_z = occupied.shape
    count = len(starts)
    distances = np.full(count, -1.0)
    voxels = np.zeros(count, np.int64)
    for ray in range(count):
        ox, oy, oz = starts[ray, 0], starts[ray, 1], starts[ray, 2]
        dx, dy, dz = ends[ray, 0] - ox, ends[ray, 1] - oy, ends[ray, 2] - oz
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        dx, dy, dz = dx / length, dy / length, dz / length
        x, y, z = int(ox), int(oy), int(oz)
        step_x, step_y, step_z = 1 if dx >= 0 else -1, 1 if dy >= 0 else -1, 1 if dz >= 0 else -1
        next_x = (x + (1 if step_x > 0 else 0) - ox) / dx if dx != 0 else np.inf
        next_y = (y + (1 if step_y > 0 else 0) - oy) / dy if dy != 0 else np.inf
        next_z = (z + (1 if step_z > 0 else 0) - oz) / dz if dz != 0 else np.inf
        delta_x = step_x / dx if dx != 0 else np.inf
        delta_y = step_y / dy if dy != 0 else np.inf
        delta_z = step_z / dz if dz != 0 else np.inf
        was_inside = False
        for _ in range(most_steps):
            inside = 0 <= x < size_x and 0 <= y < size_y and 0 <= z < size_z
            if was_inside and not inside:
                break
            hit = inside and occupied[x, y, z]
            if inside:
                was_inside = True
                voxels[ray] = (x * size_y + y) * size_z + z
            if next_x < next_y and next_x < next_z:
                left, x, next_x = next_x, x + step_x, next_x + delta_x
            elif next_x >= next_y and next_y < next_z:
                left, y, next_y = next_y, y + step_y, next_y + delta_y
            else:
                left, z, next_z = next_z, z + step_z, next_z + delta_z
            if inside:
                distances[ray] = left
            if hit:
                break
    return distances, voxels
