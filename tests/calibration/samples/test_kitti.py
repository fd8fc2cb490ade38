"""The reader of KITTI: a hand-written tree, and the official files as oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.samples import inputs_of, open_samples
from calibration.samples.description import bare_spec
from calibration.samples.kitti import KittiCalibration, KittiRoot, lidar_boxes
from calibration.samples.sets import spec_for
from exporters.errors import UserError
from exporters.modelfile import InputSpec
from tests.calibration.sample_models import camera_spec
from tests.calibration.samples.trees import KITTI_CALIBRATION, kitti

POINTS = InputSpec("points", "float32", (2048, 4), "points")
PICTURE = InputSpec(
    "x",
    "uint8",
    (37, 124, 3),
    "image",
    {"layout": "HWC", "color_order": "RGB", "size": [37, 124], "resize": "stretch"},
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return kitti(tmp_path / "kitti", frames=3)


def part(path: Path) -> KittiRoot:
    found = KittiRoot.find(path)
    assert found is not None
    return found


def seen_by_hand(point: Any, size: tuple[int, int]) -> bool:
    """Whether one LiDAR point falls into the image, one step after the other."""
    lines = dict(line.split(": ", 1) for line in KITTI_CALIBRATION.splitlines() if line)
    matrix = {key: np.array(value.split(), float) for key, value in lines.items()}
    x, y, z = matrix["R0_rect"].reshape(3, 3) @ (
        matrix["Tr_velo_to_cam"].reshape(3, 4) @ [*point[:3], 1]
    )
    if z < 0:
        return False
    u, v, w = matrix["P2"].reshape(3, 4) @ [x, y, z, 1]
    return bool(0 <= u / w < size[0] and 0 <= v / w < size[1])


def test_scans_are_cut_to_what_the_camera_sees(root: Path) -> None:
    points = open_samples(root, bare_spec([POINTS])).sample(1)["points"]
    raw = np.fromfile(root / "training/velodyne/000001.bin", np.float32).reshape(-1, 4)
    expected = np.array([point for point in raw if seen_by_hand(point, (124, 37))])
    assert 100 < len(expected) < 1500
    assert np.array_equal(points[: len(expected)], expected)
    assert (points[len(expected) :] == -10_000).all()
    everything = InputSpec("points", "float32", (4096, 4), "points", {"view": "all"})
    points = open_samples(root, bare_spec([everything])).sample(1)["points"]
    assert np.array_equal(points[:4000], raw)


def test_reduced_scans_are_taken_where_they_lie(root: Path) -> None:
    folder = root / "training" / "velodyne_reduced"
    folder.mkdir()
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    rows.tofile(folder / "000002.bin")
    assert np.array_equal(part(root).points("000002").values, rows)
    assert len(part(root).points("000002", "all").values) == 4000


def test_intensities_of_another_scale_are_named(root: Path) -> None:
    details = {"columns": ["x", "y", "z", "intensity"], "intensity_max": 1.0, "view": "all"}
    item = InputSpec("points", "float32", (4096, 4), "points", details)
    samples = open_samples(root, bare_spec([item]))
    samples.sample(1)
    path = root / "training" / "velodyne" / f"{samples.names[1]}.bin"
    rows = np.fromfile(path, np.float32).reshape(-1, 4)
    rows[:, 3] = np.linspace(0, 255, len(rows))
    rows.tofile(path)
    with pytest.raises(UserError, match=r"000001: intensities reach 255, the model takes 0 to 1"):
        samples.sample(1)


def test_images_and_points_together(root: Path) -> None:
    (root / "training" / "image_2" / "000001.png").unlink()
    samples = open_samples(root / "training", bare_spec([POINTS, PICTURE]))
    assert samples.names == ("000000", "000002")
    sample = samples.sample(0)
    assert sample["x"].shape == (37, 124, 3)
    assert sample["label.box_names"].tolist() == ["Car"]
    assert sample["label.truncation"].tolist() == [0.25]
    assert sample["label.occlusion"].tolist() == [1]
    assert np.allclose(sample["label.box_pixels"], [[387.63, 181.54, 423.81, 203.12]])
    assert np.allclose(sample["label.ignored_pixels"], [[503.89, 169.71, 590.61, 190.13]])


def corners(box: Any) -> Any:
    """Of a box in the LiDAR frame, ``[8, 3]``."""
    x, y, z, length, width, height, yaw = box
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) / 2
    local = signs * [length, width, height]
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return local @ turn.T + [x, y, z]


def test_boxes_have_the_corners_that_the_camera_frame_gives() -> None:
    identity = np.eye(4)
    identity[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]  # a camera that looks along x
    calibration = KittiCalibration(identity, np.eye(4)[:3])
    row = np.zeros((1, 14))
    row[0, 7:14] = (1.5, 1.8, 4.0, -16.5, 2.4, 58.5, 0.3)  # h, w, l, x, y, z, rotation_y
    # corners as the devkit draws them: about y, from the middle of the bottom
    cos, sin = np.cos(0.3), np.sin(0.3)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 0) for k in (-1, 1)])
    local = signs * [2.0, 1.5, 0.9]
    camera = local @ turn.T + [-16.5, 2.4, 58.5]
    expected = camera @ identity[:3, :3]
    found = corners(lidar_boxes(row, calibration)[0])
    distances = np.linalg.norm(found[:, None] - expected[None], axis=-1)
    assert distances.min(axis=1).max() < 1e-4  # float32 at 60 m
    assert sorted(distances.argmin(axis=1)) == list(range(8))


def test_the_mapping_of_the_devkit_gives_drives(tmp_path: Path) -> None:
    root = kitti(tmp_path / "kitti", frames=6, mapping=True)
    samples = open_samples(root, bare_spec([POINTS]))
    # train_rand is 6, 5, 4, …: frame 0 is line 6, of the third drive
    assert [g[-9:-5] for g in samples.groups] == ["0002", "0002", "0001", "0001", "0000", "0000"]
    assert open_samples(kitti(tmp_path / "plain"), bare_spec([POINTS])).groups[0] == "000000"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: (t / "calib" / "000000.txt").write_text("P2: 1 2\n"), "no calibration of KITTI"),
        (lambda t: (t / "calib" / "000000.txt").unlink(), r"cannot read .*calib.000000\.txt"),
        (lambda t: (t / "velodyne" / "000000.bin").write_bytes(b"123"), "points .* are truncated"),
        (lambda t: (t / "velodyne" / "000000.bin").write_bytes(b""), "points .* are truncated"),
        (lambda t: (t / "label_2" / "000000.txt").write_text("Car 1 2\n"), "no label file of"),
    ],
)
def test_what_is_damaged_is_named(root: Path, damage: Any, message: str) -> None:
    damage(root / "training")
    with pytest.raises(UserError, match=message):
        open_samples(root, bare_spec([POINTS])).sample(0)


def test_models_that_kitti_cannot_serve(root: Path) -> None:
    with pytest.raises(UserError, match=r"no frame with what flashocc-nano takes: images \(camera"):
        open_samples(root, camera_spec())
    tensor = InputSpec("state", "float32", (1, 8))
    with pytest.raises(UserError, match=r"'state' \(tensor\) cannot be filled from 000000"):
        open_samples(root, bare_spec([POINTS, tensor])).sample(0)
    with pytest.raises(UserError, match="nobody says what the model's inputs want"):
        open_samples(root)


def test_the_hash_follows_the_files(root: Path) -> None:
    before = open_samples(root, bare_spec([POINTS])).sha256
    assert open_samples(root, bare_spec([POINTS])).sha256 == before
    file = root / "training" / "label_2" / "000000.txt"
    file.write_text(file.read_text().replace("0.25", "0.50"))
    assert open_samples(root, bare_spec([POINTS])).sha256 != before


@pytest.mark.data
def test_the_official_reduced_scans_are_reproduced_bit_by_bit(edgeport_data: Path) -> None:
    root = part(edgeport_data / "kitti")
    for number in ("000000", "000001", "000002", "000003", "000004", "000005"):
        official = root.points(number).values
        scan = root.points(number, "all").values
        calibration = root.calibration(number)
        size = (1224, 370) if number == "000000" else (1242, 375)
        assert np.array_equal(scan[calibration.seen(scan, size)], official)


@pytest.mark.data
def test_real_boxes_hold_real_points(edgeport_data: Path) -> None:
    root = part(edgeport_data / "kitti")
    held = {}
    for number in ("000000", "000002", "000003"):
        labels, scan = root.labels(number), root.points(number, "all").values[:, :3]
        for name, box in zip(labels["box_names"], labels["boxes"].astype(float), strict=True):
            yaw = box[6]
            turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            local = np.c_[(scan[:, :2] - box[:2]) @ turn.T, scan[:, 2] - box[2]]
            held[number, str(name)] = int((np.abs(local) < box[3:6] / 2).all(axis=1).sum())
    assert held["000000", "Pedestrian"] == 377
    assert held["000003", "Car"] == 674


@pytest.mark.data
def test_a_trained_detector_finds_the_labelled_car(edgeport_data: Path) -> None:
    """Points, padding and boxes belong together: an independent network says where the car is."""
    import onnxruntime

    path = edgeport_data / "fixtures" / "pillarhist_tiny_car.onnx"
    samples = open_samples(edgeport_data / "kitti", spec_for(path))
    sample = samples.sample(samples.names.index("000003"))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    heatmap, _ = session.run(None, inputs_of(sample))
    row, column = np.unravel_index(heatmap[0, 0].argmax(), heatmap.shape[2:])
    found = (0.64 * (column + 0.5), 0.64 * (row + 0.5) - 39.68)  # cells of 0.64 m from (0, -39.68)
    assert np.abs(sample["label.boxes"][0, :2] - found).max() < 0.64
