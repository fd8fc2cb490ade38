"""Running one operator in NumPy, PyTorch and ONNX Runtime."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import strategies as st

from exporters.ops import NUMPY, GraphBackend, TorchBackend

TORCH = TorchBackend()


def in_numpy(operator: Callable[..., Any], inputs: Sequence[Any], **attributes: int) -> list[Any]:
    result = operator(*(NUMPY.constant(x, x.dtype) for x in inputs), **attributes)
    return [value.raw for value in (result if isinstance(result, tuple) else (result,))]


def in_torch(operator: Callable[..., Any], inputs: Sequence[Any], **attributes: int) -> list[Any]:
    result = operator(*(TORCH.constant(x, x.dtype) for x in inputs), **attributes)
    return [value.raw.numpy() for value in (result if isinstance(result, tuple) else (result,))]


def in_onnxruntime(
    operator: Callable[..., Any], inputs: Sequence[Any], *, inline: bool = False, **attributes: int
) -> list[Any]:
    outputs = tuple((y.dtype.name, y.ndim) for y in in_numpy(operator, inputs, **attributes))
    taken = tuple((x.dtype.name, x.ndim) for x in inputs)
    session = _session(operator, taken, outputs, inline, tuple(attributes.items()))
    return list(session.run(None, {f"x{i}": x for i, x in enumerate(inputs)}))


@functools.cache
def _session(
    operator: Callable[..., Any],
    inputs: tuple[tuple[str, int], ...],
    outputs: tuple[tuple[str, int], ...],
    inline: bool,
    attributes: tuple[tuple[str, int], ...],
) -> onnxruntime.InferenceSession:
    proto = model(operator, inputs, outputs, inline=inline, **dict(attributes))
    onnx.checker.check_model(proto, full_check=True)
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def model(
    operator: Callable[..., Any],
    inputs: Sequence[tuple[str, int]],
    outputs: Sequence[tuple[str, int]],
    *,
    inline: bool = False,
    **attributes: int,
) -> onnx.ModelProto:
    graph = GraphBackend(inline=inline)
    taken = [graph.input(f"x{i}", kind, [None] * rank) for i, (kind, rank) in enumerate(inputs)]
    result = operator(*taken, **attributes)
    values = result if isinstance(result, tuple) else (result,)
    for i, (value, (kind, rank)) in enumerate(zip(values, outputs, strict=True)):
        graph.output(value, f"y{i}", kind, [None] * rank)
    return graph.model("operator")


@st.composite
def rows(
    draw: st.DrawFn, bits: int, *, count: int = 4, width: int = 32, low: int | None = None
) -> Any:
    """int64 ``[1, count, width]`` below 2^bits: rows of every size, zeros and extremes included.

    Args:
        low: the smallest value; negative ones down to -2^bits + 1 where None.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    limit = (1 << bits) - 1
    made = []
    for _ in range(count):
        kind = draw(st.sampled_from(["uniform", "uniform", "small", "zero", "extreme", "lonely"]))
        size = limit if kind == "extreme" else (1 << int(random.integers(0, bits))) | 1
        row = random.integers(-size, size + 1, width)
        if kind == "zero":
            row[:] = 0
        elif kind == "extreme":
            row = random.choice([-limit, limit, 0, limit - 1, 1], width)
        elif kind == "lonely":
            row[:] = 0
            row[int(random.integers(width))] = size
        made.append(row)
    array = np.asarray(made, np.int64)[None]
    return array if low is None else np.maximum(np.abs(array), low)


@st.composite
def dyadics(draw: st.DrawFn, *, count: int = 4, low: int = -10, high: int = 60) -> Any:
    """Mantissa and exponent int64 ``[1, count, 1]``, normalised as the operators leave them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mantissa = random.integers(1 << 14, (1 << 15) + 1, (1, count, 1))
    return mantissa, random.integers(low, high + 1, (1, count, 1))


def all_agree(operator: Callable[..., Any], inputs: Sequence[Any], **attributes: int) -> list[Any]:
    """NumPy's result, after ONNX Runtime and PyTorch gave the same bits."""
    expected = in_numpy(operator, inputs, **attributes)
    others = {
        "ONNX Runtime": in_onnxruntime(operator, inputs, **attributes),
        "PyTorch": in_torch(operator, inputs, **attributes),
    }
    for who, found in others.items():
        for index, (a, b) in enumerate(zip(expected, found, strict=True)):
            np.testing.assert_array_equal(a, b, f"output {index} of {who}")
            assert a.dtype == b.dtype
    return expected
