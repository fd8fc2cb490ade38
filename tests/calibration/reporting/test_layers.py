"""The error of every layer is what running three files side by side gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calibration import QuantizeOptions, observe, quantize
from exporters.errors import UserError
from tests.calibration import nets

LAYERS = ["stem", "b1.c1", "b1.c2", "b2.c1", "b2.c2", "b2.down", "up", "head", "fc"]
RESULTS = ["stem/relu", "b1.c1/relu", "b1.c2", "b2.c1/relu", "b2.c2", "b2.down", "up/relu"]
RESULTS += ["head/relu", "fc"]


def spiked() -> onnx.ModelProto:
    """`residual` with one huge centre weight a layer, as re-parameterisation leaves them."""
    proto = nets.residual()
    for tensor in proto.graph.initializer:
        array = nets.numpy_helper.to_array(tensor).copy()
        if array.ndim == 4 and array.shape[-1] == 3:
            array[0, 0, 1, 1] *= 20
            tensor.CopyFrom(nets.numpy_helper.from_array(array, tensor.name))
    return proto


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "onnxruntime", "scales": "auto", "split": "cfws"},
        {"policy": "tensorrt", "scales": "mse", "split": "auto", "correct_bias": True},
        {"policy": "tensorrt", "scales": "percentile", "keep_float": ("b2.c1",)},
    ],
    ids=["everything split", "split where it pays, biases corrected", "one layer float"],
)
def test_sqnr_of_every_layer_is_that_of_the_files(tmp_path: Path, options: dict[str, Any]) -> None:
    proto = spiked()
    file = nets.saved(proto, tmp_path / "m.onnx")
    samples = nets.samples(proto, 4)
    chosen = quantize(
        file, samples, tmp_path / "q.onnx", QuantizeOptions(**options), measure_layers=True
    )
    plain = {"policy": options["policy"], "keep_float": options.get("keep_float", ())}
    naive = quantize(
        file,
        samples,
        tmp_path / "n.onnx",
        QuantizeOptions(scales="minmax", rounding="nearest", **plain),
    )
    layers = chosen.report["layers"]
    assert [layer["node"] for layer in layers] == LAYERS
    tensors = [f"{name}_out" for name in RESULTS]
    sums = np.zeros((len(LAYERS), 3))
    for feed in samples:
        true, before, after = (
            nets.run(model, feed, *tensors) for model in (proto, naive.model, chosen.model)
        )
        for row, y, a, b in zip(sums, true, before, after, strict=True):
            y = y.astype(np.float64)
            row += (y**2).sum(), ((y - a) ** 2).sum(), ((y - b) ** 2).sum()
    for layer, (energy, before, after) in zip(layers, sums, strict=True):
        # a rounding of the float part may tip a value to the next integer: hundredths of a dB
        expected = 10 * np.log10(energy / before), 10 * np.log10(energy / after)
        found = layer["sqnr_before_db"], layer["sqnr_after_db"]
        assert found == pytest.approx(expected, abs=0.1), layer["node"]
    floats = {layer["node"] for layer in layers if not layer["integer"]}
    assert (
        floats
        == {
            "onnxruntime": {"up"},  # has no integer kernel
            "tensorrt": set(options.get("keep_float", ())),
        }[options["policy"]]
    )


def test_splitting_a_spiked_network_shows_in_every_layer_behind(tmp_path: Path) -> None:
    proto = spiked()
    file = nets.saved(proto, tmp_path / "m.onnx")
    options = QuantizeOptions(policy="tensorrt", scales="mse", split="auto")
    result = quantize(file, nets.samples(proto), tmp_path / "q.onnx", options, measure_layers=True)
    assert result.report["split_nodes"]
    gained = [layer["sqnr_after_db"] - layer["sqnr_before_db"] for layer in result.report["layers"]]
    assert np.median(gained) > 1
    quantization = result.model.require_spec().quantization
    assert quantization is not None
    assert quantization["layers"] == result.report["layers"]
    assert quantization["schema"] == "edgeport.quantization/2"


def test_measuring_changes_nothing_in_the_network(tmp_path: Path) -> None:
    proto = spiked()
    file = nets.saved(proto, tmp_path / "m.onnx")
    options = QuantizeOptions(policy="onnxruntime", scales="mse", split="cfws")
    graphs = []
    for measured in (False, True):
        result = quantize(
            file,
            nets.samples(proto),
            tmp_path / f"{measured}.onnx",
            options,
            measure_layers=measured,
        )
        graphs.append(result.model.proto.graph.SerializeToString(deterministic=True))
        assert ("layers" in result.report) == measured
    assert graphs[0] == graphs[1]


def test_statistics_alone_measure_no_layer(tmp_path: Path) -> None:
    proto = nets.residual()
    file = nets.saved(proto, tmp_path / "m.onnx")
    seen = observe(file, nets.samples(proto))
    with pytest.raises(UserError, match="measured on samples, and there are statistics only"):
        quantize(file, seen, tmp_path / "q.onnx", measure_layers=True)
    assert not (tmp_path / "q.onnx").exists()
