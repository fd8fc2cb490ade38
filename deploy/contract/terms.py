"""The terms of a contract, in the language of budgets: ``"miou>=0.99*fp32"``.

    term      = [ "each class" ] condition
    condition = name (">=" | "<=") bound                 as in calibration.sensitivity.budget
    bound     = number | number "*fp32" | "fp32" [("+" | "-") number]

A name is that of a metric, ``metric`` for the task's own, or one of the resources below.

| resource      | what is bounded                                                        |
|---------------|------------------------------------------------------------------------|
| ``pNN_ms``    | that percentile of the latency, by its order-statistic interval        |
| ``speedup``   | ratio to the reference of the same interleaved run, by its interval    |
| ``frame_j``   | joules per frame, all that the board's source measures, by its bounds  |
| ``engine_mb`` | size of the engine, 10^6 bytes                                         |
| ``model_mb``  | size of the model file with its weights, 10^6 bytes                    |
| ``memory_mib``| largest resident memory while it was timed                             |

A preset is a term with a name. MLPerf Inference calls a result valid at 99 %, in its stricter
category at 99.9 %, of the accuracy of the FP32 model (MLPerf Inference rules, "Benchmarks").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from calibration.sensitivity.budget import SPEEDUP, Condition, parse_condition
from exporters.errors import UserError, did_you_mean

METRIC = "metric"
"""The name of the metric that ``verify.metric`` names, or of the task's own."""

FRAME_J, ENGINE_MB, MODEL_MB, MEMORY_MIB = "frame_j", "engine_mb", "model_mb", "memory_mib"
PRESETS = {"mlperf-99": "metric>=0.99*fp32", "mlperf-99.9": "metric>=0.999*fp32"}

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)_ms")
_EACH_CLASS = re.compile(r"\s*each\s+class\s+")
_RESOURCES = (SPEEDUP, FRAME_J, ENGINE_MB, MODEL_MB, MEMORY_MIB)


@dataclass(frozen=True)
class Term:
    """One condition that has to hold, of the whole or of every class."""

    condition: Condition
    each_class: bool = False

    def __str__(self) -> str:
        return f"{'each class ' if self.each_class else ''}{self.condition}"

    @property
    def name(self) -> str:
        return self.condition.name

    @property
    def percentile(self) -> float | None:
        """99.0 for ``p99_ms``; None for another name."""
        found = _PERCENTILE.fullmatch(self.name)
        return float(found[1]) if found else None

    @property
    def is_resource(self) -> bool:
        return self.name in _RESOURCES or self.percentile is not None


def parse_term(text: str, source: str = "--require") -> Term:
    """Read one term.

    Raises:
        UserError: says where it stops making sense, and what could stand there.
    """
    prefix = _EACH_CLASS.match(text)
    condition = parse_condition(text[prefix.end() :] if prefix else text, source)
    term = Term(condition, bool(prefix))
    if condition.factor not in (None, 1.0) and condition.offset:
        raise UserError(
            f"{source} {text!r} bounds by a share and by a difference at once",
            fix="Make two terms of it: one with 0.99*fp32, one with fp32-0.5",
        )
    if term.is_resource and (condition.factor is not None or prefix):
        raise UserError(
            f"{source} {text!r}: {term.name} takes a number, of the whole file",
            fix=f"Write it as: {term.name}{condition.comparison}10; for a ratio there is speedup",
        )
    if condition.factor is not None and condition.comparison == "<=":
        raise UserError(
            f"{source} {text!r} asks to stay below FP32; of every metric here more is better",
            fix=f"Write {condition.name}>=…, or a number to stay below",
        )
    if condition.name.endswith(("_ms", "_mb", "_mib", "_j")) and not term.is_resource:
        known = [*_RESOURCES, "p50_ms", "p90_ms", "p99_ms"]
        raise UserError(
            f"{source} {text!r}: there is no resource {condition.name!r}",
            fix=did_you_mean(condition.name, known),
        )
    return term


def terms_of(preset: str | None, require: Iterable[str], source: str = "--require") -> list[Term]:
    """The preset's term, then every other one.

    Raises:
        UserError: an unknown preset, or a term that cannot be read.
    """
    if preset is not None and preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}", fix=did_you_mean(preset, PRESETS))
    texts = [*([PRESETS[preset]] if preset is not None else []), *require]
    return [parse_term(text, source) for text in texts]
