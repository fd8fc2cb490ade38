"""What ``edgeport bench`` says of the files that it timed here."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.console import Output
from runtimes.benchmark import BenchResult, CaseResult
from runtimes.timing import Interval, Timing


def tell_bench(out: Output, result: BenchResult, notes: Sequence[str]) -> None:
    machine = result.environment
    out.say(
        f"{machine['cpu']}, {result.threads} threads of {machine['cores']} cores, "
        f"load {machine['load']} before; {result.runs} runs each, interleaved"
    )
    out.table(
        "Latency in ms, with 95 % intervals",
        ["file", "runtime", "p50", "p90", "p99", "runs/s", "times as fast", "peak MiB"],
        [_row(case) for case in result.cases],
    )
    reasons = {p.reason for case in result.cases for p in case.timing.percentiles if p.reason}
    for note in (*notes, *result.notes, *sorted(reasons)):
        out.say(note)


def _row(case: CaseResult) -> list[object]:
    return [
        case.name,
        case.runtime,
        *percentiles_of(case.timing),
        case.timing.throughput_hz,
        ratio_of(case.ratio_to_reference),
        case.peak_rss_mib,
    ]


def percentiles_of(timing: Timing) -> list[str | None]:
    """Latencies with their intervals; None where the runs support no percentile."""
    return [
        None if p.value_ms is None else interval(p.value_ms, p.low_ms, p.high_ms)
        for p in timing.percentiles
    ]


def ratio_of(ratio: Interval | None) -> str | None:
    """How many times as fast as the reference; None for the reference itself."""
    return None if ratio is None else interval(ratio.value, ratio.low, ratio.high)


def interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.4g} [{low:.4g}, {high:.4g}]"
