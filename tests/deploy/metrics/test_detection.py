"""Boxes of samples and of models as KITTI and nuScenes see them; the metrics by name in verify."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from calibration.samples import InMemorySamples
from calibration.samples.base import labels_of
from calibration.samples.kitti import KittiRoot
from deploy.metrics.boxes.from_samples import FoundBoxes, kitti_found, kitti_truth
from deploy.metrics.boxes.kitti_ap import KittiAP
from deploy.metrics.boxes.kitti_objects import KittiObjects, overlaps
from deploy.metrics.boxes.rotated import rotated_iou
from deploy.verification import verify
from exporters.errors import UserError
from exporters.modelfile import InputSpec, ModelSpec, OutputSpec, WeightsSource, save_model
from exporters.pillarhist import host

COLUMNS = ["x", "y", "z", "length", "width", "height", "yaw", "score", "class"]
ROWS = 8

SAME = f"""<ir_version: 8, opset_import: ["" : 17]>
g (float[{ROWS},9] x) => (float[{ROWS},9] boxes) {{ boxes = Identity(x) }}"""
# a network that sees everything 0.3 m further ahead
AHEAD = f"""<ir_version: 8, opset_import: ["" : 17]>
g (float[{ROWS},9] x) => (float[{ROWS},9] boxes)
  <float[1,9] shift = {{0.3, 0, 0, 0, 0, 0, 0, 0, 0}}> {{ boxes = Add(x, shift) }}"""


def save(path: Path, text: str, classes: tuple[str, ...], semantics: str = "boxes") -> Path:
    spec = ModelSpec(
        "toy",
        "toy",
        "detection",
        (InputSpec("x", "float32", (ROWS, 9)),),
        (OutputSpec("boxes", "float32", (ROWS, 9), semantics, {"columns": COLUMNS}),),
        WeightsSource("random", seed=0),
        classes,
    )
    save_model(parser.parse_model(text), path, spec=spec)
    return path


CAMERA = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
PROJECTION = np.array([[700.0, 0, 600, 0], [0, 700, 180, 0], [0, 0, 1, 0]])


def kitti_sample(seed: int) -> dict[str, np.ndarray]:
    """Five cars found where they are, in boxes of one height, and a mistake."""
    rng = np.random.default_rng(seed)
    boxes = np.c_[
        np.arange(10, 35, 5.0),
        rng.uniform(-3, 3, 5),
        np.tile([-0.9, 4.0, 1.6, 1.5], (5, 1)),
        rng.normal(0, 0.2, 5),
    ].astype(np.float32)
    found = np.full((ROWS, 9), -1, np.float32)
    found[:, 7] = 0
    found[:5, :7] = boxes
    found[:5, 7], found[:5, 8] = rng.permutation(5) / 10 + 0.5, 0
    found[5] = [20, 8, -0.9, 4, 1.6, 1.5, 0, 0.55, 0]
    labels = {"lidar2camera": CAMERA, "projection": PROJECTION, "image_size": np.array([1200, 360])}
    pixels = kitti_found(FoundBoxes.of_rows(found, COLUMNS, ["Car"]), labels).pixels[:5]
    truth = {
        "boxes": boxes,
        "box_names": np.array(["Car"] * 5),
        "box_pixels": pixels.astype(np.float32),
        "truncation": np.zeros(5, np.float32),
        "occlusion": np.zeros(5, np.int32),
        "alpha": (-boxes[:, 6] - np.pi / 2 - np.arctan2(-boxes[:, 1], boxes[:, 0])),
        "ignored_pixels": np.zeros((0, 4), np.float32),
        **labels,
    }
    return {"x": found, **{f"label.{name}": value for name, value in truth.items()}}


def test_a_box_ahead_is_projected_by_hand():
    """A car of 4 x 1.6 x 1.5 m, 10 m ahead, its bottom 1.65 m below the camera.

    Its front face is 8 m away: left and right edge at 600 -+ 700 * 0.8 / 8 = 530, 670; its bottom
    at 180 + 700 * 1.65 / 8 = 324.4; the top of the front face is nearest: 180 + 700 * 0.15 / 8 =
    193.1, that of the back face, 12 m away, higher in the image: 180 + 700 * 0.15 / 12 = 188.75.
    """
    labels = {"lidar2camera": CAMERA, "projection": PROJECTION, "image_size": np.array([1200, 360])}
    row = np.array([[10, 0, -0.9, 4, 1.6, 1.5, 0, 0.9, 0]])
    found = kitti_found(FoundBoxes.of_rows(row, COLUMNS, ["Car"]), labels)
    assert found.pixels[0] == pytest.approx([530, 188.75, 670, 324.375])
    assert found.places[0] == pytest.approx([0, 1.65, 10])
    assert found.rotation[0] == pytest.approx(-np.pi / 2)


def test_kitti_by_name_over_a_set(tmp_path: Path) -> None:
    files = [
        save(tmp_path / f"{name}.onnx", text, ("Car", "Bus"))
        for name, text in (("same", SAME), ("ahead", AHEAD))
    ]
    samples = [kitti_sample(seed) for seed in range(24)]
    names = "kitti_2d,kitti_bev,kitti_3d,kitti_aos"
    comparison = verify(files[0], files[1], InMemorySamples(samples), metric=names)
    found = {metric.name: metric for metric in comparison.task_metrics}
    assert list(found) == names.split(",")
    for side, shift in (("reference", 0.0), ("candidate", 0.3)):
        metric = KittiAP()
        for sample in samples:
            rows = sample["x"] + np.array([shift, *[0] * 8], np.float32)
            labels = labels_of(sample)
            boxes = FoundBoxes.of_rows(rows, COLUMNS, ["Car", "Bus"])
            metric.update(kitti_truth(labels), kitti_found(boxes, labels))
        for name, value in found.items():
            expected = metric.value(name.removeprefix("kitti_"), "Car")
            assert getattr(value, side) == pytest.approx(expected), (name, side)
    bev = found["kitti_bev"]
    assert bev.reference is not None
    assert bev.reference > 70  # mistakes rank in the middle
    # 0.3 m of 4 m: IoU 0.86, all are still found
    assert bev.loss == pytest.approx(0, abs=1e-9)
    assert bev.interval is not None


def test_nuscenes_by_name_over_a_set(tmp_path: Path) -> None:
    classes = ("car", "pedestrian")
    files = [
        save(tmp_path / f"{name}.onnx", text, classes)
        for name, text in (("same", SAME), ("ahead", AHEAD))
    ]
    samples = []
    for seed in range(4):
        sample = kitti_sample(seed)
        mount = np.eye(4)
        mount[:2, :2] = [[0, -1], [1, 0]]  # as the LiDAR of nuScenes is turned
        samples.append(
            {
                "x": sample["x"],
                "label.boxes": sample["label.boxes"],
                "label.box_names": np.array(["vehicle.car"] * 5),
                "label.box_points": np.ones(5, np.int32),
                "label.lidar2ego": mount,
            }
        )
    comparison = verify(files[0], files[1], InMemorySamples(samples), metric="nuscenes")
    nds, average = comparison.task_metrics
    assert (nds.name, average.name) == ("nds", "map")
    assert average.loss == pytest.approx(0)  # 0.3 m is right at every distance
    # errors: place 0 against 0.3 m, size and yaw none, velocity and attribute not known: 1 each.
    # NDS = (5 mAP + 3) / 10, and 0.3 / 10 less
    assert average.reference is not None
    assert nds.reference == pytest.approx((5 * average.reference + 300) / 10, abs=1e-4)
    assert nds.loss == pytest.approx(3.0, abs=1e-4)  # boxes are float32


@pytest.mark.parametrize(
    ("metric", "classes", "semantics", "words"),
    [
        ("kitti_3d", ("Car",), "tensor", "no output of boxes, which kitti_3d needs"),
        ("kitti_3d", ("sofa",), "boxes", "none of the model's classes is judged by KITTI: sofa"),
        ("nuscenes", ("Car",), "boxes", "none of the model's classes is judged by nuScenes: Car"),
        ("nuscenes", ("car",), "boxes", "no ground truth lidar2ego|no ground truth box_points"),
        ("kitti_4d", ("Car",), "boxes", "unknown metric 'kitti_4d'"),
    ],
)
def test_what_is_missing_is_said(
    metric: str, classes: tuple[str, ...], semantics: str, words: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "m.onnx", SAME, classes, semantics)
    samples = InMemorySamples([kitti_sample(0), kitti_sample(1)])
    with pytest.raises(UserError, match=words):
        verify(path, path, samples, metric=metric)


@pytest.mark.data
def test_real_labels_go_to_the_lidar_and_back(edgeport_data: Path) -> None:
    root = KittiRoot(edgeport_data / "kitti/training")
    for number in ("000000", "000001", "000002"):
        labels = root.labels(number)
        truth = kitti_truth(labels)
        file = KittiObjects.read(root.path / "label_2" / f"{number}.txt")
        assert truth.names == file.names
        # float32 of coordinates up to 70 m
        assert truth.places == pytest.approx(file.places, abs=1e-4)
        assert truth.sizes == pytest.approx(file.sizes, abs=1e-5)
        turn = truth.rotation - file.rotation
        assert np.sin(turn / 2) == pytest.approx(np.zeros(len(turn)), abs=1e-5)
        assert truth.ignored_pixels == pytest.approx(file.ignored_pixels, abs=1e-3)
        # what is projected lies where somebody drew it, and alpha is what they wrote down
        boxes = FoundBoxes(
            truth.names,
            labels["boxes"].astype(np.float64),
            np.full((len(truth), 2), np.nan),
            np.ones(len(truth)),
        )
        found = kitti_found(boxes, labels)
        whole = (file.truncation == 0) & (file.occlusion < 3)
        assert (np.diag(overlaps(file, found, "2d"))[whole] > 0.75).all()
        turn = found.alpha - file.alpha
        assert np.sin(turn / 2) == pytest.approx(np.zeros(len(turn)), abs=0.03)


def test_two_ways_of_cutting_boxes_agree() -> None:
    """The metric's and that of the PillarHist exporter, which nobody wrote together."""
    rng = np.random.default_rng(0)
    boxes = np.c_[rng.uniform(-5, 5, (60, 2)), rng.uniform(0.5, 6, (60, 2)), rng.uniform(-4, 4, 60)]
    expected = [[host.rotated_iou(a, b) for b in boxes] for a in boxes]
    assert rotated_iou(boxes, boxes) == pytest.approx(np.array(expected), abs=1e-9)
