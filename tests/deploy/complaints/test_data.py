"""Calibration data, weights and model files that must not pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.runtimes import models

from .conftest import Asked

Ask = Callable[..., Asked]
SIZES = [1, 3, 64, 64]


def conv(weights: np.ndarray | None = None, *sizes: int | str) -> onnx.ModelProto:
    w = models.weights(8, 3, 3, 3) if weights is None else weights
    node = models.node("Conv", ["x", "w"], ["y"], name="conv0")
    shape = list(sizes) or SIZES
    return models.model([node], [("x", models.FLOAT, shape)], [("y", models.FLOAT, None)], {"w": w})


def smooth(rng: np.random.Generator, *sizes: int) -> np.ndarray:
    """Pictures as far as statistics go: neighbours are alike."""
    noise = rng.normal(size=sizes)
    return np.cumsum(np.cumsum(noise, axis=-1), axis=-2).astype(np.float32) / 64


def folder_of(path: Path, *arrays: np.ndarray) -> Path:
    path.mkdir()
    for index, array in enumerate(arrays):
        np.savez(path / f"{index}.npz", x=array)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.save(conv(), tmp_path / "m.onnx")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    return folder_of(tmp_path / "pictures", *(smooth(rng, *SIZES) for _ in range(8)))


def test_random_data(ask: Ask, model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = folder_of(
        tmp_path / "noise", *(rng.normal(size=SIZES).astype(np.float32) for _ in range(8))
    )
    output = tmp_path / "int8.onnx"
    said = ask("Model-Optimizer#2413", 2, "quantize", model, "--samples", noise, "-o", output)
    assert "images are white noise" in said
    assert "--i-know random-data" in said
    assert not output.exists()


def test_too_few_samples(ask: Ask, model: Path, tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", smooth(np.random.default_rng(0), *SIZES))
    arguments = ["quantize", model, "--samples", one, "-o", tmp_path / "int8.onnx"]
    assert "1 sample is too few, at least" in ask("ultralytics#25231", 2, *arguments)


def test_samples_of_another_size(ask: Ask, model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    narrow = folder_of(tmp_path / "narrow", *(smooth(rng, 1, 3, 64, 48) for _ in range(3)))
    arguments = ["quantize", model, "--samples", narrow, "-o", tmp_path / "int8.onnx"]
    said = ask("hailo_model_zoo#140", 2, *arguments)
    assert "x is float32 [1, 3, 64, 48], the model takes float32 [1, 3, 64, 64]" in said


def test_weights_that_are_not_numbers(ask: Ask, pictures: Path, tmp_path: Path) -> None:
    weights = models.weights(8, 3, 3, 3)
    weights[0, 0, 0, 0] = np.nan
    model = models.save(conv(weights), tmp_path / "nan.onnx")
    arguments = ["quantize", model, "--samples", pictures, "-o", tmp_path / "int8.onnx"]
    assert "NaN" in ask("hailo_model_zoo#136", 2, *arguments)


def test_weights_beside_the_model(ask: Ask, pictures: Path, tmp_path: Path) -> None:
    model = tmp_path / "large.onnx"
    onnx.save(
        conv(), str(model), save_as_external_data=True, size_threshold=0, location="large.data"
    )
    (tmp_path / "large.data").unlink()
    arguments = ["quantize", model, "--samples", pictures, "-o", tmp_path / "int8.onnx"]
    said = ask("Model-Optimizer#458", 2, *arguments)
    assert "Copy the model together with its data files into one folder" in said


def test_axes_of_any_size(ask: Ask, tmp_path: Path) -> None:
    model = models.save(conv(None, "n", 3, "h", 64), tmp_path / "dynamic.onnx")
    said = ask("Model-Optimizer#565", 2, "build", model, "-o", tmp_path / "m.engine")
    assert "has dynamic axes" in said
    assert "--min-shapes x:1x3x1x64" in said


def test_calibrated_and_judged_on_the_same_data(
    ask: Ask, model: Path, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "int8.onnx"
    assert "int8.onnx" in ask(
        "ultralytics#20909", 0, "quantize", model, "--samples", pictures, "-o", output
    )
    said = ask("own: same samples", 2, "verify", model, output, "--samples", pictures)
    assert "--i-know overlap" in said
