"""Graphs with every weighted operator, every place a weight may come from, and odd names."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.calibration.foreign.pieces import F32, end, hard_swish, integers, ones
from tests.calibration.nets import Net


def depthwise() -> onnx.ModelProto:
    net = Net([1, 3, 16, 16])
    a = hard_swish(net, "s1", net.conv("stem", "x", (3, 8), stride=2, relu=False))
    b = hard_swish(net, "s2", net.conv("dw", a, (8, 8), group=8, relu=False))
    return end(net, net.conv("pw", b, (8, 8), 1), 8)


def grouped() -> onnx.ModelProto:
    net = Net([1, 4, 12, 12])
    a = net.conv("g1", net.conv("stem", "x", (4, 8)), (8, 8), group=4)
    return end(net, net.conv("g2", a, (8, 16), group=2), 16)


def one_dimensional() -> onnx.ModelProto:
    net = Net([1, 4, 40])
    a = net.node("c1", "Conv", "x", net.weight("w1", 8, 4, 3), pads=[2, 2], dilations=[2])
    b = net.node("c2", "Conv", net.node("r", "Relu", a), net.weight("w2", 8, 8, 3), strides=[2])
    c = net.node("c3", "Conv", net.node("r2", "Relu", b), net.weight("w3", 4, 8, 1))
    return net.model(net.node("end", "Sigmoid", c))


def three_dimensional() -> onnx.ModelProto:
    net = Net([1, 2, 6, 8, 8])
    a = net.node("c1", "Conv", "x", net.weight("w1", 4, 2, 3, 3, 3), pads=[1] * 6)
    b = net.node("c2", "Conv", net.node("r", "Relu", a), net.weight("w2", 4, 4, 1, 3, 3))
    return net.model(net.node("end", "Sigmoid", b))


def transposed() -> onnx.ModelProto:
    """ConvTranspose: plain, grouped, with output_padding and bias."""
    net = Net([1, 4, 8, 8])
    a = net.conv("stem", "x", (4, 8))
    b = net.node(
        "up1", "ConvTranspose", a, net.weight("u1", 8, 4, 2, 2, fan_in=16), strides=[2, 2], group=2
    )
    bias = net.constant("b2", np.linspace(-1, 1, 4, dtype=F32))
    c = net.node(
        "up2",
        "ConvTranspose",
        net.node("r", "Relu", b),
        net.weight("u2", 8, 4, 3, 3, fan_in=36),
        bias,
        strides=[2, 2],
        pads=[1] * 4,
        output_padding=[1, 1],
    )
    return end(net, net.node("r2", "Relu", c), 4)


def same_padded() -> onnx.ModelProto:
    """As TensorFlow converters write it: auto_pad, Pad before a VALID Conv, Transpose around."""
    net = Net([1, 9, 9, 3])
    a = net.node("nchw", "Transpose", "x", perm=[0, 3, 1, 2])
    b = net.node(
        "c1", "Conv", a, net.weight("w1", 8, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"
    )
    pads = net.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    c = net.node("pad", "Pad", net.node("r", "Relu", b), pads)
    d = net.node("c2", "Conv", c, net.weight("w2", 8, 8, 3, 3), auto_pad="VALID")
    e = net.node("back", "Transpose", net.node("r2", "Relu", d), perm=[0, 2, 3, 1])
    return net.model(net.node("end", "Softmax", e, axis=-1))


def gemms() -> onnx.ModelProto:
    """Every way to write a linear layer."""
    net = Net([3, 16])
    a = net.node("plain", "Gemm", "x", net.weight("g1", 16, 8, fan_in=16), ones(net, "b1", 8))
    b = net.node("transB", "Gemm", net.node("r1", "Relu", a), net.weight("g2", 8, 8), transB=1)
    row, third = ones(net, "b3", 1, 8), net.weight("g3", 8, 8)
    b = net.node("r2", "Relu", b)
    c = net.node("alpha", "Gemm", b, third, row, alpha=0.5, transB=1)
    d = net.node("beta", "Gemm", net.node("r3", "Relu", c), net.weight("g4", 8, 8), row, beta=0.25)
    flipped = net.node("flip", "Transpose", net.node("r4", "Relu", d), perm=[1, 0])
    one = net.constant("b5", F32(0.5))
    e = net.node("transA", "Gemm", flipped, net.weight("g5", 8, 4, fan_in=8), one, transA=1)
    return net.model(net.node("end", "Softmax", e, axis=-1))


def matmuls() -> onnx.ModelProto:
    """2-D, batched and transposed weights; weights on the left; products of activations."""
    net = Net([2, 5, 16])
    a = net.node("plain", "MatMul", "x", net.weight("m1", 16, 8, fan_in=16))
    a = net.node("bias", "Add", a, net.constant("mb", np.ones(8, F32)))
    turned = net.node("turn", "Transpose", net.weight("m2", 8, 8), perm=[1, 0])
    b = net.node("turned", "MatMul", net.node("r1", "Relu", a), turned)
    c = net.node("batched", "MatMul", b, net.weight("m3", 2, 8, 8, fan_in=8))
    d = net.node("left", "MatMul", net.weight("m4", 5, 5, fan_in=5), c)
    scores = net.node("scores", "MatMul", d, net.node("t", "Transpose", d, perm=[0, 2, 1]))
    mixed = net.node("mixed", "MatMul", net.node("soft", "Softmax", scores, axis=-1), d)
    vector = net.node("vector", "MatMul", mixed, net.weight("m5", 8, fan_in=8))
    return net.model(net.node("end", "Sigmoid", vector))


# ------------------------------------------------------------------ where weights come from


def weights_behind_nodes() -> onnx.ModelProto:
    """Identity, Cast of FP16, Constant nodes, and Reshape of a Transpose before a weight."""
    net = Net([1, 4, 8, 8])
    w1 = net.node("id", "Identity", net.weight("w1", 8, 4, 3, 3))
    a = net.node("c1", "Conv", "x", w1, pads=[1] * 4)
    half = net.random.standard_normal((8, 8, 3, 3)).astype(np.float16) / np.float16(8)
    w2 = net.node("cast", "Cast", net.constant("w2", half), to=TensorProto.FLOAT)
    b = net.node("c2", "Conv", net.node("r1", "Relu", a), w2, pads=[1] * 4)
    array = net.random.standard_normal((8, 8, 1, 1)).astype(F32) / F32(3)
    net.nodes.append(
        helper.make_node("Constant", [], ["w3"], name="w3", value=numpy_helper.from_array(array))
    )
    c = net.node("c3", "Conv", net.node("r2", "Relu", b), "w3")
    turned = net.node("turn", "Transpose", net.weight("w4", 8, 4, fan_in=8), perm=[1, 0])
    w4 = net.node("shaped", "Reshape", turned, integers(net, "shape", 4, 8, 1, 1))
    d = net.node("c4", "Conv", net.node("r3", "Relu", c), w4)
    return net.model(net.node("end", "Sigmoid", d))


def shared_weights() -> onnx.ModelProto:
    """One weight and one bias for two convolutions whose inputs differ in range by 30."""
    net = Net([1, 4, 8, 8])
    weight, bias = net.weight("w", 4, 4, 3, 3), net.constant("b", np.linspace(-1, 1, 4, dtype=F32))
    a = net.node("r1", "Relu", net.node("c1", "Conv", "x", weight, bias, pads=[1] * 4))
    thirty = net.constant("thirty", np.full((8, 8), 30, F32))  # one number would be folded away
    wide = net.node("wide", "Mul", a, thirty)
    b = net.node("r2", "Relu", net.node("c2", "Conv", wide, weight, bias, pads=[1] * 4))
    return end(net, b, 4)


def tied_weights() -> onnx.ModelProto:
    """A weight that something else reads too, and that is a graph output."""
    net = Net([3, 8])
    weight = net.weight("w", 8, 8)
    a = net.node("m", "Gemm", "x", weight)
    total = net.node("sum", "ReduceSum", weight)
    b = net.node("m2", "Gemm", net.node("r", "Relu", net.node("add", "Add", a, total)), weight)
    return net.model(net.node("end", "Softmax", b, axis=-1), net.node("w_out", "Identity", weight))


def initializers_as_inputs(ir_version: int = 3) -> onnx.ModelProto:
    """IR version 3, which lists every initializer among the inputs too."""
    net = Net([1, 3, 8, 8])
    proto = end(net, net.conv("c1", "x", (3, 8)), 8, opset=13)
    proto.ir_version = ir_version
    for item in proto.graph.initializer:
        info = helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
        proto.graph.input.append(info)
    onnx.checker.check_model(proto)
    return proto


def unfolded_batch_norms() -> onnx.ModelProto:
    """Batch norms after Gemm, before a convolution, and after a sum: few can be folded."""
    net = Net([1, 4, 8, 8])

    def norm(name: str, x: str, channels: int) -> str:
        arrays = [net.random.uniform(0.5, 2, channels).astype(F32) for _ in range(4)]
        parameters = [net.constant(f"{name}.{i}", a) for i, a in enumerate(arrays)]
        return net.node(name, "BatchNormalization", x, *parameters)

    a = net.conv("c1", net.node("r0", "Relu", norm("bn0", "x", 4)), (4, 8), relu=False)
    b = net.conv("c2", net.node("r1", "Relu", norm("bn1", a, 8)), (8, 8), relu=False)
    joined = norm("bn2", net.node("add", "Add", a, b), 8)
    c = net.conv("c3", net.node("r2", "Relu", joined), (8, 8))
    flat = net.node("flat", "Flatten", net.node("gap", "GlobalAveragePool", c), axis=1)
    d = norm("bn3", net.node("fc", "Gemm", flat, net.weight("fcw", 8, 8), transB=1), 8)
    return net.model(net.node("end", "Softmax", d, axis=-1))


# ------------------------------------------------------------------ names and shapes


def odd_names() -> onnx.ModelProto:
    """Names with spaces, slashes, colons, quotes, umlauts; some that our own would collide with."""
    net = Net([1, 3, 8, 8])
    a = net.conv("a b/ç:0 'q\"", "x", (3, 8))
    net.constant("x/scale", F32(3))
    b = net.node("x/quantized", "Min", a, "x/scale")
    return end(net, net.conv("", b, (8, 8)), 8)


def same_names() -> onnx.ModelProto:
    """Every node has the same name, or none."""
    proto = depthwise()
    for index, node in enumerate(proto.graph.node):
        node.name = "node" if index % 2 else ""
    return proto


def free_axes() -> onnx.ModelProto:
    """Batch, height and width are free, and a Resize takes its size from a Shape."""
    net = Net(["batch", 3, "height", "width"])
    a = net.conv("c1", "x", (3, 8), stride=2)
    size = net.node("shape", "Shape", "x")
    zero, two, four = (integers(net, f"k{i}", i) for i in (0, 2, 4))
    size = net.node("hw", "Slice", size, two, four)
    channels = net.node("nc", "Slice", net.node("sh2", "Shape", a), zero, two)
    size = net.node("size", "Concat", channels, size, axis=0)
    b = net.node("up", "Resize", a, "", "", size, mode="nearest")
    return end(net, net.conv("c2", b, (8, 8)), 8)
