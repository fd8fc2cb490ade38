from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploy import cli
from tests.runtimes import models


@pytest.fixture(autouse=True)
def only_this_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("check",))
    monkeypatch.setenv("COLUMNS", "220")


def test_a_good_model_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = models.save(models.quantized_conv(), tmp_path / "m.onnx")
    assert cli.run(["check", str(path), "--target", "rtx-ada/trt-rtx1.7"]) == 0
    assert "nothing known stops a build; evidence: built" in capsys.readouterr().out


def test_a_bad_one_is_a_verdict_with_nodes_and_substitutes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = models.save(models.nms(), tmp_path / "m.onnx")
    assert cli.run(["check", str(path), "--target", "rtx-ada/trt-rtx1.7"]) == 1
    shown = capsys.readouterr().out
    assert "nms0" in shown
    assert "NonMaxSuppression" in shown
    assert "MaxPool" in shown
    assert "1 would stop a build" in shown


def test_the_table_speaks_for_a_jetson(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = models.save(models.quantized_conv(zero_point=3), tmp_path / "m.onnx")
    target = "jetson-orin-agx/jp6.2/trt10.3"
    assert cli.run(["check", str(path), "--target", target, "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "edgeport.check/1"
    assert result["target"] == target
    assert result["evidence"] == "written"
    assert result["errors"] == 2
    refused = {f["node"] for f in result["findings"] if f["severity"] == "error"}
    assert refused == {"quantize_x", "dequantize_x"}


def top_k(k: int) -> onnx.ModelProto:
    return models.model(
        [models.node("TopK", ["x", "k"], ["y", "i"])],
        [("x", models.FLOAT, [1, 8000])],
        [("y", models.FLOAT, [1, k])],
        {"k": np.array([k])},
    )


def scatter_add() -> onnx.ModelProto:
    return models.model(
        [models.node("ScatterND", ["d", "i", "u"], ["y"], reduction="add", name="scatter0")],
        [("d", models.FLOAT, [8]), ("i", models.INT64, [4, 1]), ("u", models.FLOAT, [4])],
        [("y", models.FLOAT, [8])],
    )


def fp8() -> onnx.ModelProto:
    kind = onnx.TensorProto.FLOAT8E4M3FN
    return models.model(
        [
            models.node("QuantizeLinear", ["x", "s"], ["q"], name="q8", output_dtype=kind),
            models.node("DequantizeLinear", ["q", "s"], ["y"], name="dq8"),
        ],
        [("x", models.FLOAT, [4])],
        [("y", models.FLOAT, [4])],
        {"s": np.float32(0.1)},
        opset=21,
    )


@pytest.mark.parametrize(
    ("proto", "target", "row", "words"),
    [
        (
            top_k(4000),
            "jetson-orin-agx/jp6.2/trt10.3",
            "topk-limit-documented",
            "K exceeds 3840",
        ),
        (top_k(2000), "jetson-xavier/jp5.1/trt8.5", "topk-limit-of-trt8", "K exceeds 1024"),
        (
            scatter_add(),
            "jetson-xavier/jp5.1/trt8.5",
            "trt8-scatternd-reduction",
            "silently ignores the reduction and gives wrong numbers",
        ),
        (fp8(), "jetson-orin-nano/jp6.2/trt10.3", "fp8-needs-ada-documented", "no Orin has it"),
    ],
)
def test_a_documented_limit_is_refused_with_its_row_and_a_way_out(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    proto: onnx.ModelProto,
    target: str,
    row: str,
    words: str,
) -> None:
    path = models.save(proto, tmp_path / "m.onnx")
    assert cli.run(["check", str(path), "--target", target, "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    refused = [f for f in findings if f["severity"] == "error"]
    assert words in refused[0]["message"]
    assert f"targets.toml {row}: " in refused[0]["source"]
    assert refused[0]["evidence"] == "written"
    assert refused[0]["fix"]


def test_jetpack_5_goes_through_trtexec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    assert cli.run(["check", str(path), "--target", "jetson-xavier/jp5.1/trt8.5", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["findings"]
    said = " ".join(note["message"] + " " + note["fix"] for note in notes)
    assert "edgeport's Python adapter starts at TensorRT 10: here trtexec builds" in said
    assert "through trtexec only: edgeport bench MODEL.onnx --board" in said


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("rtx-adda/trt-rtx1.7", "unknown target 'rtx-adda/trt-rtx1.7'. Did you mean 'rtx-ada/"),
        ("orin", "unknown target 'orin'."),
    ],
)
def test_an_unknown_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, words: str
) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    assert cli.run(["check", str(path), "--target", target]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "edgeport doctor" in error


def test_a_foreign_operator_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = models.save(models.foreign(), tmp_path / "m.onnx")
    assert cli.run(["check", str(path), "--target", "rtx-ada/trt-rtx1.7"]) == 2
    assert "node 'foreign0' is my.domain::Relu" in capsys.readouterr().err


def test_a_file_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a model")
    assert cli.run(["check", str(path), "--target", "cpu/onnxruntime"]) == 2
    assert "m.onnx" in capsys.readouterr().err
