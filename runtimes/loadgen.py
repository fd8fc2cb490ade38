"""MLPerf's LoadGen as the one who asks: the numbers in the terms of that benchmark.

    single-stream   one query after the other; 90th and 99th percentile, early stopping
    offline         all samples in one query; samples per second

LoadGen's *early stopping* estimate is an upper bound: the percentile is not above it with 99 %
confidence (from 64 queries on at p90, 662 at p99). Ours beside it comes from the same queries,
timed around the session, without LoadGen's own cost. Source: MLCommons, inference/loadgen, and the
*MLPerf Inference Rules*, section "Early stopping". What is reported is LoadGen's measurement, not
an MLPerf result: those have rules for models, data, duration and review.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exporters.errors import MissingRequirementError, UserError, did_you_mean
from runtimes.base import Array, Progress
from runtimes.benchmark import Case, load_case, open_worker, require_cases
from runtimes.serving import Message
from runtimes.timing import Timing

SCENARIOS = {"single-stream": "SingleStream", "offline": "Offline"}
_DETAIL = "mlperf_log_detail.txt"
_MARK = ":::MLLOG "


@dataclass(frozen=True)
class LoadGenResult:
    """One file under LoadGen.

    Attributes:
        valid: LoadGen's verdict: minimal duration and queries, and early stopping, satisfied.
        p90_ms, p99_ms: observed latencies; None offline, where they mean nothing.
        p90_bound_ms, p99_bound_ms: early stopping; None with too few queries.
        throughput_hz: samples per second, without LoadGen's overhead in single stream.
        timing: the same queries as we time them.
    """

    name: str
    runtime: str
    scenario: str
    version: str
    valid: bool
    queries: int
    throughput_hz: float
    timing: Timing
    p90_ms: float | None = None
    p99_ms: float | None = None
    p90_bound_ms: float | None = None
    p99_bound_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        own = [p.to_json() for p in self.timing.percentiles]
        return {**asdict(self), "timing": list(self.timing.latencies_ms), "percentiles": own}


def loadgen(
    cases: Sequence[Case],
    scenario: str,
    *,
    min_queries: int = 64,
    min_seconds: float = 10.0,
    progress: Progress | None = None,
) -> list[LoadGenResult]:
    """Let LoadGen measure each of ``cases``, one after the other, each in a process of its own.

    Raises:
        UserError: no such scenario, no case, no sample, or a feed that a model does not take.
        MissingRequirementError: LoadGen or a runtime is missing.
    """
    if scenario not in SCENARIOS:
        raise UserError(
            f"LoadGen has no scenario {scenario!r} here", fix=did_you_mean(scenario, SCENARIOS)
        )
    require_cases(cases)
    import_loadgen()
    results = []
    for index, case in enumerate(cases):
        if progress is not None:
            progress(f"LoadGen {case.name}", index, len(cases))
        with tempfile.TemporaryDirectory(prefix="edgeport-loadgen-") as scratch:
            with open_worker(case) as worker:
                load_case(worker, case, Path(scratch) / "feeds.npz")
                answer = worker.request(
                    {
                        "do": "loadgen",
                        "scenario": scenario,
                        "queries": min_queries,
                        "seconds": min_seconds,
                        "folder": scratch,
                    }
                )
            log = read_log(Path(scratch) / _DETAIL)
        results.append(_result(case, scenario, log, Timing(tuple(answer["latencies_ms"]))))
    return results


def generate(
    execute: Callable[[dict[str, Array]], object],
    samples: Sequence[dict[str, Array]],
    request: Message,
) -> Message:
    """Run LoadGen in this process, which the measurement then has for itself; latencies in ms."""
    lg = import_loadgen()
    latencies: list[float] = []

    def issue(queries: Any) -> None:
        for query in queries:
            started = time.perf_counter()
            execute(samples[query.index])
            latencies.append(1e3 * (time.perf_counter() - started))
            lg.QuerySamplesComplete([lg.QuerySampleResponse(query.id, 0, 0)])

    fastest_s = _warm_up(execute, samples)
    with _under_test(lg, issue, len(samples)) as (sut, qsl):
        settings, logs = _settings(lg, request)
        # LoadGen draws duration / this many queries beforehand, and must not run out of them
        settings.single_stream_expected_latency_ns = max(1, int(1e9 * fastest_s / 4))
        lg.StartTestWithLogSettings(sut, qsl, settings, logs)
    return {"latencies_ms": latencies}


def _warm_up(
    execute: Callable[[dict[str, Array]], object], samples: Sequence[dict[str, Array]]
) -> float:
    """Run every sample, and ten times at least; seconds of the fastest run."""
    spent = []
    for index in range(max(10, len(samples))):
        started = time.perf_counter()
        execute(samples[index % len(samples)])
        spent.append(time.perf_counter() - started)
    return min(spent)


@contextmanager
def _under_test(lg: Any, issue: Callable[[Any], None], count: int) -> Iterator[tuple[Any, Any]]:
    sut = lg.ConstructSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(count, count, lambda _indices: None, lambda _indices: None)
    try:
        yield sut, qsl
    finally:
        lg.DestroyQSL(qsl)
        lg.DestroySUT(sut)


def _settings(lg: Any, request: Message) -> tuple[Any, Any]:
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, SCENARIOS[request["scenario"]])
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_query_count = request["queries"]
    settings.min_duration_ms = int(1e3 * request["seconds"])
    # offline, one query holds all samples: expected rate x duration of them
    settings.offline_expected_qps = request["queries"] / max(request["seconds"], 1e-3)
    output = lg.LogOutputSettings()
    output.outdir = request["folder"]
    output.copy_summary_to_stdout = False
    logs = lg.LogSettings()
    logs.log_output = output
    logs.enable_trace = False
    return settings, logs


def read_log(path: Path) -> dict[str, Any]:
    """The last value of every key in LoadGen's detail log."""
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = (json.loads(line[len(_MARK) :]) for line in lines if line.startswith(_MARK))
    return {entry["key"]: entry["value"] for entry in entries}


def _result(case: Case, scenario: str, log: dict[str, Any], timing: Timing) -> LoadGenResult:
    def milliseconds(key: str) -> float | None:
        return 1e-6 * log[key] if log.get(key) else None

    offline = scenario == "offline"
    rate = "result_samples_per_second" if offline else "result_qps_without_loadgen_overhead"
    return LoadGenResult(
        case.name,
        case.runtime_name,
        scenario,
        str(log["loadgen_version"]).split(" ")[0],
        log["result_validity"] == "VALID",
        len(timing.latencies_ms),
        float(log[rate]),
        timing,
        None if offline else milliseconds("result_90.00_percentile_latency_ns"),
        None if offline else milliseconds("result_99.00_percentile_latency_ns"),
        None if offline else milliseconds("early_stopping_latency_ss"),
        None if offline else milliseconds("early_stopping_latency_ms"),
    )


def import_loadgen() -> Any:
    try:
        import mlperf_loadgen
    except ImportError as error:
        raise MissingRequirementError(
            "MLPerf's LoadGen is not installed; it has packages for Linux on x86-64",
            fix="pip install 'edgeport[loadgen]'",
        ) from error
    return mlperf_loadgen
