"""Key frames of generated drives as samples, for the inputs of any model that takes sensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from calibration.samples.base import Array
from calibration.samples.drives import Box, Drive, KeyFrame, Sensors
from calibration.samples.frames import FrameSamples
from calibration.samples.lazy import LazySamples
from calibration.samples.nuscenes_writing import attribute_of
from calibration.samples.points import COLUMNS, PointCloud
from calibration.samples.sensors import SensorFrame, sample_of
from calibration.samples.synthetic import WORLD_VERSION, numbered, stage_rig
from calibration.samples.world.solids import Label, Matrix
from exporters.flashocc.geometry import Grid
from exporters.flashocc.rig import CameraFrame
from exporters.modelfile import ModelSpec


def sensor_frame(frame: KeyFrame, lidar2ego: Matrix) -> SensorFrame:
    """A key frame for models that take single images or points; boxes in the LiDAR's frame."""
    first = frame.cameras.rig.names[0]
    return SensorFrame(
        frame.name,
        image=lambda camera: frame.cameras.images[camera or first],
        points=lambda: PointCloud(frame.scan.points, COLUMNS, 255.0),
        labels={
            **frame.cameras.labels,
            **lidar_boxes(frame.boxes, lidar2ego),
            "lidar2ego": lidar2ego,
        },
    )


def lidar_boxes(boxes: Sequence[Box], lidar2ego: Matrix) -> dict[str, Array]:
    """Labels of boxes as nuScenes has them; see `calibration.samples.sensors`."""
    placed = [box.actor.seen_from(lidar2ego) for box in boxes]
    rows = [(*actor.centre, *actor.size, actor.yaw) for actor in placed]
    return {
        "boxes": np.array(rows, np.float32).reshape(-1, 7),
        "box_names": np.array([Label(actor.label).name for actor in placed], "U64"),
        "box_points": np.array([box.points for box in boxes], np.int32),
        "box_velocity": np.array([actor.velocity for actor in placed], np.float32).reshape(-1, 2),
        "box_velocity_known": np.ones(len(placed), bool),
        "box_attributes": np.array([attribute_of(actor) for actor in placed], "U32"),
    }


def open_drives(
    drives: int, frames: int, seed: int, spec: ModelSpec | None, *, camera_size: bool = False
) -> LazySamples:
    """Key frames of ``drives`` drives in order of time; every drive is a scene.

    Raises:
        UserError: the model takes something else.
    """
    places = [(drive, number) for drive in range(drives) for number in range(frames)]
    names = [f"drive-{seed}-{drive:03d}-{number:02d}" for drive, number in places]
    scenes = [f"drive-{seed}-{drive:03d}" for drive, _ in places]
    cameras = spec is not None and any(i.semantics == "camera-images" for i in spec.inputs)

    @lru_cache(maxsize=1)
    def drive(index: int) -> Drive:
        assert spec is not None  # both kinds of samples refuse to exist without
        if not cameras:
            return Drive(seed, index, frames)
        rig = stage_rig(spec, camera_size=camera_size)
        return Drive(seed, index, frames, Sensors(rig), Grid.from_json(spec.geometry["grid"]))

    def identity(index: int) -> dict[str, int]:
        where = dict(zip(("drive", "frame"), places[index], strict=True))
        size = {"camera_size": 1} if camera_size else {}
        return {"world": WORLD_VERSION, "seed": seed, "frames": frames, **where, **size}

    def key_frame(index: int) -> KeyFrame:
        where, number = places[index]
        return drive(where).key_frame(number)

    def camera_frame(index: int) -> CameraFrame:
        assert spec is not None
        frame = key_frame(index).cameras
        return dataclasses.replace(frame, labels=numbered(frame.labels, spec.classes))

    if cameras or spec is None:
        return FrameSamples(names, camera_frame, identity, spec, scenes)
    mount = Sensors().lidar2ego

    def single(index: int) -> dict[str, Array]:
        return sample_of(sensor_frame(key_frame(index), mount), spec)

    return LazySamples(names, single, identity, spec, scenes)
