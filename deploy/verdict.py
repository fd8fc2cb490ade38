"""Checks against thresholds, and what they add up to: pass, fail or no evidence (= fail).

A value that could not be measured never passes: a check without a value has ``ok`` None and the
verdict is then "no evidence", which ends in the same exit code as "fail". So it is with a threshold
that these samples cannot decide: it is met where the value's whole interval lies on the good side,
missed where all of it lies on the bad one, and between the two there is no evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from deploy.console import plain
from deploy.metrics.paired import PairedInterval
from exporters.errors import EXIT_OK, EXIT_VERDICT_FAIL

Comparator = Literal[">=", "<="]
Status = Literal["pass", "fail", "no evidence"]


@dataclass(frozen=True)
class Check:
    """One value against one threshold.

    Attributes:
        ok: None where there was nothing to judge; ``note`` then says why.
        low, high: of the value's interval, where it has one.
        term: of the contract that asks for it; empty for what always has to hold.
    """

    name: str
    value: float | None
    threshold: float
    comparison: Comparator
    unit: str = ""
    ok: bool | None = None
    note: str = ""
    low: float | None = None
    high: float | None = None
    term: str = ""

    def __str__(self) -> str:
        if self.ok is None:
            return f"{self.name}: no evidence ({self.note})"
        word = "ok" if self.ok else "missed"
        unit = f" {self.unit}" if self.unit else ""
        known = self.value is not None and math.isfinite(self.value)  # JSON has no infinity
        value = f"{self.value:.4g}" if known else f"({self.note})"
        if known and self.low is not None and self.high is not None:
            value += f" [{self.low:.4g}, {self.high:.4g}]"
        why = f"; {self.note}" if known and self.note else ""
        return f"{self.name} {value} {self.comparison} {self.threshold:g}{unit}: {word}{why}"


@dataclass(frozen=True)
class Verdict:
    """What a set of checks adds up to."""

    checks: tuple[Check, ...]

    @property
    def status(self) -> Status:
        if any(check.ok is False for check in self.checks):
            return "fail"
        if not self.checks or any(check.ok is None for check in self.checks):
            return "no evidence"
        return "pass"

    @property
    def exit_code(self) -> int:
        return EXIT_OK if self.status == "pass" else EXIT_VERDICT_FAIL

    def to_json(self) -> dict[str, Any]:
        return {"status": self.status, "checks": plain(self.checks)}


def judge(
    name: str,
    value: float | None,
    comparison: Comparator,
    threshold: float,
    *,
    unit: str = "",
    note: str = "",
) -> Check:
    """Check ``value``; None or NaN is no evidence, ``note`` should then say why."""
    if value is None or math.isnan(value):
        return Check(name, None, threshold, comparison, unit, None, note or "nothing was measured")
    ok = value >= threshold if comparison == ">=" else value <= threshold
    if math.isinf(value):
        note = note or ("an exact copy" if value > 0 else "nothing of the signal is left")
    return Check(name, value, threshold, comparison, unit, ok, note)


def judge_interval(
    name: str,
    value: float,
    interval: PairedInterval,
    comparison: Comparator,
    threshold: float,
    *,
    unit: str = "",
) -> Check:
    """Check a value by its interval: no evidence where the threshold lies inside of it.

    Args:
        value: over the whole set.
        interval: of the same quantity.
    """
    low, high = interval.low, interval.high
    ok = _decided(low, high, comparison, threshold)
    note = "" if ok is not None else _undecided(value, interval, threshold, unit)
    return Check(name, value, threshold, comparison, unit, ok, note, low, high)


def judge_bounds(
    name: str,
    value: float,
    bounds: tuple[float, float],
    comparison: Comparator,
    threshold: float,
    *,
    unit: str = "",
    seen: str = "",
) -> Check:
    """Check a value by its bounds; ``seen`` says what they come from, ``400 runs``."""
    low, high = bounds
    ok = _decided(low, high, comparison, threshold)
    tail = f" {unit}" if unit else ""
    note = (
        ""
        if ok is not None
        else (
            f"{seen} say {value:.4g} [{low:.4g}, {high:.4g}]{tail}, which cannot decide "
            f"{threshold:g}{tail}"
        )
    )
    return Check(name, value, threshold, comparison, unit, ok, note, low, high)


def _decided(low: float, high: float, comparison: Comparator, threshold: float) -> bool | None:
    good, bad = (low, high) if comparison == ">=" else (-high, -low)
    line = threshold if comparison == ">=" else -threshold
    return True if good >= line else False if bad < line else None


def _undecided(value: float, interval: PairedInterval, threshold: float, unit: str) -> str:
    needed = interval.samples_to_decide(threshold)
    tail = f" {unit}" if unit else ""
    more = f"about {needed:,} samples would" if needed else "no number of samples would"
    return (
        f"{interval.samples} samples say {value:.4g} [{interval.low:.4g}, {interval.high:.4g}]"
        f"{tail}, which cannot decide {threshold:g}{tail}; {more}"
    )


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    return Verdict(tuple(check for verdict in verdicts for check in verdict.checks))
