"""LiDAR turns of generated drives as training data, scanned once and kept as arrays.

    CACHE/<key>/00017.npz   points, owner, boxes, ahead

Three of four drives carry KITTI's sensor, cropped to what its camera sees as that data set's frames
are; the fourth carries nuScenes', whole. No image is rendered: a turn takes a tenth of a second.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.drives import PERIOD_S, Drive, Sensors
from calibration.samples.kitti import IMAGE_SIZE, KittiCalibration
from calibration.samples.kitti_writing import TYPES, kitti_sensors
from calibration.samples.synthetic import WORLD_VERSION
from calibration.samples.world.lidar import scan
from calibration.samples.world.solids import Label
from exporters.files import written_atomically

Array = NDArray[Any]

FRAMES = 4
"""Of a drive, half a second apart."""

_OTHER_SENSOR = 4  # every so many drives
_NOBODY = -1


@dataclass(frozen=True)
class Clouds:
    """``count`` turns of drives through the world ``seed``.

    Attributes:
        cache: folder that turns are kept in.
        classes: KITTI's names of what has boxes, in the network's order.
    """

    cache: Path
    classes: tuple[str, ...]
    seed: int
    count: int

    @property
    def folder(self) -> Path:
        told = {"world": WORLD_VERSION, "seed": self.seed, "classes": self.classes, "layout": 1}
        key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
        return self.cache / f"clouds-{self.seed}-{key}"

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> Path:
        return self.folder / f"{index:05d}.npz"

    def __getitem__(self, index: int) -> dict[str, Array]:
        """One turn.

        Returns:
            ``points`` float32 ``[n, 4]``: x, y, z in the LiDAR's frame, intensity 0 to 1; ``owner``
            int16 ``[n]``: row of the box that a point is of, or -1; ``boxes`` float32 ``[m, 8]``:
            class, centre, length, width, height, yaw; ``ahead``: whether only what a camera ahead
            sees is there.
        """
        with np.load(self.path(index)) as file:
            return dict(file)

    def scan(self, workers: int = 1) -> None:
        """Scan what the cache lacks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = [index for index in range(self.count) if not self.path(index).is_file()]
        drives = sorted({index // FRAMES for index in missing})
        if workers == 1:
            for drive in drives:
                _scan(self, drive)
            return
        with ProcessPoolExecutor(workers) as pool:
            for future in [pool.submit(_scan, self, drive) for drive in drives]:
                future.result()


def _scan(clouds: Clouds, index: int) -> None:
    other = index % _OTHER_SENSOR == _OTHER_SENSOR - 1
    sensors = Sensors() if other else kitti_sensors()
    drive = Drive(clouds.seed, index, FRAMES, sensors, images=False)
    for number in range(FRAMES):
        place = clouds.path(index * FRAMES + number)
        if place.is_file():
            continue
        arrays = turn_of(drive, number, clouds.classes)
        arrays["ahead"] = np.array(not other)
        if not other:
            seen = _calibration(sensors).seen(arrays["points"], IMAGE_SIZE)
            arrays |= {"points": arrays["points"][seen], "owner": arrays["owner"][seen]}
        with written_atomically(place) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def turn_of(drive: Drive, number: int, classes: Sequence[str]) -> dict[str, Array]:
    """``points``, ``owner`` and ``boxes`` of a whole turn; see `Clouds`."""
    seconds = number * PERIOD_S
    now, ego, mount = drive.scene_at(seconds), drive.ego_at(seconds), drive.sensors.lidar2ego
    noise = np.random.default_rng([drive.seed, drive.index, number, 1])
    turn = scan(now, now.solids, drive.sensors.lidar, ego @ mount, noise)
    boxes: list[tuple[float, ...]] = []
    row_of = np.full(len(now.actors) + 1, _NOBODY, np.int16)
    for row, actor in enumerate(now.actors):
        name = TYPES.get(Label(actor.label))
        if name not in classes:
            continue
        placed = actor.seen_from(ego, seconds).seen_from(mount)
        row_of[row] = len(boxes)
        boxes.append((classes.index(name), *placed.centre, *placed.size, placed.yaw))
    actors = np.where(turn.solid >= 0, now.solids.actor[turn.solid], _NOBODY)
    return {
        "points": turn.points[:, :4] / np.array([1, 1, 1, 255], np.float32),
        "owner": row_of[actors],
        "boxes": np.array(boxes, np.float32).reshape(-1, 8),
    }


def returns_of(turn: Mapping[str, Array]) -> NDArray[np.int64]:
    """Points on each box, ``[m]``."""
    owner = turn["owner"]
    counts: NDArray[np.int64] = np.bincount(owner[owner >= 0], minlength=len(turn["boxes"]))
    return counts


def _calibration(sensors: Sensors) -> KittiCalibration:
    camera = sensors.rig.cameras[0]
    projection = np.c_[camera.intrinsics, np.zeros(3)]
    return KittiCalibration(np.linalg.inv(camera.sensor2ego) @ sensors.lidar2ego, projection)
