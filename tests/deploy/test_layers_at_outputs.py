"""The error of one tensor, carried to the outputs of the float network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from deploy.layers_at_outputs import OutputTrial

# two heads behind one hidden tensor: numbers, and labels of three classes
HEADS = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[5, 4] x) => (float[5, 4] y, int64[5] labels) {
  h = MatMul(x, w0)
  a = Relu(h)
  y = MatMul(a, w1)
  logits = MatMul(a, w2)
  labels = ArgMax<axis = 1, keepdims = 0>(logits)
}
"""
WEIGHTS = {"w0": (4, 6), "w1": (6, 4), "w2": (6, 3)}

Floats = NDArray[np.float32]


@pytest.fixture
def arrays() -> dict[str, Floats]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in WEIGHTS.items()}


@pytest.fixture
def model(arrays: dict[str, Floats]) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(HEADS)
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    return proto


@pytest.fixture
def x() -> Floats:
    return np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)


def decibels(kept: float) -> float:
    return float(10 * np.log10(1 / (1 - kept)))


def expected(arrays: dict[str, Floats], a: NDArray[np.float64], error: Floats) -> float:
    """By numpy in float64: the mean of both heads, ``error`` added behind the Relu."""

    def heads(hidden: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        logits = np.exp(hidden @ arrays["w2"].astype(np.float64))
        return hidden @ arrays["w1"].astype(np.float64), logits / logits.sum(1, keepdims=True)

    (y, p), (z, r) = heads(a), heads(a + error)
    overlap = np.minimum(p, r).sum(0) / np.maximum(p, r).sum(0)
    numbers = 10 * np.log10(np.square(y).sum() / np.square(y - z).sum())
    return float(np.mean([numbers, decibels(overlap[p.sum(0) >= 1].mean())]))


def test_an_error_is_carried_as_numpy_carries_it(
    model: onnx.ModelProto, arrays: dict[str, Floats], x: Floats
) -> None:
    trial = OutputTrial(model, ["a", "h"])
    given = trial.given({"x": x})
    error = (np.random.default_rng(2).normal(size=(5, 6)) / 8).astype(np.float32)
    hidden = np.asarray(np.maximum(x.astype(np.float64) @ arrays["w0"], 0))
    found = trial.fidelity_db(given, "a", error)
    assert found == pytest.approx(expected(arrays, hidden, error), abs=1e-3)  # float32 inside


def test_what_a_relu_cuts_off_costs_nothing(
    model: onnx.ModelProto, arrays: dict[str, Floats], x: Floats
) -> None:
    """A large error of ``h`` below zero, and a small one of ``a``: the small one costs more."""
    trial = OutputTrial(model, ["a", "h"])
    given = trial.given({"x": x})
    h = x @ arrays["w0"]
    below = np.where(h < -1e-3, np.float32(-100), np.float32(0))
    assert trial.fidelity_db(given, "h", below) > 100
    assert trial.fidelity_db(given, "a", np.full_like(h, 0.1)) < 40


@pytest.mark.parametrize("tensor", ["x", "y", "logits"])
def test_inputs_and_what_is_judged_can_have_an_error(
    model: onnx.ModelProto, x: Floats, tensor: str
) -> None:
    trial = OutputTrial(model, [tensor])
    given = trial.given({"x": x})
    shape = {"x": (5, 4), "y": (5, 4), "logits": (5, 3)}[tensor]
    nothing = trial.fidelity_db(given, tensor, np.zeros(shape, np.float32))
    error = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    assert trial.fidelity_db(given, tensor, error) < nothing - 20


def test_outputs_that_no_numbers_decide_are_not_tried() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        "g (int64[4] i) => (int64[4] j) { j = Identity(i) }"
    )
    assert not OutputTrial(proto, []).is_possible
