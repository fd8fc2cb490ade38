from __future__ import annotations

import json
from pathlib import Path

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
