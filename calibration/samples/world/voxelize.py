"""The truth about a scene: the class of every voxel, and which voxels the cameras can judge.

A voxel has the class of the last solid whose box, grown by a third of a voxel, holds the voxel's
centre (thin things stay visible that way); the ground fills one layer. A voxel is *visible* when
some camera's depth image reaches it: nothing in front of it, or itself the first thing hit. This
is the role of Occ3D's ``mask_camera``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.samples.world.layout import Scene
from calibration.samples.world.render import Hits, Rays
from calibration.samples.world.solids import Actor, Float, Label, Matrix, Solids
from exporters.flashocc.geometry import Grid, Range

_GROWN = 1 / 3
"""Of a voxel."""

_ORDER = (Label.manmade, Label.vegetation)
"""Solids of these classes give way to all others, in this order."""

DETECTED = frozenset(
    (
        Label.barrier,
        Label.bicycle,
        Label.bus,
        Label.car,
        Label.construction_vehicle,
        Label.motorcycle,
        Label.pedestrian,
        Label.traffic_cone,
        Label.trailer,
        Label.truck,
    )
)
"""Classes that have boxes in nuScenes."""


NOTHING = -1


@dataclass(frozen=True)
class Truth:
    """What fills each voxel.

    Attributes:
        semantics: class, uint8 ``[nx, ny, nz]``.
        actor: index of the scene's actor, int32 of the same shape; ``NOTHING`` on the ground and
            where a voxel is free.
    """

    semantics: NDArray[np.uint8]
    actor: NDArray[np.int32]

    def instances(self, actors: Sequence[Actor]) -> NDArray[np.uint8]:
        """Panoptic ids as the labels of SparseOcc number them, uint8; 0 is free.

        Actors of the ten classes that detectors know come first, in order, from 1, if they have a
        voxel; then every other class that is present has one id.
        """
        ids = np.zeros(self.semantics.shape, np.uint8)
        found = np.unique(self.actor)
        things = [int(i) for i in found if i >= 0 and actors[i].label in DETECTED]
        table = np.zeros(len(actors) + 1, np.uint8)
        table[things] = np.arange(1, len(things) + 1)
        ids = table[self.actor]
        for label in np.unique(self.semantics):
            if label not in DETECTED and label != Label.free:
                ids[self.semantics == label] = ids.max() + 1
        return ids


def semantics(scene: Scene, grid: Grid) -> NDArray[np.uint8]:
    """Class of every voxel, uint8 ``[nx, ny, nz]``."""
    return fill_voxels(scene, grid).semantics


def fill_voxels(scene: Scene, grid: Grid, ego: Matrix | None = None) -> Truth:
    """Class and actor of every voxel.

    Args:
        ego: 4x4, where the grid stands in the scene; None for its origin.
    """
    x, y, z = (_centres(bounds) for bounds in (grid.x, grid.y, grid.z_out))
    solids = scene.solids if ego is None else scene.solids.seen_from(ego)
    solid = np.full((grid.nx, grid.ny, grid.nz_out), NOTHING, np.int32)
    rank = np.array([_ORDER.index(k) if k in _ORDER else len(_ORDER) for k in solids.label])
    steps = np.array([grid.x[2], grid.y[2], grid.z_out[2]], np.float32)
    for index in np.argsort(rank, kind="stable"):
        _fill(solid, (x, y, z), solids, int(index), steps * _GROWN)
    semantics = np.append(solids.label, np.uint8(Label.free))[solid]
    layer = int(np.argmin(np.abs(z)))
    floor: Sequence[Float] = np.meshgrid(x, y, indexing="ij")
    if ego is not None:
        floor = [ego[i, 0] * floor[0] + ego[i, 1] * floor[1] + ego[i, 3] for i in (0, 1)]
    ground = scene.ground.labels(*floor)
    bare = solid[:, :, layer] == NOTHING
    semantics[:, :, layer][bare] = ground[bare]
    return Truth(semantics, np.append(solids.actor, np.int32(NOTHING))[solid])


class Visibility:
    """Which voxels cameras see; projections are computed once for a rig and a grid."""

    def __init__(self, rays: Sequence[Rays], grid: Grid) -> None:
        x, y, z = (_centres(bounds) for bounds in (grid.x, grid.y, grid.z_out))
        self._shape = (grid.nx, grid.ny, grid.nz_out)
        self._margin = np.float32(1.2 * max(grid.x[2], grid.y[2], grid.z_out[2]))
        centres = np.stack(np.meshgrid(x, y, z, indexing="ij"), -1).reshape(-1, 3)
        self._projections = [_project(ray, centres) for ray in rays]

    def mask(self, hits: Sequence[Hits], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """1 where some camera sees the voxel, uint8 of the shape of ``labels``."""
        seen = np.zeros(labels.size, bool)
        margin = np.where(labels.ravel() == Label.free, np.float32(0), self._margin)
        for (voxel, pixel, depth), hit in zip(self._projections, hits, strict=True):
            seen[voxel] |= depth < hit.depth.ravel()[pixel] + margin[voxel]
        return seen.reshape(self._shape).astype(np.uint8)


def _project(rays: Rays, centres: Float) -> tuple[NDArray[np.int32], NDArray[np.int32], Float]:
    """Voxels in the image: their number, pixel and depth."""
    camera = rays.camera
    points = centres @ rays.to_camera[:3, :3].T + rays.to_camera[:3, 3]
    ahead = np.flatnonzero(points[:, 2] > 0.1)
    pixels = points[ahead] @ camera.intrinsics.T
    u, v = (np.round(pixels[:, i] / pixels[:, 2]) for i in (0, 1))
    inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    voxel = ahead[inside]
    pixel = v[inside] * camera.width + u[inside]
    depth = points[voxel, 2].astype(np.float32)
    return voxel.astype(np.int32), pixel.astype(np.int32), depth


def _fill(
    filled: NDArray[np.int32],
    axes: tuple[Float, Float, Float],
    solids: Solids,
    index: int,
    grown: Float,
) -> None:
    centre, half = solids.centre[index], solids.half[index]
    reach = np.hypot(half[0], half[1])
    extent = np.array([reach, reach, half[2]], np.float32) + grown
    window = tuple(
        slice(*np.searchsorted(axis, [c - e, c + e]))
        for axis, c, e in zip(axes, centre, extent, strict=True)
    )
    x, y, z = (axis[part] - c for axis, part, c in zip(axes, window, centre, strict=True))
    cos, sin = solids.cos[index], solids.sin[index]
    along = (cos * x[:, None] + sin * y[None, :])[:, :, None] / (half[0] + grown[0])
    across = (cos * y[None, :] - sin * x[:, None])[:, :, None] / (half[1] + grown[1])
    above = z[None, None, :] / (half[2] + grown[2])
    if solids.rounded[index]:
        inside = along**2 + across**2 + above**2 < 1
    else:
        inside = (np.abs(along) < 1) & (np.abs(across) < 1) & (np.abs(above) < 1)
    filled[window][inside] = index


def _centres(bounds: Range) -> Float:
    low, high, step = bounds
    return (low + step * (np.arange(round((high - low) / step)) + 0.5)).astype(np.float32)
