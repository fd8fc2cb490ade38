"""Whole frames of several files against each other, every step with its statistics.

A frame is the sum of its marked steps; what only a data set has (labels, tables of tokens, checks)
is in none of them. Files take turns in rounds as in ``runtimes.benchmark``, on the same picture in
the same round. Steps run one after the other on one thread, except the engine's own threads: an
application that overlaps them has a higher rate, not a shorter frame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from deploy.endtoend.frames import written_frames
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from exporters.spans import STEPS
from runtimes.base import Progress
from runtimes.benchmark import Case, busy_notes, require_files
from runtimes.machine import environment
from runtimes.timing import Interval, Plan, Timing, interleave, paired_ratio, unsteady_note
from runtimes.workers import Worker

JSON = dict[str, Any]

WARM_FILES = "files are read again in every round, so they come from memory and not from the disk"
NO_ANSWER = "no post-processing: the model does not say what its outputs are; give --post M:F"


@dataclass(frozen=True)
class Question:
    """What frames are made of.

    Attributes:
        source: pictures, as ``frames.open_frames`` takes them, or synthetic:COUNT[:SEED].
        describe: YAML file for a model that does not say what its inputs want.
        post: the user's post-processing, ``module:function``.
    """

    source: str
    describe: Path | None = None
    post: str | None = None


@dataclass(frozen=True)
class Frames:
    """Whole frames of one file.

    Attributes:
        total: of the frame, in the order of the rounds.
        steps: of each step that there was, same order.
        shares: of the frame's mean, by step; their sum is 1.
        ratio_to_reference: how many times as fast as the first file.
        pictures: frames that the source has; they are used in turn.
    """

    name: str
    runtime: str
    total: Timing
    steps: dict[str, Timing]
    ratio_to_reference: Interval | None
    load_s: float
    pictures: int

    @property
    def shares(self) -> dict[str, float]:
        whole = mean(self.total.latencies_ms)
        return {name: mean(step.latencies_ms) / whole for name, step in self.steps.items()}

    def to_json(self) -> JSON:
        ratio = self.ratio_to_reference
        shares = self.shares
        return {
            "name": self.name,
            "runtime": self.runtime,
            "frame": _timing_json(self.total),
            "steps": {
                name: {**_timing_json(step), "share": shares[name]}
                for name, step in self.steps.items()
            },
            "throughput_hz": self.total.throughput_hz,
            "ratio_to_reference": ratio
            and {"value": ratio.value, "low": ratio.low, "high": ratio.high},
            "load_s": self.load_s,
            "pictures": self.pictures,
        }


@dataclass(frozen=True)
class EndToEnd:
    """All files of one run, and the machine it ran on."""

    cases: tuple[Frames, ...]
    environment: JSON
    notes: tuple[str, ...]

    def to_json(self) -> JSON:
        return {
            "schema": "edgeport.end-to-end/1",
            "cases": [case.to_json() for case in self.cases],
            "environment": self.environment,
            "notes": list(self.notes),
        }


def bench_end_to_end(
    cases: Sequence[Case],
    question: Question,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> EndToEnd:
    """Time whole frames of ``cases``, whose own samples are not used.

    Raises:
        UserError: no file, pictures that a model does not take, or arrays in place of pictures.
        MissingRequirementError: a runtime, or Pillow, is missing.
    """
    require_files(cases)
    models = [_model_of(case, cases) for case in cases]
    machine = environment(cases[0].threads)
    with tempfile.TemporaryDirectory(prefix="edgeport-frames-") as scratch, ExitStack() as stack:
        spec = ModelFile(models[0]).spec
        source = question.source
        if spec is not None:
            source = written_frames(source, spec, Path(scratch), progress)
        workers = [
            stack.enter_context(Worker("deploy.endtoend.worker", f"benchmark of {case.name}"))
            for case in cases
        ]
        loaded = [
            worker.request(_load(case, model, source, question))
            for worker, case, model in zip(workers, cases, models, strict=True)
        ]
        clocks = [_Clock(worker) for worker in workers]
        totals = interleave(
            clocks, plan or Plan(), progress and (lambda d, t: _told(progress, d, t))
        )
    steps = [clock.last(len(totals[0].latencies_ms)) for clock in clocks]
    frames = tuple(
        Frames(
            case.name,
            case.runtime_name,
            total,
            spent,
            None if total is totals[0] else _ratio(totals[0], total),
            facts["load_s"],
            facts["frames"],
        )
        for case, total, spent, facts in zip(cases, totals, steps, loaded, strict=True)
    )
    unsteady = (unsteady_note(frame.name, frame.total) for frame in frames)
    notes = [WARM_FILES, *busy_notes(machine), *(note for note in unsteady if note)]
    if not all(facts["answers"] for facts in loaded):
        notes.append(NO_ANSWER)
    return EndToEnd(frames, machine, tuple(notes))


class _Clock:
    """Runs a worker's next frame and keeps the steps of all of them."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._steps: list[dict[str, float]] = []

    def __call__(self, index: int) -> float:
        spent: dict[str, float] = self._worker.request({"do": "frame", "index": index})["ms"]
        self._steps.append(spent)
        return sum(spent.values()) / 1e3

    def last(self, count: int) -> dict[str, Timing]:
        """Of the last ``count`` frames, those before them warmed up."""
        frames = self._steps[-count:]
        return {
            name: Timing(tuple(frame.get(name, 0.0) for frame in frames))
            for name in STEPS
            if any(name in frame for frame in frames)
        }


def _model_of(case: Case, cases: Sequence[Case]) -> Path:
    """The file that says what ``case`` takes: itself, or for an engine the first model file."""
    if case.path.suffix == ".onnx":
        return case.path
    found = next((other.path for other in cases if other.path.suffix == ".onnx"), None)
    if found is None:
        raise UserError(
            f"{case.path} is an engine, which does not say how pictures become its inputs",
            fix="Name the model file it was built from too: edgeport bench m.onnx m.engine …",
        )
    return found


def _load(case: Case, model: Path, source: str, question: Question) -> JSON:
    return {
        "do": "load",
        "path": str(case.path.resolve()),
        "runtime": case.runtime_name,
        "threads": case.threads,
        "model": str(model.resolve()),
        "describe": question.describe and str(question.describe),
        "source": source,
        "post": question.post,
    }


def _ratio(reference: Timing, timing: Timing) -> Interval | None:
    return paired_ratio(reference.latencies_ms, timing.latencies_ms)


def _told(progress: Progress, done: int, total: int) -> None:
    progress("frames", done, total)


def _timing_json(timing: Timing) -> JSON:
    return {
        "latencies_ms": list(timing.latencies_ms),
        "percentiles": [p.to_json() for p in timing.percentiles],
        "variation": timing.variation,
    }
