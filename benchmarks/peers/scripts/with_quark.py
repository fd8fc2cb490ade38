"""AMD Quark's ONNX quantizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from onnxruntime.quantization import CalibrationDataReader
from peer_script import Feeds, main
from quark.onnx import ModelQuantizer
from quark.onnx.quantization.config.algorithm import AdaRoundConfig, AlgoConfig, CLEConfig
from quark.onnx.quantization.config.config import QConfig
from quark.onnx.quantization.config.spec import (
    CalibMethod,
    Int8Spec,
    QLayerConfig,
    QTensorConfig,
    QuantGranularity,
    UInt8Spec,
)

ITERATIONS = 200  # a layer; its default of 1000 takes most of an hour on two cores


class Reader(CalibrationDataReader):
    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds
        self.rewind()

    def get_next(self) -> dict[str, Any] | None:
        return next(self._iterator, None)

    def rewind(self) -> None:
        """Read once more from the start: some algorithms pass over the samples again."""
        self._iterator = iter(self._feeds)

    def reset_iter(self) -> None:
        self.rewind()

    def __len__(self) -> int:
        return len(self._feeds)


def static(
    model: Path,
    feeds: Feeds,
    output: Path,
    *,
    activation: QTensorConfig,
    algorithms: Sequence[AlgoConfig] = (),
) -> None:
    weight = Int8Spec(
        calibration_method=CalibMethod.MinMax, quant_granularity=QuantGranularity.Channel
    )
    config = QConfig(
        global_config=QLayerConfig(activation=activation, weight=weight),
        algo_config=list(algorithms),
    )
    ModelQuantizer(config).quantize_model(str(model), str(output), Reader(feeds))


U8 = UInt8Spec(calibration_method=CalibMethod.MinMax)
S8 = Int8Spec(calibration_method=CalibMethod.MinMax)

main(
    {
        "u8s8": partial(static, activation=U8),
        "cle": partial(static, activation=U8, algorithms=[CLEConfig()]),
        "adaround": partial(
            static, activation=S8, algorithms=[AdaRoundConfig(num_iterations=ITERATIONS)]
        ),
    }
)
