"""``quantize --split``: the integers of both parts, the pairs around them, the runtimes' view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration import QuantizeOptions, QuantizeResult, observe, quantize
from calibration.cfws.arithmetic import split_weight
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from tests.calibration import nets

Array = NDArray[Any]
POLICIES = ["tensorrt", "onnxruntime"]


def rep_net(*, stride: int = 1, pad: int = 1) -> onnx.ModelProto:
    """Stem, a re-parameterised block with a towering identity entry, a residual block, a head.

    The entry meets an input channel of small variance, which is how batch norm makes such entries.
    """
    net = nets.Net([1, 3, 16, 16])
    stem = net.conv("stem", "x", (3, 8))
    rep = net.conv("rep", stem, (8, 8), stride=stride)
    skip = net.conv("res", rep, (8, 8), relu=False)
    joined = net.node("res/relu", "Relu", net.node("res/add", "Add", skip, rep))
    head = net.conv("head", joined, (8, 4), 1, relu=False)
    model = net.model(net.node("soft", "Softmax", head, axis=1))
    tensors = {t.name: t for t in model.graph.initializer}
    quiet = numpy_helper.to_array(tensors["stem.weight"]).copy()
    quiet[0] *= 0.01
    towering = numpy_helper.to_array(tensors["rep.weight"]).copy()
    towering[:, 0, 1, 1] = 40
    for name, array in (("stem.weight", quiet), ("rep.weight", towering)):
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    bias = numpy_helper.to_array(tensors["stem.bias"]).copy()
    bias[0] = 0
    tensors["stem.bias"].CopyFrom(numpy_helper.from_array(bias, "stem.bias"))
    if pad != 1:
        set_pads(model.graph.node, "rep", pad)
        del model.graph.value_info[:]
        model.graph.output[0].type.tensor_type.ClearField("shape")
        model = onnx.shape_inference.infer_shapes(model)
    return model


def set_pads(graph_nodes: Iterable[onnx.NodeProto], name: str, pad: int) -> None:
    node = next(node for node in graph_nodes if node.name == name)
    next(a for a in node.attribute if a.name == "pads").ints[:] = [pad] * 4


def make(tmp_path: Path, proto: onnx.ModelProto, policy: str, **options: Any) -> QuantizeResult:
    file = nets.saved(proto, tmp_path / "net.onnx")
    output = tmp_path / f"{policy}-{options.get('split', 'none')}.onnx"
    samples = nets.samples(proto, 6)
    return quantize(file, samples, output, QuantizeOptions(policy, **options, overwrite=True))


def constants(model: ModelFile) -> dict[str, Array]:
    return {t.name: numpy_helper.to_array(t) for t in model.proto.graph.initializer}


def nodes(model: ModelFile) -> dict[str, onnx.NodeProto]:
    return {node.name: node for node in model.proto.graph.node}


def producers(model: ModelFile) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.proto.graph.node for output in node.output}


@pytest.mark.parametrize("policy", POLICIES)
def test_integers_and_scales_are_those_of_the_split(tmp_path: Path, policy: str) -> None:
    proto = rep_net()
    found = constants(make(tmp_path, proto, policy, split="cfws").model)
    weight = next(t for t in proto.graph.initializer if t.name == "rep.weight")
    split = split_weight(numpy_helper.to_array(weight))
    assert np.array_equal(found["rep.weight/coarse/quantized"], split.coarse_q)
    assert np.array_equal(found["rep.weight/coarse/scale"], split.coarse_scale)
    assert np.array_equal(found["rep.weight/fine/quantized"], split.fine_q)
    assert np.array_equal(found["rep.weight/fine/scale"], split.fine_scale)
    assert not any(name.startswith("rep.weight") and "/" not in name for name in found)


def test_half_scales_keep_the_coarse_part_integer(tmp_path: Path) -> None:
    proto = rep_net()
    found = constants(make(tmp_path, proto, "tensorrt", split="cfws", rest="fp16").model)
    weight = numpy_helper.to_array(
        next(t for t in proto.graph.initializer if t.name == "rep.weight")
    )
    steps = {part: found[f"rep.weight/{part}/scale/fp16"] for part in ("coarse", "fine")}
    assert {step.dtype for step in steps.values()} == {np.dtype(np.float16)}
    parts = {
        part: found[f"rep.weight/{part}/quantized"] * step.astype(float).reshape(-1, 1, 1, 1)
        for part, step in steps.items()
    }
    total = parts["fine"].copy()
    total[:, :, 1:2, 1:2] += parts["coarse"]
    bound = 0.5001 * steps["fine"].astype(float).reshape(-1, 1, 1, 1)
    assert (np.abs(total - weight) <= bound).all()


def test_onnxruntime_runs_both_branches_and_their_sum_in_integers(tmp_path: Path) -> None:
    result = make(tmp_path, rep_net(), "onnxruntime", split="cfws")
    made = producers(result.model)
    total = nodes(result.model)["rep/sum"]
    assert [made[name].op_type for name in total.input] == ["DequantizeLinear"] * 2
    graph = nets.optimized(result.model.path, tmp_path / "optimized.onnx").graph
    count = Counter(node.op_type for node in graph.node)
    assert count["Conv"] == 0
    assert count["QLinearConv"] == 7  # stem, rep and res in two parts each, and the head
    assert count["QLinearAdd"] == 4  # three sums and the residual


def test_tensorrt_sees_no_pair_between_branches_and_sum(tmp_path: Path) -> None:
    result = make(tmp_path, rep_net(), "tensorrt", split="cfws")
    made, by_name = producers(result.model), nodes(result.model)
    for name in ("stem", "rep", "res"):
        total = by_name[f"{name}/sum"]
        assert [made[i].name for i in total.input] == [f"{name}/coarse", f"{name}/fine"]
        for part in ("coarse", "fine"):
            inputs = by_name[f"{name}/{part}"].input
            assert [made[i].op_type for i in inputs[:2]] == ["DequantizeLinear"] * 2
    # the residual reads its skip in 8 bits, and the split block in float
    residual = [made[i] for i in by_name["res/add"].input]
    assert residual[0].name == "res/sum"
    assert residual[1].op_type == "DequantizeLinear"


@pytest.mark.parametrize("policy", POLICIES)
def test_auto_splits_what_gains_and_says_why_not(tmp_path: Path, policy: str) -> None:
    report = make(tmp_path, rep_net(), policy, split="auto").report
    (split,) = report["split_nodes"]
    assert split["node"] == "rep"
    assert split["split_sqnr_db"] >= split["plain_sqnr_db"] + 3
    reasons = {entry["node"]: entry["reason"] for entry in report["whole_nodes"]}
    assert set(reasons) == {"stem", "res", "head"}
    assert "dB at its output" in reasons["stem"]
    assert reasons["head"] == "the kernel is 1x1, the centre is all of it"


@pytest.mark.parametrize("policy", POLICIES)
def test_splitting_pays_in_the_whole_network(tmp_path: Path, policy: str) -> None:
    proto = rep_net()
    feeds = [dict(sample) for sample in nets.samples(proto, 4, seed=7)]
    truth = np.concatenate([nets.run(proto, feed, "res/relu_out")[0] for feed in feeds])
    found = {}
    for split in ("none", "auto", "cfws"):
        model = make(tmp_path, proto, policy, split=split).model
        # the tensor behind the last residual block, before its own rounding
        outputs = [nets.run(model, feed, "res/relu_out")[0] for feed in feeds]
        found[split] = nets.sqnr_db(truth, np.concatenate(outputs))
    assert found["auto"] > found["none"] + 4
    assert found["cfws"] > found["none"] + 4


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("stride", "pad"), [(2, 1), (1, 0), (2, 0)])
def test_a_cropped_input_keeps_its_scale(
    tmp_path: Path, policy: str, stride: int, pad: int
) -> None:
    net = nets.Net([1, 3, 16, 16])
    hidden = net.conv("first", "x", (3, 4))
    net.conv("second", hidden, (4, 4), stride=stride)
    set_pads(net.nodes, "second", pad)
    proto = net.model(net.node("soft", "Softmax", "second/relu_out", axis=1))
    result = make(tmp_path, proto, policy, split="cfws")
    found = constants(result.model)
    if pad == 0:
        assert "second/crop" in nodes(result.model)
        if "second/crop/scale" in found:
            assert found["second/crop/scale"] == found["first/relu_out/scale"]
            assert found["second/crop/zero_point"] == found["first/relu_out/zero_point"]
    feed = next(iter(nets.samples(proto, 1, seed=7)))
    truth, approximate = (
        nets.run(m, dict(feed), "second/relu_out")[0] for m in (proto, result.model)
    )
    assert truth.shape == approximate.shape
    assert nets.sqnr_db(truth, approximate) > 30


def test_layers_that_stay_float_are_not_split(tmp_path: Path) -> None:
    proto = rep_net()
    result = make(tmp_path, proto, "onnxruntime", split="cfws", keep_float=("rep",))
    assert {s["node"] for s in result.report["split_nodes"]} == {"stem", "res"}
    assert "rep" in nodes(result.model)


def test_the_same_bytes_again(tmp_path: Path) -> None:
    first = make(tmp_path, rep_net(), "onnxruntime", split="auto").model.sha256
    assert make(tmp_path, rep_net(), "onnxruntime", split="auto").model.sha256 == first


def test_statistics_of_an_earlier_pass_do_not_know_the_branches(tmp_path: Path) -> None:
    proto = rep_net()
    file = nets.saved(proto, tmp_path / "net.onnx")
    seen = observe(file, nets.samples(proto))
    with pytest.raises(UserError, match=r"--split cfws makes tensors.*Give the samples themselves"):
        quantize(file, seen, tmp_path / "out.onnx", QuantizeOptions(split="cfws"))
    with pytest.raises(UserError, match=r"unknown split 'cwfs'. Did you mean 'cfws'"):
        QuantizeOptions(split="cwfs")


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_tensorrt_builds_a_split_model(tmp_path: Path, rest: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install edgeport[tensorrt-rtx]")
    from tests.calibration.test_tensorrt_builds import build

    path = make(tmp_path, rep_net(pad=0), "tensorrt", split="cfws", rest=rest).model.path
    done = build(path)
    assert done["errors"] == []
    assert done["results"][str(path)]["parsed"]
    assert done["results"][str(path)]["bytes"] > 0
