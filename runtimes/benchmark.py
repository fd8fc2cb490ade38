"""Benchmarking several files against each other, each in a process of its own.

One process a case gives each its own memory figure, thread pool and allocator, and lets one case
crash without the others. Only one of them runs at any time: the parent hands out the turns
(``timing.interleave``), the child takes the time, so the pipe between them is not in the number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporters.errors import UserError
from runtimes import registry
from runtimes.base import Array, Progress
from runtimes.machine import environment, load_average, usable_cores
from runtimes.measuring import write_feeds
from runtimes.timing import Interval, Plan, Timing, interleave, paired_ratio, unsteady_note
from runtimes.workers import Worker


@dataclass(frozen=True)
class Case:
    """One file to time.

    Attributes:
        path: a model file or an engine.
        samples: inputs, used in turn: sample r mod n in round r. The same for every case.
        runtime: name in the registry; None for the one that the file is for.
        threads: for CPU sessions; None for one a core.
    """

    name: str
    path: Path
    samples: Sequence[dict[str, Array]]
    runtime: str | None = None
    threads: int | None = None

    @property
    def runtime_name(self) -> str:
        return self.runtime or registry.runtime_for(self.path)


@dataclass(frozen=True)
class CaseResult:
    """What was measured of one case.

    Attributes:
        ratio_to_reference: how many times as fast as the first case; None for the first one, or
            with too few runs.
        peak_rss_mib: largest resident memory of a process that held this session alone, Python,
            the runtime's code and the feeds included.
        baseline_rss_mib: the same before the model was loaded; the difference is the model's.
    """

    name: str
    runtime: str
    timing: Timing
    ratio_to_reference: Interval | None
    peak_rss_mib: float
    baseline_rss_mib: float
    load_s: float

    def to_json(self) -> dict[str, Any]:
        ratio = self.ratio_to_reference
        return {
            "name": self.name,
            "runtime": self.runtime,
            "latencies_ms": list(self.timing.latencies_ms),
            "percentiles": [p.to_json() for p in self.timing.percentiles],
            "throughput_hz": self.timing.throughput_hz,
            "variation": self.timing.variation,
            "ratio_to_reference": ratio
            and {"value": ratio.value, "low": ratio.low, "high": ratio.high},
            "peak_rss_mib": self.peak_rss_mib,
            "baseline_rss_mib": self.baseline_rss_mib,
            "load_s": self.load_s,
        }


@dataclass(frozen=True)
class BenchResult:
    """All cases of one interleaved run, and the machine it ran on."""

    cases: tuple[CaseResult, ...]
    threads: int
    environment: dict[str, Any]
    notes: tuple[str, ...] = field(default=())

    @property
    def runs(self) -> int:
        return len(self.cases[0].timing.latencies_ms)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "edgeport.bench/1",
            "threads": self.threads,
            "runs": self.runs,
            "cases": [case.to_json() for case in self.cases],
            "environment": self.environment,
            "notes": list(self.notes),
        }


def bench(
    cases: Sequence[Case], plan: Plan | None = None, progress: Progress | None = None
) -> BenchResult:
    """Time ``cases`` against each other; the first one is the reference of the ratios.

    Raises:
        UserError: no case, no sample, or a feed that a model does not take.
        MissingRequirementError: a runtime or device is missing.
    """
    require_cases(cases)
    plan = plan or Plan()
    machine = environment(cases[0].threads)
    with tempfile.TemporaryDirectory(prefix="edgeport-bench-") as scratch, ExitStack() as stack:
        workers = [stack.enter_context(open_worker(case)) for case in cases]
        loads = [
            load_case(worker, case, Path(scratch) / f"{index}.npz")
            for index, (worker, case) in enumerate(zip(workers, cases, strict=True))
        ]
        runners = [_runner(worker) for worker in workers]
        timings = interleave(runners, plan, progress and (lambda d, t: progress("runs", d, t)))
        memories = [worker.request({"do": "memory"}) for worker in workers]
    results = []
    for case, timing, memory, load_s in zip(cases, timings, memories, loads, strict=True):
        ratio = None
        if timing is not timings[0]:
            ratio = paired_ratio(timings[0].latencies_ms, timing.latencies_ms)
        peak, baseline = memory["peak_rss_mib"], memory["baseline_rss_mib"]
        results.append(
            CaseResult(case.name, case.runtime_name, timing, ratio, peak, baseline, load_s)
        )
    unsteady = [unsteady_note(result.name, result.timing) for result in results]
    notes = (*busy_notes(machine), *(note for note in unsteady if note))
    return BenchResult(tuple(results), machine["threads"], machine, notes)


def require_cases(cases: Sequence[Case]) -> None:
    """Fail before any process starts: no case, no sample, no file, no such runtime."""
    for case in cases:
        if not case.samples:
            raise UserError(
                f"{case.name} has no samples to run", fix="Give a sample set that is not empty"
            )
    require_files(cases)


def require_files(cases: Sequence[Case]) -> None:
    """The same for cases that need no samples."""
    if not cases:
        raise UserError("nothing to time", fix="edgeport bench FILE…")
    for case in cases:
        registry.get(case.runtime_name)
        if not case.path.is_file():
            raise UserError(f"no file at {case.path}", fix="Check the path")


def open_worker(case: Case) -> Worker:
    return Worker("runtimes.measuring", f"benchmark of {case.name}")


def load_case(worker: Worker, case: Case, feeds: Path) -> float:
    write_feeds(feeds, [dict(sample) for sample in case.samples])
    request = {
        "do": "load",
        "path": str(case.path.resolve()),
        "runtime": case.runtime_name,
        "threads": case.threads,
        "feeds": str(feeds),
    }
    load_s: float = worker.request(request)["load_s"]
    feeds.unlink()
    return load_s


def _runner(worker: Worker) -> Callable[[int], float]:
    def run(index: int) -> float:
        latency_s: float = worker.request({"do": "run", "sample": index})["latency_s"]
        return latency_s

    return run


def busy_notes(machine: dict[str, Any]) -> tuple[str, ...]:
    """What a reader must know before believing the numbers."""
    before = machine["load"]
    if before is not None and before > 0.5 * usable_cores():
        after = load_average()
        return (
            f"the machine was busy: load {before} before and {after} after, "
            f"on {usable_cores()} cores; repeat when it is idle",
        )
    return ()
