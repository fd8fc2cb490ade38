"""The calibration-set doctor through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deploy.cli import run
from exporters.modelfile import ModelFile

from .conftest import Mini


@pytest.fixture
def noise(mini: Mini, tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "noise"
    folder.mkdir()
    shape = tuple(int(size) for size in mini.spec.inputs[0].shape)
    for index in range(2):
        images = random.integers(0, 256, shape, dtype=np.uint8)
        np.savez(folder / f"frame-{index}.npz", images=images)
    return folder


def test_noise_is_refused_and_nothing_written(
    mini: Mini, noise: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "q.onnx"
    assert run(["quantize", str(mini.fp32), "--samples", str(noise), "-o", str(output)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "12 of 12 images are white noise" in line
    assert "frame-0, frame-1" in line
    assert "--i-know random-data" in line
    assert not output.exists()


def test_what_is_known_is_told_and_recorded(
    mini: Mini, noise: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "q.onnx"
    command = ["quantize", str(mini.fp32), "--samples", str(noise), "-o", str(output)]
    command += ["--i-know", "random-data", "--evaluation", str(mini.evaluation)]
    assert run(command) == 0
    text = capsys.readouterr()
    said = " ".join((text.out + text.err).split())
    assert "samples: random-data (overridden): images: 12 of 12 images are white noise" in said
    assert "samples: drift-untested: 2 calibration and 2 evaluation samples" in said
    described = ModelFile(output).require_spec().quantization
    assert described is not None
    assert described["calibration_set"]["overridden"] == ["random-data"]
    assert run([*command, "--overwrite", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["calibration_set"] == described["calibration_set"]
