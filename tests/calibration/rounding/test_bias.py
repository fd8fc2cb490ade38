"""Bias correction against expectations computed by hand, and its promise not to harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calibration import QuantizeOptions, observe, quantize
from calibration.rounding.bench import Shift
from calibration.rounding.bias import surely_gains
from calibration.samples.base import InMemorySamples
from exporters.errors import UserError
from tests.calibration import nets


def bright(proto: onnx.ModelProto, count: int = 8) -> InMemorySamples:
    """Samples whose mean is far from zero: rounding a weight then shifts the mean of the output."""
    random = np.random.default_rng(5)
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    return InMemorySamples(
        [{"x": (random.random(shape) + 1).astype(np.float32)} for _ in range(count)]
    )


def one_layer(op_type: str, *, bias: bool) -> onnx.ModelProto:
    """A single weighted node and a ReLU behind it, so that no policy refuses its result."""
    if op_type in ("Gemm", "MatMul"):
        net = nets.Net([4, 24])
        weight = net.weight("w", 24, 6, fan_in=24)
        inputs = ["x", weight]
        if op_type == "Gemm" and bias:
            inputs.append(net.constant("b", np.linspace(-1, 1, 6, dtype=np.float32)))
        out = net.node("layer", op_type, *inputs)
        if op_type == "MatMul" and bias:
            constant = net.constant("b", np.linspace(-1, 1, 6, dtype=np.float32))
            out = net.node("add", "Add", out, constant)
        return net.model(net.node("out", "Tanh", out))
    shape = {"Conv": (6, 4, 3, 3), "ConvTranspose": (8, 3, 3, 3)}[op_type]
    net = nets.Net([2, 8, 7, 7])
    inputs = ["x", net.weight("w", *shape)]
    if bias:
        inputs.append(net.constant("b", np.linspace(-1, 1, 6, dtype=np.float32)))
    out = net.node("layer", op_type, *inputs, kernel_shape=[3, 3], group=2, pads=[1, 1, 1, 1])
    return net.model(net.node("out", "Tanh", out))


def mean_error(file: Any, proto: onnx.ModelProto, samples: InMemorySamples, tensor: str) -> Any:
    """Mean of int8 minus float at ``tensor``, a number a channel, over all samples."""
    total: Any = 0.0
    for sample in samples:
        (real,) = nets.run(proto, sample, tensor)
        (blurred,) = nets.run(file, sample, tensor)
        axis = 1 if real.ndim > 2 else -1
        others = tuple(i for i in range(real.ndim) if i != axis % real.ndim)
        total = total + (blurred.astype(np.float64) - real).mean(axis=others)
    return total / len(samples)


LAYERS = [
    ("Conv", True),
    ("Conv", False),
    ("ConvTranspose", True),
    ("ConvTranspose", False),
    ("Gemm", True),
    ("Gemm", False),
    ("MatMul", True),
]


@pytest.mark.parametrize(
    ("policy", "op_type", "bias"),
    [
        (policy, op_type, bias)
        for policy in ("tensorrt", "onnxruntime")
        for op_type, bias in LAYERS
        if (policy, op_type) != ("onnxruntime", "ConvTranspose")  # it has no integer kernel there
    ],
)
def test_the_mean_of_a_layers_output_comes_back(
    tmp_path: Path, policy: str, op_type: str, bias: bool
) -> None:
    proto = one_layer(op_type, bias=bias)
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), bright(proto, 32)
    tensor = "add_out" if op_type == "MatMul" else "layer_out"
    errors = {}
    for correct in (False, True):
        options = QuantizeOptions(
            policy=policy, rounding="nearest", correct_bias=correct, overwrite=True
        )
        result = quantize(file, samples, tmp_path / "q.onnx", options)
        errors[correct] = np.abs(mean_error(result.model, proto, samples, tensor)).mean()
        entries = result.report["corrected_nodes"]
    assert [entry["kept"] for entry in entries] == [True]
    assert entries[0]["sqnr_after_db"] > entries[0]["sqnr_before_db"]
    # what is left is how much a quarter of the samples, which it did not learn from, differ
    assert errors[True] < 0.35 * errors[False]


def test_a_matmul_without_a_constant_is_left_alone_with_the_reason(tmp_path: Path) -> None:
    proto = one_layer("MatMul", bias=False)
    file = nets.saved(proto, tmp_path / "m.onnx")
    result = quantize(
        file,
        bright(proto),
        tmp_path / "q.onnx",
        QuantizeOptions(correct_bias=True, rounding="nearest"),
    )
    (entry,) = result.report["uncorrected_nodes"]
    assert entry["node"] == "layer"
    assert "a MatMul has no bias" in entry["reason"]
    assert result.report["corrected_nodes"] == []


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("split", ["none", "cfws"])
def test_a_whole_network_comes_nearer(tmp_path: Path, policy: str, split: str) -> None:
    proto = nets.residual()
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), bright(proto, 32)
    other = list(bright(proto, 40))[32:]
    sqnr = {}
    for correct in (False, True):
        options = QuantizeOptions(
            policy=policy,
            split=split,
            rounding="nearest",
            correct_bias=correct,
            overwrite=True,
        )
        result = quantize(file, samples, tmp_path / "q.onnx", options)
        sqnr[correct] = np.mean(
            [nets.sqnr_db(nets.run(proto, s)[0], nets.run(result.model, s)[0]) for s in other]
        )
    assert result.report["bias_correction"]["after_db"] > 0
    assert sqnr[True] > sqnr[False] + 3


def test_a_network_that_gives_labels_is_judged_by_what_they_are_chosen_by(tmp_path: Path) -> None:
    proto = nets.chain()
    (scores,) = [output.name for output in proto.graph.output]
    proto.graph.node.append(onnx.helper.make_node("ArgMax", [scores], ["most"], "argmax", axis=1))
    proto.graph.node.append(
        onnx.helper.make_node("Cast", ["most"], ["labels"], "cast", to=onnx.TensorProto.UINT8)
    )
    proto.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("labels", onnx.TensorProto.UINT8, None)
    )
    file = nets.saved(proto, tmp_path / "m.onnx")
    report = quantize(
        file, bright(proto), tmp_path / "q.onnx", QuantizeOptions(rounding="nearest")
    ).report
    corrected = report["bias_correction"]
    assert corrected["before_db"] > 0


def test_a_split_layer_is_corrected_once_through_its_fine_half(tmp_path: Path) -> None:
    proto = nets.chain()
    file = nets.saved(proto, tmp_path / "m.onnx")
    options = QuantizeOptions(split="cfws", correct_bias=True, rounding="nearest")
    result = quantize(file, bright(proto), tmp_path / "q.onnx", options)
    names = [entry["node"] for entry in result.report["corrected_nodes"]]
    assert names == ["first/sum", "second/sum", "last"]
    nodes = {node.name: node for node in result.model.proto.graph.node}
    kept = {e["node"]: e["kept"] for e in result.report["corrected_nodes"]}
    for name in ("first", "second"):
        assert len(nodes[f"{name}/fine"].input) == (3 if kept[f"{name}/sum"] else 2)
        assert len(nodes[f"{name}/coarse"].input) == 3


def test_what_does_not_help_is_put_back(tmp_path: Path) -> None:
    """Where the mean of the learnt samples says nothing of the others, the file stays the same."""
    proto = nets.chain()
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), nets.samples(proto, 4)
    plain = quantize(
        file, samples, tmp_path / "a.onnx", QuantizeOptions(rounding="nearest")
    ).model.proto
    result = quantize(
        file, samples, tmp_path / "b.onnx", QuantizeOptions(correct_bias=True, rounding="nearest")
    )
    if any(entry["kept"] for entry in result.report["corrected_nodes"]):
        outputs = result.report["bias_correction"]
        assert outputs["after_db"] > outputs["before_db"]
    else:
        assert [n.SerializeToString() for n in result.model.proto.graph.node] == [
            n.SerializeToString() for n in plain.graph.node
        ]


def test_statistics_alone_are_not_enough(tmp_path: Path) -> None:
    proto = nets.chain()
    file = nets.saved(proto, tmp_path / "m.onnx")
    seen = observe(file, nets.samples(proto))
    with pytest.raises(UserError, match="bias correction runs samples"):
        quantize(
            file, seen, tmp_path / "q.onnx", QuantizeOptions(correct_bias=True, rounding="nearest")
        )


def test_a_shift_that_a_few_samples_disagree_about_is_not_believed() -> None:
    shift = Shift(2)
    for sure, unsure in ((1.0, 4.0), (1.1, -4.0), (0.9, 1.0)):
        shift.add(np.array([[sure, unsure]], np.float32))
    trusted = shift.trusted()
    # variance of the mean: 0.01 / 3 over a mean of 1
    assert trusted[0] == pytest.approx(1 - 0.01 / 3, rel=1e-5)
    assert trusted[1] == 0


@pytest.mark.parametrize(
    ("gains_db", "sure"),
    [((1.0, 1.2, 0.8), True), ((3.0, -2.5, 0.5), False), ((0.1,), True), ((-1.0, -1.0), False)],
)
def test_a_gain_within_the_noise_is_none(gains_db: tuple[float, ...], sure: bool) -> None:
    assert surely_gains(np.array(gains_db)) is sure


def classifier() -> onnx.ModelProto:
    net = nets.Net([1, 4, 10, 10])
    last = net.conv("second", net.conv("first", "x", (4, 16)), (16, 16))
    pooled = net.node("flat", "Flatten", net.node("pool", "GlobalAveragePool", last))
    weight = net.weight("w", 16, 6, fan_in=16)
    bias = net.constant("b", np.zeros(6, np.float32))
    return net.model(net.node("classify", "Gemm", pooled, weight, bias))


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_the_last_layer_takes_off_what_the_others_leave(
    tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Correcting every layer is judged to have failed: then the classifier alone is corrected."""
    from calibration.rounding import bias

    proto = classifier()
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), bright(proto, 32)
    other = list(bright(proto, 48))[32:]
    options = QuantizeOptions(policy=policy, rounding="nearest", correct_bias=False, overwrite=True)
    without = quantize(file, samples, tmp_path / "without.onnx", options).model
    told: list[bool] = []

    def refusing_once(gains_db: Any) -> bool:
        told.append(surely_gains(gains_db) and bool(told))
        return told[-1]

    monkeypatch.setattr(bias, "surely_gains", refusing_once)
    options = QuantizeOptions(policy=policy, rounding="nearest", correct_bias=True, overwrite=True)
    result = quantize(file, samples, tmp_path / "q.onnx", options)
    assert told == [False, True]
    kept = [entry["node"] for entry in result.report["corrected_nodes"] if entry["kept"]]
    assert kept == ["classify"]
    before, after = (
        np.abs(mean_error(model, proto, InMemorySamples(other), "classify_out")).mean()
        for model in (without, result.model)
    )
    # learnt from other samples of the same kind: what is left is how much they differ
    assert after < 0.35 * before
