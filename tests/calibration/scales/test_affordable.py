"""What measuring may cost: counted against ONNX shapes, and spent on what is most undecided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration import observe
from calibration.graph.prepare import prepare
from calibration.graph.queries import Weighted, multiply_adds, weighted
from calibration.samples.base import InMemorySamples
from calibration.scales import affordable as rules
from calibration.scales.affordable import ELEMENT, MOST_SAMPLES, Sizes, affordable, spread
from tests.calibration import nets


def test_multiply_adds_are_those_of_static_shapes_even_where_shapes_are_dynamic(
    tmp_path: Path,
) -> None:
    """The same network with and without a free batch axis."""
    work = []
    for name, batch in (("static", 2), ("dynamic", "batch")):
        net = nets.Net([batch, 3, 8, 8])
        middle = net.conv("second", net.conv("first", "x", (3, 4)), (4, 6), stride=2)
        proto = net.model(net.conv("last", middle, (6, 2), 1, relu=False))
        file = nets.saved(proto, tmp_path / f"{name}.onnx")
        random = np.random.default_rng(1)
        samples = InMemorySamples(
            {"x": random.standard_normal((2, 3, 8, 8)).astype(np.float32)} for _ in range(2)
        )
        sizes = Sizes(observe(file, samples))
        graph = prepare(proto).graph
        convolutions = [node for node in graph if node.op_type == "Conv"]
        work.append([sizes.work(node) for node in convolutions][:2])
        if name == "static":
            assert work[0] == [multiply_adds(node) for node in convolutions][:2]
    assert work[0] == work[1] == [2 * 4 * 64 * 27, 2 * 6 * 16 * 36]


def test_a_witness_costs_its_arithmetic_and_its_memory(tmp_path: Path) -> None:
    proto = nets.chain()
    file = nets.saved(proto, tmp_path / "net.onnx")
    sizes = Sizes(observe(file, nets.samples(proto)))
    graph = prepare(proto).graph
    first = next(node for node in graph if node.op_type == "Conv")
    described = weighted(first)
    assert isinstance(described, Weighted)
    inside, outside = 3 * 64, 4 * 64
    assert sizes.cost(described) == outside * 27 + ELEMENT * (inside + outside) / 2
    assert sizes.cost(described.data) == ELEMENT * inside


def plan(costs: list[float], urgency: list[float], samples: int = 8) -> tuple[list[int], int]:
    """For a network whose own work is nothing beside ``SMALL``."""
    proto = nets.chain()
    graph = prepare(proto).graph
    sizes = Sizes.__new__(Sizes)
    sizes._seen = {}
    return affordable(graph, sizes, costs, urgency, samples)


def test_what_is_cheap_is_measured_on_all_samples() -> None:
    assert plan([1e3, 1e3], [1.0, 2.0]) == ([0, 1], 8)
    assert plan([1e3, 1e3], [1.0, 2.0], samples=500) == ([0, 1], MOST_SAMPLES)


def test_what_is_dear_is_measured_on_fewer() -> None:
    third = rules.SMALL / 3.5
    assert plan([third / 2, third / 2], [1.0, 1.0]) == ([0, 1], 3)


def test_beyond_the_budget_the_most_undecided_come_first() -> None:
    dear = rules.SMALL * 0.6
    assert plan([dear, dear, 1e3], [1.5, 3.0, 1.1]) == ([1, 2], 1)
    assert plan([dear * 2, dear, 1e3], [9.0, 3.0, 1.1]) == ([1, 2], 1)


def test_the_budget_grows_with_the_calibration_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "SMALL", 1.0)
    graph = prepare(nets.chain()).graph
    itself = sum(multiply_adds(node) for node in graph if node.op_type == "Conv")
    assert plan([itself / 2], [1.0], samples=3) == ([], 1)  # 0.75 of a pass: no room beside it
    assert plan([itself / 2], [1.0], samples=8) == ([0], 1)
    assert plan([itself / 2], [1.0], samples=12) == ([0], 2)


def test_spread_is_the_ratio_of_the_steps() -> None:
    assert spread({"minmax": 0.5, "mse": 0.125}) == 4.0
    assert spread({"mse": 0.1}) == 1.0
