"""The real TensorRT-RTX parser and builder take the graphs, memory and instances included."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration import QuantizeOptions, quantize
from calibration.samples import open_samples
from exporters.panoptic_flashocc import export
from runtimes import build
from tests.exporters.panoptic_flashocc.nets import OPTIONS, random_network, remembering, saved

pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")


def test_an_engine_with_memory_and_instances_is_built(tmp_path: Path) -> None:
    path = saved(random_network(remembering(2)), tmp_path)
    result = export(
        "panoptic-flashocc", tmp_path / "m.onnx", checkpoint=path, rig="input", **OPTIONS
    )
    assert {"TopK", "GridSample", "ScatterElements", "ArgMin"} <= {
        node.op_type for node in result.model.proto.graph.node
    }
    engine = build(result.model.path, tmp_path / "m.engine")
    assert {port.name: port.dtype for port in engine.passport.outputs} == {
        "labels": "uint8",
        "instances": "int32",
        "bev": "float32",
    }
    assert engine.passport.size_bytes > 10_000


def test_an_engine_of_integers_with_memory_is_built(tmp_path: Path) -> None:
    """Past maps are sampled in FP32, rounded to INT8, and read by layers whose rest is FP16."""
    path = saved(random_network(remembering(2)), tmp_path)
    model = export("panoptic-flashocc", tmp_path / "m.onnx", checkpoint=path, **OPTIONS).model
    options = QuantizeOptions(scales="minmax", rest="fp16", correct_bias=False)
    drive = open_samples("synthetic:1x2:1", model.spec)
    made = quantize(model, drive, tmp_path / "int8.onnx", options)
    readers = {name: node for node in made.model.proto.graph.node for name in node.input}
    halves = [
        node.op_type
        for node in made.model.proto.graph.node
        if node.op_type == "DequantizeLinear" and readers[node.output[0]].op_type == "Cast"
    ]
    assert not halves, "integers become what their readers take, without a cast between"
    assert build(made.model.path, tmp_path / "int8.engine").passport.size_bytes > 10_000
