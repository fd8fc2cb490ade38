"""The three numbers that a reader takes away, each chosen by a rule that the page can state.

Speed: the first timed INT8 case that has a ratio to the reference (else the first case that has
one). Agreement: the label agreement of the first INT8 comparison (else that comparison's first
metric). Size: the INT8 file against the FP32 file. What was not measured says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from deploy.report import formats
from deploy.report.schema import Agreement, LatencyCase, ModelEntry, Report

_AGREEMENT = "agreement"
_INTEGER = re.compile(r"int8|\bw\d+a\d+\b", re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True)
class Headline:
    """One number: ``value`` is None where there is no evidence, and ``detail`` says why."""

    label: str
    value: str | None
    detail: str
    source: str = ""


def headlines(report: Report) -> list[Headline]:
    return [_speed(report), _agreement(report), _size(report)]


def _speed(report: Report) -> Headline:
    label = "Speed-up"
    cases = report.latency.cases if report.latency else []
    reference = reference_case(cases)
    case = _prefer_int8(
        (c for c in cases if c.ratio_to_reference and c is not reference), _case_text
    )
    if case is None or case.ratio_to_reference is None:
        reason = "the runs are too few for a ratio" if len(cases) > 1 else "no two cases were timed"
        return Headline(label, None, f"no evidence: {reason}")
    ratio = case.ratio_to_reference
    if ratio.low is None or ratio.high is None:
        detail = "no interval"
    else:
        detail = f"{interval_name(report)} {ratio.low:.2f} to {ratio.high:.2f}"
        if ratio.low <= 1 <= ratio.high:
            detail += ": no difference is shown"
    against = f" against {formats.spelled(reference.name)}" if reference else ""
    return Headline(label, f"{ratio.value:.2f}×", detail, formats.spelled(case.name) + against)


def interval_name(report: Report) -> str:
    """``95 % interval``, or ``interval`` where the report does not say the level."""
    level = report.latency.confidence if report.latency else None
    return f"{level * 100:g} % interval" if level is not None else "interval"


def reference_case(cases: Iterable[LatencyCase]) -> LatencyCase | None:
    """The case that the others are compared with: no ratio of its own, or exactly one."""
    for case in cases:
        ratio = case.ratio_to_reference
        if ratio is None or (
            ratio.value == 1 and ratio.low in (None, 1) and ratio.high in (None, 1)
        ):
            return case
    return None


def _agreement(report: Report) -> Headline:
    label = "Label agreement"
    comparison = _prefer_int8(report.agreement or [], lambda a: f"{a.name} {a.candidate}")
    if comparison is None or not comparison.summary:
        return Headline(label, None, "no evidence: nothing was compared")
    key = next((k for k in comparison.summary if k.split(".")[-1] == _AGREEMENT), None)
    if key is None:
        key = next(iter(comparison.summary))
        label = formats.title(key)
    value = comparison.summary[key]
    if value is None:
        return Headline(label, None, "no evidence: the comparison has no value")
    detail = f"over {formats.plural(len(comparison.samples), 'sample')}"
    occupied = comparison.summary.get(f"{key}_occupied")
    if occupied is not None:  # free space is most of any scene, and easy
        detail += f", {formats.metric(key, occupied)} where occupied"
    return Headline(label, formats.metric(key, value), detail, _pair(comparison))


def _pair(comparison: Agreement) -> str:
    return (
        f"{formats.spelled(comparison.candidate)} against {formats.spelled(comparison.reference)}"
    )


def _size(report: Report) -> Headline:
    files = report.model.files if report.model else []
    file = _prefer_int8(files, lambda f: f.role)
    engines = [
        (engine.name, engine.passport["size_bytes"])
        for engine in report.engines or []
        if isinstance(engine.passport.get("size_bytes"), int)
    ]
    if file is None and not engines:
        return Headline("Model size", None, "no evidence: no model file is listed")
    if file is None:
        return Headline(
            "Engine size", formats.size(engines[0][1]), "", formats.spelled(engines[0][0])
        )
    detail = _smaller(file, next((f for f in files if f.role.lower().startswith("fp32")), None))
    engine = next((e for e in engines if "int8" in e[0].lower()), None)
    if engine is not None:
        detail += f"{', ' if detail else ''}INT8 engine {formats.size(engine[1])}"
    return Headline("Model size", formats.size(file.size_bytes), detail, formats.spelled(file.role))


def _smaller(file: ModelEntry, whole: ModelEntry | None) -> str:
    if whole is None or whole is file or file.size_bytes == 0:
        return ""
    return f"{whole.size_bytes / file.size_bytes:.2f}× smaller than FP32"


def _prefer_int8(items: Iterable[T], words: Callable[[T], str]) -> T | None:
    """The first item that calls itself INT8, or W8A8, else the first."""
    listed = list(items)
    return next((i for i in listed if _INTEGER.search(words(i))), listed[0] if listed else None)


def _case_text(case: LatencyCase) -> str:
    return case.name
