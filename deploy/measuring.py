"""The stages of a run that measure: benchmark, verify, and the scenes that are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from calibration.samples.base import inputs_of
from calibration.samples.findings import ALL, OVERLAP
from deploy.boards.inventory import one_board
from deploy.lidar_scenes import draw_boxes
from deploy.recipe_parts import FP32, BoardPart
from deploy.scenes import draw_scenes
from deploy.stages import StageWork
from deploy.verification import verify as compare
from deploy.waterfall import measure
from deploy.workplace import Workplace
from exporters.errors import MissingRequirementError
from exporters.files import sha256_file

JSON = dict[str, Any]

_TIMED_SAMPLES = 4  # inputs that a benchmark takes in turn


def benchmark(place: Workplace, engines: Mapping[str, Path]) -> JSON | None:
    """Time the recipe's files, and ``engines``, against each other in one interleaved run."""
    from runtimes import Case, Plan, bench
    from runtimes.machine import cpu_model, usable_cores

    part = place.recipe.benchmark
    if part is None:
        return None
    files = {role: place.path(role) for role in place.recipe.timed_roles} | dict(engines)
    inputs = {
        **part.model_dump(),
        "files": {name: sha256_file(path) for name, path in files.items()},
        "evaluation": place.required("evaluation").sha256,
        # a latency belongs to a machine: on another one it is measured again
        "machine": [cpu_model(), usable_cores()],
    }

    def work(stage: StageWork) -> None:
        samples = [
            inputs_of(s) for s in islice(place.required("evaluation").samples, _TIMED_SAMPLES)
        ]
        cases = [Case(n, path, samples, threads=part.threads) for n, path in files.items()]
        plan = Plan(warmup=part.warmup, min_runs=part.runs, min_seconds=0.0, max_runs=part.runs)
        result = bench(cases, plan, place.steps("benchmark"))
        stage.result = result.to_json()
        stage.notes.extend(result.notes)

    return place.store.run("benchmark", inputs, work)


def verify_on_board(place: Workplace, part: BoardPart) -> JSON:
    """Compare one file on its board with FP32 here; an absent board leaves no evidence."""
    try:
        return verify(place, part.name, place.path(part.source), part)
    except MissingRequirementError as error:
        return {"name": part.name, "missing": str(error)}


def verify(place: Workplace, name: str, candidate: Path, on_board: BoardPart | None = None) -> JSON:
    """Compare one file or engine with FP32 on the evaluation set, here or on a board."""
    part = place.recipe.verify
    assert part is not None  # asked by the caller
    layers = part.layers and name in place.recipe.int8_roles
    inputs = {
        "metric": part.metric,
        "layers": layers,
        "reference": place.file(FP32).sha256,
        "candidate": sha256_file(candidate),
        "evaluation": place.required("evaluation").sha256,
        "board": on_board and on_board.model_dump(exclude={"required"}),
    }

    def work(stage: StageWork) -> None:
        comparison = compare(
            place.path(FP32),
            candidate,
            place.required("evaluation").samples,
            metric=part.metric,
            layers=layers,
            threads=place.threads,
            i_know=[code for code in place.recipe.samples.i_know if code in (OVERLAP, ALL)],
            board=None if on_board is None else one_board(on_board.board),
            board_runtime=None if on_board is None else on_board.runtime,
            progress=place.steps(f"verify {name}"),
        )
        stage.result = {
            "name": name,
            "comparison": comparison.to_json(),
            "report": comparison.to_report(f"{name} against {FP32}"),
        }
        stage.notes.extend(comparison.notes)

    return place.store.run(f"verify {name}", inputs, work)


def scenes(place: Workplace) -> JSON:
    """What is drawn of the first evaluation samples: occupancy with cameras, boxes with points."""
    part = place.recipe.verify
    if part is None:
        return {}
    roles, count = [FP32, *place.recipe.int8_roles], part.scenes
    inputs = {
        "count": count,
        "files": {role: place.file(role).sha256 for role in roles},
        "evaluation": place.required("evaluation").sha256,
    }

    def work(stage: StageWork) -> None:
        files = {role: place.path(role) for role in roles}
        samples = place.required("evaluation").samples
        asked = place.spec, files, samples, count, place.threads
        stage.result = {"occupancy": draw_scenes(*asked), "detection": draw_boxes(*asked)}

    return place.store.run("scenes", inputs, work)


def waterfall(place: Workplace) -> list[JSON]:
    """Metric and SQNR of every form of the network, from PyTorch to the integers that run here."""
    part = place.recipe.verify
    if part is None or not place.recipe.has_waterfall:
        return []
    model = place.recipe.model
    inputs = {
        "count": part.waterfall,
        "metric": part.metric,
        "model": model.model_dump(),
        "files": {role: place.file(role).sha256 for role in place.recipe.roles},
        "rewritten": [
            sha256_file(path)
            for role in place.recipe.int8_roles
            if (path := place.rewritten(role)).is_file()
        ],
        "evaluation": place.required("evaluation").sha256,
    }

    def work(stage: StageWork) -> None:
        stage.result = {"rows": measure(place, part.waterfall, place.steps("waterfall"))}

    rows: list[JSON] = place.store.run("waterfall", inputs, work)["rows"]
    return rows


def digests(place: Workplace) -> None:
    """The hash of every sample, kept: to make them anew is all that a second run would do."""
    if not place.sets:
        return

    def work(stage: StageWork) -> None:
        stage.result = {role: one.digests for role, one in place.sets.items()}

    found = place.store.run("samples", {r: one.sha256 for r, one in place.sets.items()}, work)
    for role, one in place.sets.items():
        one.recall(found[role])
