"""OpenVINO against the ONNX reference and against ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from exporters.errors import MissingRequirementError, UserError
from exporters.modelfile import ModelFile
from runtimes import bench
from runtimes.base import Evidence, TensorInfo
from runtimes.benchmark import Case
from runtimes.openvino import OpenVino
from runtimes.ort import cpu
from runtimes.timing import Plan
from tests.runtimes import models

pytest.importorskip("openvino", reason="the extra openvino is not installed")

FEEDS = {"x": models.weights(1, 8, 16, 16, seed=1)}


@pytest.mark.oracle
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_a_session_computes_what_the_standard_says(tmp_path: Path, threads: int | None) -> None:
    proto = models.conv()
    session = OpenVino().load(models.save(proto, tmp_path / "m.onnx"), threads=threads)
    assert session.runtime == "openvino"
    assert session.inputs == (TensorInfo("x", "float32", (1, 8, 16, 16)),)
    assert session.outputs == (TensorInfo("y", "float32", (1, 8, 16, 16)),)
    expected = ReferenceEvaluator(proto).run(None, FEEDS)
    # 72 products a value in float32, summed in another order; in BF16 it would be off by 1e-2
    np.testing.assert_allclose(session.run(FEEDS)["y"], expected[0], rtol=1e-5, atol=1e-5)
    session.close()


@pytest.mark.oracle
def test_a_quantized_network_gives_what_onnx_runtime_gives(tmp_path: Path) -> None:
    path = models.save(models.quantized_conv(), tmp_path / "q.onnx")
    ours, theirs = OpenVino().load(path).run(FEEDS)["y"], cpu().load(path).run(FEEDS)["y"]
    # integer sums are exact in both; the accumulator is scaled back in float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def test_outputs_of_one_run_survive_the_next(tmp_path: Path) -> None:
    session = OpenVino().load(models.save(models.conv(), tmp_path / "m.onnx"))
    first = session.run(FEEDS)["y"]
    kept = first.copy()
    session.run({"x": -FEEDS["x"]})
    np.testing.assert_array_equal(first, kept)


def test_a_function_is_inlined(tmp_path: Path) -> None:
    session = OpenVino().load(models.save(models.with_function(), tmp_path / "f.onnx"))
    x = np.float32([1, -2, 3, 0])
    np.testing.assert_array_equal(session.run({"x": x})["y"], x + 1)


def test_a_dynamic_axis_takes_any_size(tmp_path: Path) -> None:
    proto = models.conv()
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    session = OpenVino().load(models.save(proto, tmp_path / "m.onnx"))
    assert session.inputs[0].shape == ("?", 8, 16, 16)
    for batch in (1, 3):
        feeds = {"x": models.weights(batch, 8, 16, 16)}
        assert session.run(feeds)["y"].shape[0] == batch


def test_an_operator_it_does_not_know_is_named(tmp_path: Path) -> None:
    path = models.save(models.four_refusals(), tmp_path / "m.onnx")
    with pytest.raises(UserError, match=r"OpenVINO .* does not take .*m\.onnx: .*Det") as raised:
        OpenVino().load(path)
    assert "src/" not in raised.value.message
    assert "--runtime onnxruntime" in raised.value.fix
    finding = OpenVino().preflight(ModelFile(path), "cpu/openvino")[0]
    assert finding.severity == "error"
    assert finding.evidence is Evidence.EXECUTED


def test_a_good_model_has_no_findings(tmp_path: Path) -> None:
    path = models.save(models.quantized_conv(), tmp_path / "m.onnx")
    assert OpenVino().preflight(ModelFile(path), "cpu/openvino") == []


def test_a_truncated_file_is_called_so(tmp_path: Path) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"m\.onnx is not a readable ONNX file"):
        OpenVino().load(path)


def test_a_missing_file_and_a_wrong_feed_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model file at"):
        OpenVino().load(tmp_path / "none.onnx")
    session = OpenVino().load(models.save(models.conv(), tmp_path / "m.onnx"))
    with pytest.raises(UserError, match=r"shape \[1, 8, 8, 8\], the model takes \[1, 8, 16, 16\]"):
        session.run({"x": FEEDS["x"][:, :, :8, :8]})


def test_it_builds_nothing_and_says_what_to_type(tmp_path: Path) -> None:
    file = ModelFile(models.save(models.conv(), tmp_path / "m.onnx"))
    with pytest.raises(UserError, match="openvino builds no engine") as raised:
        OpenVino().build(file, tmp_path / "m.engine")
    assert "--runtime openvino" in raised.value.fix


def test_it_takes_turns_with_onnx_runtime(tmp_path: Path) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    cases = [Case(name, path, [FEEDS], name, threads=1) for name in ("onnxruntime", "openvino")]
    result = bench(cases, Plan(warmup=1, min_runs=6, min_seconds=0.0, max_runs=6))
    assert [case.runtime for case in result.cases] == ["onnxruntime", "openvino"]
    assert all(len(case.timing.latencies_ms) == 6 for case in result.cases)


def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtimes.openvino._version", lambda: None)
    path = models.save(models.conv(), tmp_path / "m.onnx")
    with pytest.raises(MissingRequirementError, match="openvino is not installed") as raised:
        OpenVino().load(path)
    assert raised.value.fix == "pip install 'edgeport[openvino]'"
    assert not OpenVino().probe().can_run


def test_importing_the_adapter_does_not_import_openvino() -> None:
    code = "import runtimes.openvino, sys; raise SystemExit('openvino' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_sends_nothing(tmp_path: Path) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    code = (
        "import sys; from pathlib import Path; from runtimes.openvino import OpenVino\n"
        f"OpenVino().load(Path({str(path)!r}))\n"
        "raise SystemExit(any(name.startswith('openvino_telemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
