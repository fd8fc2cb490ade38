"""``each class`` of metrics that are means over classes: RayIoU and KITTI's AP, from verify."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibration.samples import InMemorySamples
from deploy.contract.contracts import Contract
from deploy.verification import verify
from tests.deploy.conftest import Mini, blocky_images
from tests.deploy.metrics.test_detection import AHEAD, SAME, kitti_sample, save


def test_rayiou_of_every_class_is_judged(mini: Mini) -> None:
    classes, free = mini.spec.classes, len(mini.spec.classes) - 1
    shape = mini.spec.outputs[0].shape
    rng = np.random.default_rng(0)
    samples = []
    for sample in blocky_images(3, 5, mini.spec):
        truth = np.full(shape, free, np.uint8)
        truth[tuple(rng.integers(0, size, 60) for size in shape)] = 3
        truth[tuple(rng.integers(0, size, 60) for size in shape)] = 4
        labels = {"label.semantics": truth, "label.mask_camera": np.ones(shape, bool)}
        samples.append({**sample, **labels, "label.ray_origins": np.zeros((1, 3))})
    contract = Contract(require=["each class rayiou>=fp32-99", "each class rayiou>=99"])
    comparison = verify(
        mini.fp32, mini.int8, InMemorySamples(samples), metric="rayiou", contract=contract
    )
    checks = {check.name: check for check in comparison.verdict.checks if check.term}
    for name in (classes[3], classes[4]):
        assert checks[f"rayiou of {name} loss"].ok is True, "nobody can lose 99 points of nothing"
        assert checks[f"rayiou of {name}"].ok is not True
    assert f"rayiou of {classes[free]}" not in checks


def test_average_precision_of_every_class_is_judged(tmp_path: Path) -> None:
    classes = ("Pedestrian", "Car")
    files = [save(tmp_path / f"{i}.onnx", text, classes) for i, text in enumerate((SAME, AHEAD))]
    samples = [kitti_sample(seed) for seed in range(4)]
    for sample in samples:
        sample["x"][:, 8] = np.where(sample["x"][:, 8] == 0, 1, sample["x"][:, 8])  # cars
    comparison = verify(
        *files,
        InMemorySamples(samples),
        metric="kitti_3d",
        contract=Contract(require=["each class kitti_3d>=fp32-50"]),
    )
    names = {check.name: check.ok for check in comparison.verdict.checks if check.term}
    assert names == {"kitti_3d of Car loss": True}, "of pedestrians there is none to find"
