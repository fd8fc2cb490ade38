"""FP16 and BF16: what is cast, what is not and why, and that it stays the same function."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration import CastResult, QuantizeOptions, cast, quantize
from exporters.errors import UserError
from exporters.modelfile import save_model
from tests.calibration import nets


def make(tmp_path: Path, proto: onnx.ModelProto, to: str = "fp16", **options: Any) -> CastResult:
    file = nets.saved(proto, tmp_path / "net.onnx")
    return cast(file, tmp_path / f"{to}.onnx", to, **options)


def types(proto: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    found = {v.name: v.type.tensor_type.elem_type for v in values}
    return found | {i.name: i.data_type for i in proto.graph.initializer}


def kept(result: CastResult) -> dict[str, str]:
    return {item["node"]: item["reason"] for item in result.report["kept_float"]}


def head(net: nets.Net, x: str = "x") -> str:
    return net.conv("c", x, (3, 4))


# ------------------------------------------------------------------ what is cast


@pytest.mark.parametrize(
    ("to", "code"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)]
)
def test_everything_inside_changes_and_the_borders_do_not(
    tmp_path: Path, to: str, code: int
) -> None:
    proto = nets.residual()
    result = make(tmp_path, proto, to)
    found = types(result.model.proto)
    assert found["x"] == found["fc_out"] == TensorProto.FLOAT
    assert found["stem_out"] == found["cat_out"] == found["flat_out"] == code
    assert "stem.weight" not in found
    assert found[f"stem.weight/{to}"] == code
    assert [n.name for n in proto.graph.node] == [
        n.name for n in result.model.proto.graph.node if n.op_type != "Cast"
    ]
    transposed = {"up": "TensorRT-RTX 1.7 does not build it in BF16"}
    assert kept(result) == ({} if to == "fp16" else transposed)
    assert result.report["casts"] == (2 if to == "fp16" else 4)
    onnx.checker.check_model(result.model.proto, full_check=True)


def test_fp16_computes_the_same_within_its_precision(tmp_path: Path) -> None:
    proto = nets.residual()
    result = make(tmp_path, proto)
    x = next(iter(nets.samples(proto, 1)))
    # 11 bits are 66 dB a rounding; ten layers of them leave above 50
    assert nets.sqnr_db(nets.run(proto, x)[0], nets.run(result.model, x)[0]) > 50


def test_bf16_computes_the_same_within_its_precision(tmp_path: Path) -> None:
    """ONNX Runtime has no BF16 kernels on the CPU: ONNX's reference implementation has."""
    from onnx.reference import ReferenceEvaluator

    net = nets.Net([4, 16])
    hidden = net.node(
        "relu", "Relu", net.node("a", "MatMul", "x", net.weight("wa", 16, 8, fan_in=16))
    )
    proto = net.model(net.node("b", "MatMul", hidden, net.weight("wb", 8, 4, fan_in=8)))
    result = make(tmp_path, proto, "bf16")
    x = next(iter(nets.samples(proto, 1)))
    after = ReferenceEvaluator(result.model.proto).run(None, x)[0]
    assert after.dtype == np.float32
    # 8 bits are 48 dB a rounding
    assert nets.sqnr_db(nets.run(proto, x)[0], after) > 35
    assert "cannot run BF16" in result.report["note"]


def test_opset_is_raised_only_where_the_type_needs_it(tmp_path: Path) -> None:
    assert make(tmp_path, nets.chain()).report["opset"] == 17
    assert make(tmp_path, nets.chain(), "bf16").report["opset"] == 22


def test_the_sizes_of_resize_stay_float32(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    scales = net.constant("scales", np.array([1, 1, 2, 2], np.float32))
    proto = net.model(net.node("resize", "Resize", head(net), "", scales, mode="linear"))
    result = make(tmp_path, proto)
    assert types(result.model.proto)["scales"] == TensorProto.FLOAT
    x = next(iter(nets.samples(proto, 1)))
    np.testing.assert_allclose(
        nets.run(result.model, x)[0], nets.run(proto, x)[0], rtol=1e-2, atol=1e-2
    )


def test_casts_and_constants_of_shape_change_their_attribute(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    mask = net.node("mask", "Greater", head(net), net.constant("zero", np.float32(0)))
    number = net.node("number", "Cast", mask, to=TensorProto.FLOAT)
    shape = net.constant("shape", np.array([1, 4, 8, 8]))
    value = numpy_helper.from_array(np.array([2.0], np.float32))
    net.node("fill", "ConstantOfShape", shape, value=value)
    filled = net.node("filled", "ConstantOfShape", net.node("dynamic", "Shape", number))
    proto = net.model(net.node("add", "Add", net.node("sum", "Add", number, "fill_out"), filled))
    result = make(tmp_path, proto)
    found = types(result.model.proto)
    assert found["number_out"] == found["filled_out"] == found["sum_out"] == TensorProto.FLOAT16
    x = next(iter(nets.samples(proto, 1)))
    np.testing.assert_array_equal(nets.run(result.model, x)[0], nets.run(proto, x)[0])


def test_int8_parts_stay_and_their_scales_become_fp16(tmp_path: Path) -> None:
    proto = nets.residual()
    file = nets.saved(proto, tmp_path / "net.onnx")
    int8 = quantize(file, nets.samples(proto), tmp_path / "int8.onnx", QuantizeOptions()).model
    result = cast(int8, tmp_path / "both.onnx")
    found = types(result.model.proto)
    assert result.report["opset"] == 19
    assert found["stem.weight/quantized"] == TensorProto.INT8
    assert found["x/quantized"] == TensorProto.INT8
    assert found["stem.weight/dequantized"] == TensorProto.FLOAT16
    scale = next(n for n in result.model.proto.graph.node if n.op_type == "DequantizeLinear").input[
        1
    ]
    assert found[scale] == TensorProto.FLOAT16
    x = next(iter(nets.samples(proto, 1, seed=5)))
    assert nets.sqnr_db(nets.run(proto, x)[0], nets.run(result.model, x)[0]) > 25


def test_the_description_survives_and_says_what_was_done(tmp_path: Path) -> None:
    file = nets.saved(nets.chain(), tmp_path / "net.onnx", keep_float={"last": "logits"})
    result = cast(file, tmp_path / "half.onnx")
    assert result.model.spec == file.spec
    metadata = {p.key: p.value for p in result.model.proto.metadata_props}
    assert json.loads(metadata["edgeport.cast"])["to"] == "fp16"


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    file = nets.saved(nets.residual(), tmp_path / "net.onnx")
    first, second = (cast(file, tmp_path / f"{i}.onnx").model.sha256 for i in range(2))
    assert first == second


# ------------------------------------------------------------------ what stays FP32


def test_weights_beyond_fp16_stay_with_the_number(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    scaled = net.node("scaled", "Mul", head(net), net.constant("k", np.float32(1e5)))
    result = make(tmp_path, net.model(net.node("abs", "Abs", scaled)))
    assert kept(result) == {"scaled": "constant 1e+05 overflows FP16, which ends at 65504"}
    found = types(result.model.proto)
    assert (found["c_out"], found["scaled_out"]) == (TensorProto.FLOAT16, TensorProto.FLOAT)


def test_bf16_has_the_range(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    proto = net.model(net.node("scaled", "Mul", head(net), net.constant("k", np.float32(1e5))))
    assert kept(make(tmp_path, proto, "bf16")) == {}


def test_an_epsilon_that_would_vanish_stays(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    proto = net.model(net.node("plus", "Add", head(net), net.constant("eps", np.float32(1e-12))))
    assert kept(make(tmp_path, proto)) == {"plus": "constant 1e-12 is zero in FP16"}


@pytest.mark.parametrize(
    ("op_type", "reason", "to"),
    [
        ("CumSum", "running sum", "fp16"),
        ("CumSum", "running sum", "bf16"),
        ("TopK", "choices", "fp16"),
        ("Exp", "overflows", "fp16"),
        ("ReduceL2", "squares", "fp16"),
    ],
)
def test_sensitive_operators_stay_with_their_reason(
    tmp_path: Path, op_type: str, reason: str, to: str
) -> None:
    net = nets.Net([1, 3, 8, 8])
    extra = {"CumSum": np.array(1), "TopK": np.array([2])}.get(op_type)
    inputs = [head(net)] + ([net.constant("extra", extra)] if extra is not None else [])
    out = net.node("sensitive", op_type, *inputs)
    if op_type == "TopK":
        net.nodes[-1].output.append("indices")
    result = make(tmp_path, net.model(net.node("abs", "Abs", out)), to)
    assert reason in kept(result)["sensitive"]
    assert types(result.model.proto)["sensitive_out"] == TensorProto.FLOAT


def test_normalisation_of_integer_images_stays(tmp_path: Path) -> None:
    net = nets.Net([1, 8, 8, 3], dtype=TensorProto.UINT8)
    x = net.node("float", "Cast", "x", to=TensorProto.FLOAT)
    x = net.node("planes", "Transpose", x, perm=[0, 3, 1, 2])
    x = net.node("centre", "Sub", x, net.constant("mean", np.float32(123.675)))
    result = make(tmp_path, net.model(head(net, x)))
    assert set(kept(result)) == {"float", "planes", "centre"}
    assert set(kept(result).values()) == {"normalises an integer input"}
    assert types(result.model.proto)["c_out"] == TensorProto.FLOAT16


def test_a_table_looked_up_by_integers_is_cast(tmp_path: Path) -> None:
    net = nets.Net([4], dtype=TensorProto.INT64)
    row = net.node("row", "Gather", net.weight("table", 10, 3), "x")
    proto = net.model(net.node("m", "MatMul", row, net.weight("w", 3, 2)))
    assert kept(make(tmp_path, proto)) == {}


def test_a_subgraph_and_what_it_reads_stay(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    c = head(net)
    net.node("plain", "Abs", c)
    branches = {}
    for name, op_type in (("then_branch", "Relu"), ("else_branch", "Neg")):
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        node = helper.make_node(op_type, ["plain_out"], [name], name=name)
        branches[name] = helper.make_graph([node], name, [], [value])
    proto = net.model(net.node("if", "If", net.constant("yes", np.array(True)), **branches))
    result = make(tmp_path, proto)
    assert kept(result)["plain"] == "read inside a subgraph"
    x = next(iter(nets.samples(proto, 1)))
    np.testing.assert_allclose(nets.run(result.model, x)[0], nets.run(proto, x)[0], atol=2e-2)


def test_nodes_stay_when_asked(tmp_path: Path) -> None:
    result = make(tmp_path, nets.chain(), keep_float=("second", "fir"))
    asked = "asked for with --keep-float"
    assert kept(result) == {"first": asked, "first/relu": asked, "second": asked}


def test_an_activation_that_came_close_to_the_end_stays() -> None:
    from calibration.precision.casting import cast_proto

    proto, report = cast_proto(nets.chain(), to="fp16", largest={"second_out": 5e4})
    assert "reached 5e+04" in report["kept_float"][0]["reason"]
    assert types(proto)["second_out"] == TensorProto.FLOAT


# ------------------------------------------------------------------ refusals


def test_an_unknown_type_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot cast to 'fp61'\. Did you mean 'fp16'"):
        make(tmp_path, nets.chain(), "fp61")


def test_an_unknown_node_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'secnd' matches no node\. Did you mean 'second'"):
        make(tmp_path, nets.chain(), keep_float=("secnd",))


def test_an_existing_output_is_kept(tmp_path: Path) -> None:
    (tmp_path / "fp16.onnx").write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        make(tmp_path, nets.chain())
    assert (tmp_path / "fp16.onnx").read_bytes() == b"mine"


def test_int8_with_bf16_is_refused(tmp_path: Path) -> None:
    proto = nets.chain()
    file = nets.saved(proto, tmp_path / "net.onnx")
    int8 = quantize(file, nets.samples(proto), tmp_path / "int8.onnx").model
    with pytest.raises(UserError, match="bf16 scales are too coarse"):
        cast(int8, tmp_path / "b.onnx", "bf16")


def test_nothing_to_cast_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds nothing in FP32 to cast"):
        make(tmp_path, nets.chain(), keep_float=("fir", "sec", "last"))


def test_what_is_right_in_fp32_alone_stays(tmp_path: Path) -> None:
    proto = nets.chain()
    spec = dataclasses.replace(nets.described(proto, {}), keep_fp32={"first": "whole numbers"})
    result = cast(save_model(proto, tmp_path / "m.onnx", spec=spec), tmp_path / "m.fp16.onnx")
    first = {node.name for node in proto.graph.node if node.name.startswith("first")}
    assert first
    assert {
        name: reason for name, reason in kept(result).items() if name in first
    } == dict.fromkeys(first, "whole numbers")
