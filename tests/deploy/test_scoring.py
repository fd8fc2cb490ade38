"""Scores of candidates: names, the worst output, who computes, and what is done once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration import QuantizeOptions, quantize
from calibration.samples.base import InMemorySamples
from calibration.sensitivity.noise import Workers
from deploy.scoring import CpuCosts, ValidationScore
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from tests.calibration import nets


class Counted(InMemorySamples):
    """Counts how often the set is read."""

    passes = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.passes += 1
        return super().__iter__()


def counted(proto: Any) -> Counted:
    return Counted(nets.samples(proto, 4, seed=3))


@pytest.fixture
def files(tmp_path: Path) -> tuple[ModelFile, Path]:
    """A model with two outputs, and its INT8."""
    net = nets.Net([1, 3, 8, 8])
    hidden = net.conv("first", "x", (3, 8))
    exact = net.conv("exact", "x", (3, 2), 1, relu=False)
    proto = net.model(net.conv("last", hidden, (8, 2), 1, relu=False), exact)
    file = nets.saved(proto, tmp_path / "m.onnx", keep_float={"exact": "kept"})
    made = quantize(file, nets.samples(proto), tmp_path / "q.onnx", QuantizeOptions())
    return file, made.model.path


def test_outputs_have_their_names_and_the_worst_one_none(files: tuple[ModelFile, Path]) -> None:
    file, int8 = files
    samples = counted(file.proto)
    with ValidationScore(file, samples) as score:
        found = score(int8)
    pairs = [(nets.run(file, s), nets.run(ModelFile(int8), s)) for s in samples]
    signal = sum(float(np.square(a[0], dtype=np.float64).sum()) for a, _ in pairs)
    noise = sum(float(np.square(a[0].astype(np.float64) - b[0]).sum()) for a, b in pairs)
    expected = 10 * math.log10(signal / noise)
    # 0.1 dB: ONNX Runtime's integer kernels round a last bit otherwise than its Q/DQ
    assert found["last_out.sqnr_db"].value == pytest.approx(expected, abs=0.1)
    assert found["exact_out.sqnr_db"].value > 100
    assert found["sqnr_db"] == found["last_out.sqnr_db"]
    interval = found["sqnr_db"]
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low <= interval.value <= interval.high


def test_the_reference_runs_once(files: tuple[ModelFile, Path]) -> None:
    file, int8 = files
    samples = counted(file.proto)
    with ValidationScore(file, samples) as score:
        first = score(int8)["sqnr_db"].value
        passes = samples.passes
        assert score(int8)["sqnr_db"].value == first
        assert samples.passes - passes == passes - 1, "one pass less: the reference's"


def test_processes_score_the_same(files: tuple[ModelFile, Path]) -> None:
    file, int8 = files
    samples = counted(file.proto)
    with (
        ValidationScore(file, samples) as alone,
        ValidationScore(file, samples, workers=Workers("joblib", jobs=2)) as shared,
    ):
        one, two = alone(int8)["sqnr_db"].value, shared(int8)["sqnr_db"].value
    assert two == pytest.approx(one, rel=1e-4)


def test_an_own_metric_is_called_metric_too(
    files: tuple[ModelFile, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scoring_metric.py").write_text(
        "def first(outputs, sample):\n"
        "    return None if 'label.skip' in sample else float(outputs['last_out'].flat[0])\n"
    )
    monkeypatch.chdir(tmp_path)
    file, int8 = files
    samples = counted(file.proto)
    with ValidationScore(file, samples, "scoring_metric:first") as score:
        found = score(int8)
    mean = np.mean([nets.run(file, s)[0].flat[0] for s in samples])
    assert found["metric"] == found["first"]
    assert found["first"].fp32 == pytest.approx(mean, rel=1e-5)
    silent = InMemorySamples([{**s, "label.skip": np.zeros(1)} for s in samples])
    with (
        ValidationScore(file, silent, "scoring_metric:first") as score,
        pytest.raises(UserError, match="found nothing to judge in the validation set"),
    ):
        score(int8)


def test_no_samples_and_no_such_metric(files: tuple[ModelFile, Path]) -> None:
    file, _ = files
    with (
        pytest.raises(UserError, match="no samples to validate on"),
        ValidationScore(file, InMemorySamples([])),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"unknown metric 'miuo'\. Did you mean 'miou'"),
        ValidationScore(file, counted(file.proto), "miuo"),
    ):
        pass


def test_costs_are_of_each_file(files: tuple[ModelFile, Path]) -> None:
    file, int8 = files
    costs = CpuCosts(nets.samples(file.proto, 2), threads=1, runs=6)
    times = costs.latencies([file.path, int8])
    assert len(times) == 2
    assert min(times) > 0
    assert {tensor for _, tensor, _ in costs.profile(file.path)} >= {"last_out", "exact_out"}
