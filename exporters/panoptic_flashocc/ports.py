"""Names of the graph's inputs and outputs, and the motion that goes into it; without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exporters.flashocc.geometry import Grid
from exporters.panoptic_flashocc.config import PanopticConfig

CAMERA_VECTORS = "camera_vectors"
MOTION = "history_motion"
LENGTH = "history_length"
BEV = "bev"
"""The current BEV map: an output of networks with a memory."""


def history_names(count: int) -> tuple[str, ...]:
    """Inputs for past maps, the latest first."""
    return tuple(f"history_{age}" for age in range(1, count + 1))


def output_names(config: PanopticConfig, *, logits: bool) -> tuple[str, ...]:
    """Outputs of the exported graph, in order."""
    if logits:
        names = ("logits", *(("reg", "height", "heatmap") if config.centres else ()))
    else:
        names = ("labels", *(("instances",) if config.centres else ()))
    return (*names, BEV) if config.history else names


def cell_motion(
    now: NDArray[np.float64], past: Sequence[NDArray[np.float64]], grid: Grid, count: int
) -> NDArray[np.float32]:
    """Cells of the current map as cells of past maps, float32 ``[count, 2, 3]``.

    Args:
        now, past: ``ego2global`` of the key camera, 4x4; ``past`` with the latest first. Where
            there are fewer than ``count``, the rest is the identity.
    """
    a = np.array([[grid.x[2], 0, grid.x[0]], [0, grid.y[2], grid.y[0]], [0, 0, 1.0]])
    motion = np.tile(np.eye(3), (count, 1, 1))
    for index, pose in enumerate(past[:count]):
        transform = np.linalg.inv(pose.astype(np.float64)) @ now.astype(np.float64)
        plane = transform[np.ix_([0, 1, 3], [0, 1, 3])]
        motion[index] = np.linalg.inv(a) @ plane @ a
    return motion[:, :2].astype(np.float32)
