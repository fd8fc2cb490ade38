"""Where Q/DQ stand, for each runtime, on a network with every pattern that matters."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calibration import QuantizeOptions, QuantizeResult, quantize
from calibration.qdq.placement import FloatRules
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from tests.calibration import nets


class Reader:
    """Answers questions about a quantized graph."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.producers = {o: n for n in proto.graph.node for o in n.output}
        self.nodes = {n.name: n for n in proto.graph.node}
        self.constants = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
        self.proto = proto

    def kinds(self, name: str) -> list[str]:
        """What each input of a node is: ``DQ activation``, ``DQ weight``, ``constant`` or an op."""
        return [self._kind(value) for value in self.nodes[name].input]

    def consumers(self, name: str) -> list[str]:
        outputs = set(self.nodes[name].output)
        return [n.op_type for n in self.proto.graph.node if outputs & set(n.input)]

    def scale(self, tensor: str) -> float:
        return float(self.constants[self.nodes[f"{tensor}/QuantizeLinear"].input[1]])

    def _kind(self, value: str) -> str:
        if value in self.constants:
            return "constant"
        node = self.producers.get(value)
        if node is None:
            return "graph input"
        if node.op_type == "DequantizeLinear":
            return "DQ weight" if node.input[0] in self.constants else "DQ activation"
        return node.op_type


def quantized(
    tmp_path: Path, proto: onnx.ModelProto, policy: str, **options: Any
) -> QuantizeResult:
    file = nets.saved(proto, tmp_path / "net.onnx")
    return quantize(
        file, nets.samples(proto), tmp_path / f"{policy}.onnx", QuantizeOptions(policy, **options)
    )


def reasons(result: QuantizeResult) -> dict[str, str]:
    return {item["node"]: item["reason"] for item in result.report["skipped"]}


# ------------------------------------------------------------------ TensorRT


@pytest.fixture(scope="module")
def for_tensorrt(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("tensorrt")
    return Reader(quantized(folder, nets.residual(), "tensorrt").model.proto)


def test_every_weighted_node_reads_int8(for_tensorrt: Reader) -> None:
    for name in ("stem", "b1.c1", "b1.c2", "b2.c1", "b2.c2", "b2.down", "up", "head", "fc"):
        assert for_tensorrt.kinds(name)[:2] == ["DQ activation", "DQ weight"], name


def test_biases_stay_float_for_tensorrt(for_tensorrt: Reader) -> None:
    assert for_tensorrt.kinds("stem")[2] == "constant"
    assert for_tensorrt.constants["stem.bias"].dtype == np.float32


def test_nothing_stands_between_a_convolution_and_its_epilogue(for_tensorrt: Reader) -> None:
    assert for_tensorrt.consumers("stem") == ["Relu"]
    assert for_tensorrt.consumers("b1.c2") == ["Add"]
    assert for_tensorrt.consumers("b1/add") == ["Relu"]


def test_the_skip_branch_of_an_addition_is_quantized_and_the_main_one_is_not(
    for_tensorrt: Reader,
) -> None:
    assert for_tensorrt.kinds("b1/add") == ["Conv", "DQ activation"]


def test_of_two_convolutions_the_projection_is_the_skip(for_tensorrt: Reader) -> None:
    assert for_tensorrt.kinds("b2/add") == ["Conv", "DQ activation"]
    assert "b2.down_out/QuantizeLinear" in for_tensorrt.nodes


def test_inputs_of_a_concat_share_one_scale(for_tensorrt: Reader) -> None:
    assert for_tensorrt.kinds("cat") == ["DQ activation", "DQ activation"]
    tensors = ("up/relu_out", "b1/relu_out", "cat_out")
    assert len({for_tensorrt.scale(tensor) for tensor in tensors}) == 1


def test_all_integers_are_symmetric_int8(for_tensorrt: Reader) -> None:
    for node in for_tensorrt.proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = for_tensorrt.constants[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()


def test_weight_axes_count_output_channels(for_tensorrt: Reader) -> None:
    axes = {}
    for name in ("stem", "up", "fc"):
        dq = for_tensorrt.producers[for_tensorrt.nodes[name].input[1]]
        axes[name] = next(a.i for a in dq.attribute if a.name == "axis")
    assert axes == {"stem": 0, "up": 1, "fc": 0}


def test_a_tensor_is_quantized_once_for_all_its_readers(for_tensorrt: Reader) -> None:
    pairs = Counter(
        n.input[0] for n in for_tensorrt.proto.graph.node if n.op_type == "QuantizeLinear"
    )
    assert set(pairs.values()) == {1}


def test_a_concat_of_concats_has_one_scale(tmp_path: Path) -> None:
    net = nets.Net([1, 4, 8, 8])
    a = net.conv("a", "x", (4, 4))
    inner = net.node("inner", "Concat", a, net.conv("b", a, (4, 4)), axis=1)
    outer = net.node("outer", "Concat", inner, net.conv("c", a, (4, 4)), axis=1)
    proto = net.model(net.conv("d", outer, (12, 4)))
    reader = Reader(quantized(tmp_path, proto, "tensorrt").model.proto)
    tensors = ("a/relu_out", "b/relu_out", "c/relu_out", "inner_out", "outer_out")
    assert len({reader.scale(tensor) for tensor in tensors}) == 1


def test_moving_nodes_between_integers_share_the_scale(tmp_path: Path) -> None:
    net = nets.Net([1, 4, 8, 8])
    a = net.conv("a", "x", (4, 4))
    moved = net.node("move", "Transpose", a, perm=[0, 1, 3, 2])
    one, two = net.conv("b", moved, (4, 4)), net.conv("c", a, (4, 4))
    reader = Reader(quantized(tmp_path, net.model(one, two), "tensorrt").model.proto)
    assert reader.scale("a/relu_out") == reader.scale("move_out")


def test_a_concat_that_feeds_no_weighted_node_stays_float(tmp_path: Path) -> None:
    """One scale over boxes and scores kills detections."""
    net = nets.Net([1, 4, 8, 8])
    boxes, scores = (net.conv(name, "x", (4, 4), relu=False) for name in ("boxes", "scores"))
    result = quantized(
        tmp_path, net.model(net.node("cat", "Concat", boxes, scores, axis=1)), "tensorrt"
    )
    assert Reader(result.model.proto).kinds("cat") == ["Conv", "Conv"]
    assert "cat" in reasons(result)


# ------------------------------------------------------------------ ONNX Runtime


def executed(tmp_path: Path, result: QuantizeResult) -> Counter[str]:
    graph = nets.optimized(result.model.path, tmp_path / "optimized.onnx").graph
    return Counter(node.op_type for node in graph.node)


def test_onnxruntime_runs_integer_kernels(tmp_path: Path) -> None:
    proto = nets.residual()
    result = quantized(tmp_path, proto, "onnxruntime")
    ops = executed(tmp_path, result)
    assert ops["QLinearConv"] == 7
    assert ops["QLinearAdd"] == 1
    assert ops["QGemm"] == 1
    assert ops["QLinearGlobalAveragePool"] == 1
    assert ops["Conv"] + ops["FusedConv"] == 0
    assert reasons(result)["up"] == "ONNX Runtime has no integer ConvTranspose"


def test_onnxruntime_runs_activations_and_pools_in_integers(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 16, 16])
    net.constant("zero", np.float32(0))
    net.constant("six", np.float32(6))
    a = net.node("relu6", "Clip", net.conv("a", "x", (3, 8), relu=False), "zero", "six")
    depthwise = net.conv("dw", a, (8, 8), group=8)
    leaky = net.node("leaky", "LeakyRelu", net.conv("b", depthwise, (8, 8), relu=False), alpha=0.1)
    silu = net.conv("c", leaky, (8, 8), relu=False)
    silu = net.node("silu", "Mul", silu, net.node("sigmoid", "Sigmoid", silu))
    scales = net.constant("scales", np.array([1, 1, 2, 2], np.float32))
    larger = net.node("resize", "Resize", silu, "", scales, mode="linear")
    joined = net.node("cat", "Concat", net.conv("d", larger, (8, 8)), larger, axis=1)
    small = net.node("avg", "AveragePool", joined, kernel_shape=[2, 2], strides=[2, 2])
    end = net.node("softmax", "Softmax", net.conv("e", small, (16, 4), relu=False), axis=1)
    ops = executed(tmp_path, quantized(tmp_path, net.model(end), "onnxruntime"))
    assert ops["QLinearConv"] == 6
    for op in ("QLinearLeakyRelu", "QLinearSigmoid", "QLinearMul", "QLinearConcat"):
        assert ops[op] == 1, op
    assert ops["QLinearAveragePool"] == 1
    assert ops["Clip"] == ops["Conv"] == ops["FusedConv"] == 0
    # Q at the graph's input, DQ before Softmax, and both around the linear Resize
    assert (ops["QuantizeLinear"], ops["DequantizeLinear"]) == (2, 2)


def test_a_nearest_resize_moves_bytes(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    scales = net.constant("scales", np.array([1, 1, 2, 2], np.float32))
    larger = net.node("resize", "Resize", net.conv("a", "x", (3, 4)), "", scales, mode="nearest")
    end = net.node("softmax", "Softmax", net.conv("b", larger, (4, 4), relu=False), axis=1)
    ops = executed(tmp_path, quantized(tmp_path, net.model(end), "onnxruntime"))
    assert (ops["QuantizeLinear"], ops["DequantizeLinear"]) == (1, 1)


def test_a_split_moves_bytes(tmp_path: Path) -> None:
    """The C2f block of YOLOv8: half of the channels pass by."""
    net = nets.Net([1, 3, 8, 8])
    whole = net.conv("a", "x", (3, 8))
    net.node("split", "Split", whole, axis=1)
    net.nodes[-1].output.append("split_rest")
    joined = net.node("cat", "Concat", "split_out", net.conv("b", "split_rest", (4, 4)), axis=1)
    end = net.node("softmax", "Softmax", net.conv("c", joined, (8, 4), relu=False), axis=1)
    result = quantized(tmp_path, net.model(end), "onnxruntime")
    ops = executed(tmp_path, result)
    assert (ops["QLinearConv"], ops["QLinearConcat"], ops["Split"]) == (3, 1, 1)
    assert (ops["QuantizeLinear"], ops["DequantizeLinear"]) == (1, 1)
    reader = Reader(result.model.proto)
    tensors = ("a/relu_out", "split_out", "split_rest")
    assert len({reader.scale(tensor) for tensor in tensors}) == 1


def test_matmul_needs_no_quantized_result(tmp_path: Path) -> None:
    net = nets.Net([1, 16])
    hidden = net.node("softplus", "Softplus", net.node("a", "MatMul", "x", net.weight("wa", 16, 8)))
    result = quantized(
        tmp_path, net.model(net.node("b", "MatMul", hidden, net.weight("wb", 8, 4))), "onnxruntime"
    )
    assert executed(tmp_path, result)["MatMulIntegerToFloat"] == 2


def test_biases_are_int32_at_the_scale_of_the_accumulator(tmp_path: Path) -> None:
    reader = Reader(quantized(tmp_path, nets.chain(), "onnxruntime").model.proto)
    assert reader.kinds("first") == ["DQ activation", "DQ weight", "DQ weight"]
    weight, bias = (reader.producers[reader.nodes["first"].input[i]] for i in (1, 2))
    assert reader.constants[bias.input[0]].dtype == np.int32
    step = np.float32(reader.scale("x")) * reader.constants[weight.input[1]]
    np.testing.assert_array_equal(reader.constants[bias.input[1]], step)


def test_a_convolution_at_the_output_stays_float(tmp_path: Path) -> None:
    result = quantized(tmp_path, nets.chain(), "onnxruntime")
    assert "graph output" in reasons(result)["last"]
    assert executed(tmp_path, result)["QLinearConv"] == 2


def test_float_readers_of_an_integer_result_get_it_dequantized(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    a = net.conv("a", "x", (3, 4))
    soft = net.node("soft", "Softmax", a, axis=1)
    b = net.node("exp", "Exp", net.conv("b", a, (4, 4)))
    reader = Reader(quantized(tmp_path, net.model(soft, b), "onnxruntime").model.proto)
    assert reader.kinds("soft") == ["DQ activation"]


def test_float_producers_keep_a_float_result_for_float_readers(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    e = net.node("exp", "Exp", "x")
    b = net.node("sin", "Sin", net.conv("b", e, (3, 4)))
    soft = net.node("soft", "Softmax", e, axis=1)
    reader = Reader(quantized(tmp_path, net.model(soft, b), "onnxruntime").model.proto)
    assert reader.kinds("soft") == ["Exp"]


# ------------------------------------------------------------------ what stays in float


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_declared_nodes_stay_in_float_with_their_reason(tmp_path: Path, policy: str) -> None:
    proto = nets.residual()
    file = nets.saved(
        proto, tmp_path / "n.onnx", keep_float={"b1.": "too fine", "fc": "class logits"}
    )
    result = quantize(file, nets.samples(proto), tmp_path / "q.onnx", QuantizeOptions(policy))
    found = reasons(result)
    assert (found["b1.c1"], found["b1.c2"], found["fc"]) == ("too fine", "too fine", "class logits")
    assert Reader(result.model.proto).kinds("b1.c1")[1] == "constant"


def test_declared_nodes_are_quantized_when_asked(tmp_path: Path) -> None:
    proto = nets.residual()
    file = nets.saved(proto, tmp_path / "n.onnx", keep_float={"b1": "too fine"})
    options = QuantizeOptions(quantize_also=("b1.c1",))
    found = reasons(quantize(file, nets.samples(proto), tmp_path / "q.onnx", options))
    assert "b1.c1" not in found
    assert found["b1.c2"] == "too fine"


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_nodes_stay_in_float_when_asked(tmp_path: Path, policy: str) -> None:
    result = quantized(tmp_path, nets.residual(), policy, keep_float=("b2", "head"))
    found = reasons(result)
    for node in ("b2.c1", "b2.c2", "b2.down", "head"):
        assert found[node] == "asked for with --keep-float"
    assert "b1.c1" not in found


def test_a_full_name_is_not_a_prefix() -> None:
    rules = FloatRules(asked=("Conv_1",))
    assert list(rules.reasons(["Conv_1", "Conv_10", "Add_1"])) == ["Conv_1"]
    assert list(FloatRules(asked=("Conv",)).reasons(["Conv_1", "Conv_10"])) == ["Conv_1", "Conv_10"]


def test_an_unknown_node_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"--keep-float 'haed' matches no node\. Did you mean 'head'"
    ):
        quantized(tmp_path, nets.residual(), "tensorrt", keep_float=("haed",))


def test_every_computing_node_is_quantized_fused_or_listed(tmp_path: Path) -> None:
    for policy in ("tensorrt", "onnxruntime"):
        proto = nets.residual()
        result = quantized(tmp_path, proto, policy)
        listed = set(reasons(result))
        reader = Reader(result.model.proto)
        for node in proto.graph.node:
            if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
                is_integer = reader.kinds(node.name)[1] == "DQ weight"
                assert is_integer != (node.name in listed), (policy, node.name)
        assert all(reasons(result).values())


def test_nothing_left_to_quantize_says_why(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    proto = net.model(net.conv("only", "x", (3, 4), relu=False))
    with pytest.raises(UserError, match=r"nothing in .* can be quantized: 'only' its result is a"):
        quantized(tmp_path, proto, "onnxruntime")


def test_an_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown policy 'tensort'\. Did you mean 'tensorrt'"):
        QuantizeOptions("tensort")


def test_the_model_file_type_is_returned(tmp_path: Path) -> None:
    assert isinstance(quantized(tmp_path, nets.chain(), "tensorrt").model, ModelFile)
