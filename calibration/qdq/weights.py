"""Weights and biases as integers.

Weights are symmetric, ``w = q * s_w``: int8 with q in [-127, 127] and one scale an output channel,
or int4 with q in [-7, 7] and one scale an output channel or a block of inputs. A bias that has to
be integer becomes int32 at the scale of the accumulator, ``b = q * s_x * s_w``; where a channel's
weights are so small that this would overflow, its weight scale is widened instead.

Where a kernel was split in two (``calibration.cfws``), both parts come with their scales. Integers
are the nearest ones unless ``calibration.rounding`` has found better ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import Weighted, attribute
from calibration.scales.methods import SILENT_SCALE, rounded_up_to_half

_BIAS_LIMIT = 2.0**30  # half of int32: leaves the accumulator as much room as the bias


@dataclass(frozen=True)
class WeightForm:
    """What weights become.

    Attributes:
        bits: 8 or 4.
        block: inputs that share a scale; 0 for one scale an output channel.
    """

    bits: int = 8
    block: int = 0

    @property
    def largest(self) -> int:
        return int(2 ** (self.bits - 1) - 1)

    @property
    def dtype(self) -> Any:
        if self.bits == 8:
            return np.int8
        import ml_dtypes  # what onnx itself holds 4-bit arrays in

        return ml_dtypes.int4


INT8 = WeightForm()


@dataclass(frozen=True)
class IntegerWeights:
    """What becomes initializers.

    Attributes:
        weight: int8 or int4; the float weight's shape, but for a blocked kernel, which is stored
            as the matrix ``[out, in/groups * kernel]``.
        scale: float32: ``[channels]``, rank 0, or ``weight``'s shape with one entry a block.
        axis: of ``weight``, that ``scale`` counts; None for rank 0.
        block: elements of ``axis`` that share a scale; 0 for one.
        bias: int32 ``[channels]`` where asked for and there is a bias.
        bias_scale: float32, as ``scale``.
    """

    weight: NDArray[Any]
    scale: NDArray[np.float32]
    axis: int | None
    block: int = 0
    bias: NDArray[np.int32] | None = None
    bias_scale: NDArray[np.float32] | None = None

    @property
    def steps(self) -> NDArray[np.float32]:
        """The scale of every single weight, broadcastable to ``weight``."""
        if self.block and self.axis is not None:
            return np.repeat(self.scale, self.block, axis=self.axis)
        return _aligned(self.scale, self.weight.ndim, self.axis)

    @property
    def real(self) -> NDArray[np.float32]:
        """What DequantizeLinear makes of ``weight``, in its shape."""
        return np.asarray(self.weight.astype(np.float32) * self.steps, dtype=np.float32)


@dataclass(frozen=True)
class Rounded:
    """Integers that somebody chose for weights on the grid of ``scale``; shapes as stored."""

    integers: NDArray[np.int8]
    scale: NDArray[np.float32]


def integer_weights(
    item: Weighted,
    input_scale: float | None,
    *,
    half: bool,
    form: WeightForm = INT8,
    fixed_scale: NDArray[np.float32] | None = None,
    rounded: Rounded | None = None,
    off_by: float = 0.0,
) -> IntegerWeights:
    """Quantize the weights of one node, and its bias if the scale of its input is given.

    Args:
        input_scale: of the node's data input, for an int32 bias; None leaves the bias in float.
        half: make the weight scales FP16 numbers, rounded up.
        fixed_scale: ``[channels]`` or rank 0: the grid that the weights lie on already, one part of
            a split. By default the largest magnitude becomes the largest integer.
        rounded: integers to take instead of the nearest ones, where the scale is theirs.
        off_by: what the data input should be larger by everywhere; an int32 bias makes up for it.
    """
    weight, axis, block = item.weight.astype(np.float64), item.channel_axis, 0
    if form.block and not not_blocked_reason(item, form.block):
        axis, block = 1 if item.node.op_type == "Conv" else 1 - (item.channel_axis or 0), form.block
        weight = weight.reshape(len(weight), -1) if item.node.op_type == "Conv" else weight
    bias = item.bias if input_scale is not None and not block else None
    scale = _largest_magnitude(weight, axis, block) / form.largest
    if fixed_scale is not None and not block:
        scale = fixed_scale.astype(np.float64)
    if bias is not None and input_scale is not None:
        floor = np.abs(bias.astype(np.float64)) / (_BIAS_LIMIT * input_scale)
        scale = np.maximum(scale, floor if np.ndim(scale) else floor.max())
    scale = np.where(scale > np.finfo(np.float32).tiny, scale, SILENT_SCALE)
    if half:
        scale = rounded_up_to_half(scale)
    scale32 = np.asarray(scale, dtype=np.float32)
    found = IntegerWeights(weight, scale32, axis, block)
    integers = np.clip(
        np.rint(weight / found.steps.astype(np.float64)), -form.largest, form.largest
    )
    if rounded is not None and np.array_equal(rounded.scale, scale32):
        integers = rounded.integers.astype(np.float64)
    stored = integers.astype(np.int8).astype(form.dtype)
    if bias is None or input_scale is None:
        return IntegerWeights(stored, scale32, axis, block)
    bias_scale = np.asarray(scale32 * np.float32(input_scale), dtype=np.float32)
    missing = off_by * _sums(weight, axis)
    int32_bias = np.rint((bias.astype(np.float64) + missing) / bias_scale).astype(np.int32)
    return IntegerWeights(stored, scale32, axis, block, int32_bias, bias_scale)


def _sums(weight: NDArray[np.float64], axis: int | None) -> Any:
    """Of all weights of each output channel: what a constant input is multiplied by."""
    return weight.sum(axis=tuple(i for i in range(weight.ndim) if i != axis))


def not_blocked_reason(item: Weighted, block: int) -> str:
    """Why the weights of a node get no scale a block; empty if they do."""
    weight = item.weight
    if item.node.op_type == "ConvTranspose":
        return "the inputs of a ConvTranspose lie on an axis that TensorRT does not block"
    if item.node.op_type == "MatMul" and weight.ndim != 2:
        return "a batch of matrices has one scale"
    if item.node.op_type == "Conv":
        inputs = int(np.prod(weight.shape[1:]))
    else:
        inputs = weight.shape[1 if attribute(item.node, "transB", 0) else 0]
    if inputs % block:
        return f"{inputs} inputs are no whole number of blocks of {block}"
    return ""


def _largest_magnitude(weight: NDArray[np.float64], axis: int | None, block: int) -> Any:
    magnitude = np.abs(weight)
    if block and axis is not None:
        shape = list(weight.shape)
        shape[axis : axis + 1] = [shape[axis] // block, block]
        return magnitude.reshape(shape).max(axis=axis + 1)
    axes = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    return magnitude.max(axis=axes)


def _aligned(scale: NDArray[Any], rank: int, axis: int | None) -> NDArray[Any]:
    if axis is None or not scale.ndim:
        return scale
    shape = [1] * rank
    shape[axis] = -1
    return scale.reshape(shape)
