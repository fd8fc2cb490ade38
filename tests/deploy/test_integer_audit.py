"""The audit passes integer models, and names the first float of any other."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from deploy.cli import run
from deploy.integer_audit import audit_integers
from exporters.errors import UserError
from exporters.illm import export
from exporters.modelfile import ModelFile
from tests.exporters.illm.checkpoints import make

pytest.importorskip("transformers", reason="makes the tiny checkpoint")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    make("qwen2", folder / "c")
    export("illm", folder / "int.onnx", checkpoint=folder / "c", bits="W4A8")
    export("illm", folder / "float.onnx", checkpoint=folder / "c", precision="float")
    return folder


def test_an_integer_model_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = audit_integers(ModelFile(folder / "int.onnx").proto)
    assert found.passed
    assert set(found.values) == {"int64", "int32", "int16", "int8", "int4", "uint8", "bool"}
    assert found.nodes > 1000, "functions were not inlined"
    assert run(["inspect", str(folder / "int.onnx"), "--integer-only", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["offences"] == []


def test_a_float_model_fails_and_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(folder / "float.onnx"), "--integer-only"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "is not integer-only: past.0.kv is float32, made by graph input" in said


def test_one_float_inside_a_function_is_found(folder: Path) -> None:
    """The smallest cheat: a square root in float, cast back at once."""
    proto = ModelFile(folder / "int.onnx").proto
    body = next(f for f in proto.functions if f.name == "DIRmsNorm")
    square = next(node for node in body.node if node.op_type == "Mul")
    square.output[0], cheat = "before", square.output[0]
    at = list(body.node).index(square) + 1
    body.node.insert(at, onnx.helper.make_node("Cast", ["before"], ["as_float"], to=1))
    body.node.insert(at + 1, onnx.helper.make_node("Cast", ["as_float"], [cheat], to=7))
    found = audit_integers(proto)
    assert len(found.offences) == 2 * 2  # two norms a layer; the last one is `DIRmsNormWide`
    assert found.offences[0].dtype == "float32"
    with pytest.raises(UserError, match=r"is float32, made by .*Cast.* \(and 3 more\)"):
        found.require(folder / "int.onnx")


def test_a_value_of_unknown_type_is_no_evidence() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21, "foreign" : 1]>'
        "g (int64[2] x) => (int64[2] y) { u = foreign.Op(x)  y = Cast<to = 7>(u) }"
    )
    found = audit_integers(proto)
    assert [(o.value, o.dtype) for o in found.offences] == [("u", "unknown")]


def test_control_flow_is_refused() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]>'
        "g (bool c, int64[2] x) => (int64[2] y) { y = If (c) <then_branch = a () => (int64[2] p)"
        " { p = Identity(x) }, else_branch = b () => (int64[2] q) { q = Neg(x) }> }"
    )
    with pytest.raises(UserError, match="has a sub-graph, which the audit does not enter"):
        audit_integers(proto)
