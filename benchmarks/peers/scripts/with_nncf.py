"""NNCF on its ONNX backend."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import nncf
import onnx
from peer_script import Feeds, main


def quantize(
    model: Path, feeds: Feeds, output: Path, *, preset: nncf.QuantizationPreset, fast: bool = True
) -> None:
    quantized = nncf.quantize(
        onnx.load(model),
        nncf.Dataset(feeds),
        preset=preset,
        subset_size=len(feeds),
        fast_bias_correction=fast,
    )
    onnx.save(quantized, output)


PERFORMANCE = nncf.QuantizationPreset.PERFORMANCE

main(
    {
        "performance": partial(quantize, preset=PERFORMANCE),
        "mixed": partial(quantize, preset=nncf.QuantizationPreset.MIXED),
        "bias_correction": partial(quantize, preset=PERFORMANCE, fast=False),
    }
)
