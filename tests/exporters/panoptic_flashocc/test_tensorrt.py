"""The real TensorRT-RTX parser and builder take the graphs, memory and instances included."""

from __future__ import annotations

from pathlib import Path

import pytest

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
