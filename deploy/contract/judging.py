"""Does the evidence show that every term of a contract holds?

A metric is judged by its whole interval (``deploy.verdict``): met where all of it lies on the good
side, missed where all of it lies on the bad one, in between there is no evidence. So are
percentiles, speed-up and energy.

    miou>=30             candidate                   by the interval of its own value
    miou>=fp32-0.5       loss = reference - candidate, at most 0.5, by its paired interval
    miou>=0.99*fp32      kept = candidate / reference, at least 0.99, by its paired interval

``deploy.contract.classes`` judges every class of a metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from calibration.sensitivity.budget import SPEEDUP
from deploy.contract.classes import judge_classes
from deploy.contract.evidence import FileEvidence, MetricEvidence
from deploy.contract.resources import judge_resource
from deploy.contract.terms import METRIC, Term
from deploy.metrics.paired import PairedInterval
from deploy.verdict import Check, judge, judge_interval
from exporters.errors import did_you_mean

_ABSENT = {
    "agreement": "no output has labels",
    "sqnr_db": "no float output to take it from; export with --logits",
    METRIC: "no sample has ground truth",
}
_SPOKEN = {"agreement": "label agreement", "sqnr_db": "SQNR"}


def judge_file(terms: Sequence[Term], file: FileEvidence) -> list[Check]:
    """The checks of every term on one file; one without evidence is there, with ``ok`` None."""
    checks: list[Check] = []
    for term in terms:
        if term.is_resource:
            found = [judge_resource(term, file)]
        else:
            found = [_with_suspects(check, file) for check in _judge_metric(term, file)]
        checks += [replace(check, term=str(term)) for check in found]
    return checks


def judge_files(terms: Sequence[Term], files: Iterable[FileEvidence]) -> list[Check]:
    """The same for several files, whose names stand before those of the checks."""
    return [
        replace(check, name=f"{file.name}: {check.name}")
        for file in files
        for check in judge_file(terms, file)
    ]


def _judge_metric(term: Term, file: FileEvidence) -> list[Check]:
    condition = term.condition
    if file.metrics is None:
        return [_absent(term, "it was not compared with FP32")]
    if term.name == METRIC:
        found = [metric for metric in file.metrics if metric.is_task_metric]
    else:
        found = [metric for metric in file.metrics if metric.name == term.name]
        worst = min(found, key=lambda m: _rank(m.candidate), default=None)
        found = [] if worst is None else [worst]  # of several outputs
    if not found:
        return [_absent(term, _why_absent(term, file.metrics))]
    if term.each_class:
        return [check for metric in found for check in judge_classes(condition, metric)]
    return [_check(term, metric) for metric in found]


def _with_suspects(check: Check, file: FileEvidence) -> Check:
    """A loss that is shown, or cannot be excluded, names the layers that lose most by themselves.

    The worst first. What was not measured blames nobody.
    """
    if check.ok or check.value is None or not file.suspects:
        return check
    said = f"{check.note}; " if check.note else ""
    return replace(check, note=f"{said}by itself loses most: {', '.join(file.suspects)}")


def _check(term: Term, metric: MetricEvidence) -> Check:
    condition, spoken = term.condition, _SPOKEN.get(metric.name, metric.name)
    if condition.factor is None:
        if math.isinf(metric.candidate):
            return judge(
                spoken, metric.candidate, condition.comparison, condition.offset, unit=metric.unit
            )
        return _by_interval(
            spoken, metric.alone, condition.comparison, condition.offset, metric.unit, metric
        )
    if condition.factor == 1.0:
        loss = f"{spoken} loss"
        return _by_interval(loss, metric.loss, "<=", -condition.offset, metric.unit, metric)
    return _by_interval(f"{spoken} kept", metric.kept, ">=", condition.factor, "", metric)


def _by_interval(
    name: str,
    interval: PairedInterval | None,
    comparison: Any,
    threshold: float,
    unit: str,
    metric: MetricEvidence,
) -> Check:
    if interval is None:
        return judge(name, None, comparison, threshold, unit=unit, note=_why_not(metric))
    return judge_interval(name, interval.value, interval, comparison, threshold, unit=unit)


def _why_not(metric: MetricEvidence) -> str:
    if math.isnan(metric.reference) and metric.difference is not None:
        return f"{metric.name} compares with FP32 and has no value of FP32's own"
    value = "" if math.isnan(metric.candidate) else f"{metric.candidate:.4g} was measured, but "
    return f"{value}{metric.why_not or 'this has no interval'}"


def _absent(term: Term, why: str) -> Check:
    condition = term.condition
    name = _SPOKEN.get(term.name, f"{term.name}" if term.name != METRIC else METRIC)
    if condition.factor is None:
        return judge(name, None, condition.comparison, condition.offset, note=why)
    if condition.factor == 1.0:
        return judge(f"{name} loss", None, "<=", -condition.offset, note=why)
    return judge(f"{name} kept", None, ">=", condition.factor, note=why)


def _why_absent(term: Term, metrics: Sequence[MetricEvidence]) -> str:
    if term.name in _ABSENT:
        return _ABSENT[term.name]
    names = [METRIC, SPEEDUP, *(metric.name for metric in metrics)]
    return f"nothing here is called {term.name!r}. {did_you_mean(term.name, names)}"


def _rank(value: float) -> float:
    return -math.inf if math.isnan(value) else value
