"""What a board is asked to do, as the JSON that ``onboard.jobs`` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from exporters.errors import UserError
from exporters.files import sha256_bytes
from runtimes.base import Array
from runtimes.timing import Plan

TELEMETRY_PERIOD_S = 0.1


@dataclass(frozen=True)
class BoardCase:
    """One model file on one board.

    Attributes:
        runtime: ``tensorrt`` (built there, with whatever the board has), ``trtexec`` or
            ``onnxruntime``; None for an engine where the board can build one, else ONNX Runtime.
        build: wishes of ``onboard.wishes``; ``timing_cache`` is True for one in the board's cache.
        options: of the session: ``threads``, or ``cuda_graph`` and ``spin_wait``.
    """

    name: str
    path: Path
    runtime: str | None = None
    build: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EnergyPlan:
    """Each case alone, after the latencies were taken.

    Attributes:
        seconds: how long each runs, at least.
        until_steady_s: go on up to this long until the board's temperature is steady.
        idle_s: how long nothing runs before, for the idle power.
    """

    seconds: float
    until_steady_s: float = 0.0
    idle_s: float = 5.0


@dataclass(frozen=True)
class ClockPlan:
    """Clocks held at their highest during the job and given back afterwards.

    Attributes:
        mode: power mode of nvpmodel during the job; None for the one that is set.
    """

    mode: int | None = None


@dataclass(frozen=True)
class FramePlan:
    """Whole frames in place of samples.

    Attributes:
        code: edgeport's own sources as a zip, and ``pack``, the frames and the user's module.
        count: frames that are used in turn.
        specs: of each case its model's self-description, ``ModelSpec.to_metadata``.
        digests: of each case and frame what ``endtoend.preparing.digest_of`` says of it here.
        post: the user's post-processing, ``module:function``.
    """

    code: bytes
    pack: bytes
    count: int
    specs: Sequence[Mapping[str, str]]
    digests: Sequence[Sequence[str]]
    post: str | None = None

    @property
    def files(self) -> dict[str, bytes]:
        return {f"{sha256_bytes(data)}.zip": data for data in (self.code, self.pack)}

    def to_json(self, cache: str) -> dict[str, Any]:
        """With paths of the board."""
        code, pack = (f"{cache}/files/{sha256_bytes(data)}.zip" for data in (self.code, self.pack))
        return {
            "code": code,
            "pack": pack,
            "folder": f"{cache}/unpacked",
            "count": self.count,
            "specs": [dict(spec) for spec in self.specs],
            "digests": [list(digests) for digests in self.digests],
            "post": self.post,
        }


@dataclass(frozen=True)
class Job:
    """Cases, their inputs, and what to do with them.

    Attributes:
        samples: inputs by name, in order; used in turn.
        plan: of the measurement; None to measure nothing.
        outputs: whether all outputs of all samples come back.
        energy: None for latencies only.
        clocks: None to leave the clocks alone.
        frames: None where ``samples`` are run as they are.
        telemetry: whether power and conditions are sampled while it measures.
        root: where the board's ``/sys`` and ``/proc`` are.
    """

    cases: Sequence[BoardCase]
    samples: Sequence[Mapping[str, Array]]
    plan: Plan | None = None
    outputs: bool = False
    wait_s: float = 600.0
    energy: EnergyPlan | None = None
    clocks: ClockPlan | None = None
    frames: FramePlan | None = None
    telemetry: bool = True
    root: str = "/"


def job_json(
    job: Job, cases: Sequence[Mapping[str, Any]], feeds: str, cache: str
) -> dict[str, Any]:
    """The whole job; ``feeds`` is the archive's name in the board's cache.

    Raises:
        UserError: joules or frames of a program that is started anew for every block of runs.
    """
    asked = {"--energy": job.energy, "--end-to-end": job.frames}
    for option in (name for name, plan in asked.items() if plan is not None):
        if any(case["runs_in"] == "trtexec" for case in cases):
            raise UserError(
                f"{option} needs a session that stays open; trtexec starts anew for every block",
                fix=f"Leave {option} away, or install TensorRT's Python bindings (10 or newer)",
            )
    plan = job.plan
    return {
        "schema": "edgeport.board-job/1",
        "cases": list(cases),
        "feeds": f"{cache}/files/{feeds}",
        "lock": f"{cache}/measuring.lock",
        "wait_s": job.wait_s,
        "outputs": job.outputs,
        "energy": job.energy and asdict(job.energy),
        "clocks": job.clocks and asdict(job.clocks),
        "frames": job.frames and job.frames.to_json(cache),
        "telemetry": {"root": job.root, "period_s": TELEMETRY_PERIOD_S} if job.telemetry else None,
        "plan": None
        if plan is None
        else {
            "warmup": plan.warmup,
            "min_runs": plan.min_runs,
            "min_seconds": plan.min_seconds,
            "max_runs": plan.max_runs,
            "seed": plan.seed,
            "settle_s": plan.settle_s,
        },
    }
