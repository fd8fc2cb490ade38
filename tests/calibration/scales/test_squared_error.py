"""Squared errors by prefix sums against rounding every bin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.scales.squared_error import SquaredErrors

BINS = 256


@given(
    st.integers(0, 2**32 - 1),
    st.floats(1e-6, 1e6),
    st.floats(0.01, 4.0),
    st.sampled_from([(-128, 127), (0, 255), (-8, 7)]),
    st.booleans(),
)
def test_equals_rounding_every_bin(
    seed: int, width: float, share: float, limits: tuple[int, int], signed: bool
) -> None:
    """To 1e-9 of the distribution's energy, which float64's cancellation is far below."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.exponential(20, size=2 * BINS)) * (rng.random(2 * BINS) < 0.7)
    zero = BINS if signed else 0
    centres = (np.arange(2 * BINS) + 0.5 - zero) * width
    low, high = limits
    step = share * 2 * BINS * width / (high - low)
    zero_point = int(rng.integers(low, high + 1))

    integers = np.clip(np.rint(centres / step) + zero_point, low, high)
    expected = np.sum(counts * ((integers - zero_point) * step - centres) ** 2)

    found = SquaredErrors(counts, width, zero).of([step, 2 * step], [zero_point] * 2, low, high)
    energy = float(np.sum(counts * centres**2))
    assert found[0] == pytest.approx(expected, rel=1e-6, abs=1e-9 * energy)


def test_what_is_represented_exactly_costs_nothing() -> None:
    """Centres on the grid: 0.5, 1.5, …, with a step of a half."""
    errors = SquaredErrors(np.full(64, 1e6), 1.0, 0)
    found = errors.of([0.5], [0], 0, 255)
    assert 0 <= found[0] < 1e-3  # of 64e6 values with an energy of 8.7e10
