"""What both of torch's exporters write is quantized whole, and built by TensorRT."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import onnx
import pytest

from calibration import QuantizeOptions, quantize
from tests.calibration import nets
from tests.calibration.foreign import torch_nets, zoo

SIZES = {"height": 32, "width": 32, "time": 24, "batch": 2}

FLOAT = {"vit": {"MatMul": 2}, "unet": {"ConvTranspose": 1}}
"""Weighted operators that stay float: products of activations, and ConvTranspose on the CPU."""

EXPORTERS = pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])


@cache
def exported(name: str, dynamo: bool) -> onnx.ModelProto:
    """With sizes for the axes that torch calls s27 and the like."""
    proto = torch_nets.exported(name, dynamo=dynamo)
    for info in proto.graph.input:
        for axis, size in enumerate(info.type.tensor_type.shape.dim):
            if size.dim_param:
                size.dim_param = ("batch", "", "height", "width")[axis]
                if name == "waves":
                    size.dim_param = "time"
    return proto


@EXPORTERS
@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("name", torch_nets.EXAMPLES)
def test_networks_are_quantized(tmp_path: Path, name: str, policy: str, dynamo: bool) -> None:
    proto = exported(name, dynamo)
    file = nets.saved_bare(proto, tmp_path / "m.onnx")
    samples = zoo.feeds(proto, **SIZES)
    options = QuantizeOptions(policy, scales="minmax", i_know=("all",))
    result = quantize(file, samples, tmp_path / "q.onnx", options)
    report = result.report
    left = Counter(report["total"]) - Counter(report["quantized"])
    expected = FLOAT.get(name, {})
    if policy == "tensorrt" and name == "unet":
        expected = {}
    assert left == expected
    feed = next(iter(samples))
    for before, after in zip(nets.run(proto, feed), nets.run(result.model, feed), strict=True):
        # random weights, 8 bits without clipping: the worst reaches 40 dB
        assert nets.sqnr_db(before, after) > 33


@EXPORTERS
def test_batch_norms_of_torch_are_folded(tmp_path: Path, dynamo: bool) -> None:
    """torch folds them itself where it exports for inference; nothing is left for the runtime."""
    proto = exported("mobilenet", dynamo)
    file = nets.saved_bare(proto, tmp_path / "m.onnx")
    result = quantize(
        file, zoo.feeds(proto, **SIZES), tmp_path / "q.onnx", QuantizeOptions(i_know=("all",))
    )
    assert "BatchNormalization" not in {n.op_type for n in result.model.proto.graph.node}


@EXPORTERS
def test_recurrent_layers_of_torch_stay_float(tmp_path: Path, dynamo: bool) -> None:
    proto = exported("recogniser", dynamo)
    file = nets.saved_bare(proto, tmp_path / "m.onnx")
    report = quantize(
        file, zoo.feeds(proto, **SIZES), tmp_path / "q.onnx", QuantizeOptions(i_know=("all",))
    ).report
    reasons = {s["op_type"]: s["reason"] for s in report["skipped"]}
    assert (
        reasons["LSTM"]
        == reasons["GRU"]
        == ("recurrent weights have no Q/DQ form that runtimes fuse")
    )
