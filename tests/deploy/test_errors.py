"""What bad input gets, through the real command line: one line that names the thing, the cause and
the next command; the exit code that belongs to it; and no half-written file.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from deploy.cli import run
from exporters.modelfile import ModelFile
from runtimes import get
from runtimes.passport import passport_path

from .conftest import Mini, Refused

CAN_BUILD = get("tensorrt").probe().can_build
needs_builder = pytest.mark.skipif(
    not CAN_BUILD, reason="no TensorRT builder here; pip install 'edgeport[tensorrt-rtx]'"
)


# --------------------------------------------------------------------------- variants and options


def test_unknown_variant(refused: Refused) -> None:
    line = refused(2, "export", "flashoc-m0", "-o", refused.output)
    assert line == "unknown variant 'flashoc-m0'. Did you mean 'flashocc-m0'?"


def test_wrong_image_size(refused: Refused) -> None:
    line = refused(2, "export", "flashocc-nano", "--image-size", "63x170", "-o", refused.output)
    assert "63" in line
    assert "multiple" in line
    line = refused(2, "export", "flashocc-nano", "--image-size", "big", "-o", refused.output)
    assert "image size 'big' is not HEIGHTxWIDTH. For example 256x704" in line


def test_a_rig_with_a_wrong_key(refused: Refused) -> None:
    path = refused.folder / "rig.json"
    path.write_text(json.dumps({"schema": "edgeport.rig/1", "camera": []}))
    line = refused(2, "export", "flashocc-nano", "--rig", path, "-o", refused.output)
    assert f"{path}: unknown key 'camera'. Did you mean 'cameras'?" in line


# -------------------------------------------------------------------------------------- samples


def images(mini: Mini) -> np.ndarray:
    shape = tuple(int(size) for size in mini.spec.inputs[0].shape)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def quantize(refused: Refused, model: Path, samples: Path | str) -> str:
    return refused(
        2, "quantize", model, "--samples", samples, "--policy", "onnxruntime", "-o", refused.output
    )


def sample_folder(refused: Refused, *arrays: np.ndarray) -> Path:
    folder = refused.folder / "samples"
    folder.mkdir()
    for index, array in enumerate(arrays):
        np.savez(folder / f"frame-{index}.npz", images=array)
    return folder


def test_samples_of_another_image_size(refused: Refused, mini: Mini) -> None:
    good = images(mini)
    line = quantize(refused, mini.fp32, sample_folder(refused, good, good[:, :32]))
    assert "sample frame-1: images is uint8 [6, 32, 176, 3]" in line
    assert "the model takes uint8 [6, 64, 176, 3]" in line
    assert "edgeport samples" in line


def test_constant_samples(refused: Refused, mini: Mini) -> None:
    line = quantize(refused, mini.fp32, sample_folder(refused, images(mini), images(mini) * 0))
    assert "sample frame-1: the image of camera CAM_FRONT_LEFT has one colour everywhere" in line
    assert "leave this sample out" in line


def test_nan_samples(refused: Refused, tmp_path: Path) -> None:
    model = tmp_path / "float.onnx"
    assert run(["export", "flashocc-nano", "--input", "float", "-o", str(model)]) == 0
    shape = tuple(int(size) for size in ModelFile(model).require_spec().inputs[0].shape)
    good = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    bad = good.copy()
    bad[0, 0, 0, 0] = np.nan
    folder = sample_folder(refused, good, bad)
    for line in (
        quantize(refused, model, folder),
        refused(2, "verify", model, model, "--samples", folder),
    ):
        assert "sample frame-1: images holds 1 NaN or infinite values" in line
        assert "Leave this sample out, or repair what made it" in line


def test_too_few_samples(refused: Refused, mini: Mini) -> None:
    line = quantize(refused, mini.fp32, sample_folder(refused, images(mini)))
    assert "1 sample" in line
    assert "at least 2" in line
    assert "edgeport samples" in line


def test_empty_directory(refused: Refused, mini: Mini) -> None:
    folder = sample_folder(refused)
    for line in (
        quantize(refused, mini.fp32, folder),
        refused(2, "verify", mini.fp32, mini.int8, "--samples", folder),
        refused(2, "bench", mini.fp32, "--samples", folder),
    ):
        assert f"{folder} is empty" in line
        assert "edgeport samples" in line


def test_samples_that_are_not_there(refused: Refused, mini: Mini) -> None:
    line = quantize(refused, mini.fp32, refused.folder / "nowhere")
    assert "no samples at" in line
    assert "synthetic:COUNT" in line


def test_a_truncated_sample(refused: Refused, mini: Mini) -> None:
    folder = sample_folder(refused, images(mini), images(mini))
    file = folder / "frame-1.npz"
    file.write_bytes(file.read_bytes()[:5000])
    assert f"{file} is truncated" in quantize(refused, mini.fp32, folder)


# --------------------------------------------------------------------------------- model files


def test_a_truncated_model(refused: Refused, mini: Mini) -> None:
    path = refused.folder / "half.onnx"
    path.write_bytes(mini.fp32.read_bytes()[: mini.fp32.stat().st_size // 2])
    for line in (
        quantize(refused, path, mini.calibration),
        refused(2, "verify", path, mini.int8, "--samples", mini.evaluation),
        refused(2, "inspect", path),
        refused(2, "cast", path, "--to", "fp16", "-o", refused.output),
    ):
        assert str(path) in line
        assert "truncated" in line


def test_a_model_that_is_not_there(refused: Refused, mini: Mini) -> None:
    path = refused.folder / "absent.onnx"
    line = refused(2, "verify", mini.fp32, path, "--samples", mini.evaluation)
    assert f"no model file at {path}. Check the path, or run: edgeport export" in line


@pytest.fixture
def unknown_operator(mini: Mini, tmp_path: Path) -> Path:
    """The small FlashOcc with one operator that nobody implements."""
    model = ModelFile(mini.fp32).proto
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type, node.domain = "BEVPoolV3", "mmdeploy"
    model.opset_import.append(helper.make_opsetid("mmdeploy", 1))
    path = tmp_path / "plugin.onnx"
    onnx.save(model, path)
    return path


def test_an_unknown_operator(refused: Refused, mini: Mini, unknown_operator: Path) -> None:
    for line in (
        quantize(refused, unknown_operator, mini.calibration),
        refused(2, "verify", mini.fp32, unknown_operator, "--samples", mini.evaluation),
        refused(2, "bench", unknown_operator, "--samples", mini.evaluation),
    ):
        assert "BEVPoolV3" in line
        assert str(unknown_operator) in line


@needs_builder
def test_an_unknown_operator_is_refused_by_the_builder(
    refused: Refused, unknown_operator: Path
) -> None:
    line = refused(2, "build", unknown_operator, "-o", refused.output)
    assert "BEVPoolV3" in line


def test_check_refuses_an_operator_that_no_runtime_could_take(
    refused: Refused, unknown_operator: Path
) -> None:
    target = "jetson-orin-agx/jp6.2/trt10.3"
    line = refused(2, "check", unknown_operator, "--target", target)
    assert "node 'img_backbone/relu/Relu' is mmdeploy::BEVPoolV3" in line
    assert "Export it as standard ONNX operators" in line


def test_an_unknown_target(refused: Refused, mini: Mini) -> None:
    line = refused(2, "check", mini.fp32, "--target", "jetson-orin-agx/jp6.2/trt10.4")
    assert "unknown target 'jetson-orin-agx/jp6.2/trt10.4'" in line
    assert "Did you mean 'jetson-orin-agx/jp6.2/trt10.3'?" in line


# ------------------------------------------------------------------------------------- engines


@pytest.fixture(scope="module")
def engine(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "m.engine"
    assert run(["build", str(mini.int8_tensorrt), "-o", str(path)]) == 0
    return path


def copy_of(engine: Path, folder: Path) -> Path:
    copy = folder / "m.engine"
    shutil.copy(engine, copy)
    shutil.copy(passport_path(engine), passport_path(copy))
    return copy


@needs_builder
def test_an_engine_from_another_version(refused: Refused, mini: Mini, engine: Path) -> None:
    copy = copy_of(engine, refused.folder)
    passport = json.loads(passport_path(copy).read_text())
    here = passport["runtime_version"]
    passport["runtime_version"] = "1.2.0.54"
    passport_path(copy).write_text(json.dumps(passport))
    line = refused(2, "verify", mini.fp32, copy, "--samples", mini.evaluation)
    assert str(copy) in line
    assert "1.2.0.54" in line
    assert here.rsplit(".", 1)[0] in line
    assert "edgeport build" in line


@needs_builder
def test_an_engine_that_was_exchanged_or_has_no_passport(
    refused: Refused, mini: Mini, engine: Path
) -> None:
    copy = copy_of(engine, refused.folder)
    copy.write_bytes(copy.read_bytes() + b"x")
    line = refused(2, "verify", mini.fp32, copy, "--samples", mini.evaluation)
    assert "is not the engine of its passport" in line
    passport_path(copy).unlink()
    line = refused(2, "verify", mini.fp32, copy, "--samples", mini.evaluation)
    assert "has no passport" in line
    assert "edgeport build" in line


# ------------------------------------------------------------------------------- where to write


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    """A place where no folder can be made, for the superuser too."""
    (tmp_path / "a-file").write_text("")
    return tmp_path / "a-file" / "out"


def test_unwritable_output(refused: Refused, mini: Mini, read_only: Path) -> None:
    samples = ["--samples", mini.calibration]
    recipe = write_recipe(refused.folder, mini)
    for arguments in (
        ["export", "flashocc-nano", "-o", read_only / "m.onnx"],
        ["quantize", mini.fp32, *samples, "-o", read_only / "m.onnx"],
        ["cast", mini.fp32, "--to", "fp16", "-o", read_only / "m.onnx"],
        ["samples", mini.calibration, "--model", mini.fp32, "-o", read_only / "set"],
        ["run", recipe, "-o", read_only / "bundle"],
        *([["build", mini.fp32, "-o", read_only / "m.engine"]] if CAN_BUILD else []),
    ):
        line = refused(3, *arguments)
        assert "cannot write to" in line, arguments
        assert "Choose a writable" in line, arguments


def test_an_output_that_exists_is_not_replaced_unasked(refused: Refused, mini: Mini) -> None:
    before = mini.int8.read_bytes()
    for arguments in (
        ["export", "flashocc-nano", "-o", mini.int8],
        ["quantize", mini.fp32, "--samples", mini.calibration, "-o", mini.int8],
        ["cast", mini.fp32, "--to", "fp16", "-o", mini.int8],
    ):
        line = refused(2, *arguments)
        assert f"{mini.int8} exists already. Choose another -o, or pass --overwrite" in line
    assert mini.int8.read_bytes() == before


def test_a_full_disk_leaves_nothing(
    refused: Refused, mini: Mini, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    line = refused(3, "cast", mini.fp32, "--to", "fp16", "-o", refused.output)
    assert "No space left on device" in line


# ------------------------------------------------------------------------------------- recipes


def write_recipe(folder: Path, mini: Mini, **parts: Any) -> Path:
    content = {
        "model": {"file": str(mini.fp32)},
        "samples": {"calibration": str(mini.calibration), "evaluation": str(mini.evaluation)},
        **parts,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(content, indent=1))  # JSON is YAML
    return path


def test_an_unknown_recipe_key(refused: Refused, mini: Mini) -> None:
    path = write_recipe(refused.folder, mini, quantization={"scale": "mse"})
    line = refused(2, "run", path, "-o", refused.output)
    assert f"{path}: quantization.scale (line 10) is unknown (did you mean 'scales'?)" in line


def test_a_recipe_with_an_unknown_target(refused: Refused, mini: Mini) -> None:
    engines = [{"from": "fp32", "target": "jetson-nano"}]
    path = write_recipe(refused.folder, mini, engines=engines)
    assert "unknown target 'jetson-nano'" in refused(2, "run", path, "-o", refused.output)


def test_a_recipe_whose_files_are_not_there(refused: Refused, mini: Mini) -> None:
    path = write_recipe(refused.folder, mini, model={"file": "absent.onnx"})
    line = run_partial(refused, path)
    assert f"model.file: no file at {refused.folder / 'absent.onnx'}" in line
    assert "relative to the recipe's folder" in line


def test_a_stage_that_fails_says_its_name(refused: Refused, mini: Mini) -> None:
    samples = {"calibration": str(refused.folder / "none"), "evaluation": str(mini.evaluation)}
    path = write_recipe(refused.folder, mini, samples=samples)
    line = run_partial(refused, path)
    assert f"no samples at {refused.folder / 'none'}" in line


def run_partial(refused: Refused, recipe: Path) -> str:
    """The error of a run that began: finished stages stay beside the output, and nothing else."""
    bundle = refused.folder / "bundle"
    line = refused(2, "run", recipe, "-o", bundle)
    assert not bundle.exists()
    kept = bundle.with_name("bundle.partial")
    recorded = {
        output
        for record in (kept / "stages").glob("*.json")
        for output in json.loads(record.read_text())["outputs"]
    }
    present = {
        path.relative_to(kept).as_posix()
        for path in kept.rglob("*")
        if path.is_file() and path.parent.name != "stages" and path.name != ".lock"
    }
    assert present == recorded
    return line


# ---------------------------------------------------------------------------------- environment


def test_a_missing_library_says_what_to_install(
    refused: Refused, mini: Mini, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "exporters.flashocc.exporter", raising=False)
    monkeypatch.delattr("exporters.flashocc.exporter", raising=False)
    line = refused(3, "export", "flashocc-nano", "-o", refused.output)
    assert line == "torch is not installed; exporting needs it. pip install 'edgeport[export]'"
