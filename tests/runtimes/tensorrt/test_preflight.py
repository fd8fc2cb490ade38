"""Every refused node, from the real parser where it is the target's, else from the table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporters.errors import UserError
from runtimes import targets
from runtimes.base import Evidence, Finding
from runtimes.registry import preflight
from runtimes.tensorrt.advice import advice_for, substitutes
from runtimes.tensorrt.capability import Refusal, refused_nodes
from tests.runtimes import models

pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")

ADA = "rtx-ada/trt-rtx1.7"
ORIN = "jetson-orin-agx/jp6.2/trt10.3"


def check(proto: onnx.ModelProto, target: str, tmp_path: Path) -> list[Finding]:
    return preflight(models.save(proto, tmp_path / "m.onnx"), target)


def errors(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "error"]


@pytest.mark.parametrize("proto", [models.conv(), models.quantized_conv(), models.with_function()])
@pytest.mark.parametrize("target", [ADA, ORIN])
def test_good_models_pass(proto: onnx.ModelProto, target: str, tmp_path: Path) -> None:
    assert errors(check(proto, target, tmp_path)) == []


def test_every_refused_node_is_found_and_not_only_the_first(tmp_path: Path) -> None:
    found = errors(check(models.four_refusals(), ADA, tmp_path))
    assert {f.node for f in found} == {"scatter0", "nonzero0", "det0", "shift0"}
    assert all(f.evidence is Evidence.BUILT for f in found)
    assert all("the parser of TensorRT-RTX 1.7" in f.source for f in found)
    by_node = {f.node: f for f in found}
    assert "reduction is not supported" in by_node["scatter0"].message
    assert by_node["scatter0"].fix.startswith("Sum without scatter")
    assert by_node["nonzero0"].fix.startswith("TopK on the mask")
    assert by_node["det0"].message == "the parser does not know this operator"


def test_a_refused_node_inside_a_branch_is_named(tmp_path: Path) -> None:
    def branch(name: str, inner: onnx.NodeProto) -> onnx.GraphProto:
        output = onnx.helper.make_tensor_value_info(inner.output[0], models.FLOAT, [])
        return onnx.helper.make_graph([inner], name, [], [output])

    proto = models.model(
        [
            models.node(
                "If",
                ["c"],
                ["y"],
                then_branch=branch("then", models.node("Det", ["m"], ["t"], name="det_inside")),
                else_branch=branch("else", models.node("ReduceSum", ["m"], ["e"], keepdims=0)),
            ),
            models.node("BitShift", ["x", "k"], ["z"], direction="RIGHT", name="shift0"),
        ],
        [("c", onnx.TensorProto.BOOL, []), ("m", models.FLOAT, [3, 3]), ("x", models.UINT8, [4])],
        [("y", models.FLOAT, []), ("z", models.UINT8, [4])],
        {"k": np.array([2], np.uint8)},
    )
    assert {f.node for f in errors(check(proto, ADA, tmp_path))} == {"det_inside", "shift0"}


def test_what_only_the_builder_refuses_is_known_from_the_table(tmp_path: Path) -> None:
    (found,) = errors(check(models.nms(), ADA, tmp_path))
    assert found.node == "nms0"
    assert "the build fails" in found.message
    assert "targets.toml rtx-nms" in found.source
    assert found.evidence is Evidence.BUILT
    top = models.model(
        [models.node("TopK", ["x", "k"], ["v", "i"], name="top0")],
        [("x", models.FLOAT, [1, 8000])],
        [("v", models.FLOAT, None), ("i", models.INT64, None)],
        {"k": np.array([4000])},
    )
    (found,) = errors(check(top, ADA, tmp_path))
    assert "K exceeds 3840" in found.message


def test_for_a_jetson_the_table_decides_and_the_parser_here_only_hints(tmp_path: Path) -> None:
    findings = check(models.four_refusals(), ORIN, tmp_path)
    assert errors(findings) == []
    hints = {f.node for f in findings if "TensorRT-RTX" in f.source}
    assert hints == {"scatter0", "nonzero0", "det0", "shift0"}
    notes = [f.message for f in findings]
    assert (
        "the parser of TensorRT 10.3 is not on this machine; this verdict is the table's" in notes
    )

    findings = check(models.quantized_conv(zero_point=3), ORIN, tmp_path)
    refused = errors(findings)
    assert {f.node for f in refused} == {"quantize_x", "dequantize_x"}
    assert all(f.evidence is Evidence.WRITTEN for f in refused)
    assert all("targets.toml zero-point-documented" in f.source for f in refused)
    assert [f.node for f in findings].count("quantize_x") == 1, "one finding a node"


def test_a_type_that_the_target_lacks_is_found_before_the_parser(tmp_path: Path) -> None:
    proto = models.model(
        [models.node("Cast", ["x"], ["y"], to=models.FLOAT)],
        [("x", models.UINT16, [4])],
        [("y", models.FLOAT, [4])],
    )
    (found,) = errors(check(proto, ORIN, tmp_path))
    assert "TensorRT 10.3 has no tensors of type UINT16; the first one is 'x'" in found.message
    assert found.fix.startswith("Cast to a type it has: FLOAT")
    assert any("UINT16" in f.message for f in errors(check(proto, ADA, tmp_path)))


def test_a_foreign_operator_is_refused_for_every_tensorrt(tmp_path: Path) -> None:
    for target in (ADA, ORIN):
        with pytest.raises(UserError, match=r"node 'foreign0' is my\.domain::Relu"):
            check(models.foreign(), target, tmp_path)


def test_when_types_are_unknown_the_list_says_that_it_may_be_incomplete(tmp_path: Path) -> None:
    """An operator that ONNX itself does not know: its outputs have no type to go on with."""
    proto = models.model(
        [
            models.node("Mystery", ["x"], ["m"], name="mystery0"),
            models.node("Relu", ["m"], ["y"]),
            models.node("Neg", ["x"], ["z"]),
        ],
        [("x", models.FLOAT, [4])],
        [("y", models.FLOAT, None), ("z", models.FLOAT, [4])],
    )
    findings = check(proto, ADA, tmp_path)
    assert [f.node for f in errors(findings)] == ["mystery0"]
    assert any("there may be more" in f.message for f in findings)


def test_cutting_stops_where_a_parser_is_never_content(tmp_path: Path) -> None:
    proto = models.conv()
    path = models.save(proto, tmp_path / "m.onnx")
    capability = refused_nodes(proto, path, tmp_path, lambda _: [Refusal("conv0", "Conv", "no")])
    assert not capability.complete
    assert len(capability.refusals) == 2  # once in the model, once where it is gone already


def test_the_table_says_of_rtx_what_its_parser_says() -> None:
    """``supports_operator`` of the real parser against the row of refused operators."""
    code = (
        "import json, sys, tensorrt_rtx as trt\n"
        "log = trt.Logger(trt.Logger.ERROR); b = trt.Builder(log); n = b.create_network(0)\n"
        "p = trt.OnnxParser(n, log)\n"
        "print(json.dumps([op for op in sys.argv[1:] if p.supports_operator(op)]))"
    )
    table = targets.load()
    listed = table.rules["rtx-no-parser-support"].op_types
    run = subprocess.run(
        [sys.executable, "-c", code, *listed], capture_output=True, text=True, check=True
    )
    # known to the parser, which then looks for a plugin that TensorRT-RTX does not bring
    plugins = {"DeformConv", "MatMulNBits", "NonZero", "RoiAlign"}
    assert set(json.loads(run.stdout)) <= plugins


@pytest.mark.parametrize("kind", ["DOUBLE", "BFLOAT16", "UINT8", "INT64", "INT32", "INT8", "BOOL"])
def test_types_of_the_table_are_taken_by_the_real_parser(kind: str, tmp_path: Path) -> None:
    proto = models.model(
        [models.node("Cast", ["x"], ["y"], to=models.FLOAT)],
        [("x", onnx.TensorProto.DataType.Value(kind), [4])],
        [("y", models.FLOAT, [4])],
    )
    assert kind in targets.load().stacks["trt-rtx1.7"].types
    assert errors(check(proto, ADA, tmp_path)) == []


def test_every_substitute_is_advice_for_something() -> None:
    operators = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    for row in substitutes():
        assert set(row.op_types) <= operators | {"*", "MatMulNBits"}
        assert row.advice
        assert row.evidence in (Evidence.BUILT, Evidence.WRITTEN)
    assert advice_for("Det", "false").startswith("Export the same arithmetic")
    assert advice_for("", "something").startswith("List what is refused: edgeport check")
