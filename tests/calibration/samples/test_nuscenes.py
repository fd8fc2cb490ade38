"""The reader of real nuScenes tables: hand-written ones, and ones made from two real samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calibration.samples import hash_samples, open_samples
from calibration.samples.description import bare_spec
from calibration.samples.folders import read_frame
from calibration.samples.frames import FrameSamples
from calibration.samples.nuscenes import NuScenesRoot, pose
from calibration.samples.tables import rows
from exporters.errors import UserError
from exporters.flashocc.config import NUSCENES_CAMERAS
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.modelfile import InputSpec
from tests.calibration.sample_models import camera_spec
from tests.calibration.samples.trees import SMALL, NuScenesTree, nuscenes


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nuscenes(tmp_path_factory.mktemp("nuscenes"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A small data set of its own, to be damaged."""
    return nuscenes(tmp_path / "nuscenes", scenes=1, frames=1)


def root_of(path: Path) -> NuScenesRoot:
    found = NuScenesRoot.find(path)
    assert found is not None
    return found


def test_key_frames_become_samples_of_surround_cameras(tree: Path) -> None:
    samples = open_samples(tree, camera_spec())
    assert isinstance(samples, FrameSamples)
    assert samples.names == tuple(f"sample-{i:04d}" for i in range(12))
    assert samples.groups == tuple(f"scene-{i // 4:04d}" for i in range(12))
    first = samples.sample(5)
    assert first["images"].shape == camera_spec().inputs[0].shape
    assert {"label.boxes", "label.box_names", "label.box_points"} <= set(first)
    assert hash_samples([next(iter(samples))]) == hash_samples([samples.sample(0)])


def test_images_poses_and_intrinsics_are_those_of_the_key_frame(tree: Path) -> None:
    frame = root_of(tree).camera_frame("sample-0005")
    expected = {camera.name: camera for camera in nuscenes_like_rig().cameras}
    for camera in frame.rig.cameras:
        assert (camera.width, camera.height) == SMALL
        assert np.allclose(camera.sensor2ego, expected[camera.name].sensor2ego)
        assert np.allclose(camera.ego2global[:3, 3], (1005, 200, 0))
        assert np.allclose(camera.intrinsics[0, 0], expected[camera.name].intrinsics[0, 0] / 10)
        file = tree / "samples" / camera.name / "sample-0005.png"
        assert np.array_equal(frame.images[camera.name], np.asarray(Image.open(file)))
    assert set(frame.rig.names) == set(NUSCENES_CAMERAS)


def test_the_past_of_a_key_frame_is_that_of_its_scene(tree: Path) -> None:
    """Three scenes of four frames, five metres apart."""
    root = root_of(tree)
    frame = root.camera_frame("sample-0006")
    front = [rig.ordered(["CAM_FRONT"]).cameras[0] for rig in (frame.rig, *frame.past)]
    assert [camera.ego2global[0, 3] for camera in front] == [1010, 1005, 1000]
    assert {camera.ego2global[1, 3] for camera in front} == {200}
    assert root.camera_frame("sample-0004").past == ()


def test_what_boxes_do_is_read(copy: Path) -> None:
    """The car of a track is 5 m farther half a second later; the person is seen once."""
    edit(copy, "attribute", lambda rows: rows.append({"token": "a", "name": "vehicle.moving"}))
    edit(copy, "sample_annotation", lambda rows: rows[0].update(attribute_tokens=["a"]))
    edit(copy, "sample_annotation", lambda rows: rows[1].update(num_radar_pts=2))
    labels = root_of(copy).labels("sample-0000")
    assert labels["box_attributes"].tolist() == ["vehicle.moving", ""]
    assert labels["box_radar_points"].tolist() == [0, 2]
    assert not labels["box_velocity_known"].any()

    def add(rows: list[dict[str, Any]]) -> None:
        x, y, z = rows[0]["translation"]
        moved = {"token": "b", "sample_token": "later", "translation": [x + 5, y, z]}
        rows.append({**rows[0], **moved})

    edit(copy, "sample_annotation", add)
    later = {"token": "later", "scene_token": "scene-0000", "timestamp": 500_000}
    edit(copy, "sample", lambda rows: rows.append({**rows[0], **later}))
    labels = root_of(copy).labels("sample-0000")
    assert labels["box_velocity_known"].tolist() == [True, False]
    # the vehicle looks along x of the world, and x ahead is y of the LiDAR
    np.testing.assert_allclose(labels["box_velocity"], [[0, 10], [0, 0]], atol=1e-5)


def test_boxes_are_in_the_lidar_frame(tree: Path) -> None:
    labels = root_of(tree).labels("sample-0002")
    # the LiDAR is 0.9 m ahead and 1.8 m up, its y is ahead and its x to the right
    car = (-2, 20 - 0.9, 0.8 - 1.8, 4.5, 1.9, 1.6, np.pi / 2)
    person = (6, 5 - 0.9, 0.9 - 1.8, 0.7, 0.6, 1.8, np.pi / 2)
    assert np.allclose(labels["boxes"], [car, person], atol=1e-3)
    assert labels["box_names"].tolist() == ["vehicle.car", "human.pedestrian.adult"]
    assert labels["box_points"].tolist() == [17, 3]


def test_points_without_the_vehicle(tree: Path) -> None:
    item = InputSpec("points", "float32", (4096, 4), "points", {"intensity_max": 1.0})
    samples = open_samples(tree, bare_spec([item]))
    raw = np.fromfile(tree / "samples/LIDAR_TOP/sample-0000.pcd.bin", np.float32).reshape(-1, 5)
    kept = raw[~((np.abs(raw[:, 0]) < 1) & (np.abs(raw[:, 1]) < 1))]
    assert len(kept) <= 2900
    points = samples.sample(0)["points"]
    assert np.allclose(points[: len(kept)], kept[:, :4] * np.float32([1, 1, 1, 1 / 255]))
    assert (points[len(kept) :] == -10_000).all()


def test_one_camera_for_a_model_of_single_images(tree: Path) -> None:
    details = {"layout": "HWC", "color_order": "RGB", "size": [90, 160], "resize": "stretch"}
    back = InputSpec("x", "uint8", (90, 160, 3), "image", {**details, "camera": "CAM_BACK"})
    expected = np.asarray(Image.open(tree / "samples/CAM_BACK/sample-0003.png"))
    assert np.array_equal(open_samples(tree, bare_spec([back])).sample(3)["x"], expected)
    wrong = InputSpec("x", "uint8", (90, 160, 3), "image", {**details, "camera": "CAM_BAK"})
    with pytest.raises(UserError, match=r"has no camera 'CAM_BAK'\. Did you mean 'CAM_BACK'"):
        open_samples(tree, bare_spec([wrong])).sample(0)


def test_occupancy_labels_beside_the_tables(copy: Path) -> None:
    folder = copy / "gts" / "scene-0000" / "sample-0000"
    folder.mkdir(parents=True)
    semantics = np.random.default_rng(0).integers(0, 18, (40, 40, 4)).astype(np.uint8)
    np.savez(folder / "labels.npz", semantics=semantics, mask_camera=semantics > 3)
    sample = open_samples(copy, camera_spec()).sample(0)
    assert np.array_equal(sample["label.semantics"], semantics)


def test_the_hash_follows_images_poses_and_annotations(copy: Path) -> None:
    before = open_samples(copy, camera_spec()).sha256
    assert open_samples(copy / "v1.0-mini", camera_spec()).sha256 == before
    edit(copy, "ego_pose", lambda rows: rows[0]["translation"].__setitem__(0, 7.0))
    after = open_samples(copy, camera_spec()).sha256
    assert after != before
    edit(copy, "sample_annotation", lambda rows: rows[0].update(num_lidar_pts=99))
    assert open_samples(copy, camera_spec()).sha256 != after


def edit(root: Path, table: str, change: Any) -> None:
    path = root / "v1.0-mini" / f"{table}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def truncate(root: Path) -> None:
    path = root / "v1.0-mini" / "sample_data.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"sample_data\.json is truncated or no table of nuScenes"),
        (lambda r: (r / "v1.0-mini" / "scene.json").unlink(), r"cannot read .*scene\.json"),
        (lambda r: (r / "v1.0-mini" / "scene.json").write_text("{}"), "does not start with"),
        (lambda r: (r / "v1.0-mini" / "scene.json").write_text("[1]"), "a row is no object"),
        (lambda r: edit(r, "sample", lambda rows: rows[0].pop("timestamp")),
         r"sample\.json has a row without 'timestamp'"),
        (lambda r: edit(r, "sensor", lambda rows: rows.pop(0)),
         r"sensor\.json has no row 'sensor-0000', which another table names"),
        (lambda r: (r / "samples" / "CAM_BACK" / "sample-0000.png").unlink(), "CAM_BACK.* missing"),
        (lambda r: edit(r, "sample_data", lambda rows: rows.clear()), "no cameras"),
        (lambda r: (r / "v1.0-trainval").mkdir() or edit_copy(r), "holds several versions.*mini"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named(copy: Path, damage: Any, message: str) -> None:
    damage(copy)
    with pytest.raises(UserError, match=message):
        open_samples(copy, camera_spec()).sample(0)


def edit_copy(root: Path) -> None:
    (root / "v1.0-trainval" / "sample_data.json").write_text("[]")


def test_tables_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = [{"a": i, "b": "x" * i, "c": [{"d": "],[{\\"}] * (i % 3)} for i in range(80)]
    path = tmp_path / "t.json"
    for indent in (None, 0, 2):
        path.write_text(json.dumps(content, indent=indent))
        for chunk in (1, 7, 64, 1 << 20):
            monkeypatch.setattr("calibration.samples.tables._CHUNK", chunk)
            assert list(rows(path, "a", "b", "c")) == content
    path.write_text("[]")
    assert list(rows(path, "a")) == []


def test_a_quaternion_is_a_rotation() -> None:
    half = np.sqrt(0.5)
    quarter = pose({"rotation": [half, 0, 0, half], "translation": [0, 0, 0]})  # 90 degrees about z
    assert np.allclose(quarter[:3, :3] @ [1, 0, 0], [0, 1, 0])


@pytest.mark.data
def test_real_samples_written_as_tables_read_the_same(edgeport_data: Path, tmp_path: Path) -> None:
    """`sample.json` was made by somebody else from the same data: an independent conversion."""
    tree = NuScenesTree(tmp_path / "root")
    scene = tree.scene("scene-real")
    folders = sorted(f.parent for f in (edgeport_data / "nuscenes").glob("*/sample.json"))
    for folder in folders:
        write_real(tree, scene, folder)
    root = root_of(tree.write())
    for folder in folders:
        frame, expected = root.camera_frame(folder.name), read_frame(folder)
        for name in NUSCENES_CAMERAS:
            assert np.array_equal(frame.images[name], expected.images[name])
        for ours, theirs in zip(
            frame.rig.ordered(NUSCENES_CAMERAS).cameras,
            expected.rig.ordered(NUSCENES_CAMERAS).cameras,
            strict=True,
        ):
            # quaternions of float32 matrices: orthonormal to 1e-6 only
            assert np.allclose(ours.sensor2ego, theirs.sensor2ego, atol=1e-5)
            assert np.allclose(ours.ego2global, theirs.ego2global, atol=1e-5)
        described = json.loads((folder / "sample.json").read_text())["boxes"]
        boxes = root.labels(folder.name)["boxes"]
        assert np.allclose(boxes[:, :3], [b["center_lidar"] for b in described], atol=1e-3)
        assert np.allclose(boxes[:, 3:6], [b["size_lwh"] for b in described], atol=1e-4)
        turn = boxes[:, 6] - [b["yaw"] for b in described]
        assert np.abs(np.sin(turn / 2)).max() < 0.02  # upright in the world, tilted in the LiDAR


def write_real(tree: NuScenesTree, scene: str, folder: Path) -> None:
    content = json.loads((folder / "sample.json").read_text())
    tree.sample(scene, content["timestamp_us"], folder.name)
    for name, camera in content["cameras"].items():
        matrices = (camera[key] for key in ("sensor2ego", "ego2global", "intrinsics"))
        tree.data(folder.name, name, str(folder / camera["image"]), *matrices)
    lidar = content["lidar"]
    points = str(folder / lidar["points"])
    tree.data(folder.name, "LIDAR_TOP", points, lidar["lidar2ego"], lidar["ego2global"])
    lidar2global = np.array(lidar["ego2global"]) @ np.array(lidar["lidar2ego"])
    for box in content["boxes"]:
        placed = np.eye(4)
        cos, sin = np.cos(box["yaw"]), np.sin(box["yaw"])
        placed[:2, :2] = [[cos, -sin], [sin, cos]]
        placed[:3, 3] = box["center_lidar"]
        length, width, height = box["size_lwh"]
        tree.box(folder.name, lidar2global @ placed, (width, length, height), 0, 1)
