"""Generated drives in the format of the KITTI object data set.

    ROOT/training/velodyne/000000.bin  image_2/000000.png  calib/000000.txt  label_2/000000.txt
    ROOT/mapping/train_mapping.txt  train_rand.txt          from which drive a frame is

One camera that looks ahead and a LiDAR of 64 beams, both at one moment. A line of ``label_2`` is a
thing that the image shows: buses, trailers, motorcycles and construction vehicles are ``Misc``, as
KITTI has no name for them; cones and barriers are none. Occlusion is 0 where at least nine tenths
of a thing's pixels are not hidden by others, 1 from a half on, 2 below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from calibration.samples.drives import PERIOD_S, Box, Drive, KeyFrame, Sensors
from calibration.samples.kitti import CALIBRATION, IMAGES, LABELS, SCANS
from calibration.samples.nuscenes_writing import require_empty
from calibration.samples.world.lidar import BEAMS_64
from calibration.samples.world.render import Rays, cast
from calibration.samples.world.solids import Actor, Label, Matrix
from exporters.flashocc.rig import Camera, Rig

TYPES: Mapping[Label, str] = {
    Label.car: "Car",
    Label.truck: "Truck",
    Label.bus: "Misc",
    Label.trailer: "Misc",
    Label.construction_vehicle: "Misc",
    Label.motorcycle: "Misc",
    Label.bicycle: "Cyclist",
    Label.pedestrian: "Pedestrian",
}

_LEAST_PIXELS = 20
_NEAR_M = 1.0
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float) / 2


def kitti_sensors() -> Sensors:
    """A camera and a LiDAR in the places and of the sizes that KITTI's have, in round numbers."""
    pose, mount = np.eye(4), np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    pose[:3, 3] = 0.27, 0.0, 1.65
    mount[:3, 3] = 0.0, 0.0, 1.73
    intrinsics = np.array([[721.5, 0.0, 609.5], [0.0, 721.5, 172.9], [0.0, 0.0, 1.0]])
    camera = Camera("image_2", 1242, 375, intrinsics, pose, np.eye(4))
    return Sensors(Rig((camera,)), BEAMS_64, mount, turn_s=0.0)


def write_kitti(
    drives: Sequence[Drive], root: Path, progress: Callable[[str, int, int], None] | None = None
) -> Path:
    """Write drives with `kitti_sensors` as a data set under ``root``: a new or an empty folder.

    Drives without images give none, and all the rest.

    Raises:
        UserError: something lies there.
    """
    require_empty(root)
    total = sum(len(drive) for drive in drives)
    lines: list[str] = []
    for name in (SCANS, IMAGES, CALIBRATION, LABELS):
        (root / "training" / name).mkdir(parents=True)
    for drive in drives:
        for number, frame in enumerate(drive):
            _write_frame(root / "training", f"{len(lines):06d}", drive, number, frame)
            lines.append(f"generated {drive.name} {number:010d}")
            if progress:
                progress("write", len(lines), total)
    mapping = root / "mapping"
    mapping.mkdir()
    (mapping / "train_mapping.txt").write_text("\n".join(lines) + "\n")
    (mapping / "train_rand.txt").write_text(",".join(str(i + 1) for i in range(total)) + "\n")
    return root


def _write_frame(root: Path, stem: str, drive: Drive, number: int, frame: KeyFrame) -> None:
    from PIL import Image

    camera = frame.cameras.rig.cameras[0]
    points = frame.scan.points[:, :4] / np.array([1, 1, 1, 255], np.float32)
    points.astype("<f4").tofile(root / SCANS / f"{stem}.bin")
    if drive.images:
        Image.fromarray(frame.cameras.images[camera.name]).save(root / IMAGES / f"{stem}.png")
    calibration = calibration_text(camera, drive.sensors.lidar2ego)
    (root / CALIBRATION / f"{stem}.txt").write_text(calibration)
    rows = label_rows(drive, number, frame.boxes, camera)
    (root / LABELS / f"{stem}.txt").write_text("".join(f"{row}\n" for row in rows))


def calibration_text(camera: Camera, lidar2ego: Matrix) -> str:
    """A file of ``calib``: four equal cameras, rectified already."""
    project = np.c_[camera.intrinsics, np.zeros(3)]
    mount = np.linalg.inv(camera.sensor2ego) @ lidar2ego
    entries = {
        **{f"P{index}": project for index in range(4)},
        "R0_rect": np.eye(3),
        "Tr_velo_to_cam": mount[:3],
        "Tr_imu_to_velo": np.eye(4)[:3],
    }
    return "".join(
        f"{name}: {' '.join(f'{value:.12e}' for value in matrix.ravel())}\n"
        for name, matrix in entries.items()
    )


def label_rows(drive: Drive, number: int, boxes: Sequence[Box], camera: Camera) -> list[str]:
    """Lines of ``label_2`` of the things that the image shows, in the order of ``boxes``."""
    things = [box for box in boxes if box.actor.label in TYPES]
    pixels = shown_pixels(drive, number, camera, [box.number for box in things])
    rows = []
    for box, (shown, alone) in zip(things, pixels, strict=True):
        row = _row(box.actor, camera, shown / alone) if shown >= _LEAST_PIXELS else None
        if row is not None:
            rows.append(row)
    return rows


def shown_pixels(
    drive: Drive, number: int, camera: Camera, actors: Sequence[int]
) -> list[tuple[int, int]]:
    """Pixels that an image shows of each actor, and how many it would show of it alone."""
    seconds = number * PERIOD_S
    solids = drive.scene_at(seconds).solids
    rays = Rays.of(camera, drive.ego_at(seconds) @ camera.sensor2ego)
    hits = cast(rays, solids).solid
    seen = np.bincount(solids.actor[hits[hits >= 0]], minlength=max(actors, default=0) + 1)
    alone = (cast(rays, solids[solids.actor == actor]).solid >= 0 for actor in actors)
    return [(int(seen[a]), int(mask.sum())) for a, mask in zip(actors, alone, strict=True)]


def _row(actor: Actor, camera: Camera, visible: float) -> str | None:
    """One line; None for what stands beside or behind the camera."""
    length, width, height = actor.size
    cos, sin = math.cos(actor.yaw), math.sin(actor.yaw)
    turned = _CORNERS * actor.size @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    back = np.linalg.inv(camera.sensor2ego)
    corners = (turned + actor.centre) @ back[:3, :3].T + back[:3, 3]
    middle = back[:3, :3] @ actor.centre + back[:3, 3]
    if middle[2] < _NEAR_M:
        return None
    ahead = corners[corners[:, 2] > 0.1]
    places = ahead @ camera.intrinsics.T
    places = places[:, :2] / places[:, 2:]
    edge = (camera.width - 1, camera.height - 1)
    low, high = places.min(axis=0), places.max(axis=0)
    inner = np.clip([low, high], 0, edge)
    share = np.prod(inner[1] - inner[0]) / max(float(np.prod(high - low)), 1e-6)
    truncated = 1.0 if len(ahead) < len(corners) else 1 - share
    around = math.remainder(-actor.yaw - math.pi / 2, 2 * math.pi)
    alpha = math.remainder(around - math.atan2(middle[0], middle[2]), 2 * math.pi)
    occluded = 0 if visible >= 0.9 else 1 if visible >= 0.5 else 2
    box = (*inner[0], *inner[1], height, width, length)
    bottom = (middle[0], middle[1] + height / 2, middle[2], around)
    numbers = " ".join(f"{value:.2f}" for value in (alpha, *box, *bottom))
    return f"{TYPES[Label(actor.label)]} {truncated:.2f} {occluded} {numbers}"


def kitti_drives(drives: int, frames: int, seed: int, *, images: bool = True) -> list[Drive]:
    """Drives of the world ``seed`` with KITTI's sensors."""
    sensors = kitti_sensors()
    return [Drive(seed, index, frames, sensors, images=images) for index in range(drives)]
