import numpy as np
import pytest
from scipy import stats

from deploy.metrics.paired import detectable_loss, paired_interval, samples_needed
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
    assert ours.mean == pytest.approx(float((candidate - reference).mean()))
    assert ours.shows_loss


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        differences = random.normal(-0.2, 1.0, 30)
        interval = paired_interval(np.zeros(30), differences, confidence=0.9, seed=trial)
        hits += interval.low <= -0.2 <= interval.high
    assert 0.84 <= hits / 200 <= 0.96  # three standard errors of a binomial around 0.9


@pytest.mark.oracle
def test_detectable_loss_has_the_power_it_promises() -> None:
    random = np.random.default_rng(1)
    count, deviation = 25, 2.0
    loss = (stats.norm.ppf(0.95) + stats.norm.ppf(0.8)) * deviation / np.sqrt(count)
    found = 0
    for _ in range(2000):
        sample = random.normal(-loss, deviation, count)
        found += sample.mean() < -stats.norm.ppf(0.95) * deviation / np.sqrt(count)
    assert found / 2000 == pytest.approx(0.8, abs=0.03)
    exact = np.resize([deviation, -deviation], count - 1)
    assert detectable_loss(exact) == pytest.approx(loss, rel=0.05)


def test_planner_is_the_inverse_of_the_detectable_loss() -> None:
    differences = np.random.default_rng(2).normal(0.0, 0.7, 64)
    loss = detectable_loss(differences)
    assert samples_needed(float(differences.std(ddof=1)), loss * 1.0001) == 64


def test_equal_models_give_an_interval_of_zero() -> None:
    interval = paired_interval([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)
    assert not interval.shows_loss


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
