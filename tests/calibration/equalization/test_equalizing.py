"""Channel equalization: the float network stays what it was, and INT8 gains by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration import QuantizeOptions, observe, quantize
from calibration.equalization.channels import find_channels, slices
from calibration.equalization.equalizing import SUFFIX, rescale
from calibration.equalization.factors import EXPONENT, SMALLEST_RANGE, choose_factors
from calibration.graph.prepare import prepare
from exporters.errors import UserError
from tests.calibration import nets

Array = NDArray[Any]
BOTH = ["tensorrt", "onnxruntime"]


def uneven(proto: onnx.ModelProto, spread: float, seed: int = 3) -> onnx.ModelProto:
    """The same network after rescaling its channels by up to ``spread``, at random.

    Exactly what equalization has to undo, made by its own inverse: see the test of `rescale`.
    """
    model = prepare(proto)
    random = np.random.default_rng(seed)
    channels = find_channels(model.graph)
    chosen = {v: spread ** random.uniform(-1, 1, v.size) for v in channels.free()}
    factors = {}
    for value, segments in channels.of.items():
        parts = [chosen.get(s.root, np.ones(s.size)) for s in segments]
        if any(s.root in chosen for s in segments):
            factors[value.name or ""] = np.concatenate(parts)
    import onnx_ir as ir

    rescale(model, factors)
    return ir.to_proto(model)


def outputs(model: Any, feeds: Any) -> Array:
    return np.concatenate([nets.run(model, dict(feed))[0] for feed in feeds])


def branched() -> onnx.ModelProto:
    """Concat, residual sum, strided and transposed, depthwise and nearest Resize in one graph."""
    net = nets.Net([1, 3, 16, 16])
    a = net.conv("a", "x", (3, 8))
    b = net.conv("b", a, (8, 8), relu=False)
    c = net.node("c/relu", "Relu", net.node("c", "Add", b, a))
    d = net.conv("d", c, (8, 8), group=8)
    e = net.conv("e", d, (8, 12), stride=2)
    up = net.weight("up.weight", 12, 4, 2, 2, fan_in=12)
    f = net.node("up", "ConvTranspose", e, up, kernel_shape=[2, 2], strides=[2, 2])
    sizes = net.constant("sizes", np.array([1, 1, 2, 2], np.float32))
    g = net.node("g", "Resize", e, "", sizes, mode="nearest")
    cat = net.node("cat", "Concat", net.node("f/relu", "Relu", f), g, c, axis=1)
    return net.model(net.conv("last", cat, (24, 5), 1, relu=False))


@pytest.mark.parametrize("make", [nets.residual, nets.chain, branched])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), spread=st.floats(1.5, 30))
def test_any_factors_leave_the_outputs_alone(make: Any, seed: int, spread: float) -> None:
    proto = make()
    feeds = list(nets.samples(proto, 2))
    true, found = outputs(proto, feeds), outputs(uneven(proto, spread, seed), feeds)
    # float32 sums of numbers that are up to ``spread`` apart
    assert np.abs(found - true).max() <= 2e-5 * np.abs(true).max()


def test_what_is_tied_together_shares_its_factors() -> None:
    graph = prepare(branched()).graph
    channels = find_channels(graph)
    roots = {
        value.name: [segment.root for segment in segments]
        for value, segments in channels.of.items()
    }
    assert roots["a/relu_out"] == roots["b_out"] == roots["c/relu_out"]
    assert roots["d/relu_out"] != roots["a/relu_out"]  # depthwise takes up both sides
    assert roots["cat_out"] == roots["f/relu_out"] + roots["e/relu_out"] + roots["c/relu_out"]
    assert roots["g_out"] == roots["e/relu_out"]
    assert [part.start for part in slices(channels.of[_value(graph, "cat_out")])] == [0, 4, 16]
    (last,) = roots["last_out"]
    assert last.fixed  # a graph output
    assert "x" not in roots


def _value(graph: Any, name: str) -> Any:
    return next(v for node in graph for v in node.outputs if v.name == name)


@pytest.mark.parametrize("op_type", ["Sigmoid", "HardSwish", "Softplus", "Exp"])
def test_what_would_notice_a_factor_gets_none(op_type: str) -> None:
    net = nets.Net([1, 3, 8, 8])
    a = net.conv("a", "x", (3, 4), relu=False)
    b = net.conv("b", net.node("act", op_type, a), (4, 4))
    channels = find_channels(prepare(net.model(net.conv("c", b, (4, 2), relu=False))).graph)
    fixed = {v.name: [s.root.fixed for s in segments] for v, segments in channels.of.items()}
    assert fixed["a_out"] == [True]
    assert fixed["b/relu_out"] == [False]


def test_a_clip_a_group_and_a_shared_weight_fix_their_inputs() -> None:
    net = nets.Net([1, 4, 8, 8])
    low, high = (net.constant(n, np.float32(v)) for n, v in (("low", 0), ("high", 6)))
    a = net.node("clip", "Clip", net.conv("a", "x", (4, 4), relu=False), low, high)
    b = net.conv("b", a, (4, 4))
    c = net.conv("c", b, (4, 4), group=2)
    d = net.conv("d", c, (4, 4), relu=False)
    again = net.node("again", "Conv", d, "d.weight", kernel_shape=[3, 3], pads=[1] * 4)
    channels = find_channels(prepare(net.model(again)).graph)
    fixed = {v.name: segments[0].root.fixed for v, segments in channels.of.items()}
    assert fixed == {"a_out": True, "b_out": True, "b/relu_out": True}


def test_factors_are_those_of_the_formula() -> None:
    graph = prepare(nets.chain()).graph
    channels = find_channels(graph)
    value = _value(graph, "first/relu_out")
    ranges = np.array([8.0, 4.0, 0.5, 0.0])
    (factors,) = choose_factors(channels, {value: ranges}).values()
    expected = np.array([1.0, 0.5, 1 / 16, SMALLEST_RANGE]) ** EXPONENT
    np.testing.assert_allclose(factors, expected, rtol=1e-12)
    assert choose_factors(channels, {value: np.zeros(4)}) == {}


@pytest.mark.parametrize("policy", BOTH)
@pytest.mark.parametrize("make", [nets.residual, branched])
def test_uneven_channels_lose_less(tmp_path: Path, make: Any, policy: str) -> None:
    proto = uneven(make(), 30.0)
    file = nets.saved(proto, tmp_path / "net.onnx")
    feeds = list(nets.samples(proto, 4, seed=9))
    true = outputs(proto, feeds)
    sqnr = []
    for equalize in (False, True):
        options = QuantizeOptions(policy, "minmax", equalize=equalize, correct_bias=False)
        made = quantize(file, nets.samples(proto), tmp_path / f"{equalize}.onnx", options)
        sqnr.append(nets.sqnr_db(true, outputs(made.model, feeds)))
    assert sqnr[1] > sqnr[0] + 3.0


def test_the_file_says_so_and_nothing_is_called_what_it_is_not(tmp_path: Path) -> None:
    proto = branched()
    file = nets.saved(proto, tmp_path / "net.onnx")
    options = QuantizeOptions("onnxruntime", equalize=True)
    result = quantize(file, nets.samples(proto), tmp_path / "q.onnx", options, measure_layers=True)
    assert result.report["equalize"] is True
    changes = result.report["canonical"]["changes"]
    assert any(change.startswith("channels of 1") for change in changes)
    assert result.report["canonical"]["largest_difference"] < 1e-5
    names = {name for node in result.model.proto.graph.node for name in node.output}
    assert f"a/relu_out{SUFFIX}" in names
    assert "a/relu_out" not in names
    assert [o.name for o in result.model.proto.graph.output] == ["last_out"]
    assert len(result.report["layers"]) > 4


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    proto = branched()
    file = nets.saved(proto, tmp_path / "net.onnx")
    options = QuantizeOptions("tensorrt", equalize=True)
    made = [quantize(file, nets.samples(proto), tmp_path / f"{i}.onnx", options) for i in "ab"]
    assert made[0].model.sha256 == made[1].model.sha256
    weights = {t.name: numpy_helper.to_array(t) for t in made[0].model.proto.graph.initializer}
    assert all(np.isfinite(array).all() for array in weights.values())


def test_statistics_cannot_be_equalized(tmp_path: Path) -> None:
    proto = nets.chain()
    file = nets.saved(proto, tmp_path / "net.onnx")
    seen = observe(file, nets.samples(proto))
    with pytest.raises(UserError, match="--equalize runs samples"):
        quantize(file, seen, tmp_path / "q.onnx", QuantizeOptions(equalize=True))
    with pytest.raises(UserError, match="tensors that these statistics have not seen"):
        quantize(
            file,
            nets.samples(proto),
            tmp_path / "q.onnx",
            QuantizeOptions(equalize=True),
            statistics=seen,
        )
