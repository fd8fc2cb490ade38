"""Predicted noise and cost against sums by hand, and the front against every mixture there is."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from calibration.sensitivity.costs import (
    REARRANGED,
    CostModel,
    KernelTime,
    from_profiles,
    from_work,
)
from calibration.sensitivity.front import Predictor, pareto, predicted_front
from calibration.sensitivity.workbench import Workbench, save
from tests.calibration import nets
from tests.calibration.sensitivity import planted

PIXELS = 12 * 12


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    file = nets.saved(planted.plain(), tmp_path / "m.onnx", keep_float={"head": "kept"})
    return planted.bench(file, policy="onnxruntime")


def flat(bench: Workbench, *, into: float = 0.0, out_of: float = 0.0) -> CostModel:
    """Every unit takes 1 in INT8 and 2 in float; conversions as given, an element."""
    names = [unit.name for unit in bench.units]
    return CostModel(
        dict.fromkeys(names, 1.0), dict.fromkeys(names, 2.0), into, out_of, 5.0, bench.sizes
    )


def noise(bench: Workbench, **shares: float) -> dict[str, float]:
    """By atom, with ``_`` for every other character."""
    return {
        atom.name: shares.get(atom.name.replace(" ", "_").replace("/", "_"), 1e-6)
        for atom in bench.atoms
    }


def test_costs_are_kernels_and_conversions(bench: Workbench) -> None:
    predictor = Predictor(bench, noise(bench), flat(bench, into=0.001, out_of=0.01))
    hidden, image = 8 * PIXELS, 3 * PIXELS
    everything = 5 + 6 * 1 + 0.001 * image + 0.01 * hidden  # the head reads floats
    assert predictor.point(()).cost == pytest.approx(everything)
    # one unit in the middle: its own difference, and a border on either side
    one = predictor.point(["c2"])
    assert one.cost == pytest.approx(everything + 1 + 0.011 * hidden)
    # its neighbour with it: no border between the two
    assert predictor.point(["c2", "c3"]).cost == pytest.approx(everything + 2 + 0.011 * hidden)
    assert predictor.point(predictor.units).cost == pytest.approx(5 + 6 * 2)


def test_a_tensor_is_rounded_until_both_sides_are_float(bench: Workbench) -> None:
    predictor = Predictor(bench, noise(bench, tensor_c2_relu_out=0.5), flat(bench))
    assert predictor.point(()).noise == pytest.approx(0.5, rel=1e-3)
    assert predictor.point(["c2"]).noise == pytest.approx(0.5, rel=1e-3), "c3 still reads it"
    assert predictor.point(["c3"]).noise == pytest.approx(0.5, rel=1e-3), "c2 still makes it"
    assert predictor.point(["c2", "c3"]).noise < 1e-4


def test_two_neighbours_are_given_back_at_once(bench: Workbench) -> None:
    """Neither alone removes noise, so single steps would never get there first."""
    predictor = Predictor(bench, noise(bench, tensor_c2_relu_out=0.5), flat(bench, into=1e-4))
    front = predicted_front(predictor)
    best = min(front, key=lambda p: (p.noise > 1e-3, p.cost))
    assert best.floats == {"c2", "c3"}


@pytest.mark.parametrize("seed", range(4))
def test_no_mixture_beats_the_front_by_much(bench: Workbench, seed: int) -> None:
    """Against all 64 mixtures: greedy may miss a point, but not by a tenth of the range."""
    import numpy as np

    random = np.random.default_rng(seed)
    shares = {atom.name: float(random.lognormal(-6, 2)) for atom in bench.atoms}
    predictor = Predictor(bench, shares, flat(bench, into=2e-4, out_of=2e-4))
    names = list(predictor.units)
    every = [
        predictor.point(floats)
        for count in range(len(names) + 1)
        for floats in combinations(names, count)
    ]
    best = pareto(point for point in every if point.quantized)
    found = predicted_front(predictor)
    span = best[-1].cost - best[0].cost
    for point in best:
        cheapest = min(f.cost for f in found if f.noise <= point.noise * 1.01)
        assert cheapest <= point.cost + 0.1 * span


def test_what_int8_does_not_pay_for_is_float_at_once(bench: Workbench) -> None:
    costs = flat(bench)
    costs = CostModel(
        {**costs.integer, "c0": 3.0}, costs.floating, 0.0, 0.0, costs.rest, bench.sizes
    )
    front = predicted_front(Predictor(bench, noise(bench), costs))
    assert all("c0" in point.floats for point in front)


def test_the_front_is_ordered_and_never_without_int8(bench: Workbench) -> None:
    front = predicted_front(Predictor(bench, noise(bench, tensor_x=0.1), flat(bench)))
    assert [p.cost for p in front] == sorted(p.cost for p in front)
    assert [p.noise for p in front] == sorted((p.noise for p in front), reverse=True)
    assert all(point.quantized for point in front)


def test_profiles_become_costs(bench: Workbench, tmp_path: Path) -> None:
    files = save(bench.model, tmp_path / "f.onnx"), save(bench.quantized(), tmp_path / "i.onnx")
    floating, integer = ([KernelTime(*k) for k in planted.profile(path)] for path in files)
    costs = from_profiles(bench.model.graph, bench.units, bench.sizes, floating, integer)
    assert costs.floating == dict.fromkeys(planted.LAYERS, 2.0)
    assert costs.integer == dict.fromkeys(planted.LAYERS, 1.0)
    assert costs.rest == 2.0, "the head is float in both"
    # the input has fewer elements a tensor
    assert costs.into == pytest.approx(REARRANGED * 1e-4, rel=0.1)


def test_without_a_clock_multiply_adds_stand_in(bench: Workbench) -> None:
    costs = from_work(bench.model.graph, bench.units)
    assert costs.unit == "of FP32"
    assert sum(costs.floating.values()) == pytest.approx(1.0)
    # by hand: nine taps of three channels against nine taps of eight
    assert costs.floating["c0"] / costs.floating["c1"] == pytest.approx(3 / 8)
    measured = from_work(bench.model.graph, bench.units, 80.0, 20.0)
    assert sum(measured.floating.values()) == pytest.approx(80)
    assert sum(measured.integer.values()) == pytest.approx(20)
