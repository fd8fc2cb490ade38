"""The canonical form computes what the file computed, and keeps its names."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from calibration.graph.prepare import prepare
from calibration.graph.queries import constant
from exporters.errors import UserError
from tests.calibration import nets


def feeds(proto: onnx.ModelProto) -> dict[str, nets.Array]:
    return next(iter(nets.samples(proto, 1)))


def batch_norm(net: nets.Net, name: str, x: str, channels: int) -> str:
    random = np.random.default_rng(3)
    parameters = [
        net.constant(f"{name}.{part}", random.uniform(0.5, 2, channels).astype(np.float32))
        for part in ("gamma", "beta", "mean", "variance")
    ]
    return net.node(name, "BatchNormalization", x, *parameters, epsilon=1e-3)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_batch_norm_is_folded_exactly(transposed: bool, bias: bool) -> None:
    net = nets.Net([1, 3, 8, 8])
    if transposed:
        inputs = ["x", net.weight("w", 3, 4, 2, 2)]
        inputs += [net.constant("b", np.ones(4, np.float32))] if bias else []
        conv = net.node("conv", "ConvTranspose", *inputs)
    else:
        conv = net.conv("conv", "x", (3, 4), relu=False, bias=bias)
    proto = net.model(net.node("relu", "Relu", batch_norm(net, "bn", conv, 4)))
    prepared = prepare(proto)
    assert [node.op_type for node in prepared.graph][-1] == "Relu"
    assert len(list(prepared.graph)) == 2
    assert prepared.graph[0].outputs[0].name == "bn_out"
    # float32 rounding of the folded weights
    after = nets.run(ir.to_proto(prepared), feeds(proto))[0]
    np.testing.assert_allclose(after, nets.run(proto, feeds(proto))[0], rtol=1e-4, atol=1e-5)


def test_batch_norm_at_the_output_keeps_the_outputs_name() -> None:
    net = nets.Net([1, 3, 8, 8])
    proto = net.model(batch_norm(net, "bn", net.conv("conv", "x", (3, 4), relu=False), 4))
    prepared = ir.to_proto(prepare(proto))
    assert prepared.graph.output[0].name == "bn_out"
    assert [node.op_type for node in prepared.graph.node] == ["Conv"]


def test_a_batch_norm_with_two_readers_of_its_input_is_kept() -> None:
    net = nets.Net([1, 3, 8, 8])
    conv = net.conv("conv", "x", (3, 4), relu=False)
    proto = net.model(batch_norm(net, "bn", conv, 4), net.node("relu", "Relu", conv))
    assert "BatchNormalization" in [node.op_type for node in prepare(proto).graph]


def test_weights_behind_constant_chains_become_initializers() -> None:
    net = nets.Net([2, 6])
    transposed = net.node("t", "Transpose", net.weight("w", 4, 6), perm=[1, 0])
    value = numpy_helper.from_array(np.float32(2.0), "two")
    net.nodes.append(helper.make_node("Constant", [], ["two"], name="two", value=value))
    doubled = net.node("double", "Mul", transposed, "two")
    proto = net.model(net.node("matmul", "MatMul", "x", doubled))
    prepared = prepare(proto)
    assert [node.op_type for node in prepared.graph] == ["MatMul"]
    weight = constant(prepared.graph[0].inputs[1])
    assert weight is not None
    assert weight.shape == (6, 4)
    after = nets.run(ir.to_proto(prepared), feeds(proto))[0]
    np.testing.assert_array_equal(after, nets.run(proto, feeds(proto))[0])


def test_an_old_opset_is_raised_and_the_description_survives() -> None:
    net = nets.Net([1, 3, 8, 8])
    proto = net.model(net.conv("conv", "x", (3, 4)), opset=11)
    proto.metadata_props.add(key="who", value="me")
    prepared = prepare(proto)
    assert prepared.graph.opset_imports[""] == 17
    assert prepared.metadata_props["who"] == "me"


def test_a_recent_opset_stays() -> None:
    assert prepare(nets.chain(opset=20)).graph.opset_imports[""] == 20


def test_nodes_without_a_name_get_one() -> None:
    proto = nets.chain()
    for node in proto.graph.node:
        node.name = ""
    names = [node.name for node in prepare(proto).graph]
    assert all(names)
    assert len(set(names)) == len(names)


def test_kernel_shape_is_written_down() -> None:
    proto = nets.chain()
    for node in proto.graph.node:
        kept = [a for a in node.attribute if a.name != "kernel_shape"]
        del node.attribute[:]
        node.attribute.extend(kept)
    conv = prepare(proto).graph[0]
    assert list(conv.attributes["kernel_shape"].value) == [3, 3]


def test_the_input_is_left_alone() -> None:
    proto = nets.chain()
    before = proto.SerializeToString(deterministic=True)
    prepare(proto)
    assert proto.SerializeToString(deterministic=True) == before


def test_fp16_weights_are_refused() -> None:
    net = nets.Net([2, 6], dtype=onnx.TensorProto.FLOAT16)
    weight = net.constant("w", np.ones((6, 4), np.float16))
    proto = net.model(net.node("matmul", "MatMul", "x", weight), dtype=onnx.TensorProto.FLOAT16)
    with pytest.raises(UserError, match="holds FP16 weights, first in node 'matmul'"):
        prepare(proto)


def test_a_model_without_weights_is_refused() -> None:
    net = nets.Net([2, 6])
    proto = net.model(net.node("relu", "Relu", "x"))
    with pytest.raises(UserError, match="there is nothing to quantize"):
        prepare(proto)
