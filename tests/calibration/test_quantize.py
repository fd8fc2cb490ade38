"""The whole way from model file and samples to an INT8 model file, and what bad input gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from calibration import QuantizeOptions, Statistics, observe, quantize
from calibration.samples.base import InMemorySamples
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from tests.calibration import nets


@pytest.fixture
def file(tmp_path: Path) -> ModelFile:
    return nets.saved(nets.residual(), tmp_path / "net.onnx", keep_float={"fc": "class logits"})


def metadata(model: ModelFile) -> dict[str, str]:
    return {p.key: p.value for p in model.proto.metadata_props}


def test_the_file_describes_itself_and_its_quantization(file: ModelFile, tmp_path: Path) -> None:
    samples = nets.samples(file.proto)
    result = quantize(file, samples, tmp_path / "q.onnx")
    spec = result.model.require_spec()
    assert spec.with_quantization({}) == file.require_spec().with_quantization({})
    quantization = spec.quantization
    assert quantization is not None
    assert (quantization["policy"], quantization["scales"]) == ("tensorrt", "auto")
    assert quantization["source_sha256"] == file.sha256
    assert quantization["samples"] == {"count": 4, "sha256": samples.sha256}
    assert {s["node"]: s["reason"] for s in quantization["skipped"]}["fc"] == "class logits"
    assert quantization["activations"]["tensors"] == 9
    assert "seconds" not in quantization


def test_a_file_from_elsewhere_keeps_its_metadata(tmp_path: Path) -> None:
    proto = nets.chain()
    proto.metadata_props.add(key="author", value="me")
    file = nets.saved_bare(proto, tmp_path / "foreign.onnx")
    result = quantize(file, nets.samples(proto), tmp_path / "q.onnx")
    found = metadata(result.model)
    assert found["author"] == "me"
    assert json.loads(found["edgeport.quantization"])["policy"] == "tensorrt"
    assert result.model.spec is None


def test_the_report_counts_what_was_done(file: ModelFile, tmp_path: Path) -> None:
    report = quantize(file, nets.samples(file.proto), tmp_path / "q.onnx").report
    assert report["quantized"] == {"Conv": 7, "ConvTranspose": 1}
    assert report["total"] == {"Conv": 7, "ConvTranspose": 1, "Gemm": 1}
    # counted by hand: 16 x 10 in the head of 10 classes
    work = report["multiply_adds"]
    assert work["total"] - work["quantized"] == 160
    assert set(report["seconds"]) == {"prepare", "examine", "observe", "scales", "write", "total"}
    assert report["peak_rss_mib"] > 10
    assert report["float_operators"]["Gemm"] == 1


def test_multiply_adds_equal_a_count_by_hand(tmp_path: Path) -> None:
    proto = nets.chain(channels=4)
    file = nets.saved(proto, tmp_path / "n.onnx")
    work = quantize(file, nets.samples(proto), tmp_path / "q.onnx").report["multiply_adds"]
    pixels = 64
    assert work["total"] == pixels * (4 * 3 * 9 + 4 * 4 * 9 + 2 * 4)


def test_equal_inputs_give_equal_bytes(file: ModelFile, tmp_path: Path) -> None:
    samples = nets.samples(file.proto)
    for policy in ("tensorrt", "onnxruntime"):
        hashes = {
            quantize(
                file, samples, tmp_path / f"{policy}{i}.onnx", QuantizeOptions(policy)
            ).model.sha256
            for i in range(2)
        }
        assert len(hashes) == 1


def test_the_source_is_not_touched(file: ModelFile, tmp_path: Path) -> None:
    before = file.path.read_bytes()
    quantize(file, nets.samples(file.proto), tmp_path / "q.onnx")
    assert file.path.read_bytes() == before


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_one_pass_serves_every_policy_with_the_same_bytes(
    file: ModelFile, tmp_path: Path, policy: str
) -> None:
    samples = nets.samples(file.proto)
    observe(file, samples).save(tmp_path / "s.npz")
    statistics = Statistics.load(tmp_path / "s.npz")
    options = QuantizeOptions(policy, scales="mse")
    again = quantize(file, statistics, tmp_path / "a.onnx", options)
    directly = quantize(file, samples, tmp_path / "b.onnx", options)
    assert again.model.sha256 == directly.model.sha256


def test_the_graph_input_is_never_clipped(tmp_path: Path) -> None:
    proto = nets.chain()
    values = [dict(s) for s in nets.samples(proto, 3)]
    values[0]["x"][0, 0, 0, 0] = 500.0
    file = nets.saved(proto, tmp_path / "n.onnx")
    samples = InMemorySamples(values)
    model = quantize(file, samples, tmp_path / "q.onnx", QuantizeOptions(scales="percentile")).model
    scale = {i.name: onnx.numpy_helper.to_array(i) for i in model.proto.graph.initializer}[
        "x/scale"
    ]
    assert float(scale) == pytest.approx(500 / 127, rel=1e-6)


def test_a_normalised_image_input_is_never_clipped(tmp_path: Path) -> None:
    net = nets.Net([1, 8, 8, 3], dtype=TensorProto.UINT8)
    x = net.node("planes", "Transpose", net.node("f", "Cast", "x", to=1), perm=[0, 3, 1, 2])
    x = net.node("centre", "Sub", x, net.constant("mean", np.float32(100)))
    proto = net.model(net.conv("c", x, (3, 4)))
    images = np.full((2, 1, 8, 8, 3), 100, np.uint8)
    images[:, 0, 0, 0, 0] = 255
    images[:, 0, 0, 1, 0] = 90
    file = nets.saved(proto, tmp_path / "n.onnx")
    samples = InMemorySamples([{"x": image} for image in images])
    options = QuantizeOptions(scales="percentile", i_know=("duplicates",))
    model = quantize(file, samples, tmp_path / "q.onnx", options).model
    scales = {i.name: onnx.numpy_helper.to_array(i) for i in model.proto.graph.initializer}
    assert float(scales["centre_out/scale"]) == pytest.approx(155 / 127, rel=1e-6)


def test_the_rest_becomes_fp16(file: ModelFile, tmp_path: Path) -> None:
    options = QuantizeOptions(rest="fp16")
    result = quantize(file, nets.samples(file.proto), tmp_path / "q.onnx", options)
    assert result.model.proto.opset_import[0].version == 19
    assert result.report["cast"]["cast"]["Gemm"] == 1
    floats = [i for i in result.model.proto.graph.initializer if i.data_type == TensorProto.FLOAT]
    assert floats == []
    x = next(iter(nets.samples(file.proto, 1, seed=5)))
    assert nets.sqnr_db(nets.run(file, x)[0], nets.run(result.model, x)[0]) > 25


def test_fp16_scales_are_exact_so_that_integers_fit_them(file: ModelFile, tmp_path: Path) -> None:
    """Weights are rounded on the FP16 grid that will multiply them, not on a nearby FP32 one."""
    options = QuantizeOptions(rest="fp16")
    model = quantize(file, nets.samples(file.proto), tmp_path / "q.onnx", options).model
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in model.proto.graph.initializer}
    weight = {i.name: onnx.numpy_helper.to_array(i) for i in file.proto.graph.initializer}[
        "stem.weight"
    ]
    step = arrays["stem.weight/scale/fp16"].astype(np.float64).reshape(-1, 1, 1, 1)
    error = np.abs(arrays["stem.weight/quantized"] * step - weight)
    assert (error <= step * 0.5001).all()


def test_progress_and_existing_names(file: ModelFile, tmp_path: Path) -> None:
    told: list[Any] = []
    samples = nets.samples(file.proto, 2)
    quantize(file, samples, tmp_path / "q.onnx", progress=lambda *a: told.append(a))
    assert ("observe", 2, 2) in told
    last = {what: (done, total) for what, done, total in told}
    assert all(done == total for done, total in last.values())


# ------------------------------------------------------------------ refusals


def test_an_existing_output_is_kept(file: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "q.onnx").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"q\.onnx exists already"):
        quantize(file, nets.samples(file.proto), tmp_path / "q.onnx")
    assert (tmp_path / "q.onnx").read_bytes() == b"mine"
    options = QuantizeOptions(overwrite=True)
    assert quantize(file, nets.samples(file.proto), tmp_path / "q.onnx", options).model.spec


def test_nothing_half_written_is_left(file: ModelFile, tmp_path: Path) -> None:
    values = [dict(s) for s in nets.samples(file.proto, 3)]
    values[2]["x"][0] = np.nan
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="sample-2: x holds 3072 NaN"):
        quantize(file, InMemorySamples(values), tmp_path / "q.onnx")
    assert sorted(tmp_path.iterdir()) == before


def test_a_quantized_model_is_refused(file: ModelFile, tmp_path: Path) -> None:
    samples = nets.samples(file.proto)
    once = quantize(file, samples, tmp_path / "once.onnx").model
    with pytest.raises(
        UserError, match=r"once\.onnx is quantized already: node 'x/QuantizeLinear'"
    ):
        quantize(once, samples, tmp_path / "twice.onnx")


def test_statistics_of_another_model_are_refused(file: ModelFile, tmp_path: Path) -> None:
    other = nets.saved(nets.chain(), tmp_path / "other.onnx")
    statistics = observe(other, nets.samples(other.proto))
    with pytest.raises(UserError, match="the statistics are of another model"):
        quantize(file, statistics, tmp_path / "q.onnx")


def test_statistics_without_histograms_serve_minmax_only(file: ModelFile, tmp_path: Path) -> None:
    statistics = observe(file, nets.samples(file.proto), histograms=False)
    with pytest.raises(UserError, match="--scales auto needs histograms"):
        quantize(file, statistics, tmp_path / "q.onnx")
    quantize(file, statistics, tmp_path / "q.onnx", QuantizeOptions(scales="minmax"))


def test_statistics_that_lack_a_tensor_are_refused(file: ModelFile, tmp_path: Path) -> None:
    statistics = observe(file, nets.samples(file.proto), ["x"])
    with pytest.raises(UserError, match=r"the statistics lack \d+ tensor"):
        quantize(file, statistics, tmp_path / "q.onnx")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("scales", "mes", "unknown scale method 'mes'. Did you mean 'mse'"),
        ("split", "cfs", "unknown split 'cfs'"),
        ("rounding", "neares", "unknown rounding 'neares'. Did you mean 'nearest'"),
        ("weights", "int9", "unknown weight type 'int9'. Did you mean 'int8'"),
        ("rest", "fp61", "unknown type of the remainder 'fp61'. Did you mean 'fp16'"),
    ],
)
def test_unknown_options_name_the_nearest(option: str, value: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        QuantizeOptions(**{option: value})  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_fp16_for_onnxruntime_is_refused() -> None:
    with pytest.raises(UserError, match="ONNX Runtime's CPU kernels have no FP16"):
        QuantizeOptions(policy="onnxruntime", rest="fp16")
