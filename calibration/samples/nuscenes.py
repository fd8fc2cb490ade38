"""The nuScenes data set, from its own tables (schema of v1.0: ``nuscenes.org/nuscenes``).

    ROOT/v1.0-mini/scene.json sample.json sample_data.json calibrated_sensor.json sensor.json
                   ego_pose.json sample_annotation.json instance.json category.json
    ROOT/samples/CAM_FRONT/….jpg  samples/LIDAR_TOP/….pcd.bin
    ROOT/gts/scene-0061/TOKEN/labels.npz            Occ3D, where it lies there, or
    ROOT/occ3d_panoptic/scene-0061/TOKEN/labels.npz the same with instance ids

A sample is a key frame; its scene decides which set it may go to, so that no drive straddles two.
Tables are read as streams and only what key frames need is kept: 40,000 samples of
``v1.0-trainval`` in a few hundred megabytes. Sweeps between key frames are not read.

Quaternions are w, x, y, z. Boxes stand in the world with width, length, height; labels here are in
the frame of ``LIDAR_TOP`` with length, width, height. Returns from the vehicle itself (|x| and |y|
under a metre) are taken out of scans.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Array
from calibration.samples.frames import FrameSamples
from calibration.samples.image_files import read_image
from calibration.samples.lazy import LazySamples
from calibration.samples.occ3d import occupancy_file, read_occupancy
from calibration.samples.points import COLUMNS, POINTS, TIME, PointCloud, read_points
from calibration.samples.sensors import SensorFrame, sample_of
from calibration.samples.tables import Index, Row, rows
from calibration.samples.tracks import Tracks
from calibration.samples.viewpoints import RAY_ORIGINS, ray_origins
from exporters.errors import UserError, did_you_mean
from exporters.files import sha256_file
from exporters.flashocc.rig import RIG_SCHEMA, CameraFrame, Rig
from exporters.modelfile import ModelSpec

if TYPE_CHECKING:
    from calibration.samples.sweeps import Sweeps

Matrix = NDArray[np.float64]
T = TypeVar("T")

LIDAR = "LIDAR_TOP"
FIRST_CAMERA = "CAM_FRONT"
TABLES = "v1.0-*"

INTENSITY_MAX = 255.0
_EGO_M = 1.0
_DECIDING = "sample_data.json"


class NuScenesRoot:
    """Key frames of one version of the data set, ordered by scene and time.

    Args:
        path: the root, with ``samples/``.
        tables: folder of the version, ``v1.0-mini``.
    """

    def __init__(self, path: Path, tables: Path) -> None:
        self.path = path
        self._tables = tables
        scenes = self._index("scene", "name")
        samples = sorted(
            (scenes[row["scene_token"]], row["timestamp"], row["token"])
            for row in self._rows("sample", "token", "scene_token", "timestamp")
        )
        self.tokens = [token for _, _, token in samples]
        self.scenes = [scene for scene, _, _ in samples]
        self._scene_of = dict(zip(self.tokens, self.scenes, strict=True))
        self._times = {token: time_us for _, time_us, token in samples}

    @classmethod
    def find(cls, path: Path) -> NuScenesRoot | None:
        """At a root, or at its folder of tables; None where there is no such data set.

        Raises:
            UserError: there are several versions, or tables without the sensors' data.
        """
        if (path / _DECIDING).is_file():
            return cls(path.resolve().parent, path)
        found = sorted(file.parent for file in path.glob(f"{TABLES}/{_DECIDING}"))
        if len(found) > 1:
            names = ", ".join(str(folder) for folder in found)
            raise UserError(f"{path} holds several versions", fix=f"Name one of {names}")
        return cls(path, found[0]) if found else None

    def camera_frame(self, token: str) -> CameraFrame:
        """All cameras of a key frame with their rig, where they were before, and its labels.

        Raises:
            UserError: a table or an image is missing or damaged.
        """
        images = {
            channel: read_image(self.path / data["filename"])
            for channel, data in self._data[token].items()
            if self._mounts[data["calibrated_sensor_token"]]["camera_intrinsic"]
        }
        sizes = {channel: image.shape[:2] for channel, image in images.items()}
        past = tuple(self._rig(earlier, sizes) for earlier in self._before(token))
        return CameraFrame(token, self._rig(token, sizes), images, self.labels(token), past)

    def _rig(self, token: str, sizes: Mapping[str, tuple[int, ...]]) -> Rig:
        """Cameras of a key frame; ``sizes`` are height and width of their images."""
        cameras = []
        for channel, data in self._data[token].items():
            if channel not in sizes:
                continue
            sensor = self._mounts[data["calibrated_sensor_token"]]
            height, width = sizes[channel]
            cameras.append(
                {
                    "name": channel,
                    "width": width,
                    "height": height,
                    "intrinsics": sensor["camera_intrinsic"],
                    "sensor2ego": pose(sensor).tolist(),
                    "ego2global": pose(self._ego[data["ego_pose_token"]]).tolist(),
                }
            )
        return Rig.from_json({"schema": RIG_SCHEMA, "cameras": cameras}, source=f"sample {token}")

    def _before(self, token: str) -> list[str]:
        """Key frames of the scene before this one, the latest first."""
        tokens = self._tokens_of[self._scene_of[token]]
        return tokens[: tokens.index(token)][::-1]

    def frame(self, token: str, sweeps: int | None = None) -> SensorFrame:
        """One moment for models that take single images or points.

        Args:
            sweeps: scans that make one cloud with a column of their age; None for the key frame's
                alone and without.
        """
        return SensorFrame(
            token,
            image=lambda camera: self._image(token, camera or FIRST_CAMERA),
            points=(lambda: self.points(token, sweeps)) if LIDAR in self._data[token] else None,
            labels=self.labels(token),
        )

    def points(self, token: str, sweeps: int | None = None) -> PointCloud:
        """The key frame's scan without the vehicle's own returns; LiDAR frame, intensity 0..255."""
        if sweeps is not None:
            return self._sweeps.points(self._data[token][LIDAR]["filename"], sweeps)
        cloud = read_points(
            self.path / self._data[token][LIDAR]["filename"], COLUMNS, INTENSITY_MAX
        )
        own = (np.abs(cloud.values[:, :2]) < _EGO_M).all(axis=1)
        return PointCloud(cloud.values[~own], cloud.columns, cloud.intensity_max)

    def labels(self, token: str) -> dict[str, Array]:
        """Boxes in the LiDAR frame, and occupancy of Occ3D; see `calibration.samples.sensors`."""
        labels: dict[str, Array] = {}
        if LIDAR in self._data[token]:
            labels |= self._boxes(token)
        occupancy = self._occupancy(token)
        if occupancy is not None:
            labels |= read_occupancy(occupancy)
            if LIDAR in self._data[token]:
                labels[RAY_ORIGINS] = self._ray_origins(token)
        return labels

    def hashes(self, token: str, sweeps: int | None = None) -> dict[str, Any]:
        """What a sample's content depends on: its files, poses and labels; see `frame`."""
        scans: list[dict[str, Any]] = []
        if sweeps is not None and LIDAR in self._data[token]:
            scans = self._sweeps.hashes(self._data[token][LIDAR]["filename"], sweeps)
        sensors = self._data[token].values()
        occupancy = self._occupancy(token)
        return {
            "token": token,
            "files": {d["filename"]: sha256_file(self.path / d["filename"]) for d in sensors},
            **({"occupancy": sha256_file(occupancy)} if occupancy is not None else {}),
            **({"sweeps": scans} if scans else {}),
            "mounts": [self._mounts[data["calibrated_sensor_token"]] for data in sensors],
            "poses": [self._ego[data["ego_pose_token"]] for data in sensors],
            "past": [
                self._ego[data["ego_pose_token"]]
                for earlier in self._before(token)
                for data in self._data[earlier].values()
            ],
            "boxes": self._annotations[token],
        }

    def _occupancy(self, token: str) -> Path | None:
        return occupancy_file(self.path, self._scene_of[token], token)

    def _ray_origins(self, token: str) -> NDArray[np.float64]:
        """Where the LiDAR was at key frames of the scene, in the vehicle's frame at this one."""
        scene = self._scene_of[token]
        tokens = [t for t in self._tokens_of[scene] if LIDAR in self._data[t]]
        lidars = [self._data[t][LIDAR] for t in tokens]
        mounts = [pose(self._mounts[data["calibrated_sensor_token"]]) for data in lidars]
        poses = [
            pose(self._ego[data["ego_pose_token"]]) @ mount
            for data, mount in zip(lidars, mounts, strict=True)
        ]
        place = tokens.index(token)
        return ray_origins(mounts[place], np.stack(poses), place)

    @cached_property
    def _tokens_of(self) -> dict[str, list[str]]:
        """Samples of each scene in order of time."""
        found: dict[str, list[str]] = defaultdict(list)
        for token, scene in zip(self.tokens, self.scenes, strict=True):
            found[scene].append(token)
        return found

    def _boxes(self, token: str) -> dict[str, Array]:
        data = self._data[token][LIDAR]
        lidar2ego = pose(self._mounts[data["calibrated_sensor_token"]])
        from_global = np.linalg.inv(pose(self._ego[data["ego_pose_token"]]) @ lidar2ego)
        found = self._annotations[token]
        boxes = np.zeros((len(found), 7), np.float32)
        velocities = [self._tracks.velocity(r["instance_token"], self._times[token]) for r in found]
        speeds = np.array([(0.0, 0.0) if v is None else v for v in velocities]).reshape(-1, 2)
        for box, row in zip(boxes, found, strict=True):
            placed = from_global @ pose(row)
            width, length, height = row["size"]
            yaw = np.arctan2(placed[1, 0], placed[0, 0])
            box[:] = (*placed[:3, 3], length, width, height, yaw)
        return {
            "boxes": boxes,
            "box_names": np.array(
                [self._categories[row["instance_token"]] for row in found], "U64"
            ),
            "box_points": np.array([row["num_lidar_pts"] for row in found], np.int32),
            "box_radar_points": np.array([row["num_radar_pts"] for row in found], np.int32),
            "box_velocity": (speeds @ from_global[:2, :2].T).astype(np.float32),
            "box_velocity_known": np.array([v is not None for v in velocities], bool),
            "box_attributes": np.array([self._attribute(row) for row in found], "U32"),
            "lidar2ego": lidar2ego,
        }

    def _image(self, token: str, camera: str) -> NDArray[np.uint8]:
        if camera not in self._data[token]:
            raise UserError(
                f"sample {token} has no camera {camera!r}",
                fix=did_you_mean(camera, self._data[token]),
            )
        return read_image(self.path / self._data[token][camera]["filename"])

    @cached_property
    def _sweeps(self) -> Sweeps:
        from calibration.samples.sweeps import Sweeps

        return Sweeps(self.path, self._tables)

    @cached_property
    def _data(self) -> dict[str, dict[str, Row]]:
        """Token of a sample to channel to the key frame's row of ``sample_data``."""
        channels = self._index("sensor", "channel")
        columns = ("sample_token", "is_key_frame", "filename", "ego_pose_token")
        found: dict[str, dict[str, Row]] = defaultdict(dict)
        for row in self._rows("sample_data", *columns, "calibrated_sensor_token"):
            if row["is_key_frame"]:
                mount = self._mounts[row["calibrated_sensor_token"]]
                found[row["sample_token"]][channels[mount["sensor_token"]]] = row
        return found

    @cached_property
    def _mounts(self) -> Index[Row]:
        columns = ("sensor_token", "translation", "rotation", "camera_intrinsic")
        table = self._rows("calibrated_sensor", "token", *columns)
        return self._tokens("calibrated_sensor", ((row["token"], row) for row in table))

    @cached_property
    def _ego(self) -> Index[Row]:
        wanted = {
            data["ego_pose_token"] for frame in self._data.values() for data in frame.values()
        }
        table = self._rows("ego_pose", "token", "translation", "rotation")
        return self._tokens(
            "ego_pose", ((row["token"], row) for row in table if row["token"] in wanted)
        )

    @cached_property
    def _annotations(self) -> dict[str, list[Row]]:
        columns = ("translation", "rotation", "size", "instance_token", "attribute_tokens")
        points = ("num_lidar_pts", "num_radar_pts")
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self._rows("sample_annotation", "sample_token", *columns, *points):
            found[row["sample_token"]].append(row)
        return found

    @cached_property
    def _tracks(self) -> Tracks:
        return Tracks(
            (row["instance_token"], self._times[token], row["translation"])
            for token, annotated in self._annotations.items()
            for row in annotated
        )

    @cached_property
    def _attributes(self) -> Index[str]:
        return self._index("attribute", "name")

    def _attribute(self, row: Row) -> str:
        """What an annotated thing does, ``vehicle.moving``; empty where nobody says."""
        return next((self._attributes[token] for token in row["attribute_tokens"]), "")

    @cached_property
    def _categories(self) -> Index[str]:
        """Token of an instance to the name of its class."""
        names = self._index("category", "name")
        table = self._rows("instance", "token", "category_token")
        return self._tokens("instance", ((r["token"], names[r["category_token"]]) for r in table))

    def _index(self, table: str, column: str) -> Index[str]:
        found = self._rows(table, "token", column)
        return self._tokens(table, ((row["token"], row[column]) for row in found))

    def _tokens(self, table: str, items: Iterable[tuple[str, T]]) -> Index[T]:
        return Index(self._tables / f"{table}.json", items)

    def _rows(self, table: str, *columns: str) -> Iterable[Row]:
        return rows(self._tables / f"{table}.json", *columns)


def open_nuscenes(root: NuScenesRoot, spec: ModelSpec) -> LazySamples:
    """Every key frame, for a model of surround cameras or one whose inputs are described."""
    tokens: Sequence[str] = root.tokens
    if not tokens:
        raise UserError(f"{root.path} holds no samples", fix="Look at its tables")
    if any(item.semantics == "camera-images" for item in spec.inputs):
        return FrameSamples(
            tokens,
            lambda index: root.camera_frame(tokens[index]),
            lambda index: root.hashes(tokens[index]),
            spec,
            root.scenes,
        )
    clouds = [item.details for item in spec.inputs if item.semantics == POINTS]
    sweeps = next((d.get("sweeps", 1) for d in clouds if TIME in d.get("columns", ())), None)
    return LazySamples(
        tokens,
        lambda index: sample_of(root.frame(tokens[index], sweeps), spec),
        lambda index: root.hashes(tokens[index], sweeps),
        spec,
        root.scenes,
    )


def pose(row: Row) -> Matrix:
    """4x4 from a row's ``rotation`` (w, x, y, z) and ``translation``.

    >>> pose({"rotation": [1, 0, 0, 0], "translation": [1, 2, 3]})[:3, 3].tolist()
    [1.0, 2.0, 3.0]
    """
    w, x, y, z = np.array(row["rotation"], float) / np.linalg.norm(row["rotation"])
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = row["translation"]
    return matrix
