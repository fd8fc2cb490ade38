"""Cutting a model open, against onnx-graphsurgeon's own cut of the same graph."""

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from numpy.typing import NDArray

from deploy.taps import TappedModel

from .conftest import Mini


def _cut_by_graphsurgeon(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    graph = gs.import_onnx(model)
    known = graph.tensors()
    graph.outputs = [known[name].to_variable(dtype=np.float32) for name in tensors]
    return gs.export_onnx(graph.cleanup())


def _run(path: Path, feeds: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    needed = {value.name for value in session.get_inputs()}
    found: list[NDArray[np.float32]] = session.run(
        None, {name: value for name, value in feeds.items() if name in needed}
    )
    return found


@pytest.mark.oracle
def test_a_cut_keeps_the_nodes_and_numbers_that_graphsurgeon_keeps(
    mini: Mini, tmp_path: Path
) -> None:
    model = onnx.load(mini.fp32)
    tensors = ["img_backbone/layer2.0/Add_output_0", "img_neck/Add_output_0"]
    theirs = _cut_by_graphsurgeon(onnx.load(mini.fp32), tensors)
    onnx.save(theirs, tmp_path / "theirs.onnx")

    ours = TappedModel(model, tmp_path, "ours").with_outputs(tensors)

    nodes = {node.name for node in onnx.load(ours, load_external_data=False).graph.node}
    assert nodes == {node.name for node in theirs.graph.node}
    shape = tuple(d.dim_value for d in theirs.graph.input[0].type.tensor_type.shape.dim)
    feeds = {"images": np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)}
    for mine, other in zip(_run(ours, feeds), _run(tmp_path / "theirs.onnx", feeds), strict=True):
        np.testing.assert_array_equal(mine, other)  # the same kernels in the same order
