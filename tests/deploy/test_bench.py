from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deploy import cli
from tests.runtimes import models


@pytest.fixture(autouse=True)
def only_this_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("bench",))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    fp32 = models.save(models.conv(), tmp_path / "fp32.onnx")
    int8 = models.save(models.quantized_conv(), tmp_path / "int8.onnx")
    return [str(fp32), str(int8)]


def test_a_percentile_that_the_runs_cannot_support_is_not_printed(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["bench", *files, "--runs", "40", "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "p99 needs at least 368 runs, there are 40" in shown
    assert "1 threads of" in shown
    assert "40 runs each, interleaved" in shown
    assert "inputs are random, seed 0" in shown
    row = next(line for line in shown.splitlines() if line.strip().startswith("int8.onnx"))
    assert row.count("[") == 3, "p50, p90 and the ratio have intervals"
    assert "–" in row, "p99 is a dash"


def test_json_has_every_latency(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", *files, "--runs", "7", "--warmup", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["runs"] == 7
    assert [case["name"] for case in result["cases"]] == ["fp32.onnx", "int8.onnx"]
    assert all(len(case["latencies_ms"]) == 7 for case in result["cases"])
    assert any("inputs are random, seed 0" in note for note in result["notes"])


def test_without_runs_time_decides(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", files[0], "--seconds", "0.2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["runs"] >= 30


def test_samples_are_run(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for index in range(2):
        np.savez(folder / f"{index}.npz", x=models.weights(1, 8, 16, 16, seed=index))
    assert cli.run(["bench", *files, "--runs", "6", "--samples", str(folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert not any("random" in note for note in result["notes"])


def test_files_of_one_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(str(models.save(models.conv(), tmp_path / folder / "m.onnx")))
    assert cli.run(["bench", *paths, "--runs", "6", "--json"]) == 0
    assert [c["name"] for c in json.loads(capsys.readouterr().out)["cases"]] == paths


@pytest.mark.parametrize(
    ("extra", "code", "words"),
    [
        (["--runtime", "onnxruntim"], 2, "unknown runtime 'onnxruntim'"),
        (["--runtime", "onnxruntime-cuda"], 3, "onnxruntime-cuda cannot run here"),
        (["--samples", "nowhere"], 2, "nowhere"),
    ],
)
def test_impossible_wishes(
    files: list[str],
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    code: int,
    words: str,
) -> None:
    assert cli.run(["bench", *files, *extra, "--runs", "6"]) == code
    assert words in capsys.readouterr().err


def test_no_such_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", "nowhere.onnx"]) == 2
    assert "no model file at nowhere.onnx" in capsys.readouterr().err


def test_a_file_that_is_no_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(b"something")
    assert cli.run(["bench", str(path)]) == 2
    assert "has no passport" in capsys.readouterr().err
