"""KL-R against a word-by-word evaluation of its definition, and where TensorRT's KL breaks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.observing.histogram import Histogram
from calibration.observing.statistics import TensorStatistics
from calibration.scales.entropy import entropy_threshold
from calibration.scales.klr import BINS, despiked, klr_threshold, levels_of
from calibration.scales.methods import SCALES, IntegerForm
from exporters.errors import UserError

Counts = NDArray[np.float64]


def definition(counts: Counts, maximum: float, levels: int) -> float:
    """Every step of the definition as plain loops over bins; no shared code, no vector tricks."""
    bins = len(counts)
    smooth = list(counts)
    for j in range(bins - 1):
        around = [counts[abs(j - 2)], counts[abs(j - 1)]]
        around += [counts[min(j + 1, bins - 1)], counts[min(j + 2, bins - 1)]]
        usual = max(sum(around) / 4, 1.0)
        if counts[j] > 4 * usual:
            smooth[j] = usual
    total = sum(smooth)
    first, running = 0, 0.0
    while running / total < 0.999:
        running += smooth[first]
        first += 1
    best, best_kept = math.inf, bins
    for kept in [*range(max(levels, first), bins, 16), bins]:
        step = kept / levels  # in bins
        level = [min(math.floor((j + 0.5) / step + 0.5), levels) for j in range(kept)]
        mass, sharers = [0.0] * (levels + 1), [0] * (levels + 1)
        for j in range(kept):
            mass[level[j]] += smooth[j]
            sharers[level[j]] += smooth[j] > 0
        tail = total - sum(smooth[:kept])
        mass[levels] += tail
        divergence = 8 * tail / total
        for j in range(kept):
            if smooth[j] > 0:
                q = mass[level[j]] / sharers[level[j]]
                divergence += smooth[j] / total * math.log(smooth[j] / q)
        if divergence < best - 1e-12:
            best, best_kept = divergence, kept
    return maximum * best_kept / bins


def histogram(values: NDArray[np.float64], bins: int = BINS) -> tuple[Counts, float]:
    magnitudes = np.abs(values[values != 0])
    top = float(magnitudes.max())
    return np.histogram(magnitudes, bins, (0, top))[0].astype(np.float64), top


@pytest.mark.parametrize("levels", [7, 15, 127, 255])
@pytest.mark.parametrize("shape", ["half normal", "laplace", "heavy tail", "saturated"])
def test_equals_the_definition(shape: str, levels: int) -> None:
    rng = np.random.default_rng(0)
    values = {
        "half normal": np.abs(rng.normal(size=50_000)),
        "laplace": rng.laplace(size=50_000),
        "heavy tail": rng.standard_t(3, size=50_000),
        "saturated": np.clip(rng.normal(2, 3, size=50_000), 0, 6),
    }[shape]
    counts, top = histogram(values, 1024)
    assert klr_threshold(counts, top, levels) == definition(counts, top, levels)


@given(st.integers(0, 2**32 - 1), st.sampled_from([127, 255]), st.floats(1e-3, 1e3))
def test_threshold_is_in_range_and_follows_the_unit(seed: int, levels: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.exponential(50, size=512)).astype(np.float64)
    threshold = klr_threshold(counts, 1.0, levels)
    assert 0 < threshold <= 1.0
    assert klr_threshold(counts, unit, levels) == pytest.approx(threshold * unit)
    kept = counts[: round(threshold * 512)].sum()
    assert kept >= 0.99 * counts.sum()  # the coverage floor is on the de-spiked counts


def test_one_bin_with_most_of_the_mass_ruins_the_entropy_search_but_not_klr() -> None:
    """A constant background: 90 % of the values are one number."""
    rng = np.random.default_rng(0)
    foreground = np.abs(rng.normal(size=100_000))
    foreground = foreground[foreground < 3]
    background = np.full(9 * len(foreground), 0.0312 * 3)
    counts, top = histogram(np.concatenate([foreground, background]))
    tensorrt = entropy_threshold(counts, levels=128) / len(counts)
    assert tensorrt < 0.2
    assert klr_threshold(counts, top, levels_of(8, signed=True)) / top > 0.8


def test_a_saturated_activation_keeps_its_ceiling() -> None:
    values = np.clip(np.random.default_rng(0).normal(3, 3, size=100_000), 0, 6)
    counts, top = histogram(values)
    assert klr_threshold(counts, top, levels_of(8, signed=False)) == top


def test_despiked_touches_spikes_only() -> None:
    counts = np.full(64, 10.0)
    counts[[0, 30]] = 1000.0
    counts[63] = 1000.0
    smooth = despiked(counts)
    assert smooth[0] == smooth[30] == 10.0
    assert smooth[63] == 1000.0  # what saturates there is real
    assert np.array_equal(np.delete(smooth, [0, 30, 63]), np.delete(counts, [0, 30, 63]))


def test_empty_histogram_keeps_the_range() -> None:
    assert klr_threshold(np.zeros(BINS), 2.5, 127) == 2.5


@pytest.mark.parametrize(
    ("counts", "maximum", "words"),
    [
        (np.array([1.0, np.nan]), 1.0, "finite counts"),
        (np.array([1.0, -1.0]), 1.0, "none negative"),
        (np.ones((2, 2)), 1.0, "one-dimensional"),
        (np.ones(8), 0.0, "positive range"),
        (np.ones(8), math.inf, "positive range"),
    ],
)
def test_refuses_what_is_no_histogram(counts: Counts, maximum: float, words: str) -> None:
    with pytest.raises(UserError, match=words):
        klr_threshold(counts, maximum, 127)


def test_levels() -> None:
    assert levels_of(8, signed=True) == 127
    assert levels_of(8, signed=False) == 255
    assert levels_of(4, signed=True) == 7


def statistics(values: NDArray[np.float64]) -> TensorStatistics:
    histogram = Histogram()
    histogram.add(values)
    return TensorStatistics(float(values.min()), float(values.max()), values.size, histogram)


@pytest.mark.parametrize("form", IntegerForm)
def test_the_scale_method_sees_what_the_quantizer_sees(form: IntegerForm) -> None:
    """Zeros after ReLU do not count; the range is within what was seen."""
    rng = np.random.default_rng(0)
    values = np.maximum(rng.laplace(size=200_000), 0)
    dense = values[values > 0]
    bounds = SCALES.get("kl-r").range_of(statistics(values), form)
    assert bounds == SCALES.get("kl-r").range_of(statistics(dense), form)
    assert bounds.low == 0
    signed = form is IntegerForm.INT8_SYMMETRIC
    expected = klr_threshold(*histogram(dense), levels_of(8, signed=signed))
    assert bounds.high == pytest.approx(expected, rel=0.05)  # other bins, the same answer


def test_the_scale_method_on_signed_data_keeps_both_sides() -> None:
    values = np.random.default_rng(0).laplace(size=100_000)
    seen = statistics(values)
    for form in IntegerForm:
        bounds = SCALES.get("kl-r").range_of(seen, form)
        assert seen.minimum <= bounds.low < 0 < bounds.high <= seen.maximum
    silent = SCALES.get("kl-r").range_of(statistics(np.zeros(10)), IntegerForm.UINT8_ASYMMETRIC)
    assert (silent.low, silent.high) == (0, 0)
