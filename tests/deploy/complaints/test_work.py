"""Comparisons, timings and recipes: what must not "succeed with a warning"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.boards.conditions import warnings_of
from tests.deploy.boards.test_energy import conditions
from tests.deploy.conftest import Mini
from tests.runtimes import models

from .conftest import Asked
from .test_data import conv, folder_of, model, pictures

__all__ = ["folder_of", "model", "pictures"]

Ask = Callable[..., Asked]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A network with the same shapes and other weights: a conversion gone wrong."""
    return models.save(conv(models.weights(8, 3, 3, 3, seed=5)), tmp_path / "other.onnx")


def test_a_wrong_result_is_a_failure(ask: Ask, model: Path, other: Path, pictures: Path) -> None:
    arguments = ["verify", model, other, "--samples", pictures, "--require", "sqnr_db>=20"]
    assert "verdict: fail" in ask("optimum#1755", 1, *arguments)


def test_the_layer_that_is_wrong_has_a_name(
    ask: Ask, model: Path, pictures: Path, tmp_path: Path
) -> None:
    int8, held_out = tmp_path / "int8.onnx", pictures
    arguments = ["quantize", model, "--samples", pictures, "-o", int8]
    ask("TensorRT#3135", 0, *arguments)
    arguments = ["verify", model, int8, "--samples", held_out, "--layers", "--i-know", "overlap"]
    said = ask("executorch#12347", 0, *arguments)
    assert "Worst of 1 quantization boundaries" in said


def test_a_task_metric_and_not_only_decibels(ask: Ask, model: Path, pictures: Path) -> None:
    arguments = ["verify", model, model, "--samples", pictures, "--metric", "mious"]
    assert "unknown metric 'mious'. Did you mean 'miou'?" in ask("ai-hub-models#156", 2, *arguments)


def test_a_key_that_nobody_reads(ask: Ask, model: Path, pictures: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{file: {model}}}\nsamples: {{calibration: {pictures}, evaluation: {pictures}}}\n"
        "quantization: {scale: mse}\n"
    )
    said = ask("Olive#1905", 2, "run", recipe, "-o", tmp_path / "bundle")
    assert "is unknown (did you mean 'scales'?)" in said


def test_a_stage_that_fails_ends_the_run(ask: Ask, mini: Mini, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    none = tmp_path / "none"
    recipe.write_text(
        f"model: {{file: {mini.fp32}}}\nsamples: {{calibration: {none}, evaluation: {none}}}\n"
    )
    said = ask("Olive#686", 2, "run", recipe, "-o", tmp_path / "bundle")
    assert "no samples at" in said
    assert not (tmp_path / "bundle").exists()


def test_a_percentile_that_the_runs_cannot_give(ask: Ask, model: Path) -> None:
    said = ask("ai-hub-models#149", 0, "bench", model, "--runs", "20")
    assert "p99 needs at least 368 runs, there are 20" in said


def test_numbers_that_are_not_the_cars(ask: Ask, model: Path) -> None:
    said = ask("TensorRT#3493", 0, "bench", model, "--runs", "20")
    assert "inputs are random, seed 0: give --samples to time real data" in said


def test_clocks_that_move() -> None:
    moved = conditions(clock_mhz={"gpu": [1300.0] * 10 + [800.0] * 10})
    said = Asked("TensorRT#3857", " ".join(warnings_of(moved)))
    assert "gpu clock moved between 800 and 1300 MHz" in said
    assert "--lock-clocks" in said
