"""From where RayIoU looks at a key frame: where the LiDAR was at the key frames of its scene.

What is hidden from the vehicle now but was seen on the way counts too, so that rays start at up to
eight places along the drive. They travel with the labels, ``label.ray_origins`` float64 ``[n, 3]``
in metres in the ego frame, since one sample does not know its scene.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RAY_ORIGINS = "ray_origins"
"""Name of the label."""

REACH_M = 39.0
"""Origins further out than this in x or y, near the border of the Occ3D grid, are left out."""

MOST_ORIGINS = 8


def ray_origins(
    lidar_to_ego: ArrayLike, lidar_to_global: ArrayLike, frame: int
) -> NDArray[np.float64]:
    """Where rays start in one key frame of a scene.

    Args:
        lidar_to_ego: 4x4, of the key frame.
        lidar_to_global: ``[frames, 4, 4]``, the LiDAR in the world at every key frame of the scene,
            in order of time.
        frame: index of the key frame.

    Returns:
        ``[n, 3]`` metres in the ego frame of the key frame, n at most `MOST_ORIGINS`; none where
        the LiDAR itself is out of `REACH_M`.
    """
    poses = np.asarray(lidar_to_global, np.float64)
    from_global = np.asarray(lidar_to_ego, np.float64) @ np.linalg.inv(poses[frame])
    origins = (from_global @ poses[:, :, 3].T).T[:, :3]
    origins = origins[(np.abs(origins[:, :2]) < REACH_M).all(axis=1)]
    if len(origins) > MOST_ORIGINS:
        chosen = np.round(np.linspace(0, len(origins) - 1, MOST_ORIGINS)).astype(int)
        origins = origins[chosen]
    return np.ascontiguousarray(origins)
