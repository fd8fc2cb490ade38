"""``edgeport sensitivity``: what INT8 costs and gains in every unit of a model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.job import Job, Progress
from calibration.observing.statistics import Statistics
from calibration.options import QuantizeOptions
from calibration.samples.base import Samples
from calibration.samples.rolling import rolled
from calibration.sensitivity.costs import CostModel, KernelTime, from_profiles, from_work
from calibration.sensitivity.front import Predictor
from calibration.sensitivity.noise import Workers, decibels, measure_atoms
from calibration.sensitivity.notebook import Notebook
from calibration.sensitivity.report import unit_rows
from calibration.sensitivity.workbench import Workbench, atoms_of, save
from exporters.modelfile import ModelFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

SCHEMA = "edgeport.sensitivity/1"

FOLDED = "folded.onnx"
"""In a measurement's folder: the float network as it is when Q/DQ are placed in it."""

Profile = Callable[[Path], Iterable[tuple[str, str, float]]]
"""Kernel times of a model file: operator, the tensor that it makes, milliseconds."""

Cost = Callable[[Sequence[Path]], Sequence[float]]
"""Latencies of model files, in milliseconds, measured against each other."""


@dataclass(frozen=True)
class Means:
    """What deploy hands in: how a file is timed, and who runs the variants.

    Attributes:
        cost: None where there is no device to time on; then multiply-adds stand in.
        profile: of single kernels, which tells the units apart that the total cannot.
        state: file for what was measured, so that an interruption costs nothing.
    """

    cost: Cost | None = None
    profile: Profile | None = None
    state: Path | None = None
    workers: Workers = field(default_factory=Workers)
    statistics: Statistics | None = None
    evaluation: Samples | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Judged:
    """A metric for the units that matter.

    Attributes:
        score: of a model file; higher is better.
        name, validation: of the metric and of its samples, for the state file's key.
        units: how many are judged, the worst first.
    """

    score: Callable[[Path], float]
    name: str
    validation: str
    units: int = 8


@dataclass
class Measurements:
    """A model on the bench with the noise of its parts and a cost model."""

    bench: Workbench
    noise: Mapping[str, float]
    predictor: Predictor
    notebook: Notebook
    folder: Path


@contextmanager
def measured(
    file: ModelFile,
    samples: Samples,
    options: QuantizeOptions,
    means: Means,
    question: Mapping[str, Any],
) -> Iterator[Measurements]:
    """Everything that a table or a search starts from; the folder lives as long as the block."""
    job = Job(file, options, samples, means.statistics, means.progress, means.evaluation)
    notebook = Notebook(means.state, question)
    bench = Workbench.of(job)
    noise = measure_atoms(bench, samples, notebook, workers=means.workers, progress=means.progress)
    with tempfile.TemporaryDirectory(prefix="edgeport-") as name:
        folder = Path(name)
        costs = _cost_model(bench, means, notebook, folder)
        yield Measurements(bench, noise, Predictor(bench, noise, costs), notebook, folder)


def question_of(
    file: ModelFile, samples: Samples, options: QuantizeOptions, **more: Any
) -> dict[str, Any]:
    """What measurements depend on; the state file is keyed by it."""
    return {
        "model": file.sha256,
        "samples": samples.sha256,
        "options": options.recipe(),
        **more,
    }


def measure_sensitivity(
    model: ModelFile | Path | str,
    samples: Samples,
    options: QuantizeOptions | None = None,
    means: Means | None = None,
    *,
    judged: Judged | None = None,
) -> dict[str, Any]:
    """What INT8 does in every unit, one at a time, and what it would cost to give it back.

    Args:
        options: as for `calibration.quantize`; nothing is written.
        judged: measures the worst units with a metric too.

    Returns:
        JSON: ``units``, the most damage per millisecond first, with ``sqnr_db`` of the outputs
        when only that unit is INT8 (``weights_db``, ``activations_db`` apart), ``gain_db`` when
        only that unit is float, and ``cost`` of giving it back; ``predicted_sqnr_db`` of
        everything in INT8; ``cost_unit``. Units that were judged have ``metric_alone``, with only
        them in INT8, and ``metric_without``, with only them in float; ``metric`` is of everything
        in INT8.

    Raises:
        SamplesRefusedError: the calibration-set doctor finds an error.
        UserError: nothing can be quantized, or the state file is of another question.
    """
    options, means = options or QuantizeOptions(), means or Means()
    file = model if isinstance(model, ModelFile) else ModelFile(model)
    samples = rolled(samples, file)
    more = {} if judged is None else {"validation": judged.validation, "metric": judged.name}
    question = question_of(file, samples, options, **more)
    with measured(file, samples, options, means, question) as found:
        whole = found.predictor.point(())
        rows = unit_rows(found.bench, found.predictor, found.noise)
        metric = None if judged is None else _judge(found, judged, rows, means.progress)
        return {
            "schema": SCHEMA,
            **question,
            "cost_unit": found.predictor.costs.unit,
            "predicted_sqnr_db": decibels(whole.noise),
            "predicted_cost": whole.cost,
            "predicted_float_cost": found.predictor.point(found.predictor.units).cost,
            "metric": metric,
            "units": rows,
        }


def _judge(
    found: Measurements, judged: Judged, rows: list[dict[str, Any]], progress: Progress | None
) -> float:
    """Score the first units in both directions, into their rows; returns the score of all INT8."""
    bench, units = found.bench, found.predictor.units

    def value(name: str, make: Callable[[], ir.Model]) -> float:
        def measure() -> float:
            return judged.score(save(make(), found.folder / "judged.onnx"))

        return float(found.notebook.recall(f"metric {name}", measure))

    whole = value("of all", bench.quantized)
    chosen = rows[: judged.units]
    for index, row in enumerate(chosen):
        unit = units[row["unit"]]
        atoms = atoms_of(unit, bench)
        row["metric_alone"] = value(f"with {unit.name}", partial(bench.rounded, atoms))
        row["metric_without"] = value(f"without {unit.name}", partial(bench.quantized, [unit]))
        if progress:
            progress("metric", index + 1, len(chosen))
    return whole


def _cost_model(bench: Workbench, means: Means, notebook: Notebook, folder: Path) -> CostModel:
    graph, units = bench.model.graph, bench.units
    if means.cost is None and means.profile is None:
        return from_work(graph, units)

    def files() -> tuple[Path, Path]:
        return (
            save(bench.floating(), folder / FOLDED),
            save(bench.quantized(), folder / "integer.onnx"),
        )

    if means.profile is not None:
        profile = means.profile

        def profiles() -> list[list[tuple[str, str, float]]]:
            return [[tuple(kernel) for kernel in profile(path)] for path in files()]  # type: ignore[misc]

        found = notebook.recall("profiles", profiles)
        floating, integer = ([KernelTime(*kernel) for kernel in part] for part in found)
        return from_profiles(graph, units, bench.sizes, floating, integer)
    assert means.cost is not None
    cost = means.cost
    totals = notebook.recall("totals", lambda: list(map(float, cost(files()))))
    return from_work(graph, units, *totals)
