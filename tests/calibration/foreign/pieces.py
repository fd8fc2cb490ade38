"""What the graphs of this folder have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.calibration.nets import Net

F32 = np.float32


def end(net: Net, value: str, channels: int, *, opset: int = 17) -> onnx.ModelProto:
    """Close with a 1x1 convolution and a Sigmoid, so that every policy quantizes what is before."""
    last = net.conv("last", value, (channels, 4), 1, relu=False)
    return net.model(net.node("end", "Sigmoid", last), opset=opset)


def hard_swish(net: Net, name: str, x: str) -> str:
    """As Paddle and old torch exports spell it: x * clip(x + 3, 0, 6) / 6."""
    three, zero, six = (net.constant(f"{name}/{v}", F32(v)) for v in (3, 0, 6))
    gate = net.node(f"{name}/clip", "Clip", net.node(f"{name}/add", "Add", x, three), zero, six)
    return net.node(f"{name}/div", "Div", net.node(f"{name}/mul", "Mul", x, gate), six)


def ones(net: Net, name: str, *shape: int) -> str:
    return net.constant(name, np.ones(shape, F32))


def integers(net: Net, name: str, *values: int) -> str:
    return net.constant(name, np.array(values, np.int64))


def unchecked(
    net: Net, outputs: dict[str, list[int] | None], *domains: str, **options: Any
) -> onnx.ModelProto:
    """A model with outputs of these shapes, which inference could not tell."""
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()]
    graph = helper.make_graph(net.nodes, "net", net.inputs, infos, net.initializers)
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **options)
