"""``--samples`` for models from elsewhere: .npz files with arrays named like the inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.cli import run
from tests.calibration import nets
from tests.calibration.foreign import bodies, operators


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Takes ``x`` [1, 16], ``state`` [1, 8] and the scalar ``sr``."""
    return nets.saved_bare(bodies.many_inputs(), tmp_path / "voice.onnx").path


def sample(seed: int = 0, **changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "x": random.standard_normal((1, 16)).astype(np.float32),
        "state": np.zeros((1, 8), np.float32),
        "sr": np.array(16000),
    }
    values.update(changes)
    return {key: value for key, value in values.items() if value is not None}


def folder(tmp_path: Path, *samples: dict[str, Any]) -> Path:
    directory = tmp_path / "samples"
    directory.mkdir()
    for index, arrays in enumerate(samples):
        np.savez(directory / f"{index}.npz", **arrays)
    return directory


def quantize(model: Path, samples: Path, *more: str) -> int:
    output = model.with_suffix(".int8.onnx")
    return run(["quantize", str(model), "--samples", str(samples), "-o", str(output), *more])


def test_signals_states_and_scalars(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = folder(tmp_path, *(sample(i) for i in range(4)))
    assert quantize(model, samples, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["quantized"] == {"MatMul": 2}
    assert report["samples"]["count"] == 4


def test_labels_may_travel_along(model: Path, tmp_path: Path) -> None:
    labelled = (sample(i, **{"label.speech": np.array(True)}) for i in range(3))
    assert quantize(model, folder(tmp_path, *labelled)) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"sr": None},
            [
                "sample 0 has no input 'sr'; it has ['state', 'x']",
                "numpy.savez(FILE, x=…, state=…, sr=…)",
            ],
        ),
        (
            {"stat": np.zeros((1, 8), np.float32)},
            ["sample 0 has an input 'stat' that the model does not take", "Did you mean 'state'?"],
        ),
        (
            {"state": np.zeros((2, 8), np.float32)},
            ["sample 0: state is float32 [2, 8], the model takes float32 [1, 8]"],
        ),
        (
            {"state": np.zeros((8, 1), np.float32)},
            ["state is float32 [8, 1]", "Transposed by (1, 0) it would fit"],
        ),
        (
            {"x": np.linspace(0, 1, 16).reshape(1, 16)},
            [
                "sample 0: x is float64 [1, 16], the model takes float32 [1, 16]",
                "If these are its units, save it with .astype('float32')",
            ],
        ),
        (
            {"sr": np.array(16000.0, np.float32)},
            ["sample 0: sr is float32 [], the model takes int64 []"],
        ),
        ({"sr": np.array([16000])}, ["sample 0: sr is int64 [1], the model takes int64 []"]),
        (
            {"x": np.full((1, 16), np.nan, np.float32)},
            ["sample 0: x holds 16 NaN or infinite values of 16"],
        ),
        ({"x": np.array([["a", "b"]])}, ["sample 0: x is str"]),
        ({"x": np.array([None])}, ["0.npz is truncated or no .npz file of plain arrays"]),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    words: list[str],
) -> None:
    samples = folder(tmp_path, sample(0, **change), sample(1), sample(2))
    assert quantize(model, samples) == 2
    said = " ".join(capsys.readouterr().err.split())
    for word in words:
        assert word in said
    assert not model.with_suffix(".int8.onnx").exists()


def test_an_array_in_place_of_an_archive(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = folder(tmp_path, sample(0), sample(1))
    (samples / "0.npz").write_bytes(b"not an archive")
    assert quantize(model, samples) == 2
    assert "0.npz is truncated or no .npz file" in " ".join(capsys.readouterr().err.split())


def test_inputs_with_a_value_need_no_sample(tmp_path: Path) -> None:
    proto = operators.initializers_as_inputs()
    model = nets.saved_bare(proto, tmp_path / "old.onnx").path
    random = np.random.default_rng(0)
    arrays = ({"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(3))
    assert quantize(model, folder(tmp_path, *arrays), "--i-know", "all") == 0
