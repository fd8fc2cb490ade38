"""How much one more sample would widen a range: against a count over fresh samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration import Statistics, observe, quantize
from calibration.observing.coverage import coverage_findings, widening
from calibration.observing.statistics import TensorStatistics
from calibration.samples.base import InMemorySamples
from tests.calibration import nets


def heavy_tailed(random: np.random.Generator, samples: int) -> np.ndarray:
    """Maxima as of a Pareto distribution, minimum 0."""
    return np.stack([np.zeros(samples), random.pareto(1.5, samples) + 1], axis=1)


def test_the_estimate_is_that_of_fresh_samples_on_the_safe_side() -> None:
    random = np.random.default_rng(0)
    estimates, truths = [], []
    for _ in range(150):
        seen = heavy_tailed(random, 16)
        estimates.append(widening(seen.astype(np.float32))[0])
        high = seen[:, 1].max()
        fresh = heavy_tailed(random, 400)[:, 1]
        truths.append(np.maximum(fresh - high, 0).mean() / high)
    # a draw holds 63 % of 16 samples, so that too much is expected, and by no more than 1 / 0.63²
    assert 1.0 < np.median(estimates) / np.median(truths) < 2.5


def test_equal_samples_leave_nothing_to_widen() -> None:
    assert widening(np.tile(np.float32([-1, 1]), (8, 1))) == (0.0, 0.0)
    assert widening(np.zeros((8, 2), np.float32)) == (0.0, 0.0)


def test_a_dead_activation_that_wakes_up_counts() -> None:
    ranges = np.zeros((6, 2), np.float32)
    ranges[3] = 0, 5
    mean, rare = widening(ranges)
    assert mean > 0.02
    assert rare == 1.0


def test_unstable_tensors_are_named_worst_first() -> None:
    def of(highs: list[float]) -> TensorStatistics:
        entry = TensorStatistics()
        for high in highs:
            entry.add_range(0.0, high)
        return entry

    tensors = {"calm": of([1.0, 1.01] * 8), "wild": of([1.0] * 15 + [9.0]), "wilder": of([1, 99])}
    statistics = Statistics("", "", (), tensors)
    (finding,) = coverage_findings(statistics, tensors)
    assert (finding.code, finding.severity) == ("unstable-ranges", "note")
    assert finding.message.startswith(
        "one more sample would widen the ranges of 2 of 3 activations: wilder by "
    )
    assert "wild by" in finding.message
    assert "calm" not in finding.message
    assert coverage_findings(statistics, ["calm"]) == []


def test_ranges_of_samples_are_exact_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = nets.saved(nets.chain(), tmp_path / "net.onnx")
    samples = nets.samples(file.proto, 5)
    found = observe(file, samples, ["x"]).tensors["x"].ranges.array
    assert np.array_equal(found, np.float32([[s["x"].min(), s["x"].max()] for s in samples]))
    monkeypatch.setattr("calibration.observing.sample_ranges.LIMIT", 2)
    assert np.array_equal(observe(file, samples, ["x"]).tensors["x"].ranges.array, found[::4])


def test_the_report_names_what_one_loud_sample_widens(tmp_path: Path) -> None:
    file = nets.saved(nets.chain(), tmp_path / "net.onnx")
    values = [dict(s) for s in nets.samples(file.proto, 16)]
    values[7]["x"] *= 20
    report = quantize(file, InMemorySamples(values), tmp_path / "q.onnx").report
    (finding,) = report["calibration_set"]["findings"]
    assert finding["code"] == "unstable-ranges"
    assert "first/relu_out by" in finding["message"]
