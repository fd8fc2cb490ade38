from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from exporters.errors import MissingRequirementError, UserError
from runtimes.benchmark import BenchResult, Case, bench
from runtimes.machine import cpu_flags, environment, usable_cores
from runtimes.measuring import peak_rss_mib, read_feeds, write_feeds
from runtimes.timing import Plan
from tests.runtimes import models

SHORT = Plan(warmup=1, min_runs=8, min_seconds=0.0)
SAMPLES = [{"x": models.weights(1, 8, 16, 16, seed=seed)} for seed in range(3)]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> BenchResult:
    folder = tmp_path_factory.mktemp("bench")
    cases = [
        Case("fp32", models.save(models.conv(), folder / "a.onnx"), SAMPLES, threads=1),
        Case("int8", models.save(models.quantized_conv(), folder / "b.onnx"), SAMPLES, threads=1),
    ]
    plan = Plan(warmup=1, min_runs=40, min_seconds=0.0, max_runs=40)
    return bench(cases, plan)


def test_every_case_is_timed_as_often(result: BenchResult) -> None:
    assert [case.name for case in result.cases] == ["fp32", "int8"]
    assert result.runs == 40
    assert all(len(case.timing.latencies_ms) == 40 for case in result.cases)
    assert all(latency > 0 for case in result.cases for latency in case.timing.latencies_ms)


def test_the_json_is_what_the_report_draws(result: BenchResult) -> None:
    document = result.to_json()
    assert document["schema"] == "edgeport.bench/1"
    assert (document["threads"], document["runs"]) == (1, 40)
    first, second = document["cases"]
    assert first["runtime"] == "onnxruntime"
    assert len(first["latencies_ms"]) == 40
    p50, p90, p99 = first["percentiles"]
    assert p50["low_ms"] <= p50["value_ms"] <= p50["high_ms"] <= p90["high_ms"]
    assert p99 == {"p": 99, "value_ms": None, "reason": "p99 needs at least 368 runs, there are 40"}
    assert first["throughput_hz"] > 0
    assert first["ratio_to_reference"] is None
    assert set(second["ratio_to_reference"]) == {"value", "low", "high"}
    assert document["environment"]["cores"] == usable_cores()


def test_each_case_has_a_memory_of_its_own(tmp_path: Path) -> None:
    """One model holds 64 MiB of weights; only its own case may show them."""
    size = 4096
    big = models.model(
        [models.node("MatMul", ["x", "w"], ["y"])],
        [("x", models.FLOAT, [1, size])],
        [("y", models.FLOAT, [1, size])],
        {"w": np.zeros((size, size), np.float32)},
    )
    small = models.conv()
    cases = [
        Case(
            "big", models.save(big, tmp_path / "big.onnx"), [{"x": np.zeros((1, size), np.float32)}]
        ),
        Case("small", models.save(small, tmp_path / "small.onnx"), SAMPLES),
    ]
    heavy, light = bench(cases, SHORT).cases
    assert heavy.peak_rss_mib - heavy.baseline_rss_mib >= 64
    assert light.peak_rss_mib - light.baseline_rss_mib < 32
    assert light.peak_rss_mib < heavy.peak_rss_mib


def test_memory_of_this_process_is_no_part_of_the_figure(tmp_path: Path) -> None:
    ballast = np.ones(400 << 17)  # 400 MiB in the parent
    case = Case("small", models.save(models.conv(), tmp_path / "m.onnx"), SAMPLES)
    peak = bench([case], SHORT).cases[0].peak_rss_mib
    assert ballast.nbytes >> 20 == 400
    assert peak < 400 < peak_rss_mib()


def test_progress_is_reported(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    case = Case("a", models.save(models.conv(), tmp_path / "m.onnx"), SAMPLES)
    bench([case], SHORT, lambda *step: seen.append(step))
    assert seen[-1] == ("runs", 8, 8)


def test_a_feed_that_the_model_does_not_take_is_named(tmp_path: Path) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    with pytest.raises(UserError, match=r"no input 'y'\. Did you mean 'x'|no input 'y'\. Known: x"):
        bench([Case("a", path, [{"y": SAMPLES[0]["x"]}])], SHORT)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": []}, "m has no samples to run"),
        ({"path": Path("nowhere.onnx")}, "no file at nowhere.onnx"),
        ({"runtime": "onnxruntim"}, "unknown runtime 'onnxruntim'. Did you mean 'onnxruntime'?"),
    ],
)
def test_impossible_cases_are_refused_first(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    good = {"path": models.save(models.conv(), tmp_path / "m.onnx"), "samples": SAMPLES}
    with pytest.raises(UserError) as error:
        bench([Case("m", **{**good, **change})], SHORT)  # type: ignore[arg-type]
    assert words in str(error.value)


def test_no_case_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to time"):
        bench([], SHORT)


def test_a_missing_provider_ends_the_run(tmp_path: Path) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    with pytest.raises(MissingRequirementError, match="onnxruntime-cuda cannot run here"):
        bench([Case("m", path, SAMPLES, runtime="onnxruntime-cuda")], SHORT)


def test_feeds_survive_the_file_whatever_inputs_are_called(tmp_path: Path) -> None:
    samples = [
        {"file": np.arange(3), "a/b:c": np.float16([1, 2])},
        {"file": np.arange(4), "a/b:c": np.float16([3])},
    ]
    write_feeds(tmp_path / "f.npz", samples)
    back = read_feeds(tmp_path / "f.npz")
    assert [sorted(sample) for sample in back] == [["a/b:c", "file"]] * 2
    for sample, copy in zip(samples, back, strict=True):
        for name, array in sample.items():
            assert copy[name].dtype == array.dtype
            np.testing.assert_array_equal(copy[name], array)


def test_the_environment_is_recorded() -> None:
    machine = environment(threads=1)
    assert machine["threads"] == 1
    assert machine["cores"] == usable_cores() <= (os.cpu_count() or 1)
    assert machine["cpu"]
    assert machine["memory_mib"] > 100
    assert {"numpy", "onnx", "onnxruntime"} <= set(machine["versions"])
    assert machine["cpu_flags"] == cpu_flags()
    info = Path("/proc/cpuinfo")
    if info.exists():
        words = set(info.read_text().split())
        assert ("avx512_vnni" in machine["cpu_flags"]) == ("avx512_vnni" in words)
