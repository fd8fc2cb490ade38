"""A function that adds is exchanged for the form that sorts, where the runtime cannot add."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from runtimes.alternatives import without_reductions
from runtimes.inlining import inlined
from runtimes.targets import load
from runtimes.tensorrt.installed import Installed
from runtimes.tensorrt.prepare import adds_when_scattering


def body(name: str, **reduction: str) -> onnx.FunctionProto:
    """The input scattered over zeros: added up, or the last one alone."""
    nodes = [
        helper.make_node(
            "Constant", [], ["zeros"], value=numpy_helper.from_array(np.zeros(2, "f4"))
        ),
        helper.make_node("ScatterElements", ["zeros", "at", "x"], ["y"], axis=0, **reduction),
    ]
    opset = [helper.make_opsetid("", 17)]
    return helper.make_function("edgeport", name, ["x", "at"], ["y"], nodes, opset)


def model(*functions: onnx.FunctionProto) -> onnx.ModelProto:
    kinds = onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("Total", ["x", "at"], ["y"], domain="edgeport")],
        "g",
        [
            helper.make_tensor_value_info("x", kinds.FLOAT, [3]),
            helper.make_tensor_value_info("at", kinds.INT64, [3]),
        ],
        [helper.make_tensor_value_info("y", kinds.FLOAT, [2])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("edgeport", 1)]
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=8)


def run(proto: onnx.ModelProto) -> list[float]:
    session = ort.InferenceSession(proto.SerializeToString())
    feeds = {"x": np.array([1, 2, 4], "f4"), "at": np.array([0, 1, 1])}
    return [float(value) for value in session.run(None, feeds)[0]]


def test_the_other_form_is_called_and_the_file_is_left_alone() -> None:
    proto = model(body("Total", reduction="add"), body("TotalSorted"))
    before = proto.SerializeToString(deterministic=True)
    exchanged, names = without_reductions(proto)
    assert names == ("edgeport::Total",)
    assert proto.SerializeToString(deterministic=True) == before
    assert run(proto) == [1, 6]
    assert run(inlined(exchanged)) == [1, 4]  # the test's other form is told from the first


def test_a_function_of_one_form_stays() -> None:
    proto = model(body("Total", reduction="add"))
    assert without_reductions(proto) == (proto, ())


@pytest.mark.parametrize(
    ("key", "adds"),
    [("trt8.6", False), ("trt-rtx1.7", False), ("trt10.3", True), ("trt11.4", True)],
)
def test_which_tensorrt_adds(key: str, adds: bool) -> None:
    stack = next(stack for stack in load().stacks.values() if stack.key == key)
    assert adds_when_scattering(stack, None) is adds


def test_what_is_installed_decides_without_a_target() -> None:
    assert adds_when_scattering(None, Installed("tensorrt", "10.3.0", "tensorrt-10"))
    assert not adds_when_scattering(None, Installed("tensorrt_rtx", "1.7.1", "tensorrt-rtx"))
