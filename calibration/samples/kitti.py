"""The KITTI object data set: LiDAR scans, the left colour camera, boxes.

    ROOT/training/velodyne/000000.bin           float32 x, y, z, intensity 0..1; LiDAR frame
    ROOT/training/velodyne_reduced/000000.bin   the same, only what the camera sees
    ROOT/training/image_2/000000.png  calib/000000.txt  label_2/000000.txt
    ROOT/testing/…                              without labels
    ROOT/mapping/train_mapping.txt  train_rand.txt      of the devkit: from which drive a frame is

Detectors are trained on what the camera sees. Where ``velodyne_reduced`` lacks a frame, the whole
scan is cut to the camera's view here. With the devkit's mapping, the frames of one drive stay in
one set; without it every frame counts as a scene of its own.

Boxes are given in ``label_2`` in the camera frame (x right, y down, z ahead), with the middle of
their bottom; labels here are in the LiDAR frame, with the centre. Yaw is ``-rotation_y - π/2``, as
everybody has it: the camera is taken to look exactly along the LiDAR's x.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Array
from calibration.samples.image_files import read_image
from calibration.samples.lazy import LazySamples
from calibration.samples.pictures import IMAGE
from calibration.samples.points import COLUMNS, POINTS, VIEWS, PointCloud, read_points
from calibration.samples.sensors import SensorFrame, sample_of
from exporters.errors import UserError
from exporters.files import sha256_file
from exporters.modelfile import ModelSpec

Matrix = NDArray[np.float64]

SCANS, REDUCED, IMAGES, CALIBRATION, LABELS = (
    "velodyne",
    "velodyne_reduced",
    "image_2",
    "calib",
    "label_2",
)
IMAGE_SIZE = (1242, 375)
"""Width and height of most images: for frames whose image is not there."""

DONT_CARE = "DontCare"

_MAPPING = ("train_mapping.txt", "train_rand.txt")
_LABEL_COLUMNS = 15


@dataclass(frozen=True)
class KittiCalibration:
    """Of one frame.

    Attributes:
        lidar2camera: 4x4, LiDAR to rectified camera coordinates.
        projection: 3x4, rectified camera to pixels of ``image_2``.
    """

    lidar2camera: Matrix
    projection: Matrix

    @classmethod
    def read(cls, path: Path) -> KittiCalibration:
        """From ``calib/NNNNNN.txt``.

        Raises:
            UserError: missing or damaged.
        """
        entries = {}
        for line in _lines(path):
            key, _, numbers = line.partition(":")
            entries[key.strip()] = numbers.split()
        try:
            projection, rectify, mount = (
                np.array(entries[key], float).reshape(shape)
                for key, shape in (("P2", (3, 4)), ("R0_rect", (3, 3)), ("Tr_velo_to_cam", (3, 4)))
            )
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{path} is no calibration of KITTI: {error!r}",
                fix="It needs P2, R0_rect and Tr_velo_to_cam",
            ) from error
        lidar2camera = np.eye(4)
        lidar2camera[:3] = rectify @ mount
        return cls(lidar2camera, projection)

    def seen(self, points: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
        """Which points ``[n, 3+]`` an image of ``size`` (width, height) shows."""
        places = np.c_[points[:, :3].astype(np.float64), np.ones(len(points))]
        camera = places @ self.lidar2camera.T
        across, down, depth = (camera @ self.projection.T).T
        with np.errstate(divide="ignore", invalid="ignore"):
            column, row = across / depth, down / depth
        inside = (column >= 0) & (column < size[0]) & (row >= 0) & (row < size[1])
        shown: NDArray[np.bool_] = inside & (camera[:, 2] >= 0)
        return shown


class KittiRoot:
    """One part, ``training`` or ``testing``, of the data set.

    Args:
        path: its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def find(cls, path: Path) -> KittiRoot | None:
        """At ``path`` itself or its ``training`` folder; None where there is no such data set."""
        for folder in (path, path / "training"):
            scans = any((folder / name).is_dir() for name in (SCANS, REDUCED, IMAGES))
            if scans and (folder / CALIBRATION).is_dir():
                return cls(folder)
        return None

    def frames(self, spec: ModelSpec) -> list[str]:
        """Numbers of the frames that have what the inputs of ``spec`` take."""
        wanted = {item.semantics for item in spec.inputs}
        stems = [
            {file.stem for name in names for file in (self.path / name).glob("[0-9]*")}
            for semantics, names in ((POINTS, (SCANS, REDUCED)), (IMAGE, (IMAGES,)))
            if semantics in wanted
        ]
        return sorted(set.intersection(*stems)) if stems else []

    def frame(self, number: str, view: str = VIEWS[0]) -> SensorFrame:
        """One moment; files are read when they are asked for, labels at once.

        Raises:
            UserError: a file is missing or damaged.
        """
        return SensorFrame(
            number,
            image=lambda _: read_image(self.path / IMAGES / f"{number}.png"),
            points=lambda: self.points(number, view),
            labels=self.labels(number),
        )

    def points(self, number: str, view: str = VIEWS[0]) -> PointCloud:
        """The scan of a frame.

        Args:
            view: ``camera`` for what the camera sees, ``all`` for the whole scan.
        """
        reduced = self.path / REDUCED / f"{number}.bin"
        if view == VIEWS[0] and reduced.is_file():
            return read_points(reduced, COLUMNS[:4], 1.0)
        scan = read_points(self.path / SCANS / f"{number}.bin", COLUMNS[:4], 1.0)
        if view != VIEWS[0]:
            return scan
        seen = self.calibration(number).seen(scan.values, self._image_size(number))
        return PointCloud(scan.values[seen], scan.columns, scan.intensity_max)

    def calibration(self, number: str) -> KittiCalibration:
        return KittiCalibration.read(self.path / CALIBRATION / f"{number}.txt")

    def labels(self, number: str) -> dict[str, Array]:
        """Boxes in the LiDAR frame, see `calibration.samples.sensors`; none for ``testing``."""
        path = self.path / LABELS / f"{number}.txt"
        if not path.is_file():
            return {}
        rows = [line.split() for line in _lines(path)]
        if any(len(row) < _LABEL_COLUMNS for row in rows):
            raise UserError(f"{path} is no label file of KITTI", fix="Every line has 15 columns")
        boxes = [row for row in rows if row[0] != DONT_CARE]
        ignored = [row[4:8] for row in rows if row[0] == DONT_CARE]
        numbers = np.array([row[1:_LABEL_COLUMNS] for row in boxes], float).reshape(-1, 14)
        calibration = self.calibration(number)
        return {
            "boxes": lidar_boxes(numbers, calibration),
            "box_names": np.array([row[0] for row in boxes], "U32"),
            "box_pixels": numbers[:, 3:7].astype(np.float32),
            "truncation": numbers[:, 0].astype(np.float32),
            "occlusion": numbers[:, 1].astype(np.int32),
            "alpha": numbers[:, 2].astype(np.float32),
            "ignored_pixels": np.array(ignored, np.float32).reshape(-1, 4),
            "lidar2camera": calibration.lidar2camera,
            "projection": calibration.projection,
            "image_size": np.array(self._image_size(number), np.int32),
        }

    def drives(self, numbers: Sequence[str]) -> list[str] | None:
        """Of each frame the drive it is from, where the devkit's mapping lies beside the data."""
        for folder in (self.path.parent, *self.path.parent.glob("devkit*")):
            mapping, order = (folder / "mapping" / name for name in _MAPPING)
            if self.path.name == "training" and mapping.is_file() and order.is_file():
                drives = [line.split()[1] for line in _lines(mapping)]
                places = [int(place) for place in ",".join(_lines(order)).split(",") if place]
                return [drives[places[int(number)] - 1] for number in numbers]
        return None

    def hashes(self, number: str) -> Mapping[str, str]:
        """SHA-256 of every file of a frame."""
        names = (f"{SCANS}/{number}.bin", f"{REDUCED}/{number}.bin", f"{IMAGES}/{number}.png")
        texts = (f"{CALIBRATION}/{number}.txt", f"{LABELS}/{number}.txt")
        files = {name: self.path / name for name in (*names, *texts)}
        return {name: sha256_file(file) for name, file in files.items() if file.is_file()}

    def _image_size(self, number: str) -> tuple[int, int]:
        path = self.path / IMAGES / f"{number}.png"
        if not path.is_file():
            return IMAGE_SIZE
        from PIL import Image

        with Image.open(path) as image:
            return image.width, image.height


def open_kitti(root: KittiRoot, spec: ModelSpec) -> LazySamples:
    """Every frame that has what the model takes.

    Raises:
        UserError: no frame has.
    """
    numbers = root.frames(spec)
    if not numbers:
        takes = ", ".join(f"{item.name} ({item.semantics})" for item in spec.inputs)
        raise UserError(
            f"{root.path} has no frame with what {spec.variant} takes: {takes}",
            fix="KITTI has points and one camera; describe the inputs with --describe FILE",
        )
    views = [item.details.get("view", VIEWS[0]) for item in spec.inputs if item.semantics == POINTS]
    return LazySamples(
        numbers,
        lambda index: sample_of(root.frame(numbers[index], *views[:1]), spec),
        lambda index: root.hashes(numbers[index]),
        spec,
        root.drives(numbers),
    )


def lidar_boxes(rows: Matrix, calibration: KittiCalibration) -> NDArray[np.float32]:
    """Boxes ``[n, 7]`` in the LiDAR frame from the numbers of ``label_2``, ``[n, 14]``."""
    height, width, length = rows[:, 7:10].T
    centres = np.c_[rows[:, 10:13], np.ones(len(rows))]
    centres[:, 1] -= height / 2
    places = centres @ np.linalg.inv(calibration.lidar2camera).T
    yaw = -rows[:, 13] - np.pi / 2
    yaw = (yaw + np.pi) % (2 * np.pi) - np.pi
    boxes: NDArray[np.float64] = np.c_[places[:, :3], length, width, height, yaw]
    return boxes.astype(np.float32)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}", fix="Copy it again") from error
