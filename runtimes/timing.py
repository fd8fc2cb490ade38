"""Timing that says how sure it is: interleaved runs, percentiles with intervals, paired ratios.

**Interleaving.** All cases run once a round, in an order drawn anew each round, so that a machine
that heats up or gets busy slows all of them and not the last one.

**Percentiles.** With sorted latencies x(1) ≤ … ≤ x(n) and B ~ Binomial(n, p), the p-quantile lies
in [x(l), x(u)] with probability P(l ≤ B < u), whatever the distribution (David & Nagaraja, *Order
Statistics*, 3rd ed., section 7.1). l and u are chosen with at most α/2 outside on either side. No
u ≤ n exists while pⁿ > α/2: then that percentile is not known, and is not printed. The point is
x(⌈np⌉), the observed value at which a share p is reached. Runs are taken as independent; drifting
machines break that, which is what interleaving and the recorded load are for.

**Ratio.** reference / case is formed within each round and its median has an interval by the same
rule, so that drift between rounds cancels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Runner = Callable[[int], float]
"""``runner(round)`` runs a case once and returns its latency in seconds."""

PERCENTILES = (50, 90, 99)
CONFIDENCE = 0.95
SETTLED_RUNS = 10
SETTLED_SHARE = 0.02
UNSTEADY = 0.025
"""Coefficient of variation above which trtexec and we say that the clocks were not steady."""


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        warmup: rounds that are run and thrown away, at least.
        settle_s: throw away more, up to this many seconds, until the medians stand still
            (``settled``).
        min_runs: measured rounds at least.
        min_seconds: go on until the measured rounds have taken this long, all cases together.
        max_runs: never more rounds than this.
        seed: of the order of cases within each round.
    """

    warmup: int = 3
    min_runs: int = 30
    min_seconds: float = 3.0
    max_runs: int = 10_000
    seed: int = 0
    settle_s: float = 0.0


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Percentile:
    """One latency percentile; without enough runs its values are None and ``reason`` says so."""

    p: int
    value_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        if self.value_ms is None:
            return {"p": self.p, "value_ms": None, "reason": self.reason}
        return {
            "p": self.p,
            "value_ms": self.value_ms,
            "low_ms": self.low_ms,
            "high_ms": self.high_ms,
        }


@dataclass(frozen=True)
class Timing:
    """Latencies of one case, in the order of the rounds."""

    latencies_ms: tuple[float, ...]

    @property
    def percentiles(self) -> tuple[Percentile, ...]:
        return tuple(percentile(self.latencies_ms, p) for p in PERCENTILES)

    @property
    def throughput_hz(self) -> float:
        """Runs per second of time spent in this case, one run at a time."""
        return 1e3 * len(self.latencies_ms) / sum(self.latencies_ms)

    @property
    def variation(self) -> float:
        """Coefficient of variation: standard deviation over mean; 0 for a single run."""
        values = np.asarray(self.latencies_ms)
        return float(values.std(ddof=1) / values.mean()) if len(values) > 1 else 0.0


def interleave(
    runners: Sequence[Runner],
    plan: Plan,
    progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Timing]:
    """Run all cases in rounds until ``plan`` is satisfied; one ``Timing`` a runner.

    ``progress(done, total)`` counts rounds; total is 0 while time, not runs, decides the end.
    """
    order = np.random.default_rng(plan.seed)
    warm_up(runners, plan, clock)
    latencies: list[list[float]] = [[] for _ in runners]
    started = clock()
    done = 0
    while not _enough(done, clock() - started, plan):
        for position in order.permutation(len(runners)):
            latencies[position].append(1e3 * runners[position](done))
        done += 1
        if progress is not None:
            progress(done, 0 if plan.min_seconds else plan.min_runs)
    if progress is not None:
        progress(done, done)
    return [Timing(tuple(series)) for series in latencies]


def warm_up(
    runners: Sequence[Runner], plan: Plan, clock: Callable[[], float] = time.monotonic
) -> int:
    """Run what is thrown away, as ``plan`` says; the number of rounds."""
    seen: list[list[float]] = [[] for _ in runners]
    started, rounds = clock(), 0
    while rounds < plan.warmup or (not settled(seen) and clock() - started < plan.settle_s):
        for runner, spent in zip(runners, seen, strict=True):
            spent.append(runner(rounds))
        rounds += 1
    return rounds


def settled(series: Sequence[Sequence[float]]) -> bool:
    """Whether no series drifts any more.

    Each has at least 2 · ``SETTLED_RUNS`` values, and the median of the last ``SETTLED_RUNS`` is
    within ``SETTLED_SHARE`` of the median of as many before them.
    """
    window = SETTLED_RUNS
    return all(
        len(spent) >= 2 * window
        and abs(median(spent[-window:]) / median(spent[-2 * window : -window]) - 1) <= SETTLED_SHARE
        for spent in series
    )


def percentile(latencies_ms: Sequence[float], p: int, confidence: float = CONFIDENCE) -> Percentile:
    """The ``p``-th percentile with its interval, or the number of runs that it would take."""
    ordered = np.sort(np.asarray(latencies_ms, dtype=np.float64))
    ranks = interval_ranks(len(ordered), p / 100, confidence)
    if ranks is None:
        needed = runs_needed(p / 100, confidence)
        reason = f"p{p} needs at least {needed} runs, there are {len(ordered)}"
        return Percentile(p, reason=reason)
    point = quantile(ordered, p / 100)
    return Percentile(p, point, float(ordered[ranks[0] - 1]), float(ordered[ranks[1] - 1]))


def quantile(ordered: Floats, share: float) -> float:
    """x(⌈n·share⌉) of sorted values: the smallest one that a ``share`` of them does not exceed."""
    # 1e-9: n·share is a product of floats, and 100 · 0.29 must not round up to 30
    rank = max(1, math.ceil(len(ordered) * share - 1e-9))
    return float(ordered[rank - 1])


def interval_ranks(runs: int, share: float, confidence: float) -> tuple[int, int] | None:
    """Ranks l < u, counted from 1, of the interval around the ``share``-quantile; None if too few.

    l is the largest rank with P(B < l) ≤ α/2, u the smallest with P(B ≥ u) ≤ α/2.
    """
    tail = (1 - confidence) / 2
    below = binomial_cdf(runs, share)  # below[k] = P(B ≤ k)
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return (low, high) if low >= 1 and high <= runs else None


def runs_needed(share: float, confidence: float = CONFIDENCE) -> int:
    """Fewest runs with which ``interval_ranks`` exists: shareⁿ and (1 - share)ⁿ at most α/2."""
    tail = (1 - confidence) / 2
    estimate = math.ceil(math.log(tail) / math.log(max(share, 1 - share)))
    return next(
        n for n in range(max(1, estimate - 1), estimate + 3) if interval_ranks(n, share, confidence)
    )


def binomial_cdf(trials: int, share: float) -> Floats:
    """P(B ≤ k) for k = 0 … trials, summed from logarithms so that large ``trials`` stay exact."""
    k = np.arange(trials + 1, dtype=np.float64)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    choose = factorials[-1] - factorials - factorials[::-1]
    terms = choose + k * math.log(share) + (trials - k) * math.log1p(-share)
    cumulated: Floats = np.minimum(1.0, np.cumsum(np.exp(terms)))
    return cumulated


def unsteady_note(name: str, timing: Timing) -> str:
    """A sentence where the latencies of case ``name`` vary more than ``UNSTEADY``; else empty."""
    if timing.variation <= UNSTEADY:
        return ""
    return (
        f"{name}: latencies vary by {100 * timing.variation:.1f} % (standard deviation over mean, "
        f"above {100 * UNSTEADY:g} %): clocks or other load were not steady"
    )


def paired_ratio(
    reference_ms: Sequence[float], case_ms: Sequence[float], confidence: float = CONFIDENCE
) -> Interval | None:
    """Median over rounds of reference / case, above 1 where the case is faster.

    None where there are too few rounds for an interval.
    """
    ratios = np.sort(np.asarray(reference_ms, np.float64) / np.asarray(case_ms, np.float64))
    ranks = interval_ranks(len(ratios), 0.5, confidence)
    if ranks is None:
        return None
    return Interval(
        float(np.median(ratios)), float(ratios[ranks[0] - 1]), float(ratios[ranks[1] - 1])
    )


def _enough(done: int, elapsed_s: float, plan: Plan) -> bool:
    return done >= plan.max_runs or (done >= plan.min_runs and elapsed_s >= plan.min_seconds)
