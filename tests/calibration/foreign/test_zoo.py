"""Every graph of the zoo becomes INT8 under both policies, and what stays float has its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calibration import QuantizeOptions, QuantizeResult, quantize
from exporters.errors import UserError
from tests.calibration import nets
from tests.calibration.foreign import bodies, operators, topologies, zoo

SIZES = {"height": 16, "width": 16}

FLOAT = {
    "alpha": "Gemm with transA or alpha has no integer form",
    "beta": "Gemm with beta has no integer form",
    "transA": "Gemm with transA or alpha has no integer form",
    "left": "its weights stand on the left",
    "scores": "both inputs are activations",
    "mixed": "both inputs are activations",
    "up": "ONNX Runtime has no integer ConvTranspose",
    "up1": "ONNX Runtime has no integer ConvTranspose",
    "up2": "ONNX Runtime has no integer ConvTranspose",
    "then/conv": "in a body of If 'if', where no Q/DQ are placed",
    "loop/mm": "in a body of Loop 'loop', where no Q/DQ are placed",
    "scan/mm": "in a body of Scan 'scan', where no Q/DQ are placed",
}
"""Weighted nodes of the zoo that may stay float, and why."""


def quantized(
    tmp_path: Path, proto: onnx.ModelProto, policy: str, **options: Any
) -> QuantizeResult:
    file = nets.saved_bare(proto, tmp_path / "m.onnx")
    chosen = QuantizeOptions(policy, **{"scales": "minmax", "i_know": ("all",)} | options)
    return quantize(file, zoo.feeds(proto, **SIZES), tmp_path / f"{policy}.onnx", chosen)


def reasons(result: QuantizeResult) -> dict[str, str]:
    return {item["node"]: item["reason"] for item in result.report["skipped"]}


CASES = [
    (name, policy)
    for name in zoo.WORKING
    for policy in ("tensorrt", "onnxruntime")
    if (name, policy) != ("contrib", "tensorrt")  # refused, as a test below says
]


@pytest.mark.parametrize(("name", "policy"), CASES)
def test_it_becomes_int8(tmp_path: Path, name: str, policy: str) -> None:
    proto = zoo.WORKING[name]()
    result = quantized(tmp_path, proto, policy)
    report, left = result.report, reasons(result)
    weighted = sum(report["total"].values())
    floats = [s for s in report["skipped"] if s["op_type"] in report["total"]]
    assert sum(report["quantized"].values()) + len(floats) == weighted
    for item in floats:
        assert item["reason"] == FLOAT[item["node"]], item
    assert all(left.values())

    assert [o.name for o in result.model.proto.graph.output] == [o.name for o in proto.graph.output]
    if name == "same_names":
        nameless(proto)
    feed = next(iter(zoo.feeds(proto, **SIZES)))
    for before, after in zip(nets.run(proto, feed), nets.run(result.model, feed), strict=True):
        assert before.shape == after.shape
        # 8 bits without clipping: 24.6 dB is what the worst of these small graphs reaches
        assert nets.sqnr_db(before, after) > 22


def nameless(proto: onnx.ModelProto) -> None:
    """ONNX Runtime refuses names that come twice; the quantized file has none of those."""
    for node in proto.graph.node:
        node.name = ""


@pytest.mark.parametrize("build", [topologies.recurrent], ids=["recurrent"])
@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_stay_float_with_a_reason(
    tmp_path: Path, build: Any, op_type: str
) -> None:
    for policy in ("tensorrt", "onnxruntime"):
        left = reasons(quantized(tmp_path, build(op_type), policy))
        assert left["lstm"] == "recurrent weights have no Q/DQ form that runtimes fuse"


@pytest.mark.parametrize("build", [bodies.conditional, bodies.loop, bodies.scan])
def test_control_flow_is_listed_with_its_bodies(tmp_path: Path, build: zoo.Builder) -> None:
    proto = build()
    left = reasons(quantized(tmp_path, proto, "tensorrt"))
    holder = build.__name__ if build is not bodies.conditional else "if"
    assert left[holder] == "control flow stays float, with all that is in its bodies"
    inner = [name for name, why in left.items() if why.startswith("in a body of")]
    assert len(inner) == 1


def test_functions_with_weights_are_written_out(tmp_path: Path) -> None:
    result = quantized(tmp_path, bodies.function(), "tensorrt")
    assert result.report["quantized"] == {"Conv": 3}
    assert not result.model.proto.functions
    assert result.report["canonical"]["changes"] == ["function vendor.blocks::Block written out"]
    assert result.report["canonical"]["largest_difference"] < 1e-5


def test_operators_of_another_runtime_are_refused_for_tensorrt(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"TensorRT does not know com\.microsoft::FusedConv, node 'fused' of .*--policy onnxr",
    ):
        quantized(tmp_path, bodies.contrib(), "tensorrt")
    left = reasons(quantized(tmp_path, bodies.contrib(), "onnxruntime"))
    assert left["fused"] == "com.microsoft::FusedConv is no standard operator"


def test_a_shared_weight_gets_a_bias_for_each_input_scale(tmp_path: Path) -> None:
    """One weight, two inputs of other ranges: one int8 array a scale, one int32 bias a reader."""
    result = quantized(tmp_path, operators.shared_weights(), "onnxruntime")
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in result.model.proto.graph.initializer}
    biases = [a for n, a in arrays.items() if n.startswith("b/quantized")]
    assert len(biases) == 2
    ratio = np.abs(biases[0]).max() / np.abs(biases[1]).max()
    assert max(ratio, 1 / ratio) > 5
    weights = [a for n, a in arrays.items() if n.startswith("w/quantized")]
    assert len(weights) == 1  # the weight's own scale does not depend on its reader


@pytest.mark.parametrize("split", ["cfws", "auto"])
def test_shared_weights_are_split_for_each_reader(tmp_path: Path, split: str) -> None:
    proto = operators.shared_weights()
    result = quantized(tmp_path, proto, "tensorrt", split=split)
    feed = next(iter(zoo.feeds(proto)))
    (before,), (after,) = nets.run(proto, feed), nets.run(result.model, feed)
    assert nets.sqnr_db(before, after) > 22


def test_a_tied_weight_keeps_its_float_reader(tmp_path: Path) -> None:
    proto = operators.tied_weights()
    result = quantized(tmp_path, proto, "tensorrt")
    feed = next(iter(zoo.feeds(proto)))
    before, after = nets.run(proto, feed)[1], nets.run(result.model, feed)[1]
    np.testing.assert_array_equal(before, after)


def test_inputs_with_a_value_become_constants(tmp_path: Path) -> None:
    for version in (3, 8):
        proto = operators.initializers_as_inputs(version)
        result = quantized(tmp_path, proto, "tensorrt", overwrite=True)
        assert [value.name for value in result.model.proto.graph.input] == ["x"]
        assert result.model.proto.ir_version >= 8
        changes = result.report["canonical"]["changes"]
        assert "4 inputs that have a value in the file made constants" in changes


def test_names_stay_what_they_were(tmp_path: Path) -> None:
    proto = operators.odd_names()
    result = quantized(tmp_path, proto, "tensorrt")
    names = [node.name for node in result.model.proto.graph.node]
    assert len(set(names)) == len(names)
    assert {node.name for node in proto.graph.node if node.name} <= set(names)


def test_samples_may_differ_in_size(tmp_path: Path) -> None:
    """Free axes take what each sample brings; a fixed one must fit."""
    proto = operators.free_axes()
    file = nets.saved_bare(proto, tmp_path / "m.onnx")
    random = np.random.default_rng(0)
    shapes = [(1, 3, 16, 24), (2, 3, 24, 16), (1, 3, 8, 8)]
    samples = nets.InMemorySamples(
        [{"x": random.standard_normal(shape).astype(np.float32)} for shape in shapes]
    )
    for policy in ("tensorrt", "onnxruntime"):
        for scales in ("mse", "auto"):
            options = QuantizeOptions(policy, scales=scales, i_know=("all",))
            output = tmp_path / f"{policy}-{scales}.onnx"
            model = quantize(file, samples, output, options).model
            for sample in samples:
                (before,), (after,) = nets.run(file, sample), nets.run(model, sample)
                assert nets.sqnr_db(before, after) > 30
            axes = model.proto.graph.input[0].type.tensor_type.shape.dim
            assert [axis.dim_param for axis in axes] == ["batch", "", "height", "width"]


def test_other_ways_to_say_any_size(tmp_path: Path) -> None:
    """-1, nothing, and no shape at all."""
    for change in ("negative", "unset", "rankless"):
        proto = operators.free_axes()
        shape = proto.graph.input[0].type.tensor_type.shape
        for axis in (0, 2, 3):
            shape.dim[axis].Clear()
            if change == "negative":
                shape.dim[axis].dim_value = -1
        if change == "rankless":
            proto.graph.input[0].type.tensor_type.ClearField("shape")
        file = nets.saved_bare(proto, tmp_path / f"{change}.onnx")
        random = np.random.default_rng(0)
        samples = nets.InMemorySamples(
            [{"x": random.standard_normal((1, 3, n, 16)).astype(np.float32)} for n in (16, 24)]
        )
        options = QuantizeOptions("onnxruntime", i_know=("all",))
        model = quantize(file, samples, tmp_path / f"{change}.int8.onnx", options).model
        sample = next(iter(samples))
        (before,), (after,) = nets.run(operators.free_axes(), sample), nets.run(model, sample)
        assert nets.sqnr_db(before, after) > 30, change
