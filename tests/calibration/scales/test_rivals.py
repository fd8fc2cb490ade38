"""``auto`` against one method for all tensors, where only the network's outputs show the loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration import QuantizeOptions, quantize
from calibration.samples.base import InMemorySamples
from calibration.scales.rivals import MARGIN_DB, RIVALS
from tests.calibration import nets

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
    for scales in ("auto", *RIVALS):
        made = quantize(
            file,
            seen,
            tmp_path / f"{scales}.onnx",
            QuantizeOptions(policy, scales, correct_bias=False, i_know=("all",)),
        )
        outputs = [nets.run(made.model, feed, OUTPUT)[0] for feed in held_out]
        found[scales] = nets.sqnr_db(truth, np.concatenate(outputs))
        if scales == "auto":
            judged = made.report["output_sqnr_db"]
    best = max(RIVALS, key=lambda name: judged[name])
    assert judged[best] > judged["auto"] + MARGIN_DB, "the choices alone would have been taken"
    assert found["auto"] == pytest.approx(found[best]), "the file is the rival's"
    assert judged[best] == pytest.approx(found[best], abs=2.0)  # other samples


def test_choices_stay_where_they_are_as_good(tmp_path: Path) -> None:
    proto = nets.chain()
    file = nets.saved(proto, tmp_path / "net.onnx")
    report = quantize(
        file, nets.samples(proto, 8), tmp_path / "m.onnx", QuantizeOptions("tensorrt", "auto")
    ).report
    sqnr = report["output_sqnr_db"]
    assert list(sqnr) == ["auto", *RIVALS]
    assert sqnr["auto"] >= max(sqnr.values()) - MARGIN_DB
    assert set(report["scale_methods"]) - {"percentile", "kl-r"} or not report["scale_methods"]
