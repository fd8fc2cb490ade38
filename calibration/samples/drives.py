"""Drives through the generated world: key frames with motion, all sensors, boxes and ids.

A drive is a street in which everything moves (`calibration.samples.world.motion`); the vehicle
takes a key frame every half second, at which its LiDAR ends a turn. Cameras fire while the turn
passes them, so each has a time and a pose of its own. Labels stand in the vehicle's frame at the
LiDAR's time, as those of Occ3D do.

Like the single frames of ``synthetic:COUNT`` all of it follows from a seed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Array
from calibration.samples.viewpoints import RAY_ORIGINS, ray_origins
from calibration.samples.world.layout import Scene, make_moving_scene
from calibration.samples.world.lidar import BEAMS_32, LidarModel, Scan, scan, traversed
from calibration.samples.world.motion import Motion
from calibration.samples.world.render import Hits, Rays, cast
from calibration.samples.world.shade import Painter, develop
from calibration.samples.world.shadows import ShadowMap
from calibration.samples.world.solids import Actor, Matrix, Solids
from calibration.samples.world.voxelize import DETECTED, NOTHING, Truth, Visibility, fill_voxels
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.flashocc.geometry import Grid
from exporters.flashocc.rig import CameraFrame, Rig

PERIOD_S = 0.5
"""Between key frames."""

_SEEN_M = 130.0
"""What is farther away is not drawn."""

_START_US = 1_500_000_000_000_000


def _lidar_pose() -> Matrix:
    """LIDAR_TOP as on nuScenes' cars: x to the right, y ahead."""
    pose = np.eye(4)
    pose[:3, :3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    pose[:3, 3] = 0.94, 0.0, 1.84
    return pose


@dataclass(frozen=True)
class Sensors:
    """What the vehicle carries.

    Attributes:
        rig: images are rendered at its cameras' own size.
        lidar2ego: 4x4.
        turn_s: of the LiDAR, which ends a turn at the key frame's time, looking back; cameras fire
            as it passes. 0 for cameras that fire at the key frame's time.
    """

    rig: Rig = field(default_factory=nuscenes_like_rig)
    lidar: LidarModel = BEAMS_32
    lidar2ego: Matrix = field(default_factory=_lidar_pose)
    turn_s: float = 0.05


@dataclass(frozen=True)
class Box:
    """A thing with a box at a key frame.

    Attributes:
        actor: in the vehicle's frame, metres; its velocity is that over ground.
        number: of the actor in its drive: its identity over time.
        points: LiDAR returns on it.
        visible: share of its voxels that some camera sees, 0 to 1; 0 for none in the grid.
    """

    actor: Actor
    number: int
    points: int
    visible: float


@dataclass(frozen=True)
class KeyFrame:
    """All that sensors and annotators give at one moment.

    Attributes:
        name: unique among all drives.
        drive: name of the drive.
        timestamp_us: of the LiDAR; microseconds.
        cameras: images, the rig with ``ego2global`` at each camera's own time, and labels
            ``semantics``, ``mask_camera``, ``mask_lidar``, ``instances`` (uint8) and
            ``ray_origins``.
        camera_times_us: of each camera, in the rig's order.
        ego2global: 4x4 at the LiDAR's time.
        scan: in the LiDAR's frame.
        boxes: of classes that detectors know.
    """

    name: str
    drive: str
    timestamp_us: int
    cameras: CameraFrame
    camera_times_us: tuple[int, ...]
    ego2global: Matrix
    scan: Scan
    boxes: tuple[Box, ...]


class Drive:
    """Drive ``index`` of the world ``seed``.

    Args:
        frames: number of key frames, half a second apart.
        grid: of the labels.
        images: False leaves images black and ``mask_camera`` empty, for LiDAR alone.
    """

    def __init__(
        self,
        seed: int,
        index: int,
        frames: int,
        sensors: Sensors | None = None,
        grid: Grid | None = None,
        *,
        images: bool = True,
    ) -> None:
        self.seed, self.index, self.frames, self.images = seed, index, frames, images
        self.sensors, self.grid = sensors or Sensors(), grid or Grid()
        self.name = f"drive-{seed}-{index:03d}"

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[KeyFrame]:
        return (self.key_frame(number) for number in range(self.frames))

    def key_frame(self, number: int) -> KeyFrame:
        """Key frame ``number``, from 0."""
        seconds = number * PERIOD_S
        now = self.scene_at(seconds)
        ego = self.ego_at(seconds)
        truth = fill_voxels(now, self.grid, ego)
        turn = scan(
            now,
            now.solids,
            self.sensors.lidar,
            ego @ self.sensors.lidar2ego,
            np.random.default_rng([self.seed, self.index, number, 1]),
        )
        offsets = [self._offset(camera.sensor2ego) for camera in self.sensors.rig.cameras]
        rig = self._rig(seconds, offsets)
        past = tuple(self._rig(PERIOD_S * then, offsets) for then in range(number - 1, -1, -1))
        images, seen = self._look(number, seconds, offsets, ego, truth.semantics, now)
        labels: dict[str, Array] = {
            "semantics": truth.semantics,
            "mask_camera": seen,
            "mask_lidar": self._lidar_mask(turn),
            "instances": truth.instances(self._scene.actors),
            RAY_ORIGINS: self._origins(number),
        }
        name = f"{self.name}-{number:02d}"
        start = _START_US + self.index * 1_000_000_000
        times = [start + round(1e6 * (seconds + offset)) for offset in offsets]
        return KeyFrame(
            name=name,
            drive=self.name,
            timestamp_us=start + round(1e6 * seconds),
            cameras=CameraFrame(name, rig, images, labels, past),
            camera_times_us=tuple(times),
            ego2global=self._global @ ego,
            scan=turn,
            boxes=tuple(self._boxes(seconds, ego, truth, seen, turn, now.solids)),
        )

    @cached_property
    def _start(self) -> tuple[Scene, Motion]:
        return make_moving_scene(self.seed, self.index, self.frames * PERIOD_S)

    @property
    def _scene(self) -> Scene:
        return self._start[0]

    @cached_property
    def _global(self) -> Matrix:
        """4x4, where the start stands in the world."""
        rng = np.random.default_rng([self.seed, self.index, 3])
        yaw, pose = rng.uniform(-math.pi, math.pi), np.eye(4)
        pose[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
        pose[:2, 3] = rng.uniform(200, 2000, 2)
        return pose

    def ego_at(self, seconds: float) -> Matrix:
        """4x4, where the vehicle stands in the scene."""
        return self._start[1].pose(seconds, self._scene.ground.heading)

    def scene_at(self, seconds: float) -> Scene:
        """The scene as it stands then, what is far away left out."""
        speeds = np.array([actor.velocity for actor in self._scene.actors], np.float32)
        solids = self._scene.solids.after(speeds * np.float32(seconds))
        place = self.ego_at(seconds)[:2, 3]
        near = np.hypot(*(solids.centre[:, :2] - place).T) < _SEEN_M
        return dataclasses.replace(self._scene, solids=solids[near])

    def _offset(self, sensor2ego: Matrix) -> float:
        """When the turn passes a camera's axis, seconds before the key frame."""
        yaw = math.atan2(sensor2ego[1, 2], sensor2ego[0, 2])  # the camera looks along its z
        return -self.sensors.turn_s * (((yaw - math.pi) / (2 * math.pi)) % 1.0)

    def _rig(self, seconds: float, offsets: Sequence[float]) -> Rig:
        """With the pose of each camera at its own time."""
        cameras = (
            dataclasses.replace(camera, ego2global=self._global @ self.ego_at(seconds + offset))
            for camera, offset in zip(self.sensors.rig.cameras, offsets, strict=True)
        )
        return Rig(tuple(cameras))

    def _look(
        self,
        number: int,
        seconds: float,
        offsets: Sequence[float],
        ego: Matrix,
        labels: NDArray[np.uint8],
        now: Scene,
    ) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.uint8]]:
        """Images by camera, and the voxels that they show."""
        rig = self.sensors.rig
        if not self.images:
            black = {c.name: np.zeros((c.height, c.width, 3), np.uint8) for c in rig.cameras}
            return black, np.zeros_like(labels)
        middle = (float(ego[0, 3]), float(ego[1, 3]))
        shadows = ShadowMap.of(now.solids, now.light.sun, middle)
        images, hits, views = {}, [], []
        for place, (camera, offset) in enumerate(zip(rig.cameras, offsets, strict=True)):
            scene = self.scene_at(seconds + offset)
            pose = self.ego_at(seconds + offset) @ camera.sensor2ego
            rays = Rays.of(camera, pose)
            hit: Hits = cast(rays, scene.solids)
            grain = np.random.default_rng([self.seed, self.index, number, 2, place])
            images[camera.name] = develop(Painter(scene, shadows).paint(rays, hit), grain)
            hits.append(hit)
            back: Matrix = rays.to_camera @ ego
            views.append(dataclasses.replace(rays, to_camera=back))
        return images, Visibility(views, self.grid).mask(hits, labels)

    def _lidar_mask(self, turn: Scan) -> NDArray[np.uint8]:
        mount = self.sensors.lidar2ego.astype(np.float32)
        places = turn.points[:, :3] @ mount[:3, :3].T + mount[:3, 3]
        return traversed(places, mount[:3, 3], self.grid)

    def _origins(self, number: int) -> NDArray[np.float64]:
        poses = [self._global @ self.ego_at(PERIOD_S * k) for k in range(self.frames)]
        lidars = np.stack(poses) @ self.sensors.lidar2ego
        return ray_origins(self.sensors.lidar2ego, lidars, number)

    def _boxes(
        self,
        seconds: float,
        ego: Matrix,
        truth: Truth,
        seen: NDArray[np.uint8],
        turn: Scan,
        solids: Solids,
    ) -> Iterator[Box]:
        count = len(self._scene.actors)
        hit = np.bincount(solids.actor[turn.solid[turn.solid >= 0]], minlength=count)
        taken = truth.actor != NOTHING
        voxels = np.bincount(truth.actor[taken], minlength=count)
        shown = np.bincount(truth.actor[taken & (seen == 1)], minlength=count)
        for number, actor in enumerate(self._scene.actors):
            if actor.label not in DETECTED:
                continue
            placed = actor.seen_from(ego, seconds)
            if math.hypot(*placed.centre[:2]) < self.sensors.lidar.reach_m:
                share = float(shown[number] / voxels[number]) if voxels[number] else 0.0
                yield Box(placed, number, int(hit[number]), share)
