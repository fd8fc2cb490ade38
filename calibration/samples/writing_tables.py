"""Tables of nuScenes while they are being written: rows, tokens, links to neighbours in time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from calibration.samples.tables import Row

TABLES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_pose",
    "instance",
    "log",
    "map",
    "sample",
    "sample_annotation",
    "sample_data",
    "scene",
    "sensor",
    "visibility",
)


class Tables:
    """The thirteen tables of a data set, schema v1.0."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Row]] = {name: {} for name in TABLES}
        self._last: dict[tuple[str, str], str] = {}

    def add(self, table: str, key: str, **values: Any) -> str:
        """Add a row unless ``key`` has one; its token."""
        token = token_of(table, key)
        self.rows[table].setdefault(token, {"token": token, **values})
        return token

    def chain(self, table: str, chain: str, key: str, **values: Any) -> str:
        """Add a row that comes after the last one of ``chain``; its token."""
        before = self._last.get((table, chain), "")
        token = self.add(table, key, **values, prev=before, next="")
        if before:
            self.rows[table][before]["next"] = token
        self._last[table, chain] = token
        return token

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, rows in self.rows.items():
            text = json.dumps(list(rows.values()), indent=0)
            (folder / f"{name}.json").write_text(text, encoding="utf-8")


def token_of(table: str, key: str) -> str:
    """32 hexadecimal digits; the same for the same arguments."""
    return hashlib.sha256(f"{table}/{key}".encode()).hexdigest()[:32]


def placed(pose: ArrayLike) -> dict[str, list[float]]:
    """``translation`` and ``rotation`` (w, x, y, z) of a 4x4 matrix.

    >>> placed(np.eye(4))["rotation"]
    [1.0, 0.0, 0.0, 0.0]
    """
    matrix = np.asarray(pose, float)
    return {
        "translation": matrix[:3, 3].tolist(),
        "rotation": quaternion(matrix[:3, :3]),
    }


def quaternion(rotation: ArrayLike) -> list[float]:
    """w, x, y, z with w >= 0, from the largest of the four squares (Shepperd, 1978)."""
    r = np.asarray(rotation, float)
    squares = np.array(
        [
            1 + r[0, 0] + r[1, 1] + r[2, 2],
            1 + r[0, 0] - r[1, 1] - r[2, 2],
            1 - r[0, 0] + r[1, 1] - r[2, 2],
            1 - r[0, 0] - r[1, 1] + r[2, 2],
        ]
    )
    products = np.array(
        [
            [squares[0], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], squares[1], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], squares[2], r[1, 2] + r[2, 1]],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], squares[3]],
        ]
    )
    q = products[int(squares.argmax())]
    q = q / np.linalg.norm(q)
    unit: list[float] = (q if q[0] >= 0 else -q).tolist()
    return unit
