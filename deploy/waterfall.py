"""Where each loss comes from: the metric and the SQNR rung by rung, every difference with an owner.

    loss of a rung   = metric of the rung before - metric of this one, by a paired interval
                       Every metric that the recipe names has one; the first is the waterfall's own
    SQNR of a rung   = of its scores against those of the rung before; total: against the first.
                       Of the first few samples: scores are many, and differ little between samples

All rungs (``deploy.rungs``) run the same evaluation samples. Engines and boards are the last ones;
they are compared with FP32 by ``verify``, and their loss is against the rung that they are built
from where both saw the same samples. What was not run says why: no evidence.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.samples.base import Array, inputs_of
from deploy.metrics.gathering import Gathering
from deploy.metrics.pooled import PairedMetric
from deploy.metrics.tensors import ErrorAccumulator
from deploy.rungs import Rung, rungs, stage_before
from exporters.witness import SCORES
from runtimes.base import Progress, TensorInfo

if TYPE_CHECKING:
    from deploy.recipe import Recipe
    from deploy.workplace import Workplace

JSON = dict[str, Any]
Outputs = Mapping[str, Array]

SCORED_SAMPLES = 4

NO_BOARD = "the recipe names no board"
NO_ENGINE = "the recipe names no engine"
NOT_RUN = "no device here runs it"


def measure(place: Workplace, count: int, progress: Progress | None = None) -> list[JSON]:
    """A row for every rung of the run's model files, over the first ``count`` samples."""
    samples = place.required("evaluation").samples
    total = min(count, len(samples))
    with tempfile.TemporaryDirectory(prefix="edgeport-waterfall-") as folder:
        ladder = list(rungs(place, Path(folder)))
        steps = {rung.stage: _Step(place, rung) for rung in ladder if rung.run is not None}
        for index, sample in enumerate(islice(samples, total)):
            found: dict[str, Outputs] = {}
            for rung in ladder:
                if rung.unchanged and rung.after in found:
                    found[rung.stage] = found[rung.after]
                elif rung.run is not None:
                    found[rung.stage] = rung.run(inputs_of(sample))
            first = next(iter(found.values()))
            for stage, step in steps.items():
                before = found.get(step.rung.after, found[stage])
                step.add(samples.names[index], first, before, found[stage], sample)
            if progress is not None:
                progress("samples", index + 1, total)
    return [
        steps[rung.stage].row(total)
        if rung.stage in steps
        else _row(rung.stage, rung.owner, rung.after, missing=rung.missing)
        for rung in ladder
    ]


class _Step:
    """One rung against the one before, and its scores against the first's."""

    def __init__(self, place: Workplace, rung: Rung) -> None:
        self.rung = rung
        self._names = names_of(place.recipe)
        self._run = Gathering(place.spec, place.recipe.metric)
        self._step, self._total = ErrorAccumulator(), ErrorAccumulator()
        self._scored = 0

    def add(
        self, name: str, first: Outputs, before: Outputs, here: Outputs, sample: Outputs
    ) -> None:
        """One sample: what the first rung gave, the one before, and this one."""
        if not self._run.judge.declared:
            described = _described(here)
            self._run.declare_outputs(described, described)
        self._run.add(name, before, here, sample)
        if self._scored == SCORED_SAMPLES:
            return
        self._scored += 1
        start, last, now = (_scores(outputs) for outputs in (first, before, here))
        if start is None or last is None or now is None or start.shape != now.shape:
            return
        self._total.update(start, now)
        if last.shape == now.shape:
            self._step.update(last, now)

    def row(self, samples: int) -> JSON:
        row = _row(self.rung.stage, self.rung.owner, self.rung.after, samples=samples)
        if metrics := self._metrics():
            row |= metrics[0] | {"also": metrics[1:]}
        for key, errors in (("step_sqnr_db", self._step), ("sqnr_db", self._total)):
            found = errors.result()
            if found.count and self.rung.owner:
                row |= {key: found.sqnr_db if math.isfinite(found.sqnr_db) else None}
                row |= {"exact": found.max_abs == 0} if errors is self._step else {}
        return row

    def _metrics(self) -> list[JSON]:
        """Value and loss: of the first metric, then of the others that the recipe names."""
        found = [one for one in self._run.paired() if one.reference is not None]
        also = [one for one in found[1:] if one.name in self._names[1:]]
        return [self._metric(one) for one in (*found[:1], *also)]

    def _metric(self, metric: PairedMetric) -> JSON:
        row: JSON = dict.fromkeys(("loss", "low", "high"))
        row |= {"metric": metric.name, "unit": metric.unit, "value": metric.candidate}
        if self.rung.owner:
            row["loss"] = metric.loss
            if metric.interval is not None:  # 0.0 - 0.0 has no sign
                row |= {"low": 0.0 - metric.interval.high, "high": 0.0 - metric.interval.low}
        return row


def names_of(recipe: Recipe) -> list[str]:
    """Metrics that the recipe names; empty for the task's own."""
    return recipe.metric.split(",") if recipe.metric else []


def _described(outputs: Outputs) -> list[TensorInfo]:
    return [
        TensorInfo(name, str(array.dtype), array.shape)
        for name, array in outputs.items()
        if name != SCORES
    ]


def _scores(outputs: Outputs) -> Array | None:
    """What labels are decided by; else the first output of floats."""
    floats = (a for a in outputs.values() if np.issubdtype(a.dtype, np.floating))
    return outputs[SCORES] if SCORES in outputs else next(floats, None)


def waterfall_of(
    rows: Sequence[JSON],
    recipe: Recipe,
    engines: Sequence[JSON],
    verify: Sequence[JSON],
    boards: Sequence[JSON],
) -> list[JSON]:
    """The whole waterfall: ``rows`` of `measure`, then engines and boards.

    Args:
        engines: what became of each engine of the recipe.
        verify: comparisons with FP32 on this machine, engines that run here among them.
        boards: comparisons on boards, or why there is none.
    """
    known = {row["stage"]: row for row in rows}
    compared = {one["name"]: one for one in verify}
    names = names_of(recipe)
    last = []
    for part, engine in zip(recipe.engines, engines, strict=True):
        why_not = engine["missing"] or NOT_RUN
        before = known.get(stage_before(part.source))
        found = compared.get(part.name)
        last.append(_on_device(part.name, "engine builder", before, found, names, why_not))
    if not recipe.engines:
        last.append(_row("engine", "engine builder", missing=NO_ENGINE))
    for board, one in zip(recipe.boards, boards, strict=True):
        before = known.get(stage_before(board.source))
        why_not = one.get("missing", "")
        found = None if why_not else one
        last.append(_on_device(board.name, "board's runtime", before, found, names, why_not))
    if not recipe.boards:
        last.append(_row("board", "board's runtime", missing=NO_BOARD))
    return [*rows, *last]


def _on_device(
    stage: str,
    owner: str,
    before: JSON | None,
    compared: JSON | None,
    names: Sequence[str],
    why_not: str,
) -> JSON:
    """A row from a comparison with FP32; its loss is against the rung before, on equal terms."""
    after = before["stage"] if before is not None else ""
    if compared is None:
        return _row(stage, owner, after, missing=why_not)
    report = compared["report"]
    row = _row(stage, owner, after, samples=len(report["samples"]))
    found = [one for one in report["paired"] if one["reference"] is not None]
    also = [one for one in found[1:] if one["name"] in names[1:]]
    metrics = [_of_device(one, len(report["samples"]), before) for one in (*found[:1], *also)]
    return row | metrics[0] | {"also": metrics[1:]} if metrics else row


def _of_device(metric: JSON, samples: int, before: JSON | None) -> JSON:
    """One metric of a comparison with FP32; a loss where the rung before has it of as much."""
    row: JSON = dict.fromkeys(("loss", "low", "high"))
    row |= {key: metric[name] for key, name in _OF_PAIRED.items()}
    if before is not None and before["samples"] == samples and not metric["output"]:
        known = {one["metric"]: one["value"] for one in (before, *before["also"])}
        if row["metric"] in known:
            row["loss"] = known[row["metric"]] - row["value"]
    return row


_OF_PAIRED = {"metric": "name", "unit": "unit", "value": "candidate"}


def _row(
    stage: str, owner: str = "", after: str = "", *, samples: int = 0, missing: str = ""
) -> JSON:
    numbers = dict.fromkeys(("value", "loss", "low", "high", "sqnr_db", "step_sqnr_db", "exact"))
    named = {"stage": stage, "owner": owner, "after": after, "samples": samples}
    return {**named, "metric": "", "unit": "", **numbers, "also": [], "missing": missing}
