"""What ONNX Runtime executes of files for it: integer kernels, and few conversions at borders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from calibration import QuantizeOptions, quantize
from tests.calibration import nets
from tests.calibration.foreign import operators, topologies, zoo

# QLinearConv, the most QuantizeLinear and the most DequantizeLinear: one Q at the input, one DQ at
# each output are needed; more stand around what has no integer kernel
CONVOLUTIONS = {
    "feature_pyramid": (9, 1, 3),
    "path_aggregation": (10, 1, 1),
    "squeeze_and_excite": (8, 6, 8),  # HardSwish and HardSigmoid
    "residual_chain": (10, 2, 2),  # the Relu of a sum that others read before it
    "dense_block": (6, 1, 1),
    "shuffle": (6, 1, 1),
    "depthwise": (4, 3, 5),  # HardSwish written out
    "unfolded_batch_norms": (3, 3, 3),
    "grouped": (4, 1, 1),
    "one_dimensional": (3, 1, 1),
    "three_dimensional": (2, 1, 1),
    "weights_behind_nodes": (4, 1, 1),
    "transposed": (2, 2, 2),  # ConvTranspose
}


def executed(tmp_path: Path, build: zoo.Builder) -> Counter[str]:
    proto = build()
    file = nets.saved(proto, tmp_path / "m.onnx")
    options = QuantizeOptions("onnxruntime", scales="minmax")
    model = quantize(file, zoo.feeds(proto), tmp_path / "q.onnx", options).model
    graph = nets.optimized(model.path, tmp_path / "optimized.onnx").graph
    return Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_run_on_integers_with_few_borders(tmp_path: Path, name: str) -> None:
    convolutions, quantized, dequantized = CONVOLUTIONS[name]
    ops = executed(tmp_path, zoo.WORKING[name])
    assert ops["QLinearConv"] == convolutions
    assert ops["Conv"] + ops["FusedConv"] == 0
    assert ops["QuantizeLinear"] <= quantized
    assert ops["DequantizeLinear"] <= dequantized


def test_a_linear_resize_computes_in_float_between_integers(tmp_path: Path) -> None:
    ops = executed(tmp_path, lambda: topologies.feature_pyramid("linear"))
    assert (ops["QLinearConv"], ops["QLinearAdd"], ops["Conv"]) == (9, 2, 0)
    assert (ops["QuantizeLinear"], ops["DequantizeLinear"]) == (3, 5)


def test_linear_layers_before_an_activation_run_on_integers(tmp_path: Path) -> None:
    """ONNX Runtime fuses Gemm and Relu into a float kernel before it looks for Q/DQ."""
    ops = executed(tmp_path, operators.gemms)
    assert ops["QGemm"] == 2  # the others have alpha, beta or transA
    assert ops["FusedGemm"] + ops["Gemm"] == 3


def test_products_with_weights_run_on_integers(tmp_path: Path) -> None:
    ops = executed(tmp_path, topologies.transformer)
    assert ops["MatMulIntegerToFloat"] + ops["QLinearMatMul"] == 6
