"""McNemar and Tango against scipy, against a numeric maximum likelihood, and a published case."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from deploy.metrics.mcnemar import difference_bounds, mcnemar, p_values
from exporters.errors import UserError


@pytest.mark.oracle
@given(st.integers(0, 60), st.integers(0, 60))
def test_the_exact_p_value_is_the_binomial_tests(b: int, c: int) -> None:
    exact, mid = p_values(b, c)
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert exact == pytest.approx(expected, rel=1e-9)  # sums of floats
    seen = stats.binom.pmf(min(b, c), b + c, 0.5) if b + c else 0.0
    assert mid == pytest.approx(1.0 if b + c == 0 else expected - seen * (0.5 if b == c else 1))


def test_published_case() -> None:
    """Airway hyper-responsiveness before and after a transplantation (Bentur et al., 2009).

    Fagerland, Lydersen and Laake ("Statistical Analysis of Contingency Tables", 2017, chapter 8):
    7 of 21 children changed one way, 1 the other; Tango's interval is -0.517 to -0.026.
    """
    found = mcnemar(7, 1, 21)
    assert found.difference == pytest.approx(-6 / 21)
    assert (found.low, found.high) == pytest.approx((-0.517, -0.026), abs=5e-4)  # as printed
    assert found.p_exact == pytest.approx(0.0703, abs=5e-5)
    assert found.p_mid == pytest.approx(0.0391, abs=5e-5)


def score_by_optimizer(difference: float, b: int, c: int, n: int) -> float:
    """The score statistic with the likelihood maximised numerically, from its definition."""
    least, most = max(0.0, -difference), (1 - difference) / 2

    def loss(q: float) -> float:
        cells = ((b, q), (c, q + difference), (n - b - c, 1 - 2 * q - difference))
        return -sum(k * math.log(max(p, 1e-300)) for k, p in cells if k)

    q = optimize.minimize_scalar(
        loss, bounds=(least, most), method="bounded", options={"xatol": 1e-12}
    ).x
    return float((c - b - n * difference) / math.sqrt(n * (2 * q + difference * (1 - difference))))


@pytest.mark.oracle
@pytest.mark.parametrize(("b", "c", "n"), [(2, 12, 50), (7, 1, 21), (3, 3, 100), (1, 0, 44)])
def test_bounds_are_where_the_score_test_turns(b: int, c: int, n: int) -> None:
    z = stats.norm.ppf(0.975)
    low, high = difference_bounds(b, c, n)
    # the optimizer finds q to 1e-7, and z moves by less than 1e-4 with it
    assert score_by_optimizer(low, b, c, n) == pytest.approx(z, abs=1e-3)
    assert score_by_optimizer(high, b, c, n) == pytest.approx(-z, abs=1e-3)


@given(st.integers(1, 5000))
def test_no_difference_among_n_samples_has_a_closed_form(n: int) -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    low, high = difference_bounds(0, 0, n)
    assert (low, high) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), rel=1e-9)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
def test_swapping_the_models_mirrors_the_interval(b: int, c: int, more: int) -> None:
    low, high = difference_bounds(b, c, b + c + more)
    assert difference_bounds(c, b, b + c + more) == pytest.approx((-high, -low), abs=1e-12)
    assert -1 <= low <= (c - b) / (b + c + more) <= high <= 1


def test_it_covers_as_often_as_it_promises() -> None:
    """4,000 sets of 60 samples: 95 % with a standard error of 0.34 %; four of them are allowed."""
    random = np.random.default_rng(7)
    only_reference, only_candidate = 0.06, 0.03
    drawn = random.multinomial(
        60, [only_reference, only_candidate, 1 - only_reference - only_candidate], size=4000
    )
    covered = [
        low <= only_candidate - only_reference <= high
        for low, high in (difference_bounds(int(b), int(c), 60) for b, c, _ in drawn)
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="3 and 4 samples cannot differ among 5"):
        mcnemar(3, 4, 5)
    with pytest.raises(UserError, match="no samples"):
        difference_bounds(0, 0, 0)
