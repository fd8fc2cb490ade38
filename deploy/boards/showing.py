"""``edgeport bench --board``: measure on the boards and show one table of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.bench_text import interval, percentiles_of, ratio_of
from deploy.boards.benching import BoardBench, BoardTiming, bench_on_boards
from deploy.boards.energy import CaseEnergy, EnergyReport
from deploy.boards.inventory import Board
from deploy.boards.jobs import BoardCase, ClockPlan, EnergyPlan, Job
from deploy.boards.placing import RUNTIMES
from deploy.console import Output
from exporters.errors import EXIT_OK, UserError
from runtimes.benchmark import Case
from runtimes.timing import Plan

ENERGY_COLUMNS = [
    "board",
    "file",
    "J/frame",
    "above idle",
    "frames/s/W",
    "W",
    "frames/s at first",
    "sustained",
    "steady",
]
COLUMNS = ["board", "file", "runtime", "p50", "p90", "p99", "compute", "runs/s", "times as fast"]

NOT_READABLE = "not readable"


@dataclass(frozen=True)
class BoardOptions:
    """What a benchmark may do on a board beyond taking latencies.

    Attributes:
        session: switches of engines, ``cuda_graph`` and ``spin_wait``.
        build: wishes of ``onboard.wishes``, for the builder there.
    """

    energy: EnergyPlan | None = None
    clocks: ClockPlan | None = None
    session: Mapping[str, bool] = field(default_factory=dict)
    build: Mapping[str, Any] = field(default_factory=dict)


def bench_boards(
    out: Output,
    boards: Sequence[Board],
    cases: Sequence[Case],
    plan: Plan,
    notes: Sequence[str],
    options: BoardOptions | None = None,
) -> int:
    """Measure ``cases`` on all ``boards`` and say what came out; the exit code.

    Raises:
        UserError: a file or runtime that no board can take.
    """
    options = options or BoardOptions()
    job = Job(
        [board_case(case, options) for case in cases],
        cases[0].samples,
        plan,
        energy=options.energy,
        clocks=options.clocks,
    )
    with out.progress("Bench") as progress:
        results = bench_on_boards(boards, job, progress)
    out.table("Latency in ms, with 95 % intervals", COLUMNS, [r for b in results for r in _rows(b)])
    if options.energy is not None:
        rows = [row for result in results for row in energy_rows(result)]
        out.table("Energy, each file running alone, with bounds", ENERGY_COLUMNS, rows)
    for result in results:
        _say_board(out, result)
    for note in notes:
        out.say(note)
    out.result(
        {
            "schema": "edgeport.board-bench/1",
            "boards": [result.to_json() for result in results],
            "notes": list(notes),
        }
    )
    failed = [result.error for result in results if result.error is not None]
    return max((error.exit_code for error in failed), default=EXIT_OK)


def board_case(case: Case, wanted: BoardOptions) -> BoardCase:
    """``case`` as a board takes it.

    Raises:
        UserError: an engine, or a runtime that boards do not run.
    """
    if case.path.suffix != ".onnx":
        raise UserError(
            f"{case.path} is an engine; boards build their own",
            fix="Give the model file (.onnx) that it was built from",
        )
    if case.runtime is not None and case.runtime not in RUNTIMES:
        raise UserError(
            f"boards do not run {case.runtime}",
            fix=f"Leave --runtime away, or choose one of {', '.join(RUNTIMES)}",
        )
    options: dict[str, Any] = dict(wanted.session)
    if case.threads is not None:
        options["threads"] = case.threads
    return BoardCase(case.name, case.path, case.runtime, wanted.build, options)


def energy_rows(result: BoardBench) -> list[list[object]]:
    """One row a case for ``ENERGY_COLUMNS``; what cannot be read says so."""
    if result.energy is None:
        return []
    return [
        [result.name, case.name, *energy_row(energy)]
        for case, energy in zip(result.cases, result.energy.cases, strict=True)
    ]


def energy_row(energy: CaseEnergy) -> list[object]:
    """Cells for ``ENERGY_COLUMNS`` from the third on."""
    steady = "no sensor" if energy.steady is None else "yes" if energy.steady else "not yet"
    rates = [energy.burst_hz, energy.sustained_hz, steady]
    if energy.frame_j is None or energy.above_idle_j is None:
        return [NOT_READABLE, NOT_READABLE, None, None, *rates]
    intervals = [interval(j.value, j.low, j.high) for j in (energy.frame_j, energy.above_idle_j)]
    return [*intervals, energy.hz_per_watt, energy.mean_w, *rates]


def _rows(result: BoardBench) -> list[list[object]]:
    return [[result.name, *_row(case)] for case in result.cases]


def _row(case: BoardTiming) -> list[object]:
    return [
        case.name,
        case.runtime,
        *percentiles_of(case.timing),
        case.spans.get("compute_ms"),
        case.timing.throughput_hz,
        ratio_of(case.ratio_to_reference),
    ]


def _say_board(out: Output, result: BoardBench) -> None:
    if result.error is not None:
        out.say(f"{result.name}: failed: {result.error}")
        return
    out.say(f"{result.name}: {facts_of(result.board)}")
    for case in result.cases:
        if case.engine is not None:
            how = "taken from the board's cache" if case.engine["cached"] else "built there"
            took = f" in {case.engine['build_s']:.1f} s" if "build_s" in case.engine else ""
            out.say(f"    {case.name}: engine {how}{took}, {case.size_bytes / 1e6:.1f} MB")
    _say_energy(out, result)
    for warning in result.warnings:
        out.say(f"    {warning}")
    if result.reconnects:
        out.say(f"    the connection broke and was made again {result.reconnects} times")


def facts_of(board: Mapping[str, Any]) -> str:
    """What a board is and has, on one line."""
    facts = [board.get("board") or board.get("cpu"), board.get("os")]
    facts += [f"L4T {board['l4t']}"] if "l4t" in board else []
    facts += [f"power mode {board['power_mode']}"] if "power_mode" in board else []
    facts += [f"{name} {version}" for name, version in board["runtimes"].items()]
    return ", ".join(str(fact) for fact in facts if fact)


def _say_energy(out: Output, result: BoardBench) -> None:
    if result.energy is not None:
        for line in energy_lines(result.energy):
            out.say(f"    {line}")


def energy_lines(energy: EnergyReport) -> list[str]:
    """Where the joules come from, or why there are none."""
    if energy.idle_w is None:
        return [f"energy is {NOT_READABLE}: {energy.reason}. {energy.fix}".rstrip()]
    rails = " + ".join(energy.rails)
    source = f"energy from {energy.source} ({rails}: {energy.meaning})"
    reasons = dict.fromkeys(case.reason for case in energy.cases if case.reason)
    return [
        f"{source}, {energy.idle_w.value:.3g} W when idle",
        *(f"not readable: {reason}; run longer: --energy SECONDS" for reason in reasons),
    ]
