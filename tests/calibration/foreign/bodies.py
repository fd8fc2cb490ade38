"""Graphs with weights in control flow, in functions, and in operators of other domains."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.calibration.foreign.pieces import F32, end, ones, unchecked
from tests.calibration.nets import Net


def branch(name: str, weight: str, *, conv: bool) -> onnx.GraphProto:
    """A body that captures ``hidden`` and, for a convolution, the outer ``weight``."""
    node = (
        helper.make_node("Conv", ["hidden", weight], [f"{name}_out"], name=f"{name}/conv")
        if conv
        else helper.make_node("Identity", ["hidden"], [f"{name}_out"], name=f"{name}/id")
    )
    info = helper.make_empty_tensor_value_info(f"{name}_out")
    return helper.make_graph([node], name, [], [info])


def conditional() -> onnx.ModelProto:
    """A convolution before, one inside the branch of an If, one behind."""
    net = Net([1, 3, 8, 8])
    a = net.conv("before", "x", (3, 4))
    net.nodes.append(helper.make_node("Identity", [a], ["hidden"], name="hidden"))
    net.weight("inner.w", 4, 4, 1, 1)
    mean = net.node("mean", "ReduceMean", a, keepdims=0)
    flag = net.node("flag", "Greater", mean, net.constant("tenth", F32(0.1)))
    out = net.node(
        "if",
        "If",
        flag,
        then_branch=branch("then", "inner.w", conv=True),
        else_branch=branch("else", "inner.w", conv=False),
    )
    return end(net, net.node("relu", "Relu", out), 4)


def loop() -> onnx.ModelProto:
    """A MatMul inside a Loop that runs three times."""
    net = Net([2, 4])
    a = net.node("before", "MatMul", "x", net.weight("bw", 4, 4, fan_in=4))
    net.weight("lw", 4, 4, fan_in=8)
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h_in", "lw"], ["h_out"], name="loop/mm"),
            helper.make_node("Identity", ["c_in"], ["c_out"], name="loop/c"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("c_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h_out", TensorProto.FLOAT, None),
        ],
    )
    trips, yes = net.constant("trips", np.int64(3)), net.constant("yes", np.bool_(True))
    b = net.node("loop", "Loop", trips, yes, a, body=body)
    c = net.node("after", "MatMul", b, net.weight("aw", 4, 2, fan_in=4))
    return unchecked(net, {net.node("end", "Softmax", c, axis=-1): [2, 2]})


def scan() -> onnx.ModelProto:
    """A MatMul inside a Scan over time."""
    net = Net([5, 4])
    net.weight("sw", 4, 4, fan_in=8)
    a = net.node("before", "MatMul", "x", net.weight("bw", 4, 4, fan_in=4))
    body = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["row", "zero"], ["row2"], name="scan/u"),
            helper.make_node("MatMul", ["row2", "sw"], ["m"], name="scan/mm"),
            helper.make_node("Squeeze", ["m", "zero"], ["m1"], name="scan/s"),
            helper.make_node("Add", ["h_in", "m1"], ["h_out"], name="scan/add"),
            helper.make_node("Identity", ["h_out"], ["y"], name="scan/y"),
        ],
        "body",
        [
            helper.make_tensor_value_info("h_in", TensorProto.FLOAT, [4]),
            helper.make_tensor_value_info("row", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("h_out", TensorProto.FLOAT, [4]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [4]),
        ],
    )
    net.constant("zero", np.array([0], np.int64))
    state = net.constant("h0", np.zeros(4, F32))
    net.nodes.append(
        helper.make_node("Scan", [state, a], ["h", "ys"], name="scan", body=body, num_scan_inputs=1)
    )
    c = net.node("after", "MatMul", "ys", net.weight("aw", 4, 2, fan_in=4))
    return net.model(net.node("end", "Softmax", c, axis=-1), "h")


def function() -> onnx.ModelProto:
    """A block of weights in a function of a domain of its own, called twice."""
    net = Net([1, 4, 8, 8])
    ws = [net.weight(f"w{i}", 4, 4, 3, 3) for i in range(2)]
    y = "x"
    for i, w in enumerate(ws):
        y = net.node(f"call{i}", "Block", y, w, domain="vendor.blocks")
    last = net.conv("last", y, (4, 4), 1, relu=False)
    out = net.node("end", "Sigmoid", last)
    body = helper.make_function(
        "vendor.blocks",
        "Block",
        ["x", "w"],
        ["y"],
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1] * 4),
            helper.make_node("Relu", ["c"], ["y"], name="relu"),
        ],
        [helper.make_opsetid("", 17)],
    )
    return unchecked(net, {out: [1, 4, 8, 8]}, "vendor.blocks", functions=[body])


def contrib() -> onnx.ModelProto:
    """As ONNX Runtime's optimizer writes: FusedConv and BiasGelu of com.microsoft."""
    net = Net([1, 3, 8, 8])
    a = net.node(
        "fused",
        "FusedConv",
        "x",
        net.weight("w", 8, 3, 3, 3),
        activation="Relu",
        domain="com.microsoft",
    )
    b = net.conv("c", a, (8, 8))
    flat = net.node("flat", "Flatten", net.node("gap", "GlobalAveragePool", b), axis=1)
    fc = net.node("fc", "MatMul", flat, net.weight("fw", 8, 4, fan_in=8))
    out = net.node("gelu", "BiasGelu", fc, ones(net, "gb", 4), domain="com.microsoft")
    return unchecked(net, {out: None}, "com.microsoft")


def many_inputs() -> onnx.ModelProto:
    """As a streaming speech model takes: signal, state, sampling rate."""
    net = Net([1, 16])
    net.inputs.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 8]))
    net.inputs.append(helper.make_tensor_value_info("sr", TensorProto.INT64, []))
    rate = net.node("rate", "Cast", "sr", to=TensorProto.FLOAT)
    a = net.node("m", "MatMul", "x", net.weight("w", 16, 8, fan_in=16))
    b = net.node("h", "Tanh", net.node("add", "Add", a, "state"))
    scaled = net.node("scaled", "Mul", b, rate)
    c = net.node("m2", "MatMul", scaled, net.weight("w2", 8, 2, fan_in=8))
    return net.model(net.node("end", "Sigmoid", c), b)
