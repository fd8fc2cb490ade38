"""Tiny data sets in their real formats, written by hand: photographs, nuScenes tables, KITTI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from exporters.flashocc.default_rig import nuscenes_like_rig

TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample",
    "sample_annotation", "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip

SMALL = (160, 90)
"""Width and height of the images: a tenth of nuScenes'."""

KITTI_CALIBRATION = """P0: 721.5 0 609.6 0 0 721.5 172.9 0 0 0 1 0
P1: 721.5 0 609.6 -387.6 0 721.5 172.9 0 0 0 1 0
P2: 72.15 0 60.96 4.486 0 72.15 17.29 0.02164 0 0 1 0.002746
P3: 721.5 0 609.6 -339.5 0 721.5 172.9 2.199936 0 0 1 0.00273
R0_rect: 0.9999239 0.00983776 -0.007445048 -0.009869795 0.9999421 -0.004278459 0.007402527 0.004351614 0.9999631
Tr_velo_to_cam: 0.007533745 -0.9999714 -0.000616602 -0.004069766 0.01480249 0.0007280733 -0.9998902 -0.07631618 0.9998621 0.00752379 0.01480755 -0.2717806
Tr_imu_to_velo: 0.9999976 0.0007553071 -0.002035826 -0.8086759 -0.0007854027 0.9998898 -0.01482298 0.3195559 0.002024406 0.01482454 0.9998881 -0.7997231

"""  # noqa: E501  # lines of the format


def photograph(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> Path:
    """A few coloured boxes on a slope, ``size`` wide and high."""
    random = np.random.default_rng(seed)
    width, height = size
    image = np.linspace(40, 200, height)[:, None, None] * np.ones((height, width, 3))
    for _ in range(12):
        top, left = random.integers(0, height - 8), random.integers(0, width - 8)
        image[top : top + 8, left : left + 8] = random.uniform(0, 255, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.astype(np.uint8)).save(path)
    return path


def photographs(folder: Path, count: int = 12) -> Path:
    for index in range(count):
        photograph(folder / f"{index:03d}.png", index)
    return folder


def kitti(root: Path, frames: int = 6, *, mapping: bool = False) -> Path:
    """``training`` with scans around the vehicle, images, calibration and one car each."""
    training = root / "training"
    for name in ("velodyne", "image_2", "calib", "label_2"):
        (training / name).mkdir(parents=True, exist_ok=True)
    for index in range(frames):
        random = np.random.default_rng(index)
        points = random.uniform((-40, -40, -2, 0), (40, 40, 1, 1), (4000, 4)).astype(np.float32)
        points.tofile(training / "velodyne" / f"{index:06d}.bin")
        photograph(training / "image_2" / f"{index:06d}.png", index, (124, 37))
        (training / "calib" / f"{index:06d}.txt").write_text(KITTI_CALIBRATION)
        (training / "label_2" / f"{index:06d}.txt").write_text(
            "Car 0.25 1 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 "
            f"-16.53 2.39 {50 + index}.5 1.57\n"
            "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10\n"
        )
    if mapping:
        (root / "mapping").mkdir()
        drives = [f"2011_09_26 2011_09_26_drive_{i // 2:04d}_sync {i:010d}" for i in range(frames)]
        (root / "mapping" / "train_mapping.txt").write_text("\n".join(drives) + "\n")
        order = ",".join(str(frames - i) for i in range(frames))
        (root / "mapping" / "train_rand.txt").write_text(order + "\n")
    return root


class NuScenesTree:
    """Writes tables and files of nuScenes v1.0; frames of a scene follow at half a second."""

    def __init__(self, root: Path, version: str = "v1.0-mini") -> None:
        self.root = root
        self.version = version
        self.tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        self._add("category", name="vehicle.car", description="")
        self._add("category", name="human.pedestrian.adult", description="")

    def _add(self, table: str, **values: Any) -> str:
        token = f"{table}-{len(self.tables[table]):04d}"
        self.tables[table].append({"token": token, **values})
        return token

    def scene(self, name: str) -> str:
        return self._add(
            "scene", name=name, log_token="", nbr_samples=0, first_sample_token="",
            last_sample_token="", description="",
        )  # fmt: skip

    def sample(self, scene: str, time_us: int, token: str | None = None) -> str:
        made = self._add("sample", scene_token=scene, timestamp=time_us, prev="", next="")
        if token is not None:
            self.tables["sample"][-1]["token"] = token
        return token or made

    def data(
        self, sample: str, channel: str, file: str, sensor2ego: Any, ego2global: Any,
        intrinsics: Any = (), *, key_frame: bool = True,
    ) -> None:  # fmt: skip
        """One sensor of a sample with its own mount and pose."""
        sensor = self._add("sensor", channel=channel, modality=channel.split("_")[0].lower())
        mount = self._add(
            "calibrated_sensor", sensor_token=sensor,
            camera_intrinsic=np.asarray(intrinsics).tolist(), **placed(sensor2ego),
        )  # fmt: skip
        ego = self._add("ego_pose", timestamp=0, **placed(ego2global))
        self._add(
            "sample_data", sample_token=sample, ego_pose_token=ego, calibrated_sensor_token=mount,
            timestamp=0, fileformat=file.rsplit(".", 1)[-1], is_key_frame=key_frame, height=0,
            width=0, filename=file, prev="", next="",
        )  # fmt: skip

    def box(self, sample: str, box2global: Any, size_wlh: Any, category: int, points: int) -> None:
        instance = self._add("instance", category_token=f"category-{category:04d}")
        self._add(
            "sample_annotation", sample_token=sample, instance_token=instance,
            visibility_token="", attribute_tokens=[], size=list(size_wlh), prev="", next="",
            num_lidar_pts=points, num_radar_pts=0, **placed(box2global),
        )  # fmt: skip

    def write(self) -> Path:
        folder = self.root / self.version
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))
        return self.root


def placed(matrix: Any) -> dict[str, list[float]]:
    """``translation`` and ``rotation`` (w, x, y, z) of a 4x4 matrix."""
    matrix = np.asarray(matrix, float)
    x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    return {"translation": matrix[:3, 3].tolist(), "rotation": [w, x, y, z]}


def nuscenes(root: Path, scenes: int = 3, frames: int = 4) -> Path:
    """Six small cameras, a scan and two boxes a key frame, and one sweep in between."""
    tree = NuScenesTree(root)
    moved = np.eye(4)
    for number in range(scenes):
        scene = tree.scene(f"scene-{number:04d}")
        for frame in range(frames):
            sample = tree.sample(scene, 1_000_000 * number + 500_000 * frame)
            seed = 100 * number + frame
            moved[:3, 3] = (1000 + 5 * frame, 200 * number, 0)
            for camera in nuscenes_like_rig().cameras:
                file = f"samples/{camera.name}/{sample}.png"
                photograph(root / file, seed, SMALL)
                focal = np.diag([0.1, 0.1, 1]) @ camera.intrinsics
                tree.data(sample, camera.name, file, camera.sensor2ego, moved, focal)
            _scan(root, tree, sample, moved, seed)
            if frame == 1:
                tree.data(sample, "CAM_FRONT", "sweeps/none.jpg", moved, moved, key_frame=False)
    return tree.write()


def _scan(root: Path, tree: NuScenesTree, sample: str, ego2global: Any, seed: int) -> None:
    lidar2ego = np.eye(4)
    lidar2ego[:3, :3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]  # LiDAR: x to the right, y ahead
    lidar2ego[:3, 3] = (0.9, 0, 1.8)
    random = np.random.default_rng(seed)
    low, high = (-40, -40, -2, 0, 0), (40, 40, 1, 255, 32)
    points = random.uniform(low, high, (3000, 5)).astype(np.float32)
    points[:100, :2] = random.uniform(-0.9, 0.9, (100, 2))  # the vehicle's own roof
    file = f"samples/LIDAR_TOP/{sample}.pcd.bin"
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    points.tofile(root / file)
    tree.data(sample, "LIDAR_TOP", file, lidar2ego, ego2global)
    ahead = np.eye(4)
    ahead[:3, 3] = (20, 2, 0.8)  # in the vehicle's frame: 20 m ahead, 2 m to the left
    tree.box(sample, ego2global @ ahead, (1.9, 4.5, 1.6), 0, 17)
    ahead[:3, 3] = (5, -6, 0.9)
    tree.box(sample, ego2global @ ahead, (0.6, 0.7, 1.8), 1, 3)
