"""Clouds for tests: real frames where they are, and made ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.pillarhist.config import Config

Points = NDArray[np.float32]


def kitti(data: Path, part: str = "training/velodyne_reduced") -> list[Points]:
    files = sorted((data / "kitti" / part).glob("*.bin"))
    if not files:
        pytest.skip(f"no KITTI scans in {part} under EDGEPORT_DATA")
    return [np.fromfile(file, np.float32).reshape(-1, 4) for file in files]


def nuscenes(data: Path) -> list[Points]:
    """x, y, z, intensity and a time of 0: one sweep."""
    files = sorted((data / "nuscenes").glob("*/LIDAR_TOP.bin"))
    if not files:
        pytest.skip("no nuScenes scans under EDGEPORT_DATA")
    scans = [np.fromfile(file, np.float32).reshape(-1, 5) for file in files]
    return [np.c_[scan[:, :4], np.zeros(len(scan), np.float32)] for scan in scans]


def padded(points: Points, rows: int, columns: int) -> Points:
    """The input of a model: as many of the points as fit, and padding."""
    cloud = np.full((rows, columns), -10_000.0, np.float32)
    count = min(rows, len(points))
    cloud[:count, : points.shape[1]] = points[:count]
    if columns > points.shape[1]:
        cloud[:count, points.shape[1] :] = 0
    return cloud


def made(config: Config, seed: int, count: int) -> Points:
    """Uniform points in the grid and a little outside, in a few crowded pillars too."""
    random = np.random.default_rng(seed)
    low, high = np.array(config.grid.low), np.array(config.grid.high)
    places = random.uniform(low - 1, high + 1, (count, 3))
    crowd = count // 4
    places[:crowd, :2] = places[crowd, :2] + random.uniform(-0.1, 0.1, (crowd, 2))
    rest = random.uniform(0, config.intensity_max, (count, len(config.columns) - 3))
    cloud: Points = np.c_[places, rest].astype(np.float32)
    return cloud
