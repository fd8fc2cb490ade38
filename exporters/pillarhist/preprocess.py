"""From a cloud of points to the input of a model file, from its self-description alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.clouds import intensity_problem, require_pillars
from exporters.errors import UserError
from exporters.modelfile import InputSpec, ModelSpec


def prepare(points: NDArray[np.float32], spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """The model's input for one cloud.

    Points outside the grid are left out. Where more remain than the input has rows, ``surplus`` of
    the model file decides: they are refused, or every n/rows-th is taken, in their order.

    Args:
        points: ``[n, columns]``, the columns that the model names.

    Raises:
        UserError: another number of columns, NaN or infinite values, intensities of another scale,
            too many points, or points in more pillars than the model has rows for.
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
    require_pillars(kept, item)
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
    seen = points[:, columns.index("intensity")]
    problem = len(seen) and intensity_problem(float(seen.min()), float(seen.max()), len(seen), item)
    if problem:
        raise UserError(problem, fix=f"Scale them to 0 to {item.details['intensity_max']:g}")
