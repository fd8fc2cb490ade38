"""What a quantized model may lose: ``--budget "metric>=0.99"``, read strictly.

    budget    = condition { "and" condition }
    condition = name (">=" | "<=") bound
    bound     = number | [number "*"] "fp32" [("+" | "-") number]

``fp32`` is what the float model scores on the same samples: ``miou>=fp32-0.5`` is half a point,
``miou>=0.99*fp32`` one percent. Two names are always known: ``speedup``, the float model's latency
over the quantized one's, and ``latency_ms``. The other names are those of metrics.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from exporters.errors import UserError, did_you_mean

SPEEDUP, LATENCY_MS = "speedup", "latency_ms"
COSTS = (SPEEDUP, LATENCY_MS)

_BUDGET = "--budget"

_UNSIGNED = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBER = rf"[+-]?{_UNSIGNED}"
_NAME = re.compile(r"[A-Za-z_][\w.:/-]*\s*")
_BOUND = re.compile(
    rf"(?:(?:(?P<factor>{_NUMBER})\s*\*\s*)?fp32(?:\s*(?P<sign>[+-])\s*(?P<offset>{_UNSIGNED}))?"
    rf"|(?P<number>{_NUMBER}))(?![\w.%])\s*"
)


@dataclass(frozen=True)
class Measured:
    """One metric of a quantized model over the validation set.

    Attributes:
        fp32: what the float model has; NaN for a metric that compares with it.
        low, high: of the interval of ``value``; None where there is none.
        detectable: the smallest loss that this many samples show; None where nobody can tell.
    """

    value: float
    fp32: float = math.nan
    low: float | None = None
    high: float | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class Condition:
    """``name >= factor * fp32 + offset``, or a plain number where ``factor`` is None."""

    name: str
    comparison: Literal[">=", "<="]
    offset: float
    factor: float | None = None

    def __str__(self) -> str:
        if self.factor is None:
            return f"{self.name}{self.comparison}{self.offset:g}"
        fp32 = "fp32" if self.factor == 1 else f"{self.factor:g}*fp32"
        return f"{self.name}{self.comparison}{fp32}{f'{self.offset:+g}' if self.offset else ''}"

    def bound(self, measured: Measured) -> float:
        """The number to be reached; NaN where it needs a ``fp32`` value that there is none of."""
        return self.offset if self.factor is None else self.factor * measured.fp32 + self.offset

    def margin(self, measured: Measured, *, sure: bool = False) -> float:
        """How much better than the bound; negative where it is missed, NaN without evidence.

        Args:
            sure: take the worse end of the interval, not the value.
        """
        upwards = self.comparison == ">="
        value: float | None = measured.value
        if sure:
            value = measured.low if upwards else measured.high
        if value is None:
            return math.nan
        return (value - self.bound(measured)) * (1 if upwards else -1)


@dataclass(frozen=True)
class Budget:
    """Conditions that all have to hold."""

    conditions: tuple[Condition, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.conditions))

    @property
    def quality(self) -> tuple[Condition, ...]:
        return tuple(c for c in self.conditions if c.name not in COSTS)

    @property
    def cost(self) -> tuple[Condition, ...]:
        return tuple(c for c in self.conditions if c.name in COSTS)

    def require(self, known: Iterable[str]) -> None:
        """Refuse names that are neither a metric nor a cost.

        Raises:
            UserError: with the nearest name.
        """
        names = [*known, *COSTS]
        for condition in self.conditions:
            if condition.name not in names:
                raise UserError(
                    f"--budget {str(self)!r}: there is no metric {condition.name!r} here",
                    fix=did_you_mean(condition.name, names),
                )

    def holds(self, measured: Mapping[str, Measured], *, sure: bool = False) -> bool:
        """Whether every condition on a metric holds; without evidence it does not."""
        return all(c.margin(measured[c.name], sure=sure) >= 0 for c in self.quality)


def parse_budget(text: str) -> Budget:
    """Read a budget expression.

    Raises:
        UserError: says where it stops making sense, and what could stand there.
    """
    conditions = []
    position = len(text) - len(text.lstrip())
    while True:
        condition, position = _condition(text, position)
        conditions.append(condition)
        if position == len(text):
            break
        joint = re.compile(r"and\b\s*").match(text, position)
        if joint is None:
            _refuse(text, position, "'and' or the end", "Join conditions with: and")
        position = joint.end()
    budget = Budget(tuple(conditions))
    if not budget.quality:
        raise UserError(
            f"--budget {text!r} bounds the cost alone, which a bad model meets best",
            fix=f"Bound a metric too: 'metric>=0.99 and {text.strip()}'",
        )
    for condition in budget.cost:
        if condition.factor is not None:
            _refuse(text, 0, f"a number for {condition.name!r}", "speedup relates to fp32 already")
    return budget


def parse_condition(text: str, source: str) -> Condition:
    """Read one condition of the same grammar, which stands alone.

    Args:
        source: where it comes from, for errors: ``--require``.

    Raises:
        UserError: says where it stops making sense, and what could stand there.
    """
    condition, position = _condition(text, len(text) - len(text.lstrip()), source)
    if position != len(text):
        _refuse(text, position, "its end", "Give one condition at a time", source)
    return condition


def _condition(text: str, position: int, source: str = _BUDGET) -> tuple[Condition, int]:
    name = _NAME.match(text, position)
    if name is None:
        fix = "Write it as: metric>=0.99"
        _refuse(text, position, "the name of a metric", fix, source)
    sign = text[name.end() : name.end() + 2]
    if sign not in (">=", "<="):
        fix = f"Write it as: {name[0].strip()}>=0.99"
        _refuse(text, name.end(), "'>=' or '<='", fix, source)
    start = name.end() + 2
    start += len(text[start:]) - len(text[start:].lstrip())
    bound = _BOUND.match(text, start)
    if bound is None:
        fix = "Write 0.99 (not 99 %), or 0.99*fp32-0.5"
        _refuse(text, start, "a number or a share of fp32", fix, source)
    comparison: Literal[">=", "<="] = ">=" if sign == ">=" else "<="
    if bound["number"] is not None:
        return Condition(name[0].strip(), comparison, float(bound["number"])), bound.end()
    offset = float(bound["offset"] or 0) * (-1 if bound["sign"] == "-" else 1)
    factor = float(bound["factor"] or 1)
    return Condition(name[0].strip(), comparison, offset, factor), bound.end()


def _refuse(text: str, position: int, wanted: str, fix: str, source: str = _BUDGET) -> NoReturn:
    found = text[position:].split() or [""]
    where = f"at {found[0]!r}" if found[0] else "at its end"
    raise UserError(f"{source} {text!r} {where}: expected {wanted}", fix=fix)
