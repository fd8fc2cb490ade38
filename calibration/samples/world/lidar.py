"""A spinning LiDAR: ranges by ray casting, intensity by what the beams meet.

    intensity = 255 * reflectivity * sqrt(cos(angle to the surface's normal))

All beams of a turn are taken at one moment. A beam that meets nothing within reach, or grazes what
it meets, gives no point; ranges carry noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from calibration.samples.world.layout import Scene
from calibration.samples.world.render import GROUND, SKY, enter
from calibration.samples.world.shade import on_surface
from calibration.samples.world.solids import Float, Matrix, Solids
from exporters.flashocc.geometry import Grid

_NOISE_M = 0.02
_NEAR_M = 1.0
_SAMPLE = 0.5
"""Step along a beam that is followed through voxels, of a voxel."""


@dataclass(frozen=True)
class LidarModel:
    """A sensor.

    Attributes:
        beams_deg: elevations, from the lowest; a beam's place here is its ring.
        columns: measurements of a beam a turn.
        reach_m: nothing is measured beyond.
    """

    beams_deg: tuple[float, ...]
    columns: int
    reach_m: float


BEAMS_32 = LidarModel(tuple(np.linspace(-30.67, 10.67, 32).round(3).tolist()), 1086, 70.0)
"""Resembles the sensor of nuScenes."""

BEAMS_64 = LidarModel(tuple(np.linspace(-24.8, 2.0, 64).round(3).tolist()), 1800, 80.0)
"""Resembles the sensor of KITTI."""


@dataclass(frozen=True)
class Scan:
    """One turn.

    Attributes:
        points: float32 ``[n, 5]``: x, y, z in the sensor's frame, metres; intensity 0 to 255; ring.
        solid: int32 ``[n]``, index of the solid that was met, or ``GROUND``.
    """

    points: NDArray[np.float32]
    solid: NDArray[np.int32]


def scan(scene: Scene, solids: Solids, model: LidarModel, pose: Matrix, rng: Generator) -> Scan:
    """One turn of a LiDAR that stands at ``pose`` (4x4, sensor to scene) among ``solids``."""
    local = _directions(model)
    ways = local @ pose[:3, :3].T.astype(np.float32)
    origin = pose[:3, 3].astype(np.float32)
    reach, solid = _cast(origin, ways, solids, model)
    met = (solid != SKY) & (reach > _NEAR_M) & (reach < model.reach_m)
    rows, chosen = ways[met], solid[met]
    places = origin + reach[met][:, None] * rows
    bright, facing = _surface(scene, solids, places, rows, chosen)
    returned = facing > 0.03 + 0.02 * rng.random(len(facing))
    intensity = np.floor(255 * (bright * np.sqrt(facing)).clip(0, 1))
    distance = reach[met] + _NOISE_M * rng.standard_normal(len(facing))
    rings = np.broadcast_to(np.arange(len(model.beams_deg))[:, None], reach.shape)[met]
    points = np.c_[local[met] * distance[:, None], intensity, rings].astype(np.float32)
    return Scan(points[returned], chosen[returned])


def traversed(points: Float, origin: Float, grid: Grid) -> NDArray[np.uint8]:
    """1 for the voxels that beams pass or end in: the role of Occ3D's ``mask_lidar``.

    Args:
        points: where beams end, ``[n, 3]``, in the grid's frame.
        origin: where they start, ``[3]``.
    """
    low = np.array([grid.x[0], grid.y[0], grid.z_out[0]], np.float32)
    step = np.array([grid.x[2], grid.y[2], grid.z_out[2]], np.float32)
    shape = np.array([grid.nx, grid.ny, grid.nz_out])
    mask = np.zeros(shape, np.uint8)
    start, ends = (origin - low) / step, (points - low) / step
    way = ends - start
    length = np.sqrt((way * way).sum(axis=1))
    way /= np.maximum(length, 1e-6)[:, None]
    for distance in np.arange(0.0, float(length.max(initial=0.0)), _SAMPLE):
        places = np.floor(start + distance * way[length > distance]).astype(np.int32)
        inside = ((places >= 0) & (places < shape)).all(axis=1)
        mask[tuple(places[inside].T)] = 1
    last = np.floor(ends).astype(np.int32)
    mask[tuple(last[((last >= 0) & (last < shape)).all(axis=1)].T)] = 1
    return mask


def _directions(model: LidarModel) -> NDArray[np.float32]:
    """Unit vectors ``[beams, columns, 3]`` in the sensor's frame."""
    up = np.radians(np.array(model.beams_deg))[:, None]
    around = (np.arange(model.columns) / model.columns * 2 * np.pi - np.pi)[None, :]
    axes = (np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up) + 0 * around)
    return np.stack(axes, axis=-1).astype(np.float32)


def _cast(
    origin: Float, ways: Float, solids: Solids, model: LidarModel
) -> tuple[Float, NDArray[np.int32]]:
    """Range along every beam, infinite where it meets nothing, and what it meets."""
    down = ways[..., 2]
    with np.errstate(divide="ignore"):
        reach = np.where(down < 0, -origin[2] / down, np.inf).astype(np.float32)
    solid = np.where(np.isfinite(reach), GROUND, SKY).astype(np.int32)
    azimuth = np.arctan2(ways[0, :, 1], ways[0, :, 0])
    away = solids.centre[:, :2] - origin[:2]
    distance = np.hypot(away[:, 0], away[:, 1])
    radius = np.hypot(solids.half[:, 0], solids.half[:, 1])
    for index in np.flatnonzero(distance - radius < model.reach_m):
        columns = _columns(azimuth, away[index], distance[index], radius[index])
        x, y, z = (ways[:, columns, axis] for axis in range(3))
        found = enter(origin, (x, y, z), solids, int(index))
        before = reach[:, columns]
        closer = found < before
        reach[:, columns] = np.where(closer, found, before)
        solid[:, columns] = np.where(closer, np.int32(index), solid[:, columns])
    return reach, solid


def _columns(azimuth: Float, away: Float, distance: float, radius: float) -> NDArray[np.intp]:
    """Which columns of a turn can meet a solid."""
    if distance <= radius:
        return np.arange(len(azimuth))
    middle = math.atan2(away[1], away[0])
    apart = np.abs((azimuth - middle + np.pi) % (2 * np.pi) - np.pi)
    return np.flatnonzero(apart <= math.asin(min(1.0, radius / distance)) + 1e-3)


def _surface(
    scene: Scene, solids: Solids, places: Float, ways: Float, solid: NDArray[np.int32]
) -> tuple[Float, Float]:
    """Reflectivity, and cosine of the angle between beam and normal, of what beams meet."""
    bright = np.empty(len(places), np.float32)
    facing = np.empty(len(places), np.float32)
    ground = solid == GROUND
    bright[ground] = scene.ground.colours(places[ground, 0], places[ground, 1]).mean(axis=1) * 0.6
    facing[ground] = -ways[ground, 2]
    index = solid[~ground]
    _, normal = on_surface(solids, places[~ground].astype(np.float32), index)
    bright[~ground] = 0.15 + 0.7 * solids.colour[index].mean(axis=1)
    facing[~ground] = -(normal * ways[~ground]).sum(axis=1)
    return bright, facing.clip(0, 1)
