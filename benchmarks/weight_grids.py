"""Ways to put convolution weights on integer grids, as float models that compute just that.

Weights only: every model returned here is a float ONNX whose weights lie on the grids of a method,
so that what it loses is the weights' share of the loss. Activations are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration.cfws.arithmetic import (
    Granularity,
    SplitOptions,
    quantize_symmetric,
    symmetric_scale,
)
from calibration.cfws.transform import split_model

Array = NDArray[Any]
Method = Callable[[onnx.ModelProto, int, Mapping[str, str]], onnx.ModelProto]


def plain(granularity: Granularity, *, clip: bool = False) -> Method:
    """One grid, to the largest magnitude or to the range of least squared error."""

    def apply(model: onnx.ModelProto, bits: int, keep: Mapping[str, str]) -> onnx.ModelProto:
        # the split's own choice of layers, so that every method works on the same ones
        layers = {s.node for s in split_model(model, keep=keep)[1].splits}
        result = _copy(model)
        tensors = {tensor.name: tensor for tensor in result.graph.initializer}
        for node in result.graph.node:
            if node.name in layers:
                weight = numpy_helper.to_array(tensors[node.input[1]])
                scale = (_clipped_scale if clip else symmetric_scale)(weight, granularity, bits)
                _set(tensors[node.input[1]], _on_grid(weight, scale, bits))
        return result

    return apply


def split(
    coarse: Granularity, fine: Granularity, *, extract: bool = True, link: bool = False
) -> Method:
    """CFWS; ``extract=False`` is the two-term expansion of the whole kernel."""

    def apply(model: onnx.ModelProto, bits: int, keep: Mapping[str, str]) -> onnx.ModelProto:
        options = SplitOptions(coarse, fine, bits, extract_centre=extract, power_of_two_link=link)
        result, splits = split_model(model, options, keep=keep)
        tensors = {tensor.name: tensor for tensor in result.graph.initializer}
        for name, scale in splits.weight_scales.items():
            _set(tensors[name], _on_grid(numpy_helper.to_array(tensors[name]), scale, bits))
        return result

    return apply


METHODS: dict[str, Method] = {
    "naive per tensor": plain("tensor"),
    "naive per channel": plain("channel"),
    "MSE-clip per tensor": plain("tensor", clip=True),
    "MSE-clip per channel": plain("channel", clip=True),
    "CFWS tensor/tensor": split("tensor", "tensor"),
    "CFWS tensor/channel": split("tensor", "channel"),
    "CFWS channel/channel": split("channel", "channel"),
    "CFWS channel/channel, power-of-two link": split("channel", "channel", link=True),
    "no extraction, per tensor": split("tensor", "tensor", extract=False),
    "no extraction, per channel": split("channel", "channel", extract=False),
}


def session(model: onnx.ModelProto, threads: int = 1) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def sqnr_db(true: Array, found: Array) -> float:
    error = np.sum(np.square(found.astype(np.float64) - true))
    return float(10 * np.log10(np.sum(np.square(true, dtype=np.float64)) / max(error, 1e-300)))


def _clipped_scale(weight: Array, granularity: Granularity, bits: int) -> Array:
    """Of the range, from 5 % to 100 % of the largest magnitude, with the least squared error."""
    widest = symmetric_scale(weight, granularity, bits)
    axes = None if granularity == "tensor" else tuple(range(1, weight.ndim))
    scales = [widest * np.float32(1 - 0.95 * k / 100) for k in range(100)]
    errors = [np.sum((_on_grid(weight, s, bits) - weight) ** 2, axis=axes) for s in scales]
    best = np.argmin(errors, axis=0)
    return np.take_along_axis(np.array(scales), best[None], axis=0)[0]


def _on_grid(weight: Array, scale: Array, bits: int) -> Array:
    aligned = scale.reshape(-1, *[1] * (weight.ndim - 1)) if scale.ndim else scale
    return np.asarray(quantize_symmetric(weight, scale, bits) * aligned, dtype=np.float32)


def _set(tensor: onnx.TensorProto, array: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result
