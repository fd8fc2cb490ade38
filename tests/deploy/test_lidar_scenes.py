"""LiDAR boxes for the report: corners against complex numbers, and what is kept of a sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.samples import InMemorySamples
from deploy import Recipe, run
from deploy.lidar_scenes import LEAST_SCORE, MOST_POINTS, corners, draw_boxes
from deploy.report import render
from exporters.modelfile import ModelFile, ModelSpec
from tests.deploy.metrics.test_detection import AHEAD, SAME, kitti_sample, save
from tests.deploy.report.fixture import minimal_report

NUMBERS = st.floats(-60, 60, allow_nan=False)


@given(NUMBERS, NUMBERS, st.floats(0.1, 12), st.floats(0.1, 4), st.floats(-7, 7))
def test_corners_are_turned_and_moved(
    x: float, y: float, length: float, width: float, yaw: float
) -> None:
    found = corners(np.array([[x, y, 0, length, width, 1, yaw]]))[0]
    for index, (ahead, left) in enumerate([(1, 1), (1, -1), (-1, -1), (-1, 1)]):
        place = complex(ahead * length / 2, left * width / 2) * np.exp(1j * yaw) + complex(x, y)
        assert found[index] == pytest.approx((place.real, place.imag), abs=1e-9)


def spec_of(path: Path) -> ModelSpec:
    spec = ModelFile(path).require_spec()
    return replace(spec, inputs=(replace(spec.inputs[0], semantics="points"),))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {
        "fp32": save(tmp_path / "fp32.onnx", SAME, ("Car",)),
        "int8": save(tmp_path / "int8.onnx", AHEAD, ("Car",)),
    }


def test_every_file_has_its_boxes_beside_the_truth(files: dict[str, Path]) -> None:
    sample = kitti_sample(0)
    (entry,) = draw_boxes(
        spec_of(files["fp32"]), files, InMemorySamples([sample, sample]), 1, threads=1
    )
    truth, fp32, int8 = entry["files"]
    assert [file["name"] for file in entry["files"]] == ["ground truth", "fp32", "int8"]
    assert [len(file["boxes"]) for file in entry["files"]] == [5, 6, 6]
    assert {box["class"] for box in truth["boxes"]} == {"Car"}
    assert all(box["score"] is None for box in truth["boxes"])
    assert all(box["score"] >= LEAST_SCORE for box in fp32["boxes"])
    ahead = np.array([box["corners_m"] for box in int8["boxes"]])
    there = np.array([box["corners_m"] for box in fp32["boxes"]])
    np.testing.assert_allclose(ahead - there, np.broadcast_to([0.3, 0], ahead.shape), atol=0.011)
    page = render(minimal_report() | {"detection": [entry]})
    assert page.count("<polygon points=") == 2 * 17, "wide and narrow"
    assert "Car of int8, score" in page
    assert "ground truth: 5 boxes" in page.lower()
    assert 'id="detection"' in page


def test_points_are_thinned_and_padding_is_left_out(files: dict[str, Path]) -> None:
    spec = spec_of(files["fp32"])
    sample = kitti_sample(0)
    sample["x"] = sample["x"].copy()
    sample["x"][6:, :2] = -10_000
    (entry,) = draw_boxes(spec, {}, InMemorySamples([sample]), 1, threads=1)
    assert len(entry["points_m"]) == 6
    many = {"x": np.random.default_rng(0).uniform(-50, 50, (9 * MOST_POINTS, 9))}
    (entry,) = draw_boxes(spec, {}, InMemorySamples([many]), 1, threads=1)
    assert MOST_POINTS * 0.8 < len(entry["points_m"]) <= MOST_POINTS


def test_other_networks_have_no_boxes(files: dict[str, Path]) -> None:
    spec = ModelFile(files["fp32"]).require_spec()  # its input is no cloud of points
    assert draw_boxes(spec, files, InMemorySamples([kitti_sample(0)]), 1, threads=1) == []
    assert draw_boxes(spec_of(files["fp32"]), files, InMemorySamples([kitti_sample(0)]), 0, 1) == []
    page = render(minimal_report())
    assert "detection" not in page.partition("<main")[2].partition("</main>")[0]


@pytest.mark.slow
def test_a_recipe_for_a_pillar_detector_draws_its_boxes(tmp_path: Path) -> None:
    recipe = {
        "model": {"variant": "pillarhist-mini"},
        "samples": {"calibration": "synthetic:2x4:1", "evaluation": "synthetic:1x4:1000"},
        "quantization": {"scales": "minmax", "policies": ["onnxruntime"]},
        "benchmark": None,
        "verify": {"scenes": 1, "layers": False, "waterfall": 2},
    }
    report = run(Recipe.model_validate(recipe), tmp_path / "bundle").report
    (entry,) = report["detection"]
    assert [file["name"] for file in entry["files"]] == ["ground truth", "fp32", "int8-onnxruntime"]
    assert all(file["boxes"] for file in entry["files"])
    rows = {row["stage"]: row for row in report["waterfall"]}
    assert rows["traced"]["missing"] == rows["ONNX"]["missing"] == ""
