"""Latencies of several files on one board or many, from the runs that came back.

A board's clock takes every time; the connection is in none of them. ``wall_ms`` runs from filled
inputs to read outputs. Engines also give the time between CUDA events for the copies and for the
computation alone, which is the number that trtexec calls GPU compute time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from deploy.boards.address import Address, WorkerAddress
from deploy.boards.conditions import conditions_of, timing_notes, warnings_of
from deploy.boards.energy import EnergyReport, energies_of
from deploy.boards.inventory import Board
from deploy.boards.jobs import Job
from deploy.boards.reaching import run_on
from deploy.boards.running import BoardRun
from exporters.errors import EdgeportError
from runtimes.timing import Interval, Timing, paired_ratio

Progress = Callable[[str, int, int], None]

SPANS = ("wall_ms", "h2d_ms", "compute_ms", "d2h_ms", "enqueue_ms")


@dataclass(frozen=True)
class BoardTiming:
    """One case on one board.

    Attributes:
        timing: wall clock, copies included.
        spans: medians between CUDA events by name, and of handing the work over; empty where
            nothing runs on a GPU.
        ratio_to_reference: how many times as fast as the first case of the same board.
        engine: ``build_s`` and ``sha256``, or None where the model file itself ran.
        switches: ``cuda_graph`` and ``spin_wait``, without which two numbers cannot be compared.
    """

    name: str
    runtime: str
    timing: Timing
    spans: Mapping[str, float]
    ratio_to_reference: Interval | None
    load_s: float
    size_bytes: int
    switches: Mapping[str, bool]
    engine: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        ratio = self.ratio_to_reference
        return {
            "name": self.name,
            "runtime": self.runtime,
            "latencies_ms": list(self.timing.latencies_ms),
            "percentiles": [p.to_json() for p in self.timing.percentiles],
            "throughput_hz": self.timing.throughput_hz,
            "variation": self.timing.variation,
            "medians_ms": dict(self.spans),
            "ratio_to_reference": ratio
            and {"value": ratio.value, "low": ratio.low, "high": ratio.high},
            "load_s": self.load_s,
            "size_bytes": self.size_bytes,
            "switches": dict(self.switches),
            "engine": self.engine and dict(self.engine),
        }


@dataclass(frozen=True)
class BoardBench:
    """All cases of one board; or what went wrong there.

    Attributes:
        conditions: clocks, temperatures, power and load while it was measured.
        warnings: what a reader must know before believing the numbers.
        energy: None unless it was asked for.
    """

    name: str
    address: Address | WorkerAddress
    board: Mapping[str, Any] = field(default_factory=dict)
    cases: tuple[BoardTiming, ...] = ()
    reconnects: int = 0
    error: EdgeportError | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    energy: EnergyReport | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "address": str(self.address),
            "board": dict(self.board),
            "cases": [case.to_json() for case in self.cases],
            "reconnects": self.reconnects,
            "conditions": dict(self.conditions),
            "warnings": list(self.warnings),
            "energy": self.energy and self.energy.to_json(),
            "error": self.error and {"message": self.error.message, "fix": self.error.fix},
        }


def bench_on_boards(
    boards: Sequence[Board], job: Job, progress: Progress | None = None
) -> list[BoardBench]:
    """Measure ``job`` on every board, all boards at the same time.

    A board that fails does not stop the others: its result holds the error.
    """

    def one(board: Board) -> BoardBench:
        def told(phase: str, done: int, total: int) -> None:
            if progress:
                progress(f"{board.name}: {phase}", done, total)

        try:
            done = run_on(board, job, told)
        except EdgeportError as error:
            return BoardBench(board.name, board.address, error=error)
        return timings_of(board.name, done, job)

    with ThreadPoolExecutor(max_workers=max(len(boards), 1)) as pool:
        return list(pool.map(one, boards))


def timings_of(name: str, done: BoardRun, job: Job) -> BoardBench:
    """The log of the board called ``name`` as timings."""
    loaded = {event["case"]: event for event in done.of("loaded")}
    engines = {event["case"]: event for event in done.of("engine")}
    series = [_series(done, index) for index in range(len(job.cases))]
    cases = []
    for index, case in enumerate(job.cases):
        walls, spans = series[index]
        ratio = None if index == 0 else paired_ratio(series[0][0], walls)
        cases.append(
            BoardTiming(
                name=case.name,
                runtime=loaded[case.name]["runtime"],
                timing=Timing(tuple(walls)),
                spans=spans,
                ratio_to_reference=ratio,
                load_s=loaded[case.name]["load_s"],
                size_bytes=loaded[case.name]["size_bytes"],
                switches=loaded[case.name]["switches"],
                engine=_engine(engines.get(case.name)),
            )
        )
    notes = [note for case in cases for note in timing_notes(case.name, case.timing, case.spans)]
    return BoardBench(
        name,
        done.address,
        done.board,
        tuple(cases),
        done.reconnects,
        conditions=conditions_of(done),
        warnings=(*warnings_of(done), *notes),
        energy=energies_of(done),
    )


def _series(done: BoardRun, index: int) -> tuple[list[float], dict[str, float]]:
    """Wall-clock milliseconds in the order of the rounds, and medians of the other spans."""
    runs = sorted((e for e in done.of("run") if e["case"] == index), key=lambda e: e["round"])
    medians = {
        span: median([run[span] for run in runs])
        for span in SPANS[1:]
        if runs and all(span in run for run in runs)
    }
    return [run["wall_ms"] for run in runs], medians


def _engine(event: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if event is None:
        return None
    return {key: event[key] for key in ("sha256", "cached", "build_s") if key in event}
