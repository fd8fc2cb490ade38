"""What is one unit under which policy, and that its anchors keep all of it in float."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from calibration.cfws.arithmetic import SplitOptions
from calibration.cfws.transform import split_convs
from calibration.graph.prepare import prepare
from calibration.qdq.placement import FloatRules
from calibration.qdq.policies import POLICIES
from calibration.sensitivity.units import Unit, find_units, integer_nodes, unit_of
from tests.calibration import nets


def units(proto: onnx.ModelProto, policy: str) -> dict[str, Unit]:
    graph = prepare(proto).graph
    return {u.name: u for u in find_units(graph, POLICIES.get(policy).place(graph, FloatRules()))}


def test_onnxruntime_computes_an_addition_in_a_kernel_of_its_own() -> None:
    found = units(nets.residual(), "onnxruntime")
    assert found["stem"].nodes == ("stem", "stem/relu", "pool")
    assert found["b1.c2"].nodes == ("b1.c2",)
    assert found["b1/add"].nodes == ("b1/add", "b1/relu")
    assert found["b1/add"].anchors == ("b1/add",)


def test_tensorrt_fuses_the_addition_into_the_convolution() -> None:
    found = units(nets.residual(), "tensorrt")
    assert found["b1.c2"].nodes == ("b1.c2", "b1/add", "b1/relu")
    assert found["b1.c2"].anchors == ("b1.c2",)
    assert found["b2.down"].nodes == ("b2.down",)


@pytest.mark.parametrize("policy", POLICIES.names())
def test_every_integer_node_that_computes_is_in_one_unit(policy: str) -> None:
    graph = prepare(nets.residual()).graph
    placement = POLICIES.get(policy).place(graph, FloatRules())
    found = find_units(graph, placement)
    names = [name for unit in found for name in unit.nodes]
    assert len(names) == len(set(names))
    assert {item.node.name for item in placement.weighted} <= set(names)
    moved = {n.name for n in integer_nodes(graph, placement)} - set(names)
    assert moved <= {"flat"}, "nothing but what moves values may be in no unit"


@pytest.mark.parametrize("policy", POLICIES.names())
def test_anchors_keep_the_unit_in_float_and_leave_the_others(policy: str) -> None:
    proto = nets.chain()
    graph = prepare(proto).graph
    rules = FloatRules(given={"second": "asked"})
    placement = POLICIES.get(policy).place(graph, rules)
    everything = units(proto, policy)
    live = {n.name for n in integer_nodes(graph, placement)}
    assert not live & set(everything["second"].nodes)
    assert live >= set(everything["first"].nodes)
    assert {i.node: i.reason for i in placement.left}["second"] == "asked"


@pytest.mark.parametrize("policy", POLICIES.names())
def test_the_branches_of_a_split_stay_together(policy: str, tmp_path: Path) -> None:
    model = prepare(nets.chain())
    split_convs(model, SplitOptions())
    placement = POLICIES.get(policy).place(model.graph, FloatRules())
    found = {unit.name: unit for unit in find_units(model.graph, placement)}
    assert set(found) >= {"first", "second"}
    assert {"first/coarse", "first/fine", "first/sum"} <= set(found["first"].nodes)
    assert found["first"].source_nodes == ("first",), "the name before the split"
    assert unit_of(found.values())["first/fine"] is found["first"]
