"""Quantized graphs against integer arithmetic written out in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration import QuantizeOptions, observe, quantize
from calibration.graph.queries import fresh_name
from exporters.modelfile import ModelFile
from tests.calibration import nets


def one_conv(kernel: int = 1) -> onnx.ModelProto:
    """A 1x1 convolution with ReLU, then Softmax so that its result is not the output."""
    net = nets.Net([1, 8, 4, 4])
    return net.model(net.node("soft", "Softmax", net.conv("c", "x", (8, 4), kernel), axis=1))


def constants(model: ModelFile) -> dict[str, NDArray[Any]]:
    return {i.name: numpy_helper.to_array(i) for i in model.proto.graph.initializer}


def make(tmp_path: Path, proto: onnx.ModelProto, policy: str, **options: Any) -> ModelFile:
    file = nets.saved(proto, tmp_path / "net.onnx")
    output = tmp_path / f"{policy}.onnx"
    return quantize(file, nets.samples(proto), output, QuantizeOptions(policy, **options)).model


def test_tensorrt_arithmetic_is_dequantized_convolution(tmp_path: Path) -> None:
    """``y = relu(sum s_x q_x * s_w q_w + b)`` with q = clip(round(x / s), -128, 127)."""
    proto = one_conv()
    model = make(tmp_path, proto, "tensorrt")
    c, x = constants(model), next(iter(nets.samples(proto, 1, seed=9)))["x"]
    q = np.clip(np.rint(x / c["x/scale"]), -128, 127)
    weight = c["c.weight/quantized"].astype(np.float64)[:, :, 0, 0]
    step = (c["c.weight/scale"] * np.float64(c["x/scale"])).reshape(-1, 1, 1)
    expected = np.einsum("oc,chw->ohw", weight, q[0]) * step + c["c.bias"].reshape(-1, 1, 1)
    found = nets.run(model, {"x": x}, "c/relu_out")[0][0]
    # float32 against float64 accumulation
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-5, atol=1e-5)


def test_onnxruntime_arithmetic_is_integer_convolution(tmp_path: Path) -> None:
    """``q_y = clip(round((sum (q_x - z_x) q_w + q_b) * s_x s_w / s_y) + z_y, 0, 255)``."""
    import onnxruntime as ort

    proto = one_conv()
    model = make(tmp_path, proto, "onnxruntime")
    c, x = constants(model), next(iter(nets.samples(proto, 1, seed=9)))["x"]
    zero = int(c["x/zero_point"])
    q = np.clip(np.rint(x / c["x/scale"]) + zero, 0, 255).astype(np.int64) - zero
    weight = c["c.weight/quantized"].astype(np.int64)[:, :, 0, 0]
    sums = np.einsum("oc,chw->ohw", weight, q[0]) + c["c.bias/quantized"].reshape(-1, 1, 1)
    step = (c["c.bias/scale"].astype(np.float64) / c["c/relu_out/scale"]).reshape(-1, 1, 1)
    expected = np.clip(np.rint(sums * step), 0, 255)
    assert c["c/relu_out/zero_point"] == 0

    quantized = onnx.ModelProto()
    quantized.CopyFrom(model.proto)
    quantized.graph.output.append(onnx.helper.make_empty_tensor_value_info("c/relu_out/quantized"))
    session = ort.InferenceSession(quantized.SerializeToString())
    found = session.run(["c/relu_out/quantized"], {"x": x})[0][0].astype(np.int64)
    # the product of scales is float32 in the kernel: a sum on a half may fall on either side
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.99


@pytest.mark.oracle
def test_minmax_ranges_equal_onnxruntimes_calibrater(tmp_path: Path) -> None:
    from onnxruntime.quantization.calibrate import (
        CalibrationDataReader,
        CalibrationMethod,
        create_calibrator,
    )

    proto = nets.residual()
    path = nets.saved(proto, tmp_path / "net.onnx").path
    samples = nets.samples(proto, 3)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> Any:
            return next(self.left, None)

    calibrator = create_calibrator(
        path,
        augmented_model_path=str(tmp_path / "augmented.onnx"),
        calibrate_method=CalibrationMethod.MinMax,
    )
    calibrator.collect_data(Reader())
    theirs = calibrator.compute_data()
    ours = observe(path, samples, histograms=False).tensors
    assert len(ours) > 10
    summands = {name for n in proto.graph.node if n.op_type == "Add" for name in n.input}
    for name, seen in ours.items():
        low, high = (float(np.ravel(bound)[0]) for bound in theirs[name].range_value)
        if name in summands:  # what the ReLU behind the sum throws away is not observed
            assert low <= seen.minimum * (1 + 1e-5)
            assert high == pytest.approx(seen.maximum, rel=1e-5)
            continue
        # they run without fusion: sums differ in the last bits
        assert (seen.minimum, seen.maximum) == pytest.approx((low, high), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_names_of_nodes_and_tensors_stay(tmp_path: Path, policy: str) -> None:
    proto = nets.residual()
    after = make(tmp_path, proto, policy).proto.graph
    assert {n.name for n in proto.graph.node} <= {n.name for n in after.node}
    assert outputs(proto.graph) <= outputs(after)
    assert [o.name for o in after.output] == [o.name for o in proto.graph.output]


def outputs(graph: onnx.GraphProto) -> set[str]:
    return {output for node in graph.node for output in node.output}


def test_weights_are_stored_as_int8_and_once(tmp_path: Path) -> None:
    net = nets.Net([1, 4, 8, 8])
    first = net.conv("a", "x", (4, 4), bias=False)
    net.node("b", "Conv", first, "a.weight", kernel_shape=[3, 3], pads=[1] * 4)
    model = make(tmp_path, net.model("b_out"), "tensorrt")
    stored = constants(model)
    assert [a.dtype for n, a in stored.items() if n.startswith("a.weight/quantized")] == [np.int8]
    assert "a.weight" not in stored


def test_a_weight_shared_by_inputs_of_different_scale_has_two_biases(tmp_path: Path) -> None:
    net = nets.Net([1, 4, 8, 8])
    first = net.conv("a", "x", (4, 4))
    net.node("b", "Conv", first, "a.weight", "a.bias", kernel_shape=[3, 3], pads=[1] * 4)
    model = make(tmp_path, net.model(net.node("soft", "Softmax", "b_out", axis=1)), "onnxruntime")
    biases = [a for n, a in constants(model).items() if n.startswith("a.bias/quantized")]
    assert len(biases) == 2
    x = next(iter(nets.samples(model.proto, 1, seed=5)))
    reference = nets.run(ModelFile(tmp_path / "net.onnx"), x)[0]
    assert nets.sqnr_db(reference, nets.run(model, x)[0]) > 20


def test_a_quantized_graph_input_that_is_also_read_as_it_is(tmp_path: Path) -> None:
    net = nets.Net([1, 4, 8, 8])
    proto = net.model(net.conv("a", "x", (4, 4)), net.node("exp", "Exp", "x"))
    model = make(tmp_path, proto, "tensorrt")
    x = next(iter(nets.samples(proto, 1)))
    np.testing.assert_allclose(nets.run(model, x)[1], np.exp(x["x"]), rtol=1e-5)


def test_names_that_are_taken_are_not_reused() -> None:
    taken = {"a", "a_1"}
    assert [fresh_name(taken, "a"), fresh_name(taken, "a"), fresh_name(taken, "b")] == [
        "a_2",
        "a_3",
        "b",
    ]


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("scales", ["minmax", "percentile", "mse", "entropy"])
def test_every_method_keeps_the_signal(tmp_path: Path, policy: str, scales: str) -> None:
    proto = nets.residual()
    model = make(tmp_path, proto, policy, scales=scales)
    x = next(iter(nets.samples(proto, 1, seed=5)))
    reference = nets.run(ModelFile(tmp_path / "net.onnx"), x)[0]
    # 8 bits give about 40 dB a layer; ten layers and random weights leave well above 20
    assert nets.sqnr_db(reference, nets.run(model, x)[0]) > (12 if scales == "entropy" else 25)


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_the_result_is_valid_with_strict_shape_inference(tmp_path: Path, policy: str) -> None:
    onnx.checker.check_model(make(tmp_path, nets.residual(), policy).proto, full_check=True)
