"""Folding gains and shifts into convolutions changes no result, and stops where padding would."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.graph.prepare import prepare
from tests.calibration import nets


def number(net: nets.Net, name: str, value: float | nets.Array) -> str:
    return net.constant(name, np.asarray(value, np.float32))


def ops(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def folded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The canonical form, which has to compute what the file computes."""
    after = ir.to_proto(prepare(proto))
    feeds = next(iter(nets.samples(proto, 1)))
    for before, now in zip(nets.run(proto, feeds), nets.run(after, feeds), strict=True):
        # weights are rounded to float32 once more: a few units in the last place of the sums
        np.testing.assert_allclose(now, before, rtol=1e-4, atol=1e-5 * np.abs(before).max())
    return after


@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_what_follows_a_convolution_is_folded(op_type: str, per_channel: bool) -> None:
    net = nets.Net([1, 3, 8, 8])
    if op_type == "Conv":
        y = net.conv("c", "x", (3, 4), relu=False)
    else:
        y = net.node("c", "ConvTranspose", "x", net.weight("w", 3, 4, 2, 2), strides=[2, 2])
    shape = (1, 4, 1, 1) if per_channel else (1,)
    for step, kind in enumerate(("Mul", "Add", "Sub", "Div")):
        value = net.random.uniform(0.5, 2, shape)
        y = net.node(f"s{step}", kind, y, number(net, f"n{step}", value))
    after = folded(net.model(net.node("end", "Relu", y)))
    assert ops(after) == [op_type, "Relu"]
    assert after.graph.node[0].output[0] == "s3_out"  # what is left has the last name


def test_a_grouped_transposed_convolution_takes_one_number_only() -> None:
    for value, left in ((2.0, []), (np.full((4, 1, 1), 2.0), ["Mul"])):
        net = nets.Net([1, 4, 5, 5])
        y = net.node("c", "ConvTranspose", "x", net.weight("w", 4, 2, 2, 2), group=2)
        y = net.node("s", "Mul", y, number(net, "n", value))
        assert ops(folded(net.model(net.node("end", "Relu", y)))) == [
            "ConvTranspose",
            *left,
            "Relu",
        ]


def test_in_front_of_an_unpadded_convolution_all_is_folded() -> None:
    net = nets.Net([1, 3, 8, 8])
    y = net.node("act", "Sigmoid", net.conv("a", "x", (3, 4), relu=False))
    y = net.node("m", "Mul", number(net, "g", 0.3), y)
    y = net.node("s", "Add", y, number(net, "b", [-0.7]))
    after = folded(net.model(net.conv("d", y, (4, 2), kernel=1, bias=False, relu=False)))
    assert ops(after) == ["Conv", "Sigmoid", "Conv"]


def test_in_front_of_padding_the_shift_stays() -> None:
    """Zeros of the padding are not shifted: at the border the sums would differ."""
    net = nets.Net([1, 3, 8, 8])
    y = net.node("act", "Sigmoid", net.conv("a", "x", (3, 4), relu=False))
    y = net.node("m", "Mul", y, number(net, "g", 0.3))
    y = net.node("s", "Add", y, number(net, "b", -0.7))
    wide = net.conv("wide", y, (4, 4), group=4, relu=False)
    point = net.conv("point", y, (4, 4), kernel=1, relu=False)
    other = net.conv("other", y, (4, 4), relu=False)
    after = folded(net.model(wide, point, other))
    assert sorted(ops(after)) == ["Add", *["Conv"] * 4, "Sigmoid"]  # one sum for both that pad
    reads = {node.name: node.input[0] for node in after.graph.node}
    assert reads["point"] == "act_out"
    assert reads["wide"] == reads["other"] != "act_out"


def test_what_others_read_as_well_keeps_its_nodes() -> None:
    net = nets.Net([1, 3, 8, 8])
    y = net.node("act", "Sigmoid", net.conv("a", "x", (3, 4), relu=False))
    y = net.node("m", "Mul", y, number(net, "g", 0.3))
    y = net.node("s", "Add", y, number(net, "b", -0.7))
    wide = net.conv("wide", y, (4, 4), relu=False)
    after = folded(net.model(wide, net.node("pool", "GlobalAveragePool", y)))
    assert sorted(ops(after)) == ["Add", "Conv", "Conv", "GlobalAveragePool", "Mul", "Sigmoid"]


def test_gains_of_single_channels_are_not_folded_forward() -> None:
    """They would make weights of one filter, which share a scale, as unlike as the channels."""
    net = nets.Net([1, 3, 8, 8])
    y = net.node("act", "Relu", net.conv("a", "x", (3, 4), relu=False))
    y = net.node("m", "Mul", y, number(net, "g", np.geomspace(1e-3, 1, 4).reshape(4, 1, 1)))
    after = folded(net.model(net.conv("d", y, (4, 2), kernel=1, relu=False)))
    assert ops(after) == ["Conv", "Relu", "Mul", "Conv"]


def test_shared_weights_are_folded_for_one_reader_only() -> None:
    net = nets.Net([1, 4, 8, 8])
    weight = net.weight("w", 4, 4, 1, 1)
    first = net.node("a", "Conv", "x", weight)
    doubled = net.node("m", "Mul", first, number(net, "g", 2.0))
    after = folded(net.model(net.node("b", "Conv", net.node("r", "Relu", doubled), weight)))
    assert ops(after) == ["Conv", "Relu", "Conv"]


@settings(max_examples=30, deadline=None)
@given(
    gain=st.floats(0.01, 10).map(np.float32),
    shift=st.floats(-5, 5).map(np.float32),
    kernel=st.sampled_from([1, 3]),
    group=st.sampled_from([1, 4]),
)
def test_any_gain_and_shift(gain: float, shift: float, kernel: int, group: int) -> None:
    net = nets.Net([1, 3, 6, 6])
    y = net.node("act", "Sigmoid", net.conv("a", "x", (3, 4), relu=False))
    y = net.node("m", "Mul", y, number(net, "g", gain))
    y = net.node("s", "Add", y, number(net, "b", shift))
    folded(net.model(net.conv("d", y, (4, 4), kernel=kernel, group=group, relu=False)))
