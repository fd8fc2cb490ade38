"""Synthetic rigs for when no calibration is given: for trying, testing and measuring.

The six-camera rig resembles nuScenes' sensor set-up in round numbers, so tables built from it have
the size of real ones. It is no calibration of any vehicle: for real images give the real rig.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from exporters.flashocc.config import NUSCENES_CAMERAS
from exporters.flashocc.rig import Camera, Matrix, Rig

_WIDTH, _HEIGHT = 1600, 900
_CENTRE_X, _CENTRE_Y = 816.0, 491.0


@dataclass(frozen=True)
class Mount:
    """Where a synthetic camera sits and looks: metres in the ego frame, degrees, pixels."""

    x: float
    y: float
    z: float
    yaw_deg: float
    focal: float = 1260.0
    roll_deg: float = 0.0


_NUSCENES_LIKE = {
    "CAM_FRONT_LEFT": Mount(1.5, 0.5, 1.5, 55),
    "CAM_FRONT": Mount(1.7, 0.0, 1.5, 0),
    "CAM_FRONT_RIGHT": Mount(1.5, -0.5, 1.5, -55),
    "CAM_BACK_LEFT": Mount(1.0, 0.5, 1.6, 110),
    "CAM_BACK": Mount(0.0, 0.0, 1.6, 180, focal=809.0),
    "CAM_BACK_RIGHT": Mount(1.0, -0.5, 1.6, -110),
}

_FOUR_CAMERAS = {
    "CAM_FRONT": Mount(0.4, 0.0, 0.6, 0, focal=809.0),
    "CAM_LEFT": Mount(0.0, 0.2, 0.6, 90, focal=809.0),
    "CAM_BACK": Mount(-0.4, 0.0, 0.6, 180, focal=809.0),
    "CAM_RIGHT": Mount(0.0, -0.2, 0.6, -90, focal=809.0),
}


def nuscenes_like_rig() -> Rig:
    """Six cameras around a car, in the order in which official weights expect them."""
    return Rig(tuple(_camera(name, _NUSCENES_LIKE[name]) for name in NUSCENES_CAMERAS))


def four_camera_rig() -> Rig:
    """Four wide cameras around a small robot."""
    return Rig(tuple(_camera(name, mount) for name, mount in _FOUR_CAMERAS.items()))


def ring_rig(count: int) -> Rig:
    """``count`` cameras evenly around a car, the first looking ahead."""
    mounts = (Mount(0.0, 0.0, 1.5, 360 * i / count) for i in range(count))
    return Rig(tuple(_camera(f"CAM_{i}", mount) for i, mount in enumerate(mounts)))


def default_rig(cameras: int = 6) -> Rig:
    """The synthetic rig for that many cameras."""
    known = {6: nuscenes_like_rig, 4: four_camera_rig}
    return known[cameras]() if cameras in known else ring_rig(cameras)


def mounted_camera(name: str, mount: Mount) -> Camera:
    """A synthetic camera of nuScenes' image size at ``mount``."""
    return _camera(name, mount)


def _camera(name: str, mount: Mount) -> Camera:
    yaw, roll = math.radians(mount.yaw_deg), math.radians(mount.roll_deg)
    # Columns: camera x (right), y (down) and z (ahead) in the ego frame, before yaw.
    upright = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    pose = np.eye(4)
    pose[:3, :3] = (_about_z(yaw) @ upright @ _about_z(roll)).round(9) + 0.0  # no -0, no 1e-16
    pose[:3, 3] = mount.x, mount.y, mount.z
    intrinsics = np.array(
        [[mount.focal, 0.0, _CENTRE_X], [0.0, mount.focal, _CENTRE_Y], [0.0, 0.0, 1.0]]
    )
    return Camera(name, _WIDTH, _HEIGHT, intrinsics, pose, np.eye(4))


def _about_z(angle: float) -> Matrix:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
