"""What is known of one file: metrics against FP32, latency, energy, sizes; as its JSON says it.

A contract is judged from what was written down, never from objects of the run that wrote it: so a
contract can change after the measurement, and evidence from a board can be added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deploy.layers_alone import rank
from deploy.metrics.paired import PairedInterval
from deploy.metrics.pooled import EXACT, LOST

JSON = Mapping[str, Any]

_SUSPECTS = 3


@dataclass(frozen=True)
class MetricEvidence:
    """One metric of a candidate.

    Attributes:
        output: of the model; empty for a metric of the task.
        reference, candidate: values over the set; NaN where there is none, infinite SQNR for an
            exact copy.
        difference: interval of candidate minus reference; of the candidate where the metric
            compares with the reference already.
        alone, kept: intervals of the candidate's own value, and of its share of the reference's.
        why_not: why an interval is missing.
        classes: the same metric of single classes.
    """

    name: str
    output: str
    unit: str
    reference: float
    candidate: float
    difference: PairedInterval | None
    alone: PairedInterval | None
    kept: PairedInterval | None
    why_not: str = ""
    classes: tuple[MetricEvidence, ...] = ()

    @classmethod
    def from_json(cls, entry: JSON) -> MetricEvidence:
        """From an entry under ``paired`` of a comparison or a report."""
        difference = _interval(entry["interval"])
        reference, candidate = _number(entry["reference"]), _candidate(entry)
        compares = math.isnan(reference) or bool(entry["output"])
        alone, kept = _interval(entry.get("alone")), _interval(entry.get("kept"))
        if compares and difference is not None:  # the reference is itself: a constant
            shift = 0.0 if math.isnan(reference) else reference
            alone = _scaled(difference, 1.0, shift)
            kept = alone if reference == 1.0 else None
        return cls(
            name=entry["name"],
            output=entry["output"],
            unit=entry["unit"],
            reference=reference,
            candidate=candidate,
            difference=difference,
            alone=alone,
            kept=kept,
            why_not=entry["why_not"],
            classes=tuple(
                cls.from_json({"output": "", "unit": entry["unit"], **one})
                for one in entry.get("classes", ())
            ),
        )

    @property
    def is_task_metric(self) -> bool:
        return not self.output

    @property
    def loss(self) -> PairedInterval | None:
        """Interval of reference minus candidate."""
        return None if self.difference is None else _scaled(self.difference, -1.0, 0.0)


@dataclass(frozen=True)
class FileEvidence:
    """Everything known of one file or engine; what is None was not measured.

    Attributes:
        metrics: against FP32.
        latency: its entry under ``latency.cases``.
        energy: its ``CaseEnergy`` as JSON.
        model_bytes, engine_bytes: sizes.
        missing: why there is no engine, where one was asked for.
        suspects: layers that lose most by themselves, the worst first, each with what it leaves.
    """

    name: str
    metrics: tuple[MetricEvidence, ...] | None = None
    latency: JSON | None = None
    energy: JSON | None = None
    model_bytes: int | None = None
    engine_bytes: int | None = None
    missing: str = ""
    suspects: tuple[str, ...] = ()


def suspects_of(alone: Iterable[JSON] | None) -> tuple[str, ...]:
    """The layers that lose most by themselves, from the entries under ``alone``, as words."""
    own = [one for one in alone or () if one["sqnr_db"] is not None]
    own.sort(key=lambda one: rank(one.get("outputs_db"), one["sqnr_db"]))
    return tuple(_suspect(one) for one in own[:_SUSPECTS])


def _suspect(one: JSON) -> str:
    if one.get("outputs_db") is None:
        return f"{one['node']} ({one['sqnr_db']:.1f} dB)"
    return f"{one['node']} ({one['outputs_db']:.1f} dB at the outputs)"


def _candidate(entry: JSON) -> float:
    """JSON has no infinity: the words beside it say which one it was."""
    known = {EXACT: math.inf, LOST: -math.inf}
    if entry["candidate"] is None:
        return known.get(entry["why_not"], math.nan)
    return float(entry["candidate"])


def _interval(entry: JSON | None) -> PairedInterval | None:
    if entry is None:
        return None
    return PairedInterval(
        **{**entry, "detectable": _number(entry["detectable"]), "method": entry["method"]}
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _scaled(interval: PairedInterval, factor: float, shift: float) -> PairedInterval:
    ends = [factor * end + shift for end in (interval.low, interval.high)]
    return replace(interval, value=factor * interval.value + shift, low=min(ends), high=max(ends))
