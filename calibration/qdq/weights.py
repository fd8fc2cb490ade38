"""Weights and biases as integers.

Weights are symmetric int8, one scale an output channel: ``w = q * s_w``, q in [-127, 127]. A bias
that has to be integer becomes int32 at the scale of the accumulator, ``b = q * s_x * s_w``; where a
channel's weights are so small that this would overflow, its weight scale is widened instead.

Where a kernel was split in two (``calibration.cfws``), both parts come with their scales. A place
is kept for other ways of rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import Weighted
from calibration.registry import Registry
from calibration.scales.methods import SILENT_SCALE, rounded_up_to_half

LARGEST = 127
_BIAS_LIMIT = 2.0**30  # half of int32: leaves the accumulator as much room as the bias


class Rounding(Protocol):
    """Turns ``weight / scale`` (float64, any shape) into integers of the same shape."""

    def __call__(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]: ...


ROUNDINGS: Registry[Rounding] = Registry("rounding")
ROUNDINGS.add("nearest", lambda scaled: np.rint(scaled))  # half to even, as QuantizeLinear


@dataclass(frozen=True)
class IntegerWeights:
    """What becomes initializers.

    Attributes:
        weight: int8, the float weight's shape.
        scale: float32, ``[channels]`` or rank 0.
        bias: int32 ``[channels]`` where asked for and there is a bias.
        bias_scale: float32, as ``scale``.
    """

    weight: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.int32] | None = None
    bias_scale: NDArray[np.float32] | None = None


def integer_weights(
    item: Weighted,
    input_scale: float,
    *,
    integer_bias: bool,
    half: bool,
    rounding: Rounding,
    fixed_scale: NDArray[np.float32] | None = None,
) -> IntegerWeights:
    """Quantize the weights of one node, and its bias if ``integer_bias``.

    Args:
        input_scale: of the node's data input.
        half: make the weight scales FP16 numbers, rounded up.
        fixed_scale: ``[channels]`` or rank 0: the grid that the weights lie on already, one part of
            a split. By default the largest magnitude becomes 127.
    """
    weight = item.weight.astype(np.float64)
    bias = item.bias if integer_bias else None
    scale = _largest_magnitude(weight, item.channel_axis) / LARGEST
    if fixed_scale is not None:
        scale = fixed_scale.astype(np.float64)
    if bias is not None:
        floor = np.abs(bias.astype(np.float64)) / (_BIAS_LIMIT * input_scale)
        scale = np.maximum(scale, floor if np.ndim(scale) else floor.max())
    scale = np.where(scale > np.finfo(np.float32).tiny, scale, SILENT_SCALE)
    if half:
        scale = rounded_up_to_half(scale)
    scale32 = np.asarray(scale, dtype=np.float32)
    aligned = _aligned(scale32.astype(np.float64), weight.ndim, item.channel_axis)
    integers = np.clip(rounding(weight / aligned), -LARGEST, LARGEST).astype(np.int8)
    if bias is None:
        return IntegerWeights(integers, scale32)
    bias_scale = np.asarray(scale32 * np.float32(input_scale), dtype=np.float32)
    int32_bias = np.rint(bias.astype(np.float64) / bias_scale).astype(np.int32)
    return IntegerWeights(integers, scale32, int32_bias, bias_scale)


def _largest_magnitude(weight: NDArray[np.float64], axis: int | None) -> Any:
    axes = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    return np.abs(weight).max(axis=axes)


def _aligned(scale: NDArray[np.float64], rank: int, axis: int | None) -> NDArray[np.float64]:
    if axis is None or not scale.ndim:
        return scale
    shape = [1] * rank
    shape[axis] = -1
    return scale.reshape(shape)
