"""Generated drives in the format of KITTI: what the reader finds is what the world knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.samples import open_samples
from calibration.samples.drive_samples import lidar_boxes
from calibration.samples.kitti import KittiRoot
from calibration.samples.kitti_writing import (
    TYPES,
    kitti_drives,
    label_rows,
    shown_pixels,
    write_kitti,
)
from calibration.samples.world.solids import Label
from exporters.errors import UserError
from exporters.modelfile import InputSpec
from tests.calibration.sample_models import camera_spec

FRAMES = 2


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(kitti_drives(2, FRAMES, 4), tmp_path_factory.mktemp("world") / "kitti")


def test_the_reader_finds_what_was_written(root: Path) -> None:
    found = KittiRoot.find(root)
    assert found is not None
    drive = kitti_drives(1, FRAMES, 4)[0]
    named = 0
    for number in range(FRAMES):
        truth = drive.key_frame(number)
        stem = f"{number:06d}"
        scan = found.points(stem, "all").values
        np.testing.assert_allclose(scan[:, :3], truth.scan.points[:, :3])
        np.testing.assert_allclose(scan[:, 3] * 255, truth.scan.points[:, 3], atol=1e-3)
        frame = found.frame(stem)
        assert frame.image is not None
        assert np.array_equal(frame.image(None), truth.cameras.images["image_2"])
        labels = found.labels(stem)
        every = lidar_boxes(truth.boxes, drive.sensors.lidar2ego)
        for box, name in zip(labels["boxes"], labels["box_names"], strict=True):
            apart = np.abs(every["boxes"][:, :6] - box[:6]).max(axis=1)
            nearest = int(apart.argmin())
            assert apart[nearest] < 0.02  # files hold hundredths of a metre
            assert TYPES[Label[every["box_names"][nearest]]] == name
            assert np.cos(every["boxes"][nearest, 6] - box[6]) > 0.9998
            named += 1
        left, top, right, bottom = labels["box_pixels"].T
        assert (left >= 0).all()
        assert (right <= 1241).all()
        assert (left < right).all()
        assert (top < bottom).all()
    assert named > 6


def test_boxes_in_the_image_hold_what_it_shows(root: Path) -> None:
    """Points on a thing that is not occluded fall into its rectangle."""
    found = KittiRoot.find(root)
    assert found is not None
    checked = 0
    for number in range(FRAMES):
        stem = f"{number:06d}"
        labels, calibration = found.labels(stem), found.calibration(stem)
        points = found.points(stem, "camera").values[:, :3].astype(float)
        camera = np.c_[points, np.ones(len(points))] @ calibration.lidar2camera.T
        pixels = camera @ calibration.projection.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        for box, rectangle in zip(labels["boxes"], labels["box_pixels"], strict=True):
            cos, sin = np.cos(box[6]), np.sin(box[6])
            x, y, z = (points - box[:3]).T
            near = np.stack([cos * x + sin * y, cos * y - sin * x, z], axis=1)
            held = (np.abs(near) < box[3:6] / 2 - 0.05).all(axis=1)
            low, high = rectangle[:2] - 2, rectangle[2:] + 2
            assert ((pixels[held] >= low) & (pixels[held] <= high)).all()
            checked += int(held.sum())
    assert checked > 50


def test_the_lidar_hits_nothing_that_the_calibration_says_is_behind(root: Path) -> None:
    found = KittiRoot.find(root)
    assert found is not None
    points = found.points("000000", "camera").values
    assert len(points) > 5000
    assert points[:, 0].min() > 0


def test_occlusion_is_counted_in_pixels() -> None:
    drive = kitti_drives(1, 1, 4)[0]
    frame = drive.key_frame(0)
    camera = frame.cameras.rig.cameras[0]
    numbers = [box.number for box in frame.boxes]
    pixels = shown_pixels(drive, 0, camera, numbers)
    assert all(shown <= alone for shown, alone in pixels)
    assert any(0 < shown < alone for shown, alone in pixels)
    rows = [row.split() for row in label_rows(drive, 0, frame.boxes, camera)]
    assert {row[2] for row in rows} <= {"0", "1", "2"}
    assert all(0 <= float(row[1]) <= 1 for row in rows)
    assert all(len(row) == 15 for row in rows)


def test_drives_stay_whole_and_are_samples(root: Path) -> None:
    details = {"columns": ["x", "y", "z", "intensity"], "view": "all"}
    spec = camera_spec(inputs=(InputSpec("points", "float32", (120_000, 4), "points", details),))
    samples = open_samples(root, spec)
    assert samples.groups == ("drive-4-000",) * FRAMES + ("drive-4-001",) * FRAMES
    assert samples.sample(3)["points"].shape == (120_000, 4)


def test_nothing_is_written_over(root: Path) -> None:
    with pytest.raises(UserError, match="is not empty"):
        write_kitti(kitti_drives(1, 1, 0), root)


def test_drives_without_images_give_all_the_rest(root: Path, tmp_path: Path) -> None:
    bare = write_kitti(kitti_drives(1, FRAMES, 4, images=False), tmp_path / "kitti")
    for name in ("velodyne/000001.bin", "calib/000001.txt", "label_2/000001.txt"):
        assert (bare / "training" / name).read_bytes() == (root / "training" / name).read_bytes()
    assert not list((bare / "training" / "image_2").iterdir())
