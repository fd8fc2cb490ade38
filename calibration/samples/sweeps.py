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
from exporters.files import sha256_file

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
        scans = self._back_from(filename, count)
        to_key = np.linalg.inv(self._to_world(scans[0]))
        parts, newest = [], scans[0]["timestamp"]
        for number, row in enumerate(scans):
            values = self.scan(row["filename"])
            if number:
                move = to_key @ self._to_world(row)
                values[:, :3] = values[:, :3] @ move[:3, :3].T + move[:3, 3]
            age = np.full((len(values), 1), (newest - row["timestamp"]) * 1e-6, np.float32)
            parts.append(np.concatenate([values, age], axis=1))
        return PointCloud(np.concatenate(parts), (*COLUMNS, TIME), INTENSITY_MAX)

    def hashes(self, filename: str, count: int) -> list[dict[str, Any]]:
        """What the cloud depends on besides the key frame: the scans before it, and where from."""
        return [
            {
                "file": row["filename"],
                "sha256": sha256_file(self._path / row["filename"]),
                "timestamp": row["timestamp"],
                "to_world": self._to_world(row).tolist(),
            }
            for row in self._back_from(filename, count)[1:]
        ]

    def scan(self, filename: str) -> NDArray[np.float32]:
        """One scan without the vehicle's own returns, in the sensor's frame then."""
        values = read_points(self._path / filename, COLUMNS, INTENSITY_MAX).values
        own = (np.abs(values[:, :2]) < EGO_M).all(axis=1)
        return np.asarray(values[~own])

    def _back_from(self, filename: str, count: int) -> list[Row]:
        """The key frame's row of ``sample_data`` and those before it."""
        data, tokens, _, _ = self._all()
        found = [data[tokens.get(filename, filename)]]
        while len(found) < count and found[-1]["prev"]:
            found.append(data[found[-1]["prev"]])
        return found

    def _to_world(self, row: Row) -> NDArray[np.float64]:
        _, _, poses, mounts = self._all()
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
