"""Stray Q/DQ pairs and float islands are found, and our own files have no strays (goal 6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration import QuantizeOptions, quantize
from calibration.qdq.islands import Audit, audit
from tests.calibration import nets
from tests.calibration.foreign import topologies, zoo

I8 = np.int8(0)


class Quantized(nets.Net):
    """A graph with Q/DQ written by hand."""

    def pair(self, name: str, x: str, scale: float = 0.1) -> str:
        step, zero = (
            self.constant(f"{name}/{n}", v) for n, v in (("s", np.float32(scale)), ("z", I8))
        )
        return self.node(
            f"{name}/dq",
            "DequantizeLinear",
            self.node(f"{name}/q", "QuantizeLinear", x, step, zero),
            step,
            zero,
        )

    def int8_conv(self, name: str, x: str) -> str:
        """A 1x1 convolution of 4 channels with int8 weights."""
        array = self.random.integers(-127, 127, (4, 4, 1, 1)).astype(np.int8)
        weight = self.constant(f"{name}.w", array)
        step, zero = (
            self.constant(f"{name}.{n}", v) for n, v in (("s", np.float32(0.01)), ("z", I8))
        )
        return self.node(
            name, "Conv", x, self.node(f"{name}.dq", "DequantizeLinear", weight, step, zero)
        )


def net() -> Quantized:
    return Quantized([1, 4, 8, 8])


def found(graph: Quantized, output: str) -> Audit:
    return audit(graph.model(output))


# ------------------------------------------------------------------ strays


def test_a_plain_chain_is_clean() -> None:
    g = net()
    a = g.node("relu", "Relu", g.int8_conv("c1", g.pair("x", "x")))
    result = found(g, g.int8_conv("c2", g.pair("a", a)))
    assert result == Audit(("c1", "c2"), (), (), ())


def test_a_pair_before_the_activation_is_stray() -> None:
    g = net()
    a = g.pair("a", g.int8_conv("c1", g.pair("x", "x")))
    result = found(g, g.int8_conv("c2", g.pair("b", g.node("relu", "Relu", a))))
    assert [(s.tensor, s.reason) for s in result.strays] == [
        ("c1_out", "stands between a node and its activation")
    ]


def test_a_second_rounding_with_another_scale_is_stray() -> None:
    g = net()
    a = g.pair("a", g.node("relu", "Relu", g.int8_conv("c1", g.pair("x", "x"))), 0.1)
    pooled = g.node("pool", "MaxPool", a, kernel_shape=[1, 1])
    result = found(g, g.int8_conv("c2", g.pair("b", pooled, 0.2)))
    assert [s.reason for s in result.strays] == [
        "rounds relu_out a second time, with another scale"
    ]


def test_a_second_rounding_with_the_same_scale_is_none() -> None:
    g = net()
    a = g.pair("a", g.node("relu", "Relu", g.int8_conv("c1", g.pair("x", "x"))), 0.1)
    pooled = g.node("pool", "MaxPool", a, kernel_shape=[1, 1])
    assert found(g, g.int8_conv("c2", g.pair("b", pooled, 0.1))).strays == ()


def test_a_concat_of_other_scales_is_stray() -> None:
    g = net()
    x = g.pair("x", "x")
    a, b = (g.pair(n, g.int8_conv(f"c{n}", x), s) for n, s in (("a", 0.1), ("b", 0.3)))
    joined = g.node("cat", "Concat", a, b, axis=2)
    result = found(g, g.int8_conv("c2", g.pair("j", joined, 0.3)))
    assert [(s.tensor, s.reason) for s in result.strays] == [
        ("cat_out", "rounds ca_out a second time, with another scale")
    ]


def test_a_sum_of_two_pairs_is_stray() -> None:
    g = net()
    x = g.pair("x", "x")
    total = g.node("add", "Add", g.pair("a", g.int8_conv("ca", x)), x)
    result = found(g, g.int8_conv("c2", g.pair("j", total)))
    assert [(s.tensor, s.reason) for s in result.strays] == [
        ("ca_out", "keeps a sum from being computed in the epilogue")
    ]


def test_a_pair_that_serves_nothing_is_stray() -> None:
    g = net()
    a = g.pair("a", g.int8_conv("c1", g.pair("x", "x")))
    result = found(g, g.node("soft", "Softmax", a))
    assert [(s.tensor, s.reason) for s in result.strays] == [("c1_out", "nothing integer reads it")]


# ------------------------------------------------------------------ islands


def test_float_epilogues_are_no_island() -> None:
    g = net()
    a = g.int8_conv("c1", g.pair("x", "x"))
    silu = g.node("mul", "Mul", a, g.node("sig", "Sigmoid", a))
    assert found(g, g.int8_conv("c2", g.pair("b", silu))).islands == ()


def test_what_no_epilogue_takes_in_is_an_island() -> None:
    g = net()
    a = g.node("relu", "Relu", g.int8_conv("c1", g.pair("x", "x")))
    soft = g.node("twice", "Mul", g.node("soft", "Softmax", a), g.constant("two", np.float32(2)))
    (island,) = found(g, g.int8_conv("c2", g.pair("b", soft))).islands
    assert island.breakers == ("Softmax",)
    assert island.nodes == ("relu", "soft", "twice")


def test_a_float_convolution_between_is_an_island() -> None:
    g = net()
    a = g.int8_conv("c1", g.pair("x", "x"))
    b = g.conv("float", a, (4, 4), 1, relu=False)
    result = found(g, g.int8_conv("c2", g.pair("b", b)))
    assert result.float_nodes == ("float",)
    assert [i.breakers for i in result.islands] == [("Conv",)]


def test_what_comes_after_the_last_is_no_island() -> None:
    g = net()
    a = g.int8_conv("c1", g.pair("x", "x"))
    assert found(g, g.node("soft", "Softmax", a)).islands == ()


# ------------------------------------------------------------------ our files

EXPECTED_ISLANDS = {
    # what interrupts these graphs by their nature; everything else must be free of islands
    "unfolded_batch_norms": [("GlobalAveragePool",)],
    "squeeze_and_excite": [("GlobalAveragePool",)],
    "dense_block": [("AveragePool",)],
    "residual": [("GlobalAveragePool",)],
    "linear_pyramid": [("Resize",), ("Resize",)],
}


def linear_pyramid() -> onnx.ModelProto:
    return topologies.feature_pyramid("linear")


@pytest.mark.parametrize(
    "build", [*zoo.TOPOLOGIES, nets.residual, linear_pyramid], ids=lambda b: b.__name__
)
def test_topologies_for_tensorrt_have_one_rounding_between_nodes(
    tmp_path: Path, build: zoo.Builder
) -> None:
    proto = build()
    file = nets.saved(proto, tmp_path / "m.onnx")
    for split in ("none", "cfws"):
        options = QuantizeOptions("tensorrt", scales="minmax", split=split)
        model = quantize(file, zoo.feeds(proto), tmp_path / f"{split}.onnx", options).model
        result = audit(model.proto)
        assert result.strays == (), split
        assert result.float_nodes == (), split
        islands = [island.breakers for island in result.islands]
        assert islands == EXPECTED_ISLANDS.get(build.__name__, []), split


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_the_rest_in_fp16_changes_nothing_about_that(tmp_path: Path, rest: str) -> None:
    proto = topologies.residual_chain()
    file = nets.saved(proto, tmp_path / "m.onnx")
    options = QuantizeOptions("tensorrt", scales="minmax", rest=rest)
    result = audit(quantize(file, zoo.feeds(proto), tmp_path / "q.onnx", options).model.proto)
    assert (len(result.integer_nodes), result.strays, result.islands) == (10, (), ())


@pytest.mark.slow
def test_flashocc_has_one_rounding_between_nodes(tmp_path: Path) -> None:
    """Its islands are the lifting to the bird's-eye view and two linear Resizes."""
    from calibration import open_samples
    from exporters import export

    model = export("flashocc-nano", tmp_path / "mini.onnx").model
    samples = open_samples("synthetic:2", model.spec)
    options = QuantizeOptions("tensorrt", scales="minmax")
    result = audit(quantize(model, samples, tmp_path / "q.onnx", options).model.proto)
    assert result.strays == ()
    assert len(result.integer_nodes) == 42
    assert [name for name in result.float_nodes if "pooling" not in name] == [
        "occ_head/predicter.2/Conv"  # class logits, as the model file says
    ]
    broken_by = sorted(island.breakers for island in result.islands)
    assert broken_by == [("Gather", "MatMul", "ReduceSum", "Softmax"), ("Resize",), ("Resize",)]
