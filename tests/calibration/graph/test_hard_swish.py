"""Both spellings of HardSwish become one, and nothing that only looks alike does."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from calibration.graph.hard_swish import drop_floors
from calibration.graph.prepare import changes_of, prepare
from tests.calibration import nets


def written_out(three: float = 3.0, six: float = 6.0, divide: bool = True) -> onnx.ModelProto:
    net = nets.Net([1, 3, 8, 8])
    x = net.conv("c", "x", (3, 4), relu=False)
    named = {"three": three, "zero": 0.0, "six": six, "sixth": 1 / 6, "whole": 6.0}
    for name, value in named.items():
        net.constant(name, np.array([value] if name == "three" else value, np.float32))
    clip = net.node("clip", "Clip", net.node("add", "Add", x, "three"), "zero", "six")
    product = net.node("mul", "Mul", x, clip)
    last = net.node("last", "Div" if divide else "Mul", product, "whole" if divide else "sixth")
    return net.model(net.conv("d", last, (4, 2), relu=False))


@pytest.mark.parametrize("divide", [True, False])
def test_four_nodes_become_two(divide: bool) -> None:
    proto = written_out(divide=divide)
    model = prepare(proto)
    assert changes_of(model) == ["1 HardSwish spelled as HardSigmoid and Mul"]
    after = ir.to_proto(model)
    assert [n.op_type for n in after.graph.node] == ["Conv", "HardSigmoid", "Mul", "Conv"]
    assert after.graph.node[2].output[0] == "last_out"
    feeds = next(iter(nets.samples(proto, 1)))
    # x / 6 + 1/2 and (x + 3) / 6 round differently, once
    np.testing.assert_allclose(
        nets.run(after, feeds, "last_out")[0],
        nets.run(proto, feeds, "last_out")[0],
        rtol=1e-6,
        atol=1e-6,
    )


def test_the_operator_becomes_the_two_nodes_as_well() -> None:
    net = nets.Net([1, 3, 8, 8])
    act = net.node("act", "HardSwish", net.conv("c", "x", (3, 4), relu=False))
    proto = net.model(net.conv("d", act, (4, 2), relu=False))
    after = ir.to_proto(prepare(proto))
    assert [n.op_type for n in after.graph.node] == ["Conv", "HardSigmoid", "Mul", "Conv"]
    feeds = next(iter(nets.samples(proto, 1)))
    np.testing.assert_allclose(
        nets.run(after, feeds)[0], nets.run(proto, feeds)[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("three", "six"), [(2.0, 6.0), (3.0, 5.0)])
def test_other_constants_are_left_alone(three: float, six: float) -> None:
    assert "HardSigmoid" not in [n.op_type for n in prepare(written_out(three, six)).graph]


def test_a_clip_that_others_read_is_left_alone() -> None:
    proto = written_out()
    kept = onnx.helper.make_tensor_value_info("clip_out", onnx.TensorProto.FLOAT, [1, 4, 8, 8])
    proto.graph.output.append(kept)
    assert "Clip" in [n.op_type for n in prepare(proto).graph]


def test_floors_change_nothing_and_can_be_taken_out() -> None:
    proto = written_out()
    feeds = {"x": 20 * next(iter(nets.samples(proto, 1)))["x"]}
    model = prepare(proto, floors=True)
    bounded = ir.to_proto(model)
    assert [n.op_type for n in bounded.graph.node].count("Clip") == 1
    inner, seen = nets.run(bounded, feeds, "c_out", "last_out")
    assert inner.min() < -3  # the floor has something to do
    drop_floors(model.graph)
    plain = ir.to_proto(model)
    assert "Clip" not in [n.op_type for n in plain.graph.node]
    np.testing.assert_array_equal(seen, nets.run(plain, feeds, "last_out")[0])
    assert plain.SerializeToString() == ir.to_proto(prepare(proto)).SerializeToString()


def test_no_floor_where_something_else_reads_the_tensor() -> None:
    net = nets.Net([1, 3, 8, 8])
    x = net.conv("c", "x", (3, 4), relu=False)
    act = net.node("act", "HardSwish", x)
    proto = net.model(net.conv("d", act, (4, 2), relu=False), net.node("other", "Sigmoid", x))
    assert "Clip" not in [n.op_type for n in prepare(proto, floors=True).graph]
