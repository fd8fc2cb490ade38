"""Ray casting: which solid, or the ground, each pixel of a pinhole camera sees, and how far away.

A ray is ``origin + depth * direction`` with direction ``R K^-1 (u, v, 1)``, so that ``depth`` is
the camera's z coordinate in metres. A solid is intersected only within the rectangle of the image
that its corners project into; boxes by the slab method, ellipsoids by a quadratic equation, both
after scaling the solid to unit size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.samples.world.solids import Float, Solids
from exporters.flashocc.rig import Camera, Matrix

GROUND = -1
SKY = -2

_NEAR_M = 0.2
_FAR_M = 400.0
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
_EDGES = np.array(
    [(a, b) for a in range(8) for b in range(a) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 2]
)


@dataclass(frozen=True)
class Rays:
    """All rays of one camera, ego frame.

    Attributes:
        origin: float32 ``[3]``, metres.
        directions: three float32 arrays ``[height, width]``: x, y, z.
        to_camera: 4x4, ego to camera.
    """

    camera: Camera
    origin: Float
    directions: tuple[Float, Float, Float]
    to_camera: Matrix

    @classmethod
    def of(cls, camera: Camera, pose: Matrix) -> Rays:
        """Rays through the pixel positions of ``camera`` standing at ``pose`` (camera to ego)."""
        turn = pose[:3, :3] @ np.linalg.inv(camera.intrinsics)
        u, v = np.arange(camera.width)[None, :], np.arange(camera.height)[:, None]
        x, y, z = (row[0] * u + row[1] * v + row[2] for row in turn)
        directions = (x.astype(np.float32), y.astype(np.float32), z.astype(np.float32))
        to_camera: Matrix = np.linalg.inv(pose).astype(np.float64)
        return cls(camera, pose[:3, 3].astype(np.float32), directions, to_camera)


@dataclass(frozen=True)
class Hits:
    """What each pixel sees.

    Attributes:
        depth: float32 ``[height, width]``, metres along the camera's axis; infinite for sky.
        solid: int32 ``[height, width]``, index of the solid, ``GROUND`` or ``SKY``.
    """

    depth: Float
    solid: NDArray[np.int32]


def cast(rays: Rays, solids: Solids) -> Hits:
    """Nearest surface along every ray."""
    depth, solid = _cast_ground(rays)
    boxes, nearest = _rectangles(rays, solids)
    for index in np.argsort(nearest):
        top, bottom, left, right = boxes[index]
        if top >= bottom or left >= right:
            continue
        area = np.s_[top:bottom, left:right]
        if nearest[index] >= depth[area].max():
            continue
        found = _intersect(rays, solids, int(index), area)
        closer = found < depth[area]
        depth[area][closer] = found[closer]
        solid[area][closer] = index
    return Hits(depth, solid)


def _cast_ground(rays: Rays) -> tuple[Float, NDArray[np.int32]]:
    down = rays.directions[2]
    with np.errstate(divide="ignore"):
        depth = np.where(down < 0, -rays.origin[2] / down, np.inf).astype(np.float32)
    depth[depth > _FAR_M] = np.inf
    return depth, np.where(np.isfinite(depth), GROUND, SKY).astype(np.int32)


def _intersect(rays: Rays, solids: Solids, index: int, area: tuple[slice, slice]) -> Float:
    dx, dy, dz = (axis[area] for axis in rays.directions)
    return enter(rays.origin, (dx, dy, dz), solids, index)


def enter(origin: Float, ways: tuple[Float, Float, Float], solids: Solids, index: int) -> Float:
    """How far along rays they enter one solid; infinite where they miss it or start inside.

    Args:
        origin: ``[3]``, metres.
        ways: x, y and z of the rays' directions; the unit of the result is their length.
    """
    cos, sin = solids.cos[index], solids.sin[index]
    half = solids.half[index]
    ox, oy, oz = origin - solids.centre[index]
    dx, dy, dz = ways
    start = (cos * ox + sin * oy, cos * oy - sin * ox, oz)
    direction = (cos * dx + sin * dy, cos * dy - sin * dx, dz)
    o = [place / extent for place, extent in zip(start, half, strict=True)]
    d = [way / extent for way, extent in zip(direction, half, strict=True)]
    if solids.rounded[index]:
        return _enter_ball(o, d)
    return _enter_cube(o, d)


def _enter_cube(o: list[np.float32], d: list[Float]) -> Float:
    """Rays into the cube [-1, 1]^3."""
    enter, leave = np.float32(0), np.float32(np.inf)
    for start, way in zip(o, d, strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1 / np.where(way == 0, np.float32(1e-9), way)
        middle, reach = -start * inverse, np.abs(inverse)
        enter = np.maximum(enter, middle - reach)
        leave = np.minimum(leave, middle + reach)
    hit = (enter < leave) & (enter > _NEAR_M)
    depth: Float = np.where(hit, enter, np.float32(np.inf)).astype(np.float32)
    return depth


def _enter_ball(o: list[np.float32], d: list[Float]) -> Float:
    """Rays into the unit ball."""
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = np.float32(sum(float(start) ** 2 for start in o) - 1)
    root = b * b - a * c
    enter = (-b - np.sqrt(np.maximum(root, 0))) / a
    hit = (root > 0) & (enter > _NEAR_M)
    depth: Float = np.where(hit, enter, np.float32(np.inf)).astype(np.float32)
    return depth


def _rectangles(rays: Rays, solids: Solids) -> tuple[NDArray[np.int64], Float]:
    """Image rectangles (top, bottom, left, right) and nearest depth of every solid.

    Edges are clipped at the near plane, so a house beside the camera gets the rectangle of the
    part that is in front of it. A solid that is behind has an empty rectangle.
    """
    corners = _corners_in_camera(rays, solids)
    start, end = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
    z0, z1 = start[..., 2], end[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip((_NEAR_M - z0) / (z1 - z0), 0, 1)[..., None]
    share = np.nan_to_num(share)
    cut = start + share * (end - start)
    clipped0 = np.where((z0 < _NEAR_M)[..., None], cut, start)
    clipped1 = np.where((z1 < _NEAR_M)[..., None], cut, end)
    visible = (z0 >= _NEAR_M) | (z1 >= _NEAR_M)
    points = np.concatenate([clipped0, clipped1], axis=1)
    valid = np.concatenate([visible, visible], axis=1)

    camera = rays.camera
    pixels = points @ camera.intrinsics.T
    pixels = pixels[..., :2] / np.maximum(pixels[..., 2:], 1e-6)
    low = np.where(valid[..., None], pixels, np.inf).min(axis=1)
    high = np.where(valid[..., None], pixels, -np.inf).max(axis=1)
    size = np.array([camera.width, camera.height])
    low = np.floor(np.clip(low, 0, size)).astype(np.int64)
    high = np.ceil(np.clip(high + 1, 0, size)).astype(np.int64)
    rectangles = np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], axis=1)
    nearest = np.where(valid, points[..., 2], np.inf).min(axis=1).astype(np.float32)
    return rectangles, nearest


def _corners_in_camera(rays: Rays, solids: Solids) -> NDArray[np.float64]:
    """Corners of the boxes around all solids, ``[n, 8, 3]``."""
    local = _CORNERS * solids.half[:, None]
    cos, sin = solids.cos[:, None], solids.sin[:, None]
    x = cos * local[..., 0] - sin * local[..., 1]
    y = sin * local[..., 0] + cos * local[..., 1]
    ego = np.stack([x, y, local[..., 2]], axis=-1) + solids.centre[:, None]
    corners: NDArray[np.float64] = ego @ rays.to_camera[:3, :3].T + rays.to_camera[:3, 3]
    return corners
