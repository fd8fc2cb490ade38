"""The one-pass histogram against one that knew the range from the start."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from calibration.observing.histogram import BINS, SMALLEST_EXPONENT, Histogram, exponent_of

# Subnormal results of the scaling would flush; magnitudes of real activations stay far above.
_VALUES = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-12)
_CHUNKS = st.lists(
    hnp.arrays(np.float32, st.integers(1, 40), elements=_VALUES), min_size=1, max_size=6
)


def at_once(values: NDArray[np.float32], exponent: int) -> NDArray[np.int64]:
    """numpy's histogram on exact float64 edges of the given range."""
    edges = np.arange(-BINS, BINS + 1) * (2.0**exponent / BINS)
    return np.histogram(values.astype(np.float64), bins=edges)[0]


@given(_CHUNKS)
def test_doubling_equals_a_histogram_on_the_final_range(chunks: list[NDArray[np.float32]]) -> None:
    histogram = Histogram()
    for chunk in chunks:
        histogram.add(chunk)
    everything = np.concatenate(chunks)
    assert histogram.exponent == exponent_of(float(np.abs(everything).max()))
    np.testing.assert_array_equal(histogram.counts, at_once(everything, histogram.exponent))
    assert histogram.zeros == np.count_nonzero(everything == 0)


@given(_CHUNKS)
def test_order_and_grouping_do_not_matter(chunks: list[NDArray[np.float32]]) -> None:
    forward, backward, together = Histogram(), Histogram(), Histogram()
    for chunk in chunks:
        forward.add(chunk)
    for chunk in reversed(chunks):
        backward.add(chunk)
    together.add(np.concatenate(chunks))
    assert forward == backward == together


@given(_CHUNKS, _CHUNKS)
def test_a_sum_is_the_histogram_of_both(
    first: list[NDArray[np.float32]], second: list[NDArray[np.float32]]
) -> None:
    a, b, both = Histogram(), Histogram(), Histogram()
    a.add(np.concatenate(first))
    b.add(np.concatenate(second))
    both.add(np.concatenate(first + second))
    assert a + b == both


def test_half_of_the_bins_cover_the_largest_magnitude() -> None:
    histogram = Histogram()
    histogram.add(np.array([1.0001], np.float32))
    assert histogram.exponent == 1
    assert np.flatnonzero(histogram.magnitudes)[-1] >= BINS // 2


@pytest.mark.parametrize("largest", [0.5, 1.0, 4.0, 3.9999998])
def test_the_largest_value_has_a_bin(largest: float) -> None:
    histogram = Histogram()
    histogram.add(np.array([largest, -largest], np.float32))
    assert histogram.total == 2
    assert histogram.counts[-1] + histogram.counts[0] <= 2
    assert 2.0**histogram.exponent > largest


def test_magnitudes_fold_both_sides() -> None:
    histogram = Histogram()
    histogram.add(np.array([0.1, -0.1, 0.3], np.float32))
    filled = np.flatnonzero(histogram.magnitudes)
    assert histogram.magnitudes[filled].tolist() == [2.0, 1.0]
    np.testing.assert_allclose((filled + 0.5) * histogram.width, [0.1, 0.3], atol=histogram.width)


def test_centres_are_where_the_values_are() -> None:
    histogram = Histogram()
    values = np.array([-0.75, 0.2, 0.9], np.float32)
    histogram.add(values)
    found = histogram.centres[histogram.counts > 0]
    np.testing.assert_allclose(found, values, atol=histogram.width / 2)


def test_nothing_and_zeros_need_no_range() -> None:
    histogram = Histogram()
    histogram.add(np.zeros((2, 3), np.float32))
    histogram.add(np.zeros(0, np.float32))
    assert histogram.exponent == SMALLEST_EXPONENT
    assert (histogram.total, histogram.zeros) == (6, 6)


def test_scaling_keeps_the_distribution() -> None:
    histogram = Histogram()
    histogram.add(np.array([0.0, 0.5, 0.5], np.float32))
    doubled = histogram.scaled(2.0)
    assert (doubled.total, doubled.zeros) == (6, 2)
    assert histogram.total == 3
