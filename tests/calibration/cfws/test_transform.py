"""CFWS on graphs: every geometry against torch and ONNX Runtime, every refusal with its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.cfws.arithmetic import SplitOptions
from calibration.cfws.gain import OutputGain
from calibration.cfws.transform import LayerGain, Splits, split_model
from calibration.graph.prepare import prepare
from calibration.samples.base import InMemorySamples
from calibration.scales.methods import IntegerForm

Array = NDArray[Any]


def conv_model(
    weight: Array,
    size: Sequence[int | str],
    *,
    groups: int = 1,
    bias: Array | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """x -> Conv "block/conv" -> Relu -> y, with metadata that must survive."""
    names = ["x", "w"] + (["b"] if bias is not None else [])
    nodes = [
        helper.make_node("Conv", names, ["c"], "block/conv", group=groups, **attributes),
        helper.make_node("Relu", ["c"], ["y"], "block/relu"),
    ]
    channels = weight.shape[1] * groups
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, *size])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(weight.astype(np.float32), "w")]
    if bias is not None:
        constants.append(numpy_helper.from_array(bias.astype(np.float32), "b"))
    graph = helper.make_graph(nodes, "net", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="edgeport.variant", value="test")
    return model


def run(model: onnx.ModelProto, feeds: Mapping[str, Array], *outputs: str) -> list[Array]:
    import onnxruntime as ort

    model = onnx.ModelProto.FromString(model.SerializeToString())
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in set(outputs) - known)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: list[Array] = session.run(list(outputs) or None, dict(feeds))
    return found


def rep_weight(rng: np.random.Generator, *shape: int) -> Array:
    w = rng.normal(size=shape)
    w[(..., *(k // 2 for k in shape[2:]))] *= 30
    return w.astype(np.float32)


def check_equal(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> Splits:
    """Splitting changes no value but for float32 rounding, and the graph is valid."""
    new, splits = split_model(model)
    onnx.checker.check_model(new, full_check=True)
    (before,), (after,) = run(model, feeds, "y"), run(new, feeds, "y")
    assert after.shape == before.shape
    # float32 sums of up to a few hundred products in another order
    assert np.abs(after - before).max() <= 2e-6 * np.abs(before).max() * 30
    return splits


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pad", [0, 1, 2, 3])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (5, 5)])
def test_geometry_against_torch(
    kernel: tuple[int, int], pad: int, stride: int, dilation: int, groups: int
) -> None:
    import torch

    rng = np.random.default_rng(0)
    w = rep_weight(rng, 8, 4 // groups, *kernel)
    b = rng.normal(size=8).astype(np.float32)
    x = rng.normal(size=(2, 4, 13, 14)).astype(np.float32)
    model = conv_model(
        w, [13, 14], groups=groups, bias=b, pads=[pad] * 4, strides=[stride] * 2,
        dilations=[dilation] * 2,
    )  # fmt: skip
    new, splits = split_model(model)
    (split,) = splits.splits
    reach = tuple(dilation * (k - 1) // 2 for k in kernel)
    assert (split.crop is not None) == any(pad < r for r in reach)
    ops = [node.op_type for node in new.graph.node]
    assert ops == (["Slice"] if split.crop else []) + ["Conv", "Conv", "Add", "Relu"]
    truth = torch.nn.functional.conv2d(
        *(torch.from_numpy(a).double() for a in (x, w, b)),
        stride=stride, padding=pad, dilation=dilation, groups=groups,
    ).relu()  # fmt: skip
    (y,) = run(new, {"x": x}, "y")
    assert y.shape == tuple(truth.shape)
    # float32 sums of up to 100 products of size 30
    assert np.abs(y - truth.numpy()).max() <= 1e-5 * float(truth.max())


geometry = st.tuples(
    st.sampled_from([1, 3, 5]),  # kernel
    st.integers(0, 4),  # pad before
    st.integers(0, 4),  # pad after
    st.integers(1, 3),  # stride
    st.integers(1, 3),  # dilation
    st.integers(9, 12),  # size: the widest kernel reaches 13 with pads of 4
)


@given(st.lists(geometry, min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_any_asymmetric_geometry_against_onnx_runtime(
    axes: list[tuple[int, int, int, int, int, int]], seed: int
) -> None:
    kernel, begin, end, strides, dilations, size = (tuple(v) for v in zip(*axes, strict=True))
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    fits = all(n + b + e > r for n, b, e, r in zip(size, begin, end, reach, strict=True))
    if not fits or max(kernel) == 1:
        return
    rng = np.random.default_rng(seed)
    w = rep_weight(rng, 4, 2, *kernel)
    model = conv_model(w, size, pads=[*begin, *end], strides=strides, dilations=dilations)
    check_equal(model, {"x": rng.normal(size=(1, 2, *size)).astype(np.float32)})


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [8, 9, 10])
@pytest.mark.parametrize("kernel", [3, 5])
def test_auto_pad(auto_pad: str, stride: int, size: int, kernel: int) -> None:
    rng = np.random.default_rng(0)
    w = rep_weight(rng, 3, 2, kernel, 3)
    model = conv_model(w, [size, size + 1], auto_pad=auto_pad, strides=[stride, stride])
    splits = check_equal(model, {"x": rng.normal(size=(1, 2, size, size + 1)).astype(np.float32)})
    assert len(splits.splits) == 1


def test_auto_pad_of_an_unknown_size() -> None:
    rng = np.random.default_rng(0)
    w = rep_weight(rng, 3, 2, 3, 3)
    x = rng.normal(size=(1, 2, 7, 7)).astype(np.float32)
    # stride 1: the padding does not depend on the size
    model = conv_model(w, ["h", "w"], auto_pad="SAME_UPPER")
    assert len(check_equal(model, {"x": x}).splits) == 1
    model = conv_model(w, ["h", "w"], auto_pad="SAME_UPPER", strides=[2, 2])
    (skipped,) = check_equal(model, {"x": x}).skipped
    assert skipped.reason == "auto_pad=SAME_UPPER with stride 2 on an axis of unknown size"


def test_one_and_three_dimensions() -> None:
    rng = np.random.default_rng(0)
    for size in ([9], [5, 6, 7]):
        w = rep_weight(rng, 4, 1, *[3] * len(size))
        model = conv_model(w, size, groups=3, pads=[1, 0] * len(size))
        w3 = np.repeat(w, 3, axis=0)[:12]
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(w3, "w"))
        check_equal(model, {"x": rng.normal(size=(2, 3, *size)).astype(np.float32)})


def test_names_metadata_and_scales() -> None:
    w = rep_weight(np.random.default_rng(0), 8, 4, 3, 3)
    model = conv_model(w, [8, 8], pads=[1] * 4, bias=np.ones(8))
    before = model.SerializeToString()
    new, splits = split_model(model)
    assert model.SerializeToString() == before
    assert [n.name for n in new.graph.node] == [
        "block/conv/coarse", "block/conv/fine", "block/conv/sum", "block/relu",
    ]  # fmt: skip
    assert new.graph.node[2].output[0] == "c"
    assert {p.key: p.value for p in new.metadata_props} == {"edgeport.variant": "test"}
    arrays = {t.name: numpy_helper.to_array(t) for t in new.graph.initializer}
    assert set(arrays) == {"w/coarse", "w/fine", "b"}
    assert new.graph.node[0].input[2] == "b"  # the bias is added once
    assert len(new.graph.node[1].input) == 2
    scales = splits.weight_scales
    assert set(scales) == {"w/coarse", "w/fine"}
    integers = arrays["w/coarse"] / scales["w/coarse"].reshape(-1, 1, 1, 1)
    assert np.abs(integers - np.rint(integers)).max() <= 1e-5
    again, _ = split_model(model)
    assert again.SerializeToString(deterministic=True) == new.SerializeToString(deterministic=True)


def test_without_extraction_any_kernel_splits() -> None:
    rng = np.random.default_rng(0)
    for kernel in ([1, 1], [2, 2], [3, 3]):
        w = rng.normal(size=(4, 2, *kernel)).astype(np.float32)
        model = conv_model(w, [6, 6])
        x = rng.normal(size=(1, 2, 6, 6)).astype(np.float32)
        new, _ = split_model(model, SplitOptions(extract_centre=False))
        assert [n.op_type for n in new.graph.node] == ["Conv", "Conv", "Add", "Relu"]
        assert np.allclose(run(new, {"x": x}, "y")[0], run(model, {"x": x}, "y")[0], atol=1e-5)


def test_a_shared_weight_may_be_split_twice() -> None:
    w = rep_weight(np.random.default_rng(0), 4, 4, 3, 3)
    model = conv_model(w, [6, 6], pads=[1] * 4)
    second = helper.make_node("Conv", ["y", "w"], ["z"], "second", pads=[1] * 4)
    model.graph.node.append(second)
    model.graph.output[0].name = "z"
    x = np.random.default_rng(1).normal(size=(1, 4, 6, 6)).astype(np.float32)
    new, splits = split_model(model)
    assert len(splits.splits) == 2
    assert "w" not in {t.name for t in new.graph.initializer}
    (before,), (after,) = run(model, {"x": x}, "z"), run(new, {"x": x}, "z")
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()


def skipped_reason(model: onnx.ModelProto, **options: Any) -> str:
    new, splits = split_model(model, **options)
    assert not splits.splits
    (skipped,) = splits.skipped
    assert [n.op_type for n in new.graph.node] == [n.op_type for n in prepare_nodes(model)]
    return skipped.reason


def prepare_nodes(model: onnx.ModelProto) -> Sequence[Any]:
    return list(prepare(model).graph)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((4, 4, 1, 1), "the kernel is 1x1, the centre is all of it"),
        ((4, 4, 2, 2), "the kernel is 2x2, an even size has no centre tap"),
        ((4, 4, 3, 2), "the kernel is 3x2, an even size has no centre tap"),
    ],
)
def test_kernels_without_a_centre(shape: tuple[int, ...], reason: str) -> None:
    model = conv_model(rep_weight(np.random.default_rng(0), *shape), [6, 6])
    assert skipped_reason(model) == reason


def test_other_reasons() -> None:
    w = rep_weight(np.random.default_rng(0), 4, 4, 3, 3)
    model = conv_model(w, [6, 6])
    kept = skipped_reason(model, keep={"block": "class logits"})
    assert kept == "stays float: class logits"
    assert skipped_reason(conv_model(w * 0, [6, 6])) == "weights are all zero"
    transposed = conv_model(w, [6, 6])
    transposed.graph.node[0].op_type = "ConvTranspose"
    assert skipped_reason(transposed) == "a transposed convolution has no centre tap"
    computed = conv_model(w, [6, 6])
    computed.graph.node[0].input[1] = "v"
    computed.graph.input.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, w.shape))
    del computed.graph.initializer[:]
    assert skipped_reason(computed) == "its weights are computed"


def test_a_split_model_is_not_split_again() -> None:
    w = rep_weight(np.random.default_rng(0), 4, 4, 3, 3)
    once, _ = split_model(conv_model(w, [6, 6]))
    _, splits = split_model(once)
    assert not splits.splits
    assert {s.reason for s in splits.skipped} == {"is one part of a split already"}


def test_a_convolution_in_a_loop_body_is_left_alone_with_a_reason() -> None:
    w = rep_weight(np.random.default_rng(0), 2, 2, 3)
    body = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["inner"], "inside", pads=[1, 1])],
        "then", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )  # fmt: skip
    model = conv_model(w, [8], pads=[1, 1])
    branch = helper.make_node("If", ["flag"], ["z"], "if", then_branch=body, else_branch=body)
    model.graph.node.append(branch)
    model.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    new, splits = split_model(model)
    assert [s.node for s in splits.splits] == ["block/conv"]
    assert {s.reason for s in splits.skipped} == {"inside the body of a control-flow node"}
    assert "w" in {t.name for t in new.graph.initializer}  # the body still reads it


def two_layers(rng: np.random.Generator) -> onnx.ModelProto:
    """A layer with one towering identity entry, then one of even weights.

    That is what batch norm makes of an input channel of small variance, see `samples`.
    """
    rep = rng.normal(size=(8, 4, 3, 3)) * 0.1
    rep[0, 0, 1, 1] = 40
    model = conv_model(rep, [10, 10], pads=[1] * 4)
    even = rng.uniform(-0.1, 0.1, size=(8, 8, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(even, "even"))
    model.graph.node.append(helper.make_node("Conv", ["y", "even"], ["z"], "flat", pads=[1] * 4))
    model.graph.output[0].name = "z"
    return model


def samples(rng: np.random.Generator, count: int = 6) -> InMemorySamples:
    spread = np.array([0.01, 1, 1, 1]).reshape(1, 4, 1, 1)
    return InMemorySamples(
        {"x": (spread * rng.normal(size=(1, 4, 10, 10))).astype(np.float32)} for _ in range(count)
    )


@pytest.mark.parametrize("form", [None, *IntegerForm])
def test_gain_on_the_output_decides(form: IntegerForm | None) -> None:
    rng = np.random.default_rng(0)
    model, data = two_layers(rng), samples(rng)
    gain = OutputGain(data, plain="tensor", activations=form, rounded_branches=form is not None)
    _, splits = split_model(model, SplitOptions("tensor", "tensor"), gain=gain, min_gain_db=6.0)
    (split,) = splits.splits
    assert split.node == "block/conv"
    assert split.gain is not None
    assert split.gain.gain_db > 6
    (skipped,) = splits.skipped
    assert skipped.node == "flat"
    assert skipped.gain is not None
    assert skipped.reason.startswith(f"gains {skipped.gain.gain_db:.1f} dB at its output")


def test_gain_equals_float64_arithmetic() -> None:
    """SQNR of the layer's output with weights alone rounded, computed by torch in float64."""
    import torch

    rng = np.random.default_rng(0)
    model, data = two_layers(rng), samples(rng, 4)
    w = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
    gain = OutputGain(data, plain="channel")
    _, splits = split_model(model, gain=gain, min_gain_db=-np.inf)
    measured = splits.splits[0].gain
    assert measured is not None
    step = np.abs(w).max(axis=(1, 2, 3), keepdims=True) / 127
    plain = np.rint(w / step) * step
    coarse_step = np.abs(w[:, :, 1, 1]).max(axis=1, keepdims=True) / 127
    coarse = np.zeros_like(w)
    coarse[:, :, 1, 1] = np.rint(w[:, :, 1, 1] / coarse_step) * coarse_step
    fine_step = np.abs(w - coarse).max(axis=(1, 2, 3), keepdims=True) / 127
    split = coarse + np.rint((w - coarse) / fine_step) * fine_step
    x = torch.from_numpy(np.concatenate([s["x"] for s in data])).double()

    def conv(kernel: Array) -> Array:
        return torch.nn.functional.conv2d(x, torch.from_numpy(kernel), padding=1).numpy()

    for approximation, found in ((plain, measured.plain_sqnr_db), (split, measured.split_sqnr_db)):
        error = conv(approximation) - conv(w)
        # ties of rint may fall either way in float32
        truth = 10 * np.log10((conv(w) ** 2).sum() / (error**2).sum())
        assert found == pytest.approx(truth, abs=0.1)


def test_a_measure_of_ones_own() -> None:
    rng = np.random.default_rng(0)
    model = two_layers(rng)
    seen = []

    def gain(model: Any, candidates: Sequence[Any]) -> Mapping[str, LayerGain]:
        seen.extend(c.name for c in candidates)
        return {"block/conv": LayerGain(10, 11), "flat": LayerGain(10, float("nan"))}

    _, splits = split_model(model, gain=gain)
    assert seen == ["block/conv", "flat"]
    assert not splits.splits
    assert splits.skipped[0].reason == ("gains 1.0 dB at its output (10.0 to 11.0), 3.0 are needed")


def test_neighbours_that_only_ever_see_padding() -> None:
    """One input element, pad 1: the centre alone matters; the residual saves its small weights."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(8, 8, 3)) * 0.001
    w[:, :, 1] = rng.laplace(scale=0.01, size=(8, 8))
    w[0, 0, 1] = 50.0
    model = conv_model(w, [1], pads=[1, 1])
    data = InMemorySamples(
        {"x": np.abs(rng.normal(size=(1, 8, 1))).astype(np.float32) * ([[0], *[[1]] * 7])}
        for _ in range(4)
    )
    data = InMemorySamples({"x": s["x"].astype(np.float32)} for s in data)
    gain = OutputGain(data, plain="tensor")
    _, splits = split_model(model, SplitOptions("tensor", "tensor"), gain=gain)
    (split,) = splits.splits
    assert split.gain is not None
    assert split.gain.plain_sqnr_db < 3  # nearly every weight that is used rounds to zero
    assert split.gain.split_sqnr_db > 20
