"""Ground truth that travels with samples, and a model's boxes, as KITTI and nuScenes judge them.

Both are in the LiDAR frame (`calibration.samples.sensors` has the labels). For KITTI they go to the
camera: rotation_y = -yaw - pi/2, a box stands on its bottom, alpha = rotation_y - atan2(-y, x) of
the LiDAR frame, and the image box of a found one is around its eight projected corners. For
nuScenes they go to the vehicle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.boxes.kitti_objects import KittiObjects
from deploy.metrics.boxes.nuscenes_matching import RACK, NuScenesObjects
from exporters.errors import UserError

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Float = NDArray[np.float64]

KITTI_LABELS = (
    "boxes",
    "box_names",
    "box_pixels",
    "truncation",
    "occlusion",
    "alpha",
    "ignored_pixels",
    "lidar2camera",
    "projection",
    "image_size",
)
NUSCENES_LABELS = ("boxes", "box_names", "box_points", "lidar2ego")

_BOX = ("x", "y", "z", "length", "width", "height", "yaw")
_NEAREST_M = 0.1  # corners behind the camera are projected as if so far before it

_CATEGORIES = {
    "movable_object.barrier": "barrier",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
    "static_object.bicycle_rack": RACK,
}
_ATTRIBUTES = {  # of what stands, and of what drives faster than _DRIVES_M_S
    "car": ("vehicle.parked", "vehicle.moving"),
    "truck": ("vehicle.parked", "vehicle.moving"),
    "trailer": ("vehicle.parked", "vehicle.moving"),
    "construction_vehicle": ("vehicle.parked", "vehicle.moving"),
    "bus": ("vehicle.stopped", "vehicle.moving"),
    "bicycle": ("cycle.without_rider", "cycle.with_rider"),
    "motorcycle": ("cycle.without_rider", "cycle.with_rider"),
    "pedestrian": ("pedestrian.moving", "pedestrian.moving"),
}
_DRIVES_M_S = 0.2


@dataclass(frozen=True)
class FoundBoxes:
    """A model's boxes of one sample in the LiDAR frame.

    Attributes:
        names: of the model's classes, ``[n]``.
        boxes: ``[n, 7]``, centre, length, width, height, yaw.
        velocity: ``[n, 2]``; NaN where the model has none.
        scores: ``[n]``.
    """

    names: tuple[str, ...]
    boxes: Float
    velocity: Float
    scores: Float

    @classmethod
    def of_rows(cls, rows: Array, columns: Sequence[str], classes: Sequence[str]) -> FoundBoxes:
        """From an output ``[k, columns]``, or with a 1 before; rows without a class are no boxes.

        Raises:
            UserError: the output lacks a column.
        """
        absent = [name for name in (*_BOX, "score", "class") if name not in columns]
        if absent:
            raise UserError(
                f"the boxes have no columns {', '.join(absent)} (they have {', '.join(columns)})",
                fix="Export the model with edgeport, or name your own --metric module:function",
            )
        table = np.asarray(rows, np.float64).reshape(-1, len(columns))
        at = {name: index for index, name in enumerate(columns)}
        table = table[(table[:, at["class"]] >= 0) & (table[:, at["score"]] > 0)]
        velocity = np.full((len(table), 2), np.nan)
        if {"vx", "vy"} <= at.keys():
            velocity = table[:, [at["vx"], at["vy"]]]
        return cls(
            names=tuple(classes[int(index)] for index in table[:, at["class"]]),
            boxes=table[:, [at[name] for name in _BOX]],
            velocity=velocity,
            scores=table[:, at["score"]],
        )


def kitti_truth(labels: Arrays) -> KittiObjects:
    """Ground truth of a sample.

    Raises:
        UserError: a label is not there.
    """
    _require(labels, KITTI_LABELS, "KITTI")
    boxes = labels["boxes"].astype(np.float64)
    places, rotation = _to_camera(boxes, labels)
    return KittiObjects(
        names=tuple(str(name) for name in labels["box_names"]),
        pixels=labels["box_pixels"].astype(np.float64),
        sizes=boxes[:, [5, 4, 3]],
        places=places,
        rotation=rotation,
        alpha=labels["alpha"].astype(np.float64),
        truncation=labels["truncation"].astype(np.float64),
        occlusion=labels["occlusion"].astype(np.float64),
        ignored_pixels=labels["ignored_pixels"].astype(np.float64),
    )


def kitti_found(found: FoundBoxes, labels: Arrays) -> KittiObjects:
    """A model's boxes, with the calibration of the sample."""
    boxes = found.boxes
    places, rotation = _to_camera(boxes, labels)
    return KittiObjects(
        names=found.names,
        pixels=_image_boxes(boxes, labels),
        sizes=boxes[:, [5, 4, 3]],
        places=places,
        rotation=rotation,
        alpha=rotation - np.arctan2(-boxes[:, 1], boxes[:, 0]),
        scores=found.scores,
    )


def nuscenes_truth(labels: Arrays) -> NuScenesObjects:
    """Ground truth of a sample; velocities and attributes where it knows them.

    Raises:
        UserError: a label is not there.
    """
    _require(labels, NUSCENES_LABELS, "nuScenes")
    count = len(labels["boxes"])
    velocity = np.array(labels.get("box_velocity", np.full((count, 2), np.nan)), np.float64)
    velocity[~labels.get("box_velocity_known", np.ones(count, bool))] = np.nan
    boxes, turned = _to_vehicle(labels["boxes"], velocity, labels)
    return NuScenesObjects(
        names=tuple(_detection_name(str(name)) for name in labels["box_names"]),
        boxes=boxes,
        velocity=turned,
        attributes=tuple(str(name) for name in labels.get("box_attributes", [""] * count)),
        points=labels["box_points"] + labels.get("box_radar_points", np.zeros(count)),
    )


def nuscenes_found(found: FoundBoxes, labels: Arrays) -> NuScenesObjects:
    """A model's boxes; attributes follow from class and speed, as detectors without them do."""
    boxes, velocity = _to_vehicle(found.boxes, found.velocity, labels)
    fast = np.linalg.norm(velocity, axis=1) > _DRIVES_M_S
    attributes = [
        _ATTRIBUTES.get(name, ("", ""))[int(moving)]
        for name, moving in zip(found.names, fast, strict=True)
    ]
    return NuScenesObjects(found.names, boxes, velocity, tuple(attributes), found.scores)


def _require(labels: Arrays, needed: Sequence[str], data_set: str) -> None:
    absent = [name for name in needed if name not in labels]
    if absent:
        raise UserError(
            f"the sample has no ground truth {', '.join(absent)} "
            f"(it has {sorted(labels) or 'none'})",
            fix=f"Give samples of {data_set}: this metric is judged by its rules",
        )


def _to_camera(boxes: Float, labels: Arrays) -> tuple[Float, Float]:
    """Middle of the bottom, and rotation_y."""
    centres = np.c_[boxes[:, :3], np.ones(len(boxes))] @ labels["lidar2camera"].T
    places = centres[:, :3]
    places[:, 1] += boxes[:, 5] / 2
    return places, -boxes[:, 6] - np.pi / 2


def _image_boxes(boxes: Float, labels: Arrays) -> Float:
    """Around the projected corners, inside of the image: ``[n, 4]``."""
    signs = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing="ij"), axis=-1).reshape(8, 3)
    places, rotation = _to_camera(boxes, labels)
    along, up, across = (
        signs[None, :, k] * boxes[:, 3 + j, None] for k, j in ((0, 0), (1, 2), (2, 1))
    )
    cos, sin = np.cos(rotation)[:, None], np.sin(rotation)[:, None]
    x = places[:, None, 0] + cos * along + sin * across
    y = places[:, None, 1] - boxes[:, None, 5] / 2 + up
    z = np.maximum(places[:, None, 2] - sin * along + cos * across, _NEAREST_M)
    pixels = np.stack([x, y, z, np.ones_like(x)], axis=-1) @ labels["projection"].T
    corners = pixels[..., :2] / pixels[..., 2:]
    limit = labels["image_size"] - 1
    low, high = (np.clip(c, 0, limit) for c in (corners.min(axis=1), corners.max(axis=1)))
    around: Float = np.concatenate([low, high], axis=1)
    return around


def _to_vehicle(boxes: Array, velocity: Array, labels: Arrays) -> tuple[Float, Float]:
    mount = labels["lidar2ego"].astype(np.float64)
    moved = boxes.astype(np.float64)
    moved[:, :3] = moved[:, :3] @ mount[:3, :3].T + mount[:3, 3]
    moved[:, 6] += np.arctan2(mount[1, 0], mount[0, 0])
    return moved, velocity @ mount[:2, :2].T


def _detection_name(category: str) -> str:
    """The class that a category of the tables is judged as; itself where it is none."""
    if category.startswith("vehicle.bus."):
        category = "vehicle.bus"
    return _CATEGORIES.get(category, category)
