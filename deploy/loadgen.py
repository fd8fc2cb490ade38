"""``edgeport bench --loadgen``: MLPerf's LoadGen measures, and one table says what it found."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.console import Output
from exporters.errors import EXIT_OK
from runtimes.benchmark import Case
from runtimes.loadgen import LoadGenResult, loadgen
from runtimes.timing import Percentile

SINGLE_STREAM = [
    "file",
    "runtime",
    "queries",
    "p90",
    "p90 at most",
    "p99",
    "p99 at most",
    "our p90",
    "our p99",
    "valid",
]
OFFLINE = ["file", "runtime", "samples", "samples/s", "our samples/s", "valid"]


def bench_with_loadgen(
    out: Output,
    cases: Sequence[Case],
    scenario: str,
    queries: int,
    seconds: float,
    notes: Sequence[str],
) -> int:
    """Measure ``cases`` with at least ``queries`` queries and ``seconds``; the exit code.

    Raises:
        UserError, MissingRequirementError: as ``runtimes.loadgen.loadgen``.
    """
    with out.progress("LoadGen") as progress:
        results = loadgen(
            cases, scenario, min_queries=queries, min_seconds=seconds, progress=progress
        )
    title = f"LoadGen {results[0].version}, {scenario}"
    if scenario == "offline":
        out.table(title, OFFLINE, [_offline_row(result) for result in results])
    else:
        rows = [_single_stream_row(result) for result in results]
        out.table(f"{title}, in ms; at most: with 99 % confidence", SINGLE_STREAM, rows)
    for note in (*notes, "LoadGen's measurement, not an MLPerf result"):
        out.say(note)
    out.result(
        {
            "schema": "edgeport.loadgen/1",
            "scenario": scenario,
            "cases": [result.to_json() for result in results],
            "notes": list(notes),
        }
    )
    return EXIT_OK


def _single_stream_row(result: LoadGenResult) -> list[object]:
    own = {p.p: p for p in result.timing.percentiles}
    return [
        result.name,
        result.runtime,
        result.queries,
        result.p90_ms,
        result.p90_bound_ms,
        result.p99_ms,
        result.p99_bound_ms,
        _interval(own[90]),
        _interval(own[99]),
        "yes" if result.valid else "no",
    ]


def _offline_row(result: LoadGenResult) -> list[object]:
    return [
        result.name,
        result.runtime,
        result.queries,
        result.throughput_hz,
        result.timing.throughput_hz,
        "yes" if result.valid else "no",
    ]


def _interval(found: Percentile) -> str | None:
    if found.value_ms is None:
        return None
    return f"{found.value_ms:.4g} [{found.low_ms:.4g}, {found.high_ms:.4g}]"
