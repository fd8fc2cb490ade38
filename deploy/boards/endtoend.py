"""``edgeport bench --end-to-end --board``: whole frames on boards, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from deploy.boards.conditions import conditions_of, warnings_of
from deploy.boards.energy import EnergyReport, energies_of
from deploy.boards.inventory import Board
from deploy.boards.jobs import BoardCase, Job
from deploy.boards.packing import frame_plan
from deploy.boards.reaching import run_on
from deploy.boards.running import BoardRun
from deploy.boards.showing import (
    ENERGY_COLUMNS,
    BoardOptions,
    board_case,
    energy_lines,
    energy_row,
    facts_of,
)
from deploy.console import Output
from deploy.endtoend.answers import answer_of
from deploy.endtoend.benching import NO_ANSWER, WARM_FILES, Frames, Question
from deploy.endtoend.showing import COLUMNS, rows_of
from exporters.errors import EXIT_OK, EdgeportError
from exporters.modelfile import ModelSpec
from exporters.spans import STEPS
from runtimes.base import Progress
from runtimes.benchmark import Case
from runtimes.timing import Plan, Timing, paired_ratio, unsteady_note

JSON = dict[str, Any]


@dataclass(frozen=True)
class BoardFrames:
    """Whole frames of all cases on one board; or what went wrong there."""

    name: str
    address: str
    cases: tuple[Frames, ...] = ()
    board: JSON = field(default_factory=dict)
    conditions: JSON = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    energy: EnergyReport | None = None
    error: EdgeportError | None = None

    def to_json(self) -> JSON:
        return {
            "name": self.name,
            "address": self.address,
            "board": self.board,
            "cases": [case.to_json() for case in self.cases],
            "conditions": self.conditions,
            "warnings": list(self.warnings),
            "energy": self.energy and self.energy.to_json(),
            "error": self.error and {"message": self.error.message, "fix": self.error.fix},
        }


def frames_on_boards(
    boards: Sequence[Board], job: Job, progress: Progress | None = None
) -> list[BoardFrames]:
    """Do ``job``, which has frames, on every board at the same time; one that fails says so."""

    def one(board: Board) -> BoardFrames:
        def told(phase: str, done: int, total: int) -> None:
            if progress:
                progress(f"{board.name}: {phase}", done, total)

        try:
            done = run_on(board, job, told)
        except EdgeportError as error:
            return BoardFrames(board.name, str(board.address), error=error)
        return frames_of(board.name, done, job)

    with ThreadPoolExecutor(max_workers=max(len(boards), 1)) as pool:
        return list(pool.map(one, boards))


def frames_of(name: str, done: BoardRun, job: Job) -> BoardFrames:
    """The log of the board called ``name`` as frames."""
    assert job.frames is not None
    loaded = {event["case"]: event for event in done.of("loaded")}
    runs = [
        sorted((e for e in done.of("run") if e["case"] == index), key=lambda e: e["round"])
        for index in range(len(job.cases))
    ]
    totals = [Timing(tuple(run["wall_ms"] for run in series)) for series in runs]
    cases = []
    for case, series, total in zip(job.cases, runs, totals, strict=True):
        ratio = None
        if total is not totals[0]:
            ratio = paired_ratio(totals[0].latencies_ms, total.latencies_ms)
        steps = {
            step: Timing(tuple(run["steps_ms"].get(step, 0.0) for run in series))
            for step in STEPS
            if any(step in run["steps_ms"] for run in series)
        }
        facts = loaded[case.name]
        cases.append(
            Frames(
                case.name,
                facts["runtime"],
                total,
                steps,
                ratio,
                facts["load_s"],
                job.frames.count,
            )
        )
    unsteady = (unsteady_note(case.name, case.total) for case in cases)
    notes = [*warnings_of(done), *(note for note in unsteady if note), *_differing(done, job)]
    return BoardFrames(
        name,
        str(done.address),
        tuple(cases),
        dict(done.board),
        conditions_of(done),
        tuple(notes),
        energies_of(done),
    )


def _differing(done: BoardRun, job: Job) -> list[str]:
    return [
        f"{job.cases[event['case']].name}: frames {event['frames']} become other inputs on the "
        "board than here: its Pillow decodes or resizes otherwise"
        for event in done.of("frames_differ")
    ]


def show_frames_on_boards(
    out: Output,
    boards: Sequence[Board],
    cases: Sequence[Case],
    question: Question,
    plan: Plan,
    options: BoardOptions,
) -> int:
    """Measure and say what came out; the exit code.

    Raises:
        UserError: a source without frames, or a file that boards do not take.
    """
    board_cases: list[BoardCase] = [board_case(case, options) for case in cases]
    frames = frame_plan([case.path for case in cases], question)
    job = Job(board_cases, [], plan, energy=options.energy, clocks=options.clocks, frames=frames)
    with out.progress("Bench") as progress:
        results = frames_on_boards(boards, job, progress)
    rows = [[result.name, *row] for result in results for row in rows_of(result.cases)]
    title = "From picture to answer on the board in ms, with 95 % intervals"
    out.table(title, ["board", *COLUMNS], rows)
    _show_energy(out, results)
    for result in results:
        _say(out, result)
    notes = [WARM_FILES, *_unanswered(frames.specs, question)]
    for note in notes:
        out.say(note)
    boards_json = [result.to_json() for result in results]
    out.result({"schema": "edgeport.board-end-to-end/1", "boards": boards_json, "notes": notes})
    failed = [result.error for result in results if result.error is not None]
    return max((error.exit_code for error in failed), default=EXIT_OK)


def _unanswered(specs: Sequence[Any], question: Question) -> list[str]:
    parsed = [ModelSpec.from_metadata(spec) for spec in specs]
    silent = [spec for spec in parsed if spec and answer_of(spec, question.post) is None]
    return [NO_ANSWER] if silent else []


def _show_energy(out: Output, results: Sequence[BoardFrames]) -> None:
    rows = [
        [result.name, case.name, *energy_row(energy)]
        for result in results
        if result.energy is not None
        for case, energy in zip(result.cases, result.energy.cases, strict=True)
    ]
    if rows:
        out.table("Energy of whole frames, with bounds", ENERGY_COLUMNS, rows)


def _say(out: Output, result: BoardFrames) -> None:
    if result.error is not None:
        out.say(f"{result.name}: failed: {result.error}")
        return
    out.say(f"{result.name}: {facts_of(result.board)}")
    lines = energy_lines(result.energy) if result.energy is not None else []
    for line in (*lines, *result.warnings):
        out.say(f"    {line}")
