"""Scale methods against brute force, ONNX Runtime, and a literal reading of TensorRT's entropy."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from calibration.observing.histogram import Histogram
from calibration.observing.statistics import TensorStatistics
from calibration.scales.entropy import FIRST_CANDIDATE, entropy_threshold
from calibration.scales.methods import (
    SCALES,
    SILENT_SCALE,
    IntegerForm,
    Percentile,
    Range,
    Scale,
    rounded_up_to_half,
)
from exporters.errors import UserError

INT8, UINT8 = IntegerForm.INT8_SYMMETRIC, IntegerForm.UINT8_ASYMMETRIC
METHODS = SCALES.names()


def seen(values: NDArray[np.float32]) -> TensorStatistics:
    histogram = Histogram()
    histogram.add(values)
    return TensorStatistics(float(values.min()), float(values.max()), values.size, histogram)


def gaussian(count: int = 20_000, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def quantized(values: NDArray[np.float32], scale: Scale) -> NDArray[np.float64]:
    """Round, clip and back, in float64."""
    info = np.iinfo(scale.form.dtype)
    integers = np.clip(np.rint(values / scale.scale) + scale.zero_point, info.min, info.max)
    return (integers - scale.zero_point) * scale.scale


# ------------------------------------------------------------------ integer forms


def test_symmetric_int8_maps_the_largest_magnitude_to_127() -> None:
    scale = Scale.of(Range(-2.54, 1.0), INT8)
    assert scale.zero_point == 0
    assert scale.scale == pytest.approx(0.02, rel=1e-6)


def test_asymmetric_uint8_uses_every_level_and_represents_zero() -> None:
    scale = Scale.of(Range(-1.0, 4.1), UINT8)
    assert scale.scale == pytest.approx(0.02, rel=1e-6)
    assert scale.zero_point == 50
    assert quantized(np.zeros(1, np.float32), scale)[0] == 0.0


def test_after_relu_the_zero_point_is_zero_so_that_relu_fuses() -> None:
    assert Scale.of(Range(0.0, 3.0), UINT8).zero_point == 0


@pytest.mark.parametrize("form", [INT8, UINT8])
def test_a_silent_tensor_gets_a_small_normal_scale(form: IntegerForm) -> None:
    assert Scale.of(Range(0.0, 0.0), form).scale == SILENT_SCALE


@pytest.mark.oracle
@given(st.floats(-100, 0, width=32), st.floats(2.0**-7, 100, width=32))
def test_scales_equal_onnxruntimes(low: float, high: float) -> None:
    from onnxruntime.quantization.quant_utils import compute_scale_zp

    bounds = np.float32(low), np.float32(high)
    zero, scale = compute_scale_zp(*bounds, np.uint8(0), np.uint8(255))
    ours = Scale.of(Range(low, high), UINT8)
    assert ours.scale == pytest.approx(float(scale), rel=1e-6)
    assert abs(ours.zero_point - int(zero)) <= 1  # -low/scale may sit on a half in one precision
    zero, scale = compute_scale_zp(*bounds, np.int8(-127), np.int8(127), symmetric=True)
    assert Scale.of(Range(low, high), INT8).scale == pytest.approx(float(scale), rel=1e-6)


@given(hnp.arrays(np.float64, 5, elements=st.floats(1e-9, 6e4)))
def test_half_scales_are_fp16_numbers_not_below(scales: NDArray[np.float64]) -> None:
    rounded = rounded_up_to_half(scales)
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))
    assert (rounded >= scales).all()
    normal = scales > 2.0**-14
    assert (rounded[normal] <= scales[normal] * (1 + 2.0**-10)).all()


# ------------------------------------------------------------------ every method


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", [INT8, UINT8])
def test_the_range_holds_zero_and_stays_within_what_was_seen(
    method: str, form: IntegerForm
) -> None:
    for values in (gaussian(), np.abs(gaussian()), gaussian() + 10, -np.abs(gaussian())):
        bounds = SCALES.get(method).range_of(seen(values), form)
        assert bounds.low <= 0.0 <= bounds.high
        assert bounds.low < bounds.high
        assert bounds.low >= min(values.min(), 0) - 1e-6
        assert bounds.high <= max(values.max(), 0) + 1e-6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", [INT8, UINT8])
def test_a_tensor_of_zeros_breaks_nothing(method: str, form: IntegerForm) -> None:
    bounds = SCALES.get(method).range_of(seen(np.zeros(100, np.float32)), form)
    assert (bounds.low, bounds.high) == (0.0, 0.0)


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"unknown scale method 'entropie'\. Did you mean 'entropy'\?"
    ):
        SCALES.get("entropie")


def test_minmax_clips_nothing() -> None:
    values = gaussian()
    bounds = SCALES.get("minmax").range_of(seen(values), UINT8)
    assert (bounds.low, bounds.high) == (values.min(), values.max())


# ------------------------------------------------------------------ percentile


@pytest.mark.parametrize("percent", [90.0, 99.0, 99.9])
def test_percentile_leaves_that_share_outside(percent: float) -> None:
    values = gaussian()
    outside = 1 - percent / 100
    # the edge lies somewhere within a bin: a few values of 20 000 may fall on either side
    tolerance = 10 / len(values)
    symmetric = Percentile(percent).range_of(seen(values), INT8)
    assert np.mean(np.abs(values) > symmetric.high) == pytest.approx(outside, abs=tolerance)
    bounds = Percentile(percent).range_of(seen(values), UINT8)
    assert np.mean(values > bounds.high) == pytest.approx(outside / 2, abs=tolerance)
    assert np.mean(values < bounds.low) == pytest.approx(outside / 2, abs=tolerance)


def test_percentile_after_relu_cuts_only_the_top() -> None:
    values = np.maximum(gaussian(), 0)
    bounds = Percentile(99.0).range_of(seen(values), UINT8)
    assert bounds.low == 0.0
    assert bounds.high == pytest.approx(np.quantile(values, 0.99), abs=0.01)


# ------------------------------------------------------------------ mean squared error


@pytest.mark.parametrize("form", [INT8, UINT8])
@pytest.mark.parametrize("shape", ["normal", "relu", "outlier", "heavy"])
def test_mse_is_as_good_as_brute_force_on_the_raw_values(form: IntegerForm, shape: str) -> None:
    values = gaussian()
    if shape == "relu":
        values = np.maximum(values, 0)
    elif shape == "outlier":
        values[0] = 60.0
    elif shape == "heavy":
        values = values**3

    def error(bounds: Range) -> float:
        return float(np.square(quantized(values, Scale.of(bounds, form)) - values).mean())

    full = Range.around_zero(float(values.min()), float(values.max()))
    best = min(
        error(Range(full.low * a, full.high * b))
        for a in np.linspace(0.02, 1, 25)
        for b in np.linspace(0.02, 1, 25)
    )
    ours = error(SCALES.get("mse").range_of(seen(values), form))
    # bins and candidates are finite: within 5 % of the best of 625 ranges
    assert ours <= best * 1.05


# ------------------------------------------------------------------ entropy


def literal_divergences(counts: NDArray[np.float64], levels: int) -> list[float]:
    """The definition of the toolkit, bin by bin, in plain Python."""
    bins = [float(c) for c in counts]
    bins[0] = bins[1]
    found = []
    for kept in range(FIRST_CANDIDATE, len(bins) + 1):
        group = [j * levels // kept if bins[j] else -1 for j in range(kept)]
        mass: Counter[int] = Counter()
        for j, g in enumerate(group):
            mass[g] += bins[j]  # type: ignore[assignment]
        size = Counter(group)
        q = [0.0 if g < 0 else mass[g] / size[g] for g in group]
        p = bins[:kept]
        p[-1] += sum(bins[kept:])
        total_p, total_q = sum(p), sum(q)
        divergence = 0.0
        for a, b in zip(p, q, strict=True):
            if a > 0 and (b == 0 or total_q == 0):
                divergence = float("inf")
                break
            if a > 0:
                divergence += a / total_p * np.log((a / total_p) / (b / total_q))
        found.append(divergence)
    return found


@pytest.mark.parametrize("levels", [128, 256])
@settings(max_examples=25)  # the literal form is slow
@given(
    counts=hnp.arrays(np.int64, st.integers(129, 300), elements=st.integers(0, 60)),
    scale=st.sampled_from([1.0, 0.37]),
)
def test_entropy_equals_the_literal_definition(
    levels: int, counts: NDArray[np.int64], scale: float
) -> None:
    histogram = counts * scale
    histogram[-1] = max(histogram[-1], 1.0)
    ours = entropy_threshold(histogram, levels=levels)
    literal = literal_divergences(histogram, levels)
    if not np.isfinite(literal).any():
        assert ours == len(histogram)
        return
    assert ours >= FIRST_CANDIDATE
    # equal up to rounding: several candidates may tie
    assert literal[ours - FIRST_CANDIDATE] == pytest.approx(min(literal), abs=1e-9)
    later = literal[ours - FIRST_CANDIDATE + 1 :]
    assert all(value > min(literal) - 1e-9 for value in later)


def test_entropy_of_short_or_empty_histograms_keeps_all() -> None:
    assert entropy_threshold(np.zeros(4096), levels=128) == 0
    assert entropy_threshold(np.ones(100), levels=128) == 100


def test_entropy_clips_a_long_tail() -> None:
    values = gaussian() ** 3
    bounds = SCALES.get("entropy").range_of(seen(values), INT8)
    assert bounds.high < 0.5 * np.abs(values).max()
