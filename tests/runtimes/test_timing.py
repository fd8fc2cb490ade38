from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from runtimes.timing import (
    Plan,
    Timing,
    binomial_cdf,
    interleave,
    interval_ranks,
    paired_ratio,
    percentile,
    quantile,
    runs_needed,
)


@pytest.mark.oracle
@pytest.mark.parametrize("trials", [1, 7, 368, 20_000])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_binomial_distribution_equals_scipy(trials: int, share: float) -> None:
    expected = stats.binom.cdf(np.arange(trials + 1), trials, share)
    # sums of up to 20 000 float64 terms
    np.testing.assert_allclose(binomial_cdf(trials, share), expected, atol=1e-10)


@pytest.mark.oracle
@given(
    runs=st.integers(1, 2000),
    share=st.sampled_from([0.5, 0.9, 0.99]),
    confidence=st.floats(0.5, 0.99),
)
def test_ranks_cover_as_promised_and_no_rank_is_wasted(
    runs: int, share: float, confidence: float
) -> None:
    ranks = interval_ranks(runs, share, confidence)
    tail = (1 - confidence) / 2
    slack = 1e-9  # rounding of the two ways to the same sum
    if ranks is None:
        # then the largest, or the smallest, run is no bound at this confidence
        assert share**runs > tail - slack or (1 - share) ** runs > tail - slack
        return
    low, high = ranks
    binomial = stats.binom(runs, share)
    assert binomial.cdf(low - 1) <= tail + slack
    assert binomial.sf(high - 1) <= tail + slack
    assert binomial.cdf(low) > tail - slack, "a larger lower rank would do"
    assert binomial.sf(high - 2) > tail - slack, "a smaller upper rank would do"


@pytest.mark.oracle
@pytest.mark.parametrize(("p", "runs"), [(50, 40), (90, 60), (99, 400)])
def test_intervals_hold_the_true_percentile_as_often_as_they_say(p: int, runs: int) -> None:
    """Simulated latencies with a long tail, whose percentiles are known exactly."""
    law = stats.lognorm(s=0.5, scale=10)
    truth = float(law.ppf(p / 100))
    generator = np.random.default_rng(1)
    repetitions = 1500
    held = 0
    for _ in range(repetitions):
        found = percentile(tuple(law.rvs(runs, random_state=generator)), p)
        assert found.low_ms is not None
        assert found.high_ms is not None
        held += found.low_ms <= truth <= found.high_ms
    # 4 standard deviations of a coverage of 0.95 estimated from 1500 repetitions
    assert held / repetitions >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / repetitions)


def test_a_percentile_without_enough_runs_is_not_given() -> None:
    found = percentile(tuple(np.linspace(1, 2, 367)), 99)
    assert found.value_ms is None
    assert found.reason == "p99 needs at least 368 runs, there are 367"
    assert found.to_json() == {"p": 99, "value_ms": None, "reason": found.reason}
    assert percentile(tuple(np.linspace(1, 2, 368)), 99).value_ms is not None


@pytest.mark.parametrize(("share", "runs"), [(0.5, 6), (0.9, 36), (0.99, 368)])
def test_runs_needed(share: float, runs: int) -> None:
    assert runs_needed(share) == runs
    assert interval_ranks(runs, share, 0.95) is not None
    assert interval_ranks(runs - 1, share, 0.95) is None


@pytest.mark.oracle
@given(st.lists(st.floats(0.1, 1e3), min_size=1, max_size=300), st.sampled_from([50, 90, 99]))
def test_the_point_is_the_empirical_quantile(values: list[float], p: int) -> None:
    ordered = np.sort(np.asarray(values))
    assert quantile(ordered, p / 100) == np.quantile(ordered, p / 100, method="inverted_cdf")


@given(st.lists(st.floats(0.1, 1e3), min_size=6, max_size=500), st.sampled_from([50, 90, 99]))
def test_the_point_lies_in_its_interval(values: list[float], p: int) -> None:
    found = percentile(values, p)
    if found.value_ms is not None:
        assert found.low_ms is not None
        assert found.high_ms is not None
        assert found.low_ms <= found.value_ms <= found.high_ms


def test_every_round_runs_every_case_once_in_changing_order() -> None:
    calls: list[tuple[str, int]] = []

    def runner(name: str):
        def run(index: int) -> float:
            calls.append((name, index))
            return {"a": 0.001, "b": 0.002, "c": 0.003}[name]

        return run

    plan = Plan(warmup=2, min_runs=20, min_seconds=0.0)
    timings = interleave([runner("a"), runner("b"), runner("c")], plan)
    assert [t.latencies_ms for t in timings] == [(1.0,) * 20, (2.0,) * 20, (3.0,) * 20]
    measured = calls[2 * 3 :]
    rounds = [measured[i : i + 3] for i in range(0, len(measured), 3)]
    for index, turn in enumerate(rounds):
        assert sorted(name for name, _ in turn) == ["a", "b", "c"]
        assert {number for _, number in turn} == {index}
    assert len({tuple(name for name, _ in turn) for turn in rounds}) > 3


def test_time_and_runs_both_must_be_reached() -> None:
    ticks = itertools.count()  # one second between two looks at the clock
    plan = Plan(warmup=0, min_runs=2, min_seconds=5.0)
    timings = interleave([lambda _: 0.001], plan, clock=lambda: float(next(ticks)))
    assert len(timings[0].latencies_ms) == 4  # looks: start, 1, 2, 3, 4, 5
    capped = Plan(warmup=0, min_runs=2, min_seconds=1e9, max_runs=7)
    assert len(interleave([lambda _: 0.001], capped)[0].latencies_ms) == 7


def test_progress_counts_rounds() -> None:
    seen: list[tuple[int, int]] = []
    plan = Plan(warmup=1, min_runs=3, min_seconds=0.0)
    interleave([lambda _: 0.001], plan, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3), (3, 3)]


def test_ratio_is_paired_so_drift_cancels() -> None:
    drift = np.linspace(1, 10, 50)  # the machine gets ten times slower during the run
    ratio = paired_ratio(tuple(3.0 * drift), tuple(drift))
    assert ratio is not None
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((3, 3, 3))
    assert paired_ratio((1, 2, 3), (1, 2, 3)) is None


def test_throughput_is_runs_per_busy_second() -> None:
    assert Timing((10.0, 20.0, 30.0)).throughput_hz == pytest.approx(50.0)
