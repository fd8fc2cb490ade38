"""Every class of a metric against one bound, with Holm's correction.

"No class loses more than 2 points" is a claim about all classes at once. To *show* it, every class
has to be shown at the full level, and no correction is needed: an intersection-union test (Berger,
"Multiparameter hypothesis testing and acceptance sampling", Technometrics 24, 1982). To *refute*
it, one bad class is enough, and among 17 classes one looks bad by chance: so a class counts as
missed only where its p-value withstands Holm's step-down (``deploy.metrics.holm``). What is
neither is no evidence.
"""

from __future__ import annotations

import math
from dataclasses import replace

from calibration.sensitivity.budget import Condition
from deploy.contract.evidence import MetricEvidence
from deploy.metrics.holm import holm
from deploy.metrics.paired import PairedInterval
from deploy.metrics.quantiles import student_tail
from deploy.verdict import Check, Comparator, judge, judge_interval


def judge_classes(condition: Condition, metric: MetricEvidence) -> list[Check]:
    """One check a class; a metric without classes is one check without evidence."""
    if not metric.classes:
        note = f"{metric.name} has no classes"
        name, comparison, bound = _what(condition, metric.name)
        return [judge(name, None, comparison, bound, unit=metric.unit, note=note)]
    single = [_judge_class(condition, one, metric) for one in metric.classes]
    judged = [i for i, (_, interval) in enumerate(single) if interval is not None]
    _, comparison, bound = _what(condition, "")
    chances = [_chance(i, bound, comparison == ">=") for _, i in single if i is not None]
    rejected = dict(zip(judged, holm(chances, 1 - _confidence(single)), strict=True))
    return [
        _corrected(check, rejected.get(index, False)) for index, (check, _) in enumerate(single)
    ]


def _judge_class(
    condition: Condition, one: MetricEvidence, metric: MetricEvidence
) -> tuple[Check, PairedInterval | None]:
    name, comparison, bound = _what(condition, f"{metric.name} of {one.name}")
    interval = _interval(condition, one)
    unit = "" if condition.factor not in (None, 1.0) else metric.unit
    if interval is None:
        note = one.why_not or "it has no interval"
        return judge(name, None, comparison, bound, unit=unit, note=note), None
    value = interval.value
    return judge_interval(name, value, interval, comparison, bound, unit=unit), interval


def _what(condition: Condition, name: str) -> tuple[str, Comparator, float]:
    """Name, comparison and bound of the check."""
    if condition.factor is None:
        return name, condition.comparison, condition.offset
    if condition.factor == 1.0:
        return f"{name} loss", "<=", -condition.offset
    return f"{name} kept", ">=", condition.factor


def _interval(condition: Condition, one: MetricEvidence) -> PairedInterval | None:
    if condition.factor is None:
        return one.alone
    return one.loss if condition.factor == 1.0 else one.kept


def _chance(interval: PairedInterval, bound: float, upwards: bool) -> float:
    """p-value of "the class holds its bound": small where the value lies far on the bad side."""
    beyond = (bound - interval.value) if upwards else (interval.value - bound)
    error = interval.deviation / math.sqrt(interval.samples)
    if error == 0.0:
        return 0.0 if beyond > 0 else 1.0
    return student_tail(beyond / error, interval.samples - 1)


def _confidence(single: list[tuple[Check, PairedInterval | None]]) -> float:
    return next((i.confidence for _, i in single if i is not None), 0.95)


def _corrected(check: Check, rejected: bool) -> Check:
    """Missed by its own interval, but not withstanding the correction, is no evidence."""
    if check.ok is not False or rejected:
        return check
    note = f"{check.value:.4g} is beyond the bound, but one class of many may be so by chance"
    return replace(check, ok=None, note=f"{note} (Holm)")
