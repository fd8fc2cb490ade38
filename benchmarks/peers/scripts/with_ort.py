"""ONNX Runtime's own quantizer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from peer_script import Feeds, main

WEIGHTED = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


class Reader(CalibrationDataReader):
    def __init__(self, feeds: Feeds) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def prepared(model: Path) -> Path:
    """Its documented first step: shape inference and optimization."""
    path = model.with_suffix(".prepared.onnx")
    quant_pre_process(str(model), str(path), skip_symbolic_shape=True)
    return path


def static(model: Path, feeds: Feeds, output: Path, *, method: CalibrationMethod) -> None:
    quantize_static(
        str(prepared(model)),
        str(output),
        Reader(feeds),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=method,
    )


def tensorrt(model: Path, feeds: Feeds, output: Path) -> None:
    quantize_static(
        str(prepared(model)),
        str(output),
        Reader(feeds),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=WEIGHTED,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": WEIGHTED,
        },
    )


def dynamic(model: Path, _feeds: Feeds, output: Path) -> None:
    quantize_dynamic(str(prepared(model)), str(output), weight_type=QuantType.QUInt8)


main(
    {
        "minmax": partial(static, method=CalibrationMethod.MinMax),
        "entropy": partial(static, method=CalibrationMethod.Entropy),
        "percentile": partial(static, method=CalibrationMethod.Percentile),
        "tensorrt": tensorrt,
        "dynamic": dynamic,
    }
)
