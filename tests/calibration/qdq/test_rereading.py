"""Gains and shifts that no kernel computes, and HardSigmoid as an addition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from calibration import QuantizeOptions, quantize
from calibration.qdq.rereading import Rereading
from calibration.samples.base import InMemorySamples
from calibration.scales.methods import IntegerForm, Range, Scale
from exporters.modelfile import ModelFile
from tests.calibration import nets

UINT8 = IntegerForm.UINT8_ASYMMETRIC


@settings(max_examples=200, deadline=None)
@given(
    gain=st.floats(0.01, 100),
    shift=st.floats(-3, 3),
    low=st.floats(-5, 0),
    width=st.floats(3, 9),
)
def test_bytes_read_twice_differ_by_gain_and_shift(
    gain: float, shift: float, low: float, width: float
) -> None:
    import onnx_ir as ir

    scale = Scale.of(Range.around_zero(low, low + width), UINT8)
    reading = Rereading(ir.val("x"), gain, shift)
    source = reading.scale_of_source(scale)
    if source is None:
        zero = scale.zero_point + round(shift / scale.scale)
        assert not 0 <= zero <= 255
        return
    q = np.arange(256)
    x = source.scale * (q - source.zero_point)
    y = scale.scale * (q - scale.zero_point)
    off = reading.off_by(source, scale)
    assert abs(off) <= 0.5001 * scale.scale  # half a step, and float32 of the scale
    np.testing.assert_allclose(y + off, gain * x + shift, atol=1e-4 * (1 + np.abs(y).max()))


def hard_swish_net(tmp_path: Path, gain: float = 0.7, shift: float = -0.2) -> ModelFile:
    """Conv, HardSwish, gain, shift, a depthwise and a squeezing reader, Conv."""
    net = nets.Net([1, 3, 12, 12])
    x = net.conv("c", "x", (3, 8), relu=False)
    act = net.node("act", "HardSwish", x)
    scaled = net.node("m", "Mul", act, net.constant("g", np.array(gain, np.float32)))
    shifted = net.node("s", "Add", scaled, net.constant("b", np.array([shift], np.float32)))
    wide = net.conv("wide", shifted, (8, 8), group=8)
    mean = net.node("mean", "GlobalAveragePool", shifted)
    gate = net.node("gate", "HardSigmoid", net.conv("squeeze", mean, (8, 8), 1, relu=False))
    joined = net.node("joined", "Mul", wide, gate)
    late = net.conv("late", joined, (8, 4), 1)
    end = net.node("end", "GlobalAveragePool", late)  # a last convolution would stay float
    return nets.saved(net.model(net.node("flat", "Sigmoid", end)), tmp_path / "n")


def samples(file: ModelFile) -> InMemorySamples:
    return InMemorySamples([{"x": 2 * s["x"]} for s in nets.samples(file.proto)])


def test_hard_swish_runs_on_integers_from_end_to_end(tmp_path: Path) -> None:
    file = hard_swish_net(tmp_path)
    options = QuantizeOptions("onnxruntime", scales="minmax")
    result = quantize(file, samples(file), tmp_path / "q.onnx", options)
    executed = [n.op_type for n in nets.optimized(result.model.path, tmp_path / "o").graph.node]
    floats = {"Mul", "Add", "HardSigmoid", "Clip", "HardSwish"}
    assert not floats & set(executed)
    assert executed.count("QLinearAdd") == 2  # both HardSigmoids
    assert executed.count("QLinearMul") == 2  # of HardSwish and of the gate
    assert executed.count("QuantizeLinear") == 1  # the input


@pytest.mark.parametrize(("gain", "shift"), [(0.7, -0.2), (3.0, 1.1), (0.05, 0.0)])
def test_the_file_computes_what_the_float_network_does(
    tmp_path: Path, gain: float, shift: float
) -> None:
    file = hard_swish_net(tmp_path, gain, shift)
    options = QuantizeOptions("onnxruntime", scales="minmax")
    result = quantize(file, samples(file), tmp_path / "q.onnx", options)
    feeds = next(iter(samples(file)))
    true, got = nets.run(file.proto, feeds)[0], nets.run(result.model.proto, feeds)[0]
    noise = np.mean((true - got) ** 2) / np.mean((true - true.mean()) ** 2)
    assert noise < 10**-2.5  # 25 dB: some ten roundings of 8 bits


def test_a_shift_out_of_the_integers_stays_a_node(tmp_path: Path) -> None:
    """y = x + 40 with x in [0, 1]: zero of x is no byte on a scale that holds zero of y."""
    net = nets.Net([1, 3, 8, 8])
    x = net.node("act", "Sigmoid", net.conv("c", "x", (3, 4), relu=False))
    y = net.node("s", "Add", x, net.constant("b", np.array(-40, np.float32)))
    proto = net.model(net.conv("d", y, (4, 2), relu=False))
    file = nets.saved(proto, tmp_path / "n.onnx")
    options = QuantizeOptions("onnxruntime", scales="minmax")
    result = quantize(file, nets.samples(proto), tmp_path / "q.onnx", options)
    feeds = next(iter(nets.samples(proto, 1)))
    true, got = nets.run(proto, feeds)[0], nets.run(result.model.proto, feeds)[0]
    assert np.abs(true - got).max() < 0.02 * np.abs(true).max()  # steps of 40/255, summed


def test_hard_sigmoid_as_an_addition_saturates_where_it_clips(tmp_path: Path) -> None:
    """Every byte: the float function of the dequantized input, rounded, against the addition."""
    net = nets.Net([1, 1, 16, 16])
    one = net.constant("w", np.ones((1, 1, 1, 1), np.float32))
    x = net.node("c", "Conv", "x", one)
    gate = net.node("gate", "HardSigmoid", x, alpha=0.25, beta=0.4)
    late = net.node("d", "Conv", net.node("m", "Mul", x, gate), one)
    proto = net.model(net.node("end", "Softmax", late))  # a last convolution would stay float
    file = nets.saved(proto, tmp_path / "n.onnx")
    ramp = np.linspace(-5, 5, 256, dtype=np.float32).reshape(1, 1, 16, 16)
    options = QuantizeOptions("onnxruntime", scales="minmax", min_samples=1)
    result = quantize(file, InMemorySamples([{"x": ramp}] * 2), tmp_path / "q.onnx", options)
    respelled = {r["node"]: r["op_type"] for r in result.report["respelled"]}
    assert respelled == {"gate": "HardSigmoid"}
    x_seen, gate_seen = nets.run(
        result.model.proto, {"x": ramp}, "c_out/dequantized", "gate_out/dequantized"
    )
    exact = np.clip(0.25 * x_seen.astype(np.float64) + 0.4, 0, 1)
    assert np.abs(gate_seen - exact).max() <= 0.501 / 255
    assert gate_seen.min() == 0
    assert gate_seen.max() == pytest.approx(1)


def test_no_level_is_spent_where_hard_swish_is_zero(tmp_path: Path) -> None:
    file = hard_swish_net(tmp_path)
    loud = InMemorySamples([{"x": 20 * s["x"]} for s in samples(file)])
    options = QuantizeOptions("onnxruntime", scales="minmax", i_know=("all",))
    result = quantize(file, loud, tmp_path / "q.onnx", options)
    values = {i.name: numpy_helper.to_array(i) for i in result.model.proto.graph.initializer}
    scale, zero = values["act/floor/scale"], values["act/floor/zero_point"]
    assert -float(scale) * int(zero) == pytest.approx(-3, abs=float(scale))
    assert "Clip" not in [node.op_type for node in result.model.proto.graph.node]
    assert not any("floor" in left["node"] for left in result.report["skipped"])
