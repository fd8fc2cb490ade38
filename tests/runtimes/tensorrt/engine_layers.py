"""Layers and profiles as trtexec writes them, after NVIDIA's documentation of the schema.

A small network with two INT8 islands: a long one, and a single convolution whose conversions cost
more than itself. Nobody here ran an engine: the times are made up for the arithmetic of the tests.
"""

from __future__ import annotations

from typing import Any

HALF = "Channel major FP16 format where channel % 8 == 0"
INT8 = "Thirty-two wide channel vectorized row major Int8 format"
ROWS = "Row major linear FP32"


def tensor(name: str, layout: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Location": "Device",
        "Dimensions": [1, 64, 28, 28],
        "Format/Datatype": layout,
    }


def layer(
    name: str,
    kind: str,
    inputs: list[dict[str, Any]],
    outputs: list[dict[str, Any]],
    weights: str = "",
    nodes: tuple[str, ...] = (),
) -> dict[str, Any]:
    entry: dict[str, Any] = {"Name": name, "LayerType": kind, "Inputs": inputs, "Outputs": outputs}
    if weights:
        entry["Weights"] = {"Type": weights, "Count": 4096}
    entry["Metadata"] = "\x1e".join(f"[ONNX Layer: {node}]" for node in nodes)
    return entry


def conv(name: str, source: str, sink: str, sink_layout: str = INT8) -> dict[str, Any]:
    return layer(
        f"{name} + relu_{name}",
        "CaskConvolution",
        [tensor(source, INT8)],
        [tensor(sink, sink_layout)],
        "Int8",
        (name, f"relu_{name}"),
    )


LAYERS: dict[str, Any] = {
    "Layers": [
        layer("to_half", "Reformat", [tensor("images", ROWS)], [tensor("images_h", HALF)]),
        layer("q_a", "Reformat", [tensor("images_h", HALF)], [tensor("a0", INT8)]),
        conv("conv1", "a0", "a1"),
        conv("conv2", "a1", "a2"),
        layer("dq_a", "Reformat", [tensor("a2", INT8)], [tensor("a3", HALF)]),
        layer(
            "softmax",
            "SoftMaxV2",
            [tensor("a3", HALF)],
            [tensor("b0", HALF)],
            nodes=("softmax",),
        ),
        layer("q_b", "Reformat", [tensor("b0", HALF)], [tensor("b1", INT8)]),
        conv("conv3", "b1", "b2"),
        layer("dq_b", "Reformat", [tensor("b2", INT8)], [tensor("logits", ROWS)]),
    ],
    "Bindings": ["images", "logits"],
}

_AVERAGE_MS = {
    "to_half": 0.1,
    "q_a": 0.1,
    "conv1 + relu_conv1": 1.0,
    "conv2 + relu_conv2": 1.5,
    "dq_a": 0.1,
    "softmax": 0.2,
    "q_b": 0.2,
    "conv3 + relu_conv3": 0.3,
    "dq_b": 0.25,
}


def profile(average_ms: dict[str, float] | None = None, runs: int = 10) -> list[dict[str, Any]]:
    values = average_ms or _AVERAGE_MS
    total = sum(values.values())
    rows: list[dict[str, Any]] = [{"count": runs}]
    rows += [
        {
            "name": name,
            "timeMs": runs * value,
            "averageMs": value,
            "medianMs": value,
            "percentage": 100 * value / total,
        }
        for name, value in values.items()
    ]
    return rows
