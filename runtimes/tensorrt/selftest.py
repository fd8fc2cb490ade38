"""Does this TensorRT add when it scatters? Asked of the device before a model relies on it.

TensorRT 8 parses ``ScatterElements`` with ``reduction="add"`` and then overwrites, without a word.
Two rows are written to one place; what is there must be two. Evidence: written; the answer needs a
GPU with TensorRT 10 or later, which nobody here had.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporters.errors import UserError
from runtimes.base import Array, Session
from runtimes.graphview import all_nodes

if TYPE_CHECKING:
    import onnx


def scatters_and_adds(proto: onnx.ModelProto) -> bool:
    """Whether any node of the graph is ``ScatterElements`` with a sum."""
    return _first_that_adds(proto) is not None


def refuse_adding(proto: onnx.ModelProto, version: str) -> None:
    """Raises UserError, with the node's name, for a TensorRT that is known not to add."""
    name = _first_that_adds(proto)
    if name is not None:
        raise UserError(
            f'node {name} adds where it scatters (ScatterElements with reduction="add"), which '
            f"{version} does not",
            fix="Export a variant with the histogram encoder (pillarhist-…), whose sums have a "
            "sorted form, or run this one in ONNX Runtime: edgeport bench MODEL.onnx",
        )


def _first_that_adds(proto: onnx.ModelProto) -> str | None:
    return next(
        (
            node.name
            for node in all_nodes(proto.graph)
            if node.op_type == "ScatterElements"
            for attribute in node.attribute
            if attribute.name == "reduction" and attribute.s == b"add"
        ),
        None,
    )


def require_adding(
    directory: Path,
    build: Callable[[Path, Path], None],
    load: Callable[[Path], Session],
    version: str,
) -> None:
    """Build and run a network that adds two ones in one place.

    Args:
        build: from a model file to an engine file.
        load: an engine file, to be run here.
        version: of the runtime, for the message.

    Raises:
        UserError: the sum is not two.
    """
    model, engine = directory / "adds.onnx", directory / "adds.engine"
    model.write_bytes(two_in_one_place().SerializeToString())
    build(model, engine)
    session = load(engine)
    try:
        feeds: dict[str, Array] = {
            "places": np.array([1, 1], np.int64),
            "values": np.ones(2, np.int32),
        }
        (total,) = session.run(feeds).values()
    finally:
        session.close()
    if total.tolist() != [0, 2, 0]:
        raise UserError(
            f"{version} scatters two ones into one place and finds {int(total[1])} there: it "
            "ignores the sum, so histograms of points would be wrong",
            fix="Build with TensorRT-RTX, whose engines sort instead, or run the model in "
            "ONNX Runtime: edgeport bench MODEL.onnx --runtime onnxruntime-cuda",
        )


def two_in_one_place(reduction: str = "add") -> onnx.ModelProto:
    """``values`` scattered to ``places`` of three zeros."""
    import onnx
    from onnx import helper

    kinds = onnx.TensorProto
    zeros = onnx.numpy_helper.from_array(np.zeros(3, np.int32), "zeros")
    inputs = ["zeros", "places", "values"]
    node = helper.make_node("ScatterElements", inputs, ["total"], axis=0, reduction=reduction)
    graph = helper.make_graph(
        [node],
        "adds",
        [
            helper.make_tensor_value_info("places", kinds.INT64, [2]),
            helper.make_tensor_value_info("values", kinds.INT32, [2]),
        ],
        [helper.make_tensor_value_info("total", kinds.INT32, [3])],
        [zeros],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
