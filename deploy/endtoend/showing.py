"""``edgeport bench --end-to-end``: one table of files and steps."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.console import Output
from deploy.endtoend.benching import EndToEnd, Frames, Question, bench_end_to_end
from exporters.errors import EXIT_OK
from runtimes.benchmark import Case
from runtimes.timing import Plan, Timing

COLUMNS = ["file", "step", "p50", "p90", "p99", "share", "frames/s", "times as fast"]


def show_end_to_end(
    out: Output, cases: Sequence[Case], question: Question, plan: Plan, notes: Sequence[str] = ()
) -> int:
    """Measure and say what came out; the exit code.

    Raises:
        UserError, MissingRequirementError: as ``bench_end_to_end``.
    """
    with out.progress("Bench") as progress:
        result = bench_end_to_end(cases, question, plan, progress)
    _show(out, result, notes)
    out.result({**result.to_json(), "notes": [*notes, *result.notes]})
    return EXIT_OK


def _show(out: Output, result: EndToEnd, notes: Sequence[str]) -> None:
    machine, first = result.environment, result.cases[0]
    out.say(
        f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores, "
        f"load {machine['load']} before; {len(first.total.latencies_ms)} frames each, "
        f"interleaved, from {first.pictures} of the source"
    )
    title = "From picture to answer in ms, with 95 % intervals"
    out.table(title, COLUMNS, rows_of(result.cases))
    timings = [t for case in result.cases for t in (case.total, *case.steps.values())]
    reasons = {p.reason for timing in timings for p in timing.percentiles if p.reason}
    for note in (*notes, *result.notes, *sorted(reasons)):
        out.say(note)


def rows_of(cases: Sequence[Frames]) -> list[list[object]]:
    """Cells for ``COLUMNS``: each file's frame, then its steps."""
    return [row for case in cases for row in _rows(case)]


def _rows(case: Frames) -> list[list[object]]:
    ratio = case.ratio_to_reference
    fast = None if ratio is None else f"{ratio.value:.4g} [{ratio.low:.4g}, {ratio.high:.4g}]"
    shares = case.shares
    steps: list[list[object]] = [
        ["", name, *_percentiles(step), f"{shares[name]:.1%}", None, None]
        for name, step in case.steps.items()
    ]
    whole = [case.name, "frame", *_percentiles(case.total), "100 %", case.total.throughput_hz, fast]
    return [whole, *steps]


def _percentiles(timing: Timing) -> list[object]:
    return [
        None if p.value_ms is None else f"{p.value_ms:.4g} [{p.low_ms:.4g}, {p.high_ms:.4g}]"
        for p in timing.percentiles
    ]
