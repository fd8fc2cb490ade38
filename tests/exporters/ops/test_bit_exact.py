"""Every operator gives the same bits in NumPy, PyTorch and ONNX Runtime, over its whole range."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import exporters.ops as ops
from exporters.ops.dyadic import ALIGNED_BITS
from exporters.ops.hadamard import block_hadamard
from exporters.ops.residual import RESIDUAL_LIMIT
from exporters.trace import require_known_operators
from tests.exporters.ops.harness import all_agree, dyadics, in_numpy, in_onnxruntime, model, rows

LEVELS = st.sampled_from([127, 31, 7])
BUDGET = settings(max_examples=25, deadline=None)


@BUDGET
@given(rows(56), LEVELS)
def test_quantize(z: Any, levels: int) -> None:
    q, _, _ = all_agree(ops.di_quantize, [z], levels=levels)
    assert (q[np.broadcast_to(~z.any(-1, keepdims=True), q.shape)] == 128).all()
    assert q.min() >= 128 - levels
    assert q.max() <= 128 + levels


@BUDGET
@given(rows(54), st.sampled_from([(127, 150, 1), (31, 65, 2), (7, 35, 4)]))
def test_quantize_cut(z: Any, rounding: tuple[int, int, int]) -> None:
    levels, steps, parts = rounding
    attributes = {"levels": levels, "steps": steps, "parts": parts}
    q, mantissa, exponent = all_agree(ops.di_quantize_cut, [z], **attributes)
    peak = np.abs(z).max(-1, keepdims=True)
    end = peak * (levels * parts / steps)
    real = (q.astype(float) - 128) * mantissa * 2.0**-exponent
    error = np.abs(real - np.clip(z, -end, end))
    assert (error <= peak * (0.5 * parts / steps + 2.0**-14)).all()


@BUDGET
@given(rows(31), rows(15, count=1))
def test_rms_norm_cut(h: Any, gain: Any) -> None:
    sizes = {"channels": 32, "gain_exponent": 12}
    all_agree(ops.di_rms_norm_cut, [h, gain[0, 0]], **sizes, levels=7, steps=35, parts=4)
    # nothing is cut: the same as without
    whole = all_agree(ops.di_rms_norm_cut, [h, gain[0, 0]], **sizes, levels=7, steps=7, parts=1)
    for value, right in zip(
        whole, in_numpy(ops.di_rms_norm, [h, gain[0, 0]], **sizes, levels=7), strict=True
    ):
        np.testing.assert_array_equal(value, right)


@BUDGET
@given(rows(31), rows(15, count=1))
def test_wide_norm_has_256_times_the_steps(h: Any, gain: Any) -> None:
    sizes = {"channels": 32, "gain_exponent": 12}
    high, low, mantissa, exponent = all_agree(ops.di_rms_norm_wide, [h, gain[0, 0]], **sizes)
    steps = (high.astype(np.int64) - 128) * 256 + low.astype(np.int64) - 128
    z = h * gain[0, 0]
    peak = np.maximum(np.abs(z).max(-1, keepdims=True), 1)
    assert (np.abs(steps * (peak / 32512) - z) <= 0.5001 * peak / 32512).all()
    _, narrow, narrow_exponent = in_numpy(ops.di_rms_norm, [h, gain[0, 0]], **sizes, levels=127)
    wide = mantissa * 2.0**-exponent * 256
    np.testing.assert_allclose(wide, narrow * 2.0**-narrow_exponent, rtol=2.0**-13)


@BUDGET
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 64, 1537]))
def test_products_of_wide_rows_are_exact(seed: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    high, low = (rng.integers(0, 256, (1, 3, depth)).astype(np.uint8) for _ in range(2))
    weight = rng.integers(-127, 128, (depth, 5)).astype(np.int8)
    scale = rng.integers(1, 2**15, 5)
    (z,) = all_agree(ops.di_matmul_wide, [high, low, weight, scale])
    x = (high.astype(np.int64) - 128) * 256 + low.astype(np.int64) - 128
    np.testing.assert_array_equal(z, x @ weight.astype(np.int64) * scale)


@BUDGET
@given(rows(60, width=48), st.sampled_from([0, 1, 4]))
def test_mixing_is_a_product_with_hadamard_blocks(x: Any, bits: int) -> None:
    (y,) = all_agree(functools.partial(ops.mixed, bits=bits, rank=3), [x])
    assert np.abs(y).max() <= np.abs(x).max() + 2**bits
    size = 1 << bits
    matrix = block_hadamard(size).astype(np.int64)
    np.testing.assert_array_equal(matrix @ matrix.T, size * np.eye(size, dtype=np.int64))
    halves = np.where(x >= 0, size // 2, -(size // 2))
    scaled = (np.abs(x + halves) >> bits) * np.sign(x)
    right = scaled.reshape(*x.shape[:-1], -1, size) @ matrix
    np.testing.assert_array_equal(y, right.reshape(x.shape))


@BUDGET
@given(rows(31), rows(15, count=1), LEVELS)
def test_rms_norm(h: Any, gain: Any, levels: int) -> None:
    all_agree(ops.di_rms_norm, [h, gain[0, 0]], channels=32, gain_exponent=12, levels=levels)


@BUDGET
@given(rows(30), rows(15, count=2))
def test_layer_norm(h: Any, parameters: Any) -> None:
    gain, bias = parameters[0]
    all_agree(ops.di_layer_norm, [h, gain, bias], channels=32, gain_exponent=12, levels=127)


@BUDGET
@given(rows(62, low=1), rows(62, low=1))
def test_dyadic_fit(numerator: Any, denominator: Any) -> None:
    all_agree(ops.dyadic_fit, [numerator, denominator])


@BUDGET
@given(dyadics(), dyadics())
def test_dyadic_numbers(one: Any, other: Any) -> None:
    mantissa, _ = all_agree(ops.dyadic_product, [*one, *other])
    assert mantissa.min() >= 1 << 14
    assert mantissa.max() <= 1 << 15
    (aligned,) = all_agree(ops.dyadic_align, [*one, np.array([25])])
    assert aligned.max() < 1 << ALIGNED_BITS
    all_agree(ops.dyadic_common, [*one])


@BUDGET
@given(rows(62, low=0))
def test_integer_root_is_the_floor(n: Any) -> None:
    (root,) = all_agree(ops.isqrt, [n])
    assert (root * root <= n).all()
    assert ((root + 1) * (root + 1) > n).all()


@BUDGET
@given(rows(61, low=0), dyadics(low=-20, high=75))
def test_exponential(distance: Any, scale: Any) -> None:
    (e,) = all_agree(ops.di_exp, [distance, *scale])
    assert (e[distance == 0] == 1 << 30).all()


@BUDGET
@given(rows(60), dyadics(high=70), rows(26, count=1, low=0), st.integers(1, 32))
def test_softmax(scores: Any, scale: Any, values: Any, seen: int) -> None:
    visible = np.arange(32) < np.minimum(seen + np.arange(4)[:, None], 32)
    high, low, _, _ = all_agree(ops.di_clipped_softmax, [scores, *scale, visible, values])
    hidden = ~np.broadcast_to(visible, high.shape)
    assert not high[hidden].any()
    assert not low[hidden].any()


@BUDGET
@given(rows(55), rows(61), rows(55), dyadics(high=75))
def test_swiglu(gate: Any, argument: Any, up: Any, scale: Any) -> None:
    y, _ = all_agree(ops.di_swiglu, [gate, argument, up, *scale])
    assert np.abs(y).max() <= 1 << 51


@BUDGET
@given(rows(46), rows(14), rows(14))
def test_rotary(z: Any, cosine: Any, sine: Any) -> None:
    all_agree(ops.di_rotary, [z, cosine[0, :, :16], sine[0, :, :16]])


@BUDGET
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 64, 1537]), st.booleans())
def test_matrix_product(seed: int, depth: int, extreme: bool) -> None:
    random = np.random.default_rng(seed)
    x = (
        random.choice([1, 255], (1, 5, depth))
        if extreme
        else random.integers(1, 256, (1, 5, depth))
    )
    w = (
        random.choice([-127, 127], (depth, 7))
        if extreme
        else random.integers(-127, 128, (depth, 7))
    )
    scale = random.integers(1, 1 << 15, 7)
    (z,) = all_agree(ops.di_matmul, [x.astype(np.uint8), w.astype(np.int8), scale])
    np.testing.assert_array_equal(z, (x - 128) @ w * scale)


@BUDGET
@given(rows(40), rows(15, count=1), dyadics(low=-60, high=60))
def test_bias(z: Any, bias: Any, scale: Any) -> None:
    all_agree(ops.di_bias, [z, bias[0, 0], *scale], offset=3)


@BUDGET
@given(rows(30), rows(46), dyadics(low=-5, high=70))
def test_residual_addition_saturates(h: Any, z: Any, scale: Any) -> None:
    (sum_,) = all_agree(ops.di_residual_add, [h, z, *scale], offset=2)
    assert np.abs(sum_).max() <= RESIDUAL_LIMIT


def test_function_calls_and_written_out_bodies_give_the_same_bits() -> None:
    z = np.random.default_rng(0).integers(-(2**50), 2**50, (1, 6, 32))
    called = in_onnxruntime(ops.di_quantize, [z], levels=31)
    written = in_onnxruntime(ops.di_quantize, [z], inline=True, levels=31)
    for a, b in zip(called, written, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", sorted(ops.OPERATORS))
def test_a_name_is_no_operator_of_onnx(name: str) -> None:
    assert not onnx.defs.has(name, "")
    assert ops.OPERATORS[name].body.__doc__


def test_the_functions_hold_no_float_and_no_operator_that_errs_on_int64() -> None:
    z = ("int64", 3)
    outputs = [("uint8", 3), z, z]
    proto = model(ops.di_quantize, [z], outputs, levels=127)
    require_known_operators(proto)
    kinds = {node.op_type for function in proto.functions for node in function.node}
    assert not kinds & {"Max", "Min", "Sign", "ReduceMax", "Round", "Exp", "Sqrt"}
    for function in proto.functions:
        for node in function.node:
            for attribute in node.attribute:
                assert attribute.t.data_type not in (1, 10, 11, 16)


def test_a_python_integer_is_a_constant_on_either_side() -> None:
    x = ops.NUMPY.constant([1, 2, 3])
    assert (5 - x).raw.tolist() == [4, 3, 2]
    assert (2 * x + 1).raw.tolist() == [3, 5, 7]
    assert in_numpy(lambda v: -abs(v), [np.array([-2, 2])])[0].tolist() == [-2, -2]
