"""Generated drives in the format of nuScenes: what the reader finds is what the world knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from calibration.samples import open_samples
from calibration.samples.drive_samples import lidar_boxes
from calibration.samples.drives import Drive, Sensors
from calibration.samples.nuscenes import NuScenesRoot, pose
from calibration.samples.nuscenes_writing import CATEGORIES, VERSION, write_nuscenes
from calibration.samples.occ3d import read_occupancy
from calibration.samples.synthetic import scaled
from calibration.samples.world.solids import Label
from calibration.samples.worlds import write_world
from calibration.samples.writing_tables import TABLES, quaternion
from exporters.errors import UserError
from exporters.flashocc.default_rig import four_camera_rig, nuscenes_like_rig
from exporters.flashocc.rig import Rig
from tests.calibration.sample_models import camera_spec

SENSORS = Sensors(Rig(tuple(scaled(camera, 176) for camera in nuscenes_like_rig().cameras)))
FRAMES = 3


@pytest.fixture(scope="module")
def drives() -> list[Drive]:
    return [Drive(3, 1, FRAMES, SENSORS), Drive(3, 2, 1, SENSORS)]


@pytest.fixture(scope="module")
def root(drives: list[Drive], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nuscenes(drives, tmp_path_factory.mktemp("world") / "nuscenes")


def table(root: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((root / VERSION / f"{name}.json").read_text())
    return rows


def test_the_reader_finds_what_was_written(root: Path, drives: list[Drive]) -> None:
    found = NuScenesRoot.find(root)
    assert found is not None
    assert found.scenes == ["drive-3-001"] * FRAMES + ["drive-3-002"]
    for number, token in enumerate(found.tokens[:FRAMES]):
        truth = drives[0].key_frame(number)
        frame = found.camera_frame(token)
        for ours, theirs in zip(
            truth.cameras.rig.cameras,
            frame.rig.ordered(truth.cameras.rig.names).cameras,
            strict=True,
        ):
            np.testing.assert_allclose(theirs.sensor2ego, ours.sensor2ego, atol=1e-9)
            np.testing.assert_allclose(theirs.ego2global, ours.ego2global, atol=1e-6)
            np.testing.assert_allclose(theirs.intrinsics, ours.intrinsics, rtol=1e-12)
            image = frame.images[theirs.name].astype(int)
            # JPEG at quality 95 loses a few grey levels.
            assert np.abs(image - truth.cameras.images[theirs.name]).mean() < 3
        for name, array in truth.cameras.labels.items():
            np.testing.assert_allclose(frame.labels[name], array, atol=1e-6, err_msg=name)
        boxes = lidar_boxes(truth.boxes, SENSORS.lidar2ego)
        np.testing.assert_allclose(frame.labels["boxes"][:, :6], boxes["boxes"][:, :6], atol=1e-3)
        turned = frame.labels["boxes"][:, 6] - boxes["boxes"][:, 6]
        np.testing.assert_allclose(np.cos(turned), 1, atol=1e-6)
        assert np.array_equal(frame.labels["box_points"], boxes["box_points"])
        assert frame.labels["box_attributes"].tolist() == boxes["box_attributes"].tolist()
        known = frame.labels["box_velocity_known"]
        assert known.mean() > 0.9  # the others are seen in one key frame alone
        # millimetres of a rounded place over a second
        np.testing.assert_allclose(
            frame.labels["box_velocity"][known], boxes["box_velocity"][known], atol=0.02
        )
        assert not frame.labels["box_velocity"][~known].any()
        names = [CATEGORIES[Label[name]] for name in boxes["box_names"]]
        assert frame.labels["box_names"].tolist() == names
        scan = truth.scan.points
        own = (np.abs(scan[:, :2]) < 1).all(axis=1)
        assert np.array_equal(found.points(token).values, scan[~own])


def test_written_drives_are_samples(root: Path) -> None:
    samples = open_samples(root, camera_spec())
    assert len(samples) == FRAMES + 1
    assert samples.groups[0] != samples.groups[-1]
    assert samples.sample(0)["label.instances"].shape == (200, 200, 16)


def test_tables_are_linked(root: Path) -> None:
    tokens = {name: {row["token"] for row in table(root, name)} for name in TABLES}
    for name in ("sample", "sample_data", "sample_annotation"):
        rows = {row["token"]: row for row in table(root, name)}
        for row in rows.values():
            if row["next"]:
                assert rows[row["next"]]["prev"] == row["token"]
        ends = sum(not row["prev"] for row in rows.values())
        chains = {"sample": 2, "sample_data": 14}.get(name, len(tokens["instance"]))
        assert ends == chains
    for row in table(root, "sample_annotation"):
        assert row["sample_token"] in tokens["sample"]
        assert row["instance_token"] in tokens["instance"]
        assert row["visibility_token"] in tokens["visibility"]
        assert set(row["attribute_tokens"]) <= tokens["attribute"]
        assert row["num_lidar_pts"] >= 0
    for row in table(root, "sample_data"):
        assert row["ego_pose_token"] in tokens["ego_pose"]
        assert row["calibrated_sensor_token"] in tokens["calibrated_sensor"]
        assert (root / row["filename"]).is_file()
    counts = [row["nbr_annotations"] for row in table(root, "instance")]
    assert sum(counts) == len(tokens["sample_annotation"])
    assert max(counts) == FRAMES
    assert [row["nbr_samples"] for row in table(root, "scene")] == [FRAMES, 1]


def test_occupancy_alone_and_with_ids(root: Path) -> None:
    plain, panoptic = (
        sorted(root.glob(f"{folder}/*/*/labels.npz")) for folder in ("gts", "occ3d_panoptic")
    )
    assert len(plain) == len(panoptic) == FRAMES + 1
    first, second = read_occupancy(plain[0]), read_occupancy(panoptic[0])
    assert list(first) == ["semantics", "mask_camera", "mask_lidar"]
    assert list(second) == [*first, "instances"]
    for name, array in first.items():
        assert array.shape == (200, 200, 16)
        assert array.dtype == np.uint8
        assert np.array_equal(array, second[name])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mask_camera": np.zeros((2, 2, 2), np.uint8)}, "not semantics"),
        ({"semantics": np.zeros((2, 2), np.uint8)}, "not three axes"),
        ({"semantics": np.full((2, 2, 2), 18, np.uint8)}, "class 18, the highest is 17"),
        ({"semantics": np.zeros((2, 2, 2), np.float32)}, "no uint8"),
        (
            {"semantics": np.zeros((2, 2, 2), np.uint8), "mask_camera": np.zeros((2, 2, 3), bool)},
            r"mask_camera has shape \[2, 2, 3\]",
        ),
        (
            {
                "semantics": np.zeros((2, 2, 2), np.uint8),
                "mask_lidar": np.full((2, 2, 2), 2, np.uint8),
            },
            "a mask is 0 or 1",
        ),
    ],
)
def test_labels_that_are_none(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    path = tmp_path / "labels.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=words):
        read_occupancy(path)


def test_nothing_is_written_over(root: Path, drives: list[Drive]) -> None:
    with pytest.raises(UserError, match="is not empty"):
        write_nuscenes(drives, root)


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_against_scipy(q: tuple[float, float, float, float]) -> None:
    matrix = Rotation.from_quat(q).as_matrix()
    ours = quaternion(matrix)
    assert ours[0] >= 0
    again = pose({"rotation": ours, "translation": [0, 0, 0]})[:3, :3]
    np.testing.assert_allclose(again, matrix, atol=1e-12)


def test_a_world_by_its_name(tmp_path: Path) -> None:
    written = write_world("synthetic:1x2:3", tmp_path / "a", "nuscenes", image_width=64, cameras=4)
    assert (written.drives, written.frames) == (1, 2)
    found = NuScenesRoot.find(written.root)
    assert found is not None
    assert set(found.camera_frame(found.tokens[0]).images) == set(four_camera_rig().names)
    for source, form, words in (
        ("synthetic:3", "nuscenes", "single frames"),
        ("synthetic:1x2", "nuscene", "unknown format"),
        ("synthetic:1x2", "kitti", "one camera"),
    ):
        with pytest.raises(UserError, match=words):
            write_world(source, tmp_path / "b", form, image_width=64)
    assert not (tmp_path / "b").exists()
