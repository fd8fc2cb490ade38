"""INT4 weights: packed as ONNX says, run by ONNX Runtime, built by TensorRT-RTX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from calibration import QuantizeOptions, quantize
from calibration.graph.queries import Weighted
from calibration.qdq.weights import WeightForm, integer_weights
from exporters.errors import UserError
from tests.calibration import nets
from tests.calibration.rounding.test_patches import item

NODES = [
    ("Conv", (8, 16, 3, 3), {}),
    ("Conv", (8, 16, 1), {}),
    ("Conv", (8, 4, 2, 2), {"group": 4}),
    ("ConvTranspose", (16, 8, 2, 2), {}),
    ("Gemm", (64, 8), {}),
    ("Gemm", (8, 64), {"transB": 1}),
    ("MatMul", (64, 8), {}),
]


def described(op_type: str, weight: Any, attributes: dict[str, int]) -> Weighted:
    return item(op_type, weight, **attributes)


@settings(max_examples=40, deadline=None)
@given(
    node=st.sampled_from(NODES),
    block=st.sampled_from([0, 16, 32]),
    seed=st.integers(0, 1000),
    half=st.booleans(),
)
def test_a_grid_holds_its_weights_and_onnx_reads_it_back(
    node: tuple[str, tuple[int, ...], dict[str, int]], block: int, seed: int, half: bool
) -> None:
    op_type, shape, attributes = node
    random = np.random.default_rng(seed)
    weight = random.standard_normal(shape) * random.uniform(
        0.01, 3, size=(shape[0], *[1] * (len(shape) - 1))
    )
    numbers = integer_weights(
        described(op_type, weight, attributes), None, half=half, form=WeightForm(4, block)
    )
    integers = numbers.weight.astype(np.int8)
    assert np.abs(integers).max() <= 7
    steps = np.broadcast_to(numbers.steps, numbers.weight.shape)
    # nearest: half a step, plus the rounding of the float32 scale
    off = numbers.real - weight.astype(np.float32).reshape(numbers.weight.shape)
    assert (np.abs(off) <= 0.5001 * steps).all()
    if half:
        np.testing.assert_array_equal(numbers.scale, numbers.scale.astype(np.float16))
    made = _dequantized(numbers)
    np.testing.assert_array_equal(made, numbers.real)


def _dequantized(numbers: Any) -> Any:
    """By ONNX's own reference implementation, from the packed bytes of a file."""
    inputs = {
        "q": numbers.weight,
        "s": numbers.scale,
        "z": np.zeros(numbers.scale.shape, numbers.weight.dtype),
    }
    attributes = {}
    if numbers.axis is not None and numbers.scale.ndim:
        attributes["axis"] = numbers.axis
    if numbers.block:
        attributes["block_size"] = numbers.block
    node = helper.make_node("DequantizeLinear", list(inputs), ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in inputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    read = onnx.ModelProto.FromString(model.SerializeToString())
    assert read.graph.initializer[0].data_type == onnx.TensorProto.INT4
    return ReferenceEvaluator(read).run(None, {})[0]


def transformer() -> onnx.ModelProto:
    """Two matrix products, one with a bias, and a convolution in front: ``[1, 3, 8, 8] -> …``."""
    net = nets.Net([1, 3, 8, 8])
    hidden = net.conv("stem", "x", (3, 32))
    deep = net.conv("deep", hidden, (32, 32))
    flat = net.node("flat", "Reshape", deep, net.constant("shape", np.array([1, 32, 64])))
    first = net.node("first", "MatMul", flat, net.weight("w1", 64, 48, fan_in=64))
    act = net.node("act", "Relu", first)
    second = net.node("second", "MatMul", act, net.weight("w2", 48, 16, fan_in=48))
    return net.model(second)


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("block", [0, 16])
def test_a_network_keeps_its_activations_and_runs(tmp_path: Path, policy: str, block: int) -> None:
    proto = transformer()
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), nets.samples(proto)
    options = QuantizeOptions(policy=policy, weights="int4", block=block)
    result = quantize(file, samples, tmp_path / "q.onnx", options)
    made = result.model.proto
    onnx.checker.check_model(made, full_check=True)
    assert [o.version for o in made.opset_import if o.domain == ""] == [21]
    assert made.ir_version >= 10
    ops = [node.op_type for node in made.graph.node]
    assert "QuantizeLinear" not in ops
    assert ops.count("DequantizeLinear") == 4
    int4 = [i for i in made.graph.initializer if i.data_type == onnx.TensorProto.INT4]
    assert len([i for i in int4 if i.name.endswith("/quantized")]) == 4
    sample = next(iter(samples))
    # four bits: a step of a seventh of the largest weight
    assert nets.sqnr_db(nets.run(proto, sample)[0], nets.run(made, sample)[0]) > 10
    assert [e["node"] for e in result.report["not_blocked"]] == (["stem"] if block else [])
    assert result.report["activations"]["tensors"] == 0


def test_blocks_are_nearer_than_channels(tmp_path: Path) -> None:
    proto = transformer()
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), nets.samples(proto)
    sqnr = []
    for block in (0, 64, 16):
        options = QuantizeOptions(weights="int4", block=block, overwrite=True)
        made = quantize(file, samples, tmp_path / "q.onnx", options).model
        real = [nets.run(proto, s)[0] for s in samples]
        sqnr.append(nets.sqnr_db(np.stack(real), np.stack([nets.run(made, s)[0] for s in samples])))
    assert sqnr[2] > sqnr[0] + 2
    assert sqnr[2] > sqnr[1]


@pytest.mark.parametrize("block", [0, 16])
def test_adaround_learns_four_bits(tmp_path: Path, block: int) -> None:
    proto = transformer()
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), nets.samples(proto, 12)
    other = nets.samples(proto, 6, seed=9)
    sqnr = {}
    for rounding in ("nearest", "adaround"):
        options = QuantizeOptions(weights="int4", block=block, rounding=rounding, overwrite=True)
        made = quantize(file, samples, tmp_path / "q.onnx", options).model
        real = [nets.run(proto, s)[0] for s in other]
        sqnr[rounding] = nets.sqnr_db(
            np.stack(real), np.stack([nets.run(made, s)[0] for s in other])
        )
    assert sqnr["adaround"] > sqnr["nearest"] + 0.5


def test_a_split_network_has_two_grids_of_four_bits(tmp_path: Path) -> None:
    proto = nets.chain(8)
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), nets.samples(proto)
    sqnr = {}
    for split in ("none", "cfws"):
        options = QuantizeOptions(weights="int4", split=split, overwrite=True)
        made = quantize(file, samples, tmp_path / "q.onnx", options).model
        sample = next(iter(samples))
        sqnr[split] = nets.sqnr_db(nets.run(proto, sample)[0], nets.run(made, sample)[0])
        for tensor in made.proto.graph.initializer:
            if tensor.name.endswith("/quantized"):
                assert np.abs(numpy_helper.to_array(tensor).astype(np.int8)).max() <= 7
    assert sqnr["cfws"] > sqnr["none"]


def test_raising_the_opset_changes_nothing_in_value(tmp_path: Path) -> None:
    """Split, Reduce, Pad and Resize are spelled otherwise in opset 21 than in 13."""
    net = nets.Net([1, 4, 8, 8])
    a = net.node("pad", "Pad", "x", net.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1])))
    a = net.conv("conv", a, (4, 8), 3)
    a = net.node(
        "up", "Resize", a, "", net.constant("sizes", np.array([1, 1, 2, 2], np.float32)),
        mode="nearest",
    )  # fmt: skip
    a = net.node("mean", "ReduceMean", a, axes=[2], keepdims=0)
    proto = net.model(a, opset=13)
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), nets.samples(proto)
    result = quantize(file, samples, tmp_path / "q.onnx", QuantizeOptions(weights="int4"))
    assert any("raised to 21" in change for change in result.report["canonical"]["changes"])
    sample = next(iter(samples))
    assert nets.sqnr_db(nets.run(proto, sample)[0], nets.run(result.model, sample)[0]) > 15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block": 32}, "--block 32 is for --weights int4"),
        ({"weights": "int4", "block": 24}, "a block of 24 weights has no kernel"),
        ({"weights": "int3"}, "unknown weight type 'int3'"),
    ],
)
def test_what_no_target_takes_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        QuantizeOptions(**options)


@pytest.mark.oracle
def test_tensorrt_parses_and_builds(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'edgeport[tensorrt-rtx]'")
    from tests.calibration.test_tensorrt_builds import build

    paths = []
    for name, proto in (("residual", nets.residual()), ("transformer", transformer())):
        file, samples = nets.saved(proto, tmp_path / f"{name}.onnx"), nets.samples(proto)
        for block in (0, 16):
            for rest in ("fp32", "fp16"):
                path = tmp_path / f"{name}-{block}-{rest}.onnx"
                options = QuantizeOptions(weights="int4", block=block, rest=rest)
                paths.append(quantize(file, samples, path, options).model.path)
    found = build(*paths)
    assert found["errors"] == []
    for path in paths:
        assert found["results"][str(path)]["bytes"] > 0, path.name
