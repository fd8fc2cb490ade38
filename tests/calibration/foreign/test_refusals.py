"""What cannot be quantized is refused with the reason and the next thing to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration import QuantizeOptions, quantize
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from tests.calibration import nets
from tests.calibration.foreign import bodies, operators, zoo
from tests.calibration.foreign.pieces import F32, unchecked


def refused(tmp_path: Path, proto: onnx.ModelProto, *, policy: str = "tensorrt") -> str:
    file = nets.saved_bare(proto, tmp_path / "m.onnx")
    options = QuantizeOptions(policy, scales="minmax", i_know=("all",))
    with pytest.raises(UserError) as caught:
        quantize(file, zoo.feeds(proto), tmp_path / "q.onnx", options)
    assert not (tmp_path / "q.onnx").exists()
    assert caught.value.fix
    return str(caught.value)


# ------------------------------------------------------------------ quantized already


def qdq() -> onnx.ModelProto:
    net = nets.Net([1, 4, 8, 8])
    step, zero = net.constant("s", F32(0.1)), net.constant("z", np.int8(0))
    q = net.node("q", "QuantizeLinear", "x", step, zero)
    return net.model(net.conv("c", net.node("dq", "DequantizeLinear", q, step, zero), (4, 4)))


def integer_convolution() -> onnx.ModelProto:
    net = nets.Net([1, 4, 8, 8], TensorProto.UINT8)
    weight = net.constant("w", np.ones((4, 4, 1, 1), np.int8))
    return net.model(net.node("ci", "ConvInteger", "x", weight), dtype=TensorProto.INT32)


def dynamic() -> onnx.ModelProto:
    net = nets.Net([2, 8])
    net.nodes.append(
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"], name="dynamic")
    )
    weight = net.constant("w", np.ones((8, 4), np.int8))
    product = net.node("mi", "MatMulInteger", "xq", weight, "xz")
    return net.model(net.node("f", "Cast", product, to=1))


def four_bits() -> onnx.ModelProto:
    net = nets.Net([2, 32])
    blocks = net.constant("w", np.zeros((8, 1, 16), np.uint8))
    scales = net.constant("s", np.ones((8,), F32))
    out = net.node(
        "nbits",
        "MatMulNBits",
        "x",
        blocks,
        scales,
        domain="com.microsoft",
        K=32,
        N=8,
        bits=4,
        block_size=32,
    )
    return unchecked(net, {out: [2, 8]}, "com.microsoft")


def inside_a_body() -> onnx.ModelProto:
    proto = bodies.conditional()
    branch = next(n for n in proto.graph.node if n.op_type == "If").attribute[0].g
    step = helper.make_node(
        "Constant", [], ["s"], value=numpy_helper.from_array(np.array(0.1, F32))
    )
    quantize_node = helper.make_node("QuantizeLinear", ["hidden", "s"], ["q"], name="inner/q")
    branch.node.insert(0, quantize_node)
    branch.node.insert(0, step)
    return proto


@pytest.mark.parametrize(
    ("build", "node", "op_type"),
    [
        (qdq, "q", "QuantizeLinear"),
        (integer_convolution, "ci", "ConvInteger"),
        (dynamic, "dynamic", "DynamicQuantizeLinear"),
        (four_bits, "nbits", "MatMulNBits"),
        (inside_a_body, "inner/q", "QuantizeLinear"),
    ],
)
def test_quantized_models(tmp_path: Path, build: zoo.Builder, node: str, op_type: str) -> None:
    said = refused(tmp_path, build())
    assert f"m.onnx is quantized already: node {node!r} is {op_type}" in said
    assert "Quantize the float model that it was made from" in said


# ------------------------------------------------------------------ nothing to quantize


def test_fp16_models(tmp_path: Path) -> None:
    net = nets.Net([1, 4, 8, 8], TensorProto.FLOAT16)
    weight = net.constant("w", np.ones((4, 4, 1, 1), np.float16))
    out = net.node("c", "Conv", net.node("r", "Relu", "x"), weight)
    said = refused(tmp_path, net.model(out, dtype=TensorProto.FLOAT16))
    assert "holds FP16 weights, first in node 'c'" in said
    assert "Quantize the FP32 model that it was cast from, and say --rest fp16" in said


def test_half_of_a_model_in_fp16_stays_as_it_is(tmp_path: Path) -> None:
    net = nets.Net([1, 4, 8, 8])
    a = net.node("down", "Cast", net.conv("first", "x", (4, 4)), to=TensorProto.FLOAT16)
    weight = net.constant("w", np.full((4, 4, 1, 1), 0.3, np.float16))
    b = net.node("up", "Cast", net.node("half", "Conv", a, weight), to=TensorProto.FLOAT)
    proto = net.model(net.conv("last", b, (4, 2), 1, relu=False))
    file = nets.saved(proto, tmp_path / "m.onnx")
    report = quantize(file, zoo.feeds(proto), tmp_path / "q.onnx").report
    assert report["quantized"] == {"Conv": 2}
    reasons = {s["node"]: s["reason"] for s in report["skipped"]}
    assert reasons["half"] == "weights are float16, not float32"


def test_double_precision(tmp_path: Path) -> None:
    net = nets.Net([2, 8], TensorProto.DOUBLE)
    weight = net.constant("w", np.ones((8, 4)))
    said = refused(
        tmp_path, net.model(net.node("m", "MatMul", "x", weight), dtype=TensorProto.DOUBLE)
    )
    assert "can be quantized: 'm' weights are float64, not float32" in said


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    net = nets.Net([2, 8])
    array = np.ones((8, 4), F32)
    array[0, 0] = np.nan
    out = net.node("m", "MatMul", "x", net.constant("w", array))
    assert "'m' weights hold NaN or infinity" in refused(tmp_path, net.model(out))


def test_no_weighted_operator(tmp_path: Path) -> None:
    net = nets.Net([2, 8])
    said = refused(tmp_path, net.model(net.node("r", "Relu", "x")))
    assert "m.onnx has no Conv, ConvTranspose, Gemm, MatMul: there is nothing to quantize" in said
    assert "edgeport inspect FILE" in said


def test_products_of_activations_only(tmp_path: Path) -> None:
    net = nets.Net([2, 8, 8])
    said = refused(tmp_path, net.model(net.node("m", "MatMul", "x", "x")))
    assert "'m' both inputs are activations" in said


def test_weights_in_a_recurrent_layer_only(tmp_path: Path) -> None:
    net = nets.Net([5, 1, 8])
    w, r = net.weight("w", 1, 24, 8, fan_in=8), net.weight("r", 1, 24, 6, fan_in=6)
    said = refused(tmp_path, net.model(net.node("lstm", "LSTM", "x", w, r, hidden_size=6)))
    assert "has its weights in LSTM 'lstm', which stays float" in said
    assert "edgeport cast FILE --to fp16" in said


def test_weights_in_control_flow_only(tmp_path: Path) -> None:
    proto = bodies.loop()
    nodes = {node.name: node for node in proto.graph.node}
    nodes["loop"].input[2] = "x"
    nodes["end"].input[0] = "loop_out"
    for name in ("before", "after"):
        proto.graph.node.remove(nodes[name])
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4
    said = refused(tmp_path, proto)
    assert "all 1 weighted nodes of" in said
    assert "are in bodies of control flow (first 'loop/mm' in Loop 'loop')" in said
    assert "without If, Loop or Scan around its layers" in said


def test_sparse_weights(tmp_path: Path) -> None:
    proto = operators.grouped()
    values = numpy_helper.from_array(np.ones(1, F32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "sparse.i")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    assert "has sparse initializers, first 'sparse'" in refused(tmp_path, proto)


# ------------------------------------------------------------------ damaged files


def test_truncated_files_at_any_length(tmp_path: Path) -> None:
    whole = operators.depthwise().SerializeToString()
    for length in (0, 1, 7, 100, len(whole) // 2, len(whole) - 1):
        path = tmp_path / f"{length}.onnx"
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"truncated|no valid ONNX|nothing to quantize"):
            quantize(path, zoo.feeds(operators.depthwise()), tmp_path / "q.onnx")


def test_corrupt_files(tmp_path: Path) -> None:
    """Bytes exchanged anywhere: an error of ours, or a model that runs; never a traceback."""
    whole = bytearray(operators.grouped().SerializeToString())
    random = np.random.default_rng(0)
    refusals = 0
    options = QuantizeOptions(scales="minmax", i_know=("all",), overwrite=True)
    for _ in range(60):
        damaged = bytearray(whole)
        for position in random.integers(0, len(whole), 3):
            damaged[position] = random.integers(0, 256)
        path = tmp_path / "m.onnx"
        path.write_bytes(bytes(damaged))
        try:
            quantize(path, zoo.feeds(operators.grouped()), tmp_path / "q.onnx", options)
        except UserError:
            refusals += 1
    assert refusals > 5


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file", b"\x89PNG\r\n", b"{}\n"])
def test_files_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"m\.onnx (is not a readable ONNX file|holds no graph)"):
        quantize(path, zoo.feeds(operators.grouped()), tmp_path / "q.onnx")


def invalid(change: str) -> onnx.ModelProto:
    proto = operators.grouped()
    first = proto.graph.node[0]
    if change == "no such tensor":
        first.input[0] = "nowhere"
    elif change == "two makers":
        proto.graph.node[1].output[0] = first.output[0]
    elif change == "no such operator":
        first.op_type = "Convolve"
    elif change == "wrong shape":
        del first.attribute[:]
        proto.graph.initializer[0].dims[:] = [8, 2, 3, 6]
    elif change == "cycle":
        first.input[0] = proto.graph.node[2].output[0]
    elif change == "opset":
        proto.opset_import[0].version = 99
    return proto


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("no such tensor", "is no valid ONNX model: Nodes in a graph must be topologically sorted"),
        ("two makers", "is no valid ONNX model: Graph must be in single static assignment"),
        ("no such operator", "is no valid ONNX model: No Op registered for Convolve"),
        ("wrong shape", "ONNX Runtime cannot"),
        ("cycle", "is no valid ONNX model: Nodes in a graph must be topologically sorted"),
        ("opset", "ONNX Runtime cannot load"),
    ],
)
def test_invalid_graphs(tmp_path: Path, change: str, words: str) -> None:
    assert words in refused(tmp_path, invalid(change))


def test_a_directory_and_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.onnx"):
        with pytest.raises(UserError, match="no model file at"):
            ModelFile(path)
