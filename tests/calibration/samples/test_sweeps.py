"""Several scans as one cloud: moved through the world, with their age."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.samples.nuscenes import NuScenesRoot, open_nuscenes, pose
from exporters.modelfile import InputSpec, ModelSpec, WeightsSource
from tests.calibration.samples import trees

DETAILS = {"columns": ["x", "y", "z", "intensity", "time"], "sweeps": 3, "intensity_max": 255.0}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One scene of four key frames; each scan's row names the one before it."""
    path = trees.nuscenes(tmp_path, scenes=1, frames=4)
    table = next(path.glob("v1.0-*/sample_data.json"))
    rows = json.loads(table.read_text())
    scans = [row for row in rows if "LIDAR_TOP" in row["filename"]]
    for number, row in enumerate(scans):
        row["prev"] = scans[number - 1]["token"] if number else ""
        row["timestamp"] = 50_000 * number
    table.write_text(json.dumps(rows))
    return path


def read(root: Path, token: str) -> NDArray[np.float32]:
    return np.fromfile(root / f"samples/LIDAR_TOP/{token}.pcd.bin", np.float32).reshape(-1, 5)


def test_scans_are_moved_and_aged(root: Path) -> None:
    data = NuScenesRoot.find(root)
    assert data is not None
    cloud = data.points(data.tokens[2], sweeps=3)
    assert cloud.columns == (*("x", "y", "z", "intensity", "ring"), "time")
    ages = cloud.values[:, 5]
    np.testing.assert_allclose(np.unique(ages), [0, 0.05, 0.1], atol=1e-7)
    now = read(root, data.tokens[2])
    now = now[(np.abs(now[:, :2]) >= 1).any(axis=1)]
    np.testing.assert_array_equal(cloud.values[ages == 0, :5], now)
    # the vehicle drives 5 m a key frame; ahead is y of the LiDAR
    before = read(root, data.tokens[1])
    before = before[(np.abs(before[:, :2]) >= 1).any(axis=1)]
    moved = cloud.values[np.isclose(ages, 0.05), :3] - before[:, :3]
    np.testing.assert_allclose(moved, np.tile([0, -5, 0], (len(moved), 1)), atol=1e-4)


def test_a_scene_begins_with_fewer(root: Path) -> None:
    data = NuScenesRoot.find(root)
    assert data is not None
    assert np.unique(data.points(data.tokens[0], sweeps=3).values[:, 5]).tolist() == [0]


def test_a_model_that_takes_time_gets_it(root: Path) -> None:
    item = InputSpec("points", "float32", (12_000, 5), "points", DETAILS)
    spec = ModelSpec("v", "f", "detection", (item,), (), WeightsSource("random", seed=0))
    data = NuScenesRoot.find(root)
    assert data is not None
    sample = open_nuscenes(data, spec).sample(3)["points"]
    there = sample[:, 0] > -9999
    assert 8000 < there.sum() < 9000
    np.testing.assert_allclose(np.unique(sample[there, 4]), [0, 0.05, 0.1], atol=1e-7)


def test_hashes_know_the_scans_before(root: Path) -> None:
    item = InputSpec("points", "float32", (12_000, 5), "points", DETAILS)
    spec = ModelSpec("v", "f", "detection", (item,), (), WeightsSource("random", seed=0))

    def hashes() -> list[str]:
        data = NuScenesRoot.find(root)
        assert data is not None
        samples = open_nuscenes(data, spec)
        return [samples.subset([index]).sha256 for index in range(4)]

    before, data = hashes(), NuScenesRoot.find(root)
    assert data is not None
    file = root / f"samples/LIDAR_TOP/{data.tokens[0]}.pcd.bin"
    values = np.fromfile(file, np.float32)
    values[0] += 1
    values.tofile(file)
    # three scans make a cloud: the fourth key frame does not see the first one's
    assert [a == b for a, b in zip(before, hashes(), strict=True)] == [False, False, False, True]


def test_poses_are_rigid() -> None:
    matrix = pose({"rotation": [0.7, 0.1, -0.2, 0.5], "translation": [1, 2, 3]})
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
