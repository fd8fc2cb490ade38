"""``--budget``: quantize everything, then give back to float what the budget asks for.

    screen every rounding -> predict the front -> search it on the validation set
           -> quantize for real -> judge that very file -> write

The search works with variants that share their ranges. The file that is written is made by
`calibration.quantize` with those ranges, and with the units that were given back as its float
nodes; it is the variant that held, and is judged once more all the same. Where nothing holds,
nothing is written unless that is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.description import write_quantization
from calibration.options import QuantizeOptions, QuantizeResult
from calibration.quantizer import quantize
from calibration.samples.base import Samples
from calibration.samples.rolling import rolled
from calibration.sensitivity.budget import LATENCY_MS, SPEEDUP, Budget, Measured, parse_budget
from calibration.sensitivity.front import Point
from calibration.sensitivity.measuring import (
    FOLDED,
    Cost,
    Means,
    Measurements,
    measured,
    question_of,
)
from calibration.sensitivity.report import (
    curve_rows,
    given_back_rows,
    reasons,
    score_rows,
    unit_rows,
)
from calibration.sensitivity.search import EFFORT, Score, Scores, Search, Trial
from calibration.sensitivity.workbench import save
from exporters.errors import UserError
from exporters.files import require_writable
from exporters.modelfile import PREFIX, ModelFile, save_model

if TYPE_CHECKING:
    import onnx

SCHEMA = "edgeport.budget/1"

FOLDED_MS = "folded_ms"

_TIMED_POINTS = 6
"""Trials that hold, and that are timed against each other besides the best one."""

_MADE = 4
"""Files that are made at most: FP16 or learned rounding can cost what the variant still had."""

_FASTER = 0.98
"""What a dearer prediction has to take of the best one's measured time to be preferred."""


@dataclass(frozen=True)
class BudgetPlan:
    """What the result has to keep, and how hard to look.

    Attributes:
        budget: an expression, see `calibration.sensitivity.budget`.
        validation: what the metrics are taken on; for the record and for the state file's key.
        metric: whose numbers they are; likewise.
        sure: the worse end of every interval has to keep the budget.
        effort: how many quantized models are scored at most.
        write_anyway: write the best one found where none keeps the budget.
    """

    budget: str
    validation: Samples
    metric: str = ""
    sure: bool = False
    effort: int = EFFORT
    write_anyway: bool = False


@dataclass(frozen=True)
class BudgetResult:
    """What came of it.

    Attributes:
        holds: whether the file keeps the budget.
        result: the file; None where none was written.
        report: JSON: ``budget``, ``holds``, ``scores`` of the final file with intervals,
            ``given_back`` with the loss and cost of each, the ``curve``, ``ms``, ``fp32_ms``,
            ``folded_ms`` and ``speedup``.
    """

    holds: bool
    result: QuantizeResult | None
    report: Mapping[str, Any]


def quantize_within(
    model: ModelFile | Path | str,
    samples: Samples,
    output: Path | str,
    plan: BudgetPlan,
    *,
    score: Score,
    options: QuantizeOptions | None = None,
    means: Means | None = None,
    measure_layers: bool = False,
) -> BudgetResult:
    """Quantize ``model`` so that it keeps ``plan.budget``, as much of it and as fast as possible.

    Args:
        score: metrics of a model file on the validation set, by name.
        options, measure_layers: as for `calibration.quantize`.

    Raises:
        SamplesRefusedError: the calibration-set doctor finds an error.
        UserError: a budget that cannot be read or names no metric, a cost that nothing measures,
            ``output`` exists, or the state file is of another question.
    """
    options, means = options or QuantizeOptions(), means or Means()
    options = replace(options, correct_bias=bool(options.correct_bias))  # as in every variant
    # the doctor compares the two sets, and refuses samples that are in both
    means = replace(means, evaluation=plan.validation)
    file = model if isinstance(model, ModelFile) else ModelFile(model)
    samples = rolled(samples, file)
    budget = parse_budget(plan.budget)
    if budget.cost and means.cost is None:
        raise UserError(
            f"--budget {plan.budget!r} bounds the cost, and there is nothing to time it on",
            fix="Drop that condition, or time on the CPU: --policy onnxruntime",
        )
    output = Path(output)
    require_writable(output, overwrite=options.overwrite)
    question = question_of(
        file, samples, options, validation=plan.validation.sha256, metric=plan.metric
    )
    with measured(file, samples, options, means, question) as found:
        search = Search(
            bench=found.bench,
            predictor=found.predictor,
            budget=budget,
            score=score,
            notebook=found.notebook,
            folder=found.folder,
            sure=plan.sure,
            effort=plan.effort,
            progress=means.progress,
        )
        held = search.run()
        run = _Run(
            file, samples, options, means, plan, budget, score, found, search, measure_layers
        )
        return run.finish(held, output)


@dataclass
class _Run:
    """From trials to a file."""

    file: ModelFile
    samples: Samples
    options: QuantizeOptions
    means: Means
    plan: BudgetPlan
    budget: Budget
    score: Score
    found: Measurements
    search: Search
    measure_layers: bool

    def finish(self, held: list[Trial], output: Path) -> BudgetResult:
        times = self._timed(held)
        candidates = self._in_order(held, times)
        if not candidates and self.plan.write_anyway:
            candidates = [self.search.best]
        made: QuantizeResult | None = None
        trial = self.search.best
        for index, candidate in enumerate(candidates[:_MADE]):
            again, judged = self._made(candidate, self.found.folder / f"made-{index}.onnx")
            if made is None or judged.margin > trial.margin:
                made, trial = again, judged
            if judged.holds:
                break
        costs = self._costs(made)
        holds = trial.holds and all(c.margin(costs[c.name]) >= 0 for c in self.budget.cost)
        report = self._report(trial, costs, times, holds=holds)
        if made is None or not (holds or self.plan.write_anyway):
            return BudgetResult(holds, None, report)
        return BudgetResult(holds, self._written(made, report, output), report)

    def _timed(self, held: list[Trial]) -> dict[Point, float]:
        """Milliseconds of the cheapest trials that hold, taken against each other."""
        cost = self.means.cost
        if cost is None or not held:
            return {}
        points = [trial.point for trial in held[:_TIMED_POINTS]]
        paths = []
        for index, point in enumerate(points):
            units = [self.search.predictor.units[name] for name in sorted(point.floats)]
            path = self.found.folder / f"timed-{index}.onnx"
            paths.append(save(self.found.bench.quantized(units), path))
        return dict(zip(points, map(float, cost(paths)), strict=True))

    def _in_order(self, held: list[Trial], times: Mapping[Point, float]) -> list[Trial]:
        """The predicted cheapest first, unless the clock clearly says otherwise."""
        if not times:
            return held
        fastest = min((t for t in held if t.point in times), key=lambda t: times[t.point])
        if times[fastest.point] < _FASTER * times[held[0].point]:
            return [fastest, *(trial for trial in held if trial is not fastest)]
        return held

    def _made(self, candidate: Trial, path: Path) -> tuple[QuantizeResult, Trial]:
        """The real file of a trial, and what it scores."""
        given = reasons(self.search.predictor, candidate, self.plan.budget)
        made = quantize(
            self.file,
            self.samples,
            path,
            replace(self.options, given_back=given, overwrite=True),
            statistics=self.found.bench.statistics if self.options.split == "none" else None,
            decided=self.found.bench.decided,
            evaluation=self.means.evaluation,
            measure_layers=self.measure_layers,
            progress=self.means.progress,
        )
        scores = self.score(path)
        margins = [c.margin(scores[c.name], sure=self.plan.sure) for c in self.budget.quality]
        holds = self.budget.holds(scores, sure=self.plan.sure)
        return made, Trial(candidate.point, scores, holds, min(margins))

    def _costs(self, made: QuantizeResult | None) -> dict[str, Measured]:
        """Latency and speedup of the final file, against FP32 in the same run.

        ``folded_ms`` is what FP32 takes once it is folded and respelled, without INT8.
        """
        cost: Cost | None = self.means.cost
        if cost is None or made is None:
            return {}
        folded = save(self.found.bench.floating(), self.found.folder / FOLDED)
        fp32, int8, floating = cost([self.file.path, made.model.path, folded])
        return {
            LATENCY_MS: Measured(int8, fp32),
            SPEEDUP: Measured(fp32 / int8, 1.0),
            FOLDED_MS: Measured(floating, fp32),
        }

    def _report(
        self,
        trial: Trial,
        costs: Scores,
        times: Mapping[Point, float],
        *,
        holds: bool,
    ) -> dict[str, Any]:
        rows = unit_rows(self.found.bench, self.found.predictor, self.found.noise)
        conditions = [
            {
                "metric": c.name,
                "condition": str(c),
                "bound": c.offset,
                "value": costs[c.name].value if c.name in costs else None,
                "holds": c.name in costs and c.margin(costs[c.name]) >= 0,
            }
            for c in self.budget.cost
        ]
        return {
            "schema": SCHEMA,
            "budget": self.plan.budget,
            "metric": self.plan.metric,
            "sure": self.plan.sure,
            "holds": holds,
            "validation": {
                "count": len(self.plan.validation),
                "sha256": self.plan.validation.sha256,
            },
            "scores": [*score_rows(self.search, trial), *conditions],
            "given_back": given_back_rows(self.search, trial, rows),
            "units": len(rows),
            "trials": len(self.search.trials),
            "cost_unit": self.found.predictor.costs.unit,
            "fp32_ms": costs[LATENCY_MS].fp32 if costs else None,
            "folded_ms": costs[FOLDED_MS].value if costs else None,
            "ms": costs[LATENCY_MS].value if costs else None,
            "speedup": costs[SPEEDUP].value if costs else None,
            "curve": curve_rows(self.search, times),
        }

    def _written(
        self, made: QuantizeResult, report: Mapping[str, Any], output: Path
    ) -> QuantizeResult:
        """The file with its record, at its place."""
        proto = made.model.proto
        description = json.loads(_metadata(proto)[PREFIX + "quantization"])
        # without what depends on the machine: times
        keys = ("budget", "metric", "sure", "holds", "validation", "trials")
        record = {key: report[key] for key in keys}
        record["scores"] = [
            {key: row[key] for key in ("metric", "condition", "bound", "value", "holds")}
            for row in report["scores"]
            if row["metric"] not in (LATENCY_MS, SPEEDUP)
        ]
        record["given_back"] = [
            {key: row[key] for key in ("unit", "nodes", "sqnr_db", "loss")}
            for row in report["given_back"]
        ]
        write_quantization(proto, {**description, "budget": record})
        model = save_model(proto, output, overwrite=self.options.overwrite)
        return QuantizeResult(model, {**made.report, "budget": record})


def _metadata(proto: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in proto.metadata_props}
