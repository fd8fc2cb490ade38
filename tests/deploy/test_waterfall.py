"""Rung by rung: what each part of the chain loses, checked by running the same files here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.provoked_loss import quantized_layers, spoiling
from calibration.samples import open_samples
from calibration.samples.base import inputs_of
from deploy import Bundle, Recipe, run
from deploy.waterfall import NO_BOARD, NO_ENGINE, NOT_RUN
from exporters.modelfile import ModelFile

from .conftest import Mini
from .test_pipeline import recipe_for

Row = Mapping[str, Any]

VERIFY = {"scenes": 0, "layers": False}


def rows_of(bundle: Bundle) -> dict[str, Row]:
    return {row["stage"]: row for row in bundle.report["waterfall"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    recipe = {
        "model": {"variant": "flashocc-nano"},
        "samples": {"calibration": "synthetic:4:1", "evaluation": "synthetic:3:1000"},
        "quantization": {"scales": "minmax", "split": "cfws", "equalize": True},
        "engines": [{"from": "int8-tensorrt"}, {"from": "fp16"}],
        "benchmark": None,
        "verify": {"scenes": 0, "layers": False},
    }
    return run(Recipe.model_validate(recipe), tmp_path_factory.mktemp("waterfall") / "bundle")


def test_every_stage_has_its_owner_and_stands_on_another(made: Bundle) -> None:
    found = [(row["stage"], row["owner"], row["after"]) for row in made.report["waterfall"]]
    ort, trt = "int8-onnxruntime", "int8-tensorrt"
    assert found == [
        ("PyTorch", "", ""),
        ("traced", "tracer (torch.export)", "PyTorch"),
        ("ONNX", "translation to ONNX", "traced"),
        ("folded", "graph optimizer", "ONNX"),
        ("fp16", "cast to FP16", "ONNX"),
        (f"{ort}: split", "weight splitting", "folded"),
        (f"{ort}: Q/DQ emulated", "scales and rounding", f"{ort}: split"),
        (f"{ort}: ONNX Runtime, integers", "integer kernels", f"{ort}: Q/DQ emulated"),
        (f"{trt}: split", "weight splitting", "folded"),
        (f"{trt}: Q/DQ emulated", "scales and rounding", f"{trt}: split"),
        (f"{trt} tensorrt", "engine builder", f"{trt}: Q/DQ emulated"),
        ("fp16 tensorrt", "engine builder", "fp16"),
        ("board", "board's runtime", ""),
    ]


def test_what_should_not_lose_anything_does_not(made: Bundle) -> None:
    rows = rows_of(made)
    assert rows["traced"]["exact"] is True
    assert rows["traced"]["loss"] == 0
    for stage in ("ONNX", "folded", "int8-onnxruntime: split", "int8-tensorrt: split"):
        row = rows[stage]
        # float32 sums in another order: above 90 dB in the deepest networks we know
        assert row["exact"] or row["step_sqnr_db"] > 90, stage
        assert row["loss"] == pytest.approx(0, abs=0.05), stage
    assert rows["fp16"]["step_sqnr_db"] == pytest.approx(50, abs=12), "ten bits of mantissa"


def test_the_recipe_is_asked_for_equalized_channels(made: Bundle) -> None:
    for part in made.report["quantization"]:
        assert part["equalize"] is True


def test_losses_along_a_branch_add_up(made: Bundle) -> None:
    rows = rows_of(made)
    for stage in ("int8-onnxruntime: ONNX Runtime, integers", "int8-tensorrt: Q/DQ emulated"):
        total, row = 0.0, rows[stage]
        while row["after"]:
            assert row["low"] <= row["loss"] <= row["high"]
            total += row["loss"]
            row = rows[row["after"]]
        assert row["stage"] == "PyTorch"
        assert row["value"] - total == pytest.approx(rows[stage]["value"], abs=1e-9)


def scores(path: Path, sample: Mapping[str, np.ndarray], *, emulate: bool) -> np.ndarray:
    """The input of the last ArgMax, from a session made here."""
    model = onnx.load(path)
    decides = [node.input[0] for node in model.graph.node if node.op_type == "ArgMax"][-1]
    model.graph.output.append(onnx.ValueInfoProto(name=decides))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if emulate:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run([decides], dict(sample))[0], np.float64)


@pytest.mark.parametrize("emulate", [True, False])
def test_sqnr_is_that_of_the_files_in_the_bundle(made: Bundle, emulate: bool) -> None:
    """An independent session: Q/DQ are emulated with no optimization at all, not with a switch."""
    role = "int8-onnxruntime"
    last = "Q/DQ emulated" if emulate else "ONNX Runtime, integers"
    models = made.path / "models"
    samples = open_samples("synthetic:3:1000", ModelFile(models / "fp32.onnx").spec)
    signal = noise = 0.0
    for sample in samples:
        feeds = inputs_of(sample)
        real = scores(models / "fp32.onnx", feeds, emulate=False)
        found = scores(models / f"{role}.onnx", feeds, emulate=emulate)
        signal, noise = signal + np.square(real).sum(), noise + np.square(real - found).sum()
    expected = 10 * np.log10(signal / noise)
    # float sums in another order flip single roundings: a tenth of a decibel in all
    assert rows_of(made)[f"{role}: {last}"]["sqnr_db"] == pytest.approx(expected, abs=0.3)


def test_stages_that_cannot_run_say_so(made: Bundle, mini: Mini, tmp_path: Path) -> None:
    rows = rows_of(made)
    words = str(rows["fp16 tensorrt"]["missing"])
    assert words == NOT_RUN or "TensorRT" in words, "built and not run, or not even built"
    assert rows["board"]["missing"] == NO_BOARD
    taken = rows_of(run(recipe_for(mini, benchmark=None, verify=VERIFY), tmp_path / "taken"))
    for stage in ("PyTorch", "traced"):
        assert taken[stage]["missing"] == "the model file was taken as it is"
        assert taken[stage]["value"] is None
    assert taken["engine"]["missing"] == NO_ENGINE
    assert taken["folded"]["exact"] is True
    assert taken["int8-onnxruntime: ONNX Runtime, integers"]["step_sqnr_db"] > 10
    page = (tmp_path / "taken" / "report.html").read_text()
    assert f"no evidence: {NO_BOARD}" in page
    assert "scales and rounding" in page


def test_a_wrong_scale_is_the_loss_of_its_owner(mini: Mini, tmp_path: Path) -> None:
    recipe = recipe_for(mini, benchmark=None, verify=VERIFY)
    with spoiling(list(quantized_layers(mini.int8))[-3]):
        rows = rows_of(run(recipe, tmp_path / "bundle"))
    by_loss = sorted(
        (row for row in rows.values() if row["loss"] is not None), key=lambda row: -row["loss"]
    )
    assert by_loss[0]["owner"] == "scales and rounding"
    assert by_loss[0]["metric"] == "agreement", "no ground truth here"
    assert by_loss[0]["loss"] > 0.1 > by_loss[1]["loss"]


def test_an_export_that_is_remembered_is_done_again_for_pytorch(
    made: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(made.path, tmp_path / "bundle")
    recipe = json.loads((made.path / "recipe.json").read_text())
    recipe["verify"]["waterfall"] = 2
    again = run(Recipe.model_validate(recipe), tmp_path / "bundle", overwrite=True)
    stages = {stage["name"]: stage["cached"] for stage in again.report["stages"]}
    assert stages["export"] is True
    assert stages["waterfall"] is False
    rows = rows_of(again)
    assert rows["PyTorch"]["samples"] == 2
    assert rows["PyTorch"]["missing"] == ""
    assert rows["traced"]["exact"] is True


def test_nothing_is_run_where_nobody_asks(mini: Mini, tmp_path: Path) -> None:
    recipe = recipe_for(mini, benchmark=None, verify={"scenes": 0, "waterfall": 0})
    bundle = run(recipe, tmp_path / "bundle")
    assert list(rows_of(bundle)) == ["engine", "board"]
    assert "waterfall" not in {stage["name"] for stage in bundle.report["stages"]}
