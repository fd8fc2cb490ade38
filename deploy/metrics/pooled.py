"""Metrics of a whole set as functions of sums, and what every single sample said.

| metric          | what a sample adds                        | of the sums                  |
|-----------------|-------------------------------------------|------------------------------|
| ``agreement…``  | equal elements, all elements              | their ratio                  |
| ``recall``      | boxes found again, boxes                  | their ratio                  |
| ``precision``   | the same with the models exchanged        | their ratio                  |
| ``sqnr_db``     | signal ``sum r²``, noise ``sum (r - c)²`` | ``10 log10(signal / noise)`` |
| ``cosine``      | ``sum r c``, ``sum r²``, ``sum c²``       | ``rc / sqrt(r² c²)``         |
| a task's own    | evidence for either model                 | `deploy.metrics.task`        |

The reference agrees with itself wholly, so that 1 minus an agreement or a cosine is a loss. An SQNR
has no such counterpart and is its own value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from deploy.metrics.paired import (
    Float,
    PairedInterval,
    Pool,
    Statistic,
    each_alone,
    set_interval,
    share_interval,
    sums_of,
)
from exporters.errors import UserError

EXACT_DB = 200.0
"""Where SQNR ends: float32 has 150 dB, more is an exact copy."""

EXACT, LOST = "the copy is exact", "nothing of the signal is left"
"""Why an infinite SQNR has no interval: ``why_not``."""


class ClassPools(NamedTuple):
    """A metric of one class; ``samples`` are the indices of those in which it occurs."""

    pools: tuple[Pool, Pool]
    samples: list[int]


@dataclass(frozen=True)
class PairedMetric:
    """One metric over a set, with what the single samples say about it.

    Attributes:
        output: of the model; empty for a metric of the task.
        reference: the reference's value over the set; None where it has none (SQNR).
        candidate: the candidate's.
        interval: of candidate minus reference, or of the candidate where there is no reference;
            None where none could be computed, ``why_not`` then says it.
        sample_names: of the samples that were judged.
        values: of each of them, as ``interval``; NaN or infinite where one has nothing to say.
    """

    name: str
    output: str
    unit: str
    reference: float | None
    candidate: float
    interval: PairedInterval | None
    sample_names: tuple[str, ...]
    values: tuple[float, ...]
    why_not: str = ""
    note: str = ""
    pools: tuple[Pool, Pool] | None = field(default=None, repr=False, compare=False)
    class_pools: Mapping[str, ClassPools] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def alone(self) -> PairedInterval | None:
        """Interval of the candidate's own value; None where the task's evidence gives none."""
        return None if self.pools is None else _try(self.samples, self.pools[1], 0.0)[0]

    @cached_property
    def kept(self) -> PairedInterval | None:
        """Interval of the share of the reference's value that the candidate keeps."""
        if self.reference is None or not self.reference > 0:
            return None  # a share of nothing
        if self.pools is None:
            return self._kept_of_whole(self.interval, self.reference)
        of_reference, of_candidate = self.pools

        def share(times: Float) -> Float:
            with np.errstate(invalid="ignore", divide="ignore"):
                kept: Float = of_candidate(times) / of_reference(times)
            return kept

        return _try(self.samples, share, 0.0)[0]

    @staticmethod
    def _kept_of_whole(interval: PairedInterval | None, whole: float) -> PairedInterval | None:
        """``1 + difference / reference``: where only the difference has an interval."""
        if interval is None:
            return None
        shares = {key: 1 + getattr(interval, key) / whole for key in ("value", "low", "high")}
        spread = {key: getattr(interval, key) / whole for key in ("detectable", "deviation")}
        return replace(interval, **shares, **spread)

    @cached_property
    def classes(self) -> tuple[PairedMetric, ...]:
        """The same number of single classes, over the samples in which each occurs."""
        return tuple(
            metric_of_task(
                name, self.unit, found.pools, [self.sample_names[i] for i in found.samples]
            )
            for name, found in self.class_pools.items()
        )

    @property
    def samples(self) -> int:
        return len(self.sample_names)

    @property
    def loss(self) -> float:
        """Reference minus candidate; NaN where there is no reference."""
        return math.nan if self.reference is None else self.reference - self.candidate

    @property
    def is_task_metric(self) -> bool:
        return not self.output


def ratio(sums: Float) -> Float:
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Float = sums[..., 0] / sums[..., 1]
    return result


def decibels(sums: Float) -> Float:
    """SQNR, at most ``EXACT_DB`` so that one exact sample among others has a finite number."""
    signal, noise = sums[..., 0], sums[..., 1]
    least = signal * 10 ** (-EXACT_DB / 10)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Float = 10 * np.log10(signal / np.maximum(noise, least))
    return result


def cosine(sums: Float) -> Float:
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Float = sums[..., 0] / np.sqrt(sums[..., 1]) / np.sqrt(sums[..., 2])
    return result


_STATISTICS: dict[str, tuple[Statistic, str, float | None]] = {
    "agreement": (ratio, "", 1.0),
    "agreement_occupied": (ratio, "", 1.0),
    "recall": (ratio, "", 1.0),
    "precision": (ratio, "", 1.0),
    "sqnr_db": (decibels, "dB", None),
    "cosine": (cosine, "", 1.0),
}


def metric_of_output(
    name: str, output: str, rows: Float, sample_names: Sequence[str], value: float
) -> PairedMetric:
    """A metric between the outputs of the two models.

    Args:
        name: of the table above.
        rows: ``[n, k]``, what each sample adds.
        value: over all samples.
    """
    statistic, unit, perfect = _STATISTICS[name]
    shift = perfect or 0.0
    one_each = perfect is not None and statistic is ratio and bool((rows[:, 1] == 1).all())
    interval: PairedInterval | None = None
    why_not = ""
    if math.isinf(value):
        why_not = EXACT if value > 0 else LOST
    elif one_each:
        interval = _shifted(share_interval(rows[:, 0]), -shift)
    else:
        interval, why_not = _try(len(rows), sums_of(rows, statistic), shift)
    if interval is not None and perfect is not None:
        interval = replace(interval, high=min(interval.high, 0.0))  # nothing agrees more than fully
    return PairedMetric(
        name=name,
        output=output,
        unit=unit,
        reference=perfect,
        candidate=value,
        interval=interval,
        sample_names=tuple(sample_names),
        values=tuple(float(v) - shift for v in statistic(rows)),
        why_not=why_not,
    )


def metric_of_task(
    name: str,
    unit: str,
    pools: tuple[Pool, Pool],
    sample_names: Sequence[str],
    class_pools: Mapping[str, ClassPools] | None = None,
) -> PairedMetric:
    """A metric that both models have by themselves.

    Args:
        pools: the value of a set of the samples, of the reference and of the candidate.
        class_pools: the same of single classes, by their names.
    """
    of_reference, of_candidate = pools
    count = len(sample_names)

    def difference(times: Float) -> Float:
        gap: Float = of_candidate(times) - of_reference(times)
        return gap

    interval, why_not = _try(count, difference, 0.0)
    once = np.ones((1, count))
    return PairedMetric(
        name=name,
        output="",
        unit=unit,
        reference=float(of_reference(once)[0]),
        candidate=float(of_candidate(once)[0]),
        interval=interval,
        sample_names=tuple(sample_names),
        values=tuple(each_alone(count, difference).tolist()),
        why_not=why_not,
        pools=pools,
        class_pools=class_pools or {},
    )


def _try(count: int, pool: Pool, shift: float) -> tuple[PairedInterval | None, str]:
    try:
        return _shifted(set_interval(count, pool), -shift), ""
    except UserError as error:
        return None, error.message


def _shifted(interval: PairedInterval, by: float) -> PairedInterval:
    return replace(
        interval, value=interval.value + by, low=interval.low + by, high=interval.high + by
    )
