"""How far the integer operators are from float64: the bounds that their docstrings state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import exporters.ops as ops
from exporters.ops.dyadic import dyadic
from exporters.ops.matmul import MAX_BIAS_SHIFT
from tests.exporters.ops.harness import dyadics, in_numpy, rows

BUDGET = settings(max_examples=40, deadline=None)
LOG2_E = 1.4426950408889634
STEP_EPS = 2.0**-15 + 2.0**-29


def real(mantissa: Any, exponent: Any) -> Any:
    return mantissa * 2.0 ** (-exponent.astype(np.float64))


@BUDGET
@given(rows(62, low=1), rows(62, low=1))
def test_dyadic_fit(numerator: Any, denominator: Any) -> None:
    mantissa, exponent = in_numpy(ops.dyadic_fit, [numerator, denominator])
    exact = numerator.astype(np.float64) / denominator
    assert np.abs(real(mantissa, exponent) / exact - 1).max() <= STEP_EPS
    assert mantissa.min() >= 1 << 14
    assert mantissa.max() <= 1 << 16


@BUDGET
@given(dyadics(), dyadics())
def test_dyadic_product(one: Any, other: Any) -> None:
    found = real(*in_numpy(ops.dyadic_product, [*one, *other]))
    assert np.abs(found / (real(*one) * real(*other)) - 1).max() <= 2.0**-15


@BUDGET
@given(dyadics(low=0, high=60))
def test_dyadic_alignment(scale: Any) -> None:
    (aligned,) = in_numpy(ops.dyadic_align, [*scale, np.array([20])])
    exact = np.minimum(real(*scale) * 2.0**20, 2.0**26 - 1)
    assert np.abs(aligned - exact).max() <= 0.5


@BUDGET
@given(rows(55), st.sampled_from([127, 31, 7]))
def test_quantize(z: Any, levels: int) -> None:
    q, mantissa, exponent = in_numpy(ops.di_quantize, [z], levels=levels)
    peak = np.abs(z).max(-1, keepdims=True)
    error = np.abs((q.astype(np.float64) - 128) * real(mantissa, exponent) - z)
    # a float64 of 2^55 is itself off by a few units, hence the last term
    assert (error <= peak * (0.5 / levels + STEP_EPS) + 16).all()


def test_the_quantization_error_is_that_of_one_rounding() -> None:
    """Two roundings, of value and zero point, would give 0.40 steps in place of 0.289."""
    z = np.random.default_rng(1).integers(-(2**40), 2**40, (1, 64, 1024))
    q, mantissa, exponent = in_numpy(ops.di_quantize, [z], levels=7)
    steps = (q.astype(np.float64) - 128) - z / real(mantissa, exponent)
    assert np.sqrt((steps**2).mean()) == pytest.approx(1 / np.sqrt(12), rel=0.01)


@BUDGET
@given(rows(30, width=64), st.integers(0, 2**32 - 1))
def test_rms_norm(h: Any, seed: int) -> None:
    gain = np.random.default_rng(seed).integers(1 << 9, 1 << 14, 64)
    attributes = {"channels": 64, "gain_exponent": 12, "levels": 127}
    q, mantissa, exponent = in_numpy(ops.di_rms_norm, [h, gain], **attributes)
    rms = np.sqrt((h.astype(np.float64) ** 2).mean(-1, keepdims=True))
    exact = h / np.maximum(rms, 1e-300) * gain / 2**12
    found = (q.astype(np.float64) - 128) * real(mantissa, exponent)
    peak = np.abs(exact).max(-1, keepdims=True)
    assert (np.abs(found - exact) <= peak * (0.5 / 127 + 1e-4)).all()


def test_layer_norm() -> None:
    random = np.random.default_rng(2)
    h = random.integers(-(2**24), 2**24, (1, 16, 64)) + 2**23
    gain, bias = random.integers(1 << 9, 1 << 14, 64), random.integers(-(1 << 12), 1 << 12, 64)
    attributes = {"channels": 64, "gain_exponent": 12, "levels": 127}
    q, mantissa, exponent = in_numpy(ops.di_layer_norm, [h, gain, bias], **attributes)
    centred = h - h.mean(-1, keepdims=True)
    exact = (centred / centred.std(-1, keepdims=True) * gain + bias) / 2**12
    found = (q.astype(np.float64) - 128) * real(mantissa, exponent)
    peak = np.abs(exact).max(-1, keepdims=True)
    assert (np.abs(found - exact) <= peak * (0.5 / 127 + 1e-4)).all()


def test_exponential() -> None:
    distance = np.linspace(0, 21.4, 20001)
    mantissa, exponent = dyadic(LOG2_E * 2.0**-20)
    inputs = [np.round(distance * 2**20).astype(np.int64)[None], *_scale(mantissa, exponent)]
    (e,) = in_numpy(ops.di_exp, inputs)
    relative = np.abs(e[0] / 2.0**30 / np.exp(-distance) - 1)
    # beyond e^-14 the last bit of a 30-bit value adds to the step of the table
    bound = 0.00136 + 2.0**-15 * distance * LOG2_E + 0.5 / (np.exp(-distance) * 2**30)
    assert (relative <= bound).all()
    assert relative[distance < 10].max() < 0.0018


def _scale(mantissa: int, exponent: int) -> tuple[Any, Any]:
    return np.array([[mantissa]]), np.array([[exponent]])


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0, 8.0])
def test_softmax(spread: float) -> None:
    random = np.random.default_rng(3)
    scores = random.normal(0, spread, (1, 64, 256))
    values = random.integers(1 << 10, 1 << 20, (1, 1, 256))
    mantissa, exponent = dyadic(LOG2_E * 2.0**-24)
    inputs = [
        np.round(scores * 2**24).astype(np.int64),
        np.full((1, 64, 1), mantissa),
        np.full((1, 64, 1), exponent),
        np.ones((64, 256), bool),
        values,
    ]
    high, low, row_mantissa, row_exponent = in_numpy(ops.di_clipped_softmax, inputs)
    found = (high.astype(np.float64) * 256 + low) * real(row_mantissa, row_exponent)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    exact = weights / weights.sum(-1, keepdims=True) * values
    largest = exact.max(-1, keepdims=True)
    error = np.abs(found - exact)
    # twice the exponential's error (in p and in the sum), half a step, what is cut off e
    bound = 2 * 0.0018 * exact + largest * (0.5 / 65535 + STEP_EPS) + values * 2.0**-19
    assert (error <= bound).all()


@pytest.mark.parametrize("size", [0.5, 5.0, 40.0])
def test_swiglu(size: float) -> None:
    random = np.random.default_rng(4)
    gate, up = random.normal(0, size, (2, 1, 64, 128))
    mantissa, exponent = dyadic(LOG2_E * 2.0**-30)
    as_integer = [np.round(x * 2**30).astype(np.int64) for x in (gate, gate, up)]
    scale = [np.full((1, 64, 1), mantissa), np.full((1, 64, 1), exponent)]
    y, shift = in_numpy(ops.di_swiglu, [*as_integer, *scale])
    found = y * 2.0 ** (shift - 15.0 - 60)
    exact = gate / (1 + np.exp(-gate)) * up
    # the sigmoid is off by up to 7e-4, both factors by half of their last of 18 bits
    peak = np.abs(gate).max(-1, keepdims=True) * np.abs(up).max(-1, keepdims=True)
    assert (np.abs(found - exact) <= 7e-4 * np.abs(gate * up) + peak * 2.0**-17).all()


def test_bias_and_residual_are_within_half_a_unit() -> None:
    random = np.random.default_rng(5)
    z = random.integers(-(2**40), 2**40, (1, 8, 32))
    bias = random.integers(-(2**14), 2**14, 32)
    scale = random.integers(1 << 14, 1 << 15, (1, 8, 1)), random.integers(15, 30, (1, 8, 1))
    (biased,) = in_numpy(ops.di_bias, [z, bias, *scale], offset=-10)
    exact = z + bias * 2.0 ** (scale[1] - 10) / scale[0]
    assert np.abs(biased - exact).max() <= 0.5 + 1e-3  # float64 resolves 2^-12 at 2^40
    assert (scale[1] - 10).max() < MAX_BIAS_SHIFT
    h = random.integers(-(2**20), 2**20, (1, 8, 32))
    (added,) = in_numpy(ops.di_residual_add, [h, z, *scale], offset=16)
    exact = h + z * scale[0] / 2.0 ** (scale[1] + 16)
    inside = np.abs(exact) < 2**30 - 1
    assert inside.mean() > 0.5
    assert np.abs(added - exact)[inside].max() <= 0.5
