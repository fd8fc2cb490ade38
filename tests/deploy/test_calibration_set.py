"""The calibration-set doctor through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibration.samples import input_hash, open_samples, write_samples
from deploy.cli import run
from exporters.modelfile import ModelFile
from tests.calibration import nets

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


def test_a_file_is_not_judged_by_what_it_was_calibrated_on(
    mini: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verify", str(mini.fp32), str(mini.int8), "--samples"]
    assert run([*command, str(mini.calibration)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "4 of 4 evaluation samples are in the calibration set too: seed-0-0, seed-0-1" in line
    assert "--i-know overlap, which the result records" in line
    assert run([*command, str(mini.evaluation)]) == 0

    mixed = tmp_path / "mixed"  # the same arrays under another name, in a file without manifest
    mixed.mkdir()
    sample = next(iter(open_samples(mini.calibration)))
    np.savez(mixed / "renamed.npz", **sample)  # type: ignore[arg-type]
    np.savez(mixed / "new.npz", **next(iter(open_samples(mini.evaluation))))  # type: ignore[arg-type]
    assert run([*command, str(mixed)]) == 2
    assert "1 of 2 evaluation samples are in the calibration set too: renamed" in (
        capsys.readouterr().err
    )
    assert run([*command, str(mixed), "--i-know", "overlap", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("1 of 2 evaluation samples are in the calibration set too" in n for n in notes)
    assert run([*command, str(mixed), "--i-know", "overlp"]) == 2
    assert "'overlp' is no finding. Did you mean 'overlap'?" in capsys.readouterr().err


def test_an_evaluation_set_that_overlaps_is_refused_before_quantizing(
    mini: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "q.onnx"
    command = ["quantize", str(mini.fp32), "--samples", str(mini.calibration), "-o", str(output)]
    command += ["--evaluation", str(mini.calibration)]
    assert run(command) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "4 of 4 evaluation samples are in the calibration set too" in line
    assert not output.exists()
    assert run([*command, "--i-know", "overlap"]) == 0
    described = ModelFile(output).quantization
    assert described is not None
    assert described["calibration_set"]["overridden"] == ["overlap"]
    digests = [digest[:16] for digest in map(input_hash, open_samples(mini.calibration))]
    assert described["calibration_set"]["digests"] == digests


def test_a_foreign_file_knows_its_calibration_set_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = nets.saved_bare(nets.residual(), tmp_path / "foreign.onnx")
    write_samples(nets.samples(foreign.proto), tmp_path / "set")
    output = tmp_path / "q.onnx"
    command = ["quantize", str(foreign.path), "--samples", str(tmp_path / "set"), "-o", str(output)]
    assert run([*command, "--i-know", "random-data"]) == 0
    assert run(["verify", str(foreign.path), str(output), "--samples", str(tmp_path / "set")]) == 2
    assert "evaluation samples are in the calibration set too" in capsys.readouterr().err
