"""``edgeport quantize`` and ``edgeport cast`` from the outside: words, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.samples import write_samples
from deploy.cli import run
from exporters.modelfile import ModelFile
from tests.calibration import nets


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with ``m.onnx`` and a calibration set ``set``."""
    proto = nets.residual()
    nets.saved(proto, tmp_path / "m.onnx", keep_float={"fc": "class logits"})
    write_samples(nets.samples(proto), tmp_path / "set")
    return tmp_path


def quantize(place: Path, *options: str) -> int:
    output = [] if "-o" in options else ["-o", str(place / "q.onnx")]
    samples = [] if "--samples" in options else ["--samples", str(place / "set")]
    return run(["quantize", str(place / "m.onnx"), *samples, *output, *options])


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_quantize_says_what_it_did_and_what_it_left(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize(place) == 0
    out = capsys.readouterr().out
    assert "7 of 7 Conv, 1 of 1 ConvTranspose, 0 of 1 Gemm in INT8" in out
    assert "class logits" in out
    assert "next: edgeport verify" in out
    assert ModelFile(place / "q.onnx").require_spec().quantization is not None


def test_quantize_prints_json_and_nothing_else(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize(place, "--json", "--policy", "onnxruntime", "--scales", "minmax") == 0
    report = printed(capsys)
    assert (report["policy"], report["scales"]) == ("onnxruntime", "minmax")
    assert report["sha256"] == ModelFile(place / "q.onnx").sha256
    assert {s["node"]: s["reason"] for s in report["skipped"]}["fc"] == "class logits"


def test_every_option_arrives(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--rest",
        "fp16",
        "--keep-float",
        "head",
        "--keep-float",
        "b1",
        "--quantize-also",
        "fc",
    ]
    assert quantize(place, "--json", *options) == 0
    report = printed(capsys)
    assert report["rest"] == report["cast"]["to"] == "fp16"
    assert report["keep_float"] == ["head", "b1"]
    assert report["quantized"] == {"Conv": 4, "ConvTranspose": 1, "Gemm": 1}


def test_statistics_are_kept_and_used_again(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ["--statistics", str(place / "seen.npz")]
    assert quantize(place, "--json", *kept) == 0
    first = printed(capsys)
    assert quantize(place, "--json", *kept, "-o", str(place / "again.onnx")) == 0
    assert printed(capsys)["sha256"] == first["sha256"]

    proto = ModelFile(place / "m.onnx").proto
    write_samples(nets.samples(proto, seed=8), place / "other")
    other = ["--samples", str(place / "other"), "-o", str(place / "x.onnx")]
    assert quantize(place, *kept, *other) == 2
    assert "statistics of other samples" in capsys.readouterr().err


def test_cast_lists_what_stays(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["cast", str(place / "m.onnx"), "-o", str(place / "h.onnx"), "--keep-float", "head"]
    assert run(command) == 0
    out = capsys.readouterr().out
    assert "nodes in fp16, 4 casts inserted, opset 17" in out
    assert "asked for with --keep-float" in out


def test_cast_prints_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["cast", str(place / "m.onnx"), "-o", str(place / "h.onnx"), "--to", "bf16", "--json"]
    assert run(command) == 0
    assert printed(capsys)["opset"] == 22


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scales", "mes"], "unknown scale method 'mes'. Did you mean 'mse'?"),
        (["--policy", "trt"], "unknown policy 'trt'. Known: onnxruntime, tensorrt"),
        (["--keep-float", "haed"], "--keep-float 'haed' matches no node. Did you mean 'head'?"),
        (["--samples", "nowhere"], "no samples at nowhere"),
        (["--policy", "onnxruntime", "--rest", "fp16"], "CPU kernels have no FP16"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(
    place: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert quantize(place, *options) == 2
    assert words in capsys.readouterr().err
    assert not (place / "q.onnx").exists()


def test_bad_samples_end_in_one_line_and_code_2(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.full((1, 3, 32, 32), np.nan, np.float32)
    np.savez(place / "nan.npz", x=values)
    options = ["--samples", str(place / "nan.npz"), "--min-samples", "1"]
    assert quantize(place, *options) == 2
    assert "holds 3072 NaN or infinite values" in capsys.readouterr().err


def test_too_few_samples_end_in_one_line_and_code_2(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = next(iter(nets.samples(ModelFile(place / "m.onnx").proto, 1)))
    np.savez(place / "one.npz", **one)
    assert quantize(place, "--samples", str(place / "one.npz")) == 2
    assert "1 sample is too few, at least 2 are needed" in capsys.readouterr().err


def test_a_file_that_is_no_onnx(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "m.onnx").write_bytes(b"hello")
    for command in (["quantize", "--samples", str(place / "set")], ["cast"]):
        line = [command[0], str(place / "m.onnx"), "-o", str(place / "o.onnx"), *command[1:]]
        assert run(line) == 2
        assert "m.onnx" in capsys.readouterr().err
    assert not (place / "o.onnx").exists()
