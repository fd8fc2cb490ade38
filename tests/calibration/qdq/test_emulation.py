"""QuantizeLinear and DequantizeLinear in numpy, bit for bit, against two independent oracles.

What is claimed of integer arithmetic elsewhere rests on these few lines:

    q = clip(round_half_to_even(x / s) + z)        x = (q - z) * s        all in float32

One scale a tensor, one a channel, one a block along an axis; int8, uint8 and, from opset 21, int4
and uint4. Oracles: ONNX Runtime without graph optimisation, and ``onnx.reference``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]

TYPES = {
    "int8": (TensorProto.INT8, -128, 127),
    "uint8": (TensorProto.UINT8, 0, 255),
    "int4": (TensorProto.INT4, -8, 7),
    "uint4": (TensorProto.UINT4, 0, 15),
}
SHAPE = (4, 6)
BLOCK = 3


@dataclass(frozen=True)
class Layout:
    """Where the scales lie: ``axis`` None is one for all, ``block`` 0 is one a channel."""

    axis: int | None = None
    block: int = 0

    @property
    def scale_shape(self) -> tuple[int, ...]:
        if self.axis is None:
            return ()
        if not self.block:
            return (SHAPE[self.axis],)
        return tuple(n // self.block if i == self.axis else n for i, n in enumerate(SHAPE))

    def spread(self, numbers: Array) -> Array:
        """Scales or zero points, one for every element of ``SHAPE``."""
        if self.axis is None:
            return np.broadcast_to(numbers, SHAPE)
        if self.block:
            return np.repeat(numbers, self.block, axis=self.axis)
        return np.broadcast_to(np.expand_dims(numbers, 1 - self.axis), SHAPE)

    @property
    def attributes(self) -> dict[str, Any]:
        found: dict[str, Any] = {} if self.axis is None else {"axis": self.axis}
        return found | ({"block_size": self.block} if self.block else {})


LAYOUTS = {
    "per tensor": Layout(),
    "per row": Layout(axis=0),
    "per column": Layout(axis=1),
    "blocked": Layout(axis=1, block=BLOCK),
}


def quantize(x: Array, scale: Array, zero: Array, layout: Layout, kind: str) -> Array:
    _, low, high = TYPES[kind]
    steps = np.rint(x / layout.spread(scale))
    steps += layout.spread(zero).astype(np.float32)
    return np.asarray(np.clip(steps, low, high), dtype=np.int32)


def dequantize(q: Array, scale: Array, zero: Array, layout: Layout) -> Array:
    steps = q.astype(np.int32) - layout.spread(zero).astype(np.int32)
    return np.asarray(steps.astype(np.float32) * layout.spread(scale))


@cache
def model(kind: str, name: str) -> onnx.ModelProto:
    """``x, scale, zero`` (int32, cast inside) to the integers as int32 and to floats."""
    layout, integer = LAYOUTS[name], TYPES[kind][0]
    nodes = [
        helper.make_node("Cast", ["zero"], ["z"], to=integer),
        helper.make_node("QuantizeLinear", ["x", "scale", "z"], ["q"], **layout.attributes),
        helper.make_node("DequantizeLinear", ["q", "scale", "z"], ["back"], **layout.attributes),
        helper.make_node("Cast", ["q"], ["integers"], to=TensorProto.INT32),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "qdq",
        [
            info("x", TensorProto.FLOAT, SHAPE),
            info("scale", TensorProto.FLOAT, layout.scale_shape),
            info("zero", TensorProto.INT32, layout.scale_shape),
        ],
        [info("integers", TensorProto.INT32, SHAPE), info("back", TensorProto.FLOAT, SHAPE)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    made.ir_version = 10
    onnx.checker.check_model(made, full_check=True)
    return made


@cache
def runtime(kind: str, name: str) -> Callable[[dict[str, Array]], list[Array]]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model(kind, name).SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda feeds: list(session.run(None, feeds))


@cache
def reference(kind: str, name: str) -> Callable[[dict[str, Array]], list[Array]]:
    evaluator = ReferenceEvaluator(model(kind, name))
    return lambda feeds: [np.asarray(array) for array in evaluator.run(None, feeds)]


def floats(limit: float) -> st.SearchStrategy[float]:
    return st.floats(-limit, limit, width=32, allow_nan=False)


@st.composite
def cases(draw: st.DrawFn, kind: str, layout: Layout) -> dict[str, Array]:
    """Steps of any size, values on, beside and halfway between grid points, and far outside."""
    _, low, high = TYPES[kind]
    shape = layout.scale_shape
    scale = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([2**-7, 0.1, 0.37, 3.0])))
    scale = np.asarray(scale, np.float32)
    zero = np.asarray(draw(hnp.arrays(np.int32, shape, elements=st.integers(low, high))), np.int32)
    halves = draw(hnp.arrays(np.float32, SHAPE, elements=st.integers(2 * low - 4, 2 * high + 4)))
    noise = draw(hnp.arrays(np.float32, SHAPE, elements=floats(1.0)))
    far = draw(hnp.arrays(np.float32, SHAPE, elements=st.sampled_from([0.0] * 8 + [1e6, -1e6])))
    exact = draw(st.booleans())
    x = (halves / 2 + (0 if exact else noise) + far).astype(np.float32) * layout.spread(scale)
    return {"x": x.astype(np.float32), "scale": scale, "zero": zero}


@pytest.mark.parametrize("name", list(LAYOUTS))
@pytest.mark.parametrize("kind", list(TYPES))
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_numpy_onnxruntime_and_the_reference_agree_bit_for_bit(
    kind: str, name: str, data: st.DataObject
) -> None:
    layout = LAYOUTS[name]
    feeds = data.draw(cases(kind, layout))
    expected = quantize(feeds["x"], feeds["scale"], feeds["zero"], layout, kind)
    back = dequantize(expected, feeds["scale"], feeds["zero"], layout)
    for run in (runtime(kind, name), reference(kind, name)):
        integers, floats_back = run(feeds)
        np.testing.assert_array_equal(integers, expected)
        np.testing.assert_array_equal(floats_back, back)


@pytest.mark.parametrize("kind", list(TYPES))
def test_half_a_step_goes_to_the_even_neighbour(kind: str) -> None:
    _, low, high = TYPES[kind]
    middle = (low + high + 1) // 2
    x = np.zeros(SHAPE, np.float32)
    x[0] = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5]
    feeds = {"x": x, "scale": np.array(1, np.float32), "zero": np.array(middle, np.int32)}
    integers = runtime(kind, "per tensor")(feeds)[0]
    assert (integers[0] - middle).tolist() == [0, 2, 2, 0, -2, -2]


@pytest.mark.parametrize("kind", list(TYPES))
def test_what_lies_outside_saturates_infinity_included(kind: str) -> None:
    _, low, high = TYPES[kind]
    x = np.zeros(SHAPE, np.float32)
    x[0] = [1e9, -1e9, high + 0.4, low - 0.6, high + 1, low - 1]
    scale, zero = np.array(1, np.float32), np.array(0, np.int32)
    feeds = {"x": x, "scale": scale, "zero": zero}
    for run in (runtime(kind, "per tensor"), reference(kind, "per tensor")):
        assert run(feeds)[0][0].tolist() == [high, low] * 3
    # onnx.reference rounds through int32, which wraps around from 2**31 steps on
    x[0] = [1e30, -1e30, np.inf, -np.inf, 3e9, -3e9]
    assert runtime(kind, "per tensor")(feeds)[0][0].tolist() == [high, low] * 3
    assert quantize(x, scale, zero, Layout(), kind)[0].tolist() == [high, low] * 3
