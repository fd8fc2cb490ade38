"""Graphs of the shapes that networks have: residuals, pyramids, gates, concatenations."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tests.calibration.foreign.pieces import F32, end, hard_swish, integers, ones
from tests.calibration.nets import Net


def feature_pyramid(mode: str = "nearest") -> onnx.ModelProto:
    """Top-down path of an FPN: lateral 1x1, upsample, add, smooth."""
    net = Net([1, 3, 32, 32])
    c2 = net.conv("c2", "x", (3, 8), stride=2)
    c3 = net.conv("c3", c2, (8, 8), stride=2)
    c4 = net.conv("c4", c3, (8, 8), stride=2)
    scales = net.constant("scales", np.array([1, 1, 2, 2], F32))
    top = net.conv("l4", c4, (8, 8), 1, relu=False)
    outs = [net.conv("o4", top, (8, 4), relu=False)]
    for level, feature in (("3", c3), ("2", c2)):
        up = net.node(f"up{level}", "Resize", top, "", scales, mode=mode)
        lateral = net.conv(f"l{level}", feature, (8, 8), 1, relu=False)
        top = net.node(f"add{level}", "Add", lateral, up)
        outs.append(net.conv(f"o{level}", top, (8, 4), relu=False))
    return net.model(*(net.node(f"end{i}", "Sigmoid", out) for i, out in enumerate(outs)))


def path_aggregation() -> onnx.ModelProto:
    """YOLO-like: SiLU, split and concat, upsample and concat, max pools of one tensor."""
    net = Net([1, 3, 32, 32])

    def block(name: str, x: str, channels: tuple[int, int], *shape: int) -> str:
        c = net.conv(name, x, channels, *shape, relu=False)
        return net.node(f"{name}/mul", "Mul", c, net.node(f"{name}/sig", "Sigmoid", c))

    p1 = block("p1", "x", (3, 8), 3, 2)
    whole = block("c2f.in", p1, (8, 8), 1)
    net.nodes.append(helper.make_node("Split", [whole], ["left", "right"], name="split", axis=1))
    inner = block("c2f.b", block("c2f.a", "right", (4, 4)), (4, 4))
    inner = net.node("short", "Add", "right", inner)
    p2 = block("c2f.out", net.node("cat1", "Concat", "left", "right", inner, axis=1), (12, 8), 1)
    p3 = block("p3", p2, (8, 8), 3, 2)
    pool = [block("spp.in", p3, (8, 4), 1)]
    for i in range(2):
        pool.append(net.node(f"pool{i}", "MaxPool", pool[-1], kernel_shape=[5, 5], pads=[2] * 4))
    spp = block("spp.out", net.node("cat2", "Concat", *pool, axis=1), (12, 8), 1)
    scales = net.constant("scales", np.array([1, 1, 2, 2], F32))
    up = net.node("up", "Resize", spp, "", scales, mode="nearest")
    neck = block("neck", net.node("cat3", "Concat", up, p2, axis=1), (16, 8))
    return end(net, neck, 8)


def squeeze_and_excite() -> onnx.ModelProto:
    """MobileNetV3: HardSwish, HardSigmoid gates, a residual around all of it."""
    net = Net([1, 3, 16, 16])
    stem = hard_swish(net, "s0", net.conv("stem", "x", (3, 8), relu=False))
    a = hard_swish(net, "s1", net.conv("expand", stem, (8, 16), 1, relu=False))
    b = net.node("hs", "HardSwish", net.conv("dw", a, (16, 16), group=16, relu=False))
    gate = net.conv("se1", net.node("gap", "GlobalAveragePool", b), (16, 4), 1)
    gate = net.node("gate", "HardSigmoid", net.conv("se2", gate, (4, 16), 1, relu=False))
    c = net.conv("project", net.node("scale", "Mul", b, gate), (16, 8), 1, relu=False)
    return end(net, net.conv("next", net.node("res", "Add", c, stem), (8, 8)), 8)


def residual_chain() -> onnx.ModelProto:
    """Two identity blocks, a projection block, a bottleneck with pre-activation."""
    net = Net([1, 3, 16, 16])
    x = net.conv("stem", "x", (3, 8))
    for name in ("b1", "b2"):
        a = net.conv(f"{name}.c2", net.conv(f"{name}.c1", x, (8, 8)), (8, 8), relu=False)
        x = net.node(f"{name}/relu", "Relu", net.node(f"{name}/add", "Add", x, a))
    a = net.conv("b3.c2", net.conv("b3.c1", x, (8, 16), stride=2), (16, 16), relu=False)
    x = net.node("b3/add", "Add", net.conv("b3.p", x, (8, 16), 1, 2, relu=False), a)
    a = net.conv("b4.c1", net.node("b4/pre", "Relu", x), (16, 16), relu=False)
    x = net.node("b4/add", "Add", a, x)
    return end(net, net.node("b4/relu", "Relu", x), 16)


def dense_block() -> onnx.ModelProto:
    """DenseNet: every layer reads the Concat of all before."""
    net = Net([1, 3, 12, 12])
    parts = [net.conv("stem", "x", (3, 4))]
    for i in range(3):
        joined = parts[0] if i == 0 else net.node(f"cat{i}", "Concat", *parts, axis=1)
        parts.append(net.conv(f"c{i}", joined, (4 * (i + 1), 4)))
    joined = net.node("cat", "Concat", *parts, axis=1)
    pooled = net.node("avg", "AveragePool", joined, kernel_shape=[2, 2], strides=[2, 2])
    return end(net, net.conv("after", pooled, (16, 8), 1), 8)


def shuffle() -> onnx.ModelProto:
    """ShuffleNet: split, depthwise, Concat, channel shuffle by Reshape and Transpose."""
    net = Net([1, 3, 16, 16])
    stem = net.conv("stem", "x", (3, 8))
    net.nodes.append(helper.make_node("Split", [stem], ["keep", "work"], name="split", axis=1))
    a = net.conv("pw1", "work", (4, 4), 1)
    a = net.conv("pw2", net.conv("dw", a, (4, 4), group=4, relu=False), (4, 4), 1)
    joined = net.node("cat", "Concat", "keep", a, axis=1)
    wide = net.node("r5", "Reshape", joined, integers(net, "five", 1, 2, 4, 16, 16))
    turned = net.node("t", "Transpose", wide, perm=[0, 2, 1, 3, 4])
    shuffled = net.node("r4", "Reshape", turned, integers(net, "four", 1, 8, 16, 16))
    return end(net, net.conv("next", shuffled, (8, 8), 1), 8)


def transformer() -> onnx.ModelProto:
    """One encoder layer: LayerNormalization, attention, Gelu by Erf."""
    net = Net([1, 6, 16])

    def linear(name: str, x: str, n: int, m: int) -> str:
        y = net.node(f"{name}/mm", "MatMul", x, net.weight(f"{name}.w", n, m, fan_in=n))
        bias = (net.random.standard_normal(m) * 0.1).astype(F32)
        return net.node(f"{name}/add", "Add", y, net.constant(f"{name}.b", bias))

    def norm(name: str, x: str) -> str:
        parameters = [ones(net, f"{name}.g", 16), net.constant(f"{name}.b", np.zeros(16, F32))]
        return net.node(name, "LayerNormalization", x, *parameters)

    h = norm("ln1", "x")
    q, k, v = (linear(n, h, 16, 16) for n in "qkv")
    scores = net.node("scores", "MatMul", q, net.node("kt", "Transpose", k, perm=[0, 2, 1]))
    mixed = net.node("mixed", "MatMul", net.node("soft", "Softmax", scores, axis=-1), v)
    a = net.node("res1", "Add", linear("o", mixed, 16, 16), "x")
    m = linear("fc1", norm("ln2", a), 16, 32)
    root, one, half = (net.constant(f"k{i}", F32(v)) for i, v in enumerate((2**0.5, 1, 0.5)))
    erf = net.node("erf", "Erf", net.node("div", "Div", m, root))
    gelu = net.node("gm", "Mul", net.node("g", "Mul", m, net.node("e1", "Add", erf, one)), half)
    return net.model(net.node("res2", "Add", linear("fc2", gelu, 32, 16), a))


def recurrent(op_type: str = "LSTM") -> onnx.ModelProto:
    """A convolution, an LSTM, GRU or RNN, a linear layer."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type]
    net = Net([1, 4, 20])
    a = net.node("c", "Conv", "x", net.weight("cw", 8, 4, 3), pads=[1, 1])
    t = net.node("t", "Transpose", net.node("r", "Relu", a), perm=[2, 0, 1])
    w, r = net.weight("lw", 1, gates * 6, 8, fan_in=8), net.weight("lr", 1, gates * 6, 6, fan_in=6)
    h = net.node("lstm", op_type, t, w, r, hidden_size=6)
    s = net.node("s", "Squeeze", h, integers(net, "axes", 1))
    fc = net.node("fc", "MatMul", s, net.weight("fw", 6, 2, fan_in=6))
    return net.model(net.node("end", "Sigmoid", fc))
