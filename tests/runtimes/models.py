"""Tiny ONNX models, one idea each; every node has a name, as in the models that we export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Value = tuple[str, int, Sequence[int | str] | None]

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
INT8, UINT8, UINT16, INT32, INT64 = (
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.UINT16,
    TensorProto.INT32,
    TensorProto.INT64,
)


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def node(
    op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
) -> onnx.NodeProto:
    attributes.setdefault("name", f"{op_type.lower()}0")
    return helper.make_node(op_type, inputs, outputs, **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 19,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions)


def save(proto: onnx.ModelProto, path: Path) -> Path:
    onnx.save(proto, path)
    return path


def conv(dtype: type = np.float32, channels: int = 8) -> onnx.ModelProto:
    """Conv, bias, ReLU on 1x8x16x16."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return model(
        [
            node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["y"]),
        ],
        [("x", kind, [1, channels, 16, 16])],
        [("y", kind, [1, channels, 16, 16])],
        {
            "w": weights(channels, channels, 3, 3).astype(dtype),
            "b": weights(channels).astype(dtype),
        },
    )


def quantized_conv(zero_point: int = 0, channels: int = 8) -> onnx.ModelProto:
    """The same Conv with int8 Q/DQ: per tensor before it, per channel on its weight."""
    rng = np.random.default_rng(0)
    return model(
        [
            node("QuantizeLinear", ["x", "sx", "zx"], ["xq"], name="quantize_x"),
            node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"], name="dequantize_x"),
            node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=0, name="dequantize_w"),
            node("Conv", ["xd", "wd", "b"], ["c"], pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["y"]),
        ],
        [("x", FLOAT, [1, channels, 16, 16])],
        [("y", FLOAT, [1, channels, 16, 16])],
        {
            "w": rng.integers(-127, 128, (channels, channels, 3, 3)).astype(np.int8),
            "sx": np.float32(0.05),
            "zx": np.int8(zero_point),
            "sw": rng.uniform(0.001, 0.002, channels).astype(np.float32),
            "zw": np.zeros(channels, np.int8),
            "b": weights(channels),
        },
    )


def nms() -> onnx.ModelProto:
    """It parses everywhere, and TensorRT-RTX then cannot build it."""
    return model(
        [
            node(
                "NonMaxSuppression",
                ["boxes", "scores", "count", "iou", "score"],
                ["y"],
                name="nms0",
            )
        ],
        [("boxes", FLOAT, [1, 64, 4]), ("scores", FLOAT, [1, 3, 64])],
        [("y", INT64, ["n", 3])],
        {"count": np.array([10]), "iou": np.float32([0.5]), "score": np.float32([0.1])},
    )


def shift() -> onnx.ModelProto:
    return model(
        [node("BitShift", ["x", "k"], ["y"], direction="RIGHT", name="shift0")],
        [("x", UINT8, [4])],
        [("y", UINT8, [4])],
        {"k": np.array([2], np.uint8)},
    )


def four_refusals() -> onnx.ModelProto:
    """Four nodes that TensorRT-RTX's parser refuses, one behind another, and one it takes."""
    return model(
        [
            node("ScatterND", ["d", "i", "u"], ["z"], reduction="add", name="scatter0"),
            node("NonZero", ["z"], ["nz"], name="nonzero0"),
            node("Relu", ["z"], ["r"], name="relu0"),
            node("Det", ["square"], ["det"], name="det0"),
            node("BitShift", ["x", "k"], ["y"], direction="RIGHT", name="shift0"),
        ],
        [
            ("x", UINT8, [4]),
            ("d", FLOAT, [16, 8]),
            ("square", FLOAT, [8, 8]),
            ("i", INT64, [4, 1]),
            ("u", FLOAT, [4, 8]),
        ],
        [
            ("y", UINT8, [4]),
            ("nz", INT64, None),
            ("r", FLOAT, [16, 8]),
            ("det", FLOAT, []),
        ],
        {"k": np.array([2], np.uint8)},
    )


def with_function(name: str = "Gelu", domain: str = "my.domain") -> onnx.ModelProto:
    """A local function called like a built-in, whose body is something else: x + 1."""
    body = helper.make_function(
        domain,
        name,
        ["a"],
        ["b"],
        [
            helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.float32(1))),
            helper.make_node("Add", ["a", "one"], ["b"]),
        ],
        [helper.make_opsetid("", 19)],
    )
    return model(
        [node(name, ["x"], ["y"], domain=domain, name="call0")],
        [("x", FLOAT, [4])],
        [("y", FLOAT, [4])],
        functions=[body],
        domains=[domain],
    )


def foreign() -> onnx.ModelProto:
    """An operator of a foreign domain without a body; TensorRT would take it for its own Relu."""
    return model(
        [node("Relu", ["x"], ["y"], domain="my.domain", name="foreign0")],
        [("x", FLOAT, [4])],
        [("y", FLOAT, [4])],
        domains=["my.domain"],
    )


def conv_chain(length: int, channels: int) -> onnx.ModelProto:
    """Many Q/DQ Convs one behind another: something that a builder is busy with for a while."""
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {
        "sx": np.float32(0.05),
        "zx": np.int8(0),
        "sw": np.full(channels, 0.001, np.float32),
        "zw": np.zeros(channels, np.int8),
    }
    rng = np.random.default_rng(0)
    shape = (channels, channels, 3, 3)
    for i in range(length):
        x, y = f"t{i}", f"t{i + 1}"
        constants[f"w{i}"] = rng.integers(-127, 128, shape).astype(np.int8)
        nodes += [
            node("QuantizeLinear", [x, "sx", "zx"], [f"q{i}"], name=f"quantize{i}"),
            node("DequantizeLinear", [f"q{i}", "sx", "zx"], [f"d{i}"], name=f"dequantize{i}"),
            node("DequantizeLinear", [f"w{i}", "sw", "zw"], [f"wd{i}"], axis=0, name=f"weight{i}"),
            node("Conv", [f"d{i}", f"wd{i}"], [y], pads=[1, 1, 1, 1], name=f"conv{i}"),
        ]
    size = [1, channels, 32, 32]
    return model(nodes, [("t0", FLOAT, size)], [(f"t{length}", FLOAT, size)], constants)
