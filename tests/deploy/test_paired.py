"""Intervals against scipy, against brute force over every resample, and against their promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from deploy.metrics import paired
from deploy.metrics.paired import (
    detectable_loss,
    mean,
    paired_interval,
    pooled_interval,
    samples_needed,
    share_interval,
)
from deploy.metrics.quantiles import share_bounds, student_t
from exporters.errors import UserError


@pytest.mark.oracle
def test_interval_equals_scipys_bca_bootstrap() -> None:
    random = np.random.default_rng(3)
    reference = random.normal(30.0, 5.0, 40)
    candidate = reference - random.exponential(
        0.4, 40
    )  # skewed, so that BCa differs from percentile
    ours = paired_interval(reference, candidate)
    theirs = stats.bootstrap(
        (candidate - reference,), np.mean, n_resamples=9999, method="BCa", rng=1
    ).confidence_interval
    # two independent resamplings of 9999 means scatter by about one percent of the width
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)
    assert ours.value == pytest.approx(float((candidate - reference).mean()))
    assert ours.method == paired.BCA
    assert ours.shows_loss


@pytest.mark.oracle
def test_a_metric_of_sums_has_scipys_interval_too() -> None:
    """Agreement: a ratio of sums, whose samples have different sizes."""
    random = np.random.default_rng(8)
    total = random.integers(50, 500, 30).astype(float)
    equal = np.floor(total * random.beta(30, 2, 30))
    rows = np.stack([equal, total], axis=1)
    ours = pooled_interval(rows, mean)
    theirs = stats.bootstrap(
        (equal, total),
        lambda e, t, axis: e.sum(axis) / t.sum(axis),
        n_resamples=9999,
        method="BCa",
        paired=True,
        vectorized=True,
        rng=1,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(equal.sum() / total.sum())
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], abs=0.05 * width)


def test_resampled_values_are_those_of_all_possible_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four samples there are 256 draws: the distribution is known without any chance."""
    rows = np.array([[1.0, 2.0], [3.0, 3.0], [0.0, 5.0], [2.0, 2.0]])
    every = np.array([mean(rows[list(d)].sum(0)) for d in itertools.product(range(4), repeat=4)])
    monkeypatch.setattr(paired, "RESAMPLES", 100_000)
    drawn = paired._resampled(4, paired.sums_of(rows, mean), np.random.default_rng(0))
    for share in (0.05, 0.5, 0.95):
        # the share of draws at or below a value scatters by less than 0.16 % in 100000 of them
        value = np.quantile(every, share, method="inverted_cdf")
        assert (drawn <= value + 1e-12).mean() == pytest.approx(
            (every <= value + 1e-12).mean(), abs=0.006
        )


def test_few_samples_have_students_interval() -> None:
    """Against the textbook formula, with the standard deviation itself for the jackknife."""
    differences = np.array([-0.4, -0.1, -0.3, 0.05, -0.2])
    interval = paired_interval(np.zeros(5), differences)
    error = differences.std(ddof=1) / math.sqrt(5)
    assert interval.method == paired.STUDENT
    # 2.776: the 97.5 % point of Student's t with 4 degrees of freedom in any table
    assert interval.low == pytest.approx(differences.mean() - 2.776445 * error, abs=1e-6)
    assert interval.high == pytest.approx(differences.mean() + 2.776445 * error, abs=1e-6)
    assert interval.deviation == pytest.approx(differences.std(ddof=1))


@pytest.mark.parametrize("count", [3, 8, 30])
def test_interval_covers_the_truth_as_often_as_it_says(count: int) -> None:
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(150):
        differences = random.normal(-0.2, 1.0, count)
        interval = paired_interval(np.zeros(count), differences, confidence=0.9, seed=trial)
        hits += interval.low <= -0.2 <= interval.high
    assert 0.83 <= hits / 150 <= 0.97  # three standard errors of a binomial around 0.9


def test_detectable_loss_is_shown_as_often_as_it_promises() -> None:
    random = np.random.default_rng(1)
    count, deviation = 12, 2.0
    exact = random.normal(size=count)
    exact = (exact - exact.mean()) / exact.std(ddof=1) * deviation
    loss = detectable_loss(exact)
    shown = 0
    for _ in range(2000):
        shown += paired_interval(np.zeros(count), random.normal(-loss, deviation, count)).shows_loss
    # the sum of two t quantiles is slightly cautious: 80 to 84 % at 12 samples
    assert 0.78 <= shown / 2000 <= 0.86


def test_planner_is_the_inverse_of_the_detectable_loss() -> None:
    differences = np.random.default_rng(2).normal(0.0, 0.7, 400)
    loss = detectable_loss(differences)
    # the planner has the normal's quantiles, which t's reach from above: 0.3 % at 400
    assert samples_needed(float(differences.std(ddof=1)), loss) == pytest.approx(400, rel=0.01)


def test_equal_models_give_an_interval_of_zero() -> None:
    interval = paired_interval([1.5, 2.0, 3.0], [1.5, 2.0, 3.0])
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)
    assert not interval.shows_loss
    assert math.isnan(interval.detectable)


def test_all_of_a_few_yes_or_no_answers_do_not_prove_everything() -> None:
    """Rule of three: 30 of 30 alike leave room for a tenth that is not."""
    for interval in (share_interval(np.ones(30)), paired_interval(np.ones(30), np.ones(30))):
        assert interval.method == paired.BINOMIAL
        assert interval.high - interval.low >= 0.115
        # with this loss, one sample of 30 at least is affected in four sets of five
        assert (1 - interval.detectable) ** 30 == pytest.approx(0.2)
    assert share_interval(np.ones(30)).samples_to_decide(0.95) == 72  # 0.95^72 < 0.025


@pytest.mark.oracle
@given(st.integers(1, 400), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_share_bounds_are_scipys(count: int, data: st.DataObject, confidence: float) -> None:
    hits = data.draw(st.integers(0, count))
    theirs = stats.binomtest(hits, count).proportion_ci(confidence, method="exact")
    assert share_bounds(hits, count, confidence) == pytest.approx(
        (theirs.low, theirs.high), abs=1e-9
    )


@pytest.mark.oracle
@given(st.floats(0.001, 0.999), st.integers(1, 500))
def test_student_t_is_scipys(probability: float, freedom: int) -> None:
    # at one degree of freedom the quantile reaches 318 and its relative error counts
    assert student_t(probability, freedom) == pytest.approx(
        stats.t.ppf(probability, freedom), rel=1e-7, abs=1e-9
    )


def test_how_many_samples_would_decide() -> None:
    random = np.random.default_rng(5)
    differences = random.normal(-0.5, 1.0, 40)
    interval = paired_interval(np.zeros(40), differences)
    needed = interval.samples_to_decide(-0.6)
    expected = (2.8016 * interval.deviation / abs(interval.value + 0.6)) ** 2  # 1.96 + 0.8416
    assert needed == pytest.approx(expected, abs=1)
    assert interval.samples_to_decide(interval.value) == 0


@pytest.mark.parametrize(
    ("reference", "candidate", "words"),
    [
        ([1.0], [1.0], "1 pairs say nothing"),
        ([1.0, 2.0], [1.0], "shapes"),
        ([1.0, 2.0], [1.0, float("nan")], "NaN or infinite"),
    ],
)
def test_what_cannot_be_compared_is_said(
    reference: list[float], candidate: list[float], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        paired_interval(reference, candidate)
