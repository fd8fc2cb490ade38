"""Several turns of nuScenes' LiDAR as one cloud, as its detectors take them.

Key frames come every half second, scans twenty times a second: a sparse LiDAR is made denser by
the scans before the key frame, brought into its frame through the world,

    key LiDAR <- key vehicle <- world <- vehicle then <- LiDAR then,

with their age in seconds as a column, 0 for the key frame. Returns from the vehicle itself (|x| and
|y| under a metre) are left out of each before it is moved. At the beginning of a scene there are
fewer scans; none is repeated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.nuscenes import pose
from calibration.samples.points import COLUMNS, TIME, PointCloud, read_points
from calibration.samples.tables import Index, Row, rows

EGO_M = 1.0
INTENSITY_MAX = 255.0

_DATA = ("token", "prev", "timestamp", "filename", "ego_pose_token", "calibrated_sensor_token")
_POSE = ("token", "translation", "rotation")


class Sweeps:
    """Scans of one data set; its tables are read when the first scan before a key frame is asked.

    Args:
        path: the root, with ``samples/`` and ``sweeps/``.
        tables: folder of the version, ``v1.0-mini``.
        sensor: part of the file names of the sensor's data.
    """

    def __init__(self, path: Path, tables: Path, sensor: str = "LIDAR_TOP") -> None:
        self._path, self._tables, self._sensor = path, tables, sensor
        self._read: tuple[Index[Row], dict[str, str], Index[Row], Index[Row]] | None = None

    def points(self, filename: str, count: int) -> PointCloud:
        """The key frame's scan of this file and up to ``count - 1`` before it, youngest first.

        Raises:
            UserError: a file or a row is missing or damaged.
        """
        data, tokens, poses, mounts = self._all()
        row = data[tokens.get(filename, filename)]
        to_key = np.linalg.inv(self._to_world(row, poses, mounts))
        parts, newest = [], row["timestamp"]
        for number in range(count):
            values = self.scan(row["filename"])
            if number:
                move = to_key @ self._to_world(row, poses, mounts)
                values[:, :3] = values[:, :3] @ move[:3, :3].T + move[:3, 3]
            age = np.full((len(values), 1), (newest - row["timestamp"]) * 1e-6, np.float32)
            parts.append(np.concatenate([values, age], axis=1))
            if not row["prev"]:
                break
            row = data[row["prev"]]
        return PointCloud(np.concatenate(parts), (*COLUMNS, TIME), INTENSITY_MAX)

    def scan(self, filename: str) -> NDArray[np.float32]:
        """One scan without the vehicle's own returns, in the sensor's frame then."""
        values = read_points(self._path / filename, COLUMNS, INTENSITY_MAX).values
        own = (np.abs(values[:, :2]) < EGO_M).all(axis=1)
        return np.asarray(values[~own])

    def _to_world(self, row: Row, poses: Index[Row], mounts: Index[Row]) -> NDArray[np.float64]:
        place: NDArray[np.float64] = pose(poses[row["ego_pose_token"]]) @ pose(
            mounts[row["calibrated_sensor_token"]]
        )
        return place

    def _all(self) -> Any:
        if self._read is None:
            data = {
                row["token"]: row
                for row in self._rows("sample_data", *_DATA)
                if self._sensor in row["filename"]
            }
            wanted = {row["ego_pose_token"] for row in data.values()}
            poses = {r["token"]: r for r in self._rows("ego_pose", *_POSE) if r["token"] in wanted}
            mounts = {row["token"]: row for row in self._rows("calibrated_sensor", *_POSE)}
            self._read = (
                self._index("sample_data", data),
                {row["filename"]: token for token, row in data.items()},
                self._index("ego_pose", poses),
                self._index("calibrated_sensor", mounts),
            )
        return self._read

    def _rows(self, table: str, *columns: str) -> Any:
        return rows(self._tables / f"{table}.json", *columns)

    def _index(self, table: str, found: dict[str, Row]) -> Index[Row]:
        return Index(self._tables / f"{table}.json", found.items())
