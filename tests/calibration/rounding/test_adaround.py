"""AdaRound against every rounding there is, and its promise not to harm."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration import QuantizeOptions, observe, quantize
from calibration.rounding.adaround import LearningPlan, Rows, learn_rounding
from exporters.errors import MissingRequirementError, UserError
from tests.calibration import nets
from tests.calibration.rounding.test_bias import bright


def problem(seed: int, inputs: int, outputs: int, largest: int) -> tuple[Any, Any, Rows, Rows]:
    """Correlated, one-sided inputs, as behind a ReLU; a ReLU behind the layer too."""
    random = np.random.default_rng(seed)
    weight = random.standard_normal((1, outputs, inputs)).astype(np.float32)
    steps = np.broadcast_to(np.abs(weight).max(2, keepdims=True) / largest, weight.shape)
    mixing = random.standard_normal((inputs, inputs)) / np.sqrt(inputs)

    def rows(count: int) -> Rows:
        x = np.maximum(random.standard_normal((count, inputs)) @ mixing + 0.5, 0)
        x = x.astype(np.float32)[:, np.newaxis]
        offset = np.zeros((count, 1, outputs), np.float32)
        return Rows(x, offset, np.maximum(np.einsum("ngk,gok->ngo", x, weight), 0))

    return weight, np.ascontiguousarray(steps, np.float32), rows(300), rows(100)


def error(integers: Any, steps: Any, rows: Rows) -> float:
    made = np.einsum("ngk,gok->ngo", rows.inputs, integers * steps)
    return float(np.mean((np.maximum(made, 0) - rows.target) ** 2))


@pytest.mark.parametrize("seed", range(4))
def test_among_all_roundings_of_a_layer_it_is_near_the_best(seed: int) -> None:
    weight, steps, learn, _ = problem(seed, 8, 1, 7)
    learned = learn_rounding(weight, steps, learn, learn, largest=7, bounds=(0.0, np.inf))
    floor = np.floor(weight / steps)
    all_errors = sorted(
        error(np.clip(floor + np.array(up).reshape(1, 1, 8), -7, 7), steps, learn)
        for up in product((0, 1), repeat=8)
    )
    # among the best 3 % of 256 roundings
    assert learned.learned_error <= all_errors[7] * (1 + 1e-5)
    assert learned.learned_error == pytest.approx(error(learned.integers, steps, learn), rel=1e-3)
    nearest = error(np.clip(np.rint(weight / steps), -7, 7), steps, learn)
    assert learned.nearest_error == pytest.approx(nearest, rel=1e-3)


def test_rows_that_it_has_not_seen_gain_too() -> None:
    weight, steps, learn, judge = problem(5, 24, 8, 7)
    learned = learn_rounding(weight, steps, learn, judge, largest=7, bounds=(0.0, np.inf))
    assert learned.learned_error < 0.75 * learned.nearest_error
    assert np.abs(learned.integers).max() <= 7
    off = learned.integers - weight / steps
    assert np.abs(off).max() < 1  # up or down, never further


def test_equal_seeds_learn_equal_integers() -> None:
    weight, steps, learn, judge = problem(6, 12, 4, 7)
    plan = LearningPlan(steps=100)
    first, second = (
        learn_rounding(weight, steps, learn, judge, largest=7, plan=plan) for _ in range(2)
    )
    np.testing.assert_array_equal(first.integers, second.integers)


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("split", ["none", "cfws"])
def test_a_whole_network_comes_nearer(tmp_path: Path, policy: str, split: str) -> None:
    proto = nets.residual()
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), bright(proto, 8)
    other = list(bright(proto, 12))[8:]
    sqnr = {}
    for rounding in ("nearest", "adaround"):
        options = QuantizeOptions(
            policy=policy, split=split, rounding=rounding, correct_bias=False, overwrite=True
        )
        result = quantize(file, samples, tmp_path / "q.onnx", options)
        sqnr[rounding] = np.mean(
            [nets.sqnr_db(nets.run(proto, s)[0], nets.run(result.model, s)[0]) for s in other]
        )
    # a split layer's weights have about 16 bits: there is little left to gain
    assert sqnr["adaround"] > sqnr["nearest"] + (0.1 if split == "none" else -1)
    layers = result.report["rounded_nodes"]
    assert any(layer["kept"] and layer["moved"] for layer in layers)
    for layer in layers:
        assert layer["kept"] == (
            layer["sqnr_after_db"] > layer["sqnr_before_db"]
        ) or not np.isclose(layer["sqnr_after_db"], layer["sqnr_before_db"])
    few = [n["node"] for n in result.report["nearest_nodes"] if "too few" in n["reason"]]
    assert few == ["fc"]  # one position a sample
    halves = [n for n in result.report["nearest_nodes"] if n["node"].endswith("/coarse")]
    assert bool(halves) == (split == "cfws")


def test_learning_goes_on_where_biases_were_corrected(tmp_path: Path) -> None:
    """What it comes near to is the network as it was, not the one with shifted biases."""
    proto = nets.residual()
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), bright(proto, 8)
    other = list(bright(proto, 12))[8:]
    sqnr = []
    for correct in (False, True):
        options = QuantizeOptions(
            policy="onnxruntime", rounding="adaround", correct_bias=correct, overwrite=True
        )
        result = quantize(file, samples, tmp_path / "q.onnx", options)
        sqnr.append(
            np.mean(
                [nets.sqnr_db(nets.run(proto, s)[0], nets.run(result.model, s)[0]) for s in other]
            )
        )
    assert sqnr[1] > sqnr[0] - 1


def test_statistics_alone_are_not_enough(tmp_path: Path) -> None:
    proto = nets.chain()
    file = nets.saved(proto, tmp_path / "m.onnx")
    seen = observe(file, nets.samples(proto))
    options = QuantizeOptions(rounding="adaround", correct_bias=False, scales="mse")
    with pytest.raises(UserError, match="adaround runs samples"):
        quantize(file, seen, tmp_path / "q.onnx", options)


def test_without_torch_it_refuses_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = nets.chain()
    file = nets.saved(proto, tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingRequirementError, match="learns with torch"):
        quantize(
            file, nets.samples(proto), tmp_path / "q.onnx", QuantizeOptions(rounding="adaround")
        )
    assert not (tmp_path / "q.onnx").exists()
