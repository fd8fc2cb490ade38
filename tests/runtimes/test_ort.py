from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from calibration.description import write_quantization
from exporters.errors import MissingRequirementError, UserError
from exporters.modelfile import ModelFile
from runtimes import registry
from runtimes.base import Evidence, TensorInfo
from runtimes.ort import OrtRuntime, OrtSession, cpu
from tests.runtimes import models

FEEDS = {"x": models.weights(1, 8, 16, 16, seed=1)}


@pytest.mark.oracle
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_a_session_computes_what_the_standard_says(tmp_path: Path, threads: int | None) -> None:
    proto = models.conv()
    session = cpu().load(models.save(proto, tmp_path / "m.onnx"), threads=threads)
    assert session.runtime == "onnxruntime"
    assert session.inputs == (TensorInfo("x", "float32", (1, 8, 16, 16)),)
    assert session.outputs == (TensorInfo("y", "float32", (1, 8, 16, 16)),)
    expected = ReferenceEvaluator(proto).run(None, FEEDS)
    # 72 products a value in float32, summed in another order
    np.testing.assert_allclose(session.run(FEEDS)["y"], expected[0], rtol=1e-5, atol=1e-5)
    session.close()


@pytest.mark.oracle
def test_polygraphy_sees_the_same_numbers(tmp_path: Path) -> None:
    """Its runner opens ONNX Runtime with its own settings; on the quantized network."""
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx

    path = models.save(models.quantized_conv(), tmp_path / "q.onnx")
    with OnnxrtRunner(SessionFromOnnx(str(path))) as runner:
        expected = runner.infer(FEEDS)
    outputs = cpu().load(path, threads=1).run(FEEDS)
    assert set(outputs) == set(expected)
    # integer sums are exact; scaling them back may differ by one rounding of float32
    np.testing.assert_allclose(outputs["y"], expected["y"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_a_file_for_tensorrt_is_run_as_it_stands(tmp_path: Path, policy: str) -> None:
    """In float, bit for bit; one for ONNX Runtime gets its integer kernels."""
    import onnxruntime

    proto = models.quantized_conv()
    write_quantization(proto, {"policy": policy})
    path = models.save(proto, tmp_path / "q.onnx")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    emulated = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    ).run(None, FEEDS)[0]
    found = cpu().load(path).run(FEEDS)["y"]
    assert np.array_equal(found, emulated) == (policy == "tensorrt")


def test_a_wrong_feed_is_named(tmp_path: Path) -> None:
    session = cpu().load(models.save(models.conv(), tmp_path / "m.onnx"))
    with pytest.raises(UserError, match=r"shape \[1, 8, 8, 8\], the model takes \[1, 8, 16, 16\]"):
        session.run({"x": FEEDS["x"][:, :, :8, :8]})


def test_a_truncated_file_is_called_so(tmp_path: Path) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"m\.onnx is not a readable ONNX file"):
        cpu().load(path)


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    proto = models.conv()
    proto.graph.node[1].op_type = "Reluu"
    path = models.save(proto, tmp_path / "m.onnx")
    with pytest.raises(UserError, match=r"ONNX Runtime .* does not take .*m\.onnx: .*Reluu"):
        cpu().load(path)
    finding = cpu().preflight(ModelFile(path), "cpu/onnxruntime")[0]
    assert finding.severity == "error"
    assert finding.evidence is Evidence.EXECUTED
    assert "Reluu" in finding.message


def test_a_good_model_has_no_findings(tmp_path: Path) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    assert cpu().preflight(ModelFile(path), "cpu/onnxruntime") == []


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model file at"):
        cpu().load(tmp_path / "m.onnx")


def test_there_is_nothing_to_build(tmp_path: Path) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    with pytest.raises(UserError, match=r"builds no engine: it runs .* as it is") as error:
        registry.build(path, tmp_path / "m.engine", "onnxruntime")
    assert "edgeport bench" in error.value.fix
    assert not (tmp_path / "m.engine").exists()


def test_the_cpu_is_always_there() -> None:
    found = cpu().probe()
    assert found.can_run
    assert found.evidence is Evidence.EXECUTED
    assert found.fix == ""


def test_a_provider_that_is_not_there_is_no_silent_cpu(tmp_path: Path) -> None:
    runtime = OrtRuntime(
        "onnxruntime-x", ("XExecutionProvider",), "onnxruntime-x", Evidence.WRITTEN
    )
    path = models.save(models.conv(), tmp_path / "m.onnx")
    with pytest.raises(MissingRequirementError, match="has no XExecutionProvider") as error:
        runtime.load(path)
    assert error.value.fix == "pip install onnxruntime-x"
    assert not runtime.probe().can_run


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_a_fallback_to_another_provider_is_refused(tmp_path: Path) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    providers = ("CUDAExecutionProvider", "CPUExecutionProvider")
    with pytest.raises(MissingRequirementError, match="fell back to CPUExecutionProvider"):
        OrtSession("onnxruntime-cuda", path, providers, None)


def test_half_and_integer_types_have_numpy_names(tmp_path: Path) -> None:
    session = cpu().load(models.save(models.conv(np.float16), tmp_path / "m.onnx"))
    assert session.inputs[0].dtype == "float16"
    proto = models.model(
        [models.node("Cast", ["x"], ["y"], to=onnx.TensorProto.INT64)],
        [("x", models.UINT8, ["n", 3])],
        [("y", models.INT64, ["n", 3])],
    )
    session = cpu().load(models.save(proto, tmp_path / "c.onnx"))
    assert session.inputs == (TensorInfo("x", "uint8", ("n", 3)),)
    assert session.outputs[0].dtype == "int64"


def test_importing_runtimes_imports_no_runtime() -> None:
    import subprocess

    code = (
        "import sys, runtimes, runtimes.registry, runtimes.timing, runtimes.targets\n"
        "heavy = {'onnxruntime', 'onnx', 'tensorrt', 'tensorrt_rtx', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
