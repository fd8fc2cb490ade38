"""Every kernel against the NumPy run of its function: the same bits over the documented ranges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporters.ops import (
    NUMPY,
    GraphBackend,
    di_clipped_softmax,
    di_matmul,
    di_quantize,
    di_residual_add,
    di_rms_norm,
    di_rms_norm_wide,
    di_rotary,
    di_swiglu,
)

Ints = NDArray[np.int64]
CLAIMED = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
seeds = st.integers(0, 2**32 - 1)
widths = st.integers(1, 150)


def rows(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> Ints:
    """Rows of every size, among them one of zeros and one that is full to the limit."""
    values = rng.integers(-(2**bits) + 1, 2**bits, shape)
    values >>= rng.integers(0, bits + 1, (*shape[:-1], 1))
    flat = values.reshape(-1, shape[-1])
    flat[rng.integers(len(flat))] = 0
    flat[rng.integers(len(flat))] = rng.choice([-1, 1], shape[-1]) * (2**bits - 1)
    return values


def scales(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Ints, Ints]:
    lead = (*shape[:-1], 1)
    return rng.integers(2**14, 2**15 + 1, lead), rng.integers(-5, 75, lead)


def check(
    compiled: Path, operator: Callable[..., Any], arrays: list[NDArray[Any]], **attributes: int
) -> None:
    """The graph of one call, run with the kernels, against the algorithm in NumPy."""
    constants = [NUMPY.constant(array, str(array.dtype)) for array in arrays]
    right = operator(*constants, **attributes)
    right = right if isinstance(right, tuple) else (right,)
    graph = GraphBackend()
    inputs = [
        graph.input(f"x{i}", str(array.dtype), [None] * array.ndim)
        for i, array in enumerate(arrays)
    ]
    found = operator(*inputs, **attributes)
    for i, value in enumerate(found if isinstance(found, tuple) else (found,)):
        raw = right[i].raw
        graph.output(value, f"y{i}", str(raw.dtype), [None] * raw.ndim)
    proto = graph.model("one")
    del proto.functions[:]  # so that it cannot run without the kernel
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(str(compiled))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    results = session.run(None, {f"x{i}": array for i, array in enumerate(arrays)})
    for result, value in zip(results, right, strict=True):
        np.testing.assert_array_equal(result, value.raw)


@CLAIMED
@given(seeds, widths, widths, st.integers(1, 14))
def test_matmul(compiled: Path, seed: int, depth: int, width: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (1, count, depth)).astype(np.uint8)
    x[0, 0] = rng.choice([1, 255], depth)
    weight = rng.integers(-127, 128, (depth, width)).astype(np.int8)
    weight[:, 0] = rng.choice([-127, 127], depth)
    check(compiled, di_matmul, [x, weight, rng.integers(1, 2**15, width)])


@CLAIMED
@given(seeds, widths, st.sampled_from([127, 31, 7]))
def test_quantize(compiled: Path, seed: int, width: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    check(compiled, di_quantize, [rows(rng, (2, 3, width), 55)], levels=levels)


@CLAIMED
@given(seeds, widths, st.sampled_from([127, 31, 7]))
def test_norm(compiled: Path, seed: int, width: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    gain = rng.integers(-(2**15) + 1, 2**15, width)
    h = rows(rng, (1, 6, width), 31)
    check(compiled, di_rms_norm, [h, gain], channels=width, gain_exponent=13, levels=levels)


@CLAIMED
@given(seeds, widths)
def test_wide_norm(compiled: Path, seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    gain = rng.integers(-(2**15) + 1, 2**15, width)
    h = rows(rng, (1, 6, width), 31)
    check(compiled, di_rms_norm_wide, [h, gain], channels=width, gain_exponent=13)


@CLAIMED
@given(seeds, widths, st.integers(1, 5))
def test_rotary(compiled: Path, seed: int, half: int, tokens: int) -> None:
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 7, (tokens, half))
    cosine, sine = (np.round(f(angles) * 2**14).astype(np.int64) for f in (np.cos, np.sin))
    check(compiled, di_rotary, [rows(rng, (1, 3, tokens, 2 * half), 47), cosine, sine])


@CLAIMED
@given(seeds, widths, st.integers(-20, 20))
def test_residual_add_saturates_alike(compiled: Path, seed: int, width: int, offset: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (1, 4, width)
    mantissa, exponent = scales(rng, shape)
    arrays = [rows(rng, shape, 30), rows(rng, shape, 46), mantissa, exponent]
    check(compiled, di_residual_add, arrays, offset=offset)


@CLAIMED
@given(seeds, widths)
def test_swiglu(compiled: Path, seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (1, 5, width)
    gate, argument, up = rows(rng, shape, 54), rows(rng, shape, 61), rows(rng, shape, 54)
    check(compiled, di_swiglu, [gate, argument, up, *scales(rng, shape)])


@CLAIMED
@given(seeds, widths)
def test_softmax(compiled: Path, seed: int, keys: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (1, 2, 6, keys)
    visible = rng.random((6, keys)) < 0.7
    visible[:, rng.integers(keys)] = True
    value_scale = rng.integers(0, 2**26, (1, 2, 1, keys)) >> rng.integers(0, 27)
    arrays = [rows(rng, shape, 59), *scales(rng, shape), visible, value_scale]
    check(compiled, di_clipped_softmax, arrays)


def test_every_entry_of_both_tables(compiled: Path) -> None:
    """Distances of 0, 1, 2, ... units of 1/256 octave, one a row."""
    count = 7937
    unit = np.full((1, count, 1), 2**14)
    exponent = np.full((1, count, 1), 14 + 8)
    scores = np.stack([np.zeros(count, np.int64), -np.arange(count)], -1)[None]
    visible, ones = np.ones((1, 2), np.bool_), np.full((1, 1, 2), 2**20)
    check(compiled, di_clipped_softmax, [scores, unit, exponent, visible, ones])
    argument = np.arange(-count, count).reshape(1, count, 2)
    gate = np.full((1, count, 2), 2**17)
    check(compiled, di_swiglu, [gate, argument, gate, unit, exponent])


def test_rows_that_do_not_fit_the_weights_are_refused(compiled: Path) -> None:
    x, weight = np.full((1, 3), 200, np.uint8), np.ones((4, 2), np.int8)
    graph = GraphBackend()
    inputs = graph.input("x", "uint8", [None, None]), graph.input("w", "int8", [None, None])
    graph.output(di_matmul(*inputs, graph.weight("s", np.ones(2, np.int64))), "y", "int64", [1, 2])
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(compiled))
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph.model("m").SerializeToString(), options)
    with pytest.raises(Exception, match="edgeport::DIMatMul: rows do not fit the weights"):
        session.run(None, {"x": x, "w": weight})
