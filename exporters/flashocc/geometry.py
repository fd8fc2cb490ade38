"""Which BEV cell each frustum point of each camera falls into: lift-splat geometry in numpy.

For depth bin value z and feature pixel (v, u) of one camera (FlashOcc, upstream commit 4084861)::

    (x, y)  = (linspace(0, W-1, fW)[u], linspace(0, H-1, fH)[v])       end points included
    p       = ((x + left) / s, (y + top) / s)                           undo crop and resize
    ego     = R K^-1 (p_x z, p_y z, z) + t                              (R, t): camera to key ego
    cell    = trunc((ego - low) / step)                                 toward zero, not floor

Two properties look like mistakes and are kept, because official weights were trained with them:
the frustum uses ``linspace`` end points instead of stride centres, and truncation toward zero
lets everything between -7.4 m and 5.4 m into the single height slab [-1 m, 5.4 m) (and the ring
of 0.4 m outside the low x and y borders into row and column 0).

All steps run in float32 like upstream, as separate multiplications and additions, so the tables
are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError
from exporters.flashocc.rig import Camera, Rig

Range = tuple[float, float, float]
"""Lower bound, upper bound (excluded) and step."""


@dataclass(frozen=True)
class Grid:
    """The BEV and occupancy grid, metres in the ego frame (x forward, y left, z up).

    Attributes:
        x, y: cells of the BEV map; its rows are y and its columns x.
        z_pool: the one height slab that is pooled.
        z_out: height slices of the occupancy output.
    """

    x: Range = (-40.0, 40.0, 0.4)
    y: Range = (-40.0, 40.0, 0.4)
    z_pool: Range = (-1.0, 5.4, 6.4)
    z_out: Range = (-1.0, 5.4, 0.4)

    def __post_init__(self) -> None:
        for name in ("x", "y", "z_pool", "z_out"):
            _check_range(getattr(self, name), f"grid {name}")
        if _count(self.z_pool) != 1:
            raise UserError(
                f"grid z_pool {list(self.z_pool)} has {_count(self.z_pool)} slabs, expected 1",
                fix="Pooling collapses height: let its step be upper minus lower bound",
            )

    @property
    def nx(self) -> int:
        return _count(self.x)

    @property
    def ny(self) -> int:
        return _count(self.y)

    @property
    def nz_out(self) -> int:
        return _count(self.z_out)

    @property
    def cells(self) -> int:
        return self.nx * self.ny

    def to_json(self) -> dict[str, list[float]]:
        names = ("x", "y", "z_pool", "z_out")
        return {name: list(getattr(self, name)) for name in names}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Grid:
        return cls(**{name: _range(value) for name, value in data.items()})


@dataclass(frozen=True)
class View:
    """What the network sees of a camera image.

    Attributes:
        image_size: height and width in pixels after resize and crop.
        stride: image pixels per feature pixel.
        depth: first bin, end (excluded) and step, metres.
        spacing: of the depth bins: ``linear``, or ``log``: as many bins between the first and one
            metre before the end, each farther from the last by the same factor.
    """

    image_size: tuple[int, int] = (256, 704)
    stride: int = 16
    depth: Range = (1.0, 45.0, 1.0)
    spacing: str = "linear"

    def __post_init__(self) -> None:
        _check_range(self.depth, "depth")
        if any(size <= 0 or size % self.stride for size in self.image_size):
            raise UserError(
                f"image size {list(self.image_size)} is not a multiple of the stride {self.stride}",
                fix=f"Choose height and width as multiples of {self.stride}",
            )

    @property
    def feature_size(self) -> tuple[int, int]:
        """Rows and columns of the feature map."""
        height, width = self.image_size
        return height // self.stride, width // self.stride

    @property
    def depth_bins(self) -> int:
        return _count(self.depth)

    @property
    def depth_values(self) -> NDArray[np.float32]:
        """Metres, float32 ``[depth_bins]``."""
        low, high, step = self.depth
        if self.spacing == "log":
            share = np.arange(self.depth_bins) / (self.depth_bins - 1)
            spread: NDArray[np.float64] = low * ((high - 1) / low) ** share
            return spread.astype(np.float32)
        return (low + step * np.arange(self.depth_bins)).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        return {
            "image_size": list(self.image_size),
            "stride": self.stride,
            "depth": list(self.depth),
            "spacing": self.spacing,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> View:
        height, width = data["image_size"]
        size = (int(height), int(width))
        spacing = data.get("spacing", "linear")
        return cls(size, int(data["stride"]), _range(data["depth"]), spacing)


def image_augmentation(camera_width: int, camera_height: int, view: View) -> tuple[float, int, int]:
    """How a camera image becomes the network's image: resize by ``scale``, then crop.

    The image is resized to the network's width and its lowest rows are kept, as upstream does at
    test time (1600x900 becomes 704x396, then rows 140 to 395).

    Returns:
        ``(scale, left, top)``, crop offsets in pixels of the resized image. ``top`` is negative
        for images flatter than the network's: rows above the image are black then.
    """
    height, width = view.image_size
    resized_height = camera_height * width // camera_width
    return width / camera_width, 0, resized_height - height


def sensor_to_key_ego(rig: Rig) -> NDArray[np.float32]:
    """Camera poses in the ego frame of camera 0 at *its* timestamp: float32 ``[N, 4, 4]``.

    ``inverse(ego2global[0]) @ ego2global[c] @ sensor2ego[c]`` compensates the motion between the
    cameras' shutters. Poses are read as float32 and multiplied as float64, like upstream.
    """
    ego2global = _stack(rig, "ego2global").astype(np.float64)
    sensor2ego = _stack(rig, "sensor2ego").astype(np.float64)
    poses: NDArray[np.float32] = (np.linalg.inv(ego2global[0]) @ ego2global @ sensor2ego).astype(
        np.float32
    )
    return poses


def ego_points(rig: Rig, view: View) -> NDArray[np.float32]:
    """Frustum points in the key ego frame, metres: float32 ``[N, D, fH, fW, 3]``."""
    poses = sensor_to_key_ego(rig)
    return np.stack(
        [
            _camera_points(camera, pose, view)
            for camera, pose in zip(rig.cameras, poses, strict=True)
        ]
    )


def cell_indices(rig: Rig, view: View, grid: Grid) -> NDArray[np.int32]:
    """The flat BEV cell ``y * nx + x`` of every frustum point, -1 where it is dropped.

    Returns:
        int32 ``[N, D, fH, fW]``: camera, depth bin, feature row, feature column.
    """
    points = ego_points(rig, view)
    x, kept_x = _trunc(points[..., 0], grid.x)
    y, kept_y = _trunc(points[..., 1], grid.y)
    _, kept_z = _trunc(points[..., 2], grid.z_pool)
    flat = y * np.float32(grid.nx) + x
    if grid.cells >= 1 << 24:  # float32 counts no further
        raise UserError(f"the grid has {grid.cells} cells, at most {(1 << 24) - 1} are supported")
    cells: NDArray[np.int32] = np.where(kept_x & kept_y & kept_z, flat, -1).astype(np.int32)
    return cells


def cells_moved(ours: NDArray[np.int32], theirs: NDArray[np.int32]) -> float:
    """Share of the frustum points used by either geometry that fall into different cells, 0 to 1.

    Both arrays are results of :func:`cell_indices` with the same view.
    """
    used = (ours >= 0) | (theirs >= 0)
    count = int(np.count_nonzero(used))
    return int(np.count_nonzero(ours != theirs)) / count if count else 0.0


def _camera_points(camera: Camera, pose: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    scale, left, top = image_augmentation(camera.width, camera.height, view)
    height, width = view.image_size
    rows, columns = view.feature_size
    inverse_scale = np.float32(1) / np.float32(scale)
    u = (np.linspace(0, width - 1, columns, dtype=np.float32) + np.float32(left)) * inverse_scale
    v = (np.linspace(0, height - 1, rows, dtype=np.float32) + np.float32(top)) * inverse_scale
    z = view.depth_values[:, None, None]
    x, y = u[None, None, :] * z, v[None, :, None] * z
    inverse = np.linalg.inv(camera.intrinsics.astype(np.float32).astype(np.float64))
    combined = _multiply(pose[:3, :3], inverse.astype(np.float32))
    axes = [
        combined[i, 0] * x + combined[i, 1] * y + combined[i, 2] * z + pose[i, 3] for i in range(3)
    ]
    return np.stack(axes, axis=-1)


def _multiply(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """3x3 product in float32 without BLAS, whose summation order depends on the machine."""
    product: NDArray[np.float32] = a[:, :1] * b[:1] + a[:, 1:2] * b[1:2] + a[:, 2:] * b[2:]
    return product


def _trunc(values: NDArray[np.float32], bounds: Range) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Cell numbers along one axis, truncated toward zero, and whether they lie in the grid."""
    low, _, step = (np.float32(bound) for bound in bounds)
    cell = np.trunc((values - low) / step)
    return cell, (cell >= 0) & (cell < _count(bounds))  # -0.0 >= 0 holds: (-1, 0) goes to cell 0


def _stack(rig: Rig, attribute: str) -> NDArray[np.float32]:
    return np.stack([getattr(camera, attribute) for camera in rig.cameras]).astype(np.float32)


def _count(bounds: Range) -> int:
    low, high, step = bounds
    return round((high - low) / step)


def _check_range(bounds: Range, name: str) -> None:
    low, high, step = bounds
    steps = (high - low) / step if step else 0.0
    if not (step > 0 and steps >= 0.5 and abs(steps - round(steps)) < 1e-6 * max(1.0, steps)):
        raise UserError(
            f"{name} {list(bounds)} is not [lower, upper, step] with a whole number of steps"
        )


def _range(value: Any) -> Range:
    low, high, step = (float(item) for item in value)
    return low, high, step
