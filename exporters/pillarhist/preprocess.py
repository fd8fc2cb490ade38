"""From a cloud of points to the input of a model file, from its self-description alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError
from exporters.modelfile import InputSpec, ModelSpec

_LOUD = 1.5
"""Intensities beyond this times the full return are of another scale, not of a bright object."""

_QUIET = 1 / 64
"""Where no intensity of a cloud reaches this part of a full return, the scale is another one."""

_JUDGED = 100  # points from which a scale can be told


def prepare(points: NDArray[np.float32], spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """The model's input for one cloud.

    Points outside the grid are left out. Where more remain than the input has rows, ``surplus`` of
    the model file decides: they are refused, or every n/rows-th is taken, in their order.

    Args:
        points: ``[n, columns]``, the columns that the model names.

    Raises:
        UserError: another number of columns, NaN or infinite values, intensities of another scale,
            or too many points.
    """
    item = next(item for item in spec.inputs if item.semantics == "points")
    require_points(points, item)
    low, high = np.array(item.details["range"], np.float32).reshape(2, 3)
    kept = points[((points[:, :3] >= low) & (points[:, :3] < high)).all(axis=1)]
    room = int(item.shape[0])
    if len(kept) > room:
        if item.details["surplus"] == "refuse":
            raise UserError(
                f"{len(kept)} points lie in the grid, the model takes {room}",
                fix=f"Export with --points {len(kept)} or more, or with --surplus thin",
            )
        kept = kept[np.arange(room) * len(kept) // room]
    rows = np.full((room, points.shape[1]), item.details["fill"], np.float32)
    rows[: len(kept)] = kept
    return {item.name: rows}


def require_points(points: NDArray[Any], item: InputSpec) -> None:
    """Of a cloud before it is fed.

    Raises:
        UserError: wrong columns, values that are not finite, or intensities of another scale.
    """
    columns = list(item.details["columns"])
    if points.ndim != 2 or points.shape[1] != len(columns):
        raise UserError(
            f"points have shape {list(points.shape)}, the model takes [n, {len(columns)}]: "
            f"{', '.join(columns)}",
            fix="Choose those columns; time is the lag behind the key frame in seconds",
        )
    bad = int(len(points) - np.isfinite(points).all(axis=1).sum())
    if bad:
        raise UserError(
            f"{bad} of {len(points)} points have NaN or infinite values",
            fix="Leave them out: points[numpy.isfinite(points).all(axis=1)]",
        )
    problem = intensity_problem(points[:, columns.index("intensity")], item)
    if problem:
        raise UserError(problem, fix=f"Scale them to 0 to {item.details['intensity_max']:g}")


def intensity_problem(intensity: NDArray[Any], item: InputSpec) -> str:
    """What is wrong with the scale of these intensities; empty where nothing is."""
    full = float(item.details["intensity_max"])
    if len(intensity) == 0:
        return ""
    lowest, highest = float(intensity.min()), float(intensity.max())
    if highest > _LOUD * full:
        return f"intensities reach {highest:g}, the model takes 0 to {full:g}"
    if lowest < -0.01 * full:
        return f"intensities begin at {lowest:g}, the model takes 0 to {full:g}"
    if full > 1 and len(intensity) >= _JUDGED and highest <= full * _QUIET:
        return f"intensities end at {highest:g}, the model takes 0 to {full:g}"
    return ""
