"""Assignments of scales as a whole, where only the network's outputs show the loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration import QuantizeOptions, quantize
from calibration.samples.base import InMemorySamples
from calibration.scales.auto import PROPOSERS
from calibration.scales.rivals import ENERGY, LEAST_DB, MARGIN_DB, POSITION, REFINED, RIVALS
from tests.calibration import nets
from tests.calibration.sensitivity import planted

SIDE = 16
OUTPUT = "y_out"


def beside_the_vehicle() -> onnx.ModelProto:
    """Convolutions, then an output in which every position counts alike, however large it was."""
    net = nets.Net([1, 4, SIDE, SIDE])
    value = "x"
    for index in range(3):
        value = net.conv(f"conv{index}", value, (4 if index == 0 else 8, 8), 1)
    energy = net.node("energy", "ReduceL2", value, axes=[1], keepdims=1)
    floor = net.constant("floor", np.float32(1e-3))
    return net.model(net.node("y", "Div", value, net.node("safe", "Add", energy, floor)))


def features(count: int, seed: int) -> InMemorySamples:
    """In every other sample one position is large: a map that is dense near the sensor."""
    random = np.random.default_rng(seed)
    samples = []
    for index in range(count):
        x = random.normal(0, 0.05, (1, 4, SIDE, SIDE)).astype(np.float32)
        if index % 2:
            x.reshape(4, -1)[:, random.integers(0, SIDE * SIDE)] *= 60
        samples.append({"x": x})
    return InMemorySamples(samples)


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_the_outputs_decide(tmp_path: Path, policy: str) -> None:
    proto = beside_the_vehicle()
    file, seen = nets.saved(proto, tmp_path / "net.onnx"), features(16, seed=0)
    held_out = [dict(sample) for sample in features(16, seed=1)]
    truth = np.concatenate([nets.run(proto, feed, OUTPUT)[0] for feed in held_out])
    found = {}
    for scales in ("auto", "mse", "minmax", "percentile", "kl-r"):
        made = quantize(
            file,
            seen,
            tmp_path / f"{scales}.onnx",
            QuantizeOptions(policy, scales, correct_bias=False, i_know=("all",)),
        )
        outputs = [nets.run(made.model, feed, OUTPUT)[0] for feed in held_out]
        found[scales] = nets.sqnr_db(truth, np.concatenate(outputs))
        if scales == "auto":
            judged = made.report["output_fidelity_db"]
    auto = found.pop("auto")
    assert auto > found["mse"] + 3, "what each tensor suffers least from is not what counts here"
    assert auto >= max(found.values()) - MARGIN_DB, "on samples that were not calibrated on"
    assert max(judged.values()) == pytest.approx(auto, abs=2.0)  # other samples


def test_the_report_tells_what_was_tried(tmp_path: Path) -> None:
    proto = nets.chain()
    file = nets.saved(proto, tmp_path / "net.onnx")
    report = quantize(
        file, nets.samples(proto, 8), tmp_path / "m.onnx", QuantizeOptions("tensorrt", "auto")
    ).report
    fidelity = report["output_fidelity_db"]
    assert [name for name in fidelity if name != REFINED] == [ENERGY, POSITION, *RIVALS]
    assert (REFINED in fidelity) == (report["scales_refined"] > 0)
    if REFINED in fidelity:
        assert fidelity[REFINED] >= max(fidelity[ENERGY], fidelity[POSITION])


def test_outputs_of_which_nothing_is_left_decide_nothing(tmp_path: Path) -> None:
    """One tensor cannot be INT8; what is best for it would cost the others their levels."""
    proto = planted.loud_tensor()
    file = nets.saved(proto, tmp_path / "net.onnx")
    report = quantize(
        file, nets.samples(proto, 8), tmp_path / "m.onnx", QuantizeOptions("onnxruntime")
    ).report
    assert max(report["output_fidelity_db"].values()) < LEAST_DB
    assert set(report["scale_methods"]) <= set(PROPOSERS)
    assert report["scales_refined"] == 0
