"""What a data set gives at one moment, and how a model's inputs are filled from it.

A reader (image folder, KITTI, nuScenes) gives `SensorFrame`s; the description of each input says
what it takes of one. Models that take surround cameras with their rig are filled by their own
family instead (`calibration.samples.frames`).

Labels that travel with samples, under ``label.`` and in the LiDAR frame (x ahead for KITTI, to the
right for nuScenes; z up):

| key | value |
|---|---|
| ``boxes`` | float32 ``[n, 7]``: centre x, y, z, length, width, height in metres; yaw, x to y |
| ``box_names`` | the data set's own class names, unicode ``[n]`` |
| ``box_points``, ``box_radar_points`` | int32 ``[n]``: returns on each box (nuScenes) |
| ``box_velocity`` | float32 ``[n, 2]``: over ground, in x and y, m/s; 0 if not known (nuScenes) |
| ``box_velocity_known`` | bool ``[n]`` (nuScenes) |
| ``box_attributes`` | unicode ``[n]``: ``vehicle.moving``; empty for none (nuScenes) |
| ``box_pixels`` | float32 ``[n, 4]``: left, top, right, bottom in ``image_2`` (KITTI) |
| ``truncation``, ``occlusion`` | float32 0 to 1, int32 0 to 3, ``[n]`` (KITTI) |
| ``alpha`` | float32 ``[n]``: yaw as seen along the camera's ray (KITTI) |
| ``lidar2camera``, ``projection`` | float64 ``[4, 4]``, ``[3, 4]``: to metres, to pixels (KITTI) |
| ``image_size`` | int32 ``[2]``: width, height of ``image_2`` (KITTI) |
| ``lidar2ego`` | float64 ``[4, 4]`` (nuScenes) |
| ``ignored_pixels`` | float32 ``[m, 4]``: DontCare areas (KITTI) |
| ``semantics``, ``mask_camera``, ``mask_lidar`` | uint8, Occ3D where it lies beside nuScenes |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import LABEL_PREFIX, Array
from calibration.samples.pictures import IMAGE, picture_input
from calibration.samples.points import POINT_COUNT, POINTS, PointCloud, filled, rows_of
from exporters.clouds import intensities, intensity_problem, require_pillars
from exporters.errors import UserError
from exporters.modelfile import InputSpec, ModelSpec
from exporters.spans import COPIES, DECODE, span


@dataclass(frozen=True)
class SensorFrame:
    """One moment; sensors are read when an input asks for them.

    Attributes:
        image: camera name, or None for the source's first camera, to uint8 RGB ``[h, w, 3]``.
        points: the LiDAR's scan.
        labels: without the prefix.
    """

    name: str
    image: Callable[[str | None], NDArray[np.uint8]] | None = None
    points: Callable[[], PointCloud] | None = None
    labels: Mapping[str, Array] = field(default_factory=dict)


def sample_of(frame: SensorFrame, spec: ModelSpec) -> dict[str, Array]:
    """Inputs and labels.

    Raises:
        UserError: an input takes what the source does not have, or is not described; points lie in
            too many pillars, or have intensities of another scale.
    """
    sample = {LABEL_PREFIX + name: value for name, value in frame.labels.items()}
    rows: NDArray[np.float32] | None = None
    for item in spec.inputs:
        if item.semantics == POINTS:
            with span(DECODE):
                rows = rows_of(_scan(frame, item), item)
            _require_scale(rows, item, frame)
            require_pillars(rows, item)
            with span(COPIES):
                sample[item.name] = filled(rows, item)
        elif item.semantics == IMAGE:
            sample[item.name] = picture_input(_picture(frame, item), item)
    for item in spec.inputs:
        if item.semantics == POINT_COUNT and rows is not None:
            sample[item.name] = np.full(_sizes(item), len(rows), item.dtype)
        elif item.name not in sample:
            raise UserError(
                f"input {item.name!r} ({item.semantics}) cannot be filled from {frame.name}",
                fix="Describe it with --describe FILE, or give samples as .npz files",
            )
    return sample


def _scan(frame: SensorFrame, item: InputSpec) -> PointCloud:
    if frame.points is None:
        raise UserError(
            f"input {item.name!r} takes points, {frame.name} has none",
            fix="Give a KITTI or nuScenes root, or .npz files",
        )
    return frame.points()


def _require_scale(rows: NDArray[np.float32], item: InputSpec, frame: SensorFrame) -> None:
    """A file of points does not say on which scale its intensities are."""
    seen = intensities(rows, item)
    if not len(seen):
        return
    problem = intensity_problem(float(seen.min()), float(seen.max()), len(seen), item)
    if problem:
        raise UserError(
            f"{frame.name}: {problem}", fix="The files are on another scale than their format has"
        )


def _picture(frame: SensorFrame, item: InputSpec) -> NDArray[np.uint8]:
    if frame.image is None:
        raise UserError(
            f"input {item.name!r} takes an image, {frame.name} has none",
            fix="Give a folder with images, or .npz files",
        )
    return frame.image(item.details.get("camera"))


def _sizes(item: InputSpec) -> tuple[int, ...]:
    return tuple(1 if isinstance(size, str) else size for size in item.shape)
