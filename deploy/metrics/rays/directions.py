"""Which way the rays go: the beams of a LiDAR whose rings meet the ground a metre apart.

    pitch k = -(pi/2 - atan k)   k = 1 … 10, then on in the last step until 0.21 rad is passed
    azimuth = 0, 1, … 359 degrees

That makes 39 pitches and 14,040 rays from every origin (`calibration.samples.viewpoints`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_RINGS = 10
_HIGHEST_RAD = 0.21


def pitches() -> NDArray[np.float64]:
    """Of the rings, in radians: ``[39]``, upwards."""
    angles = [-(np.pi / 2 - np.arctan(k)) for k in range(1, _RINGS + 1)]
    step = angles[-1] - angles[-2]
    while angles[-1] < _HIGHEST_RAD:
        angles.append(angles[-1] + step)
    return np.array(angles)


@lru_cache(maxsize=1)
def directions() -> NDArray[np.float32]:
    """Unit vectors ``[14040, 3]``: all azimuths of the lowest ring, then of the next."""
    pitch = pitches()[:, None]
    azimuth = np.deg2rad(np.arange(360.0))[None, :]
    rays = np.stack(
        np.broadcast_arrays(
            np.cos(pitch) * np.cos(azimuth), np.cos(pitch) * np.sin(azimuth), np.sin(pitch)
        ),
        axis=-1,
    )
    flat = rays.reshape(-1, 3).astype(np.float32)
    flat.setflags(write=False)  # one array for all who ask
    return flat
