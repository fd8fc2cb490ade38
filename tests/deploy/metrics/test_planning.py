"""The planner against brute force, against published numbers, and as its own inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from deploy.metrics.mcnemar import difference_bounds
from deploy.metrics.planning import (
    Level,
    loss_of_labels,
    loss_of_mean,
    samples_for_labels,
    samples_for_mean,
    samples_for_none,
)
from exporters.errors import UserError


@pytest.mark.parametrize(("deviation", "loss"), [(2.5, 0.5), (1.0, 0.9), (10.0, 2.0)])
def test_planned_samples_show_the_loss_as_often_as_promised(deviation: float, loss: float) -> None:
    """4,000 sets by brute force: 80 % with a standard error of 0.63 %; scipy's t intervals."""
    count = samples_for_mean(deviation, loss)
    sets = np.random.default_rng(0).normal(-loss, deviation, (4000, count))
    reach = stats.t.ppf(0.975, count - 1) * sets.std(axis=1, ddof=1) / math.sqrt(count)
    # (t + t) sd / sqrt(n) stands for the noncentral t; it promises a little too little for small n
    assert np.mean(sets.mean(axis=1) + reach < 0) == pytest.approx(0.8, abs=0.04)


@given(st.floats(0.01, 100), st.integers(2, 5000))
def test_samples_and_loss_are_inverse(deviation: float, samples: int) -> None:
    loss = loss_of_mean(deviation, samples)
    assert samples_for_mean(deviation, loss * (1 + 1e-9)) <= samples
    if samples > 2:
        assert samples_for_mean(deviation, loss * (1 - 1e-6)) >= samples


def test_labels_by_brute_force() -> None:
    """2,000 sets, Tango's interval: 80 % with a standard error of 0.9 %."""
    discordant, loss = 0.1, 0.05
    count = samples_for_labels(discordant, loss)
    b, c = (discordant + loss) / 2, (discordant - loss) / 2
    drawn = np.random.default_rng(1).multinomial(count, [b, c, 1 - b - c], size=2000)
    shown = [difference_bounds(int(lost), int(won), count)[1] < 0 for lost, won, _ in drawn]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.04)


def test_labels_as_published() -> None:
    """Connor's formula, worked by hand for psi = 0.25 and a difference of 0.1."""
    expected = (1.959964 * 0.5 + 0.841621 * math.sqrt(0.25 - 0.01)) ** 2 / 0.01
    assert samples_for_labels(0.25, 0.1) == math.ceil(expected) == 194


@given(st.floats(0.001, 1), st.integers(2, 100_000))
def test_labels_are_their_own_inverse(discordant: float, samples: int) -> None:
    loss = loss_of_labels(discordant, samples)
    if not math.isnan(loss):
        assert samples_for_labels(discordant, loss) <= samples
        assert loss <= discordant


@given(st.floats(1e-4, 0.5))
def test_equal_answers_bound_the_rest(share: float) -> None:
    count = samples_for_none(share)
    # Clopper-Pearson's bound of 0 of n, from scipy's beta distribution
    assert stats.beta.ppf(0.975, 1, count) <= share * (1 + 1e-9)
    if count > 1:
        assert stats.beta.ppf(0.975, 1, count - 1) > share * (1 - 1e-9)


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(UserError, match="must be positive, not 0"):
        samples_for_mean(1.0, 0.0)
    with pytest.raises(UserError, match=r"0.2 cannot be lost while the two differ on 0.1"):
        samples_for_labels(0.1, 0.2)
    with pytest.raises(UserError, match="1 samples say nothing about spread"):
        loss_of_mean(1.0, 1)
    with pytest.raises(UserError, match=r"power is 1\.2"):
        Level(power=1.2)
    with pytest.raises(UserError, match="more than 100,000,000 samples would be needed"):
        samples_for_mean(1e9, 1e-3)
