"""``edgeport quantize --budget`` and ``edgeport sensitivity``: what deploy knows, handed downwards.

`calibration.sensitivity` searches; scores come from `deploy.scoring` and costs from this machine's
CPU, or from multiply-adds where the policy is for a device that is not here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from calibration.job import Progress
from calibration.observing.statistics import Statistics
from calibration.options import QuantizeOptions
from calibration.samples.base import Samples
from calibration.samples.mapping import backend_for
from calibration.samples.rolling import rolled
from calibration.sensitivity.budget import parse_budget
from calibration.sensitivity.measuring import Judged, Means, measure_sensitivity, question_of
from calibration.sensitivity.noise import Workers
from calibration.sensitivity.notebook import question_id
from calibration.sensitivity.search import EFFORT
from calibration.sensitivity.within import BudgetPlan, BudgetResult, quantize_within
from deploy.console import dump_json
from deploy.scoring import METRIC, CpuCosts, ValidationScore
from exporters.errors import UserError, did_you_mean
from exporters.files import require_writable, write_text
from exporters.modelfile import ModelFile

COSTS = ("auto", "latency", "work")


@dataclass(frozen=True)
class SearchOptions:
    """How a budget is searched for.

    Attributes:
        metric: of the budget's name ``metric``; None for the task's own.
        cost: ``latency`` on this CPU, ``work`` by multiply-adds, or ``auto``: latency where the
            policy is for the runtime that is here.
        threads: of sessions on this machine.
        jobs: processes here that share the work; ``scheduler`` is a Dask cluster's address.
        sure, effort, write_anyway: see `calibration.sensitivity.within.BudgetPlan`.
        state: where measurements are kept; beside the output by default.
        curve: where everything that was found is written; beside the output by default.
    """

    metric: str | None = None
    cost: Literal["auto", "latency", "work"] = "auto"
    threads: int | None = None
    jobs: int | None = None
    scheduler: str | None = None
    sure: bool = False
    effort: int = EFFORT
    write_anyway: bool = False
    state: Path | None = None
    curve: Path | None = None

    def __post_init__(self) -> None:
        if self.cost not in COSTS:
            raise UserError(f"unknown cost {self.cost!r}", fix=did_you_mean(self.cost, COSTS))
        backend_for(self.jobs, self.scheduler)

    @property
    def workers(self) -> Workers:
        return Workers(backend_for(self.jobs, self.scheduler), self.jobs, self.scheduler)


def quantize_to_budget(
    model: ModelFile | Path | str,
    samples: Samples,
    output: Path | str,
    *,
    budget: str,
    validation: Samples,
    options: QuantizeOptions | None = None,
    search: SearchOptions | None = None,
    statistics: Statistics | None = None,
    measure_layers: bool = False,
    progress: Progress | None = None,
) -> BudgetResult:
    """Quantize ``model``, giving back to float what ``budget`` needs on ``validation``.

    Writes ``output`` if the budget holds, and in any case what was found beside it:
    ``OUTPUT.budget.json`` with the curve, ``OUTPUT.search-….json`` with every measurement, from
    which the same search with another budget starts.

    Args:
        budget: ``"metric>=0.99"``; `calibration.sensitivity.budget` has the grammar, and
            `deploy.scoring.ValidationScore` the names.
        validation: not the calibration set, and not the set that the result is judged by later.

    Raises:
        SamplesRefusedError: the doctor refuses one of the sets.
        UserError: a budget, metric or option that does not exist, or a file in the way.
    """
    options, search = options or QuantizeOptions(), search or SearchOptions()
    file = model if isinstance(model, ModelFile) else ModelFile(model)
    samples, validation = rolled(samples, file), rolled(validation, file)
    output = Path(output)
    curve = search.curve or output.with_suffix(".budget.json")
    parse_budget(budget)
    require_writable(curve, overwrite=options.overwrite)
    question = question_of(
        file, samples, options, validation=validation.sha256, metric=search.metric or ""
    )
    state = search.state or output.with_suffix(f".search-{question_id(question)}.json")
    plan = BudgetPlan(
        budget,
        validation,
        metric=search.metric or "",
        sure=search.sure,
        effort=search.effort,
        write_anyway=search.write_anyway,
    )
    with ValidationScore(
        file, validation, search.metric, workers=search.workers, threads=search.threads
    ) as score:
        result = quantize_within(
            file,
            samples,
            output,
            plan,
            score=score,
            options=options,
            means=_means(samples, options, search, state, statistics, progress),
            measure_layers=measure_layers,
        )
    write_text(curve, dump_json(result.report) + "\n", overwrite=options.overwrite)
    return result


def sensitivity(
    model: ModelFile | Path | str,
    samples: Samples,
    *,
    options: QuantizeOptions | None = None,
    search: SearchOptions | None = None,
    validation: Samples | None = None,
    judged_units: int = 8,
    statistics: Statistics | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What INT8 does to every unit alone; see `calibration.sensitivity.measuring`.

    Args:
        validation: judges the worst ``judged_units`` with the metric too.
    """
    options, search = options or QuantizeOptions(), search or SearchOptions()
    file = model if isinstance(model, ModelFile) else ModelFile(model)
    samples = rolled(samples, file)
    means = _means(samples, options, search, search.state, statistics, progress)
    if validation is None:
        return measure_sensitivity(file, samples, options, means)
    means = replace(means, evaluation=validation)
    with ValidationScore(
        file, validation, search.metric, workers=search.workers, threads=search.threads
    ) as score:

        def metric_of(path: Path) -> float:
            found = score(path)
            # a foreign model without --metric has none of its own: then its worst output decides
            names = (METRIC, "agreement", "recall", "sqnr_db")
            return next(found[n] for n in names if n in found).value

        judged = Judged(metric_of, search.metric or "", validation.sha256, judged_units)
        return measure_sensitivity(file, samples, options, means, judged=judged)


def _means(
    samples: Samples,
    options: QuantizeOptions,
    search: SearchOptions,
    state: Path | None,
    statistics: Statistics | None,
    progress: Progress | None,
) -> Means:
    here = options.policy == "onnxruntime"
    timed = search.cost == "latency" or (search.cost == "auto" and here)
    costs = CpuCosts(samples, search.threads)
    return Means(
        cost=costs.latencies if timed else None,
        # kernels of a file that another runtime will fuse otherwise say nothing
        profile=costs.profile if timed and here else None,
        state=state,
        workers=search.workers,
        statistics=statistics,
        progress=progress,
    )
