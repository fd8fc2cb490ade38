"""A small FlashOcc with its samples, made once, and the form that every refusal must have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from calibration import QuantizeOptions, observe, quantize
from calibration.samples import InMemorySamples, write_samples
from deploy.cli import run
from exporters import export
from exporters.modelfile import ModelSpec


@dataclass(frozen=True)
class Mini:
    """Files of ``flashocc-nano``; tests read them and never change them."""

    folder: Path
    spec: ModelSpec

    @property
    def fp32(self) -> Path:
        return self.folder / "fp32.onnx"

    @property
    def int8(self) -> Path:
        return self.folder / "int8-onnxruntime.onnx"

    @property
    def int8_tensorrt(self) -> Path:
        return self.folder / "int8-tensorrt.onnx"

    @property
    def calibration(self) -> Path:
        return self.folder / "calibration"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation"


def blocky_images(count: int, seed: int, spec: ModelSpec) -> InMemorySamples:
    """Random coloured squares of eight pixels: images with edges and areas."""
    rng = np.random.default_rng(seed)
    cameras, height, width, _ = spec.inputs[0].shape
    shape = (cameras, int(height) // 8, int(width) // 8, 3)
    samples = []
    for _ in range(count):
        coarse = rng.integers(0, 256, shape, dtype=np.uint8)
        samples.append({"images": coarse.repeat(8, axis=1).repeat(8, axis=2)})
    return InMemorySamples(samples, names=[f"seed-{seed}-{i}" for i in range(count)])


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    folder = tmp_path_factory.mktemp("mini")
    spec = export("flashocc-nano", folder / "fp32.onnx").model.require_spec()
    result = Mini(folder, spec)
    calibration = write_samples(blocky_images(4, 0, spec), result.calibration)
    write_samples(blocky_images(2, 1, spec), result.evaluation)
    statistics = observe(result.fp32, calibration)
    for output in (result.int8, result.int8_tensorrt):
        policy = output.stem.removeprefix("int8-")
        quantize(result.fp32, statistics, output, QuantizeOptions(policy=policy))
    return result


class Refused:
    """Runs a command line that must fail, and holds it to the form that every error has."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.output = folder / "outputs" / "made"
        self.output.parent.mkdir()
        self._capsys = capsys

    def __call__(self, code: int, *arguments: str | Path) -> str:
        """The error's line; fails unless it is one, the code is right and nothing was written."""
        self._capsys.readouterr()
        found = run([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        line = [text for text in captured.err.splitlines() if text.startswith("edgeport: ")]
        assert len(line) == 1, captured.err
        assert found == code, line
        assert "Traceback" not in captured.err
        assert "internal error" not in line[0]
        assert list(self.output.parent.iterdir()) == [], "something was left"
        return line[0].removeprefix("edgeport: ")


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    return Refused(tmp_path, capsys)
