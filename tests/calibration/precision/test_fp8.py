"""FP8 in place of INT8: the same ranges, E4M3's numbers, and what cannot be written so."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calibration import cast
from calibration.precision.fp8 import LARGEST, to_fp8
from exporters.errors import UserError
from tests.runtimes import models

E4M3 = ml_dtypes.float8_e4m3fn


def constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


def pairs(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [n for n in proto.graph.node if n.op_type.endswith("antizeLinear")]


def test_ranges_stay_and_weights_become_the_nearest_number() -> None:
    int8 = models.quantized_conv()
    fp8, count = to_fp8(int8)
    before, after = constants(int8), constants(fp8)
    assert count == len(pairs(int8)) == len(pairs(fp8))
    for old, new in zip(pairs(int8), pairs(fp8), strict=True):
        assert after[new.input[2]].dtype == E4M3
        # a float32 scale is rounded once more
        np.testing.assert_allclose(
            after[new.input[1]] * LARGEST, before[old.input[1]] * 127, rtol=2e-7
        )
        if old.input[0] in before:
            real = before[old.input[0]] * (LARGEST / 127)
            candidates = np.arange(256, dtype=np.uint8).view(E4M3).astype(np.float64)
            candidates = candidates[np.isfinite(candidates)]
            nearest = np.abs(real[..., None] - candidates).min(axis=-1)
            found = np.abs(real - after[new.input[0]].astype(np.float64))
            np.testing.assert_allclose(found, nearest, atol=1e-9)
    onnx.checker.check_model(fp8, full_check=True)


@pytest.mark.oracle
def test_onnx_runtime_computes_what_the_reference_evaluator_does() -> None:
    import onnxruntime
    from onnx.reference import ReferenceEvaluator

    fp8, _ = to_fp8(models.quantized_conv())
    feeds = {"x": models.weights(1, 8, 16, 16, seed=3)}
    session = onnxruntime.InferenceSession(
        fp8.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, feeds)
    (expected,) = ReferenceEvaluator(fp8).run(None, feeds)
    # one step of E4M3 at the end of the range is 32 / 448 of it; sums differ in float32's last bits
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_file_says_so_and_the_model_stays(tmp_path: Path) -> None:
    path = models.save(models.quantized_conv(), tmp_path / "int8.onnx")
    result = cast(path, tmp_path / "fp8.onnx", "fp8")
    assert result.report["to"] == "fp8"
    assert result.report["opset"] >= 19
    assert result.report["cast"]["Q/DQ"] > 0
    assert "8.9" in result.report["note"]
    with pytest.raises(UserError, match="takes the places of INT8") as raised:
        cast(path, tmp_path / "other.onnx", "fp8", ("conv",))
    assert "quantize --keep-float" in raised.value.fix


def test_what_has_no_int8_or_a_zero_point_is_refused() -> None:
    with pytest.raises(UserError, match="has nothing in INT8"):
        to_fp8(models.conv())
    with pytest.raises(UserError, match="has a zero point, and E4M3 knows none"):
        to_fp8(models.quantized_conv(zero_point=5))


def test_an_operator_on_integers_is_refused() -> None:
    proto = models.quantized_conv()
    quantize = next(n for n in proto.graph.node if n.op_type == "QuantizeLinear")
    after = [n for n in proto.graph.node if quantize.output[0] in n.input]
    middle = onnx.helper.make_node("Identity", [quantize.output[0]], ["moved"], name="mover")
    for node in after:
        node.input[0] = "moved"
    proto.graph.node.insert(list(proto.graph.node).index(after[0]), middle)
    with pytest.raises(UserError, match="'mover' works on INT8 numbers"):
        to_fp8(proto)


@pytest.mark.parametrize(("target", "builds"), [("8.9", True), ("8.6", False)])
def test_tensorrt_rtx_builds_it_where_the_gpu_has_the_type(
    tmp_path: Path, target: str, builds: bool
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")
    from exporters.modelfile import ModelFile
    from runtimes import registry
    from runtimes.base import BuildOptions

    path = models.save(models.quantized_conv(channels=16), tmp_path / "int8.onnx")
    fp8 = cast(path, tmp_path / "fp8.onnx", "fp8").model
    options = BuildOptions(compute_capabilities=(target,))
    engine = tmp_path / "m.engine"
    if builds:
        registry.get("tensorrt").build(ModelFile(fp8.path), engine, options)
        assert engine.stat().st_size > 1000
    else:
        with pytest.raises(UserError, match="fp8"):
            registry.get("tensorrt").build(ModelFile(fp8.path), engine, options)
