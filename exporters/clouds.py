"""Is a cloud of points one that a model takes? Asked of its self-description, before it is fed.

What a file of points cannot say is checked by what it holds: on which scale intensities are, 0 to 1
(KITTI) or 0 to 255 (nuScenes), and in how many pillars the points lie where a model has rows for a
number of them only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError
from exporters.modelfile import InputSpec

_LOUD = 1.5
"""Intensities beyond this times the full return are of another scale, not of a bright object."""

_QUIET = 1 / 64
"""Where no intensity of a cloud reaches this part of a full return, the scale is another one."""

_JUDGED = 100  # points from which a scale can be told


def intensity_problem(lowest: float, highest: float, points: int, item: InputSpec) -> str:
    """What is wrong with a scale of intensities; empty where nothing is.

    Args:
        lowest, highest: of a cloud.
        points: that it has.
        item: with ``intensity_max``, what a full return has; nothing is wrong without it.
    """
    if points == 0 or "intensity_max" not in item.details:
        return ""
    full = float(item.details["intensity_max"])
    if highest > _LOUD * full:
        return f"intensities reach {highest:g}, the model takes 0 to {full:g}"
    if lowest < -0.01 * full:
        return f"intensities begin at {lowest:g}, the model takes 0 to {full:g}"
    if full > 1 and points >= _JUDGED and highest <= full * _QUIET:
        return f"intensities end at {highest:g}, the model takes 0 to {full:g}"
    return ""


def intensities(rows: NDArray[Any], item: InputSpec) -> NDArray[Any]:
    """Of the rows of an input, or of a cloud, that are points; empty if it has no such column."""
    columns = list(item.details.get("columns", ()))
    table = rows.reshape(-1, rows.shape[-1])
    if "intensity" not in columns or table.shape[1] != len(columns):
        return table[:0, 0]
    there = table[:, 0] != item.details.get("fill")
    return np.asarray(table[there, columns.index("intensity")])


def require_pillars(points: NDArray[np.float32], item: InputSpec) -> None:
    """Of points in the grid: do their pillars fit? The model would leave the last ones out.

    Raises:
        UserError: they do not.
    """
    room = item.details.get("pillars")
    if room is None or len(points) <= room:
        return
    low = np.array(item.details["range"][:2], np.float32)
    index = np.floor((points[:, :2] - low) / np.array(item.details["cell"], np.float32))
    found = len(np.unique(index.astype(np.int64) @ np.array([1, 1 << 20])))
    if found > room:
        raise UserError(
            f"the points lie in {found} pillars, the model has rows for {room}",
            fix=f"Export with --max-pillars {found} or more",
        )
