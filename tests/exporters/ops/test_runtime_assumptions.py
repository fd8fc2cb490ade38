"""What the integer operators take for granted about ONNX Runtime, fuzzed against NumPy.

A new ONNX Runtime that changes one of these fails here, by name, before a model goes wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from exporters.ops import Value
from exporters.ops.algebra import where
from exporters.ops.primitives import clip, log2_floor, power_of_two, rounded
from tests.exporters.ops.harness import in_numpy, in_onnxruntime

RANDOM = np.random.default_rng(20)


def wide(*shape: int, bits: int = 62) -> Any:
    """int64 of every size up to ``bits``, with the neighbourhood of powers of two."""
    size = np.left_shift(np.int64(1), RANDOM.integers(0, bits, shape))
    near = RANDOM.integers(-2, 3, shape)
    return np.where(RANDOM.random(shape) < 0.3, size + near, RANDOM.integers(-size, size + 1))


KERNELS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "Add": (lambda a, b: a + b, [wide(64, 256), wide(64, 256)]),
    "Sub": (lambda a, b: a - b, [wide(64, 256), wide(64, 256)]),
    "Mul": (lambda a, b: a * b, [wide(64, 256, bits=31), wide(64, 256, bits=31)]),
    "Div truncates": (lambda a, b: a.div(b), [wide(64, 256), np.abs(wide(64, 256)) + 1]),
    "Neg, Abs": (lambda a: -abs(a), [wide(64, 256)]),
    "Where, Greater": (lambda a, b: where(a > b, a, b), [wide(64, 256), wide(64, 256)]),
    "Where, Less": (lambda a, b: where(a < b, a, b), [wide(64, 256), wide(64, 256)]),
    "GreaterOrEqual": (lambda a, b: where(a >= b, a, b), [wide(64, 256), wide(64, 256)]),
    "ArgMax, GatherElements": (lambda a: a.row_max(), [wide(512, 96)]),
    "Cast wraps to int32": (lambda a: a.cast("int32"), [wide(64, 256)]),
    "Cast wraps to uint8": (lambda a: a.cast("uint8"), [wide(64, 256)]),
    "Clip of small values": (lambda a: a.small_clip(-3, 62), [wide(64, 256, bits=31)]),
    "ReduceMin of small values": (lambda a: a.small_min(1), [wide(8, 64, 32, bits=31)]),
    "ReduceSum below 2^53": (lambda a: a.row_sum(), [wide(64, 256, bits=44)]),
    "clip by comparison": (lambda a: clip(a, -(2**40), 2**40), [wide(64, 256)]),
    "log2": (log2_floor, [np.abs(wide(64, 64)) + 1]),
    "2^s": (power_of_two, [RANDOM.integers(-90, 90, (64, 64))]),
    "rounded division": (rounded, [wide(64, 256, bits=61), np.abs(wide(64, 256, bits=61)) + 1]),
}


@pytest.mark.parametrize("name", list(KERNELS))
def test_a_kernel_is_exact_on_int64(name: str) -> None:
    function, inputs = KERNELS[name]
    for index, (a, b) in enumerate(
        zip(in_numpy(function, inputs), in_onnxruntime(function, inputs), strict=True)
    ):
        np.testing.assert_array_equal(a, b, f"{name}, output {index}")


def test_the_first_of_equal_maxima_is_taken() -> None:
    ties = RANDOM.integers(0, 3, (256, 40))

    def first(a: Value) -> Value:
        return a.backend.apply("ArgMax", a, axis=-1, keepdims=1)

    np.testing.assert_array_equal(in_numpy(first, [ties])[0], in_onnxruntime(first, [ties])[0])


@pytest.mark.parametrize("zero", [0, 128])
@pytest.mark.parametrize("shape", [(1, 576, 960), (64, 576, 256), (3, 2, 1536, 64)])
def test_the_byte_product_does_not_saturate(zero: int, shape: tuple[int, ...]) -> None:
    """u8 x s8 through int16 pairs saturates on CPUs without VNNI where a kernel uses vpmaddubsw."""
    *rows, depth, columns = shape
    a = RANDOM.choice([0, 255, 128, 127], (*rows, depth)).astype(np.uint8)
    b = RANDOM.choice([-127, 127, 1], (*rows[:-1], depth, columns)).astype(np.int8)

    def product(x: Value, y: Value) -> Value:
        return x.backend.apply("MatMulInteger", x, y, x.backend.constant(zero, "uint8"))

    (found,) = in_onnxruntime(product, [a, b])
    np.testing.assert_array_equal(found, in_numpy(product, [a, b])[0])
    exact = (a.astype(np.int64) - zero) @ b.astype(np.int64)
    np.testing.assert_array_equal(found, exact)


def test_integers_that_wrap_do_so_alike() -> None:
    """No operator relies on it; a wrap must not be undefined either."""
    big = np.full((4, 8), 2**62, np.int64)
    (found,) = in_onnxruntime(lambda a: a + a, [big])
    np.testing.assert_array_equal(found, in_numpy(lambda a: a + a, [big])[0])
