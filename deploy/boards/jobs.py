"""What a board is asked to do, as the JSON that ``onboard.jobs`` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_bytes, sha256_file
from exporters.modelfile import ModelFile, canonical_json
from runtimes.base import Array
from runtimes.timing import Plan

ENGINE_RUNTIMES = ("tensorrt", "tensorrt_rtx")
TELEMETRY_PERIOD_S = 0.1


@dataclass(frozen=True)
class BoardCase:
    """One model file on one board.

    Attributes:
        runtime: ``tensorrt`` (built there, with whatever the board has) or ``onnxruntime``; None
            for an engine where the board can build one, else ONNX Runtime.
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
class Job:
    """Cases, their inputs, and what to do with them.

    Attributes:
        samples: inputs by name, in order; used in turn.
        plan: of the measurement; None to measure nothing.
        outputs: whether all outputs of all samples come back.
        energy: None for latencies only.
        clocks: None to leave the clocks alone.
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
    telemetry: bool = True
    root: str = "/"


def case_json(case: BoardCase, runtimes: Mapping[str, str], cache: str) -> dict[str, Any]:
    """The case as the runner reads it, with paths of the board.

    Args:
        runtimes: what the board said it has, name to version.
        cache: absolute path of the board's cache.

    Raises:
        MissingRequirementError: the board has nothing that could run the case.
    """
    file = ModelFile(case.path)
    plan: dict[str, Any] = {
        "name": case.name,
        "file": f"{cache}/files/{sha256_file(case.path)}.onnx",
        "options": dict(case.options),
    }
    if file.data_files:
        plan["data"] = {
            name: f"{cache}/files/{remote}" for name, remote in data_names(file).items()
        }
        plan["folder"] = f"{cache}/models/{file.sha256}"
    engine_runtime = next((name for name in ENGINE_RUNTIMES if name in runtimes), None)
    if case.runtime == "onnxruntime" or (case.runtime is None and engine_runtime is None):
        if "onnxruntime" not in runtimes:
            raise MissingRequirementError(
                "the board can run nothing: neither TensorRT's Python bindings nor onnxruntime",
                fix="There: sudo apt-get install nvidia-jetpack, or pip3 install onnxruntime",
            )
        if case.build:
            raise UserError(
                f"{case.name} runs in ONNX Runtime there, which builds no engine: "
                f"{', '.join(case.build)} would be left out",
                fix="Leave the options of the builder away, or install TensorRT on the board",
            )
        return {**plan, "runs_in": "onnxruntime"}
    if engine_runtime is None:
        raise MissingRequirementError(
            f"the board has no TensorRT for Python (it has {', '.join(runtimes) or 'nothing'})",
            fix="There: sudo apt-get install nvidia-jetpack python3-libnvinfer",
        )
    key = {
        "model": file.sha256,
        "version": runtimes[engine_runtime],
        "runtime": engine_runtime,
        "build": dict(case.build),
    }
    name = sha256_bytes(canonical_json(key).encode())
    return {
        **plan,
        "runs_in": engine_runtime,
        "builds_in": engine_runtime,
        "build": _wishes(case.build, f"{engine_runtime}-{runtimes[engine_runtime]}", cache),
        "engine": f"{cache}/engines/{name}.engine",
    }


def data_names(file: ModelFile) -> dict[str, str]:
    """Of every file that holds weights: the name by which the model knows it, and the board's."""
    folder = file.path.parent
    return {
        path.relative_to(folder).as_posix(): f"{sha256_file(path)}.data" for path in file.data_files
    }


def _wishes(build: Mapping[str, Any], builder: str, cache: str) -> dict[str, Any]:
    wishes = dict(build)
    if wishes.get("timing_cache"):
        wishes["timing_cache"] = f"{cache}/timing/{builder}.cache"
    return wishes


def job_json(
    job: Job, cases: Sequence[Mapping[str, Any]], feeds: str, cache: str
) -> dict[str, Any]:
    """The whole job; ``feeds`` is the archive's name in the board's cache."""
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
