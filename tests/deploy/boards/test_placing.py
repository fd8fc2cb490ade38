"""What runs a case on a board, and which files it needs there."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from calibration.description import write_quantization
from deploy.boards.jobs import BoardCase, EnergyPlan, FramePlan, Job, job_json
from deploy.boards.placing import choose, place
from exporters.errors import MissingRequirementError, UserError
from tests.calibration import nets
from tests.runtimes import models

JETPACK_5 = {"numpy": "1.17.4", "tensorrt": "8.5.2.2", "trtexec": "8.5.2"}
JETPACK_6 = {"numpy": "1.26", "tensorrt": "10.3.0", "trtexec": "10.3.0", "onnxruntime": "1.20"}
SHAPES = {"x": {"min": [1, 8], "opt": [2, 8], "max": [4, 8]}}


@pytest.mark.parametrize(
    ("asked", "runtimes", "chosen"),
    [
        (None, JETPACK_5, "trtexec"),
        ("tensorrt", JETPACK_5, "trtexec"),
        (None, JETPACK_6, "tensorrt"),
        ("trtexec", JETPACK_6, "trtexec"),
        ("onnxruntime", JETPACK_6, "onnxruntime"),
        ("tensorrt", {"tensorrt_rtx": "1.7.1", "trtexec": "10.3.0"}, "tensorrt_rtx"),
        (None, {"onnxruntime": "1.31"}, "onnxruntime"),
    ],
)
def test_jetpack_5_goes_through_trtexec(
    asked: str | None, runtimes: dict[str, str], chosen: str
) -> None:
    assert choose(asked, runtimes) == chosen


@pytest.mark.parametrize(
    ("asked", "words", "fix"),
    [
        (None, "can run nothing", "nvidia-jetpack"),
        ("tensorrt", "neither its bindings for Python nor trtexec", "python3-libnvinfer"),
        ("trtexec", r"no trtexec \(it has tensorrt 8.6.1\)", "libnvinfer-bin"),
        ("onnxruntime", "no onnxruntime", "pip3 install"),
    ],
)
def test_what_a_board_lacks_is_said(asked: str | None, words: str, fix: str) -> None:
    with pytest.raises(MissingRequirementError, match=words) as raised:
        choose(asked, {"tensorrt": "8.6.1"})
    assert fix in raised.value.fix


def test_a_runtime_that_no_board_has_is_refused() -> None:
    with pytest.raises(UserError, match="boards do not run 'onnxruntim'") as raised:
        choose("onnxruntim", JETPACK_6)
    assert "did you mean 'onnxruntime'" in raised.value.fix.lower()


def test_engines_of_other_wishes_are_other_engines(tmp_path: Path) -> None:
    model = models.save(models.conv(), tmp_path / "m.onnx")
    plain = place(BoardCase("m", model), JETPACK_6, "/c", tmp_path).plan
    build = {"shapes": SHAPES, "timing_cache": True}
    shaped = place(BoardCase("m", model, build=build), JETPACK_6, "/c", tmp_path).plan
    assert plain["engine"] != shaped["engine"]
    assert shaped["build"]["timing_cache"] == "/c/timing/tensorrt-10.3.0.cache"
    assert json.dumps(shaped)
    case = BoardCase("m", model, "onnxruntime", build={"shapes": SHAPES})
    with pytest.raises(UserError, match="ONNX Runtime there, which builds no engine: shapes"):
        place(case, JETPACK_6, "/c", tmp_path)


def test_functions_are_written_out_for_an_engine_and_kept_for_onnx_runtime(tmp_path: Path) -> None:
    """A parser before TensorRT 9 knows no functions; later ones may take one for a built-in."""
    model = models.save(models.with_function(), tmp_path / "m.onnx")
    engine = place(BoardCase("m", model), JETPACK_5, "/c", tmp_path)
    (name, sent), *rest = engine.files.items()
    assert not rest
    assert engine.plan["file"] == f"/c/files/{name}"
    assert not onnx.load(sent).functions
    ort = place(BoardCase("m", model, "onnxruntime"), JETPACK_6, "/c", tmp_path)
    assert list(ort.files.values()) == [model]


def test_a_foreign_operator_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    model = models.save(models.foreign(), tmp_path / "m.onnx")
    with pytest.raises(UserError, match="an operator of a foreign domain"):
        place(BoardCase("m", model), JETPACK_6, "/c", tmp_path)


def test_trtexec_is_told_what_the_model_has(tmp_path: Path) -> None:
    model = models.save(models.quantized_conv(), tmp_path / "m.onnx")
    plan = place(BoardCase("m", model), JETPACK_5, "/c", tmp_path).plan
    assert plan["runs_in"] == "trtexec"
    assert plan["build"]["types"] == ["int8"]
    assert plan["options"] == {"outputs": {"y": "float32"}, "dynamic": False}


@pytest.mark.parametrize("board", [JETPACK_5, JETPACK_6])
def test_float_products_of_integers_are_kept_exact(tmp_path: Path, board: dict[str, str]) -> None:
    """A language model in the form for TensorRT says so in its description."""
    proto = nets.chain()
    plain = nets.saved(proto, tmp_path / "plain.onnx").path
    assert "exact_floats" not in place(BoardCase("m", plain), board, "/c", tmp_path).plan["build"]
    told = onnx.load(plain)
    write_quantization(told, {"runtime": "tensorrt"})
    path = models.save(told, tmp_path / "integers.onnx")
    assert place(BoardCase("m", path), board, "/c", tmp_path).plan["build"]["exact_floats"]


def test_what_a_command_line_cannot_do_is_refused(tmp_path: Path) -> None:
    model = models.save(models.conv(), tmp_path / "m.onnx")
    stripped = BoardCase("m", model, build={"strip_weights": True})
    with pytest.raises(UserError, match="without weights, but cannot give them back"):
        place(stripped, JETPACK_5, "/c", tmp_path)
    plan = place(BoardCase("m", model), JETPACK_5, "/c", tmp_path).plan
    frames = FramePlan(b"", b"", 1, [], [])
    for job, option in (
        (Job([], [], energy=EnergyPlan(1.0)), "--energy"),
        (Job([], [], frames=frames), "--end-to-end"),
    ):
        with pytest.raises(UserError, match=f"{option} needs .*starts anew for every block"):
            job_json(job, [plan], "f.npz", "/c")
