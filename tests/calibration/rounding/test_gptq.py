"""Rounding with feedback against its textbook form, and in whole networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration import QuantizeOptions, observe, quantize
from calibration.rounding import compensating
from calibration.rounding.gptq import DAMPING, round_with_feedback
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from tests.calibration import nets
from tests.calibration.rounding.test_bias import bright

Floats = NDArray[np.float64]


def problem(seed: int, inputs: int, outputs: int, largest: int) -> tuple[Floats, Floats, Floats]:
    """Weights, steps, and rows whose inputs have much in common, as neighbouring taps have."""
    random = np.random.default_rng(seed)
    weight = random.standard_normal((outputs, inputs))
    steps = np.broadcast_to(np.abs(weight).max(1, keepdims=True) / largest, weight.shape)
    common = random.standard_normal((400, 1)) * 3
    return weight, steps.copy(), common + random.standard_normal((400, inputs))


def error(integers: NDArray[Any], weight: Floats, steps: Floats, rows: Floats) -> float:
    return float(np.sum((rows @ (integers * steps - weight).T) ** 2))


def one_after_the_other(
    weight: Floats, steps: Floats, moments: Floats, largest: int
) -> NDArray[Any]:
    """Optimal brain surgery by the book: an inverse of what is left, again for every input."""
    moments = moments + DAMPING * np.diagonal(moments).mean() * np.eye(len(moments))
    left = list(np.argsort(-np.diagonal(moments), kind="stable"))
    w, integers = weight.copy(), np.zeros(weight.shape)
    while left:
        i, inverse = left[0], np.linalg.inv(moments[np.ix_(left, left)])
        integers[:, i] = np.clip(np.rint(w[:, i] / steps[:, i]), -largest, largest)
        off = (w[:, i] - integers[:, i] * steps[:, i]) / inverse[0, 0]
        w[:, left] -= off[:, None] * inverse[0]
        left = left[1:]
    return integers


@pytest.mark.oracle
@pytest.mark.parametrize("largest", [7, 127])
@pytest.mark.parametrize("inputs", [1, 9, 70, 150])
def test_it_is_the_textbook_method(inputs: int, largest: int) -> None:
    """Across blocks too; the two forms agree to rounding errors, and no tie was drawn."""
    weight, steps, rows = problem(inputs, inputs, 5, largest)
    moments = rows.T @ rows
    found = round_with_feedback(weight, steps, moments, largest)
    np.testing.assert_array_equal(found, one_after_the_other(weight, steps, moments, largest))


@given(seed=st.integers(0, 1000), inputs=st.integers(2, 40), largest=st.sampled_from([7, 127]))
def test_common_inputs_let_errors_cancel(seed: int, inputs: int, largest: int) -> None:
    weight, steps, rows = problem(seed, inputs, 4, largest)
    found = round_with_feedback(weight, steps, rows.T @ rows, largest)
    nearest = np.rint(weight / steps)
    assert error(found, weight, steps, rows) <= error(nearest, weight, steps, rows) * 1.02
    assert np.abs(found).max() <= largest


def test_many_common_inputs_gain_much() -> None:
    weight, steps, rows = problem(0, 144, 16, 127)
    found = round_with_feedback(weight, steps, rows.T @ rows, 127)
    unseen = problem(1, 144, 16, 127)[2]
    nearest = np.rint(weight / steps)
    assert error(found, weight, steps, unseen) < 0.2 * error(nearest, weight, steps, unseen)


@given(seed=st.integers(0, 1000))
def test_inputs_that_have_nothing_in_common_are_rounded_to_nearest(seed: int) -> None:
    random = np.random.default_rng(seed)
    weight, loudness = random.standard_normal((3, 12)), random.uniform(0.1, 9, 12)
    steps = np.full(weight.shape, 0.05)
    found = round_with_feedback(weight, steps, np.diag(loudness), 127)
    np.testing.assert_array_equal(found, np.clip(np.rint(weight / steps), -127, 127))


def test_silent_inputs_are_rounded_too() -> None:
    weight, steps, _ = problem(0, 6, 2, 127)
    found = round_with_feedback(weight, steps, np.zeros((6, 6)), 127)
    np.testing.assert_array_equal(found, np.rint(weight / steps))


def rough_sqnr_db(
    proto: onnx.ModelProto, tmp_path: Path, rounding: str, **options: Any
) -> tuple[float, dict[str, Any]]:
    """On samples that were not calibrated on; activations lose little beside 4-bit weights."""
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), bright(proto, 8)
    chosen = QuantizeOptions(rounding=rounding, correct_bias=False, overwrite=True, **options)
    result = quantize(file, samples, tmp_path / "q.onnx", chosen)
    pairs = [
        (nets.run(proto, sample)[0], nets.run(result.model, sample)[0])
        for sample in list(bright(proto, 12))[8:]
    ]
    return float(np.mean([nets.sqnr_db(*pair) for pair in pairs])), result.report


@pytest.mark.parametrize("block", [0, 16])
def test_a_network_of_four_bits_comes_nearer(tmp_path: Path, block: int) -> None:
    proto = nets.residual()
    proto.opset_import[0].version = 21
    words: dict[str, Any] = {"policy": "tensorrt", "weights": "int4", "block": block}
    nearest, plain = rough_sqnr_db(proto, tmp_path, "nearest", **words)
    found, report = rough_sqnr_db(proto, tmp_path, "gptq", **words)
    assert found > nearest + 1
    assert plain["rounded_nodes"] == []
    layers = report["rounded_nodes"]
    assert [layer["node"] for layer in layers if layer["kept"] and layer["moved"]]
    for layer in layers:
        assert layer["kept"] == (layer["sqnr_after_db"] > layer["sqnr_before_db"])
    few = [n["node"] for n in report["nearest_nodes"] if "too few" in n["reason"]]
    assert few == ["fc"]  # one position a sample


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("split", ["none", "cfws"])
def test_every_policy_takes_the_integers(tmp_path: Path, policy: str, split: str) -> None:
    proto = nets.residual()
    nearest, _ = rough_sqnr_db(proto, tmp_path, "nearest", policy=policy, split=split)
    found, report = rough_sqnr_db(proto, tmp_path, "auto", policy=policy, split=split)
    assert found > nearest - 1  # with eight bits activations lose more than weights
    assert any(layer["kept"] and layer["moved"] for layer in report["rounded_nodes"])
    halves = [n for n in report["nearest_nodes"] if n["node"].endswith("/coarse")]
    assert bool(halves) == (split == "cfws")


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    proto = nets.chain()
    file, samples = nets.saved(proto, tmp_path / "m.onnx"), nets.samples(proto, 8)
    first, second = (
        quantize(file, samples, tmp_path / name, QuantizeOptions(rounding="gptq"))
        for name in ("a.onnx", "b.onnx")
    )
    assert first.model.path.read_bytes() == second.model.path.read_bytes()


def test_kernels_over_many_inputs_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compensating, "MOST_INPUTS", 30)
    proto = nets.chain()
    file = nets.saved(proto, tmp_path / "m.onnx")
    report = quantize(file, nets.samples(proto, 8), tmp_path / "q.onnx", QuantizeOptions()).report
    wide = [n for n in report["nearest_nodes"] if "more than 30 take too long" in n["reason"]]
    assert wide
    assert {n["node"] for n in wide}.isdisjoint(n["node"] for n in report["rounded_nodes"])


def test_statistics_alone_are_not_enough(tmp_path: Path) -> None:
    proto = nets.chain()
    file = nets.saved(proto, tmp_path / "m.onnx")
    seen = observe(file, nets.samples(proto))
    with pytest.raises(UserError, match="gptq runs samples") as caught:
        quantize(file, seen, tmp_path / "q.onnx", QuantizeOptions(rounding="gptq", scales="mse"))
    assert "--rounding nearest" in str(caught.value.fix)
    made = quantize(file, seen, tmp_path / "q.onnx", QuantizeOptions(scales="mse"))
    assert isinstance(made.model, ModelFile), "auto rounds to nearest then"
    assert made.report["rounded_nodes"] == []
