"""From a LiDAR scan to the rows that a network takes.

Networks take a fixed number of rows; a scan never has it. Rows beyond the scan are filled with a
value that no grid holds, -10000: a row of zeros would be a point at the sensor, thousands of times
over. Details of an input with semantics ``points``, shape ``[rows, columns]`` or with a 1 before:

| key | value |
|---|---|
| ``columns`` | names, of ``x y z intensity ring time``; the first ones by default |
| ``sweeps`` | nuScenes: the key frame's scan and those before it, together so many; 1 |
| ``fill`` | value of rows beyond the scan, -10000 |
| ``range`` | ``[x0, y0, z0, x1, y1, z1]`` in metres: points outside are left out |
| ``intensity_max`` | of a full return, as the model takes it; as in the source if absent |
| ``view`` | KITTI: ``camera`` (default), what the camera sees, as usual there; or ``all`` |
| ``surplus`` | ``refuse`` (default), or ``thin``: an even choice where there are more than rows |

An input with semantics ``point-count`` gets the number of rows that are points, int of any width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Array
from calibration.samples.said import SEE, choice, listed, number
from exporters.errors import UserError, did_you_mean
from exporters.modelfile import InputSpec

POINTS = "points"
POINT_COUNT = "point-count"
COLUMNS = ("x", "y", "z", "intensity", "ring")
TIME = "time"
"""Age of a point in seconds, a column where several scans make one cloud."""
SURPLUS = ("refuse", "thin")
VIEWS = ("camera", "all")
POINT_KEYS = ("rows", "columns", "fill", "range", "intensity_max", "view", "surplus", "sweeps")
FILL = -10_000.0


@dataclass(frozen=True)
class PointCloud:
    """One scan.

    Attributes:
        values: ``[points, columns]`` float32, metres.
        intensity_max: what a full return has in this source.
    """

    values: NDArray[np.float32]
    columns: tuple[str, ...] = COLUMNS[:4]
    intensity_max: float = 1.0


def read_points(path: Path, columns: Sequence[str], intensity_max: float) -> PointCloud:
    """A file of float32 rows without header, as KITTI and nuScenes have them.

    Raises:
        UserError: missing, or its size is no multiple of a row.
    """
    try:
        values = np.fromfile(path, np.float32)
    except OSError as error:
        raise UserError(f"cannot read points {path}: {error.strerror}") from error
    if values.size == 0 or values.size % len(columns) or path.stat().st_size % 4:
        raise UserError(
            f"points {path} are truncated: {path.stat().st_size} bytes are no rows of "
            f"{len(columns)} float32",
            fix="Copy the file again, or leave it out",
        )
    return PointCloud(values.reshape(-1, len(columns)), tuple(columns), intensity_max)


def rows_of(cloud: PointCloud, item: InputSpec) -> NDArray[np.float32]:
    """The points that ``item`` takes of a scan, ``[n, columns]``, without filling.

    Raises:
        UserError: a column that the source has not, or more points than rows.
    """
    details = item.details
    wanted = list(details.get("columns", COLUMNS[: int(item.shape[-1])]))
    for column in wanted:
        if column not in cloud.columns:
            raise UserError(
                f"input {item.name!r} takes a column {column!r}, which the points lack",
                fix=did_you_mean(column, cloud.columns),
            )
    rows = cloud.values[:, [cloud.columns.index(column) for column in wanted]]
    if "range" in details:
        low, high = np.array(details["range"], np.float32).reshape(2, 3)
        places = cloud.values[:, [cloud.columns.index(axis) for axis in "xyz"]]
        rows = rows[((places >= low) & (places < high)).all(axis=1)]
    if "intensity_max" in details and "intensity" in wanted:
        factor = np.float32(details["intensity_max"] / cloud.intensity_max)
        rows[:, wanted.index("intensity")] *= factor
    return _fitting(rows, item)


def filled(rows: NDArray[np.float32], item: InputSpec) -> Array:
    """``rows`` and, below them, rows of the fill value, in the shape of ``item``."""
    shape = tuple(1 if isinstance(size, str) else size for size in item.shape)
    result: Array = np.full(shape, item.details.get("fill", FILL), item.dtype)
    result.reshape(shape[-2:])[: len(rows)] = rows
    return result


def _fitting(rows: NDArray[np.float32], item: InputSpec) -> NDArray[np.float32]:
    room = int(item.shape[-2])
    if len(rows) <= room:
        return rows
    if item.details.get("surplus", SURPLUS[0]) == SURPLUS[0]:
        raise UserError(
            f"the scan has {len(rows)} points, input {item.name!r} takes {room}",
            fix="Describe a smaller range, or 'surplus: thin' to take an even choice of them",
        )
    return rows[np.arange(room) * len(rows) // room]


def points_spec(name: str, said: Mapping[str, Any], graph: InputSpec | None) -> InputSpec:
    shape = graph.shape if graph is not None else ("rows", len(said.get("columns", COLUMNS[:4])))
    rows = said.get("rows", shape[-2])
    if not isinstance(rows, int) or rows < 1:
        raise UserError(
            f"input {name!r} has no fixed number of rows, and nobody says how many",
            fix="Describe rows: 32768",
        )
    details: dict[str, Any] = {}
    for key, words in (("view", VIEWS), ("surplus", SURPLUS)):
        if key in said:
            details[key] = choice(name, said, key, words)
    for key in ("fill", "intensity_max"):
        if key in said:
            details[key] = number(name, key, said[key])
    if "sweeps" in said:
        details["sweeps"] = int(number(name, "sweeps", said["sweeps"]))
    if "range" in said:
        details["range"] = [number(name, "range", item) for item in listed(said["range"])]
        if len(details["range"]) != 6:
            raise UserError(f"input {name!r}: range is not x0, y0, z0, x1, y1, z1", fix=SEE)
    columns = [str(column) for column in said.get("columns", COLUMNS[: int(shape[-1])])]
    for column in columns:
        if column not in (*COLUMNS, TIME):
            raise UserError(
                f"input {name!r}: unknown column {column!r}",
                fix=did_you_mean(column, (*COLUMNS, TIME)),
            )
    details["columns"] = columns
    front = (1,) * (len(shape) - 2)
    dtype = str(said.get("dtype") or (graph.dtype if graph is not None else "float32"))
    return InputSpec(name, dtype, (*front, rows, len(columns)), POINTS, details)
