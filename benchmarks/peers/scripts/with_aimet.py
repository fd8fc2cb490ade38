"""AIMET's ONNX quantizer, exported as Q/DQ."""

from __future__ import annotations

from pathlib import Path

import onnx
from aimet_onnx import QuantizationSimModel, apply_adaround
from aimet_onnx.cross_layer_equalization import equalize_model
from peer_script import Feeds, main

ITERATIONS = 200  # a layer; its documentation recommends 10000, which takes hours on two cores


def simulated(model: onnx.ModelProto, feeds: Feeds) -> QuantizationSimModel:
    return QuantizationSimModel(model, dummy_input=feeds[0], providers=["CPUExecutionProvider"])


def written(sim: QuantizationSimModel, feeds: Feeds, output: Path) -> None:
    sim.compute_encodings(feeds)
    onnx.save(sim.to_onnx_qdq(prequantize_constants=True), output)


def ptq(model: Path, feeds: Feeds, output: Path) -> None:
    written(simulated(onnx.load(model), feeds), feeds, output)


def cle(model: Path, feeds: Feeds, output: Path) -> None:
    proto = onnx.load(model)
    equalize_model(proto)
    written(simulated(proto, feeds), feeds, output)


def adaround(model: Path, feeds: Feeds, output: Path) -> None:
    sim = simulated(onnx.load(model), feeds)
    apply_adaround(sim, feeds, num_iterations=ITERATIONS)
    written(sim, feeds, output)


main({"ptq": ptq, "cle": cle, "adaround": adaround})
